"""
Exchanges on lanes, with an agent and an edge that the test plays: order, ends, mistakes, and who is asked again.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.dialect.jetty.grpc_support import (
    SESSION,
    Pair,
    PlayedEdge,
    Sessions,
)
from tests.exchange.doubles import Recorder, Server
from tests.promises.exchanges import Pressed
from tunnelstack.dialect.jetty.grpc_agent import KEEPALIVE, KeepaliveInterval
from tunnelstack.dialect.jetty.grpc_edge import EDGE_LIMITS
from tunnelstack.dialect.jetty.grpc_exchange import REFUSAL_SECONDS
from tunnelstack.dialect.jetty.grpc_link import EdgeDrains
from tunnelstack.dialect.jetty.registration import (
    RegistrationRefused,
    TransportUnavailable,
    UpstreamRefused,
)
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.interfaces import ILink, ISession, ITunnel
from tunnelstack.records import HTTPPurpose, Visitor
from tunnelstack.testing import Network
from tunnelstack.transport.http2.errors import HTTP2StreamReset
from tunnelstack.wire.grpc import CallResult, Status
from tunnelstack.wire.http1.framing import Framing
from tunnelstack.wire.http1.head import RequestHead as HTTPHead
from tunnelstack.wire.http1.head import ResponseHead as HTTPResponse
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.protobuf import encode_message
from tunnelstack.wire.records.jetty_grpc import (
    ABORT,
    DATA,
    HEADERS,
    TRAILERS,
    Drain,
    ErrorInfo,
    Header,
    HTTPChunk,
    LaneDemand,
    Ping,
    RegisterRequest,
    RegisterResponse,
    RequestHead,
    ResponseHead,
)
from tunnelstack.wire.records.jetty_rules import RoutingRule, upstream_of

HOST = (b"Host", b"a.example")
OK = HTTPChunk(type=HEADERS, response=ResponseHead(status=200))
END = HTTPChunk(type=DATA, end=True)


def data(octets: bytes, end: bool = False) -> HTTPChunk:
    return HTTPChunk(type=DATA, data=octets, end=end)


class EdgeLanes(Sessions):
    """
    The agent is played, and has one lane.
    """

    def setUp(self) -> None:
        super().setUp()
        self.register = self.agent.register()
        self.lane = self.agent.lane()

    def ask(self, method: bytes = b"GET", *fields: tuple[bytes, bytes], end: bool = True, **visitor: Any) -> Any:
        receiver = Recorder()
        exchange = self.pair.tunnel.exchange(HTTPPurpose(), receiver, Visitor(**visitor) if visitor else None)
        exchange.sendHead(HTTPHead(method, b"/a?b", [HOST, *fields]))
        if end:
            exchange.end()
        self.network.settle()
        return exchange, receiver

    def say(self, *chunks: HTTPChunk, lane: Any = None) -> None:
        for chunk in chunks:
            (lane or self.lane).send(chunk)
        self.network.settle()

    def kind(self, receiver: Recorder) -> FailureKind:
        assert receiver.failure is not None
        return receiver.failure.kind

    def reset(self, lane: Any) -> int:
        assert isinstance(lane.reason, HTTP2StreamReset), lane.result
        return int(lane.reason.code)


class EdgeLaneTests(EdgeLanes):
    """
    Exchanges of an edge.
    """

    def test_aRequestHasAllThatTheAgentNeeds(self) -> None:
        address = IPv4Address("TCP", "203.0.113.9", 5000)
        parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        self.ask(b"GET", (b"traceparent", parent), address=address, scheme="https", trace="r-1")
        (chunk,) = self.lane.told
        request = chunk.request
        self.assertEqual((chunk.request_id, chunk.end, request.method), ("r-1", True, "GET"))
        self.assertEqual((request.path, request.query, request.content_length), ("/a", "b", 0))
        self.assertEqual((request.remote_addr, request.scheme), ("203.0.113.9:5000", "https"))
        self.assertEqual((request.timeout_ms, request.trace_parent), (60_000, parent.decode()))
        self.assertEqual(request.upstream_host, "")

    def test_anIdentifierThatIsTooLongIsReplaced(self) -> None:
        self.ask(trace="r" * 129)
        self.assertEqual(len(self.lane.told[0].request_id), 32)

    def test_aPurposeMayNameTheTarget(self) -> None:
        exchange = self.pair.tunnel.exchange(HTTPPurpose("", "10.0.0.1", 8080), Recorder())
        exchange.sendHead(HTTPHead(b"GET", b"/", [HOST]))
        self.network.settle()
        request = self.lane.told[0].request
        self.assertEqual((request.upstream_host, request.upstream_port), ("10.0.0.1", 8080))

    def test_rulesNameTheTarget(self) -> None:
        """
        Those that hold when the request is sent.
        """
        rules: list[RoutingRule] = []
        tunnel = self.pair.tunnel
        tunnel.acceptance = evolve(
            tunnel.acceptance, upstreamOf=lambda head: upstream_of(rules, head.target, head.fields)
        )
        rule = RoutingRule(match_type="header", header_name="X-A", header_value="1", local_host="10.0.0.1", local_port=81)
        for present, value, port in (([], b"1", 0), ([rule], b"1", 81), ([rule], b"2", 0)):
            rules[:] = present
            told = len(self.lane.told)
            self.ask(b"GET", (b"x-a", value))
            request = self.lane.told[told].request
            self.assertEqual((request.upstream_host, request.upstream_port), ("10.0.0.1" if port else "", port))
            self.say(OK, END)
        rules[:] = [rule]
        told = len(self.lane.told)
        exchange = self.pair.tunnel.exchange(HTTPPurpose("", "10.0.0.2", 8080), Recorder())
        exchange.sendHead(HTTPHead(b"GET", b"/", [HOST, (b"X-A", b"1")]))
        self.network.settle()
        self.assertEqual(self.lane.told[told].request.upstream_port, 8080, "which the edge's own routes name")

    def test_whoExpectsIsToldToContinueOnceThereIsALane(self) -> None:
        receivers = []
        for _ in range(2):
            receiver = Recorder()
            exchange = self.pair.tunnel.exchange(HTTPPurpose(), receiver)
            fields = [HOST, (b"Expect", b"100-continue"), (b"Content-Length", b"5")]
            exchange.sendHead(HTTPHead(b"POST", b"/", fields, framing=Framing(5, host=b"a", expect_continue=True)))
            self.network.settle()
            receivers.append(receiver)
        self.assertEqual([[head.status for head in receiver.interim] for receiver in receivers], [[100], []])
        self.assertNotIn("Expect", [each.name for each in self.lane.told[0].request.headers])

    def test_aLaneIsUsedAgain(self) -> None:
        for number in range(3):
            _, receiver = self.ask()
            self.say(OK, data(b"%d" % number, True))
            self.assertEqual((receiver.body, receiver.trailers), (b"%d" % number, []))
        self.assertEqual((len(self.lane.told), self.lane.result), (3, None))

    def test_theLaneThatWasUsedLastIsUsedNext(self) -> None:
        other = self.agent.lane()
        for _ in range(3):
            self.ask()
            self.say(OK, END, lane=other)
        self.assertEqual((len(self.lane.told), len(other.told)), (0, 3))

    def test_aChunkOnAnIdleLaneEndsIt(self) -> None:
        self.say(HTTPChunk(type=9))
        self.assertIsNone(self.lane.result)
        self.say(OK)
        self.assertEqual(self.reset(self.lane), ErrorCode.PROTOCOL_ERROR)

    def test_chunksOutOfOrderEndTheLaneAndTheExchange(self) -> None:
        five = HTTPChunk(type=HEADERS, response=ResponseHead(status=200, content_length=5))
        for chunks in (
            [data(b"x")], [OK, OK], [OK, HTTPChunk(type=TRAILERS)], [five, data(b"123456")], [five, data(b"123", True)],
            [evolve(OK, request_id="other")], [HTTPChunk(type=HEADERS, request=RequestHead(method="GET", path="/"))],
        ):  # fmt: skip
            _, receiver = self.ask()
            self.say(*chunks)
            self.assertEqual((receiver.failure is None, receiver.trailers), (False, None), chunks)
            self.assertEqual(self.reset(self.lane), ErrorCode.PROTOCOL_ERROR)
            self.lane = self.agent.lane()

    def test_chunksAfterTheEndBelongToNobody(self) -> None:
        self.ask()
        self.say(OK, END, END)
        self.assertEqual(self.reset(self.lane), ErrorCode.PROTOCOL_ERROR)

    def test_headsThatAreNoneAreFailures(self) -> None:
        for head in (
            ResponseHead(status=200, headers=(Header(name="X", value=b"a\r\nb"),)), ResponseHead(status=101),
            ResponseHead(status=200, headers=(Header(name="X", value=b"v"),) * 300),
        ):  # fmt: skip
            _, receiver = self.ask()
            self.say(HTTPChunk(type=HEADERS, response=head))
            self.assertEqual(receiver.failure.status, 502)
            self.assertEqual(self.reset(self.lane), ErrorCode.CANCEL)
            self.lane = self.agent.lane()

    def test_messagesThatAreNoneEndTheLane(self) -> None:
        for octets, status in ((b"\x0a\xff", Status.INTERNAL), (b"\x0a\x01\xff", Status.INTERNAL), (b"\x0b", Status.INTERNAL)):
            _, receiver = self.ask()
            self.lane.call.send(octets)
            self.network.settle()
            self.assertEqual((self.lane.status, self.kind(receiver)), (status, FailureKind.BROKEN))
            self.lane = self.agent.lane()
        for octets, status in ((b"\1\0\0\0\1x", Status.INTERNAL), (b"\0\0\x40\0\1", Status.RESOURCE_EXHAUSTED)):
            _, receiver = self.ask()
            self.lane.call.stream.write(octets)
            self.network.settle()
            self.assertEqual((self.lane.status, self.kind(receiver)), (status, FailureKind.BROKEN))
            self.lane = self.agent.lane()
        self.assertIsNone(self.register.result)

    def test_abortsHaveTheirStatus(self) -> None:
        for code, status in (("upstream_timeout", 504), ("upstream_refused", 502), ("busy", 503), ("", 502)):
            _, receiver = self.ask()
            self.say(HTTPChunk(type=ABORT, end=True, abort=ErrorInfo(code=code, message="m")))
            assert receiver.failure is not None
            self.assertEqual(receiver.failure.status, status)
            self.assertIsNotNone(self.lane.result)
            self.lane = self.agent.lane()
        _, receiver = self.ask()
        self.say(OK, HTTPChunk(type=ABORT, end=True))
        self.assertEqual((len(receiver.heads), receiver.trailers, receiver.failure is None), (1, None, False))

    def test_anEarlyResponseEndsTheLane(self) -> None:
        exchange, receiver = self.ask(b"POST", (b"Content-Length", b"1000"), end=False)
        exchange.write(b"some")
        self.network.settle()
        self.say(OK, END)
        self.assertEqual((receiver.trailers, self.lane.status), ([], Status.OK))
        self.assertEqual(self.pair.tunnel.inFlight, 0)

    def test_anEarlyResponseResetsALaneWithMoreToSend(self) -> None:
        exchange, receiver = self.ask(b"POST", (b"Content-Length", b"10000000"), end=False)
        self.lane.call.pauseProducing()
        for _ in range(100):
            exchange.write(bytes(65_536))
            self.network.settle()
        self.say(OK, END)
        self.assertEqual(receiver.trailers, [])
        self.lane.call.resumeProducing()
        self.network.settle()
        self.assertEqual(self.reset(self.lane), ErrorCode.CANCEL)

    def test_aRefusedRequestIsRepeatedOnce(self) -> None:
        first, second, third = self.lane, self.agent.lane(), self.agent.lane()
        exchange, receiver = self.ask(b"POST", (b"Content-Length", b"5"), end=False)
        exchange.write(b"hello")
        exchange.end()
        self.network.settle()
        third.call.reset(ErrorCode.REFUSED_STREAM)
        self.network.settle()
        self.assertEqual([chunk.type for chunk in second.told], [HEADERS, DATA, DATA])
        self.assertEqual((second.told[1].data, second.told[2].end), (b"hello", True))
        second.call.reset(ErrorCode.REFUSED_STREAM)
        self.network.settle()
        self.assertEqual((first.told, self.kind(receiver)), ([], FailureKind.BROKEN))

    def test_aRequestThatMayHaveBeenProcessedIsNotRepeated(self) -> None:
        other = self.agent.lane()
        for code in (ErrorCode.CANCEL, ErrorCode.INTERNAL_ERROR, ErrorCode.PROTOCOL_ERROR):
            _, receiver = self.ask()
            other.call.reset(code)
            self.network.settle()
            self.assertEqual(self.kind(receiver), FailureKind.BROKEN)
            other = self.agent.lane()
        _, receiver = self.ask()
        self.say(OK, lane=other)
        other.call.reset(ErrorCode.REFUSED_STREAM)
        self.network.settle()
        self.assertEqual((self.lane.told, receiver.trailers, receiver.failure is None), ([], None, False))

    def test_aRequestThatCrossesTheEndOfALane(self) -> None:
        other = self.agent.lane()
        _, receiver = self.ask()
        other.call.halfClose()
        self.network.settle()
        self.assertEqual([chunk.request.path for chunk in self.lane.told], ["/a"])      # a safe one is repeated at once
        self.say(OK, END)
        self.assertEqual(receiver.trailers, [])
        exchange, receiver = self.ask(b"POST", (b"Content-Length", b"1"), end=False)
        exchange.write(b"x")
        exchange.end()
        self.network.settle()
        self.lane.call.halfClose()
        self.network.settle()
        self.assertIsNone(receiver.failure)
        self.network.advance(REFUSAL_SECONDS)
        self.network.settle()
        self.assertEqual(self.kind(receiver), FailureKind.BROKEN)

    def test_anEndInsideAResponseIsAFailure(self) -> None:
        _, receiver = self.ask()
        self.say(OK, data(b"half"))
        self.lane.call.halfClose()
        self.network.settle()
        self.assertEqual((receiver.body, receiver.trailers, receiver.failure is None), (b"half", None, False))

    def test_anAgentMayEndALaneAfterItsResponse(self) -> None:
        _, receiver = self.ask()
        self.lane.send(OK)
        self.lane.send(END)
        self.lane.call.halfClose()
        self.network.settle()
        self.assertEqual((receiver.trailers, self.lane.status), ([], Status.OK))

    def test_anIdleLaneMayBeLost(self) -> None:
        self.lane.call.reset()
        other = self.agent.lane()
        other.call.halfClose()
        self.network.settle()
        self.assertEqual((other.status, self.pair.tunnel.healthy), (Status.OK, True))

    def test_whatNobodyAnswersIsGivenUp(self) -> None:
        _, receiver = self.ask()
        for _ in range(7):
            self.network.passTime(10)
            self.register.send(RegisterRequest())
        self.assertEqual(self.kind(receiver), FailureKind.GATEWAY_TIMEOUT)
        self.assertEqual(self.reset(self.lane), ErrorCode.CANCEL)


class BodyLimitTests(EdgeLanes):
    """
    An edge that limits the bodies of requests.
    """

    limits = evolve(EDGE_LIMITS, max_request_body_bytes=1_000_000)

    def test_bodiesAreLimited(self) -> None:
        _, receiver = self.ask(b"POST", (b"Content-Length", b"1000001"), end=False)
        self.assertEqual((self.kind(receiver), self.lane.told), (FailureKind.TOO_LARGE, []))
        exchange, receiver = self.ask(b"POST", (b"Transfer-Encoding", b"chunked"), end=False)
        exchange.write(bytes(1_000_000))
        self.assertIsNone(receiver.failure)
        exchange.write(b"x")
        self.assertEqual(self.kind(receiver), FailureKind.TOO_LARGE)
        self.network.settle()
        self.assertEqual(self.reset(self.lane), ErrorCode.CANCEL)


class OneExchangeTests(Sessions):
    """
    Lanes that are not used again.
    """

    limits = evolve(EDGE_LIMITS, lane_max_exchanges=1)

    def test_theEdgeEndsALaneAfterItsExchange(self) -> None:
        self.agent.register()
        lane = self.agent.lane()
        _, receiver = self.ask()
        lane.send(evolve(OK, end=True))
        self.network.settle()
        self.assertEqual((receiver.trailers, lane.status), ([], Status.OK))


class AgentLaneTests(SynchronousTestCase):
    """
    The edge is played.
    """

    limits = evolve(EDGE_LIMITS, lanes_initial=2, lanes_min_idle=2, lane_max_idle_ms=45_000)

    def setUp(self) -> None:
        self.network = Network()
        self.edge = PlayedEdge(self.network, self.limits)
        self.server = Server()
        self.pair = Pair(self.network, listens=False)
        self.link = self.connect()
        self.addCleanup(self.network.settle)
        self.addCleanup(self.link.abort, "the test is over")

    def connect(self) -> Any:
        connecting = self.pair.connect(self.server)
        self.network.settle()
        return self.successResultOf(connecting)

    def ask(self, *, end: bool = True, lane: int = -1, **changes: Any) -> Any:
        played = self.edge.lanes[lane]
        head = {"method": "GET", "path": "/", "headers": (Header(name="Host", value=b"a"),), **changes}
        played.send(HTTPChunk(request_id="r1", type=HEADERS, request=RequestHead(**head), end=end))
        self.network.settle()
        return played

    def test_theLinkProvidesItsInterfaces(self) -> None:
        verifyObject(ILink, self.link)
        verifyObject(ISession, self.link.session)
        self.failureResultOf(self.link.session.connector.connect(None))
        self.failureResultOf(self.link.session.listener.listen(None))
        self.assertEqual(self.link.session.transports(), [])

    def test_theAgentRegistersByMessageAndMetadata(self) -> None:
        fields, request = self.edge.registered
        self.assertEqual((request.tunnel_id, request.agent_token, request.instance_id), ("t1", "k1", "i-1"))
        self.assertEqual(fields[b"authorization"], b"Bearer k1")
        self.assertEqual((fields[b"jetty-tunnel-id"], fields[b"te"]), (b"t1", b"trailers"))
        self.assertEqual(fields[b"jetty-protocol-version"], b"1")
        self.assertEqual(fields[b"user-agent"], b"tunnelstack/0.1")
        self.assertEqual([lane.fields[b"jetty-session-id"] for lane in self.edge.lanes], [SESSION.encode()] * 2)
        self.assertNotIn(b"grpc-timeout", fields)

    def test_aRequestIsServedAndTheLaneIsIdleAgain(self) -> None:
        lane = self.ask(remote_addr="203.0.113.9:5000", query="b=1", trace_parent="00-1-2-01")
        head, exchange, body = self.server.asked[0]
        self.assertEqual((head.target, head.field(b"traceparent"), body.trailers), (b"/?b=1", b"00-1-2-01", []))
        self.assertEqual(exchange.peer, IPv4Address("TCP", "203.0.113.9", 5000))
        exchange.respond(HTTPResponse(200, b"", [(b"Content-Length", b"2")]), b"ok")
        self.network.settle()
        self.assertEqual([chunk.type for chunk in lane.told], [HEADERS, DATA, DATA])
        self.assertEqual((lane.told[0].request_id, lane.told[0].response.content_length), ("r1", 2))
        self.assertFalse(lane.halves)
        self.ask()
        self.assertEqual(len(self.server.asked), 2)
        self.assertEqual(len(self.edge.lanes), 3)

    def test_theEdgeMayNameTheTarget(self) -> None:
        targets: list[Any] = []

        def serverFor(target: Any) -> Any:
            targets.append(target)
            if target == ("10.0.0.1", 80):
                raise UpstreamRefused("10.0.0.1 is not allowed")
            return self.server

        self.link._upstream = evolve(self.link._upstream, serverFor=serverFor)
        lane = self.ask(upstream_host="10.0.0.1", upstream_port=80)
        self.assertEqual((lane.told[0].response.status, lane.told[1].data), (502, b"10.0.0.1 is not allowed"))
        self.ask(upstream_host="10.0.0.1")
        self.assertEqual(targets, [("10.0.0.1", 80), None])

    def test_aDefectOfTheServerIsAResponse(self) -> None:
        def fail(head: Any, exchange: Any) -> None:
            raise RuntimeError("a defect")

        self.server.answer = fail
        self.assertEqual(self.ask().told[0].response.status, 502)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_aServerThatIsSlowIsGivenUpBeforeTheEdgeDoes(self) -> None:
        lane = self.ask(timeout_ms=10_000)
        self.network.passTime(7)
        self.assertEqual(lane.told, [])
        self.network.passTime(1)
        self.assertEqual((lane.told[0].response.status, lane.told[-1].end), (504, True))

    def test_chunksOutOfOrderEndTheLane(self) -> None:
        for chunks in ([data(b"x")], [HTTPChunk(type=HEADERS, response=ResponseHead(status=200))], [HTTPChunk(type=TRAILERS)]):
            lane = self.edge.lanes[-1]
            for chunk in chunks:
                lane.send(chunk)
            self.network.settle()
            self.assertEqual(lane.reason.code, ErrorCode.PROTOCOL_ERROR)
        lane = self.ask(end=False, method="POST")
        lane.send(HTTPChunk(type=HEADERS, request=RequestHead(method="GET", path="/")))
        self.network.settle()
        self.assertEqual(lane.reason.code, ErrorCode.PROTOCOL_ERROR)
        self.assertIsNotNone(self.server.asked[-1][2].failure)

    def test_aSecondRequestWaitsForTheFirst(self) -> None:
        lane = self.ask()
        lane.send(HTTPChunk(type=HEADERS, request=RequestHead(method="GET", path="/"), end=True))
        self.network.settle()
        self.assertEqual(lane.reason.code, ErrorCode.PROTOCOL_ERROR)

    def test_messagesThatAreNoneEndTheLane(self) -> None:
        for octets in (b"\x0a\xff", b"\x0b"):
            lane = self.edge.lanes[-1]
            lane.call.send(octets)
            self.network.settle()
            self.assertEqual(lane.reason.code, ErrorCode.PROTOCOL_ERROR)
        for octets in (b"\1\0\0\0\1x", b"\0\0\x40\0\1"):
            lane = self.edge.lanes[-1]
            lane.call.stream.write(octets)
            self.network.settle()
            self.assertEqual(lane.reason.code, ErrorCode.CANCEL)
        self.ask()
        self.assertEqual(len(self.server.asked), 1)

    def test_aResponseThatBreaksIsAborted(self) -> None:
        lane = self.ask()
        _, exchange, _ = self.server.asked[-1]
        exchange.sendHead(HTTPResponse(200, b"", []))
        exchange.cancel(FailureKind.GATEWAY_TIMEOUT)
        self.network.settle()
        self.assertEqual((lane.told[-1].type, lane.told[-1].abort.code), (ABORT, "upstream_timeout"))
        self.assertTrue(lane.halves)

    def test_aResponseThatCannotBeAbortedIsReset(self) -> None:
        lane = self.ask()
        lane.call.pauseProducing()
        _, exchange, _ = self.server.asked[-1]
        exchange.sendHead(HTTPResponse(200, b"", []))
        producer = Pressed()
        exchange.registerProducer(producer, True)
        while not producer.paused:
            exchange.write(bytes(65_536))
            self.network.settle()
        exchange.write(bytes(65_536 * 2))
        exchange.cancel(FailureKind.BROKEN)
        lane.call.resumeProducing()
        self.network.settle()
        self.assertEqual(lane.reason.code, ErrorCode.CANCEL)
        self.assertTrue(producer.stopped or exchange.finished)

    def test_lanesThatAreIdleForLongAreReplaced(self) -> None:
        old = list(self.edge.lanes)
        self.edge.keepAlive(44)
        self.assertEqual([lane.halves for lane in old], [0, 0])
        self.edge.keepAlive(2)
        self.assertEqual([lane.halves for lane in old], [1, 1])
        self.assertEqual(len(self.edge.lanes), 4)
        self.ask(lane=0)
        self.assertEqual(old[0].reason.code, ErrorCode.REFUSED_STREAM)       # it crossed the end

    def test_lanesThatAreLostAreReplaced(self) -> None:
        for _ in range(5):
            self.edge.lanes[-1].call.reset()
            self.network.settle()
        self.edge.lanes[-1].call.finish()
        self.network.settle()
        self.assertEqual(len(self.edge.lanes), 8)

    def test_lanesAreOpenedOnDemand(self) -> None:
        self.edge.say(LaneDemand(count=3))
        self.assertEqual(len(self.edge.lanes), 5)
        self.edge.say(LaneDemand(count=100_000))
        self.assertEqual(len(self.edge.lanes), 256)

    def test_aSessionThatIsUnknownIsLost(self) -> None:
        self.edge.laneResult = CallResult(Status.FAILED_PRECONDITION, "unknown session")
        self.edge.say(LaneDemand(count=1))
        self.assertTrue(self.link.whenLost().called)

    def test_theEdgeMayDrain(self) -> None:
        lane = self.ask()
        self.edge.say(Drain(grace_ms=1000, reason="deploy", reconnect=True))
        lost = self.successResultOf(self.link.whenLost())
        self.assertIsInstance(lost, EdgeDrains)
        self.assertEqual(self.edge.lanes[0].halves, 1)
        again = self.connect()
        self.addCleanup(again.abort, "the test is over")
        _, exchange, _ = self.server.asked[-1]
        exchange.respond(HTTPResponse(200, b"", [(b"Content-Length", b"2")]), b"ok")
        self.network.settle()
        self.assertTrue(lane.told[-1].end and lane.halves)

    def test_anEdgeThatDoesNotStopNeedsNoOtherSession(self) -> None:
        lane = self.ask()
        self.edge.say(Drain(grace_ms=1000))
        self.assertEqual((self.edge.lanes[0].halves, self.link.whenLost().called), (1, False))
        _, exchange, _ = self.server.asked[-1]
        exchange.respond(HTTPResponse(200, b"", [(b"Content-Length", b"2")]), b"ok")
        lane.call.finish()
        self.network.settle()
        self.assertNotIsInstance(self.successResultOf(self.link.whenLost()), EdgeDrains)

    def test_theEdgeMayGoAway(self) -> None:
        lane = self.ask()
        self.edge.connection.goAway()
        self.network.settle()
        self.assertIsInstance(self.successResultOf(self.link.whenLost()), EdgeDrains)
        _, exchange, _ = self.server.asked[-1]
        exchange.respond(HTTPResponse(200, b"", [(b"Content-Length", b"2")]), b"ok")
        self.network.settle()
        self.assertTrue(lane.told[-1].end)

    def test_anErrorOfTheEdgeEndsTheSession(self) -> None:
        self.edge.say(ErrorInfo(code="replaced", message="another one"))
        lost = self.successResultOf(self.link.whenLost())
        self.assertIn("another one", str(lost))
        self.assertIsInstance(lost.__cause__, RegistrationRefused)
        self.assertEqual(lost.__cause__.code, "replaced")

    def test_anEndOfRegisterEndsTheSession(self) -> None:
        self.edge.register.finish(CallResult(Status.UNAVAILABLE, "gone"))
        self.network.settle()
        self.assertIn("gone", str(self.successResultOf(self.link.whenLost())))

    def test_whatIsNoMessageEndsTheSession(self) -> None:
        self.edge.register.send(b"\x0a\xff")
        self.network.settle()
        self.assertTrue(self.link.whenLost().called)

    def test_anEdgeThatAsksWithoutReadingIsLost(self) -> None:
        self.edge.register.pauseProducing()
        for number in range(100):
            if self.link.whenLost().called:
                break
            for each in range(1000):
                self.edge.register.send(encode_message(RegisterResponse(control=Ping(nonce=number * each + (1 << 60)))))
            self.network.settle()
        self.assertIn("does not read", str(self.successResultOf(self.link.whenLost())))

    def test_pingsPassBothWays(self) -> None:
        self.edge.say(Ping(nonce=5))
        self.assertEqual(self.edge.controls[-1].nonce, 5)
        measured = self.link.ping()
        self.network.settle()
        self.edge.answerPing()
        self.assertEqual(self.successResultOf(measured), 0.0)

    def test_anAgentDrains(self) -> None:
        lane = self.ask()
        drained = self.link.drain()
        self.network.settle()
        self.assertIsInstance(self.edge.controls[-1], Drain)
        self.assertNoResult(drained)
        self.assertEqual(self.edge.lanes[0].halves, 1)
        _, exchange, _ = self.server.asked[-1]
        exchange.respond(HTTPResponse(200, b"", [(b"Content-Length", b"2")]), b"ok")
        self.network.settle()
        self.assertTrue(lane.told[-1].end and lane.halves)
        self.assertNoResult(drained)
        lane.call.finish()
        self.network.settle()
        self.successResultOf(drained)

    def test_lanesThatAreAcceptedTooLateEnd(self) -> None:
        self.edge.acceptsLanes = False
        self.edge.say(LaneDemand(count=1))
        self.link.drain()
        self.network.settle()
        late = self.edge.lanes[-1]
        self.assertEqual(late.halves, 0)
        late.call.accept()
        self.network.settle()
        self.assertEqual(late.halves, 1)

    def test_tooManyPingsDoubleTheInterval(self) -> None:
        self.assertEqual(self.pair.keepalive.seconds, KEEPALIVE)
        self.edge.connection.goAway(ErrorCode.ENHANCE_YOUR_CALM)
        self.network.settle()
        self.assertEqual(self.pair.keepalive.seconds, 2 * KEEPALIVE)
        interval = KeepaliveInterval()
        for _ in range(20):
            interval.slowDown()
        self.assertEqual(interval.seconds, 300)

    def test_refusalsHaveTheirCodes(self) -> None:
        for status, code in ((Status.UNAUTHENTICATED, "verify_rejected"), (Status.PERMISSION_DENIED, "forbidden")):
            self.edge.refuse = CallResult(status, "no")
            refused = self.failureResultOf(self.again(), RegistrationRefused)
            self.assertEqual((refused.value.code, refused.value.sentence), (code, "no"))
        self.edge.refuse = CallResult(Status.UNAVAILABLE, "laravel verify: unavailable")
        self.assertEqual(self.failureResultOf(self.again(), RegistrationRefused).value.code, "verify_unavailable")
        self.edge.refuse = CallResult(Status.UNAVAILABLE, "about to stop")
        self.assertEqual(self.failureResultOf(self.again(), RegistrationRefused).value.code, "draining")

    def again(self) -> Any:
        connecting = self.pair.connect(self.server)
        self.network.settle()
        return connecting

    def test_anEdgeWithoutTheServiceIsNoTransport(self) -> None:
        self.edge.refuse = CallResult(Status.UNIMPLEMENTED, "no")
        self.failureResultOf(self.again(), TransportUnavailable)
        self.edge.refuse = CallResult(Status.UNKNOWN)
        self.failureResultOf(self.again(), TransportUnavailable)
        self.edge.answers = False
        connecting = self.again()
        self.network.passTime(11)
        self.failureResultOf(connecting, TransportUnavailable)
        self.edge.stop()
        self.failureResultOf(self.again(), TransportUnavailable)

    def test_anAnswerThatIsNoneIsNoTransport(self) -> None:
        self.edge.answer = RegisterResponse(protocol_version=1)
        self.failureResultOf(self.again(), TransportUnavailable)
        self.edge.answer = b"\x0a\xff"
        self.failureResultOf(self.again(), TransportUnavailable)

    def test_anAttemptCanBeCancelled(self) -> None:
        self.edge.answers = False
        connecting = self.again()
        connecting.cancel()
        self.failureResultOf(connecting)
        self.network.settle()
        self.assertTrue(self.edge.connection.isLost)


class TunnelTests(Sessions):
    """
    The tunnel itself.
    """

    def test_theTunnelProvidesItsInterface(self) -> None:
        self.agent.register(agent_version="x/1\n")
        verifyObject(ITunnel, self.pair.tunnel)
        verifyObject(ISession, self.pair.tunnel.session)
        self.assertEqual((self.pair.tunnel.key, self.pair.tunnel.dialect), ("demo", "jetty"))

