"""
Jetty at the edge: the doors of its agents by both carriers, the API of its control plane, and what it adds to the
administration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zope.interface import implementer

from tunnelstack.dialect.jetty.addresses import Addresses
from tunnelstack.dialect.jetty.bridge import Activity, Bridge
from tunnelstack.dialect.jetty.grpc_door import grpcDoor
from tunnelstack.dialect.jetty.registrar import EdgeRegistrar
from tunnelstack.dialect.jetty.registration import HTTP, NAME, PROTOCOLS
from tunnelstack.dialect.jetty.settings import EdgeSettings, RolloutSettings
from tunnelstack.dialect.jetty.tunnel_store import StoredTunnel, TunnelStore
from tunnelstack.dialect.jetty.websocket_agents import WebSocketAgents
from tunnelstack.doors import HTTPDoor
from tunnelstack.errors import Denied
from tunnelstack.interfaces import IAdminResources, IDoor, IEdge, IReloadableDialect
from tunnelstack.settings.files import readFile
from tunnelstack.settings.tables import DialectTables, Records
from tunnelstack.wire.jsonline import JSONObject
from tunnelstack.wire.records.jetty import AGENT_PATH

Record = dict[str, Any]


@implementer(IReloadableDialect, IAdminResources)
class JettyEdge:
    """
    The dialect of one edge.

    @ivar tunnels: all tunnels.
    @ivar registrar: decides which agents are accepted.
    @ivar bridge: the API.
    """

    name = NAME
    registrar: EdgeRegistrar
    bridge: Bridge
    _addresses: Addresses

    def __init__(
        self, tunnels: TunnelStore, settings: EdgeSettings | None = None, rollout: RolloutSettings | None = None,
        secret: str = "",
    ) -> None:
        """
        @param secret: of other edges; C{""} if they cannot verify anything here.
        """
        self.tunnels = tunnels
        self._settings = settings or EdgeSettings()
        self._rollout = rollout or RolloutSettings()
        self._secret = secret
        self.getHandlers: Mapping[bytes, Callable[[], object]] = {b"/jetty/tunnels": self._list}
        self.postHandlers: Mapping[bytes, Callable[[JSONObject], object]] = {
            b"/jetty/tunnels/add": self._add, b"/jetty/tunnels/remove": self._remove,
        }

    def doors(self, edge: IEdge) -> list[IDoor]:
        self._addresses = addresses = Addresses(edge, self._settings, self._rollout.grpcPercent)
        self.registrar = EdgeRegistrar(edge, self.tunnels, addresses, self._settings)
        self.bridge = Bridge(edge, self.tunnels, addresses, self._settings, self._secret, self.registrar.agentsOf)
        doors: list[IDoor] = [*self.bridge.doors()]
        if not self._settings.noWebsocket:
            agents = WebSocketAgents(edge, self.registrar)
            doors.append(HTTPDoor(path=AGENT_PATH.encode(), method=b"GET", server=agents))
        if addresses.grpcListen:
            settings = self._settings
            doors.append(grpcDoor(
                edge, self.registrar, addresses.grpcListen, settings.grpcCertificates, settings.grpcSessions,
            ))  # fmt: skip
        return doors

    def close(self) -> None:
        self.tunnels.flush()

    def prepareReload(self, tables: DialectTables) -> Callable[[], object]:
        rollout = rolloutOf(tables.get(NAME, {}))

        def apply() -> None:
            self._addresses.percent = rollout.grpcPercent

        return apply

    # Administration

    def _list(self) -> Record:
        return {"tunnels": [self._record(each) for each in self.tunnels.tunnels]}

    def _add(self, asked: JSONObject) -> Record:
        name, owner, protocol = _text(asked, "name"), _text(asked, "owner"), _text(asked, "protocol") or HTTP
        if not name:
            raise Denied("malformed", 'the request must name a tunnel: {"name": "demo"}')
        if protocol not in PROTOCOLS:
            raise Denied("malformed", f"the protocol must be one of {', '.join(PROTOCOLS)}")
        return {"tunnel": self._record(self.tunnels.add(name, owner or name, protocol))}

    def _remove(self, asked: JSONObject) -> Record:
        which = _text(asked, "tunnel")
        tunnel = self.tunnels.find(which) or self.tunnels.named(which)
        if tunnel is None:
            raise Denied("unknown", f"there is no tunnel {which}")
        record = self._record(tunnel)
        self.tunnels.remove(tunnel.id)
        return {"tunnel": record}

    def _record(self, tunnel: StoredTunnel) -> Record:
        activity = self.bridge.activity.get(tunnel.id, Activity())
        return {
            "id": tunnel.id, "name": tunnel.subdomain, "owner": tunnel.owner, "protocol": tunnel.protocol,
            "target": tunnel.localTarget, "url": self._addresses.publicURL(tunnel),
            "agents": self.registrar.agentsOf(tunnel.id), "transports": self.registrar.transportsOf(tunnel.id),
            "expires": tunnel.expires or None, "seen": activity.seen or None, "requests": activity.requests,
            "bytes_in": activity.octetsIn, "bytes_out": activity.octetsOut,
        }  # fmt: skip


def _text(asked: JSONObject, member: str) -> str:
    """
    @raise Denied: the member is not text.
    """
    value = asked.get(member, "")
    if not isinstance(value, str):
        raise Denied("malformed", f"{member} must be text")
    return value


def rolloutOf(tables: Records) -> RolloutSettings:
    """
    @return: the settings of C{[jetty.rollout]}.
    """
    found: RolloutSettings = tables.get("jetty.rollout", (RolloutSettings(),))[0]
    return found


def makeDialects(edge: IEdge, tables: Records) -> list[IReloadableDialect]:
    """
    Make the dialect from the tables of a configuration file.

    @raise ConfigurationError: a file cannot be used.
    """
    settings: EdgeSettings = tables.get(NAME, (EdgeSettings(),))[0]
    secret = readFile(settings.edgeSecretFile).strip() if settings.edgeSecretFile else ""
    return [JettyEdge(TunnelStore(edge.state, edge.clock), settings, rolloutOf(tables), secret)]
