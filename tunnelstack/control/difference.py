"""
What changed between two configurations of an edge: what a running one can take, and what has to wait until it is started again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import evolve, fields, frozen

from tunnelstack.control.config import AdminConfig, EdgeConfig, Limits
from tunnelstack.control.settings import keyOf

LISTS = {"tokens": "agent", "certificates": "certificate", "checkers": "checker", "routes": "route"}
"""Attributes that hold the records of a table of which there may be many."""


WHOLE = {"shellhub": "[shellhub]", "tenants": "[[tenant]]", "ssh": "[ssh]"}
"""Attributes whose tables are taken as one, at the start."""


@frozen
class Difference:
    """
    From one configuration to the next.

    @ivar config: the new one as far as it can be had without a restart.
    @ivar changed: a sentence for each thing that is another from now on.
    @ivar waiting: a sentence for each thing that will be after a restart.
    """

    config: EdgeConfig
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def difference(old: EdgeConfig, new: EdgeConfig) -> Difference:
    """
    Compare, and say it in words.
    """
    changed: list[str] = []
    waiting: list[str] = []
    kept: dict[str, Any] = {}
    for section, name, record in (("edge", "", EdgeConfig), ("limits", "limits", Limits), ("admin", "admin", AdminConfig)):
        before, after = (getattr(config, name) if name else config for config in (old, new))
        back: dict[str, Any] = {}
        for attribute, sentence in _differing(record, section, before, after):
            if attribute.metadata["live"]:
                changed.append(sentence)
            else:
                waiting.append(sentence)
                back[attribute.name] = getattr(before, attribute.name)
        if name:
            kept[name] = evolve(after, **back)
        else:
            kept |= back
    for name, section in LISTS.items():
        sentence = _lists(section, getattr(old, name), getattr(new, name))
        if sentence:
            changed.append(sentence)
    if old.listeners != new.listeners:
        waiting.append(_lists("listener", old.listeners, new.listeners))
        kept["listeners"] = old.listeners
    for name, section in WHOLE.items():
        if getattr(old, name) != getattr(new, name):
            waiting.append(f"{section} as it stands in the file now")
            kept[name] = getattr(old, name)
    return Difference(evolve(new, **kept), tuple(changed), tuple(waiting))


def _differing(record: Any, section: str, before: Any, after: Any) -> Iterator[tuple[Any, str]]:
    for attribute in fields(record):
        if not attribute.metadata["inFile"]:
            continue
        was, becomes = getattr(before, attribute.name), getattr(after, attribute.name)
        if was != becomes:
            yield attribute, f"[{section}] {keyOf(attribute.name)}: {_shown(was)} becomes {_shown(becomes)}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value) or "none"


def _lists(section: str, before: tuple[Any, ...], after: tuple[Any, ...]) -> str:
    """
    C{"[[agent]]: 2 more, 1 gone"}; what is in a record may be nobody's business.
    """
    more, gone = len([one for one in after if one not in before]), len([one for one in before if one not in after])
    counted = [f"{number} {word}" for number, word in ((more, "more"), (gone, "gone")) if number]
    return f"[[{section}]]: {', '.join(counted)}" if counted else ""
