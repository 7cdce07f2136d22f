"""
Every case of this folder, run as a program against the installed commands.

The gate runs the cases that take about two seconds (L{QUICK}); C{TUNNELSTACK_SOAK=1} runs all of them.
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

QUICK = {
    "case_c2_loop", "case_f08_proxy_line_without_addresses", "case_f10_blanks_after_chunk_sizes",
    "case_f11_servers_that_are_not_strict", "case_f14_octets_from_0x80_in_a_target", "case_f15_text_of_an_address",
    "case_f16_guarded_path_read_in_another_way", "case_f19_members_of_forwarded_proto", "case_h3_no_state_folder",
    "case_s6_ambiguous_fields", "case_s6_websocket_version",
}  # fmt: skip
"""Cases that wait for nothing, and need less than two and a half seconds of processor time with all their programs: most of it
is the start of an edge and an agent."""


class CaseTests(TestCase):
    """
    A case ends with 0 where the commands behave.
    """

    timeout = 900

    def check(self, name: str) -> None:
        if not SOAK and name not in QUICK:
            raise SkipTest("takes longer: TUNNELSTACK_SOAK=1 runs it")
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
