"""
Local servers as targets of services: how a target is written, how it is connected to, and whether it accepts connections.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from attrs import frozen
from OpenSSL.SSL import Error as TLSError
from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IReactor
from tunnelstack.settings.record import Record
from tunnelstack.transport.clientstring import clientEndpoint
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.host_endpoint import connectTimedOut, hostEndpoint, isLocalhost
from tunnelstack.transport.secure import HandshakeLost, SecureEndpoint
from tunnelstack.transport.tls import clientContext, unverifiedContext
from tunnelstack.transport.udp import UDPClientEndpoint
from tunnelstack.transport.verification import CertificateRejected
from tunnelstack.wire.printable_text import quoted

HTTP_SCHEMES = {"http": 80, "https": 443, "ws": 80, "wss": 443, "h2c": 80}
SCHEMES: Mapping[str, Mapping[str, int]] = {
    "http": HTTP_SCHEMES, "tcp": {"tcp": 0}, "udp": {"udp": 0}, "ssh": {"ssh": 22, "tcp": 22},
}
"""For each kind of service, the schemes of URLs that name a target, with the port that each implies; 0 is none."""

SECURE = ("https", "wss")
H2C = "h2c"
"""The scheme of a web server with HTTP/2 without TLS."""

IMPLIED_PORTS = {"http": 80, "ssh": 22}
"""For each kind of service, the port of a target that is only a host."""

PORT = re.compile(r":?[0-9]{1,5}")
URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
AUTHORITY = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[0-9A-Za-z._-]+))?(?::(?P<port>[0-9]{1,5}))?(?P<path>[/?#].*)?", re.DOTALL
)
"""Host, port or both; any of the parts may be missing."""

HIGHEST_PORT = 65_535

TRUST = "trustRoots=FILE, with the target written as tls:HOST:PORT:trustRoots=FILE"
"""How an operator trusts another authority for a target at C{https:}."""

PROBE_SECONDS = 3.0
"""Seconds after which a probe fails."""


class NotATarget(ConfigurationError):
    """
    Text that was given as a target names no local server.
    """


@frozen(eq=False, repr=False)
class _Place(Record):
    """
    The host and port of a target.

    @ivar secure: connections to it use TLS.
    @ivar h2c: it uses HTTP/2 without TLS.
    """

    host: str
    port: int
    secure: bool = False
    h2c: bool = False

    @property
    def authority(self) -> str:
        """
        Host and port in the form of the C{Host} field.
        """
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Target:
    """
    A local server.

    @ivar text: as it was written.
    @ivar shown: the target as status lines show it, such as C{tcp:localhost:3000}.
    @ivar authority: host and port in the form of the C{Host} field; C{""} where the endpoint has neither.
    @ivar secure: connections to it use TLS, because it is a URL at C{https:}.
    @ivar h2c: it uses HTTP/2 without TLS, because it is a URL at C{h2c:}.
    """

    def __init__(self, text: str, kind: str = "tcp", *, insecure: bool = False) -> None:
        """
        @param text: a port, a host, C{host:port}, a URL such as C{http://localhost:3000}, or a Twisted endpoint string.
        @param kind: the kind of the service, C{http}, C{tcp}, C{udp} or C{ssh}: which URLs are accepted, and the port of a host
            without one.
        @param insecure: accept any certificate of a server at C{https:}.
        @raise NotATarget: it is none of these.
        """
        self.text = text
        self._insecure = insecure
        self._place = _parse(text, kind)
        self.secure = self._place is not None and self._place.secure
        self.h2c = self._place is not None and self._place.h2c
        self.authority = "" if self._place is None else self._place.authority
        prefix = "https://" if self.secure else "udp:" if kind == "udp" else "tcp:"
        self.shown = text if self._place is None else prefix + self.authority

    def endpoint(self, reactor: IReactor, alpn: Sequence[bytes] = ()) -> IStreamClientEndpoint:
        """
        @param alpn: the protocols that a server at C{https:} is offered, the best first.
        @return: an endpoint that connects to the server.
        @raise NotATarget: the text is not an endpoint string.
        """
        if self._place is not None:
            return self._placeEndpoint(reactor, self._place, alpn)
        try:
            return clientEndpoint(reactor, self.text)
        except ValueError as error:
            raise NotATarget(
                f"{quoted(self.text)} is not a target: give a port, host:port, or an endpoint string, such as "
                f"unix:/run/app.sock ({error})"
            ) from None

    def datagramEndpoint(self, reactor: IReactor) -> UDPClientEndpoint:
        """
        @return: an endpoint that opens UDP sockets toward the server.
        @raise NotATarget: the target is an endpoint string, which is for streams.
        """
        place = self._place
        if place is None:
            raise NotATarget(f"{quoted(self.text)} is not a target for UDP: give a port, or host:port")
        return UDPClientEndpoint(reactor, place.host, place.port)

    def _placeEndpoint(self, reactor: IReactor, place: _Place, alpn: Sequence[bytes]) -> IStreamClientEndpoint:
        endpoint = hostEndpoint(reactor, place.host, place.port)
        if not place.secure:
            return endpoint
        if self._insecure:
            context = unverifiedContext(place.host, alpn=alpn)
        else:
            context = clientContext(place.host, trust=TRUST, alpn=alpn)
        return SecureEndpoint(reactor, place.host, endpoint, context)


def _parse(text: str, kind: str) -> _Place | None:
    """
    @return: C{None} for an endpoint string.
    @raise NotATarget: the target is a URL of another kind, or its port is missing or out of range, or it has a path.
    """
    url = URL.fullmatch(text)
    found = AUTHORITY.fullmatch(text if url is None else url["rest"])
    implied, secure, h2c = IMPLIED_PORTS.get(kind, 0), False, False
    if PORT.fullmatch(text):
        return _Place("localhost", _port(text, text.lstrip(":"), 0))
    if isIPv6Address(text):
        return _Place(text, _port(text, "", implied))
    if url is None:
        if found is None or not _isPlace(found):
            return None
    else:
        scheme = url["scheme"].lower()
        implied, secure, h2c = _impliedPort(text, kind, scheme), scheme in SECURE, scheme == H2C
        if found is None or not (found["host"] or found["v6"] or found["port"]):
            raise NotATarget(f"{quoted(text)} is not a target: it must be {scheme}://HOST:PORT, without a user")
    if (found["path"] or "/") != "/":
        raise NotATarget(f"{quoted(text)} is not a target: leave out the path, because a service is a whole server")
    host = found["v6"] or found["host"] or ""
    if host in ("tcp", "udp") and url is None:         # tcp:3000, the endpoint string that people write for a port
        host = ""
    return _Place(host or "localhost", _port(text, found["port"], implied), secure, h2c)


def _isPlace(found: re.Match[str]) -> bool:
    """
    @return: whether text without a scheme is a target rather than an endpoint string or a misspelt word: it has a port, or is
        C{localhost}, an address, or a name with a dot.
    """
    if found["port"]:
        return True
    host = found["v6"] or found["host"] or ""
    return bool(found["v6"]) or isLocalhost(host) or "." in host.strip(".")


def _impliedPort(text: str, kind: str, scheme: str) -> int:
    """
    @raise NotATarget: URLs of this scheme are not for this kind of service.
    """
    accepted = SCHEMES.get(kind, {})
    if scheme in accepted:
        return accepted[scheme]
    if scheme in HTTP_SCHEMES:
        raise NotATarget(f"{quoted(text)} is a web server: publish it as the kind http, or write tcp:HOST:PORT")
    others = " and ".join(f"{each}://" for each in accepted)
    raise NotATarget(f"{quoted(text)} is not a target: a service of the kind {kind} takes {others}")


def _port(text: str, given: str | None, implied: int) -> int:
    """
    @raise NotATarget: no port is given or implied, or it is out of range.
    """
    if not given and not implied:
        raise NotATarget(f"{quoted(text)} is not a target: it has no port; write host:port")
    port = int(given) if given else implied
    if not 0 < port <= HIGHEST_PORT:
        raise NotATarget(f"{quoted(text)} is not a target: the port must be from 1 to {HIGHEST_PORT}")
    return port


def failureReason(failure: Failure) -> str:
    """
    Describe a failure to connect in a few words, such as C{"nothing listens"}.
    """
    if failure.check(ConnectionRefusedError):
        return "nothing listens"
    if failure.check(TimeoutError):
        return "no answer"
    if failure.check(DNSLookupError):
        return "the host name cannot be resolved"
    if isinstance(failure.value, TLSError) and not failure.check(CertificateRejected, HandshakeLost):
        return f"no TLS connection is possible: {errorText(failure)}"
    return errorText(failure)


def probe(endpoint: IStreamClientEndpoint, clock: IReactorTime) -> Deferred[str]:
    """
    Find out whether a server listens: connect, and close at once.

    @return: fires with C{""} if it does, and otherwise with the reason in a few words; it does not fail.
    """
    tried = endpoint.connect(_ProbeFactory())
    tried.addTimeout(PROBE_SECONDS, clock, connectTimedOut)
    return tried.addCallbacks(lambda _: "", failureReason)


class _ProbeFactory(Factory):
    noisy = False

    def buildProtocol(self, address: object) -> Protocol:
        return _ProbeProtocol()


class _ProbeProtocol(Protocol):
    transport: ITCPTransport

    def connectionMade(self) -> None:
        self.transport.abortConnection()
