"""
Bent octets for GoDoxy's header of streams, alone and at the beginning of a stream that is cut.
"""

from __future__ import annotations

from collections.abc import Hashable
from zlib import crc32

from tests.wire.test_records_godoxy import ENCODED
from tunnelstack.errors import PeerError
from tunnelstack.wire.negotiation.base import Agreed
from tunnelstack.wire.negotiation.fixed_head import FixedHeadResponder
from tunnelstack.wire.records.godoxy import HEADER_OCTETS, decode_header_untrusted, encode_header, port_of

SEEDS = [encode_header(header) for header, _, _ in ENCODED.values()]
FOUND: list[bytes] = []


def target(data: bytes) -> Hashable:
    """
    @return: what the reader made of it, as it is and with the right length and checksum.
    """
    block = data[: HEADER_OCTETS - 4].ljust(HEADER_OCTETS - 4, b"\0")
    for octets in (data, block + crc32(block).to_bytes(4, "big") + data[:40]):
        whole = stream(octets, len(octets) or 1)
        assert stream(octets, 1) == stream(octets, 37) == whole, octets
    return attempt(data), attempt(block + crc32(block).to_bytes(4, "big"))


def stream(octets: bytes, size: int) -> Hashable:
    """
    The kind of end that the negotiation comes to, and what is left for the application.
    """
    ours, rest, kind = FixedHeadResponder(HEADER_OCTETS, lambda head: (b"", {"is": decode_header_untrusted(head)})), b"", ""
    try:
        for start in range(0, len(octets), size):
            piece = octets[start : start + size]
            if ours.settled:
                rest += piece
            for event in () if ours.settled else ours.receive_data(piece):
                assert isinstance(event, Agreed)
                kind, rest = "agreed", event.leftover
        if not ours.settled:
            ours.receive_eof()
    except PeerError as error:
        return type(error).__name__
    return kind, rest


def attempt(octets: bytes) -> Hashable:
    """
    A peer's error is an answer.
    """
    try:
        header = decode_header_untrusted(octets)
        return min(len(header.host), 2), len(header.port), header.isProbe, bool(port_of(header))
    except PeerError as error:
        return str(error.args[0])
