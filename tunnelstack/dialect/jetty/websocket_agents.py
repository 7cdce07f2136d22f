"""
The door of agents that come by WebSocket: each registers by its first message, within a deadline.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.http_entry import HTTPEntry, OneProtocol, upgradeToWebSocket
from tunnelstack.dialect.jetty.registration import (
    Acceptance,
    IRegistrar,
    Registration,
    RegistrationRefused,
)
from tunnelstack.dialect.jetty.websocket_channel import FIRST_MESSAGE, LIMITS, MOST_INVALID, FrameChannel
from tunnelstack.dialect.jetty.websocket_tunnel import TunnelSettings, WebSocketTunnel
from tunnelstack.exchange.whole_message import WholeResponse, textResponse
from tunnelstack.interfaces import IEdge, IExchangeReceiver, IExchangeServer, IServerExchange
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.jetty import (
    BAD_REGISTER,
    BODY_LIMIT,
    DRAINING,
    MOST_QUEUED,
    MOST_REQUESTS,
    REGISTER_SECONDS,
    SUBPROTOCOL,
    VERIFY_SECONDS,
    VERIFY_UNAVAILABLE,
    WEBSOCKET,
    Frame,
    Register,
    Registered,
    RegistrationError,
    common_capabilities,
)
from tunnelstack.wire.records.jetty_frames import BadFrame

OUR_LIMITS = {"max_request_body_bytes": BODY_LIMIT, "max_requests": MOST_REQUESTS, "max_queued": MOST_QUEUED}
"""What an agent is answered of our limits."""


@implementer(IExchangeServer)
class WebSocketAgents:
    """
    Serves the requests for the path of agents.

    @ivar registered: how many agents have registered; C{refused}, how many were refused.
    """

    log = Logger()

    def __init__(self, edge: IEdge, registrar: IRegistrar, tunnels: TunnelSettings | None = None) -> None:
        """
        @param registrar: decides which agents are accepted.
        @param tunnels: for tunnels; C{None} for what the edge has.
        """
        self.edge = edge
        self.registrar = registrar
        self.tunnels = tunnels or TunnelSettings(
            clock=edge.clock, bounds=lambda: edge.bounds, stopping=lambda: edge.stopping
        )
        self.registered = self.refused = 0
        self._entry: HTTPEntry[None] = HTTPEntry(edge.clock, lambda head, exchange: None, self._enter, self._notEntered)

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        return self._entry.exchangeReceived(head, exchange)

    def _enter(self, identity: None, exchange: IServerExchange) -> None:
        arrival = Arrival(self, exchange.peer)
        upgradeToWebSocket(
            exchange, OneProtocol(arrival.channel), clock=self.edge.clock, subprotocols=(SUBPROTOCOL,), limits=LIMITS,
            records=True,
        )

    def _notEntered(self, failure: Failure, exchange: IServerExchange) -> WholeResponse:
        self.log.failure("an agent could not be served", failure=failure)
        return textResponse(500, "internal server error")


class Arrival:
    """
    An agent that is not registered yet: the listener of its channel until then.
    """

    def __init__(self, agents: WebSocketAgents, peer: IAddress | None) -> None:
        clock = agents.edge.clock
        self.channel = FrameChannel(clock, self, holding=True, mostInvalid=MOST_INVALID)
        self._agents = agents
        self._clock = clock
        self._peer = peer
        self._work: Deferred[None] | None = None      # the verification
        self._tunnel: WebSocketTunnel | None = None
        self._timer: IDelayedCall = clock.callLater(REGISTER_SECONDS, self._timedOut)

    # From the channel

    def channelOpened(self) -> None:
        """
        Wait for the registration.
        """
        self.channel.transport.maxMessage = FIRST_MESSAGE

    def frameReceived(self, frame: Frame) -> None:
        """
        The first frame; those that come while it is verified are ignored.
        """
        if self._work is not None:
            self.channel.ignored += 1
        elif not isinstance(frame, Register):
            self._refuse(RegistrationRefused(BAD_REGISTER))
        elif self._agents.edge.stopping:
            self._refuse(RegistrationRefused(DRAINING))
        else:
            self._verify(frame)

    def badFrameReceived(self, bad: BadFrame) -> None:
        """
        The first frame is wrong.
        """
        if self._work is None:
            self._refuse(RegistrationRefused(BAD_REGISTER, str(bad.args[0])))

    def channelLost(self, reason: Failure) -> None:
        """
        The agent does not wait any more.
        """
        self._stopTimer()
        work, self._work = self._work, None
        if work is not None:
            work.cancel()

    def writesPaused(self) -> None:
        """
        One answer does not fill a network.
        """

    writesResumed = writesPaused

    # Registration

    def _verify(self, frame: Register) -> None:
        self._stopTimer()
        registration = Registration(
            tunnelId=frame.tunnel_id, agentToken=frame.agent_token, transport=WEBSOCKET, capabilities=frame.capabilities,
            agentVersion=printable(frame.agent_version, 64), instance=frame.instance_id, peer=self._peer,
        )
        verified = self._agents.registrar.verify(registration)
        verified.addTimeout(VERIFY_SECONDS, self._clock)
        self._work = work = verified.addCallback(self._verified, registration)
        work.addErrback(self._failed)

    def _verified(self, acceptance: Acceptance, registration: Registration) -> Deferred[None]:
        """
        The agent is who it claims to be: publish its tunnel.
        """
        channel = self.channel
        if channel.closing:
            return succeed(None)
        common = common_capabilities(registration.capabilities)
        channel.capabilities = frozenset(common or ())
        channel.transport.maxMessage = LIMITS.maxMessage
        tunnel = self._tunnel = WebSocketTunnel(
            channel, acceptance, self._agents.tunnels, stock=common is None, peer=self._peer,
        )
        arrived = self._agents.registrar.arrived(tunnel, acceptance)
        return arrived.addCallback(lambda _: self._registered(acceptance, common))

    def _registered(self, acceptance: Acceptance, common: tuple[str, ...] | None) -> None:
        self._agents.registered += 1
        if common is None:
            self.channel.release(Registered())
            return
        self.channel.release(Registered(
            capabilities=common, session_id=acceptance.sessionId, edge_id=acceptance.edgeId, subdomain=acceptance.subdomain,
            public_url=acceptance.publicURL, limits=OUR_LIMITS, grpc=acceptance.grpc,
        ))  # fmt: skip

    def _timedOut(self) -> None:
        self._refuse(RegistrationRefused(BAD_REGISTER, f"no registration within {REGISTER_SECONDS:g} seconds"))

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, TimeoutError):
            error = RegistrationRefused(VERIFY_UNAVAILABLE)
        elif isinstance(error, CancelledError):
            return
        elif not isinstance(error, RegistrationRefused):
            self._agents.log.failure("a registration could not be processed", failure=failure)
            error = RegistrationRefused(VERIFY_UNAVAILABLE)
        self._refuse(error)

    def _refuse(self, refused: RegistrationRefused) -> None:
        self._stopTimer()
        if self.channel.closing:
            return
        self._agents.refused += 1
        self._agents.log.warn(
            "an agent at {peer} is refused: {reason}", peer=addressText(self._peer), reason=errorText(refused),
            code=refused.code,
        )
        if self._tunnel is not None:
            self._tunnel.session.refused(refused.sentence)
        self.channel.refuse(RegistrationError(message=refused.sentence, code=refused.code), refused.code)

    def _stopTimer(self) -> None:
        if self._timer.active():
            self._timer.cancel()
