"""
How fast and how often raw TCP visitors may be, on a whole edge and agent: in virtual time, and once over real sockets.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.changed_settings import changes
from tests.edge.test_edge_and_agent import Both, HalfCaller, Last, just
from tunnelstack.agent.service import AgentService
from tunnelstack.control.auth.tokens import newToken
from tunnelstack.control.config.records import (
    AgentConfig,
    EdgeAddress,
    EdgeConfig,
    Limits,
    ServiceConfig,
    TokenRecord,
)
from tunnelstack.edge.public.ports import _PortFactory
from tunnelstack.edge.public.rate import BURST_SECONDS, SMALLEST_BURST
from tunnelstack.edge.service import EdgeService
from tunnelstack.records import Service
from tunnelstack.testing import Caller, EdgeAndAgent

RAW = ServiceConfig(name="raw", kind="tcp", target="4000", remotePort=2000)
MUCH = 600_000
RATE = 50_000
READ = 64 * 1024
"""Octets that one read of a socket or one delivery of a stream may bring, after which the bucket is looked at."""


class Flood(Protocol):
    """
    Says much at once.
    """

    transport: Any

    def connectionMade(self) -> None:
        self.transport.write(bytes(MUCH))


class Sink(Protocol):
    """
    Hears, and counts for all of its kind.
    """

    def dataReceived(self, data: bytes) -> None:
        self.factory.lost.append(len(data))   # type: ignore[attr-defined]


class Paced(Both):
    """
    What these tests begin with.
    """

    def paced(self, server: type[Protocol], rate: dict[str, Any] | None = None, **limits: Any) -> EdgeAndAgent:
        """
        @param rate: settings of the agent's own token.
        """
        both = self.begin(RAW, start=False, cut=READ, edge={"limits": Limits(**limits)})
        both.network.ports[4000].factory = self.server = just(server)
        if rate:
            both.edge.config = evolve(both.edge.config, tokens=(evolve(both.edge.config.tokens[0], **rate),))
        both.start()
        return both

    def connect(self, caller: Any = None, *, reads: bool = True) -> Any:
        """
        A visitor, before anything has happened.
        """
        caller = caller or Caller()
        self.both.network.join(caller, self.both.network.ports[2000].factory, IPv4Address("TCP", "127.0.0.1", 2000))
        if not reads:
            caller.transport.pauseProducing()
        return caller

    @property
    def heard(self) -> int:
        """
        Octets that arrived at the server behind the agent.
        """
        return sum(self.server.lost)

    def allowed(self, seconds: float, visitors: int = 1) -> float:
        """
        The most octets that may have passed: the bucket, what ran into it meanwhile, and one reading of each visitor.
        """
        return SMALLEST_BURST + RATE * seconds + visitors * READ


class BandwidthTests(Paced):
    """
    Octets a second.
    """

    def assertPaced(self, passed: int, seconds: float, visitors: int = 1) -> None:
        self.assertLessEqual(passed, self.allowed(seconds, visitors))
        self.assertGreaterEqual(passed, 0.9 * RATE * seconds)

    @changes("edge [limits] agent_octets_per_second")
    def test_trafficTowardTheVisitorIsThrottled(self) -> None:
        both = self.paced(Flood, agentOctetsPerSecond=RATE)
        caller = self.connect()
        for seconds in range(4):
            self.assertPaced(len(caller.got), seconds)
            both.network.passTime(1, 0.1)
        both.network.passTime(10, 0.1)
        self.assertEqual(caller.got, bytes(MUCH))

    def test_trafficFromTheVisitorIsThrottled(self) -> None:
        both = self.paced(Sink, agentOctetsPerSecond=RATE)
        caller = self.connect()
        caller.transport.write(bytes(MUCH))
        for seconds in range(4):
            self.assertPaced(self.heard, seconds)
            both.network.passTime(1, 0.1)
        both.network.passTime(10, 0.1)
        self.assertEqual(self.heard, MUCH)

    def test_bothDirectionsAndAllVisitorsShareTheBandwidth(self) -> None:
        both = self.paced(Sink, agentOctetsPerSecond=RATE)
        callers = [self.connect() for _ in range(5)]
        for caller in callers:
            caller.transport.write(bytes(MUCH))
        both.network.passTime(10, 0.1)
        self.assertPaced(self.heard, 10, len(callers))

    @changes("edge [[agent]] octets_per_second")
    def test_theBandwidthOfTheTokenApplies(self) -> None:
        both = self.paced(Flood, rate={"octetsPerSecond": RATE}, agentOctetsPerSecond=100 * RATE)
        caller = self.connect()
        both.network.passTime(4, 0.1)
        self.assertPaced(len(caller.got), 4)

    def test_comingAgainBringsNoMore(self) -> None:
        """
        Twenty visitors after each other, each of whom hangs up as soon as he has got something.
        """
        both = self.paced(Flood, agentOctetsPerSecond=RATE)
        got = 0
        for _ in range(20):
            caller = self.connect()
            both.network.passTime(0.1, 0.1)
            got += len(caller.got)
            caller.transport.abortConnection()
        both.settle()
        self.assertLessEqual(got, self.allowed(2))

    def test_norDoesSpeakingAtOnce(self) -> None:
        both = self.paced(Sink, agentOctetsPerSecond=RATE)
        for _ in range(20):
            caller = self.connect()
            caller.transport.write(bytes(READ))
            both.network.passTime(0.1, 0.1)
            caller.transport.abortConnection()
        both.settle()
        self.assertLessEqual(self.heard, self.allowed(2))

    def test_nothingGathersAtTheEdge(self) -> None:
        both = self.paced(Flood, agentOctetsPerSecond=RATE)
        callers = [self.connect() for _ in range(3)]
        (tunnel,) = both.edge.registry
        for _ in range(20):
            both.network.passTime(0.1, 0.1)
            self.assertLessEqual(tunnel.session.held, len(callers) * 256 * 1024)
        sender = self.connect()
        sender.transport.write(bytes(MUCH))
        both.network.passTime(2, 0.1)
        self.assertGreater(sender.transport.undelivered, MUCH - 2 * READ)       # it waits at the visitor's

    def test_whoStandsStillHoldsNobodyElse(self) -> None:
        both = self.paced(Flood, agentOctetsPerSecond=RATE)
        for _ in range(3):
            self.connect(reads=False)
        both.network.passTime(20, 0.1)        # what fits into their windows has been paid for
        reader = self.connect()
        both.network.passTime(4, 0.1)
        self.assertPaced(len(reader.got), 4)

    def test_webAndRawVisitorsShareTheBandwidth(self) -> None:
        site = ServiceConfig(name="site", target="3000")
        both = self.begin(RAW, site, start=False, cut=READ, edge={"limits": Limits(agentOctetsPerSecond=RATE)})
        both.network.ports[4000].factory = just(Flood)
        both.start()
        raw = self.connect()
        both.network.passTime(1, 0.1)
        raw.transport.abortConnection()
        web = both.visit(b"GET / HTTP/1.1\r\nHost: site.localhost\r\n\r\n")
        self.assertEqual(web.got, b"")                        # the raw one has taken more than is paid for yet
        both.network.passTime(2, 0.1)
        self.assertIn(b" 200 ", web.got)

    def test_anotherConfigurationForgivesNothing(self) -> None:
        both = self.paced(Flood, agentOctetsPerSecond=RATE)
        got = 0
        for _ in range(20):
            caller = self.connect()
            both.network.passTime(0.1, 0.1)
            got += len(caller.got)
            caller.transport.abortConnection()
            both.edge.reload(evolve(both.edge.config, drainSeconds=both.edge.config.drainSeconds + 1))
        self.assertLessEqual(got, self.allowed(2))

    def test_endsAreKept(self) -> None:
        """
        A half-close comes behind what had to wait, in both directions.
        """
        both = self.paced(Last, agentOctetsPerSecond=RATE)
        caller = self.connect(HalfCaller())
        caller.transport.write(b"abc" + bytes(2 * READ))
        caller.transport.loseWriteConnection()
        both.network.passTime(2, 0.1)
        self.assertFalse(caller.ended)
        both.network.passTime(8, 0.1)
        self.assertEqual((caller.got, caller.ended), (bytes(2 * READ) + b"cba", True))

    def test_whoGoesWhileHeWaitsLeavesNothing(self) -> None:
        both = self.paced(Flood, agentOctetsPerSecond=RATE)
        before = len(both.network.getDelayedCalls())
        caller = self.connect()
        both.settle()
        caller.transport.abortConnection()
        both.settle()
        self.assertEqual(both.edge.agents.ports.connections, 0)
        self.assertLessEqual(len(both.network.getDelayedCalls()), before)


class RateTests(Paced):
    """
    New connections a second.
    """

    def lost(self, visitors: int) -> list[bool]:
        callers = [self.both.visit(b"x", 2000) for _ in range(visitors)]
        return [caller.lost is not None for caller in callers]

    def test_beyondItTheyAreClosed(self) -> None:
        both = self.paced(Sink, agentRequestsPerSecond=2)
        self.assertEqual(self.lost(4), [False, False, True, True])
        self.assertEqual(both.edge.agents.ports.connections, 2)
        self.assertEqual(self.warned().count("too many connections a second"), 1)
        both.network.passTime(1)
        self.assertEqual(self.lost(3), [False, False, True])

    @changes("edge [[agent]] requests_per_second")
    def test_theRateOfTheTokenApplies(self) -> None:
        self.paced(Sink, rate={"requestsPerSecond": 1}, agentRequestsPerSecond=100)
        self.assertEqual(self.lost(2), [False, True])

    @changes("edge [limits] agent_requests_per_second")
    def test_requestsAndConnectionsShareTheRate(self) -> None:
        both = self.begin(RAW, ServiceConfig(name="site", target="3000"), edge={"limits": Limits(agentRequestsPerSecond=2)})
        self.assertIn(b" 200 ", both.get("site.localhost"))
        self.assertEqual(self.lost(2), [False, True])
        self.assertIn(b" 429 ", both.get("site.localhost"))


class AddressTests(SynchronousTestCase):
    """
    Who a visitor of a port is.
    """

    def test_aMappedAddressIsReportedAsIPv4(self) -> None:
        ports = Mock()
        _PortFactory(ports, "raw").buildProtocol(IPv6Address("TCP", "::ffff:192.0.2.1", 5))
        ports.connectVisitor.assert_called_once_with("raw", IPv4Address("TCP", "192.0.2.1", 5))


class Counting(Protocol):
    """
    Says much at once, and tells when it has heard as much.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = 0
        self.done: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(bytes(MUCH))

    def dataReceived(self, data: bytes) -> None:
        self.got += len(data)
        if self.got >= MUCH and not self.done.called:
            self.done.callback(None)


class SocketTests(TestCase):
    """
    The same where systems have buffers of their own.
    """

    RATE = 1_000_000

    @inlineCallbacks
    def test_octetsPassBothWays(self) -> Any:
        clock: Any = reactor
        new = newToken()
        record = TokenRecord(
            name="laptop", tokenSha256=new.tokenSha256, allow=("tcp:*",), id=new.id, octetsPerSecond=self.RATE,
        )  # fmt: skip
        edge = EdgeService(clock, EdgeConfig(
            listen=("tcp:0:interface=127.0.0.1",), portsInterface="127.0.0.1", tokens=(record,), drainSeconds=0,
        ))  # fmt: skip
        ready = edge.whenReady()
        edge.startService()
        self.addCleanup(edge.stopService)
        yield ready
        url = f"http://127.0.0.1:{edge.addresses[0].port}"
        agent = AgentService(clock, AgentConfig(edges=(EdgeAddress(url=url, token=new.token),), drainSeconds=0), plugins=False)
        there = Counting()
        server = just(Counting)
        server.buildProtocol = lambda address: there
        publication = agent.publish(Service(name="raw", kind="tcp"), server)
        agent.startService()
        self.addCleanup(agent.stopService)
        grant = yield publication.whenGranted()
        began = clock.seconds()
        caller = yield connectProtocol(TCP4ClientEndpoint(clock, "127.0.0.1", grant.port), Counting())
        yield caller.done
        yield there.done
        took = clock.seconds() - began
        caller.transport.loseConnection()
        self.assertGreater(took, (2 * MUCH - BURST_SECONDS * self.RATE - 2 * READ) / self.RATE)
        self.assertLess(took, 20)
