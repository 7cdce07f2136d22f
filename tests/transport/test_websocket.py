"""
Both sides of a WebSocket, over a wire in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.testing import Wire
from tunnelstack.transport.websocket import WebSocketClientEndpoint, WebSocketServerFactory


class Collect(Protocol):
    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.records: list[tuple[bytes, bool]] = []
        self.reason: Any = None

    @property
    def got(self) -> bytes:
        return b"".join(self.pieces)

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)

    def recordReceived(self, octets: bytes, text: bool) -> None:
        self.records.append((octets, text))

    def connectionLost(self, reason: Any = None) -> None:
        assert self.reason is None
        self.reason = reason


def factoryOf(protocol: Any) -> Any:
    factory = Factory()
    factory.buildProtocol = lambda address: protocol      # type: ignore[method-assign]
    return factory


class OverWire:
    """
    A client endpoint whose server is at the far end of a wire.
    """

    def __init__(self, wire: Wire, serverProtocol: Any) -> None:
        self.wire = wire
        self.serverProtocol = serverProtocol

    def connect(self, factory: Any) -> Deferred[Any]:
        protocol = factory.buildProtocol(self.wire.near.getPeer())
        self.wire.connect(protocol, self.serverProtocol)
        return succeed(protocol)


class Pair:
    """
    Two protocols joined by a WebSocket over a wire.
    """

    def __init__(self, cut: int | None = None, server: dict[str, Any] | None = None, **client: Any) -> None:
        self.wire = Wire(cut=cut)
        self.client, self.server = Collect(), Collect()
        answering = WebSocketServerFactory(factoryOf(self.server), clock=self.wire.clock, **(server or {}))
        below = OverWire(self.wire, answering.buildProtocol(self.wire.far.getPeer()))
        endpoint = WebSocketClientEndpoint(self.wire.clock, "ws://edge.example/t?a=b", endpoint=below, **client)
        self.outcome = endpoint.connect(factoryOf(self.client))
        self.wire.settle()


class MessageTests(SynchronousTestCase):
    def test_octetsArriveAtAnyChunking(self) -> None:
        for cut in (None, 1, 7):
            pair = Pair(cut=cut)
            self.assertIs(self.successResultOf(pair.outcome), pair.client)
            pair.client.transport.write(b"question")
            pair.server.transport.writeSequence([b"an", b"swer"])
            pair.wire.settle()
            self.assertEqual((pair.server.got, pair.client.got), (b"question", b"answer"))

    def test_subprotocolIsTheServersChoice(self) -> None:
        pair = Pair(server={"subprotocols": ["b", "a"]}, subprotocols=["x", "a", "b"])
        self.assertEqual(pair.client.transport.subprotocol, "b")
        self.assertEqual(pair.server.transport.subprotocol, "b")
        self.assertEqual(pair.server.transport.resource, "/t?a=b")


class EndTests(SynchronousTestCase):
    def test_closeIsCleanOnBothSides(self) -> None:
        for side in ("client", "server"):
            pair = Pair()
            transport = getattr(pair, side).transport
            transport.write(b"last")
            transport.loseConnection()
            transport.write(b"too late")
            pair.wire.settle()
            self.assertEqual(pair.client.got + pair.server.got, b"last")
            self.assertTrue(pair.client.reason.check(ConnectionDone))
            self.assertTrue(pair.server.reason.check(ConnectionDone))
            self.assertEqual(pair.wire.clock.getDelayedCalls(), [])

    def test_abort(self) -> None:
        pair = Pair()
        pair.client.transport.abortConnection()
        self.assertIsNone(pair.client.reason)
        pair.wire.settle()
        self.assertTrue(pair.client.reason.check(ConnectionAborted))
        self.assertTrue(pair.server.reason.check(ConnectionLost))
