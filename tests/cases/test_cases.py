"""
Every case of this folder, run as a program against the installed commands.

The gate runs the cases that need less than two seconds (L{QUICK}); C{TUNNELSTACK_SOAK=1} runs all of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, TestCase

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent.parent
SOAK = os.environ.get("TUNNELSTACK_SOAK") == "1"

CASES = sorted(path.stem for path in FOLDER.glob("case_*.py"))

QUICK: set[str] = set()
"""Cases that need less than two seconds each."""


class CaseTests(TestCase):
    """
    A case ends with 0 where the commands behave.
    """

    timeout = 900

    def check(self, name: str) -> None:
        if not SOAK and name not in QUICK:
            raise SkipTest("needs more than two seconds: TUNNELSTACK_SOAK=1 runs it")
        command = [sys.executable, "-m", f"tests.cases.{name}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=self.timeout)
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")

    def test_everyQuickCaseExists(self) -> None:
        self.assertEqual(QUICK - set(CASES), set())


def _define(name: str) -> None:
    def test(self: CaseTests) -> None:
        self.check(name)

    setattr(CaseTests, f"test_{name}", test)


for _name in CASES:
    _define(_name)
