"""
Visitors of a service whose agent starts again, through a whole edge and agent.

The kind of B5: clients for which one error is the end.  A browser's C{EventSource} connects again after a connection that has
ended, and never after a response with an error.
"""

from __future__ import annotations

from tests.edge.test_edge_and_agent import SITE, Both
from tunnelstack.edge.public.gaps import GAP_SECONDS, RECENT_SECONDS, acceptsOnlyEvents
from tunnelstack.testing import Caller
from tunnelstack.wire.http1.head import RequestHead

GET = b"GET /events HTTP/1.1\r\nHost: site.localhost\r\n%b\r\n"
EVENTS = GET % b"Accept: text/event-stream\r\nCache-Control: no-cache\r\n"


class GapTests(Both):
    """
    An agent is away for a moment.
    """

    def setUp(self) -> None:
        super().setUp()
        self.begin(SITE)
        self.both.agent.stopService()
        self.both.network.passTime(1)

    def comeBack(self) -> None:
        agent = self.both.another(SITE)
        agent.startService()
        self.both.network.passTime(1)
        self.addCleanup(agent.stopService)

    def visit(self, octets: bytes = EVENTS) -> Caller:
        return self.both.visit(octets)

    def test_anEventStreamWaits(self) -> None:
        visitor = self.visit()
        self.both.network.passTime(GAP_SECONDS - 2)
        self.assertEqual(visitor.got, b"")
        self.comeBack()
        self.assertIn(b" 200 ", visitor.got)

    def test_aRequestWaitsForABoundedTime(self) -> None:
        visitor = self.visit()
        self.both.network.passTime(GAP_SECONDS + 0.1)
        self.assertIn(b" 503 ", visitor.got)
        self.assertIn(b"Retry-After: 5\r\n", visitor.got)
        self.assertEqual(len(self.both.edge.public.site.gaps), 0)

    def test_aServiceThatHasBeenAwayForLongerIsNotWaitedFor(self) -> None:
        self.both.network.passTime(RECENT_SECONDS)
        self.assertIn(b" 503 ", self.visit().got)

    def test_otherRequestsDoNotWait(self) -> None:
        for fields in (b"", b"Accept: */*\r\n", b"Accept: text/event-stream, */*\r\n", b"Accept: text/html\r\n"):
            visitor = self.visit(GET % fields)
            self.assertIn(b" 503 ", visitor.got)
            self.assertIn(b"Retry-After: 5\r\n", visitor.got)

    def test_anUnknownServiceIsNotWaitedFor(self) -> None:
        self.assertIn(b" 404 ", self.visit(EVENTS.replace(b"site", b"other")).got)

    def test_theVisitorGoes(self) -> None:
        visitor = self.visit()
        visitor.transport.abortConnection()
        self.both.network.passTime(0.1)
        self.comeBack()
        self.assertEqual(self.origin.requests, [])

    def test_onlyRequestsForEventsAloneAreRecognized(self) -> None:
        for method, accept, only in (
            (b"GET", [b"text/event-stream"], True), (b"GET", [b"Text/Event-Stream; q=1"], True), (b"GET", [], False),
            (b"POST", [b"text/event-stream"], False), (b"GET", [b"text/event-stream", b"text/html"], False),
            (b"GET", [b""], False),
        ):  # fmt: skip
            head = RequestHead(method, b"/", [(b"Accept", value) for value in accept])
            self.assertEqual(acceptsOnlyEvents(head), only, accept)
