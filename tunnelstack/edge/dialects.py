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

from tunnelstack.control.auth.signing_key import keyFrom, newKey, signingKey
from tunnelstack.control.config.reader import readFile
from tunnelstack.control.config.records import EdgeConfig, TenantRecord
from tunnelstack.control.config.state_dir import State
from tunnelstack.control.devices import DeviceBook, Tenant, digestOfKey
from tunnelstack.dialect.native.edge import NativeDialect
from tunnelstack.exchange.traits import Timeouts


@define
class Standing:
    """
    What the configuration makes of an edge.

    @ivar dialects: L{IDialect<tunnelstack.interfaces.IDialect>}s.
    @ivar devices: the L{DeviceBook}, or C{None} where no dialect has devices.
    @ivar vouch: told a device's name on the edge, gives a key that the device will be told is good (or a C{Deferred} of it), or
        C{None} for a device of no such dialect.
    """

    dialects: list[Any]
    devices: DeviceBook | None = None
    vouch: Callable[[str], Deferred[Any] | None] = lambda agent: None


def standingOf(clock: Any, config: EdgeConfig, ssh: Callable[[], str]) -> Standing:
    """
    @param ssh: says where SSH clients come in, C{host:port}; C{""} where they do not.
    @raise ConfigurationError: a file cannot be used.
    """
    limits = config.limits
    timeouts = Timeouts(head=limits.headSeconds, first=limits.firstOctetSeconds, idle=limits.idleSeconds)
    standing = Standing([NativeDialect(timeouts)])
    if config.shellhub is not None:
        _shellhub(clock, config, timeouts, standing, ssh)
    return standing


def _shellhub(clock: Any, config: EdgeConfig, timeouts: Timeouts, standing: Standing, ssh: Callable[[], str]) -> None:
    from tunnelstack.dialect.shellhub.ssh_login import Bootstrap, Fleet, ShellHub1, ShellHub2, Vouching

    said = config.shellhub
    assert said is not None
    state = State(Path(config.stateDirectory)) if config.stateDirectory else None
    devices = DeviceBook(
        clock, state, automatic=said.policy == "automatic", tenants=[_tenant(record) for record in config.tenants],
    )  # fmt: skip
    key = keyFrom(readFile(said.keyFile), said.keyFile) if said.keyFile else signingKey(state)
    host = urlsplit(config.publicUrl).netloc or config.domain
    bootstrap = Bootstrap(devices, key, clock, api=host, ssh=ssh)
    fleet = Fleet(bootstrap, timeouts=timeouts)
    standing.dialects += [ShellHub1(fleet), ShellHub2(fleet)]
    standing.devices = devices
    standing.vouch = Vouching(bootstrap, newKey)


def _tenant(record: TenantRecord) -> Tenant:
    keys = readFile(record.installKeysFile).split() if record.installKeysFile else []
    return Tenant(id=record.id.lower(), namespace=record.namespace, installKeys=tuple(map(digestOfKey, keys)))
