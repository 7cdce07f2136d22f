"""
The edge's end of a session with a ShellHub agent of either version: an L{ITunnel<tunnelstack.interfaces.ITunnel>}.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import Denied, TunnelError
from tunnelstack.exchange.errors import Busy
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.interfaces import ITunnel
from tunnelstack.negotiation.errors import NegotiationRefused
from tunnelstack.records import HTTPPurpose, Principal, Purpose, SSHPurpose, TCPPurpose, Visitor
from tunnelstack.session.revdial.dialler import RevdialDialler
from tunnelstack.stream.errors import SessionLost, UnsupportedPurpose
from tunnelstack.transport.host_endpoint import connectTimedOut
from tunnelstack.wire.records.shellhub import HANDSHAKE, HTTPProxy, SSHClose, SSHOpen, Target

LOCALHOST = "127.0.0.1"
"""The device itself, as its agent dials it."""


@implementer(ITunnel)
class DeviceTunnel:
    """
    A way to one device.

    @ivar device: what is known of it.
    @ivar session: the L{ISession<tunnelstack.interfaces.ISession>}.
    @ivar draining: it takes no more work.
    """

    log = Logger()

    def __init__(
        self,
        dialect: str,
        device: Any,
        session: Any,
        streamEndpoint: Callable[[Target], IStreamClientEndpoint],
        *,
        clock: Any,
        timeouts: Timeouts,
    ) -> None:
        """
        @param streamEndpoint: how streams for a target are opened on this session.
        """
        self.dialect = dialect
        self.device = device
        self.session = session
        self.principal = Principal(agent=device.agent, tenant=device.tenant)
        self.key = device.agent
        self.instance = device.uid
        self.draining = False
        self._streamEndpoint = streamEndpoint
        self._clock = clock
        self._timeouts = timeouts
        self._lost = False
        self._pools: dict[tuple[str, int], ExchangePool] = {}
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
        return max(0, int(self.session.streams) - sum(pool.idle for pool in self._pools.values()))

    # What it carries

    def targetEndpoint(self, target: Target) -> IStreamClientEndpoint:
        """
        How to open a stream for a target.  It connects within L{HANDSHAKE} seconds.
        """
        return _TimedEndpoint(self._streamEndpoint(target), self._clock)

    def endpointFor(self, purpose: Purpose, visitor: Visitor | None = None, *, wait: bool = False) -> IStreamClientEndpoint:
        """
        As in L{ITunnel}.

        @param wait: connect only once the agent has said that it knows what this is about, as is always done here.
        """
        match purpose:
            case SSHPurpose(id=identifier):
                return self.targetEndpoint(SSHOpen(identifier or token_hex(32)))
            case HTTPPurpose(host=host, port=port) | TCPPurpose(host=host, port=port) if port:
                request = visitor.trace if visitor is not None and visitor.trace else token_hex(8)
                return self.targetEndpoint(HTTPProxy(host or LOCALHOST, port, request))
        raise UnsupportedPurpose(f"the dialect {self.dialect} cannot carry this", purpose=type(purpose).__name__)

    def exchange(self, purpose: Purpose, receiver: Any, visitor: Visitor | None = None) -> Any:
        """
        As in L{ITunnel}.
        """
        if self.draining:
            raise Busy("The agent of this site is about to stop.")
        where = (purpose.host, purpose.port) if isinstance(purpose, HTTPPurpose) else ("", 0)
        pool = self._pools.get(where)
        if pool is None:
            pool = self._pools[where] = ExchangePool(
                self.endpointFor(purpose), clock=self._clock, timeouts=self._timeouts, explain=_explain,
            )
        return pool.exchange(receiver)

    def closeSession(self, session: str) -> Deferred[None]:
        """
        Ask the agent to end the stream of an SSH session; it does not say whether there was one.

        @return: fires once it has been asked.
        """
        asked: Deferred[Any] = self.targetEndpoint(SSHClose(session)).connect(Factory.forProtocol(_CloseRequestProtocol))
        return asked.addCallback(lambda _: None)

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
        drained = gatherResults([pool.drain() for pool in self._pools.values()])
        return drained.addCallback(lambda _: self.session.drain())

    def abort(self, reason: Any) -> None:
        """
        As in L{ITunnel}.  There is no word that would tell the agent why; and where streams are connections of their own, those
        of an agent that has come again go on.
        """
        self.draining = True
        if isinstance(self.session, RevdialDialler) and isinstance(reason, Denied) and reason.code == "replaced":
            self.session.close(reason.sentence)
        else:
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


@implementer(IStreamClientEndpoint)
class _TimedEndpoint:
    """
    Bounds the time of an opening, and marks streams whose far end has no halves.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, clock: Any) -> None:
        self._endpoint = endpoint
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        As in L{IStreamClientEndpoint}.
        """
        opened: Deferred[Any] = self._endpoint.connect(protocolFactory)
        opened.addTimeout(HANDSHAKE, self._clock, connectTimedOut)
        return opened.addCallback(_withoutHalfClose)


def _withoutHalfClose(protocol: Any) -> Any:
    protocol.transport.endsBothDirections = True
    return protocol


class _CloseRequestProtocol(Protocol):
    """
    Everything is said; genuine agents end their half when they have done it.
    """

    transport: Any

    def connectionMade(self) -> None:
        """
        End ours.
        """
        self.transport.loseConnection()


def _explain(reason: Failure) -> str:
    """
    One sentence for a visitor about a stream that could not be opened.
    """
    if reason.check(SessionLost):
        return "The agent of this site is not connected."
    if reason.check(NegotiationRefused):
        return "The device cannot reach this site's server."
    return "The agent of this site does not answer."
