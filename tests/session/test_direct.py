"""
Sessions whose streams are TLS connections of their own: the promises of streams, and what is peculiar to them.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NoProtocol,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.promises.streams import WINDOW, Collect, HalfCollect, StreamPromises
from tests.transport.certificates import Authority, authority, edge
from tunnelstack.session._closing import ABSORB_OCTETS
from tunnelstack.session.arrival_listener import UNCLAIMED
from tunnelstack.session.budget import LOOK_SECONDS, STALE_SECONDS, MemoryBudget
from tunnelstack.session.direct import DEFAULT_LIMITS, ConnectFailed, DirectSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import (
    OpenTimeout,
    SessionClosed,
    SessionLost,
    StreamResetError,
    TooManyStreams,
    UnsupportedPurpose,
)
from tunnelstack.testing import Wire
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.tls import ALPNFactory, clientContext, serverContext
from tunnelstack.transport.verification import CertificateRejected

LIMITS = evolve(DEFAULT_LIMITS, closeTimeout=5.0)


@implementer(IStreamClientEndpoint)
class OwnWires:
    """
    Connects over a wire of its own each time.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    def connect(self, factory: Any) -> Deferred[Any]:
        place = self.place
        wire = Wire(clock=place.clock, cut=place.cut)
        place.wires.append(wire)
        near, far = factory.buildProtocol(wire.near.getPeer()), place.accepting.buildProtocol(wire.far.getPeer())
        if far is None:
            return fail(ConnectionRefusedError())
        wire.connect(near, far)
        return succeed(near)


class Place:
    """
    Two sessions, and the wires of their streams.

    @ivar near: dials.
    @ivar far: accepts.
    """

    def __init__(
        self, cut: int | None = None, limits: Any = LIMITS, tls: bool = True, halfClose: bool = True, ca: Any = None
    ) -> None:
        self.clock = Clock()
        self.cut = cut
        self.wires: list[Wire] = []
        address = StreamAddress(key="agent")
        self.far = DirectSession(self.clock, address=address, limits=limits)
        endpoint: Any = OwnWires(self)
        self.accepting: Any = self.far.acceptor
        if tls:
            self.accepting = ALPNFactory({None: self.far.acceptor}, self.clock).wrap(serverContext(edge()), halfClose)
            context = clientContext("edge.example", ca=[(ca or authority()).certificate])
            endpoint = SecureEndpoint(self.clock, "edge.example", endpoint, context, halfClose=halfClose)
        self.near = DirectSession(self.clock, endpoint, address=address, limits=limits)

    def settle(self) -> None:
        for _ in range(10_000):
            moved = [wire.turn() for wire in self.wires]
            if not any(moved):
                return
        raise AssertionError("they do not come to rest")

    def pass_(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.settle()


class TLSTests(StreamPromises, SynchronousTestCase):
    """
    Streams that are TLS connections.
    """

    cut: int | None = None
    shared = announcesEnd = False

    def connectSessions(self) -> None:
        self.place = Place(self.cut)
        self.near, self.far = self.place.near, self.place.far

    def settle(self) -> None:
        self.place.settle()

    def dropCarrier(self) -> None:
        self.place.wires[-1].drop()

    def tearDown(self) -> None:
        """
        Nothing is left of streams that are over.
        """
        self.near.abort()
        self.far.abort()
        self.place.settle()
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))
        self.assertEqual(self.place.clock.getDelayedCalls(), [])


class TLSInPiecesTests(TLSTests):
    """
    The same, cut anywhere.
    """

    cut = 4093


class Joined(SynchronousTestCase):
    """
    What the tests below share.
    """

    def setUp(self) -> None:
        self.join()

    def join(self, **options: Any) -> None:
        self.place = Place(**options)
        self.near, self.far = self.place.near, self.place.far
        self.accepted: list[Any] = []

    def accept(self, kind: type[Collect] = Collect) -> None:
        test = self

        class Accepting(Factory):
            def buildProtocol(self, address: Any) -> Any:
                test.accepted.append(kind())
                return test.accepted[-1]

        self.successResultOf(self.far.listener.listen(Accepting()))

    def connect(self, kind: type[Collect] = Collect) -> Deferred[Any]:
        return self.near.connector.connect(Factory.forProtocol(kind))

    def open(self, kind: type[Collect] = Collect) -> Any:
        opening = self.connect(kind)
        self.place.settle()
        return self.successResultOf(opening)


class DialTests(Joined):
    """
    The side that dials.
    """

    def test_eachStreamIsAConnection(self) -> None:
        self.accept()
        first, second = self.open(), self.open()
        self.assertEqual(len(self.place.wires), 2)
        self.assertEqual([first.transport.streamId, second.transport.streamId], [1, 2])
        self.assertEqual((self.near.streams, self.far.streams), (2, 2))
        self.assertEqual(self.near.transports(), [first.transport, second.transport])
        self.assertEqual(self.accepted[0].transport.address.peer, self.place.wires[0].near.getHost())
        self.assertEqual(first.transport.address.key, "agent")

    def test_connectionsAreKeptAlive(self) -> None:
        self.accept()
        self.open()
        (wire,) = self.place.wires
        for end in (wire.near, wire.far):
            self.assertTrue(end.getTcpNoDelay() and end.getTcpKeepAlive())

    def test_theSessionIsUpAtOnce(self) -> None:
        self.assertIs(self.successResultOf(self.near.whenUp()), self.near)
        self.assertIsNone(self.near.lostReason())
        self.assertNoResult(self.near.whenLost())

    def test_aPeerThatGoesAwayClosesNewConnections(self) -> None:
        self.accept()
        before = self.open()
        self.far.goAway()
        self.assertIsNotNone(self.open().reason)
        self.assertIsNone(before.reason)

    def test_aRefusedConnectionFailsItsOwnCall(self) -> None:
        self.accept()
        self.place.accepting.buildProtocol = lambda address: None
        opening = self.connect()
        self.place.settle()
        self.failureResultOf(opening, ConnectFailed)
        del self.place.accepting.buildProtocol
        self.open()

    def test_theCauseOfAFailureIsKept(self) -> None:
        self.join(ca=Authority())
        opening = self.connect()
        self.place.settle()
        failed = self.failureResultOf(opening, ConnectFailed).value
        self.assertIsInstance(failed.__cause__, CertificateRejected)
        self.assertIn("authority", str(failed))
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))

    def test_aConnectionMustBeMadeInTime(self) -> None:
        self.place.accepting = Factory.forProtocol(Collect)           # which never answers
        opening = self.connect()
        self.place.settle()
        self.place.pass_(9)
        self.assertNoResult(opening)
        self.place.pass_(1)
        self.failureResultOf(opening, OpenTimeout)
        self.assertEqual(self.near.streams, 0)

    def test_aCancelledCallLeavesNothing(self) -> None:
        self.accept()
        opening = self.connect()
        opening.cancel()
        self.place.settle()
        self.failureResultOf(opening, CancelledError)
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))
        self.assertEqual(self.place.clock.getDelayedCalls(), [])

    def test_anApplicationThatDeclinesCostsItsStream(self) -> None:
        self.accept()

        class Declining(Factory):
            def buildProtocol(self, address: Any) -> None:
                return None

        opening = self.near.connector.connect(Declining())
        self.place.settle()
        self.failureResultOf(opening, NoProtocol)
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))

    def test_moreThanTheLimitWait(self) -> None:
        self.join(limits=evolve(LIMITS, streams=2, waiting=2))
        self.accept()
        first, _second = self.open(), self.open()
        third, fourth = self.connect(), self.connect()
        self.failureResultOf(self.connect(), TooManyStreams)
        self.assertNoResult(third)
        first.transport.loseConnection()
        self.place.settle()
        self.successResultOf(third)
        fourth.cancel()
        self.failureResultOf(fourth, CancelledError)
        late = self.connect()
        self.place.pass_(30)
        self.failureResultOf(late, OpenTimeout)
        self.assertEqual((self.near.streams, len(self.place.wires)), (2, 3))

    def test_aFailedDialGivesItsPlaceBack(self) -> None:
        self.join(limits=evolve(LIMITS, streams=1), ca=Authority())
        for _ in range(3):
            opening = self.connect()
            self.place.settle()
            self.failureResultOf(opening, ConnectFailed)

    def test_withoutAnEndpointOnlyPeersOpenStreams(self) -> None:
        self.failureResultOf(self.far.connector.connect(Factory.forProtocol(Collect)), UnsupportedPurpose)

    def test_pingUsesTheProbe(self) -> None:
        self.failureResultOf(self.near.ping(), UnsupportedPurpose)
        session = DirectSession(Clock(), probe=lambda: succeed(0.25))
        self.assertEqual(self.successResultOf(session.ping()), 0.25)


class AcceptTests(Joined):
    """
    The side that accepts.
    """

    def test_streamsWaitForAFactory(self) -> None:
        near = self.open()
        near.transport.write(b"early")
        self.place.settle()
        self.accept()
        self.place.settle()
        self.assertEqual(self.accepted[0].got, b"early")

    def test_onlySoManyWait(self) -> None:
        for _ in range(UNCLAIMED):
            self.open()
        late = self.connect()
        self.place.settle()
        self.assertEqual(self.far.streams, UNCLAIMED)
        self.assertIsNotNone(self.successResultOf(late).reason)

    def test_moreThanTheLimitAreClosed(self) -> None:
        self.join(limits=evolve(LIMITS, streams=2))
        self.near.limits = DEFAULT_LIMITS
        self.near._slots._limits = DEFAULT_LIMITS
        self.accept()
        self.open(), self.open()
        late = self.open()
        self.assertIsNotNone(late.reason)
        self.assertEqual(self.far.streams, 2)

    def test_thereIsOneFactoryAtATime(self) -> None:
        self.accept()
        self.failureResultOf(self.far.listener.listen(Factory()), CannotListenError)

    def test_aFactoryThatFailsCostsItsStream(self) -> None:
        class Failing(Factory):
            def buildProtocol(self, address: Any) -> Any:
                raise ZeroDivisionError

        self.successResultOf(self.far.listener.listen(Failing()))
        near = self.open()
        self.assertTrue(near.reason.check(ConnectionLost))
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))


class EndTests(Joined):
    """
    How streams and the session end.
    """

    def setUp(self) -> None:
        super().setUp()
        self.accept(HalfCollect)

    def test_drainWaitsForTheLastStream(self) -> None:
        near = self.open()
        drained = self.near.drain()
        self.failureResultOf(self.connect(), SessionClosed)
        near.transport.write(b"still here")
        self.place.settle()
        self.assertEqual(self.accepted[0].got, b"still here")
        self.assertNoResult(drained)
        self.accepted[0].transport.loseConnection()
        self.place.settle()
        self.successResultOf(drained)
        self.assertIsInstance(self.successResultOf(self.near.whenLost()), SessionClosed)
        self.assertEqual(self.near.streams, 0)

    def test_drainMayBeCalledTwiceAndWithoutStreams(self) -> None:
        self.successResultOf(self.near.drain())
        self.successResultOf(self.near.drain())

    def test_abortEndsEveryStream(self) -> None:
        near = self.open()
        waiting = self.connect()
        self.near.abort()
        self.failureResultOf(waiting, SessionLost)
        self.place.settle()
        self.assertIsInstance(self.successResultOf(self.near.whenLost()), SessionLost)
        for end in (near, self.accepted[0]):
            self.assertTrue(end.reason.check(ConnectionLost) or end.reason, end.reason)
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))
        self.assertEqual(self.place.clock.getDelayedCalls(), [])

    def test_closeLeavesTheStreams(self) -> None:
        near = self.open()
        self.near.close("the agent was removed")
        self.assertEqual(str(self.failureResultOf(self.connect(), SessionClosed).value), "the agent was removed")
        near.transport.write(b"still here")
        self.place.settle()
        self.assertEqual(self.accepted[0].got, b"still here")

    def test_aPeerThatNeverEndsIsReset(self) -> None:
        near = self.open()
        near.transport.loseConnection()
        self.place.settle()
        self.assertTrue(near.reason.check(ConnectionDone))
        self.assertEqual(self.near.streams, 1)
        self.place.pass_(4)
        self.assertEqual(self.accepted[0].told, ["made", "read ended"])
        self.place.pass_(1)
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))
        self.assertTrue(self.accepted[0].reason.check(ConnectionLost))

    def test_aPeerThatDoesNotNoticeAnEndIsTakenToHaveEnded(self) -> None:
        self.join(limits=evolve(LIMITS, endingTimeout=3.0))
        self.accept(HalfCollect)
        near = self.open(HalfCollect)
        near.transport.loseWriteConnection()
        self.place.pass_(2)
        self.accepted[0].transport.write(b"late")
        self.place.pass_(4)
        self.assertEqual((near.got, "read ended" in near.told), (b"late", False))
        self.place.pass_(3)
        self.assertIn("read ended", near.told)
        self.place.pass_(6)
        self.assertEqual(self.near.streams, 0)
        self.assertEqual(self.place.clock.getDelayedCalls(), [])

    def test_aStreamThatIsNotReadIsNotTakenToHaveEnded(self) -> None:
        self.join(limits=evolve(LIMITS, endingTimeout=3.0))
        self.accept(HalfCollect)
        near = self.open(HalfCollect)
        near.transport.pauseProducing()
        near.transport.loseWriteConnection()
        self.place.pass_(10)
        self.assertNotIn("read ended", near.told)
        near.transport.resumeProducing()
        self.accepted[0].transport.loseConnection()
        self.place.pass_(1)
        self.assertIn("read ended", near.told)
        self.place.pass_(6)
        self.assertEqual(self.place.clock.getDelayedCalls(), [])

    def test_aPeerThatReadsNothingIsReset(self) -> None:
        near = self.open()
        self.accepted[0].transport.pauseProducing()
        near.transport.write(bytes(4 * WINDOW))
        near.transport.loseConnection()
        self.place.settle()
        self.assertIsNone(near.reason)
        self.place.pass_(10)
        self.assertTrue(near.reason.check(StreamResetError), near.reason)
        self.assertEqual(self.near.streams, 0)

    def test_aPeerThatReadsSlowlyIsNotReset(self) -> None:
        near = self.open()
        far = self.accepted[0]
        near.transport.write(bytes(4 * WINDOW))
        near.transport.loseConnection()
        for _ in range(40):
            far.transport.pauseProducing()
            self.place.pass_(1)
            far.transport.resumeProducing()
            self.place.wires[0].turn()
        far.transport.resumeProducing()
        self.place.settle()
        self.assertEqual(len(far.got), 4 * WINDOW)

    def test_onlySoMuchIsAbsorbed(self) -> None:
        near = self.open()
        near.transport.loseConnection()
        self.accepted[0].transport.write(bytes(ABSORB_OCTETS + WINDOW))
        self.place.settle()
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))
        self.assertTrue(self.accepted[0].reason.check(ConnectionLost))

    def test_whatWasReceivedBeforeTheConnectionWentIsRead(self) -> None:
        near = self.open()
        far = self.accepted[0]
        near.transport.write(b"x" * 100)
        far.transport.pauseProducing()
        direct = self.far.memory.all()[0]
        direct.dataReceived(b"unread")
        direct.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(far.got, b"")
        far.transport.resumeProducing()
        self.place.clock.advance(0)
        self.place.clock.advance(0)
        self.assertEqual(far.got, b"unread")
        self.place.clock.advance(0)
        self.assertTrue(far.reason.check(ConnectionDone))

    def test_aStreamThatNobodyReadsGoesAfterItsConnection(self) -> None:
        self.open()
        far = self.accepted[0]
        far.transport.pauseProducing()
        direct = self.far.memory.all()[0]
        direct.dataReceived(b"unread")
        direct.connectionLost(Failure(ConnectionDone()))
        self.place.clock.advance(5)
        self.place.clock.advance(5)
        self.place.clock.advance(0)
        self.assertTrue(far.reason.check(StreamResetError))
        self.assertEqual(self.far.streams, 0)

    def test_nothingIsDeliveredWhileTheQueueIsSent(self) -> None:
        near = self.open()
        far = self.accepted[0]
        far.transport.pauseProducing()
        near.transport.write(bytes(4 * WINDOW))
        near.transport.loseConnection()
        far.transport.write(b"unwanted")
        self.place.settle()
        self.assertTrue(near.transport.connected)
        self.assertEqual(near.got, b"")

    def test_octetsAreCounted(self) -> None:
        near = self.open()
        near.transport.write(b"12345")
        self.place.settle()
        self.accepted[0].transport.write(b"123")
        self.place.settle()
        self.assertEqual((self.near.octetsOut, self.near.octetsIn), (5, 3))
        self.assertEqual((self.far.octetsOut, self.far.octetsIn), (3, 5))
        near.transport.loseConnection()
        self.accepted[0].transport.loseConnection()
        self.place.settle()
        self.assertEqual((self.near.octetsOut, self.near.octetsIn, self.near.streams), (5, 3, 0))

    def test_theBudgetResetsWhatNobodyReads(self) -> None:
        budget = MemoryBudget(self.place.clock, 1024)
        budget.join(self.far)
        budget.startService()
        self.addCleanup(budget.stopService)
        near = self.open()

        class Stuck(Collect):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.transport.pauseProducing()  # type: ignore[union-attr]

        self.accepted[0].transport.handOver(Stuck())
        near.transport.write(bytes(WINDOW))
        self.place.settle()
        self.assertGreater(self.far.held, 8 * 1024)
        self.place.pass_(STALE_SECONDS + 3 * LOOK_SECONDS)
        self.assertEqual(self.far.held, 0)
        self.assertTrue(near.reason.check(ConnectionLost))


class WithoutTLSTests(Joined):
    """
    Connections of other kinds.
    """

    def test_tcpHasHalfClose(self) -> None:
        self.join(tls=False)
        self.accept(HalfCollect)
        near = self.open(HalfCollect)
        near.transport.write(b"question")
        near.transport.loseWriteConnection()
        self.place.settle()
        self.assertEqual(self.accepted[0].told, ["made", "read ended"])
        self.accepted[0].transport.write(b"answer")
        self.accepted[0].transport.loseConnection()
        self.place.settle()
        self.assertEqual(near.got, b"answer")
        self.assertTrue(near.reason.check(ConnectionDone))
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))

    def test_withoutHalfCloseBothDirectionsEnd(self) -> None:
        self.join(halfClose=False)
        self.accept(Collect)
        near = self.open(Collect)
        self.assertTrue(near.transport.endsBothDirections)
        near.transport.write(b"question")
        near.transport.loseConnection()
        self.place.settle()
        self.assertEqual(self.accepted[0].got, b"question")
        self.assertTrue(self.accepted[0].reason.check(ConnectionDone))
        self.assertEqual((self.near.streams, self.far.streams), (0, 0))
