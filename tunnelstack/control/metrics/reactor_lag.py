"""
How late the reactor calls its timers: what a visitor waits for beside its own request.
"""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tunnelstack.control.metrics.counts import Histogram
from tunnelstack.control.metrics.families import LAG_BOUNDS

PERIOD_SECONDS = 1.0
"""Seconds from one timer to the next."""


class ReactorLag(Service):
    """
    Measures the lag while it runs.

    @ivar histogram: how late each timer was called, in seconds.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.histogram = Histogram(LAG_BOUNDS)
        self._clock = clock
        self._due = 0.0
        self._timer: IDelayedCall | None = None

    def startService(self) -> None:
        super().startService()
        self._arm()

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return None

    def _arm(self) -> None:
        self._due = self._clock.seconds() + PERIOD_SECONDS
        self._timer = self._clock.callLater(PERIOD_SECONDS, self._fired)

    def _fired(self) -> None:
        self.histogram.observe(max(0.0, self._clock.seconds() - self._due))
        self._arm()
