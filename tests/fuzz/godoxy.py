"""
Bent octets for GoDoxy's header of streams.
"""

from __future__ import annotations

from collections.abc import Hashable
from zlib import crc32

from tests.wire.test_records_godoxy import ENCODED
from tunnelstack.errors import PeerError
from tunnelstack.wire.records.godoxy import HEADER_OCTETS, decode_header_untrusted, encode_header, port_of

SEEDS = [encode_header(header) for header, _, _ in ENCODED.values()]
FOUND: list[bytes] = []


def target(data: bytes) -> Hashable:
    """
    @return: what the reader made of it, as it is and with the right length and checksum.
    """
    block = data[: HEADER_OCTETS - 4].ljust(HEADER_OCTETS - 4, b"\0")
    return attempt(data), attempt(block + crc32(block).to_bytes(4, "big"))


def attempt(octets: bytes) -> Hashable:
    """
    A peer's error is an answer.
    """
    try:
        header = decode_header_untrusted(octets)
        return min(len(header.host), 2), len(header.port), header.isProbe, bool(port_of(header))
    except PeerError as error:
        return str(error.args[0])
