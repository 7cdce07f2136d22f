"""
C{tunnelstack check}: what is told of a file, and the exit code.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import Mock, patch

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.commands import main as cli

EDGE = "https://edge.example.net"
SERVICE = '[[service]]\nname = "a"\ntarget = "3000"\n'
TENANT = '[[tenant]]\nid = "00000000-0000-4000-0000-000000000000"\nnamespace = "lab"\n'

WRONG_EDGES = {
    'listen = ["ftp:21"]': "'ftp:21' is not a valid endpoint",
    'listen = ["tcp:99999"]': "the port must be from 0 to 65535",
    "listen = []": "no endpoint to listen on is configured",
    'listen = ["tls:nowhere:port=443"]': "'nowhere' cannot be read",
    '[admin]\nlisten = "ftp:21"': "[admin] listen: 'ftp:21' is not a valid endpoint",
    '[ssh]\nlisten = ["ftp:21"]': "[ssh] listen: 'ftp:21' is not a valid endpoint",
    '[ssh]\nlisten = ["0"]\nauthorized_keys_file = "nowhere"': "authorized_keys_file: nowhere does not exist",
    '[ssh]\nlisten = ["0"]\nhost_keys_file = "GARBAGE"': "contains no SSH host key",
    '[[route]]\nhost = "a.net"\nto = "a"\nusers_file = "nowhere"': "users_file 'nowhere' cannot be read",
    '[[checker]]\nauth = "nothing:x"': "nothing",
    '[shellhub]\nkey_file = "nowhere"': "nowhere cannot be read",
    f'[shellhub]\npolicy = "install-key"\n{TENANT}install_keys_file = "nowhere"': "nowhere cannot be read",
}
"""What follows C{[edge]} in a file with which no edge starts, and what is reported."""

WRONG_AGENTS = {
    "": "nothing to publish",
    '[[service]]\nname = "a"\ntarget = "0"': "the port must be from 1 to 65535",
    '[[service]]\nname = "a"\ntarget = "http://localhost/app"': "leave out the path",
    '[[service]]\nname = "a"\ntarget = "3000"\ninsecure_origin = true': "insecure_origin is for a target at https:",
    '[[service]]\nname = "a"\nkind = "serve"\ntarget = "nowhere"': "nowhere is not a folder",
    '[[service]]\nname = "a"\nkind = "ssh"\ntarget = "nonsense"': "'nonsense' is not a target",
    '[[service]]\nname = "a"\nkind = "ssh"\ntarget = "embedded"': "would accept no login",
    '[[service]]\nname = "a"\nkind = "ssh"\ntarget = "embedded"\nauthorized_keys_file = "nowhere"': "nowhere, which lists",
    f'[[edge]]\nurl = "{EDGE}"\ntoken_file = "nowhere"\n{SERVICE}': "nowhere cannot be read",
    f'[[edge]]\nurl = "{EDGE}"\ntoken_file = "$NOWHERE/token"\n{SERVICE}': "an environment variable that is not set",
    f'[[edge]]\nurl = "{EDGE}"\nca_file = "nowhere"\n{SERVICE}': "'nowhere' cannot be read",
    f'[[edge]]\nurl = "{EDGE}"\ncertificate_file = "GARBAGE"\n{SERVICE}': "contains no usable certificate",
    f'[[edge]]\nurl = "{EDGE}"\nproxy = "socks5://a"\n{SERVICE}': "proxy",
    f'[[edge]]\nurl = "http://edge.example.net"\n{SERVICE}': "unencrypted",
    f'[[shellhub]]\nurl = "{EDGE}"\ntenant = "00000000-0000-4000-0000-000000000000"\nca_file = "nowhere"': "'nowhere' cannot",
}
"""A file with which no agent starts, and what is reported."""


class Case(SynchronousTestCase):
    """
    A user with an empty state folder.
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
        path = self.file(text)
        code, out, err = self.run_("check", path)
        self.assertFalse(out and err, (out, err))
        return code, (out or err).replace(path, "FILE")

    def file(self, text: str) -> str:
        path = Path(self.mktemp())
        path.write_text(text)
        return str(path)

    def setUp(self) -> None:
        self.token = Path(self.mktemp()).absolute()
        self.token.write_text("token")
        self.token.chmod(0o600)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("TUNNELSTACK_")}
        changed = patch.dict(os.environ, environ | {"STATE_DIRECTORY": self.mktemp()}, clear=True)
        changed.start()
        self.addCleanup(changed.stop)


class CheckTests(Case):
    """
    Files of both kinds, good and bad.
    """

    def test_goodFilesAreSummarized(self) -> None:
        self.assertEqual(
            self.check('[edge]\nlisten = ["tcp:80"]\ndomain = "a.net"\n'),
            (0, "FILE: good, an edge for a.net; tokens: 0, routes: 0\n"),
        )
        self.assertEqual(
            self.check(f'[[edge]]\nurl = "https://a.net"\ntoken_file = "{self.token}"\n{SERVICE}'),
            (0, "FILE: good, an agent; services: 1, edges: 1\n"),
        )

    def test_theTablesOfDialectsAreCounted(self) -> None:
        host = '[[koding.host]]\nhost = "{}.a.net"\nidentifier_sha256 = "' + "0" * 64 + '"\n'
        self.assertEqual(
            self.check('[edge]\nlisten = ["tcp:80"]\ndomain = "a.net"\n[koding]\n' + host.format("b") + host.format("c")),
            (0, "FILE: good, an edge for a.net; tokens: 0, routes: 0, koding: 1, koding.host: 2\n"),
        )
        self.assertEqual(
            self.check(f'[[agentserver]]\nurl = "https://a.net"\nsandbox = "b"\ntoken_file = "{self.token}"\n'),
            (0, "FILE: good, an agent; services: 0, edges: 0, agentserver: 1\n"),
        )

    def test_whatOnlyTheEnvironmentLacksIsNoMistakeOfTheFile(self) -> None:
        """
        A token may come from a unit of systemd, for example.
        """
        for text, told, edges in (
            (f'[[edge]]\nurl = "https://a.net"\n{SERVICE}', "no token for https://a.net is configured", 1),
            (SERVICE, "no edge is configured", 0),
        ):
            path = self.file(text)
            code, out, err = self.run_("check", path)
            self.assertEqual((code, out), (0, f"{path}: good, an agent; services: 1, edges: {edges}\n"))
            self.assertIn(f"{path}: in this environment, {told}", err)
        code, told = self.check(f'[[edge]]\nurl = "http://a.net"\n{SERVICE}')       # other mistakes are found all the same
        self.assertEqual(code, 78)
        self.assertIn("unencrypted", told)

    def test_mistakesOfTheFileAreReported(self) -> None:
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

    def test_wrongArgumentsAreReportedWithTheirHelp(self) -> None:
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


class StartTests(Case):
    """
    The same files, checked and used for a start: both find the same.

    The kind: a check that is a second implementation of what a start does accepts files that will not start.
    """

    def both(self, text: str, program: Callable[[], int], *arguments: str) -> str:
        """
        Check that both refuse a file for the same reasons.

        @return: the reasons.
        """
        garbage = self.file("garbage\n")
        Path(garbage).chmod(0o600)
        path = self.file(text.replace("GARBAGE", garbage))
        with patch.dict(os.environ, {"TUNNELSTACK_TOKEN": "token"}):
            checked, _, found = self.run_("check", path)
            started, err = self.start(program, "--config", path, *arguments)
        self.assertEqual((checked, started), (78, 78), (text, found, err))
        self.assertEqual(self.sentences(found, path), self.sentences(err, path), text)
        return found

    def start(self, program: Callable[[], int], *arguments: str) -> tuple[int, str]:
        """
        Start a program, up to where its reactor would run.
        """
        out, err = StringIO(), StringIO()
        with (
            patch("sys.argv", ["program", *arguments]), redirect_stderr(err), redirect_stdout(out),
            patch.object(cli, "runReactor", lambda *_: 0), patch.object(cli, "standardWriters", lambda *_: (Mock(), Mock())),
            patch.object(cli.choice, "install", lambda environ: None),
        ):
            return program(), err.getvalue()

    def sentences(self, text: str, path: str) -> list[str]:
        """
        What a program reported, without its own name and the name of the file.
        """
        lines = [line.split(": ", 1)[1] if line.startswith("tunnel") else line for line in text.splitlines()]
        return [line.removeprefix(f"{path}: ") for line in lines]

    def test_mistakesOfEdgesAreReportedByBothPrograms(self) -> None:
        for text, told in WRONG_EDGES.items():
            self.assertIn(told, self.both(f"[edge]\n{text}\n", cli.tunnelEdge), text)

    def test_mistakesOfAgentsAreReportedByBothPrograms(self) -> None:
        for text, told in WRONG_AGENTS.items():
            more = "" if "[[edge]]" in text else f'[[edge]]\nurl = "{EDGE}"\n'
            self.assertIn(told, self.both(f"[agent]\n{text}\n{more}", cli.tunnelAgent, "start"), text)

    def test_allMistakesAreReportedTogether(self) -> None:
        text = '[edge]\nlisten = ["ftp:21", "tcp:99999"]\n[admin]\nlisten = "ftp:22"\n'
        self.assertEqual(len(self.both(text, cli.tunnelEdge).splitlines()), 3)
        services = '[[service]]\nname = "a"\ntarget = "0"\n[[service]]\nname = "b"\ntarget = "wxyz:1:2"\n'
        text = f'[[edge]]\nurl = "{EDGE}"\n{services}'
        self.assertEqual(len(self.both(text, cli.tunnelAgent, "start").splitlines()), 2)

    def test_wrongArgumentsOfASubcommandAreReportedWithItsHelp(self) -> None:
        for asked, arguments in (
            ("tunnel-agent koding", ("koding", "--what")), ("tunnel-agent koding", ("koding",)),
            ("tunnel-agent koding", ("--give-up-after", "5", "koding", "--what")), ("tunnel-agent", ("http",)),
            ("tunnel-agent", ("--what",)), ("tunnel-agent", ("nonsense",)),
        ):  # fmt: skip
            code, err = self.start(cli.tunnelAgent, *arguments)
            self.assertEqual(code, 64, arguments)
            self.assertTrue(err.endswith(f"\nSee {asked} --help.\n"), err)
