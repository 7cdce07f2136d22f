"""
agentserver at the agent: this machine is a sandbox of a server, which opens streams to it.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.agentserver.heartbeat import Heartbeat
from tunnelstack.dialect.agentserver.http_streams import HTTPStreams
from tunnelstack.dialect.agentserver.machine import machineDocument
from tunnelstack.dialect.agentserver.settings import AgentSettings
from tunnelstack.dialect.agentserver.terminal_streams import TerminalStreams, runShell
from tunnelstack.dialect.agentserver.tunnel import NAME
from tunnelstack.dialect.http_entry import OneProtocol
from tunnelstack.dialect.session_link import SessionLink
from tunnelstack.errors import PeerError, Refused, Unavailable
from tunnelstack.interfaces import IAgentDialect, IAgentHost, IClosableDialect
from tunnelstack.negotiation.typed_head import TypedHeadFactory
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.settings.tables import Records
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.errors import UpgradeFailed, UpgradeRefused
from tunnelstack.transport.websocket.settings import WebSocketLimits
from tunnelstack.wire.jsonline import JSONObject
from tunnelstack.wire.records.agentserver import (
    HTTP_NAME,
    METADATA_LIMIT,
    NAMES,
    TERMINAL_NAME,
    TUNNEL_PATH,
    encode_document,
)

LIMITS = WebSocketLimits(closeFrame=False)
"""Agents send no pings, and end without a Close frame."""

HEADERS = (("User-Agent", "Go-http-client/1.1"),)

PORT = re.compile(r":?[0-9]{1,5}")
HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(:[0-9]{1,5})?")


class TokenRefused(Refused):
    """
    The server does not accept the token of the sandbox.
    """


class NotAnAgentserver(PeerError):
    """
    The server has no place for agents.
    """


class ServerBusy(Unavailable):
    """
    The server cannot accept an agent now.
    """


@implementer(IAgentDialect, IClosableDialect)
class AgentserverAgent:
    """
    The sandbox of one server.
    """

    name = NAME
    credentialErrors = (TokenRefused,)
    protocolErrors = (NotAnAgentserver,)
    permanentErrors = (Refused, PeerError)

    def __init__(self, host: IAgentHost, settings: AgentSettings) -> None:
        """
        @raise ConfigurationError: a file or the target cannot be used.
        """
        self.address = urlsplit(settings.url).netloc
        self._host = host
        self._settings = settings
        self._url = settings.url.rstrip("/") + TUNNEL_PATH + "/"
        self._endpoint = host.edgeEndpoint(settings)
        self._link: SessionLink[YamuxSession] | None = None
        host.readSecret(settings.tokenFile)   # a mistake is reported at the start
        WebSocketClientEndpoint(host.clock, self._url)     # the same; messages about this URL have no token in it
        self._target = host.target(settings.target) if settings.target else None
        self._terminals = TerminalStreams(runShell(host.clock, settings.shell) if settings.terminal else None)

    def dial(self) -> Deferred[SessionLink[YamuxSession]]:
        host, settings = self._host, self._settings
        token = host.readSecret(settings.tokenFile)
        session = YamuxSession(
            True, clock=host.clock, limits=evolve(host.sessionLimits, keepalive=0.0),
            address=StreamAddress(key=settings.sandbox, dialect=NAME),
        )
        web = HTTPStreams(
            host.clock, settings.target, self._target, settings.rewriteHost or authorityOf(settings.target),
            partial(host.exchangeEnded, settings.sandbox), rewriteOrigin=settings.rewriteOrigin,
        )
        session.whenLost().addCallback(lambda _: web.close())
        session.listener.listen(
            TypedHeadFactory({HTTP_NAME: web, TERMINAL_NAME: self._terminals}, NAMES, limit=METADATA_LIMIT)
        )
        url = f"{self._url}{quote(settings.sandbox, safe='')}?token={quote(token, safe='')}"
        server = WebSocketClientEndpoint(host.clock, url, headers=HEADERS, endpoint=self._endpoint, limits=LIMITS)
        connected: Deferred[Any] = server.connect(OneProtocol(session))
        return connected.addCallbacks(lambda _: SessionLink(session), self._notConnected)

    def _notConnected(self, failure: Failure) -> Failure:
        """
        @raise TokenRefused: the server answered 401.
        @raise ServerBusy: it cannot answer now.
        @raise NotAnAgentserver: it gave another answer.
        """
        error = failure.value
        if isinstance(error, UpgradeFailed):
            raise NotAnAgentserver(f"{self.address} is not an agentserver: {error}") from None
        if not isinstance(error, UpgradeRefused):
            return failure
        if error.status == 401:
            raise TokenRefused(f"{self.address} does not accept the token of the sandbox {self._settings.sandbox}") from None
        if error.status == 429 or error.status >= 500:
            raise ServerBusy(f"{self.address} cannot accept an agent now", status=error.status) from None
        raise NotAnAgentserver(f"{self.address} has no place for agents of agentserver", status=error.status) from None

    def up(self, link: SessionLink[YamuxSession]) -> Deferred[JSONObject]:
        self._link = link
        Heartbeat(
            self._host.clock, link.session, lambda: encode_document(machineDocument()), self._settings.heartbeatSeconds
        )
        facts: JSONObject = {"sandbox": self._settings.sandbox}
        return succeed(facts)

    def retire(self) -> None:
        self._link = None

    def close(self) -> None:
        self._terminals.close()

    def report(self) -> JSONObject:
        return {"up": self._link is not None, "sandbox": self._settings.sandbox}


def authorityOf(target: str) -> str:
    """
    @return: the C{Host} for a target: its host and port, or C{localhost} for an endpoint string.
    """
    text = re.sub(r"^https?://|/$", "", target)
    if PORT.fullmatch(text):
        return f"localhost:{text.removeprefix(':')}"
    return text if HOST_AND_PORT.fullmatch(text) else "localhost"


def makeDialects(host: IAgentHost, tables: Records) -> list[IAgentDialect]:
    """
    Make one for each C{[[agentserver]]}.

    @raise ConfigurationError: a file or a target cannot be used.
    """
    return [AgentserverAgent(host, settings) for settings in tables["agentserver"]]
