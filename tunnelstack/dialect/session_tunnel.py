"""
The edge's end of a session with an agent: an L{ITunnel} for all dialects with sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import TunnelError
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.errors import Busy
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import STREAMED, Traits
from tunnelstack.interfaces import IDatagramClientEndpoint, IExchange, IExchangeReceiver, ISession, ITunnel
from tunnelstack.records import HTTPPurpose, Principal, Purpose, UDPPurpose, Visitor
from tunnelstack.stream.errors import SessionLost

S = TypeVar("S", bound=ISession)


class EndpointFor(Protocol):
    """
    Makes an endpoint for streams of a purpose, as L{ITunnel.endpointFor}.
    """

    def __call__(self, purpose: Purpose, visitor: Visitor | None, wait: bool) -> IStreamClientEndpoint: ...


def explain(reason: Failure) -> str:
    """
    @return: a sentence for a visitor about a stream that could not be opened.
    """
    if reason.check(SessionLost):
        return "The agent of this site is not connected."
    return "The agent of this site accepts no more requests at the moment."


@implementer(ITunnel)
class SessionTunnel(Generic[S]):
    """
    A tunnel to one agent.  Streams for HTTP are kept for further exchanges.

    @ivar session: the session with the agent.
    @ivar draining: no more work is accepted.
    """

    log = Logger()

    def __init__(
        self,
        session: S,
        principal: Principal,
        *,
        dialect: str,
        instance: str,
        endpointFor: EndpointFor,
        clock: IReactorTime,
        bounds: ExchangeBounds,
        explain: Callable[[Failure], str] = explain,
        traits: Traits = STREAMED,
    ) -> None:
        """
        @param dialect: the name of the dialect in logs and status.
        @param instance: the random name of the agent process; C{""} if the dialect has none.
        @param endpointFor: opens streams on the session.
        @param bounds: of exchanges.
        @param explain: returns a sentence for a visitor about a stream that could not be opened.
        @param traits: what exchanges can do whose streams the pools keep.
        """
        self.session = session
        self.principal = principal
        self.key = principal.agent
        self.dialect = dialect
        self.instance = instance
        self.draining = False
        self.healthy = True
        self._endpointFor = endpointFor
        self._clock = clock
        self._bounds = bounds
        self._explain = explain
        self._traits = traits
        self._lost = False
        self._pools: dict[Hashable, ExchangePool] = {}      # by service, or else by purpose
        session.whenGoingAway().addCallback(self._agentGoingAway)
        session.whenLost().addCallback(self._sessionLost)

    @property
    def inFlight(self) -> int:
        # Streams that are kept for further exchanges do not count.
        return max(0, self.session.streams - sum(pool.idle for pool in self._pools.values()))

    # Streams and exchanges

    def endpointFor(self, purpose: Purpose, visitor: Visitor | None = None, *, wait: bool = False) -> IStreamClientEndpoint:
        return self._endpointFor(purpose, visitor, wait)

    def datagramEndpointFor(self, purpose: UDPPurpose, visitor: Visitor | None = None) -> IDatagramClientEndpoint:
        from tunnelstack.stream.datagrams import DatagramStreamEndpoint  # see L{tunnelstack.edge.deferred}

        return DatagramStreamEndpoint(self.endpointFor(purpose, visitor))

    def exchange(self, purpose: HTTPPurpose, receiver: IExchangeReceiver, visitor: Visitor | None = None) -> IExchange:
        if self.draining:
            self.refuseIfDraining()
        key = purpose.service or purpose       # a string has its hash, an object computes it for each exchange
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = self.makePool(self.endpointFor(purpose))
        exchange: IExchange = pool.exchange(receiver)
        return exchange

    def refuseIfDraining(self) -> None:
        """
        @raise Busy: the tunnel is draining.
        """
        if self.draining:
            raise Busy("The agent of this site is about to stop.")

    def makePool(self, endpoint: IStreamClientEndpoint, idleSeconds: float = 60.0) -> ExchangePool:
        """
        @param idleSeconds: seconds that a stream is kept between exchanges.
        @return: a pool of streams for exchanges.
        """
        return ExchangePool(
            endpoint, clock=self._clock, timeouts=self._bounds.timeouts, limits=self._bounds.responseLimits,
            idleSeconds=idleSeconds, maxConnections=self._bounds.streams, explain=self._explain,
            traits=self._traits,
        )

    def ping(self) -> Deferred[float]:
        answer: Deferred[float] = self.session.ping()
        return answer

    # The end

    def drain(self) -> Deferred[None]:
        if self._lost:
            return succeed(None)
        self.refuseMore()
        drained: Deferred[None] = self.drainPools().addCallback(lambda _: self.session.drain())
        return drained

    def refuseMore(self) -> None:
        """
        Refuse the exchanges that would begin from now on.
        """
        self.draining = True
        self.healthy = False

    def drainPools(self) -> Deferred[list[None]]:
        """
        @return: fires when no exchange is under way.
        """
        return gatherResults([pool.drain() for pool in self._pools.values()])

    def _agentGoingAway(self, _: None) -> None:
        """
        The agent accepts no more streams, and waits for the end of those that are open.
        """
        if self.healthy:
            self.drain()

    def abort(self, reason: TunnelError | str) -> None:
        """
        Drop the session at once.

        @param reason: text, or an error.
        """
        self.refuseMore()
        self.session.abort()

    def whenLost(self) -> Deferred[SessionLost]:
        """
        @return: fires with the reason, as a result.
        """
        lost: Deferred[SessionLost] = self.session.whenLost()
        return lost

    def _sessionLost(self, reason: SessionLost) -> SessionLost:
        self._lost = True
        self.healthy = False
        self.drainPools()                     # streams may survive the session
        self._pools.clear()
        return reason
