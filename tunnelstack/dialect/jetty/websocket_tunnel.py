"""
The edge's way to one agent over a WebSocket.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from zope.interface import implementer

from tunnelstack.dialect.jetty.registration import NAME, TCP, UDP, Acceptance, UpstreamOf
from tunnelstack.dialect.jetty.websocket_channel import GOING_AWAY, POLICY, FrameChannel
from tunnelstack.dialect.jetty.websocket_datagrams import EdgeFlows
from tunnelstack.dialect.jetty.websocket_exchange import EdgeExchange
from tunnelstack.dialect.jetty.websocket_requests import OutOfOrder, RequestTable, TableFull
from tunnelstack.dialect.jetty.websocket_session import QUEUED_OCTETS, JSONSession
from tunnelstack.dialect.jetty.websocket_streams import VISITOR_CLOSED, RawStreams
from tunnelstack.errors import Refused, TunnelError
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.errors import Busy, FailureKind
from tunnelstack.exchange.stream_client import HeldBodies
from tunnelstack.exchange.traits import Traits
from tunnelstack.interfaces import IDatagramClientEndpoint, IExchange, IExchangeReceiver, ITunnel
from tunnelstack.records import HTTPPurpose, Purpose, TCPPurpose, UDPPurpose, Visitor
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionLost, UnsupportedPurpose
from tunnelstack.wire.records.jetty import (
    BODY_LIMIT,
    CANCEL,
    IDLE_SECONDS,
    MOST_REQUESTS,
    MULTIPLE_VALUES,
    PING_SECONDS,
    RAW,
    STOCK_BODY_LIMIT,
    STOCK_IDLE_SECONDS,
    STREAM_REQUEST,
    UPGRADE,
    Cancel,
    Frame,
    HTTPResponse,
    RegistrationError,
    ResponseChunk,
    ResponseEnd,
    ResponseStart,
)
from tunnelstack.wire.records.jetty_frames import BadFrame

STOCK_FIRST_SECONDS = 5.0
"""Seconds in addition for a stock agent to answer: it has a limit of its own, after which it sends an error."""


@frozen(kw_only=True)
class TunnelSettings:
    """
    What a tunnel needs of its edge.

    @ivar bounds: gives the bounds of exchanges at present.
    @ivar stopping: whether the edge stops: only then does a notice of the end request that the agent connects elsewhere.
        A single tunnel that ends has a successor.
    @ivar identifier: makes identifiers of requests.
    """

    clock: IReactorTime
    bounds: Callable[[], ExchangeBounds]
    stopping: Callable[[], bool] = lambda: False
    identifier: Callable[[], str] = lambda: token_hex(16)


class EdgeRequests:
    """
    The exchanges of an edge with one agent, and the L{Role<tunnelstack.dialect.jetty.websocket_session.Role>} of the edge.

    @ivar table: the state of all requests.
    @ivar stock: the agent announced no capabilities.
    @ivar traits: what it can carry.
    @ivar bodies: counts bodies that are held until they are complete.
    """

    session: JSONSession
    streams: RawStreams
    datagrams: EdgeFlows

    def __init__(self, settings: TunnelSettings, capabilities: frozenset[str], *, stock: bool) -> None:
        self._settings = settings
        self._capabilities = capabilities
        self.stock = stock
        self.table: RequestTable[EdgeExchange] = RequestTable(awaiting=1 if stock else MOST_REQUESTS)
        self.bodies = HeldBodies(QUEUED_OCTETS)
        upgrade = UPGRADE in capabilities
        self.traits = Traits(
            streamed=STREAM_REQUEST in capabilities, largestBody=STOCK_BODY_LIMIT if stock else BODY_LIMIT,
            repeated=MULTIPLE_VALUES in capabilities, trailers=False, informational=False, upgrade=upgrade, halfClose=upgrade,
        )

    @property
    def bounds(self) -> ExchangeBounds:
        return self._settings.bounds()

    @property
    def firstSeconds(self) -> float:
        return self.bounds.firstOctetSeconds + (STOCK_FIRST_SECONDS if self.stock else 0.0)

    def begin(self, receiver: IExchangeReceiver, upstream: UpstreamOf) -> EdgeExchange:
        """
        Begin an exchange.

        @raise Busy: there are too many, or the agent reads too slowly.
        """
        if self.session.channel.queued > QUEUED_OCTETS:
            raise Busy()
        settings = self._settings
        exchange = EdgeExchange(self, settings.identifier(), receiver, settings.clock, upstream)
        try:
            self.table.add(exchange.identifier, exchange)
        except TableFull:
            raise Busy() from None
        self.session.memberBegun(exchange)
        return exchange

    # From exchanges

    def submit(self, exchange: EdgeExchange) -> None:
        self.table.submit(exchange.identifier)
        self._sendNext()

    def leave(self, exchange: EdgeExchange, kind: FailureKind) -> None:
        notify = CANCEL in self._capabilities
        slot = 0.0 if notify else self.firstSeconds
        if self.table.leave(exchange.identifier, self._settings.clock.seconds(), slot) and notify:
            self.session.channel.send(Cancel(request_id=exchange.identifier, reason=kind.name.lower()))
        self._sendNext()

    def finish(self, exchange: EdgeExchange) -> None:
        self.table.finish(exchange.identifier)
        self._sendNext()

    def _sendNext(self) -> None:
        """
        Send the requests whose turn has come.  Their bodies are bounded while they wait, and not once they are in the queue of
        an agent that does not read.
        """
        channel = self.session.channel
        while channel.queued <= QUEUED_OCTETS and (exchange := self.table.takeNext()) is not None:
            exchange.sendRequest()

    # From the session

    def frameReceived(self, frame: Frame) -> None:
        """
        A frame of the agent.
        """
        try:
            self._dispatch(frame)
        except OutOfOrder as wrong:
            owner = wrong.owner
            if isinstance(owner, EdgeExchange):
                owner.violated(str(wrong))
        self._sendNext()

    def _dispatch(self, frame: Frame) -> None:
        """
        @raise OutOfOrder: it cannot follow what came before.
        """
        table = self.table
        match frame:
            case HTTPResponse() | ResponseStart() if frame.status < 200 and frame.status != 101:
                self.session.channel.ignored += 1      # there are no interim responses
            case HTTPResponse():
                if (exchange := table.whole(frame.request_id)) is not None:
                    exchange.responseReceived(frame)
            case ResponseStart():
                if (exchange := table.start(frame.request_id, frame.status == 101)) is not None:
                    exchange.responseBegun(frame)
            case ResponseChunk():
                if (exchange := table.chunk(frame.request_id)) is not None:
                    exchange.bodyReceived(frame.data)
            case ResponseEnd():
                if (exchange := table.end(frame.request_id)) is not None:
                    exchange.responseEnded()
            case Cancel():
                if (exchange := table.failed(frame.request_id)) is not None:
                    exchange.agentGaveUp(frame.reason)
            case _:
                self.session.channel.ignored += 1

    def badFrameReceived(self, bad: BadFrame) -> None:
        """
        A frame has a wrong member: only its exchange or connection fails.
        """
        self.session.channel.ignored += 1
        if bad.type.startswith("http_"):
            exchange = self.table.failed(bad.identifier)
            if exchange is not None:
                exchange.violated(str(bad.args[0]))
                self._sendNext()
        else:
            self.streams.badFrameReceived(bad)

    def writesResumed(self) -> None:
        """
        The agent reads again.
        """
        self._sendNext()

    def expire(self, now: float) -> None:
        """
        Give slots back that agents took which did not answer.
        """
        self.table.expire(now)
        self._sendNext()

    def lost(self, reason: SessionLost) -> None:
        """
        The agent is gone.  Responses that are complete are not in the table any more, and are still delivered.
        """
        for exchange in self.table.clear():
            exchange.sessionLost(reason)
        self.datagrams.close(reason)


@implementer(ITunnel)
class WebSocketTunnel:
    """
    A tunnel to one agent.

    @ivar session: the session.
    @ivar requests: its exchanges.
    """

    dialect = NAME

    def __init__(
        self, channel: FrameChannel, acceptance: Acceptance, settings: TunnelSettings, *, stock: bool, peer: IAddress | None,
    ) -> None:
        """
        @param channel: is open; its C{capabilities} are those that were agreed.
        @param stock: the agent announced no capabilities.
        """
        capabilities = channel.capabilities
        self.principal = acceptance.principal
        self.key = acceptance.principal.agent
        self.instance = acceptance.instance
        self._protocol = acceptance.protocol
        self._upstreamOf = acceptance.upstreamOf
        self._channel = channel
        self.requests = requests = EdgeRequests(settings, capabilities, stock=stock)
        address = StreamAddress(key=self.key, principal=self.principal, dialect=NAME, peer=peer)
        self.session = session = JSONSession(
            settings.clock, channel, address, requests, pingSeconds=PING_SECONDS,
            silentSeconds=STOCK_IDLE_SECONDS if stock else IDLE_SECONDS, reconnect=settings.stopping,
        )
        session.whenGoingAway().addCallback(self._agentGoingAway)
        requests.session = session
        requests.streams = RawStreams(session, accepts=False, reason=VISITOR_CLOSED)
        requests.datagrams = EdgeFlows(session)

    @property
    def healthy(self) -> bool:
        session = self.session
        return not (
            session.draining or session.peerDraining or session.isLost or self._channel.queued > QUEUED_OCTETS
        )

    @property
    def inFlight(self) -> int:
        return self.session.streams

    # Work

    def exchange(self, purpose: HTTPPurpose, receiver: IExchangeReceiver, visitor: Visitor | None = None) -> IExchange:
        """
        As in L{ITunnel}.  A purpose with a host and a port makes the agent use that server, if it allows it.
        """
        self._refuseIfDraining()
        if self._protocol in (TCP, UDP):
            raise UnsupportedPurpose(f"this is a tunnel for {self._protocol}")
        if bool(purpose.host) != bool(purpose.port):
            raise UnsupportedPurpose("a server needs a host and a port", host=purpose.host, port=purpose.port)
        named = (purpose.host, purpose.port) if purpose.host else None
        return self.requests.begin(receiver, self._upstreamOf if named is None else lambda head: named)

    def endpointFor(self, purpose: Purpose, visitor: Visitor | None = None, *, wait: bool = False) -> IStreamClientEndpoint:
        """
        As in L{ITunnel}.  Agents accept no connection and reject none, so there is nothing to wait for.
        """
        self._refuseIfDraining()
        if not isinstance(purpose, TCPPurpose) or purpose.host or purpose.port:
            raise UnsupportedPurpose(f"the dialect {NAME} cannot carry this", purpose=type(purpose).__name__)
        self._checkRaw(TCP)
        return self.session.connector

    def datagramEndpointFor(self, purpose: UDPPurpose, visitor: Visitor | None = None) -> IDatagramClientEndpoint:
        self._refuseIfDraining()
        if purpose.host or purpose.port:
            raise UnsupportedPurpose("agents have one target for datagrams", host=purpose.host, port=purpose.port)
        self._checkRaw(UDP)
        return self.requests.datagrams.endpointFor(visitor)

    def _checkRaw(self, protocol: str) -> None:
        """
        Stock agents take frames of connections in tunnels for these only.

        @raise UnsupportedPurpose: the agent does not take them.
        """
        if self._protocol != protocol or not (self.requests.stock or RAW in self._channel.capabilities):
            raise UnsupportedPurpose(f"this tunnel does not carry {protocol}", protocol=self._protocol)

    def _refuseIfDraining(self) -> None:
        """
        @raise Busy: the tunnel is draining.
        """
        if self.session.draining or self.session.peerDraining or self.session.isLost:
            raise Busy("The agent of this site is about to stop.")

    def ping(self) -> Deferred[float]:
        return self.session.ping()

    # The end

    def _agentGoingAway(self, result: None) -> None:
        """
        The agent waits for this side to close when no work is under way; or it is lost.
        """
        if not self.session.isLost:
            self.session.drain()

    def drain(self) -> Deferred[None]:
        return self.session.drain()

    def abort(self, reason: TunnelError | str) -> None:
        """
        As in L{ITunnel}.  An agent that reads receives the reason.
        """
        text = str(reason if isinstance(reason, str) else reason.args[0])
        session = self.session
        if self._channel.full:
            session.abort()
        elif isinstance(reason, Refused) and reason.code:
            self._channel.send(RegistrationError(message=text, code=reason.code))
            session.close(POLICY, text)
        else:
            session.close(GOING_AWAY, text)

    def whenLost(self) -> Deferred[SessionLost]:
        return self.session.whenLost()
