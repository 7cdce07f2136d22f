"""
What every tunnel that carries HTTP exchanges promises: the exchanges of L{tests.promises.exchanges}, through the real ends of a
dialect, and the life of an L{ITunnel}.

A dialect plugs in by a test that inherits L{TunnelPromises}.  Its C{connectTunnel} calls C{useNetwork} with a
L{Network<tunnelstack.testing.Network>}, on which a web server listens then on port L{WEB}; starts an edge and an agent; and
returns the edge's tunnel::

    class JSONCarrierTests(TunnelPromises, SynchronousTestCase):
        def connectTunnel(self):
            self.useNetwork(Network(self.cut))
            ...                                     # both ends of the carrier, the agent's with WEB as its web server
            return tunnel

An agent's end that serves requests by an L{IExchangeServer<tunnelstack.interfaces.IExchangeServer>} may be given C{self.server}
itself instead; then C{between} is C{False}, since nobody forwards.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory
from zope.interface.verify import verifyObject

from tests.exchange.doubles import Recorder, Server
from tests.promises.exchanges import ExchangePromises
from tunnelstack.errors import Unavailable
from tunnelstack.exchange.errors import ExchangeFailed
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.interfaces import ITunnel
from tunnelstack.records import HTTPPurpose
from tunnelstack.testing import Network
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

WEB = 3000
"""The port of the local web server."""


class TunnelPromises(ExchangePromises):
    """
    A test inherits this and C{SynchronousTestCase}, and defines C{connectTunnel}.

    @cvar cut: the most octets of one delivery.
    @ivar network: of edge, agent and local web server.
    @ivar tunnel: the L{ITunnel} at the edge.
    @ivar edgePort: the port between edge and agent, which C{sever} cuts.
    @ivar purpose: of the exchanges.
    @cvar lossSeconds: within which the edge notices that the network is cut.
    """

    between = True
    cut: int | None = None
    network: Network
    tunnel: Any
    edgePort = 8080
    purpose = HTTPPurpose()
    lossSeconds = 0

    def connectTunnel(self) -> Any:
        raise NotImplementedError

    def useNetwork(self, network: Network) -> None:
        """
        Take a network, and let a web server listen there.
        """
        self.network = self.clock = network
        self.settle = network.settle
        self.server = Server()
        self.startWeb()

    def connectExchanges(self) -> None:
        self.tunnel = self.connectTunnel()
        self.settle()
        self.server.asked.clear()            # an agent may have examined its web server

    def startWeb(self) -> None:
        factory = Factory.forProtocol(lambda: HTTPServerProtocol(self.server, clock=self.network))
        factory.noisy = False
        self.web = self.network.listenTCP(WEB, factory)

    def open(self, receiver: Recorder) -> Any:               # type: ignore[override]
        return self.tunnel.exchange(self.purpose, receiver)

    def sever(self) -> None:                                 # type: ignore[override]
        for wire in list(self.network.wires):
            if self.edgePort in (wire.near.getPeer().port, wire.far.getPeer().port):
                wire.drop()

    def refused(self: Any) -> None:
        """
        No exchange can be begun any more.
        """
        receiver = Recorder()
        try:
            exchange = self.open(receiver)
        except Unavailable:
            return
        exchange.sendHead(RequestHead(b"GET", b"/", [(b"Host", b"a.example")]))
        exchange.end()
        self.settle()
        self.assertIsInstance(receiver.failure, ExchangeFailed)

    # The life of a tunnel

    def test_theTunnelProvidesItsInterface(self: Any) -> None:
        self.assertTrue(verifyObject(ITunnel, self.tunnel))
        self.assertTrue(self.tunnel.healthy)

    def test_exchangesUnderWayAreCounted(self: Any) -> None:
        self.assertEqual(self.tunnel.inFlight, 0)
        asked = [self.get() for _ in range(3)]
        self.assertEqual(self.tunnel.inFlight, 3)
        for _, _, server in asked:
            server.respond(ResponseHead(200, b"OK", [(b"Content-Length", b"2")]), b"ok")
        self.settle()
        self.assertEqual(self.tunnel.inFlight, 0)

    def test_aRoundTripIsMeasured(self: Any) -> None:
        measured = self.tunnel.ping()
        self.settle()
        self.assertGreaterEqual(self.successResultOf(measured), 0)

    def test_aDrainWaitsForWhatIsUnderWay(self: Any) -> None:
        _, receiver, server = self.get()
        drained = self.tunnel.drain()
        self.settle()
        self.assertFalse(self.tunnel.healthy)
        self.assertNoResult(drained)
        self.refused()
        self.ok(server, (b"Content-Length", b"5"))
        server.write(b"whole")
        server.end()
        self.settle()
        self.assertEqual((receiver.body, receiver.trailers, receiver.failure), (b"whole", [], None))
        self.passTime(1)
        self.successResultOf(drained)

    def test_anAbortEndsEverything(self: Any) -> None:
        lost: list[object] = []
        self.tunnel.whenLost().addCallback(lost.append)
        _, receiver, server = self.get()
        self.ok(server)
        server.write(b"some")
        self.settle()
        self.assertEqual(lost, [])
        self.tunnel.abort("a test")
        self.passTime(5)
        self.assertEqual(len(lost), 1)
        self.assertFalse(self.tunnel.healthy)
        self.assertIsNotNone(receiver.failure)
        self.assertIsNone(receiver.trailers)
        self.assertTrue(server.finished)
        self.refused()

    def test_aLostNetworkIsALostTunnel(self: Any) -> None:
        lost: list[object] = []
        self.tunnel.whenLost().addCallback(lost.append)
        self.sever()
        self.passTime(self.lossSeconds)
        self.assertEqual(len(lost), 1)
        self.assertFalse(self.tunnel.healthy)
        self.refused()

    # The local web server

    def test_aWebServerThatIsNotThereIsAFailure(self: Any) -> None:
        self.web.stopListening()
        exchange, receiver = self.ask()
        exchange.end()
        self.settle()
        self.wasBroken(receiver, 502, 503)
        self.startWeb()
        self.works()
