"""
Any number of callers that wait for the same event.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Waiters(Generic[T]):
    """
    The Deferreds of callers that wait.  It is true while there are any.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Deferred[T]] | None = None     # most events have nobody that waits

    def __len__(self) -> int:
        return len(self._waiting or ())

    def wait(self) -> Deferred[T]:
        """
        @return: fires at the next L{fire} or L{fail}.  A caller may cancel it.
        """
        waiter: Deferred[T] = Deferred(self._cancelled)
        if self._waiting is None:
            self._waiting = [waiter]
        else:
            self._waiting.append(waiter)
        return waiter

    def _cancelled(self, waiter: Deferred[T]) -> None:
        if self._waiting is not None and waiter in self._waiting:     # not one of those that are being fired
            self._waiting.remove(waiter)

    def fire(self, result: T) -> None:
        """
        Give a result to all that wait now.  Those that begin to wait meanwhile wait for the next one.
        """
        waiting, self._waiting = self._waiting, None
        for waiter in waiting or ():
            if not waiter.called:             # an earlier one may have cancelled it
                waiter.callback(result)

    def fail(self, reason: Exception | Failure) -> None:
        """
        Give a failure to all that wait now.
        """
        waiting, self._waiting = self._waiting, None
        for waiter in waiting or ():
            if not waiter.called:
                waiter.errback(reason)
