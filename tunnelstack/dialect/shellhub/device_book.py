"""
The devices that have made themselves known to an edge, and whether they are let in.

A device is known by a digest of what it is made of; who accepts it is policy: everybody (for a developer's edge), whoever shows
an install key of its tenant, or an operator, later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from attrs import asdict, evolve, fields, frozen
from twisted.logger import Logger

from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.settings.state_dir import StateDirectory

FILE = "devices.json"

PENDING, ACCEPTED, REJECTED = "pending", "accepted", "rejected"

MAX_PENDING = 1000
"""Devices that may wait to be accepted: anybody may ask."""

WRITE_SECONDS = 1.0
"""Seconds that changes are gathered for one writing of the file."""

MAX_TEXT_LENGTH = 4096
"""Characters of the longest text of a device that is kept."""

_NAME = re.compile(r"[^a-z0-9-]+")


@frozen(kw_only=True)
class Device:
    """
    One device.

    @ivar uid: its digest, 64 hexadecimal digits.
    @ivar tenant: whose it is.
    @ivar namespace: the tenant's name, as people write it.
    @ivar name: unique in its namespace.
    @ivar publicKey: PEM.
    @ivar status: L{PENDING}, L{ACCEPTED} or L{REJECTED}.
    @ivar about: what it says of itself (operating system, version).
    @ivar known: when it first asked, in seconds since 1970.
    @ivar seen: when it was last heard, as far as that was written down.
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
        Its name on the edge.
        """
        return f"{self.namespace}.{self.name}"


@frozen(kw_only=True)
class Tenant:
    """
    Somebody whose devices may ask.

    @ivar id: as the devices say it.
    @ivar namespace: as people do.
    @ivar installKeys: SHA-256, in hexadecimal digits, of the keys that let a device in at once.
    """

    id: str
    namespace: str
    installKeys: tuple[str, ...] = ()


class DeviceStore:
    """
    All devices of an edge.

    @ivar automatic: every device of every tenant is accepted.
    @ivar tenants: by their identifiers; devices of others are not listened to, unless C{automatic}.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        state: StateDirectory | None = None,
        *,
        automatic: bool = False,
        tenants: Iterable[Tenant] = (),
        now: Callable[[], float] | None = None,
    ) -> None:
        """
        @param state: where it is kept; C{None} keeps nothing.
        @param now: seconds since 1970; the clock's unless given.
        @raise ConfigurationError: what is kept cannot be read.
        """
        self._clock = clock
        self._state = state
        self._now = now or clock.seconds
        self.automatic = automatic
        self.tenants = {tenant.id: tenant for tenant in tenants}
        self._devices: dict[tuple[str, str], Device] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._watchers: list[Callable[[Device], object]] = []
        self._writing: Any = None
        self._read()

    def __len__(self) -> int:
        return len(self._devices)

    @property
    def devices(self) -> list[Device]:
        """
        All of them, by name.
        """
        return sorted(self._devices.values(), key=lambda device: device.agent)

    def find(self, tenant: str, uid: str) -> Device | None:
        """
        @return: C{None} for one that is not known.
        """
        return self._devices.get((tenant, uid))

    def findByName(self, agent: str) -> Device | None:
        """
        @param agent: C{namespace.name}.
        """
        key = self._names.get(agent)
        return None if key is None else self._devices[key]

    def watch(self, watcher: Callable[[Device], object]) -> None:
        """
        Call somebody with each device whose status changes, or that is forgotten (as rejected).
        """
        self._watchers.append(watcher)

    # What devices do

    def register(
        self, *, uid: str, tenant: str, hostname: str, publicKey: str, about: str = "", installKey: str = ""
    ) -> Device:
        """
        A device makes itself known, not for the first time perhaps.

        @param uid: checked against what it is made of.
        @param hostname: what it would like to be called.
        @param installKey: C{""} if it shows none.
        @return: what is known of it now.
        @raise Denied: its tenant is not known, or too many wait already.
        """
        theirs = self.tenants.get(tenant)
        if theirs is None and not self.automatic:
            raise Denied("unknown", "this tenant is not known to this edge", tenant=tenant[:64])
        if max(len(publicKey), len(about), len(tenant)) > MAX_TEXT_LENGTH:
            raise Denied("malformed", "this device says too much of itself")
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
        It is there; kept when something else is.
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
            "device {device} is new: {state}", device=device.agent, uid=uid, state=device.status, status="device",
        )
        return self._store(device)

    def _uniqueName(self, namespace: str, hostname: str, uid: str) -> str:
        """
        A label that is not taken.
        """
        name = _NAME.sub("-", hostname.lower()).strip("-")[:50].strip("-") or uid[:12]
        return name if f"{namespace}.{name}" not in self._names else f"{name}-{uid[:8]}"

    # What operators do

    def accept(self, agent: str) -> Device:
        """
        Let a device in.

        @param agent: C{namespace.name}, or the beginning of its digest (eight digits or more).
        @raise Denied: there is none, or there are several.
        """
        return self._setStatus(self.lookUp(agent), ACCEPTED)

    def reject(self, agent: str) -> Device:
        """
        Do not let it in, and send it away.
        """
        return self._setStatus(self.lookUp(agent), REJECTED)

    def forget(self, agent: str) -> Device:
        """
        Send it away, and know nothing of it; it may ask again.
        """
        device = self.lookUp(agent)
        del self._devices[device.tenant, device.uid], self._names[device.agent]
        self._write()
        self._notify(evolve(device, status=REJECTED))
        return device

    def lookUp(self, agent: str) -> Device:
        """
        @raise Denied: there is none, or there are several.
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
        self.log.info("device {device} is {state} now", device=device.agent, uid=device.uid, state=status, status="device")
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
        if text is None:
            return
        known = {attribute.name for attribute in fields(Device)}
        try:
            for said in json.loads(text)["devices"]:
                device = Device(**{name: value for name, value in said.items() if name in known})
                self._devices[device.tenant, device.uid] = device
                self._names[device.agent] = device.tenant, device.uid
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigurationError(
                f"{self._state and self._state.path(FILE)} cannot be read; move it away to begin without devices"
            ) from None

    def _write(self) -> None:
        if self._state is not None and self._writing is None:
            self._writing = self._clock.callLater(WRITE_SECONDS, self.flush)

    def flush(self) -> None:
        """
        Write what has changed, now.
        """
        writing, self._writing = self._writing, None
        if writing is None or self._state is None:
            return
        if writing.active():
            writing.cancel()
        try:
            said = [asdict(device) for device in self.devices]
            self._state.write(FILE, json.dumps({"devices": said}, indent=1) + "\n")
        except ConfigurationError as unwritable:
            self.log.error("devices cannot be kept: {reason}", reason=str(unwritable))


def digestOfKey(key: str) -> str:
    """
    What is kept of an install key.
    """
    return sha256(key.encode("utf-8", "replace")).hexdigest()


def _isInstallKey(tenant: Tenant, key: str) -> bool:
    """
    Whether a key lets in.
    """
    if not key:
        return False
    shown = digestOfKey(key)
    return any(compare_digest(known.lower(), shown) for known in tenant.installKeys)
