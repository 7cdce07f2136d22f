"""
The text of metrics, as Prometheus reads it, by C{prometheus_client}.

The text is made in pieces, each when the previous one has been sent, so that a scrape of very many samples delays nothing else
for long, and a scraper that does not read costs no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from time import perf_counter

from attrs import frozen
from prometheus_client import CONTENT_TYPE_LATEST, Metric, ProcessCollector, generate_latest
from prometheus_client.registry import Collector

from tunnelstack.control.metrics.families import HISTOGRAM, Family
from tunnelstack.control.metrics.samples import Sample, Samples

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode("ascii")

SLICE_SAMPLES = 128
"""Samples that are formatted at once: one takes about 5 µs."""

PIECE_OCTETS = 32 * 1024
"""Octets above which pieces are not joined."""

PIECE_SECONDS = 0.003
"""Seconds after which pieces are not joined."""


@frozen(eq=False)
class SampleCollector(Collector):
    """
    Reads samples on request: a custom collector, which may be registered with a C{CollectorRegistry} as well.

    @ivar read: gives the samples of this moment.
    @ivar now: gives the time, in seconds.
    """

    read: Callable[[], Iterable[Samples]]
    now: Callable[[], float] = perf_counter

    def collect(self) -> Iterator[Metric]:
        """
        @return: one metric for each family.
        """
        for family, samples in self.read():
            yield _metric(family, samples)

    def pieces(self) -> Iterator[bytes]:
        """
        @return: the text, with the process's own metrics at the end.
        """
        joined, began = b"", self.now()
        for piece in chain(self._texts(), self._process()):
            joined += piece
            if len(joined) >= PIECE_OCTETS or self.now() - began >= PIECE_SECONDS:
                yield joined
                joined, began = b"", self.now()
        if joined:
            yield joined

    def _texts(self) -> Iterator[bytes]:
        for family, samples in self.read():
            yield from _slices(family, iter(samples))

    def _process(self) -> Iterator[bytes]:
        yield generate_latest(PROCESS_COLLECTOR)


PROCESS_COLLECTOR = ProcessCollector(registry=None)


def _slices(family: Family, samples: Iterator[Sample]) -> Iterator[bytes]:
    """
    @return: the text of one family, in pieces of at most L{SLICE_SAMPLES}.  Only the first has the meaning and the type.
    """
    first = True
    while batch := list(islice(samples, SLICE_SAMPLES)):
        text = generate_latest(_OneMetric(_metric(family, batch)))
        yield text if first else text.split(b"\n", 2)[2]
        first = False


@frozen(eq=False)
class _OneMetric(Collector):
    """
    Collects one metric.
    """

    metric: Metric

    def collect(self) -> Iterator[Metric]:
        yield self.metric


def _metric(family: Family, samples: Iterable[Sample]) -> Metric:
    metric = Metric(family.name, family.says, family.kind)
    labels = ("le",) if family.kind == HISTOGRAM else family.labels
    for sample in samples:
        metric.add_sample(sample.name, dict(zip(labels, sample.values, strict=False)), sample.value)
    return metric
