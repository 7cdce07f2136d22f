"""
An exchange, or a splice, whose octets are counted, in both directions, and held back when they come too fast.

Pressure is all there is to it: a direction that has gone ahead of its buckets is paused until they have caught up, and its
sender stops by credit or by TCP, as with any reader that is slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.edge.public.rate import Bucket
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.interfaces import IExchange, IExchangeReceiver
from tunnelstack.stream.splice import Splice, SpliceEnd

MAX_DELAYED = 64
"""Responses that may be kept for one bucket; while there are so many, nothing more is asked for."""


def backlogExceeded(buckets: Sequence[Bucket], now: float) -> ExchangeFailed | None:
    """
    @return: C{None} if one more may be asked for.
    """
    if all(bucket.delayed < MAX_DELAYED for bucket in buckets):
        return None
    return ExchangeFailed(FailureKind.RATE_LIMITED, retryAfter=max(1, ceil(max([bucket.take(0, now) for bucket in buckets]))))


@implementer(IPushProducer)
class ThrottledProducer:
    """
    A producer that two may pause: whom it produces for, and the buckets it empties.
    """

    __slots__ = ("_buckets", "_call", "_clock", "_paused", "_producer")

    def __init__(self, producer: Any, buckets: Sequence[Bucket], clock: Any) -> None:
        self._producer = producer
        self._buckets = buckets
        self._clock = clock
        self._paused = False
        self._call: Any = None

    def count(self, octets: int) -> None:
        """
        So many came through; no more may for a while, perhaps.
        """
        now = self._clock.seconds()
        wait = max([bucket.take(octets, now) for bucket in self._buckets])
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
        """
        From the consumer: it takes no more for now.
        """
        self._paused = True
        if self._call is None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """
        From the consumer: there is room again.
        """
        self._paused = False
        if self._call is None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """
        From the consumer: nothing more is wanted.
        """
        self.ended()
        self._producer.stopProducing()

    def ended(self) -> None:
        """
        It produces no more.
        """
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def close(self) -> None:
        """
        The buckets hold it back no more.
        """
        held = self._call is not None
        self.ended()
        if held and not self._paused:
            self._producer.resumeProducing()


@implementer(IExchange, IPushProducer)
class MeteredExchange:
    """
    The serving side's exchange, for a join; what is written here is the response.
    """

    def __init__(self, exchange: Any, buckets: Sequence[Bucket], clock: Any) -> None:
        """
        @param buckets: what both directions together may take.
        """
        self._exchange = exchange
        self._buckets = buckets
        self._clock = clock
        self._response: ThrottledProducer | None = None
        self._delayed: Any = None                # the call that sends a response which came at once, but has to wait
        self._request = ThrottledProducer(exchange, buckets, clock)
        self._request.count(0)
        self.traits = exchange.traits
        self.trace = exchange.trace
        self.informational = exchange.informational
        self.sendHead = exchange.sendHead
        self.pauseProducing = self._request.pauseProducing
        self.resumeProducing = self._request.resumeProducing

    def write(self, octets: bytes) -> None:
        """
        As in L{IExchange}.
        """
        self._exchange.write(octets)
        if self._response is not None:
            self._response.count(len(octets))

    def respond(self, head: Any, octets: bytes) -> None:
        """
        As in L{IExchange}.
        """
        now = self._clock.seconds()
        wait = max([bucket.take(0, now) for bucket in self._buckets])
        self._cancelDelayed()
        if wait > 0:
            self._delayed = self._clock.callLater(wait, self.respond, head, octets)
            for bucket in self._buckets:
                bucket.delayed += 1
            return
        for bucket in self._buckets:
            bucket.take(len(octets), now)     # who comes next waits for it
        self.close()
        self._exchange.respond(head, octets)

    def _cancelDelayed(self) -> None:
        """
        No response waits, or not any more.
        """
        late, self._delayed = self._delayed, None
        if late is not None:
            for bucket in self._buckets:
                bucket.delayed -= 1
            if late.active():
                late.cancel()

    def end(self, trailers: Any = ()) -> None:
        """
        As in L{IExchange}.
        """
        if self._response is not None:
            self._response.close()
        self._exchange.end(trailers)
        if self._exchange.finished:
            self._request.close()

    def cancel(self, kind: Any) -> None:
        """
        As in L{IExchange}.
        """
        self.close()
        self._exchange.cancel(kind)

    def close(self) -> None:
        """
        Hold nothing back any more.
        """
        self._cancelDelayed()
        self._request.close()
        if self._response is not None:
            self._response.close()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        As in C{IConsumer}.
        """
        self._response = ThrottledProducer(producer, self._buckets, self._clock)
        self._exchange.registerProducer(self._response, streaming)
        self._response.count(0)

    def unregisterProducer(self) -> None:
        """
        As in C{IConsumer}.
        """
        if self._response is not None:
            self._response.close()
        self._exchange.unregisterProducer()

    def stopProducing(self) -> None:
        """
        As in C{IPushProducer}.
        """
        self._request.stopProducing()

    def meter(self, receiver: Any) -> MeteredRequest:
        """
        @param receiver: of the request, from the join.
        @return: the one to tell.
        """
        return MeteredRequest(receiver, self, self._request)


@implementer(IExchangeReceiver)
class MeteredRequest:
    """
    Hears of the request, and counts it.
    """

    __slots__ = ("_exchange", "_receiver", "_throttle", "headReceived", "informational")

    def __init__(self, receiver: Any, exchange: MeteredExchange, throttle: ThrottledProducer) -> None:
        self._receiver = receiver
        self._exchange = exchange
        self._throttle = throttle
        self.headReceived = receiver.headReceived
        self.informational = receiver.informational

    def bodyReceived(self, octets: bytes) -> None:
        """
        As in L{IExchangeReceiver}.
        """
        self._receiver.bodyReceived(octets)
        self._throttle.count(len(octets))

    def ended(self, trailers: Any) -> None:
        """
        As in L{IExchangeReceiver}.
        """
        self._throttle.close()
        self._receiver.ended(trailers)

    def failed(self, reason: Any) -> None:
        """
        As in L{IExchangeReceiver}.
        """
        self._exchange.close()
        self._receiver.failed(reason)


class MeteredEnd(SpliceEnd):
    """
    One end of a splice: it is read no faster than the buckets allow, and not at all as long as they owe what others took.
    """

    def __init__(self, splice: Splice, buckets: Sequence[Bucket], clock: Any) -> None:
        """
        @param buckets: what both directions together may take.
        """
        super().__init__(splice)
        self._buckets = buckets
        self._clock = clock
        self._throttle: ThrottledProducer

    def _producer(self) -> ThrottledProducer:
        self._throttle = ThrottledProducer(self.transport, self._buckets, self._clock)
        self._throttle.count(0)
        return self._throttle

    def dataReceived(self, data: bytes) -> None:
        """
        Pass it on, and count it.
        """
        super().dataReceived(data)
        self._throttle.count(len(data))

    def readConnectionLost(self) -> None:
        """
        As in L{SpliceEnd}.
        """
        self._throttle.ended()
        super().readConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        As in L{SpliceEnd}.
        """
        self._throttle.ended()
        super().connectionLost(reason)
