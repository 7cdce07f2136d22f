"""
Man pages: they are what the option tables say, and groff reads them.
"""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tunnelstack.commands.command_lines import programs
from tunnelstack.commands.man_pages import manPages

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "docs" / "man"


class PageTests(SynchronousTestCase):
    """
    docs/man/.
    """

    def setUp(self) -> None:
        self.pages = manPages()

    def test_thePagesAreWhatTheProgramsSay(self) -> None:
        written = {path.name: path.read_text() for path in FOLDER.glob("*.1")}
        self.assertEqual(written.keys(), self.pages.keys(), "run: python docs/man.py")
        for name, text in self.pages.items():
            self.assertEqual(written[name], text, "run: python docs/man.py")

    def test_everyProgramAndCommandHasAPage(self) -> None:
        for program in programs():
            self.assertIn(f"{program.name}.1", self.pages)
            if program.name == "tunnelstack":
                for line in program.commands:
                    self.assertIn(f"tunnelstack-{line.name}.1", self.pages)

    def test_everyOptionIsThere(self) -> None:
        for program in programs():
            text = self.pages[f"{program.name}.1"]
            for option in program.options:
                self.assertIn("\\fB\\-\\-" + option.long.replace("-", "\\-") + "\\fR", text)

    def test_valuesAndVariablesAreThoseOfTheHelp(self) -> None:
        text = self.pages["tunnel-edge.1"]
        self.assertIn("\\fB\\-c\\fR, \\fB\\-\\-config\\fR \\fIFILE\\fR\n", text)
        self.assertIn("TUNNELSTACK_CONFIG stands for it.", text)

    def test_everyPageHasTheUsualSections(self) -> None:
        for name, text in self.pages.items():
            found = re.findall(r"^\.SH (.+)$", text, re.MULTILINE)
            self.assertEqual(found[:4], ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"], name)
            self.assertEqual("EXIT STATUS" in found, name != "tunnelstack.1", name)
            self.assertEqual(found[-1], "SEE ALSO", name)

    def test_noLineBeginsWithARequestByAccident(self) -> None:
        for name, text in self.pages.items():
            for line in text.splitlines():
                self.assertRegex(line, r"\A(\.(TH|SH|TP|BR|nf|fi)\b|[^.']|\Z)", name)

    def test_groffHasNoWarning(self) -> None:
        groff = shutil.which("groff")
        if groff is None:
            raise SkipTest("groff is not installed")
        for path in sorted(FOLDER.glob("*.1")):
            command = [groff, "-man", "-ww", "-z", "-K", "utf8", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30)
            self.assertEqual((done.returncode, done.stderr), (0, ""), path.name)

    def test_theWheelHasThem(self) -> None:
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        self.assertEqual(setup["options.data_files"]["share/man/man1"].split(), ["docs/man/*.1"])
