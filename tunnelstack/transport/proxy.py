"""
Connections through an HTTP proxy, by C{CONNECT}.

Source: RFC 9110, section 9.3.6.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from attrs import field, frozen
from OpenSSL.SSL import Error as TLSError
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, NoProtocol, TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import ConfigurationError, PeerError, Refused, Unavailable
from tunnelstack.settings.record import Record
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.secure import HandshakeLost, SecureEndpoint
from tunnelstack.transport.verification import CertificateRejected
from tunnelstack.wire.http1.head import HeadLimits, find_end_untrusted, read_response_untrusted

PORTS = {"http": 80, "https": 443}
LIMITS = HeadLimits(octets=16 * 1024, fields=64)


class ProxyRefused(Refused):
    """
    The proxy requires a credential that was not given, or does not allow connections to the target.

    @ivar status: its HTTP status, such as C{407}.
    """

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence, status=status)
        self.status = status


class ProxyFailed(Unavailable):
    """
    The proxy could not connect to the target.

    @ivar status: its HTTP status, such as C{502}; C{0} if it did not answer.
    """

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence, **({"status": status} if status else {}))
        self.status = status


class ProxyRejected(ProxyFailed):
    """
    The certificate of the proxy was not accepted; it received nothing.

    @ivar cause: what is wrong.
    @ivar remedy: what to do about it.
    """

    def __init__(self, proxy: str, rejected: CertificateRejected) -> None:
        super().__init__(f"no TLS with the proxy {proxy}: {rejected}")
        self.cause = f"no TLS with the proxy {proxy}: {rejected.cause}"
        self.remedy = rejected.remedy


class NotAProxy(PeerError):
    """
    The peer does not use HTTP.
    """


@frozen(eq=False, repr=False)
class Proxy(Record):
    """
    The address of a proxy.

    @ivar secure: whether TLS comes first on the way to it.
    @ivar host: a name or an address, without brackets.
    @ivar credential: what follows C{Basic}; C{""} for none.  Never shown.
    """

    secure: bool
    host: str
    port: int
    credential: str = field(default="", repr=False)

    @property
    def displayName(self) -> str:
        """
        Host and port, for logs.
        """
        return f"{self.host}:{self.port}"


def parseProxy(url: str) -> Proxy:
    """
    @param url: C{http(s)://[user:password@]host[:port]}, as C{HTTPS_PROXY} has it; without a scheme it is C{http}.
    @raise ConfigurationError: not such a URL.  The error does not show it, because it may contain a password.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    except ValueError:
        raise ConfigurationError("the proxy's URL cannot be read; it should look like http://proxy.example.net:3128") from None
    if parts.scheme not in PORTS:
        raise ConfigurationError(f"the proxy's URL begins with {parts.scheme}:, but only http: and https: are supported")
    if not host or port is None or parts.path not in ("", "/"):
        raise ConfigurationError("the proxy's URL should look like http://proxy.example.net:3128")
    credential = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credential = b64encode(pair.encode()).decode()
    return Proxy(parts.scheme == "https", host, port, credential)


@implementer(IStreamClientEndpoint)
class ProxyEndpoint:
    """
    Connects to a TCP port through a proxy.

    C{connect} fails with L{ProxyRefused}, L{ProxyFailed} or L{NotAProxy}, or as connecting to the proxy does.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        proxy: Proxy,
        host: str,
        port: int,
        *,
        timeout: float = 30.0,
        endpoint: IStreamClientEndpoint | None = None,
        contextFactory: IOpenSSLClientConnectionCreator | None = None,
    ) -> None:
        """
        @param host: a name, which the proxy resolves, or an address without brackets.
        @param timeout: seconds for the proxy's response, once it is connected.
        @param endpoint: how to reach the proxy, instead of the host of its URL; TLS is not added.
        @param contextFactory: TLS on the way to the proxy; unless given, the system's roots and the name in its URL.
        """
        self._reactor = reactor
        self._proxy = proxy
        self._timeout = timeout
        self._endpoint = endpoint
        self._contextFactory = contextFactory
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if proxy.credential:
            lines.append(f"Proxy-Authorization: Basic {proxy.credential}")
        self._request = "\r\n".join([*lines, "", ""]).encode()
        self._authority = authority

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        attempt = _ProxyAttempt(protocolFactory, self._request, self._authority, self._proxy.displayName)
        attempt.connecting = self._proxyEndpoint().connect(attempt)
        attempt.connecting.addCallbacks(self._proxyConnected, attempt.failed, (attempt,))
        return attempt.outcome

    def _proxyConnected(self, protocol: IProtocol, attempt: _ProxyAttempt) -> None:
        if not attempt.outcome.called:
            attempt.outcome.addTimeout(self._timeout, self._reactor, self._timedOut)

    def _proxyEndpoint(self) -> IStreamClientEndpoint:
        if self._endpoint is not None:
            return self._endpoint
        proxy = self._proxy
        endpoint = hostEndpoint(self._reactor, proxy.host, proxy.port)
        if not proxy.secure:
            return endpoint
        return SecureEndpoint(self._reactor, proxy.host, endpoint, self._contextFactory, self._timeout)

    def _timedOut(self, outcome: object, seconds: float) -> IProtocol:
        if not isinstance(outcome, Failure):
            return cast(IProtocol, outcome)
        raise TimeoutError(string=f"the proxy {self._proxy.displayName} did not answer within {seconds:g} seconds")


class _ProxyAttempt(Factory):
    """
    One attempt to connect.
    """

    noisy = False

    def __init__(self, application: IProtocolFactory, request: bytes, authority: str, proxy: str) -> None:
        self._application = application
        self._protocol: _ProxyRequest | None = None
        self.request = request
        self.authority = authority
        self.proxy = proxy
        self.connecting: Deferred[IProtocol]
        self.outcome: Deferred[IProtocol] = Deferred(self._cancelled)

    def doStart(self) -> None:
        self._application.doStart()

    def doStop(self) -> None:
        self._application.doStop()

    def buildProtocol(self, address: IAddress | None) -> _ProxyRequest:
        self._protocol = _ProxyRequest(self, self._application, address)
        return self._protocol

    def failed(self, failure: Failure) -> None:
        """
        The proxy cannot be reached, or rejected the request.
        """
        if isinstance(failure.value, CertificateRejected):
            failure = Failure(ProxyRejected(self.proxy, failure.value))
        elif isinstance(failure.value, (TLSError, HandshakeLost)):
            failure = Failure(ProxyFailed(f"no TLS with the proxy {self.proxy}: {errorText(failure.value)}"))
        if not self.outcome.called:
            self.outcome.errback(failure)

    def _cancelled(self, outcome: Deferred[IProtocol]) -> None:
        if self._protocol is None:
            self.connecting.cancel()
        elif self._protocol.transport is not None:
            self._protocol.transport.abortConnection()


class _ProxyRequest(Protocol):
    """
    A connection to the proxy, until it leads to the target.
    """

    transport: Any

    def __init__(self, attempt: _ProxyAttempt, application: IProtocolFactory, address: IAddress | None) -> None:
        self._attempt = attempt
        self._application = application
        self._address = address
        self._buffer = b""
        self._searched = 0

    def connectionMade(self) -> None:
        self.transport.write(self._attempt.request)

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the response; interim responses are skipped.
        """
        self._buffer += data
        try:
            while (end := find_end_untrusted(self._buffer, self._searched, LIMITS)) >= 0:
                status = read_response_untrusted(self._buffer, end, LIMITS).status
                self._buffer, self._searched = self._buffer[end:], 0
                if status >= 200:
                    self._statusReceived(status)
                    return
            self._searched = len(self._buffer)
        except PeerError as wrong:
            self._fail(NotAProxy(f"the peer at {self._attempt.proxy} is not a proxy: {wrong.args[0]}"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ConnectionDone, ConnectionLost):
            reason = Failure(ProxyFailed(f"the proxy {self._attempt.proxy} closed the connection instead of answering"))
        self._attempt.failed(reason)

    def _statusReceived(self, status: int) -> None:
        proxy, where = self._attempt.proxy, self._attempt.authority
        if status < 300:
            self._handOver()
        elif status == 407:
            self._fail(ProxyRefused(f"the proxy {proxy} requires a user and a password: put them into its URL", status))
        elif status in (400, 401, 403, 405):
            self._fail(ProxyRefused(f"the proxy {proxy} does not allow connections to {where}", status))
        else:
            self._fail(ProxyFailed(f"the proxy {proxy} cannot reach {where}", status))

    def _fail(self, error: Exception) -> None:
        self._attempt.failed(Failure(error))
        self.transport.abortConnection()

    def _handOver(self) -> None:
        """
        Give the connection to the application.
        """
        if self._attempt.outcome.called:       # cancelled, or timed out
            self.transport.abortConnection()
            return
        protocol = self._application.buildProtocol(cast(IAddress, self._address))
        if protocol is None:
            self._fail(NoProtocol())
            return
        transport, leftover = self.transport, self._buffer
        setattr(transport, "wrappedProtocol" if hasattr(transport, "wrappedProtocol") else "protocol", protocol)
        protocol.makeConnection(transport)
        if leftover:
            protocol.dataReceived(leftover)
        self._attempt.outcome.callback(protocol)
