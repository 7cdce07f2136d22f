"""
Exchanges that have a stream each, whose heads are not those of HTTP/1.1: the client's side.

The request's head names the length of its body, which follows.  The response's head comes on the same stream, and its body ends
with the stream.  How heads are encoded is given by the caller: a function that gives the endpoint of a stream that begins with
the head of a request, and a reader for the head of the response.

::

    state         until
    ------------  ------------------------------------------------------------------------
    new           the head is given
    collecting    the end of a body of unknown length, which is held here within a bound
    connecting    there is a stream
    open          the response has ended, or failed
    closed
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProducer,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import PeerError, UsageError
from tunnelstack.exchange._connection import IExchangeTransport
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.moving_timeout import MovingTimeout
from tunnelstack.exchange.opened import reportOpened
from tunnelstack.exchange.producers import RequestPressure, requestProducer
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, Timeouts, Traits
from tunnelstack.interfaces import IExchange, IExchangeReceiver
from tunnelstack.stream.errors import SessionLost
from tunnelstack.transport.host_endpoint import connectTimedOut
from tunnelstack.wire.http1.framing import response_framing_untrusted
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

LARGEST_BODY = 64 * 1024 * 1024
"""Octets of the longest body of a request: peers may hold all of it."""

LARGEST_COLLECTED = 1024 * 1024
"""Octets of the longest body whose length is not in its head, and which is therefore held until it is complete."""

LARGEST_HELD = 16 * 1024 * 1024
"""Octets of all such bodies toward one peer."""

ONE_STREAM = Traits(
    streamed=False, largestBody=LARGEST_BODY, trailers=False, informational=False, upgrade=False, halfClose=False,
)
"""What such exchanges can do."""


class ResponseHeadReader(Protocol):
    """
    Octets, cut anywhere, to the head of a response.
    """

    def receive_data(self, octets: bytes) -> ResponseHead | None:
        """
        @return: the head; C{None} while its end is missing.
        @raise PeerError: it is no head.
        """

    def take_leftover(self) -> bytes:
        """
        @return: what was received after the head.
        """


class HeldBodies:
    """
    Counts the octets of bodies that are held until they are complete, for all exchanges with one peer.
    """

    def __init__(self, limit: int = LARGEST_HELD) -> None:
        self._limit = limit
        self.octets = 0

    def add(self, octets: int) -> bool:
        """
        @return: whether they are within the limit.  They are counted in any case.
        """
        self.octets += octets
        return self.octets <= self._limit

    def remove(self, octets: int) -> None:
        """
        They are not held any more.
        """
        self.octets -= octets


@implementer(IExchange, IPushProducer)
class StreamClientExchange:
    """
    One request, on a stream that is opened for it.

    @ivar receiver: receives the response.  Its C{connectionOpened}, if it has one, is called when there is a stream.
    @ivar finished: nothing is written, and the receiver is called no more.
    """

    def __init__(
        self,
        receiver: IExchangeReceiver,
        endpointFor: Callable[[RequestHead, int], IStreamClientEndpoint],
        reader: ResponseHeadReader,
        *,
        clock: IReactorTime,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        traits: Traits = ONE_STREAM,
        largestCollected: int = LARGEST_COLLECTED,
        bodies: HeldBodies | None = None,
        explain: Callable[[Failure], str] | None = None,
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        """
        @param endpointFor: of the head of a request and the octets of its body, gives the endpoint of its stream.
        @param reader: reads the head of the response.
        @param largestCollected: octets of the longest body without a length in its head.
        @param bodies: counts such bodies, for all exchanges with this peer.
        @param explain: gives one sentence for a visitor about a stream that could not be opened.
        @param ended: called once, when the exchange is over.
        """
        self.receiver = receiver
        self.traits = traits
        self.finished = False
        self._endpointFor = endpointFor
        self._reader = reader
        self._clock = clock
        self._timeouts = timeouts
        self._timer = MovingTimeout(clock, self._timedOut)
        self._largestCollected = largestCollected
        self._explain = explain
        self._ended = ended
        self._head: RequestHead | None = None
        self._collecting = False
        self._queue: list[bytes] = []         # of the body, before there is a stream
        self._held = 0                        # octets of them
        self._bodies = bodies or HeldBodies()
        self._remaining = 0                   # octets of the body that are still to be written
        self._sent = False                    # the request is whole
        self._connecting: Deferred[Any] | None = None
        self._transport: IExchangeTransport | None = None
        self._producer: IPushProducer | None = None
        self._full = False                    # the stream accepts no more for now
        self._readPaused = False
        self._responding = False              # the head of the response has arrived
        self._expected = -1                   # octets of the response's body that are missing, if its head names a length
        self._bodyless = False                # the response has no body, whatever follows its head

    # the request

    def sendHead(self, head: RequestHead) -> None:
        """
        Send the head; where it does not name the length of the body, once that is known.

        @raise UsageError: it was sent before.
        """
        if self.finished:
            return
        if self._head is not None:
            raise UsageError("the head of a request is sent once")
        self._head = head
        body = head.framing.body if head.framing is not None else _bodyOctets(head)
        if body < 0:
            self._collecting = True
            if self._producer is not None:
                self._producer.resumeProducing()
        else:
            self._remaining = body
            self._connect(body)

    def write(self, octets: bytes) -> None:
        """
        Send some of the body.

        @raise UsageError: the body is longer than its C{Content-Length}.
        """
        if self.finished or not octets:
            return
        if self._collecting:
            self._collect(octets)
            return
        self._remaining -= len(octets)
        if self._remaining < 0:
            self.cancel(FailureKind.BROKEN)
            raise UsageError("the body is longer than its Content-Length")
        if self._transport is None:
            self._queueBody(octets)
        else:
            self._transport.write(octets)

    def _collect(self, octets: bytes) -> None:
        """
        Hold some of a body whose length is not known yet.
        """
        within = self._queueBody(octets)
        if self._held > self._largestCollected:
            self._fail(ExchangeFailed(FailureKind.TOO_LARGE))
        elif not within:
            self._fail(ExchangeFailed(FailureKind.BUSY, retryAfter=1))

    def _queueBody(self, octets: bytes) -> bool:
        self._queue.append(octets)
        self._held += len(octets)
        return self._bodies.add(len(octets))

    def _release(self) -> list[bytes]:
        """
        @return: what was held.
        """
        queue, self._queue = self._queue, []
        self._bodies.remove(self._held)
        self._held = 0
        return queue

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        The request is whole.  Trailers are dropped.
        """
        if self.finished or self._sent:
            return
        if self._remaining:
            self.cancel(FailureKind.BROKEN)
            return
        self._sent = True
        if self._collecting:
            self._collecting = False
            self._connect(self._held)
        if self._transport is not None and not self._responding:
            self._timer.set(self._timeouts.first)

    def cancel(self, kind: FailureKind) -> None:
        """
        Give up: the receiver is called no more, and the stream is reset.
        """
        if not self.finished:
            self._finish()
            self._drop()

    def _connect(self, body: int) -> None:
        assert self._head is not None
        try:
            endpoint = self._endpointFor(self._head, body)
        except ExchangeFailed as failed:
            self._fail(failed)
            return
        factory = Factory.forProtocol(lambda: _ExchangeStreamProtocol(self))
        factory.noisy = False
        self._connecting = connecting = endpoint.connect(factory)
        connecting.addTimeout(self._timeouts.connect, self._clock, connectTimedOut)
        connecting.addErrback(self._connectFailed)

    def _connectFailed(self, failure: Failure) -> None:
        self._connecting = None
        if self.finished or failure.check(CancelledError):
            return
        kind = FailureKind.ABSENT if failure.check(SessionLost) else FailureKind.UNREACHABLE
        sentence = "" if self._explain is None else self._explain(failure)
        self._fail(ExchangeFailed(kind, sentence, reason=failure.value))

    # from the stream

    def streamOpened(self, transport: IExchangeTransport) -> None:
        """
        From the protocol of the stream: it is open, and has begun with the head of the request.
        """
        self._connecting = None
        if self.finished:
            transport.abortConnection()
            return
        self._transport = transport
        reportOpened(self.receiver)
        transport.registerProducer(RequestPressure(self), True)
        if self._readPaused:
            transport.pauseProducing()
        transport.writeSequence(self._release())
        if self._sent:
            self._timer.set(self._timeouts.first)
        elif self._producer is not None and not self._full:
            self._producer.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        """
        From the protocol of the stream: octets of the response.
        """
        if self.finished:
            return
        if self._responding:
            self._bodyReceived(data)
            return
        try:
            head = self._reader.receive_data(data)
            if head is None:
                return
            assert self._head is not None
            head.framing = framing = response_framing_untrusted(head, self._head.method)
        except PeerError as wrong:
            self._fail(ExchangeFailed(FailureKind.INVALID_RESPONSE, problem=str(wrong)))
            return
        self._responding = True
        self._bodyless = framing.body == 0
        self._expected = framing.body if framing.body > 0 else -1
        self._timer.clear()
        self._armIdle()
        self.receiver.headReceived(head)
        rest = self._reader.take_leftover()
        if rest and not self.finished:
            self._bodyReceived(rest)

    def _bodyReceived(self, octets: bytes) -> None:
        if self._bodyless:
            return
        if self._expected >= 0:
            if len(octets) > self._expected:
                self._fail(ExchangeFailed(FailureKind.INVALID_RESPONSE, problem="the body is longer than its Content-Length"))
                return
            self._expected -= len(octets)
            self._armIdle()
        self.receiver.bodyReceived(octets)

    def _armIdle(self) -> None:
        """
        Wait for more of a response of known length.
        """
        if self._expected > 0 and not self._readPaused:
            self._timer.set(self._timeouts.idle)

    def readEnded(self) -> None:
        """
        From the protocol of the stream: the peer has ended it.
        """
        if self.finished:
            return
        if not self._responding:
            self._fail(ExchangeFailed(FailureKind.BROKEN, problem="the stream ended before the head of the response"))
        elif self._expected > 0:
            self._fail(ExchangeFailed(FailureKind.INVALID_RESPONSE, problem="the body is shorter than its Content-Length"))
        else:
            self._finish()
            if self._sent:
                self._close()
            else:
                self._drop()                  # the rest of the request is not read
            self.receiver.ended(())

    def streamLost(self, reason: Failure) -> None:
        """
        From the protocol of the stream: it is over.
        """
        self._transport = None
        if not self.finished:
            kind = FailureKind.ABSENT if reason.check(SessionLost) and not self._responding else FailureKind.BROKEN
            self._fail(ExchangeFailed(kind, reason=reason.value))

    # ends

    def _timedOut(self) -> None:
        self._fail(ExchangeFailed(FailureKind.GATEWAY_TIMEOUT))

    def _fail(self, failed: ExchangeFailed) -> None:
        """
        The exchange broke.
        """
        if self.finished:
            return
        producer = self._producer
        self._finish()
        self._drop()
        if producer is not None:
            producer.stopProducing()
        self.receiver.failed(failed)

    def _finish(self) -> None:
        self.finished = True
        self._timer.stop()
        self._release()
        self._producer = None
        self._ended()

    def _close(self) -> None:
        """
        End the stream in good order.
        """
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.unregisterProducer()
            transport.loseConnection()

    def _drop(self) -> None:
        """
        Reset the stream, or stop opening it.
        """
        transport, self._transport = self._transport, None
        connecting, self._connecting = self._connecting, None
        if transport is not None:
            transport.unregisterProducer()
            transport.abortConnection()
        elif connecting is not None:
            connecting.cancel()

    # pressure on the request

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self.finished:
            producer.stopProducing()
            return
        self._producer = requestProducer(producer, streaming, self._producer)
        if not self._collecting and (self._transport is None or self._full):
            self._producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """
        It writes no more.
        """
        self._producer = None

    def writingPaused(self) -> None:
        """
        From the stream: it accepts no more for now.
        """
        self._full = True
        if not self._responding:
            self._timer.set(self._timeouts.idle)
        if self._producer is not None:
            self._producer.pauseProducing()

    def writingResumed(self) -> None:
        """
        From the stream: it accepts more again.
        """
        self._full = False
        if not self._responding:
            if self._sent:
                self._timer.set(self._timeouts.first)
            else:
                self._timer.clear()
        if self._producer is not None:
            self._producer.resumeProducing()

    # pressure on the response

    def pauseProducing(self) -> None:
        """
        Read no more of the response.
        """
        self._readPaused = True
        if self._responding:
            self._timer.clear()
        if self._transport is not None:
            self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        """
        Read on.
        """
        self._readPaused = False
        self._armIdle()
        if self._transport is not None:
            self._transport.resumeProducing()

    def stopProducing(self) -> None:
        """
        The near side is closed; the receiver's C{failed} is called as well.
        """


def _bodyOctets(head: RequestHead) -> int:
    """
    @return: octets of the body that a head made here names; C{-1} for chunks.
    """
    if head.field(b"transfer-encoding") is not None:
        return -1
    return int(head.field(b"content-length") or b"0")


@implementer(IHalfCloseableProtocol)
class _ExchangeStreamProtocol(TwistedProtocol):
    """
    The protocol of the stream of one exchange.
    """

    transport: IExchangeTransport

    def __init__(self, exchange: StreamClientExchange) -> None:
        self._exchange = exchange

    def connectionMade(self) -> None:
        self._exchange.streamOpened(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._exchange.dataReceived(data)

    def readConnectionLost(self) -> None:
        self._exchange.readEnded()

    def writeConnectionLost(self) -> None:
        """
        Our direction has ended with the exchange.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._exchange.streamLost(reason)
