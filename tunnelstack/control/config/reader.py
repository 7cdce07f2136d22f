"""
Parse TOML files into records of configuration.  Each mistake is reported with its line, its key, and the nearest known key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Hashable, Iterable, Mapping
from datetime import datetime
from typing import TypeVar, get_args, get_origin, get_type_hints

from attrs import NOTHING, Attribute, AttrsInstance, evolve, fields, frozen

from tunnelstack.control.config.records import (
    AdminConfig,
    AgentConfig,
    AgentLimits,
    AgentMetricsConfig,
    CertificateRecord,
    CheckerRecord,
    EdgeAddress,
    EdgeConfig,
    InspectConfig,
    Limits,
    ListenerConfig,
    MetricsConfig,
    Route,
    ServiceConfig,
    SSHConfig,
    TokenRecord,
    TracingConfig,
)
from tunnelstack.control.config.toml_lines import LineIndex, Path
from tunnelstack.control.config.upkeep import HealthCheck, SamplesConfig
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.dialects import dialectPackages
from tunnelstack.settings.record import Record
from tunnelstack.settings.setting import formatValue, keyOf
from tunnelstack.settings.suggestion import nearest
from tunnelstack.settings.tables import DialectTables, Records, Table, Tables

R = TypeVar("R", bound=AttrsInstance)

Sections = Mapping[str, tuple[type, bool]]

EDGE_SECTIONS: Sections = {
    "edge": (EdgeConfig, False), "limits": (Limits, False), "admin": (AdminConfig, False), "agent": (TokenRecord, True),
    "certificate": (CertificateRecord, True), "checker": (CheckerRecord, True), "route": (Route, True),
    "health": (HealthCheck, True), "samples": (SamplesConfig, False),
    "listener": (ListenerConfig, True), "ssh": (SSHConfig, False), "metrics": (MetricsConfig, False),
    "tracing": (TracingConfig, False),
}
"""The tables of an edge's file without those of dialects: the class of their records, and whether there may be several."""

AGENT_SECTIONS: Sections = {
    "agent": (AgentConfig, False), "limits": (AgentLimits, False), "edge": (EdgeAddress, True),
    "service": (ServiceConfig, True), "metrics": (AgentMetricsConfig, False), "tracing": (TracingConfig, False),
    "inspect": (InspectConfig, False),
}
"""The tables of an agent's file without those of dialects."""

TOKEN_SECTIONS: Sections = {"agent": (TokenRecord, True)}
"""The tables of the file with the tokens that were made for an edge."""

OWN_TABLES = {"edge": "[edge] and [[agent]]", "agent": "[agent], [[edge]] and [[service]]"}
"""The tables by which messages distinguish the files of both roles."""

TYPE_NAMES = {
    str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false",
    datetime: "a date and time such as 2027-01-31T12:00:00Z",
}  # fmt: skip


def _tablesWith(key: str, sections: Sections) -> list[str]:
    """
    @return: the tables that have a key, as they are written.
    """
    return [
        f"[[{name}]]" if several else f"[{name}]"
        for name, (record, several) in sections.items()
        if key in {keyOf(each.name) for each in fields(record) if each.metadata.get("inFile", True)}
    ]


@frozen(eq=False, repr=False)
class Mistake(Record):
    """
    A mistake in a file.

    @ivar line: counted from one.
    @ivar says: the message.
    """

    line: int
    says: str


class Mistakes(ConfigurationError):
    """
    A file has mistakes.

    @ivar mistakes: all of them, in the order of their lines.
    """

    def __init__(self, name: str, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line))
        super().__init__("\n".join(f"{name}:{mistake.line}: {mistake.says}" for mistake in self.mistakes))


def edgeSections() -> Sections:
    """
    @return: the tables of an edge's file, with those of dialects.
    """
    return {**EDGE_SECTIONS, **_dialectSections("edge")}


def agentSections() -> Sections:
    """
    @return: the tables of an agent's file, with those of dialects.
    """
    return {**AGENT_SECTIONS, **_dialectSections("agent")}


def _dialectSections(role: str) -> Sections:
    return {
        name: (table.record, table.many)
        for package in dialectPackages() for name, table in getattr(package.settings, role).items()
    }  # fmt: skip


def parseEdge(text: str, name: str) -> EdgeConfig:
    """
    @param name: the name of the file in messages.
    @raise Mistakes: the file has mistakes.
    """
    parser = _Parser(text, name, edgeSections())
    _checkRole(parser.document, name, "edge")
    edge = parser.table(EdgeConfig, "edge")
    limits = parser.table(Limits, "limits")
    tokens = parser.tables(TokenRecord, "agent")
    admin = parser.table(AdminConfig, "admin")
    certificates = parser.tables(CertificateRecord, "certificate")
    checkers = parser.tables(CheckerRecord, "checker")
    routes = parser.tables(Route, "route")
    samples = parser.table(SamplesConfig, "samples")
    health = parser.tables(HealthCheck, "health")
    listeners = parser.tables(ListenerConfig, "listener")
    ssh = parser.table(SSHConfig, "ssh")
    metrics = parser.table(MetricsConfig, "metrics")
    tracing = parser.table(TracingConfig, "tracing")
    dialects = _dialects(parser, "edge")
    if ssh and (ssh.vouch or ssh.jumpUsers) and not ssh.authorizedKeysFile:
        parser.addMistake(("ssh",), "[ssh] vouch and jump_users need an authorized_keys_file")
    parser.unique("agent", (token and token.tokenSha256.lower() for token in tokens), "the same token_sha256")
    parser.unique("route", (route and (route.host, route.path) for route in routes), "the same host and path")
    parser.unique("health", (check and check.to for check in health), "the same to")
    for index, listener in enumerate(listeners):
        if listener and bool(listener.clientCa) != bool(listener.clientAuth):
            parser.addMistake(("listener", index), "[[listener]] needs client_ca and client_auth together, or neither")
    for index, certificate in enumerate(certificates):
        if certificate and bool(certificate.sha256) == bool(certificate.subject):
            parser.addMistake(("certificate", index), "[[certificate]] needs either a sha256 or a subject")
    parser.finish()
    assert edge is not None and limits is not None and admin is not None and ssh is not None
    assert metrics is not None and tracing is not None and samples is not None
    if listeners and not parser.hasKey("edge", "listen"):
        edge = evolve(edge, listen=())
    return evolve(
        edge, limits=limits, listeners=tuple(listeners), admin=admin,
        tokens=tuple(tokens), certificates=tuple(certificates), checkers=tuple(checkers),
        routes=tuple(routes), health=tuple(health), dialects=dialects, ssh=ssh, metrics=metrics, tracing=tracing,
        samples=samples,
    )


def _dialects(parser: _Parser, role: str) -> DialectTables:
    """
    @param role: C{"edge"} or C{"agent"}.
    @return: the tables of dialects in the file.
    """
    found: dict[str, Records] = {}
    for package in dialectPackages():
        settings = package.settings
        tables: Mapping[str, Table] = getattr(settings, role)
        records = {name: parser.records(name, table) for name, table in tables.items() if parser.hasSection(name)}
        if records:
            check = settings.checkEdge if role == "edge" else settings.checkAgent
            check(Tables(records, parser.hasSection, parser.addMistake))
            found[package.name] = records
    return found


def parseTokens(text: str, name: str) -> tuple[TokenRecord, ...]:
    """
    @param name: the name of the file in messages.
    @raise Mistakes: the file has mistakes.
    """
    parser = _Parser(text, name, TOKEN_SECTIONS)
    tokens = parser.tables(TokenRecord, "agent")
    parser.unique("agent", (token and token.tokenSha256.lower() for token in tokens), "the same token_sha256")
    parser.finish()
    return tuple(tokens)


def parseAgent(text: str, name: str) -> AgentConfig:
    """
    @param name: the name of the file in messages.
    @raise Mistakes: the file has mistakes.
    """
    parser = _Parser(text, name, agentSections())
    _checkRole(parser.document, name, "agent")
    agent = parser.table(AgentConfig, "agent")
    limits = parser.table(AgentLimits, "limits")
    edges = parser.tables(EdgeAddress, "edge")
    services = parser.tables(ServiceConfig, "service")
    metrics = parser.table(AgentMetricsConfig, "metrics")
    inspect = parser.table(InspectConfig, "inspect")
    tracing = parser.table(TracingConfig, "tracing")
    parser.unique("edge", (edge and edge.url for edge in edges), "the same url")
    parser.unique("service", (service and service.name for service in services), "the same name")
    dialects = _dialects(parser, "agent")
    parser.finish()
    assert agent is not None and limits is not None and metrics is not None and tracing is not None
    assert inspect is not None
    return evolve(
        agent, limits=limits, edges=tuple(edges), services=tuple(services), dialects=dialects, metrics=metrics, tracing=tracing,
        inspect=inspect,
    )


def parse(text: str, name: str) -> EdgeConfig | AgentConfig:
    """
    Parse a file of either kind.  An agent's has C{[agent]}, C{[[edge]]}, C{[[service]]}, or a table that a dialect defines for
    agents only, or as an array for agents only.  An edge's has C{[edge]} or C{[[agent]]}.

    @raise Mistakes: the file has mistakes.
    """
    return parseAgent(text, name) if _tablesOf(_load(text, name), "agent") else parseEdge(text, name)


def _tablesOf(document: Mapping[str, object], role: str) -> list[str]:
    """
    @param role: C{"edge"} or C{"agent"}.
    @return: the tables of a document that only files of this role have, as C{[name]} or C{[[name]]}.
    """
    sections = {"edge": edgeSections(), "agent": agentSections()}
    others = sections["agent" if role == "edge" else "edge"]
    found = []
    for name, (_, many) in sections[role].items():
        value = _find(document, name)
        if isinstance(value, list if many else dict) and (name not in others or others[name][1] != many):
            found.append(_sectionTitle((name, 0)) if many else _sectionTitle((name,)))
    return found


def _checkRole(document: Mapping[str, object], name: str, role: str) -> None:
    """
    @raise ConfigurationError: the document is a file of the other role.
    """
    other = "agent" if role == "edge" else "edge"
    tables = _tablesOf(document, other)
    if not tables or _tablesOf(document, role):
        return
    start = f"tunnel-agent --config {name} start" if other == "agent" else f"tunnel-edge --config {name}"
    raise ConfigurationError(
        f"{name} is the file of an {other}, because it has {', '.join(tables)}: it is for \"{start}\"; the file of an {role} "
        f"has {OWN_TABLES[role]}"
    )


def _load(text: str, name: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as broken:
        sentence, _, place = str(broken).partition(" (at ")
        numbered = re.match(r"line (\d+)", place)
        line = int(numbered.group(1)) if numbered else text.count("\n") + 1
        raise Mistakes(name, [Mistake(line, f"not valid TOML: {sentence}")]) from None


class _Parser:
    """
    Parses one file, table by table.  Mistakes are collected; L{finish} raises them together.

    @ivar document: the whole file.
    """

    def __init__(self, text: str, name: str, sections: Sections) -> None:
        self.document = _load(text, name)
        self._lines = LineIndex(text)
        self._name = name
        self._mistakes: list[Mistake] = []
        self._inner = {tuple(name.split(".")) for name in sections if "." in name}     # tables inside other tables
        known = {name.partition(".")[0]: None for name in sections}
        for section, value in self.document.items():
            if section not in known:
                tables = [] if isinstance(value, (dict, list)) else _tablesWith(section, sections)
                better = f"did you mean {section} in {' or '.join(tables)}?" if tables else nearest(section, known)
                what = f"[{section}]" if isinstance(value, (dict, list)) else f"key {section} outside of tables"
                self.addMistake((section,), f"there is no {what}; {better}")

    def table(self, record: type[R], section: str) -> R | None:
        """
        @return: the record of C{[section]}, with all defaults if the file does not have it; C{None} if it is wrong.
        """
        value = _find(self.document, section, {})
        if not isinstance(value, dict):
            self.addMistake((section,), f"{section} must be a table, [{section}]")
            return None
        return self._record(record, value, _pathOf((section,)))

    def tables(self, record: type[R], section: str) -> list[R]:
        """
        @return: the records of all C{[[section]]}.  One that is wrong is C{None}; then L{finish} raises.
        """
        value = _find(self.document, section, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.addMistake((section,), f"{section} must be an array of tables, [[{section}]]")
            return []
        at = _pathOf((section,))
        return [self._record(record, item, (*at, index)) for index, item in enumerate(value)]  # type: ignore[misc]

    def records(self, section: str, table: Table) -> tuple[AttrsInstance | None, ...]:
        """
        @return: the records of a dialect's table.
        """
        if not table.many:
            return (self.table(table.record, section),)
        found = self.tables(table.record, section)
        for described, key in table.unique.items():
            self.unique(section, (None if each is None else key(each) for each in found), f"the same {described}")
        return tuple(found)

    def hasSection(self, section: str) -> bool:
        """
        @return: whether the file has a table of that name.
        """
        return _find(self.document, section) is not None

    def hasKey(self, section: str, key: str) -> bool:
        """
        @return: whether the file has a key.
        """
        table = _find(self.document, section)
        return isinstance(table, dict) and key in table

    def unique(self, section: str, keys: Iterable[Hashable], described: str) -> None:
        """
        Report the records of C{[[section]]} that have the same key as an earlier one.
        """
        seen: dict[Hashable, int] = {}
        for index, key in enumerate(keys):
            first = seen.setdefault(key, index)
            if key is not None and first != index:
                line = self._lines.lineOf(_pathOf((section, first)))
                self.addMistake((section, index), f"[[{section}]] has {described} as the one on line {line}")

    def finish(self) -> None:
        """
        @raise Mistakes: the file has mistakes.
        """
        if self._mistakes:
            raise Mistakes(self._name, self._mistakes)

    def _record(self, record: type[R], table: Mapping[str, object], at: Path) -> R | None:
        known = {keyOf(attribute.name): attribute for attribute in fields(record) if attribute.metadata["inFile"]}
        types = get_type_hints(record)
        before = len(self._mistakes)
        values = {}
        for key, value in table.items():
            attribute = known.get(key)
            if (*at, key) in self._inner:
                continue
            if attribute is None:
                self.addMistake((*at, key), f"{_sectionTitle(at)} has no key {key}; {nearest(key, known)}")
            else:
                values[attribute.name] = self._value(attribute, types[attribute.name], value, (*at, key))
        for key, attribute in known.items():
            if attribute.default is NOTHING and key not in table:
                self.addMistake(at, f"{_sectionTitle(at)} needs a {key}: {attribute.metadata['says']}")
        return record(**values) if len(self._mistakes) == before else None

    def _value(self, attribute: Attribute[object], kind: type, value: object, at: Path) -> object:
        converted = _convert(kind, value)
        if converted is NOTHING:
            self.addMistake(at, f"{at[-1]} must be {_typeName(kind)}, not {formatValue(value)}")
        elif attribute.metadata["convert"] is not None:
            converted = attribute.metadata["convert"](converted)
        if converted is not NOTHING and attribute.metadata["check"] is not None:
            try:
                attribute.metadata["check"](converted)
            except ConfigurationError as mistake:
                self.addMistake(at, f"{at[-1]} {mistake}")
        return converted

    def addMistake(self, at: Path, says: str) -> None:
        """
        Report a mistake.

        @param at: the table, index and key.
        """
        self._mistakes.append(Mistake(self._lines.lineOf(_pathOf(at)), says))


def _find(document: Mapping[str, object], section: str, missing: object = None) -> object:
    """
    @param section: the name of a table, with a dot in it if it is inside another table.
    @return: its value; C{missing} if the document does not have it.
    """
    value: object = document
    for name in section.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return missing if value is None else value


def _pathOf(at: Path) -> Path:
    """
    @return: the path of what may be inside another table: C{("a", "b", 0)} for C{("a.b", 0)}.
    """
    return (*str(at[0]).split("."), *at[1:])


def _convert(kind: type, value: object) -> object:
    """
    @return: the value in the type of the record's attribute; C{NOTHING} if it has another type.
    """
    if get_origin(kind) is tuple:
        wanted = get_args(kind)[0]
        if isinstance(value, list) and all(type(item) is wanted for item in value):
            return tuple(value)
        return NOTHING
    if kind is float and type(value) is int:
        return float(value)
    return value if type(value) is kind else NOTHING


def _typeName(kind: type) -> str:
    return f"a list of {TYPE_NAMES[get_args(kind)[0]]}" if get_origin(kind) is tuple else TYPE_NAMES[kind]


def _sectionTitle(at: Path) -> str:
    title = ".".join(part for part in at if isinstance(part, str))
    return f"[[{title}]]" if isinstance(at[-1], int) else f"[{title}]"
