"""
The sessions of agents as operators see them: each has a number and a time of arrival, and is remembered for a while when it has
ended, with the reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from tunnelstack.interfaces import ITunnel
from tunnelstack.settings.record import Record

MOST_DEPARTURES = 50
"""Sessions that have ended and are remembered."""


@frozen(eq=False, repr=False)
class Presence(Record):
    """
    A session that is connected.

    @ivar number: of the session, counted since the edge was started.
    @ivar since: when it arrived, in seconds of the clock.
    """

    tunnel: ITunnel
    number: int
    since: float


@frozen(eq=False, repr=False)
class Departure(Record):
    """
    A session that has ended.

    @ivar number: as of L{Presence}.
    @ivar since: when it arrived, in seconds of the clock.
    @ivar at: when it ended.
    """

    agent: str
    dialect: str
    number: int
    since: float
    at: float
    reason: str


class Presences:
    """
    The sessions of one edge.

    @ivar left: those that have ended lately, the newest last.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._last = 0
        self._present: dict[int, Presence] = {}             # by the id of a tunnel
        self.left: deque[Departure] = deque(maxlen=MOST_DEPARTURES)

    def __iter__(self) -> Iterator[Presence]:
        return iter(list(self._present.values()))

    def arrived(self, tunnel: ITunnel) -> None:
        """
        A tunnel is connected.
        """
        self._last += 1
        self._present[id(tunnel)] = Presence(tunnel, self._last, self._clock.seconds())

    def of(self, tunnel: ITunnel) -> Presence | None:
        """
        @return: C{None} if the tunnel is not connected.
        """
        return self._present.get(id(tunnel))

    def find(self, number: int) -> ITunnel | None:
        """
        @return: the tunnel of a session; C{None} if it has ended.
        """
        return next((each.tunnel for each in self._present.values() if each.number == number), None)

    def ended(self, tunnel: ITunnel, reason: str) -> None:
        """
        A tunnel gets no more work, or is lost.
        """
        present = self._present.pop(id(tunnel), None)
        if present is not None:
            principal, now = tunnel.principal, self._clock.seconds()
            self.left.append(Departure(principal.agent, tunnel.dialect, present.number, present.since, now, reason))
