"""
What changed between two configurations of an edge, or of an agent: what a running one can take, and what has to wait until
it is started again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from attrs import evolve, fields, frozen

from tunnelstack.control.config.records import (
    AdminConfig,
    AgentConfig,
    AgentLimits,
    EdgeAddress,
    EdgeConfig,
    Limits,
    ServiceConfig,
)
from tunnelstack.settings.dialects import dialectPackages
from tunnelstack.settings.setting import keyOf

C = TypeVar("C", bound="EdgeConfig | AgentConfig")


@frozen(kw_only=True)
class ReloadRules:
    """
    What a configuration consists of; attributes by their names, tables of a file by theirs.

    @ivar tables: the table that is the record itself, at C{""}, and those of which there is one, with their records.
    @ivar lists: attributes that hold the records of a table of which there may be many, and which count at once; what is in
        such a record may be nobody's business.
    @ivar named: the same where each has a name and no secret, with their records.
    @ivar kept: attributes that hold the records of a table of which there may be many, and which wait.
    @ivar whole: attributes whose tables wait as one, and how these are called.
    @ivar own: attributes that stay what they are as long as the process lives.
    """

    tables: Mapping[str, tuple[str, type]]
    lists: Mapping[str, str] = {}
    named: Mapping[str, tuple[str, type]] = {}
    kept: Mapping[str, str] = {}
    whole: Mapping[str, str] = {}
    own: tuple[str, ...] = ()


RELOAD_RULES: Mapping[type, ReloadRules] = {
    EdgeConfig: ReloadRules(
        tables={"": ("edge", EdgeConfig), "limits": ("limits", Limits), "admin": ("admin", AdminConfig)},
        lists={"tokens": "agent", "certificates": "certificate", "checkers": "checker", "routes": "route"},
        kept={"listeners": "listener"},
        whole={"ssh": "[ssh]"},
    ),
    AgentConfig: ReloadRules(
        tables={"": ("agent", AgentConfig), "limits": ("limits", AgentLimits)},
        named={"services": ("service", ServiceConfig)},
        kept={"edges": "edge"},
        own=("instance",),
    ),
}


@frozen
class Difference(Generic[C]):
    """
    From one configuration to the next.

    @ivar config: the new one as far as it can be had without a restart.
    @ivar changed: a sentence for each thing that is another from now on.
    @ivar needsRestart: a sentence for each thing that will be after a restart.
    """

    config: C
    changed: tuple[str, ...]
    needsRestart: tuple[str, ...]

    def sentences(self, who: str) -> tuple[str, ...]:
        """
        All of it, for a log.

        @param who: what has to be started again, such as C{"the edge"}.
        """
        needsRestart = [f"{sentence} once {who} is started again" for sentence in self.needsRestart]
        return (*self.changed, *needsRestart) or ("nothing has changed",)


def difference(old: C, new: C) -> Difference[C]:
    """
    Compare, and say it in words.
    """
    shape = RELOAD_RULES[type(old)]
    changed: list[str] = []
    needsRestart: list[str] = []
    kept: dict[str, Any] = {name: getattr(old, name) for name in shape.own}
    for name, (section, record) in shape.tables.items():
        before, after = (getattr(config, name) if name else config for config in (old, new))
        back: dict[str, Any] = {}
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
            needsRestart.append(f"{section} as it stands in the file now")
            kept[name] = getattr(old, name)
    if old.dialects != new.dialects:
        needsRestart += [f"{table} as it stands in the file now" for table in _dialectTables(old, new)]
        kept["dialects"] = old.dialects
    return Difference(evolve(new, **kept), tuple(changed), tuple(needsRestart))


def _dialectTables(old: EdgeConfig | AgentConfig, new: EdgeConfig | AgentConfig) -> list[str]:
    """
    The tables of dialects that differ, as they are written in a file.
    """
    role = "edge" if isinstance(old, EdgeConfig) else "agent"
    return [
        f"[[{name}]]" if table.many else f"[{name}]"
        for package in dialectPackages() for name, table in getattr(package.settings, role).items()
        if old.dialects.get(package.name, {}).get(name) != new.dialects.get(package.name, {}).get(name)
    ]  # fmt: skip


def _differences(record: Any, section: str, before: Any, after: Any) -> Iterator[tuple[Any, str]]:
    for attribute in fields(record):
        if not attribute.metadata["inFile"]:
            continue
        was, becomes = getattr(before, attribute.name), getattr(after, attribute.name)
        if was != becomes:
            yield attribute, f"{section} {keyOf(attribute.name)}: {_format(was)} becomes {_format(becomes)}"


def _format(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value) or "none"


def _lists(section: str, before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[str]:
    """
    C{"[[agent]]: 2 more, 1 gone"}.
    """
    more, gone = len([one for one in after if one not in before]), len([one for one in before if one not in after])
    counted = [f"{number} {word}" for number, word in ((more, "more"), (gone, "gone")) if number]
    if counted:
        yield f"[[{section}]]: {', '.join(counted)}"


def _withoutToken(record: Any) -> Any:
    """
    An edge's address without a token that stands in a file, which is read again without a restart.
    """
    return evolve(record, token="") if isinstance(record, EdgeAddress) and record.tokenFile else record


def _named(section: str, record: Any, before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[str]:
    """
    C{"[[service]] site: new"}, C{"[[service]] site target: 3000 becomes 4000"}.
    """
    old, new = ({one.name: one for one in several} for several in (before, after))
    for name, one in new.items():
        if name not in old:
            yield f"[[{section}]] {name}: new"
        else:
            yield from (sentence for _, sentence in _differences(record, f"[[{section}]] {name}", old[name], one))
    yield from (f"[[{section}]] {name}: gone" for name in old if name not in new)
