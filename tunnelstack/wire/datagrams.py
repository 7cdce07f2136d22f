"""
Datagrams in a stream of octets: each has its length before it, two octets in network order.

Source: docs/protocols/native.md, section "Datagrams".
"""

from __future__ import annotations

from tunnelstack.errors import UsageError

LONGEST = 65_535
"""Octets of the longest datagram that fits its length field."""

_LENGTH = 2


def encode_datagram(datagram: bytes) -> bytes:
    """
    @raise UsageError: it is longer than L{LONGEST}.
    """
    if len(datagram) > LONGEST:
        raise UsageError("a datagram is too long for its length field", octets=len(datagram))
    return len(datagram).to_bytes(_LENGTH, "big") + datagram


class DatagramDecoder:
    """
    Finds the datagrams in a stream.  It holds less than one datagram.
    """

    def __init__(self) -> None:
        self._octets = b""

    @property
    def incomplete(self) -> bool:
        """
        Whether a datagram has begun and has not ended.
        """
        return bool(self._octets)

    def receive_data(self, octets: bytes) -> list[bytes]:
        """
        @return: the datagrams that are complete.
        """
        octets = self._octets + octets
        found = []
        start = 0
        while len(octets) >= start + _LENGTH:
            first = start + _LENGTH
            end = first + int.from_bytes(octets[start:first], "big")
            if len(octets) < end:
                break
            found.append(octets[first:end])
            start = end
        self._octets = octets[start:]
        return found
