"""
Events of a pure machine that are given to streams by turns of the reactor: what the first of very many events led to is on its
way while the last are handled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime

TURN = 64
"""Events that are given to streams in one turn of the reactor; see L{EventTurns} for those that do not count."""

MOST = 4 * TURN
"""All events of a turn, at most."""

E = TypeVar("E")


class EventTurns(Generic[E]):
    """
    The events that wait for their turn.

    @ivar waiting: in order.
    """

    __slots__ = ("_clock", "_flush", "_give", "_uncounted", "waiting")

    def __init__(
        self, clock: IReactorTime, give: Callable[[list[E]], object], flush: Callable[[], object],
        uncounted: type | None = None,
    ) -> None:
        """
        @param give: gives events to the streams.
        @param flush: called after each later turn.
        @param uncounted: events of this class do not count, up to L{MOST} of all.  Such as those that open a stream: many of
            them precede the first octets of each, and what answers both leaves in one frame if it is the same turn.
        """
        self._clock = clock
        self._give = give
        self._flush = flush
        self._uncounted = uncounted
        self.waiting: list[E] = []

    def first(self, events: list[E]) -> list[E]:
        """
        Let the others wait.  None may wait already.

        @return: the events of this turn.
        """
        end = self._end(events)
        self.waiting = events[end:]
        if self.waiting:
            self._clock.callLater(0, self._turn, 1)        # a reactor that has just read makes its calls before it writes
        return events[:end]

    def _end(self, events: list[E]) -> int:
        """
        @return: how many of the events one turn takes.
        """
        end, uncounted = TURN, self._uncounted
        while uncounted is not None and end < MOST:
            wanted = TURN + list(map(type, events[:end])).count(uncounted)
            if wanted <= end:
                break
            end = min(wanted, MOST)
        return end

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
            end = self._end(self.waiting)
            events, self.waiting = self.waiting[:end], self.waiting[end:]
            self._give(events)
            self._flush()
            if self.waiting:
                self._clock.callLater(0, self._turn, 0)
