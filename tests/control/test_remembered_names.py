"""
The names of agents that are not there at the moment.

The kind of R1: what an edge knows and forgets with a restart, so that it says "there is no such site" of one that comes back
in a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.remembered_names import (
    FILE,
    LATELY_SECONDS,
    REFRESH_SECONDS,
    WRITE_SECONDS,
    NamesFile,
    RememberedNames,
)
from tunnelstack.records import Principal
from tunnelstack.settings.state_dir import StateDirectory

SITE = ("http", "site")
LAPTOP = Principal(agent="laptop")


class RememberedNamesTests(SynchronousTestCase):
    """
    L{RememberedNames}, and L{NamesFile} through restarts.
    """

    def setUp(self) -> None:
        self.state = StateDirectory(Path(self.mktemp()))
        self.day = 1_000_000.0
        self.start()

    def start(self) -> None:
        """
        An edge starts, whose clock begins anew.
        """
        self.clock = Clock()
        self.names = RememberedNames(self.clock.seconds)
        self.file = NamesFile(self.clock, self.names, self.state, lambda: self.day)
        self.file.startService()

    def later(self, seconds: float) -> None:
        self.day += seconds
        self.clock.advance(seconds)

    def test_namesSurviveARestart(self) -> None:
        self.names.claimed(SITE, LAPTOP)
        self.names.released(SITE)
        self.file.stopService()
        self.day += 30
        self.start()
        self.assertTrue(self.names.wasHeld(SITE))
        self.assertTrue(self.names.wasHeld(SITE, "laptop"))
        self.assertFalse(self.names.wasHeld(SITE, "desktop"))
        self.assertFalse(self.names.wasHeld(("tcp", "site")))
        self.assertEqual((self.names.wasHeld(SITE, within=60), self.names.wasHeld(SITE, within=20)), (True, False))

    def test_aNameIsExpectedUntilItIsForgotten(self) -> None:
        self.names.expect(SITE, LAPTOP)
        self.later(2 * LATELY_SECONDS)
        self.assertTrue(self.names.wasHeld(SITE))
        self.names.forget(SITE, "desktop")
        self.assertTrue(self.names.wasHeld(SITE))
        self.names.claimed(SITE, Principal(agent="desktop"))
        self.names.expect(SITE, LAPTOP)
        self.assertTrue(self.names.wasHeld(SITE, "desktop"), "one that holds it precedes one that is expected")
        self.names.forget(SITE, "desktop")
        self.names.forget(SITE, "desktop")
        self.assertFalse(self.names.wasHeld(SITE))

    def test_namesSurviveAKill(self) -> None:
        """
        The file is written a second after a change, and holds what is held still to be held each hour.
        """
        self.names.claimed(SITE, LAPTOP)
        self.later(WRITE_SECONDS + 0.1)
        self.start()
        self.assertTrue(self.names.wasHeld(SITE))
        self.names.claimed(SITE, LAPTOP)
        for _ in range(int(2 * LATELY_SECONDS / REFRESH_SECONDS)):
            self.later(REFRESH_SECONDS)
        self.start()
        self.assertTrue(self.names.wasHeld(SITE))

    def test_theyAreForgotten(self) -> None:
        self.names.claimed(SITE, LAPTOP)
        self.later(2 * LATELY_SECONDS)
        self.assertTrue(self.names.wasHeld(SITE))
        self.names.released(SITE)
        self.later(LATELY_SECONDS - 1)
        self.assertTrue(self.names.wasHeld(SITE))
        self.later(2)
        self.assertFalse(self.names.wasHeld(SITE))
        self.file.stopService()
        self.start()
        self.assertEqual(list(self.names), [])

    def test_whoHasNoCredentialAnyMoreDoesNotComeBack(self) -> None:
        self.names.claimed(SITE, LAPTOP)
        self.names.isLive = lambda agent: agent != "laptop"
        self.assertFalse(self.names.wasHeld(SITE))

    def test_namesOfAgentsWithoutCredentialsAreNotWritten(self) -> None:
        """
        Devices are known by other means: they are remembered, but not in the file.
        """
        self.names.isLive = lambda agent: False
        self.names.claimed(SITE, Principal(agent="lab.bench", realm="lab"))
        self.assertTrue(self.names.wasHeld(SITE))
        self.file.stopService()
        self.assertNotIn("bench", self.state.path(FILE).read_text())

    def test_filesThatAreNoUse(self) -> None:
        self.file.stopService()
        for text in ("", "{}", "[1]", '{"names": [1]}', '{"names": [{"kind": "http"}]}', '{"names": 3}', "[" * 100_000, "\0"):
            self.state.write(FILE, text)
            self.start()
            self.assertEqual(list(self.names), [])
            self.file.stopService()

    def test_aClockThatWasSetBack(self) -> None:
        self.names.claimed(SITE, LAPTOP)
        self.file.stopService()
        self.day -= 500
        self.start()
        self.assertEqual(list(self.names), [])

    def test_aFolderThatCannotBeWritten(self) -> None:
        self.file.stopService()
        file = Path(self.mktemp())
        file.write_text("")
        self.state = StateDirectory(file / "below")
        self.start()
        self.names.claimed(SITE, LAPTOP)
        self.later(WRITE_SECONDS + 0.1)
        self.assertTrue(self.names.wasHeld(SITE))

    def tearDown(self) -> None:
        events: Any = self.file.running and self.file.stopService()
        self.assertFalse(events)
