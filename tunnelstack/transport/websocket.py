"""
WebSocket as a carrier: an endpoint to connect with, a factory to listen with, and a way to take over a connection
whose HTTP head somebody else has read.  All three end in a L{WebSocketTransport} under the application's protocol.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urljoin

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import ConnectionDone, NoProtocol, TimeoutError
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, ServerFactory
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import ConfigurationError
from tunnelstack.transport._carrier import (
    ClosedByPeer,
    PeerSilent,
    WebSocketBroken,
    WebSocketLimits,
    WebSocketTransport,
)
from tunnelstack.transport._engine import (
    ClientEngine,
    Denied,
    ServerEngine,
    clientParameters,
    serverParameters,
)
from tunnelstack.transport._handshake import (
    UpgradeFailed,
    UpgradeRefused,
    checkHeaders,
    parseLocation,
)
from tunnelstack.transport.dial import hostEndpoint

__all__ = [
    "ClosedByPeer",
    "PeerSilent",
    "UpgradeFailed",
    "UpgradeRefused",
    "WebSocketBroken",
    "WebSocketClientEndpoint",
    "WebSocketLimits",
    "WebSocketServerFactory",
    "WebSocketTransport",
    "upgrade",
]

DEFAULT_LIMITS = WebSocketLimits()
REDIRECTS = (307, 308)     # the ones that keep the request as it was
PRIVATE_HEADERS = frozenset(("authorization", "cookie", "proxy-authorization"))


class _Asking(Factory):
    """
    Builds the engine of one attempt to connect, and tells what became of it.
    """

    noisy = False

    def __init__(self, endpoint: WebSocketClientEndpoint, application: IProtocolFactory) -> None:
        self._endpoint = endpoint
        self._application = application
        self.outcome: Deferred[Any] = Deferred(self._cancelled)
        self.attempt: Deferred[Any]
        self._engine: Any = None
        self._address: Any = None

    def doStart(self) -> None:
        self._application.doStart()

    def doStop(self) -> None:
        self._application.doStop()

    def buildProtocol(self, address: Any) -> Any:
        self._address = address
        self._engine = self._endpoint.engine()
        self._engine.party = self
        self._engine.settled = self._settled
        return self._engine

    def failed(self, failure: Failure) -> None:
        """
        There is no connection to ask on.
        """
        if not self.outcome.called:
            self.outcome.errback(failure)

    def _cancelled(self, outcome: Deferred[Any]) -> None:
        self.attempt.cancel()
        if self._engine is not None and self._engine.transport is not None:
            self._engine.abort()

    # what the engine tells until the WebSocket is open

    def writesPaused(self) -> None:
        """
        A request of some hundred octets does not fill a network.
        """

    writesResumed = writesPaused

    def lost(self, reason: Failure) -> None:
        if self.outcome.called:
            return
        if reason.check(ConnectionDone):
            reason = Failure(UpgradeFailed("the peer closed the connection instead of answering"))
        self.outcome.errback(reason)

    def _settled(self, error: Exception | None) -> None:
        if self.outcome.called:
            return
        engine = self._engine
        if error is not None:
            engine.abort()
            self.outcome.errback(Failure(error))
            return
        protocol = self._application.buildProtocol(self._address)
        if protocol is None:
            engine.abort()
            self.outcome.errback(Failure(NoProtocol()))
            return
        carrier = self._endpoint.carrier(engine)
        carrier.begin(engine, protocol)
        self.outcome.callback(protocol)


@implementer(IStreamClientEndpoint)
class WebSocketClientEndpoint:
    """
    Connect to a WebSocket server.

    C{connect} fires with the application's protocol once the WebSocket is open.  It fails with

      - L{UpgradeRefused}: the server answered with another status than 101;
      - L{UpgradeFailed}: what answered speaks no HTTP, proves nothing with its C{Sec-WebSocket-Accept}, or chose a
        subprotocol or an extension nobody offered;
      - Twisted's own errors of connecting, of TLS, and C{TimeoutError}.
    """

    def __init__(
        self,
        reactor: Any,
        url: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        subprotocols: Iterable[str] = (),
        contextFactory: IOpenSSLClientConnectionCreator | None = None,
        timeout: float = 45.0,
        endpoint: IStreamClientEndpoint | None = None,
        limits: WebSocketLimits = DEFAULT_LIMITS,
        records: bool = False,
        redirects: int = 0,
    ) -> None:
        """
        @param reactor: its clock is used for everything that waits.
        @param url: C{ws}, C{wss}, C{http} or C{https}.
        @param headers: further fields of the request, such as C{("Authorization", "Bearer ...")}.
        @param subprotocols: what is offered, the best first; the choice is the transport's C{subprotocol}.
        @param contextFactory: TLS for C{wss}; unless given, the system's roots and the name in the URL.
        @param timeout: seconds for everything from connecting to the answer.
        @param endpoint: how to reach the server, instead of the host and the port in the URL; TLS is not added.
        @param records: whole messages, text included, go to the protocol's C{recordReceived}.
        @param redirects: how many answers 307 and 308 are followed.  Never from TLS to none; credentials in headers
            stay with their host, and so does a C{contextFactory}.
        @raise ConfigurationError: no such URL.
        @raise UsageError: a header that cannot be sent.
        """
        self._reactor = reactor
        self._url = url
        self._location = parseLocation(url)
        self._headers = checkHeaders(headers)
        self._subprotocols = list(subprotocols)
        self._contextFactory = contextFactory
        self._timeout = timeout
        self._endpoint = endpoint
        self._limits = limits
        self._records = records
        self._redirects = redirects
        self._parameters = clientParameters(self._subprotocols)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        asking = _Asking(self, protocolFactory)
        asking.attempt = self._below().connect(asking)
        asking.attempt.addErrback(asking.failed)
        asking.outcome.addErrback(self._follow, protocolFactory)
        return asking.outcome.addTimeout(self._timeout, self._reactor, self._timedOut)

    def engine(self) -> ClientEngine:
        """
        The network's side of one attempt.
        """
        engine = ClientEngine(self._location, self._headers, self._subprotocols)
        engine.factory = self._parameters
        return engine

    def carrier(self, engine: ClientEngine) -> WebSocketTransport:
        """
        The application's side of one attempt that succeeded.
        """
        carrier = WebSocketTransport(self._reactor, self._limits, self._records)
        carrier.subprotocol = engine.websocket_protocol_in_use
        carrier.resource = self._location.resource
        return carrier

    def _below(self) -> IStreamClientEndpoint:
        if self._endpoint is not None:
            return self._endpoint
        where = self._location
        endpoint = hostEndpoint(self._reactor, where.host, where.port, self._timeout)
        if not where.secure:
            return endpoint
        return wrapClientTLS(self._contextFactory or optionsForClientTLS(where.host), endpoint)

    def _follow(self, failure: Failure, protocolFactory: IProtocolFactory) -> Any:
        """
        Ask where the server says, if that is allowed.
        """
        refused = failure.value
        if not isinstance(refused, UpgradeRefused) or refused.status not in REDIRECTS or not self._redirects:
            return failure
        url = urljoin(self._url, refused.headers.get("location", ""))
        try:
            there = parseLocation(url)
        except ConfigurationError:
            raise UpgradeFailed("the server says to ask where no WebSocket can be", url=url) from None
        elsewhere = (there.host, there.port) != (self._location.host, self._location.port)
        if (self._location.secure and not there.secure) or (elsewhere and self._contextFactory is not None):
            return failure
        return WebSocketClientEndpoint(
            self._reactor,
            url,
            headers=[pair for pair in self._headers if not elsewhere or pair[0].lower() not in PRIVATE_HEADERS],
            subprotocols=self._subprotocols,
            contextFactory=self._contextFactory,
            timeout=self._timeout,
            endpoint=None if elsewhere else self._endpoint,
            limits=self._limits,
            records=self._records,
            redirects=self._redirects - 1,
        ).connect(protocolFactory)

    def _timedOut(self, outcome: Any, seconds: float) -> Any:
        if not isinstance(outcome, Failure):
            return outcome
        raise TimeoutError(string=f"no WebSocket after {seconds:g} seconds")


class _Answering:
    """
    One request for a WebSocket on the server's side, until it is open or refused.
    """

    def __init__(self, server: WebSocketServerFactory, address: Any) -> None:
        self._server = server
        self._address = address
        self._protocol: Any = None
        self._resource = ""
        self._subprotocol: str | None = None
        self.engine = ServerEngine()
        self.engine.factory = serverParameters()
        self.engine.party = self
        self.engine.accept = self._accept
        self.engine.settled = self._settled
        self._timer = server.clock.callLater(server.limits.handshakeTimeout, self._late)

    def _accept(self, resource: str, offered: list[str]) -> tuple[str | None, dict[str, list[str]]]:
        """
        @raise Denied: another path, or the application builds no protocol.
        """
        server = self._server
        path = resource.partition("?")[0]
        if server.path is not None and path != server.path:
            raise Denied(404, "there is no WebSocket here")
        self._protocol = server.application.buildProtocol(self._address)
        if self._protocol is None:
            raise Denied(403, "this WebSocket is not for you")
        self._resource = resource
        self._subprotocol = next((name for name in server.subprotocols if name in offered), None)
        return self._subprotocol, server.headers

    def _settled(self, opened: bool) -> None:
        self._timer.reset(self._server.limits.closeTimeout)
        if not opened:
            return
        self._timer.cancel()
        engine, server = self.engine, self._server
        carrier = WebSocketTransport(server.clock, server.limits, server.records)
        carrier.subprotocol = self._subprotocol
        carrier.resource = self._resource
        carrier.begin(engine, self._protocol)

    def _late(self) -> None:
        self.engine.abort()

    # what the engine tells until the WebSocket is open

    def writesPaused(self) -> None:
        """
        An answer of some hundred octets does not fill a network.
        """

    writesResumed = writesPaused

    def lost(self, reason: Failure) -> None:
        if self._timer.active():
            self._timer.cancel()


class WebSocketServerFactory(ServerFactory):
    """
    Listen for WebSockets on any endpoint; an application behind each.

    @ivar application: builds the protocol of each WebSocket; C{None} is answered with 403.
    """

    noisy = False

    def __init__(
        self,
        application: IProtocolFactory,
        path: str | None = None,
        *,
        clock: Any = None,
        subprotocols: Iterable[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        limits: WebSocketLimits = DEFAULT_LIMITS,
        records: bool = False,
    ) -> None:
        """
        @param path: the only path that is answered, without a query; C{None} for every path.
        @param clock: an C{IReactorTime}; the global reactor unless given.
        @param subprotocols: what we speak, the best first; the first that the client offers is taken.
        @param headers: further fields of the answer.
        @param records: whole messages, text included, go to the protocol's C{recordReceived}.
        @raise UsageError: a header that cannot be sent.
        """
        self.application = application
        self.path = path
        self.clock = _reactor() if clock is None else clock
        self.subprotocols = list(subprotocols)
        self.headers: dict[str, list[str]] = {}
        for name, value in checkHeaders(headers):
            self.headers.setdefault(name, []).append(value)
        self.limits = limits
        self.records = records

    def doStart(self) -> None:
        super().doStart()
        self.application.doStart()

    def doStop(self) -> None:
        self.application.doStop()
        super().doStop()

    def buildProtocol(self, address: Any) -> Any:
        return _Answering(self, address).engine


def upgrade(
    transport: Any,
    head: bytes,
    factory: IProtocolFactory,
    *,
    address: Any = None,
    clock: Any = None,
    subprotocols: Iterable[str] = (),
    headers: Iterable[tuple[str, str]] = (),
    limits: WebSocketLimits = DEFAULT_LIMITS,
    records: bool = False,
) -> Any:
    """
    Take over a connection whose HTTP head somebody else has read.  The answer is written at once: 101, or a refusal
    after which the connection closes.  The other parameters are those of L{WebSocketServerFactory}.

    @param transport: the connection.  Its protocol is replaced here; no producer may be registered with it, and it
        must not be paused.
    @param head: the request as it came, up to and with its empty line.
    @param factory: builds the application's protocol, before the answer is written; C{None} is answered with 403.
    @param address: what C{buildProtocol} is given; unless given, the peer's address.
    @return: the connection's protocol from now on: the octets that followed the head, if there are any, go to its
        C{dataReceived}.
    """
    server = WebSocketServerFactory(
        factory, clock=clock, subprotocols=subprotocols, headers=headers, limits=limits, records=records
    )
    protocol = server.buildProtocol(transport.getPeer() if address is None else address)
    replace = "wrappedProtocol" if hasattr(transport, "wrappedProtocol") else "protocol"     # TLS wraps
    setattr(transport, replace, protocol)
    protocol.makeConnection(transport)
    protocol.dataReceived(head)
    return protocol


def _reactor() -> Any:
    from twisted.internet import reactor  # importing it installs it

    return reactor
