"""
The agent's end of a session by gRPC: the call C{Register} while it is open, and the lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IAddress, IReactorTime, ITransport
from zope.interface import implementer

from tunnelstack.dialect.jetty.failure_page import failurePage
from tunnelstack.dialect.jetty.grpc_agent_lane import AgentLane
from tunnelstack.dialect.jetty.grpc_raw_agent import AgentRawLane
from tunnelstack.dialect.jetty.register_pings import MOST_QUEUED, RegisterPings
from tunnelstack.dialect.jetty.registration import (
    NAME,
    EdgeDrains,
    RegistrationAnswer,
    RegistrationRefused,
    Upstream,
)
from tunnelstack.exchange.bounds import DEFAULT_BOUNDS
from tunnelstack.exchange.error_page import ErrorPages
from tunnelstack.exchange.traits import Traits
from tunnelstack.interfaces import ICallReceiver, IDatagramClientEndpoint, IExchangeServer, ILink, IReactor
from tunnelstack.session.http2_calls import CallSession
from tunnelstack.session.lane_pool import LaneCounts, LaneKeeper
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionClosed, SessionLost
from tunnelstack.transport.grpc_call import GRPCCall
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.transport.http2.errors import HTTP2ConnectionLost, HTTP2StreamFailed
from tunnelstack.transport.peers import canonical
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.transport.udp import UDPClientEndpoint
from tunnelstack.waiters import Waiters
from tunnelstack.wire.grpc import CallResult, Status
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.protobuf import BadProtobuf, decode_message_untrusted, encode_message
from tunnelstack.wire.records.jetty_grpc import (
    DEFAULT_LIMITS,
    FORWARD_HTTP_PATH,
    FORWARD_RAW_PATH,
    LONGEST_CHUNK,
    REUSE,
    SESSION_ID,
    TRAILERS_CAPABILITY,
    UPGRADE,
    Drain,
    ErrorInfo,
    LaneDemand,
    Limits,
    Ping,
    Pong,
    RegisterRequest,
    RegisterResponse,
)

Fields = Sequence[tuple[bytes, bytes]]
OpenCall = Callable[[HTTP2Connection, bytes, ICallReceiver, Fields], GRPCCall]

Lane = AgentLane | AgentRawLane

MOST_LANES = 1024
"""Lanes that an edge may grant; more are not opened."""

DRAIN_MS = 30_000


@implementer(ILink, ICallReceiver)
class GRPCLink:
    """
    A session.

    @ivar session: the connection.
    @ivar bounds: of exchanges; the edge sends a time limit with each request.
    @ivar registered: what the edge has answered.
    """

    def __init__(
        self, connection: HTTP2Connection, call: GRPCCall, response: RegisterResponse, *, clock: IReactorTime,
        upstream: Upstream, opening: OpenCall, answer: RegistrationAnswer, slowDown: Callable[[], object],
    ) -> None:
        """
        @param opening: opens a call on the connection.
        @param slowDown: called when the edge finds that there are too many pings.
        """
        limits = response.limits or DEFAULT_LIMITS
        self.session = CallSession(connection, StreamAddress(dialect=NAME, peer=canonical(connection.getPeer())))
        self.bounds = DEFAULT_BOUNDS
        self.pages: ErrorPages = failurePage
        self.registered = answer
        self.timer = SharedTimer(clock)
        capabilities = frozenset(response.capabilities)
        self.traits = Traits(
            upgrade=UPGRADE in capabilities, halfClose=UPGRADE in capabilities, trailers=TRAILERS_CAPABILITY in capabilities,
        )
        self.chunkOctets = min(limits.max_chunk_bytes or DEFAULT_LIMITS.max_chunk_bytes, LONGEST_CHUNK)
        self.mostExchanges = max(1, limits.lane_max_exchanges) if REUSE in capabilities else 1
        self.publicHost = (urlsplit(answer.publicURL).hostname or "").encode()
        self.retiresLanes = False
        self._connection = connection
        self._call = call
        self._sessionId = response.session_id.encode()
        self._upstream = upstream
        self._opening = opening
        self._slowDown = slowDown
        self.clock = clock
        self.tcp = upstream.tcp
        self.udp: IDatagramClientEndpoint | None = None
        if upstream.udp is not None:
            self.udp = UDPClientEndpoint(cast(IReactor, clock), *upstream.udp)
        self._busy: set[Lane] = set()
        self._lanes: LaneKeeper[Lane] = LaneKeeper(clock, _countsOf(limits), self._openLane, lambda lane: lane.retire())
        self._pings = RegisterPings(clock, lambda nonce: self._send(Ping(nonce=nonce)), self._registerLost)
        self._lost: SessionLost | None = None
        self._waitingLost: Waiters[SessionLost] = Waiters()
        connection.whenLost().addCallback(self._connectionLost)
        connection.whenGoingAway().addCallback(self._edgeGoingAway)

    def start(self) -> None:
        """
        Open the first lanes.
        """
        self._pings.start()
        self._lanes.start()

    # ILink

    def ping(self) -> Deferred[float]:
        """
        @return: a C{Deferred} of the round trip in seconds.
        """
        return fail(self._lost) if self._lost else self._pings.ping()

    def whenLost(self) -> Deferred[SessionLost]:
        return succeed(self._lost) if self._lost else self._waitingLost.wait()

    def drain(self) -> Deferred[SessionLost]:
        if not self.retiresLanes and self._lost is None:
            self._send(Drain(grace_ms=DRAIN_MS, reason="the agent is about to stop"))
            self._stopServing()
            self._checkDrained()
        return self.whenLost()

    def abort(self, reason: str) -> None:
        self._registerLost(SessionClosed(reason))
        self._connection.abort()

    def _stopServing(self) -> None:
        """
        Open no more lanes; those that are busy end after their exchange.
        """
        self.retiresLanes = True
        self._lanes.stop()
        for lane in self._lanes.idleLanes():
            lane.retire()

    def _checkDrained(self) -> None:
        if self.retiresLanes and not self._busy:
            self._call.halfClose()
            self._registerLost(SessionClosed("the session was drained"))
            self._connection.drain()

    def _registerLost(self, reason: SessionLost) -> None:
        """
        The session is over, but exchanges under way may end.
        """
        if self._lost is None:
            self._lost = reason
            self._pings.stop(reason)
            self._stopServing()
            self._waitingLost.fire(reason)
            if not self._busy:
                self._connection.drain()

    def _connectionLost(self, reason: HTTP2ConnectionLost) -> HTTP2ConnectionLost:
        lost = SessionLost(str(reason))
        lost.__cause__ = reason
        self._registerLost(lost)
        self.timer.stop()
        return reason

    def _edgeGoingAway(self, result: object) -> None:
        if self._connection.awayCode == ErrorCode.ENHANCE_YOUR_CALM:
            self._slowDown()
        if not self._connection.isLost:
            self._registerLost(EdgeDrains("the edge accepts no more calls on the connection"))

    # Register

    def answered(self, fields: Fields) -> None:
        """
        Not called again: the head has arrived.
        """

    def halfClosed(self) -> None:
        """
        Not called: this is the client.
        """

    def messageReceived(self, message: bytes) -> None:
        try:
            control = decode_message_untrusted(RegisterResponse, message).control
        except BadProtobuf as bad:
            self._call.reset()
            self._registerLost(SessionLost(f"the edge has sent a message that is malformed: {bad}"))
            return
        self._pings.heard()
        if isinstance(control, Ping):
            self._send(Pong(nonce=control.nonce))
        elif isinstance(control, Pong):
            self._pings.answered(control.nonce)
        elif isinstance(control, LaneDemand):
            self._lanes.demand(control.count)
        elif isinstance(control, Drain):
            self._edgeDrains(control)
        elif isinstance(control, ErrorInfo):
            refused = RegistrationRefused(printable(control.code, 32), printable(control.message, 200))
            lost = SessionLost(str(refused), code=refused.code)
            lost.__cause__ = refused
            self._registerLost(lost)

    def _edgeDrains(self, drain: Drain) -> None:
        """
        Another session can begin at once, while the exchanges of this one end; or this one ends after them.
        """
        if drain.reconnect:
            self._registerLost(EdgeDrains(printable(drain.reason, 200) or "the edge is about to stop"))
        else:
            self._stopServing()
            self._checkDrained()

    def ended(self, result: CallResult, reason: Exception | None) -> None:
        if result.status is not Status.OK or reason is not None or self._lost is None:
            self._registerLost(SessionLost(f"the edge has ended the session: {printable(result.message, 200)}"))

    def _send(self, control: Ping | Pong | Drain) -> None:
        if self._call.queued > MOST_QUEUED:
            self.abort("the edge does not read what it is sent")
            return
        self._call.send(encode_message(RegisterRequest(control=control)))

    # Lanes

    def _openLane(self) -> bool:
        raw = self.tcp is not None or self.udp is not None
        lane: Lane = AgentRawLane(self) if raw else AgentLane(self)
        path = FORWARD_RAW_PATH if raw else FORWARD_HTTP_PATH
        try:
            lane.call = self._opening(self._connection, path, lane, [(SESSION_ID, self._sessionId)])
        except HTTP2StreamFailed:
            return False
        return True

    @property
    def transport(self) -> ITransport:
        """
        The connection.
        """
        transport: ITransport = self._connection.transport
        return transport

    @property
    def peer(self) -> IAddress:
        """
        The address of the edge.
        """
        return canonical(self._connection.getPeer())

    def serverFor(self, target: tuple[str, int] | None) -> IExchangeServer:
        """
        @return: what serves a request, as in L{Upstream}.
        """
        return self._upstream.serverFor(target)

    def laneOpened(self, lane: Lane) -> None:
        """
        From a lane: the edge has accepted it.
        """
        self._lanes.opened(lane)
        if self.retiresLanes:
            lane.retire()

    def laneUsed(self, lane: Lane) -> None:
        """
        From a lane: a request has arrived.
        """
        self._busy.add(lane)
        self._lanes.used(lane)

    def laneIdle(self, lane: Lane) -> None:
        """
        From a lane: it can be used again.
        """
        self._busy.discard(lane)
        self._lanes.unused(lane)

    def laneOver(self, lane: Lane, opened: bool, result: CallResult) -> None:
        """
        From a lane: it has ended.
        """
        self._busy.discard(lane)
        if opened:
            self._lanes.lost(lane)
        else:
            self._lanes.notOpened()
        if not opened and result.status is Status.FAILED_PRECONDITION:
            self._registerLost(SessionLost("the edge does not know the session any more"))
        if self._lost is not None and not self._busy:
            self._connection.drain()
        elif self._lost is None:
            self._checkDrained()


def _countsOf(limits: Limits) -> LaneCounts:
    """
    @return: how many lanes the edge wants.
    """
    most = min(limits.lanes_max or DEFAULT_LIMITS.lanes_max, MOST_LANES)
    return LaneCounts(
        initial=min(limits.lanes_initial or DEFAULT_LIMITS.lanes_initial, most),
        idle=min(limits.lanes_min_idle or DEFAULT_LIMITS.lanes_min_idle, most), most=most,
        idleSeconds=limits.lane_max_idle_ms / 1000,
    )  # fmt: skip
