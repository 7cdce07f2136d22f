"""
The samples of requests as records that JSON can encode.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunnelstack.edge.list_query import ListQuery
from tunnelstack.edge.public.samples import RequestSample, RequestSamples
from tunnelstack.edge.slices import STEP, Steps
from tunnelstack.edge.status import Record


def sampleSteps(samples: RequestSamples, query: ListQuery) -> Steps[Record]:
    """
    One record for each sample, the newest first, and how many there are.
    """
    found: list[RequestSample] = []
    for number, sample in enumerate(samples.newest()):
        if not number % STEP:
            yield
        if query.matches(_words(sample)):
            found.append(sample)
    records = []
    for number, sample in enumerate(query.part(found)):
        if not number % STEP:
            yield
        records.append(_record(sample))
    return {"samples": records, "count": len(found)}


def _words(sample: RequestSample) -> Sequence[str]:
    return sample.service, sample.method, sample.path, sample.trace, str(sample.status)


def _record(sample: RequestSample) -> Record:
    return {
        "time": round(sample.at, 3), "service": sample.service, "request": sample.trace, "method": sample.method,
        "path": sample.path, "query": sample.query, "status": sample.status, "octets_in": sample.octetsIn,
        "octets_out": sample.octetsOut, "seconds": sample.seconds, "headers": sample.headers,
    }  # fmt: skip
