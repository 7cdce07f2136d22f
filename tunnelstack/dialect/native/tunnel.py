"""
The edge's end of a session with an agent of the native dialect: an L{ITunnel<tunnelstack.interfaces.ITunnel>}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint

from tunnelstack.dialect.native.control_server import ControlServer
from tunnelstack.dialect.native.protocol import ABORT_DELAY_SECONDS, NAME, encodePurpose, streamEndpoint
from tunnelstack.dialect.session_tunnel import SessionTunnel
from tunnelstack.errors import Denied, TunnelError
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.interfaces import IExchange, IExchangeReceiver
from tunnelstack.records import HTTPPurpose, Principal, Purpose, Service, Visitor
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.errors import SessionLost

_NONE: frozenset[str] = frozenset()      # one for all, since few agents have services of this kind

VISITOR_SECONDS = 15.0
"""Seconds that a stream for one visitor's connection is kept between requests."""


class NativeTunnel(SessionTunnel[YamuxSession]):
    """
    A tunnel to one process of an agent.

    @ivar control: sends the agent events; C{None} before the agent has opened its control stream.
    @ivar version: the version that the agent reported.
    """

    def __init__(
        self,
        session: YamuxSession,
        principal: Principal,
        instance: str,
        *,
        clock: IReactorTime,
        bounds: ExchangeBounds,
        version: str = "",
    ) -> None:
        """
        @param instance: the random name of the agent process.
        """
        super().__init__(
            session, principal, dialect=NAME, instance=instance, endpointFor=self._open, clock=clock, bounds=bounds
        )
        self.version = version
        self.control: ControlServer | None = None
        self._perVisitor = _NONE
        self._abortTimer: IDelayedCall | None = None

    @property
    def inFlight(self) -> int:
        # The control stream does not count.
        return max(0, super().inFlight - (0 if self.control is None else 1))

    # Streams and exchanges

    def _open(self, purpose: Purpose, visitor: Visitor | None, wait: bool) -> IStreamClientEndpoint:
        name, parameters = encodePurpose(purpose, visitor)
        return streamEndpoint(self.session.connector, name, parameters, wait=wait)

    def exchange(self, purpose: HTTPPurpose, receiver: IExchangeReceiver, visitor: Visitor | None = None) -> IExchange:
        if visitor is None or purpose.service not in self._perVisitor:
            pool = None if self.draining else self._pools.get(purpose.service)
            return super().exchange(purpose, receiver) if pool is None else pool.exchange(receiver)
        self.refuseIfDraining()
        exchange: IExchange = self._visitorPool(purpose.service, visitor).exchange(receiver)
        return exchange

    def _visitorPool(self, service: str, visitor: Visitor) -> ExchangePool:
        """
        @return: the pool with the stream for one connection of a visitor.
        """
        key = (service, visitor.address)
        pool = self._pools.get(key)
        if pool is None:
            self._discardVisitorPools()
            endpoint = self.endpointFor(HTTPPurpose(service=service), visitor)
            pool = self._pools[key] = self.makePool(endpoint, VISITOR_SECONDS)
        return pool

    def _discardVisitorPools(self) -> None:
        """
        Drop the pools of visitors that have disconnected, once they are more than the others.
        """
        if len(self._pools) > 2 * self.session.streams + 64:
            gone = [key for key, pool in self._pools.items() if isinstance(key, tuple) and not (pool.idle or pool.inFlight)]
            for key in gone:
                del self._pools[key]

    # Requests of the agent

    def servicePublished(self, service: Service) -> None:
        """
        The edge publishes a service of this agent.
        """
        if service.kind == "http" and service.perVisitor != (service.name in self._perVisitor):
            self._discardPools(service.name)        # their streams were opened without, or for, a visitor
            self._perVisitor = self._perVisitor ^ {service.name}

    def serviceWithdrawn(self, service: Service) -> None:
        """
        The edge no longer publishes a service: no exchange begins, those under way continue.
        """
        if service.kind == "http":
            self._perVisitor = self._perVisitor - {service.name}
            self._discardPools(service.name)

    def _discardPools(self, service: str) -> None:
        """
        Keep no streams for further exchanges of a service.
        """
        for key in [key for key in self._pools if key == service or (isinstance(key, tuple) and key[0] == service)]:
            self._pools.pop(key).drain()

    # The end

    def drain(self) -> Deferred[None]:
        if self._lost:
            return succeed(None)
        if not self.draining:
            self.refuseMore()
            if self.control is not None:
                self.control.sendEvent("drain")
        drained = self.drainPools().addCallback(self._closeControl)
        return drained.addCallback(lambda _: self.session.drain())

    def _closeControl(self, _: object) -> None:
        if self.control is not None:
            self.control.stream.close()

    def abort(self, reason: TunnelError | str) -> None:
        """
        Send the agent the reason, and close the connection L{ABORT_DELAY_SECONDS} later, whether the agent has read it or not.

        @param reason: text, or an error; the agent is also sent the C{code} of a L{Denied}.
        """
        if self._lost or self._abortTimer is not None:
            return
        self.refuseMore()
        if self.control is not None:
            code = reason.code if isinstance(reason, Denied) else "failed"
            sentence = reason.sentence if isinstance(reason, Denied) else str(reason)
            self.control.sendEvent("ended", code=code, reason=sentence)
        self._abortTimer = self._clock.callLater(ABORT_DELAY_SECONDS, self.session.abort)

    def _sessionLost(self, reason: SessionLost) -> SessionLost:
        if self._abortTimer is not None and self._abortTimer.active():
            self._abortTimer.cancel()
        return super()._sessionLost(reason)
