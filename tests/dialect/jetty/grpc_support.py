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
from zope.interface import implementer

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
from tunnelstack.records import Principal
from tunnelstack.testing import Network
from tunnelstack.transport.grpc_call import openCall
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.wire.grpc import CallResult, Status
from tunnelstack.wire.protobuf import decode_message_untrusted, encode_message
from tunnelstack.wire.records.jetty_grpc import (
    CAPABILITIES,
    FORWARD_HTTP_PATH,
    FORWARD_RAW_PATH,
    REGISTER_PATH,
    SESSION_ID,
    HTTPChunk,
    Limits,
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
    keepalive: KeepaliveInterval = field(factory=KeepaliveInterval)

    def __attrs_post_init__(self) -> None:
        edge: Any = Host(self.network, self.bounds)
        self.agents = GRPCAgents(edge, self.registrar, self.limits, bindSessions=self.bind)
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
