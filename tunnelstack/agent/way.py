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

from tunnelstack.control.config import EdgeAddress
from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.proxy import PORTS, ProxyEndpoint, parseProxy
from tunnelstack.transport.tls import clientContext, loadCertificates, loadIdentity

DIRECT = "direct"
"""What stands for no proxy, where the environment names one."""


@frozen
class Way:
    """
    How an edge is dialled.

    @ivar endpoint: instead of the host and the port in its URL, TLS included; or C{None}.
    @ivar contextFactory: instead of the usual TLS; or C{None}.
    """

    endpoint: IStreamClientEndpoint | None = None
    contextFactory: IOpenSSLClientConnectionCreator | None = None


def wayTo(reactor: Any, edge: EdgeAddress) -> Way:
    """
    @raise ConfigurationError: a file or the proxy's URL cannot be used.
    """
    parts = urlsplit(edge.url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    secure = parts.scheme == "https"
    context = _context(edge, host, secure)
    if edge.proxy in ("", DIRECT):
        return Way(None, context)
    endpoint: IStreamClientEndpoint = ProxyEndpoint(reactor, parseProxy(edge.proxy), host, port)
    if secure:
        endpoint = wrapClientTLS(context or optionsForClientTLS(host), endpoint)
    return Way(endpoint, context)


def _context(edge: EdgeAddress, host: str, secure: bool) -> IOpenSSLClientConnectionCreator | None:
    if not (edge.caFile or edge.certificateFile):
        return None
    if not secure:
        raise ConfigurationError(f"ca_file and certificate_file are for an edge at https:, not for {edge.url}")
    identity = loadIdentity(edge.certificateFile, edge.keyFile or None) if edge.certificateFile else None
    return clientContext(host, ca=loadCertificates(edge.caFile) if edge.caFile else (), identity=identity)
