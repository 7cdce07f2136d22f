"""
The figures of a panel: totals, rates over the last seconds, and how long the last requests have taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import ceil

from attrs import frozen

from tunnelstack.control.access_record import AccessRecord

DURATIONS = 200
"""How many of the last requests the quantiles are of."""

RATE_SECONDS = 10.0
"""The seconds over which rates are measured."""

UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@frozen
class _Sample:
    """
    The totals at one time, in seconds of the clock.
    """

    at: float
    requests: int
    octetsIn: int
    octetsOut: int


class Figures:
    """
    Counts requests and octets.

    @ivar requests: how many requests have ended.
    @ivar failed: how many of them have failed, with a status from 500 or without a response.
    """

    def __init__(self) -> None:
        self.requests = self.failed = 0
        self._durations: deque[float] = deque(maxlen=DURATIONS)
        self._samples: deque[_Sample] = deque()

    def requestDone(self, access: AccessRecord) -> None:
        """
        Count a request that has ended.  What switched to another protocol, such as a WebSocket, lasts as long as it is used, so
        it is not among the durations.
        """
        self.requests += 1
        if access.status >= 500 or not access.status:
            self.failed += 1
        if access.status != 101:
            self._durations.append(access.seconds)

    def sample(self, now: float, octetsIn: int, octetsOut: int) -> None:
        """
        Remember the totals; to be called about once a second.
        """
        self._samples.append(_Sample(now, self.requests, octetsIn, octetsOut))
        while self._samples[0].at < now - RATE_SECONDS:
            self._samples.popleft()

    def quantile(self, part: float) -> float:
        """
        @param part: from 0 to 1.
        @return: the seconds within which that part of the last requests has ended; C{0} if there were none.
        """
        ordered = sorted(self._durations)
        return ordered[max(0, ceil(part * len(ordered)) - 1)] if ordered else 0.0

    def pieces(self) -> Sequence[str]:
        """
        @return: the figures as texts, the most important first.
        """
        if not self._samples:
            return ()
        first, last = self._samples[0], self._samples[-1]
        seconds = last.at - first.at
        received, sent = last.octetsIn - first.octetsIn, last.octetsOut - first.octetsOut
        parts = (("p50", 0.5), ("p90", 0.9)) if self._durations else ()
        return (
            str(self.requests), *([f"{self.failed} failed"] if self.failed else []),
            f"{_rate(last.requests - first.requests, seconds):.1f}/s",
            *(f"{name} {milliseconds(self.quantile(part))}" for name, part in parts),
            f"in {octets(last.octetsIn)}, {octets(_rate(received, seconds))}/s",
            f"out {octets(last.octetsOut)}, {octets(_rate(sent, seconds))}/s",
        )


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def milliseconds(seconds: float) -> str:
    """
    @return: a duration with its unit.
    """
    return f"{seconds * 1000:.1f} ms" if seconds < 10 else f"{seconds:.1f} s"


def octets(count: float) -> str:
    """
    @return: a number of octets in three or four digits with a decimal unit.
    """
    for unit in UNITS[:-1]:
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {UNITS[-1]}"
