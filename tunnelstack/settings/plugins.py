"""
The Twisted plugins that this machine has for tunnelstack.

Twisted's C{getPlugins} imports the interfaces of all plugins of all packages, a test framework among them.  On most machines
none of the plugins is for tunnelstack.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from typing import IO, TypeVar

from twisted import plugins
from twisted.plugin import getPlugins
from zope.interface import Interface

I = TypeVar("I", bound=Interface)     # noqa: E741 - as in Twisted

CACHE = "dropin.cache"
"""The file in each folder of plugins in which Twisted keeps the interfaces of each."""

BESIDE = {"__init__", "__pycache__", "dropin"}
"""What is no plugin in such a folder."""


def installedPlugins(interface: type[I]) -> Iterable[I]:
    """
    @param interface: an interface of tunnelstack.
    @return: the plugins that have it, as from C{getPlugins}.
    """
    return getPlugins(interface) if any(map(_mayHaveOurs, plugins.__path__)) else ()


def _mayHaveOurs(folder: str) -> bool:
    """
    @return: whether a plugin in C{folder} may have an interface that is not one of Twisted's own: the cache names one, or is
        out of date.
    """
    try:
        entries = [entry for entry in os.scandir(folder) if entry.name.partition(".")[0] not in BESIDE]
        if not entries:
            return False
        with open(os.path.join(folder, CACHE), "rb") as file:
            written = os.fstat(file.fileno()).st_mtime
            cached = _CacheReader(file)
            known = cached.load()
        current = all(entry.name.partition(".")[0] in known and entry.stat().st_mtime < written for entry in entries)
    except FileNotFoundError as missing:
        return missing.filename != folder
    except Exception:                     # a cache that is damaged, or an archive: for Twisted to deal with
        return True
    return not current or any(not module.startswith("twisted.") for module in cached.modules)


class _CacheReader(pickle.Unpickler):
    """
    Reads a cache without importing what it names.

    @ivar modules: where the interfaces of the plugins are.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.modules: set[str] = set()

    def find_class(self, module: str, name: str) -> type[_Named]:
        self.modules.add(module)
        return _Named


class _Named:
    """
    Stands for everything that a cache names.
    """
