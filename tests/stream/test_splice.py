"""
Two transports joined: octets, ends and pressure go through, whatever the two are.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISSLTransport, ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, providedBy

from tests.promises.streams import Collect, HalfCollect
from tunnelstack.stream.splice import FLUSH_SECONDS, HALF_CLOSE_SECONDS, Splice
from tunnelstack.testing import Wire


class SpliceTests(SynchronousTestCase):
    """
    Left and right are applications at the outer ends of two wires that are joined in the middle.
    """

    def setUp(self) -> None:
        self.ended: list[Any] = []
        self.left, self.right = Wire(), Wire()
        self.right.clock = self.left.clock
        self.splice = Splice(self.left.clock, self.ended.append)

    def connect(self, kind: type[Collect] = HalfCollect) -> tuple[Any, Any]:
        near, far = kind(), kind()
        self.left.connect(near, self.splice.near)
        self.right.connect(self.splice.far, far)
        return near, far

    def settle(self) -> None:
        while self.left.turn() | self.right.turn():
            pass

    def test_octetsGoBothWays(self) -> None:
        near, far = self.connect()
        near.transport.write(b"question")
        far.transport.write(b"answer")
        self.settle()
        self.assertEqual((far.got, near.got), (b"question", b"answer"))
        self.assertEqual((self.splice.near.octets, self.splice.far.octets), (8, 6))

    def test_whatComesEarlyWaits(self) -> None:
        near, far = HalfCollect(), HalfCollect()
        self.left.connect(near, self.splice.near)
        near.transport.write(b"early")
        self.left.settle()
        self.assertEqual(self.left.near.undelivered, 5)
        self.right.connect(self.splice.far, far)
        self.settle()
        self.assertEqual(far.got, b"early")

    def test_halfCloseIsKept(self) -> None:
        near, far = self.connect()
        near.transport.write(b"request")
        near.transport.loseWriteConnection()
        self.settle()
        self.assertEqual((far.got, far.told), (b"request", ["made", "read ended"]))
        far.transport.write(b"response")
        far.transport.loseConnection()
        self.settle()
        self.assertEqual(near.got, b"response")
        near.transport.loseConnection()
        self.settle()
        self.assertTrue(near.reason.check(ConnectionDone) and far.reason.check(ConnectionDone))
        self.assertEqual(len(self.ended), 1)

    def test_halfCloseComesBehindEverything(self) -> None:
        near, far = self.connect()
        octets = bytes(1_000_000)
        near.transport.write(octets)
        near.transport.loseWriteConnection()
        self.settle()
        self.assertEqual((len(far.got), far.told[-1]), (len(octets), "read ended"))

    def test_cleanEndFlushes(self) -> None:
        near, far = self.connect(Collect)
        near.transport.write(b"last words")
        near.transport.loseConnection()
        self.settle()
        self.assertEqual(far.got, b"last words")
        self.assertTrue(far.reason.check(ConnectionDone))
        self.assertEqual(len(self.ended), 1)

    def test_aLostEndAbortsTheOther(self) -> None:
        _, far = self.connect()
        self.left.drop()
        self.settle()
        self.assertTrue(far.reason.check(ConnectionLost))
        self.assertTrue(self.ended[0].check(ConnectionLost))

    def test_aReaderThatStandsStillStopsItsWriter(self) -> None:
        near, far = self.connect()
        self.right.far.readPaused = True
        for _ in range(100):
            near.transport.write(bytes(64 * 1024))
            self.settle()
        self.assertLessEqual(self.right.near.undelivered, 3 * 64 * 1024)
        far.transport.write(b"still")
        self.settle()
        self.assertEqual(near.got, b"still")
        self.right.far.readPaused = False
        for _ in range(200):
            self.settle()
        self.assertEqual(len(far.got), 100 * 64 * 1024)

    def test_aTransportThatCannotHalfCloseRemembersTheEnd(self) -> None:
        near, far = self.connect()
        directlyProvides(self.right.near, providedBy(self.right.near), ISSLTransport)
        near.transport.loseWriteConnection()
        self.settle()
        self.assertEqual(far.told, ["made"])
        far.transport.write(b"the whole answer")
        far.transport.loseConnection()
        self.settle()
        self.assertEqual(near.got, b"the whole answer")
        self.assertEqual(len(self.ended), 1)

    def test_aRememberedEndIsNotRememberedForEver(self) -> None:
        near, _ = self.connect()
        directlyProvides(self.right.near, providedBy(self.right.near), ISSLTransport)
        near.transport.loseWriteConnection()
        self.settle()
        self.left.clock.advance(HALF_CLOSE_SECONDS)
        self.settle()
        self.assertEqual(len(self.ended), 1)
        self.assertEqual(self.left.clock.getDelayedCalls(), [])

    def test_closingBeforeTheSecondEndClosesTheFirst(self) -> None:
        near = HalfCollect()
        self.left.connect(near, self.splice.near)
        self.splice.close()
        self.settle()
        self.assertEqual(near.told, ["made", "read ended"])
        self.assertEqual(len(self.ended), 1)

    def test_theLastEndHasItsTimeToRead(self) -> None:
        for read, seconds in ((True, FLUSH_SECONDS - 1), (False, FLUSH_SECONDS)):
            self.setUp()
            near, far = self.connect()
            self.right.far.readPaused = True
            near.transport.write(b"x" * 1000)
            self.settle()
            self.left.drop(Failure(ConnectionDone()))
            self.settle()
            self.left.clock.advance(seconds)
            self.settle()
            self.assertEqual(self.right.near.connected, read)
            self.right.far.readPaused = False
            self.settle()
            self.assertEqual(far.got, b"x" * 1000 if read else b"")
            self.assertEqual(len(self.ended), 1)
            self.assertEqual(self.left.clock.getDelayedCalls(), [])

    def test_aSecondEndThatComesTooLateIsClosed(self) -> None:
        near, far = HalfCollect(), HalfCollect()
        self.left.connect(near, self.splice.near)
        self.left.drop()
        self.right.connect(self.splice.far, far)
        self.settle()
        self.assertIn("read ended", far.told)


class Direct(StringTransport):
    """
    A transport that can send at once, and has Nagle's algorithm switched off if it is told so.
    """

    noDelay = False

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    def sendAtOnce(self, octets: bytes) -> None:
        self.sent.append(octets)

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.noDelay = enabled


class SmallPieceTests(SynchronousTestCase):
    """
    Programs on both sides of a tunnel often wait for a few octets of each other.
    """

    def test_piecesAreSentAtOnce(self) -> None:
        splice, near, far = Splice(Clock()), Direct(), Direct()
        for transport in (near, far):
            directlyProvides(transport, ITCPTransport)
        splice.near.makeConnection(near)
        splice.far.makeConnection(far)
        splice.near.dataReceived(b"a key")
        splice.far.dataReceived(b"its echo")
        self.assertEqual((near.sent, far.sent), ([b"its echo"], [b"a key"]))
        self.assertEqual((near.noDelay, far.noDelay), (True, True))
