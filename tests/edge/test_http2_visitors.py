"""
Visitors by HTTP/2 at a whole edge and agent: the same routes, rules, limits, log and drain as for HTTP/1.1.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.edge.test_edge_and_agent import SITE, Both
from tests.exchange.doubles import Server, reply
from tests.exchange.test_http2_server import Caught
from tests.wire.heads_http2 import BAD, CONNECT, GET, KEY, POST, changed, smuggled
from tunnelstack.control.access_record import AccessRecord
from tunnelstack.control.config.records import (
    EdgeConfig,
    Limits,
    ListenerConfig,
    MetricsConfig,
    Route,
    ServiceConfig,
)
from tunnelstack.control.metrics.counts import CLASSES
from tunnelstack.edge.listeners import makeListener
from tunnelstack.edge.validation import otherMistakes
from tunnelstack.errors import ConfigurationError
from tunnelstack.exchange.http2_server import HTTP2ServerConnection
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.transport.http2.errors import NoFreeStream
from tunnelstack.wire.http1.head import Fields, find_end_untrusted, read_request_untrusted
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.http2.preface import PREFACE
from tunnelstack.wire.http2.websocket import accept_for

HOST = b"site.localhost"
CALLS = ServiceConfig(name="calls", target="3002", http2="always")


def to(fields: Fields, host: bytes = HOST) -> Fields:
    return changed(fields, b":authority", host)


class HTTP2Case(Both):
    """
    An edge that accepts HTTP/2 without TLS.
    """

    def begin(self, *services: ServiceConfig, **settings: Any) -> Any:     # type: ignore[override]
        settings["edge"] = {"h2c": True, **settings.get("edge", {})}
        start = settings.pop("start", True)
        both = super().begin(*services, start=False, **settings)
        self.log: list[AccessRecord] = []
        both.edge.public.site.accessLog = self.log.append
        self.calls = Server(reply())
        factory = Factory.forProtocol(lambda: HTTP2ServerConnection(self.calls, clock=both.network).protocol)   # type: ignore
        factory.noisy = False
        both.network.listenTCP(3002, factory)
        if start:
            both.start()
        return both

    def visitor(self) -> HTTP2Connection:
        visitor = HTTP2Connection(True, clock=self.both.network)
        port = self.both.PORT
        self.both.network.join(visitor, self.both.network.ports[port].factory, IPv4Address("TCP", "127.0.0.1", port))
        self.both.settle()
        self.addCleanup(visitor.abort)
        return visitor

    def ask(self, fields: Fields, end: bool = True, visitor: HTTP2Connection | None = None) -> tuple[Any, Caught]:
        caught = Caught()
        stream = (visitor or self.visitor()).openStream(fields, caught, end)
        self.both.settle()
        return stream, caught


class VisitTests(HTTP2Case):
    """
    Requests.
    """

    def test_aPageIsServed(self) -> None:
        self.begin(SITE)
        visitor = self.visitor()
        for _ in range(3):
            _, caught = self.ask(to(GET), visitor=visitor)
            self.assertEqual((caught.status, caught.body, caught.trailers), (b"200", b"for 127.0.0.1", []))
        request = self.origin.requests[0]
        self.assertTrue(request.startswith(b"GET /b?c HTTP/1.1\r\nHost: site.localhost\r\n"), request)
        self.assertIn(b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n", request)

    def test_HTTP1GoesOnAtTheSamePort(self) -> None:
        both = self.begin(SITE)
        self.assertIn(b" 200 OK", both.get("site.localhost"))
        self.assertIn(b" 505 ", both.visit(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").got)

    def test_theFirstOctetsMayComeAlone(self) -> None:
        both = self.begin(SITE, cut=1)
        self.assertEqual(self.ask(to(GET))[1].status, b"200")
        self.assertIn(b" 200 OK", both.get("site.localhost"))

    def test_aPrefaceThatDoesNotGoOn(self) -> None:
        both = self.begin(SITE)
        caller = both.visit(PREFACE[:10])
        both.network.passTime(11)
        self.assertIsNotNone(caller.lost)

    def test_onlyWhereItIsAllowed(self) -> None:
        for edge in ({"h2c": False}, {"http2": False, "h2c": False}):
            both = self.begin(SITE, edge=edge)
            self.assertIn(b"HTTP/1.1 505", both.visit(PREFACE).got)

    def test_theAccessLogHasTheProtocol(self) -> None:
        both = self.begin(SITE)
        self.ask(to(GET))
        both.get("site.localhost")
        self.assertEqual([(record.description.protocol, record.status, record.octets) for record in self.log],
                         [("HTTP/2.0", 200, 13), ("HTTP/1.1", 200, 13)])
        self.assertEqual((self.log[0].host, self.log[0].target, self.log[0].visitor), ("site.localhost", "/b?c", "127.0.0.1"))

    def test_metricsCountThem(self) -> None:
        both = self.begin(SITE, edge={"metrics": MetricsConfig(enabled=True)})
        self.ask(to(GET))
        self.ask(to(GET, b"other.localhost"))
        counts = both.edge.metrics.exchanges
        counts.fold()
        self.assertEqual(dict(zip(CLASSES, counts.byClass, strict=True))["2xx"], 1)
        self.assertEqual((counts.failures["unknown"], sum(counts.firstOctet.counts), sum(counts.duration.counts)), (1, 1, 2))

    def test_otherHostsAreAnswered404(self) -> None:
        self.begin(SITE)
        self.assertEqual(self.ask(to(GET, b"other.localhost"))[1].status, b"404")

    def test_rulesOfRoutesApply(self) -> None:
        self.begin(SITE, edge={"routes": (
            Route(host="www.example.net", to="site", visitors=("deny all",)),
            Route(host="slow.example.net", to="site", requestsPerSecond=1),
            Route(host="metered.example.net", to="site", octetsPerSecond=1000),
        )})
        self.assertEqual(self.ask(to(GET, b"www.example.net"))[1].status, b"403")
        self.assertEqual([self.ask(to(GET, b"slow.example.net"))[1].status for _ in range(2)], [b"200", b"429"])
        self.assertEqual(self.ask(to(GET, b"metered.example.net"))[1].body, b"for 127.0.0.1")

    def test_limitsOfHeads(self) -> None:
        self.begin(SITE, edge={"limits": Limits(headOctets=1024, headFields=8)})
        self.assertEqual(self.ask(to([*GET, (b"x", b"y" * 1024)]))[1].status, b"431")
        self.assertEqual(self.ask(to([*GET, *[(b"x", b"y")] * 8]))[1].status, b"431")

    def test_streamsOfAConnectionAreBounded(self) -> None:
        for streams in (7, 200):
            self.begin(SITE, edge={"limits": Limits(http2Streams=streams)})
            self.assertEqual(self.visitor().openSlots, streams)

    def test_aBodyIsForwarded(self) -> None:
        self.begin(CALLS)
        self.calls.answer = None
        stream, caught = self.ask(to([*POST, (b"te", b"trailers")], b"calls.localhost"), False)
        stream.write(b"hello")
        stream.end([(b"x-sum", b"1")])
        self.both.settle()
        head, _, body = self.calls.asked[0]
        self.assertEqual((head.version, head.method, body.body), ((2, 0), b"POST", b"hello"))
        self.assertEqual((body.trailers, head.field(b"te")), ([(b"x-sum", b"1")], b"trailers"))
        reply()(None, self.calls.asked[0][1])
        self.both.settle()
        self.assertEqual((caught.status, caught.body), (b"200", b"ok"))

    def test_HTTP1VisitorsReachAServerOfHTTP2(self) -> None:
        both = self.begin(CALLS)
        self.assertTrue(both.get("calls.localhost").endswith(b"\r\n\r\nok"))

    def test_aVisitorThatGivesUpIsMissedAtTheServer(self) -> None:
        self.begin(CALLS)
        self.calls.answer = None
        stream, _ = self.ask(to(GET, b"calls.localhost"))
        stream.reset()
        self.both.settle()
        _, exchange, body = self.calls.asked[0]
        self.assertTrue(exchange.finished)
        self.assertIsNotNone(body.failure)

    def test_aServerThatResetsIsMissedAtTheVisitor(self) -> None:
        self.begin(CALLS)
        self.calls.answer = None
        _, caught = self.ask(to(GET, b"calls.localhost"))
        exchange = self.calls.asked[0][1]
        exchange.sendHead(reply_head())
        exchange.write(b"some")
        self.both.settle()
        self.assertEqual((caught.status, caught.body), (b"200", b"some"))
        exchange._stream.reset(ErrorCode.INTERNAL_ERROR)
        self.both.settle()
        self.assertEqual(caught.failure.code, ErrorCode.INTERNAL_ERROR)

    def test_aTargetThatDoesNotSpeakHTTP2(self) -> None:
        self.begin(ServiceConfig(name="old", target="3000", http2="always"))
        _, caught = self.ask(to(GET, b"old.localhost"))
        self.assertEqual(caught.status, b"503")
        self.assertIn(b"does not support HTTP/2", caught.body)


def reply_head() -> Any:
    from tunnelstack.wire.http1.head import ResponseHead

    return ResponseHead(200, b"OK", [])


class RefusalTests(HTTP2Case):
    """
    Dubious requests do not reach an agent.
    """

    def test_invalidRequestsAreRejected(self) -> None:
        self.begin(SITE)
        visitor = self.visitor()
        for name, (fields, ended, status) in BAD.items():
            if not 0 < len(fields) < 50:
                continue                      # what our own client does not send, and what has a test of its own
            _, caught = self.ask(fields, ended, visitor)
            self.assertTrue(caught.status == b"%d" % status or caught.failure is not None, (name, caught.status))
        self.assertEqual(self.ask(to(GET), visitor=visitor)[1].status, b"200")
        self.assertEqual(len(self.origin.requests), 1)

    def test_nothingIsSmuggled(self) -> None:
        """
        What the server receives is one request, with the fields that were meant.
        """
        self.begin(SITE)
        visitor = self.visitor()
        number = 0
        for name, fields in smuggled():
            if visitor.lostReason is not None or visitor.isGoingAway:
                visitor = self.visitor()
            before = len(self.origin.requests)
            host = dict(fields).get(b":authority", b"")
            self.ask(to(fields) if host in (b"a", b"") else fields, True, visitor)
            for octets in self.origin.requests[before:]:
                number += 1
                end = find_end_untrusted(octets)
                self.assertEqual(end, len(octets), (name, octets))
                head = read_request_untrusted(octets, end)
                self.assertEqual([value for field, value in head.fields if field.lower() == b"host"], [HOST], name)
                self.assertIsNone(head.field(b"transfer-encoding"), name)
        self.assertGreater(number, 0)


class WebSocketTests(HTTP2Case):
    """
    WebSockets by HTTP/2.
    """

    def test_theServerOfHTTP1ReceivesAnUpgrade(self) -> None:
        both = self.begin(ServiceConfig(name="chat", target="3003"))
        server = Server()
        factory = Factory.forProtocol(lambda: HTTPServerProtocol(server, clock=both.network))      # type: ignore
        factory.noisy = False
        both.network.listenTCP(3003, factory)
        self.talk(server)

    def test_theServerOfHTTP2ReceivesAConnect(self) -> None:
        self.begin(ServiceConfig(name="chat", target="3002", http2="always"))
        self.calls.answer = None
        self.talk(self.calls)

    def talk(self, server: Server) -> None:
        stream, caught = self.ask(to(CONNECT, b"chat.localhost"), False)
        head, exchange, body = server.asked[0]
        self.assertEqual((head.method, head.target, head.framing.upgrade), (b"GET", b"/chat", b"websocket"))
        self.assertNotEqual(head.field(b"sec-websocket-key"), KEY)
        body.trailers = None
        fields = [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", accept_for(head.field(b"sec-websocket-key")))]
        response = reply_head()
        response.status, response.fields = 101, fields
        exchange.sendHead(response)
        self.both.settle()
        self.assertEqual((caught.status, caught.trailers), (b"200", None))
        stream.write(b"hello")
        exchange.write(b"world")
        self.both.settle()
        self.assertEqual((body.body, caught.body), (b"hello", b"world"))
        exchange.end()
        stream.end()
        self.both.settle()
        self.assertEqual((body.trailers, caught.trailers, caught.failure), ([], [], None))
        self.assertEqual(self.log[-1].status, 101)

    def test_aWrongAnswerIsReportedAs502(self) -> None:
        self.begin(SITE)
        _, caught = self.ask(to(CONNECT), False)
        self.assertEqual(caught.status, b"502")


class LifeTests(HTTP2Case):
    """
    Connections.
    """

    def test_theyAreCounted(self) -> None:
        both = self.begin(SITE)
        visitor = self.visitor()
        self.assertEqual((len(both.edge.public.connections), both.edge.admission.connectionCount), (1, 1))
        visitor.abort()
        both.settle()
        self.assertEqual((len(both.edge.public.connections), both.edge.admission.connectionCount), (0, 0))

    def test_theirStreamsAreBounded(self) -> None:
        both = self.begin(CALLS, edge={"limits": Limits(http2Streams=3)})
        self.calls.answer = None
        visitor = self.visitor()
        for _ in range(3):
            self.ask(to(GET, b"calls.localhost"), visitor=visitor)
        self.assertEqual((visitor.openSlots, len(self.calls.asked)), (0, 3))
        self.assertRaises(NoFreeStream, self.ask, to(GET), True, visitor)
        both.edge.reload(evolve(both.edge.config, limits=Limits(http2Streams=5)))
        self.assertEqual(self.visitor().openSlots, 5)

    def test_whatTheyHoldCountsInTheBudgetOfTheProcess(self) -> None:
        both = self.begin(CALLS)
        self.calls.answer = lambda head, exchange: exchange.pauseProducing()
        stream, _ = self.ask(to(POST, b"calls.localhost"), False)
        stream.write(bytes(4 << 20))
        both.settle()
        self.assertGreater(both.edge.memoryBudget.held, 256 * 1024)
        stream.reset()
        both.settle()
        both.network.passTime(2)
        self.assertEqual(both.edge.memoryBudget.held, 0)

    def test_whatAServerSendsCountsInTheBudgetOfTheAgent(self) -> None:
        both = self.begin(CALLS)
        self.calls.answer = None
        stream, _ = self.ask(to(GET, b"calls.localhost"))
        stream.pauseProducing()
        exchange = self.calls.asked[0][1]
        exchange.sendHead(reply_head())
        exchange.write(bytes(4 << 20))
        both.settle()
        both.network.passTime(2)
        self.assertGreater(both.agent.budget.held, 256 * 1024)
        stream.reset()
        both.settle()
        both.network.passTime(2)
        self.assertEqual(both.agent.budget.held, 0)

    def test_idleOnesMakeRoom(self) -> None:
        both = self.begin(SITE)
        visitor = self.visitor()
        self.ask(to(GET), visitor=visitor)
        both.network.passTime(6)
        both.edge.public.closeIdle()
        both.settle()
        self.assertIsNotNone(visitor.lostReason)

    def test_drainWaitsForStreams(self) -> None:
        both = self.begin(CALLS)
        self.calls.answer = None
        visitor = self.visitor()
        _, caught = self.ask(to(GET, b"calls.localhost"), visitor=visitor)
        stopping = both.edge.stopService()
        both.settle()
        self.assertTrue(visitor.isGoingAway)
        reply()(None, self.calls.asked[0][1])
        both.settle()
        self.assertEqual((caught.status, caught.body), (b"200", b"ok"))
        both.network.passTime(3)
        self.assertIsNotNone(visitor.lostReason)
        self.successResultOf(stopping)
        both.stop()
        both.settle()

    def test_anAgentsDoorIsForHTTP1(self) -> None:
        self.begin(SITE)
        fields = changed(to(CONNECT, b"localhost"), b":path", b"/_tunnel/1")
        _, caught = self.ask([*fields, (b"authorization", b"Bearer " + self.both.token.encode())], False)
        self.assertTrue(caught.failure is not None or caught.status[:1] == b"4", caught.status)


class ConfigurationTests(SynchronousTestCase):
    """
    What says so.
    """

    def test_h2cIsForPlainHTTP(self) -> None:
        listener: Any = ListenerConfig(endpoint="tls:certs:port=0", h2c=True)
        with self.assertRaises(ConfigurationError) as wrong:
            makeListener(None, listener)                                  # type: ignore[arg-type]
        self.assertIn("h2c is for plain HTTP", str(wrong.exception))

    def test_bothSwitchesContradictEachOther(self) -> None:
        from twisted.internet import reactor

        mistakes = otherMistakes(reactor, EdgeConfig(http2=False, h2c=True))      # type: ignore[arg-type]
        self.assertEqual(mistakes, ["h2c of [edge] accepts HTTP/2, which http2 = false does not"])
