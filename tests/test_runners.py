"""
A test that should be red is red, whoever runs it: the suite is written for trial and for pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent

LATE = """
from twisted.internet import reactor, task
from twisted.trial.unittest import TestCase

class LateTests(TestCase):
    def test_failsAfterATurn(self):
        return task.deferLater(reactor, 0.001, self.fail, "late")

    def test_leavesATimer(self):
        reactor.callLater(100, print)

    def test_succeedsAfterATurn(self):
        return task.deferLater(reactor, 0.001, str)
"""


class RunnerTests(SynchronousTestCase):
    """
    Deferreds that fail and reactors that are left unclean fail their test.
    """

    def runLate(self, *command: str) -> str:
        folder = Path(self.mktemp())
        folder.mkdir()
        folder.joinpath("test_late.py").write_text(LATE)
        environment = {**os.environ, "PYTHONPATH": os.fspath(folder.absolute())}
        line = [sys.executable, "-m", *command]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        return done.stdout

    def test_pytestSeesLateFailures(self) -> None:
        said = self.runLate("pytest", "-q", "-c", os.fspath(ROOT / "tox.ini"), "--rootdir", ".", "test_late.py")
        self.assertIn("2 failed, 1 passed", said)

    def test_trialSeesLateFailures(self) -> None:
        said = self.runLate("twisted.trial", "test_late")
        self.assertIn("failures=1, errors=1, successes=1", said)
