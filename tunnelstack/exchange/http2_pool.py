"""
Exchanges on streams of a few HTTP/2 connections, such as an agent's with a local web server.

One connection carries as many exchanges as the server allows; only then another one is made.  An exchange waits while one is
made, or for a stream if there are as many connections as allowed.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.exchange.errors import Busy, ExchangeFailed, FailureKind
from tunnelstack.exchange.http2_client import HTTP2ClientExchange
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, STREAMED, Timeouts, Traits
from tunnelstack.interfaces import IExchangeReceiver
from tunnelstack.transport.host_endpoint import connectTimedOut
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.transport.http2.endpoint import HTTP2ClientEndpoint
from tunnelstack.transport.http2.errors import HTTP2StreamFailed
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.waiters import Waiters
from tunnelstack.wire.http1.head import DEFAULT_LIMITS, HeadLimits
from tunnelstack.wire.http2.limits import HTTP2Limits
from tunnelstack.wire.http2.websocket import opens_websocket

STREAMS_EXPECTED = 100
"""Streams that most servers allow on a connection: for each so many exchanges that wait, one connection is being made."""

HEADER_LIST = 1024 * 1024
"""Octets of a response's fields that a connection accepts; what is used of them is bounded by C{limits}."""

CONNECTION_WINDOW = 4 * 1024 * 1024
"""Octets that a server may have on the way to us, on all streams of a connection together."""

HELD_OCTETS = 8 * 1024 * 1024
"""Octets of bodies that nobody reads, above which a connection gets no more credit."""

CLOGGED_OCTETS = HELD_OCTETS // 4
"""Octets of such bodies, above which exchanges begin on another connection: slow visitors do not slow down others."""

NO_WEBSOCKETS = "The web server of this site accepts no WebSockets by HTTP/2."


class HTTP2ExchangePool:
    """
    Carries exchanges on HTTP/2 connections from one endpoint.

    @ivar traits: what its exchanges can do.
    @ivar scheme: that of requests.
    @ivar timer: the deadlines of its exchanges.
    """

    traits: Traits = STREAMED
    log = Logger()

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        *,
        clock: IReactorTime,
        scheme: bytes = b"http",
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        limits: HeadLimits = DEFAULT_LIMITS,
        idleSeconds: float = 60.0,
        maxConnections: int = 64,
        maxWaiting: int = 4096,
        explain: Callable[[Failure], str] | None = None,
        connected: Callable[[HTTP2Connection], object] = lambda connection: None,
    ) -> None:
        """
        @param endpoint: connects to a server that supports HTTP/2; where it uses TLS, it offers that by ALPN.
        @param limits: of the heads of responses.
        @param idleSeconds: how long a connection stays open without an exchange.
        @param maxConnections: the most connections.
        @param maxWaiting: the most exchanges that wait for a stream; beyond them, L{exchange} raises L{Busy}.
        @param explain: returns a sentence for the visitor about a failure to connect.
        @param connected: called with each connection that is up.
        """
        self.scheme = scheme
        self.timeouts = timeouts
        self.limits = limits
        self.timer = SharedTimer(clock)
        self.connectionLimits = HTTP2Limits(
            keepalive=0.0, idle_timeout=idleSeconds, header_list=HEADER_LIST, connect_protocol=False,
            connection_window=CONNECTION_WINDOW, held_octets=HELD_OCTETS,
        )
        self._endpoint = HTTP2ClientEndpoint(clock, endpoint, self.connectionLimits)
        self._clock = clock
        self._maxConnections = maxConnections
        self._maxWaiting = maxWaiting
        self._explain = explain
        self._connected = connected
        self._connections: dict[HTTP2Connection, None] = {}     # those that open streams
        self._open: set[HTTP2Connection] = set()                 # the same, and those that are going away
        self._waiting: dict[HTTP2ClientExchange, None] = {}     # in order
        self._dialling = 0
        self._inFlight = 0
        self._closing = False                 # no exchange begins
        self._closed = False
        self._drained: Waiters[None] = Waiters()

    def configure(self, timeouts: Timeouts, limits: HeadLimits) -> None:
        """
        Use other settings for the exchanges that begin from now on.
        """
        self.timeouts, self.limits = timeouts, limits

    @property
    def idle(self) -> int:
        """
        The number of connections without an exchange.
        """
        return sum(not connection.streams for connection in self._connections)

    @property
    def connections(self) -> int:
        """
        The number of connections.
        """
        return len(self._connections)

    @property
    def inFlight(self) -> int:
        """
        The number of exchanges under way.
        """
        return self._inFlight

    @property
    def opensWebSockets(self) -> bool:
        """
        Whether a connection is open whose server accepts WebSockets.
        """
        return any(connection.peerAllowsConnectProtocol for connection in self._connections)

    def exchange(self, receiver: IExchangeReceiver) -> HTTP2ClientExchange:
        """
        Begin an exchange.

        @raise Busy: too many exchanges wait for a stream, or the pool is being closed.
        """
        if self._closing or len(self._waiting) >= self._maxWaiting:
            raise Busy()
        self._inFlight += 1
        return HTTP2ClientExchange(receiver, self)

    # from exchanges

    def carry(self, exchange: HTTP2ClientExchange) -> None:
        """
        Give an exchange a stream, now or later.
        """
        if self._waiting or not self._begin(exchange):
            self._waiting[exchange] = None
            self._dialMore()
            self._serveWaiting()

    def _begin(self, exchange: HTTP2ClientExchange, clogged: bool = False) -> bool:
        """
        @param clogged: use connections as well that hold much for exchanges whose receivers do not read.
        @return: whether the exchange has a stream, or has failed.
        """
        for connection in self._connections:
            if connection.openSlots <= 0 or (connection.held > CLOGGED_OCTETS and not clogged):
                continue
            if exchange.head is not None and opens_websocket(exchange.head) and not connection.peerAllowsConnectProtocol:
                exchange.fail(ExchangeFailed(FailureKind.UNSUPPORTED, NO_WEBSOCKETS))
                return True
            try:
                exchange.begin(connection, exchange in self._waiting)
            except HTTP2StreamFailed:
                continue
            return True
        return False

    def exchangeEnded(self, exchange: HTTP2ClientExchange) -> None:
        """
        An exchange is over.
        """
        self._inFlight -= 1
        self._waiting.pop(exchange, None)
        self._checkDrained()

    # connections

    def _dialMore(self) -> None:
        while (
            not self._closed and self._dialling * STREAMS_EXPECTED < len(self._waiting)
            and len(self._connections) + self._dialling < self._maxConnections
        ):
            self._dialling += 1
            dialling = self._endpoint.connect()
            dialling.addTimeout(self.timeouts.connect, self._clock, connectTimedOut)
            dialling.addBoth(self._dialled)
            dialling.addErrback(self._dialBroke)

    def _dialled(self, result: HTTP2Connection | Failure) -> None:
        self._dialling -= 1
        if not isinstance(result, Failure):
            self.adopt(result)
            return
        if self._connections:
            self._serve(True)
        elif not self._dialling:
            self._failWaiting(result)

    def _dialBroke(self, failure: Failure) -> None:
        self.log.failure("a connection for exchanges could not be used", failure=failure)

    def _failWaiting(self, reason: Failure) -> None:
        """
        There is no connection, and none can be made.
        """
        sentence = "" if self._explain is None else self._explain(reason)
        for exchange in list(self._waiting):
            exchange.fail(ExchangeFailed(FailureKind.UNREACHABLE, sentence, reason=reason.value))

    def adopt(self, connection: HTTP2Connection) -> None:
        """
        Use a connection that is up.
        """
        if self._closed:
            connection.abort()
            return
        self._connections[connection] = None
        self._open.add(connection)
        self._connected(connection)
        connection.onSlotsChanged = self._serveWaiting
        connection.whenLost().addCallback(lambda reason: self._lost(connection))
        self._serveWaiting()

    def _serveWaiting(self) -> None:
        """
        There may be free streams.
        """
        for connection in [connection for connection in self._connections if connection.isGoingAway]:
            del self._connections[connection]  # it is open until its last exchange has ended
        clogged = len(self._connections) + self._dialling >= self._maxConnections
        self._serve(clogged)
        self._dialMore()

    def _serve(self, clogged: bool) -> None:
        while self._waiting and self._begin(exchange := next(iter(self._waiting)), clogged):
            self._waiting.pop(exchange, None)

    def _lost(self, connection: HTTP2Connection) -> None:
        self._connections.pop(connection, None)
        self._open.discard(connection)
        self._dialMore()

    # closing

    def drain(self) -> Deferred[None]:
        """
        Begin no more exchanges, and close each connection after its last one.

        @return: fires when the last exchange has ended.
        """
        self._closing = True
        if not self._inFlight:
            self._checkDrained()
            return succeed(None)
        return self._drained.wait()

    def close(self) -> None:
        """
        Close all connections at once.  Exchanges under way fail.
        """
        self._closing = self._closed = True
        for exchange in list(self._waiting):
            exchange.fail(ExchangeFailed(FailureKind.STOPPED))
        for connection in list(self._open):
            connection.abort()
        self.timer.stop()

    def _checkDrained(self) -> None:
        if self._closing and not self._inFlight:
            for connection in list(self._connections):
                connection.goAway()
            self._drained.fire(None)
