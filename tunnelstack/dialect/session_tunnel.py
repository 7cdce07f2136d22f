"""
The edge's end of a session with an agent: an L{ITunnel} for every dialect whose agents have sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import TunnelError
from tunnelstack.exchange.errors import Busy
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.interfaces import IExchange, IExchangeReceiver, ITunnel
from tunnelstack.records import HTTPPurpose, Principal, Purpose, Visitor
from tunnelstack.stream.errors import SessionLost


class EndpointFor(Protocol):
    """
    Gives an endpoint for streams of a purpose, as L{ITunnel.endpointFor}.
    """

    def __call__(self, purpose: Purpose, visitor: Visitor | None, wait: bool) -> IStreamClientEndpoint: ...


def explain(reason: Failure) -> str:
    """
    @return: one sentence for a visitor about a stream that could not be opened.
    """
    if reason.check(SessionLost):
        return "The agent of this site is not connected."
    return "The agent of this site takes no more requests at the moment."


@implementer(ITunnel)
class SessionTunnel:
    """
    A way to one agent.  Streams for HTTP are kept for the next exchange.

    @ivar session: the L{ISession}.
    @ivar draining: it takes no more work.
    """

    log = Logger()

    def __init__(
        self,
        session: Any,
        principal: Principal,
        *,
        dialect: str,
        instance: str,
        endpointFor: EndpointFor,
        clock: Any,
        timeouts: Timeouts,
        explain: Callable[[Failure], str] = explain,
    ) -> None:
        """
        @param dialect: its name, in logs and status.
        @param instance: the agent process's own random name; C{""} where the dialect has none.
        @param endpointFor: opens streams on the session.
        @param timeouts: of exchanges.
        @param explain: gives one sentence for a visitor about a stream that could not be opened.
        """
        self.session = session
        self.principal = principal
        self.key = principal.agent
        self.dialect = dialect
        self.instance = instance
        self.draining = False
        self._endpointFor = endpointFor
        self._clock = clock
        self._timeouts = timeouts
        self._explain = explain
        self._lost = False
        self._pools: dict[Hashable, ExchangePool] = {}      # by purpose
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
        As in L{ITunnel}: streams that are not idle.
        """
        return max(0, self.session.streams - sum(pool.idle for pool in self._pools.values()))

    # What it carries

    def endpointFor(self, purpose: Purpose, visitor: Visitor | None = None, *, wait: bool = False) -> IStreamClientEndpoint:
        """
        As in L{ITunnel}.
        """
        return self._endpointFor(purpose, visitor, wait)

    def exchange(self, purpose: HTTPPurpose, receiver: IExchangeReceiver, visitor: Visitor | None = None) -> IExchange:
        """
        As in L{ITunnel}.
        """
        self.refuseIfDraining()
        pool = self._pools.get(purpose)
        if pool is None:
            pool = self._pools[purpose] = self.makePool(self.endpointFor(purpose))
        exchange: IExchange = pool.exchange(receiver)
        return exchange

    def refuseIfDraining(self) -> None:
        """
        @raise Busy: no exchange can begin.
        """
        if self.draining:
            raise Busy("The agent of this site is about to stop.")

    def makePool(self, endpoint: IStreamClientEndpoint, idleSeconds: float = 60.0) -> ExchangePool:
        """
        @param idleSeconds: seconds that a stream waits for the next exchange.
        """
        return ExchangePool(
            endpoint, clock=self._clock, timeouts=self._timeouts, idleSeconds=idleSeconds, explain=self._explain
        )

    def ping(self) -> Deferred[float]:
        """
        As in L{ITunnel}.
        """
        answer: Deferred[float] = self.session.ping()
        return answer

    # The end

    def drain(self) -> Deferred[None]:
        """
        As in L{ITunnel}: the session is closed when the last stream is done.
        """
        if self._lost:
            return succeed(None)
        self.draining = True
        drained: Deferred[None] = self.drainPools().addCallback(lambda _: self.session.drain())
        return drained

    def drainPools(self) -> Deferred[Any]:
        """
        @return: fires when no exchange is under way.
        """
        return gatherResults([pool.drain() for pool in self._pools.values()])

    def abort(self, reason: Any) -> None:
        """
        As in L{ITunnel}.
        """
        self.draining = True
        self.session.abort()

    def whenLost(self) -> Deferred[SessionLost]:
        """
        As in L{ITunnel}; fires with the reason.
        """
        lost: Deferred[SessionLost] = self.session.whenLost()
        return lost

    def _sessionLost(self, reason: TunnelError) -> TunnelError:
        self._lost = True
        self._pools.clear()
        return reason
