"""
C{tunnelstack password}, as its users start it.
"""

from __future__ import annotations

import subprocess

from tests.system.stage import BIN, Stage
from tunnelstack.settings.password_hash import parsePasswordEntry


class PasswordTests(Stage):
    """
    What is printed, and exit codes.
    """

    def password(self, *arguments: str, said: str = "secret\n") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "tunnelstack", "password", *arguments], input=said, env=self.environ, capture_output=True, text=True,
            timeout=60,
        )

    def test_aLineThatLetsIn(self) -> None:
        done = self.password("alice")
        self.assertEqual(done.returncode, 0, done.stderr)
        kept = parsePasswordEntry(done.stdout.strip())
        self.assertEqual((kept.user, kept.verify(b"secret"), kept.verify(b"secret\n")), ("alice", True, False))

    def test_mistakesAreReportedInOneSentence(self) -> None:
        for arguments, said, code, sentence in (
            ((), "x\n", 64, "takes one argument"), (("alice", "secret"), "x\n", 64, "takes one argument"),
            (("a",), "\n", 64, "password is empty"),
            (("a:b",), "x\n", 64, "colon"),
        ):  # fmt: skip
            done = self.password(*arguments, said=said)
            self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
            self.assertIn(sentence, done.stderr)
