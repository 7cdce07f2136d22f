"""
The endpoints on which an edge listens: Twisted's endpoint strings with two additions.

C{tls:FOLDER:port=443} uses the certificates of a L{CertificateFolder}, and may request certificates from clients.  C{haproxy:}
before C{tcp:} or C{tls:} accepts the visitor's address from a proxy (PROXY protocol), which is read before any TLS.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING
from typing import Protocol as TypingProtocol

from attrs import frozen
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString, wrapServerTLS
from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory, IStreamServerEndpoint
from twisted.internet.protocol import Protocol, ServerFactory
from zope.interface import implementer

from tunnelstack.control.config.records import ListenerConfig
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IReactor
from tunnelstack.settings.record import Record
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.http2.alpn import ALPN_HTTP1, ALPN_HTTP2
from tunnelstack.wire.printable_text import quoted

if TYPE_CHECKING:
    from tunnelstack.transport.certificates import CertificateFolder

PROXY_PREFIX, FOLDER = "haproxy:", "tls:"
TLS_PREFIXES = (FOLDER, "ssl:")
FOLDER_OPTIONS = ("port", "interface", "backlog")
BACKLOG_PREFIXES = ("tcp:", "tcp6:", "ssl:")
PORT = re.compile(r"^(?:tcp6?|ssl):([0-9]+)(?![^:])|:port=([0-9]+)(?![^:])")
HIGHEST_PORT = 65_535
NO_ENDPOINT = "no endpoint to listen on is configured: listen of [edge] is empty"
BACKLOG = 512
"""Connections that the system queues until the edge accepts them, unless the endpoint string has its own C{backlog}."""


@frozen(kw_only=True, eq=False, repr=False)
class EdgeListener(Record):
    """
    One endpoint of the public side, with the settings of its connections.

    @ivar text: the endpoint string, as the operator wrote it.
    @ivar endpoint: the endpoint to listen on; C{None} for L{UNKNOWN_LISTENER}.
    @ivar secure: visitors use TLS.
    @ivar proxied: the addresses of visitors come from a proxy, by the PROXY protocol.
    @ivar redirect: visitors are redirected to HTTPS.
    @ivar certificates: the folder of certificates for C{tls:FOLDER}, or C{None}.
    @ivar h2c: visitors may use HTTP/2 without TLS.
    """

    text: str
    endpoint: IStreamServerEndpoint | None
    secure: bool = False
    proxied: bool = False
    redirect: bool = False
    certificates: CertificateFolder | None = None
    h2c: bool = False


UNKNOWN_LISTENER = EdgeListener(text="", endpoint=None)
"""The listener of a connection that was built without one, such as in a test."""


def isSecure(text: str) -> bool:
    """
    @param text: an endpoint string.
    @return: whether visitors use TLS there.
    """
    return text.removeprefix(PROXY_PREFIX).startswith(TLS_PREFIXES)


def makeListener(reactor: IReactor, listener: ListenerConfig, http2: bool = True) -> EdgeListener:
    """
    @param http2: visitors may use HTTP/2.
    @raise ConfigurationError: the endpoint string or its options are invalid.
    """
    text = listener.endpoint
    proxied = text.startswith(PROXY_PREFIX)
    inner = text.removeprefix(PROXY_PREFIX)
    secure = inner.startswith(TLS_PREFIXES)
    if bool(listener.clientAuth) != bool(listener.clientCa):
        raise ConfigurationError("client_auth and client_ca must be set together")
    if listener.clientAuth and not inner.startswith(FOLDER):
        raise ConfigurationError(f"{quoted(text)} cannot request certificates from clients: client_auth needs tls:FOLDER")
    if listener.redirect and secure:
        raise ConfigurationError(f"{quoted(text)} uses TLS already: redirect is for plain HTTP")
    if listener.h2c and secure:
        raise ConfigurationError(f"{quoted(text)} uses TLS, where HTTP/2 is negotiated: h2c is for plain HTTP")
    certificates: CertificateFolder | None = None
    try:
        if inner.startswith(FOLDER):
            certificates, endpoint = _folderEndpoint(reactor, inner, listener, proxied, http2)
        else:
            if listener.socket:
                endpoint = _handedOver(reactor, listener)
                endpoint = _proxied(endpoint) if proxied else endpoint
            else:
                endpoint = endpointOf(reactor, text)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ConfigurationError(f"{quoted(text)} is not a valid endpoint: {error}") from None
    return EdgeListener(
        text=text, endpoint=endpoint, secure=secure, proxied=proxied, redirect=listener.redirect,
        certificates=certificates, h2c=listener.h2c and http2,
    )


def endpointOf(reactor: IReactor, text: str, where: str = "") -> IStreamServerEndpoint:
    """
    As C{serverFromString}, but C{haproxy:} gives a
    L{proxiedEndpoint<tunnelstack.transport.haproxy.proxiedEndpoint>}, which has limits and a time-out.

    @param where: the beginning of an error's message.
    @raise ConfigurationError: the endpoint string is invalid.
    """
    inner = text.removeprefix(PROXY_PREFIX)
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, withBacklog(inner))
        _checkPort(inner)
    except Exception as error:      # parsers of endpoint strings are plugins, and may raise any exception
        raise ConfigurationError(f"{where}{quoted(text)} is not a valid endpoint: {errorText(error)}") from None
    return _proxied(endpoint) if inner != text else endpoint


def _proxied(endpoint: IStreamServerEndpoint) -> IStreamServerEndpoint:
    from tunnelstack.transport.haproxy import proxiedEndpoint  # for edges behind such a proxy

    return proxiedEndpoint(endpoint)


def _checkPort(text: str) -> None:
    """
    @raise ConfigurationError: the port of an endpoint string is out of range, which Twisted notices only when it listens.
    """
    found = PORT.search(text)
    if found is not None and int(found[1] or found[2]) > HIGHEST_PORT:
        raise ConfigurationError(f"the port must be from 0 to {HIGHEST_PORT}")


def _folderEndpoint(
    reactor: IReactor, text: str, listener: ListenerConfig, proxied: bool, http2: bool
) -> tuple[CertificateFolder, IStreamServerEndpoint]:
    """
    C{tls:FOLDER[:port=443][:interface=ADDRESS][:backlog=N]}
    """
    folder, options = splitOptions(text.removeprefix(FOLDER))
    unknown = options.keys() - set(FOLDER_OPTIONS)
    if unknown:
        raise ConfigurationError(f"{quoted(text)} has no option {min(unknown)}; the options are {', '.join(FOLDER_OPTIONS)}")
    from tunnelstack.transport.certificates import CertificateFolder  # for edges that use TLS themselves
    from tunnelstack.transport.tls import loadCertificates

    certificates = CertificateFolder(
        folder, reactor, clientCA=loadCertificates(listener.clientCa) if listener.clientCa else (),
        clientAuth=listener.clientAuth or None, alpn=(ALPN_HTTP2, ALPN_HTTP1) if http2 else (ALPN_HTTP1,),
    )
    _checkPort(text)
    port, backlog = int(options.get("port", 443)), int(options.get("backlog", BACKLOG))
    interface = options.get("interface", "")
    kind = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
    plain: IStreamServerEndpoint = kind(reactor, port, backlog, interface)
    if listener.socket:
        plain = _handedOver(reactor, listener)
    return certificates, wrapServerTLS(certificates, _proxied(plain) if proxied else plain, reactor)


def _handedOver(reactor: IReactor, listener: ListenerConfig) -> IStreamServerEndpoint:
    """
    The endpoint for the socket that systemd passed in place of a listener's port.

    @raise ConfigurationError: the endpoint is of a kind for which a port cannot be replaced by a socket.
    """
    inner = listener.endpoint.removeprefix(PROXY_PREFIX)
    if not inner.startswith((FOLDER, "tcp:", "tcp6:", "unix:")):
        raise ConfigurationError(
            f"{quoted(listener.endpoint)} cannot use a socket from systemd; only tcp:, tcp6:, unix: and tls:FOLDER can"
        )
    endpoint: IStreamServerEndpoint = serverFromString(reactor, listener.socket)
    return endpoint


def withBacklog(text: str) -> str:
    """
    Add L{BACKLOG} to an endpoint string.  Twisted's default of 50 is too small for an edge: the system drops the SYN of a
    further connection instead of refusing it, and the client tries again only after a second.
    """
    return f"{text}:backlog={BACKLOG}" if text.startswith(BACKLOG_PREFIXES) and ":backlog=" not in text else text


def splitOptions(text: str) -> tuple[str, dict[str, str]]:
    """
    Split an endpoint string without its prefix.  A backslash escapes the next character.

    @return: the positional argument, and the options by name.
    @raise ConfigurationError: there is not exactly one positional argument.
    """
    pieces, piece, escaped = [], "", False
    for letter in text:
        if escaped or letter not in "\\:":
            piece, escaped = piece + letter, False
        elif letter == "\\":
            escaped = True
        else:
            pieces.append(piece)
            piece = ""
    pieces.append(piece)
    first, *rest = pieces
    options = dict(option.partition("=")[::2] for option in rest)
    if not first or "" in options or any("=" not in option for option in rest):
        raise ConfigurationError(f"{FOLDER}{text} must be tls:FOLDER:port=443")
    return first, options


class ConnectionBuilder(TypingProtocol):
    """
    Builds the protocol of a visitor's connection, as
    L{PublicServerFactory<tunnelstack.edge.public.server.PublicServerFactory>} does.
    """

    def buildConnection(self, address: IAddress | None, listener: EdgeListener) -> Protocol | None: ...


@implementer(IProtocolNegotiationFactory)
class ListenerFactory(ServerFactory):
    """
    Builds the connections of one listener, with the public factory.
    """

    noisy = False

    def __init__(self, public: ConnectionBuilder, listener: EdgeListener) -> None:
        self.listener = listener
        self.buildProtocol = partial(public.buildConnection, listener=listener)       # type: ignore[method-assign]

    def acceptableProtocols(self) -> list[bytes]:
        """
        @return: what is selected by ALPN at an endpoint that has TLS of Twisted's own (C{ssl:}).
        """
        return [ALPN_HTTP1]
