"""
The agent's tunnel at the control plane: it is found or created, kept alive by heartbeats, and gets new tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from tunnelstack.dialect.jetty.bridge_client import BridgeClient, NoSuchTunnel, NotABridge
from tunnelstack.dialect.jetty.settings import AgentSettings, parseRoute, parseTarget
from tunnelstack.errors import Refused
from tunnelstack.transport.error_text import errorText
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.jetty import MOST_TOKENS
from tunnelstack.wire.records.jetty_bridge import (
    BEAT_SECONDS,
    AttachTunnel,
    CreateTunnel,
    Heartbeat,
    Tunnel,
)
from tunnelstack.wire.records.jetty_rules import PATH_PREFIX, RoutingRule

WEB_PORTS = frozenset((80, 443))
"""Ports of one host that are the same site."""


class TokensUsedUp(Refused):
    """
    The edge rejected every token that the control plane has issued.
    """


class AgentTunnel:
    """
    One tunnel.

    @ivar tunnel: as the control plane has answered; C{None} before it is known.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, bridge: BridgeClient, settings: AgentSettings, takeCounts: Callable[[], Heartbeat]
    ) -> None:
        """
        @param takeCounts: gives what was served since it was called before.
        @raise ConfigurationError: the target cannot be used.
        """
        self.tunnel: Tunnel | None = None
        self._clock = clock
        self._bridge = bridge
        self._settings = settings
        self._takeCounts = takeCounts
        self._host, self._port = parseTarget(settings.target)
        self._fetched = 0                     # tokens, because one was rejected
        self._resumes = settings.resume
        self._beat: IDelayedCall | None = None
        self._isClosed = False

    # The tunnel

    async def ensure(self) -> Tunnel:
        """
        @return: the tunnel with a token.  It is found or created first, if it is not known.
        @raise Exception: as from L{BridgeClient.create}.
        """
        if self.tunnel is None:
            try:
                tunnel = await self._find() or await self._bridge.create(self._request)
            except NoSuchTunnel as unknown:
                raise NotABridge(f"the service has no API of this system: {unknown}") from None
            if not (tunnel.agent_token and (tunnel.websocket_url or tunnel.grpc_url)):
                raise NotABridge("the service has not sent a token for the tunnel, or no address of an edge")
            self.tunnel = tunnel
            self._schedule(0.0)
        return self.tunnel

    async def _find(self) -> Tunnel | None:
        """
        @return: the newest tunnel for our target, with a new token; C{None} if there is none.
        """
        mine = [each for each in await self._bridge.tunnels() if self._isMine(each)] if self._resumes else []
        if not mine:
            return None
        newest = max(mine, key=lambda each: each.id)
        try:
            return await self._bridge.attach(newest.id, self._attachment)
        except NoSuchTunnel:
            return None

    def _isMine(self, tunnel: Tunnel) -> bool:
        settings = self._settings
        host, _, port = tunnel.local_target.rpartition(":")
        isTarget = host == self._host and (
            port == str(self._port) or (port.isdecimal() and {int(port), self._port} <= WEB_PORTS)
        )
        return (
            isTarget and tunnel.server == settings.server and tunnel.protocol == settings.protocol
            and settings.subdomain in ("", tunnel.subdomain)
        )  # fmt: skip

    @property
    def _rules(self) -> tuple[RoutingRule, ...]:
        return tuple(
            RoutingRule(match_type=PATH_PREFIX, path_prefix=path, local_host=host, local_port=port)
            for path, host, port in map(parseRoute, self._settings.routes)
        )

    @property
    def _request(self) -> CreateTunnel:
        settings = self._settings
        return CreateTunnel(
            local_host=self._host, local_port=self._port, subdomain=settings.subdomain, server=settings.server,
            protocol=settings.protocol, routing_rules=self._rules,
        )

    @property
    def _attachment(self) -> AttachTunnel:
        """
        With the rules even if there are none: those of a former run may name targets that this one does not allow.
        """
        server = self._settings.server
        return AttachTunnel(local_host=self._host, local_port=self._port, server=server, routing_rules=self._rules)

    async def renew(self) -> None:
        """
        The edge has rejected the token: get another one.

        @raise TokensUsedUp: this was done too often.
        """
        if self._fetched >= MOST_TOKENS:
            raise TokensUsedUp(f"the edge has rejected {MOST_TOKENS} tokens of the tunnel")
        self._fetched += 1
        assert self.tunnel is not None
        try:
            self.tunnel = await self._bridge.attach(self.tunnel.id, self._attachment)
        except NoSuchTunnel:
            self.forget()

    def forget(self) -> None:
        """
        The tunnel does not exist any more: L{ensure} creates another one.
        """
        self.tunnel = None
        self._stopBeating()

    # Heartbeats

    def _schedule(self, seconds: float) -> None:
        if not self._isClosed and self.tunnel is not None:
            self._beat = self._clock.callLater(seconds, self._sendBeat, self.tunnel.id)

    def _sendBeat(self, identifier: str) -> None:
        self._schedule(BEAT_SECONDS)
        sent = self._bridge.heartbeat(identifier, self._takeCounts())
        sent.addErrback(
            lambda failure: self.log.debug("a heartbeat has failed: {reason}", reason=printable(errorText(failure)))
        )

    def _stopBeating(self) -> None:
        beat, self._beat = self._beat, None
        if beat is not None and beat.active():
            beat.cancel()

    def close(self) -> Deferred[Any]:
        """
        The agent has stopped.

        @return: fires when the tunnel is deleted, if it has to be.
        """
        self._isClosed = True
        self._stopBeating()
        tunnel, self.tunnel = self.tunnel, None
        deleted: Deferred[Any] = succeed(None)
        if self._settings.deleteOnExit and tunnel is not None:
            deleted = self._bridge.delete(tunnel.id)
            deleted.addErrback(
                lambda failure: self.log.warn("the tunnel was not deleted: {reason}", reason=printable(errorText(failure)))
            )
        return deleted.addBoth(lambda _: self._bridge.close())
