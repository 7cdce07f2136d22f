"""
Very many events, given by turns.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.transport.event_turns import MOST, TURN, EventTurns

MANY = list(range(2 * TURN + 10))


class EventTurnsTests(SynchronousTestCase):
    """
    The kinds of ends: all turns pass, or something needs all events at once.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.given: list[int] = []
        self.flushed: list[int] = []
        self.turns: EventTurns[int] = EventTurns(
            self.clock, self.given.extend, lambda: self.flushed.append(len(self.given))
        )

    def test_eachTurnGivesABoundedNumberAndFlushes(self) -> None:
        self.given += self.turns.first(MANY)
        self.assertEqual(self.given, MANY[:TURN])
        seen: list[int] = []
        self.clock.callLater(0, lambda: seen.append(len(self.given)))
        self.clock.advance(0)
        self.assertEqual(seen, [TURN], "the calls of the reactor that has read come first")
        self.assertEqual(self.given, MANY)
        self.assertEqual(self.flushed, [2 * TURN, len(MANY)])
        self.assertEqual((self.turns.waiting, self.clock.getDelayedCalls()), ([], []))

    def test_allThatWaitAreGivenInOrderWhenTheyAreNeeded(self) -> None:
        self.given += self.turns.first(MANY)
        self.turns.finish()
        self.assertEqual(self.given, MANY)
        self.given += self.turns.first(MANY)
        for _ in range(5):
            self.clock.advance(0)
        self.assertEqual(self.given, 2 * MANY)
        self.turns.finish()
        self.assertEqual(len(self.given), 2 * len(MANY))

    def test_whatDoesNotCountIsGivenWithWhatFollows(self) -> None:
        given: list[object] = []
        turns: EventTurns[object] = EventTurns(self.clock, given.extend, lambda: None, str)
        opened, data = ["open"] * (TURN + 5), list(range(TURN + 5))
        self.assertEqual(turns.first([*opened, *data]), [*opened, *data[:TURN]])
        self.assertEqual(turns.waiting, data[TURN:])
        turns.waiting += [*opened, *data]
        for _ in range(5):
            self.clock.advance(0)
        self.assertEqual(given, [*data[TURN:], *opened, *data])
        self.assertEqual(turns.first(opened), opened)
        self.assertEqual(turns.waiting, [])

    def test_whatDoesNotCountHasABoundToo(self) -> None:
        turns: EventTurns[object] = EventTurns(self.clock, lambda _: None, lambda: None, str)
        self.assertEqual(len(turns.first(["open"] * 1000)), MOST)

    def test_fewWaitForNothing(self) -> None:
        self.assertEqual(self.turns.first(MANY[:TURN]), MANY[:TURN])
        self.assertEqual(self.clock.getDelayedCalls(), [])
