"""
The uplink: dials, waits, dials again, and drains, in virtual time and with chosen chances.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.agent.uplink import REFUSED_SECONDS, STABLE_SECONDS, Uplink
from tunnelstack.errors import PeerError, Refused


class Session:
    """
    A session that ends when the test says so.
    """

    def __init__(self) -> None:
        self.lost: Deferred[Any] = Deferred()
        self.said: list[str] = []

    def whenLost(self) -> Deferred[Any]:
        return self.lost

    def drain(self) -> Deferred[Any]:
        self.said.append("drain")
        return Deferred()

    def abort(self, reason: str) -> None:
        self.said.append("abort")
        self.lost.callback(OSError(reason))


class UplinkTests(SynchronousTestCase):
    """
    Every state, and every way out of it.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.attempts: list[Deferred[Any]] = []
        self.heard: list[Any] = []
        self.chance = 1.0
        self.uplink = Uplink(self.clock, self.dial, self, maxBackoff=30.0, drainSeconds=5.0, random=lambda: self.chance)

    def dial(self) -> Deferred[Any]:
        self.attempts.append(Deferred())
        return self.attempts[-1]

    def uplinkUp(self, uplink: Uplink, link: Any) -> None:
        self.heard.append("up")

    def uplinkDown(self, uplink: Uplink, reason: BaseException) -> None:
        self.heard.append("down")

    def uplinkFailed(self, uplink: Uplink, reason: BaseException, seconds: float) -> None:
        self.heard.append(seconds)

    def failNow(self, reason: BaseException | None = None) -> None:
        self.attempts[-1].errback(reason or ConnectionRefusedError())

    def up(self) -> Session:
        session = Session()
        self.attempts[-1].callback(session)
        return session

    def test_waitsDoubleUpToTheCap(self) -> None:
        self.uplink.start()
        for _ in range(8):
            self.failNow()
            self.clock.advance(self.heard[-1])
        self.assertEqual(self.heard, [1, 2, 4, 8, 16, 30, 30, 30])
        self.assertEqual(len(self.attempts), 9)

    def test_itTriesForEver(self) -> None:
        self.uplink.start()
        for _ in range(3000):                # more than a double has exponents
            self.failNow()
            self.clock.advance(30)
        self.assertEqual(len(self.attempts), 3001)

    def test_waitsAreRandomBelowTheirBound(self) -> None:
        self.uplink.start()
        self.chance = 0.25
        self.failNow()
        self.assertEqual(self.heard, [0.25])
        self.clock.advance(0.24)
        self.assertEqual(len(self.attempts), 1)
        self.clock.advance(0.01)
        self.assertEqual(len(self.attempts), 2)

    def test_aStableSessionForgivesWhatWasBefore(self) -> None:
        self.uplink.start()
        for _ in range(4):
            self.failNow()
            self.clock.advance(30)
        session = self.up()
        self.clock.advance(STABLE_SECONDS)
        session.lost.callback(OSError("gone"))
        self.clock.advance(1)
        self.failNow()
        self.assertEqual(self.heard, [1, 2, 4, 8, "up", "down", 2])

    def test_aSessionThatDoesNotLastForgivesNothing(self) -> None:
        self.uplink.start()
        for bound in (1, 2, 4, 8):
            session = self.up()
            session.lost.callback(OSError("gone"))
            attempts = len(self.attempts)
            self.clock.advance(bound - 0.01)
            self.assertEqual(len(self.attempts), attempts)
            self.clock.advance(0.01)
            self.assertEqual(len(self.attempts), attempts + 1)

    def test_whatOnlyPeopleCanMendIsTriedOnceAMinute(self) -> None:
        self.uplink.start()
        self.chance = 0.5
        for reason in (Refused("no"), PeerError("what?")):
            self.failNow(reason)
            self.assertEqual(self.heard[-1], REFUSED_SECONDS)
            self.clock.advance(REFUSED_SECONDS)
        self.assertEqual(len(self.attempts), 3)

    def test_theLinkIsThereWhileItIsUp(self) -> None:
        self.uplink.start()
        self.assertIsNone(self.uplink.link)
        session = self.up()
        self.assertIs(self.uplink.link, session)
        session.lost.callback(OSError("gone"))
        self.assertIsNone(self.uplink.link)

    def test_stoppingDrainsTheSessionOnce(self) -> None:
        self.uplink.start()
        session = self.up()
        stopped = self.uplink.stop()
        self.assertEqual(session.said, ["drain"])
        again = self.uplink.stop()
        self.assertNoResult(stopped)
        session.lost.callback(OSError("done"))
        self.successResultOf(stopped)
        self.successResultOf(again)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aDrainHasADeadline(self) -> None:
        self.uplink.start()
        session = self.up()
        stopped = self.uplink.stop()
        self.clock.advance(4.9)
        self.assertNoResult(stopped)
        self.clock.advance(0.1)
        self.assertEqual(session.said, ["drain", "abort"])
        self.successResultOf(stopped)

    def test_stoppingAnAttemptCancelsIt(self) -> None:
        self.uplink.start()
        self.successResultOf(self.uplink.stop())
        self.clock.advance(100)
        self.assertEqual((self.heard, len(self.attempts)), ([], 1))

    def test_anAttemptThatCannotBeCancelledIsAborted(self) -> None:
        late: Deferred[Any] = Deferred(lambda cancelled: cancelled.callback(session))
        session = Session()
        uplink = Uplink(self.clock, lambda: late, self)
        uplink.start()
        self.successResultOf(uplink.stop())
        self.assertEqual((session.said, self.heard), (["abort"], []))

    def test_stoppingWhileWaitingCancelsTheTimer(self) -> None:
        self.uplink.start()
        self.failNow()
        self.successResultOf(self.uplink.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(self.uplink.stop())

    def test_stoppingBeforeTheStartSucceedsAtOnce(self) -> None:
        self.successResultOf(self.uplink.stop())

    def test_anAttemptMayFailAtOnce(self) -> None:
        uplink = Uplink(self.clock, lambda: fail(ConnectionRefusedError()), self, random=lambda: 1.0)
        uplink.start()
        self.clock.pump([1, 2])
        self.assertEqual(self.heard, [1, 2, 4])

    def test_theObserverMayStopIt(self) -> None:
        def uplinkFailed(uplink: Uplink, reason: BaseException, seconds: float) -> None:
            uplink.stop()

        self.uplinkFailed = uplinkFailed  # type: ignore[method-assign]
        self.uplink.start()
        self.failNow()
        self.clock.advance(1000)
        self.assertEqual((len(self.attempts), self.clock.getDelayedCalls()), (1, []))
