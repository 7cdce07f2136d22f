"""
How an edge is dialled: directly or through a proxy, and which certificates both sides use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attrs import frozen
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IReactorTime, IStreamClientEndpoint

from tunnelstack.control.config.proxy_env import PORTS
from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IReactor
from tunnelstack.settings.record import Record
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.tls import clientContext, loadCertificates, loadIdentity

if TYPE_CHECKING:
    from tunnelstack.transport.proxy import Proxy

DIRECT = "direct"
"""The value of C{proxy} that overrides a proxy in the environment."""

EDGE_TRUST, TABLE_TRUST = "--ca-file (ca_file in [[edge]])", "ca_file in its table of the file"
"""The settings by which an operator trusts another authority, as error messages name them."""


@frozen(eq=False, repr=False)
class EdgeEndpoint(Record):
    """
    How an edge is dialled.

    @ivar clock: measures the time-outs.
    @ivar proxy: the L{Proxy} to connect through, or C{None}.
    @ivar transportEndpoint: an endpoint to the edge's host and port, without TLS.
    @ivar contextFactory: makes the TLS connections with the edge; C{None} where the URL is C{http}.
    """

    clock: IReactorTime
    host: str
    port: int
    secure: bool
    proxy: Proxy | None
    transportEndpoint: IStreamClientEndpoint
    contextFactory: IOpenSSLClientConnectionCreator | None

    @property
    def endpoint(self) -> IStreamClientEndpoint:
        """
        The endpoint to the edge, with proxy and TLS.
        """
        if not self.secure:
            return self.transportEndpoint
        return SecureEndpoint(self.clock, self.host, self.transportEndpoint, self.contextFactory)


def makeEdgeEndpoint(
    reactor: IReactor, edge: EdgeAddress, trust: str = EDGE_TRUST, alpn: Sequence[bytes] = ()
) -> EdgeEndpoint:
    """
    @param trust: the setting by which an operator trusts another authority, for errors about certificates.
    @param alpn: the protocols that an edge at C{https:} is offered, the best first.
    @raise ConfigurationError: a file or the proxy's URL cannot be used.
    """
    parts = urlsplit(edge.url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    secure = parts.scheme == "https"
    proxy, transportEndpoint = None, hostEndpoint(reactor, host, port)
    if edge.proxy not in ("", DIRECT):
        from tunnelstack.transport.proxy import ProxyEndpoint, parseProxy  # most agents need none

        proxy = parseProxy(edge.proxy)
        transportEndpoint = ProxyEndpoint(reactor, proxy, host, port)
    return EdgeEndpoint(reactor, host, port, secure, proxy, transportEndpoint, _context(edge, host, secure, trust, alpn))


def _context(
    edge: EdgeAddress, host: str, secure: bool, trust: str, alpn: Sequence[bytes]
) -> IOpenSSLClientConnectionCreator | None:
    if not secure:
        if edge.caFile or edge.certificateFile:
            raise ConfigurationError(f"ca_file and certificate_file need an edge at https:, not {edge.url}")
        return None
    identity = loadIdentity(edge.certificateFile, edge.keyFile or None) if edge.certificateFile else None
    ca = loadCertificates(edge.caFile) if edge.caFile else ()
    return clientContext(host, ca=ca, identity=identity, trust=trust, alpn=alpn)
