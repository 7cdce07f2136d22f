"""
The waits between attempts of an agent.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from tunnelstack.interfaces import IBackoff
from tunnelstack.wire.records.jetty import stock_retry_seconds

HEALTHY_SECONDS = 60.0
"""Seconds for which a session must have lasted before the waits begin with the first one again."""

CROWDED_SECONDS = 30.0
"""The shortest wait after the edge had too many agents."""


@implementer(IBackoff)
class Backoff:
    """
    The waits of the stock agent, each varied from 0 to its length.
    """

    def __init__(self, clock: IReactorTime, random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._attempt = 1
        self._since: float | None = None      # when the present session began
        self._least = 0.0
        self._atOnce = False

    def connected(self) -> None:
        self._since = self._clock.seconds()

    def crowded(self) -> None:
        """
        The edge has too many agents: wait for long.
        """
        self._least = CROWDED_SECONDS

    def atOnce(self) -> None:
        """
        There is nothing to wait for: the edge is about to stop, or another session is ready.
        """
        self._atOnce = True

    def nextWait(self) -> float:
        since, self._since = self._since, None
        if since is not None and self._clock.seconds() - since >= HEALTHY_SECONDS:
            self._attempt = 1
        self._attempt += 1
        least, self._least = self._least, 0.0
        atOnce, self._atOnce = self._atOnce, False
        most = max(2 * least, stock_retry_seconds(self._attempt))
        return 0.0 if atOnce else least + (most - least) * self._random()
