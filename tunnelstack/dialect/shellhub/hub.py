"""
ShellHub at the edge: both versions of its transport, its devices, and its part of the administration interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tunnelstack.dialect.shellhub.bootstrap import Bootstrap
from tunnelstack.dialect.shellhub.connections import DeviceConnections
from tunnelstack.dialect.shellhub.device_book import Device, DeviceStore, Tenant, digestOfKey
from tunnelstack.dialect.shellhub.gateway_keys import GatewayKeys
from tunnelstack.dialect.shellhub.http_server import doorsOf
from tunnelstack.dialect.shellhub.rsa_keys import newKey, parseSigningKey, signingKey
from tunnelstack.dialect.shellhub.session_routes import SessionRoutes
from tunnelstack.dialect.shellhub.settings import EdgeSettings, SessionSettings, TenantSettings
from tunnelstack.dialect.shellhub.ssh_session import DeviceSSHSession
from tunnelstack.dialect.shellhub.tunnel import DeviceTunnel
from tunnelstack.dialect.shellhub.v1 import ShellHubV1
from tunnelstack.dialect.shellhub.v2 import ShellHubV2
from tunnelstack.doors import HTTPDoor
from tunnelstack.errors import Denied
from tunnelstack.interfaces import IAdminResources, IDeviceKeys, IDialect, IEdge
from tunnelstack.settings.files import readFile
from tunnelstack.settings.tables import Records

if TYPE_CHECKING:
    from twisted.conch.ssh.keys import Key

JSONObject = Mapping[str, object]

SHORTEST_PREFIX = 8
"""Characters of an identifier that are enough to name a session."""


@frozen
class OpenSession:
    """
    An SSH session, and the tunnel to its device.
    """

    session: DeviceSSHSession
    tunnel: DeviceTunnel

    def record(self) -> JSONObject:
        """
        @return: the session for the administration interface.
        """
        return {
            "session": self.session.uid,
            "device": self.tunnel.device.agent,
            "opened": self.session.opened,
            "connected": self.tunnel.dialect,
        }


@implementer(IDialect, IAdminResources, IDeviceKeys)
class ShellHubEdge:
    """
    The dialect of one edge.

    @ivar devices: all devices.
    @ivar connections: the connections of devices.
    """

    name = "shellhub"

    def __init__(self, connections: DeviceConnections) -> None:
        self.connections = connections
        self.devices: DeviceStore = connections.bootstrap.devices
        self.keyFor: Callable[[str], Deferred[Key] | None] = GatewayKeys(connections.bootstrap, newKey).keyFor
        self.getHandlers: Mapping[bytes, Callable[[], object]] = {
            b"/devices": self._listDevices,
            b"/devices/sessions": self._listSessions,
        }
        self.postHandlers: Mapping[bytes, Callable[[JSONObject], object]] = {
            b"/devices/accept": lambda request: self._decide(request, self.devices.accept),
            b"/devices/reject": lambda request: self._decide(request, self.devices.reject),
            b"/devices/sessions/close": self._closeSession,
        }

    def doors(self, edge: IEdge) -> list[HTTPDoor]:
        self.connections.attach(edge)
        routes = [*self.connections.bootstrap.routes(), *SessionRoutes(self.connections).routes()]
        return [
            *doorsOf(routes, edge.clock),
            *ShellHubV1(self.connections).doors(),
            *ShellHubV2(self.connections).doors(),
        ]

    def close(self) -> None:
        self.devices.flush()

    # Administration

    def _listDevices(self) -> JSONObject:
        return {"devices": [self._record(device) for device in self.devices.devices]}

    def _decide(self, request: JSONObject, decide: Callable[[str], Device]) -> JSONObject:
        which = request.get("device")
        if not (isinstance(which, str) and which):
            raise Denied("malformed", 'the request must name a device: {"device": "NAMESPACE.NAME"}')
        return {"device": self._record(decide(which))}

    def _listSessions(self) -> JSONObject:
        sessions = sorted(self._sessions(), key=lambda each: each.session.opened)
        return {"sessions": [each.record() for each in sessions]}

    def _sessions(self) -> list[OpenSession]:
        return [
            OpenSession(session, tunnel)
            for tunnel in self.connections.tunnels() for session in tunnel.sshSessions.values()
        ]  # fmt: skip

    def _closeSession(self, request: JSONObject) -> Deferred[JSONObject]:
        """
        @raise Denied: no session has the identifier, or several begin with it.
        """
        which = request.get("session")
        if not (isinstance(which, str) and len(which) >= SHORTEST_PREFIX):
            raise Denied("malformed", f'the request must name a session by {SHORTEST_PREFIX} characters: {{"session": "UID"}}')
        found = [each for each in self._sessions() if each.session.uid.startswith(which)]
        if len(found) > 1:
            raise Denied("unknown", f"several sessions begin with {which[:64]}")
        if not found:
            raise Denied("unknown", f"there is no session {which[:64]}")
        (one,) = found
        return one.tunnel.closeSession(one.session.uid).addCallback(lambda _: {"session": one.record()})

    def _record(self, device: Device) -> JSONObject:
        tunnel = self.connections.find(device.tenant, device.uid)
        return {
            "device": device.agent,
            "uid": device.uid,
            "tenant": device.tenant,
            "status": device.status,
            "about": device.about,
            "connected": "" if tunnel is None else tunnel.dialect,
            "known": device.known,
            "seen": device.seen,
        }


def makeHub(edge: IEdge, tables: Records) -> ShellHubEdge:
    """
    Make the dialect from the tables of a configuration file.

    @raise ConfigurationError: a file that they name cannot be used.
    """
    settings: EdgeSettings = tables["shellhub"][0]
    session: SessionSettings = next(iter(tables.get("shellhub.session", ())), SessionSettings())
    devices = DeviceStore(
        edge.clock, edge.state, automatic=settings.policy == "automatic",
        tenants=[_tenant(tenant) for tenant in tables.get("tenant", ())],
    )  # fmt: skip
    key = parseSigningKey(readFile(settings.keyFile), settings.keyFile) if settings.keyFile else signingKey(edge.state)
    bootstrap = Bootstrap(
        devices, key, edge.clock, api=edge.authority, ssh=edge.sshAddress, settings=session.encoded()
    )
    return ShellHubEdge(DeviceConnections(bootstrap))


def _tenant(settings: TenantSettings) -> Tenant:
    keys = readFile(settings.installKeysFile).split() if settings.installKeysFile else []
    return Tenant(id=settings.id.lower(), namespace=settings.namespace, installKeys=tuple(map(digestOfKey, keys)))
