"""
The promises of exchanges and of tunnels, over a WebSocket between an edge and an agent.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.jetty.websocket_support import REGISTRATION, URL, Both, FakeEdge, Host, Registrar
from tests.promises.exchanges import ExchangePromises
from tests.promises.tunnels import WEB, TunnelPromises
from tunnelstack.dialect.http_entry import OneProtocol
from tunnelstack.dialect.jetty.registration import Registration, Upstream
from tunnelstack.dialect.jetty.websocket_agents import Arrival, WebSocketAgents
from tunnelstack.dialect.jetty.websocket_channel import LIMITS
from tunnelstack.dialect.jetty.websocket_link import connectWebSocket
from tunnelstack.dialect.jetty.websocket_tunnel import WebSocketTunnel
from tunnelstack.exchange.bounds import DEFAULT_BOUNDS
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.exchange.forward import Forwarder
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.testing import Network
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.websocket.server import WebSocketServerFactory
from tunnelstack.wire.records.jetty import CAPABILITIES, FLOW

STOCK = evolve(REGISTRATION, capabilities=None)


def tunnelOver(network: Network, port: int, registration: Registration) -> WebSocketTunnel:
    """
    Join an edge and an agent over a network.

    @param port: of the edge, for agents.
    @return: the edge's tunnel to the agent, which has its web server at port L{WEB}.
    """
    registrar = Registrar()
    agents = WebSocketAgents(FakeEdge(network, DEFAULT_BOUNDS), registrar)     # type: ignore[arg-type]
    network.listenTCP(port, _Door(agents))
    pool = ExchangePool(hostEndpoint(network, "127.0.0.1", WEB, 30.0), clock=network)     # type: ignore[arg-type]
    upstream = Upstream(serverFor=lambda where: Forwarder(pool.exchange))
    endpoint = hostEndpoint(network, "127.0.0.1", port, 30.0)     # type: ignore[arg-type]
    connectWebSocket(Host(network), URL, endpoint, registration, upstream)     # type: ignore[arg-type]
    network.settle()
    return registrar.tunnels[0]


class DirectTests(ExchangePromises, SynchronousTestCase):
    """
    Both sides have all capabilities, and nobody forwards.
    """

    cut: int | None = None

    def connectExchanges(self) -> None:
        self.both = both = Both(cut=self.cut)
        self.clock = both.clock
        self.server = both.server
        self.open = both.open
        self.settle = both.settle
        self.sever = lambda: both.wires[0].drop()


class CutDirectTests(DirectTests):
    cut = 1000


class WebSocketTests(TunnelPromises, SynchronousTestCase):
    """
    Both sides have all capabilities, with a web server behind.
    """

    registration: Registration = REGISTRATION

    def connectTunnel(self) -> Any:
        self.useNetwork(Network(self.cut))
        return tunnelOver(self.network, self.edgePort, self.registration)


class CutWebSocketTests(WebSocketTests):
    cut = 1000


class WithoutFlowTests(WebSocketTests):
    """
    Neither side can request that the other sends no more.
    """

    registration = evolve(REGISTRATION, capabilities=tuple(each for each in CAPABILITIES if each != FLOW))


class StockTests(WebSocketTests):
    """
    The agent announces nothing, so that the edge sends it what the stock takes: whole requests, one at a time.
    """

    registration = STOCK
    parallel = 1

    def test_whoGivesUpHearsNoMore(self) -> None:
        """
        The agent cannot be notified.
        """

    def test_aClientMayGiveUpAtAnyPoint(self) -> None:
        """
        The agent cannot be notified, and serves the next request when it has answered.
        """

    def test_aResponseMayComeBeforeTheRequestIsWhole(self) -> None:
        """
        A request is sent when it is whole.
        """

    def test_someResponsesHaveNoBody(self) -> None:
        """
        HEAD is sent as GET, see L{tests.dialect.jetty.test_websocket_edge.StockTests}.
        """

    def test_aBrokenResponseIsAFailure(self) -> None:
        """
        One that is sent in parts is never ended, so the edge gives it up in the end.
        """
        _, receiver, server = self.get()
        self.ok(server, (b"Content-Length", b"10"))
        server.write(b"half")
        self.settle()
        server.cancel(FailureKind.BROKEN)
        self.settle()
        self.assertEqual(receiver.heads[0].status, 502)
        _, receiver, server = self.get()
        self.ok(server)
        server.write(b"half")
        self.settle()
        server.cancel(FailureKind.BROKEN)
        self.settle()
        self.assertEqual((receiver.body, receiver.trailers, receiver.failure), (b"half", None, None))
        self.works()
        self.passTime(301)
        self.assertIsNotNone(receiver.failure)

    def test_exchangesUnderWayAreCounted(self) -> None:
        self.assertEqual(self.tunnel.inFlight, 0)
        self.get()
        self.ask()[0].end()
        self.settle()
        self.assertEqual((self.tunnel.inFlight, len(self.server.asked)), (2, 1))


class _Door(Factory):
    """
    Listens for agents, at C{/agent} alone.
    """

    noisy = False

    def __init__(self, agents: WebSocketAgents) -> None:
        self._agents = agents

    def buildProtocol(self, address: Any) -> Any:
        arrival = Arrival(self._agents, IPv4Address("TCP", "127.0.0.1", 1))
        clock = self._agents.edge.clock
        server = WebSocketServerFactory(OneProtocol(arrival.channel), "/agent", clock=clock, limits=LIMITS, records=True)
        return server.buildProtocol(address)
