"""
The port on which an edge listens for agents that use gRPC.
"""

from __future__ import annotations

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint

from tunnelstack.dialect.jetty.grpc_edge import GRPCAgents
from tunnelstack.dialect.jetty.registration import IRegistrar
from tunnelstack.dialect.jetty.settings import AUTO, BOUND
from tunnelstack.doors import ListenerDoor
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IEdge
from tunnelstack.transport.certificates import CertificateFolder
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.http2.alpn import ALPN_HTTP2
from tunnelstack.transport.tls import ALPNFactory
from tunnelstack.wire.printable_text import quoted


def grpcDoor(edge: IEdge, registrar: IRegistrar, listen: str, certificates: str, sessions: str = AUTO) -> ListenerDoor:
    """
    @param listen: an endpoint string.
    @param certificates: a folder, with which connections use TLS; C{""} for connections without it.
    @param sessions: whether lanes may come by other connections than their session.
    @raise ConfigurationError: either cannot be used.
    """
    try:
        endpoint: IStreamServerEndpoint = serverFromString(edge.clock, listen)
    except Exception as error:      # parsers of endpoint strings are plugins, and may raise any exception
        raise ConfigurationError(f"grpc_listen: {quoted(listen)} is not a valid endpoint: {errorText(error)}") from None
    # Without TLS there is a proxy, which may make a connection for each call.
    bound = bool(certificates) if sessions == AUTO else sessions == BOUND
    agents = GRPCAgents(edge, registrar, bindSessions=bound)
    factory: IProtocolFactory = agents
    if certificates:
        folder = CertificateFolder(certificates, edge.clock, alpn=(ALPN_HTTP2,))
        factory = ALPNFactory({ALPN_HTTP2: agents}, edge.clock).wrap(folder)
    how = "gRPC by TLS" if certificates else "gRPC without TLS"
    return ListenerDoor(endpoint=endpoint, factory=factory, description=f"{how} at {listen}")
