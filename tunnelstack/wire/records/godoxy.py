"""
What the main program of GoDoxy sends first on each stream to an agent: a block of 275 octets with the destination::

    ======  ======  ===========  ==================================================
    offset  octets  field        content
    ======  ======  ===========  ==================================================
    0       8       version      C{0.1.0} and three NULs
    8       1       host length  0 to 255
    9       255     host         padded by NULs
    264     1       port length  0 to 5
    265     5       port         as text, padded by NULs
    270     1       flags        bit 0: close at once, a probe; the others are ignored
    271     4       checksum     CRC-32 (IEEE) of all octets before it, in network order
    ======  ======  ===========  ==================================================

Nothing answers it.

Source: godoxy C{agent/pkg/agent/stream/header.go}, v0.31.0.
"""

from __future__ import annotations

from zlib import crc32

from attrs import frozen

from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.printable_text import printable

ALPN = b"godoxy-agent-stream/1"
"""The name of the protocol of streams in ALPN."""

SERVER_NAME = "godoxy.agent"
"""What every certificate of an agent is for, whatever its address is."""

CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256"
"""The only cipher of genuine programs over DTLS."""

LONGEST_DATAGRAM = 8155
"""Octets of the longest datagram that a genuine program can receive over DTLS."""

HEADER_OCTETS = 275
"""Octets of the block."""

HOST_OCTETS = 255
"""Octets of the longest host."""

HEADER_SECONDS = 10.0
"""Seconds within which an agent must have received the block."""

DIAL_SECONDS = 10.0
"""Seconds within which a destination must accept."""

CLOSE_AT_ONCE = 0x01
"""The flag of a probe."""

_VERSION = b"0.1.0\0\0\0"
_HOST, _PORT = HOST_OCTETS, 5
_HOST_AT, _PORT_AT, _FLAGS_AT, _CHECKSUM_AT = 8, 264, 270, 271


class BadHeader(PeerError):
    """
    The block is not valid.
    """


@frozen
class StreamHeader:
    """
    @ivar host: a name or an address without brackets; C{""} is the agent's own machine.
    @ivar port: as text: a number, or the name of a service.
    @ivar flags: see L{CLOSE_AT_ONCE}.
    """

    host: str = ""
    port: str = ""
    flags: int = 0

    @property
    def isProbe(self) -> bool:
        """
        Whether the stream only tests that streams work.
        """
        return bool(self.flags & CLOSE_AT_ONCE)


PROBE = StreamHeader(flags=CLOSE_AT_ONCE)
"""The header of a probe."""


def encode_header(header: StreamHeader) -> bytes:
    """
    @raise UsageError: the host has more than 255 octets, the port more than 5, or the flags are no octet.
    """
    host, port = header.host.encode(), header.port.encode()
    if len(host) > _HOST or len(port) > _PORT or not 0 <= header.flags <= 0xFF:
        raise UsageError("the destination does not fit into a header", host=header.host[:64], port=header.port[:16])
    block = b"".join((
        _VERSION, bytes([len(host)]), host.ljust(_HOST, b"\0"), bytes([len(port)]), port.ljust(_PORT, b"\0"),
        bytes([header.flags]),
    ))  # fmt: skip
    return block + crc32(block).to_bytes(4, "big")


def decode_header_untrusted(block: bytes) -> StreamHeader:
    """
    @param block: L{HEADER_OCTETS} octets.
    @return: host and port with what is not UTF-8 replaced; neither is judged here.
    @raise BadHeader: the version, the length of the port or the checksum is wrong.
    """
    if len(block) != HEADER_OCTETS:
        raise BadHeader("the header is incomplete", octets=len(block))
    if not block.startswith(_VERSION):
        raise BadHeader("the version of the header is not 0.1.0", version=printable(block[:8].decode("latin-1")))
    if block[_PORT_AT] > _PORT:
        raise BadHeader("the port of the header is longer than its field", octets=block[_PORT_AT])
    if crc32(block[:_CHECKSUM_AT]) != int.from_bytes(block[_CHECKSUM_AT:], "big"):
        raise BadHeader("the checksum of the header is wrong")
    return StreamHeader(_text(block, _HOST_AT), _text(block, _PORT_AT), block[_FLAGS_AT])


def _text(block: bytes, at: int) -> str:
    """
    @param at: where the length of a text is, which the text follows.
    """
    return block[at + 1 : at + 1 + block[at]].decode("utf-8", "replace")


def port_of(header: StreamHeader, services: dict[str, int] | None = None) -> int:
    """
    @param services: the numbers of ports that have names; those of most systems unless given.
    @return: the number of the port.
    @raise BadHeader: it is none.
    """
    text = header.port
    known = SERVICES if services is None else services
    number = int(text) if text.isascii() and text.isdigit() else known.get(text.lower(), 0)
    if not 0 < number < 65_536:
        raise BadHeader("the port of the header is not a port", port=printable(text))
    return number


SERVICES = {"http": 80, "https": 443, "ssh": 22, "smtp": 25, "dns": 53, "ntp": 123, "imap": 143, "imaps": 993, "pop3": 110}
"""Names of ports of at most five letters, and their numbers.  Genuine main programs send numbers only."""
