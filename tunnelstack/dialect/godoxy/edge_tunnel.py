"""
The edge's way to one agent that it has dialled: streams over TLS, flows over DTLS, and exchanges through the agent's API.
"""

from __future__ import annotations

from functools import partial

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from tunnelstack.dialect.godoxy.edge_api import AgentAPI
from tunnelstack.dialect.godoxy.edge_dialler import AgentDialler
from tunnelstack.dialect.godoxy.edge_flows import DestinationEndpoint, FlowCounts
from tunnelstack.dialect.godoxy.edge_proxy import proxyHead, proxyTarget
from tunnelstack.dialect.godoxy.edge_settings import ServiceSettings, parseAddress
from tunnelstack.dialect.session_tunnel import SessionTunnel
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.errors import Busy
from tunnelstack.exchange.head_first import HeadFirstExchange
from tunnelstack.exchange.traits import Traits
from tunnelstack.interfaces import IDatagramClientEndpoint, IExchange, IExchangeReceiver, ISession
from tunnelstack.negotiation.endpoint import NegotiatingEndpoint
from tunnelstack.records import HTTPPurpose, Principal, Purpose, TCPPurpose, UDPPurpose, Visitor
from tunnelstack.stream.errors import SessionLost, UnsupportedPurpose
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.negotiation.fixed_head import FixedHeadInitiator
from tunnelstack.wire.records.godoxy import StreamHeader, encode_header
from tunnelstack.wire.records.godoxy_api import AgentInfo, ProxyTarget, read_version

NAME = "godoxy"

REALM = "godoxy"
"""The realm of the principals of agents: the edge dials them, so no credential of the edge is theirs."""

MISSES = 2
"""Failed probes in a row after which what worked before counts as lost."""

TRAITS = Traits(halfClose=False)
"""Of exchanges through the agent's API: its connections are TLS, whose end is the end of both directions."""

HANDSHAKES = 64
"""DTLS handshakes with one agent that may be under way.  The addresses of visitors may be forged, and each new one costs a
handshake of both sides; what comes meanwhile from further visitors is dropped."""

MACHINE = "127.0.0.1"
"""The agent's own machine."""


@define
class Capability:
    """
    Whether an agent carries streams of one kind.

    @ivar works: the last probes succeeded.
    @ivar reason: why not; C{""} if it works, or was not examined yet.
    """

    works: bool = False
    reason: str = ""
    _misses: int = 0

    def probed(self, reason: str = "") -> None:
        """
        @param reason: why a probe has failed; C{""} for one that has succeeded.
        """
        self._misses = self._misses + 1 if reason else 0
        if not reason or self._misses >= MISSES or not self.works:
            self.works, self.reason = not reason, reason


def principalFor(agent: str) -> Principal:
    """
    @param agent: its name on the edge.
    """
    return Principal(agent=agent, allow=("http:*", "tcp:*", "udp:*"), realm=REALM)


class DialledTunnel(SessionTunnel[ISession]):
    """
    A tunnel to one agent.

    @ivar info: what the agent has reported of itself.
    @ivar services: what is published of the agent, by name.
    @ivar streams: whether it carries streams over TLS.
    @ivar datagrams: whether it carries datagrams over DTLS.
    @ivar flows: counts the flows of datagrams.
    """

    def __init__(
        self,
        name: str,
        session: ISession,
        dialler: AgentDialler,
        api: AgentAPI,
        info: AgentInfo,
        *,
        clock: IReactorTime,
        bounds: ExchangeBounds,
    ) -> None:
        """
        @param name: of the agent on the edge.
        @param session: opens streams to the agent.
        """
        super().__init__(
            session, principalFor(name), dialect=NAME, instance="", endpointFor=self._open, clock=clock, bounds=bounds,
            explain=_explain,
        )
        self.info = info
        self.services: dict[str, ServiceSettings] = {}
        self.streams = Capability()
        self.datagrams = Capability()
        self.flows = FlowCounts()
        self._dialler = dialler
        self._api = api
        self._proxy = self._pools[HTTPPurpose()] = self.makePool(dialler.https)

    @property
    def version(self) -> str:
        """
        The version that the agent reports.
        """
        return self.info.version

    @property
    def inFlight(self) -> int:
        return self.session.streams + self.flows.flows + self._proxy.inFlight

    def configure(self, bounds: ExchangeBounds) -> None:
        """
        Use other bounds for the exchanges that begin from now on.
        """
        self._proxy.configure(bounds.timeouts, bounds.responseLimits)

    # Streams and flows

    def _open(self, purpose: Purpose, visitor: Visitor | None, wait: bool) -> IStreamClientEndpoint:
        self.refuseIfDraining()
        if not isinstance(purpose, TCPPurpose):
            raise UnsupportedPurpose(f"the dialect {NAME} cannot carry this", purpose=type(purpose).__name__)
        if not self.streams.works:
            raise UnsupportedPurpose("the agent does not carry streams", reason=self.streams.reason)
        host, port = self._destination(purpose, "tcp")
        header = encode_header(StreamHeader(host, str(port)))
        return NegotiatingEndpoint(self.session.connector, lambda: FixedHeadInitiator(b"tcp", header))

    def datagramEndpointFor(self, purpose: UDPPurpose, visitor: Visitor | None = None) -> IDatagramClientEndpoint:
        self.refuseIfDraining()
        if not self.datagrams.works:
            raise UnsupportedPurpose("the agent does not carry datagrams", reason=self.datagrams.reason)
        if self.flows.handshakes >= HANDSHAKES:
            raise Busy()
        host, port = self._destination(purpose, "udp")
        return DestinationEndpoint(self._dialler.datagrams, host, port, self.flows)

    def _destination(self, purpose: TCPPurpose | UDPPurpose, kind: str) -> tuple[str, int]:
        """
        @return: the host and the port that the agent connects to.
        @raise UnsupportedPurpose: nothing of the kind is published under the name.
        """
        if not purpose.service:
            return purpose.host or MACHINE, purpose.port
        service = self.services.get(purpose.service)
        if service is None or service.kind != kind:
            raise UnsupportedPurpose(f"the agent has no {kind} service of this name", service=purpose.service)
        return parseAddress(service.target)

    # Exchanges

    def exchange(self, purpose: HTTPPurpose, receiver: IExchangeReceiver, visitor: Visitor | None = None) -> IExchange:
        """
        As in L{ITunnel<tunnelstack.interfaces.ITunnel>}.  The agent forwards the request.
        """
        self.refuseIfDraining()
        prepare = partial(self._prepare, self._target(purpose))
        return HeadFirstExchange(receiver, lambda head: self._proxy.exchange(receiver), TRAITS, prepare)

    def _prepare(self, target: ProxyTarget, head: RequestHead) -> RequestHead:
        return proxyHead(head, target, read_version(self.info.version))

    def _target(self, purpose: HTTPPurpose) -> ProxyTarget:
        if purpose.host or purpose.port:
            host = purpose.host or MACHINE
            return ProxyTarget(host=f"[{host}]:{purpose.port}" if ":" in host else f"{host}:{purpose.port}")
        service = self.services.get(purpose.service)
        if service is None or service.kind != "http":
            raise UnsupportedPurpose("the agent has no web service of this name", service=purpose.service)
        return proxyTarget(service)

    def _sessionLost(self, reason: SessionLost) -> SessionLost:
        self._proxy.close()
        return super()._sessionLost(reason)

    def ping(self) -> Deferred[float]:
        """
        The round trip of a request to the agent's API.
        """
        return Deferred.fromCoroutine(self._ping())

    async def _ping(self) -> float:
        began = self._clock.seconds()
        await self._api.info()
        return self._clock.seconds() - began


def _explain(reason: Failure) -> str:
    """
    A sentence for visitors; the log has the reason.
    """
    return "The agent of this site cannot be reached."
