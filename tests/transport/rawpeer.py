"""
A WebSocket peer written by hand, octet by octet, so that no library vouches for itself.

Source: RFC 6455, sections 1.3, 4.1 and 5.2.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1
from typing import Any

from twisted.internet.protocol import Protocol

from tunnelstack.testing import Wire
from tunnelstack.wire.http1.head import RequestHead, read_request_untrusted

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="                     # the RFC's own example
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MASK = b"\x37\xfa\x21\x3d"
REQUEST = (
    b"GET /t HTTP/1.1\r\nHost: edge.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\n"
)
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def requestHead(octets: bytes = REQUEST + b"\r\n") -> RequestHead:
    """
    A request as a server that has read it hands it on.
    """
    return read_request_untrusted(octets, len(octets))


def frame(opcode: int, payload: bytes = b"", fin: bool = True, mask: bytes | None = None, rsv: int = 0) -> bytes:
    """
    One frame.
    """
    size = len(payload)
    high = 0x80 if mask else 0
    if size < 126:
        length = bytes([high | size])
    elif size < 65536:
        length = bytes([high | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([high | 127]) + size.to_bytes(8, "big")
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode]) + length
    if mask is None:
        return head + payload
    return head + mask + bytes(octet ^ mask[at % 4] for at, octet in enumerate(payload))


def parse(data: bytes) -> list[tuple[int, bool, bytes]]:
    """
    All frames in some octets: opcode, whether it is the last of its message, and the payload unmasked.
    """
    frames = []
    while data:
        opcode, fin, size, start = data[0] & 15, bool(data[0] & 0x80), data[1] & 127, 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        mask = b"\0\0\0\0"
        if data[1] & 0x80:
            mask, start = data[start : start + 4], start + 4
        assert len(data) >= start + size, "a frame is cut"
        payload = bytes(octet ^ mask[at % 4] for at, octet in enumerate(data[start : start + size]))
        frames.append((opcode, fin, payload))
        data = data[start + size :]
    return frames


class Raw(Protocol):
    """
    Octets in, octets out.
    """

    def __init__(self) -> None:
        self.got = b""
        self.reason: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Any = None) -> None:
        self.reason = reason

    def taken(self) -> bytes:
        """
        What has come since this was last asked.
        """
        got, self.got = self.got, b""
        return got

    def frames(self) -> list[tuple[int, bool, bytes]]:
        return parse(self.taken())


class RawServer(Raw):
    """
    Answers an upgrade with octets of the test's choice, or properly.
    """

    answer: bytes | None = None
    request = b""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        head, end, rest = self.got.partition(b"\r\n\r\n")
        if not self.request and end:
            self.request, self.got = head + end, rest
            self.transport.write(self.properAnswer() if self.answer is None else self.answer)

    def properAnswer(self, *fields: bytes) -> bytes:
        """
        The 101 that belongs to the request.
        """
        lines = self.request.split(b"\r\n")
        key = next(line[19:] for line in lines if line.lower().startswith(b"sec-websocket-key: "))
        accept = b64encode(sha1(key + MAGIC).digest())
        head = [
            b"HTTP/1.1 101 Switching Protocols",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + accept,
            *fields,
        ]
        return b"\r\n".join(head) + b"\r\n\r\n"


def rawClient(wire: Wire, server: Any) -> Raw:
    """
    A client by hand at the near end, its upgrade done.
    """
    client = Raw()
    wire.connect(client, server)
    wire.near.write(REQUEST + b"\r\n")
    wire.settle()
    head, _, rest = client.taken().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ") and ACCEPT in head, head
    client.got = rest
    return client
