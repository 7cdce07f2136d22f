"""
Samples: the values of metrics at one moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import frozen

from tunnelstack.control.metrics import families
from tunnelstack.control.metrics.counts import CLASSES, ExchangeCounts, Histogram
from tunnelstack.control.metrics.families import COUNTER, HISTOGRAM, Family


@frozen
class Sample:
    """
    One value.

    @ivar name: of the sample; in a histogram it differs from that of the family.
    @ivar values: the values of the family's labels, and in a bucket of a histogram its upper bound.
    """

    name: str
    values: tuple[str, ...]
    value: float


Samples = tuple[Family, Iterable[Sample]]
"""The samples of one family.  They may be made while they are read."""


def single(family: Family, value: float) -> Samples:
    """
    The sample of a family without labels.
    """
    return labelled(family, [((), value)])


def labelled(family: Family, values: Iterable[tuple[tuple[str, ...], float]]) -> Samples:
    """
    @param values: the values of the labels, with the value of the sample.  They are read when the samples are.
    """
    name = family.name + ("_total" if family.kind == COUNTER else "")
    return family, (Sample(name, labels, value) for labels, value in values)


def histogram(family: Family, observed: Histogram) -> Samples:
    """
    The samples of a histogram.
    """
    assert family.kind == HISTOGRAM
    samples = [Sample(f"{family.name}_bucket", (bound,), count) for bound, count in observed.cumulative()]
    count = Sample(f"{family.name}_count", (), sum(observed.counts))
    return family, [*samples, count, Sample(f"{family.name}_sum", (), observed.total)]


def exchanges(counts: ExchangeCounts) -> Iterator[Samples]:
    """
    The requests, without those of each service.
    """
    counts.fold()
    yield labelled(families.EXCHANGES, [((name,), count) for name, count in zip(CLASSES, counts.byClass, strict=True)])
    yield single(families.RESPONSE_BYTES, counts.octets)
    yield histogram(families.FIRST_OCTET, counts.firstOctet)
    yield histogram(families.DURATION, counts.duration)
    yield labelled(families.REFUSALS, [((code,), count) for code, count in counts.failures.items()])


def services(counts: ExchangeCounts) -> Iterator[Samples]:
    """
    The requests of each service, if they are counted.
    """
    if counts.services is None:
        return
    counts.fold()
    known = list(counts.services.items())
    yield labelled(families.SERVICE_EXCHANGES, (
        ((name, kind), count)
        for name, service in known for kind, count in zip(CLASSES, service.byClass, strict=True) if count
    ))  # fmt: skip
    yield labelled(families.SERVICE_RESPONSE_BYTES, (((name,), service.octets) for name, service in known))
