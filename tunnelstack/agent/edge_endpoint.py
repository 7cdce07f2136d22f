"""
The way to an edge, where it is not simply what its URL says: through a proxy, with a certificate of ours, with other roots.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from attrs import frozen
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS

from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.proxy import PORTS, Proxy, ProxyEndpoint, parseProxy
from tunnelstack.transport.tls import clientContext, loadCertificates, loadIdentity

DIRECT = "direct"
"""What stands for no proxy, where the environment names one."""


@frozen
class EdgeEndpoint:
    """
    How an edge is dialled.

    @ivar proxy: the L{Proxy} in between, or C{None}.
    @ivar transportEndpoint: an endpoint to the edge's host and port, without TLS.
    @ivar contextFactory: TLS that is not the usual one; or C{None}.
    """

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
        whole: IStreamClientEndpoint = wrapClientTLS(
            self.contextFactory or optionsForClientTLS(self.host), self.transportEndpoint
        )
        return whole


def makeEdgeEndpoint(reactor: Any, edge: EdgeAddress) -> EdgeEndpoint:
    """
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
    return EdgeEndpoint(host, port, secure, proxy, transportEndpoint, _context(edge, host, secure))


def _context(edge: EdgeAddress, host: str, secure: bool) -> IOpenSSLClientConnectionCreator | None:
    if not (edge.caFile or edge.certificateFile):
        return None
    if not secure:
        raise ConfigurationError(f"ca_file and certificate_file are for an edge at https:, not for {edge.url}")
    identity = loadIdentity(edge.certificateFile, edge.keyFile or None) if edge.certificateFile else None
    return clientContext(host, ca=loadCertificates(edge.caFile) if edge.caFile else (), identity=identity)
