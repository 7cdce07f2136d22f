"""
What an agent shows on a terminal.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.control.test_access_log import request
from tunnelstack.agent.panel import ABOVE_LINES, DRAW_SECONDS, REQUESTS, Panel, canRedraw
from tunnelstack.agent.publication import Publication
from tunnelstack.records import Service


class Screen:
    """
    A terminal that knows what the panel uses: lines, cursor up, erase below.
    """

    def __init__(self) -> None:
        self.lines: list[str] = [""]
        self.raw = ""

    def write(self, text: str) -> None:
        self.raw += text
        for piece in re.findall(r"\x1b\[\d+A\r\x1b\[J|\x1b\[\d*m|\n|[^\x1b\n]+", text):
            if piece.endswith("J"):
                up = int(piece[2:].partition("A")[0])
                self.lines = [*self.lines[: len(self.lines) - 1 - up], ""]
            elif piece == "\n":
                self.lines.append("")
            elif not piece.startswith("\x1b"):
                self.lines[-1] += piece


class PanelTests(SynchronousTestCase):
    """
    Events in, a screen out.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.screen = Screen()
        self.columns = 80
        self.panel = self.make()
        self.log = Logger("tunnelstack.test", observer=self.panel)

    def make(self, **options: Any) -> Panel:
        return Panel(self.clock, self.screen.write, lambda: self.columns, **options)

    def shown(self) -> list[str]:
        self.clock.advance(DRAW_SECONDS)
        return self.screen.lines[:-1]

    def test_peersTextStaysOnItsLine(self) -> None:
        evil = "\x1b[2J \nsite      http://bank.example"
        self.log.warn("withdrawn: {reason}", reason=evil)
        self.log.failure("failed", Failure(ValueError(evil)))
        shown = self.shown()
        self.assertEqual(shown[0], r"warning   withdrawn: \x1b[2J \nsite      http://bank.example")
        self.assertEqual([line for line in shown if line.startswith("site")], [])
        self.assertNotIn("\x1b[2J", self.screen.raw)

    def up(self, edge: str = "a.net", rtt: str = "1ms") -> None:
        self.log.info("up   edge={edge} rtt={rtt}", status="session", edge=edge, rtt=rtt)

    def test_linesStayAndChange(self) -> None:
        self.up()
        self.log.info("{where} -> {target}", status="site", where="http://site.a.net", target="tcp:localhost:3000")
        wanted = ["session   up   edge=a.net rtt=1ms", "site      http://site.a.net -> tcp:localhost:3000"]
        self.assertEqual(self.shown(), wanted)
        self.log.warn("session with {edge} lost: {reason}; reconnecting", edge="a.net", reason="it broke")
        self.assertEqual(self.shown(), ["session   session with a.net lost: it broke; reconnecting", wanted[1]])
        self.up(rtt="2ms")
        self.assertEqual(self.shown(), ["session   up   edge=a.net rtt=2ms", wanted[1]])

    def test_aServiceThatIsWithdrawnGoes(self) -> None:
        publication = Publication(Service(name="site"), None, self.clock)
        publication.log = self.log
        self.up()
        self.log.info("{where} -> {target}", status="site", where="http://site.a.net", target="tcp:localhost:3000")
        self.assertEqual(len(self.shown()), 2)
        publication.withdraw()
        self.assertEqual(self.shown(), ["session   up   edge=a.net rtt=1ms"])

    def test_whatElseHappensStandsAbove(self) -> None:
        self.up()
        self.log.warn("nothing listens")
        self.assertEqual(self.shown(), ["warning   nothing listens", "session   up   edge=a.net rtt=1ms"])
        self.log.warn("still nothing")
        self.assertEqual(self.shown()[:2], ["warning   nothing listens", "warning   still nothing"])
        self.assertEqual(len(self.shown()), 3)

    def test_theLastRequests(self) -> None:
        self.up()
        for number in range(REQUESTS + 3):
            self.panel.requestDone(request(target=f"/{number}", status=502 if number == 5 else 200))
        lines = self.shown()
        self.assertEqual(len(lines), 2 + REQUESTS)
        self.assertRegex(lines[-1], rf"^site      GET    /{REQUESTS + 2} +200 +2\.5 ms$")

    def test_manyChangesAreOneDrawing(self) -> None:
        for _ in range(100):
            self.panel.requestDone(request())
        self.assertEqual(self.screen.raw, "")
        self.shown()
        self.assertEqual(self.screen.raw.count(" ms"), REQUESTS)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_strangersDoNotSteerTheTerminal(self) -> None:
        self.panel.requestDone(request(target="/\x1b[2J\n\r\x9b31m"))
        self.shown()
        self.assertNotIn("\x1b[2J", self.screen.raw)
        self.assertNotIn("\x9b", self.screen.raw)
        self.assertEqual(len(self.screen.lines), 3)

    def test_noLineIsWiderThanTheTerminal(self) -> None:
        """
        One that wraps would be two, and the next drawing would leave half of it behind.
        """
        self.columns = 40
        self.up(edge="a" * 100)
        self.panel.requestDone(request(target="/" + "x" * 300))
        self.assertLess(max(map(len, self.shown())), 40)

    def test_coloursUnlessSomebodyMinds(self) -> None:
        self.up()
        self.shown()
        self.assertIn("\x1b[32m", self.screen.raw)
        self.screen.raw = ""
        self.log = Logger("tunnelstack.test", observer=self.make(colours=False))
        self.up()
        self.shown()
        self.assertNotIn("\x1b", self.screen.raw)

    def test_defectsAreShown(self) -> None:
        try:
            raise ValueError("a defect")
        except ValueError:
            self.log.failure("oh no")
        self.assertIn("a defect", "\n".join(self.shown()))

    def test_aStoppedTerminalIsDrawnOnOnceItGoesOn(self) -> None:
        stopped = True
        self.panel = self.make(pending=lambda: stopped)
        self.log = Logger("tunnelstack.test", observer=self.panel)
        self.up(rtt="1ms")
        self.log.warn("nothing listens")
        self.clock.pump([DRAW_SECONDS] * 5)
        self.assertEqual(self.screen.raw, "")
        stopped = False
        self.up(rtt="2ms")
        self.assertEqual(self.shown(), ["warning   nothing listens", "session   up   edge=a.net rtt=2ms"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_whatWaitsForAStoppedTerminalIsBounded(self) -> None:
        stopped = True
        self.panel = self.make(pending=lambda: stopped)
        self.log = Logger("tunnelstack.test", observer=self.panel)
        for number in range(ABOVE_LINES + 3):
            self.log.warn("number {number}", number=number)
        self.clock.advance(DRAW_SECONDS)
        stopped = False
        lines = self.shown()
        self.assertEqual(lines[0], "warning   3 lines were dropped here: the terminal was stopped")
        self.assertEqual(lines[1], "warning   number 3")
        self.assertEqual(lines[-1], f"warning   number {ABOVE_LINES + 2}")

    def test_onlyOnTerminals(self) -> None:
        class Out:
            def __init__(self, tty: bool) -> None:
                self.isatty = lambda: tty

        for tty, environ, fits in (
            (True, {"TERM": "xterm"}, True), (True, {"TERM": "dumb"}, False), (True, {}, False),
            (False, {"TERM": "xterm"}, False),
        ):  # fmt: skip
            self.assertEqual(canRedraw(Out(tty), environ), fits)  # type: ignore[arg-type]
