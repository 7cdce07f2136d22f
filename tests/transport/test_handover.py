"""
A WebSocket that changes its protocol, is counted, and ends without Close frames.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.rawpeer import BINARY, MASK, PONG, frame, rawClient
from tests.transport.test_websocket import Collect, Pair, factoryOf
from tunnelstack.testing import Wire
from tunnelstack.transport.websocket.server import WebSocketServerFactory
from tunnelstack.transport.websocket.settings import WebSocketLimits

BARE = WebSocketLimits(closeFrame=False)


class Paused(Collect):
    def connectionMade(self) -> None:
        self.transport.pauseProducing()  # type: ignore[union-attr]


class HandOverTests(SynchronousTestCase):
    def test_theNextProtocolGetsWhatTheFormerDidNotNeed(self) -> None:
        for cut in (None, 1, 3):
            pair, successor = Pair(cut), Collect()
            pair.server.transport.handOver(successor, b"left over, ")  # type: ignore[union-attr]
            self.assertIs(successor.transport, pair.server.transport)
            pair.client.transport.write(b"then this")  # type: ignore[union-attr]
            pair.wire.settle()
            self.assertEqual((successor.got, pair.server.got), (b"left over, then this", b""))
            pair.client.transport.loseConnection()  # type: ignore[union-attr]
            pair.wire.settle()
            self.assertTrue(successor.reason.check(ConnectionDone))
            self.assertIsNone(pair.server.reason)

    def test_aConnectionIsHandedOverInTheMiddleOfADelivery(self) -> None:
        successor = Collect()

        class First(Collect):
            def dataReceived(self, data: bytes) -> None:
                self.transport.handOver(successor, b"<" + data + b">")  # type: ignore[union-attr]

        pair = Pair()
        pair.server.transport.handOver(First())  # type: ignore[union-attr]
        for octets in (b"one", b"two", b"three"):
            pair.client.transport.write(octets)  # type: ignore[union-attr]
        pair.wire.settle()
        self.assertEqual(successor.got, b"<one>twothree")

    def test_leftoverWaitsForAPausedSuccessor(self) -> None:
        for cut in (None, 1):
            pair, successor = Pair(cut), Paused()
            transport: Any = pair.server.transport
            transport.handOver(successor, b"left over, ")
            transport.redeliver(b"first of all, ")
            pair.client.transport.write(b"then this")  # type: ignore[union-attr]
            pair.wire.settle()
            self.assertEqual(successor.got, b"")
            transport.resumeProducing()
            self.assertEqual(successor.got, b"", "delivered from inside the application's call")
            pair.wire.settle()
            self.assertEqual(successor.got, b"first of all, left over, then this")

    def test_octetsThatComeBeforeTheLeftoverWasTakenStayBehindIt(self) -> None:
        pair, successor = Pair(), Paused()
        transport: Any = pair.server.transport
        transport.handOver(successor, b"left over, ")
        transport.resumeProducing()
        transport.octetsReceived(b"then this")
        pair.wire.settle()
        self.assertEqual(successor.got, b"left over, then this")

    def test_aProtocolThatAnswersForAnotherIsAskedToGoOn(self) -> None:
        class Answering(Collect):
            successor: Any = None

            def replaceProtocol(self, protocol: Any) -> None:
                self.successor = protocol

        pair, first, second = Pair(), Answering(), Collect()
        transport: Any = pair.server.transport
        transport.handOver(first)
        transport.handOver(second)
        self.assertIs(first.successor, second)
        self.assertIs(transport.protocol, first)

    def test_nothingIsRedeliveredAfterAClose(self) -> None:
        pair, successor = Pair(), Collect()
        transport: Any = pair.server.transport
        transport.handOver(successor)
        transport.loseConnection()
        transport.redeliver(b"too late")
        self.assertEqual(successor.got, b"")


class CountersTests(SynchronousTestCase):
    def test_octetsOfPayloadAreCounted(self) -> None:
        pair = Pair(cut=7)
        near: Any = pair.client.transport
        far: Any = pair.server.transport
        near.write(b"x" * 200_000)
        near.writeRecord(b"record")
        far.writeSequence([b"ab", b"", b"c"])
        pair.wire.settle()
        self.assertEqual((near.octetsOut, near.octetsIn), (200_006, 3))
        self.assertEqual((far.octetsOut, far.octetsIn), (3, 200_006))

    def test_recordsAreCounted(self) -> None:
        pair = Pair(server={"records": True})
        pair.client.transport.write(b"whole")  # type: ignore[union-attr]
        pair.wire.settle()
        self.assertEqual(pair.server.transport.octetsIn, 5)  # type: ignore[union-attr]


class BareEndTests(SynchronousTestCase):
    """
    Peers that end the connection and say nothing.
    """

    def serve(self, limits: WebSocketLimits) -> tuple[Wire, Any, Collect]:
        wire, server = Wire(), Collect()
        factory = WebSocketServerFactory(factoryOf(server), clock=wire.clock, limits=limits)
        return wire, rawClient(wire, factory.buildProtocol(wire.far.getPeer())), server

    def test_aBareEndIsGoodOrderWhereThereAreNoCloseFrames(self) -> None:
        for limits, kind in ((BARE, ConnectionDone), (WebSocketLimits(), ConnectionLost)):
            wire, _, server = self.serve(limits)
            wire.near.write(frame(BINARY, b"all", mask=MASK))
            wire.near.loseConnection()
            wire.settle()
            self.assertEqual(server.got, b"all")
            self.assertTrue(server.reason.check(kind), server.reason)

    def test_anEndInsideAMessageIsALoss(self) -> None:
        for octets in (frame(BINARY, b"cut off", mask=MASK)[:-1], frame(BINARY, b"some", fin=False, mask=MASK)):
            wire, _, server = self.serve(BARE)
            wire.near.write(octets)
            wire.near.loseConnection()
            wire.settle()
            self.assertTrue(server.reason.check(ConnectionLost), server.reason)

    def test_twoOfThemEndInGoodOrder(self) -> None:
        pair = Pair(server={"limits": BARE}, limits=BARE)
        pair.client.transport.write(b"bye")  # type: ignore[union-attr]
        pair.client.transport.loseConnection()  # type: ignore[union-attr]
        pair.wire.settle()
        self.assertEqual(pair.server.got, b"bye")
        for end in (pair.client, pair.server):
            self.assertTrue(end.reason.check(ConnectionDone), end.reason)


class PulseTests(SynchronousTestCase):
    def test_eachAnswerIsTold(self) -> None:
        limits = WebSocketLimits(keepalive=30.0, keepaliveTimeout=5.0)
        wire, server = Wire(), Collect()
        factory = WebSocketServerFactory(factoryOf(server), clock=wire.clock, limits=limits)
        rawClient(wire, factory.buildProtocol(wire.far.getPeer()))
        beats: list[float] = []
        server.transport.onPeerAlive = lambda: beats.append(wire.clock.seconds())  # type: ignore[union-attr]
        for seconds in (30, 0, 5, 25):
            wire.clock.advance(seconds)
            wire.settle()
            if seconds in (0, 30):
                wire.near.write(frame(PONG, b"1", mask=MASK))
                wire.settle()
        self.assertEqual(beats, [35.0])
        wire.clock.advance(30)
        wire.settle()
        self.assertEqual(beats, [35.0], "no answer, no beat")
        self.assertIsNotNone(server.reason)

    def test_whereOnlyAPongCountsNothingElseDoes(self) -> None:
        for pongOnly in (False, True):
            limits = WebSocketLimits(keepalive=30.0, keepaliveTimeout=5.0, pongOnly=pongOnly)
            wire, server = Wire(), Collect()
            factory = WebSocketServerFactory(factoryOf(server), clock=wire.clock, limits=limits)
            rawClient(wire, factory.buildProtocol(wire.far.getPeer()))
            wire.clock.advance(30)
            wire.settle()
            wire.near.write(frame(BINARY, b"I can talk", mask=MASK))
            wire.settle()
            wire.clock.advance(5)
            wire.settle()
            self.assertEqual(server.reason is not None, pongOnly)
