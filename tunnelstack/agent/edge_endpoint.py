"""
The way to an edge, where it is not simply what its URL says: through a proxy, with a certificate of ours, with other roots.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from attrs import frozen
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint

from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.proxy import PORTS, Proxy, ProxyEndpoint, parseProxy
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.tls import clientContext, loadCertificates, loadIdentity

DIRECT = "direct"
"""What stands for no proxy, where the environment names one."""

EDGE_TRUST, TABLE_TRUST = "--ca-file (ca_file in [[edge]])", "ca_file in its table of the file"
"""What an operator sets to trust another authority."""


@frozen
class EdgeEndpoint:
    """
    How an edge is dialled.

    @ivar clock: for what takes too long, an C{IReactorTime}.
    @ivar proxy: the L{Proxy} in between, or C{None}.
    @ivar transportEndpoint: an endpoint to the edge's host and port, without TLS.
    @ivar contextFactory: TLS with the edge; C{None} where the URL is C{http}.
    """

    clock: Any
    host: str
    port: int
    secure: bool
    proxy: Proxy | None
    transportEndpoint: IStreamClientEndpoint
    contextFactory: IOpenSSLClientConnectionCreator | None

    @property
    def endpoint(self) -> IStreamClientEndpoint:
        """
        The whole way, TLS included.
        """
        if not self.secure:
            return self.transportEndpoint
        return SecureEndpoint(self.clock, self.host, self.transportEndpoint, self.contextFactory)


def makeEdgeEndpoint(reactor: Any, edge: EdgeAddress, trust: str = EDGE_TRUST) -> EdgeEndpoint:
    """
    @param trust: what an operator sets to trust another authority, for errors about certificates.
    @raise ConfigurationError: a file or the proxy's URL cannot be used.
    """
    parts = urlsplit(edge.url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    secure = parts.scheme == "https"
    proxy = parseProxy(edge.proxy) if edge.proxy not in ("", DIRECT) else None
    transportEndpoint: IStreamClientEndpoint
    if proxy is None:
        transportEndpoint = hostEndpoint(reactor, host, port)
    else:
        transportEndpoint = ProxyEndpoint(reactor, proxy, host, port)
    return EdgeEndpoint(reactor, host, port, secure, proxy, transportEndpoint, _context(edge, host, secure, trust))


def _context(edge: EdgeAddress, host: str, secure: bool, trust: str) -> IOpenSSLClientConnectionCreator | None:
    if not secure:
        if edge.caFile or edge.certificateFile:
            raise ConfigurationError(f"ca_file and certificate_file are for an edge at https:, not for {edge.url}")
        return None
    identity = loadIdentity(edge.certificateFile, edge.keyFile or None) if edge.certificateFile else None
    ca = loadCertificates(edge.caFile) if edge.caFile else ()
    return clientContext(host, ca=ca, identity=identity, trust=trust)
