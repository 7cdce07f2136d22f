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
from tunnelstack.exchange._timeout import Watch
from tunnelstack.exchange.errors import ExchangeFailed, Kind
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.stream.splice import halfCloses

if TYPE_CHECKING:
    from tunnelstack.exchange.client import HTTPClientProtocol

IDLE, HEAD, BODY, CHUNKS, REST, RAW, OVER = range(7)
"""What is expected of the peer: nothing, a head, a body of known length, chunks, all until it closes, raw octets, nothing any
more."""


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


class Parting(Protocol):
    """
    The half of L{HTTPClientProtocol<tunnelstack.exchange.client.HTTPClientProtocol>} that gives connections back, or up.

    @ivar uses: how many exchanges it has had.
    """

    transport: Any
    uses: int
    _lender: Any
    _timeouts: Timeouts
    _kept: float
    _watch: Watch
    _exchange: Any
    _state: int
    _buffer: bytes
    _chunks: Any
    _interim: int
    _held: bool
    _readEnded: bool
    _writeEnded: bool

    def hold(self, held: bool) -> None:
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

    def _done(self, exchange: ClientExchange, keep: bool) -> None:
        """
        The response is whole.  The connection goes back before the receiver is told, so that the next request finds it.
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
