"""
The dialects that an edge serves, made from its configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from tunnelstack.interfaces import (
    IAdminResources,
    IDeferredDialect,
    IDeviceKeys,
    IDialect,
    IDoor,
    IEdge,
    IReloadableDialect,
)
from tunnelstack.settings.dialects import dialectPackages
from tunnelstack.settings.tables import DialectTables

if TYPE_CHECKING:
    from twisted.conch.ssh.keys import Key


class DialectSet:
    """
    All dialects of one edge.
    """

    def __init__(self, dialects: Iterable[IDialect]) -> None:
        self._dialects = list(dialects)

    def __iter__(self) -> Iterator[IDialect]:
        return iter(self._dialects)

    def doors(self, edge: IEdge) -> list[IDoor]:
        """
        The doors of all dialects.
        """
        return [door for dialect in self._dialects for door in dialect.doors(edge)]

    def load(self) -> None:
        """
        As in L{IDeferredDialect}, for all dialects.
        """
        for dialect in self._dialects:
            if IDeferredDialect.providedBy(dialect):
                IDeferredDialect(dialect).load()

    @property
    def getHandlers(self) -> Mapping[bytes, Callable[[], object]]:
        """
        As in L{IAdminResources}.
        """
        return {path: read for each in self._resources() for path, read in each.getHandlers.items()}

    @property
    def postHandlers(self) -> Mapping[bytes, Callable[[Mapping[str, Any]], object]]:
        """
        As in L{IAdminResources}.
        """
        return {path: change for each in self._resources() for path, change in each.postHandlers.items()}

    def _resources(self) -> list[IAdminResources]:
        return [IAdminResources(dialect) for dialect in self._dialects if IAdminResources.providedBy(dialect)]

    def keyFor(self, device: str) -> Deferred[Key] | None:
        """
        As in L{IDeviceKeys}.
        """
        for dialect in self._dialects:
            if IDeviceKeys.providedBy(dialect):
                key: Deferred[Key] | None = IDeviceKeys(dialect).keyFor(device)
                if key is not None:
                    return key
        return None

    def prepareReload(self, tables: DialectTables) -> Callable[[], object]:
        """
        As in L{IReloadableDialect}, for all dialects.
        """
        prepared: list[Callable[[], object]] = [
            IReloadableDialect(dialect).prepareReload(tables)
            for dialect in self._dialects if IReloadableDialect.providedBy(dialect)
        ]  # fmt: skip
        return lambda: [apply() for apply in prepared]

    def close(self) -> None:
        """
        As in L{IDialect}.
        """
        for dialect in self._dialects:
            dialect.close()


def configuredDialects(edge: IEdge, tables: DialectTables) -> DialectSet:
    """
    Make the dialects that have tables in the configuration file, and those that need none.

    @param tables: the tables of the configuration file, by dialect.
    @raise ConfigurationError: a file that a table names cannot be used.
    """
    dialects: list[IDialect] = []
    for package in dialectPackages():
        if package.defaults.always or package.name in tables:
            module = package.module("edge")
            if module is not None:
                dialects += module.makeDialects(edge, tables.get(package.name, {}))
    return DialectSet(dialects)
