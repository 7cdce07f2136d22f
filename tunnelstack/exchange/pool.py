"""
Pools of connections for exchanges: streams to an agent, or an agent's connections to a web server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.exchange._client_exchange import ClientExchange
from tunnelstack.exchange.client import HTTPClientProtocol
from tunnelstack.exchange.errors import Busy, ExchangeFailed, FailureKind
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, STREAMED, Timeouts, Traits
from tunnelstack.interfaces import IExchangeReceiver
from tunnelstack.transport.host_endpoint import connectTimedOut
from tunnelstack.waiters import Waiters
from tunnelstack.wire.http1.head import DEFAULT_LIMITS, HeadLimits

R = TypeVar("R")


class ExchangePool:
    """
    Carries exchanges on connections from one endpoint.  The connection that was used last is used next, so that connections
    that are not needed reach their idle time-out.

    @ivar traits: what its exchanges can do.
    """

    log = Logger()

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        *,
        clock: IReactorTime,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        limits: HeadLimits = DEFAULT_LIMITS,
        idleSeconds: float = 60.0,
        maxIdle: int = 128,
        maxConnections: int = 1024,
        explain: Callable[[Failure], str] | None = None,
        traits: Traits = STREAMED,
    ) -> None:
        """
        @param idleSeconds: how long a connection stays open between exchanges.
        @param maxIdle: the most connections that are kept without an exchange.
        @param maxConnections: the most connections in all; beyond them, L{exchange} raises L{Busy}.
        @param explain: returns a sentence for the visitor about a failure to connect.
        """
        self.traits = traits
        self._endpoint = endpoint
        self._clock = clock
        self._timeouts = timeouts
        self._limits = limits
        self._idleSeconds = idleSeconds
        self._maxIdle = maxIdle
        self._maxConnections = maxConnections
        self._explain = explain
        self._idle: dict[HTTPClientProtocol, None] = {}      # the one that was used last is the last
        self._open: set[HTTPClientProtocol] = set()
        self._outdated: set[HTTPClientProtocol] = set()      # they work by earlier settings
        self._dialling = 0
        self._closing = False
        self._drained: Waiters[None] = Waiters()
        self._factory = _ConnectionFactory(self)

    def configure(self, timeouts: Timeouts, limits: HeadLimits) -> None:
        """
        Use other settings for the exchanges that begin from now on.
        """
        if (timeouts, limits) != (self._timeouts, self._limits):
            self._timeouts, self._limits = timeouts, limits
            for connection in list(self._idle):
                connection.close()
            self._outdated = set(self._open)

    @property
    def idle(self) -> int:
        """
        The number of connections without an exchange.
        """
        return len(self._idle)

    @property
    def inFlight(self) -> int:
        """
        The number of exchanges under way.
        """
        return len(self._open) - len(self._idle) + self._dialling

    def exchange(self, receiver: IExchangeReceiver) -> ClientExchange:
        """
        Begin an exchange, on an idle connection or on a new one.

        @param receiver: receives the response, or the failure to connect.
        @raise Busy: there are C{maxConnections} already, or the pool is being closed.
        """
        if self._idle:
            exchange = ClientExchange()
            exchange.receiver, exchange.queue, exchange.traits = receiver, [], self.traits
            exchange.connection = connection = self._idle.popitem()[0]
            connection.take(exchange)
            return exchange
        if self._closing or len(self._open) + self._dialling >= self._maxConnections:
            raise Busy()
        exchange = ClientExchange()
        exchange.receiver, exchange.queue, exchange.traits = receiver, [], self.traits
        self._dial(exchange)
        return exchange

    def _dial(self, exchange: ClientExchange) -> None:
        self._dialling += 1
        dialling = self._endpoint.connect(self._factory)
        dialling.addTimeout(self._timeouts.connect, self._clock, connectTimedOut)
        dialling.addBoth(self._dialled)
        dialling.addCallbacks(self._connected, self._failed, (exchange,), {}, (exchange,))
        dialling.addErrback(self._exchangeFailed)

    def _dialled(self, result: R) -> R:
        self._dialling -= 1
        return result

    def _connected(self, connection: HTTPClientProtocol, exchange: ClientExchange) -> None:
        if exchange.finished:                     # cancelled in the meantime
            self.connectionIdle(connection)
        else:
            connection.take(exchange)
            exchange.attach(connection)

    def _failed(self, reason: Failure, exchange: ClientExchange) -> None:
        sentence = "" if self._explain is None else self._explain(reason)
        self._checkDrained()
        exchange.fail(ExchangeFailed(FailureKind.UNREACHABLE, sentence, reason=reason.value))

    def _exchangeFailed(self, reason: Failure) -> None:
        self.log.failure("an exchange failed to begin", failure=reason)

    # Called by connections

    def connectionOpened(self, connection: HTTPClientProtocol) -> None:
        """
        A connection is open.
        """
        self._open.add(connection)

    def connectionIdle(self, connection: HTTPClientProtocol) -> None:
        """
        A connection is ready for another exchange.
        """
        if self._closing or len(self._idle) >= self._maxIdle or connection in self._outdated:
            connection.close()
        else:
            self._idle[connection] = None

    def connectionClosed(self, connection: HTTPClientProtocol) -> None:
        """
        A connection is lost.
        """
        self._open.discard(connection)
        self._outdated.discard(connection)
        self._idle.pop(connection, None)
        self._checkDrained()

    def retry(self, exchange: ClientExchange) -> None:
        """
        A connection that had been idle was lost before it carried any of the request.  The exchange gets a new connection; if
        that is lost as well, the exchange fails.
        """
        self._dial(exchange)

    # Closing

    def drain(self) -> Deferred[None]:
        """
        Begin no more exchanges, and close each connection after its exchange.

        @return: fires when the last exchange has ended.
        """
        self._closing = True
        for connection in list(self._idle):
            connection.close()
        if not self.inFlight:
            return succeed(None)
        return self._drained.wait()

    def close(self) -> None:
        """
        Close all connections at once.  Exchanges under way fail.
        """
        self._closing = True
        for connection in list(self._open):
            connection.close()

    def _checkDrained(self) -> None:
        if self._closing and not self.inFlight:
            self._drained.fire(None)

    def build(self) -> HTTPClientProtocol:
        """
        @return: the protocol of a new connection.
        """
        return HTTPClientProtocol(
            self, clock=self._clock, timeouts=self._timeouts, limits=self._limits, idleSeconds=self._idleSeconds
        )


class _ConnectionFactory(ClientFactory):
    """
    Builds the connections of a pool.
    """

    noisy = False

    def __init__(self, pool: ExchangePool) -> None:
        self._pool = pool

    def buildProtocol(self, address: object) -> HTTPClientProtocol:
        return self._pool.build()
