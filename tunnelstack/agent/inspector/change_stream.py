"""
The stream of events by which a page follows the list.

What waits for a slow reader is the set of requests that have changed, and not their summaries; so it is as bounded as the list.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from tunnelstack.agent.inspector.recorded_request import RecordedRequest
from tunnelstack.agent.inspector.report import asOctets, summaryOf
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.interfaces import IServerExchange
from tunnelstack.wire.http1.head import Fields, ResponseHead

COLLECT_SECONDS = 0.1
"""Seconds for which changes are collected."""

MOST_EVENTS = 100
"""Events that are written at once."""

MOST_WAITING = 2000
"""Requests that wait for a reader.  Beyond, it is sent C{forgotten}, and reads the list again."""

KEEPALIVE_SECONDS = 15.0
STALLED_SECONDS = 60.0
"""Seconds after which a stream is reset whose reader reads nothing."""


@implementer(IPushProducer)
class ChangeStream:
    """
    One stream to one reader.  It is sent as a L{WholeResponse<tunnelstack.exchange.whole_message.WholeResponse>} is.
    """

    def __init__(self, clock: IReactorTime, fields: Fields, closed: Callable[[ChangeStream], object]) -> None:
        """
        @param fields: further header fields.
        @param closed: called when it is closed.
        """
        self._clock = clock
        self._fields = fields
        self._closed = closed
        self._exchange: IServerExchange | None = None
        self._waiting: dict[int, RecordedRequest] = {}
        self._reset = False
        self._paused = False
        self._timer: IDelayedCall | None = None
        self._keepalive: IDelayedCall | None = None

    def send(self, exchange: IServerExchange) -> None:
        """
        Answer an exchange of which no head was sent.
        """
        fields = [(b"Content-Type", b"text/event-stream"), *self._fields]
        exchange.sendHead(ResponseHead(200, b"OK", fields))
        if exchange.head.method == b"HEAD":
            self.stopProducing()
            exchange.end()
            return
        self._exchange = exchange
        exchange.registerProducer(self, True)
        exchange.write(b"retry: 2000\n\n")
        self._keepAlive()

    def changed(self, request: RecordedRequest) -> None:
        """
        A request has begun, has a response, or has ended.
        """
        self._waiting[request.id] = request
        if len(self._waiting) > MOST_WAITING:
            self.reset()
        self._schedule()

    def reset(self) -> None:
        """
        Requests were forgotten: the reader shall read the list again.
        """
        self._waiting.clear()
        self._reset = True
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is None and self._exchange is not None and not self._paused:
            self._timer = self._clock.callLater(COLLECT_SECONDS, self._flush)

    def _flush(self) -> None:
        self._timer = None
        exchange = self._exchange
        if exchange is None or self._paused:
            return
        pieces = [b"event: forgotten\ndata: {}\n\n"] if self._reset else []
        self._reset = False
        for request in [*self._waiting.values()][:MOST_EVENTS]:
            del self._waiting[request.id]
            if not request.forgotten:
                pieces.append(b"event: request\ndata: " + asOctets(summaryOf(request)) + b"\n\n")
        if pieces:
            exchange.write(b"".join(pieces))
        if self._waiting:
            self._schedule()

    def _keepAlive(self) -> None:
        if self._exchange is not None and not self._paused:
            self._exchange.write(b":\n\n")
            self._keepalive = self._clock.callLater(KEEPALIVE_SECONDS, self._keepAlive)

    def _stalled(self) -> None:
        self._keepalive = None
        exchange = self._exchange
        self.stopProducing()
        if exchange is not None:
            exchange.cancel(FailureKind.CLIENT_CLOSED)

    # the producer of the response

    def pauseProducing(self) -> None:
        self._paused = True
        self._cancelTimers()
        self._keepalive = self._clock.callLater(STALLED_SECONDS, self._stalled)

    def resumeProducing(self) -> None:
        self._paused = False
        self._cancelTimers()
        self._keepalive = self._clock.callLater(KEEPALIVE_SECONDS, self._keepAlive)
        if self._waiting or self._reset:
            self._schedule()

    def stopProducing(self) -> None:
        """
        The reader has closed the connection.
        """
        self._exchange = None
        self._cancelTimers()
        self._waiting.clear()
        self._closed(self)

    def end(self) -> None:
        """
        End the stream.
        """
        exchange = self._exchange
        self.stopProducing()
        if exchange is not None and not exchange.finished:
            exchange.end()

    def _cancelTimers(self) -> None:
        for timer in (self._timer, self._keepalive):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._keepalive = None
