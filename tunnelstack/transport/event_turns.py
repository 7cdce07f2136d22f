"""
Events of a pure machine that are given to streams by turns of the reactor: what the first of very many events led to is on its
way while the last are handled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime

TURN = 64
"""Events that are given to streams in one turn of the reactor."""

E = TypeVar("E")


class EventTurns(Generic[E]):
    """
    The events that wait for their turn.

    @ivar waiting: in order.
    """

    __slots__ = ("_clock", "_flush", "_give", "waiting")

    def __init__(self, clock: IReactorTime, give: Callable[[list[E]], object], flush: Callable[[], object]) -> None:
        """
        @param give: gives events to the streams.
        @param flush: called after each later turn.
        """
        self._clock = clock
        self._give = give
        self._flush = flush
        self.waiting: list[E] = []

    def first(self, events: list[E]) -> list[E]:
        """
        Let the others wait.  None may wait already.

        @return: the events of this turn.
        """
        self.waiting = events[TURN:]
        if self.waiting:
            self._clock.callLater(0, self._turn, 1)        # a reactor that has just read makes its calls before it writes
        return events[:TURN]

    def finish(self) -> None:
        """
        Give all that wait.
        """
        waiting, self.waiting = self.waiting, []
        if waiting:
            self._give(waiting)

    def _turn(self, turns: int) -> None:
        """
        @param turns: how many turns later to continue.
        """
        if turns:
            self._clock.callLater(0, self._turn, turns - 1)
        elif self.waiting:
            events, self.waiting = self.waiting[:TURN], self.waiting[TURN:]
            self._give(events)
            self._flush()
            if self.waiting:
                self._clock.callLater(0, self._turn, 0)
