"""
What an agent shows on a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.control.test_access_log import request
from tests.terminal_screen import Screen
from tunnelstack.agent.local_server import LocalServer
from tunnelstack.agent.options import canRedraw
from tunnelstack.agent.panel import (
    ABOVE_LINES,
    DRAW_SECONDS,
    OPEN_SECONDS,
    POLL_SECONDS,
    REQUESTS,
    Panel,
)
from tunnelstack.agent.panel_state import LinkState, ServiceState
from tunnelstack.agent.publication import Publication
from tunnelstack.control.access_record import AccessRecord
from tunnelstack.control.process.line_times import noTime, timeOfDay
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.records import Service
from tunnelstack.wire.printable_text import CUT


class Window(Screen):
    """
    A screen that remembers what was written to it.
    """

    raw = ""

    def write(self, text: str) -> None:
        self.raw += text
        super().write(text)


class State:
    """
    The state of an agent, as a test sets it.
    """

    def __init__(self, openRequests: Callable[[], Iterable[AccessRecord]] = list) -> None:
        self.openRequests = openRequests
        self.linkStates: list[LinkState] = []
        self.serviceStates: list[ServiceState] = []
        self.carried = (0, 0)
        self.measured = 0

    def links(self) -> list[LinkState]:
        return self.linkStates

    def services(self) -> list[ServiceState]:
        return self.serviceStates

    def octets(self) -> tuple[int, int]:
        return self.carried

    def measure(self) -> None:
        self.measured += 1


class PanelTests(SynchronousTestCase):
    """
    Events in, a screen out.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.screen = Window(40, 80)
        self.panel = self.make()
        self.log = Logger("tunnelstack.test", observer=self.panel)

    def make(self, **options: Any) -> Panel:
        options.setdefault("lineTime", noTime)
        return Panel(self.clock, self.screen.write, lambda: (self.screen.rows, self.screen.columns), **options)

    def shown(self) -> list[str]:
        self.clock.advance(DRAW_SECONDS)
        return self.screen.lines()[:-1]

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

    def test_theStatusOfAResponseIsNoWord(self) -> None:
        """
        The kind: a field with two meanings.  The status of a response stood as the first word of its line: "503       503 for".
        """
        self.log.warn("{status} for {method} {path}: nothing listens", status=503, method="GET", path="/")
        self.assertEqual(self.shown(), ["warning   503 for GET /: nothing listens"])

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

    def test_whatStandsAboveBeginsWithItsTime(self) -> None:
        self.log = Logger("tunnelstack.test", observer=self.make(lineTime=timeOfDay))
        self.up()
        self.log.warn("nothing listens")
        self.log.failure("failed", Failure(ValueError("a defect")))
        above = self.shown()
        self.assertRegex(above[0], r"^\d\d:\d\d:\d\d warning   nothing listens$")
        self.assertRegex(above[1], r"^\d\d:\d\d:\d\d error     ")
        self.assertTrue(above[2].startswith("          "), "a traceback belongs to its first line")
        self.assertEqual(above[-1], "session   up   edge=a.net rtt=1ms")

    def test_theLastRequestsAreShown(self) -> None:
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
        self.assertEqual(len(self.screen.lines()), 3)

    def test_noLineIsWiderThanTheTerminal(self) -> None:
        """
        One that wraps would be two, and the next drawing would leave half of it behind.
        """
        self.screen.resize(40, 40)
        self.up(edge="a" * 100)
        self.panel.requestDone(request(target="/" + "x" * 300))
        shown = self.shown()
        self.assertLess(max(map(len, shown)), 40)
        self.assertTrue(shown[0].endswith("\N{HORIZONTAL ELLIPSIS}"), shown)
        self.assertRegex(shown[-1], "\N{HORIZONTAL ELLIPSIS} +200 +2.5 ms$")

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
        shown = self.shown()
        lines = [*self.screen.scrollback, *shown]
        self.assertEqual(lines[0], "warning   3 lines were dropped here: the terminal was stopped")
        self.assertEqual(lines[1], "warning   number 3")
        self.assertEqual(lines[-1], f"warning   number {ABOVE_LINES + 2}")

    def test_aServiceThatNoEdgePublishesIsPinned(self) -> None:
        """
        The kind of M4: what fails stays visible as long as it fails.
        """
        self.publish(0)
        self.log.critical("the edge does not publish {service}: {reason}", service="site-0", reason="no", unpublished="site-0")
        self.publish(1)
        shown = self.shown()
        self.assertEqual(shown, ["site-0    the edge does not publish site-0: no", "site-1    http://1 -> 3001"])
        self.assertIn("\x1b[31msite-0 ", self.screen.raw)
        self.publish(0)
        self.assertEqual(self.shown(), ["site-1    http://1 -> 3001", "site-0    http://0 -> 3000"])

    def publish(self, number: int) -> None:
        where, target, status = f"http://{number}", str(3000 + number), f"site-{number}"
        self.log.info("{where} -> {target}", status=status, where=where, target=target)

    def test_openRequestsAreListed(self) -> None:
        """
        The kind of B2: what is open is visible before it ends, whatever kind of exchange it is.
        """
        opened: list[Any] = []
        self.panel = self.make(state=State(lambda: opened))
        self.clock.advance(POLL_SECONDS)
        self.assertEqual(len(self.shown()), 1)
        opened += [request(target="/ws", status=101, seconds=12.4), request(status=0, seconds=OPEN_SECONDS - 0.1)]
        self.clock.advance(POLL_SECONDS)
        self.assertEqual(self.shown()[2:], [f"{'site      GET    /ws':<60}  101    open 12 s"])
        opened[1] = request(target="/slow", status=0, seconds=3.0)
        self.panel.requestDone(request())
        self.assertRegex(self.shown()[3], r"^site      GET    /slow +---     open 3 s$")
        self.assertEqual(len(self.screen.lines()), 6)
        opened.clear()
        self.clock.advance(POLL_SECONDS)
        self.assertEqual(len(self.shown()), 3)

    def test_whatDoesNotChangeIsNotDrawn(self) -> None:
        self.panel = self.make(state=State())
        self.log = Logger("tunnelstack.test", observer=self.panel)
        self.up()
        self.shown()
        self.screen.raw = ""
        self.clock.pump([POLL_SECONDS] * 10)
        self.assertEqual(self.screen.raw, "")

    def test_neverMoreRowsThanTheTerminalHas(self) -> None:
        for rows in range(1, 40):
            self.screen = Window(rows, 80)
            self.panel = self.make(state=State(lambda: [request(target="/open", seconds=5.0)] * 9))
            self.log = Logger("tunnelstack.test", observer=self.panel)
            for number in range(5):
                self.up(edge=f"{number}.net")
            for number in range(14):
                self.publish(number)
            for _ in range(3):
                self.panel.requestDone(request())
                self.shown()
            self.assertTrue(rows == 1 or not self.screen.scrollback, (rows, self.screen.scrollback))
            self.assertGreaterEqual(len(self.screen.lines()), min(rows - 1, 30), "and nearly as many")

    def test_whatDoesNotFitIsCounted(self) -> None:
        self.screen.resize(15, 80)
        self.up()
        for number in range(14):
            self.publish(number)
        shown = self.shown()
        self.assertEqual((len(shown), shown[-1]), (14, "\N{HORIZONTAL ELLIPSIS} 2 more services"))
        self.log.warn("cannot publish", unpublished="site-13")
        self.assertEqual(self.shown()[1], "site-13   cannot publish")

    def test_aSizeThatChangesLeavesNothingBehind(self) -> None:
        self.up(edge="a" * 60)
        self.panel.requestDone(request(target="/" + "x" * 100))
        self.shown()
        for columns in (40, 25, 100, 30):
            self.screen.resize(40, columns)
            self.panel.resized()
            shown = self.shown()
            self.assertEqual((len(shown), self.screen.scrollback), (3, []), shown)
            self.assertLess(max(map(len, shown)), columns)

    @given(st.lists(st.one_of(
        st.tuples(st.just("edge"), st.integers(0, 2)), st.tuples(st.just("publish"), st.integers(0, 4)),
        st.tuples(st.just("refuse"), st.integers(0, 4)), st.tuples(st.just("request"), st.integers(0, 90)),
        st.tuples(st.just("message"), st.integers(0, 9)), st.tuples(st.just("resize"), st.integers(24, 120)),
        st.tuples(st.just("draw"), st.just(0)),
    ), max_size=40))  # fmt: skip
    def test_messagesStandAboveOneDrawing(self, steps: list[tuple[str, int]]) -> None:
        self.setUp()
        self.screen.resize(90, 80)
        messages = []
        for step, number in steps:
            if step == "edge":
                self.up(edge="e" * 20 * number)
            elif step == "publish":
                self.publish(number)
            elif step == "refuse":
                self.log.warn("not published: " + "x" * 10 * number, unpublished=f"site-{number}")
            elif step == "request":
                self.panel.requestDone(request(target="/" + "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * number))
            elif step == "message":
                self.log.warn("number {number}", number=number)
                messages.append(f"warning   number {number}")
            elif step == "resize":
                self.screen.resize(90, number)
                self.panel.resized()
            else:
                self.clock.advance(DRAW_SECONDS)
        self.panel.resized()
        shown = self.shown()
        expected = [text.rstrip() for text, _ in self.panel._lines(self.screen.rows, self.screen.columns)]
        self.assertEqual([*self.screen.scrollback, *shown], [*messages, *expected])

    def follow(self, *links: LinkState, services: Iterable[ServiceState] = (), **options: Any) -> State:
        """
        Make a panel of an agent with this state.
        """
        state = State()
        state.linkStates, state.serviceStates = list(links), list(services)
        self.panel = self.make(state=state, **options)
        self.log = Logger("tunnelstack.test", observer=self.panel)
        self.panel.resized()
        return state

    def poll(self) -> list[str]:
        self.clock.advance(POLL_SECONDS)
        return self.shown()

    def test_theRoundTripIsTheLastOneMeasured(self) -> None:
        state = self.follow(LinkState("a.net", True))
        self.up(rtt="9.0ms")
        self.assertEqual(self.shown()[0], "session   up   edge=a.net rtt=9.0ms")
        state.linkStates = [LinkState("a.net", True, rtt=0.0123)]
        self.assertEqual(self.poll()[0], "session   up   edge=a.net rtt=12.3ms")
        self.assertGreater(state.measured, 0)

    def test_aLostSessionShowsWhenItIsDialledAgain(self) -> None:
        state = self.follow(LinkState("a.net", False, dialling=True))
        self.assertEqual(self.shown()[0], "session   connecting   no session with a.net")
        state.linkStates = [LinkState("a.net", True)]
        self.assertEqual(self.poll()[0], "session   up   edge=a.net")
        self.up()
        self.log.warn("session with {edge} lost: {reason}; reconnecting", edge="a.net", reason="it broke")
        for link, text in (
            (LinkState("a.net", False, retry=4.2), "retry in 5 s   session with a.net lost: it broke; reconnecting"),
            (LinkState("a.net", False, retry=3.2), "retry in 4 s   session with a.net lost: it broke; reconnecting"),
            (LinkState("a.net", False, dialling=True), "connecting   session with a.net lost: it broke; reconnecting"),
            (LinkState("a.net", True), "up   edge=a.net"),
            (LinkState("a.net", False), "closed   session with a.net lost: it broke; reconnecting"),
        ):  # fmt: skip
            state.linkStates = [link]
            self.assertEqual(self.poll()[0], f"session   {text}")

    def test_eachEdgeHasItsLine(self) -> None:
        self.follow(LinkState("a.net", True), LinkState("b.net", False, retry=1.0))
        self.up("a.net")
        self.assertEqual(
            self.shown()[:2], ["session   up   edge=a.net rtt=1ms", "session   retry in 1 s   no session with b.net"]
        )

    def test_servicesHaveTheirStateWhileThereIsNoSession(self) -> None:
        """
        What was published before the session was lost is not published now.
        """
        state = self.follow(LinkState("a.net", False), services=[ServiceState("site-0", "3000", False)])
        self.assertEqual(self.shown()[1], "site-0    waiting   3000")
        self.publish(0)
        state.serviceStates = [ServiceState("site-0", "3000", True)]
        self.assertEqual(self.poll()[1], "site-0    http://0 -> 3000")
        self.assertIn("\x1b[32msite-0 ", self.screen.raw)
        state.serviceStates = [ServiceState("site-0", "3000", False)]
        self.assertEqual(self.poll()[1], "site-0    waiting   http://0 -> 3000")
        self.assertIn("\x1b[33msite-0    waiting", self.screen.raw)

    def test_aRefusedServiceStaysInRed(self) -> None:
        self.follow(services=[ServiceState("good", "1", True), ServiceState("bad", "2", False, "the token does not allow it")])
        self.assertEqual(self.shown()[:2], ["bad       the token does not allow it", "good      1"])
        self.assertIn("\x1b[31mbad ", self.screen.raw)

    def test_aServiceWhoseServerDoesNotAnswerIsDown(self) -> None:
        self.follow(services=[ServiceState("site", "3000", True)])
        self.panel.requestDone(request(status=503, failed=ExchangeFailed(FailureKind.UNREACHABLE, "nothing listens")))
        self.assertEqual(self.shown()[0], "site      down   nothing listens   3000")
        self.assertIn("\x1b[31msite      down", self.screen.raw)
        self.panel.requestDone(request(status=502, failed=ExchangeFailed(FailureKind.BROKEN)))
        self.assertEqual(self.shown()[0], "site      3000")

    def test_aServiceWhoseServerIsNotThereAtTheStartIsDown(self) -> None:
        self.follow(services=[ServiceState("site-0", "3000", True)])
        warning = "nothing listens on {target} yet; {then}"
        self.log.warn(warning, target="localhost:3000", then="so", service="site-0", down=True)
        self.publish(0)
        wanted = ["warning   nothing listens on localhost:3000 yet; so",
                  "site-0    down   nothing listens on localhost:3000 yet   http://0 -> 3000"]  # fmt: skip
        self.assertEqual(self.shown()[:2], wanted)
        self.panel.requestDone(request(service="site-0"))
        self.assertEqual(self.shown()[1], "site-0    http://0 -> 3000")

    def test_aServiceOfConnectionsIsDownUntilItsServerAnswersAgain(self) -> None:
        self.follow(services=[ServiceState("db", "5432", True)])
        server = LocalServer("db", "tcp:localhost:5432", "connections are closed at once")
        server.log = Logger("tunnelstack.agent", observer=self.panel)
        server.reached()
        server.notReached("nothing listens")
        self.assertIn("db        down   nothing listens on localhost:5432   5432", self.shown())
        server.reached()
        self.assertIn("db        5432", self.shown())
        self.assertIn("db        localhost:5432 answers again", self.shown())

    def test_anotherTargetIsNotDownUntilItIsTried(self) -> None:
        self.follow(services=[ServiceState("site-0", "3000", True)])
        self.publish(0)
        self.panel.requestDone(
            request(service="site-0", status=503, failed=ExchangeFailed(FailureKind.UNREACHABLE, "nothing listens"))
        )
        self.assertIn("down", self.shown()[0])
        self.publish(0)
        self.assertIn("down", self.shown()[0], "after a new session it is the same server")
        self.log.info("{where} -> {target}", status="site-0", where="http://0", target="4000")
        self.assertEqual(self.shown()[0], "site-0    http://0 -> 4000")

    def test_totalsRatesAndQuantilesAreShown(self) -> None:
        state = self.follow()
        self.screen.resize(40, 120)
        self.assertEqual(self.shown(), ["requests  0   0.0/s   in 0 B, 0 B/s   out 0 B, 0 B/s"])
        for number in range(1, 21):
            self.panel.requestDone(request(seconds=number / 1000, status=503 if number == 1 else 200))
        state.carried = (150_000, 2_500_000)
        self.clock.pump([POLL_SECONDS] * 3)
        self.assertEqual(
            self.shown()[0],
            "requests  20   1 failed   6.5/s   p50 10.0 ms   p90 18.0 ms   in 150 kB, 48.4 kB/s   out 2.5 MB, 806 kB/s",
        )
        self.clock.pump([POLL_SECONDS] * 12)
        self.assertIn("   0.0/s   p50 10.0 ms", self.shown()[0])
        self.screen.resize(40, 40)
        self.panel.resized()
        self.assertEqual(self.shown()[0], "requests  20   1 failed   0.0/s")

    def test_requestsHaveTheirTime(self) -> None:
        self.panel = self.make(lineTime=timeOfDay)
        self.panel.requestDone(request())
        self.assertRegex(self.shown()[1], r"^\d\d:\d\d:\d\d site      GET    /.* 200 +2\.5 ms$")

    def test_twentyColumnsAreEnough(self) -> None:
        for columns in range(1, 60):
            self.screen = Window(12, columns)
            self.follow(
                LinkState("a.example.net", False, retry=5.0), services=[ServiceState("site", "3000", True)], lineTime=timeOfDay
            )
            self.panel.requestDone(request(target="/long/path", status=404))
            shown = self.shown()
            self.assertEqual(len(self.screen.scrollback), 0, columns)
            self.assertLess(max(map(len, shown)), max(2, columns), shown)
            if columns == 20:
                self.assertEqual(shown, [
                    f"retry in 5 s   no {CUT}", "site      3000", "requests  1   0.0/s", "", f"GET /lo{CUT} 404 2.5 ms",
                ])  # fmt: skip

    def test_aTerminalWithoutUTF8GetsNoOtherCharacter(self) -> None:
        for encoding in ("ascii", "latin-1"):
            self.screen = Window(20, 60)
            self.follow(LinkState("a.net", True), encoding=encoding)
            self.up(edge="\N{CJK UNIFIED IDEOGRAPH-4E2D}" + "x" * 100)
            self.log.warn("\N{SNOWMAN}" * 200)
            self.panel.requestDone(request(target="/" + "y" * 100))
            shown = self.shown()
            self.screen.raw.encode(encoding)
            self.assertLess(max(map(len, shown[-4:])), 60)
            self.assertRegex("\n".join(shown), r"\nsession   up   edge=\\u4e2dxxx+\.\.\.\n")
            self.assertRegex(shown[-1], r"yyy\.\.\.  200 +2\.5 ms$")

    def test_thePanelNeedsATerminal(self) -> None:
        class Out:
            def __init__(self, tty: bool) -> None:
                self.isatty = lambda: tty

        for tty, environ, fits in (
            (True, {"TERM": "xterm"}, True), (True, {"TERM": "dumb"}, False), (True, {}, False),
            (False, {"TERM": "xterm"}, False),
        ):  # fmt: skip
            self.assertEqual(canRedraw(Out(tty), environ), fits)  # type: ignore[arg-type]
