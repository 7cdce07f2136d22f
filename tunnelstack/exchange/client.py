"""
HTTP/1.1 as a client speaks it, over any transport that is kept: a stream to an agent, a connection to the web server behind it.

One exchange at a time.  A connection whose last exchange was framed, whole and read goes back to who lent it; any other is
closed.
"""

from __future__ import annotations

from typing import Any
from typing import Protocol as Promise

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.exchange._asking import ClientExchange
from tunnelstack.exchange._watch import Watch
from tunnelstack.exchange.failed import ExchangeFailed, Kind
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, Timeouts
from tunnelstack.stream.splice import halfCloses
from tunnelstack.transport.push import undelayed
from tunnelstack.wire.http1 import (
    DEFAULT_LIMITS,
    BadMessage,
    Fields,
    HeadLimits,
    ResponseHead,
    find_end_untrusted,
    read_response_untrusted,
)
from tunnelstack.wire.http1_chunked import ChunkedDecoder
from tunnelstack.wire.http1_framing import CHUNKED, Framing, end_to_end, response_framing_untrusted

IDLE, HEAD, BODY, CHUNKS, REST, RAW, OVER = range(7)
"""What is expected of the peer: nothing, a head, a body of known length, chunks, all until it closes, raw octets, nothing any
more."""

EMPTY: Fields = []
INTERIM = 32          # interim responses of one exchange


class Lender(Promise):
    """
    Who keeps connections for the next exchange.
    """

    def made(self, connection: HTTPClientProtocol) -> None:
        """
        It is open.
        """

    def released(self, connection: HTTPClientProtocol) -> None:
        """
        It can take another exchange.
        """

    def departed(self, connection: HTTPClientProtocol) -> None:
        """
        It is gone.
        """

    def again(self, exchange: ClientExchange) -> None:
        """
        Its connection had died before it took the request: send that once more, over a new one.
        """


@implementer(IHalfCloseableProtocol, IPushProducer)
class HTTPClientProtocol(Protocol):
    """
    A connection for one exchange after the other.

    @ivar full: the transport takes no more for now.
    @ivar uses: how many exchanges it has had.
    """

    transport: Any

    def __init__(
        self,
        lender: Lender,
        *,
        clock: Any,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        limits: HeadLimits = DEFAULT_LIMITS,
        kept: float = 60.0,
    ) -> None:
        """
        @param kept: seconds that it stays open between exchanges.
        """
        self._lender = lender
        self._timeouts = timeouts
        self._limits = limits
        self._kept = kept
        self._watch = Watch(clock, self._late)
        self._exchange: Any = None    # the L{ClientExchange} that is under way
        self._state = IDLE
        self._buffer = b""
        self._searched = 0
        self._left = 0
        self._chunks: Any = None
        self._keep = True
        self._interim = 0
        self._held = False
        self._readEnded = False
        self._writeEnded = False
        self.full = False
        self.uses = 0

    def connectionMade(self) -> None:
        """
        Ready for an exchange.
        """
        self._lender.made(self)
        self.transport.registerProducer(self, True)
        undelayed(self.transport)

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
        self._watch.clear()
        if exchange.paused:
            self.hold(True)

    # what the exchange says

    def asked(self) -> None:
        """
        From the exchange: the request is sent.
        """
        if self._state == HEAD:
            self._watch.set(self._timeouts.first)

    def endRaw(self) -> None:
        """
        From the exchange: nothing more is written; what the peer says is still read.  Where the transport cannot say that, the
        end is remembered until the peer has ended as well, but not for ever.
        """
        transport = self.transport
        self._writeEnded = True
        if self._readEnded:
            self._over()
            self._close()
        elif not halfCloses(transport):
            self._watch.set(self._timeouts.ending)
        else:
            transport.unregisterProducer()
            transport.loseWriteConnection()

    def abandon(self) -> None:
        """
        From the exchange: it was given up, so the rest of it is not read.
        """
        self._exchange = None
        self._depart()
        transport = self.transport
        transport.unregisterProducer()
        transport.abortConnection()

    def hold(self, held: bool) -> None:
        """
        From the exchange: read no more, or read on.
        """
        if held != self._held and self._state != OVER:
            self._held = held
            transport = self.transport
            if held:
                if self._state != HEAD:
                    self._watch.clear()
                transport.pauseProducing()
            else:
                if self._state == BODY:
                    self._watch.set(self._timeouts.idle)
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
                self._head(data)
            except BadMessage as bad:
                self._break(ExchangeFailed(Kind.NONSENSE, problem=str(bad)))
        elif state == RAW:
            self._exchange.receiver.bodyReceived(data)
        elif state == IDLE:
            self._close()                     # nobody asked
        elif state != OVER:
            self._body(data)

    def _head(self, octets: bytes) -> None:
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
            exchange.receiver.informational(self._upward(head, framing))
            if self._exchange is not exchange:
                return
            if not octets:
                return
        self._final(exchange, head, framing, rest)

    def _upward(self, head: ResponseHead, framing: Framing) -> ResponseHead:
        """
        The head without what concerns this connection only.
        """
        if not framing.private:
            return head
        if head.status != 101 and head.status != 426:
            framing.upgrade = b""
        return ResponseHead(head.status, head.reason, end_to_end(head.fields, framing), head.version)

    def _final(self, exchange: Any, head: ResponseHead, framing: Framing, rest: bytes) -> None:
        if head.status == 101:
            self._upgraded(exchange, head, framing, rest)
            return
        body = framing.body
        self._keep = framing.keep
        self._left = body
        if body >= 0:
            self._state = BODY
            if len(rest) < body:
                self._watch.set(self._timeouts.idle)
        else:
            self._state = CHUNKS if body == CHUNKED else REST
            if body == CHUNKED:
                self._chunks = ChunkedDecoder(self._limits)
            self._watch.clear()
        exchange.receiver.headReceived(self._upward(head, framing))
        if self._exchange is exchange and (rest or not body):
            self._body(rest)

    def _upgraded(self, exchange: Any, head: ResponseHead, framing: Framing, rest: bytes) -> None:
        if not exchange.upgrade or not exchange.sent or not framing.upgrade:
            raise BadMessage("an upgrade that nobody asked for")
        self._state = RAW
        self._watch.clear()
        exchange.turnRaw()
        exchange.receiver.headReceived(self._upward(head, framing))
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
            if not ended and not self._held:
                self._watch.set(self._timeouts.idle)
        elif state == CHUNKS:
            chunks = self._chunks
            try:
                data = chunks.receive_data(data)
            except BadMessage as bad:
                self._break(ExchangeFailed(Kind.NONSENSE, problem=str(bad)))
                return
            ended, trailers, extra = chunks.ended, chunks.trailers, bool(chunks.leftover)
        if data:
            exchange.receiver.bodyReceived(data)
        if ended and self._exchange is exchange:
            self._ended(exchange, trailers, self._keep and not extra)

    def _ended(self, exchange: ClientExchange, trailers: Any, keep: bool) -> None:
        """
        The response is whole.  The connection goes back first, so that the next request finds it.
        """
        self._over()
        if not exchange.sent:
            self._depart()
            self.transport.unregisterProducer()
            self.transport.abortConnection()       # the rest of the request is of no use to anybody
        elif keep and not self._readEnded:
            self._state = IDLE
            self._watch.set(self._kept)
            self._lender.released(self)
        else:
            self._close()
        exchange.receiver.ended(trailers)

    def _over(self) -> None:
        """
        The exchange has heard its last.
        """
        exchange, self._exchange = self._exchange, None
        self._chunks = None
        if self._held:
            self.hold(False)
        if exchange is not None:
            exchange.over = True

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
                self._watch.set(self._timeouts.idle)

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
            self._watch.set(self._timeouts.first)
        elif self._state == BODY:
            self._watch.set(self._timeouts.idle)
        else:
            self._watch.clear()

    def stopProducing(self) -> None:
        """
        From the transport: C{connectionLost} follows.
        """

    # ends

    def close(self) -> None:
        """
        Close the connection; an exchange that is under way breaks.
        """
        if self._exchange is not None:
            self._break(ExchangeFailed(Kind.STOPPED))
        elif self._state != OVER:
            self._close()

    def _close(self) -> None:
        self._depart()
        transport = self.transport
        transport.unregisterProducer()
        transport.loseConnection()

    def _depart(self) -> None:
        if self._state != OVER:
            self._state = OVER
            self._watch.stop()
            self._lender.departed(self)

    def _break(self, failed: ExchangeFailed) -> None:
        """
        The peer is not to be trusted with another octet.
        """
        exchange, self._exchange = self._exchange, None
        self._depart()
        transport = self.transport
        transport.unregisterProducer()
        transport.abortConnection()
        if exchange is not None:
            exchange.fail(failed)

    def _late(self) -> None:
        exchange = self._exchange
        if self._state == IDLE:
            self._close()
        elif self._state == RAW:
            self._over()
            self._close()
            exchange.receiver.ended(())
        else:
            self._break(ExchangeFailed(Kind.SLOW))

    def readConnectionLost(self) -> None:
        """
        The peer says no more.
        """
        self._readEnded = True
        exchange = self._exchange
        if self._state == RAW and exchange is not None:
            exchange.receiver.ended(())
            if self._writeEnded and not exchange.over:
                self._over()
                self._close()
        else:
            self._end(exchange, True)

    def writeConnectionLost(self) -> None:
        """
        Our own half-close is through.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone.
        """
        clean = reason.check(ConnectionDone) is not None
        exchange = self._exchange
        if self._state == RAW and exchange is not None:
            self._over()
            self._depart()
            if clean and not self._readEnded:
                exchange.receiver.ended(())
            else:
                exchange.receiver.failed(ExchangeFailed(Kind.BROKEN, reason=reason.value))
        elif self._state != OVER:
            self._end(exchange, clean, reason.value)

    def _end(self, exchange: ClientExchange | None, clean: bool, reason: object = None) -> None:
        """
        Nothing more will come, in the middle of whatever there was.
        """
        state, fresh = self._state, not self._buffer and self._interim == 0
        self._exchange = None
        self._close()
        if exchange is None:
            return
        if state == REST and clean:
            exchange.over = True
            exchange.receiver.ended(())
        elif state == HEAD and fresh and self.uses > 1 and exchange.repeatable:
            exchange.detach()
            self._lender.again(exchange)
        else:
            exchange.fail(ExchangeFailed(Kind.BROKEN, reason=reason))
