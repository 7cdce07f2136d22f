"""
The tables that a dialect adds to configuration files.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from attrs import Factory, fields, frozen


class Tables:
    """
    The tables of one dialect in one file, for the dialect's own checks.
    """

    def __init__(
        self, records: Mapping[str, tuple[Any, ...]], present: Callable[[str], bool],
        wrong: Callable[[tuple[str | int, ...], str], object],
    ) -> None:
        """
        @param records: of each table; a record that could not be read is C{None}.
        @param present: whether the file has a table.
        @param wrong: reports a mistake at a place, C{("tenant", 0)}.
        """
        self._records = records
        self.has = present
        self.wrong = wrong

    def one(self, name: str) -> Any:
        """
        The record of a table that is there once; C{None} if it is not there, or wrong.
        """
        records = self._records.get(name, ())
        return records[0] if records else None

    def many(self, name: str) -> tuple[Any, ...]:
        """
        The records of a table that may be there several times.
        """
        return self._records.get(name, ())


def secretFiles(dialects: Mapping[str, Mapping[str, tuple[Any, ...]]]) -> list[str]:
    """
    @param dialects: the records of each table of each dialect.
    @return: the paths in them that are of files with secrets.
    """
    records = [record for tables in dialects.values() for records in tables.values() for record in records]
    return [
        path for record in records for attribute in fields(type(record))
        if attribute.metadata["secretFile"] and (path := getattr(record, attribute.name))
    ]  # fmt: skip


def _nothing(tables: Tables) -> None:
    """
    There is nothing to check.
    """


@frozen
class Table:
    """
    One table.

    @ivar record: the attrs class of its records, made of L{settings<tunnelstack.settings.setting.setting>}.
    @ivar many: it may be there several times, C{[[name]]}.
    @ivar unique: what no two of them may share, by its name in messages.
    """

    record: type
    many: bool = False
    unique: Mapping[str, Callable[[Any], Hashable]] = Factory(dict)


@frozen(kw_only=True)
class DialectSettings:
    """
    What a dialect adds to configuration files.

    @ivar edge: its tables in an edge's file, by name.
    @ivar agent: its tables in an agent's file.
    @ivar checkEdge: looks for mistakes that concern several tables of an edge's file.
    @ivar checkAgent: the same for an agent's file.
    @ivar development: the tables of an edge that is started with C{--dev}, if the file has none.
    @ivar always: the dialect is there without any table.
    """

    edge: Mapping[str, Table] = Factory(dict)
    agent: Mapping[str, Table] = Factory(dict)
    checkEdge: Callable[[Tables], object] = _nothing
    checkAgent: Callable[[Tables], object] = _nothing
    development: Mapping[str, tuple[Any, ...]] = Factory(dict)
    always: bool = False
