"""
Which dialects stand at an edge, as its configuration says; nothing else here knows them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import define
from twisted.internet.defer import Deferred

from tunnelstack.control.auth.signing_key import newKey, parseSigningKey, signingKey
from tunnelstack.control.config.reader import readFile
from tunnelstack.control.config.records import EdgeConfig, TenantRecord
from tunnelstack.control.config.state_dir import StateDirectory
from tunnelstack.control.devices import DeviceStore, Tenant, digestOfKey
from tunnelstack.dialect.native.edge import NativeDialect
from tunnelstack.exchange.traits import Timeouts


@define
class DialectSet:
    """
    What the configuration makes of an edge.

    @ivar dialects: L{IDialect<tunnelstack.interfaces.IDialect>}s.
    @ivar devices: the L{DeviceStore}, or C{None} where no dialect has devices.
    @ivar vouch: told a device's name on the edge, gives a key that the device will be told is good (or a C{Deferred} of it), or
        C{None} for a device of no such dialect.
    """

    dialects: list[Any]
    devices: DeviceStore | None = None
    vouch: Callable[[str], Deferred[Any] | None] = lambda agent: None


def makeDialects(clock: Any, config: EdgeConfig, ssh: Callable[[], str]) -> DialectSet:
    """
    @param ssh: says where SSH clients come in, C{host:port}; C{""} where they do not.
    @raise ConfigurationError: a file cannot be used.
    """
    limits = config.limits
    timeouts = Timeouts(head=limits.headSeconds, first=limits.firstOctetSeconds, idle=limits.idleSeconds)
    dialectSet = DialectSet([NativeDialect(timeouts)])
    if config.shellhub is not None:
        _shellhub(clock, config, timeouts, dialectSet, ssh)
    return dialectSet


def _shellhub(clock: Any, config: EdgeConfig, timeouts: Timeouts, dialectSet: DialectSet, ssh: Callable[[], str]) -> None:
    from tunnelstack.dialect.shellhub.ssh_login import (
        Bootstrap,
        DeviceConnections,
        KeyVoucher,
        ShellHubV1,
        ShellHubV2,
    )

    said = config.shellhub
    assert said is not None
    state = StateDirectory(Path(config.stateDirectory)) if config.stateDirectory else None
    devices = DeviceStore(
        clock, state, automatic=said.policy == "automatic", tenants=[_tenant(record) for record in config.tenants],
    )  # fmt: skip
    key = parseSigningKey(readFile(said.keyFile), said.keyFile) if said.keyFile else signingKey(state)
    host = urlsplit(config.publicUrl).netloc or config.domain
    bootstrap = Bootstrap(devices, key, clock, api=host, ssh=ssh)
    fleet = DeviceConnections(bootstrap, timeouts=timeouts)
    dialectSet.dialects += [ShellHubV1(fleet), ShellHubV2(fleet)]
    dialectSet.devices = devices
    dialectSet.vouch = KeyVoucher(bootstrap, newKey)


def _tenant(record: TenantRecord) -> Tenant:
    keys = readFile(record.installKeysFile).split() if record.installKeysFile else []
    return Tenant(id=record.id.lower(), namespace=record.namespace, installKeys=tuple(map(digestOfKey, keys)))
