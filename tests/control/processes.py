"""
A service and a reactor for tests of the lifecycle of a process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from tunnelstack.interfaces import IProcessService


@implementer(IProcessService)
class Worker(Service):
    """
    A service that is ready, or fails, when the test fires C{ready} or C{over}.
    """

    drainSeconds = 30.0

    def __init__(self, fails: Exception | None = None) -> None:
        self.ready: Deferred[Any] = Deferred()
        self.over: Deferred[Any] = Deferred()
        self.fails = fails

    def whenReady(self) -> Deferred[Any]:
        return self.ready

    def whenFailed(self) -> Deferred[Any]:
        return self.over

    def startService(self) -> None:
        super().startService()
        if self.fails is not None:
            raise self.fails


class RecordingReactor(Clock):
    """
    A reactor that records how it is ended.

    @ivar ends: C{"stop"} and C{"crash"}, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[str] = []
        self._running = False
        self._waiting: list[Callable[[], object]] = []

    def callWhenRunning(self, call: Callable[[], object]) -> None:
        if self._running:
            call()
        else:
            self._waiting.append(call)

    def run(self) -> None:
        self._running = True
        for call in self._waiting:
            call()

    def stop(self) -> None:
        self.ends.append("stop")

    def crash(self) -> None:
        self.ends.append("crash")

    def callFromThread(self, call: Callable[[], object]) -> None:
        call()
