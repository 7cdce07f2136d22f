"""
The timer of a session, for whatever has the next deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class DeadlineTimer:
    """
    Fires at the earliest requested moment; callers with a later deadline schedule it again then.

    @ivar armed: whether it will go off.
    @ivar at: when, in seconds of the clock; infinite while it is not armed.
    """

    __slots__ = ("_call", "_clock", "_expired", "armed", "at")

    def __init__(self, clock: IReactorTime, expired: Callable[[float], object]) -> None:
        """
        @param expired: called with the time, in seconds of the clock.
        """
        self._clock = clock
        self._expired = expired
        self._call: IDelayedCall | None = None
        self.at = inf
        self.armed = False

    def schedule(self, at: float) -> None:
        """
        Go off at C{at} (seconds of the clock) at the latest.
        """
        if at >= self.at:
            return
        self.at = at
        delay = max(0.0, at - self._clock.seconds())
        if self._call is not None:
            self._call.cancel()               # reset() to an earlier time would search all delayed calls of the reactor
        self._call = self._clock.callLater(delay, self._fire)
        self.armed = True

    def stop(self) -> None:
        """
        Never go off again.
        """
        self.at = -inf
        self.armed = False
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _fire(self) -> None:
        self._call = None
        self.armed = False
        self.at = inf
        self._expired(self._clock.seconds())
