"""
The round trips to agents, which are measured only while somebody looks at them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from attrs import define
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime

from tunnelstack.edge.presences import Presence

FRESH_SECONDS = 10.0
"""Seconds for which a round trip is not measured again."""


@define(eq=False, repr=False)
class _Trip:
    """
    The round trip of one session.

    @ivar asked: when it was measured last, in seconds of the clock.
    @ivar seconds: C{None} if there was no answer yet.
    """

    asked: float
    seconds: float | None = None


class RoundTrips:
    """
    The round trips of sessions that somebody has looked at.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._trips: dict[int, _Trip] = {}    # by the number of a session

    def __len__(self) -> int:
        return len(self._trips)

    def of(self, number: int) -> float | None:
        """
        @return: seconds of the latest round trip; C{None} if it is not known.
        """
        trip = self._trips.get(number)
        return None if trip is None else trip.seconds

    def measure(self, seen: Iterable[Presence], present: Iterable[Presence]) -> None:
        """
        Measure the round trips that are not fresh.

        @param seen: the sessions that are looked at.
        @param present: all sessions; what is known of others is forgotten.
        """
        left = self._trips.keys() - {each.number for each in present}
        for number in left:
            del self._trips[number]
        now = self._clock.seconds()
        for each in seen:
            trip = self._trips.setdefault(each.number, _Trip(-FRESH_SECONDS))
            if now - trip.asked >= FRESH_SECONDS:
                trip.asked = now
                answer: Deferred[float] = maybeDeferred(each.tunnel.ping)
                answer.addCallbacks(partial(_answered, trip), lambda failure: None)


def _answered(trip: _Trip, seconds: float) -> None:
    trip.seconds = seconds
