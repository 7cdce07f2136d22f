"""
The life of a session, whatever carries its streams.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone
from twisted.internet.error import ConnectionLost as CarrierLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import PeerError
from tunnelstack.session.lifecycle import SessionLifecycle, connectionReason
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionClosed, SessionLost


class RecordingCarrier:
    """
    Remembers what was asked of it.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append(name) or "192.0.2.1"


class LifecycleTests(SynchronousTestCase):
    """
    The states of a session that has as many streams as the test wants.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.streams = 0
        self.session: Any = object()
        self.carrier: Any = RecordingCarrier()
        self.lifecycle = SessionLifecycle(
            self.session, self.clock, lambda: not self.streams, lambda: self.lifecycle.close()
        )

    def connect(self) -> None:
        self.lifecycle.connected(self.carrier)

    def lose(self, reason: SessionLost) -> None:
        self.lifecycle.lost(reason)
        self.lifecycle.reportLost()

    def test_whenUpFiresWithTheSessionBeforeAndAfter(self) -> None:
        before = self.lifecycle.whenUp()
        self.assertNoResult(before)
        self.connect()
        for up in (before, self.lifecycle.whenUp()):
            self.assertIs(self.successResultOf(up), self.session)

    def test_theReasonOfALossIsAResult(self) -> None:
        self.connect()
        before = self.lifecycle.whenLost()
        lost = SessionLost("gone")
        self.lose(lost)
        for told in (before, self.lifecycle.whenLost()):
            self.assertIs(self.successResultOf(told), lost)
        self.assertIs(self.lifecycle.reason, lost)

    def test_onlyTheFirstReasonCounts(self) -> None:
        self.connect()
        self.lifecycle.drop(SessionLost("first"))
        self.lifecycle.abort()
        self.lose(SessionLost("third"))
        self.assertEqual(str(self.successResultOf(self.lifecycle.whenLost())), "first")

    def test_abortDropsTheCarrierAndSaysWhoWantedIt(self) -> None:
        self.connect()
        self.lifecycle.abort()
        self.assertEqual(self.carrier.calls, ["abortConnection"])
        self.assertEqual(str(self.lifecycle.reason), "the session was aborted by this side")

    def test_aSessionThatIsLostHasNoCarrierToDropOrClose(self) -> None:
        self.connect()
        self.lose(SessionLost("gone"))
        self.lifecycle.abort()
        self.lifecycle.close()
        self.assertEqual(self.carrier.calls, [])

    def test_aDrainingSessionIsClosedWhenItsLastStreamIsDone(self) -> None:
        self.connect()
        self.streams = 1
        idle = self.lifecycle.whenIdle()
        self.lifecycle.checkIdle()
        self.assertNoResult(idle)
        self.assertEqual(self.carrier.calls, [])
        self.streams = 0
        self.lifecycle.checkIdle()
        self.successResultOf(idle)
        self.assertEqual(self.carrier.calls, ["unregisterProducer", "loseConnection"])

    def test_aSessionThatDoesNotDrainStaysWhenItsLastStreamIsDone(self) -> None:
        self.connect()
        self.lifecycle.checkIdle()
        self.assertEqual(self.carrier.calls, [])

    def test_aSessionDrainsAlthoughItsCallerNoLongerWaits(self) -> None:
        self.connect()
        self.streams = 1
        idle = self.lifecycle.whenIdle()
        idle.cancel()
        self.failureResultOf(idle, CancelledError)
        self.streams = 0
        self.lifecycle.checkIdle()
        self.assertEqual(self.carrier.calls, ["unregisterProducer", "loseConnection"])

    def test_aLossEndsTheDrainBeforeItIsReported(self) -> None:
        self.connect()
        self.streams = 1
        order: list[str] = []
        self.lifecycle.whenLost().addCallback(lambda _: order.append("lost"))
        self.lifecycle.whenIdle().addCallback(lambda _: order.append("idle"))
        self.lose(SessionLost("gone"))
        self.assertEqual(order, ["idle", "lost"])
        self.assertEqual(self.carrier.calls, [])

    def test_itIsClosedOnce(self) -> None:
        self.connect()
        self.lifecycle.close()
        self.lifecycle.close()
        self.assertEqual(self.carrier.calls, ["unregisterProducer", "loseConnection"])

    def test_aCarrierThatDoesNotFlushIsAborted(self) -> None:
        self.connect()
        self.lifecycle.close(within=10)
        self.clock.advance(9.9)
        self.assertNotIn("abortConnection", self.carrier.calls)
        self.clock.advance(0.1)
        self.assertIn("abortConnection", self.carrier.calls)

    def test_noTimerIsLeftAfterTheLoss(self) -> None:
        self.connect()
        self.lifecycle.close(within=10)
        self.lose(SessionLost("gone"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aBrokenProtocolIsTheReasonAndIsLogged(self) -> None:
        self.connect()
        broken = PeerError("no such frame")
        lost = self.lifecycle.broken(broken, StreamAddress())
        self.assertIs(self.lifecycle.reason, lost)
        self.assertIs(lost.__cause__, broken)
        self.assertEqual(str(lost), "the peer broke the protocol: no such frame")

    def test_aCleanEndOfTheCarrierIsACloseAndAnythingElseALoss(self) -> None:
        self.assertIsInstance(connectionReason(Failure(ConnectionDone())), SessionClosed)
        lost = connectionReason(Failure(CarrierLost("cut")))
        self.assertNotIsInstance(lost, SessionClosed)
        self.assertIn("cut", str(lost))
