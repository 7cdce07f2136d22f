"""
HTTP/2 for a client: one exchange on a stream of a connection that its pool has.

::

    state       until
    ----------  ---------------------------------------------------------------
    new         the head is given
    waiting     the pool has a connection with a free stream
    open        the response has ended, or failed
    finished

Deadlines (L{Timeouts<tunnelstack.exchange.traits.Timeouts>}) are those of HTTP/1.1: C{connect} while it waits; C{first} from
the end of the request to the head of the response, C{interim} beside it; C{idle} for a response of known length, and while the
server does not read.

A request that the server has certainly not processed is sent once more: it was refused, or its connection went away before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from twisted.internet.interfaces import IProducer, IPushProducer
from zope.interface import implementer

from tunnelstack.errors import UsageError
from tunnelstack.exchange.client import INTERIM, REPEATED
from tunnelstack.exchange.errors import Busy, ExchangeFailed, FailureKind, unreadableResponse
from tunnelstack.exchange.opened import reportOpened
from tunnelstack.exchange.producers import RequestPressure, requestProducer
from tunnelstack.exchange.traits import STREAMED, Timeouts, Traits
from tunnelstack.interfaces import IExchange, IExchangeReceiver, IHTTP2Receiver, IWholeResponseReceiver
from tunnelstack.transport.http2.errors import HTTP2StreamFailed
from tunnelstack.transport.http2.stream import HTTP2Stream, OpensStreams
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.wire.http1.framing import outgoing_framing
from tunnelstack.wire.http1.head import BadMessage, Fields, HeadLimits, RequestHead, ResponseHead
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.http2.message_fields import trailers_from_http2, trailers_to_http2
from tunnelstack.wire.http2.translation import request_to_http2, response_from_http2
from tunnelstack.wire.http2.websocket import opens_websocket

REPEATABLE_OCTETS = 64 * 1024
"""Octets of a request's body that are kept until the response begins, so that it can be sent once more."""

FieldSequence = Sequence[tuple[bytes, bytes]]

TRIES = 3
"""How often a request is sent that the server has not processed."""

NO_STREAM = "The web server of this site accepts no more requests at the moment."


class StreamPool(Protocol):
    """
    What an exchange asks of its pool.

    @ivar scheme: that of requests.
    @ivar timer: the deadlines of exchanges.
    """

    scheme: bytes
    timeouts: Timeouts
    limits: HeadLimits
    timer: SharedTimer

    def carry(self, exchange: HTTP2ClientExchange) -> None:
        """
        Give an exchange a stream, now or later.
        """

    def exchangeEnded(self, exchange: HTTP2ClientExchange) -> None:
        """
        An exchange is over.
        """


@implementer(IExchange, IPushProducer, IHTTP2Receiver)
class HTTP2ClientExchange:
    """
    One request to be sent.

    @ivar receiver: receives the response.  Its C{connectionOpened}, if it has one, is called when there is a stream, if there
        was none at first.
    @ivar head: of the request, once it was given.
    @ivar raw: both directions are those of a WebSocket now.
    @ivar finished: nothing is written, and the receiver is called no more.
    """

    __slots__ = (
        "_answered", "_ended", "_expected", "_finalBefore", "_full", "_interim", "_kept", "_keptOctets", "_paused", "_pool",
        "_producer", "_remaining", "_responding", "_stream", "_timeouts", "_trailers", "_tries", "_websocket", "finished",
        "head", "raw", "receiver",
    )  # fmt: skip

    traits: Traits = STREAMED

    def __init__(self, receiver: IExchangeReceiver, pool: StreamPool) -> None:
        self.receiver = receiver
        self.head: RequestHead | None = None
        self.raw = False
        self.finished = False
        self._pool = pool
        self._timeouts = pool.timeouts
        self._stream: HTTP2Stream | None = None
        self._producer: IPushProducer | None = None
        self._websocket = False               # the request is for a WebSocket
        self._remaining = 0                   # octets of the request's body that are missing; -1 if that is not known
        self._ended = False                   # the request is whole, or our direction of a WebSocket
        self._trailers: Fields = []
        self._kept: list[bytes] | None = []   # the body so far; C{None} once it is too long, or the response has begun
        self._keptOctets = 0
        self._tries = 0
        self._full = False                    # the stream accepts no more for now
        self._paused = False                  # the response is not read
        self._responding = False              # the head of the response has arrived
        self._expected = False                # more of a response of known length is to come
        self._interim = 0                     # interim responses that count
        self._finalBefore: float | None = None     # when the final response must have begun, after the first interim one

    # the request

    def sendHead(self, head: RequestHead) -> None:
        """
        Send the head as soon as there is a stream.

        @raise UsageError: it was sent before.
        """
        if self.finished:
            return
        if self.head is not None:
            raise UsageError("the head of a request is sent once")
        self.head = head
        self._websocket = opens_websocket(head)
        self._remaining = max(-1, outgoing_framing(head).body)
        self._setDeadline(self._timeouts.connect)
        self._pool.carry(self)

    def begin(self, connection: OpensStreams, late: bool = False) -> None:
        """
        From the pool: send what there is of the request on a new stream.

        @param late: the exchange has waited for it.
        @raise HTTP2StreamFailed: the connection opens no stream.
        """
        assert self.head is not None
        fields = request_to_http2(self.head, self._pool.scheme)
        whole = not self._websocket and not self._remaining and not self._kept and not self._trailers
        self._stream = stream = connection.openStream(fields, self, endStream=whole)
        self._tries += 1
        if self._paused:
            stream.pauseProducing()
        for octets in self._kept or ():
            stream.write(octets)
        if self._ended and not self._websocket:
            stream.end(self._trailers)
        if self._ended:
            self._setDeadline(self._timeouts.first)
        else:
            self._pool.timer.discard(self)
        self._attachProducer(stream)
        if late:
            reportOpened(self.receiver)

    def write(self, octets: bytes) -> None:
        """
        Send some of the body, or of a WebSocket.

        @raise UsageError: the body is longer than its C{Content-Length}.
        """
        if self.finished or not octets:
            return
        if self._remaining >= 0 and not self.raw:
            self._remaining -= len(octets)
            if self._remaining < 0:
                self.cancel(FailureKind.BROKEN)
                raise UsageError("the body is longer than its Content-Length")
        if self._kept is not None:
            self._keep(octets)
        if self._stream is not None:
            self._stream.write(octets)

    def _keep(self, octets: bytes) -> None:
        """
        Keep some of the body: until there is a stream all of it, since the producer is paused; and then within a bound.
        """
        assert self._kept is not None
        self._kept.append(octets)
        self._keptOctets += len(octets)
        if self._stream is not None and self._keptOctets > REPEATABLE_OCTETS:
            self._kept = None

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        The request is whole; of a WebSocket, our direction is.  A request that is shorter than its C{Content-Length} is reset.
        """
        if self.finished or (self._ended and not self.raw):
            return
        if self.raw:
            self._endRaw()
            return
        if self._remaining > 0:
            self.cancel(FailureKind.BROKEN)
            return
        self._ended = True
        self._trailers = trailers_to_http2(trailers)
        if self._stream is not None:
            if not self._websocket:
                self._stream.end(self._trailers)
            if not self._responding:
                self._setDeadline(self._timeouts.first)

    def _endRaw(self) -> None:
        assert self._stream is not None
        self._stream.end()

    def cancel(self, kind: FailureKind) -> None:
        if not self.finished:
            stream = self._stream
            self._finish()
            if stream is not None:
                stream.reset(ErrorCode.CANCEL)

    # what arrives

    def informational(self, fields: FieldSequence) -> None:
        """
        From the stream: an interim response.
        """
        if self.finished:
            return
        try:
            head = self._read(fields, False)
            self._countInterim(head.status)
        except BadMessage as bad:
            self._break(unreadableResponse(bad))
            return
        self.receiver.informational(head)

    def _read(self, fields: FieldSequence, ended: bool) -> ResponseHead:
        assert self.head is not None
        return response_from_http2(list(fields), self.head, ended, self._pool.limits)

    def _countInterim(self, status: int) -> None:
        """
        An interim response shows that the server works: the final one is waited for as long again, within a bound.
        """
        self._kept = None
        self._interim += status not in REPEATED
        if self._interim > INTERIM:
            raise BadMessage("too many interim responses")
        if self._ended:
            now = self._pool.timer.seconds()
            if self._finalBefore is None:
                self._finalBefore = now + self._timeouts.interim
            self._setDeadline(max(0.0, min(self._timeouts.first, self._finalBefore - now)))

    def headersReceived(self, fields: FieldSequence, ended: bool) -> None:
        """
        From the stream: the head of the response.
        """
        if self.finished:
            return
        try:
            head = self._read(fields, ended)
        except BadMessage as bad:
            self._break(unreadableResponse(bad))
            return
        self._responding = True
        self._kept = None
        self._expected = head.framing.body > 0
        self._pool.timer.discard(self)
        self._armIdle()
        self.raw = head.status == 101
        receiver = self.receiver
        if ended and not head.framing.body and IWholeResponseReceiver.providedBy(receiver):
            self._responseEnded()             # the response has to stay one head that ends its stream
            receiver.responseReceived(head, b"")
        else:
            receiver.headReceived(head)

    def dataReceived(self, octets: bytes) -> None:
        """
        From the stream: some of the body, or of a WebSocket.
        """
        if not self.finished:
            self._armIdle()
            self.receiver.bodyReceived(octets)

    def _armIdle(self) -> None:
        if self._expected and not self._paused:
            self._setDeadline(self._timeouts.idle)

    def ended(self, trailers: Iterable[tuple[bytes, bytes]]) -> None:
        """
        From the stream: the response is whole, or the server's direction of a WebSocket.
        """
        if self.finished:
            return
        if self.raw:
            self.receiver.ended(())
            return
        try:
            kept = trailers_from_http2(list(trailers), self._pool.limits)
        except BadMessage as bad:
            self._break(unreadableResponse(bad))
            return
        self._responseEnded()
        self.receiver.ended(kept)

    def _responseEnded(self) -> None:
        stream, sent = self._stream, self._ended
        self._finish()
        if stream is not None and (not sent or self._websocket):
            stream.reset(ErrorCode.CANCEL)     # nobody reads the rest of the request, or there is no WebSocket

    def closed(self) -> None:
        """
        From the stream: both directions are over.
        """
        if not self.finished:
            self._finish()

    def failed(self, reason: Exception) -> None:
        """
        From the stream: it was reset, or its connection is lost.
        """
        if self.finished:
            return
        self._stream = None
        unprocessed = isinstance(reason, HTTP2StreamFailed) and reason.unprocessed
        if unprocessed and not self._responding and self._kept is not None and self._tries < TRIES:
            self._full = False
            if self._producer is not None:
                self._producer.pauseProducing()
            self._setDeadline(self._timeouts.connect)
            self._pool.carry(self)
        else:
            self.fail(Busy() if unprocessed else ExchangeFailed(FailureKind.BROKEN, reason=reason))

    def _break(self, failed: ExchangeFailed) -> None:
        stream = self._stream
        self.fail(failed)
        if stream is not None:
            stream.reset(ErrorCode.CANCEL)

    def fail(self, failed: ExchangeFailed) -> None:
        """
        From the pool, too: the exchange broke.
        """
        if self.finished:
            return
        producer = self._producer
        self._finish()
        if producer is not None:
            producer.stopProducing()
        self.receiver.failed(failed)

    def _finish(self) -> None:
        self.finished = True
        self._kept = None
        self._producer = None
        self._stream = None
        self._pool.timer.discard(self)
        self._pool.exchangeEnded(self)

    def _setDeadline(self, seconds: float) -> None:
        timer = self._pool.timer
        timer.add(self, timer.seconds() + seconds)

    def timedOut(self, now: float) -> None:
        """
        From the timer: what is waited for did not happen in time.
        """
        self._break(Busy(NO_STREAM) if self._stream is None else ExchangeFailed(FailureKind.GATEWAY_TIMEOUT))

    # the producer of the request

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        Register what writes the request.

        @raise UsageError: it is a pull producer.
        """
        if self.finished:
            producer.stopProducing()
            return
        self._producer = requestProducer(producer, streaming, self._producer)
        if self._stream is None:
            self._producer.pauseProducing()
        else:
            self._stream.registerProducer(RequestPressure(self), True)

    def _attachProducer(self, stream: HTTP2Stream) -> None:
        """
        There is a stream: let the producer write.
        """
        if self._producer is not None:
            stream.registerProducer(RequestPressure(self), True)
            if not self._full:
                self._producer.resumeProducing()

    def unregisterProducer(self) -> None:
        if self._producer is not None and self._stream is not None:
            self._stream.unregisterProducer()
        self._producer = None

    def writingPaused(self) -> None:
        """
        From the stream: it accepts no more for now.
        """
        self._full = True
        if not self.raw:
            self._setDeadline(self._timeouts.idle)
        if self._producer is not None:
            self._producer.pauseProducing()

    def writingResumed(self) -> None:
        """
        From the stream: it accepts more again.
        """
        self._full = False
        if self.finished:
            return
        if not self.raw:
            self._pool.timer.discard(self)
            if self._responding:
                self._armIdle()
            elif self._ended:
                self._setDeadline(self._timeouts.first)
        if self._producer is not None:
            self._producer.resumeProducing()

    # the response's body, as a producer

    def pauseProducing(self) -> None:
        self._paused = True
        if self._stream is not None:
            if self._expected:
                self._pool.timer.discard(self)
            self._stream.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._stream is not None:
            self._armIdle()
            self._stream.resumeProducing()

    def stopProducing(self) -> None:
        """
        The near side is closed; the receiver's C{failed} is called as well.
        """
