"""
The tunnels of an edge: which name each has, whose it is, and the digest of the token with which its agents register.

A tunnel remains while no agent serves it.  What is kept in the state folder contains no secret.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from time import time
from typing import Any

from attrs import Factory, asdict, evolve, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from tunnelstack.dialect.jetty.registration import HTTP, PROTOCOLS
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.records import Principal
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.settings.validators import checkLabel
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.jetty_bridge import BadBody, rules_untrusted
from tunnelstack.wire.records.jetty_rules import RoutingRule

FILE = "jetty_tunnels.json"

MOST_TUNNELS, MOST_OF_OWNER = 10_000, 100
"""Tunnels of an edge, and of one owner."""

WRITE_SECONDS = 1.0
"""Seconds after a change until the file is written.  Agents whose token is lost in between fetch another one."""

NO_TOKEN = sha256(b"").hexdigest()
"""Compared with the token of a tunnel that is not known, so that this takes as long."""

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

RESERVED = frozenset(
    ("www", "api", "app", "admin", "edge", "agent", "status", "docs", "mail", "ns1", "ns2", "tunnels", "internal")
)
"""Names that no tunnel gets."""


@frozen(kw_only=True)
class StoredTunnel:
    """
    A tunnel.

    @ivar id: a ULID: later ones are greater.
    @ivar subdomain: the name of its service.
    @ivar owner: the name of the agent whose credential created it.
    @ivar principal: the owner with the rights at the time of the last attachment; C{None} before the first one.
    @ivar localTarget: C{host:port}, as the agent reported it; C{""} before the first attachment.
    @ivar server: which of the owner's servers it is for; C{""} if it has one only.
    @ivar tokenSha256: the SHA-256 of the token of its agents; C{""} if none was issued.
    @ivar port: of the edge, for TCP and UDP; C{0} for any.
    @ivar expires: in seconds since 1970; C{0.0} never.
    @ivar rules: other local servers for some requests.
    """

    id: str
    subdomain: str
    owner: str
    protocol: str = HTTP
    principal: Principal | None = None
    localTarget: str = ""
    server: str = ""
    tokenSha256: str = ""
    port: int = 0
    expires: float = 0.0
    rules: tuple[RoutingRule, ...] = Factory(tuple)


def newIdentifier(now: float) -> str:
    """
    @param now: in seconds since 1970.
    @return: a ULID: 48 bits of milliseconds and 80 random bits, in Crockford's base 32.
    """
    number = (int(now * 1000) & ((1 << 48) - 1)) << 80 | secrets.randbits(80)
    return "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def digestOf(token: str) -> str:
    """
    @return: what is kept of a token.
    """
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class TunnelStore:
    """
    All tunnels of an edge.

    @ivar now: gives the seconds since 1970.
    """

    log = Logger()

    def __init__(
        self, state: StateDirectory | None, clock: IReactorTime, now: Callable[[], float] = time
    ) -> None:
        """
        @param state: where tunnels are kept; C{None} keeps nothing.
        @param now: gives the seconds since 1970.
        @raise ConfigurationError: the file cannot be read.
        """
        self._state = state
        self._clock = clock
        self.now = now
        self._writing: IDelayedCall | None = None
        self._watchers: list[Callable[[StoredTunnel], object]] = []
        self._tunnels = {each.id: each for each in self._read()}
        self._names = {each.subdomain: each.id for each in self._tunnels.values()}

    @property
    def tunnels(self) -> list[StoredTunnel]:
        """
        All tunnels, by name.
        """
        self._expire()
        return sorted(self._tunnels.values(), key=lambda each: each.subdomain)

    def of(self, owner: str) -> list[StoredTunnel]:
        """
        @return: the tunnels of an owner, by name.
        """
        return [each for each in self.tunnels if each.owner == owner]

    def find(self, identifier: str) -> StoredTunnel | None:
        """
        @return: C{None} if there is no such tunnel, or it has expired.
        """
        tunnel = self._tunnels.get(identifier)
        if tunnel is not None and self._hasExpired(tunnel):
            self.remove(identifier)
            return None
        return tunnel

    def named(self, subdomain: str) -> StoredTunnel | None:
        """
        @return: the tunnel of this name, or C{None}.
        """
        return self.find(self._names.get(subdomain, ""))

    def hasToken(self, identifier: str, token: str) -> bool:
        """
        @return: whether a token is the one that was issued last for a tunnel.  The time does not depend on it.
        """
        tunnel = self.find(identifier)
        known = tunnel.tokenSha256 if tunnel is not None else ""
        return compare_digest(known or NO_TOKEN, digestOf(token)) and bool(known)

    def rulesOf(self, identifier: str) -> tuple[RoutingRule, ...]:
        """
        @return: the rules of a tunnel at present; this is called for each request.
        """
        tunnel = self._tunnels.get(identifier)
        return tunnel.rules if tunnel is not None else ()

    def watch(self, watcher: Callable[[StoredTunnel], object]) -> None:
        """
        Call C{watcher} with each tunnel that is removed.
        """
        self._watchers.append(watcher)

    # Changes

    def add(
        self, subdomain: str, owner: str, protocol: str = HTTP, *, port: int = 0, expiresIn: float = 0.0
    ) -> StoredTunnel:
        """
        Create a tunnel, which has no token yet.

        @raise Denied: C{malformed} or C{taken}: the name cannot be used; C{limit}: there are too many tunnels.
        """
        checkName(subdomain)
        if self.named(subdomain) is not None:
            raise Denied("taken", f"the name {subdomain} belongs to a tunnel already", name=subdomain)
        if len(self.of(owner)) >= MOST_OF_OWNER:
            raise Denied("limit", f"{owner} has {MOST_OF_OWNER} tunnels already; delete one")
        if len(self._tunnels) >= MOST_TUNNELS:
            raise Denied("limit", "this edge has no room for further tunnels")
        now = self.now()
        tunnel = StoredTunnel(
            id=newIdentifier(now), subdomain=subdomain, owner=owner, protocol=protocol, port=port,
            expires=now + expiresIn if expiresIn else 0.0,
        )
        self.log.info("tunnel {tunnel} of {agent} is created", tunnel=subdomain, agent=owner, id=tunnel.id, status="tunnel")
        return self._put(tunnel)

    def attach(self, tunnel: StoredTunnel, principal: Principal, **changes: Any) -> tuple[StoredTunnel, str]:
        """
        Issue a new token for the agents of a tunnel.  The former one becomes invalid.

        @param principal: the owner, with its present rights.
        @param changes: further attributes.
        @return: the tunnel, and the token.
        """
        token = secrets.token_urlsafe(32)
        return self._put(evolve(tunnel, principal=principal, tokenSha256=digestOf(token), **changes)), token

    def remove(self, identifier: str) -> StoredTunnel | None:
        """
        Remove a tunnel.

        @return: it; C{None} if there was none.
        """
        tunnel = self._tunnels.pop(identifier, None)
        if tunnel is not None:
            del self._names[tunnel.subdomain]
            self.log.info("tunnel {tunnel} is removed", tunnel=tunnel.subdomain, id=tunnel.id, status="tunnel")
            self._changed()
            for watcher in self._watchers:
                watcher(tunnel)
        return tunnel

    def _put(self, tunnel: StoredTunnel) -> StoredTunnel:
        self._tunnels[tunnel.id] = tunnel
        self._names[tunnel.subdomain] = tunnel.id
        self._changed()
        return tunnel

    def _hasExpired(self, tunnel: StoredTunnel) -> bool:
        return bool(tunnel.expires) and tunnel.expires <= self.now()

    def _expire(self) -> None:
        for tunnel in [each for each in self._tunnels.values() if self._hasExpired(each)]:
            self.remove(tunnel.id)

    # The file

    def _changed(self) -> None:
        if self._state is not None and self._writing is None:
            self._writing = self._clock.callLater(WRITE_SECONDS, self.flush)

    def flush(self) -> None:
        """
        Write what has changed.
        """
        call, self._writing = self._writing, None
        if call is None or self._state is None:
            return
        if call.active():
            call.cancel()
        records = [asdict(each) for each in self._tunnels.values()]
        try:
            self._state.write(FILE, json.dumps({"tunnels": records}, indent=1) + "\n")
        except ConfigurationError as unwritable:
            self.log.error("tunnels cannot be kept: {reason}", reason=str(unwritable))

    def _read(self) -> list[StoredTunnel]:
        text = None if self._state is None else self._state.read(FILE)
        if text is None:
            return []
        try:
            return [_stored(each) for each in json.loads(text)["tunnels"]]
        except (ValueError, KeyError, TypeError, AttributeError, ConfigurationError, Denied, BadBody):
            raise ConfigurationError(
                f"{self._state and self._state.path(FILE)} cannot be read; move it away to begin without its tunnels"
            ) from None


def checkName(subdomain: str) -> None:
    """
    @raise Denied: no tunnel can have this name.
    """
    try:
        checkLabel(subdomain)
    except ConfigurationError as wrong:
        raise Denied("malformed", f"the subdomain {wrong}") from None
    if subdomain in RESERVED:
        raise Denied("taken", f"the name {printable(subdomain, 63)} is reserved", name=subdomain)


def _stored(record: Mapping[str, Any]) -> StoredTunnel:
    """
    @raise Exception: several kinds; the record is not one of ours.
    """
    principal = record["principal"]
    known = {**record, "rules": rules_untrusted(record["rules"])}
    if principal is not None:
        known["principal"] = Principal(**{**principal, "allow": tuple(principal["allow"])})
    tunnel = StoredTunnel(**known)
    checkName(tunnel.subdomain)
    texts = (tunnel.id, tunnel.owner, tunnel.localTarget, tunnel.server, tunnel.tokenSha256)
    if tunnel.protocol not in PROTOCOLS or not all(isinstance(each, str) for each in texts):
        raise ValueError("not a tunnel")
    if not (isinstance(tunnel.port, int) and isinstance(tunnel.expires, float | int)):
        raise ValueError("not a tunnel")
    return tunnel
