"""
An HTTP/2 connection of either role, fed by a peer that may send anything, with an application that reads and answers.

The first octet of an input chooses the role, how the rest is cut, and what the application does.  A server is given the preface
and SETTINGS first, unless the input says otherwise.
"""

from __future__ import annotations

from collections.abc import Hashable
from struct import pack

from hpack.hpack import Encoder

from tunnelstack.errors import PeerError
from tunnelstack.wire.http2 import frames
from tunnelstack.wire.http2.connection import HTTP2Machine
from tunnelstack.wire.http2.events import BodyArrived, HeadArrived, HTTP2Event
from tunnelstack.wire.http2.preface import PREFACE

CLIENT, READS, ANSWERS, BARE = 0x1, 0x2, 0x4, 0x8     # bits of the first octet; the upper four choose the cut
CUTS = (None, 1, 5, 8, 9, 10, 64, 4096)
SLACK = 64 * 1024       # octets that we may send whatever was received
RATIO = 40              # octets that may be sent for one received: a reset for a frame of nothing, an answer to a head
STREAMS = 100


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """
    @return: one frame.
    """
    return pack(">HBBBL", len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def target(data: bytes) -> Hashable:
    """
    @return: the kinds of events, and of the error at the end.
    """
    choice, rest = (data[0], data[1:]) if data else (0, b"")
    ours = HTTP2Machine(bool(choice & CLIENT))
    ours.expire(0.0)
    if not choice & BARE:
        rest = (b"" if choice & CLIENT else PREFACE) + frame(frames.SETTINGS) + rest
    if choice & CLIENT:
        for end in (True, False):
            ours.send_head(ours.open_stream(0.0), REQUEST, end)
    cut = CUTS[choice >> 4 & 7] or len(rest) or 1
    seen: set[str] = set()
    sent = 0
    try:
        for start in range(0, len(rest), cut):
            for event in ours.receive_data(rest[start : start + cut]):
                seen.add(event.__class__.__name__)
                behave(ours, event, choice)
            sent += sum(map(len, ours.data_to_send()))
        ours.receive_eof()
    except PeerError as error:
        seen.add(f"{error.__class__.__name__} {error.code}")
    sent += sum(map(len, ours.data_to_send()))
    assert sent <= RATIO * len(rest) + SLACK, f"{len(rest)} octets made us send {sent}"
    assert 0 <= ours.held <= len(rest), f"{ours.held} octets held of {len(rest)}"
    assert 0 <= ours.open_streams <= STREAMS, f"{ours.open_streams} streams are open"
    return choice & 0xF, frozenset(seen)


def behave(ours: HTTP2Machine, event: HTTP2Event, choice: int) -> None:
    """
    What an application does.
    """
    if isinstance(event, HeadArrived) and choice & ANSWERS and not choice & CLIENT:
        ours.send_head(event.stream_id, [(b":status", b"200")])
        if ours.credit(event.stream_id) > 6:
            ours.send_data(event.stream_id, b"answer")
        ours.end_stream(event.stream_id)
    if isinstance(event, BodyArrived) and choice & READS:
        ours.acknowledge(event.stream_id, len(event.data))


REQUEST = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", b"example.com"), (b":path", b"/")]
OPEN = frames.END_HEADERS
WHOLE = frames.END_HEADERS | frames.END_STREAM


def conversations() -> list[bytes]:
    """
    What peers send, of each kind of frame.
    """
    request, length = Encoder().encode(REQUEST), Encoder().encode([*REQUEST, (b"content-length", b"4")])
    response = Encoder().encode([(b":status", b"200"), (b"content-type", b"text/plain")])
    hints = Encoder().encode([(b":status", b"103")])
    trailers = Encoder().encode([(b"grpc-status", b"0")])
    one = (1).to_bytes(4, "big")
    return [
        frame(frames.HEADERS, WHOLE, 1, request),
        frame(frames.HEADERS, OPEN, 1, length) + frame(frames.DATA, frames.END_STREAM, 1, b"body"),
        frame(frames.HEADERS, OPEN, 1, request) + frame(frames.DATA, frames.PADDED, 1, b"\x02body\0\0")
        + frame(frames.HEADERS, WHOLE, 1, trailers),
        frame(frames.HEADERS, 0, 1, request[:3]) + frame(frames.CONTINUATION, frames.END_HEADERS, 1, request[3:]),
        frame(frames.HEADERS, OPEN, 1, request) + frame(frames.RST_STREAM, 0, 1, bytes(4)),
        frame(frames.HEADERS, OPEN | frames.PRIORITIZED, 1, bytes(5) + request) + frame(frames.PRIORITY, 0, 1, bytes(5)),
        frame(frames.HEADERS, OPEN, 1, request) + frame(frames.WINDOW_UPDATE, 0, 1, one)
        + frame(frames.WINDOW_UPDATE, 0, 0, one),
        frame(frames.SETTINGS, 0, 0, b"\x00\x04\x00\x00\x00\x00\x00\x03\x00\x00\x00\x01\x00\x63\x00\x00\x00\x01")
        + frame(frames.SETTINGS, frames.ACK) + frame(frames.HEADERS, WHOLE, 1, request),
        frame(frames.PING, 0, 0, bytes(8)) + frame(frames.PING, frames.ACK, 0, bytes(8)),
        frame(frames.GOAWAY, 0, 0, one + bytes(4) + b"debug") + frame(frames.PING, 0, 0, bytes(8)),
        frame(frames.PUSH_PROMISE, OPEN, 1, one + request) + frame(0xA, 0, 0, bytes(4)) + frame(0xFA, 0xFF, 1, b"x"),
        frame(frames.HEADERS, OPEN, 1, hints) + frame(frames.HEADERS, OPEN, 1, response)
        + frame(frames.DATA, frames.END_STREAM, 1, b"body") + frame(frames.HEADERS, WHOLE, 3, response),
        b"".join(frame(frames.HEADERS, WHOLE, 2 * number + 1, request) for number in range(4)),
    ]  # fmt: skip


SEEDS = [bytes([choice]) + data for data in conversations() for choice in (0x0, 0x1, 0x6, 0x7, 0x16)]
SEEDS += [bytes([0x8]) + PREFACE + frame(frames.SETTINGS), b"\x08GET / HTTP/1.1\r\n\r\n"]

FOUND: list[bytes] = []
