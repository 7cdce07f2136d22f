"""
Streams of server-sent events by which pages follow what changes.

What waits for a slow reader is kept by the source of the events, which bounds it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from tunnelstack.exchange.errors import FailureKind
from tunnelstack.interfaces import IServerExchange
from tunnelstack.pages.resources import PAGE_FIELDS, Refusal
from tunnelstack.wire.http1.head import ResponseHead

COLLECT_SECONDS = 0.1
"""Seconds for which changes are collected."""

KEEPALIVE_SECONDS = 15.0
STALLED_SECONDS = 60.0
"""Seconds after which a stream is reset whose reader reads nothing."""

MOST_STREAMS = 8
"""Pages that follow at the same time."""


class Events(Protocol):
    """
    What waits for one reader.
    """

    def take(self) -> bytes:
        """
        @return: the events that are to be written now; C{b""} if there are none.  They wait no longer.
        """

    def waiting(self) -> bool:
        """
        @return: whether there are events that wait.
        """


@implementer(IPushProducer)
class EventStream:
    """
    One stream to one reader.  It is sent as a L{WholeResponse<tunnelstack.exchange.whole_message.WholeResponse>} is.
    """

    def __init__(self, clock: IReactorTime, events: Events, closed: Callable[[EventStream], object]) -> None:
        """
        @param closed: called when it is closed.
        """
        self._clock = clock
        self._events = events
        self._closed = closed
        self._exchange: IServerExchange | None = None
        self._paused = False
        self._timer: IDelayedCall | None = None
        self._keepalive: IDelayedCall | None = None

    def send(self, exchange: IServerExchange) -> None:
        """
        Answer an exchange of which no head was sent.
        """
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Type", b"text/event-stream"), *PAGE_FIELDS]))
        if exchange.head.method == b"HEAD":
            self.stopProducing()
            exchange.end()
            return
        self._exchange = exchange
        exchange.registerProducer(self, True)
        exchange.write(b"retry: 2000\n\n")
        self._keepAlive()
        self.wake()

    def wake(self) -> None:
        """
        There may be events: write them soon.
        """
        if self._timer is None and self._exchange is not None and not self._paused and self._events.waiting():
            self._timer = self._clock.callLater(COLLECT_SECONDS, self._flush)

    def _flush(self) -> None:
        self._timer = None
        exchange = self._exchange
        if exchange is None or self._paused:
            return
        octets = self._events.take()
        if octets:
            exchange.write(octets)
        self.wake()

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
        self.wake()

    def stopProducing(self) -> None:
        """
        The reader has closed the connection.
        """
        self._exchange = None
        self._cancelTimers()
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


class EventStreams:
    """
    The streams to all readers of one page: at most L{MOST_STREAMS}.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._open: dict[EventStream, Callable[[], object]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(self, events: Events, closed: Callable[[], object]) -> EventStream:
        """
        @param closed: called when the stream is closed.
        @raise Refusal: there are as many as allowed.
        """
        if len(self._open) >= MOST_STREAMS:
            raise Refusal(503, "too many pages follow at the same time; close one")
        stream = EventStream(self._clock, events, self._streamClosed)
        self._open[stream] = closed
        return stream

    def _streamClosed(self, stream: EventStream) -> None:
        closed = self._open.pop(stream, None)
        if closed is not None:
            closed()

    def end(self) -> None:
        """
        End all streams.
        """
        for stream in list(self._open):
            stream.end()
