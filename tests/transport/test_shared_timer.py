"""
One timer for many: everybody is told in time, nobody twice, and nothing is left of it when its connection is gone.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.transport.shared_timer import SHORTEST_INTERVAL, SharedTimer


class Waiting:
    """
    Remembers when it was told, and may do something then.
    """

    def __init__(self, then: object = None) -> None:
        self.told: list[float] = []
        self.then = then

    def timedOut(self, now: float) -> None:
        self.told.append(now)
        if callable(self.then):
            self.then()


class DeadlinesTests(SynchronousTestCase):
    """
    In virtual time.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.sharedTimer = SharedTimer(self.clock)

    def test_eachIsToldOnceAndInTime(self) -> None:
        parties = [Waiting() for _ in range(20)]
        for number, party in enumerate(parties):
            self.sharedTimer.add(party, 20.0 - number)
        for _ in range(100):
            self.clock.advance(0.3)
        for number, party in enumerate(parties):
            (told,) = party.told
            self.assertTrue(20.0 - number <= told <= 20.0 - number + 0.3 + SHORTEST_INTERVAL, told)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_thereIsOneTimer(self) -> None:
        parties = [Waiting() for _ in range(20)]
        for number, party in enumerate(parties):
            self.sharedTimer.add(party, 10.0 + number % 3)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_whoIsDiscardedIsNotTold(self) -> None:
        one, other = Waiting(), Waiting()
        self.sharedTimer.add(one, 1.0)
        self.sharedTimer.add(other, 2.0)
        self.sharedTimer.discard(one)
        self.sharedTimer.discard(one)
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual((one.told, other.told), ([], [2.0]))

    def test_theTimerIsNotWoundAgainWhileItRuns(self) -> None:
        party = Waiting()
        self.sharedTimer.add(party, 1.0)
        (timer,) = self.clock.getDelayedCalls()
        for _ in range(3):
            self.sharedTimer.discard(party)
            self.sharedTimer.add(party, 3.0)
            self.assertEqual(self.clock.getDelayedCalls(), [timer])
        self.clock.advance(1)
        self.clock.advance(2)
        self.assertEqual(party.told, [3.0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_itRunsDownWhereNobodyWaits(self) -> None:
        party = Waiting()
        self.sharedTimer.add(party, 1.0)
        self.sharedTimer.discard(party)
        self.clock.advance(1)
        self.assertEqual((party.told, self.clock.getDelayedCalls()), ([], []))

    def test_itStopsWithItsConnection(self) -> None:
        party = Waiting()
        self.sharedTimer.add(party, 1.0)
        self.sharedTimer.stop()
        self.sharedTimer.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1)
        self.assertEqual(party.told, [])

    def test_oneMayTakeAnotherAlong(self) -> None:
        other = Waiting()
        one = Waiting(lambda: self.sharedTimer.discard(other))
        self.sharedTimer.add(one, 1.0)
        self.sharedTimer.add(other, 1.0)
        self.clock.advance(1)
        self.assertEqual((len(one.told), len(other.told)), (1, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_oneMayWaitAgain(self) -> None:
        party = Waiting(lambda: self.sharedTimer.add(party, self.clock.seconds() + 5))
        self.sharedTimer.add(party, 1.0)
        for _ in range(11):
            self.clock.advance(1)
        self.assertEqual(party.told, [1.0, 6.0, 11.0])

    def test_oneThatFailsKeepsNobodyFromBeingTold(self) -> None:
        def explode() -> None:
            raise ZeroDivisionError

        one, other = Waiting(explode), Waiting()
        self.sharedTimer.add(one, 1.0)
        self.sharedTimer.add(other, 1.0)
        self.clock.advance(1)
        self.assertEqual(len(other.told), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
