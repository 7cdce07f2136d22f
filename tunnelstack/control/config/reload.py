"""
The difference between two configurations of an edge, or of an agent: what applies to a running process, and what needs a
restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from attrs import Attribute, AttrsInstance, evolve, fields, frozen

from tunnelstack.control.config.records import (
    AdminConfig,
    AgentConfig,
    AgentLimits,
    AgentMetricsConfig,
    EdgeAddress,
    EdgeConfig,
    InspectConfig,
    Limits,
    MetricsConfig,
    ServiceConfig,
    TracingConfig,
)
from tunnelstack.control.config.upkeep import SamplesConfig
from tunnelstack.settings.dialects import dialectPackages
from tunnelstack.settings.record import Record
from tunnelstack.settings.setting import keyOf
from tunnelstack.settings.tables import DialectTables

C = TypeVar("C", bound="EdgeConfig | AgentConfig")


@frozen(kw_only=True, eq=False, repr=False)
class ReloadRules(Record):
    """
    How the attributes of a configuration are compared.  Attributes and tables are named as in the record and in the file.

    @ivar tables: tables that occur once, compared by key, with their records; C{""} is the configuration itself.
    @ivar lists: arrays of tables that apply at once.  Only the numbers of their records are logged: they may contain secrets.
    @ivar named: arrays of tables that apply at once, whose records have names and no secrets, compared by key.
    @ivar kept: arrays of tables that need a restart.
    @ivar whole: tables that need a restart and are compared as one, with their titles.
    @ivar own: attributes that never change while the process runs.
    """

    tables: Mapping[str, tuple[str, type[AttrsInstance]]]
    lists: Mapping[str, str] = {}
    named: Mapping[str, tuple[str, type[AttrsInstance]]] = {}
    kept: Mapping[str, str] = {}
    whole: Mapping[str, str] = {}
    own: tuple[str, ...] = ()


RELOAD_RULES: Mapping[type, ReloadRules] = {
    EdgeConfig: ReloadRules(
        tables={
            "": ("edge", EdgeConfig), "limits": ("limits", Limits), "admin": ("admin", AdminConfig),
            "metrics": ("metrics", MetricsConfig), "tracing": ("tracing", TracingConfig),
            "samples": ("samples", SamplesConfig),
        },
        lists={"tokens": "agent", "certificates": "certificate", "checkers": "checker", "routes": "route", "health": "health"},
        kept={"listeners": "listener"},
        whole={"ssh": "[ssh]"},
    ),
    AgentConfig: ReloadRules(
        tables={
            "": ("agent", AgentConfig), "limits": ("limits", AgentLimits), "metrics": ("metrics", AgentMetricsConfig),
            "tracing": ("tracing", TracingConfig), "inspect": ("inspect", InspectConfig),
        },
        named={"services": ("service", ServiceConfig)},
        kept={"edges": "edge"},
        own=("instance",),
    ),
}


@frozen
class Difference(Generic[C]):
    """
    The difference between two configurations.

    @ivar config: the new configuration, with the old values of everything that needs a restart.
    @ivar changed: a sentence for each change that applies at once.
    @ivar needsRestart: a sentence for each change that needs a restart.
    """

    config: C
    changed: tuple[str, ...]
    needsRestart: tuple[str, ...]

    def sentences(self, who: str) -> tuple[str, ...]:
        """
        @param who: the program that needs a restart, such as C{"the edge"}.
        @return: all sentences, for a log.
        """
        needsRestart = [f"{sentence} when {who} is restarted" for sentence in self.needsRestart]
        return (*self.changed, *needsRestart) or ("nothing has changed",)


def difference(old: C, new: C) -> Difference[C]:
    """
    Compare two configurations of the same class.
    """
    shape = RELOAD_RULES[type(old)]
    changed: list[str] = []
    needsRestart: list[str] = []
    kept: dict[str, Any] = {name: getattr(old, name) for name in shape.own}
    for name, (section, record) in shape.tables.items():
        before, after = (getattr(config, name) if name else config for config in (old, new))
        back: dict[str, object] = {}
        for attribute, sentence in _differences(record, f"[{section}]", before, after):
            if attribute.metadata["live"]:
                changed.append(sentence)
            else:
                needsRestart.append(sentence)
                back[attribute.name] = getattr(before, attribute.name)
        if name:
            kept[name] = evolve(after, **back)
        else:
            kept |= back
    for name, section in shape.lists.items():
        changed += _lists(section, getattr(old, name), getattr(new, name))
    for name, (section, record) in shape.named.items():
        changed += _named(section, record, getattr(old, name), getattr(new, name))
    for name, section in shape.kept.items():
        before, after = (tuple(map(_withoutToken, getattr(config, name))) for config in (old, new))
        needsRestart += _lists(section, before, after)
        kept[name] = getattr(old, name)
    for name, section in shape.whole.items():
        if getattr(old, name) != getattr(new, name):
            needsRestart.append(f"the new {section}")
            kept[name] = getattr(old, name)
    if old.dialects != new.dialects:
        live, restart, kept["dialects"] = _dialects(old, new)
        changed += live
        needsRestart += restart
    return Difference(evolve(new, **kept), tuple(changed), tuple(needsRestart))


def _dialects(
    old: EdgeConfig | AgentConfig, new: EdgeConfig | AgentConfig
) -> tuple[list[str], list[str], DialectTables]:
    """
    Compare the tables of dialects.  Those that are live apply at once if the dialect is in use and stays so.

    @return: a sentence for each change that applies at once, one for each that needs a restart, and the tables in force.
    """
    role = "edge" if isinstance(old, EdgeConfig) else "agent"
    changed: list[str] = []
    needsRestart: list[str] = []
    tables = {name: dict(records) for name, records in old.dialects.items()}
    for package in dialectPackages():
        before, after = old.dialects.get(package.name, {}), new.dialects.get(package.name, {})
        for name, table in getattr(package.settings, role).items():
            was, becomes = before.get(name, ()), after.get(name, ())
            if was == becomes:
                continue
            if table.live and before and after:
                changed += _lists(name, was, becomes)
                tables[package.name][name] = becomes
            else:
                needsRestart.append(f"the new [[{name}]]" if table.many else f"the new [{name}]")
    return changed, needsRestart, tables


def _differences(
    record: type[AttrsInstance], section: str, before: object, after: object
) -> Iterator[tuple[Attribute[object], str]]:
    for attribute in fields(record):
        if not attribute.metadata["inFile"]:
            continue
        was, becomes = getattr(before, attribute.name), getattr(after, attribute.name)
        if was != becomes:
            yield attribute, f"{section} {keyOf(attribute.name)}: {_format(was)} becomes {_format(becomes)}"


def _format(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value) or "none"


def _lists(section: str, before: Sequence[object], after: Sequence[object]) -> Iterator[str]:
    """
    @return: such as C{"[[agent]]: 2 added, 1 removed"}.
    """
    added, removed = len([one for one in after if one not in before]), len([one for one in before if one not in after])
    counted = [f"{number} {word}" for number, word in ((added, "added"), (removed, "removed")) if number]
    if counted:
        yield f"[[{section}]]: {', '.join(counted)}"


def _withoutToken(record: object) -> object:
    """
    @return: an edge's address without the token of its file, which is read again without a restart.
    """
    return evolve(record, token="") if isinstance(record, EdgeAddress) and record.tokenFile else record


def _named(
    section: str, record: type[AttrsInstance], before: Sequence[ServiceConfig], after: Sequence[ServiceConfig]
) -> Iterator[str]:
    """
    @return: such as C{"[[service]] site: added"}, C{"[[service]] site target: 3000 becomes 4000"}.
    """
    old, new = ({one.name: one for one in several} for several in (before, after))
    for name, one in new.items():
        if name not in old:
            yield f"[[{section}]] {name}: added"
        else:
            yield from (sentence for _, sentence in _differences(record, f"[[{section}]] {name}", old[name], one))
    yield from (f"[[{section}]] {name}: removed" for name in old if name not in new)
