"""
The state folder: private, whole, and found where systemd and XDG say.
"""

from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config.dev_edge import readDevEdge, writeDevEdge
from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings import state_dir
from tunnelstack.settings.state_dir import StateDirectory, stateDirectoryPath


class FolderTests(SynchronousTestCase):
    """
    Which folder it is.
    """

    def test_systemdFirst(self) -> None:
        environ = {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "XDG_STATE_HOME": "/x", "HOME": "/h"}
        self.assertEqual(stateDirectoryPath(environ), Path("/var/lib/a"))

    def test_thenXDG(self) -> None:
        self.assertEqual(stateDirectoryPath({"XDG_STATE_HOME": "/x", "HOME": "/h"}), Path("/x/tunnelstack"))

    def test_aRelativeXDGIsIgnored(self) -> None:
        self.assertEqual(stateDirectoryPath({"XDG_STATE_HOME": "x", "HOME": "/h"}), Path("/h/.local/state/tunnelstack"))

    def test_thenHome(self) -> None:
        self.assertEqual(stateDirectoryPath({"HOME": "/h"}), Path("/h/.local/state/tunnelstack"))

    def test_thenTheHomeOfTheUser(self) -> None:
        self.patch(state_dir, "getpwuid", lambda uid: SimpleNamespace(pw_dir="/home/ada"))
        for environ in ({}, {"HOME": ""}, {"HOME": "~"}, {"HOME": "relative", "XDG_STATE_HOME": "x"}):
            self.assertEqual(stateDirectoryPath(environ), Path("/home/ada/.local/state/tunnelstack"))

    def test_noFolderIsMadeUpWhereThereIsNoHome(self) -> None:
        def unknown(uid: int) -> Any:
            raise KeyError(uid)

        for database in (unknown, lambda uid: SimpleNamespace(pw_dir="")):
            self.patch(state_dir, "getpwuid", database)
            for environ in ({}, {"HOME": ""}, {"HOME": "~"}, {"HOME": ".", "XDG_STATE_HOME": "~/state"}):
                error = self.assertRaises(ConfigurationError, stateDirectoryPath, environ)
                self.assertIn("STATE_DIRECTORY", str(error))
            self.assertEqual(stateDirectoryPath({"STATE_DIRECTORY": "/s"}), Path("/s"))
            self.assertEqual(stateDirectoryPath({"XDG_STATE_HOME": "/x"}), Path("/x/tunnelstack"))


class StateTests(SynchronousTestCase):
    """
    What is kept in it.
    """

    def setUp(self) -> None:
        self.state = StateDirectory(Path(self.mktemp()).absolute() / "deep" / "state")

    def test_nobodyElseReadsIt(self) -> None:
        self.state.write("a", "text")
        self.assertEqual(stat.S_IMODE(self.state.folder.stat().st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(self.state.path("a").stat().st_mode), 0o600)

    def test_theLastIsRead(self) -> None:
        self.assertIsNone(self.state.read("a"))
        for text in ("first", "second"):
            self.state.write("a", text)
        self.assertEqual(self.state.read("a"), "second")
        self.assertEqual([path.name for path in self.state.folder.iterdir()], ["a"])

    def test_aFolderThatCannotBeIsOneSentence(self) -> None:
        file = Path(self.mktemp())
        file.write_text("")
        with self.assertRaises(ConfigurationError) as caught:
            StateDirectory(file.absolute() / "state").write("a", "text")
        self.assertIn("STATE_DIRECTORY can name another", str(caught.exception))

    def test_theDevEdge(self) -> None:
        self.assertIsNone(readDevEdge(self.state))
        edge = EdgeAddress(url="http://localhost:8080", token="ts_dev_c2VjcmV0")
        writeDevEdge(self.state, edge)
        self.assertEqual(readDevEdge(self.state), edge)

    def test_aDamagedDevEdgeSaysWhatToDo(self) -> None:
        for text in ("url =", "", 'url = "ftp://a"\ntoken = "t"'):
            self.state.write("dev.toml", text)
            with self.assertRaises(ConfigurationError) as caught:
                readDevEdge(self.state)
            self.assertIn("delete it and start tunnel-edge --dev again", str(caught.exception))
