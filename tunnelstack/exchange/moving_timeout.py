"""
A deadline that is moved with every request, at almost no cost.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

NEVER = float("inf")


def _nothing() -> None:
    """
    In place of what is called.
    """


class FirstTimeouts:
    """
    The first deadlines of the connections of a factory, which all have as long: the first to begin is the first that is due, so
    one delayed call is enough for all of them, and most end long before it.  Until L{stop}, the call stays scheduled when the
    last deadline is removed, so that the next connection need not schedule one.

    @ivar seconds: how long they have.
    @ivar waiting: when each is due, the earliest first.  L{MovingTimeout} adds itself and discards itself, since each would be
        a call for each connection.
    @ivar armed: there is a delayed call.
    @ivar stopped: the delayed call is cancelled when the last deadline is removed.
    """

    __slots__ = ("_call", "_clock", "armed", "seconds", "stopped", "waiting")

    _log = Logger()

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self.seconds = seconds
        self.waiting: dict[MovingTimeout, float] = {}
        self.armed = False
        self.stopped = False
        self._clock = clock
        self._call: IDelayedCall | None = None

    def arm(self, seconds: float) -> None:
        """
        Look at those that are due in some seconds from now.
        """
        self.armed = True
        self._call = self._clock.callLater(seconds, self._look)

    def stop(self) -> None:
        """
        The connections end: leave no delayed call behind them.
        """
        self.stopped = True
        if self._call is not None and not self.waiting:
            self._call.cancel()
            self._call = None
            self.armed = False

    def _look(self) -> None:
        self._call = None
        self.armed = False
        waiting, now = self.waiting, self._clock.seconds()
        late = []
        for timeout, due in waiting.items():
            if due > now:
                self.arm(due - now)
                break
            late.append(timeout)
        for timeout in late:
            del waiting[timeout]
        for timeout in late:
            try:
                timeout.look()
            except Exception:
                self._log.failure("a handler of a deadline failed")


class MovingTimeout:
    """
    Calls C{expired} when the deadline has passed.  When the deadline moves to a later time, its one delayed call is not moved:
    it checks the deadline when it is due, and is scheduled again if necessary.

    @ivar deadline: in seconds of the clock; L{NEVER} while there is none.  To set it to that removes the deadline, and to set
        it to a time that is not before C{due} is what L{set} does.
    @ivar due: when the delayed call is due; L{NEVER} while there is none.
    @ivar now: gives the seconds of the clock.
    """

    __slots__ = ("_call", "_clock", "_expired", "_first", "deadline", "due", "now")

    def __init__(self, clock: IReactorTime, expired: Callable[[], object], first: FirstTimeouts | None = None) -> None:
        """
        @param first: has the delayed call of a deadline that is set with its C{seconds}.
        """
        self._clock = clock
        self._expired = expired
        self._first = first
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
            first = self._first
            if self.due != NEVER:
                self._forget()                # reset() to an earlier time would search all delayed calls of the reactor
            self.due = deadline
            if first is not None and seconds == first.seconds:
                first.waiting[self] = deadline
                if not first.armed:
                    first.arm(seconds)
            else:
                self._call = self._clock.callLater(seconds, self.look)

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
        if self.due != NEVER:
            self._forget()

    def release(self) -> None:
        """
        Remove the deadline for good: what it would have called is not referred to any more.
        """
        self.deadline = NEVER
        if self.due != NEVER:
            self._forget()
        self._expired = _nothing

    def _forget(self) -> None:
        """
        Nothing is going to look at the deadline.
        """
        self.due = NEVER
        if self._call is not None:
            self._call.cancel()
            self._call = None
        elif self._first is not None:
            self._first.waiting.pop(self, None)
            if self._first.stopped:
                self._first.stop()

    def look(self) -> None:
        """
        From the delayed call: see whether the deadline has passed.
        """
        self._call = None
        self.due = NEVER
        if self.deadline == NEVER:
            return
        left = self.deadline - self.now()
        if left > 0:
            self.due = self.deadline
            self._call = self._clock.callLater(left, self.look)
        else:
            self.deadline = NEVER
            self._expired()
