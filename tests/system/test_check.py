"""
C{tunnelstack check} and a start, with the same files: both find the same.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.system.stage import Stage

EDGE = "https://edge.example.net"
KEYS = 'authorized_keys_file = "keys"\nhost_keys_file = "new"\n'
SERVICE = '[[service]]\nname = "a"\ntarget = "3000"\n'


class CheckTests(Stage):
    """
    The kind: a check that is a second implementation of what a start does accepts files that will not start.
    """

    timeout = 300

    def setUp(self) -> None:
        super().setUp()
        (self.home / "garbage").write_text("garbage\n")
        (self.home / "garbage").chmod(0o600)
        self.path = self.home / "file.toml"
        self.environ["TUNNELSTACK_TOKEN"] = "token"

    def run_(self, program: str, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [*self.command(program), *arguments], env=self.environ, capture_output=True, text=True, timeout=60, cwd=self.home
        )
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stderr

    def sentences(self, text: str) -> list[str]:
        """
        What a program reported, without its own name and the name of the file.
        """
        lines = [line.split(": ", 1)[1] if line.startswith("tunnel") else line for line in text.splitlines()]
        return [line.removeprefix(f"{self.path.name}: ") for line in lines]

    def both(self, text: str, program: str, *arguments: str) -> str:
        """
        Check that both refuse a file for the same reason.

        @return: the reason.
        """
        self.path.write_text(text)
        checked = self.run_("tunnelstack", "check", self.path.name)
        started = self.run_(program, "--config", self.path.name, *arguments)
        self.assertEqual((checked[0], started[0]), (78, 78), (text, checked, started))
        self.assertEqual(self.sentences(checked[1]), self.sentences(started[1]), text)
        return checked[1]

    def test_bothFindTheSame(self) -> None:
        """
        C{tests/commands/test_check.py} has more files.
        """
        for text, program, arguments in (
            ('[edge]\nlisten = ["ftp:21", "tcp:99999"]\n', "tunnel-edge", ()),
            ('[edge]\n[shellhub]\nkey_file = "nowhere"\n', "tunnel-edge", ()),
            (f'[[edge]]\nurl = "{EDGE}"\nca_file = "nowhere"\n{SERVICE}', "tunnel-agent", ("start",)),
        ):  # fmt: skip
            self.both(text, program, *arguments)

    def test_twistdReportsAMistake(self) -> None:
        """
        It ends with a sentence, too.
        """
        self.path.write_text('[edge]\nlisten = ["ftp:21"]\n')
        code, err = self.run_("twistd", "-n", "--pidfile=", "tunnel-edge", "--config", "file.toml")
        self.assertEqual(code, 78, err)
        self.assertIn("tunnel-edge: file.toml: listen: 'ftp:21' is not a valid endpoint", err)

    def test_aFileOfTheOtherRoleIsNamed(self) -> None:
        """
        The kind: a file that is good, but for another program.
        """
        for role, other, program, text, arguments in (
            ("agent", "edge", "tunnel-edge", f'[[edge]]\nurl = "{EDGE}"\n{SERVICE}', ()),
            ("agent", "edge", "tunnel-edge", SERVICE, ()), ("agent", "edge", "tunnel-edge", "[agent]\ndrain_seconds = 1", ()),
            ("edge", "agent", "tunnel-agent", "[edge]\ndomain = 'a.net'\n[limits]\nvisitors = 5", ("start",)),
            ("edge", "agent", "tunnel-agent", "[[route]]\nhost = 'a.net'\nto = 'a'\n", ("http", "3000")),
            ("edge", "agent", "tunnel-agent", "[admin]\nlisten = '1'\n", ("start",)),
        ):  # fmt: skip
            self.path.write_text(text)
            code, err = self.run_(program, "--config", "file.toml", *arguments)
            self.assertEqual((code, err.count("\n")), (78, 1), err)
            self.assertIn(f"file.toml is the file of an {role}, because it has [", err)
            self.assertIn(f"; the file of an {other} has [", err)
        for command in (("connect", "a"), ("doctor",)):
            code, err = self.run_("tunnelstack", *command, "--config", "file.toml")
            self.assertIn("file.toml is the file of an edge", err)

    def test_aCheckCreatesNothing(self) -> None:
        (self.home / "keys").write_text("")
        device = f'[[shellhub]]\nurl = "{EDGE}"\ntenant = "00000000-0000-4000-0000-000000000000"\n{KEYS}'
        for text in (
            '[edge]\n[ssh]\nlisten = ["0"]\nhost_keys_file = "new"\n[shellhub]\n',
            f'[[edge]]\nurl = "{EDGE}"\n[[service]]\nname = "a"\nkind = "ssh"\ntarget = "embedded"\n{KEYS}{device}',
        ):
            self.path.write_text(text)
            before = sorted(Path(self.home).rglob("*"))
            code, err = self.run_("tunnelstack", "check", "file.toml")
            self.assertEqual((code, err), (0, ""))
            self.assertEqual(sorted(Path(self.home).rglob("*")), before)
