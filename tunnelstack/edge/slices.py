"""
Work that is done in slices, so that nothing else of the process waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from time import perf_counter
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator

T = TypeVar("T")

SLICE_SECONDS = 0.005
"""Seconds of one slice, of all work together; the step that is under way then is finished."""

STEP = 64
"""Items of a list that are looked at in one step."""

Steps = Generator[None, None, T]
"""Work that can be interrupted where it yields; its result is what it returns."""


def toEnd(steps: Steps[T]) -> T:
    """
    Do all of the work now.
    """
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result


class SlicedWork:
    """
    Does several pieces of work in turns.  There is no timer while there is none.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._cooperator = Cooperator(_slice, lambda call: clock.callLater(0, call))

    def do(self, steps: Steps[T]) -> Deferred[T]:
        """
        @return: a C{Deferred} of the result.
        """
        result: list[T] = []

        def work() -> Generator[None, None, None]:
            result.append((yield from steps))

        done: Deferred[Generator[None, None, None]] = self._cooperator.coiterate(work())
        return done.addCallback(lambda _: result[0])


def _slice() -> Callable[[], bool]:
    """
    @return: tells whether the slice that begins now is over.
    """
    end = perf_counter() + SLICE_SECONDS
    return lambda: perf_counter() >= end
