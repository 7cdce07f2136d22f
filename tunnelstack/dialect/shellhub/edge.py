"""
ShellHub at the edge: both versions of its transport, its devices, and what it adds to the administration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from tunnelstack.dialect.shellhub.bootstrap import Bootstrap
from tunnelstack.dialect.shellhub.connections import DeviceConnections
from tunnelstack.dialect.shellhub.device_book import Device, DeviceStore, Tenant, digestOfKey
from tunnelstack.dialect.shellhub.rsa_keys import newKey, parseSigningKey, signingKey
from tunnelstack.dialect.shellhub.settings import EdgeSettings, TenantSettings
from tunnelstack.dialect.shellhub.ssh_login import KeyVoucher
from tunnelstack.dialect.shellhub.v1 import ShellHubV1
from tunnelstack.dialect.shellhub.v2 import ShellHubV2
from tunnelstack.doors import HTTPDoor
from tunnelstack.errors import Denied
from tunnelstack.interfaces import IAdminResources, IDeviceKeys, IDialect, IEdge
from tunnelstack.settings.files import readFile

Record = dict[str, Any]


@implementer(IDialect, IAdminResources, IDeviceKeys)
class ShellHubEdge:
    """
    The dialect of one edge.

    @ivar devices: the L{DeviceStore}.
    @ivar connections: the connections of devices.
    """

    name = "shellhub"

    def __init__(self, connections: DeviceConnections) -> None:
        self.connections = connections
        self.devices: DeviceStore = connections.bootstrap.devices
        self.keyFor: Callable[[str], Deferred[Any] | None] = KeyVoucher(connections.bootstrap, newKey)
        self.getHandlers: Mapping[bytes, Callable[[], Any]] = {b"/devices": self._list}
        self.postHandlers: Mapping[bytes, Callable[[Mapping[str, Any]], Any]] = {
            b"/devices/accept": lambda asked: self._decide(asked, self.devices.accept),
            b"/devices/reject": lambda asked: self._decide(asked, self.devices.reject),
        }

    def doors(self, edge: IEdge) -> list[HTTPDoor]:
        """
        As in L{IDialect}.
        """
        self.connections.attach(edge)
        return [
            *self.connections.bootstrap.doors(),
            *ShellHubV1(self.connections).doors(),
            *ShellHubV2(self.connections).doors(),
        ]

    def close(self) -> None:
        """
        As in L{IDialect}.
        """
        self.devices.flush()

    # Administration

    def _list(self) -> Record:
        return {"devices": [self._record(device) for device in self.devices.devices]}

    def _decide(self, asked: Mapping[str, Any], decide: Callable[[str], Device]) -> Record:
        which = asked.get("device")
        if not (isinstance(which, str) and which):
            raise Denied("malformed", 'the request must name a device: {"device": "NAMESPACE.NAME"}')
        return {"device": self._record(decide(which))}

    def _record(self, device: Device) -> Record:
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


def makeDialects(edge: IEdge, tables: Mapping[str, tuple[Any, ...]]) -> list[IDialect]:
    """
    Make the dialect from the tables of a configuration file.

    @raise ConfigurationError: a file that they name cannot be used.
    """
    settings: EdgeSettings = tables["shellhub"][0]
    devices = DeviceStore(
        edge.clock, edge.state, automatic=settings.policy == "automatic",
        tenants=[_tenant(tenant) for tenant in tables.get("tenant", ())],
    )  # fmt: skip
    key = parseSigningKey(readFile(settings.keyFile), settings.keyFile) if settings.keyFile else signingKey(edge.state)
    bootstrap = Bootstrap(devices, key, edge.clock, api=edge.authority, ssh=edge.sshAddress)
    return [ShellHubEdge(DeviceConnections(bootstrap))]


def _tenant(settings: TenantSettings) -> Tenant:
    keys = readFile(settings.installKeysFile).split() if settings.installKeysFile else []
    return Tenant(id=settings.id.lower(), namespace=settings.namespace, installKeys=tuple(map(digestOfKey, keys)))
