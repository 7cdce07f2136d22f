"""
What every stream promises, whatever session and carrier it runs over.

A subclass of L{StreamPromises} builds two connected sessions; each test opens streams between them and names the promise it
checks.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IPushProducer,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tunnelstack.errors import UsageError
from tunnelstack.interfaces import IRecordTransport, ISession
from tunnelstack.stream.errors import SessionLost, UnsupportedPurpose

WINDOW = 256 * 1024


class Collect(Protocol):
    """
    Remembers everything it is told, in order.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.told: list[Any] = []
        self.calls = 0

    @property
    def got(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def reason(self) -> Any:
        return self.told[-1] if self.told and not isinstance(self.told[-1], str) else None

    def connectionMade(self) -> None:
        self.told.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.told.append(reason)


@implementer(IHalfCloseableProtocol)
class HalfCollect(Collect):
    """
    The same, and hears of half-closes.
    """

    def readConnectionLost(self) -> None:
        self.told.append("read ended")

    def writeConnectionLost(self) -> None:
        self.told.append("write ended")


class Producer:
    """
    Remembers what a consumer asked of it.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pauseProducing(self) -> None:
        self.asked.append("pause")

    def resumeProducing(self) -> None:
        self.asked.append("resume")

    def stopProducing(self) -> None:
        self.asked.append("stop")


class Pull(Producer):
    """
    Writes one piece each time it is asked, then is done.
    """

    def __init__(self, transport: Any, pieces: list[bytes]) -> None:
        super().__init__()
        self.transport = transport
        self.pieces = pieces

    def resumeProducing(self) -> None:
        super().resumeProducing()
        if self.pieces:
            self.transport.write(self.pieces.pop(0))
        else:
            self.transport.unregisterProducer()


class StreamPromises:
    """
    Mixin for C{SynchronousTestCase}.  A subclass gives C{connectSessions()}, which sets C{self.near} and C{self.far} (each an
    L{ISession<tunnelstack.interfaces.ISession>}), C{settle()}, and C{dropCarrier()}.

    @cvar halfClose: one direction can end alone.
    @cvar abortSeen: the peer can tell an abort from an end.
    @cvar lateData: what the peer sends to a stream that its application has closed is absorbed.
    @cvar shared: all streams share the session's connection, and are lost with it.
    @cvar announcesEnd: a session that goes away tells its peer.
    """

    halfClose = True
    abortSeen = True
    lateData = True
    shared = True
    announcesEnd = True

    def connectSessions(self) -> None:
        raise NotImplementedError

    def settle(self) -> None:
        raise NotImplementedError

    def dropCarrier(self) -> None:
        raise NotImplementedError

    def setUp(self) -> None:
        self.connectSessions()
        self.accepted: list[Any] = []
        self.kind: type[Collect] = HalfCollect
        test = self

        class Accepting(Factory):
            def buildProtocol(self, address: Any) -> Any:
                protocol = test.kind()
                test.accepted.append(protocol)
                return protocol

        self.successResultOf(self.far.listener.listen(Accepting()))  # type: ignore[attr-defined]

    def open(self, near: type[Collect] = HalfCollect, far: type[Collect] = HalfCollect) -> tuple[Any, Any]:
        """
        @return: the protocols of both ends of a new stream.
        """
        self.kind = far
        opening = self.near.connector.connect(Factory.forProtocol(near))  # type: ignore[arg-type]
        self.settle()
        return self.successResultOf(opening), self.accepted[-1]  # type: ignore[attr-defined]

    def endWriting(self, end: Any) -> None:
        """
        End one direction, or where there is no such thing, both.
        """
        (end.transport.loseWriteConnection if self.halfClose else end.transport.loseConnection)()

    @property
    def ended(self) -> list[str]:
        """
        What a protocol that knows of halves is told when the peer ends its direction.
        """
        return ["made", "read ended"] if self.halfClose else ["made"]

    # What it is

    def test_bothEndsProvideWhatTheyPromise(self) -> None:
        near, far = self.open()
        for session in (self.near, self.far):  # type: ignore[attr-defined]
            verifyObject(ISession, session)
        for end in (near, far):
            for interface in (ITransport, IConsumer, IPushProducer, ILoggingContext, IRecordTransport):
                verifyObject(interface, end.transport)
            self.assertEqual(ITCPTransport.providedBy(end.transport), self.halfClose)

    def test_connectedProtocolIsTold(self) -> None:
        near, far = self.open()
        self.assertEqual((near.told, far.told), (["made"], ["made"]))
        self.assertTrue(near.transport.connected)
        self.assertFalse(near.transport.disconnecting)

    def test_visitorIsThePeerWhereOneIsKnown(self) -> None:
        near, _ = self.open()
        self.assertIs(near.transport.getPeer(), near.transport.address)
        visitor = IPv4Address("TCP", "203.0.113.9", 4711)
        from attrs import evolve
        near.transport.address = evolve(near.transport.address, visitor=visitor)
        self.assertEqual(near.transport.getPeer(), visitor)

    # The end of the session

    def test_thePeerOfASessionThatDrainsIsTold(self) -> None:
        near, far = self.open()
        before = self.near.whenGoingAway()
        drained = self.far.drain()
        self.settle()
        for told in (before, self.near.whenGoingAway()):
            if self.announcesEnd:
                self.assertIs(self.successResultOf(told), None)
            else:
                self.assertNoResult(told)
        near.transport.write(b"still")
        self.settle()
        self.assertTrue(far.got.endswith(b"still"))
        self.assertNoResult(drained)
        near.transport.loseConnection()
        far.transport.loseConnection()
        self.settle()
        self.assertIs(self.successResultOf(drained), None)

    def test_everyPingIsAnswered(self) -> None:
        answers = [self.near.ping() for _ in range(100)]
        if not answers[0].called:
            self.settle()
            for answer in answers:
                self.assertGreaterEqual(self.successResultOf(answer), 0)
        else:
            self.failureResultOf(answers[0], UnsupportedPurpose)
            for answer in answers[1:]:
                self.failureResultOf(answer)

    def test_theLossOfASessionIsAnEndToo(self) -> None:
        before = self.near.whenGoingAway()
        self.assertNoResult(before)
        self.near.abort()
        self.settle()
        for told in (before, self.near.whenGoingAway()):
            self.assertIs(self.successResultOf(told), None)

    # Octets

    def test_octetsArriveInOrder(self) -> None:
        near, far = self.open()
        near.transport.write(b"one ")
        near.transport.writeSequence([b"two ", b"", b"three"])
        far.transport.write(b"back")
        self.settle()
        self.assertEqual((far.got, near.got), (b"one two three", b"back"))

    def test_moreThanAWindowArrives(self) -> None:
        near, far = self.open()
        octets = bytes(range(256)) * 5000
        near.transport.write(octets)
        self.settle()
        self.assertEqual(far.got, octets)

    def test_manyPiecesArriveWhole(self) -> None:
        near, far = self.open()
        pieces = [bytes([n % 251]) * (n * 37 % 5000) for n in range(400)]
        for piece in pieces:
            near.transport.write(piece)
        self.settle()
        self.assertEqual(far.got, b"".join(pieces))

    def test_onlyBytesAreTaken(self) -> None:
        near, _ = self.open()
        self.assertRaises(TypeError, near.transport.write, "text")
        self.assertRaises(TypeError, near.transport.write, memoryview(b"view"))

    def test_writesAfterACloseVanish(self) -> None:
        near, far = self.open()
        near.transport.write(b"last words")
        near.transport.loseConnection()
        near.transport.write(b"too late")
        self.settle()
        near.transport.write(b"far too late")
        self.settle()
        self.assertEqual(far.got, b"last words")

    def test_aRecordTravelsAlone(self) -> None:
        near, far = self.open()
        near.transport.write(b"before ")
        near.transport.writeRecord(b"record")
        near.transport.writeRecord(b"another")
        near.transport.write(b" after")
        self.settle()
        self.assertEqual(far.got, b"before recordanother after")
        self.assertIn(b"record", far.pieces)
        self.assertIn(b"another", far.pieces)

    def test_recordsOfWrongSizeAreRefused(self) -> None:
        near, _ = self.open()
        self.assertRaises(UsageError, near.transport.writeRecord, b"")
        self.assertRaises(UsageError, near.transport.writeRecord, bytes(65525))

    def test_recordsPauseTheirProducer(self) -> None:
        near, far = self.open()
        far.transport.pauseProducing()
        producer = Producer()
        near.transport.registerProducer(producer, True)
        for _ in range(100):
            near.transport.writeRecord(bytes(10_000))
            self.settle()
            if "pause" in producer.asked:
                break
        self.assertIn("pause", producer.asked)
        far.transport.resumeProducing()
        self.settle()
        self.assertEqual(producer.asked[-1], "resume")

    def test_aRecordWaitsForAllItsCredit(self) -> None:
        near, far = self.open()
        far.transport.pauseProducing()
        near.transport.write(bytes(WINDOW - 100))
        near.transport.writeRecord(b"r" * 60000)
        self.settle()
        far.transport.resumeProducing()
        self.settle()
        self.assertEqual(far.got[WINDOW - 100:], b"r" * 60000)

    # Ends

    def test_loseConnectionFlushesThenEndsBoth(self) -> None:
        near, far = self.open(Collect, Collect)
        octets = bytes(3 * WINDOW)
        near.transport.write(octets)
        near.transport.loseConnection()
        self.assertTrue(near.transport.disconnecting)
        self.settle()
        self.assertEqual(len(far.got), len(octets))
        for end in (near, far):
            self.assertTrue(end.reason.check(ConnectionDone), end.reason)
            self.assertFalse(end.transport.connected)
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))  # type: ignore[attr-defined]

    def test_closeIsToldOnALaterTurn(self) -> None:
        near, _ = self.open(Collect, Collect)
        near.transport.loseConnection()
        near.transport.abortConnection()
        self.assertIsNone(near.reason)
        self.settle()
        self.assertIsNotNone(near.reason)

    def test_nothingArrivesAfterLoseConnection(self) -> None:
        near, far = self.open(Collect, HalfCollect)
        near.transport.loseConnection()
        far.transport.write(b"unwanted")
        self.settle()
        self.assertEqual(near.got, b"")

    def test_lateDataDoesNotStopThePeer(self) -> None:
        if not self.lateData:
            return
        near, far = self.open(Collect, HalfCollect)
        near.transport.loseConnection()
        far.transport.write(bytes(3 * WINDOW))
        far.transport.loseConnection()
        self.settle()
        self.assertTrue(far.reason.check(ConnectionDone), far.reason)
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))  # type: ignore[attr-defined]

    def test_anAbortEndsBothDirections(self) -> None:
        near, far = self.open()
        near.transport.write(b"never sent")
        near.transport.abortConnection()
        self.settle()
        self.assertTrue(near.reason.check(ConnectionAborted))
        if self.abortSeen:
            self.assertTrue(far.reason.check(ConnectionLost))
        self.assertEqual(far.got, b"")
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))  # type: ignore[attr-defined]

    def test_lossOfTheCarrierEndsEveryStream(self) -> None:
        (near, far), ends = self.open(), [*self.open(), *self.open()]
        self.dropCarrier()
        self.settle()
        if not self.shared:
            near.transport.write(b"still here")
            self.settle()
            self.assertEqual(far.got, b"still here")
            return
        for end in ends:
            self.assertTrue(end.reason.check(SessionLost), end.reason)
            self.assertTrue(end.reason.check(ConnectionLost))
            self.assertEqual(sum(not isinstance(told, str) for told in end.told), 1)

    def test_oneDirectionMayEndFirst(self) -> None:
        if not self.halfClose:
            return
        near, far = self.open()
        near.transport.write(b"request")
        near.transport.loseWriteConnection()
        self.settle()
        self.assertEqual((far.got, far.told), (b"request", ["made", "read ended"]))
        self.assertEqual(near.told, ["made", "write ended"])
        far.transport.write(bytes(2 * WINDOW))
        far.transport.loseConnection()
        self.settle()
        self.assertEqual(len(near.got), 2 * WINDOW)
        self.assertEqual(near.told[:3], ["made", "write ended", "read ended"])
        for end in (near, far):
            self.assertTrue(end.reason.check(ConnectionDone))

    def test_aPeerThatEndsEndsAProtocolThatKnowsNoHalves(self) -> None:
        near, far = self.open(HalfCollect, Collect)
        self.endWriting(near)
        self.settle()
        self.assertTrue(far.reason.check(ConnectionDone))
        self.assertTrue(near.reason.check(ConnectionDone))

    # Pressure

    def test_aPausedStreamHoldsAtMostAWindow(self) -> None:
        near, far = self.open()
        far.transport.pauseProducing()
        near.transport.write(bytes(4 * WINDOW))
        self.settle()
        self.assertEqual(far.got, b"")
        self.assertLessEqual(far.transport.held, WINDOW)
        far.transport.resumeProducing()
        self.settle()
        self.assertEqual(len(far.got), 4 * WINDOW)

    def test_pausedStreamDoesNotHoldItsNeighbour(self) -> None:
        near, far = self.open()
        neighbour, other = self.open()
        far.transport.pauseProducing()
        near.transport.write(bytes(4 * WINDOW))
        neighbour.transport.write(bytes(4 * WINDOW))
        self.settle()
        self.assertEqual((len(far.got), len(other.got)), (0, 4 * WINDOW))

    def test_theEndWaitsBehindWhatWasNotRead(self) -> None:
        near, far = self.open()
        far.transport.pauseProducing()
        near.transport.write(b"unread")
        near.transport.loseConnection()
        self.settle()
        self.assertEqual(far.told, ["made"])
        far.transport.resumeProducing()
        self.assertEqual(far.got, b"", "delivered from inside the application's call")
        self.settle()
        self.assertEqual((far.got, far.told[: len(self.ended)]), (b"unread", self.ended))

    def test_pausingInTheMiddleHoldsTheRest(self) -> None:
        class OneAtATime(HalfCollect):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.transport.pauseProducing()  # type: ignore[union-attr]

        near, far = self.open(HalfCollect, OneAtATime)
        for n in range(20):
            near.transport.write(bytes([n]) * 1000)
            self.settle()
        first = len(far.got)
        self.assertLess(first, 20000)
        for _ in range(40):
            far.transport.resumeProducing()
            self.settle()
        self.assertEqual(far.got, b"".join(bytes([n]) * 1000 for n in range(20)))

    def test_producerIsPausedAndResumed(self) -> None:
        near, far = self.open()
        producer = Producer()
        far.transport.pauseProducing()
        near.transport.registerProducer(producer, True)
        near.transport.write(bytes(3 * WINDOW))
        self.assertEqual(producer.asked, ["pause"])
        self.settle()
        self.assertEqual(producer.asked, ["pause"])
        far.transport.resumeProducing()
        self.settle()
        self.assertEqual(producer.asked, ["pause", "resume"])
        near.transport.unregisterProducer()

    def test_pullProducerIsAskedUntilItIsDone(self) -> None:
        near, far = self.open()
        pieces = [bytes([n]) * 50000 for n in range(30)]
        pull = Pull(near.transport, list(pieces))
        near.transport.registerProducer(pull, False)
        self.settle()
        self.assertEqual(far.got, b"".join(pieces))
        self.assertEqual(len(pull.asked), 31)

    def test_closeWaitsForTheProducer(self) -> None:
        near, far = self.open(Collect, Collect)
        near.transport.registerProducer(Producer(), True)
        near.transport.loseConnection()
        near.transport.write(b"still produced")
        self.settle()
        self.assertIsNone(near.reason)
        near.transport.unregisterProducer()
        self.settle()
        self.assertEqual(far.got, b"still produced")
        self.assertTrue(near.reason.check(ConnectionDone))

    def test_producerIsStoppedWhenTheStreamIsLost(self) -> None:
        near, far = self.open()
        producer = Producer()
        near.transport.registerProducer(producer, True)
        far.transport.abortConnection()
        self.settle()
        self.assertEqual(producer.asked[-1], "stop")

    def test_secondProducerIsRefused(self) -> None:
        near, _ = self.open()
        near.transport.registerProducer(Producer(), True)
        self.assertRaises(RuntimeError, near.transport.registerProducer, Producer(), True)

    def test_aPeerThatEndsIsNotHeldByAProducer(self) -> None:
        """
        Many protocols are their transport's producer for as long as they live.
        """
        if not self.halfClose:
            return
        near, far = self.open(HalfCollect, Collect)
        producer = Producer()
        far.transport.registerProducer(producer, True)
        far.transport.write(b"last words")
        near.transport.loseWriteConnection()
        self.settle()
        self.assertEqual(producer.asked, ["stop"])
        self.assertEqual(near.got, b"last words")
        self.assertTrue(far.reason.check(ConnectionDone))

    def test_producerOfALostStreamIsStopped(self) -> None:
        near, _ = self.open()
        near.transport.abortConnection()
        producer = Producer()
        near.transport.registerProducer(producer, True)
        self.assertEqual(producer.asked, ["stop"])

    # Other people's faults

    def test_anErrorInAHandlerTouchesNothingElse(self) -> None:
        class Broken(Collect):
            def dataReceived(self, data: bytes) -> None:
                raise ZeroDivisionError

        near, far = self.open(Collect, Broken)
        neighbour, other = self.open()
        near.transport.write(b"boom")
        neighbour.transport.write(b"fine")
        self.settle()
        self.assertTrue(far.reason.check(ZeroDivisionError))
        self.assertEqual(other.got, b"fine")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)  # type: ignore[attr-defined]

    def test_handOverChangesTheProtocol(self) -> None:
        near, far = self.open()
        near.transport.write(b"first")
        self.settle()
        successor = HalfCollect()
        far.transport.handOver(successor, b"left over, ")
        near.transport.write(b"then this")
        self.endWriting(near)
        self.settle()
        self.assertEqual(far.got, b"first")
        self.assertEqual((successor.got, successor.told[: len(self.ended)]), (b"left over, then this", self.ended))

    def test_leftoverWaitsForAPausedSuccessor(self) -> None:
        class Paused(HalfCollect):
            def connectionMade(self) -> None:
                self.transport.pauseProducing()  # type: ignore[union-attr]

        near, far = self.open()
        successor = Paused()
        far.transport.handOver(successor, b"left over, ")
        near.transport.write(b"then this")
        self.settle()
        self.assertEqual(successor.got, b"")
        far.transport.resumeProducing()
        self.settle()
        self.assertEqual(successor.got, b"left over, then this")

    def test_leftoversOfTwoInARowWaitInOrder(self) -> None:
        near, far = self.open()
        near.transport.write(b"first ")
        near.transport.write(b"second ")
        self.settle()
        far.transport.pauseProducing()
        last = HalfCollect()
        far.transport.handOver(HalfCollect(), b"second ")
        far.transport.handOver(last, b"first ")
        near.transport.write(b"third")
        self.settle()
        far.transport.resumeProducing()
        self.settle()
        self.assertEqual(last.got, b"first second third")
        self.assertEqual(far.told, ["made"])
        near.transport.write(b", and on")
        self.settle()
        self.assertEqual(last.got, b"first second third, and on")
