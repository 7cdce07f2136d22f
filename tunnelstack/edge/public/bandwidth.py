"""
Exchanges and splices whose octets are counted in both directions, and delayed when they exceed a limit.

Nothing is queued for that: a direction that exceeds its limit is paused until its buckets allow more, and its sender stops by
stream credit or by TCP, as with any slow reader.  Complete responses are the exception: they have arrived already, so they are
kept, up to L{MAX_DELAYED} for a bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.edge.public.rate import Bucket
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.interfaces import IExchangeReceiver, IResponseExchange, IServerExchange
from tunnelstack.stream.splice import Splice, SpliceEnd
from tunnelstack.wire.http1.head import ResponseHead

MAX_DELAYED = 64
"""Complete responses that may wait for one bucket; while there are as many, further requests are rejected with 429."""


def backlogExceeded(buckets: Sequence[Bucket], now: float) -> ExchangeFailed | None:
    """
    @return: why no further request is forwarded; C{None} if one may be.
    """
    if all(bucket.delayed < MAX_DELAYED for bucket in buckets):
        return None
    return ExchangeFailed(FailureKind.RATE_LIMITED, retryAfter=max(1, ceil(longestWait(buckets, 0, now))))


def longestWait(buckets: Sequence[Bucket], octets: int, now: float) -> float:
    """
    Count octets in every bucket.

    @return: the seconds for which no more should pass.
    """
    return max([bucket.take(octets, now) for bucket in buckets])


@implementer(IPushProducer)
class ThrottledProducer:
    """
    A producer that is paused while its consumer has paused it, or while its buckets do not allow more.
    """

    __slots__ = ("_buckets", "_call", "_clock", "_paused", "_producer")

    def __init__(self, producer: IPushProducer, buckets: Sequence[Bucket], clock: IReactorTime) -> None:
        self._producer = producer
        self._buckets = buckets
        self._clock = clock
        self._paused = False                       # by the consumer
        self._call: IDelayedCall | None = None     # it is paused by the buckets until then

    def count(self, octets: int) -> None:
        """
        Count octets that the producer has produced, and pause it if they were too many.
        """
        wait = longestWait(self._buckets, octets, self._clock.seconds())
        if wait <= 0:
            return
        if self._call is None:
            self._call = self._clock.callLater(wait, self._resume)
            if not self._paused:
                self._producer.pauseProducing()
        else:
            self._call.reset(wait)

    def _resume(self) -> None:
        self._call = None
        if not self._paused:
            self._producer.resumeProducing()

    def pauseProducing(self) -> None:
        self._paused = True
        if self._call is None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._call is None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        self.ended()
        self._producer.stopProducing()

    def ended(self) -> None:
        """
        Call this when the producer produces no more: it is not resumed again.
        """
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def close(self) -> None:
        """
        Stop throttling: only the consumer pauses the producer from now on.
        """
        held = self._call is not None
        self.ended()
        if held and not self._paused:
            self._producer.resumeProducing()


@implementer(IResponseExchange, IPushProducer)
class MeteredExchange:
    """
    A server's exchange whose request and response are counted.  It takes the exchange's place where that is forwarded; the
    receiver of the request must be wrapped by L{meter}.
    """

    def __init__(self, exchange: IServerExchange, buckets: Sequence[Bucket], clock: IReactorTime) -> None:
        """
        @param buckets: count both directions together.
        """
        self._exchange = exchange
        self._buckets = buckets
        self._clock = clock
        self._response: ThrottledProducer | None = None
        self._delayed: IDelayedCall | None = None     # sends a complete response that has to wait
        self._request = ThrottledProducer(IPushProducer(exchange), buckets, clock)
        self._request.count(0)
        self.traits = exchange.traits
        self.trace = exchange.trace
        self.informational = exchange.informational
        self.sendHead = exchange.sendHead
        self.pauseProducing = self._request.pauseProducing
        self.resumeProducing = self._request.resumeProducing

    def write(self, octets: bytes) -> None:
        self._exchange.write(octets)
        if self._response is not None:
            self._response.count(len(octets))

    def respond(self, head: ResponseHead, octets: bytes) -> None:
        now = self._clock.seconds()
        wait = longestWait(self._buckets, 0, now)
        self._cancelDelayed()
        if wait > 0:
            self._delayed = self._clock.callLater(wait, self.respond, head, octets)
            for bucket in self._buckets:
                bucket.delayed += 1
            return
        longestWait(self._buckets, len(octets), now)     # the next response waits, not this one
        self.close()
        self._exchange.respond(head, octets)

    def _cancelDelayed(self) -> None:
        """
        Forget the delayed response, because it is sent or the exchange is over.
        """
        late, self._delayed = self._delayed, None
        if late is not None:
            for bucket in self._buckets:
                bucket.delayed -= 1
            if late.active():
                late.cancel()

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        if self._response is not None:
            self._response.close()
        self._exchange.end(trailers)
        if self._exchange.finished:
            self._request.close()

    def cancel(self, kind: FailureKind) -> None:
        self.close()
        self._exchange.cancel(kind)

    def close(self) -> None:
        """
        Stop throttling both directions.
        """
        self._cancelDelayed()
        self._request.close()
        if self._response is not None:
            self._response.close()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        self._response = ThrottledProducer(producer, self._buckets, self._clock)
        self._exchange.registerProducer(self._response, streaming)
        self._response.count(0)

    def unregisterProducer(self) -> None:
        if self._response is not None:
            self._response.close()
        self._exchange.unregisterProducer()

    def stopProducing(self) -> None:
        self._request.stopProducing()

    def meter(self, receiver: IExchangeReceiver) -> MeteredRequest:
        """
        @param receiver: the receiver of the request.
        @return: the receiver to use instead, which counts the request's body.
        """
        return MeteredRequest(receiver, self, self._request)


@implementer(IExchangeReceiver)
class MeteredRequest:
    """
    Counts the body of a request, and passes everything on to its receiver.
    """

    __slots__ = ("_exchange", "_receiver", "_throttle", "headReceived", "informational")

    def __init__(self, receiver: IExchangeReceiver, exchange: MeteredExchange, throttle: ThrottledProducer) -> None:
        self._receiver = receiver
        self._exchange = exchange
        self._throttle = throttle
        self.headReceived = receiver.headReceived
        self.informational = receiver.informational

    def bodyReceived(self, octets: bytes) -> None:
        self._receiver.bodyReceived(octets)
        self._throttle.count(len(octets))

    def ended(self, trailers: Iterable[tuple[bytes, bytes]]) -> None:
        self._throttle.close()
        self._receiver.ended(trailers)

    def failed(self, reason: ExchangeFailed) -> None:
        self._exchange.close()
        self._receiver.failed(reason)


class MeteredEnd(SpliceEnd):
    """
    One end of a splice, which is read no faster than its buckets allow, and not at all while others have exceeded them.
    """

    _throttle: ThrottledProducer

    def __init__(self, splice: Splice, buckets: Sequence[Bucket], clock: IReactorTime) -> None:
        """
        @param buckets: count both directions together.
        """
        super().__init__(splice)
        self._buckets = buckets
        self._clock = clock

    def _producer(self) -> ThrottledProducer:
        self._throttle = ThrottledProducer(self.transport, self._buckets, self._clock)
        self._throttle.count(0)
        return self._throttle

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self._throttle.count(len(data))

    def readConnectionLost(self) -> None:
        self._throttle.ended()
        super().readConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._throttle.ended()
        super().connectionLost(reason)
