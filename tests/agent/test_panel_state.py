"""
What a panel reads of an agent, and its figures.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.control.test_access_log import request
from tests.edge.test_edge_and_agent import SITE, Both
from tunnelstack.agent.panel_figures import DURATIONS, Figures, milliseconds, octets
from tunnelstack.agent.panel_layout import columnsOf, cut, encodable, fitting
from tunnelstack.agent.panel_state import PING_SECONDS, AgentState, LinkState, ServiceState
from tunnelstack.control.config.records import ServiceConfig
from tunnelstack.testing import EdgeAndAgent
from tunnelstack.wire.printable_text import CUT


class StateTests(Both):
    """
    Of a whole agent with its edge.
    """

    def state(self, *services: ServiceConfig, **settings: object) -> tuple[EdgeAndAgent, AgentState]:
        both = self.begin(*services, start=False, **settings)
        return both, AgentState(both.agent)

    def lose(self, both: EdgeAndAgent) -> None:
        """
        Lose the session.
        """
        link = both.agent.links[0].uplink.link
        assert link is not None
        link.abort("the test")
        both.settle()

    def test_theStateFollowsTheSession(self) -> None:
        both, state = self.state(SITE)
        self.assertEqual(state.links(), [LinkState("localhost:8080", False)])
        both.agent.startService()
        self.assertEqual(state.links(), [LinkState("localhost:8080", False, dialling=True)])
        both.settle()
        (link,) = state.links()
        self.assertFalse(link.up or link.dialling)
        retry = link.retry
        assert retry is not None
        self.assertEqual(state.services(), [ServiceState("site", "tcp:localhost:3000", False)])
        both.network.advance(retry / 2)
        (link,) = state.links()
        self.assertAlmostEqual(link.retry or 0, retry / 2)
        both.edge.startService()
        both.network.advance(60)
        both.settle()
        self.assertEqual(state.links(), [LinkState("localhost:8080", True)])
        self.assertEqual(state.services(), [ServiceState("site", "tcp:localhost:3000", True)])

    def test_theStateAfterALostSessionIsNotTheOldOne(self) -> None:
        both, state = self.state(SITE)
        both.start()
        state.measure()
        both.settle()
        self.assertIsNotNone(state.links()[0].rtt)
        self.lose(both)
        (link,) = state.links()
        self.assertEqual((link.up, link.rtt), (False, None))
        self.assertFalse(state.services()[0].published)
        both.network.advance(60)
        both.settle()
        (link,) = state.links()
        self.assertEqual((link.up, link.rtt), (True, None), "the round trip of another session is not shown")

    def test_theRoundTripIsMeasuredNowAndThen(self) -> None:
        both, state = self.state(SITE)
        both.start()
        pings: list[int] = []
        link = both.agent.links[0].uplink.link
        assert link is not None
        session = link.session
        ping = session.ping
        self.patch(session, "ping", lambda: (pings.append(1), ping())[1])
        for _ in range(int(PING_SECONDS * 3)):
            state.measure()
            both.network.advance(1)
            both.settle()
        self.assertEqual(len(pings), 3)

    def test_aRefusalIsAStateOfItsService(self) -> None:
        other = ServiceConfig(name="other", target="3000")
        both, state = self.state(SITE, other, allow=("http:site",))
        both.start()
        good, bad = state.services()
        self.assertEqual((good.published, good.refused, bad.published), (True, "", False))
        self.assertIn("other", bad.refused)

    def test_theOctetsOfLostSessionsAreCounted(self) -> None:
        both, state = self.state(SITE)
        both.start()
        both.get("site.localhost")
        received, sent = state.octets()
        self.assertTrue(received and sent)
        self.lose(both)
        after = state.octets()
        self.assertGreaterEqual(after[0], received)
        self.assertGreaterEqual(after[1], sent)
        both.network.advance(120)            # idle connections are closed
        both.settle()


class FiguresTests(SynchronousTestCase):
    """
    Totals, rates and quantiles.
    """

    def test_aQuantileIsADurationThatOccurred(self) -> None:
        figures = Figures()
        self.assertEqual(figures.quantile(0.5), 0.0)
        for number in range(1, 11):
            figures.requestDone(request(seconds=float(number)))
        self.assertEqual([figures.quantile(part) for part in (0.0, 0.5, 0.9, 1.0)], [1.0, 5.0, 9.0, 10.0])

    def test_onlyTheLastRequestsAreAmongTheDurations(self) -> None:
        figures = Figures()
        for seconds in [9.0] * 10 + [1.0] * DURATIONS:
            figures.requestDone(request(seconds=seconds))
        self.assertEqual((figures.quantile(1.0), figures.requests), (1.0, DURATIONS + 10))

    def test_aWebSocketIsNotAmongTheDurations(self) -> None:
        figures = Figures()
        figures.requestDone(request(status=101, seconds=3600.0))
        self.assertEqual((figures.requests, figures.failed, figures.quantile(1.0)), (1, 0, 0.0))

    def test_figuresThatOverflowAreStillShort(self) -> None:
        for count, text in (
            (0, "0 B"), (999, "999 B"), (999.6, "1.0 kB"), (1000, "1.0 kB"), (99_940, "99.9 kB"), (99_960, "100 kB"),
            (999_400, "999 kB"), (999_600, "1.0 MB"), (1e15, "1.0 PB"), (1e19, "10000.0 PB"),
        ):  # fmt: skip
            self.assertEqual(octets(count), text)
        shown = ["0.0 ms", "2.5 ms", "9900.0 ms", "61.2 s"]
        self.assertEqual([milliseconds(each) for each in (0.0, 0.00251, 9.9, 61.2)], shown)

    def test_ratesAreThoseOfTheLastSeconds(self) -> None:
        figures = Figures()
        self.assertEqual(figures.pieces(), ())
        for second in range(30):
            figures.sample(float(second), second * 1000 if second < 10 else 9000, 0)
        self.assertIn("in 9.0 kB, 0 B/s", figures.pieces())
        self.assertLessEqual(len(figures._samples), 11)


class LayoutTests(SynchronousTestCase):
    """
    Texts in few columns.
    """

    def test_aCutTextIsNeverWider(self) -> None:
        for text in ("a" * 30, "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 20):
            for columns in range(31):
                for mark in (CUT, "..."):
                    self.assertLessEqual(columnsOf(cut(text, columns, mark)), columns)

    def test_whatFitsIsShownFromTheFirst(self) -> None:
        for width, shown in ((1, "aa"), (6, "aa"), (7, "aa   bb"), (10, "aa   bb"), (11, "aa   bb   c")):
            self.assertEqual(fitting(["aa", "bb", "c"], width), shown)
        self.assertEqual(fitting([], 10), "")

    def test_anEncodableTextIsNotChanged(self) -> None:
        for encoding, text, shown in (
            ("utf-8", f"\N{SNOWMAN}{CUT}", f"\N{SNOWMAN}{CUT}"), ("latin-1", "\xe9", "\xe9"),
            ("latin-1", f"\xe9{CUT}", "\xe9..."), ("ascii", f"\xe9{CUT}", "\\xe9..."),
        ):  # fmt: skip
            self.assertEqual(encodable(text, encoding), shown)
