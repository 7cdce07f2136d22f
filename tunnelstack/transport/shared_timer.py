"""
One timer for all deadlines of one connection.

Negotiations begin and end thousands of times a second, and hardly ever time out.  To start and cancel a timer of the reactor
for each of them took a seventh of the CPU time of a short stream.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

SHORTEST_INTERVAL = 0.25
"""Least seconds between two checks: how late a deadline may be handled when there are many of them."""


class TimerListener(Protocol):
    """
    An object with a deadline.
    """

    def timedOut(self, now: float) -> None:
        """
        The deadline has passed; it is no longer registered.
        """


class SharedTimer:
    """
    Deadlines, and one timer for the earliest of them.  The timer is left armed when no deadline is pending, so that the next
    L{add} need not schedule one; the owner of the connection calls L{stop}.
    """

    __slots__ = ("_at", "_clock", "_deadlines", "_timer", "seconds")

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self.seconds = clock.seconds
        self._clock = clock
        self._deadlines: dict[TimerListener, float] = {}
        self._timer: IDelayedCall | None = None
        self._at = 0.0                        # when it fires

    @property
    def waiting(self) -> int:
        """
        How many deadlines are pending.
        """
        return len(self._deadlines)

    def add(self, listener: TimerListener, at: float) -> None:
        """
        Call C{listener.timedOut} at the time C{at}, unless it is discarded before.
        """
        self._deadlines[listener] = at
        if self._timer is None:
            self._arm(at)
        elif at < self._at:
            self._timer.cancel()
            self._arm(at)

    def discard(self, listener: TimerListener) -> None:
        """
        Remove the deadline of a listener, if it has one.
        """
        self._deadlines.pop(listener, None)

    def stop(self) -> None:
        """
        The connection is gone: remove all deadlines.
        """
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        self._at = at
        self._timer = self._clock.callLater(max(0.0, at - self.seconds()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self.seconds()
        for listener in [listener for listener, at in self._deadlines.items() if at <= now]:
            if self._deadlines.pop(listener, None) is None:
                continue                      # a listener that was called before has discarded it
            try:
                listener.timedOut(now)
            except Exception:
                self._log.failure("a handler of a deadline failed")
        if self._deadlines and self._timer is None:
            self._arm(max(min(self._deadlines.values()), now + SHORTEST_INTERVAL))
