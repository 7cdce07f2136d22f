"""
The numbers of C{[limits]}, each in force from the configuration to the visitor, on a whole edge and agent.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.protocol import Protocol

from tests.edge.test_edge_and_agent import Both, just
from tunnelstack.control.config.records import AgentLimits, Limits, ServiceConfig
from tunnelstack.testing import Caller, EdgeAndAgent

GET = b"GET / HTTP/1.1\r\nHost: site.localhost\r\n\r\n"
SITE = ServiceConfig(name="site", target="3001")


class Silent(Protocol):
    """
    A web server that never answers.
    """


class Flood(Protocol):
    """
    Answers with more than anybody wants.
    """

    transport: Any
    LENGTH = 2_000_000

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.LENGTH + bytes(self.LENGTH))


class Deaf(Protocol):
    """
    A web server that does not read.
    """

    transport: Any

    def connectionMade(self) -> None:
        self.transport.pauseProducing()


class LimitTests(Both):
    """
    What is not there in time, or too much.
    """

    def limited(self, server: type[Protocol] = Silent, **limits: Any) -> EdgeAndAgent:
        both = self.begin(SITE, start=False, edge={"limits": Limits(**limits)})
        both.network.listenTCP(3001, just(server))
        both.start()
        return both

    def after(self, visitor: Caller, seconds: float) -> bytes:
        """
        What a visitor has heard so many seconds later.
        """
        self.both.network.passTime(seconds)
        return visitor.got

    def test_aHeadHasItsTime(self) -> None:
        visitor = self.limited(headSeconds=3).visit(GET[:20])
        self.assertEqual(self.after(visitor, 2), b"")
        self.assertTrue(self.after(visitor, 1.5).startswith(b"HTTP/1.1 408 "), visitor.got)

    def test_aHeadThatComesByDrops(self) -> None:
        visitor = self.limited(headSeconds=3).visit(GET[:5])
        for octet in GET[5:8]:
            visitor.transport.write(bytes([octet]))
            self.assertEqual(self.after(visitor, 0.9), b"")
        visitor.transport.write(GET[8:9])
        self.assertTrue(self.after(visitor, 0.9).startswith(b"HTTP/1.1 408 "), visitor.got)

    def test_aConnectionThatSaysNothing(self) -> None:
        visitor = self.limited(headSeconds=3).visit()
        self.after(visitor, 3.5)
        self.assertIsNotNone(visitor.lost)

    def test_theFirstOctetOfAnAnswer(self) -> None:
        visitor = self.limited(firstOctetSeconds=7).visit(GET)
        self.assertEqual(self.after(visitor, 6), b"")
        self.assertTrue(self.after(visitor, 2).startswith(b"HTTP/1.1 504 "), visitor.got)

    def test_theAgentSaysItFirstWhereBothWouldWaitAsLong(self) -> None:
        visitor = self.limited().visit(GET)
        heard = self.after(visitor, 61)
        self.assertTrue(heard.startswith(b"HTTP/1.1 504 "), heard)
        self.assertIn("GET / (request ", self.warned())
        self.assertEqual(self.warned().count("504 for GET"), 1)

    def test_aBodyThatStops(self) -> None:
        visitor = self.limited(idleSeconds=5).visit(b"PUT / HTTP/1.1\r\nHost: site.localhost\r\nContent-Length: 9\r\n\r\n123")
        self.assertEqual(self.after(visitor, 4), b"")
        self.assertTrue(self.after(visitor, 2).startswith(b"HTTP/1.1 408 "), visitor.got)

    def test_aConnectionWithoutRequests(self) -> None:
        visitor = self.limited(idleSeconds=5).visit(GET.replace(b"site", b"other"))
        self.assertIn(b" 404 ", self.after(visitor, 4))
        self.assertIsNone(visitor.lost)
        self.after(visitor, 2)
        self.assertIsNotNone(visitor.lost)

    def test_streamsOfASession(self) -> None:
        both = self.limited(sessionStreams=4)
        (tunnel,) = both.edge.registry
        visitors = [both.visit(GET) for _ in range(8)]
        self.assertLessEqual(tunnel.session.streams, 5)       # and the agent's own control stream
        self.after(visitors[0], 40)
        busy = [visitor for visitor in visitors if visitor.got.startswith(b"HTTP/1.1 503 ")]
        self.assertEqual(len(busy), 4)

    def test_octetsOfASession(self) -> None:
        """
        Eight visitors stand still in front of 2 MB each: the session holds a first window for each and what it may above
        them, and nobody has to pay for it.
        """
        both = self.limited(Flood, sessionOctets=500_000)
        (tunnel,) = both.edge.registry
        stalled = [Caller() for _ in range(8)]
        for visitor in stalled:
            port = both.network.ports[both.PORT]
            both.network.join(visitor, port.factory, port.getHost())
            visitor.transport.pauseProducing()
            visitor.transport.write(GET)
            both.settle()
        self.assertLessEqual(tunnel.session.held, 8 * 256 * 1024 + 500_000)
        self.after(stalled[0], 100)
        self.assertEqual([visitor.lost for visitor in stalled], [None] * 8)

    def test_octetsOfTheProcess(self) -> None:
        """
        Beyond them the visitors that stand still longest are cut off, and one that reads is not.
        """
        both = self.limited(Flood, processOctets=1024 * 1024)
        stalled = [Caller() for _ in range(8)]
        for visitor in stalled:
            port = both.network.ports[both.PORT]
            both.network.join(visitor, port.factory, port.getHost())
            visitor.transport.pauseProducing()
            visitor.transport.write(GET)
            self.after(visitor, 3)
        self.assertIsNotNone(stalled[0].lost)
        self.after(stalled[0], 20)
        cut = [visitor.lost is not None for visitor in stalled]
        self.assertEqual(cut, sorted(cut, reverse=True))
        self.assertLess(sum(cut), 8)
        self.assertLessEqual(both.edge.memoryBudget.held, 1024 * 1024)
        self.assertIn("process_octets", self.warned())
        reader = both.visit(GET)
        self.after(reader, 1)
        self.assertGreater(len(reader.got), Flood.LENGTH)


class AgentLimitTests(Both):
    """
    The numbers of C{[limits]} of an agent.
    """

    def limited(self, **limits: int) -> EdgeAndAgent:
        both = self.begin(SITE, start=False, agent={"limits": AgentLimits(**limits)})
        both.network.listenTCP(3001, just(Deaf))
        both.start()
        return both

    def upload(self, octets: int = 2_000_000) -> Caller:
        head = b"PUT / HTTP/1.1\r\nHost: site.localhost\r\nContent-Length: %d\r\n\r\n" % octets
        return self.both.visit(head + bytes(octets))

    def test_octetsOfTheProcess(self) -> None:
        """
        Beyond them the uploads are reset that the local server has not read for longest.
        """
        self.limited(processOctets=1024 * 1024)
        visitors = []
        for _ in range(6):
            visitors.append(self.upload())
            self.both.network.passTime(3)
        self.both.network.passTime(12)
        cut = [b" 502 " in visitor.got for visitor in visitors]
        self.assertEqual(cut, sorted(cut, reverse=True))
        self.assertIn(sum(cut), range(1, 6))
        self.assertLessEqual(self.both.agent.budget.held, 1024 * 1024)
        self.assertIn("process_octets", self.warned())

    def test_withinThemNothingIsReset(self) -> None:
        self.limited()
        visitors = [self.upload() for _ in range(6)]
        self.both.network.passTime(40)
        self.assertEqual([visitor.got for visitor in visitors], [b""] * 6)

    def test_octetsOfTheProcessAreLive(self) -> None:
        both = self.limited()
        both.agent.reload(evolve(both.agent.config, limits=AgentLimits(processOctets=7 << 20)))
        self.assertEqual(both.agent.budget.limit, 7 << 20)

    def test_octetsOfASession(self) -> None:
        both = self.limited(sessionOctets=123_456)
        (link,) = both.agent._links
        self.assertEqual(link.session.memory.growthLimit, 123_456)
