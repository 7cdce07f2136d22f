"""
Yamux sessions over a wire: the promises of streams at any chunking, and what is the session's own.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionLost, NoProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.promises.streams import WINDOW, Collect, HalfCollect, Producer, StreamPromises
from tunnelstack.interfaces import IStreamOwner
from tunnelstack.negotiation.multistream import multistreamEndpoint
from tunnelstack.session._connector import WAITING_CONNECTS
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.errors import (
    OpenTimeout,
    SessionClosed,
    SessionLost,
    StreamResetError,
    TooManyStreams,
)
from tunnelstack.testing import Wire, sessionPair
from tunnelstack.transport.direct_write import immediateWrite
from tunnelstack.transport.event_turns import TURN
from tunnelstack.transport.stream_scheduler import EARLY_FLUSH_STREAMS
from tunnelstack.wire.negotiation.base import Release
from tunnelstack.wire.send_rate import LARGEST_BATCH
from tunnelstack.wire.yamux.limits import SessionLimits

COLLECT = Factory.forProtocol(HalfCollect)


class WholeTests(StreamPromises, SynchronousTestCase):
    """
    Streams over a wire that delivers everything there is.
    """

    cut: int | None = None

    def connectSessions(self) -> None:
        self.wire, self.near, self.far = sessionPair(cut=self.cut)

    def settle(self) -> None:
        self.wire.settle()

    def dropCarrier(self) -> None:
        self.wire.drop()


class CutTests(WholeTests):
    """
    The same, cut anywhere.
    """

    cut = 4093


class TwoSessions(SynchronousTestCase):
    """
    What the tests of sessions share.
    """

    limits: SessionLimits | None = None

    def setUp(self) -> None:
        self.wire, self.near, self.far = sessionPair(limits=self.limits)

    def accept(self, protocol: Any = HalfCollect) -> list[Any]:
        accepted: list[Any] = []

        class Accepting(Factory):
            def buildProtocol(self, address: Any) -> Any:
                accepted.append(protocol())
                return accepted[-1]

        self.successResultOf(self.far.listener.listen(Accepting()))
        return accepted

    def open(self, protocol: Any = HalfCollect) -> Any:
        return self.successResultOf(self.near.connector.connect(Factory.forProtocol(protocol)))

    def octetsWritten(self) -> int:
        return self.wire.near.undelivered


class SessionTests(TwoSessions):
    """
    A session without trouble.
    """

    def test_theSchedulerOwnsTheStreams(self) -> None:
        verifyObject(IStreamOwner, self.near.scheduler)

    def test_connectFiresBeforeThePeerHasHeard(self) -> None:
        self.accept()
        self.assertTrue(self.open().connected)

    def recorded(self) -> list[bytes]:
        """
        Connect the sessions anew.

        @return: what the near one writes, from now on.
        """
        self.wire, writes = Wire(), []
        real = self.wire.near.write

        def record(octets: bytes) -> None:
            writes.append(octets)
            real(octets)

        self.patch(self.wire.near, "write", record)
        self.near, self.far = (YamuxSession(client, clock=self.wire.clock) for client in (True, False))
        self.wire.connect(self.near, self.far)
        self.wire.settle()
        writes.clear()
        return writes

    def test_everythingOfATurnLeavesInOneWrite(self) -> None:
        writes = self.recorded()
        for _ in range(3):
            self.open().transport.write(b"octets")
        self.wire.clock.advance(0)
        self.assertEqual([len(write) for write in writes], [3 * (12 + 12 + 6)])

    def test_whoHasWrittenAllHeHadDoesNotWaitForManyOthers(self) -> None:
        writes = self.recorded()
        accepted = self.accept()
        streams = [self.open() for _ in range(3 * EARLY_FLUSH_STREAMS + 1)]
        self.wire.settle()
        writes.clear()
        for number, stream in enumerate(streams):
            immediateWrite(stream.transport)(b"octets")
            self.assertEqual(len(writes), (number + 1) // EARLY_FLUSH_STREAMS)
        self.assertEqual({len(write) for write in writes}, {EARLY_FLUSH_STREAMS * (12 + 6)})
        self.wire.settle()
        self.assertEqual(len(writes), 4)
        self.assertEqual([end.got for end in accepted], [b"octets"] * len(streams))

    def test_nobodyIsToldAnythingMeanwhile(self) -> None:
        writes = self.recorded()
        self.accept()
        ending, *others = [self.open() for _ in range(EARLY_FLUSH_STREAMS)]
        self.wire.settle()
        writes.clear()
        ending.transport.loseWriteConnection()
        for stream in others:
            immediateWrite(stream.transport)(b"octets")
        self.assertEqual(
            ([len(write) for write in writes], ending.told),
            ([(EARLY_FLUSH_STREAMS - 1) * (12 + 6) + 12], ["made"]),
        )
        self.wire.settle()
        self.assertEqual(ending.told, ["made", "write ended"])

    def test_aBatchIsAtMost64KiBInWholeFrames(self) -> None:
        writes = self.recorded()
        self.accept()
        for _ in range(3):
            self.open().transport.write(bytes(200_000))
        self.wire.settle()
        self.assertLessEqual(max(map(len, writes)), LARGEST_BATCH)
        self.assertTrue(all(write[0] == 0 and write[1] in (0, 1) for write in writes), "a write begins with a frame")

    def test_streamsShareByTurns(self) -> None:
        accepted = self.accept()
        streams = [self.open() for _ in range(3)]
        for stream in streams:
            stream.transport.write(bytes(64 * 1024))
        self.wire.clock.advance(0)
        self.wire.deliver(self.wire.far, 64 * 1024)
        got = [len(end.got) for end in accepted]
        self.assertLessEqual(max(got) - min(got), 17 * 1024, got)

    def test_aLargeStreamDoesNotHoldASmallOne(self) -> None:
        accepted = self.accept()
        bulk, small = self.open(), self.open()
        bulk.transport.write(bytes(WINDOW))
        self.wire.clock.advance(0)
        small.transport.write(b"quick")
        self.wire.clock.advance(0)
        self.wire.turn()
        self.wire.deliver(self.wire.far, 64 * 1024)
        self.assertEqual(accepted[1].got, b"quick")

    def test_streamsWaitForAListener(self) -> None:
        stream = self.open()
        stream.transport.write(b"early")
        self.wire.settle()
        self.assertEqual(self.near.openSlots, 255)
        accepted = self.accept()
        self.wire.settle()
        self.assertEqual(accepted[0].got, b"early")
        self.assertEqual(self.near.openSlots, 256)

    def test_aProtocolMayPauseAsSoonAsItIsConnected(self) -> None:
        class Pausing(HalfCollect):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.transport.pauseProducing()

        early = self.open()
        early.transport.write(b"early")
        self.wire.settle()
        accepted = self.accept(Pausing)
        late = self.open()
        late.transport.write(b"late")
        self.wire.settle()
        self.assertEqual([end.got for end in accepted], [b"", b""])
        for end in accepted:
            end.transport.resumeProducing()
        self.wire.settle()
        self.assertEqual([end.got for end in accepted], [b"early", b"late"])

    def test_onlyOneFactoryListens(self) -> None:
        self.accept()
        self.failureResultOf(self.far.listener.listen(COLLECT), CannotListenError)

    def test_afterStopListeningStreamsWait(self) -> None:
        port = self.successResultOf(self.far.listener.listen(COLLECT))
        self.successResultOf(port.stopListening())
        self.open()
        self.wire.settle()
        accepted = self.accept()
        self.assertEqual(len(accepted), 1)

    def test_aFactoryThatSaysNoneRefusesTheStream(self) -> None:
        factory = Factory()
        factory.buildProtocol = lambda address: None  # type: ignore[method-assign]
        self.far.listener.listen(factory)
        stream = self.open()
        self.wire.settle()
        self.assertTrue(stream.reason.check(StreamResetError))
        self.failureResultOf(self.near.connector.connect(factory), NoProtocol)
        self.wire.settle()
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))

    def test_aFactoryThatFailsRefusesTheStreamAlone(self) -> None:
        class Failing(Factory):
            def buildProtocol(self, address: Any) -> Any:
                raise ZeroDivisionError

        self.far.listener.listen(Failing())
        stream = self.open()
        self.wire.settle()
        self.assertTrue(stream.reason.check(StreamResetError))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.near.connected)

    def test_aPingGivesTheRoundTrip(self) -> None:
        answer = self.near.ping()
        self.wire.clock.advance(0)
        self.wire.clock.pump([0.25])
        self.wire.settle()
        self.assertEqual(self.successResultOf(answer), 0.25)

    def test_octetsAreCounted(self) -> None:
        self.accept()
        self.open().transport.write(b"12345")
        self.wire.settle()
        self.assertEqual((self.near.octetsOut, self.far.octetsIn), (5, 5))


class SlotTests(TwoSessions):
    """
    Opening more than the peer takes.
    """

    limits = SessionLimits(unacknowledged=2, keepalive=0)

    def test_connectWaitsForASlot(self) -> None:
        for _ in range(2):
            self.open()
        waiting = self.near.connector.connect(COLLECT)
        self.assertNoResult(waiting)
        self.accept()
        self.wire.settle()
        self.assertTrue(self.successResultOf(waiting).connected)

    def test_aSlotOfAnAbortedStreamIsUsed(self) -> None:
        first, _ = self.open(), self.open()
        waiting = self.near.connector.connect(COLLECT)
        first.transport.abortConnection()
        self.wire.settle()
        self.assertTrue(self.successResultOf(waiting).connected)

    def test_theWaitEnds(self) -> None:
        for _ in range(2):
            self.open()
        waiting = self.near.connector.connect(COLLECT)
        self.wire.clock.advance(31)
        self.failureResultOf(waiting, OpenTimeout)

    def test_cancelledConnectTakesNoSlot(self) -> None:
        for _ in range(2):
            self.open()
        cancelled, waiting = self.near.connector.connect(COLLECT), self.near.connector.connect(COLLECT)
        cancelled.cancel()
        self.failureResultOf(cancelled)
        accepted = self.accept()
        self.wire.settle()
        self.successResultOf(waiting)
        self.assertEqual(len(accepted), 3)

    def test_anApplicationMayCancelWhatConnectedIt(self) -> None:
        """
        It is connected as soon as there is a slot, before its caller is told: the slot goes to who waits next.
        """
        near = multistreamEndpoint(self.near.connector, b"/any", release=Release.AT_ONCE)
        held = [self.open() for _ in range(2)]

        class Cancelling(HalfCollect):
            def connectionMade(self) -> None:
                waiting.cancel()

        waiting = near.connect(Factory.forProtocol(Cancelling))
        another = near.connect(COLLECT)
        held[0].transport.abortConnection()
        self.wire.settle()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(self.successResultOf(another).connected)
        self.assertEqual(self.near.streams, 2)

    def test_theWaitIsBounded(self) -> None:
        for _ in range(2):
            self.open()
        waiting = [self.near.connector.connect(COLLECT) for _ in range(WAITING_CONNECTS)]
        self.failureResultOf(self.near.connector.connect(COLLECT), TooManyStreams)
        self.wire.drop()
        for connected in waiting:
            self.failureResultOf(connected, SessionLost)


class EndTests(TwoSessions):
    """
    How sessions end.
    """

    def test_goAwayStopsOpening(self) -> None:
        accepted = self.accept()
        stream = self.open()
        self.wire.settle()
        self.far.goAway()
        self.wire.settle()
        self.failureResultOf(self.near.connector.connect(COLLECT), SessionClosed)
        stream.transport.write(b"goes on")
        self.wire.settle()
        self.assertEqual(accepted[0].got, b"goes on")

    def test_drainWaitsForTheLastStream(self) -> None:
        self.accept(Collect)
        stream = self.open(Collect)
        self.wire.settle()
        drained, lost = self.far.drain(), self.near.whenLost()
        self.wire.settle()
        self.assertNoResult(drained)
        stream.transport.write(b"last")
        stream.transport.loseConnection()
        self.wire.settle()
        self.successResultOf(drained)
        self.assertIsInstance(self.successResultOf(lost), SessionClosed)

    def test_drainOfAnIdleSessionEndsIt(self) -> None:
        drained = self.near.drain()
        self.wire.settle()
        self.successResultOf(drained)
        self.assertIsInstance(self.successResultOf(self.far.whenLost()), SessionClosed)

    def test_aLostSessionKeepsNothingOfThoseWhoAsk(self) -> None:
        self.wire.drop()
        factory = Factory.forProtocol(Collect)
        asked = weakref.ref(factory)
        self.failureResultOf(self.near.connector.connect(factory), SessionLost)
        del factory
        gc.collect()
        self.assertIsNone(asked())

    def test_whenLostTellsLateAskers(self) -> None:
        self.wire.drop()
        self.assertIsInstance(self.successResultOf(self.near.whenLost()), SessionLost)
        self.failureResultOf(self.near.connector.connect(COLLECT), ConnectionLost)
        self.failureResultOf(self.near.ping(), SessionLost)

    def test_abortIsSeenByThePeer(self) -> None:
        self.near.abort()
        self.wire.settle()
        self.assertIsInstance(self.successResultOf(self.far.whenLost()), SessionLost)

    def test_garbageEndsTheSessionAfterWhatCameBefore(self) -> None:
        accepted = self.accept()
        stream = self.open()
        stream.transport.write(b"sound")
        self.wire.clock.advance(0)
        self.wire.near.write(b"GET / HTTP/1.1\r\n\r\n")
        self.wire.settle()
        self.assertEqual(accepted[0].got, b"sound")
        for session in (self.near, self.far):
            self.assertIsInstance(self.successResultOf(session.whenLost()), SessionLost)
        self.assertTrue(accepted[0].reason.check(SessionLost))

    def test_aPeerThatAnswersNoPingIsLost(self) -> None:
        self.wire.far.readPaused = True
        for _ in range(45):
            self.wire.clock.advance(1)
            self.wire.turn()
        self.assertIsInstance(self.successResultOf(self.near.whenLost()), SessionLost)

    def test_pingsKeepAnIdleSession(self) -> None:
        for _ in range(200):
            self.wire.clock.advance(1)
            self.wire.settle()
        self.assertNoResult(self.near.whenLost())

    def test_noTimerIsLeft(self) -> None:
        self.accept(Collect)
        self.open(Collect).transport.loseConnection()
        self.wire.settle()
        self.wire.drop()
        self.wire.settle()
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])


class PressureTests(TwoSessions):
    """
    A carrier that takes no more, and applications that do not read.
    """

    def test_producersPauseWhileTheCarrierIsFull(self) -> None:
        self.accept()
        bulk, other = self.open(), self.open()
        self.wire.settle()
        self.wire.far.readPaused = True
        bulk.transport.write(bytes(WINDOW))
        self.wire.settle()
        self.assertTrue(self.near.scheduler.full)
        producer = Producer()
        other.transport.registerProducer(producer, True)
        self.assertEqual(producer.asked, ["pause"])
        self.wire.far.readPaused = False
        self.wire.settle()
        self.assertEqual(producer.asked, ["pause", "resume"])

    def test_theCarrierHoldsAtMostTwoBatchesOfData(self) -> None:
        self.accept()
        streams = [self.open() for _ in range(4)]
        self.wire.settle()
        self.wire.far.readPaused = True
        for stream in streams:
            stream.transport.write(bytes(WINDOW))
        self.wire.settle()
        self.assertLessEqual(self.octetsWritten(), 128 * 1024)

    def test_controlGoesOnWhileTheCarrierIsFull(self) -> None:
        accepted = self.accept()
        bulk, other, third = self.open(), self.open(), self.open()
        self.wire.settle()
        self.wire.far.readPaused = True
        bulk.transport.write(bytes(WINDOW))
        self.wire.settle()
        before = self.octetsWritten()
        other.transport.loseWriteConnection()
        third.transport.abortConnection()
        self.near.ping()
        self.wire.settle()
        self.assertEqual(self.octetsWritten() - before, 36)
        self.wire.far.readPaused = False
        self.wire.settle()
        self.assertIn("read ended", accepted[1].told)

    def test_aPeerThatDoesNotReadWhileItAsksIsDropped(self) -> None:
        self.accept()
        bulk = self.open()
        self.wire.settle()
        self.wire.near.readPaused = False
        self.wire.far.readPaused = True
        bulk.transport.write(bytes(WINDOW))
        self.wire.settle()
        for _ in range(6000):
            self.near._core.ping()            # callers' pings are bounded
            self.near.scheduleFlush()
            self.wire.clock.advance(0)
        self.wire.settle()
        self.assertIsInstance(self.successResultOf(self.near.whenLost()), SessionLost)

    def test_aPeerThatGoesOnAfterTheCloseIsCutOff(self) -> None:
        accepted = self.accept()
        stream = self.open(Collect)
        stream.transport.loseConnection()
        self.wire.settle()
        accepted[0].transport.write(bytes(1500 * 1024))
        self.wire.settle()
        self.assertTrue(accepted[0].reason.check(StreamResetError))
        self.assertEqual(self.near.streams, 0)

    def test_aPeerThatNeverEndsIsCutOff(self) -> None:
        accepted = self.accept()
        stream = self.open(Collect)
        stream.transport.loseConnection()
        self.wire.settle()
        self.assertTrue(stream.reason.check(ConnectionDone))
        for _ in range(301):
            self.wire.clock.advance(1)
            self.wire.settle()
        self.assertTrue(accepted[0].reason.check(StreamResetError))
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))

    def test_aPeerMayEndLateAfterAHalfClose(self) -> None:
        """
        Our end was sent before the application closed: the peer has as long for its own as after any end.
        """
        accepted = self.accept()
        stream = self.open()
        stream.transport.loseWriteConnection()
        self.wire.settle()
        stream.transport.loseConnection()
        for _ in range(60):
            self.wire.clock.advance(1)
            self.wire.settle()
        self.assertEqual(self.near.streams, 1)
        accepted[0].transport.loseConnection()
        self.wire.settle()
        self.assertTrue(accepted[0].reason.check(ConnectionDone))
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))

    def test_aHalfCloseWaitsForNoProducer(self) -> None:
        """
        What it makes after that is not sent, so a close need not wait for it.
        """
        accepted = self.accept()
        stream, producer = self.open(), Producer()
        stream.transport.registerProducer(producer, True)
        stream.transport.loseWriteConnection()
        self.wire.settle()
        stream.transport.loseConnection()
        self.wire.settle()
        self.assertTrue(stream.reason.check(ConnectionDone))
        self.assertEqual(producer.asked, ["stop"])
        accepted[0].transport.loseConnection()
        self.wire.settle()
        self.assertDrained()

    def test_aStreamThatIsAbortedBehindItsEndIsOver(self) -> None:
        self.accept()
        streams = [self.open() for _ in range(5)]
        self.wire.settle()
        streams[0].transport.loseConnection()
        for stream in streams[1:]:            # its end leaves with theirs, before the turn is over
            immediateWrite(stream.transport)(b"hasty")
        for stream in streams:
            stream.transport.abortConnection()
        self.wire.settle()
        self.assertDrained()

    def test_nothingIsWaitedForOnceBothHaveEnded(self) -> None:
        accepted = self.accept()
        stream = self.open()
        self.wire.settle()
        stream.transport.pauseProducing()
        stream.transport.loseWriteConnection()
        accepted[0].transport.write(b"never read")
        accepted[0].transport.loseConnection()
        self.wire.settle()
        stream.transport.loseConnection()
        self.wire.settle()
        self.assertDrained()

    def test_aDrainThatWaitsForNobodyElseEndsWithACutOff(self) -> None:
        self.accept()
        self.open().transport.loseConnection()
        self.wire.settle()
        drained = self.near.drain()
        for _ in range(299):
            self.wire.clock.advance(1)
            self.wire.settle()
        self.assertNoResult(drained)
        for _ in range(2):
            self.wire.clock.advance(1)
            self.wire.settle()
        self.successResultOf(drained)

    def assertDrained(self) -> None:
        """
        Nothing is left of any stream that a drain would wait for.
        """
        drained = self.near.drain()
        self.wire.settle()
        self.successResultOf(drained)
        self.assertEqual((self.near.streams, self.near.held), (0, 0))

    def test_whatArrivesBetweenACloseAndOurEndIsAbsorbed(self) -> None:
        class Once(HalfCollect):
            def dataReceived(self, data: bytes) -> None:
                self.transport.loseConnection()

        accepted = self.accept()
        stream = self.open(Once)
        self.wire.settle()
        accepted[0].transport.writeRecord(b"this is read")
        accepted[0].transport.writeRecord(b"and this is not")
        self.wire.settle()
        self.assertEqual(self.near.held, 0)
        accepted[0].transport.loseConnection()
        self.wire.settle()
        self.assertTrue(stream.reason.check(ConnectionDone))
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))

    def test_aFlushThatGetsNoCreditIsGivenUp(self) -> None:
        accepted = self.accept()
        stream = self.open(Collect)
        self.wire.settle()
        accepted[0].transport.pauseProducing()
        stream.transport.write(bytes(2 * WINDOW))
        stream.transport.loseConnection()
        for _ in range(31):
            self.wire.settle()
            self.wire.clock.advance(1)
        self.wire.settle()
        self.assertTrue(stream.reason.check(StreamResetError))
        self.assertTrue(accepted[0].reason.check(StreamResetError))


class BudgetTests(TwoSessions):
    """
    A session may hold the first windows of its streams, and so much above them.
    """

    limits = SessionLimits(session_octets=600_000, window=1_000_000)

    def test_windowsThatGrewShareTheBudgetAndNobodyIsReset(self) -> None:
        accepted = self.accept()
        streams = [self.open() for _ in range(5)]
        self.wire.settle()
        for stream in streams:
            stream.transport.write(bytes(20 * WINDOW))
        self.wire.settle()
        for end in accepted:
            end.transport.pauseProducing()
        for stream in streams:
            stream.transport.write(bytes(20 * WINDOW))
        self.wire.settle()
        self.assertGreater(self.far.memory.growth, 390_000)
        self.assertLessEqual(self.far.held, 5 * WINDOW + 600_000)
        for end in accepted:
            end.transport.resumeProducing()
        self.wire.settle()
        self.assertEqual([len(end.got) for end in accepted], [40 * WINDOW] * 5)


class AloneTests(SynchronousTestCase):
    """
    A session that has no carrier yet.
    """

    def test_whenUpFiresOnceItIsConnected(self) -> None:
        wire = Wire()
        session = YamuxSession(True, clock=wire.clock)
        up = session.whenUp()
        self.assertNoResult(up)
        wire.connect(session, Protocol())
        self.assertIs(self.successResultOf(up), session)
        self.assertIs(self.successResultOf(session.whenUp()), session)


class TurnTests(TwoSessions):
    """
    Very many events in one delivery.
    """

    def test_theFirstAnswersLeaveBeforeTheLastQuestionsAreRead(self) -> None:
        class Answering(HalfCollect):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.transport.write(b"answer")  # type: ignore[union-attr]

        accepted = self.accept(Answering)
        streams = [self.open() for _ in range(100)]
        self.wire.settle()
        for stream in streams:
            stream.transport.write(b"question")
        self.wire.clock.advance(0)
        self.wire.deliver(self.wire.far)
        answered = sum(bool(end.got) for end in accepted)
        self.assertEqual(answered, TURN)
        self.wire.deliver(self.wire.near)
        self.assertEqual(sum(bool(stream.got) for stream in streams), TURN)
        self.wire.settle()
        self.assertTrue(all(stream.got == b"answer" for stream in streams))

    def test_whatIsYetToBeToldIsToldBeforeTheEnd(self) -> None:
        accepted = self.accept()
        streams = [self.open() for _ in range(100)]
        self.wire.settle()
        for stream in streams:
            stream.transport.write(b"question")
        self.wire.clock.advance(0)
        self.wire.deliver(self.wire.far)
        self.wire.drop()
        self.wire.settle()
        self.assertTrue(all(end.got == b"question" for end in accepted))

    def test_nothingIsReadBeforeAllWasTold(self) -> None:
        accepted = self.accept()
        streams = [self.open() for _ in range(100)]
        self.wire.settle()
        for word in (b"one ", b"two"):
            for stream in streams:
                stream.transport.write(word)
            self.near.flush()
            self.wire.deliver(self.wire.far)
        self.wire.settle()
        self.assertTrue(all(end.got == b"one two" for end in accepted))
