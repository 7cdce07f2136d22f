"""
A deadline that is moved with every request, at almost no cost.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

NEVER = float("inf")


class MovingTimeout:
    """
    Calls C{expired} when the deadline has passed.  When the deadline moves to a later time, its one delayed call is not moved:
    it checks the deadline when it is due, and is scheduled again if necessary.

    @ivar deadline: in seconds of the clock; L{NEVER} while there is none.  To set it to that removes the deadline.
    """

    __slots__ = ("_call", "_clock", "_due", "_expired", "deadline")

    def __init__(self, clock: IReactorTime, expired: Callable[[], object]) -> None:
        self._clock = clock
        self._expired = expired
        self._call: IDelayedCall | None = None
        self._due = NEVER                     # when the call is due
        self.deadline = NEVER

    def set(self, seconds: float) -> None:
        """
        Set the deadline to C{seconds} from now.
        """
        clock = self._clock
        self.deadline = deadline = clock.seconds() + seconds
        call = self._call
        if call is None:
            self._due = deadline
            self._call = clock.callLater(seconds, self._check)
        elif self._due > deadline:
            self._due = deadline
            call.cancel()                     # reset() to an earlier time would search all delayed calls of the reactor
            self._call = clock.callLater(seconds, self._check)

    def clear(self) -> None:
        """
        Remove the deadline.
        """
        self.deadline = NEVER

    def stop(self) -> None:
        """
        Remove the deadline and the delayed call.
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
            self._due = self.deadline
            self._call = self._clock.callLater(left, self._check)
        else:
            self.deadline = NEVER
            self._expired()
