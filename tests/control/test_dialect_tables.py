"""
Tables of dialects that change while an edge runs.
"""

from __future__ import annotations

from unittest import mock

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config import reader, reload
from tunnelstack.control.config.reader import parseEdge
from tunnelstack.control.config.records import EdgeConfig
from tunnelstack.control.config.reload import difference
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.dialects import dialectPackages, refuseConflicts
from tunnelstack.settings.setting import setting
from tunnelstack.settings.tables import DialectSettings, Table


@frozen(kw_only=True)
class Fox:
    """
    C{[fox]}: a system.
    """

    policy: str = setting("open", "who may come")


@frozen(kw_only=True)
class Den:
    """
    C{[[fox.den]]}: a place.
    """

    place: str = setting(says="where")


class Package:
    name = "fox"
    settings = DialectSettings(
        edge={"fox": Table(Fox), "fox.den": Table(Den, many=True, live=True)},
    )


class LiveTests(SynchronousTestCase):
    """
    C{[[fox.den]]} is live, and C{[fox]} is not.
    """

    def setUp(self) -> None:
        for module in (reader, reload):
            patcher = mock.patch.object(module, "dialectPackages", lambda: (Package,))
            patcher.start()
            self.addCleanup(patcher.stop)

    def read(self, text: str) -> EdgeConfig:
        return parseEdge(text, "edge.toml")

    def test_aLiveTableAppliesAtOnceAndAnotherWaits(self) -> None:
        old = self.read('[fox]\n[[fox.den]]\nplace = "hill"\n')
        new = self.read('[fox]\npolicy = "shut"\n[[fox.den]]\nplace = "wood"\n[[fox.den]]\nplace = "rock"\n')
        found = difference(old, new)
        self.assertEqual(found.changed, ("[[fox.den]]: 2 added, 1 removed",))
        self.assertEqual(found.needsRestart, ("the new [fox]",))
        self.assertEqual(found.config.dialects["fox"], {
            "fox": (Fox(),), "fox.den": (Den(place="wood"), Den(place="rock")),
        })

    def test_aDialectThatAppearsOrVanishesWaits(self) -> None:
        with_, without = self.read('[fox]\n[[fox.den]]\nplace = "hill"\n'), self.read("")
        for old, new in ((with_, without), (without, with_)):
            found = difference(old, new)
            self.assertEqual((found.changed, found.needsRestart), ((), ("the new [fox]", "the new [[fox.den]]")))
            self.assertEqual(found.config.dialects, old.dialects)


class ConflictTests(SynchronousTestCase):
    """
    Tables that two dialects define.
    """

    def test_ourDialectsHaveTablesOfTheirOwn(self) -> None:
        refuseConflicts(dialectPackages())

    def test_theSameTableIsRefused(self) -> None:
        class Other(Package):
            name = "vixen"

        wrong = self.assertRaises(ConfigurationError, refuseConflicts, [Package, Other])
        self.assertEqual(str(wrong), "the dialects fox and vixen define the same table [fox]")
