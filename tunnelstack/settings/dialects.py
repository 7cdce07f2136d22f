"""
The installed dialects and their modules.

A dialect is a folder of L{tunnelstack.dialect}, or a L{DialectPackage} that is installed as a Twisted plugin.  Its module
C{settings} has a L{DialectSettings<tunnelstack.settings.tables.DialectSettings>} named C{SETTINGS}.  The reader of files,
C{tunnelstack check} and the documentation import it for every dialect, so it must not import the protocols.  A dialect that is
used without a table in a file has a module C{defaults}, which every program imports, with its
L{DialectDefaults<tunnelstack.settings.tables.DialectDefaults>} named C{DEFAULTS}.  The modules C{edge}, C{agent} and
C{commands} are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from attrs import frozen
from twisted.plugin import IPlugin
from zope.interface import Interface, implementer

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.plugins import installedPlugins
from tunnelstack.settings.record import Record
from tunnelstack.settings.tables import DialectDefaults, DialectSettings, DialectTables

FOLDER = Path(__file__).parent.parent / "dialect"


class IDialectPackage(Interface):
    """
    The plugin interface of L{DialectPackage}.
    """


@implementer(IPlugin, IDialectPackage)
@frozen(eq=False, repr=False)
class DialectPackage(Record):
    """
    A dialect and its Python package.

    @ivar name: the name of the dialect in messages.
    @ivar package: the dotted name of the package with the modules C{settings}, C{defaults}, C{edge}, C{agent} and
        C{commands}.
    """

    name: str
    package: str

    @property
    def settings(self) -> DialectSettings:
        """
        The C{SETTINGS} of the dialect.
        """
        found: DialectSettings = import_module(f"{self.package}.settings").SETTINGS
        return found

    @property
    def defaults(self) -> DialectDefaults:
        """
        The C{DEFAULTS} of the dialect, or those of a dialect that needs a table.
        """
        module = self.module("defaults")
        return DialectDefaults() if module is None else module.DEFAULTS

    def module(self, which: str) -> ModuleType | None:
        """
        @param which: C{"defaults"}, C{"edge"}, C{"agent"} or C{"commands"}.
        @return: the module; C{None} if the dialect has none.
        """
        name = f"{self.package}.{which}"
        return import_module(name) if find_spec(name) is not None else None


@cache
def dialectPackages() -> tuple[DialectPackage, ...]:
    """
    @return: the installed dialects, first those of this package.
    @raise ConfigurationError: two of them define the same table.
    """
    ours = sorted(path.parent.name for path in FOLDER.glob("*/settings.py"))
    found = [DialectPackage(name, f"tunnelstack.dialect.{name}") for name in ours]
    installed: Iterable[DialectPackage] = installedPlugins(IDialectPackage)    # type: ignore[arg-type]
    found += sorted(installed, key=lambda package: package.name)
    if len(found) > len(ours):                # those of this package have tables of their own, which a test shows
        refuseConflicts(found)
    return tuple(found)


def refuseConflicts(found: Sequence[DialectPackage]) -> None:
    """
    @raise ConfigurationError: two dialects define the same table.
    """
    for role in ("edge", "agent"):
        claimed: dict[str, str] = {}
        for package, table in _tables(found, role):
            if claimed.setdefault(table, package.name) != package.name:
                raise ConfigurationError(f"the dialects {claimed[table]} and {package.name} define the same table [{table}]")


def developmentTables() -> DialectTables:
    """
    @return: the tables that dialects add to an edge that is started with C{--dev}, by the name of the dialect.
    """
    return {package.name: tables for package in dialectPackages() if (tables := package.defaults.development())}


def _tables(packages: Sequence[DialectPackage], role: str) -> Iterator[tuple[DialectPackage, str]]:
    for package in packages:
        for table in getattr(package.settings, role):
            yield package, table
