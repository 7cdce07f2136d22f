"""
The conformance scenarios that are more than a promise of exchanges, over a WebSocket between an edge and an agent.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.jetty.test_websocket_promises import tunnelOver
from tests.dialect.jetty.websocket_support import HOST, REGISTRATION, Both, Peer, Stranger
from tests.exchange.doubles import Recorder, reply
from tests.promises.exchanges import noise
from tests.promises.tunnels import WEB
from tunnelstack.dialect.http_entry import OneProtocol
from tunnelstack.exchange.errors import Busy, FailureKind
from tunnelstack.exchange.forward import Forwarder
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.records import HTTPPurpose
from tunnelstack.testing import Network
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.server import WebSocketServerFactory
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

PUBLIC = 8000
"""The port of the edge for visitors."""


class LoadTests(SynchronousTestCase):
    def test_largeBodiesPass(self) -> None:
        up, down = noise(9_000_000), noise(10_000_000)
        both = Both()
        asked = both.ask(b"POST", b"/", body=up)
        head, exchange, received = both.server.asked[0]
        reply(200, down)(head, exchange)
        both.settle()
        self.assertEqual(sha256(received.body).digest(), sha256(up).digest())
        self.assertEqual(sha256(asked.receiver.body).digest(), sha256(down).digest())

    def test_asManyExchangesAsAllowedRunAtOnce(self) -> None:
        both = Both()
        asked = [both.ask() for _ in range(128)]
        self.assertEqual(len(both.server.asked), 64)
        self.assertRaises(Busy, both.open, Recorder())
        while not all(each.receiver.trailers is not None for each in asked):
            for _, exchange, _ in list(both.server.asked):
                if not exchange.finished:
                    exchange.respond(ResponseHead(200, b"OK", [(b"Content-Length", b"2")]), b"ok")
            both.settle()
        self.assertEqual({each.receiver.body for each in asked}, {b"ok"})
        self.assertEqual(both.tunnel.requests.table.unknown, 0)

    def test_aDrainLosesNoRequest(self) -> None:
        """
        Whichever side drains, at any moment between the requests.
        """
        for agentDrains in (False, True):
            for drainAt in range(6):
                both = Both()
                both.server.answer = lambda head, exchange: both.clock.callLater(
                    2, reply(200, b"ok"), head, exchange
                )
                asked, refused = [], 0
                for number in range(6):
                    if number == drainAt:
                        (both.link.drain if agentDrains else both.tunnel.drain)()
                    try:
                        asked.append(both.ask())
                    except Busy:
                        refused += 1
                    both.passTime(1)
                both.passTime(10)
                self.assertEqual([each.receiver.body for each in asked], [b"ok"] * len(asked))
                self.assertEqual(len(asked) + refused, 6)
                self.assertTrue(both.tunnel.whenLost().called)
                self.assertTrue(both.link.whenLost().called)

    def test_aRequestIsAbortedAtTheLocalServerWhenItsVisitorLeaves(self) -> None:
        both = Both()
        asked = both.ask(b"POST", body=b"x")
        asked.exchange.cancel(FailureKind.CLIENT_CLOSED)
        both.passTime(1)
        _, exchange, body = both.server.asked[0]
        self.assertEqual((exchange.finished, body.failure.kind), (True, FailureKind.CLIENT_CLOSED))

    def test_anAgentThatDiesTruncatesTheResponse(self) -> None:
        both = Both()
        asked = both.ask()
        _, exchange, _ = both.server.asked[0]
        exchange.sendHead(ResponseHead(200, b"OK", []))
        exchange.write(b"half")
        both.settle()
        both.wires[0].near.abortConnection()
        both.settle()
        self.assertEqual((asked.receiver.body, asked.receiver.trailers, asked.kind), (b"half", None, FailureKind.BROKEN))

    def test_twoAgentsOfATunnelAreIndependent(self) -> None:
        both = Both()
        other = Stranger(both)
        first, second = both.registrar.tunnels
        receiver = Recorder()
        exchange = first.exchange(HTTPPurpose("demo"), receiver)
        exchange.sendHead(RequestHead(b"GET", b"/", [HOST]))
        exchange.end()
        other.transport.abortConnection()
        both.settle()
        self.assertEqual((first.healthy, second.healthy), (True, False))
        both.server.asked[0][1].respond(ResponseHead(204, b"", []), b"")
        both.settle()
        self.assertEqual(receiver.heads[0].status, 204)


class Echo(Protocol):
    """
    Echoes messages; closes with a code when it receives C{close}.
    """

    transport: Any

    def recordReceived(self, octets: bytes, text: bool) -> None:
        if octets == b"close":
            self.transport.loseConnection(4001, "as requested")
        else:
            self.transport.writeRecord(octets, text)


class Visitor(Peer):
    def recordReceived(self, octets: bytes, text: bool) -> None:
        self.messages.append(octets)


class PassthroughTests(SynchronousTestCase):
    """
    The WebSocket of a visitor, through edge and agent, to a local server: neither reads its frames.
    """

    def setUp(self) -> None:
        self.network = network = Network()
        factory = Factory.forProtocol(Echo)
        factory.noisy = False
        web = WebSocketServerFactory(factory, clock=network, subprotocols=("echo.v1",), records=True)
        network.listenTCP(WEB, web)
        self.tunnel = tunnelOver(network, 8080, REGISTRATION)

    def visit(self) -> Visitor:
        edge = Forwarder(lambda receiver: self.tunnel.exchange(HTTPPurpose(), receiver))
        factory = Factory.forProtocol(lambda: HTTPServerProtocol(edge, clock=self.network))
        factory.noisy = False
        self.network.listenTCP(PUBLIC, factory)
        visitor = Visitor()
        endpoint = hostEndpoint(self.network, "127.0.0.1", PUBLIC, 30.0)     # type: ignore[arg-type]
        websocket = WebSocketClientEndpoint(
            self.network, "ws://demo.example/chat", endpoint=endpoint, subprotocols=("echo.v1",), records=True
        )
        websocket.connect(OneProtocol(visitor))
        self.network.settle()
        return visitor

    def test_messagesPassUnchanged(self) -> None:
        visitor = self.visit()
        self.assertEqual(visitor.transport.subprotocol, "echo.v1")
        for message in ("h\u00e9".encode(), b"x" * 60_000):
            visitor.transport.writeRecord(message, True)
            visitor.transport.writeRecord(message + b"\xff\x00")
            self.network.settle()
            self.assertEqual(visitor.messages[-2:], [message, message + b"\xff\x00"])
        self.assertEqual(self.tunnel.inFlight, 1)
        visitor.transport.loseConnection()
        self.network.passTime(1)
        self.assertEqual((visitor.closeCode, self.tunnel.inFlight), (1000, 0))

    def test_theCodeOfACloseArrives(self) -> None:
        visitor = self.visit()
        visitor.transport.writeRecord(b"close", True)
        self.network.passTime(1)
        self.assertEqual((visitor.closeCode, self.tunnel.inFlight), (4001, 0))

    def test_aVisitorWhoVanishesEndsAll(self) -> None:
        visitor = self.visit()
        visitor.transport.abortConnection()
        self.network.passTime(1)
        self.assertEqual(self.tunnel.inFlight, 0)
