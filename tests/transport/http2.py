"""
What tests of HTTP/2 share: receivers that remember, two connections over a wire, and a peer that sends raw frames.
"""

from __future__ import annotations

from struct import pack
from typing import Any

from hpack.hpack import Decoder, Encoder
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from zope.interface import implementer

from tunnelstack.interfaces import IHTTP2Receiver
from tunnelstack.testing import Wire
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.wire.http2 import frames
from tunnelstack.wire.http2.limits import HTTP2Limits
from tunnelstack.wire.http2.preface import PREFACE

GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"example.com"), (b":path", b"/")]
POST = [(b":method", b"POST"), *GET[1:]]
OK = [(b":status", b"200")]


@implementer(IHTTP2Receiver)
class Remember:
    """
    Remembers what it is told, in order.
    """

    def __init__(self, stream: Any = None) -> None:
        self.stream = stream
        self.told: list[Any] = []
        self.pieces: list[bytes] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def informational(self, fields: Any) -> None:
        self.told.append(("informational", fields))

    def headersReceived(self, fields: Any, ended: bool) -> None:
        self.told.append(("head", fields, ended))

    def dataReceived(self, octets: bytes) -> None:
        if not self.told or self.told[-1] != "body":
            self.told.append("body")
        self.pieces.append(octets)

    def ended(self, trailers: Any) -> None:
        self.told.append(("ended", trailers))

    def closed(self) -> None:
        self.told.append("closed")

    def failed(self, reason: Any) -> None:
        self.told.append(reason)


class Server(list):
    """
    Accepts streams, and remembers their receivers.
    """

    kind: Any = Remember

    def __call__(self, stream: Any) -> Any:
        self.append(self.kind(stream))
        return self[-1]


def http2Pair(
    *, clock: Clock | None = None, cut: int | None = None, limits: HTTP2Limits | None = None,
    clientLimits: HTTP2Limits | None = None, capacity: int = 64 * 1024,
) -> tuple[Wire, HTTP2Connection, HTTP2Connection, Server]:
    """
    @return: a wire, a client and a server over it that have not exchanged anything, and what the server accepts.
    """
    wire = Wire(clock=clock, cut=cut, capacity=capacity)
    accepted = Server()
    client = HTTP2Connection(True, clock=wire.clock, limits=clientLimits)
    server = HTTP2Connection(False, clock=wire.clock, limits=limits, accept=accepted)
    wire.connect(client, server)
    return wire, client, server, accepted


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """
    @return: one frame.
    """
    return pack(">HBBBL", len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


class RawPeer(Protocol):
    """
    A peer that sends whatever a test writes.

    @ivar frames: what it received: kind, flags, stream and payload.
    """

    transport: Any

    def __init__(self, client: bool = True) -> None:
        self.client = client
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.lost: Any = None
        self.encoder = Encoder()
        self.decoder = Decoder()
        self._rest = b""

    def connectionMade(self) -> None:
        if self.client:
            self.transport.write(PREFACE)
        self.transport.write(frame(frames.SETTINGS))

    def dataReceived(self, data: bytes) -> None:
        self._rest += data
        if not self.client and self._rest.startswith(PREFACE):
            self._rest = self._rest[len(PREFACE):]
        while len(self._rest) >= 9:
            size = 9 + int.from_bytes(self._rest[:3], "big")
            if len(self._rest) < size:
                break
            one, self._rest = self._rest[:size], self._rest[size:]
            self.frames.append((one[3], one[4], int.from_bytes(one[5:9], "big"), one[9:]))

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason

    def send(self, kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> None:
        self.transport.write(frame(kind, flags, stream, payload))

    def request(self, stream: int, fields: Any = GET, end: bool = True) -> None:
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        self.send(frames.HEADERS, flags, stream, self.encoder.encode(fields))

    def of(self, kind: int) -> list[tuple[int, int, bytes]]:
        """
        @return: flags, stream and payload of the frames of one kind.
        """
        return [rest for found, *rest in self.frames if found == kind]     # type: ignore[misc]

    @property
    def goAway(self) -> tuple[int, int] | None:
        """
        The last stream and the code of the last GOAWAY.
        """
        for _, _, payload in reversed(self.of(frames.GOAWAY)):
            return int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")
        return None

    @property
    def resets(self) -> list[tuple[int, int]]:
        """
        Streams that were reset, with the codes.
        """
        return [(stream, int.from_bytes(payload, "big")) for _, stream, payload in self.of(frames.RST_STREAM)]


def rawClient(
    limits: HTTP2Limits | None = None, accept: Any = None
) -> tuple[Wire, RawPeer, HTTP2Connection, Server]:
    """
    @return: a wire, a raw client, a server of ours, and what the server accepts.
    """
    wire, peer = Wire(), RawPeer()
    accepted = Server() if accept is None else accept
    server = HTTP2Connection(False, clock=wire.clock, limits=limits, accept=accepted)
    wire.connect(peer, server)
    wire.settle()
    return wire, peer, server, accepted


def rawServer(limits: HTTP2Limits | None = None) -> tuple[Wire, HTTP2Connection, RawPeer]:
    """
    @return: a wire, a client of ours, and a raw server.
    """
    wire, peer = Wire(), RawPeer(client=False)
    client = HTTP2Connection(True, clock=wire.clock, limits=limits)
    wire.connect(client, peer)
    wire.settle()
    return wire, client, peer
