"""
The dialects of an edge, as its configuration says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from tunnelstack.control.config.records import DialectTables
from tunnelstack.doors import Door
from tunnelstack.interfaces import IAdminResources, IDeviceKeys, IDialect, IEdge
from tunnelstack.settings.dialects import dialectPackages


class DialectSet:
    """
    All dialects of one edge.
    """

    def __init__(self, dialects: Iterable[IDialect]) -> None:
        self._dialects = list(dialects)

    def doors(self, edge: IEdge) -> list[Door]:
        """
        The doors of all of them.
        """
        return [door for dialect in self._dialects for door in dialect.doors(edge)]

    @property
    def getHandlers(self) -> Mapping[bytes, Callable[[], Any]]:
        """
        As in L{IAdminResources}.
        """
        return {path: read for each in self._resources() for path, read in each.getHandlers.items()}

    @property
    def postHandlers(self) -> Mapping[bytes, Callable[[Mapping[str, Any]], Any]]:
        """
        As in L{IAdminResources}.
        """
        return {path: change for each in self._resources() for path, change in each.postHandlers.items()}

    def _resources(self) -> list[Any]:
        return [dialect for dialect in self._dialects if IAdminResources.providedBy(dialect)]

    def keyFor(self, device: str) -> Deferred[Any] | None:
        """
        As in L{IDeviceKeys}.
        """
        for dialect in self._dialects:
            if IDeviceKeys.providedBy(dialect):
                key: Deferred[Any] | None = IDeviceKeys(dialect).keyFor(device)
                if key is not None:
                    return key
        return None

    def close(self) -> None:
        """
        As in L{IDialect}.
        """
        for dialect in self._dialects:
            dialect.close()


def configuredDialects(edge: IEdge, tables: DialectTables) -> DialectSet:
    """
    Make the dialects that have tables in the file, and those that need none.

    @param tables: of the configuration.
    @raise ConfigurationError: a file that a table names cannot be used.
    """
    dialects: list[IDialect] = []
    for package in dialectPackages():
        if package.settings.always or package.name in tables:
            module = package.module("edge")
            if module is not None:
                dialects += module.makeDialects(edge, tables.get(package.name, {}))
    return DialectSet(dialects)
