"""
Records of configuration out of TOML files, with every mistake told exactly: its line, its key, and the nearest key there is.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Hashable, Iterable, Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from attrs import NOTHING, Attribute, AttrsInstance, evolve, fields, frozen

from tunnelstack.control.config.records import (
    EMBEDDED,
    AdminConfig,
    AgentConfig,
    AgentLimits,
    CertificateRecord,
    CheckerRecord,
    DeviceConfig,
    EdgeAddress,
    EdgeConfig,
    Limits,
    ListenerConfig,
    Route,
    ServiceConfig,
    ShellHubConfig,
    SSHConfig,
    TenantRecord,
    TokenRecord,
)
from tunnelstack.control.config.setting import keyOf
from tunnelstack.control.config.toml_lines import LineIndex, Path
from tunnelstack.errors import ConfigurationError

R = TypeVar("R", bound=AttrsInstance)

EDGE_SECTIONS: dict[str, tuple[type, bool]] = {
    "edge": (EdgeConfig, False), "limits": (Limits, False), "admin": (AdminConfig, False), "agent": (TokenRecord, True),
    "certificate": (CertificateRecord, True), "checker": (CheckerRecord, True), "route": (Route, True),
    "listener": (ListenerConfig, True), "shellhub": (ShellHubConfig, False), "tenant": (TenantRecord, True),
    "ssh": (SSHConfig, False),
}
"""The tables of an edge's file: the record each makes, and whether there may be many."""

AGENT_SECTIONS: dict[str, tuple[type, bool]] = {
    "agent": (AgentConfig, False), "limits": (AgentLimits, False), "edge": (EdgeAddress, True),
    "service": (ServiceConfig, True), "shellhub": (DeviceConfig, True),
}
"""The tables of an agent's file."""

TOKEN_SECTIONS: dict[str, tuple[type, bool]] = {"agent": (TokenRecord, True)}
"""The tables of the file in which an edge keeps the tokens that were made for it."""

TYPE_NAMES = {
    str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false",
    datetime: "a date and time such as 2027-01-31T12:00:00Z",
}  # fmt: skip


@frozen
class Mistake:
    """
    One thing that is wrong in a file.

    @ivar line: counted from one.
    """

    line: int
    says: str


class Mistakes(ConfigurationError):
    """
    A file that cannot be used.

    @ivar mistakes: all of them, in the order of their lines.
    """

    def __init__(self, name: str, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line))
        super().__init__("\n".join(f"{name}:{mistake.line}: {mistake.says}" for mistake in self.mistakes))


def readFile(path: str) -> str:
    """
    @raise ConfigurationError: it cannot be read, or is no text.
    """
    try:
        return FilePath(path).read_text("utf-8")
    except OSError as unreadable:
        raise ConfigurationError(f"{path} cannot be read: {unreadable.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} cannot be read: it is not UTF-8 text") from None


def parseEdge(text: str, name: str) -> EdgeConfig:
    """
    @param name: what the file is called in messages.
    @raise Mistakes: all that is wrong with it.
    """
    parser = _Parser(text, name, EDGE_SECTIONS)
    edge = parser.table(EdgeConfig, "edge")
    limits = parser.table(Limits, "limits")
    tokens = parser.tables(TokenRecord, "agent")
    admin = parser.table(AdminConfig, "admin")
    certificates = parser.tables(CertificateRecord, "certificate")
    checkers = parser.tables(CheckerRecord, "checker")
    routes = parser.tables(Route, "route")
    listeners = parser.tables(ListenerConfig, "listener")
    shellhub = parser.table(ShellHubConfig, "shellhub") if parser.hasSection("shellhub") else None
    tenants = parser.tables(TenantRecord, "tenant")
    ssh = parser.table(SSHConfig, "ssh")
    _checkDevices(parser, shellhub, tenants, ssh)
    parser.unique("agent", (token and token.tokenSha256.lower() for token in tokens), "the same token_sha256")
    parser.unique("route", (route and (route.host, route.path) for route in routes), "the same host and path")
    for index, listener in enumerate(listeners):
        if listener and bool(listener.clientCa) != bool(listener.clientAuth):
            parser.addMistake(("listener", index), "[[listener]] needs client_ca and client_auth together, or neither")
    for index, certificate in enumerate(certificates):
        if certificate and bool(certificate.sha256) == bool(certificate.subject):
            parser.addMistake(("certificate", index), "[[certificate]] needs either a sha256 or a subject")
    parser.finish()
    assert edge is not None and limits is not None and admin is not None and ssh is not None
    if listeners and not parser.hasKey("edge", "listen"):
        edge = evolve(edge, listen=())
    return evolve(
        edge, limits=limits, listeners=tuple(listeners), admin=admin,
        tokens=tuple(tokens), certificates=tuple(certificates), checkers=tuple(checkers),
        routes=tuple(routes), shellhub=shellhub, tenants=tuple(tenants), ssh=ssh,
    )


def _checkDevices(
    parser: _Parser, shellhub: ShellHubConfig | None, tenants: list[TenantRecord], ssh: SSHConfig | None,
) -> None:
    """
    What C{[shellhub]}, C{[[tenant]]} and C{[ssh]} have to do with each other.
    """
    parser.unique("tenant", (tenant and tenant.id.lower() for tenant in tenants), "the same id")
    parser.unique("tenant", (tenant and tenant.namespace for tenant in tenants), "the same namespace")
    if tenants and not parser.hasSection("shellhub"):
        parser.addMistake(("tenant", 0), "[[tenant]] is of no use without [shellhub]")
    for index, tenant in enumerate(tenants):
        if tenant and tenant.installKeysFile and shellhub and shellhub.policy != "install-key":
            parser.addMistake(
                ("tenant", index),
                'install_keys_file is of no use unless [shellhub] has policy = "install-key"',
            )
    if ssh and (ssh.vouch or ssh.jumpUsers) and not ssh.authorizedKeysFile:
        parser.addMistake(("ssh",), "[ssh] vouch and jump_users need an authorized_keys_file")


def parseTokens(text: str, name: str) -> tuple[TokenRecord, ...]:
    """
    @param name: what the file is called in messages.
    @raise Mistakes: all that is wrong with it.
    """
    parser = _Parser(text, name, TOKEN_SECTIONS)
    tokens = parser.tables(TokenRecord, "agent")
    parser.unique("agent", (token and token.tokenSha256.lower() for token in tokens), "the same token_sha256")
    parser.finish()
    return tuple(tokens)


def parseAgent(text: str, name: str) -> AgentConfig:
    """
    @param name: what the file is called in messages.
    @raise Mistakes: all that is wrong with it.
    """
    parser = _Parser(text, name, AGENT_SECTIONS)
    agent = parser.table(AgentConfig, "agent")
    limits = parser.table(AgentLimits, "limits")
    edges = parser.tables(EdgeAddress, "edge")
    services = parser.tables(ServiceConfig, "service")
    parser.unique("edge", (edge and edge.url for edge in edges), "the same url")
    parser.unique("service", (service and service.name for service in services), "the same name")
    devices = parser.tables(DeviceConfig, "shellhub")
    parser.unique("shellhub", (device and (device.url, device.tenant) for device in devices), "the same url and tenant")
    for index, device in enumerate(devices):
        if device and device.ssh != EMBEDDED and (device.authorizedKeysFile or device.passwordsFile or device.users):
            parser.addMistake(("shellhub", index), "[[shellhub]] has keys, passwords and users for ssh = \"embedded\" alone")
    parser.finish()
    assert agent is not None and limits is not None
    return evolve(agent, limits=limits, edges=tuple(edges), services=tuple(services), devices=tuple(devices))


def parse(text: str, name: str) -> EdgeConfig | AgentConfig:
    """
    Read a file of either kind: an agent's has C{[agent]}, C{[[edge]]}, C{[[service]]} or C{[[shellhub]]}, an edge's
    has C{[edge]}, C{[[agent]]}.

    @raise Mistakes: all that is wrong with it.
    """
    document = _load(text, name)
    ofAgent = isinstance(document.get("edge"), list) or isinstance(document.get("agent"), dict) or "service" in document
    ofAgent = ofAgent or isinstance(document.get("shellhub"), list)
    return parseAgent(text, name) if ofAgent else parseEdge(text, name)


def _load(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as broken:
        sentence, _, place = str(broken).partition(" (at ")
        numbered = re.match(r"line (\d+)", place)
        line = int(numbered.group(1)) if numbered else text.count("\n") + 1
        raise Mistakes(name, [Mistake(line, f"this is not TOML: {sentence}")]) from None


def nearest(word: str, known: Iterable[str]) -> str:
    """
    @return: a sentence that names the key somebody may have meant.
    """
    choices = list(known)
    close = get_close_matches(word, choices, 1, 0.5)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(choices)}"


class _Parser:
    """
    One file being read: records are asked for one by one, mistakes are gathered, and told at the end.
    """

    def __init__(self, text: str, name: str, sections: Mapping[str, tuple[type, bool]]) -> None:
        self._document = _load(text, name)
        self._lines = LineIndex(text)
        self._name = name
        self._mistakes: list[Mistake] = []
        for section in self._document:
            if section not in sections:
                self.addMistake((section,), f"there is no [{section}]; {nearest(section, sections)}")

    def table(self, record: type[R], section: str) -> R | None:
        """
        The record of C{[section]}, with every default where the file does not have it.
        """
        value = self._document.get(section, {})
        if not isinstance(value, dict):
            self.addMistake((section,), f"{section} must be a table, [{section}]")
            return None
        return self._record(record, value, (section,))

    def tables(self, record: type[R], section: str) -> list[R]:
        """
        The records of all C{[[section]]}.  One that is wrong is C{None}, which nobody sees because L{finish} raises.
        """
        value = self._document.get(section, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.addMistake((section,), f"{section} may be there several times: [[{section}]]")
            return []
        return [self._record(record, item, (section, index)) for index, item in enumerate(value)]  # type: ignore[misc]

    def hasSection(self, section: str) -> bool:
        """
        Whether the file has a table of that name.
        """
        return section in self._document

    def hasKey(self, section: str, key: str) -> bool:
        """
        Whether the file says something about a key.
        """
        return key in self._document.get(section, {})

    def unique(self, section: str, keys: Iterable[Hashable], described: str) -> None:
        """
        No two of C{[[section]]} have the same key.
        """
        seen: dict[Hashable, int] = {}
        for index, key in enumerate(keys):
            first = seen.setdefault(key, index)
            if key is not None and first != index:
                line = self._lines.lineOf((section, first))
                self.addMistake((section, index), f"[[{section}]] has {described} as the one on line {line}")

    def finish(self) -> None:
        """
        @raise Mistakes: there were some.
        """
        if self._mistakes:
            raise Mistakes(self._name, self._mistakes)

    def _record(self, record: type[R], table: dict[str, Any], at: Path) -> R | None:
        known = {keyOf(attribute.name): attribute for attribute in fields(record) if attribute.metadata["inFile"]}
        types = get_type_hints(record)
        before = len(self._mistakes)
        values = {}
        for key, value in table.items():
            attribute = known.get(key)
            if attribute is None:
                self.addMistake((*at, key), f"{_sectionTitle(at)} has no key {key}; {nearest(key, known)}")
            else:
                values[attribute.name] = self._value(attribute, types[attribute.name], value, (*at, key))
        for key, attribute in known.items():
            if attribute.default is NOTHING and key not in table:
                self.addMistake(at, f"{_sectionTitle(at)} needs a {key}: {attribute.metadata['says']}")
        return record(**values) if len(self._mistakes) == before else None

    def _value(self, attribute: Attribute[Any], kind: Any, value: Any, at: Path) -> Any:
        converted = _convert(kind, value)
        if converted is NOTHING:
            self.addMistake(at, f"{at[-1]} must be {_typeName(kind)}, not {value!r}")
        elif attribute.metadata["check"] is not None:
            try:
                attribute.metadata["check"](converted)
            except ConfigurationError as mistake:
                self.addMistake(at, f"{at[-1]} {mistake}")
        return converted

    def addMistake(self, at: Path, says: str) -> None:
        """
        Something is wrong there.
        """
        self._mistakes.append(Mistake(self._lines.lineOf(at), says))


def _convert(kind: Any, value: Any) -> Any:
    """
    @return: the value as the record's attribute wants it, or C{NOTHING}.
    """
    if get_origin(kind) is tuple:
        wanted = get_args(kind)[0]
        if isinstance(value, list) and all(type(item) is wanted for item in value):
            return tuple(value)
        return NOTHING
    if kind is float and type(value) is int:
        return float(value)
    return value if type(value) is kind else NOTHING


def _typeName(kind: Any) -> str:
    return f"a list of {TYPE_NAMES[get_args(kind)[0]]}" if get_origin(kind) is tuple else TYPE_NAMES[kind]


def _sectionTitle(at: Path) -> str:
    return f"[[{at[0]}]]" if len(at) > 1 else f"[{at[0]}]"
