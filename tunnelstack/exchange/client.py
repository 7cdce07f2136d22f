"""
HTTP/1.1 as a client speaks it, over any transport that is kept: a stream to an agent, a connection to the web server behind it.

One exchange at a time.  A connection whose last exchange was framed, whole and read goes back to who lent it; any other is
closed.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from zope.interface import implementer

from tunnelstack.exchange._client_closing import (
    BODY,
    CHUNKS,
    CLOSED,
    HEAD,
    IDLE,
    RAW,
    UNTIL_END,
    ClientClosing,
    ConnectionPool,
)
from tunnelstack.exchange._client_exchange import ClientExchange
from tunnelstack.exchange._timeout import MovingTimeout
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, Timeouts
from tunnelstack.transport.direct_write import Write, disableNagle, immediateWrite
from tunnelstack.wire.http1.chunked import ChunkedDecoder
from tunnelstack.wire.http1.framing import CHUNKED, Framing, end_to_end, response_framing_untrusted
from tunnelstack.wire.http1.head import (
    DEFAULT_LIMITS,
    BadMessage,
    Fields,
    HeadLimits,
    ResponseHead,
    find_end_untrusted,
    read_response_untrusted,
)

EMPTY: Fields = []
INTERIM = 32          # interim responses of one exchange


@implementer(IHalfCloseableProtocol, IPushProducer)
class HTTPClientProtocol(ClientClosing):
    """
    A connection for one exchange after the other.

    @ivar full: the transport takes no more for now.
    @ivar uses: how many exchanges it has had.
    @ivar send: writes what nothing is to follow at once.
    """

    transport: Any
    send: Write

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        clock: Any,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        limits: HeadLimits = DEFAULT_LIMITS,
        idleSeconds: float = 60.0,
    ) -> None:
        """
        @param idleSeconds: seconds that it stays open between exchanges.
        """
        self._pool = pool
        self._timeouts = timeouts
        self._limits = limits
        self._idleSeconds = idleSeconds
        self._timer = MovingTimeout(clock, self._timedOut)
        self._exchange: Any = None    # the L{ClientExchange} that is under way
        self._state = IDLE
        self._buffer = b""
        self._searched = 0
        self._left = 0
        self._chunks: Any = None
        self._keepAlive = True
        self._interim = 0
        self._readPaused = False
        self._readEnded = False
        self._writeEnded = False
        self.full = False
        self.uses = 0

    def connectionMade(self) -> None:
        """
        Ready for an exchange.
        """
        self._pool.connectionOpened(self)
        self.transport.registerProducer(self, True)
        disableNagle(self.transport)
        self.send = immediateWrite(self.transport)

    def exchange(self, receiver: Any) -> ClientExchange:
        """
        Begin an exchange on this connection, which must have none.
        """
        exchange = ClientExchange(receiver, self)
        self.take(exchange)
        return exchange

    def take(self, exchange: ClientExchange) -> None:
        """
        An exchange is under way here from now on.
        """
        self._exchange = exchange
        self._state = HEAD
        self._interim = 0
        self.uses += 1
        self._timer.clear()
        if exchange.paused:
            self.pauseReading(True)

    # what the exchange says

    def requestSent(self) -> None:
        """
        From the exchange: the request is sent.
        """
        if self._state == HEAD:
            self._timer.set(self._timeouts.first)

    def pauseReading(self, held: bool) -> None:
        """
        From the exchange: read no more, or read on.
        """
        if held != self._readPaused and self._state != CLOSED:
            self._readPaused = held
            transport = self.transport
            if held:
                if self._state != HEAD:
                    self._timer.clear()
                transport.pauseProducing()
            else:
                if self._state == BODY:
                    self._timer.set(self._timeouts.idle)
                transport.resumeProducing()

    # what arrives

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the peer.
        """
        state = self._state
        if state == HEAD:
            if self._buffer:
                data = self._buffer + data
            try:
                self._headReceived(data)
            except BadMessage as bad:
                self._break(ExchangeFailed(FailureKind.INVALID_RESPONSE, problem=str(bad)))
        elif state == RAW:
            self._exchange.receiver.bodyReceived(data)
        elif state == IDLE:
            self._close()                     # nobody asked
        elif state != CLOSED:
            self._body(data)

    def _headReceived(self, octets: bytes) -> None:
        """
        Heads until the final one.
        """
        exchange = self._exchange
        while True:
            end = find_end_untrusted(octets, self._searched, self._limits)
            if end < 0:
                self._buffer, self._searched = octets, len(octets)
                return
            head = read_response_untrusted(octets, end, self._limits)
            framing = response_framing_untrusted(head, exchange.method)
            rest = octets[end:] if end < len(octets) else b""
            self._buffer, self._searched = b"", 0
            if head.status >= 200 or head.status == 101:
                break
            octets = rest
            self._interim += 1
            if self._interim > INTERIM:
                raise BadMessage("too many interim responses")
            exchange.receiver.informational(self._endToEndHead(head, framing))
            if self._exchange is not exchange:
                return
            if not octets:
                return
        self._finalHead(exchange, head, framing, rest)

    def _endToEndHead(self, head: ResponseHead, framing: Framing) -> ResponseHead:
        """
        The head without what concerns this connection only.
        """
        if framing.hop_by_hop:
            if head.status != 101 and head.status != 426:
                framing.upgrade = b""
            head = ResponseHead(head.status, head.reason, end_to_end(head.fields, framing), head.version)
        head.framing = framing
        return head

    def _finalHead(self, exchange: Any, head: ResponseHead, framing: Framing, rest: bytes) -> None:
        if head.status == 101:
            self._upgraded(exchange, head, framing, rest)
            return
        body = framing.body
        self._keepAlive = framing.keep_alive
        self._left = body
        if len(rest) == body and (responseReceived := getattr(exchange.receiver, "responseReceived", None)) is not None:
            self._responseComplete(exchange, framing.keep_alive)
            responseReceived(self._endToEndHead(head, framing), rest)
            return
        if body >= 0:
            self._state = BODY
            if len(rest) < body:
                self._timer.set(self._timeouts.idle)
        else:
            self._state = CHUNKS if body == CHUNKED else UNTIL_END
            if body == CHUNKED:
                self._chunks = ChunkedDecoder(self._limits)
            self._timer.clear()
        exchange.receiver.headReceived(self._endToEndHead(head, framing))
        if self._exchange is exchange and (rest or not body):
            self._body(rest)

    def _upgraded(self, exchange: Any, head: ResponseHead, framing: Framing, rest: bytes) -> None:
        if not exchange.upgrade or not exchange.sent or not framing.upgrade:
            raise BadMessage("an upgrade that nobody asked for")
        self._state = RAW
        self._timer.clear()
        exchange.upgraded()
        exchange.receiver.headReceived(self._endToEndHead(head, framing))
        if rest and self._exchange is exchange:
            exchange.receiver.bodyReceived(rest)

    def _body(self, data: bytes) -> None:
        """
        Some of the body, and perhaps its end.
        """
        exchange = self._exchange
        state = self._state
        ended, trailers, extra = False, EMPTY, False
        if state == BODY:
            left = self._left
            extra = len(data) > left
            if extra:
                data = data[:left]
            self._left = left = left - len(data)
            ended = not left
            if not ended and not self._readPaused:
                self._timer.set(self._timeouts.idle)
        elif state == CHUNKS:
            chunks = self._chunks
            try:
                data = chunks.receive_data(data)
            except BadMessage as bad:
                self._break(ExchangeFailed(FailureKind.INVALID_RESPONSE, problem=str(bad)))
                return
            ended, trailers, extra = chunks.ended, chunks.trailers, bool(chunks.leftover)
        if data:
            exchange.receiver.bodyReceived(data)
        if ended and self._exchange is exchange:
            self._responseComplete(exchange, self._keepAlive and not extra)
            exchange.receiver.ended(trailers)

    # pressure

    def pauseProducing(self) -> None:
        """
        From the transport: it takes no more for now.
        """
        self.full = True
        exchange = self._exchange
        if exchange is not None and exchange.producer is not None:
            exchange.producer.pauseProducing()
            if not exchange.raw:
                self._timer.set(self._timeouts.idle)

    def resumeProducing(self) -> None:
        """
        From the transport: there is room again.
        """
        self.full = False
        exchange = self._exchange
        if exchange is not None and exchange.producer is not None:
            if not exchange.raw:
                self._rearm(exchange)
            exchange.producer.resumeProducing()

    def _rearm(self, exchange: ClientExchange) -> None:
        """
        The request moves again: what is to be waited for now?
        """
        if self._state == HEAD and exchange.sent:
            self._timer.set(self._timeouts.first)
        elif self._state == BODY:
            self._timer.set(self._timeouts.idle)
        else:
            self._timer.clear()

    def stopProducing(self) -> None:
        """
        From the transport: C{connectionLost} follows.
        """
