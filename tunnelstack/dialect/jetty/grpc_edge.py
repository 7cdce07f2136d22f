"""
Where agents come by gRPC: connections of HTTP/2, on which they register and open lanes.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

from attrs import evolve
from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import ServerFactory
from zope.interface import implementer

from tunnelstack.dialect.jetty.grpc_edge_lane import EdgeLane
from tunnelstack.dialect.jetty.grpc_register import LONGEST_REGISTRATION, Fields, RegisterCall
from tunnelstack.dialect.jetty.grpc_tunnel import GRPCTunnel
from tunnelstack.dialect.jetty.registration import NAME, Acceptance, IRegistrar
from tunnelstack.interfaces import ICallReceiver, IEdge
from tunnelstack.session.http2_calls import CallSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport.grpc_call import GRPCCall
from tunnelstack.transport.grpc_server import NO_CALL, GRPCServer, Method
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.transport.peers import canonical
from tunnelstack.wire.grpc import CallResult, Status
from tunnelstack.wire.http1.head import first
from tunnelstack.wire.http2.limits import HTTP2Limits
from tunnelstack.wire.records.jetty_grpc import (
    DEFAULT_LIMITS,
    EDGE_ID,
    FORWARD_HTTP_PATH,
    FORWARD_RAW_PATH,
    PROTOCOL_VERSION,
    REGISTER_PATH,
    SESSION_ID,
    VERSION_FIELD,
    Limits,
    RegisterRequest,
)

EXTRA_STREAMS = 16
"""Streams of a connection beside the lanes of one session."""

WINDOW = 1024 * 1024
"""Octets of a response that wait at most for a visitor who does not read."""

CONNECTION_WINDOW = 16 * 1024 * 1024

EDGE_LIMITS = evolve(DEFAULT_LIMITS, max_request_body_bytes=0)
"""What agents are granted, unless the edge says otherwise: bodies are not held, so they need no limit."""

UNKNOWN_SESSION = CallResult(Status.FAILED_PRECONDITION, "unknown session")


def edgeConnectionLimits(lanes: int) -> HTTP2Limits:
    """
    @param lanes: that one agent may have.
    @return: the limits of a connection with agents.  One that has neither registered nor a lane is closed after 15 s.
    """
    return HTTP2Limits(
        streams=lanes + EXTRA_STREAMS, max_window=WINDOW, connection_window=CONNECTION_WINDOW,
        held_octets=CONNECTION_WINDOW, max_frame=16 * 1024, header_list=16 * 1024, pings=50, settings=50,
        keepalive=30.0, keepalive_timeout=15.0, idle_timeout=15.0, connect_protocol=False,
    )  # fmt: skip


@implementer(IProtocolFactory)
class GRPCAgents(ServerFactory):
    """
    Builds the connections of agents.  Listen with it without TLS, or wrap it for C{ALPN_HTTP2} in an
    L{ALPNFactory<tunnelstack.transport.tls.ALPNFactory>}.

    @ivar sessions: the tunnels, by the hash of the secret that lanes show.
    """

    noisy = False

    def __init__(
        self, edge: IEdge, registrar: IRegistrar, limits: Limits = EDGE_LIMITS, *, bindSessions: bool = False,
    ) -> None:
        """
        @param limits: what agents are granted at most.
        @param bindSessions: lanes must come by the connection on which the agent has registered.  Proxies that make a
            connection for each call do not work then.
        """
        self.clock = edge.clock
        self.registrar = registrar
        self.sessions: dict[bytes, GRPCTunnel] = {}
        self._edge = edge
        self._limits = limits
        self._sessionsBound = bindSessions
        self._connectionLimits = edgeConnectionLimits(limits.lanes_max)
        self._connections: dict[GRPCTunnel, HTTP2Connection] = {}
        self._tunnels: Counter[HTTP2Connection] = Counter()

    def buildProtocol(self, address: IAddress | None) -> HTTP2Connection:
        """
        @return: the protocol of a connection.
        """
        return _AgentConnection(self, self._connectionLimits).connection

    # From calls

    @property
    def stopping(self) -> bool:
        """
        Whether the edge stops.
        """
        return self._edge.stopping

    def limitsFor(self, request: RegisterRequest) -> Limits:
        """
        @return: what an agent is granted.
        """
        most = min(request.max_lanes or self._limits.lanes_max, self._limits.lanes_max)
        return evolve(
            self._limits, lanes_max=most, lanes_initial=min(self._limits.lanes_initial, most),
            lanes_min_idle=min(self._limits.lanes_min_idle, most),
        )  # fmt: skip

    def addTunnel(
        self, connection: HTTP2Connection, register: RegisterCall, acceptance: Acceptance, limits: Limits
    ) -> GRPCTunnel:
        """
        @return: the tunnel of an agent that was accepted.
        """
        address = StreamAddress(
            key=acceptance.principal.agent, principal=acceptance.principal, dialect=NAME, peer=connection.getPeer(),
        )
        tunnel = GRPCTunnel(
            acceptance, CallSession(connection, address), register, clock=self.clock, bounds=self._edge.bounds,
            limits=limits, capabilities=register.capabilities, version=register.version, onOver=self._over,
        )
        self.sessions[_hashed(acceptance.sessionId.encode())] = tunnel
        self._connections[tunnel] = connection
        self._tunnels[connection] += 1
        return tunnel

    def _over(self, tunnel: GRPCTunnel) -> None:
        self.sessions.pop(_hashed(tunnel.acceptance.sessionId.encode()), None)
        connection = self._connections.pop(tunnel)
        self._tunnels[connection] -= 1
        if not self._tunnels[connection]:
            del self._tunnels[connection]
            connection.drain()                # a connection without an agent is of no use

    def find(self, connection: HTTP2Connection, sessionId: bytes) -> GRPCTunnel | None:
        """
        @return: the tunnel of a lane.
        """
        tunnel = self.sessions.get(_hashed(sessionId))
        if tunnel is not None and self._sessionsBound and self._connections[tunnel] is not connection:
            return None
        return tunnel


class _AgentConnection:
    """
    A connection on which agents register and open lanes.
    """

    def __init__(self, agents: GRPCAgents, limits: HTTP2Limits) -> None:
        self.clock = agents.clock
        self.registrar = agents.registrar
        self.limitsFor = agents.limitsFor
        self._agents = agents
        server = GRPCServer(agents.clock, {
            REGISTER_PATH: Method(begin=self._register, limit=LONGEST_REGISTRATION),
            FORWARD_HTTP_PATH: Method(begin=self._httpLane),
            FORWARD_RAW_PATH: Method(begin=self._rawLane),
        })  # fmt: skip
        self.connection = HTTP2Connection(False, clock=agents.clock, limits=limits, accept=server.accept)

    @property
    def stopping(self) -> bool:
        """
        Whether the edge stops.
        """
        return self._agents.stopping

    def makeTunnel(self, register: RegisterCall, acceptance: Acceptance, limits: Limits) -> GRPCTunnel:
        """
        As in L{Door<tunnelstack.dialect.jetty.grpc_register.Door>}.
        """
        return self._agents.addTunnel(self.connection, register, acceptance, limits)

    def _register(self, call: GRPCCall, fields: Fields) -> ICallReceiver:
        made: ICallReceiver = RegisterCall(self, call, fields, canonical(self.connection.getPeer()))
        return made

    def _tunnelOf(self, call: GRPCCall, fields: Fields) -> GRPCTunnel | None:
        """
        Accept a lane.

        @return: its tunnel; C{None} if it was refused.
        """
        tunnel = self._agents.find(self.connection, first(list(fields), SESSION_ID) or b"")
        refusal = UNKNOWN_SESSION if tunnel is None else tunnel.refusal()
        if tunnel is None or refusal is not None:
            call.finish(refusal or UNKNOWN_SESSION)
            return None
        call.accept([
            (EDGE_ID, tunnel.acceptance.edgeId.encode()), (VERSION_FIELD, b"%d" % PROTOCOL_VERSION),
        ])  # fmt: skip
        return tunnel

    def _httpLane(self, call: GRPCCall, fields: Fields) -> ICallReceiver:
        tunnel = self._tunnelOf(call, fields)
        if tunnel is None:
            return NO_CALL
        lane = EdgeLane(call, tunnel)
        tunnel.addLane(lane)
        return lane

    def _rawLane(self, call: GRPCCall, fields: Fields) -> ICallReceiver:
        tunnel = self._tunnelOf(call, fields)
        return NO_CALL if tunnel is None else tunnel.addRawLane(call)


def _hashed(secret: bytes) -> bytes:
    """
    @return: a key of a table, from whose look-up nothing of the secret can be learned.
    """
    return sha256(secret).digest()
