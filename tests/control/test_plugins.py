"""
Finding the plugins for tunnelstack among those of other packages.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

from twisted import plugins
from twisted.application.service import IServiceMaker
from twisted.plugin import CachedDropin, CachedPlugin, getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface

from tunnelstack.interfaces import IStreamHandler
from tunnelstack.settings import plugins as ours

FOREIGN = """
from twisted.application.service import ServiceMaker
maker = ServiceMaker("shouts", "nowhere", "Shouts.", "shouts")
"""

OLD = 1_000_000_000
"""The time of a file that was written before any cache."""


class InstalledPluginsTests(SynchronousTestCase):
    """
    L{ours.installedPlugins}.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        self.patch(plugins, "__path__", [str(self.folder)])
        self.asked = 0
        self.patch(ours, "getPlugins", self.getPlugins)

    def getPlugins(self, interface: type[Interface]) -> tuple[str, ...]:
        self.asked += 1
        return ("all of them",)

    def install(self, name: str, *interfaces: type[Interface]) -> None:
        """
        Write a plugin, and the cache that Twisted would write.
        """
        path = self.folder / f"{name}.py"
        path.write_text("")
        os.utime(path, (OLD, OLD))
        dropin = CachedDropin(f"twisted.plugins.{name}", None)
        CachedPlugin(dropin, "plugin", None, list(interfaces))
        (self.folder / "dropin.cache").write_bytes(pickle.dumps({name: dropin}))

    def found(self) -> list[object]:
        return list(ours.installedPlugins(IStreamHandler))

    def test_pluginsOfOthersAreLeftAlone(self) -> None:
        self.install("shouts", IServiceMaker)
        self.assertEqual((self.found(), self.asked), ([], 0))

    def test_oneWithAnInterfaceThatIsNotTwistedsIsLookedFor(self) -> None:
        """
        It may be ours, or extend one of ours.
        """
        self.install("whispers", IServiceMaker, IStreamHandler)
        self.assertEqual(self.found(), ["all of them"])

    def test_onePluginThatTheCacheDoesNotKnow(self) -> None:
        self.install("shouts", IServiceMaker)
        path = self.folder / "whispers.py"
        path.write_text(FOREIGN)
        os.utime(path, (OLD, OLD))
        self.assertEqual(self.found(), ["all of them"])

    def test_onePluginThatIsNewerThanTheCache(self) -> None:
        self.install("shouts", IServiceMaker)
        os.utime(self.folder / "dropin.cache", (OLD - 1, OLD - 1))
        self.assertEqual(self.found(), ["all of them"])

    def test_thereIsNoCache(self) -> None:
        (self.folder / "shouts.py").write_text(FOREIGN)
        self.assertEqual(self.found(), ["all of them"])

    def test_theCacheIsDamaged(self) -> None:
        self.install("shouts", IServiceMaker)
        (self.folder / "dropin.cache").write_bytes(b"nonsense")
        self.assertEqual(self.found(), ["all of them"])

    def test_thereIsNoFolder(self) -> None:
        self.patch(plugins, "__path__", [str(self.folder / "missing")])
        self.assertEqual((self.found(), self.asked), ([], 0))

    def test_theFolderIsInAnArchive(self) -> None:
        """
        Twisted can read it.
        """
        (self.folder / "all.zip").write_bytes(b"")
        self.patch(plugins, "__path__", [str(self.folder / "all.zip" / "twisted" / "plugins")])
        self.assertEqual(self.found(), ["all of them"])

    def test_thereIsNothingInTheFolder(self) -> None:
        (self.folder / "__pycache__").mkdir()
        self.assertEqual((self.found(), self.asked), ([], 0))

    def test_twistedWritesCachesOfThisForm(self) -> None:
        """
        With the real thing, and a plugin of another package.
        """
        self.patch(ours, "getPlugins", getPlugins)
        self.patch(sys, "dont_write_bytecode", True)
        foreign = self.folder / f"shouts_{os.getpid()}.py"
        foreign.write_text(FOREIGN)
        os.utime(foreign, (OLD, OLD))
        self.assertEqual(self.found(), [])
        self.assertTrue((self.folder / "dropin.cache").exists())
        self.patch(ours, "getPlugins", self.getPlugins)
        self.assertEqual((self.found(), self.asked), ([], 0))
