"""
Idle lanes: who gets which, and how many there are.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.session.lane_pool import (
    FIRST_DELAY,
    LANE_SECONDS,
    LONGEST_DELAY,
    LOSSES,
    IdleLanes,
    LaneCounts,
    LaneKeeper,
)
from tunnelstack.stream.errors import OpenTimeout, SessionLost, TooManyStreams


class IdleLanesTests(SynchronousTestCase):
    """
    The side that uses lanes.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.lanes: IdleLanes[str] = IdleLanes(self.clock, most=3)
        self.demands: list[int] = []
        self.lanes.onDemand = self.demands.append

    def test_theLaneThatWasUsedLastIsUsedNext(self) -> None:
        for lane in "abc":
            self.lanes.add(lane)
        self.assertEqual(self.successResultOf(self.lanes.take()), "c")
        self.lanes.add("c")
        self.lanes.discard("b")
        self.assertEqual([self.successResultOf(self.lanes.take()) for _ in range(2)], ["c", "a"])
        self.assertEqual((len(self.lanes), self.demands), (0, []))

    def test_whoHasWaitedLongestIsServedFirst(self) -> None:
        waiting = [self.lanes.take() for _ in range(3)]
        self.assertEqual((self.demands, self.lanes.waiting), ([1, 2, 3], 3))
        self.failureResultOf(self.lanes.take(), TooManyStreams)
        waiting[1].cancel()
        self.failureResultOf(waiting[1], CancelledError)
        self.lanes.add("a")
        self.assertEqual(self.successResultOf(waiting[0]), "a")
        self.lanes.add("b")
        self.assertEqual(self.successResultOf(waiting[2]), "b")
        self.assertEqual(self.lanes.waiting, 0)

    def test_nobodyWaitsForEver(self) -> None:
        first = self.lanes.take()
        self.clock.advance(LANE_SECONDS / 2)
        second = self.lanes.take()
        self.clock.advance(LANE_SECONDS / 2)
        self.failureResultOf(first, OpenTimeout)
        self.assertNoResult(second)
        self.clock.advance(LANE_SECONDS / 2)
        self.failureResultOf(second, OpenTimeout)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_theEndIsSaidToAllWhoWait(self) -> None:
        waiting: list[Deferred[str]] = [self.lanes.take() for _ in range(2)]
        self.lanes.fail(SessionLost("over"))
        for each in waiting:
            self.failureResultOf(each, SessionLost)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LaneKeeperTests(SynchronousTestCase):
    """
    The side that opens lanes.
    """

    def keep(self, **counts: float) -> None:
        self.clock = Clock()
        self.opened: list[int] = []
        self.retired: list[int] = []
        self.possible = True
        self.keeper: LaneKeeper[int] = LaneKeeper(
            self.clock, LaneCounts(**{"initial": 3, "idle": 2, "most": 6, **counts}), self.open,    # type: ignore[arg-type]
            self.retired.append,
        )
        self.keeper.start()

    def open(self) -> bool:
        if self.possible:
            self.opened.append(len(self.opened))
            self.keeper.opened(self.opened[-1])
        return self.possible

    def test_aBusyLaneIsReplacedUntilThereAreTheMost(self) -> None:
        self.keep()
        self.assertEqual((self.opened, self.keeper.idle), ([0, 1, 2], 3))
        self.keeper.used(0)
        self.assertEqual((self.keeper.idle, self.keeper.open), (2, 3))
        for lane in range(1, 6):
            self.keeper.used(lane)
        self.assertEqual((self.keeper.idle, self.keeper.open, len(self.opened)), (0, 6, 6))
        self.keeper.demand(10)
        self.assertEqual(self.keeper.open, 6)
        self.keeper.unused(3)
        self.keeper.lost(4)
        self.assertEqual((self.keeper.idle, self.keeper.open), (2, 6))

    def test_aDemandOpensMoreThanAreKeptIdle(self) -> None:
        self.keep()
        self.keeper.demand(2)
        self.assertEqual((self.keeper.idle, self.keeper.open), (5, 5))

    def test_idleLanesThatAreLostAreReplaced(self) -> None:
        self.keep(initial=2)
        for lane in range(LOSSES):
            self.keeper.lost(lane)
        self.assertEqual((self.keeper.idle, len(self.opened)), (2, LOSSES + 2))

    def test_manyLossesAreFollowedByPauses(self) -> None:
        self.keep(initial=2)
        for lane in range(LOSSES + 1):
            self.keeper.lost(lane)
        self.assertEqual(self.keeper.idle, 1)
        delay = FIRST_DELAY
        while delay < LONGEST_DELAY:
            self.clock.advance(delay * 0.9)
            self.assertEqual(self.keeper.idle, 1)
            self.clock.advance(delay * 0.2)
            self.assertEqual(self.keeper.idle, 2)
            self.keeper.lost(self.opened[-1])
            delay *= 2
        self.clock.advance(LONGEST_DELAY)
        self.assertEqual(self.keeper.idle, 2)
        self.keeper.used(self.opened[-1])
        self.assertEqual(self.keeper.idle, 2)

    def test_whatCannotBeOpenedIsTriedAgain(self) -> None:
        self.keep()
        self.possible = False
        for lane in range(3):
            self.keeper.used(lane)
        self.assertEqual(self.keeper.idle, 0)
        self.possible = True
        self.clock.advance(LONGEST_DELAY)
        self.assertEqual(self.keeper.idle, 2)

    def test_lanesThatWereIdleForLongAreRetired(self) -> None:
        self.keep(idleSeconds=45.0)
        self.clock.advance(40)
        self.keeper.used(2)
        self.keeper.unused(2)
        self.clock.advance(5)
        self.assertEqual((self.retired, self.keeper.idleLanes()), ([0, 1], [2, 3]))
        for lane in self.retired:
            self.keeper.lost(lane)
        self.clock.advance(40)
        self.assertEqual((self.retired, self.keeper.idleLanes()), ([0, 1, 2], [3, 4]))

    def test_nothingHappensAfterTheEnd(self) -> None:
        self.keep(idleSeconds=45.0)
        self.keeper.stop()
        for lane in range(3):
            self.keeper.lost(lane)
        self.keeper.demand(3)
        self.clock.advance(100)
        self.assertEqual((self.opened, self.retired, self.clock.getDelayedCalls()), ([0, 1, 2], [], []))
