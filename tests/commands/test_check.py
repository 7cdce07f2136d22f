"""
C{tunnelstack check}: what is told of a file, and the exit code.
"""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.commands import main as cli


class CheckTests(SynchronousTestCase):
    """
    Files of both kinds, good and bad.
    """

    def run_(self, *arguments: str) -> tuple[int, str, str]:
        """
        @return: exit code, standard output, standard error.
        """
        out, err = StringIO(), StringIO()
        with patch("sys.argv", ["tunnelstack", *arguments]), redirect_stdout(out), redirect_stderr(err):
            code = cli.main()
        return code, out.getvalue(), err.getvalue()

    def check(self, text: str) -> tuple[int, str]:
        path = Path(self.mktemp())
        path.write_text(text)
        code, out, err = self.run_("check", str(path))
        self.assertFalse(out and err)
        return code, (out or err).replace(str(path), "FILE")

    def test_goodFiles(self) -> None:
        self.assertEqual(
            self.check('[edge]\nlisten = ["tcp:80"]\ndomain = "a.net"\n'),
            (0, "FILE: good, an edge for a.net; tokens: 0, routes: 0\n"),
        )
        self.assertEqual(
            self.check('[[edge]]\nurl = "https://a.net"\n[[service]]\nname = "a"\ntarget = "unix:/run/a.sock"\n'),
            (0, "FILE: good, an agent; services: 1, edges: 1\n"),
        )

    def test_mistakesOfTheFile(self) -> None:
        code, told = self.check("[edge]\nlisen = []\n")
        self.assertEqual((code, told), (78, "tunnelstack: FILE:2: [edge] has no key lisen; did you mean listen?\n"))

    def test_endpointsThatCannotBe(self) -> None:
        code, told = self.check('[edge]\nlisten = ["tcp:80", "ftp:21", "tcp:http-alt-x"]\n')
        self.assertEqual(code, 78)
        self.assertEqual(len(told.splitlines()), 2, told)
        self.assertIn("FILE: listen: 'ftp:21' is not a valid endpoint", told)

    def test_listenersAndUsersThatCannotBe(self) -> None:
        code, told = self.check(
            '[[listener]]\nendpoint = "tls:nowhere:port=443"\n[[route]]\nhost = "a.net"\nto = "a"\nusers_file = "nobody"\n'
        )
        self.assertEqual(code, 78)
        self.assertIn("FILE: listen: 'nowhere' cannot be read", told)
        self.assertIn("FILE: route a.net: users_file 'nobody' cannot be read", told)

    def test_targetsThatCannotBe(self) -> None:
        code, told = self.check('[[service]]\nname = "a"\ntarget = "99999"\n[[service]]\nname = "b"\ntarget = "wxyz:1:2"\n')
        self.assertEqual(code, 78)
        self.assertIn("FILE: service a: '99999' is not a target: the port must be", told)
        self.assertIn("FILE: service b: 'wxyz:1:2' is not a target", told)

    def test_aFileThatIsNotThere(self) -> None:
        self.assertEqual(
            self.run_("check", "/nowhere.toml"),
            (78, "", "tunnelstack: /nowhere.toml cannot be read: No such file or directory\n"),
        )

    def test_usage(self) -> None:
        """
        What is wrong, and whose C{--help} says more.
        """
        for asked, arguments in (
            ("tunnelstack", ()), ("tunnelstack check", ("check",)), ("tunnelstack check", ("check", "a", "b")),
            ("tunnelstack", ("chekc", "a")), ("tunnelstack check", ("check", "--strict", "a")), ("tunnelstack", ("--what",)),
        ):  # fmt: skip
            code, out, err = self.run_(*arguments)
            self.assertEqual((code, out), (64, ""), arguments)
            self.assertTrue(err.startswith("tunnelstack: "), err)
            self.assertTrue(err.endswith(f"\nSee {asked} --help.\n"), err)
