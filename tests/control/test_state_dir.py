"""
The state folder: private, whole, and found where systemd and XDG say.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config.dev_edge import isStale, keptDevToken, readDevEdge, readDevToken, writeDevEdge
from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings import state_dir
from tunnelstack.settings.state_dir import StateDirectory, socketPath, stateDirectoryPath


class FolderTests(SynchronousTestCase):
    """
    Which folder it is.
    """

    def test_theFolderOfSystemdIsUsedFirst(self) -> None:
        environ = {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "XDG_STATE_HOME": "/x", "HOME": "/h"}
        self.assertEqual(stateDirectoryPath(environ), Path("/var/lib/a"))

    def test_theXDGFolderIsUsedNext(self) -> None:
        self.assertEqual(stateDirectoryPath({"XDG_STATE_HOME": "/x", "HOME": "/h"}), Path("/x/tunnelstack"))

    def test_aRelativeXDGIsIgnored(self) -> None:
        self.assertEqual(stateDirectoryPath({"XDG_STATE_HOME": "x", "HOME": "/h"}), Path("/h/.local/state/tunnelstack"))

    def test_theHomeFolderIsUsedThen(self) -> None:
        self.assertEqual(stateDirectoryPath({"HOME": "/h"}), Path("/h/.local/state/tunnelstack"))

    def test_theUserDatabaseIsUsedLast(self) -> None:
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

    def test_theDevEdgeIsWrittenAndRead(self) -> None:
        self.assertIsNone(readDevEdge(self.state))
        edge = EdgeAddress(
            url="http://localhost:8080", token="ts_dev_c2VjcmV0", tokenFile=str(self.state.path("dev.token"))
        )
        writeDevEdge(self.state, edge)
        self.assertEqual(readDevEdge(self.state), edge)

    def test_theFirstToCreateAFileWins(self) -> None:
        for text in ("first", "second"):
            self.state.create("a", text)
        self.assertEqual(self.state.read("a"), "first")
        self.assertEqual([path.name for path in self.state.folder.iterdir()], ["a"])

    def test_aFileMayBeRemovedTwice(self) -> None:
        self.state.remove("a")
        self.state.write("a", "text")
        self.state.remove("a")
        self.assertIsNone(self.state.read("a"))

    def test_theTokenOfDevEdgesIsKept(self) -> None:
        token = keptDevToken(self.state)
        self.assertEqual((keptDevToken(self.state), readDevToken(self.state)), (token, token))
        self.assertEqual(stat.S_IMODE(self.state.path("dev.token").stat().st_mode), 0o600)

    def test_withoutAFolderTheTokenIsGoodForOneRun(self) -> None:
        file = Path(self.mktemp())
        file.write_text("")
        self.assertTrue(keptDevToken(StateDirectory(Path("/proc/none"))))

    def test_anEdgeThatHasEndedIsStale(self) -> None:
        """
        The file names it, but it does not hold the administration socket: it was killed, or the machine was.
        """
        writeDevEdge(self.state, EdgeAddress(url="http://localhost:8080", token="t"))
        edge = readDevEdge(self.state)
        assert edge is not None
        self.assertTrue(isStale(edge))
        self.assertFalse(isStale(evolve(edge, url="http://localhost:9000")), "the file names another one")
        self.assertFalse(isStale(evolve(edge, tokenFile="/etc/token")), "its address is from elsewhere")
        path, descriptor = socketPath(self.state.path("admin.sock"))
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            self.assertTrue(isStale(edge), "a socket is left over")
            server.listen(1)
            self.assertFalse(isStale(edge))
        if descriptor >= 0:
            os.close(descriptor)

    def test_aDamagedDevEdgeSaysWhatToDo(self) -> None:
        for text in ("url =", "", 'url = "ftp://a"\ntoken = "t"'):
            self.state.write("dev.toml", text)
            with self.assertRaises(ConfigurationError) as caught:
                readDevEdge(self.state)
            self.assertIn("delete it and start tunnel-edge --dev again", str(caught.exception))
