"""
The sandboxes that an edge accepts: those of its configuration, and those that a command has added, which are kept in a file.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from hashlib import sha256
from hmac import compare_digest

from attrs import asdict, frozen
from twisted.logger import Logger

from tunnelstack.dialect.agentserver.settings import SandboxSettings, checkIdentifier
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.settings.validators import checkDigest, checkLabel

FILE = "sandboxes.json"

NO_TOKEN = sha256(b"").hexdigest()
"""Compared with the token of a sandbox that is not known, so that this takes as long."""


@frozen(kw_only=True)
class Sandbox:
    """
    A sandbox, as the store keeps it.

    @ivar id: the C{sandbox_id}.
    @ivar name: the name of its agent and of its web service.
    @ivar tokenSha256: the SHA-256 of its C{tunnel_token}.
    @ivar configured: it belongs to the configuration, so that no command can revoke it.
    """

    id: str
    name: str
    tokenSha256: str
    configured: bool = False


class SandboxStore:
    """
    All sandboxes of an edge.
    """

    log = Logger()

    def __init__(self, state: StateDirectory | None = None, configured: Iterable[SandboxSettings] = ()) -> None:
        """
        @param state: where added sandboxes are kept; C{None} if none can be added.
        @raise ConfigurationError: the file cannot be read, or contains a sandbox of the configuration.
        """
        self._state = state
        self._watchers: list[Callable[[str], object]] = []
        self._added = {each.id: each for each in self._read()}
        self._configured = _fromSettings(configured)
        self._checkConflicts(self._configured)

    @property
    def sandboxes(self) -> list[Sandbox]:
        """
        All sandboxes, by name.
        """
        return sorted((*self._configured.values(), *self._added.values()), key=lambda each: each.name)

    def find(self, identifier: str) -> Sandbox | None:
        return self._configured.get(identifier) or self._added.get(identifier)

    def authenticate(self, identifier: str, token: str) -> Sandbox | None:
        """
        @return: the sandbox whose token this is; C{None} if there is no such sandbox, or it has another token.
        """
        sandbox = self.find(identifier)
        shown = digestOf(token)
        known = NO_TOKEN if sandbox is None else sandbox.tokenSha256
        return sandbox if compare_digest(known, shown) and sandbox is not None else None

    def watch(self, watcher: Callable[[str], object]) -> None:
        """
        Call C{watcher} with the id of each sandbox that is revoked, or has changed.
        """
        self._watchers.append(watcher)

    # Commands

    def add(self, name: str, identifier: str = "", tokenSha256: str = "") -> tuple[Sandbox, str]:
        """
        Accept another sandbox.

        @param identifier: its id; C{""} for a new one.
        @param tokenSha256: of its token; C{""} for a new one.
        @return: the sandbox, and its token if that is new.
        @raise Denied: the name or the id is taken or malformed, or there is no state folder.
        """
        if self._state is None:
            raise Denied("unsupported", "this edge has no state folder, so no sandbox can be added")
        token = "" if tokenSha256 else secrets.token_urlsafe(32)
        sandbox = Sandbox(
            id=identifier or f"sbx-{secrets.token_hex(8)}", name=name, tokenSha256=tokenSha256.lower() or digestOf(token)
        )
        _check(sandbox)
        for other in self.sandboxes:
            if sandbox.id == other.id or sandbox.name == other.name:
                what = f"the name {name}" if sandbox.name == other.name else f"the id {identifier}"
                raise Denied("taken", f"{what} belongs to a sandbox already", id=other.id)
        self._write({**self._added, sandbox.id: sandbox})
        self.log.info("sandbox {sandbox} is accepted", sandbox=name, id=sandbox.id, status="sandbox")
        return sandbox, token

    def revoke(self, which: str) -> Sandbox:
        """
        Accept a sandbox no longer.

        @param which: its id or name.
        @raise Denied: there is none, or it belongs to the configuration.
        """
        sandbox = self.find(which) or next((each for each in self.sandboxes if each.name == which), None)
        if sandbox is None:
            raise Denied("unknown", f"there is no sandbox {which}")
        if sandbox.configured:
            raise Denied("not-allowed", f"the sandbox {which} belongs to the configuration file: remove it there")
        self._write({identifier: each for identifier, each in self._added.items() if each is not sandbox})
        self.log.info("sandbox {sandbox} is revoked", sandbox=sandbox.name, id=sandbox.id, status="sandbox")
        self._notify(sandbox.id)
        return sandbox

    # Another configuration

    def prepare(self, configured: Iterable[SandboxSettings]) -> Callable[[], None]:
        """
        Check other sandboxes of the configuration.

        @return: a function that accepts them instead of the former ones.
        @raise ConfigurationError: one of them was added by a command.
        """
        becomes = _fromSettings(configured)
        self._checkConflicts(becomes)

        def apply() -> None:
            before, self._configured = self._configured, becomes
            for identifier, sandbox in before.items():
                if becomes.get(identifier) != sandbox:
                    self._notify(identifier)

        return apply

    def _checkConflicts(self, configured: dict[str, Sandbox]) -> None:
        names = {each.name for each in self._added.values()}
        for each in configured.values():
            if each.id in self._added or each.name in names:
                raise ConfigurationError(
                    f"the sandbox {each.name} ({each.id}) of the configuration was added by a command as well: revoke that one"
                )

    def _notify(self, identifier: str) -> None:
        for watcher in list(self._watchers):
            watcher(identifier)

    # The file

    def _read(self) -> list[Sandbox]:
        text = None if self._state is None else self._state.read(FILE)
        if text is None:
            return []
        try:
            found = [
                Sandbox(id=each["id"], name=each["name"], tokenSha256=each["tokenSha256"])
                for each in json.loads(text)["sandboxes"]
            ]
            for sandbox in found:
                _check(sandbox)
        except (ValueError, KeyError, TypeError, Denied):
            raise ConfigurationError(
                f"{self._state and self._state.path(FILE)} cannot be read; move it away to begin without these sandboxes"
            ) from None
        return found

    def _write(self, added: dict[str, Sandbox]) -> None:
        """
        Keep these sandboxes, if they can be written.
        """
        assert self._state is not None
        records = [asdict(each, filter=lambda attribute, _: attribute.name != "configured") for each in added.values()]
        self._state.write(FILE, json.dumps({"sandboxes": records}, indent=1) + "\n")
        self._added = added


def digestOf(token: str) -> str:
    """
    @return: what is kept of a token.
    """
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _fromSettings(configured: Iterable[SandboxSettings]) -> dict[str, Sandbox]:
    return {
        each.id: Sandbox(id=each.id, name=each.name, tokenSha256=each.tokenSha256.lower(), configured=True)
        for each in configured
    }


def _check(sandbox: Sandbox) -> None:
    """
    @raise Denied: one of its texts is malformed.
    """
    checks = (
        ("id", checkIdentifier, sandbox.id), ("name", checkLabel, sandbox.name),
        ("token_sha256", checkDigest, sandbox.tokenSha256),
    )  # fmt: skip
    for what, check, value in checks:
        try:
            check(value)
        except ConfigurationError as wrong:
            raise Denied("malformed", f"the {what} of a sandbox {wrong}") from None
