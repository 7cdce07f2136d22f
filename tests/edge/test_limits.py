"""
The numbers of C{[limits]}, each in force from the configuration to the visitor, on a whole edge and agent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.protocol import Protocol
from twisted.logger import formatEvent

from tests.changed_settings import changes
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

    @changes("edge [limits] head_seconds")
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

    def test_aLateFirstOctetIs504(self) -> None:
        visitor = self.limited(firstOctetSeconds=70).visit(GET)
        self.assertEqual(self.after(visitor, 66), b"")
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

    def test_anIdleConnectionIsClosed(self) -> None:
        visitor = self.limited(idleSeconds=5).visit(GET.replace(b"site", b"other"))
        self.assertIn(b" 404 ", self.after(visitor, 4))
        self.assertIsNone(visitor.lost)
        self.after(visitor, 2)
        self.assertIsNotNone(visitor.lost)

    def test_streamsOfASessionAreBounded(self) -> None:
        both = self.limited(sessionStreams=4)
        (tunnel,) = both.edge.registry
        visitors = [both.visit(GET) for _ in range(8)]
        self.assertLessEqual(tunnel.session.streams, 5)       # and the agent's own control stream
        self.after(visitors[0], 40)
        busy = [visitor for visitor in visitors if visitor.got.startswith(b"HTTP/1.1 503 ")]
        self.assertEqual(len(busy), 4)

    def test_octetsOfASessionAreBounded(self) -> None:
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

    @changes("edge [limits] process_octets")
    def test_octetsOfTheProcessAreBounded(self) -> None:
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

    @changes("agent [limits] process_octets")
    def test_octetsOfTheProcessAreBounded(self) -> None:
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

    def test_octetsOfASessionAreBounded(self) -> None:
        both = self.limited(sessionOctets=123_456)
        (link,) = both.agent.serviceLinks
        self.assertEqual(link.session.memory.growthLimit, 123_456)


def head(fields: int = 0, octets: int = 0, start: bytes = b"GET / HTTP/1.1\r\nHost: site.localhost\r\n") -> bytes:
    """
    A head with so many fields more, and one of so many octets.
    """
    long = b"Cookie: %b\r\n" % (b"x" * octets) if octets else b""
    return start + b"X-A: b\r\n" * fields + long + b"\r\n"


class Answering(Protocol):
    """
    A web server whose responses have as many fields and octets as the target says: C{/FIELDS/OCTETS}.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.factory.got = data                                                  # type: ignore[attr-defined]
        _, fields, octets = data.split(b" ")[1].split(b"/")
        self.transport.write(head(int(fields), int(octets), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"))


class Hungry(Protocol):
    """
    A web server that reads and never answers.  The factory keeps those that were asked something.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.factory.lost.append(self)                                           # type: ignore[attr-defined]


class OneSourceTests(Both):
    """
    The kind of F02 and F03: a limit that has a second, fixed copy somewhere on the way, so that changing the setting changes
    nothing.  Each documented limit is changed, in both directions where that says more, and the effect is seen by a visitor
    through edge and agent.
    """

    def limited(
        self, server: type[Protocol] = Answering, *, agent: dict[str, Any] | None = None, site: ServiceConfig = SITE,
        **edge: Any,
    ) -> EdgeAndAgent:
        both = self.begin(
            site, start=False, edge={"limits": Limits(**edge)}, agent={"limits": AgentLimits(**(agent or {}))}
        )
        self.server = just(server)
        both.network.listenTCP(3001, self.server)
        both.start()
        return both

    def status(self, octets: bytes) -> bytes:
        visitor = self.both.visit(octets)
        self.both.network.passTime(0.1)
        return visitor.got[9:12]

    def get(self, fields: int = 0, octets: int = 0) -> bytes:
        """
        The status of a request with so many fields besides C{Host}, and one of them of so many octets.
        """
        return self.status(head(fields, octets, b"GET /0/0 HTTP/1.1\r\nHost: site.localhost\r\n"))

    def answer(self, fields: int = 0, octets: int = 0) -> bytes:
        """
        The status where the server's response has so many.
        """
        return self.status(b"GET /%d/%d HTTP/1.1\r\nHost: site.localhost\r\n\r\n" % (fields, octets))

    def test_theDefaultsAreThoseOfThePage(self) -> None:
        """
        What is documented is what visitors may send: the fields of edge and agent are not counted.
        """
        self.limited()
        self.assertEqual([self.get(99), self.get(100)], [b"200", b"431"])
        self.assertEqual([self.get(0, 32_000), self.get(0, 33_000)], [b"200", b"431"])
        self.assertEqual([self.answer(120), self.answer(499), self.answer(500)], [b"200", b"200", b"502"])
        self.assertEqual([self.answer(0, 65_000), self.answer(0, 66_000)], [b"200", b"502"])

    @changes("edge [limits] head_octets")
    def test_headOctetsApply(self) -> None:
        self.limited(headOctets=131_072)
        self.assertEqual([self.get(0, 130_000), self.get(0, 132_000)], [b"200", b"431"])

    @changes("edge [limits] head_fields")
    def test_headFieldsApply(self) -> None:
        self.limited(headFields=400)
        self.assertEqual([self.get(399), self.get(400)], [b"200", b"431"])

    def test_headsMayBeLimitedFurther(self) -> None:
        self.limited(headOctets=2000, headFields=8)
        self.assertEqual([self.get(7), self.get(8), self.get(0, 1900), self.get(0, 2100)], [b"200", b"431", b"200", b"431"])

    @changes("agent [limits] head_octets", "agent [limits] head_fields")
    def test_theAgentLimitsHeadsFurther(self) -> None:
        """
        The agent takes no more than its own file allows, and says so.
        """
        self.limited(headOctets=131_072, headFields=400, agent={"headOctets": 40_000, "headFields": 120})
        self.assertEqual([self.get(100), self.get(300)], [b"200", b"431"])
        self.assertEqual([self.get(0, 39_000), self.get(0, 100_000)], [b"200", b"431"])
        said = "\n".join(str(formatEvent(event)) for event in self.events)
        self.assertIn("head_octets is 131072 at the edge and 40000 in [limits] of this agent", said)
        self.assertIn("head_fields is 400 at the edge and 120 in [limits] of this agent", said)

    def test_aReloadOfTheEdgeChangesHeads(self) -> None:
        """
        A live setting reaches the agents that are connected.
        """
        both = self.limited()
        both.edge.reload(evolve(both.edge.config, limits=Limits(headFields=300, headOctets=100_000)))
        both.settle()
        self.assertEqual([self.get(299), self.get(300), self.get(0, 99_000)], [b"200", b"431", b"200"])

    def test_aReloadOfTheAgentChangesHeads(self) -> None:
        both = self.limited(headFields=300)
        both.agent.reload(evolve(both.agent.config, limits=AgentLimits(headFields=110)))
        self.assertEqual([self.get(109), self.get(200)], [b"200", b"431"])

    @changes("agent [limits] response_head_octets", "agent [limits] response_head_fields")
    def test_responseHeadsApply(self) -> None:
        """
        What local servers may answer is a setting of the agent; the page has the cause and the name of the setting.
        """
        self.limited(agent={"responseHeadOctets": 200_000, "responseHeadFields": 800})
        self.assertEqual([self.answer(790), self.answer(800)], [b"200", b"502"])
        self.assertEqual([self.answer(0, 199_000), self.answer(0, 201_000)], [b"200", b"502"])
        page = self.both.visit(b"GET /0/201000 HTTP/1.1\r\nHost: site.localhost\r\n\r\n").got
        self.assertIn(b"response has more than 200000 octets; see response_head_octets in [limits] of the agent", page)
        said = "\n".join(str(formatEvent(event)) for event in self.events)
        self.assertIn("502 for GET /0/201000", said)
        self.assertIn("has more than 200000 octets; see response_head_octets in [limits] of the agent", said)

    def test_responseHeadsAreLive(self) -> None:
        both = self.limited()
        self.assertEqual(self.answer(600), b"502")
        both.agent.reload(evolve(both.agent.config, limits=AgentLimits(responseHeadFields=700)))
        self.assertEqual(self.answer(600), b"200")

    @changes("edge [limits] response_head_octets", "edge [limits] response_head_fields")
    def test_theEdgeLimitsResponseHeadsFurther(self) -> None:
        self.limited(responseHeadOctets=4000, responseHeadFields=20)
        self.assertEqual([self.answer(19), self.answer(20)], [b"200", b"502"])
        self.assertEqual([self.answer(0, 3900), self.answer(0, 4100)], [b"200", b"502"])

    def test_headsForAFolderAreLimitedAlike(self) -> None:
        """
        The agent serves the files itself, within the same bounds.
        """
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.limited(site=ServiceConfig(name="site", kind="serve", target=str(folder)), headOctets=131_072, headFields=900)
        self.assertEqual([self.get(890), self.get(0, 60_000), self.get(901)], [b"404", b"404", b"431"])

    @changes("edge [limits] first_octet_seconds")
    def test_firstOctetSecondsApply(self) -> None:
        visitor = self.limited(Silent, firstOctetSeconds=200).visit(GET)
        self.both.network.passTime(196)
        self.assertEqual(visitor.got, b"")
        self.both.network.passTime(2)
        self.assertIn(b" 504 ", visitor.got)
        self.assertEqual(self.warned().count("504 for GET / "), 1)      # the agent's; the edge would name the host

    @changes("agent [[service]] first_octet_seconds")
    def test_firstOctetSecondsOfAServiceApply(self) -> None:
        visitor = self.limited(Silent, site=evolve(SITE, firstOctetSeconds=5.0)).visit(GET)
        self.both.network.passTime(4)
        self.assertEqual(visitor.got, b"")
        self.both.network.passTime(2)
        self.assertIn(b" 504 ", visitor.got)

    @changes("edge [limits] interim_seconds")
    def test_interimSecondsApply(self) -> None:
        """
        A server that says 102 every 50 seconds is waited for as long as the edge's setting says.
        """
        both = self.limited(Hungry, interimSeconds=2000)
        visitor = both.visit(GET)
        (server,) = self.server.lost
        for _ in range(39):
            server.transport.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            both.network.passTime(50)
        self.assertNotIn(b" 504 ", visitor.got)
        for _ in range(2):
            server.transport.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            both.network.passTime(50)
        self.assertIn(b" 504 ", visitor.got)

    @changes("edge [limits] idle_seconds")
    def test_idleSecondsApply(self) -> None:
        """
        An upload that pauses, and a connection without requests.
        """
        put = b"PUT /0/0 HTTP/1.1\r\nHost: site.localhost\r\nContent-Length: 9\r\n\r\n123"
        visitor = self.limited(Hungry, idleSeconds=1000).visit(put)
        quiet = self.both.visit(GET.replace(b"site", b"other"))
        self.both.network.passTime(990)
        self.assertEqual(visitor.got, b"")
        self.assertIsNone(quiet.lost)
        self.both.network.passTime(20)
        self.assertIn(b" 408 ", visitor.got)
        self.assertIsNotNone(quiet.lost)

    @changes("agent [limits] idle_seconds")
    def test_theAgentLimitsIdleSecondsFurther(self) -> None:
        put = b"PUT /0/0 HTTP/1.1\r\nHost: site.localhost\r\nContent-Length: 9\r\n\r\n123"
        visitor = self.limited(Hungry, idleSeconds=1000, agent={"idleSeconds": 20}).visit(put)
        self.both.network.passTime(30)
        self.assertIn(b" 408 ", visitor.got)

    @changes("edge [limits] session_streams")
    def test_sessionStreamsApply(self) -> None:
        """
        The bound of the session is that of the edge's and of the agent's connections.  C{case_f03} has more than 1 024 of them,
        which this network is too slow for.
        """
        both = self.limited(Hungry, sessionStreams=6)
        (tunnel,), (link,) = both.edge.registry, both.agent.serviceLinks
        self.assertEqual((tunnel.session.limits.max_streams, link.bounds.streams), (6, 6))
        visitors = [both.visit(GET) for _ in range(8)]
        self.assertEqual(len(self.server.lost), 6)
        both.network.passTime(31)                 # nobody waits longer for a stream
        self.assertEqual([visitor.got[:12] for visitor in visitors if visitor.got], [b"HTTP/1.1 503"] * 2)

    @changes("agent [limits] session_streams")
    def test_theAgentLimitsSessionStreamsFurther(self) -> None:
        both = self.limited(Hungry, agent={"sessionStreams": 3})
        visitors = [both.visit(GET) for _ in range(5)]
        both.network.passTime(1)
        self.assertEqual(len(self.server.lost), 3)
        self.assertEqual(len([visitor for visitor in visitors if visitor.got]), 2)

    def test_visitorsAreBounded(self) -> None:
        both = self.limited(visitors=3, connectionsPerSecond=0)
        for _ in range(3):
            both.visit()
        self.assertTrue(both.edge.admission.paused)

    @changes("agent [[service]] interim_seconds")
    def test_interimSecondsOfAServiceApply(self) -> None:
        both = self.limited(Hungry, site=evolve(SITE, interimSeconds=100.0))
        visitor = both.visit(GET)
        (server,) = self.server.lost
        for seconds in range(0, 150, 30):
            self.assertEqual(b" 504 " in visitor.got, seconds > 100, seconds)
            server.transport.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            both.network.passTime(30)
