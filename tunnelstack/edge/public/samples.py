"""
Samples of requests: the last requests of each service, for those who look for the reason of something.  Bodies are counted and
not kept, and neither are credentials, unless the configuration says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from attrs import frozen
from zope.interface import implementer

from tunnelstack.control.access_record import ObservedRequest
from tunnelstack.control.config.upkeep import SamplesConfig
from tunnelstack.exchange.errors import ExchangeFailed
from tunnelstack.exchange.sample_store import SampleStore
from tunnelstack.interfaces import IExchangeReceiver
from tunnelstack.settings.record import Record
from tunnelstack.wire.http1.head import RequestHead, ResponseHead
from tunnelstack.wire.http1.redaction import shown_fields, shown_query, text_of

LONGEST_TEXT = 2048
"""Characters that are kept of a path, of a query, and of the value of a field."""

MOST_FIELDS = 100
"""Fields that are kept of a request."""


@frozen(kw_only=True, eq=False, repr=False)
class RequestSample(Record):
    """
    A request that has ended.

    @ivar at: when its head was received, in seconds since 1970.
    @ivar service: the key of the service that it was for.
    @ivar trace: its identifier, which error pages and logs show.
    @ivar status: of the response.
    @ivar octetsIn: of its body.
    @ivar octetsOut: of the response's body.
    @ivar seconds: from the head to the end of the response.
    """

    at: float
    service: str
    trace: str
    method: str
    path: str
    query: str
    headers: list[list[str]]
    status: int
    octetsIn: int
    octetsOut: int
    seconds: float

    @property
    def octets(self) -> int:
        """
        Octets of its texts, about.
        """
        return len(self.path) + len(self.query) + sum(len(name) + len(value) for name, value in self.headers)


class RequestSamples:
    """
    The samples of an edge.

    @ivar enabled: whether any are kept.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        """
        @param now: gives the time, in seconds since 1970.
        """
        self._now = now
        self._redaction = ""
        self.enabled = False
        self._store: SampleStore[RequestSample] = SampleStore(0)

    def configure(self, config: SamplesConfig) -> None:
        """
        Keep so many from now on.  If other fields are to be left out, nothing that is kept stays.
        """
        if config.redaction != self._redaction:
            self._redaction = config.redaction
            self._store = SampleStore(config.requests)
        self._store.resize(config.requests)
        self.enabled = config.requests > 0

    def begin(self, request: ObservedRequest, head: RequestHead, service: str, trace: str) -> None:
        """
        Keep a sample of a request when it has ended.

        @param service: the key of the service that it is for.
        """
        request.sample = _UnfinishedSample(self, head, service, trace, self._now())

    def add(self, begun: _UnfinishedSample, status: int, octets: int, seconds: float) -> None:
        """
        A request has ended.
        """
        if not self.enabled:
            return
        path, _, query = begun.head.target.partition(b"?")
        fields = begun.head.fields[:MOST_FIELDS]
        sample = RequestSample(
            at=begun.at, service=begun.service, trace=begun.trace, method=text_of(begun.head.method),
            path=text_of(path[:LONGEST_TEXT]), query=shown_query(query[:LONGEST_TEXT], self._redaction),
            headers=[[name, value[:LONGEST_TEXT]] for name, value in shown_fields(fields, self._redaction)],
            status=status, octetsIn=begun.octets, octetsOut=octets, seconds=round(seconds, 6),
        )
        self._store.add(sample.service, sample, sample.octets)

    def newest(self) -> Iterator[RequestSample]:
        """
        @return: all samples, the newest first.
        """
        return self._store.newest()


class _UnfinishedSample:
    """
    What is known of a request while it is under way.

    @ivar octets: of its body.
    """

    def __init__(self, samples: RequestSamples, head: RequestHead, service: str, trace: str, at: float) -> None:
        self.head = head
        self.service = service
        self.trace = trace
        self.at = at
        self.octets = 0
        self._samples = samples

    def ended(self, status: int, octets: int, seconds: float) -> None:
        self._samples.add(self, status, octets, seconds)

    def counting(self, receiver: IExchangeReceiver) -> IExchangeReceiver:
        """
        @return: a receiver of the request's body that counts it.
        """
        return _CountingReceiver(self, receiver)


@implementer(IExchangeReceiver)
class _CountingReceiver:
    """
    Counts the octets of a body.
    """

    def __init__(self, sample: _UnfinishedSample, receiver: IExchangeReceiver) -> None:
        self._sample = sample
        self._receiver = receiver

    def informational(self, head: ResponseHead) -> None:
        self._receiver.informational(head)

    def headReceived(self, head: ResponseHead) -> None:
        self._receiver.headReceived(head)

    def bodyReceived(self, octets: bytes) -> None:
        self._sample.octets += len(octets)
        self._receiver.bodyReceived(octets)

    def ended(self, trailers: Iterable[tuple[bytes, bytes]]) -> None:
        self._receiver.ended(trailers)

    def failed(self, reason: ExchangeFailed) -> None:
        self._receiver.failed(reason)
