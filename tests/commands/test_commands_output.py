"""
What commands print of the answers of edges: one line for each thing, of visible characters.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any
from unittest import mock

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.commands import admin_client
from tunnelstack.commands import main as cli
from tunnelstack.commands.outgoing_stream import WarningObserver
from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.control.process.exit_status import GaveUp
from tunnelstack.dialect.shellhub.commands import Devices, Request
from tunnelstack.doctor.checks import Finding
from tunnelstack.doctor.command import formatJSON, formatText
from tunnelstack.errors import ConfigurationError

EVIL = "\x1b[2J\u202e\nforged\x7f"
SHOWN = r"\x1b[2J\u202e\nforged\x7f"


class OutputTests(SynchronousTestCase):
    """
    The edge, or what answers in its place, chooses every text in its answers.
    """

    def assertOneLineEach(self, text: str, lines: int) -> None:
        shown = text.split("\n")
        self.assertEqual(shown.pop(), "")
        self.assertEqual(len(shown), lines, text)
        self.assertEqual([line for line in shown if not line.isprintable()], [])
        self.assertIn(SHOWN, text)

    def test_aRowOfATableIsOneLineOfVisibleCharacters(self) -> None:
        self.assertOneLineEach(admin_client.formatTable(("A", "B"), [(EVIL, 1), ("x", EVIL)]), 3)
        stream = {"agent": "a", "stream": 1, "protocol": EVIL, "service": EVIL, "queued": 0} | {
            "visitor": EVIL, "unread": 0, "slow": EVIL, "still": 2.0,
        }  # fmt: skip
        self.assertOneLineEach(admin_client.FORMATTERS["streams"]({"streams": [stream]}), 2)
        device = {"device": "lab.a", "status": "pending", "connected": "", "uid": "3f", "about": EVIL}
        _, rows = Devices().run(Request(), lambda method, path: {"devices": [device]})
        self.assertOneLineEach(admin_client.formatTable(*rows), 2)

    def test_eachFieldOfTheStatusIsOneLine(self) -> None:
        samples = [{"time": 0.0, "status": 200, "octets_in": 1, "octets_out": 2, "seconds": 0.5} | dict.fromkeys(
            ("service", "method", "path", "query"), EVIL
        )]
        self.assertOneLineEach(admin_client.FORMATTERS["samples"]({"samples": samples}), 2)
        said = dict.fromkeys(("state", "url", "version", "pid", "agents", "sessions", "services", "streams", "visitors"), EVIL)
        said |= {"listening": [EVIL], "uptime_seconds": None, "octets_in": 0, "octets_out": 0}    # type: ignore[dict-item]
        self.assertOneLineEach(admin_client.FORMATTERS["status"](said), 7)

    def test_aFindingIsOneLine(self) -> None:
        findings = [Finding("session", False, f"the edge gave a reason: {EVIL}", "wait")]
        edge = EdgeAddress(url="http://localhost:8080")
        self.assertOneLineEach(formatText(edge, findings), 3)
        self.assertNotIn("\x7f", formatJSON(edge, findings))

    def test_JSONForProgramsHoldsTheTextItselfAndNoControls(self) -> None:
        text = admin_client.asJSON({"about": EVIL})
        self.assertEqual(json.loads(text), {"about": EVIL})
        self.assertEqual({character for character in text if not character.isprintable()}, {"\n"})

    def test_complaintsOfConnect(self) -> None:
        written: list[str] = []
        Logger("tunnelstack.agent", observer=WarningObserver(written.append)).warn("refused: {reason}", reason=EVIL)
        self.assertOneLineEach("".join(written), 1)

    def run_(self, error: Exception) -> str:
        def fail() -> Any:
            raise error

        err = io.StringIO()
        with redirect_stderr(err), redirect_stdout(err), mock.patch.object(sys, "argv", ["tunnelstack"]):
            cli._reportErrors("tunnelstack", fail)
        return err.getvalue()

    def test_theErrorThatEndsACommand(self) -> None:
        self.assertOneLineEach(self.run_(GaveUp(f"the edge gave a reason: {EVIL}")), 1)

    def test_aFileMayHaveSeveralMistakes(self) -> None:
        text = self.run_(ConfigurationError("edge.toml:1: one\nedge.toml:2: two\x1b"))
        self.assertEqual(text, "tunnelstack: edge.toml:1: one\nedge.toml:2: two\\x1b\n")
