"""
The client's side of HTTP/1.1, over any transport that is kept: a stream to an agent, a connection to a local web server.

One exchange at a time.  A connection whose last exchange was framed, whole and read goes back to its pool; any other is closed.
The states of a connection are shown in L{tunnelstack.exchange._connection}.
"""

from __future__ import annotations

from typing import Protocol as TypingProtocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.exchange._client_exchange import ClientExchange
from tunnelstack.exchange._connection import (
    BODY,
    CLOSED,
    HEAD,
    IDLE,
    RAW,
    ExchangeConnection,
    IExchangeTransport,
)
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind, unreadableResponse
from tunnelstack.exchange.forward import NULL_RECEIVER
from tunnelstack.exchange.moving_timeout import NEVER
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, Timeouts, Traits
from tunnelstack.interfaces import IExchangeReceiver, IWholeResponseReceiver
from tunnelstack.transport.direct_write import Write
from tunnelstack.transport.endpoint_wrapper import leaveWrapper
from tunnelstack.transport.last_octets import readBeforeLoss
from tunnelstack.wire.http1.framing import Framing, end_to_end
from tunnelstack.wire.http1.head import DEFAULT_LIMITS, BadMessage, HeadLimits, ResponseHead
from tunnelstack.wire.http1.message import MessageReader

INTERIM = 32
"""Interim responses of one exchange.  Those that servers repeat while they work (102, 103) are bounded by time instead."""

REPEATED = frozenset((102, 103))


class ConnectionPool(TypingProtocol):
    """
    Keeps connections for the next exchange.
    """

    traits: Traits

    def connectionOpened(self, connection: HTTPClientProtocol) -> None:
        """
        It is open.
        """

    def connectionIdle(self, connection: HTTPClientProtocol) -> None:
        """
        It can carry another exchange.
        """

    def connectionClosed(self, connection: HTTPClientProtocol) -> None:
        """
        It is closed, or about to be.
        """

    def retry(self, exchange: ClientExchange) -> None:
        """
        Its connection was closed before it read the request: send that once more, over a new one.
        """


@implementer(IHalfCloseableProtocol)
class HTTPClientProtocol(Protocol):
    """
    A connection for one exchange after the other.

    @ivar uses: how many exchanges it has had.
    @ivar send: writes at once what nothing else is going to follow in this turn.
    """

    transport: IExchangeTransport
    send: Write

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        clock: IReactorTime,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        limits: HeadLimits = DEFAULT_LIMITS,
        idleSeconds: float = 60.0,
    ) -> None:
        """
        @param idleSeconds: seconds that it stays open between exchanges.
        """
        self._pool = pool
        self._clock = clock
        self._timeouts = timeouts
        self._idleSeconds = idleSeconds
        self._connection = ExchangeConnection(self, clock, timeouts)
        self._reader = MessageReader(limits, lenient=True)
        self._exchange: ClientExchange | None = None
        self._pooled = True           # the pool counts it
        self._keepAlive = True        # the present response allows another exchange
        self._interim = 0             # interim responses that count
        self._answered = False        # there was an interim response
        self._finalBefore: float | None = None     # when the final response must have begun, after the first interim one
        self.uses = 0

    @property
    def full(self) -> bool:
        """
        The transport accepts no more for now.
        """
        return self._connection.full

    @property
    def receiver(self) -> IExchangeReceiver | None:
        """
        The receiver of the present exchange; C{None} between exchanges.
        """
        return None if self._exchange is None else self._exchange.receiver

    def connectionMade(self) -> None:
        """
        Ready for an exchange.
        """
        self._pool.connectionOpened(self)
        self._connection.open(self.transport)
        readBeforeLoss(self.transport)
        leaveWrapper(self.transport, self)
        self.send = self._connection.send

    def take(self, exchange: ClientExchange) -> None:
        """
        Carry an exchange from now on.  There must be none.
        """
        connection = self._connection
        self._exchange = exchange
        connection.state = HEAD
        self._interim = 0
        self._answered = False
        self._finalBefore = None
        self.uses += 1
        connection.timer.deadline = NEVER
        if exchange.paused:
            self.pauseReading(True)

    # what the exchange reports

    def requestSent(self) -> None:
        """
        From the exchange: the request is sent.
        """
        connection = self._connection
        if connection.state is HEAD:
            timer = connection.timer
            deadline = timer.now() + self._timeouts.first
            if timer.due <= deadline:
                timer.deadline = deadline     # as set() does; it would be a call for each exchange
            else:
                timer.set(self._timeouts.first)

    def pauseReading(self, paused: bool) -> None:
        """
        From the exchange: read no more, or read on.
        """
        connection = self._connection
        if paused == connection.readPaused:
            return
        connection.setReadPaused(paused)
        if paused and connection.state is not HEAD and connection.state is not CLOSED:
            connection.timer.clear()
        elif connection.state is BODY and self._reader.length_known:
            connection.timer.set(self._timeouts.idle)

    def endRaw(self) -> None:
        """
        From the exchange: nothing more is written.  The peer's direction is read on.  Where the transport has no half-close,
        the end cannot be sent until the peer has ended as well, which is waited for within a bound.
        """
        connection = self._connection
        if not connection.endWriting():
            if connection.readEnded:
                self._detachExchange()
                self._close()
            else:
                connection.timer.set(self._timeouts.ending)

    def abort(self) -> None:
        """
        From the exchange: it was given up, so the rest of it is not read.
        """
        self._exchange = None
        self._reset()

    # what arrives

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the peer.
        """
        state = self._connection.state
        if state is HEAD:
            exchange, reader = self._exchange, self._reader
            assert exchange is not None
            reader.buffer = reader.buffer + data if reader.buffer else data      # as receive() does; a call costs 1 %
            try:
                while reader.buffer and (head := reader.read_response(exchange.method)) is not None:
                    if head.status >= 200 or head.status == 101:
                        self._finalHead(exchange, head)
                        return
                    self._interimReceived(exchange, head)
                    if self._exchange is not exchange:
                        return
            except BadMessage as bad:
                self._break(unreadableResponse(bad))
        elif state is RAW:
            self._exchange.receiver.bodyReceived(data)                   # type: ignore[union-attr]
        elif state is IDLE:
            self._close()                     # nothing was requested
        elif state is BODY:
            self._body(data)

    def _interimReceived(self, exchange: ClientExchange, head: ResponseHead) -> None:
        """
        An interim response shows that the server works: the final one is waited for as long again, within a bound.
        """
        self._interim += head.status not in REPEATED
        if self._interim > INTERIM:
            raise BadMessage("too many interim responses")
        self._answered = True
        if exchange.sent:
            now = self._clock.seconds()
            if self._finalBefore is None:
                self._finalBefore = now + self._timeouts.interim
            self._connection.timer.set(max(0.0, min(self._timeouts.first, self._finalBefore - now)))
        exchange.receiver.informational(self._endToEndHead(head, head.framing))

    def _endToEndHead(self, head: ResponseHead, framing: Framing) -> ResponseHead:
        """
        The head without what concerns this connection only.
        """
        if framing.hop_by_hop:
            if head.status != 101 and head.status != 426:
                framing.upgrade = b""
            head = ResponseHead(head.status, head.reason, end_to_end(head.fields, framing), head.version, framing)
        return head

    def _finalHead(self, exchange: ClientExchange, head: ResponseHead) -> None:
        framing, reader = head.framing, self._reader
        if head.status == 101:
            self._upgraded(exchange, head, framing)
            return
        self._keepAlive = framing.keep_alive
        receiver = exchange.receiver
        if len(reader.buffer) == framing.body and IWholeResponseReceiver.providedBy(receiver):
            octets, reader.buffer = reader.buffer, b""
            self._responseComplete(exchange)
            exchange.receiver = NULL_RECEIVER         # the exchanges of a request refer to each other: leave no cycle
            receiver.responseReceived(self._endToEndHead(head, framing) if framing.hop_by_hop else head, octets)
            return
        connection = self._connection
        connection.state = BODY
        if framing.body < 0:
            connection.timer.clear()
        elif len(reader.buffer) < framing.body:
            connection.timer.set(self._timeouts.idle)
        receiver.headReceived(self._endToEndHead(head, framing))
        if self._exchange is exchange and (reader.buffer or not framing.body):
            self._body(reader.take_buffer())

    def _upgraded(self, exchange: ClientExchange, head: ResponseHead, framing: Framing) -> None:
        if not exchange.upgrade or not exchange.sent or not framing.upgrade:
            raise BadMessage("the response changes the protocol, which the request did not offer")
        self._connection.state = RAW
        self._connection.timer.clear()
        rest = self._reader.take_buffer()
        exchange.upgraded()
        exchange.receiver.headReceived(self._endToEndHead(head, framing))
        if rest and self._exchange is exchange:
            exchange.receiver.bodyReceived(rest)

    def _body(self, data: bytes) -> None:
        """
        Some of the body, and perhaps its end.
        """
        exchange, reader = self._exchange, self._reader
        assert exchange is not None
        try:
            data = reader.read_body(data)
        except BadMessage as bad:
            self._break(unreadableResponse(bad))
            return
        if reader.remaining > 0 and not self._connection.readPaused:
            self._connection.timer.set(self._timeouts.idle)
        if data:
            exchange.receiver.bodyReceived(data)
        if reader.ended and self._exchange is exchange:
            trailers = reader.trailers
            self._keepAlive &= not reader.irregular
            self._responseComplete(exchange)
            exchange.receiver.ended(trailers)

    def _responseComplete(self, exchange: ClientExchange) -> None:
        """
        The response is whole.  The connection goes back before the receiver is called, so that the next request finds it.
        """
        connection = self._connection
        self._exchange = None                 # as _detachExchange does
        if connection.readPaused:
            self.pauseReading(False)
        exchange.finished = True
        if not exchange.sent:
            self._reset()                     # the rest of the request is of no use any more
        elif self._keepAlive and not connection.readEnded and not self._reader.buffer:
            connection.state = IDLE
            timer = connection.timer
            deadline = timer.now() + self._idleSeconds
            if timer.due <= deadline:
                timer.deadline = deadline     # as in requestSent
            else:
                timer.set(self._idleSeconds)
            self._pool.connectionIdle(self)
        else:
            self._close()

    # pressure

    def writingPaused(self) -> None:
        """
        From the connection: the transport accepts no more for now.
        """
        exchange = self._exchange
        if exchange is not None and exchange.producer is not None:
            exchange.producer.pauseProducing()
            if not exchange.raw:
                self._connection.timer.set(self._timeouts.idle)

    def writingResumed(self) -> None:
        """
        From the connection: the transport accepts more again.
        """
        exchange = self._exchange
        if exchange is not None and exchange.producer is not None:
            if not exchange.raw:
                self._rearm(exchange)
            exchange.producer.resumeProducing()

    def _rearm(self, exchange: ClientExchange) -> None:
        """
        The request moves again: set the deadline of what is waited for now.
        """
        connection = self._connection
        if connection.state is HEAD and exchange.sent:
            connection.timer.set(self._timeouts.first)
        elif connection.state is BODY and self._reader.length_known:
            connection.timer.set(self._timeouts.idle)
        else:
            connection.timer.clear()

    # ends

    def close(self) -> None:
        """
        Close the connection; an exchange that is under way breaks.
        """
        if self._exchange is not None:
            self._break(ExchangeFailed(FailureKind.STOPPED))
        elif self._connection.state is not CLOSED:
            self._close()

    def _detachExchange(self) -> None:
        """
        The exchange is over.
        """
        exchange, self._exchange = self._exchange, None
        if self._connection.readPaused:
            self.pauseReading(False)
        if exchange is not None:
            exchange.finished = True

    def _close(self) -> None:
        self._leavePool()
        self._connection.close()

    def _reset(self) -> None:
        self._leavePool()
        self._connection.abort()

    def _leavePool(self) -> None:
        """
        The connection carries no further exchange.
        """
        if self._pooled:
            self._pooled = False
            self._connection.state = CLOSED
            self._pool.connectionClosed(self)

    def _break(self, failed: ExchangeFailed) -> None:
        """
        Nothing that the peer sends from now on can be relied on.
        """
        exchange, self._exchange = self._exchange, None
        self._reset()
        if exchange is not None:
            exchange.fail(failed)

    def timedOut(self) -> None:
        """
        From the connection: what it waits for did not happen in time.
        """
        exchange, state = self._exchange, self._connection.state
        if state is IDLE:
            self._close()
        elif state is CLOSED:
            self.transport.abortConnection()
        elif state is RAW and exchange is not None:
            self._detachExchange()
            self._close()
            exchange.receiver.ended(())
        else:
            self._break(ExchangeFailed(FailureKind.GATEWAY_TIMEOUT))

    def readConnectionLost(self) -> None:
        """
        The peer has ended its direction.
        """
        connection, exchange = self._connection, self._exchange
        connection.readEnded = True
        if connection.state is RAW and exchange is not None:
            exchange.receiver.ended(())
            if connection.writeEnded and not exchange.finished:
                self._detachExchange()
                self._close()
        else:
            self._eof(exchange, True)

    def writeConnectionLost(self) -> None:
        """
        Our direction is ended.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is lost.
        """
        clean = reason.check(ConnectionDone) is not None
        connection, exchange = self._connection, self._exchange
        if connection.state is RAW and exchange is not None:
            self._detachExchange()
            self._leavePool()
            if clean and not connection.readEnded:
                exchange.receiver.ended(())
            else:
                exchange.receiver.failed(ExchangeFailed(FailureKind.BROKEN, reason=reason.value))
        elif connection.state is not CLOSED:
            self._eof(exchange, clean, reason.value)
        connection.release()

    def _eof(self, exchange: ClientExchange | None, clean: bool, reason: object = None) -> None:
        """
        Nothing more will arrive, whatever is under way.

        @param clean: the peer closed the connection in order.
        """
        state, reader = self._connection.state, self._reader
        self._exchange = None
        self._close()
        if exchange is None:
            return
        if state is BODY and clean and reader.receive_eof():
            exchange.finished = True
            exchange.receiver.ended(())
        elif state is HEAD and self._maybeUnread and exchange.repeatable:
            exchange.detach()
            self._pool.retry(exchange)
        else:
            exchange.fail(ExchangeFailed(FailureKind.BROKEN, reason=reason))

    @property
    def _maybeUnread(self) -> bool:
        """
        The peer closed a connection that it had kept, before it sent any octet of the response: it may not have read the
        request.
        """
        return self.uses > 1 and not self._answered and not self._reader.buffer
