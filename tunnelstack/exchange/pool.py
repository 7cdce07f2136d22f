"""
Connections that are kept for the next exchange: streams to an agent, or connections to the web server behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.exchange._client_exchange import ClientExchange
from tunnelstack.exchange.client import HTTPClientProtocol
from tunnelstack.exchange.errors import Busy, ExchangeFailed, FailureKind
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, STREAMED, Timeouts, Traits
from tunnelstack.transport.host_endpoint import connectTimedOut
from tunnelstack.wire.http1.head import DEFAULT_LIMITS, HeadLimits


class ExchangePool:
    """
    Exchanges over connections from one endpoint.  The connection that was used last is used next, so that what is not needed
    grows old and goes.

    @ivar traits: what its exchanges can do.
    """

    traits: Traits = STREAMED
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
    ) -> None:
        """
        @param idleSeconds: seconds that a connection stays open between exchanges.
        @param maxIdle: how many connections may wait for an exchange.
        @param maxConnections: how many connections there may be; beyond that, L{Busy}.
        @param explain: one sentence for the visitor about a failure to connect.
        """
        self._endpoint = endpoint
        self._clock = clock
        self._timeouts = timeouts
        self._limits = limits
        self._idleSeconds = idleSeconds
        self._maxIdle = maxIdle
        self._maxConnections = maxConnections
        self._explain = explain
        self._idle: dict[HTTPClientProtocol, None] = {}      # the freshest last
        self._open: set[HTTPClientProtocol] = set()
        self._dialling = 0
        self._closing = False
        self._drained: list[Deferred[None]] = []
        self._factory = _ConnectionFactory(self)

    @property
    def idle(self) -> int:
        """
        Connections without an exchange.
        """
        return len(self._idle)

    @property
    def inFlight(self) -> int:
        """
        Exchanges under way.
        """
        return len(self._open) - len(self._idle) + self._dialling

    def exchange(self, receiver: Any) -> ClientExchange:
        """
        Begin an exchange.

        @return: the L{IExchange<tunnelstack.interfaces.IExchange>}; a failure to connect is told to the receiver.
        @raise Busy: there are enough.
        """
        if self._idle:
            return self._idle.popitem()[0].exchange(receiver)
        if self._closing or len(self._open) + self._dialling >= self._maxConnections:
            raise Busy()
        exchange = ClientExchange(receiver)
        self._dial(exchange)
        return exchange

    def _dial(self, exchange: ClientExchange) -> None:
        self._dialling += 1
        dialling: Deferred[Any] = self._endpoint.connect(self._factory)
        dialling.addTimeout(self._timeouts.connect, self._clock, connectTimedOut)
        dialling.addBoth(self._dialled)
        dialling.addCallbacks(self._connected, self._failed, (exchange,), {}, (exchange,))
        dialling.addErrback(self._exchangeFailed)

    def _dialled(self, result: Any) -> Any:
        self._dialling -= 1
        return result

    def _connected(self, connection: HTTPClientProtocol, exchange: ClientExchange) -> None:
        if exchange.finished:                     # given up meanwhile; the next one will be glad of it
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

    # what connections say

    def connectionOpened(self, connection: HTTPClientProtocol) -> None:
        """
        From the connection: it is open.
        """
        self._open.add(connection)

    def connectionIdle(self, connection: HTTPClientProtocol) -> None:
        """
        From the connection: it can take another exchange.
        """
        if self._closing or len(self._idle) >= self._maxIdle:
            connection.close()
        else:
            self._idle[connection] = None

    def connectionClosed(self, connection: HTTPClientProtocol) -> None:
        """
        From the connection: it is gone.
        """
        self._open.discard(connection)
        self._idle.pop(connection, None)
        self._checkDrained()

    def retry(self, exchange: ClientExchange) -> None:
        """
        From the connection: it had died before it took the request.  A new one gets it, which has no such excuse.
        """
        self._dial(exchange)

    # the end

    def drain(self) -> Deferred[None]:
        """
        Begin no more exchanges, and close each connection when its exchange is over.

        @return: fires when the last of them is gone.
        """
        self._closing = True
        for connection in list(self._idle):
            connection.close()
        if not self.inFlight:
            return succeed(None)
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        return drained

    def close(self) -> None:
        """
        Close everything at once; exchanges under way fail.
        """
        self._closing = True
        for connection in list(self._open):
            connection.close()

    def _checkDrained(self) -> None:
        if self._closing and not self.inFlight:
            waiting, self._drained = self._drained, []
            for drained in waiting:
                drained.callback(None)

    def build(self) -> HTTPClientProtocol:
        """
        A connection to be.
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
