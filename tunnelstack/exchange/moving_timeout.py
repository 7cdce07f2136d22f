"""
A deadline that is moved with every request, at almost no cost.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

NEVER = float("inf")


def _nothing() -> None:
    """
    In place of what is called.
    """


class MovingTimeout:
    """
    Calls C{expired} when the deadline has passed.  When the deadline moves to a later time, its one delayed call is not moved:
    it checks the deadline when it is due, and is scheduled again if necessary.

    @ivar deadline: in seconds of the clock; L{NEVER} while there is none.  To set it to that removes the deadline, and to set
        it to a time that is not before C{due} is what L{set} does.
    @ivar due: when the delayed call is due; L{NEVER} while there is none.
    @ivar now: gives the seconds of the clock.
    """

    __slots__ = ("_call", "_clock", "_expired", "deadline", "due", "now")

    def __init__(self, clock: IReactorTime, expired: Callable[[], object]) -> None:
        self._clock = clock
        self._expired = expired
        self._call: IDelayedCall | None = None
        self.now = clock.seconds
        self.due = NEVER
        self.deadline = NEVER

    def set(self, seconds: float) -> None:
        """
        Set the deadline to C{seconds} from now.
        """
        self.deadline = deadline = self.now() + seconds
        if self.due > deadline:
            if self._call is not None:
                self._call.cancel()           # reset() to an earlier time would search all delayed calls of the reactor
            self.due = deadline
            self._call = self._clock.callLater(seconds, self._check)

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
            self.due = NEVER

    def release(self) -> None:
        """
        Remove the deadline for good: what it would have called is not referred to any more.
        """
        self.stop()
        self._expired = _nothing

    def _check(self) -> None:
        self._call = None
        self.due = NEVER
        if self.deadline == NEVER:
            return
        left = self.deadline - self.now()
        if left > 0:
            self.due = self.deadline
            self._call = self._clock.callLater(left, self._check)
        else:
            self.deadline = NEVER
            self._expired()
