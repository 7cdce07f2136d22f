"""
The agent's end of a session over a WebSocket: registration, the requests of the edge, and the end.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.http_entry import OneProtocol
from tunnelstack.dialect.jetty.registration import (
    NAME,
    EdgeDrains,
    Registration,
    RegistrationAnswer,
    RegistrationRefused,
    TransportUnavailable,
    Upstream,
    UpstreamRefused,
)
from tunnelstack.dialect.jetty.websocket_channel import LIMITS, NORMAL, FrameChannel
from tunnelstack.dialect.jetty.websocket_datagrams import AgentFlows
from tunnelstack.dialect.jetty.websocket_heads import requestHead
from tunnelstack.dialect.jetty.websocket_server_exchange import TEXT, AgentExchange
from tunnelstack.dialect.jetty.websocket_session import QUEUED_OCTETS, JSONSession
from tunnelstack.dialect.jetty.websocket_streams import LOCAL_CLOSED, LocalConnections, RawStreams
from tunnelstack.exchange.bounds import DEFAULT_BOUNDS, ExchangeBounds
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.stream_client import HeldBodies
from tunnelstack.exchange.traits import Traits
from tunnelstack.interfaces import IAgentHost, IExchangeServer, ILink
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionLost
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.udp import UDPClientEndpoint
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.waiters import Waiters
from tunnelstack.wire.http1.head import BadMessage
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.jetty import (
    CANCEL,
    IDLE_SECONDS,
    MOST_REQUESTS,
    MULTIPLE_VALUES,
    PROTOCOL_VERSION,
    REGISTER_SECONDS,
    SUBPROTOCOL,
    TRANSPORTS,
    UPGRADE,
    VERIFY_REJECTED,
    Cancel,
    Frame,
    HTTPRequest,
    HTTPResponse,
    Register,
    Registered,
    RegistrationError,
    RequestChunk,
    RequestEnd,
    TCPConnect,
    common_capabilities,
)
from tunnelstack.wire.records.jetty_frames import BadFrame

AGENT_PING_SECONDS = 8.0
"""Seconds between the pings of an agent, the first of which follows the registration at once."""

LINGER_SECONDS = 5.0
"""Seconds that an edge has to close an idle session whose agent has announced its end."""

BUSY_TEXT = "agent busy"


def refusalOf(frame: RegistrationError) -> RegistrationRefused:
    """
    @return: why the edge does not accept the agent, or not any more.
    """
    code = frame.code or (VERIFY_REJECTED if frame.is_about_token else "")
    return RegistrationRefused(printable(code, 64), printable(frame.message, 500))


class AgentRequests:
    """
    The requests of an edge, and the L{Role<tunnelstack.dialect.jetty.websocket_session.Role>} of the agent.

    @ivar unknown: frames for requests that there are not, or not any more.
    @ivar refused: requests that were refused because there were too many.
    """

    session: JSONSession
    streams: RawStreams
    datagrams: AgentFlows

    def __init__(self, upstream: Upstream, answer: RegistrationAnswer) -> None:
        self.stock = answer.capabilities is None
        self.bodies = HeldBodies(QUEUED_OCTETS)
        self.unknown = self.refused = 0
        self._upstream = upstream
        self._publicHost = urlsplit(answer.publicURL).netloc
        self._cancels = CANCEL in (answer.capabilities or ())
        self._exchanges: dict[str, AgentExchange] = {}
        upgrade = UPGRADE in (answer.capabilities or ())
        self.traits = Traits(
            repeated=MULTIPLE_VALUES in (answer.capabilities or ()), trailers=False, informational=False, upgrade=upgrade,
            halfClose=upgrade,
        )

    def frameReceived(self, frame: Frame) -> None:
        """
        A frame of the edge.
        """
        match frame:
            case HTTPRequest():
                self._requestReceived(frame)
            case RequestChunk():
                if (exchange := self._find(frame.request_id)) is not None:
                    exchange.bodyReceived(frame.data)
            case RequestEnd():
                if (exchange := self._find(frame.request_id)) is not None:
                    exchange.requestEnded()
            case Cancel():
                if (exchange := self._find(frame.request_id)) is not None:
                    exchange.requestFailed(ExchangeFailed(FailureKind.CLIENT_CLOSED))
            case RegistrationError():
                self.session.endedByPeer(refusalOf(frame))
            case _:
                self.session.channel.ignored += 1

    def _find(self, identifier: str) -> AgentExchange | None:
        exchange = self._exchanges.get(identifier)
        self.unknown += exchange is None
        return exchange

    def _requestReceived(self, frame: HTTPRequest) -> None:
        if frame.request_id in self._exchanges:
            self.unknown += 1
            return
        if len(self._exchanges) >= MOST_REQUESTS:
            self.refused += 1
            self._refuse(frame.request_id, 503, BUSY_TEXT)
            return
        try:
            head = requestHead(frame, self._publicHost)
        except BadMessage as bad:
            self._refuse(frame.request_id, 502, str(bad.args[0]))
            return
        exchange = self._exchanges[frame.request_id] = AgentExchange(self, frame, head)
        self.session.memberBegun(exchange)
        try:
            server: IExchangeServer = self._upstream.serverFor(frame.upstream)
        except UpstreamRefused as refused:
            exchange.sendError(502, str(refused.args[0]))
            return
        exchange.serve(server, frame.body)

    def _refuse(self, identifier: str, status: int, text: str) -> None:
        self.session.channel.send(HTTPResponse(request_id=identifier, status=status, headers=TEXT, body=text.encode()))

    def badFrameReceived(self, bad: BadFrame) -> None:
        """
        A frame has a wrong member: only its request or connection fails.
        """
        self.session.channel.ignored += 1
        if bad.type == "http_request":
            if bad.identifier and bad.identifier not in self._exchanges:
                self._refuse(bad.identifier, 502, str(bad.args[0]))
        elif bad.type.startswith("http_"):
            exchange = self._exchanges.get(bad.identifier)
            if exchange is not None:
                exchange.failRequest(ExchangeFailed(FailureKind.BROKEN, problem=str(bad.args[0])))
        else:
            self.streams.badFrameReceived(bad)

    def forget(self, exchange: AgentExchange) -> None:
        self._exchanges.pop(exchange.identifier, None)

    def giveUp(self, exchange: AgentExchange, kind: FailureKind) -> None:
        """
        The head of a response was sent, and the rest will not be.  An edge that cannot be notified waits in vain: nothing else
        would keep it from taking the response for complete.
        """
        if self._cancels:
            self.session.channel.send(Cancel(request_id=exchange.identifier, reason=kind.name.lower()))

    def writesResumed(self) -> None:
        """
        Nothing waits but what the exchanges have.
        """

    def expire(self, now: float) -> None:
        """
        There is nothing to do.
        """

    def lost(self, reason: SessionLost) -> None:
        """
        The edge is gone: all work for it ends.
        """
        for exchange in list(self._exchanges.values()):
            exchange.requestFailed(ExchangeFailed(FailureKind.CLIENT_CLOSED, reason=reason))
        self.datagrams.close()


@implementer(ILink)
class WebSocketLink:
    """
    A registered session with an edge.

    It counts as lost when the edge announces its end, so that the agent connects elsewhere; requests that are under way are
    completed, and the edge closes the session after the last one.

    @ivar registered: what the edge has answered.
    @ivar requests: those of the edge.
    """

    def __init__(
        self, host: IAgentHost, channel: FrameChannel, upstream: Upstream, answer: RegistrationAnswer
    ) -> None:
        self.registered = answer
        self._lost: SessionLost | None = None
        self._waitingLost: Waiters[SessionLost] = Waiters()
        self.bounds: ExchangeBounds = DEFAULT_BOUNDS
        clock = host.clock
        channel.capabilities = frozenset(answer.capabilities or ())
        self.requests = requests = AgentRequests(upstream, answer)
        address = StreamAddress(key=answer.subdomain, dialect=NAME, peer=channel.transport.getPeer())
        self.session = session = JSONSession(
            clock, channel, address, requests, pingSeconds=AGENT_PING_SECONDS, silentSeconds=IDLE_SECONDS,
            lingerSeconds=LINGER_SECONDS,
        )
        requests.session = session
        requests.streams = streams = RawStreams(session, accepts=upstream.tcp is not None, reason=LOCAL_CLOSED)
        if upstream.tcp is None:
            session.handle(TCPConnect, lambda frame: streams.refuse(frame.connection_id, "this agent has no TCP server"))
        else:
            session.listener.listen(LocalConnections(streams, upstream.tcp))
        udp = None if upstream.udp is None else UDPClientEndpoint(clock, *upstream.udp)
        requests.datagrams = AgentFlows(session, udp)
        session.sendPing()
        session.whenLost().addCallback(self._end)
        session.whenGoingAway().addCallback(self._edgeGoingAway)

    def whenLost(self) -> Deferred[SessionLost]:
        return succeed(self._lost) if self._lost is not None else self._waitingLost.wait()

    def _edgeGoingAway(self, result: None) -> None:
        """
        The edge has announced its end, or is lost.
        """
        notice = self.session.peerNotice
        if self.session.peerDraining and notice.reconnect:
            self._end(EdgeDrains(printable(notice.reason, 200) or "the edge is about to stop"))

    def _end(self, reason: SessionLost) -> SessionLost:
        if self._lost is None:
            self._lost = reason
            self._waitingLost.fire(reason)
        return reason

    def drain(self) -> Deferred[None]:
        """
        As in L{ILink}.  An edge that is notified closes; another one gets no more than what it has begun until then.
        """
        return self.session.drain()

    def abort(self, reason: str) -> None:
        self.session.abort()


class _Registering:
    """
    The listener of a channel until the edge has answered.
    """

    log = Logger()

    def __init__(self, host: IAgentHost, registration: Registration, upstream: Upstream) -> None:
        self.registered: Deferred[WebSocketLink] = Deferred(lambda _: self.channel.abort())
        self.channel = FrameChannel(host.clock, self, holding=False, mostInvalid=None)
        self._host = host
        self._registration = registration
        self._upstream = upstream
        self._timer: IDelayedCall

    def channelOpened(self) -> None:
        """
        Send the registration.
        """
        asked = self._registration
        stock = asked.capabilities is None
        self._timer = self._host.clock.callLater(REGISTER_SECONDS, self._timedOut)
        self.channel.send(Register(
            tunnel_id=asked.tunnelId, agent_token=asked.agentToken, protocol_version=0 if stock else PROTOCOL_VERSION,
            agent_version=asked.agentVersion, capabilities=asked.capabilities, transports=() if stock else TRANSPORTS,
            instance_id=asked.instance,
        ))  # fmt: skip

    def _timedOut(self) -> None:
        self._fail(TransportUnavailable(f"the edge did not answer the registration within {REGISTER_SECONDS:g} seconds"))

    def frameReceived(self, frame: Frame) -> None:
        """
        The answer.
        """
        match frame:
            case Registered():
                self._accepted(frame)
            case RegistrationError():
                self._fail(refusalOf(frame))
            case _:
                self._fail(TransportUnavailable("the edge does not answer the registration"))

    def badFrameReceived(self, bad: BadFrame) -> None:
        """
        No answer has members that matter.
        """
        self._fail(TransportUnavailable("the edge does not answer the registration"))

    def _accepted(self, frame: Registered) -> None:
        self._timer.cancel()
        ours = self._registration.capabilities
        answer = RegistrationAnswer(
            sessionId=frame.session_id, subdomain=frame.subdomain, publicURL=frame.public_url, edgeId=frame.edge_id,
            capabilities=None if ours is None else common_capabilities(frame.capabilities, ours), limits=frame.limits,
            grpc=frame.grpc,
        )
        registered, link = self.registered, WebSocketLink(self._host, self.channel, self._upstream, answer)
        registered.callback(link)

    def _fail(self, error: Exception) -> None:
        if self._timer.active():
            self._timer.cancel()
        self.channel.close(NORMAL)
        if not self.registered.called:
            self.registered.errback(error)

    def channelLost(self, reason: Failure) -> None:
        """
        The WebSocket was closed without an answer.
        """
        if self._timer.active():
            self._timer.cancel()
        if not self.registered.called:
            lost = TransportUnavailable(f"the edge closed the WebSocket without an answer: {errorText(reason)}")
            lost.__cause__ = reason.value
            self.registered.errback(lost)

    def writesPaused(self) -> None:
        """
        One frame does not fill a network.
        """

    writesResumed = writesPaused


def connectWebSocket(
    host: IAgentHost, url: str, endpoint: IStreamClientEndpoint, registration: Registration, upstream: Upstream
) -> Deferred[WebSocketLink]:
    """
    Connect to an edge and register.

    @param url: C{ws} or C{wss}, of the edge's C{/agent}.
    @param endpoint: reaches the edge, TLS included.
    @param upstream: what requests are served with.
    @return: a C{Deferred} of the session; it fails with L{RegistrationRefused}, or with L{TransportUnavailable} if there is no
        WebSocket or no answer.
    """
    registering = _Registering(host, registration, upstream)
    websocket = WebSocketClientEndpoint(
        host.clock, url, headers=(("User-Agent", "tunnelstack"),), subprotocols=(SUBPROTOCOL,), endpoint=endpoint,
        limits=LIMITS, records=True, timeout=REGISTER_SECONDS,
    )
    connected = websocket.connect(OneProtocol(registering.channel))
    return connected.addCallbacks(lambda _: registering.registered, _unavailable)


def _unavailable(failure: Failure) -> Failure:
    """
    @return: L{TransportUnavailable}; the failure itself if it was cancelled.
    """
    if failure.check(CancelledError):
        return failure
    error = TransportUnavailable(f"no WebSocket: {errorText(failure)}")
    error.__cause__ = failure.value
    return Failure(error)
