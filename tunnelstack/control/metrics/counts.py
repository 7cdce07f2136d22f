"""
What is counted while a program works: plain integers and lists of integers, which metrics are read from.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Protocol

from tunnelstack.control.access_record import CLIENT_CLOSED, AccessRecord
from tunnelstack.control.metrics.families import SECONDS_BOUNDS

MAX_SERVICES = 10_000
"""Services that are counted separately; the requests of further ones are counted together."""

OTHERS = "_others"
"""Stands for the services beyond L{MAX_SERVICES}.  No service has such a name."""

CLASSES = ("closed", "1xx", "2xx", "3xx", "4xx", "5xx", "other")
"""The classes of statuses, in the order of their counts."""

OTHER = CLASSES.index("other")

UNROUTED = "unknown"
"""The code of the failure of a request for which no service was found: what its visitor names is no service."""


MOST_ENDED = 256
"""Requests that are noted and not counted yet, at most."""

EndedRequest = tuple[int, int, float, float, str, str]
"""
The status of the response, the octets of its body, the seconds to its end and to its head (C{-1} if there was none), the
L{failureCode}, and the service.
"""


class _FailureKind(Protocol):
    """
    The reason of an exchange that failed, as
    L{FailureKind<tunnelstack.exchange.errors.FailureKind>} has it.
    """

    @property
    def name(self) -> str: ...


class Histogram:
    """
    Counts observations by size.

    @ivar bounds: the upper bounds of the buckets but the last, which has none.
    @ivar counts: the observations in each bucket.
    @ivar total: the sum of all observations.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """
        Count an observation.
        """
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observeAll(self, values: Iterable[float]) -> None:
        """
        Count observations.
        """
        ordered = sorted(values)              # then a search for each bound is less than one for each value
        below = 0
        for bucket, bound in enumerate(self.bounds):
            upTo = bisect_right(ordered, bound, below)
            self.counts[bucket] += upTo - below
            below = upTo
        self.counts[-1] += len(ordered) - below
        self.total += sum(ordered)

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """
        @return: the upper bound of each bucket, and how many observations are not above it.
        """
        count = 0
        for bound, observed in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            count += observed
            yield bound, count


class ServiceCounts:
    """
    The requests of one service.

    @ivar byClass: by the class of their status, as in L{CLASSES}.
    @ivar octets: of the bodies of responses.
    """

    __slots__ = ("byClass", "octets")

    def __init__(self) -> None:
        self.byClass = [0] * len(CLASSES)
        self.octets = 0


class ExchangeCounts:
    """
    Counts the requests that have ended.  They are noted first, which is cheap, and counted later, many at a time.

    @ivar ended: the requests that are not counted yet; who appends one calls L{fold} if there are L{MOST_ENDED}.
    @ivar byClass: by the class of their status, as in L{CLASSES}.
    @ivar octets: of the bodies of responses.
    @ivar firstOctet: the time to the head of the response.
    @ivar duration: the time to the end of the response.
    @ivar failures: how many failed, by the reason.
    @ivar services: the requests of each service; C{None} if they are not counted.
    """

    __slots__ = ("byClass", "duration", "ended", "failures", "firstOctet", "octets", "services")

    def __init__(self, kinds: Iterable[_FailureKind], *, perService: bool) -> None:
        """
        @param kinds: the reasons for which an exchange can fail.
        @param perService: whether to count the requests of each service.
        """
        self.ended: list[EndedRequest] = []
        self.byClass = [0] * len(CLASSES)
        self.octets = 0
        self.firstOctet = Histogram(SECONDS_BOUNDS)
        self.duration = Histogram(SECONDS_BOUNDS)
        self.failures = {kind.name.lower(): 0 for kind in kinds}
        self.services: dict[str, ServiceCounts] | None = {} if perService else None

    def __call__(self, access: AccessRecord) -> None:
        """
        Count the request of a record: a L{RequestObserver<tunnelstack.control.access_record.RequestObserver>}.
        """
        self.ended.append((
            access.status, access.octets, access.seconds, access.first, failureCode(access.failed), access.service
        ))  # fmt: skip
        self.fold()

    def fold(self) -> None:
        """
        Count the requests in L{ended}; to be called before the counts are read.
        """
        if not self.ended:
            return
        statuses, octets, durations, firsts, failures, services = zip(*self.ended, strict=True)
        for status, count in Counter(statuses).items():
            self.byClass[_classOf(status)] += count
        self.octets += sum(octets)
        self.duration.observeAll(durations)
        self.firstOctet.observeAll([first for first in firsts if first >= 0])
        for failure, count in Counter(failures).items():
            if failure in self.failures:
                self.failures[failure] += count
        if self.services is not None:
            for name, status, size, failure in zip(services, statuses, octets, failures, strict=True):
                if name and failure != UNROUTED:
                    self._countService(self.services, name, size, _classOf(status))
        self.ended.clear()

    def _countService(self, services: dict[str, ServiceCounts], name: str, octets: int, kind: int) -> None:
        counts = services.get(name)
        if counts is None:
            if len(services) >= MAX_SERVICES:
                name = OTHERS
            counts = services.setdefault(name, ServiceCounts())
        counts.byClass[kind] += 1
        counts.octets += octets


def _classOf(status: int) -> int:
    """
    @return: the place of a status in L{CLASSES}.
    """
    return 0 if status == CLIENT_CLOSED else min(status // 100, OTHER)


def failureCode(failed: Exception | None) -> str:
    """
    @return: the reason for which an exchange failed, as in C{failures}; C{""} if it did not, or for another reason.
    """
    kind = getattr(failed, "kind", None)
    return kind.name.lower() if isinstance(kind, Enum) else ""
