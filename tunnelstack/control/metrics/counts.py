"""
What is counted while a program works: plain integers and lists of integers, which metrics are read from.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from tunnelstack.control.access_record import CLIENT_CLOSED, AccessRecord, failureCode
from tunnelstack.control.metrics.exchange_notes import ExchangeNotes
from tunnelstack.control.metrics.families import SECONDS_BOUNDS
from tunnelstack.control.request_times import NEVER

MAX_SERVICES = 10_000
"""Services that are counted separately; the requests of further ones are counted together."""

OTHERS = "_others"
"""Stands for the services beyond L{MAX_SERVICES}.  No service has such a name."""

CLASSES = ("closed", "1xx", "2xx", "3xx", "4xx", "5xx", "other")
"""The classes of statuses, in the order of their counts."""

OK = CLASSES.index("2xx")
OTHER = CLASSES.index("other")

UNROUTED = "unknown"
"""The code of the failure of a request for which no service was found: what its visitor names is no service."""

MOST_ENDED = 256
"""Requests that have ended and are not counted yet, at most, beside those of which there are L{notes<ExchangeNotes>}."""


class CountedExchange(Protocol):
    """
    An HTTP request that is counted, and of which nothing else is recorded: an
    L{IServerExchange<tunnelstack.interfaces.IServerExchange>}.

    @ivar context: when its head was received, in seconds of the reactor's clock; and once more is known of it than that, a
        tuple of this, of the seconds to the head of the response (L{NEVER<tunnelstack.control.request_times.NEVER>} if there
        is none, or the program made it itself), and the L{failureCode}.
    """

    context: Any
    status: int
    octets: int


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

    def add(self, counts: Iterable[int], total: float) -> None:
        """
        Count observations.

        @param counts: how many there are of each bucket, as from L{bucketed}.
        @param total: their sum.
        """
        self.counts = [before + count for before, count in zip(self.counts, counts, strict=True)]
        self.total += total

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """
        @return: the upper bound of each bucket, and how many observations are not above it.
        """
        count = 0
        for bound, observed in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            count += observed
            yield bound, count


def bucketed(bounds: Sequence[float], values: Iterable[float]) -> list[int]:
    """
    @return: how many of the values each bucket of a L{Histogram} has.
    """
    ordered = sorted(values)                  # then a search for each bound is less than one for each value
    counts, below = [], 0
    for bound in bounds:
        upTo = bisect_right(ordered, bound, below)
        counts.append(upTo - below)
        below = upTo
    counts.append(len(ordered) - below)
    return counts


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

    @ivar notes: of exchanges of which nothing else is recorded.
    @ivar recordEnded: called with each exchange that is over and of which more is recorded, and when that is; or C{None}.
    @ivar byClass: by the class of their status, as in L{CLASSES}.
    @ivar octets: of the bodies of responses.
    @ivar firstOctet: the time to the head of the response.
    @ivar duration: the time to the end of the response.
    @ivar failures: how many failed, by the reason.
    @ivar services: the requests of each service; C{None} if they are not counted.
    """

    __slots__ = ("_ended", "byClass", "duration", "failures", "firstOctet", "notes", "octets", "recordEnded", "services")

    def __init__(self, kinds: Iterable[_FailureKind], *, perService: bool) -> None:
        """
        @param kinds: the reasons for which an exchange can fail.
        @param perService: whether to count the requests of each service.
        """
        self.notes = ExchangeNotes()
        self._ended: list[tuple[int, int, float, float, str, str]] = []      # as the parameters of add()
        self.recordEnded: Callable[[Any, float], object] | None = None
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
        self.add(access.status, access.octets, access.seconds, access.first, failureCode(access.failed), access.service)

    def add(self, status: int, octets: int, seconds: float, first: float, failure: str, service: str) -> None:
        """
        Count a request that has ended.

        @param status: of the response.
        @param octets: of its body.
        @param seconds: to its end.
        @param first: seconds to its head; C{-1} if it is one of the program's own, or there is none.
        @param failure: its L{failureCode}.
        @param service: the service that it was for.
        """
        ended = self._ended
        ended.append((status, octets, seconds, first, failure, service))
        if len(ended) >= MOST_ENDED:
            self.fold()

    # exchanges of which nothing else is recorded

    def exchangeBegun(self, exchange: CountedExchange, now: float) -> None:
        """
        The head of a response is written.  Nothing happens for a response that is not counted, or that the program made itself.
        """
        began = exchange.context
        if type(began) is float:
            exchange.context = began, now - began, ""

    def exchangeFailed(self, exchange: CountedExchange, failed: Exception | None = None) -> None:
        """
        There is no response, or none but the program's own.

        @param failed: why, if it is a failure.
        """
        began = exchange.context
        if type(began) is float:
            exchange.context = began, NEVER, failureCode(failed)
        elif type(began) is tuple:
            exchange.context = (*began[:2], failureCode(failed))

    def exchangeEnded(self, exchange: CountedExchange, now: float) -> None:
        """
        An exchange is over.  One of which more is recorded is handed to C{recordEnded}; one without a context is not counted.
        """
        began = exchange.context
        if type(began) is float:
            exchange.context = None           # what happens from now on is not counted
            seconds = now - began
            if exchange.status:
                self.add(exchange.status, exchange.octets, seconds, seconds, "", "")
            else:
                self.add(CLIENT_CLOSED, exchange.octets, seconds, NEVER, "", "")
            if len(self.notes.seconds) >= self.notes.most:
                self.fold()
        elif type(began) is tuple:
            exchange.context = None
            began, first, failure = began
            self.add(exchange.status or CLIENT_CLOSED, exchange.octets, now - began, first, failure, "")
        elif began is not None and self.recordEnded is not None:
            self.recordEnded(exchange, now)

    def fold(self) -> None:
        """
        Count the requests that were noted; to be called before the counts are read.
        """
        seconds, octets = self.notes.take()
        if seconds:
            self.byClass[OK] += len(seconds)
            self.octets += octets
            self._countTimes(seconds, seconds)
        if self._ended:
            self._foldEnded()

    def _foldEnded(self) -> None:
        statuses, octets, durations, firsts, failures, names = map(list, zip(*self._ended, strict=True))
        self._ended.clear()
        self.octets += sum(octets)
        self._countTimes(durations, firsts)
        for (status, failure, name), count in Counter(zip(statuses, failures, names, strict=True)).items():
            self.byClass[_classOf(status)] += count
            if failure in self.failures:
                self.failures[failure] += count
            if name and failure != UNROUTED and self.services is not None:
                self._service(self.services, name).byClass[_classOf(status)] += count
        if self.services:
            self._countOctets(self.services, octets, failures, names)

    def _countTimes(self, durations: list[float], firsts: list[float]) -> None:
        counts = bucketed(SECONDS_BOUNDS, durations)
        self.duration.add(counts, sum(durations))
        if firsts != durations:               # most responses are received at once
            firsts = [first for first in firsts if first >= 0]
            counts = bucketed(SECONDS_BOUNDS, firsts)
        self.firstOctet.add(counts, sum(firsts))

    def _countOctets(
        self, services: dict[str, ServiceCounts], octets: list[int], failures: list[str], names: list[str]
    ) -> None:
        if len(set(names)) == 1 and UNROUTED not in failures:
            if names[0]:
                self._service(services, names[0]).octets += sum(octets)
            return
        for size, failure, name in zip(octets, failures, names, strict=True):
            if name and failure != UNROUTED:
                self._service(services, name).octets += size

    def _service(self, services: dict[str, ServiceCounts], name: str) -> ServiceCounts:
        counts = services.get(name)
        if counts is None:
            if len(services) >= MAX_SERVICES:
                name = OTHERS
            counts = services.setdefault(name, ServiceCounts())
        return counts


def _classOf(status: int) -> int:
    """
    @return: the place of a status in L{CLASSES}.
    """
    return 0 if status == CLIENT_CLOSED else min(status // 100, OTHER)
