"""
Jetty by gRPC with the genuine gRPC library: grpcio as agent of our edge, and as edge of our agent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.dialect.jetty.grpc_support import TOKEN, TUNNEL, Host, Registrar, registration
from tests.exchange.doubles import Recorder, Server
from tests.peers._grpc import grpc, requireGRPC
from tests.peers._jetty_grpc import PIECE, Agent, Answer, Edge
from tunnelstack.dialect.jetty.grpc_agent import connectGRPC
from tunnelstack.dialect.jetty.grpc_edge import EDGE_LIMITS, GRPCAgents
from tunnelstack.dialect.jetty.registration import RegistrationRefused, TransportUnavailable, Upstream
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.records import HTTPPurpose
from tunnelstack.wire.http1.head import RequestHead as HTTPHead
from tunnelstack.wire.http1.head import ResponseHead as HTTPResponse
from tunnelstack.wire.records.jetty_grpc import (
    ABORT,
    DATA,
    DEFAULT_LIMITS,
    HEADERS,
    TRAILERS,
    Drain,
    Header,
    LaneDemand,
    Ping,
    Pong,
    RegisterResponse,
    RequestHead,
)

MIB = 1 << 20


def noise(size: int) -> bytes:
    return bytes(range(251)) * (size // 251) + bytes(size % 251)


class Waiting(Recorder):
    """
    A recorder whose end a test can wait for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.over: Deferred[Any] = Deferred()
        self.began: Deferred[Any] = Deferred()
        self.pieces: list[bytes] = []

    def bodyReceived(self, octets: bytes) -> None:
        self.pieces.append(octets)
        if not self.began.called:
            self.began.callback(None)

    def ended(self, trailers: Any) -> None:
        super().ended(trailers)
        self.body = b"".join(self.pieces)
        self.over.callback(self)

    def failed(self, reason: Any) -> None:
        super().failed(reason)
        self.over.callback(self)


def app(request: Any, body: Iterator[bytes]) -> Answer:
    """
    The application behind the agent on grpcio.
    """
    path = request.path
    if path == "/echo":
        octets = b"".join(body)
        return Answer(body=[octets[at : at + PIECE] for at in range(0, len(octets), PIECE)], length=len(octets))
    if path == "/sum":
        total, count = sha256(), 0
        for piece in body:
            total.update(piece)
            count += len(piece)
        return Answer(body=[f"{count} {total.hexdigest()}".encode()])
    if path == "/large":
        octets = noise(int(request.query))
        return Answer(body=(octets[at : at + PIECE] for at in range(0, len(octets), PIECE)), length=len(octets))
    if path == "/headers":
        many = [each.value for each in request.headers if each.name == "X-Many"]
        cookies = [("Set-Cookie", b"a=1"), ("Set-Cookie", b"b=2")]
        return Answer(headers=[*cookies, ("X-Name", b"caf\xe9"), ("X-Seen", b"|".join(many))])
    if path == "/trailers":
        return Answer(body=[b"x"], trailers=[("x-sum", b"\xff")], interim=[103])
    if path == "/early":
        return Answer(413, body=[b"no"], length=2)
    if path == "/empty":
        return Answer(int(request.query))
    if path == "/forever":
        return Answer(body=_forever())
    if path == "/wrong":
        return Answer(body=[b"short"], length=10)
    raise AssertionError(path)


def _forever() -> Iterator[bytes]:
    for _ in range(1000):
        yield bytes(1000)
        time.sleep(0.01)


class AgentTests(TestCase):
    """
    grpcio is the agent.
    """

    timeout = 180

    @inlineCallbacks
    def serve(self: Any, lanes: int = 4, **limits: int) -> Any:
        requireGRPC()
        self.registrar = Registrar()
        host: Any = Host(reactor)
        self.agents = GRPCAgents(host, self.registrar, evolve(EDGE_LIMITS, **limits))
        port = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.agents)
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        self.agent = self.newAgent()
        yield deferToThread(self.agent.register, lanes)
        self.tunnel = self.registrar.tunnels[-1]
        yield self.awaitLanes(lanes)

    @inlineCallbacks
    def awaitLanes(self: Any, count: int) -> Any:
        while len(self.tunnel._lanes) < count:
            yield deferToThread(time.sleep, 0.01)

    def newAgent(self: Any, token: str = TOKEN) -> Agent:
        agent = Agent(self.port, TUNNEL, token, app)
        self.addCleanup(deferToThread, agent.close)
        self.addCleanup(self.endTunnels)
        return agent

    def endTunnels(self: Any) -> Any:
        lost = [tunnel.session.whenLost() for tunnel in self.registrar.tunnels]
        for tunnel in self.registrar.tunnels:
            tunnel.abort("the test is over")
            tunnel.session.abort()
        return gatherResults(lost)

    def ask(self: Any, target: bytes, body: bytes | None = None, *fields: Any, method: bytes = b"") -> Any:
        receiver = Waiting()
        exchange = self.tunnel.exchange(HTTPPurpose(), receiver)
        receiver.exchange = exchange        # type: ignore[attr-defined]
        length = [] if body is None else [(b"Content-Length", b"%d" % len(body))]
        method = method or (b"GET" if body is None else b"POST")
        exchange.sendHead(HTTPHead(method, target, [(b"Host", b"a"), *length, *fields]))
        if body:
            exchange.write(body)
        exchange.end()
        return receiver

    @inlineCallbacks
    def test_requestsAreServedOnLanesThatAreUsedAgain(self: Any) -> Any:
        yield self.serve(lanes=1)
        for number in range(200):
            found = yield self.ask(b"/echo", b"%d" % number).over
            self.assertEqual((found.heads[0].status, found.body, found.failure), (200, b"%d" % number, None))
        self.assertEqual(self.agent.statuses, [])
        self.assertEqual(self.tunnel.inFlight, 0)

    @inlineCallbacks
    def test_headsPassUnchanged(self: Any) -> Any:
        yield self.serve()
        found = yield self.ask(b"/headers", None, (b"X-Many", b"1"), (b"X-Many", b"\xff")).over
        head = found.heads[0]
        self.assertEqual([value for name, value in head.fields if name == b"Set-Cookie"], [b"a=1", b"b=2"])
        self.assertEqual((head.field(b"x-name"), head.field(b"x-seen")), (b"caf\xe9", b"1|\xff"))
        found = yield self.ask(b"/trailers").over
        self.assertEqual(([each.status for each in found.interim], found.trailers), ([103], [(b"x-sum", b"\xff")]))
        for method, target in ((b"GET", b"/empty?204"), (b"GET", b"/empty?304"), (b"HEAD", b"/empty?200")):
            found = yield self.ask(target, method=method).over
            self.assertEqual((found.body, found.trailers), (b"", []))

    @inlineCallbacks
    def test_largeBodiesPassBothWays(self: Any) -> Any:
        yield self.serve()
        body = noise(9 * MIB)
        found = yield self.ask(b"/sum", body).over
        self.assertEqual(found.body.decode(), f"{len(body)} {sha256(body).hexdigest()}")
        found = yield self.ask(b"/large?%d" % (10 * MIB)).over
        self.assertEqual(sha256(found.body).hexdigest(), sha256(noise(10 * MIB)).hexdigest())

    @inlineCallbacks
    def test_manyExchangesRunAtOnce(self: Any) -> Any:
        yield self.serve(lanes=4, lanes_max=64)
        asked = [self.ask(b"/echo", b"%d" % number) for number in range(300)]
        yield gatherResults([each.over for each in asked])
        self.assertEqual([each.body for each in asked], [b"%d" % number for number in range(300)])

    @inlineCallbacks
    def test_aVisitorWhoDoesNotReadHoldsNobody(self: Any) -> Any:
        yield self.serve()
        stalled = self.ask(b"/large?%d" % (10 * MIB))
        stalled.exchange.pauseProducing()
        for _ in range(5):
            found = yield self.ask(b"/echo", b"passes").over
            self.assertEqual(found.body, b"passes")
        self.assertLess(self.tunnel.session.held, 2 * MIB)
        stalled.exchange.resumeProducing()
        found = yield stalled.over
        self.assertEqual(len(found.body), 10 * MIB)

    @inlineCallbacks
    def test_aVisitorWhoGoesCancelsTheLane(self: Any) -> Any:
        yield self.serve(lanes=1)
        asked = self.ask(b"/forever")
        yield asked.began
        asked.exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.assertTrue((yield deferToThread(self.agent.awaitState, lambda: self.agent.cancelled == 1)))
        found = yield self.ask(b"/echo", b"next").over
        self.assertEqual(found.body, b"next")

    @inlineCallbacks
    def test_anEarlyResponseEndsTheLane(self: Any) -> Any:
        yield self.serve(lanes=1)
        receiver = Waiting()
        exchange = self.tunnel.exchange(HTTPPurpose(), receiver)
        exchange.sendHead(HTTPHead(b"POST", b"/early", [(b"Host", b"a"), (b"Content-Length", b"1000000")]))
        exchange.write(bytes(1000))
        found = yield receiver.over
        self.assertEqual((found.heads[0].status, found.body), (413, b"no"))
        self.assertTrue((yield deferToThread(self.agent.awaitState, lambda: bool(self.agent.statuses))))
        self.assertIn(self.agent.statuses[0], ("OK", "CANCELLED"))
        found = yield self.ask(b"/echo", b"next").over
        self.assertEqual(found.body, b"next")

    @inlineCallbacks
    def test_aBrokenResponseIsAFailure(self: Any) -> Any:
        yield self.serve(lanes=1)
        found = yield self.ask(b"/wrong").over
        self.assertIsNotNone(found.failure)
        asked = self.ask(b"/forever")
        yield asked.began
        yield deferToThread(self.agent.close)
        found = yield asked.over
        self.assertIsNotNone(found.failure)
        self.assertIsNone(found.trailers)

    @inlineCallbacks
    def test_aLaneIsUsedOnceIfTheAgentWantsIt(self: Any) -> Any:
        yield self.serve(lanes=0)
        self.agent = self.newAgent()
        self.agent.reuse = False
        yield deferToThread(self.agent.register, 2, ("upgrade/1",))
        self.tunnel = self.registrar.tunnels[-1]
        yield self.awaitLanes(2)
        for number in range(2):
            found = yield self.ask(b"/echo", b"%d" % number).over
            self.assertEqual(found.body, b"%d" % number)
        self.assertTrue((yield deferToThread(self.agent.awaitState, lambda: len(self.agent.statuses) == 2)))
        self.assertEqual((self.agent.statuses, self.agent.served), (["OK"] * 2, [1, 1]))

    @inlineCallbacks
    def test_theEdgeDrainsWithoutAFailure(self: Any) -> Any:
        yield self.serve(lanes=4)
        asked = [self.ask(b"/large?1000000") for _ in range(3)]
        yield gatherResults([each.began for each in asked])
        drained = self.tunnel.drain()
        yield gatherResults([each.over for each in asked])
        yield drained
        self.assertEqual([(len(each.body), each.failure) for each in asked], [(1_000_000, None)] * 3)
        self.assertTrue((yield deferToThread(self.agent.awaitState, lambda: len(self.agent.statuses) >= 4)))
        self.assertEqual(set(self.agent.statuses), {"OK"})
        self.assertEqual(self.agent.registered.code(), grpc.StatusCode.OK)

    @inlineCallbacks
    def test_anAgentDrainsWithoutAFailure(self: Any) -> Any:
        yield self.serve(lanes=2)
        asked = self.ask(b"/large?1000000")
        yield asked.began
        yield deferToThread(self.agent.drain)
        found = yield asked.over
        self.assertEqual((len(found.body), found.failure), (1_000_000, None))
        self.assertTrue((yield deferToThread(self.agent.awaitState, lambda: len(self.agent.statuses) == 2)))
        self.assertFalse(self.tunnel.healthy)

    @inlineCallbacks
    def test_aTokenThatIsWrongIsRefused(self: Any) -> Any:
        yield self.serve()
        stranger = self.newAgent("wrong")
        try:
            yield deferToThread(stranger.register)
        except grpc.RpcError as refused:
            self.assertEqual(refused.code(), grpc.StatusCode.UNAUTHENTICATED)
            self.assertEqual(refused.details(), 'verify rejected: {"valid":false}')
        else:
            self.fail("it was accepted")

    @inlineCallbacks
    def test_aUnaryRegistrationIsEnough(self: Any) -> Any:
        yield self.serve()
        agent = self.newAgent()
        answer = yield deferToThread(agent.registerUnary)
        self.assertEqual(answer.session_id, "5e552")
        self.tunnel = self.registrar.tunnels[-1]
        agent.openLane()
        yield self.awaitLanes(1)
        found = yield self.ask(b"/echo", b"unary").over
        self.assertEqual(found.body, b"unary")


class EdgeTests(TestCase):
    """
    grpcio is the edge.
    """

    timeout = 180

    @inlineCallbacks
    def connect(self: Any, **limits: int) -> Any:
        requireGRPC()
        self.edge = Edge(evolve(DEFAULT_LIMITS, lanes_initial=2, lanes_min_idle=2, **limits))
        self.addCleanup(deferToThread, self.edge.stop)
        self.server = Server(self.answer)
        self.link = yield self.dial()
        self.addCleanup(self.closeLink)

    def dial(self: Any) -> Any:
        host: Any = Host(reactor)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.edge.port)
        upstream = Upstream(serverFor=lambda target: self.server)
        return connectGRPC(host, f"grpc://127.0.0.1:{self.edge.port}", endpoint, registration(), upstream)

    def closeLink(self: Any) -> Any:
        lost = self.link.session.whenLost()
        self.link.abort("the test is over")
        return lost

    def answer(self: Any, head: HTTPHead, exchange: Any) -> None:
        """
        The local server: a response of the length in the query, or what its path says.
        """
        path, _, query = head.target.partition(b"?")
        if path == b"/large":
            octets = noise(int(query))
            exchange.sendHead(HTTPResponse(200, b"", [(b"Content-Length", b"%d" % len(octets))]))
            exchange.write(octets)
            exchange.end()
        elif path == b"/trailers":
            exchange.informational(HTTPResponse(103, b"", []))
            exchange.sendHead(HTTPResponse(200, b"", [(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"\xff")]))
            exchange.end([(b"x-sum", b"1")])
        elif path == b"/broken":
            exchange.sendHead(HTTPResponse(200, b"", []))
            exchange.cancel(FailureKind.BROKEN)

    def run_(self: Any, path: str, *, query: str = "", method: str = "GET", body: Any = None, length: int | None = 0) -> Any:
        head = RequestHead(
            method=method, path=path, query=query, headers=(Header(name="Host", value=b"a"),), content_length=length,
        )
        return deferToThread(self.edge.exchange, head, body or (), end=body is None)

    @inlineCallbacks
    def test_theAgentRegistersAndOpensLanes(self: Any) -> Any:
        yield self.connect()
        request, metadata = self.edge.registrations[0]
        self.assertEqual((request.tunnel_id, request.agent_token, request.protocol_version), (TUNNEL, TOKEN, 1))
        self.assertEqual((metadata["jetty-tunnel-id"], metadata["authorization"]), (TUNNEL, f"Bearer {TOKEN}"))
        self.assertEqual((self.link.registered.sessionId, self.link.registered.subdomain), ("5e55", "demo"))
        for _ in range(2):
            yield deferToThread(self.edge.lane)

    @inlineCallbacks
    def test_requestsAreServed(self: Any) -> Any:
        yield self.connect()
        for size in (0, 1, 100_000, 10 * MIB):
            chunks = yield self.run_("/large", query=str(size))
            body = b"".join(chunk.data for chunk in chunks if chunk.type == DATA)
            self.assertEqual((chunks[0].response.status, chunks[0].response.content_length), (200, size))
            self.assertEqual(sha256(body).hexdigest(), sha256(noise(size)).hexdigest())
            self.assertLessEqual(max(len(chunk.data) for chunk in chunks), PIECE)
        chunks = yield self.run_("/trailers")
        self.assertEqual([chunk.type for chunk in chunks], [HEADERS, HEADERS, TRAILERS])
        self.assertEqual([each.value for each in chunks[1].response.headers], [b"a=1", b"\xff"])

    @inlineCallbacks
    def test_bodiesOfRequestsArrive(self: Any) -> Any:
        yield self.connect()
        body = noise(9 * MIB)
        asked = self.run_(
            "/upload", method="POST", length=None, body=[body[at : at + PIECE] for at in range(0, len(body), PIECE)],
        )
        while not self.server.asked or self.server.asked[-1][2].trailers is None:
            yield deferToThread(time.sleep, 0.01)
        _, exchange, received = self.server.asked[-1]
        self.assertEqual(sha256(received.body).hexdigest(), sha256(body).hexdigest())
        exchange.respond(HTTPResponse(204, b"", []), b"")
        chunks = yield asked
        self.assertEqual((chunks[0].response.status, chunks[-1].end), (204, True))

    @inlineCallbacks
    def test_aLaneIsUsedAgain(self: Any) -> Any:
        yield self.connect(lane_max_exchanges=50)
        lane = yield deferToThread(self.edge.lane)
        head = RequestHead(method="GET", path="/large", query="3", headers=(Header(name="Host", value=b"a"),))

        def run() -> Any:
            for _ in range(50):
                chunks = lane.exchange(head, end=True)
                assert chunks[-1].end, chunks
            return lane.receive()

        self.assertIsNone((yield deferToThread(run)))        # the agent half-closes after as many as were granted
        lane.out.end()

    @inlineCallbacks
    def test_aBrokenResponseIsAborted(self: Any) -> Any:
        yield self.connect()
        chunks = yield self.run_("/broken")
        self.assertEqual((chunks[-1].type, chunks[-1].end, chunks[-1].abort.code), (ABORT, True, "upstream_failed"))

    @inlineCallbacks
    def test_aCancelledLaneEndsTheRequest(self: Any) -> Any:
        yield self.connect()
        lane = yield deferToThread(self.edge.lane)
        asked = deferToThread(lane.exchange, RequestHead(method="GET", path="/waits"), end=True)
        while not self.server.asked:
            yield deferToThread(time.sleep, 0.01)
        lane.context.cancel()
        _, exchange, received = self.server.asked[-1]
        while received.failure is None:
            yield deferToThread(time.sleep, 0.01)
        self.assertTrue(exchange.finished)
        yield asked.addErrback(lambda failure: None)

    @inlineCallbacks
    def test_pingsAndDemandsAreObeyed(self: Any) -> Any:
        yield self.connect()
        self.edge.control.send(RegisterResponse(control=Ping(nonce=7)))
        pong = yield deferToThread(self.edge.told.get, True, 60)
        self.assertEqual(pong.control.nonce, 7)
        self.edge.control.send(RegisterResponse(control=LaneDemand(count=5)))
        for _ in range(7):
            yield deferToThread(self.edge.lane)
        measured = self.link.ping()
        ping = yield deferToThread(self.edge.told.get, True, 60)


        self.edge.control.send(RegisterResponse(control=Pong(nonce=ping.control.nonce)))
        self.assertGreaterEqual((yield measured), 0)

    @inlineCallbacks
    def test_aLaneThatIsResetWhileIdleIsReplaced(self: Any) -> Any:
        yield self.connect()
        for _ in range(4):
            lane = yield deferToThread(self.edge.lane)
            lane.context.cancel()
        lane = yield deferToThread(self.edge.lane)
        lane.out.end()                                       # and one that is retired with OK
        chunks = yield self.run_("/large", query="5")
        self.assertEqual(chunks[0].response.status, 200)

    @inlineCallbacks
    def test_anAgentDrains(self: Any) -> Any:
        yield self.connect()
        lanes = yield gatherResults([deferToThread(self.edge.lane) for _ in range(2)])
        drained = self.link.drain()
        told = yield deferToThread(self.edge.told.get, True, 60)
        self.assertIsInstance(told.control, Drain)
        for lane in lanes:
            self.assertIsNone((yield deferToThread(lane.receive)))
            lane.out.end()
        yield drained

    @inlineCallbacks
    def test_refusalsAreTold(self: Any) -> Any:
        yield self.connect()
        for code, kind in (
            (grpc.StatusCode.UNAUTHENTICATED, "verify_rejected"), (grpc.StatusCode.NOT_FOUND, "no_such_tunnel"),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_many_agents"), (grpc.StatusCode.UNAVAILABLE, "draining"),
        ):  # fmt: skip
            self.edge.refuse = (code, "é no")
            refused = yield self.assertFailure(self.dial(), RegistrationRefused)
            self.assertEqual((refused.code, refused.sentence), (kind, "é no"))
        self.edge.refuse = (grpc.StatusCode.UNIMPLEMENTED, "no")
        yield self.assertFailure(self.dial(), TransportUnavailable)
