"""
How a serving connection ends, and what becomes of its exchange then: after an answer, in the middle of one, by half, or by a
deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tunnelstack.exchange._server_exchange import ServerExchange
from tunnelstack.exchange._timeout import MovingTimeout
from tunnelstack.exchange.error_page import ErrorPages
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.stream.splice import supportsHalfClose
from tunnelstack.transport.direct_write import Write
from tunnelstack.wire.http1.head import encode_response

HEAD, BODY, CHUNKS, RESPONDING, RAW, LINGERING, CLOSED = range(7)
"""What is expected of the peer: a head, a body of known length, chunks, nothing until the answer, raw octets, nothing that
matters, nothing at all."""

READING = frozenset((BODY, CHUNKS))

LINGER = 5.0
"""Seconds to read on after an early answer, so that a reset does not overtake it."""


class ServerClosing(Protocol):
    """
    The half of L{HTTPServerProtocol<tunnelstack.exchange.server.HTTPServerProtocol>} that lets go.

    @ivar keepAlive: another request may follow the present one.
    @ivar full: the transport takes no more for now.
    @ivar pages: makes error pages.
    @ivar send: writes what nothing is to follow at once.
    """

    transport: Any
    send: Write
    pages: ErrorPages
    keepAlive: bool
    full: bool
    _timeouts: Timeouts
    _done: Callable[[ServerExchange], object] | None
    _timer: MovingTimeout
    _state: int
    _exchange: Any
    _buffer: bytes
    _searched: int
    _readPaused: bool
    _paused: bool
    _readEnded: bool
    _writeEnded: bool
    _progress: int
    _surviving: Any
    _headOctets: bytes

    @property
    def unread(self) -> bool:
        """
        The request has not come to its end.
        """
        return self._state in READING

    def _loop(self) -> None:
        """
        Begin what can be begun.
        """
        raise NotImplementedError

    def _updateReading(self) -> None:
        """
        Pause or resume the transport.
        """
        raise NotImplementedError

    @property
    def atDoor(self) -> bool:
        """
        The request arrived at a door.
        """
        return self._headOctets != b""

    # after an answer

    def endRaw(self) -> None:
        """
        From the exchange: nothing more is written; what the peer says is still read, where the transport can do that.  Where
        not, the whole connection ends: whoever is at the other end of it may be waiting for just that.
        """
        transport = self.transport
        self._writeEnded = True
        if self._readEnded or not supportsHalfClose(transport):
            exchange = self._exchange
            self._detachExchange()
            self._close()
            if not self._readEnded:
                exchange.receiver.ended(())
        else:
            transport.unregisterProducer()
            transport.loseWriteConnection()

    def responseSent(self, exchange: ServerExchange) -> None:
        """
        From the exchange: the response is written.
        """
        unread = self.unread
        self._detachExchange()
        if unread:
            self._linger()
        elif not self.keepAlive:
            self._close()
        else:
            self._state = HEAD
            self._timer.set(self._timeouts.idle)
            if self._buffer or self._readPaused:
                self._loop()

    def abort(self) -> None:
        """
        From the exchange: break the connection.
        """
        self._detachExchange()
        self._state = CLOSED
        self._timer.stop()
        transport = self.transport
        transport.unregisterProducer()
        transport.abortConnection()

    def _detachExchange(self) -> None:
        """
        The exchange is no longer ours to tell.
        """
        exchange, self._exchange = self._exchange, None
        self._paused = False
        self._headOctets = b""
        if exchange is not None:
            exchange.finished = True
            if self._done is not None:
                self._done(exchange)

    def _close(self) -> None:
        """
        Close the connection behind what was written, for which a peer who does not read is not waited for ever.
        """
        self._state = CLOSED
        self._timer.set(self._timeouts.idle)
        transport = self.transport
        transport.unregisterProducer()
        transport.loseConnection()

    def _linger(self) -> None:
        """
        The answer is out, but the peer is still talking: let it read before the connection goes.
        """
        transport = self.transport
        if self._readEnded or not supportsHalfClose(transport):
            self._close()
            return
        self._state = LINGERING
        self._buffer = b""
        self._timer.set(LINGER)
        transport.unregisterProducer()
        transport.loseWriteConnection()
        self._updateReading()

    def _reject(self, failed: ExchangeFailed) -> None:
        head, body = self.pages(failed, "")
        head.fields.append((b"Connection", b"close"))
        self.send(encode_response(head) + body)
        self._linger()

    # by the peer, or by the clock

    def readConnectionLost(self) -> None:
        """
        The peer says no more, but may still listen: what it asked for is answered.
        """
        self._readEnded = True
        self.keepAlive = False
        state = self._state
        if state == RAW:
            exchange = self._exchange
            exchange.receiver.ended(())
            if self._writeEnded and not exchange.finished:
                self._detachExchange()
                self._close()
        elif state == RESPONDING:
            self._timer.set(self._timeouts.ending)
        elif state in READING:
            self._failRequest(FailureKind.CLIENT_CLOSED)
        else:
            self._close()

    def writeConnectionLost(self) -> None:
        """
        Our own half-close is through.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The peer is gone, in whatever way.
        """
        self._state = CLOSED
        self._timer.stop()
        exchange = self._exchange
        self._detachExchange()
        if exchange is not None:
            if exchange.producer is not None:
                exchange.producer.stopProducing()
            if exchange.raw and reason.check(ConnectionDone) and not self._readEnded:
                exchange.receiver.ended(())     # a clean end where there are no half-closes
                self._surviving = exchange.receiver
                self._timer.set(self._timeouts.ending)
            else:
                exchange.receiver.failed(ExchangeFailed(FailureKind.CLIENT_CLOSED, reason=reason.value))

    def farSideEnded(self) -> None:
        """
        From the exchange: the far side has ended as well.
        """
        self._surviving = None
        self._timer.stop()

    def drain(self) -> None:
        """
        Take no further request.
        """
        self.keepAlive = False
        if self._state == HEAD and not self._buffer:
            self._close()

    def _failRequest(self, kind: FailureKind) -> None:
        """
        The request will never be whole: tell who reads it, then answer if that is still possible.
        """
        exchange = self._exchange
        exchange.receiver.failed(ExchangeFailed(kind))
        exchange.cancel(kind)

    def _timedOut(self) -> None:
        """
        A phase took too long.
        """
        state = self._state
        if state in READING:
            self._failRequest(FailureKind.REQUEST_TIMEOUT)
        elif state == RESPONDING:
            self._checkProgress()
        elif state == HEAD and self._searched:
            self._reject(ExchangeFailed(FailureKind.REQUEST_TIMEOUT))
        elif self._surviving is not None:
            self._surviving.failed(ExchangeFailed(FailureKind.CLIENT_CLOSED))
        elif state == CLOSED:
            self.transport.abortConnection()
        else:
            self._close()

    def _checkProgress(self) -> None:
        """
        The peer reads no more, or has ended its side and hears nothing.
        """
        exchange = self._exchange
        if exchange.octets != self._progress and not self.full:
            self._progress = exchange.octets
            self._timer.set(self._timeouts.ending)
        else:
            self._failRequest(FailureKind.CLIENT_CLOSED)
