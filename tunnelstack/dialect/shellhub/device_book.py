"""
The devices that have registered with an edge, and whether they are accepted.

A device is identified by a digest of its key, its tenant and its network address.  By policy all devices are accepted (for a
developer's edge), or those that send an install key of their tenant, or those that an operator accepts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from hashlib import sha256
from hmac import compare_digest

from attrs import asdict, evolve, fields, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.wire.printable_text import printable

FILE = "devices.json"

PENDING, ACCEPTED, REJECTED = "pending", "accepted", "rejected"

MAX_PENDING = 1000
"""Devices that may wait to be accepted; any program may register one."""

WRITE_SECONDS = 1.0
"""Seconds after a change until the file is written."""

MAX_TEXT_LENGTH = 4096
"""Characters of the longest text of a device that is kept."""

_NAME = re.compile(r"[^a-z0-9-]+")


@frozen(kw_only=True)
class Device:
    """
    One device.

    @ivar uid: its identity, 64 hexadecimal digits.
    @ivar tenant: the UUID of its tenant.
    @ivar namespace: the name of its tenant.
    @ivar name: its name, unique in the namespace.
    @ivar publicKey: PEM.
    @ivar status: L{PENDING}, L{ACCEPTED} or L{REJECTED}.
    @ivar about: its operating system and the version of its agent, as it reports them.
    @ivar known: when it first registered, in seconds since 1970.
    @ivar seen: when it last gave a sign of life, in seconds since 1970; written to the file with the next change.
    """

    uid: str
    tenant: str
    namespace: str
    name: str
    publicKey: str
    status: str = PENDING
    about: str = ""
    known: float = 0.0
    seen: float = 0.0

    @property
    def agent(self) -> str:
        """
        The name of the device on the edge, C{namespace.name}.
        """
        return f"{self.namespace}.{self.name}"


@frozen(kw_only=True)
class Tenant:
    """
    A tenant, whose devices may register.

    @ivar id: the UUID that its devices send.
    @ivar namespace: the first part of its devices' names.
    @ivar installKeys: the SHA-256, in hexadecimal digits, of the keys with which a device is accepted at once.
    """

    id: str
    namespace: str
    installKeys: tuple[str, ...] = ()


class DeviceStore:
    """
    All devices of an edge.

    @ivar automatic: whether all devices of all tenants are accepted.
    @ivar tenants: by their UUIDs; devices of others may not register, unless C{automatic}.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        state: StateDirectory | None = None,
        *,
        automatic: bool = False,
        tenants: Iterable[Tenant] = (),
        now: Callable[[], float] | None = None,
    ) -> None:
        """
        @param state: where the devices are kept; C{None} keeps nothing.
        @param now: returns seconds since 1970; by default the clock's seconds.
        @raise ConfigurationError: the file cannot be read.
        """
        self._clock = clock
        self._state = state
        self._now = now or clock.seconds
        self.automatic = automatic
        self.tenants = {tenant.id: tenant for tenant in tenants}
        self._devices: dict[tuple[str, str], Device] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._watchers: list[Callable[[Device], object]] = []
        self._writing: IDelayedCall | None = None
        self._read()

    def __len__(self) -> int:
        return len(self._devices)

    @property
    def devices(self) -> list[Device]:
        """
        All devices, in the order of their names.
        """
        return sorted(self._devices.values(), key=lambda device: device.agent)

    def find(self, tenant: str, uid: str) -> Device | None:
        """
        @return: C{None} for an unknown device.
        """
        return self._devices.get((tenant, uid))

    def findByName(self, agent: str) -> Device | None:
        """
        @param agent: C{namespace.name}.
        @return: C{None} for an unknown device.
        """
        key = self._names.get(agent)
        return None if key is None else self._devices[key]

    def watch(self, watcher: Callable[[Device], object]) -> None:
        """
        Call C{watcher} with each device whose status has changed, or that is forgotten (as rejected).
        """
        self._watchers.append(watcher)

    # For devices

    def register(
        self, *, uid: str, tenant: str, hostname: str, publicKey: str, about: str = "", installKey: str = ""
    ) -> Device:
        """
        A device registers, for the first time or again.

        @param uid: its identity, which the caller has computed.
        @param hostname: the requested name.
        @param installKey: C{""} if the device has sent none.
        @raise Denied: the tenant is unknown, or too many devices wait to be accepted.
        """
        theirs = self.tenants.get(tenant)
        if theirs is None and not self.automatic:
            raise Denied("unknown", "the tenant is unknown to this edge", tenant=printable(tenant, 64))
        if max(len(publicKey), len(about), len(tenant)) > MAX_TEXT_LENGTH:
            raise Denied("malformed", f"a value of the registration has more than {MAX_TEXT_LENGTH} characters")
        device = self._devices.get((tenant, uid))
        accepted = self.automatic or (theirs is not None and _isInstallKey(theirs, installKey))
        if device is None:
            namespace = theirs.namespace if theirs is not None else "dev"
            device = self._add(uid, tenant, namespace, hostname, publicKey, about, accepted)
        elif about and about != device.about:
            device = self._store(evolve(device, about=about))
        if accepted and device.status == PENDING:
            device = self._setStatus(device, ACCEPTED)
        return device

    def markSeen(self, device: Device) -> None:
        """
        A device has given a sign of life.
        """
        known = self._devices.get((device.tenant, device.uid))
        if known is not None:
            self._devices[device.tenant, device.uid] = evolve(known, seen=self._now())

    def _add(
        self, uid: str, tenant: str, namespace: str, hostname: str, publicKey: str, about: str, accepted: bool,
    ) -> Device:
        if not accepted and sum(device.status == PENDING for device in self._devices.values()) >= MAX_PENDING:
            raise Denied("limit", "too many devices wait to be accepted")
        now = self._now()
        device = Device(
            uid=uid, tenant=tenant, namespace=namespace, name=self._uniqueName(namespace, hostname, uid), publicKey=publicKey,
            status=ACCEPTED if accepted else PENDING, about=about, known=now, seen=now,
        )
        self.log.info(
            "new device {device}: {state}", device=device.agent, uid=uid, state=device.status, status="device",
        )
        return self._store(device)

    def _uniqueName(self, namespace: str, hostname: str, uid: str) -> str:
        """
        @return: a label for a device that no other device of the namespace has.
        """
        name = _NAME.sub("-", hostname.lower()).strip("-")[:50].strip("-") or uid[:12]
        return name if f"{namespace}.{name}" not in self._names else f"{name}-{uid[:8]}"

    # For operators

    def accept(self, agent: str) -> Device:
        """
        Accept a device.

        @param agent: C{namespace.name}, or the first digits of its identity, at least eight.
        @raise Denied: there is no such device, or there are several.
        """
        return self._setStatus(self.lookUp(agent), ACCEPTED)

    def reject(self, agent: str) -> Device:
        """
        Reject a device, and disconnect it.
        """
        return self._setStatus(self.lookUp(agent), REJECTED)

    def forget(self, agent: str) -> Device:
        """
        Disconnect a device and remove it; it may register again.
        """
        device = self.lookUp(agent)
        del self._devices[device.tenant, device.uid], self._names[device.agent]
        self._write()
        self._notify(evolve(device, status=REJECTED))
        return device

    def lookUp(self, agent: str) -> Device:
        """
        @param agent: as of L{accept}.
        @raise Denied: there is no such device, or there are several.
        """
        found = self.findByName(agent)
        if found is not None:
            return found
        several = [device for device in self._devices.values() if len(agent) >= 8 and device.uid.startswith(agent)]
        if len(several) != 1:
            raise Denied("unknown", f"there is no device {agent}" if not several else f"several devices begin with {agent}")
        return several[0]

    def _setStatus(self, device: Device, status: str) -> Device:
        if device.status == status:
            return device
        device = self._store(evolve(device, status=status))
        self.log.info("device {device} is {state}", device=device.agent, uid=device.uid, state=status, status="device")
        self._notify(device)
        return device

    def _notify(self, device: Device) -> None:
        for watcher in list(self._watchers):
            watcher(device)

    # The file

    def _store(self, device: Device) -> Device:
        key = device.tenant, device.uid
        self._devices[key] = device
        self._names[device.agent] = key
        self._write()
        return device

    def _read(self) -> None:
        text = None if self._state is None else self._state.read(FILE)
        if self._state is None or text is None:
            return
        known = {attribute.name for attribute in fields(Device)}
        try:
            for record in json.loads(text)["devices"]:
                device = Device(**{name: value for name, value in record.items() if name in known})
                self._devices[device.tenant, device.uid] = device
                self._names[device.agent] = device.tenant, device.uid
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigurationError(
                f"{self._state.path(FILE)} is not a valid list of devices; move it away to start without devices"
            ) from None

    def _write(self) -> None:
        if self._state is not None and self._writing is None:
            self._writing = self._clock.callLater(WRITE_SECONDS, self.flush)

    def flush(self) -> None:
        """
        Write the file now, if anything has changed.
        """
        writing, self._writing = self._writing, None
        if writing is None or self._state is None:
            return
        if writing.active():
            writing.cancel()
        try:
            records = [asdict(device) for device in self.devices]
            self._state.write(FILE, json.dumps({"devices": records}, indent=1) + "\n")
        except ConfigurationError as error:
            self.log.error("the list of devices could not be written: {reason}", reason=str(error))


def digestOfKey(key: str) -> str:
    """
    @return: the SHA-256 of an install key, in hexadecimal digits.
    """
    return sha256(key.encode("utf-8", "replace")).hexdigest()


def _isInstallKey(tenant: Tenant, key: str) -> bool:
    """
    @return: whether C{key} is one of the tenant's, in constant time for each of them.
    """
    if not key:
        return False
    digest = digestOfKey(key)
    return any(compare_digest(known.lower(), digest) for known in tenant.installKeys)
