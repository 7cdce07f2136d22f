"""
Programs of a user without a home folder, as in a container that is run by a number (C{docker run --user 12345}), and of one who
cannot write there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.cases.case_s4_no_home import COMMANDS, UNKNOWN
from tests.system.stage import BIN, ROOT, Stage, freePort

AS_UNKNOWN = ["setpriv", "--reuid", str(UNKNOWN), "--regid", str(UNKNOWN), "--clear-groups"]


class HomeTests(Stage):
    """
    Nothing is made in the working directory, and a sentence says what is missing.
    """

    def setUp(self) -> None:
        super().setUp()
        if os.getuid() != 0 or shutil.which("setpriv") is None:
            raise SkipTest("only root can become a user that does not exist, with setpriv (util-linux)")
        self.home = Path(tempfile.mkdtemp(prefix="tunnelstack-"))
        self.addCleanup(shutil.rmtree, self.home)
        self.home.chmod(0o777)
        del self.environ["HOME"]
        if subprocess.run([*self.command("python"), "-c", "import tests"], cwd=self.home, env=self.environ).returncode:
            raise SkipTest(f"other users cannot read {ROOT} and {BIN}")

    def command(self, name: str) -> list[str]:
        return [*AS_UNKNOWN, *super().command(name)]

    def done(self, *command: str, **environ: str) -> tuple[int, str]:
        """
        Run a command until it ends.

        @return: its exit code, and what it said to its user.
        """
        name, *arguments = command
        done = subprocess.run(
            [*self.command(name), *arguments], cwd=self.home, env=self.environ | environ, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        return done.returncode, done.stderr

    def made(self) -> list[str]:
        return sorted(path.name for path in self.home.iterdir())

    def test_nothingIsMadeWithoutAHome(self) -> None:
        for command in COMMANDS:
            code, said = self.done(*command)
            self.assertEqual((code, self.made()), (78, []), said)
            self.assertIn("STATE_DIRECTORY", said)

    def test_nothingIsMadeIfTheHomeIsNoPath(self) -> None:
        code, said = self.done(*COMMANDS[0], HOME="~")
        self.assertEqual((code, self.made()), (78, []), said)

    def test_aStateFolderIsEnough(self) -> None:
        self.environ["STATE_DIRECTORY"] = str(self.home / "state")
        self.startEdge()
        site = self.home / "state" / "site"
        site.mkdir()
        (site / "index.html").write_text("here")
        self.startAgent("--name", "site", "serve", str(site))
        self.assertEqual(self.sees("site").body, b"here")
        self.assertEqual(self.made(), ["state"])

    def test_anEdgeServesWithAHomeThatCannotBeWritten(self) -> None:
        """
        An edge serves, and says what does not work.
        """
        home = self.home / "home"
        home.mkdir(mode=0o555)
        edge = self.program("tunnel-edge", "--dev", "--port", str(freePort()), HOME=str(home))
        edge.hears(r"^edge +ready ")
        edge.hears(r"^warning +administration is not available at .*: Permission denied")
        self.assertEqual(edge.end(), 0)
        edge.hears(r"^warning +the names of services are not kept: .* STATE_DIRECTORY can name another one")
        code, said = self.done("tunnelstack", "token", "new", "a", HOME=str(home))
        self.assertEqual((code, list(home.iterdir())), (78, []), said)
        self.assertIn("Permission denied; STATE_DIRECTORY can name another one", said)
