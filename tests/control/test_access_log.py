"""
The access log.
"""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.agent.requests import AgentAccessRecord
from tunnelstack.control.access_log import FLUSH_LINES, AccessLog, accessLog, formatJSON, formatText
from tunnelstack.errors import ConfigurationError


def request(**other: Any) -> AgentAccessRecord:
    """
    One that is over.
    """
    usual: dict[str, Any] = {
        "service": "site", "method": "GET", "host": "site.example", "target": "/a?b", "visitor": "192.0.2.1", "trace": "t-1",
        "status": 200, "octets": 12, "seconds": 0.0025,
    }  # fmt: skip
    return AgentAccessRecord(**(usual | other))


class FormTests(SynchronousTestCase):
    """
    Lines.
    """

    def test_JSON(self) -> None:
        line = formatJSON(request(target='/"\\\n\x1b[31mé', failed=ValueError("gone")), 1_800_000_000.5)
        self.assertEqual(line.count("\n"), 1)
        said = json.loads(line)
        self.assertEqual((said["request"], said["status"], said["octets"]), ("t-1", 200, 12))
        self.assertEqual((said["target"], said["reason"]), ('/"\\\n\x1b[31mé', "gone"))
        self.assertEqual(said["time"], "2027-01-15T08:00:00.500+00:00")
        self.assertEqual(said["seconds"], 0.0025)

    def test_text(self) -> None:
        line = formatText(request(target="/\x1b[31m"), 0)
        self.assertEqual(
            line, "access    200 GET site.example/\\u001b[31m   12 octets, 2.5 ms, for 192.0.2.1 (request t-1)\n"
        )

    def test_noPartOfATextLineIsMoreThanVisible(self) -> None:
        evil = "x\x1b[2J\u202e\n\x9b\x7f"
        line = formatText(request(target=evil, host=evil, method=evil, visitor=evil, trace=evil, service=evil), 0)
        self.assertTrue(line[:-1].isprintable(), line)

    def test_JSONHasNoControls(self) -> None:
        evil = "x\x1b\u2028\n\x9b\x7f"
        line = formatJSON(request(target=evil, host=evil, method=evil, visitor=evil, trace=evil, failed=ValueError(evil)), 0)
        self.assertTrue(line[:-1].isprintable() and line.isascii(), line)
        self.assertEqual(json.loads(line)["visitor"], evil)


class LogTests(SynchronousTestCase):
    """
    Writing.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.out = StringIO()

    def test_linesAreWrittenSoonAndTogether(self) -> None:
        log = AccessLog(self.clock, lambda: self.out, formatText, lambda: 0.0)
        log(request())
        log(request())
        self.assertEqual(self.out.getvalue(), "")
        self.clock.advance(0.2)
        self.assertEqual(self.out.getvalue().count("\n"), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_linesThatWaitAreBounded(self) -> None:
        log = AccessLog(self.clock, lambda: self.out, formatText, lambda: 0.0)
        for _ in range(FLUSH_LINES + 1):
            log(request())
        self.assertEqual(self.out.getvalue().count("\n"), FLUSH_LINES)

    def test_aFullDiskCostsLinesOnly(self) -> None:
        log = AccessLog(self.clock, lambda: self.out, formatText, lambda: 0.0)
        self.out.close()
        log(request())
        log.flush()

    def test_aFileThatWasMovedAway(self) -> None:
        path = Path(self.mktemp())
        log = accessLog(self.clock, str(path), "auto", self.out, lambda: 0.0)
        assert log is not None
        log(request(trace="one"))
        moved = path.rename(f"{path}.1")
        log.reopen()
        log(request(trace="two"))
        log.flush()
        self.assertEqual([json.loads(each.read_text())["request"] for each in (moved, path)], ["one", "two"])

    def test_where(self) -> None:
        self.assertIsNone(accessLog(self.clock, "", "auto", self.out, lambda: 0.0))
        self.assertRaises(ConfigurationError, accessLog, self.clock, "/nowhere/log", "auto", self.out, lambda: 0.0)
        log = accessLog(self.clock, "-", "auto", self.out, lambda: 0.0)
        assert log is not None
        log(request())
        log.flush()
        self.assertTrue(self.out.getvalue().startswith("{"))
