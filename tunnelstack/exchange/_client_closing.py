"""
How a kept connection ends, or is kept: after a response, in the middle of one, by half, or by a deadline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from typing import Protocol as Promise

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tunnelstack.exchange._client_exchange import ClientExchange
from tunnelstack.exchange._timeout import MovingTimeout
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.stream.splice import supportsHalfClose

if TYPE_CHECKING:
    from tunnelstack.exchange.client import HTTPClientProtocol

IDLE, HEAD, BODY, CHUNKS, UNTIL_END, RAW, CLOSED = range(7)
"""What is expected of the peer: nothing, a head, a body of known length, chunks, all until it closes, raw octets, nothing any
more."""


class ConnectionPool(Promise):
    """
    Who keeps connections for the next exchange.
    """

    def connectionOpened(self, connection: HTTPClientProtocol) -> None:
        """
        It is open.
        """

    def connectionIdle(self, connection: HTTPClientProtocol) -> None:
        """
        It can take another exchange.
        """

    def connectionClosed(self, connection: HTTPClientProtocol) -> None:
        """
        It is gone.
        """

    def retry(self, exchange: ClientExchange) -> None:
        """
        Its connection had died before it took the request: send that once more, over a new one.
        """


class ClientClosing(Protocol):
    """
    The half of L{HTTPClientProtocol<tunnelstack.exchange.client.HTTPClientProtocol>} that gives connections back, or up.

    @ivar uses: how many exchanges it has had.
    """

    transport: Any
    uses: int
    _pool: Any
    _timeouts: Timeouts
    _idleSeconds: float
    _timer: MovingTimeout
    _exchange: Any
    _state: int
    _buffer: bytes
    _chunks: Any
    _interim: int
    _readPaused: bool
    _readEnded: bool
    _writeEnded: bool

    def pauseReading(self, held: bool) -> None:
        """
        Read no more, or read on.
        """
        raise NotImplementedError

    def endRaw(self) -> None:
        """
        From the exchange: nothing more is written; what the peer says is still read.  Where the transport cannot say that, the
        end is remembered until the peer has ended as well, but not for ever.
        """
        transport = self.transport
        self._writeEnded = True
        if self._readEnded:
            self._detachExchange()
            self._close()
        elif not supportsHalfClose(transport):
            self._timer.set(self._timeouts.ending)
        else:
            transport.unregisterProducer()
            transport.loseWriteConnection()

    def abort(self) -> None:
        """
        From the exchange: it was given up, so the rest of it is not read.
        """
        self._exchange = None
        self._leavePool()
        transport = self.transport
        transport.unregisterProducer()
        transport.abortConnection()

    def _responseComplete(self, exchange: ClientExchange, keep: bool) -> None:
        """
        The response is whole.  The connection goes back before the receiver is told, so that the next request finds it.
        """
        self._detachExchange()
        if not exchange.sent:
            self._leavePool()
            self.transport.unregisterProducer()
            self.transport.abortConnection()       # the rest of the request is of no use to anybody
        elif keep and not self._readEnded:
            self._state = IDLE
            self._timer.set(self._idleSeconds)
            self._pool.connectionIdle(self)
        else:
            self._close()

    def _detachExchange(self) -> None:
        """
        The exchange has heard its last.
        """
        exchange, self._exchange = self._exchange, None
        self._chunks = None
        if self._readPaused:
            self.pauseReading(False)
        if exchange is not None:
            exchange.finished = True

    def close(self) -> None:
        """
        Close the connection; an exchange that is under way breaks.
        """
        if self._exchange is not None:
            self._break(ExchangeFailed(FailureKind.STOPPED))
        elif self._state != CLOSED:
            self._close()

    def _close(self) -> None:
        self._leavePool()
        transport = self.transport
        transport.unregisterProducer()
        transport.loseConnection()

    def _leavePool(self) -> None:
        if self._state != CLOSED:
            self._state = CLOSED
            self._timer.stop()
            self._pool.connectionClosed(self)

    def _break(self, failed: ExchangeFailed) -> None:
        """
        The peer is not to be trusted with another octet.
        """
        exchange, self._exchange = self._exchange, None
        self._leavePool()
        transport = self.transport
        transport.unregisterProducer()
        transport.abortConnection()
        if exchange is not None:
            exchange.fail(failed)

    def _timedOut(self) -> None:
        exchange = self._exchange
        if self._state == IDLE:
            self._close()
        elif self._state == RAW:
            self._detachExchange()
            self._close()
            exchange.receiver.ended(())
        else:
            self._break(ExchangeFailed(FailureKind.GATEWAY_TIMEOUT))

    def readConnectionLost(self) -> None:
        """
        The peer says no more.
        """
        self._readEnded = True
        exchange = self._exchange
        if self._state == RAW and exchange is not None:
            exchange.receiver.ended(())
            if self._writeEnded and not exchange.finished:
                self._detachExchange()
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
            self._detachExchange()
            self._leavePool()
            if clean and not self._readEnded:
                exchange.receiver.ended(())
            else:
                exchange.receiver.failed(ExchangeFailed(FailureKind.BROKEN, reason=reason.value))
        elif self._state != CLOSED:
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
        if state == UNTIL_END and clean:
            exchange.finished = True
            exchange.receiver.ended(())
        elif state == HEAD and fresh and self.uses > 1 and exchange.repeatable:
            exchange.detach()
            self._pool.retry(exchange)
        else:
            exchange.fail(ExchangeFailed(FailureKind.BROKEN, reason=reason))
