"""
Files with secrets: who can read them, and what happens when they change.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.logger import Logger, LogPublisher, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.secret_files import TokenFile, exposed, warnOfExposed


class Files(SynchronousTestCase):
    """
    A folder, and what is logged.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.logged: list[str] = []
        publisher = LogPublisher(lambda event: self.logged.append(formatEvent(event)))
        self.log = Logger("tunnelstack.test", observer=publisher)
        self.patch(TokenFile, "log", self.log)

    def file(self, name: str, mode: int, text: str = "secret") -> str:
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)


class ExposedTests(Files):
    """
    Who else can read it.
    """

    def test_theBitsOfGroupAndOthersCount(self) -> None:
        for mode, found in ((0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o644, True), (0o620, False)):
            path = self.file(f"{mode:o}", mode)
            self.assertEqual(exposed([path], {}), [path] if found else [], oct(mode))

    def test_whatIsNoFileIsLeftOut(self) -> None:
        os.mkfifo(self.folder / "pipe", 0o644)
        paths = ["", "/dev/null", str(self.folder), str(self.folder / "pipe"), str(self.folder / "missing"), "a\0b"]
        self.assertEqual(exposed(paths, {}), [])

    def test_credentialsOfSystemdAreLeftOut(self) -> None:
        path = self.file("tunnelstack-token", 0o440)
        self.assertEqual(exposed([path], {"CREDENTIALS_DIRECTORY": f"{self.folder}/"}), [])
        self.assertEqual(exposed([path], {"CREDENTIALS_DIRECTORY": "/elsewhere"}), [path])

    def test_theWarningNamesFileAndRemedyOnce(self) -> None:
        path = self.file("token", 0o644)
        warnOfExposed(self.log, [path, path, self.file("key", 0o600)])
        self.assertEqual(self.logged, [f"{path} contains a secret and can be read by other users (chmod 600 {path})"])


class TokenFileTests(Files):
    """
    A token that changes.
    """

    def test_theFileIsReadEachTime(self) -> None:
        path = self.file("token", 0o600, "old\n")
        token = TokenFile(path, "old")
        self.assertEqual(token(), "old")
        self.file("token", 0o600, " new \n")
        self.assertEqual(token(), "new")

    def test_aTokenFromElsewhereStays(self) -> None:
        self.assertEqual(TokenFile("", "given")(), "given")

    def test_whatCannotBeReadLeavesTheLastTokenAndIsLoggedOnce(self) -> None:
        path = self.file("token", 0o600, "old")
        token = TokenFile(path, "first")
        self.assertEqual(token(), "old")
        for text in ("", "two words", "\x1b", "x" * 2000):
            self.logged.clear()
            self.file("token", 0o600, text)
            self.assertEqual((token(), token()), ("old", "old"))
        self.logged.clear()
        os.unlink(path)
        self.assertEqual((token(), token()), ("old", "old"))
        reason = "cannot be read: No such file or directory"
        self.assertEqual(self.logged, [f"{path} {reason}; the previous token is still used"])
        self.file("token", 0o600, "new")
        self.assertEqual(token(), "new")
        os.unlink(path)
        token()
        self.assertEqual(len(self.logged), 2)

    def test_aPipeIsNotReadAgain(self) -> None:
        path = str(self.folder / "pipe")
        os.mkfifo(path)
        self.assertEqual(TokenFile(path, "piped")(), "piped")

    def test_theTokenIsNotShown(self) -> None:
        token: Any = TokenFile("", "hidden-token")
        self.assertNotIn("hidden-token", repr(token))
