"""
tunnelstack trace.
"""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from tests.control.test_access_log import request
from tunnelstack.commands import trace
from tunnelstack.commands.trace import LONGEST_LINE, MOST_LINES, NoSuchRequest, Options, UnreadableLog
from tunnelstack.control.access_lines import jsonLines
from tunnelstack.control.tracing.tracer import RequestSpan
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.wire.http1.trace_context import TraceContext

ID = "3f9c0a1b2c-1d4"


def line(role: str, seconds: float = 0.05, now: float = 1_800_000_000.0, **other: Any) -> str:
    """
    A line of an access log, as it is written.
    """
    return jsonLines([request(**{"trace": ID, "role": role, "seconds": seconds, **other})], now)


EDGE = line("edge", routed=0.002, opened=0.006, first=0.040)
AGENT = line("agent", seconds=0.03, opened=0.005, first=0.025)


class Shown(SynchronousTestCase):
    """
    The command, with files and standard input of a test.
    """

    def file(self, text: str, suffix: str = "") -> str:
        path = Path(self.mktemp() + suffix)
        path.write_bytes(gzip.compress(text.encode()) if suffix else text.encode())
        return str(path)

    def show(self, *logs: str, json: bool = False, stdin: str = "", request: str = ID) -> str:
        out = io.StringIO()
        self.patch(trace.sys, "stdout", out)
        self.patch(trace.sys, "stdin", io.StringIO(stdin))
        options = Options()
        options.parseOptions([request, *logs, *(["--json"] if json else [])])
        self.assertEqual(trace.main(options), 0)
        return out.getvalue()


class TraceTests(Shown):
    """
    Logs, and what is reported of them.
    """

    def test_bothSidesAndWhereTheTimeWent(self) -> None:
        text = self.show(self.file(AGENT), self.file("not JSON\n" + line("edge", trace="other") + EDGE))
        self.assertIn("GET site.example/a?b", text)
        self.assertLess(text.index("\nedge   200  50.0 ms"), text.index("\nagent  200  30.0 ms"))
        for name, milliseconds in (
            ("route", "2.0"), ("open a stream", "4.0"), ("wait for the response", "34.0"), ("send the response", "10.0"),
            ("connect to the local server", "5.0"),
        ):  # fmt: skip
            self.assertRegex(text, rf"\n  {name} +{milliseconds} ms ")
        self.assertIn("tunnel  9.0 ms", text)
        self.assertNotIn("missing", text)

    def test_theSideThatIsMissingIsNamed(self) -> None:
        self.assertIn("No log of the agent has this request", self.show(self.file(EDGE)))
        self.assertIn("No log of the edge has this request", self.show(self.file(AGENT)))

    def test_aRequestThatTheEdgeAnsweredHasNoAgent(self) -> None:
        refused = line("edge", status=503, failed=ExchangeFailed(FailureKind.ABSENT))
        text = self.show(self.file(refused))
        self.assertIn("The agent is missing: the edge answered the request itself.", text)
        self.assertIn("  failed: The agent of this site is not connected.\n", text)

    def test_standardInputIsALog(self) -> None:
        self.assertIn("No log of the edge", self.show(stdin=AGENT))
        self.assertIn("tunnel  9.0 ms", self.show(self.file(EDGE), "-", stdin=AGENT))

    def test_packedFilesAreUnpacked(self) -> None:
        self.assertIn("tunnel  9.0 ms", self.show(self.file(EDGE, ".gz"), self.file(AGENT, ".gz")))

    def test_whatCollectsLogsMayPutWordsBefore(self) -> None:
        self.assertIn("tunnel", self.show(stdin=f"Jan 1 host tunnel-edge[1]: {EDGE}2027 {AGENT}"))

    def test_programsReadOneObject(self) -> None:
        said = json.loads(self.show(self.file(EDGE), self.file(AGENT), json=True))
        self.assertEqual((said["request"], said["missing"], said["sides"][0]["role"]), (ID, [], "edge"))
        self.assertAlmostEqual(said["tunnel_seconds"], 0.009)
        self.assertEqual(said["sides"][1]["layers"][0], {"name": "connect to the local server", "begin": 0, "end": 0.005})
        self.assertEqual(json.loads(self.show(self.file(EDGE), json=True))["missing"], ["agent"])

    def test_theTraceIsShown(self) -> None:
        span = RequestSpan(TraceContext("a" * 32, "b" * 16, True))
        self.assertIn(f"  trace {'a' * 32}\n", self.show(stdin=line("edge", span=span)))

    def test_aRequestThatNoLogHas(self) -> None:
        error = self.assertRaises(NoSuchRequest, self.show, self.file(EDGE), request="other")
        self.assertEqual(error.code, 69)
        self.assertIn("'other' is not in", str(error))

    def test_aLogThatCannotBeRead(self) -> None:
        broken = self.file(EDGE, ".gz")
        Path(broken).write_bytes(Path(broken).read_bytes()[:-12])
        for path in ("/nowhere.log", self.file("x", ".gz").replace(".gz", ""), broken):
            self.assertIn(path, str(self.assertRaises(UnreadableLog, self.show, path)))

    def test_anIdentifierIsNeeded(self) -> None:
        self.assertRaises(usage.UsageError, Options().parseOptions, [])

    def test_aTerminalIsNoLog(self) -> None:
        terminal = io.StringIO()
        terminal.isatty = lambda: True        # type: ignore[method-assign]
        self.patch(trace.sys, "stdin", terminal)
        error = self.assertRaises(usage.UsageError, Options().parseOptions, [ID])
        self.assertIn("give their paths", str(error))


class BadLogTests(Shown):
    """
    Logs that hold anything.
    """

    def test_textOfPeersIsPrintable(self) -> None:
        evil = "\x1b[2J\u202e\n"
        text = self.show(stdin=line("edge", host=evil, target=evil, service=evil, failed=ValueError(evil)))
        self.assertTrue(all(each.isprintable() for each in text.splitlines()), text)

    def test_membersOfOtherKindsAreNoNumbers(self) -> None:
        for value in ("null", '"x"', "[]", "{}", "true", "1e999", "NaN", "-1e400"):
            text = self.show(stdin=f'{{"request": "{ID}", "status": {value}, "seconds": {value}, "first": {value}}}\n')
            self.assertIn("edge", text)

    def test_linesThatAreNoObjectsAreSkipped(self) -> None:
        junk = [f'"{ID}"', f'["{ID}"]', f'{{"request": "{ID}"}}', f'{{"request": "{ID}", ', f'{{"x": "{ID}"' + "[" * 100_000]
        self.assertIn("tunnel", self.show(stdin="\n".join([*junk, EDGE + AGENT])))

    def test_aLongLineIsSkipped(self) -> None:
        long = f'{{"request": "{ID}", "status": 1, "seconds": 1, "x": "{"x" * LONGEST_LINE}", "request": "{ID}"}}\n'
        self.assertEqual(self.show(stdin=long + EDGE + AGENT).count("\nedge"), 1)

    def test_linesOfOneRequestAreBounded(self) -> None:
        self.assertEqual(self.show(stdin=EDGE * (MOST_LINES + 10)).count("\nedge"), MOST_LINES)
