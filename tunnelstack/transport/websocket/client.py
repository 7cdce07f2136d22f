"""
The client's side of a WebSocket: an endpoint whose protocols run over a L{WebSocketTransport}.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterable
from typing import cast
from urllib.parse import urljoin

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, NoProtocol, TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.websocket._connection import WebSocketConnection
from tunnelstack.transport.websocket._handshake import (
    ResponseReader,
    checkHeaders,
    checkResponse,
    encodeRequest,
    parseLocation,
)
from tunnelstack.transport.websocket.errors import UpgradeFailed, UpgradeRefused
from tunnelstack.transport.websocket.settings import DEFAULT_LIMITS, WebSocketLimits
from tunnelstack.transport.websocket.transport import WebSocketTransport

REDIRECTS = (307, 308)     # the statuses that leave the request as it was
PRIVATE_HEADERS = frozenset(("authorization", "cookie", "proxy-authorization"))


class _ClientHandshake(Factory):
    """
    One attempt: builds the connection, requests the WebSocket and reads the response.

    @ivar outcome: fires with the application's protocol once the WebSocket is open.
    """

    noisy = False

    def __init__(self, endpoint: WebSocketClientEndpoint, application: IProtocolFactory) -> None:
        self._endpoint = endpoint
        self._application = application
        self._key = b64encode(os.urandom(16))
        self._response = ResponseReader()
        self._connection: WebSocketConnection | None = None
        self._address: IAddress
        self.outcome: Deferred[IProtocol] = Deferred(self._cancelled)
        self.attempt: Deferred[IProtocol]

    def doStart(self) -> None:
        self._application.doStart()

    def doStop(self) -> None:
        self._application.doStop()

    def buildProtocol(self, address: IAddress | None) -> WebSocketConnection:
        self._address = cast(IAddress, address)
        self._connection = WebSocketConnection(False, self)
        return self._connection

    def failed(self, failure: Failure) -> None:
        """
        There is no connection to the server.
        """
        if not self.outcome.called:
            self.outcome.errback(failure)

    def _cancelled(self, outcome: Deferred[IProtocol]) -> None:
        self.attempt.cancel()
        if self._connection is not None and self._connection.transport is not None:
            self._connection.abort()

    # What the connection reports until the WebSocket is open

    def connectionMade(self) -> None:
        assert self._connection is not None
        self._connection.transport.write(self._endpoint.encodeRequest(self._key))

    def dataReceived(self, data: bytes) -> None:
        if self.outcome.called:
            return
        try:
            head = self._response.receive(data)
            if head is None:
                return
            subprotocol = checkResponse(head, self._key, self._endpoint.subprotocols)
        except (UpgradeFailed, UpgradeRefused) as error:
            self._fail(error)
            return
        self._open(subprotocol)

    def lost(self, reason: Failure) -> None:
        if self.outcome.called:
            return
        try:
            self._response.end()
        except UpgradeRefused as refused:
            self._fail(refused)
            return
        if reason.check(ConnectionDone):
            reason = Failure(UpgradeFailed("the peer closed the connection instead of answering"))
        self.outcome.errback(reason)

    def writesPaused(self) -> None:
        """
        A request of some hundred octets does not fill a network.
        """

    writesResumed = writesPaused

    def _open(self, subprotocol: str | None) -> None:
        connection = self._connection
        assert connection is not None
        protocol = self._application.buildProtocol(self._address)
        if protocol is None:
            self._fail(NoProtocol())
            return
        self._endpoint.transport(subprotocol).begin(connection, protocol)
        self.outcome.callback(protocol)
        connection.feed(self._response.leftover)

    def _fail(self, error: Exception) -> None:
        assert self._connection is not None
        self._connection.abort()
        self.outcome.errback(Failure(error))


@implementer(IStreamClientEndpoint)
class WebSocketClientEndpoint:
    """
    Connect to a WebSocket server.

    C{connect} fires with the application's protocol once the WebSocket is open.  It fails with

      - L{UpgradeRefused}: the server answered with another status than 101;
      - L{UpgradeFailed}: the response is not HTTP, its C{Sec-WebSocket-Accept} is wrong, or it chose a subprotocol or
        an extension that was not offered;
      - Twisted's own errors of connecting, of TLS, and C{TimeoutError}.

    @ivar subprotocols: what is offered, the best first.
    """

    def __init__(
        self,
        reactor: IReactorTime,
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
        @param timeout: seconds for everything from connecting to the response.
        @param endpoint: how to reach the server, instead of the host and the port in the URL; TLS is not added.
        @param records: whole messages, text included, go to the protocol's C{recordReceived}.
        @param redirects: how many responses 307 and 308 are followed.  Never from TLS to none; credentials in headers
            stay with their host, and so does a C{contextFactory}.
        @raise ConfigurationError: no such URL.
        @raise UsageError: a header that cannot be sent.
        """
        self.subprotocols = list(subprotocols)
        self._reactor = reactor
        self._url = url
        self._location = parseLocation(url)
        self._headers = checkHeaders(headers)
        self._contextFactory = contextFactory
        self._timeout = timeout
        self._endpoint = endpoint
        self._limits = limits
        self._records = records
        self._redirects = redirects

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        handshake = _ClientHandshake(self, protocolFactory)
        handshake.attempt = self._serverEndpoint().connect(handshake)
        handshake.attempt.addErrback(handshake.failed)
        handshake.outcome.addErrback(self._followRedirect, protocolFactory)
        return handshake.outcome.addTimeout(self._timeout, self._reactor, self._timedOut)

    def encodeRequest(self, key: bytes) -> bytes:
        """
        The octets of a request.
        """
        return encodeRequest(self._location, key, self._headers, self.subprotocols)

    def transport(self, subprotocol: str | None) -> WebSocketTransport:
        """
        The transport for an attempt that succeeded.
        """
        return WebSocketTransport(self._reactor, self._limits, self._records, self._location.resource, subprotocol)

    def _serverEndpoint(self) -> IStreamClientEndpoint:
        if self._endpoint is not None:
            return self._endpoint
        where = self._location
        endpoint = hostEndpoint(self._reactor, where.host, where.port, self._timeout)
        if not where.secure:
            return endpoint
        return SecureEndpoint(self._reactor, where.host, endpoint, self._contextFactory, self._timeout)

    def _followRedirect(self, failure: Failure, protocolFactory: IProtocolFactory) -> Failure | Deferred[IProtocol]:
        """
        Connect to where the server redirects, if that is allowed.
        """
        refused = failure.value
        if not isinstance(refused, UpgradeRefused) or refused.status not in REDIRECTS or not self._redirects:
            return failure
        url = urljoin(self._url, refused.headers.get("location", ""))
        try:
            there = parseLocation(url)
        except ConfigurationError:
            raise UpgradeFailed("the server redirects to what is not the URL of a WebSocket", url=url) from None
        elsewhere = (there.host, there.port) != (self._location.host, self._location.port)
        if (self._location.secure and not there.secure) or (elsewhere and self._contextFactory is not None):
            return failure
        return WebSocketClientEndpoint(
            self._reactor,
            url,
            headers=[pair for pair in self._headers if not elsewhere or pair[0].lower() not in PRIVATE_HEADERS],
            subprotocols=self.subprotocols,
            contextFactory=self._contextFactory,
            timeout=self._timeout,
            endpoint=None if elsewhere else self._endpoint,
            limits=self._limits,
            records=self._records,
            redirects=self._redirects - 1,
        ).connect(protocolFactory)

    def _timedOut(self, outcome: object, seconds: float) -> IProtocol:
        if not isinstance(outcome, Failure):
            return cast(IProtocol, outcome)
        raise TimeoutError(string=f"no WebSocket after {seconds:g} seconds")
