"""
Exchanges with a server that selects HTTP/1.1 or HTTP/2 by ALPN.

The first exchange makes a connection, and waits for what its handshake negotiates; all others wait with it.  As long as there
is a connection the protocol is known, and exchanges begin at once.  A WebSocket for which the server has no HTTP/2 uses
HTTP/1.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tunnelstack.exchange.errors import Busy, ExchangeFailed, FailureKind
from tunnelstack.exchange.head_first import HeadFirstExchange
from tunnelstack.exchange.http2_pool import HTTP2ExchangePool
from tunnelstack.exchange.pending import PendingExchange
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import STREAMED, Timeouts, Traits
from tunnelstack.interfaces import IExchange, IExchangeReceiver
from tunnelstack.transport.host_endpoint import connectTimedOut
from tunnelstack.transport.http2.alpn import ALPN_HTTP2
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.waiters import Waiters
from tunnelstack.wire.http1.head import HeadLimits, RequestHead
from tunnelstack.wire.http2.websocket import opens_websocket

MAX_WAITING = 4096
"""Exchanges that wait for the first connection."""


class NegotiatedTransport(TypingProtocol):
    """
    A TLS connection whose handshake is complete.

    @ivar negotiatedProtocol: the protocol that ALPN has selected, or C{None}.
    @ivar wrappedProtocol: the protocol of the connection.
    """

    negotiatedProtocol: bytes | None
    wrappedProtocol: IProtocol


class NegotiatedPool:
    """
    Carries exchanges on the connections of one of two pools.

    @ivar traits: what its exchanges can do.
    """

    traits: Traits = STREAMED

    def __init__(
        self, endpoint: IStreamClientEndpoint, http1: ExchangePool, http2: HTTP2ExchangePool, *, clock: IReactorTime,
        connectSeconds: float = 30.0, explain: Callable[[Failure], str] | None = None,
    ) -> None:
        """
        @param endpoint: offers both protocols.
        @param http1: has an endpoint that offers HTTP/1.1 only.
        @param http2: has one that offers HTTP/2 only.
        @param explain: returns a sentence for the visitor about a failure to connect.
        """
        self._endpoint = endpoint
        self._http1 = http1
        self._http2 = http2
        self._clock = clock
        self._connectSeconds = connectSeconds
        self._explain = explain
        self._waiting: list[PendingExchange] = []
        self._negotiating = False
        self._dialling: Deferred[Any] | None = None
        self._closing = False
        self._settled: Waiters[None] = Waiters()     # of those that wait until no exchange does

    def configure(self, timeouts: Timeouts, limits: HeadLimits) -> None:
        """
        Use other settings for the exchanges that begin from now on.
        """
        self._connectSeconds = timeouts.connect
        self._http1.configure(timeouts, limits)
        self._http2.configure(timeouts, limits)

    @property
    def inFlight(self) -> int:
        """
        The number of exchanges under way.
        """
        waiting = sum(not exchange.finished for exchange in self._waiting)
        return waiting + self._http1.inFlight + self._http2.inFlight

    def exchange(self, receiver: IExchangeReceiver) -> IExchange:
        """
        Begin an exchange.

        @raise Busy: too many wait, or the pool is being closed.
        """
        if self._http2.connections:
            return self._openHTTP2(receiver)
        if self._http1.idle or self._http1.inFlight:
            return self._openHTTP1(receiver)
        if self._closing or len(self._waiting) >= MAX_WAITING:
            raise Busy()
        pending = PendingExchange(receiver)
        self._waiting.append(pending)
        if not self._negotiating:
            self._negotiate()
        return pending

    def _openHTTP1(self, receiver: IExchangeReceiver) -> IExchange:
        exchange: IExchange = self._http1.exchange(receiver)
        return exchange

    def _openHTTP2(self, receiver: IExchangeReceiver) -> IExchange:
        def open(head: RequestHead) -> IExchange:
            websocket = opens_websocket(head) and not self._http2.opensWebSockets
            exchange: IExchange = (self._http1 if websocket else self._http2).exchange(receiver)
            return exchange

        return HeadFirstExchange(receiver, open)

    def _negotiate(self) -> None:
        self._negotiating = True
        self._dialling = dialling = self._endpoint.connect(_NegotiationFactory(self))
        dialling.addTimeout(self._connectSeconds, self._clock, connectTimedOut)
        dialling.addErrback(self._connectFailed)

    def handshakeComplete(self, transport: NegotiatedTransport) -> None:
        """
        From a connection: its protocol is negotiated.
        """
        if transport.negotiatedProtocol == ALPN_HTTP2:
            connection = HTTP2Connection(True, clock=self._clock, limits=self._http2.connectionLimits)
            connection.whenUp().addCallback(self._http2Up)
            connection.whenLost().addCallback(self._http2Lost)
            _replaceProtocol(transport, connection)
        else:
            client = self._http1.build()
            _replaceProtocol(transport, client)
            self._http1.connectionIdle(client)
            self._attach(self._openHTTP1)

    def _http2Up(self, connection: HTTP2Connection) -> None:
        self._http2.adopt(connection)
        self._attach(self._openHTTP2)

    def _http2Lost(self, reason: Exception) -> None:
        """
        A connection is lost; if it was not up yet, those that wait have failed.
        """
        if self._negotiating:
            self._connectFailed(Failure(reason))

    def _attach(self, open: Callable[[IExchangeReceiver], IExchange]) -> None:
        self._negotiating = False
        waiting, self._waiting = self._waiting, []
        for exchange in waiting:
            exchange.attach(open)
        self._settled.fire(None)

    def _connectFailed(self, reason: Failure) -> None:
        self._negotiating = False
        sentence = "" if self._explain is None else self._explain(reason)
        waiting, self._waiting = self._waiting, []
        for exchange in waiting:
            exchange.fail(ExchangeFailed(FailureKind.UNREACHABLE, sentence, reason=reason.value))
        self._settled.fire(None)

    # closing

    def drain(self) -> Deferred[None]:
        """
        Begin no more exchanges, and close each connection after its last one.

        @return: fires when the last exchange has ended.
        """
        self._closing = True
        settled = self._settled.wait() if self._waiting else succeed(None)
        drained = settled.addCallback(lambda _: gatherResults([self._http1.drain(), self._http2.drain()]))
        return drained.addCallback(lambda _: None)

    def close(self) -> None:
        """
        Close all connections at once.  Exchanges under way fail.
        """
        self._closing = True
        for exchange in self._waiting:
            exchange.fail(ExchangeFailed(FailureKind.STOPPED))
        if self._dialling is not None:
            self._dialling.cancel()
        self._http1.close()
        self._http2.close()


def _replaceProtocol(transport: NegotiatedTransport, protocol: IProtocol) -> None:
    """
    Give a TLS connection, of which nothing was read, to its protocol.
    """
    transport.wrappedProtocol = protocol
    protocol.makeConnection(transport)        # type: ignore[arg-type]


class _NegotiationFactory(Factory):
    noisy = False

    def __init__(self, pool: NegotiatedPool) -> None:
        self._pool = pool

    def buildProtocol(self, address: object) -> _NegotiationProtocol:
        return _NegotiationProtocol(self._pool)


class _NegotiationProtocol(Protocol):
    """
    The protocol of a connection until it is known which one it needs.
    """

    transport: NegotiatedTransport            # type: ignore[assignment]

    def __init__(self, pool: NegotiatedPool) -> None:
        self._pool = pool

    def connectionMade(self) -> None:
        self._pool.handshakeComplete(self.transport)
