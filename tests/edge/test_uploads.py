"""
Uploads that pause, through a whole edge and agent.

The kind of F07: deadlines that suppose that the sender of a body of unknown length always has something to send.  Such a body
is made while it is sent (a recording, a log, a call with two streams): once it has begun, only its ends decide.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Protocol

from tests.edge.test_edge_and_agent import Both, just
from tunnelstack.control.config.records import Limits, ServiceConfig
from tunnelstack.testing import Caller, EdgeAndAgent

SITE = ServiceConfig(name="site", target="3001")
POST = b"POST / HTTP/1.1\r\nHost: site.localhost\r\nTransfer-Encoding: chunked\r\n"
GET = b"GET / HTTP/1.1\r\nHost: site.localhost\r\n\r\n"
FIRST, LAST = b"3\r\nabc\r\n", b"3\r\ndef\r\n0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Gatherer(Protocol):
    """
    A web server that answers when a body in chunks, or a request without one, is whole.
    """

    transport: Any
    heard = b""

    def connectionMade(self) -> None:
        self.factory.lost.append(self)                                           # type: ignore[attr-defined]

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.heard.endswith(b"0\r\n\r\n") or self.heard.startswith(b"GET"):
            self.transport.write(OK)
            self.heard = b""


class UploadTests(Both):
    """
    Bodies of unknown length.
    """

    def limited(self, server: type[Protocol] = Gatherer, **limits: Any) -> EdgeAndAgent:
        both = self.begin(SITE, start=False, edge={"limits": Limits(**limits)})
        self.server = just(server)
        both.network.listenTCP(3001, self.server)
        both.start()
        return both

    def later(self, seconds: float) -> None:
        self.both.network.passTime(seconds)

    def test_aPauseOfAnUploadIsAllowed(self) -> None:
        visitor = self.limited(idleSeconds=2).visit(POST + b"\r\n" + FIRST)
        self.later(5000)
        self.assertEqual((visitor.got, visitor.lost), (b"", None))
        visitor.transport.write(LAST)
        self.later(0.1)
        self.assertIn(b" 200 ", visitor.got)

    def test_aPauseWithinAChunkIsAllowed(self) -> None:
        visitor = self.limited(idleSeconds=2).visit(POST + b"\r\n" + FIRST[:4])
        self.later(5000)
        visitor.transport.write(FIRST[4:] + LAST)
        self.later(0.1)
        self.assertIn(b" 200 ", visitor.got)

    def test_theFirstChunkHasTheTimeOfAHead(self) -> None:
        """
        Who has not begun is given the time of a head.
        """
        visitor = self.limited(headSeconds=4).visit(POST + b"\r\n")
        self.later(3)
        self.assertEqual(visitor.got, b"")
        self.later(2)
        self.assertIn(b" 408 ", visitor.got)

    def test_aVisitorThatExpects100ContinueSendsNothing(self) -> None:
        """
        C{Expect: 100-continue}: the server decides when the body begins.
        """
        visitor = self.limited(Protocol, headSeconds=4).visit(POST + b"Expect: 100-continue\r\n\r\n")
        self.later(30)
        self.assertEqual((visitor.got, visitor.lost), (b"", None))

    def test_aServerThatDoesNotRead(self) -> None:
        """
        Its body flows only as far as somebody reads; then the deadline of the other side counts.
        """

        class Deaf(Protocol):
            transport: Any

            def connectionMade(self) -> None:
                self.transport.pauseProducing()

        visitor = self.limited(Deaf, idleSeconds=20).visit(POST + b"\r\n" + b"f4240\r\n" + bytes(1_000_000))
        self.later(60)
        self.assertIn(visitor.got[9:12], (b"504", b"502", b"408"))


class RoomTests(Both):
    """
    At the bound of visitors those go first that have been idle for longest; nobody who is served, and nobody who has just come.
    """

    def setUp(self) -> None:
        super().setUp()
        both = self.begin(SITE, start=False, edge={"limits": Limits(visitors=4, connectionsPerSecond=0)})
        both.network.listenTCP(3001, just(Gatherer))
        both.start()

    def visit(self, octets: bytes) -> Caller:
        visitor = self.both.visit(octets)
        self.both.network.passTime(10)
        return visitor

    def test_theLongestIdleGoesFirst(self) -> None:
        """
        A connection that is kept, and an upload that has paused; the agent's own connection is not a visitor's.
        """
        kept, paused, later = self.visit(GET), self.visit(POST + b"\r\n" + FIRST), self.visit(GET)
        self.assertIn(b" 200 ", kept.got)
        full = self.visit(GET)
        self.assertIsNotNone(kept.lost)
        self.assertEqual((paused.lost, later.lost, full.lost), (None, None, None))
        self.visit(GET)
        self.assertIn(b" 408 ", paused.got)
        self.assertEqual((later.lost, full.lost), (None, None))

    def test_whoIsServedStays(self) -> None:
        """
        An upload that flows, and requests that are not answered yet: the ports wait instead.
        """
        flowing = [self.both.visit(POST + b"\r\n" + FIRST) for _ in range(4)]
        self.assertTrue(self.both.edge.admission.paused)
        for _ in range(10):
            self.both.network.passTime(3)
            for visitor in flowing:
                visitor.transport.write(FIRST)
            self.both.settle()
        self.assertEqual([visitor.lost for visitor in flowing], [None] * 4)
        self.both.network.passTime(10)
        self.assertEqual(sum(visitor.lost is not None or b" 408 " in visitor.got for visitor in flowing), 1)
