"""
Bent octets for the frames of Jetty over WebSocket.
"""

from __future__ import annotations

from collections.abc import Hashable

from tests.wire.test_records_jetty import ALL, OURS, TRANSCRIPTS
from tunnelstack.errors import PeerError
from tunnelstack.wire.records.jetty import STOCK
from tunnelstack.wire.records.jetty_frames import BadFrame, decode_frame_untrusted, encode_frame

SEEDS = [
    *(text.encode() for _, text in TRANSCRIPTS + OURS),
    b'{"type":"http_response","request_id":"a","status":"201","headers":{"A":["1","2"]},"body_b64":"!!!"}',
    b'{"type":"http_response","request_id":"a","status":204,"headers":[],"body_b64":null}',
    b'{"type":"wat"}', b"[]", b"not json",
]  # fmt: skip


def target(data: bytes) -> Hashable:
    """
    @return: what a peer with and a peer without capabilities made of it.
    """
    return read(data, ALL), read(data, STOCK)


def read(data: bytes, capabilities: frozenset[str]) -> Hashable:
    """
    The record, which is the same when it is written and read again.
    """
    try:
        frame = decode_frame_untrusted(data, capabilities)
    except BadFrame as error:
        return error.type, error.member
    except PeerError as error:
        return error.__class__.__name__
    if frame is not None:
        assert decode_frame_untrusted(encode_frame(frame, capabilities), capabilities) == frame
    return frame.__class__.__name__
