"""
Where an edge listens: Twisted's endpoint strings, and two of them with more to say.

C{tls:FOLDER:port=443} shows the certificates of a L{CertificateFolder}, and may ask clients for theirs.  C{haproxy:} in front
of C{tcp:} or C{tls:} believes what a proxy in front says of the visitor (the PROXY protocol), before any TLS.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString, wrapServerTLS
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory

from tunnelstack.control.config.records import ListenerConfig
from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.certificates import CertificateFolder
from tunnelstack.transport.haproxy import proxiedEndpoint
from tunnelstack.transport.tls import loadCertificates

PROXY_PREFIX, FOLDER = "haproxy:", "tls:"
TLS_PREFIXES = (FOLDER, "ssl:")
FOLDER_OPTIONS = ("port", "interface", "backlog")
BACKLOG_PREFIXES = ("tcp:", "tcp6:", "ssl:")
BACKLOG = 512
"""Connections that wait for the edge, unless the string says otherwise."""


@frozen(kw_only=True)
class EdgeListener:
    """
    One place to listen, ready to be opened.

    @ivar text: as the operator wrote it.
    @ivar endpoint: the C{IStreamServerEndpoint} to open.
    @ivar secure: visitors come by TLS.
    @ivar proxied: their addresses are what a proxy in front says.
    @ivar redirect: they are sent to where it is secure.
    @ivar certificates: the folder whose certificates are shown, if there is one.
    """

    text: str
    endpoint: Any
    secure: bool = False
    proxied: bool = False
    redirect: bool = False
    certificates: CertificateFolder | None = None


UNKNOWN_LISTENER = EdgeListener(text="", endpoint=None)
"""Where connections come from that nobody listened for here."""


def makeListener(reactor: Any, listener: ListenerConfig) -> EdgeListener:
    """
    @raise ConfigurationError: it cannot be listened on in this way.
    """
    text = listener.endpoint
    proxied = text.startswith(PROXY_PREFIX)
    inner = text.removeprefix(PROXY_PREFIX)
    secure = inner.startswith(TLS_PREFIXES)
    if bool(listener.clientAuth) != bool(listener.clientCa):
        raise ConfigurationError("client_auth and client_ca go together: give both or neither")
    if listener.clientAuth and not inner.startswith(FOLDER):
        raise ConfigurationError(f"{text!r} cannot ask clients for certificates: client_auth needs tls:FOLDER")
    if listener.redirect and secure:
        raise ConfigurationError(f"{text!r} is secure already: redirect is for plain HTTP")
    certificates: CertificateFolder | None = None
    try:
        if inner.startswith(FOLDER):
            certificates, endpoint = _folderEndpoint(reactor, inner, listener, proxied)
        else:
            if listener.socket:
                endpoint = _handedOver(reactor, listener)
                endpoint = proxiedEndpoint(endpoint) if proxied else endpoint
            else:
                endpoint = endpointOf(reactor, PROXY_PREFIX * proxied + withBacklog(inner))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ConfigurationError(f"{text!r} is no endpoint to listen on: {error}") from None
    return EdgeListener(
        text=text, endpoint=endpoint, secure=secure, proxied=proxied, redirect=listener.redirect,
        certificates=certificates,
    )


def endpointOf(reactor: Any, text: str) -> IStreamServerEndpoint:
    """
    As C{serverFromString}, and C{haproxy:} takes all that L{proxiedEndpoint} does.
    """
    if text.startswith(PROXY_PREFIX):
        return proxiedEndpoint(endpointOf(reactor, text.removeprefix(PROXY_PREFIX)))
    endpoint: IStreamServerEndpoint = serverFromString(reactor, text)
    return endpoint


def _folderEndpoint(
    reactor: Any, text: str, listener: ListenerConfig, proxied: bool
) -> tuple[CertificateFolder, IStreamServerEndpoint]:
    """
    C{tls:FOLDER[:port=443][:interface=ADDRESS][:backlog=N]}
    """
    folder, options = splitOptions(text.removeprefix(FOLDER))
    unknown = options.keys() - set(FOLDER_OPTIONS)
    if unknown:
        raise ConfigurationError(f"{text!r} has no option {min(unknown)}; there are {', '.join(FOLDER_OPTIONS)}")
    certificates = CertificateFolder(
        folder, reactor, clientCA=loadCertificates(listener.clientCa) if listener.clientCa else (),
        clientAuth=listener.clientAuth or None,
    )
    port, backlog = int(options.get("port", 443)), int(options.get("backlog", BACKLOG))
    interface = options.get("interface", "")
    kind = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
    plain: Any = kind(reactor, port, backlog, interface)
    if listener.socket:
        plain = _handedOver(reactor, listener)
    return certificates, wrapServerTLS(certificates, proxiedEndpoint(plain) if proxied else plain, reactor)


def _handedOver(reactor: Any, listener: ListenerConfig) -> IStreamServerEndpoint:
    """
    The socket that a listener uses instead of its port.

    @raise ConfigurationError: the endpoint would do more with its port than to listen.
    """
    inner = listener.endpoint.removeprefix(PROXY_PREFIX)
    if not inner.startswith((FOLDER, "tcp:", "tcp6:", "unix:")):
        raise ConfigurationError(
            f"{listener.endpoint!r} cannot use a socket that systemd hands over: tcp:, tcp6:, unix: and tls:FOLDER can"
        )
    endpoint: IStreamServerEndpoint = serverFromString(reactor, listener.socket)
    return endpoint


def withBacklog(text: str) -> str:
    """
    An endpoint string by which more may wait than Twisted's 50, who are many for one server and few for all of an edge's.  One
    beyond them is not refused by the system, but left to ask again a second later.
    """
    return f"{text}:backlog={BACKLOG}" if text.startswith(BACKLOG_PREFIXES) and ":backlog=" not in text else text


def splitOptions(text: str) -> tuple[str, dict[str, str]]:
    """
    The first argument of an endpoint string, and its options; a backslash takes the meaning from what follows it.

    @raise ConfigurationError: there is no argument, or more than one.
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


class ListenerFactory(ServerFactory):
    """
    What one place to listen gives its connections: those of the public port, that know how they came in.
    """

    noisy = False

    def __init__(self, public: Any, listener: EdgeListener) -> None:
        """
        @param public: a L{PublicServerFactory<tunnelstack.edge.public.server.PublicServerFactory>}.
        """
        self._public = public
        self.listener = listener

    def buildProtocol(self, address: Any) -> Any:
        """
        As in C{IProtocolFactory}.
        """
        return self._public.buildConnection(address, self.listener)
