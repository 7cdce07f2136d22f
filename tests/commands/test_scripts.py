"""
Console scripts that are stopped before they have begun.

Kind: Ctrl-C at any moment.  While a program is being loaded, Python raises C{KeyboardInterrupt} from an import, which no
handler of the program sees.
"""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.commands import main, scripts
from tunnelstack.control.process import exit_status

ROOT = Path(__file__).resolve().parent.parent.parent

LOADED = """
import sys
from tunnelstack.commands import scripts
print(*(name for name in sys.modules if name.partition(".")[0] in ("twisted", "zope", "attrs", "OpenSSL")))
"""


class ScriptTests(SynchronousTestCase):
    """
    The functions that packages install as programs.
    """

    def test_theyAreWhatIsInstalled(self) -> None:
        parser = configparser.ConfigParser()
        parser.read(ROOT / "setup.cfg")
        lines = parser["options.entry_points"]["console_scripts"].split("\n")
        entries = dict(line.split(" = ") for line in lines if line)
        self.assertEqual(entries, {
            "tunnelstack": "tunnelstack.commands.scripts:tunnelstack",
            "tunnel-edge": "tunnelstack.commands.scripts:tunnelEdge",
            "tunnel-agent": "tunnelstack.commands.scripts:tunnelAgent",
        })  # fmt: skip

    def test_anInterruptWhileLoadingIsAStop(self) -> None:
        def interrupted(name: str) -> None:
            raise KeyboardInterrupt

        self.patch(scripts, "import_module", interrupted)
        for script in (scripts.tunnelEdge, scripts.tunnelAgent, scripts.tunnelstack):
            self.assertEqual(script(), exit_status.STOPPED)

    def test_theExitCodeIsThatOfTheProgram(self) -> None:
        for name, script in (
            ("tunnelEdge", scripts.tunnelEdge), ("tunnelAgent", scripts.tunnelAgent), ("main", scripts.tunnelstack),
        ):  # fmt: skip
            self.patch(main, name, lambda: 69)
            self.assertEqual(script(), 69)

    def test_nothingElseIsLoadedBefore(self) -> None:
        loaded = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=60, cwd=ROOT)
        self.assertEqual(loaded.stdout.strip(), "", loaded.stderr)
