"""
The edge's end of a session with one of our agents: an L{ITunnel}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.native.protocol import ABORT_DELAY_SECONDS, NAME, encodePurpose, streamEndpoint
from tunnelstack.errors import Denied, TunnelError
from tunnelstack.exchange.errors import Busy
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.interfaces import ITunnel
from tunnelstack.records import HTTPPurpose, Principal, Purpose, Service, Visitor
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.errors import SessionLost

VISITOR_SECONDS = 15.0
"""Seconds that a stream made for one visitor's connection waits for its next request."""


@implementer(ITunnel)
class NativeTunnel:
    """
    A way to one process of an agent.

    @ivar session: the L{YamuxSession}.
    @ivar control: the L{ControlServer<tunnelstack.dialect.native.control_server.ControlServer>}, which is told events; set once
        there is one.
    @ivar draining: it takes no more work.
    """

    dialect = NAME
    log = Logger()

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
        self.session = session
        self.principal = principal
        self.instance = instance
        self.version = version
        self.key = principal.agent
        self.draining = False
        self.control: Any = None
        self._clock = clock
        self._timeouts = timeouts
        self._lost = False
        self._pools: dict[Any, ExchangePool] = {}      # by service, or by service and visitor
        self._perVisitor: set[str] = set()
        self._abortTimer: Any = None
        session.whenLost().addCallback(self._sessionLost)

    @property
    def healthy(self) -> bool:
        """
        As in L{ITunnel}.
        """
        return not (self.draining or self._lost)

    @property
    def inFlight(self) -> int:
        """
        As in L{ITunnel}: streams that are doing something.
        """
        idle = sum(pool.idle for pool in self._pools.values())
        return max(0, self.session.streams - idle - (0 if self.control is None else 1))

    # What it carries

    def endpointFor(self, purpose: Purpose, visitor: Visitor | None = None, *, wait: bool = False) -> IStreamClientEndpoint:
        """
        As in L{ITunnel}.

        @param wait: connect only once the agent has said that it knows what this is about.
        """
        name, parameters = encodePurpose(purpose, visitor)
        return streamEndpoint(self.session.connector, name, parameters, wait=wait)

    def exchange(self, purpose: Purpose, receiver: Any, visitor: Visitor | None = None) -> Any:
        """
        As in L{ITunnel}.
        """
        if self.draining:
            raise Busy("The agent of this site is about to stop.")
        service = purpose.service if isinstance(purpose, HTTPPurpose) else ""
        if service in self._perVisitor and visitor is not None:
            return self._visitorPool(service, visitor).exchange(receiver)
        pool = self._pools.get(service)
        if pool is None:
            pool = self._pools[service] = self._makePool(self.endpointFor(purpose))
        return pool.exchange(receiver)

    def _makePool(self, endpoint: IStreamClientEndpoint, idleSeconds: float = 60.0) -> ExchangePool:
        return ExchangePool(endpoint, clock=self._clock, timeouts=self._timeouts, idleSeconds=idleSeconds, explain=_explain)

    def _visitorPool(self, service: str, visitor: Visitor) -> ExchangePool:
        """
        The stream that belongs to one connection of a visitor.
        """
        key = (service, visitor.address)
        pool = self._pools.get(key)
        if pool is None:
            self._discardVisitorPools()
            pool = self._pools[key] = self._makePool(self.endpointFor(HTTPPurpose(service=service), visitor), VISITOR_SECONDS)
        return pool

    def _discardVisitorPools(self) -> None:
        """
        Drop the pools of those who went, once they are more than those who are here.
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
        for key in [key for key in self._pools if key == service or (isinstance(key, tuple) and key[0] == service)]:
            self._pools.pop(key).drain()

    def ping(self) -> Deferred[float]:
        """
        The round trip in seconds.
        """
        return self.session.ping()

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
        drained = gatherResults([pool.drain() for pool in self._pools.values()])
        drained.addCallback(self._closeControl)
        return drained.addCallback(lambda _: self.session.drain())

    def _closeControl(self, _: object) -> None:
        if self.control is not None:
            self.control.close()

    def abort(self, reason: Any) -> None:
        """
        As in L{ITunnel}.  The agent is told why; a moment later the connection is gone, whether it has read that or not.

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

    def whenLost(self) -> Deferred[SessionLost]:
        """
        As in L{ITunnel}; fires with the reason.
        """
        return self.session.whenLost()

    def _sessionLost(self, reason: TunnelError) -> TunnelError:
        self._lost = True
        if self._abortTimer is not None and self._abortTimer.active():
            self._abortTimer.cancel()
        self._pools.clear()
        return reason


def _explain(reason: Failure) -> str:
    """
    One sentence for a visitor about a stream that could not be opened.
    """
    if reason.check(SessionLost):
        return "The agent of this site is not connected."
    return "The agent of this site takes no more requests at the moment."
