"""
HTTP/1.1 as a server speaks it, over any transport: a visitor's connection at the edge, a stream at the agent.

One exchange is under way at a time; a request that comes earlier waits unread.  The connection is the producer of its
transport for as long as it lives, and hands the pressure to whatever its present exchange has registered, so that a small
request registers and times nothing anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.doors import TakenOverRequest
from tunnelstack.exchange._server_closing import (
    BODY,
    CHUNKS,
    CLOSED,
    HEAD,
    RAW,
    READING,
    RESPONDING,
    ServerClosing,
)
from tunnelstack.exchange._server_exchange import ServerExchange
from tunnelstack.exchange._timeout import MovingTimeout
from tunnelstack.exchange.error_page import ErrorPages, errorPage, respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, Timeouts
from tunnelstack.transport.direct_write import disableNagle, immediateWrite
from tunnelstack.wire.http1.chunked import ChunkedDecoder
from tunnelstack.wire.http1.framing import Framing, end_to_end, request_framing_untrusted
from tunnelstack.wire.http1.head import (
    DEFAULT_LIMITS,
    BadMessage,
    HeadLimits,
    RequestHead,
    find_end_untrusted,
    read_request_untrusted,
)
from tunnelstack.wire.http1.target import percent_encoded

FindDoor = Callable[[RequestHead, Framing], Any]
"""Gives the L{IExchangeServer<tunnelstack.interfaces.IExchangeServer>} of a request at a door; C{None} for other requests."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class HTTPServerProtocol(ServerClosing):
    """
    One connection of a visitor, or of the edge to the agent.

    The receiver of a request that was answered with C{101} goes on hearing: C{bodyReceived} for raw octets, C{ended} again when
    the peer has ended its direction, and C{failed} when the connection is gone before we have ended ours.

    @ivar keepAlive: another request may follow the present one.
    @ivar full: the transport takes no more for now.
    @ivar pages: makes error pages.
    """

    log = Logger()
    transport: Any

    def __init__(
        self,
        server: Any,
        *,
        clock: Any,
        pages: ErrorPages = errorPage,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        limits: HeadLimits = DEFAULT_LIMITS,
        doors: FindDoor | None = None,
        done: Callable[[ServerExchange], object] | None = None,
    ) -> None:
        """
        @param server: the L{IExchangeServer<tunnelstack.interfaces.IExchangeServer>} that answers.
        @param doors: asked for each head.  A server that it gives serves the exchange instead of C{server}, and may take the
            connection over.
        @param done: told of each exchange when it is over, answered or not.
        """
        self._server = server
        self._timeouts = timeouts
        self._limits = limits
        self._doors = doors
        self._done = done
        self._timer = MovingTimeout(clock, self._timedOut)
        self._state = HEAD
        self._exchange: Any = None    # the L{ServerExchange} that is under way
        self._buffer = b""            # a head that is not whole, or what came while an exchange was under way
        self._searched = 0
        self._left = 0                # octets of the body that are still to come
        self._chunks: Any = None
        self._looping = False
        self._readPaused = False            # the transport is paused
        self._paused = False          # by the exchange's wish
        self._readEnded = False
        self._writeEnded = False
        self._progress = 0
        self._surviving: Any = None   # who reads what the peer sent before it went
        self._headOctets = b""        # of a request at a door, which may be taken over
        self.pages = pages
        self.keepAlive = True
        self.full = False

    def connectionMade(self) -> None:
        """
        Wait for the first head.
        """
        self.transport.registerProducer(self, True)
        disableNagle(self.transport)
        self.send = immediateWrite(self.transport)
        self._timer.set(self._timeouts.head)

    # what arrives

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the peer.
        """
        state = self._state
        if state == HEAD:
            self._buffer = self._buffer + data if self._buffer else data
            self._loop()
        elif state == RAW:
            self._exchange.receiver.bodyReceived(data)
        elif state in READING:
            self._body(data)
            if self._state == HEAD and self._buffer:
                self._loop()
        elif state == RESPONDING:
            self._buffer += data
            self._updateReading()

    def _loop(self) -> None:
        """
        Begin exchanges as long as there are heads, and each is answered at once.  Never enters itself.
        """
        if self._looping:
            return
        self._looping = True
        try:
            while self._state == HEAD and self._buffer and self._begin():
                pass
        finally:
            self._looping = False
        self._updateReading()

    def _begin(self) -> bool:
        """
        Take one head from the buffer.

        @return: whether there was a whole one.
        """
        octets = self._buffer
        if octets[0] == 13 and octets.startswith(b"\r\n"):        # some clients end a body with an empty line
            self._buffer = octets[2:]
            return True
        try:
            end = find_end_untrusted(octets, self._searched, self._limits)
            if end < 0:
                if not self._searched:
                    self._timer.set(self._timeouts.head)
                self._searched = len(octets)
                return False
            head = read_request_untrusted(octets, end, self._limits)
            framing = request_framing_untrusted(head)
        except BadMessage as bad:
            self._rejectMalformed(bad)
            return False
        self._searched = 0
        server = self._server
        if self._doors is not None:
            door = self._doors(head, framing)
            if door is not None:
                server = door
                self._headOctets = octets[:end]
        self._buffer = octets[end:] if end < len(octets) else b""
        self._serve(server, head, framing)
        return True

    def _serve(self, server: Any, head: RequestHead, framing: Framing) -> None:
        """
        Give the request to its server.
        """
        self._exchange = exchange = ServerExchange(self, head, framing)
        self.keepAlive = framing.keep_alive and not self._readEnded
        body = framing.body
        if not body:
            self._state = RESPONDING
            self._timer.clear()
        else:
            self._state = BODY if body > 0 else CHUNKS
            self._left = body
            self._chunks = None if body > 0 else ChunkedDecoder(self._limits)
            self._timer.set(self._timeouts.idle)
        if framing.hop_by_hop:
            head = RequestHead(head.method, head.target, end_to_end(head.fields, framing), head.version)
        head.framing = framing
        try:
            exchange.receiver = receiver = server.exchangeReceived(head, exchange)
        except Exception:
            self._serverFailed(exchange)
            return
        if not body:
            if not exchange.finished:
                receiver.ended(())
        elif self._buffer and self._exchange is exchange:
            data, self._buffer = self._buffer, b""
            self._body(data)

    def _serverFailed(self, exchange: ServerExchange) -> None:
        """
        The server raised: a defect of ours, which costs one request.
        """
        self.log.failure("{server} failed to serve {method} {target}", server=self._server, trace=exchange.trace,
                         method=exchange.head.method.decode(),
                         target=percent_encoded(exchange.head.target).decode())
        if exchange.status or exchange.finished:
            self.abort()
        else:
            respondWithPage(exchange, self.pages, ExchangeFailed(FailureKind.BROKEN, status=500), exchange.trace)

    def _body(self, data: bytes) -> None:
        """
        Some of the request's body, and perhaps of what follows it.
        """
        exchange = self._exchange
        self._timer.set(self._timeouts.idle)
        if self._state == BODY:
            left = self._left
            if len(data) > left:
                data, self._buffer = data[:left], data[left:]
            self._left = left = left - len(data)
            ended, trailers = not left, []
        else:
            chunks = self._chunks
            try:
                data = chunks.receive_data(data)
            except BadMessage as bad:
                self._chunksMalformed(exchange, bad)
                return
            ended, trailers = chunks.ended, chunks.trailers
            if ended:
                self._buffer = chunks.leftover
        if data:
            exchange.receiver.bodyReceived(data)
        if ended and self._exchange is exchange and not exchange.finished:
            self._state = RESPONDING
            self._chunks = None
            self._timer.clear()
            exchange.receiver.ended(trailers)
            self._updateReading()

    def _chunksMalformed(self, exchange: ServerExchange, bad: BadMessage) -> None:
        exchange.receiver.failed(ExchangeFailed(FailureKind.MALFORMED, str(bad)))
        if not exchange.finished:
            exchange.cancel(FailureKind.MALFORMED)

    def _rejectMalformed(self, bad: BadMessage) -> None:
        """
        No request can be made of these octets: say so, and go.
        """
        self._buffer = b""
        self._reject(ExchangeFailed(FailureKind.MALFORMED, f"The request was not understood: {bad}.", status=bad.status))

    def handOff(self) -> TakenOverRequest:
        """
        From the exchange: the connection belongs to another protocol from here on.
        """
        exchange, self._exchange = self._exchange, None
        leftover, self._buffer = self._buffer, b""
        transport = self.transport
        self._state = CLOSED
        self._timer.stop()
        transport.unregisterProducer()
        if self._readPaused:
            transport.resumeProducing()
        certificate = getattr(transport, "getPeerCertificate", lambda: None)()
        return TakenOverRequest(
            head=exchange.head, octets=self._headOctets, leftover=leftover, transport=transport, certificate=certificate
        )

    # how an exchange goes on and ends, as it says itself

    def upgraded(self) -> None:
        """
        From the exchange: raw octets from here, in both directions.
        """
        self._state = RAW
        self.keepAlive = False
        self._timer.clear()
        exchange = self._exchange
        data, self._buffer = self._buffer, b""
        if data:
            exchange.receiver.bodyReceived(data)
        self._updateReading()
        if self._readEnded and not exchange.finished:
            exchange.receiver.ended(())

    # pressure

    def pauseReading(self, paused: bool) -> None:
        """
        From the exchange: read no more of its request, or read on.
        """
        self._paused = paused
        self._updateReading()

    def _updateReading(self) -> None:
        """
        The transport is paused while the exchange asks for that, or another request waits.
        """
        held = self._paused or (self._state == RESPONDING and self._buffer != b"")
        if held != self._readPaused and self._state != CLOSED:
            self._readPaused = held
            transport = self.transport
            if held:
                transport.pauseProducing()
            else:
                transport.resumeProducing()

    def reclaimTransport(self) -> None:
        """
        From the exchange: its producer is done, and we are the transport's again.
        """
        transport = self.transport
        transport.unregisterProducer()
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """
        From the transport: it takes no more for now.
        """
        self.full = True
        exchange = self._exchange
        if exchange is not None:
            if exchange.producer is not None:
                exchange.producer.pauseProducing()
            if exchange.lengthKnown:
                self._timer.set(self._timeouts.idle)

    def resumeProducing(self) -> None:
        """
        From the transport: there is room again.
        """
        self.full = False
        exchange = self._exchange
        if exchange is not None:
            if self._readEnded:
                self._timer.set(self._timeouts.ending)
            elif self._state == RESPONDING:
                self._timer.clear()
            if exchange.producer is not None:
                exchange.producer.resumeProducing()

    def stopProducing(self) -> None:
        """
        From the transport: C{connectionLost} follows.
        """
