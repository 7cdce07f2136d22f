"""
The edge's end of a session with one of our agents: an L{ITunnel}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint

from tunnelstack.dialect.native.protocol import ABORT_DELAY_SECONDS, NAME, encodePurpose, streamEndpoint
from tunnelstack.dialect.session_tunnel import SessionTunnel
from tunnelstack.errors import Denied, TunnelError
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.interfaces import IExchange, IExchangeReceiver
from tunnelstack.records import HTTPPurpose, Principal, Purpose, Service, Visitor
from tunnelstack.session.yamux import YamuxSession

VISITOR_SECONDS = 15.0
"""Seconds that a stream made for one visitor's connection waits for its next request."""


class NativeTunnel(SessionTunnel):
    """
    A way to one process of an agent.

    @ivar control: the L{ControlServer<tunnelstack.dialect.native.control_server.ControlServer>}, which is told events; set once
        there is one.
    """

    def __init__(
        self,
        session: YamuxSession,
        principal: Principal,
        instance: str,
        *,
        clock: Any,
        timeouts: Timeouts,
        version: str = "",
    ) -> None:
        """
        @param instance: the agent process's own random name.
        @param version: what the agent says it is.
        """
        super().__init__(
            session, principal, dialect=NAME, instance=instance, endpointFor=self._open, clock=clock, timeouts=timeouts
        )
        self.version = version
        self.control: Any = None
        self._perVisitor: set[str] = set()
        self._abortTimer: Any = None

    @property
    def inFlight(self) -> int:
        """
        As in L{ITunnel}; the control stream is not counted.
        """
        return max(0, super().inFlight - (0 if self.control is None else 1))

    # What it carries

    def _open(self, purpose: Purpose, visitor: Visitor | None, wait: bool) -> IStreamClientEndpoint:
        name, parameters = encodePurpose(purpose, visitor)
        return streamEndpoint(self.session.connector, name, parameters, wait=wait)

    def exchange(self, purpose: HTTPPurpose, receiver: IExchangeReceiver, visitor: Visitor | None = None) -> IExchange:
        """
        As in L{ITunnel}.
        """
        if visitor is None or purpose.service not in self._perVisitor:
            return super().exchange(purpose, receiver)
        self.refuseIfDraining()
        exchange: IExchange = self._visitorPool(purpose.service, visitor).exchange(receiver)
        return exchange

    def _visitorPool(self, service: str, visitor: Visitor) -> ExchangePool:
        """
        The stream that belongs to one connection of a visitor.
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
        Drop the pools of visitors that are gone, once they are more than those that are here.
        """
        if len(self._pools) > 2 * self.session.streams + 64:
            gone = [key for key, pool in self._pools.items() if isinstance(key, tuple) and not (pool.idle or pool.inFlight)]
            for key in gone:
                del self._pools[key]

    # What the control stream says

    def servicePublished(self, service: Service) -> None:
        """
        The edge publishes a service of this agent from now on.
        """
        if service.kind == "http" and service.perVisitor != (service.name in self._perVisitor):
            self._discardPools(service.name)        # what is kept was made for the other way
            (self._perVisitor.add if service.perVisitor else self._perVisitor.discard)(service.name)

    def serviceWithdrawn(self, service: Service) -> None:
        """
        The edge publishes it no more: nothing new is asked, what is under way goes on.
        """
        if service.kind == "http":
            self._perVisitor.discard(service.name)
            self._discardPools(service.name)

    def _discardPools(self, service: str) -> None:
        """
        Keep no streams for a service's next exchange.
        """
        shared = HTTPPurpose(service=service)
        for key in [key for key in self._pools if key == shared or (isinstance(key, tuple) and key[0] == service)]:
            self._pools.pop(key).drain()

    # The end

    def drain(self) -> Deferred[None]:
        """
        As in L{ITunnel}: the session is closed when the last stream is done.
        """
        if self._lost:
            return succeed(None)
        if not self.draining:
            self.draining = True
            if self.control is not None:
                self.control.sendEvent("drain")
        drained = self.drainPools().addCallback(self._closeControl)
        return drained.addCallback(lambda _: self.session.drain())

    def _closeControl(self, _: object) -> None:
        if self.control is not None:
            self.control.close()

    def abort(self, reason: Any) -> None:
        """
        As in L{ITunnel}.  The agent is sent the reason; a moment later the connection is closed, whether it has read that or
        not.

        @param reason: text, or a L{TunnelError}, whose C{code} the agent's program can understand.
        """
        if self._lost or self._abortTimer is not None:
            return
        self.draining = True
        if self.control is not None:
            code = reason.code if isinstance(reason, Denied) else "failed"
            said = reason.sentence if isinstance(reason, Denied) else str(reason)
            self.control.sendEvent("ended", code=code, reason=said)
        self._abortTimer = self._clock.callLater(ABORT_DELAY_SECONDS, self.session.abort)

    def _sessionLost(self, reason: TunnelError) -> TunnelError:
        if self._abortTimer is not None and self._abortTimer.active():
            self._abortTimer.cancel()
        return super()._sessionLost(reason)
