"""
Jetty by gRPC with grpc-go: as agent of our edge, and as edge of our agent.  The streams are those of C{tests/peers/go/jetty},
and their messages are chosen here.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.trial.unittest import TestCase

from tests.dialect.jetty.grpc_support import SESSION, TOKEN, TUNNEL, Host, Registrar, registration
from tests.exchange.doubles import Server
from tests.peers._go import GoError, GoPeer
from tests.peers.test_jetty_grpc import Waiting, noise
from tunnelstack.dialect.jetty.grpc_agent import connectGRPC
from tunnelstack.dialect.jetty.grpc_edge import EDGE_LIMITS, GRPCAgents
from tunnelstack.dialect.jetty.grpc_link import EdgeDrains
from tunnelstack.dialect.jetty.registration import RegistrationRefused, TransportUnavailable, Upstream
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.records import HTTPPurpose
from tunnelstack.wire.grpc import Status
from tunnelstack.wire.http1.head import RequestHead as HTTPHead
from tunnelstack.wire.http1.head import ResponseHead as HTTPResponse
from tunnelstack.wire.protobuf import decode_message_untrusted, encode_message
from tunnelstack.wire.records.jetty_grpc import (
    CAPABILITIES,
    DATA,
    DEFAULT_LIMITS,
    FORWARD_HTTP_PATH,
    HEADERS,
    REGISTER_PATH,
    Drain,
    Header,
    HTTPChunk,
    Ping,
    RegisterRequest,
    RegisterResponse,
    RequestHead,
    ResponseHead,
)

MIB = 1 << 20
OK = HTTPChunk(type=HEADERS, response=ResponseHead(status=200))


class GoStreams(TestCase):
    """
    A running program of Go.
    """

    timeout = 180
    go: GoPeer

    def send(self, stream: int, record: object) -> Any:
        return self.go.call("send", stream=stream, data=encode_message(record))

    @inlineCallbacks
    def receive(self, stream: int, record: type[Any]) -> Any:
        """
        @return: the next message; C{None} at the end of the peer's direction.
        """
        said = yield self.go.call("receive", stream=stream, timeout=60)
        return None if said.get("end") else decode_message_untrusted(record, said["data"] or b"")

    @inlineCallbacks
    def code(self, stream: int) -> Any:
        """
        @return: the status with which a call has ended.
        """
        try:
            while True:
                said = yield self.go.call("receive", stream=stream, timeout=60)
                if said.get("end"):
                    return "OK"
        except GoError as ended:
            return ended.kind


class GoAgentTests(GoStreams):
    """
    grpc-go is the agent.
    """

    @inlineCallbacks
    def serve(self, lanes: int = 1) -> Any:
        self.go = GoPeer.start(self, "jetty")
        self.registrar = Registrar()
        host: Any = Host(reactor)
        port = yield TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(  # type: ignore[arg-type]
            GRPCAgents(host, self.registrar, EDGE_LIMITS)
        )
        self.addCleanup(port.stopListening)
        yield self.go.call("dial", address=f"127.0.0.1:{port.getHost().port}")
        self.register = yield self.open(REGISTER_PATH)
        yield self.send(self.register, RegisterRequest(
            tunnel_id=TUNNEL, agent_token=TOKEN, protocol_version=1, capabilities=CAPABILITIES,
        ))  # fmt: skip
        answer = yield self.receive(self.register, RegisterResponse)
        self.assertEqual((answer.session_id, answer.subdomain), (SESSION, "demo"))
        self.tunnel = self.registrar.tunnels[-1]
        self.addCleanup(self.endTunnel)
        self.lanes = []
        for _ in range(lanes):
            self.lanes.append((yield self.open(FORWARD_HTTP_PATH, SESSION)))
        while len(self.tunnel._lanes) < lanes:               # until the edge has accepted them
            yield self.send(self.register, RegisterRequest())

    def endTunnel(self) -> Any:
        lost = self.tunnel.session.whenLost()
        self.tunnel.abort("the test is over")
        self.tunnel.session.abort()
        return lost

    @inlineCallbacks
    def open(self, path: bytes, session: str = "") -> Any:
        metadata = {"jetty-session-id": session} if session else {"jetty-tunnel-id": TUNNEL}
        said = yield self.go.call("open", method=path.decode(), metadata=metadata)
        return said["stream"]

    def ask(self, body: bytes = b"", length: int | None = None) -> Any:
        receiver: Any = Waiting()
        receiver.exchange = exchange = self.tunnel.exchange(HTTPPurpose(), receiver)
        fields = [(b"Host", b"a"), (b"Content-Length", b"%d" % (len(body) if length is None else length))]
        exchange.sendHead(HTTPHead(b"POST", b"/a", fields))
        exchange.write(body)
        if length is None:
            exchange.end()
        return receiver

    @inlineCallbacks
    def request(self, lane: int) -> Any:
        """
        @return: the head and the body of a request.
        """
        first = chunk = yield self.receive(lane, HTTPChunk)
        pieces = []
        while not chunk.end:
            chunk = yield self.receive(lane, HTTPChunk)
            pieces.append(chunk.data)
        return (first.request, b"".join(pieces))

    @inlineCallbacks
    def answer(self, lane: int, body: bytes) -> Any:
        yield self.send(lane, OK)
        yield self.send(lane, HTTPChunk(type=DATA, data=body, end=True))

    @inlineCallbacks
    def test_aLaneIsUsedAgain(self) -> Any:
        yield self.serve()
        for number in range(50):
            asked = self.ask(b"%d" % number)
            head, body = yield self.request(self.lanes[0])
            self.assertEqual((head.method, head.path, body), ("POST", "/a", b"%d" % number))
            yield self.answer(self.lanes[0], b"<%d>" % number)
            found = yield asked.over
            self.assertEqual((found.body, found.failure), (b"<%d>" % number, None))

    @inlineCallbacks
    def test_largeBodiesPassBothWays(self) -> Any:
        yield self.serve()
        octets = noise(9 * MIB)
        asked = self.ask(octets)
        _, body = yield self.request(self.lanes[0])
        self.assertEqual(sha256(body).hexdigest(), sha256(octets).hexdigest())
        yield self.send(self.lanes[0], OK)
        large = noise(3 * MIB)
        yield self.go.call("flood", stream=self.lanes[0], count=4, data=encode_message(HTTPChunk(type=DATA, data=large)))
        yield self.send(self.lanes[0], HTTPChunk(type=DATA, end=True))
        found = yield asked.over
        self.assertEqual(sha256(found.body).hexdigest(), sha256(4 * large).hexdigest())

    @inlineCallbacks
    def test_aMessageThatIsTooLongEndsTheLane(self) -> Any:
        yield self.serve()
        asked = self.ask()
        yield self.request(self.lanes[0])
        yield self.go.call("flood", stream=self.lanes[0], count=1, data=bytes(4 * MIB + 1)).addErrback(lambda failure: None)
        found = yield asked.over
        self.assertEqual(found.failure.kind, FailureKind.BROKEN)
        self.assertEqual((yield self.code(self.lanes[0])), "ResourceExhausted")

    @inlineCallbacks
    def test_cancellingPassesBothWays(self) -> Any:
        yield self.serve(2)
        asked = self.ask(b"some", 1000)
        yield self.receive(self.lanes[1], HTTPChunk)
        asked.exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.assertEqual((yield self.code(self.lanes[1])), "Canceled")
        asked = self.ask()
        yield self.request(self.lanes[0])
        yield self.go.call("cancel", stream=self.lanes[0])
        found = yield asked.over
        self.assertEqual(found.failure.kind, FailureKind.BROKEN)

    @inlineCallbacks
    def test_anEarlyResponseEndsTheLane(self) -> Any:
        yield self.serve()
        asked = self.ask(b"some", 1000)
        yield self.receive(self.lanes[0], HTTPChunk)
        yield self.answer(self.lanes[0], b"no")
        found = yield asked.over
        self.assertEqual(found.body, b"no")
        self.assertEqual((yield self.code(self.lanes[0])), "OK")

    @inlineCallbacks
    def test_lanesAndSessionsEndInGoodOrder(self) -> Any:
        yield self.serve(2)
        yield self.go.call("close", stream=self.lanes[0])
        self.assertEqual((yield self.code(self.lanes[0])), "OK")
        yield self.send(self.register, RegisterRequest(control=Ping(nonce=3)))
        pong = yield self.receive(self.register, RegisterResponse)
        self.assertEqual(pong.control.nonce, 3)
        drained = self.tunnel.drain()
        announced = yield self.receive(self.register, RegisterResponse)
        self.assertIsInstance(announced.control, Drain)
        yield drained
        self.assertEqual((yield gatherResults([self.code(self.lanes[1]), self.code(self.register)])), ["OK", "OK"])

    @inlineCallbacks
    def test_lanesOfNoSessionAreRefused(self) -> Any:
        yield self.serve()
        lane = yield self.open(FORWARD_HTTP_PATH, "5e56")
        self.assertEqual((yield self.code(lane)), "FailedPrecondition")
        other = yield self.open(b"/jetty.tunnel.v1.TunnelAgent/Other")
        self.assertEqual((yield self.code(other)), "Unimplemented")
        wrong = yield self.open(REGISTER_PATH)
        yield self.send(wrong, RegisterRequest(tunnel_id=TUNNEL, agent_token="wrong", protocol_version=1))
        self.assertEqual((yield self.code(wrong)), "Unauthenticated")


class GoEdgeTests(GoStreams):
    """
    grpc-go is the edge.
    """

    @inlineCallbacks
    def connect(self) -> Any:
        self.go = GoPeer.start(self, "jetty")
        said = yield self.go.call("serve")
        self.port = said["port"]
        self.server = Server()
        connecting = self.dial()
        said = yield self.go.call("accept")
        self.register, self.metadata = said["stream"], said["metadata"]
        self.first = yield self.receive(self.register, RegisterRequest)
        yield self.send(self.register, RegisterResponse(
            session_id=SESSION, protocol_version=1, capabilities=CAPABILITIES,
            limits=evolve(DEFAULT_LIMITS, lanes_initial=2, lanes_min_idle=2),
        ))  # fmt: skip
        self.link = yield connecting
        self.addCleanup(self.closeLink)
        self.lanes = []
        for _ in range(2):
            self.lanes.append((yield self.accept()))

    def dial(self) -> Any:
        host: Any = Host(reactor)
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)     # type: ignore[arg-type]
        upstream = Upstream(serverFor=lambda target: self.server)
        return connectGRPC(host, f"grpc://127.0.0.1:{self.port}", endpoint, registration(), upstream)

    def closeLink(self) -> Any:
        lost = self.link.session.whenLost()
        self.link.abort("the test is over")
        return lost

    @inlineCallbacks
    def accept(self) -> Any:
        said = yield self.go.call("accept", timeout=60)
        self.assertEqual((said["method"], said["metadata"]["jetty-session-id"]), (FORWARD_HTTP_PATH.decode(), [SESSION]))
        return said["stream"]

    def ask(self, lane: int, end: bool = True) -> Any:
        head = RequestHead(method="POST", path="/a", headers=(Header(name="Host", value=b"a"),))
        return self.send(lane, HTTPChunk(request_id="r1", type=HEADERS, request=head, end=end))

    @inlineCallbacks
    def response(self, lane: int) -> Any:
        """
        @return: the head and the body of a response.
        """
        first = chunk = yield self.receive(lane, HTTPChunk)
        pieces = []
        while not chunk.end:
            chunk = yield self.receive(lane, HTTPChunk)
            pieces.append(chunk.data)
        return (first.response, b"".join(pieces))

    @inlineCallbacks
    def test_requestsAreServedOnALane(self) -> Any:
        yield self.connect()
        self.assertEqual((self.first.tunnel_id, self.metadata["jetty-tunnel-id"]), (TUNNEL, [TUNNEL]))
        self.server.answer = lambda head, exchange: exchange.respond(HTTPResponse(200, b"", [(b"X", b"\xff")]), b"ok")
        for _ in range(50):
            yield self.ask(self.lanes[0])
            head, body = yield self.response(self.lanes[0])
            self.assertEqual((head.status, [each.value for each in head.headers], body), (200, [b"\xff"], b"ok"))

    @inlineCallbacks
    def test_largeBodiesPassBothWays(self) -> Any:
        yield self.connect()
        octets = noise(3 * MIB)
        yield self.ask(self.lanes[0], end=False)
        yield self.go.call("flood", stream=self.lanes[0], count=3, data=encode_message(HTTPChunk(type=DATA, data=octets)))
        self.server.answer = None
        yield self.send(self.lanes[0], HTTPChunk(type=DATA, end=True))
        yield self.ask(self.lanes[1])        # a second exchange shows that the first has arrived
        while len(self.server.asked) < 2 or self.server.asked[0][2].trailers is None:
            yield self.go.call("send", stream=self.register, data=encode_message(RegisterResponse()))
        _, exchange, received = self.server.asked[0]
        self.assertEqual(sha256(received.body).hexdigest(), sha256(3 * octets).hexdigest())
        large = noise(10 * MIB)
        exchange.sendHead(HTTPResponse(200, b"", []))
        exchange.write(large)
        exchange.end()
        _, body = yield self.response(self.lanes[0])
        self.assertEqual(sha256(body).hexdigest(), sha256(large).hexdigest())

    @inlineCallbacks
    def test_anEdgeThatStopsLetsExchangesEnd(self) -> Any:
        yield self.connect()
        yield self.ask(self.lanes[0])
        self.lanes.append((yield self.accept()))             # in place of the one that is busy
        stopped = self.go.call("stop", timeout=60)
        lost = yield self.link.whenLost()                    # GOAWAY has arrived
        self.assertIsInstance(lost, EdgeDrains)
        self.assertIsNone((yield self.receive(self.lanes[1], HTTPChunk)))
        _, exchange, _ = self.server.asked[0]
        exchange.respond(HTTPResponse(200, b"", [(b"Content-Length", b"2")]), b"ok")
        head, body = yield self.response(self.lanes[0])
        self.assertEqual((head.status, body), (200, b"ok"))
        self.assertIsNone((yield self.receive(self.lanes[0], HTTPChunk)))
        for stream in (*self.lanes, self.register):
            yield self.go.call("finish", stream=stream)
        yield stopped

    @inlineCallbacks
    def test_cancellingPassesBothWays(self) -> Any:
        yield self.connect()
        yield self.ask(self.lanes[0])
        while not self.server.asked:
            yield self.go.call("send", stream=self.register, data=encode_message(RegisterResponse()))
        yield self.go.call("finish", stream=self.lanes[0], code=Status.CANCELLED)
        while self.server.asked[0][2].failure is None:
            yield self.go.call("send", stream=self.register, data=encode_message(RegisterResponse()))
        self.assertTrue(self.server.asked[0][1].finished)
        yield self.ask(self.lanes[1])
        while len(self.server.asked) < 2:
            yield self.go.call("send", stream=self.register, data=encode_message(RegisterResponse()))
        self.server.asked[1][1].cancel(FailureKind.CLIENT_CLOSED)
        self.assertEqual((yield self.code(self.lanes[1])), "Canceled")

    @inlineCallbacks
    def test_refusalsAreTold(self) -> Any:
        yield self.connect()
        for status, error in ((Status.UNAUTHENTICATED, RegistrationRefused), (Status.UNIMPLEMENTED, TransportUnavailable)):
            refused = self.assertFailure(self.dial(), error)
            register = 0
            while not register:
                said = yield self.go.call("accept", timeout=60)
                register = said["stream"] if said["method"] == REGISTER_PATH.decode() else 0
            yield self.go.call("finish", stream=register, code=status, text="é no")
            yield refused
