"""
WebSocket as a carrier: an endpoint to connect with, a factory to listen with, and a way to take over a connection
whose HTTP head somebody else has read.  All three end in a L{WebSocketTransport} under the application's protocol.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urljoin

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, NoProtocol, TimeoutError
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.websocket._autobahn import AutobahnClient, clientParameters
from tunnelstack.transport.websocket._handshake import (
    UpgradeFailed,
    UpgradeRefused,
    checkHeaders,
    parseLocation,
)
from tunnelstack.transport.websocket.settings import (
    DEFAULT_LIMITS,
    WebSocketLimits,
)
from tunnelstack.transport.websocket.transport import WebSocketTransport

__all__ = ["UpgradeFailed", "UpgradeRefused", "WebSocketClientEndpoint"]

REDIRECTS = (307, 308)     # the ones that keep the request as it was
PRIVATE_HEADERS = frozenset(("authorization", "cookie", "proxy-authorization"))


class _ClientHandshake(Factory):
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
        self._engine.handshakeListener = self
        self._engine.handshakeDone = self._handshakeDone
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

    def _handshakeDone(self, error: Exception | None) -> None:
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
        carrier = self._endpoint.transport(engine)
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
        @param contextFactory: TLS for C{wss}, from L{clientContext<tunnelstack.transport.tls.clientContext>}; unless given,
            with the system's roots and the name in the URL.
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
        handshake = _ClientHandshake(self, protocolFactory)
        handshake.attempt = self._serverEndpoint().connect(handshake)
        handshake.attempt.addErrback(handshake.failed)
        handshake.outcome.addErrback(self._followRedirect, protocolFactory)
        return handshake.outcome.addTimeout(self._timeout, self._reactor, self._timedOut)

    def engine(self) -> AutobahnClient:
        """
        The network's side of one attempt.
        """
        engine = AutobahnClient(self._location, self._headers, self._subprotocols)
        engine.factory = self._parameters
        return engine

    def transport(self, engine: AutobahnClient) -> WebSocketTransport:
        """
        The application's side of one attempt that succeeded.
        """
        carrier = WebSocketTransport(self._reactor, self._limits, self._records)
        carrier.subprotocol = engine.websocket_protocol_in_use
        carrier.resource = self._location.resource
        return carrier

    def _serverEndpoint(self) -> IStreamClientEndpoint:
        if self._endpoint is not None:
            return self._endpoint
        where = self._location
        endpoint = hostEndpoint(self._reactor, where.host, where.port, self._timeout)
        if not where.secure:
            return endpoint
        return SecureEndpoint(self._reactor, where.host, endpoint, self._contextFactory, self._timeout)

    def _followRedirect(self, failure: Failure, protocolFactory: IProtocolFactory) -> Any:
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
