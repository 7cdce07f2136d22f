"""
The edge's way to one agent that has come by gRPC: lanes, which may come by several connections, and the call C{Register}, with
which the session begins and ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from uuid import uuid4

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from zope.interface import implementer

from tunnelstack.dialect.jetty.grpc_edge_lane import EdgeLane
from tunnelstack.dialect.jetty.grpc_exchange import GRPCExchange
from tunnelstack.dialect.jetty.grpc_raw_edge import RawLanes
from tunnelstack.dialect.jetty.registration import HTTP, NAME, TCP, UDP, Acceptance
from tunnelstack.errors import TunnelError
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.errors import Busy
from tunnelstack.exchange.traits import Timeouts, Traits
from tunnelstack.interfaces import (
    ICallReceiver,
    IDatagramClientEndpoint,
    IExchange,
    IExchangeReceiver,
    ISession,
    ITunnel,
)
from tunnelstack.records import HTTPPurpose, Purpose, TCPPurpose, UDPPurpose, Visitor
from tunnelstack.session.lane_pool import IdleLanes
from tunnelstack.stream.errors import SessionClosed, SessionLost, UnsupportedPurpose
from tunnelstack.transport.grpc_call import GRPCCall
from tunnelstack.transport.peers import addressText
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.waiters import Waiters
from tunnelstack.wire.grpc import CallResult, Status
from tunnelstack.wire.http1.head import HeadLimits
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.jetty_chunks import LONGEST_ID
from tunnelstack.wire.records.jetty_grpc import (
    LONGEST_CHUNK,
    RAW,
    REUSE,
    TRAILERS_CAPABILITY,
    UPGRADE,
    Limits,
)

FINISH_SECONDS = 10.0
"""Seconds that exchanges may take which are under way when the session ends."""

LONELY_SECONDS = 30.0
"""Seconds that a session lives without a lane, whose agent has closed its C{Register}."""

DRAIN_MS = 30_000
"""Milliseconds that an agent is told for the work under way."""


class SessionControl(Protocol):
    """
    The call C{Register}, as its tunnel uses it.
    """

    def demand(self, count: int) -> None:
        """
        Ask for lanes.
        """

    def ping(self) -> Deferred[float]:
        """
        Measure the round trip.
        """

    def announceDrain(self, graceMs: int) -> None:
        """
        Notify the agent that the session ends after the work under way.
        """

    def close(self, code: str, reason: str) -> None:
        """
        End the call.

        @param code: of the error; C{""} if there is none.
        """


@implementer(ITunnel)
class GRPCTunnel:
    """
    A tunnel.

    @ivar session: the connection by which the agent has registered.
    @ivar mostLanes: lanes of both kinds together.
    """

    dialect = NAME

    def __init__(
        self, acceptance: Acceptance, session: ISession, control: SessionControl, *, clock: IReactorTime,
        bounds: ExchangeBounds, limits: Limits, capabilities: tuple[str, ...], version: str,
        onOver: Callable[[GRPCTunnel], object],
    ) -> None:
        """
        @param capabilities: those that both sides have.
        @param version: that the agent reports.
        @param onOver: called when the session takes no more lanes.
        """
        self.session = session
        self.acceptance = acceptance
        self.principal = acceptance.principal
        self.key = acceptance.principal.agent
        self.instance = acceptance.instance
        self.version = printable(version, 64)
        self.draining = False
        self.capabilities = frozenset(capabilities)
        self.traits = Traits(
            upgrade=UPGRADE in self.capabilities, halfClose=UPGRADE in self.capabilities,
            trailers=TRAILERS_CAPABILITY in self.capabilities,
        )
        self.limits = limits
        self.timer = SharedTimer(clock)
        self.chunkOctets = min(limits.max_chunk_bytes, LONGEST_CHUNK)
        self.mostBody = limits.max_request_body_bytes
        self.mostExchanges = limits.lane_max_exchanges if REUSE in self.capabilities else 1
        self.mostLanes = limits.lanes_max
        self._clock = clock
        self._bounds = bounds
        self._control = control
        self._onOver = onOver
        self._idle: IdleLanes[EdgeLane] = IdleLanes(clock)
        self._idle.onDemand = self._demand
        self._lanes: set[EdgeLane] = set()
        self._demanded = 0                    # lanes that the agent was asked for, and that have not come
        self._exchanges: set[GRPCExchange] = set()
        self.raw = RawLanes(clock, self, session.address)
        self._lost: SessionLost | None = None
        self._unary = False
        self._timer: IDelayedCall | None = None
        self._waitingLost: Waiters[SessionLost] = Waiters()
        self._drained: Waiters[None] = Waiters()
        session.whenGoingAway().addCallback(self._agentGoingAway)

    # ITunnel

    @property
    def healthy(self) -> bool:
        return not (self.draining or self._lost)

    @property
    def inFlight(self) -> int:
        return len(self._exchanges) + self.raw.inFlight

    def endpointFor(self, purpose: Purpose, visitor: Visitor | None = None, *, wait: bool = False) -> IStreamClientEndpoint:
        self._refuseIfDraining()
        if not isinstance(purpose, TCPPurpose):
            raise UnsupportedPurpose(f"the dialect {NAME} cannot carry this", purpose=type(purpose).__name__)
        self._checkRaw(TCP, purpose)
        return self.raw.endpointFor(visitor)

    def _checkRaw(self, protocol: str, purpose: TCPPurpose | UDPPurpose) -> None:
        """
        @raise UnsupportedPurpose: the tunnel is for something else.
        """
        if self.acceptance.protocol != protocol or RAW not in self.capabilities or purpose.host or purpose.port:
            raise UnsupportedPurpose("the tunnel does not carry this", protocol=protocol)

    def datagramEndpointFor(self, purpose: UDPPurpose, visitor: Visitor | None = None) -> IDatagramClientEndpoint:
        self._refuseIfDraining()
        self._checkRaw(UDP, purpose)
        return self.raw.datagramEndpointFor(visitor)

    def exchange(self, purpose: HTTPPurpose, receiver: IExchangeReceiver, visitor: Visitor | None = None) -> IExchange:
        """
        As in L{ITunnel}.  The agent allows only some of the targets that a purpose may name.
        """
        self._refuseIfDraining()
        if self.acceptance.protocol != HTTP:
            raise UnsupportedPurpose("the tunnel is not for HTTP", protocol=self.acceptance.protocol)
        trace = "" if visitor is None else visitor.trace
        named = (purpose.host or "127.0.0.1", purpose.port) if purpose.port else None
        exchange = GRPCExchange(
            receiver, self, self.traits, requestId=trace if 0 < len(trace.encode()) <= LONGEST_ID else uuid4().hex,
            upstream=self.acceptance.upstreamOf if named is None else lambda head: named,
            visitor=("", "") if visitor is None else (addressText(visitor.address), visitor.scheme),
        )
        self._exchanges.add(exchange)
        return exchange

    def _refuseIfDraining(self) -> None:
        """
        @raise Busy: the tunnel is draining, or lost.
        """
        if self.draining or self._lost:
            raise Busy("The agent of this site is about to stop.")

    def ping(self) -> Deferred[float]:
        if self._lost:
            return fail(self._lost)
        return self.session.ping() if self._unary else self._control.ping()

    def drain(self) -> Deferred[None]:
        if self._lost:
            return succeed(None)
        if not self.draining:
            self.draining = True
            self._control.announceDrain(DRAIN_MS)
            self._retireIdle()
            self._clock.callLater(0, self._checkDrained)
        return self._drained.wait()

    def _agentGoingAway(self, result: object) -> None:
        """
        The connection takes no more calls.  Without C{Register} on it, that means nothing: lanes may come by others.
        """
        if not self._unary:
            self.agentDrains()

    def agentDrains(self) -> None:
        """
        The agent accepts no more work.
        """
        self.draining = True
        self._retireIdle()

    def abort(self, reason: TunnelError | str) -> None:
        code = getattr(reason, "code", None)
        self._control.close(code if isinstance(code, str) else "", str(getattr(reason, "sentence", reason)))
        self.sessionOver(SessionClosed(str(reason)))
        self._resetAll()

    def whenLost(self) -> Deferred[SessionLost]:
        return succeed(self._lost) if self._lost else self._waitingLost.wait()

    # Lanes

    def takeLane(self) -> Deferred[EdgeLane]:
        """
        @return: a C{Deferred} of a lane, see L{IdleLanes.take}.
        """
        return fail(self._lost) if self._lost else self._idle.take()

    def refusal(self) -> CallResult | None:
        """
        @return: why there may not be another lane; C{None} if there may be one.
        """
        if self._lost:
            return CallResult(Status.FAILED_PRECONDITION, "unknown session")
        if len(self._lanes) + len(self.raw) >= self.mostLanes:
            return CallResult(Status.RESOURCE_EXHAUSTED, "the session has as many lanes as it may have")
        return None

    def addLane(self, lane: EdgeLane) -> None:
        """
        The agent has opened a lane.
        """
        self._lanes.add(lane)
        self._stopTimer()
        self._demanded = max(0, self._demanded - 1)
        self.laneIdle(lane)

    def addRawLane(self, call: GRPCCall) -> ICallReceiver:
        """
        The agent has opened a lane for connections.

        @return: its receiver.
        """
        self._stopTimer()
        receiver = self.raw.add(call)
        if self.retiresLanes:
            self.raw.retireIdle()
        return receiver

    def rawLaneOver(self) -> None:
        """
        From a lane for connections: it has ended.
        """
        self._laneGone()

    @property
    def retiresLanes(self) -> bool:
        """
        Whether lanes are not used again.
        """
        return self.draining or self._lost is not None

    def laneIdle(self, lane: EdgeLane) -> None:
        """
        From a lane: it can be used.
        """
        if self.retiresLanes and not self._idle.waiting:
            lane.retire()
        else:
            self._idle.add(lane)

    def laneOver(self, lane: EdgeLane) -> None:
        """
        From a lane: it cannot be used any more.
        """
        self._idle.discard(lane)
        self._lanes.discard(lane)
        self._laneGone()

    def _laneGone(self) -> None:
        if self._unary:
            self._awaitLane()
        if self._lost is not None and not self._lanes and not len(self.raw):
            self._stopTimer()
            self.timer.stop()
        self._checkDrained()

    def _demand(self, waiting: int) -> None:
        if waiting == 1:
            self._demanded = 0
        missing = waiting - self._demanded
        if missing > 0:
            self._demanded += missing
            self._control.demand(missing)

    def demandLanes(self, count: int) -> None:
        """
        From the lanes for connections: so many are missing.
        """
        self._control.demand(count)

    @property
    def timeouts(self) -> Timeouts:
        """
        Of the exchanges.
        """
        return self._bounds.timeouts

    @property
    def responseLimits(self) -> HeadLimits:
        """
        Of the heads of responses.
        """
        return self._bounds.responseLimits

    def configure(self, bounds: ExchangeBounds) -> None:
        """
        Use other bounds for the exchanges that begin from now on.
        """
        self._bounds = bounds

    def exchangeEnded(self, exchange: GRPCExchange) -> None:
        """
        From an exchange: it is over.
        """
        self._exchanges.discard(exchange)
        self._checkDrained()

    # The end

    def registerHalfClosed(self) -> None:
        """
        From C{Register}, which has ended in good order: the session lives as long as it has lanes.
        """
        self._unary = True
        self._awaitLane()

    def _awaitLane(self) -> None:
        if not self._lanes and not len(self.raw) and self._timer is None and self._lost is None:
            lost = SessionLost("the agent has no lane open")
            self._timer = self._clock.callLater(LONELY_SECONDS, self._timerFired, self.sessionOver, lost)

    def sessionOver(self, reason: SessionLost) -> None:
        """
        The session has ended: the exchanges under way may end within L{FINISH_SECONDS}, and no other begins.
        """
        if self._lost is not None:
            return
        self._lost = reason
        self._stopTimer()
        self._onOver(self)
        self._idle.fail(reason)
        self.raw.fail(reason)
        self._retireIdle()
        if self._lanes or len(self.raw):
            self._timer = self._clock.callLater(FINISH_SECONDS, self._timerFired, self._resetAll)
        else:
            self.timer.stop()
        self._waitingLost.fire(reason)
        self._drained.fire(None)

    def _timerFired(self, call: Callable[..., object], *arguments: object) -> None:
        self._timer = None
        call(*arguments)

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _retireIdle(self) -> None:
        for lane in self._idle.lanes():
            lane.retire()
        self.raw.retireIdle()

    def _resetAll(self) -> None:
        self._stopTimer()
        for lane in list(self._lanes):
            lane.end()
        self.raw.reset()

    def _checkDrained(self) -> None:
        if not self.draining or self.inFlight or self._idle.waiting:
            return
        self._retireIdle()
        if self._lost is None and self._drained:
            self._control.close("", "")
            self.sessionOver(SessionClosed("the session was drained"))
