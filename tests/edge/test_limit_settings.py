"""
Limits of connections, routes and sessions, each changed in the configuration and seen from outside, through edge and agent.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.changed_settings import changes
from tests.edge.test_edge_and_agent import SITE, Both, just
from tests.edge.test_http2_visitors import CALLS, HTTP2Case, to
from tests.edge.test_limits import Flood
from tests.exchange.test_http2_server import Caught
from tests.wire.heads_http2 import GET
from tunnelstack.control.config.records import (
    AgentLimits,
    EdgeAddress,
    Limits,
    Route,
    ServiceConfig,
)
from tunnelstack.testing import EdgeAndAgent
from tunnelstack.transport.http2.errors import NoFreeStream

BULK = ServiceConfig(name="bulk", target="3001")
"""The service that answers with much."""


class AddressTests(Both):
    """
    New connections from one address.
    """

    def admitted(self, host: str, connections: int) -> int:
        """
        How many of so many connections from an address are not closed at once.
        """
        factory = self.both.network.ports[self.both.PORT].factory
        built = [factory.buildProtocol(IPv4Address("TCP", host, 4000 + number)) for number in range(connections)]
        taken = [protocol for protocol in built if protocol is not None]
        for protocol in taken:
            protocol.makeConnection(StringTransport())
            protocol.connectionLost(Failure(ConnectionDone()))
        return len(taken)

    @changes("edge [limits] connections_per_second")
    def test_connectionsPerSecondApply(self) -> None:
        for perSecond, admitted in ((3.0, 3), (50.0, 50), (80.0, 80), (0.0, 90)):
            self.begin(SITE, edge={"limits": Limits(connectionsPerSecond=perSecond)})
            self.assertEqual(self.admitted("192.0.2.1", 90), admitted)
            self.assertEqual(self.admitted("192.0.2.2", 1), 1)
            self.assertIn(b" 200 ", self.both.get("site.localhost"))


class RouteTests(Both):
    """
    What visitors may request of one route.
    """

    def routed(self, service: ServiceConfig = SITE, **settings: Any) -> EdgeAndAgent:
        both = self.begin(service, start=False, edge={"routes": (Route(host="www.localhost", to=service.name, **settings),)})
        both.network.listenTCP(3001, just(Flood))
        both.start()
        return both

    def statuses(self, requests: int) -> list[bytes]:
        return [self.both.get("www.localhost")[9:12] for _ in range(requests)]

    @changes("edge [[route]] requests_per_second")
    def test_requestsPerSecondApply(self) -> None:
        both = self.routed(requestsPerSecond=2.0)
        self.assertEqual(self.statuses(3), [b"200", b"200", b"429"])
        both.network.passTime(1)
        self.assertEqual(self.statuses(3), [b"200", b"200", b"429"])
        self.assertIn(b" 200 ", both.get("site.localhost"))

    @changes("edge [[route]] burst")
    def test_theBurstApplies(self) -> None:
        both = self.routed(requestsPerSecond=2.0, burst=5.0)
        self.assertEqual(self.statuses(6), [b"200"] * 5 + [b"429"])
        both.network.passTime(1)
        self.assertEqual(self.statuses(3), [b"200", b"200", b"429"])

    @changes("edge [[route]] octets_per_second")
    def test_octetsPerSecondApply(self) -> None:
        """
        The response has 2 MB.
        """
        for perSecond, least, most in ((0, Flood.LENGTH, 2 * Flood.LENGTH), (200_000, 800_000, 1_200_000)):
            both = self.routed(BULK, octetsPerSecond=perSecond)
            visitor = both.visit(b"GET / HTTP/1.1\r\nHost: www.localhost\r\n\r\n")
            both.network.passTime(4, 0.1)
            self.assertGreaterEqual(len(visitor.got), least)
            self.assertLessEqual(len(visitor.got), most)


class StreamTests(HTTP2Case):
    """
    Requests on one connection of HTTP/2.
    """

    @changes("edge [limits] http2_streams")
    def test_HTTP2StreamsApply(self) -> None:
        for streams in (100, 3):
            self.begin(CALLS, edge={"limits": Limits(http2Streams=streams)})
            self.calls.answer = None
            visitor = self.visitor()
            for _ in range(streams):
                self.ask(to(GET, b"calls.localhost"), visitor=visitor)
            self.assertRaises(NoFreeStream, visitor.openStream, to(GET, b"calls.localhost"), Caught(), True)
            self.assertEqual(len(self.calls.asked), streams)


class Sink(Protocol):
    """
    A web server that reads, and counts in its factory.
    """

    def dataReceived(self, data: bytes) -> None:
        self.factory.got += len(data)                                            # type: ignore[attr-defined]


class _Half(Protocol):
    """
    One side of a connection that passes a L{Way}.
    """

    transport: Any
    other: _Half

    def __init__(self, way: Way) -> None:
        self._way = way

    def dataReceived(self, data: bytes) -> None:
        self._way.carry(self.other, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._way.closed:
            self.other.transport.loseConnection()


class Way(Factory):
    """
    A server whose connections lead to an edge, so many seconds away in each direction.

    @ivar closed: nothing passes any more, and nobody is told.
    """

    noisy = False
    SECONDS = 0.05

    def __init__(self, both: EdgeAndAgent) -> None:
        self._network: Any = both.network
        self._edge = TCP4ClientEndpoint(self._network, "localhost", both.PORT)
        self.closed = False
        self._halves: list[_Half] = []
        self._calls: list[IDelayedCall] = []

    def buildProtocol(self, address: object) -> _Half:
        near, far = _Half(self), _Half(self)
        near.other, far.other = far, near
        self._halves += (near, far)
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda address: far  # type: ignore[method-assign,assignment]
        self._edge.connect(factory)
        return near

    def end(self) -> None:
        """
        Close what is open, and deliver nothing more.
        """
        self.closed = True
        for call in self._calls:
            if call.active():
                call.cancel()
        for half in self._halves:
            half.transport.abortConnection()

    def carry(self, to: _Half, data: bytes) -> None:
        if not self.closed:
            self._calls.append(self._network.callLater(self.SECONDS, self._arrive, to, data))

    def _arrive(self, to: _Half, data: bytes) -> None:
        if not self.closed:
            to.transport.write(data)


class Far(Both):
    """
    An agent whose edge is a tenth of a second away and back.
    """

    WAY = 8081

    def setUp(self) -> None:
        super().setUp()
        self.ways: dict[EdgeAndAgent, Way] = {}

    def end(self, both: EdgeAndAgent) -> None:
        if both in self.ways:
            self.ways[both].end()
        super().end(both)

    def far(self, edge: Limits | None = None, **agent: Any) -> EdgeAndAgent:
        both = self.begin(start=False, edge={"limits": edge or Limits()})
        self.way = self.ways[both] = Way(both)
        both.network.listenTCP(self.WAY, self.way)
        address = EdgeAddress(url=f"http://localhost:{self.WAY}", token=both.token)
        both.agent = both.another(BULK, edges=(address,), **agent)
        both.edge.startService()
        both.agent.startService()
        both.network.passTime(2, 0.01)
        return both


class LargeFlood(Flood):
    LENGTH = 60_000_000


class DistanceTests(Far):
    """
    Windows that grow on a long way, up to C{session_octets}.  A first window alone carries 2.6 MB a second here.
    """

    SECONDS = 4.0
    FIRST = 256 * 1024 * 10 * SECONDS

    def down(self, edge: Limits) -> int:
        """
        Octets that a visitor receives of a large response.
        """
        both = self.far(edge)
        both.network.listenTCP(3001, just(LargeFlood))
        visitor = both.visit(b"GET / HTTP/1.1\r\nHost: bulk.localhost\r\n\r\n")
        both.network.passTime(self.SECONDS, 0.01)
        visitor.transport.abortConnection()
        return len(visitor.got)

    def up(self, agent: AgentLimits) -> int:
        """
        Octets of a large request that a local server receives.
        """
        both = self.far(limits=agent)
        server = just(Sink)
        server.got = 0
        both.network.listenTCP(3001, server)
        head = b"PUT / HTTP/1.1\r\nHost: bulk.localhost\r\nContent-Length: %d\r\n\r\n" % LargeFlood.LENGTH
        visitor = both.visit(head + bytes(LargeFlood.LENGTH))
        both.network.passTime(self.SECONDS, 0.01)
        visitor.transport.abortConnection()
        got: int = server.got
        return got

    @changes("edge [limits] session_octets")
    def test_sessionOctetsOfTheEdgeApply(self) -> None:
        self.assertLessEqual(self.down(Limits(sessionOctets=0)), self.FIRST)
        self.assertGreater(self.down(Limits(sessionOctets=1 << 20)), 1.3 * self.FIRST)
        self.assertGreater(self.down(Limits()), 3 * self.FIRST)

    @changes("agent [limits] session_octets")
    def test_sessionOctetsOfTheAgentApply(self) -> None:
        self.assertLessEqual(self.up(AgentLimits(sessionOctets=0)), self.FIRST)
        self.assertGreater(self.up(AgentLimits(sessionOctets=1 << 20)), 1.3 * self.FIRST)
        self.assertGreater(self.up(AgentLimits()), 3 * self.FIRST)


LOST = f"session with localhost:{Far.WAY} lost"


class PatienceTests(Far):
    """
    Sessions whose other end is gone without a word, and edges that are not there.
    """

    def lostAfter(self, **agent: Any) -> float:
        """
        Seconds from the last octet that passes until the agent reports that its session is lost.
        """
        both = self.far(**agent)
        self.way.closed = True
        began, before = both.network.seconds(), self.warned().count(LOST)
        while self.warned().count(LOST) == before:
            both.network.passTime(0.5)
            self.assertLess(both.network.seconds(), began + 300)
        self.way.end()
        return both.network.seconds() - began

    @changes("agent [agent] ping_seconds", "agent [agent] ping_timeout_seconds")
    def test_pingsApply(self) -> None:
        for settings, most in (({}, 40), ({"pingSeconds": 5.0}, 15), ({"pingTimeoutSeconds": 2.0}, 32)):
            seconds = self.lostAfter(**settings)
            self.assertGreater(seconds, most - 5, settings)
            self.assertLess(seconds, most + 2, settings)

    @changes("agent [agent] backoff_seconds")
    def test_backoffSecondsApply(self) -> None:
        """
        Attempts in ten minutes, which come as often as the longest wait allows.
        """
        attempts = []
        for backoff in (2.0, 30.0, 120.0):
            both = self.begin(SITE, start=False, agent={"backoffSeconds": backoff})
            dialled: list[Any] = []
            connect = both.network.connectTCP
            self.patch(both.network, "connectTCP", lambda *its, dialled=dialled, connect=connect, **more: (
                dialled.append(its), connect(*its, **more)
            )[1])  # fmt: skip
            both.agent.startService()
            both.network.passTime(600)
            attempts.append(len(dialled))
        self.assertGreater(attempts[0], 5 * attempts[1])
        self.assertGreater(attempts[1], 2 * attempts[2])
