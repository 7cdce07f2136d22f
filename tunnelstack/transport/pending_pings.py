"""
Callers that wait for the answers to pings.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from tunnelstack.waiters import Waiters

MOST_PINGS = 16
"""Pings of callers that may be unanswered; further callers wait for the answer to the latest one."""


class PendingPings:
    """
    The pings that a session has sent for callers.
    """

    __slots__ = ("_pings",)

    def __init__(self) -> None:
        self._pings: dict[int, tuple[Waiters[float], float]] = {}      # by opaque value, with when it was sent

    def wait(self, ping: Callable[[], int], now: float) -> Deferred[float]:
        """
        @param ping: sends a ping, and returns its opaque value.
        @return: fires with the round trip in seconds.
        """
        if len(self._pings) < MOST_PINGS:
            self._pings[ping()] = Waiters(), now
        waiters, _ = self._pings[next(reversed(self._pings))]
        return waiters.wait()

    def answered(self, opaque: int, now: float) -> None:
        """
        The answer to a ping arrived.
        """
        waiters, sent = self._pings.pop(opaque, (None, 0.0))
        if waiters is not None:
            waiters.fire(now - sent)

    def fail(self, reason: Exception) -> None:
        """
        No answer will arrive.
        """
        pings, self._pings = self._pings, {}
        for waiters, _ in pings.values():
            waiters.fail(reason)
