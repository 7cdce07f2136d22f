"""
A deadline that moves with every request and costs next to nothing when it does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime

NEVER = float("inf")


class MovingTimeout:
    """
    Calls C{expired} when the deadline has passed.  Its one delayed call stays where it is while the deadline moves away, and
    looks again when it comes.

    @ivar deadline: in seconds of the clock; L{NEVER} while nothing is waited for.
    """

    __slots__ = ("_call", "_clock", "_expired", "deadline")

    def __init__(self, clock: IReactorTime, expired: Callable[[], object]) -> None:
        self._clock = clock
        self._expired = expired
        self._call: Any = None
        self.deadline = NEVER

    def set(self, seconds: float) -> None:
        """
        From now on, so many seconds.
        """
        clock = self._clock
        self.deadline = deadline = clock.seconds() + seconds
        call = self._call
        if call is None:
            self._call = clock.callLater(seconds, self._check)
        elif call.getTime() > deadline:
            call.reset(seconds)

    def clear(self) -> None:
        """
        Nothing is waited for.
        """
        self.deadline = NEVER

    def stop(self) -> None:
        """
        Never call again.
        """
        self.deadline = NEVER
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _check(self) -> None:
        self._call = None
        if self.deadline == NEVER:
            return
        left = self.deadline - self._clock.seconds()
        if left > 0:
            self._call = self._clock.callLater(left, self._check)
        else:
            self.deadline = NEVER
            self._expired()
