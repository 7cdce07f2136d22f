"""
The tables that a dialect adds to configuration files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, cast

from attrs import AttrsInstance, Factory, evolve, fields, frozen, has

from tunnelstack.settings.record import Record

R = TypeVar("R")

Records = Mapping[str, tuple[Any, ...]]
"""The records of each table of one dialect.  Their classes are those of the dialect's own module C{settings}."""

DialectTables = Mapping[str, Records]
"""The L{Records} of each dialect that has tables in a file."""


class Tables:
    """
    The tables of one dialect in a file, for checks that concern several records.
    """

    def __init__(
        self, records: Records, present: Callable[[str], bool],
        wrong: Callable[[tuple[str | int, ...], str], object],
    ) -> None:
        """
        @param records: the records of each table; one with a mistake is C{None}.
        @param present: returns whether the file has a table.
        @param wrong: reports a mistake at a table and an index, such as C{("tenant", 0)}.
        """
        self._records = records
        self.has = present
        self.wrong = wrong

    def one(self, name: str, kind: type[R]) -> R | None:
        """
        @param kind: the class of its records.
        @return: the record of a table that may occur once; C{None} if it is missing or has a mistake.
        """
        records = self.many(name, kind)
        return records[0] if records else None

    def many(self, name: str, kind: type[R]) -> tuple[R | None, ...]:
        """
        @param kind: the class of its records.
        @return: the records of a table that may occur several times; C{None} for one that has a mistake.
        """
        return self._records.get(name, ())


def secretFiles(dialects: DialectTables) -> list[str]:
    """
    @param dialects: the records of each table of each dialect.
    @return: the paths of all files with secrets that the records name.
    """
    records = [record for tables in dialects.values() for records in tables.values() for record in records]
    return [
        path for record in records for attribute in fields(type(record))
        if attribute.metadata["secretFile"] and (path := getattr(record, attribute.name))
    ]  # fmt: skip


def _nothing(tables: Tables) -> None:
    """
    Check nothing.
    """


@frozen(eq=False, repr=False)
class Table(Record):
    """
    A table of a dialect.

    @ivar record: the attrs class of its records, whose attributes are L{settings<tunnelstack.settings.setting.setting>}.
    @ivar many: whether it may occur several times, C{[[name]]}.
    @ivar unique: functions of a record whose results must differ for all records, by their names in messages.
    @ivar live: a running edge applies a change: its dialect is an
        L{IReloadableDialect<tunnelstack.interfaces.IReloadableDialect>}.
    """

    record: type[AttrsInstance]
    many: bool = False
    unique: Mapping[str, Callable[[Any], Hashable]] = Factory(dict)
    live: bool = False


@frozen(kw_only=True, eq=False, repr=False)
class DialectSettings(Record):
    """
    The tables that a dialect adds to configuration files.

    @ivar edge: tables of an edge's file, by name.  The name C{"a.b"} is that of C{[a.b]}, a table inside C{[a]}.
    @ivar agent: tables of an agent's file, by name.
    @ivar checkEdge: reports mistakes that concern several tables of an edge's file.
    @ivar checkAgent: reports mistakes that concern several tables of an agent's file.
    """

    edge: Mapping[str, Table] = Factory(dict)
    agent: Mapping[str, Table] = Factory(dict)
    checkEdge: Callable[[Tables], object] = _nothing
    checkAgent: Callable[[Tables], object] = _nothing


@frozen(kw_only=True, eq=False, repr=False)
class DialectDefaults(Record):
    """
    What a dialect does without a table in a file.

    @ivar always: whether the dialect is used even if the file has none of its tables.
    @ivar development: returns the tables of an edge that is started with C{--dev}, if the file has none.
    @ivar agentPath: the path below the URL of C{[[edge]]} where its agents connect; C{""} if it does not use C{[[edge]]}.
    """

    always: bool = False
    development: Callable[[], Records] = dict
    agentPath: str = ""


def withoutCreation(value: R, folder: str) -> R:
    """
    @param value: a record, or records in tuples and mappings.
    @param folder: an empty folder.
    @return: the same, with a path in C{folder} for each file that does not exist and would be created.
    """
    if isinstance(value, tuple):
        return cast(R, tuple(withoutCreation(each, folder) for each in value))
    if isinstance(value, Mapping):
        return cast(R, {key: withoutCreation(each, folder) for key, each in value.items()})
    if not has(type(value)):
        return value
    record = cast(AttrsInstance, value)
    changed: dict[str, object] = {}
    for attribute in fields(type(record)):
        before = getattr(record, attribute.name)
        if attribute.metadata.get("created"):
            after = before if not before or os.path.exists(before) else os.path.join(folder, os.path.basename(before))
        else:
            after = withoutCreation(before, folder)
        if after is not before:
            changed[attribute.name] = after
    return cast(R, evolve(record, **changed)) if changed else value         # type: ignore[misc]
