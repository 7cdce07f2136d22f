"""
One timer for all that begins on one connection: negotiations come and go thousands of times a second, and hardly ever late.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.logger import Logger

SHORTEST_INTERVAL = 0.25
"""Seconds between two looks, at least: how late a deadline may be kept when many are near one another."""


class TimerListener(Protocol):
    """
    What has a deadline.
    """

    def timedOut(self, now: float) -> None:
        """
        The deadline, which is forgotten, has passed.
        """


class SharedTimer:
    """
    Who is to be told of a deadline, and the one timer that sees to it.  It goes on for a while when nobody waits, so that who
    comes next need not wind it: whose connection it is stops it in the end.
    """

    _log = Logger()

    def __init__(self, clock: Any) -> None:
        self.seconds = clock.seconds
        self._clock = clock
        self._deadlines: dict[TimerListener, float] = {}
        self._timer: Any = None
        self._at = 0.0                        # when it goes off

    @property
    def waiting(self) -> int:
        """
        How many are to be told.
        """
        return len(self._deadlines)

    def add(self, listener: TimerListener, at: float) -> None:
        """
        Tell C{listener} when the clock says C{at}, unless it is discarded before.
        """
        self._deadlines[listener] = at
        if self._timer is None:
            self._arm(at)
        elif at < self._at:
            self._timer.cancel()
            self._arm(at)

    def discard(self, listener: TimerListener) -> None:
        """
        It needs no telling any more.
        """
        self._deadlines.pop(listener, None)

    def stop(self) -> None:
        """
        The connection is gone: nobody is told any more.
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
                continue                      # one that was told before it took it along
            try:
                listener.timedOut(now)
            except Exception:
                self._log.failure("what came of a deadline failed")
        if self._deadlines and self._timer is None:
            self._arm(max(min(self._deadlines.values()), now + SHORTEST_INTERVAL))
