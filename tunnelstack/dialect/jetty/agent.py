"""
Jetty at the agent: a tunnel of a service, to an edge of which the agent connects by gRPC or by WebSocket.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.jetty.agent_edges import NearestEdge, addressOf, probeLocalServer
from tunnelstack.dialect.jetty.agent_tunnel import AgentTunnel, TokensUsedUp
from tunnelstack.dialect.jetty.backoff import Backoff
from tunnelstack.dialect.jetty.bridge_client import (
    AGENT,
    BridgeClient,
    NotABridge,
    TokenRefused,
    TunnelRefused,
)
from tunnelstack.dialect.jetty.grpc_agent import KeepaliveInterval, connectGRPC
from tunnelstack.dialect.jetty.registration import (
    HTTP,
    NAME,
    TCP,
    UDP,
    EdgeDrains,
    Registration,
    RegistrationRefused,
    TransportUnavailable,
    Upstream,
)
from tunnelstack.dialect.jetty.request_reports import RequestReports
from tunnelstack.dialect.jetty.settings import AUTO, GRPC, WEBSOCKET, AgentSettings, parseTarget
from tunnelstack.dialect.jetty.upstream import LocalServers, ServedExchange
from tunnelstack.dialect.jetty.websocket_link import connectWebSocket
from tunnelstack.errors import PeerError, Refused, TunnelError
from tunnelstack.interfaces import IAgentDialect, IAgentHost, IBackoff, IClosableDialect
from tunnelstack.settings.tables import Records
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.http2.alpn import ALPN_HTTP2
from tunnelstack.wire.jsonline import JSONObject
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.jetty import (
    BAD_REGISTER,
    BAD_VERSION,
    CAPABILITIES,
    DRAINING,
    FORBIDDEN,
    NO_SUCH_TUNNEL,
    REPLACED,
    TOO_MANY_AGENTS,
    VERIFY_REJECTED,
    RegistrationError,
)
from tunnelstack.wire.records.jetty_bridge import Tunnel

GRPC_SECONDS = 5.0
"""Seconds within which a session by gRPC must be registered, before WebSocket is used."""

GRPC_AGAIN_SECONDS, GRPC_AGAIN_SPREAD = 600.0, 60.0
"""Seconds until gRPC is tried again after it was not available, and what is added to them at most."""

DRAIN_SECONDS = 30.0
"""Seconds for the exchanges of a WebSocket after a session by gRPC has taken its place."""

PROXY_ERRORS = (502, 503, 504)
"""What a proxy answers if the edge behind it does not run."""


class AgentForbidden(Refused):
    """
    The edge does not allow the tunnel.
    """


class NotAnEdge(PeerError):
    """
    The edge does not understand our registration.
    """


@implementer(IAgentDialect, IBackoff, IClosableDialect)
class JettyAgent:
    """
    One tunnel.
    """

    name = NAME
    credentialErrors = (TokenRefused, TunnelRefused, TokensUsedUp, AgentForbidden)
    protocolErrors = (NotABridge, NotAnEdge)
    permanentErrors = (*credentialErrors, PeerError)
    log = Logger()

    def __init__(self, host: IAgentHost, settings: AgentSettings) -> None:
        """
        @raise ConfigurationError: a file or the target cannot be used.
        """
        self.address = urlsplit(settings.url).netloc
        self.link: Any = None
        self._host = host
        self._settings = settings
        self._servers = LocalServers(host.clock, settings, self._ended)
        host.readSecret(settings.tokenFile)        # a file that cannot be read is an error of the start
        self._bridge = BridgeClient(
            host.clock, settings.url, host.edgeEndpoint(addressOf(settings.url, settings)),
            lambda: host.readSecret(settings.tokenFile),
        )
        self._tunnel = AgentTunnel(host.clock, self._bridge, settings, self._servers.counts.take)
        self._reports = RequestReports(self._bridge, lambda: self._tunnel.tunnel) if settings.samples else None
        self._edges = NearestEdge(host, settings)
        self._keepalive = KeepaliveInterval()
        self._backoff = Backoff(host.clock, host.random)
        self._nearest: str | None = None           # the edge that was chosen; C{""} if there is no choice
        self._probed = not settings.healthCheck or settings.protocol != HTTP
        self._grpcAgainAt = 0.0                    # when gRPC may be tried, in seconds of the clock
        self._upgrading: Deferred[Any] | None = None
        self._next: Any = None                     # a session by gRPC that waits until that by WebSocket has ended
        self._transport = ""
        self._late: IDelayedCall | None = None     # ends the former session by WebSocket

    # IBackoff

    def connected(self) -> None:
        self._backoff.connected()

    def nextWait(self) -> float:
        return self._backoff.nextWait()

    # Connecting

    def dial(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._dial())

    async def _dial(self) -> Any:
        link, self._next = self._next, None
        if link is not None:
            self._transport = GRPC
            return link
        if not self._probed:
            await self._probe()
        try:
            return await self._connect(await self._tunnel.ensure())
        except RegistrationRefused as refused:
            tunnel = await self._remedied(refused)
        try:
            return await self._connect(tunnel)
        except RegistrationRefused as refused:
            await self._remedied(refused)
            raise

    async def _probe(self) -> None:
        settings, (host, port) = self._settings, parseTarget(self._settings.target)
        server = self._servers.find((host, port))
        await probeLocalServer(
            self._host.clock, server.endpoint, server.authority, settings.healthPath, settings.connectSeconds
        )
        self._probed = True

    async def _remedied(self, refused: RegistrationRefused) -> Tunnel:
        """
        Do what a refusal of an edge requires.

        @return: the tunnel with which the agent may register again at once.
        @raise TunnelError: it must not.
        """
        code = refused.code
        isAboutToken = not code and RegistrationError(message=refused.sentence).is_about_token
        if code == VERIFY_REJECTED or isAboutToken:
            await self._tunnel.renew()
            return await self._tunnel.ensure()
        if code == NO_SUCH_TUNNEL:
            self._tunnel.forget()
            return await self._tunnel.ensure()
        if code == REPLACED:
            self._host.displaced(f"another agent has taken over the tunnel at {self.address}")
        elif code == TOO_MANY_AGENTS:
            self._backoff.crowded()
        elif code == DRAINING:
            self._backoff.atOnce()
        elif code == FORBIDDEN:
            raise AgentForbidden(f"{self.address} does not allow the tunnel: {printable(refused.sentence, 512)}")
        elif code in (BAD_REGISTER, BAD_VERSION):
            raise NotAnEdge(f"the edge of {self.address} rejects the registration: {printable(refused.sentence, 512)}")
        raise refused

    async def _connect(self, tunnel: Tunnel) -> Any:
        """
        @raise RegistrationRefused: the edge refuses the agent.
        @raise TransportUnavailable: no carrier can be used.
        """
        settings = self._settings
        if settings.transport == GRPC:
            if not tunnel.grpc_url:
                raise TransportUnavailable(f"{self.address} does not offer gRPC for this tunnel")
            self._transport = GRPC
            return await self._byGRPC(tunnel.grpc_url, tunnel)
        if tunnel.grpc_url and self._mayUseGRPC:
            try:
                self._transport = GRPC
                return await self._withinBudget(tunnel.grpc_url, tunnel)
            except (TransportUnavailable, ConnectError) as reason:
                if not tunnel.websocket_url:
                    raise
                self._grpcUnavailable(reason)
        self._transport = WEBSOCKET
        return await self._byWebSocket(tunnel)

    # gRPC

    @property
    def _mayUseGRPC(self) -> bool:
        return self._settings.transport == AUTO and self._host.clock.seconds() >= self._grpcAgainAt

    def _withinBudget(self, url: str, tunnel: Tunnel) -> Deferred[Any]:
        connecting = self._byGRPC(url, tunnel)

        def late(result: object, seconds: float) -> None:
            raise TransportUnavailable(f"no session by gRPC within {seconds:g} seconds")

        return connecting.addTimeout(GRPC_SECONDS, self._host.clock, late)

    def _grpcUnavailable(self, reason: BaseException | None) -> None:
        wait = GRPC_AGAIN_SECONDS + GRPC_AGAIN_SPREAD * self._host.random()
        self._grpcAgainAt = self._host.clock.seconds() + wait
        self.log.info(
            "gRPC is not available at {edge}, so WebSocket is used: {reason}", edge=self.address,
            reason=errorText(reason) if reason is not None else "",
        )

    def _byGRPC(self, url: str, tunnel: Tunnel) -> Deferred[Any]:
        endpoint = self._host.edgeEndpoint(addressOf(url, self._settings), (ALPN_HTTP2,))
        return connectGRPC(self._host, url, endpoint, self._registration(tunnel, GRPC), self._upstream, self._keepalive)

    # WebSocket

    async def _byWebSocket(self, tunnel: Tunnel) -> Any:
        url = await self._edgeURL(tunnel)
        if not url:
            raise TransportUnavailable(f"{self.address} does not offer WebSocket for this tunnel")
        endpoint = self._host.edgeEndpoint(addressOf(url, self._settings))
        try:
            return await connectWebSocket(
                self._host, url, endpoint, self._registration(tunnel, WEBSOCKET), self._upstream
            )
        except TransportUnavailable as reason:
            self._nearest = None              # another one may be nearer now, or the only one
            status = getattr(reason.__cause__, "status", 0)
            if status in PROXY_ERRORS:
                self._bridge.reportFailure(status, str(reason))
            raise

    async def _edgeURL(self, tunnel: Tunnel) -> str:
        """
        @return: that of the nearest edge, if the service has several; else that of the tunnel.
        """
        if self._nearest is None and tunnel.websocket_url:
            try:
                regions = await self._bridge.regions()
            except (TunnelError, ConnectError, TimeoutError):
                regions = []
            self._nearest = await self._edges.choose(regions) if len(regions) > 1 else ""
        return self._nearest or tunnel.websocket_url

    # Both

    def _registration(self, tunnel: Tunnel, transport: str) -> Registration:
        return Registration(
            tunnelId=tunnel.id, agentToken=tunnel.agent_token, transport=transport, capabilities=CAPABILITIES,
            agentVersion=AGENT, instance=self._host.instance,
        )

    @property
    def _upstream(self) -> Upstream:
        protocol = self._settings.protocol
        return Upstream(
            serverFor=self._servers.serverFor, tcp=self._servers.endpoint() if protocol == TCP else None,
            udp=parseTarget(self._settings.target) if protocol == UDP else None,
        )

    def up(self, link: Any) -> Deferred[JSONObject]:
        self.link = link
        tunnel, answer = self._tunnel.tunnel, link.registered
        url = answer.publicURL or (tunnel.public_url if tunnel is not None else "")
        self._servers.publicHost = urlsplit(url).netloc
        link.whenLost().addCallback(self._lost)
        if answer.grpc is not None and self._transport == WEBSOCKET and self._mayUseGRPC and tunnel is not None:
            self._upgrade(link, answer.grpc.url, tunnel)
        facts: JSONObject = {"transport": self._transport, "url": printable(url, 256)}
        return succeed(facts)

    def _lost(self, reason: BaseException) -> None:
        """
        The edge may have ended the session for a reason of its own.
        """
        code = next((each.code for each in (reason, reason.__cause__) if isinstance(each, RegistrationRefused)), "")
        if code == REPLACED:
            self._host.displaced(f"another agent has taken over the tunnel at {self.address}")
        elif code == DRAINING or isinstance(reason, EdgeDrains):
            self._backoff.atOnce()

    # From WebSocket to gRPC

    def _upgrade(self, link: Any, url: str, tunnel: Tunnel) -> None:
        """
        Connect by gRPC beside a session by WebSocket, which then finishes its exchanges.
        """
        self._upgrading = self._withinBudget(url, tunnel)
        self._upgrading.addCallbacks(self._upgraded, self._notUpgraded, (link,))

    def _upgraded(self, better: Any, link: Any) -> None:
        self._upgrading, self._next = None, better
        better.whenLost().addCallback(lambda reason: self._nextLost(better))
        self._backoff.atOnce()
        # It is lost for the uplink as soon as it drains, and may still have exchanges then.
        self._late = self._host.clock.callLater(DRAIN_SECONDS, link.abort, "a session by gRPC has taken its place")
        link.drain()

    def _nextLost(self, better: Any) -> None:
        if self._next is better:
            self._next = None

    def _notUpgraded(self, failure: Failure) -> None:
        self._upgrading = None
        self._grpcUnavailable(failure.value)

    # The rest of IAgentDialect

    def _ended(self, served: ServedExchange) -> None:
        tunnel = self._tunnel.tunnel
        self._host.exchangeEnded(tunnel.subdomain if tunnel is not None else NAME, served.exchange, served.seconds)
        if self._reports is not None:
            self._reports.add(served)

    def retire(self) -> None:
        self.link = None
        upgrading, self._upgrading = self._upgrading, None
        if upgrading is not None:
            upgrading.addErrback(lambda cancelled: None)
            upgrading.cancel()

    def close(self) -> Deferred[Any]:
        link, self._next = self._next, None
        if link is not None:
            link.abort("the agent has stopped")
        if self._late is not None and self._late.active():
            self._late.cancel()
        self._servers.close()
        if self._reports is not None:
            self._reports.close()
        return self._tunnel.close()

    def report(self) -> JSONObject:
        tunnel, reports = self._tunnel.tunnel, self._reports
        samples = {} if reports is None else {"samples": {"dropped": reports.dropped, "failed": reports.failed}}
        return {
            "up": self.link is not None, "transport": self._transport if self.link is not None else "",
            "tunnel": tunnel.subdomain if tunnel is not None else "", "id": tunnel.id if tunnel is not None else "",
            **samples,
        }


def makeDialects(host: IAgentHost, tables: Records) -> list[IAgentDialect]:
    """
    Make one for each C{[[jetty]]}.

    @raise ConfigurationError: a file or a target cannot be used.
    """
    return [JettyAgent(host, settings) for settings in tables["jetty"]]
