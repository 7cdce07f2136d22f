"""
The addresses that an edge sends its agents: its own by each carrier, and those of their tunnels.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit
from zlib import crc32

from tunnelstack.dialect.jetty.registration import HTTP
from tunnelstack.dialect.jetty.settings import GRPC, GRPC_LISTEN, WEBSOCKET, EdgeSettings
from tunnelstack.dialect.jetty.tunnel_store import StoredTunnel
from tunnelstack.interfaces import IEdge
from tunnelstack.transport.host_endpoint import isLocalhost
from tunnelstack.wire.addresses import read_address
from tunnelstack.wire.records.jetty import AGENT_PATH
from tunnelstack.wire.records.jetty_bridge import AWAITING, CONNECTED, Tunnel

PORT = re.compile(r"tcp6?:(?:port=)?([0-9]{1,5})")


class Addresses:
    """
    The addresses of one edge.

    @ivar percent: of all tunnels, for how many gRPC is offered.
    """

    def __init__(self, edge: IEdge, settings: EdgeSettings, percent: int = 100) -> None:
        self._edge = edge
        self._settings = settings
        self.percent = percent

    @property
    def grpcListen(self) -> str:
        """
        The endpoint string to listen on for gRPC; C{""} for none.
        """
        default = GRPC_LISTEN if self._settings.transportMode == GRPC else ""
        return self._settings.grpcListen or default

    @property
    def edgeId(self) -> str:
        """
        The name of the edge.
        """
        return self._settings.edgeId or self._host

    @property
    def _host(self) -> str:
        return urlsplit(f"//{self._edge.authority}").hostname or ""

    @property
    def _base(self) -> tuple[bool, str]:
        """
        Whether the edge is reached by TLS, and its host with its port.
        """
        grant = self._edge.addressOf("x")
        secure, authority = grant.url.startswith("https:"), self._edge.authority
        if not urlsplit(f"//{authority}").port and grant.port not in (0, 443 if secure else 80):
            authority = f"{authority}:{grant.port}"
        return secure, authority

    @property
    def websocketURL(self) -> str:
        """
        Where agents connect by WebSocket; C{""} if they cannot.
        """
        secure, authority = self._base
        return "" if self._settings.noWebsocket else f"{'wss' if secure else 'ws'}://{authority}{AGENT_PATH}"

    @property
    def _grpcURL(self) -> str:
        settings = self._settings
        found = PORT.match(self.grpcListen)
        if settings.grpcUrl or found is None:
            return settings.grpcUrl if self.grpcListen else ""
        # Agents send no token to another machine without TLS, so such an address would be of no use.
        if settings.grpcCertificates or isLoopback(self._host):
            return f"{'grpcs' if settings.grpcCertificates else 'grpc'}://{self._host}:{found[1]}"
        return ""

    def grpcURL(self, tunnelId: str) -> str:
        """
        @return: where the agents of a tunnel connect by gRPC; C{""} if that is not offered.
        """
        return self._grpcURL if crc32(tunnelId.encode()) % 100 < self.percent else ""

    def publicURL(self, tunnel: StoredTunnel) -> str:
        """
        @return: where visitors reach a tunnel.
        """
        grant = self._edge.addressOf(tunnel.subdomain)
        host = urlsplit(grant.url).hostname or grant.host
        return grant.url if tunnel.protocol == HTTP else f"{tunnel.protocol}://{host}:{tunnel.port}"

    def describe(self, tunnel: StoredTunnel, isConnected: bool, token: str = "") -> Tunnel:
        """
        @param token: of its agents; C{""} if it is left out.
        @return: the tunnel for its owner.
        """
        grpc, websocket, public = self.grpcURL(tunnel.id), self.websocketURL, self.publicURL(tunnel)
        return Tunnel(
            id=tunnel.id, subdomain=tunnel.subdomain, public_url=public, local_target=tunnel.localTarget,
            status=CONNECTED if isConnected else AWAITING, server=tunnel.server, agent_token=token,
            websocket_url=websocket, grpc_url=grpc,
            transports=(*((GRPC,) if grpc else ()), *((WEBSOCKET,) if websocket else ())),
            protocol=tunnel.protocol, assigned_port=tunnel.port, public_endpoint="" if tunnel.protocol == HTTP else public,
        )


def isLoopback(host: str) -> bool:
    """
    @return: whether a host is this machine.
    """
    address = read_address(host)
    return isLocalhost(host) or (address is not None and address.is_loopback)
