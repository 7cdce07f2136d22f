"""
Lanes: the promises of streams, and how idle streams are kept and used.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import NoProtocol
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.promises.streams import Collect, HalfCollect, StreamPromises
from tunnelstack.session.http2 import HTTP2Session
from tunnelstack.session.lane_pool import FIRST_DELAY, LANE_SECONDS, LOSSES
from tunnelstack.session.lanes import LaneKeepingSession, LaneSession
from tunnelstack.stream.errors import OpenTimeout, SessionClosed, SessionLost, StreamResetError
from tunnelstack.testing import Wire


def laneSessions(cut: int | None = None, idle: int = 4, most: int = 256) -> tuple[Wire, LaneSession, LaneKeepingSession]:
    """
    @return: a wire, the server, which uses lanes, and the client, which opens them.
    """
    wire = Wire(cut=cut)
    client = HTTP2Session(True, clock=wire.clock)
    server = HTTP2Session(False, clock=wire.clock)
    near = LaneSession(server, wire.clock)
    far = LaneKeepingSession(client, wire.clock, idle=idle, most=most)
    wire.connect(client, server)
    return wire, near, far


class WholeTests(StreamPromises, SynchronousTestCase):
    """
    The server opens streams on lanes of the client's.
    """

    cut: int | None = None

    def connectSessions(self) -> None:
        self.wire, self.near, self.far = laneSessions(self.cut)

    def settle(self) -> None:
        self.wire.settle()

    def dropCarrier(self) -> None:
        self.wire.drop()

    def setUp(self) -> None:
        super().setUp()
        self.settle()

    def open(self, near: type[Collect] = HalfCollect, far: type[Collect] = HalfCollect) -> tuple[Any, Any]:
        """
        A lane belongs to its user from the first octet.
        """
        self.kind = far
        user = self.successResultOf(self.near.connector.connect(Factory.forProtocol(near)))
        user.transport.write(b"x")
        self.settle()
        taken = self.accepted[-1]
        taken.pieces.clear()
        return user, taken


    def drainIdle(self, drains: Any) -> None:
        """
        Drain one side while all lanes are idle.
        """
        self.assertEqual(self.near.idle, 4)
        drained = drains.drain()
        self.settle()
        self.successResultOf(drained)
        self.failureResultOf(self.near.connector.connect(Factory.forProtocol(HalfCollect)), SessionLost)
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_idleLanesHoldUpNoDrainOfTheirUser(self) -> None:
        self.drainIdle(self.near)

    def test_idleLanesHoldUpNoDrainOfTheirKeeper(self) -> None:
        self.drainIdle(self.far)

    def test_aCallThatWaitsFailsWhenTheKeeperGoesAway(self) -> None:
        for _ in range(4):
            self.near.connector.connect(Factory.forProtocol(HalfCollect))
        waiting = self.near.connector.connect(Factory.forProtocol(HalfCollect))
        self.assertNoResult(waiting)
        self.far.goAway()
        self.settle()
        self.failureResultOf(waiting, SessionClosed)

    def test_aLaneIsClosedWhenItsUserIsDoneAfterTheEnd(self) -> None:
        near, far = self.open()
        self.far.goAway()
        self.settle()
        self.near.release(near.transport)
        far.transport.loseConnection()
        self.settle()
        self.assertEqual((self.near.idle, self.near.session.streams), (0, 0))


class CutTests(WholeTests):
    """
    The same, cut anywhere.
    """

    cut = 4093


class LaneTests(SynchronousTestCase):
    """
    How lanes are kept and used.
    """

    idle, most = 4, 256

    def setUp(self) -> None:
        self.wire, self.near, self.far = laneSessions(idle=self.idle, most=self.most)
        self.accepted: list[Any] = []
        self.wire.settle()

    def listen(self, build: Any = None) -> None:
        test = self

        class Accepting(Factory):
            def buildProtocol(self, address: Any) -> Any:
                if build is not None:
                    return build()
                test.accepted.append(HalfCollect())
                return test.accepted[-1]

        self.successResultOf(self.far.listener.listen(Accepting()))
        self.wire.settle()

    def use(self, octets: bytes = b"x") -> Any:
        user = self.successResultOf(self.near.connector.connect(Factory.forProtocol(HalfCollect)))
        user.transport.write(octets)
        self.wire.settle()
        return user

    def test_lanesAreOpenedForAFactory(self) -> None:
        self.assertEqual((self.near.idle, self.far.idle), (0, 0))
        self.listen()
        self.assertEqual((self.near.idle, self.far.idle), (4, 4))

    def test_aLaneThatIsUsedIsReplaced(self) -> None:
        self.listen()
        users = [self.use(b"%d" % number) for number in range(10)]
        self.assertEqual([taken.got for taken in self.accepted], [b"%d" % number for number in range(10)])
        self.assertEqual((self.near.idle, self.far.idle), (4, 4))
        self.accepted[3].transport.write(b"answer")
        self.wire.settle()
        self.assertEqual(users[3].got, b"answer")

    def test_theLaneThatWasUsedLastIsUsedNext(self) -> None:
        self.listen()
        user = self.use()
        transport = user.transport
        self.near.release(transport)
        self.assertIs(self.use().transport, transport)

    def test_aCallWaitsForALane(self) -> None:
        wanted: list[int] = []
        self.near.onDemand = wanted.append
        calls = [self.near.connector.connect(Factory.forProtocol(Collect)) for _ in range(6)]
        self.wire.settle()
        self.assertEqual((wanted, self.near.waiting), ([1, 2, 3, 4, 5, 6], 6))
        self.listen()
        self.assertEqual(self.near.waiting, 2)
        self.far.demand(2)
        self.wire.settle()
        for call in calls:
            self.successResultOf(call)

    def test_aCallWaitsNotForEver(self) -> None:
        first = self.near.connector.connect(Factory.forProtocol(Collect))
        self.wire.clock.advance(LANE_SECONDS / 2)
        second = self.near.connector.connect(Factory.forProtocol(Collect))
        self.wire.clock.advance(LANE_SECONDS / 2)
        self.failureResultOf(first, OpenTimeout)
        self.assertNoResult(second)
        self.wire.clock.advance(LANE_SECONDS / 2)
        self.failureResultOf(second, OpenTimeout)

    def test_aCallCanBeCancelled(self) -> None:
        call = self.near.connector.connect(Factory.forProtocol(Collect))
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.listen()
        self.assertEqual(self.near.idle, 4)

    def test_callsFailWithTheSession(self) -> None:
        call = self.near.connector.connect(Factory.forProtocol(Collect))
        self.wire.drop()
        self.failureResultOf(call, SessionLost)
        self.failureResultOf(self.near.connector.connect(Factory.forProtocol(Collect)), SessionLost)
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_aFactoryThatDeclinesLosesNoLane(self) -> None:
        self.listen()
        factory = Factory()
        self.patch(factory, "buildProtocol", lambda address: None)
        call = self.near.connector.connect(factory)
        self.failureResultOf(call, NoProtocol)
        self.assertEqual(self.near.idle, 4)

    def test_aLaneThatNobodyTakesIsReset(self) -> None:
        self.listen(lambda: None)
        user = self.use()
        self.assertTrue(user.reason.check(StreamResetError))
        self.assertEqual((self.near.idle, self.far.idle), (4, 4))

    def test_idleLanesThatAreLostAreReplaced(self) -> None:
        self.listen()
        for _ in range(LOSSES):
            self.far.session.transports()[0].abortConnection()
            self.wire.settle()
        self.assertEqual((self.near.idle, self.far.idle), (4, 4))

    def test_manyLossesAreReplacedLater(self) -> None:
        self.listen()
        for _ in range(LOSSES + 1):
            self.near.session.transports()[0].abortConnection()
            self.wire.settle()
        self.assertEqual(self.far.idle, 3)
        self.wire.clock.advance(FIRST_DELAY)
        self.wire.settle()
        self.assertEqual((self.near.idle, self.far.idle), (4, 4))

    def test_anIdleLaneThatThePeerClosesIsClosed(self) -> None:
        self.listen()
        self.far.session.transports()[0].loseWriteConnection()
        self.wire.settle()
        self.assertEqual((self.near.idle, self.far.idle), (4, 4))

    def test_thePeerDoesNotSpeakFirst(self) -> None:
        self.listen()
        self.far.session.transports()[0].write(b"hello?")
        self.wire.settle()
        self.assertEqual((self.near.idle, self.far.idle), (4, 4))

    def test_otherStreamsAreNoLanes(self) -> None:
        wire = Wire()
        client, server = (HTTP2Session(side, clock=wire.clock) for side in (True, False))
        near = LaneSession(server, wire.clock, isLane=lambda address: False)
        wire.connect(client, server)
        taken: list[Any] = []
        protocol = HalfCollect()
        self.successResultOf(near.listener.listen(Factory.forProtocol(lambda: taken.append(protocol) or protocol)))
        self.successResultOf(client.connector.connect(Factory.forProtocol(HalfCollect)))
        wire.settle()
        self.assertEqual((taken, near.idle), ([protocol], 0))


class FewLanesTests(LaneTests):
    """
    A session that may have few streams.
    """

    most = 14

    def test_thereAreNoMoreThanMayBe(self) -> None:
        self.listen()
        users = [self.use() for _ in range(14)]
        self.assertEqual((self.far.session.streams, self.near.idle), (14, 0))
        users[0].transport.abortConnection()
        self.wire.settle()
        for _ in range(100):
            self.wire.clock.advance(0.1)
        self.wire.settle()
        self.assertEqual((self.far.session.streams, self.near.idle), (14, 1))
