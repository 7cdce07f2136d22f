"""
Both ends of the carrier gRPC, without sockets and in virtual time: an edge whose registrar accepts every agent that a test has
named, and agents.
"""

from __future__ import annotations

from typing import Any

from attrs import define, evolve, field
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.exchange.doubles import Recorder
from tunnelstack.dialect.jetty.grpc_agent import KeepaliveInterval, connectGRPC
from tunnelstack.dialect.jetty.grpc_edge import EDGE_LIMITS, GRPCAgents
from tunnelstack.dialect.jetty.grpc_link import GRPCLink
from tunnelstack.dialect.jetty.grpc_tunnel import GRPCTunnel
from tunnelstack.dialect.jetty.registration import (
    HTTP,
    Acceptance,
    Registration,
    RegistrationRefused,
    Upstream,
)
from tunnelstack.exchange.bounds import DEFAULT_BOUNDS, ExchangeBounds
from tunnelstack.interfaces import ICallReceiver, IExchangeServer
from tunnelstack.records import HTTPPurpose, Principal
from tunnelstack.testing import Network
from tunnelstack.transport.grpc_call import openCall
from tunnelstack.transport.grpc_server import GRPCServer, Method
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.wire.grpc import CallResult, Status
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http2.limits import HTTP2Limits
from tunnelstack.wire.protobuf import decode_message_untrusted, encode_message
from tunnelstack.wire.records.jetty_grpc import (
    CAPABILITIES,
    FORWARD_HTTP_PATH,
    FORWARD_RAW_PATH,
    REGISTER_PATH,
    SESSION_ID,
    HTTPChunk,
    Limits,
    Pong,
    RawChunk,
    RegisterRequest,
    RegisterResponse,
)

PORT = 8080
URL = f"grpc://127.0.0.1:{PORT}"
TUNNEL, TOKEN, SESSION = "t1", "k1", "5e55"


@define
class Host:
    """
    As much of an edge or an agent as the carrier uses.
    """

    clock: Any
    bounds: ExchangeBounds = DEFAULT_BOUNDS
    stopping: bool = False


@define(eq=False)
class Registrar:
    """
    Accepts agents that show L{TOKEN}.

    @ivar asked: the registrations.
    @ivar tunnels: that have arrived.
    @ivar refuse: why the next agents are refused.
    @ivar pending: the answer is given by the test.
    @ivar refuseArrival: why the next agents are refused that were verified.
    """

    protocol: str = HTTP
    asked: list[Registration] = field(factory=list)
    tunnels: list[Any] = field(factory=list)
    refuse: RegistrationRefused | None = None
    pending: Deferred[Acceptance] | None = None
    refuseArrival: RegistrationRefused | None = None

    def acceptance(self, registration: Registration) -> Acceptance:
        count = len(self.asked)
        return Acceptance(
            tunnelId=registration.tunnelId, subdomain="demo", publicURL="https://demo.tunnels.example", edgeId="edge-a",
            sessionId=SESSION if count == 1 else f"{SESSION}{count}", protocol=self.protocol,
            principal=Principal(agent="demo"), instance=registration.instance,
        )

    def verify(self, registration: Registration) -> Deferred[Acceptance]:
        self.asked.append(registration)
        if self.pending is not None:
            return self.pending
        if self.refuse is not None:
            return fail(self.refuse)
        if registration.agentToken != TOKEN:
            return fail(RegistrationRefused("verify_rejected"))
        return succeed(self.acceptance(registration))

    def arrived(self, tunnel: Any, acceptance: Acceptance) -> Deferred[object]:
        self.tunnels.append(tunnel)
        return fail(self.refuseArrival) if self.refuseArrival else succeed(None)


def registration(**changes: Any) -> Registration:
    return evolve(
        Registration(
            tunnelId=TUNNEL, agentToken=TOKEN, transport="grpc", capabilities=None, agentVersion="tunnelstack/0.1",
            instance="i-1",
        ),
        **changes,
    )  # fmt: skip


@define(eq=False)
class Pair:
    """
    An edge, to which agents connect.
    """

    network: Network
    limits: Limits = EDGE_LIMITS
    bind: bool = False
    bounds: ExchangeBounds = DEFAULT_BOUNDS
    registrar: Registrar = field(factory=Registrar)
    agents: GRPCAgents = field(init=False)
    edge: Host = field(init=False)
    keepalive: KeepaliveInterval = field(factory=KeepaliveInterval)
    listens: bool = True

    def __attrs_post_init__(self) -> None:
        edge: Any = Host(self.network, self.bounds)
        self.edge = edge
        self.agents = GRPCAgents(edge, self.registrar, self.limits, bindSessions=self.bind)
        if self.listens:
            self.network.listenTCP(PORT, self.agents)

    def connect(self, server: IExchangeServer, upstream: Upstream | None = None, **changes: Any) -> Deferred[GRPCLink]:
        host: Any = Host(self.network)
        endpoint = TCP4ClientEndpoint(self.network, "127.0.0.1", PORT)     # type: ignore[arg-type]
        return connectGRPC(
            host, URL, endpoint, registration(**changes), upstream or Upstream(serverFor=lambda target: server), self.keepalive,
        )

    @property
    def tunnel(self) -> GRPCTunnel:
        tunnel: GRPCTunnel = self.registrar.tunnels[-1]
        return tunnel

    def join(self, protocol: Any) -> Any:
        """
        Connect a client that a test plays itself.
        """
        self.network.join(protocol, self.network.ports[PORT].factory, IPv4Address("TCP", "127.0.0.1", PORT))
        return protocol


@implementer(ICallReceiver)
class Played:
    """
    A call that a test plays.

    @ivar told: the messages that arrived, decoded.
    """

    def __init__(self, record: type[Any]) -> None:
        self.call: Any = None
        self.head: dict[bytes, bytes] | None = None
        self.told: list[Any] = []
        self.result: CallResult | None = None
        self.reason: Exception | None = None
        self._record = record

    def answered(self, fields: Any) -> None:
        self.head = dict(fields)

    def messageReceived(self, message: bytes) -> None:
        self.told.append(decode_message_untrusted(self._record, message))

    def halfClosed(self) -> None:
        raise AssertionError("this is a client")

    def ended(self, result: CallResult, reason: Exception | None) -> None:
        assert self.result is None
        self.result, self.reason = result, reason

    @property
    def status(self) -> Status | None:
        return None if self.result is None else self.result.status

    def send(self, record: object) -> None:
        self.call.send(encode_message(record))


class Stranger:
    """
    An agent whose every message a test chooses.
    """

    def __init__(self, pair: Pair) -> None:
        self._settle = pair.network.settle
        self.connection = HTTP2Connection(True, clock=pair.network)
        pair.join(self.connection)
        self._settle()

    def call(self, path: bytes, record: type[Any], *metadata: tuple[bytes, bytes]) -> Played:
        played = Played(record)
        played.call = openCall(self.connection, path, played, metadata=metadata)
        self._settle()
        return played

    def register(self, *metadata: tuple[bytes, bytes], half: bool = False, **changes: Any) -> Played:
        played = self.call(REGISTER_PATH, RegisterResponse, *metadata)
        request = {
            "tunnel_id": TUNNEL, "agent_token": TOKEN, "protocol_version": 1, "capabilities": CAPABILITIES, **changes,
        }  # fmt: skip
        played.send(RegisterRequest(**request))
        if half:
            played.call.halfClose()
        self._settle()
        return played

    def lane(self, session: str = SESSION, path: bytes = FORWARD_HTTP_PATH) -> Played:
        return self.call(path, RawChunk if path == FORWARD_RAW_PATH else HTTPChunk, (SESSION_ID, session.encode()))


@implementer(ICallReceiver)
class PlayedLane:
    """
    A lane at an edge that a test plays.
    """

    def __init__(self, call: Any, fields: Any) -> None:
        self.call = call
        self.fields = dict(fields)
        self.told: list[Any] = []
        self.halves = 0
        self.result: CallResult | None = None
        self.reason: Any = None

    def answered(self, fields: Any) -> None:
        raise AssertionError("this is a server")

    def messageReceived(self, message: bytes) -> None:
        self.told.append(decode_message_untrusted(HTTPChunk, message))

    def halfClosed(self) -> None:
        self.halves += 1

    def ended(self, result: CallResult, reason: Exception | None) -> None:
        self.result, self.reason = result, reason

    def send(self, record: object) -> None:
        self.call.send(encode_message(record))


class PlayedEdge:
    """
    An edge whose every message a test chooses.

    @ivar lanes: in the order in which they were opened.
    @ivar controls: what the agent has said by C{Register}.
    @ivar answer: a record, or octets that are none.
    @ivar refuse: how further registrations are refused.
    @ivar laneResult: how further lanes are refused.
    """

    def __init__(self, network: Network, limits: Limits) -> None:
        self._network = network
        self.lanes: list[PlayedLane] = []
        self.controls: list[Any] = []
        self.answers = True
        self.refuse: CallResult | None = None
        self.laneResult: CallResult | None = None
        self.acceptsLanes = True
        self.answer: Any = RegisterResponse(
            session_id=SESSION, protocol_version=1, capabilities=CAPABILITIES, limits=limits,
            public_url="https://demo.tunnels.example",
        )
        self._server = GRPCServer(network, {
            REGISTER_PATH: Method(begin=self._register), FORWARD_HTTP_PATH: Method(begin=self._lane),
        })  # fmt: skip
        factory = Factory()
        factory.buildProtocol = self._build     # type: ignore[method-assign,assignment]
        self._port = network.listenTCP(PORT, factory)
        self.stop = self._port.stopListening

    def _build(self, address: Any) -> HTTP2Connection:
        self.connection = HTTP2Connection(
            False, clock=self._network, accept=self._server.accept, limits=HTTP2Limits(streams=1000)
        )
        return self.connection

    def _register(self, call: Any, fields: Any) -> Any:
        self.register = call
        receiver = PlayedLane(call, fields)
        receiver.messageReceived = lambda message: self._registerReceived(call, fields, message)  # type: ignore[method-assign]
        return receiver

    def _registerReceived(self, call: Any, fields: Any, message: bytes) -> None:
        request = decode_message_untrusted(RegisterRequest, message)
        if request.control is not None:
            self.controls.append(request.control)
            return
        self.registered = (dict(fields), request)
        if self.refuse is not None:
            call.finish(self.refuse)
        elif self.answers:
            call.accept()
            call.send(self.answer if isinstance(self.answer, bytes) else encode_message(self.answer))

    def _lane(self, call: Any, fields: Any) -> Any:
        if self.laneResult is not None:
            call.finish(self.laneResult)
            return PlayedLane(call, fields)
        if self.acceptsLanes:
            call.accept()
        self.lanes.append(PlayedLane(call, fields))
        return self.lanes[-1]

    def say(self, control: Any) -> None:
        self.register.send(encode_message(RegisterResponse(control=control)))
        self._network.settle()

    def answerPing(self) -> None:
        self.say(Pong(nonce=self.controls[-1].nonce))

    def keepAlive(self, seconds: int) -> None:
        """
        Let time pass, and say something now and then.
        """
        for _ in range(seconds):
            self._network.passTime(1)
            self.say(None)


class Sessions(SynchronousTestCase):
    """
    An edge, and an agent that the test plays.
    """

    bind = False
    limits = EDGE_LIMITS

    def setUp(self) -> None:
        self.network = Network()
        self.pair = Pair(self.network, limits=self.limits, bind=self.bind)
        self.agent = Stranger(self.pair)
        self.asked = self.pair.registrar.asked

    def ask(self) -> tuple[Any, Recorder]:
        receiver = Recorder()
        exchange = self.pair.tunnel.exchange(HTTPPurpose(), receiver)
        exchange.sendHead(RequestHead(b"GET", b"/", [(b"Host", b"a.example")]))
        exchange.end()
        self.network.settle()
        return exchange, receiver
