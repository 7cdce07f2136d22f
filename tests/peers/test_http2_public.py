"""
h2spec against the public port of a whole edge, whose requests reach a local server behind an agent.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from tests.peers._go import program
from tests.system.house import LIMITS, House

ROUTE = '[[route]]\nhost = "localhost"\nto = "keeps"\n'

FAILURES = {
    # h2spec sends 20 000 octets of fields, and expects that they exceed a frame; visitors may send frames of 64 KiB.
    "http2/4.2: Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE",
}
"""What fails of h2spec, with the reason."""


class PublicPortTests(SynchronousTestCase):
    """
    What h2spec finds.
    """

    def test_h2specFindsNothingElse(self) -> None:
        executable = str(program("h2spec"))
        house = House(LIMITS, ROUTE)
        self.addCleanup(house.close)
        report = Path(self.mktemp()).absolute()
        done = subprocess.run(
            [executable, str(house.ports["https"]), str(report)], capture_output=True, text=True, timeout=300,
            env=os.environ | {"H2SPEC_HOST": "localhost", "H2SPEC_TLS": "1"},
        )
        cases = list(ElementTree.parse(report).iter("testcase"))
        self.assertGreaterEqual(len(cases), 146, done.stdout + done.stderr)
        failed = {
            f"{case.get('package')}: {case.get('classname')}"
            for case in cases if list(case.iter("failure")) or list(case.iter("error"))
        }
        self.assertEqual(failed, FAILURES)
