"""
Deadlines that move, alone and as the first ones of many connections.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.exchange.moving_timeout import FirstTimeouts, MovingTimeout


class FirstTimeoutsTests(SynchronousTestCase):
    """
    Connections that have ten seconds at first.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.first = FirstTimeouts(self.clock, 10.0)
        self.expired: list[tuple[str, float]] = []

    def begin(self, name: str) -> MovingTimeout:
        timeout = MovingTimeout(self.clock, lambda: self.expired.append((name, self.clock.seconds())), self.first)
        timeout.set(10.0)
        return timeout

    def test_manyHaveOneDelayedCallAndEachIsInTime(self) -> None:
        for name in "abc":
            self.begin(name)
            self.clock.advance(1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        for _ in range(10):
            self.clock.advance(1)
        self.assertEqual(self.expired, [("a", 10), ("b", 11), ("c", 12)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_oneThatHasEndedIsLeftOut(self) -> None:
        first, second = self.begin("a"), self.begin("b")
        first.release()
        self.clock.advance(10)
        self.assertEqual(self.expired, [("b", 10)])
        second.release()

    def test_oneThatMovesIsLookedAtAgain(self) -> None:
        timeout = self.begin("a")
        self.clock.advance(4)
        timeout.set(60.0)
        self.clock.advance(6)
        self.assertEqual([call.getTime() for call in self.clock.getDelayedCalls()], [64])
        self.clock.advance(54)
        self.assertEqual(self.expired, [("a", 64)])

    def test_oneThatIsDueEarlierIsCalledThen(self) -> None:
        timeout = self.begin("a")
        timeout.set(3.0)
        self.clock.advance(3)
        self.assertEqual(self.expired, [("a", 3)])
        self.clock.advance(60)
        self.assertEqual(len(self.expired), 1)

    def test_theCallIsLeftForTheNextUntilItIsStopped(self) -> None:
        self.begin("a").stop()
        (call,) = self.clock.getDelayedCalls()
        self.clock.advance(4)
        last = self.begin("b")
        self.assertEqual(self.clock.getDelayedCalls(), [call])
        self.first.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [call])
        last.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_oneAfterItWasStoppedIsInTimeToo(self) -> None:
        self.first.stop()
        self.begin("a")
        self.clock.advance(10)
        self.assertEqual(self.expired, [("a", 10)])

    def test_oneThatFailsDoesNotKeepTheOthers(self) -> None:
        def fail() -> None:
            raise ValueError

        MovingTimeout(self.clock, fail, self.first).set(10.0)
        self.begin("b")
        self.clock.advance(10)
        self.assertEqual(self.expired, [("b", 10)])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_oneThatIsEndedByAnotherIsNotCalled(self) -> None:
        others: list[Any] = []
        MovingTimeout(self.clock, lambda: others[0].release(), self.first).set(10.0)
        others.append(self.begin("b"))
        self.clock.advance(10)
        self.assertEqual(self.expired, [])
