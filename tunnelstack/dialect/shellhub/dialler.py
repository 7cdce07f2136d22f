"""
ShellHub at the agent: dials a server in either version, with the token of a registration, and serves the streams that the
server opens.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from random import random
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.logger import Logger

from tunnelstack.dialect.http_entry import OneProtocol
from tunnelstack.dialect.session_link import SessionLink
from tunnelstack.dialect.shellhub.http_client import APIClient
from tunnelstack.dialect.shellhub.registration import (
    VERSION,
    DeviceIdentity,
    DeviceRefused,
    NotAShellHubServer,
    Registration,
    ServerBusy,
)
from tunnelstack.dialect.shellhub.streams import DeviceStreams
from tunnelstack.dialect.shellhub.v1 import NAME as NAME1
from tunnelstack.dialect.shellhub.v2 import LIMITS
from tunnelstack.dialect.shellhub.v2 import NAME as NAME2
from tunnelstack.errors import ConfigurationError, PeerError, Refused, Unavailable, UsageError
from tunnelstack.negotiation.http_request import HTTPRequestFactory
from tunnelstack.negotiation.multistream import MultistreamFactory
from tunnelstack.session.revdial.dialler import STREAM_LIMITS
from tunnelstack.session.revdial.listener import RevdialListener
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionLost
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.errors import UpgradeRefused
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.negotiation.http_request import StreamRequest
from tunnelstack.wire.records import shellhub, shellhub_v1
from tunnelstack.wire.records.shellhub_settings import DEFAULTS, Settings, read_settings_untrusted
from tunnelstack.wire.yamux.limits import DEFAULT_LIMITS, LARGEST_WINDOW, SessionLimits

REDIRECTS = 5
"""Redirections with status 307 or 308 that are followed."""


class DeviceNotAccepted(Unavailable):
    """
    The device is registered, and not accepted yet.
    """


class DeviceTokenRefused(Refused):
    """
    The server refuses a token that it has just issued.
    """


AgentSession = YamuxSession | RevdialListener
"""A session of either version of the transport."""


class DeviceLink(SessionLink[AgentSession]):
    """
    A device's end of a session with its server.
    """

    def __init__(self, session: AgentSession, registration: Registration) -> None:
        super().__init__(session)
        self._registration = registration
        self._draining = False

    @property
    def agent(self) -> str:
        """
        The name that the server gave the device, C{namespace.name}.
        """
        return self._registration.name

    def drain(self) -> Deferred[None]:
        """
        As in L{ILink<tunnelstack.interfaces.ILink>}.  In version 1 the session is lost at once, and its streams survive it.
        """
        self._draining = True
        return super().drain()

    def whenLost(self) -> Deferred[SessionLost]:
        """
        As in L{ILink<tunnelstack.interfaces.ILink>}; of a link that drains, when the last stream is done as well.
        """
        return super().whenLost().addCallback(self._lost)

    def _lost(self, reason: SessionLost) -> SessionLost | Deferred[SessionLost]:
        if self._draining and isinstance(self.session, RevdialListener):
            return self.session.whenNoStreamIsLeft().addCallback(lambda _: reason)
        return reason


class ShellHubDialler:
    """
    Dials one server.

    @ivar registration: the device at this server.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        url: str,
        identity: DeviceIdentity,
        streams: DeviceStreams,
        *,
        version: int = 2,
        random: Callable[[], float] = random,
        contextFactory: IOpenSSLClientConnectionCreator | None = None,
        endpoint: IStreamClientEndpoint | None = None,
        sessionOctets: int = DEFAULT_LIMITS.session_octets,
    ) -> None:
        """
        @param url: of the server: C{http(s)://host[:port][/base]}.
        @param version: of the transport, 1 or 2.
        @param random: returns a number from 0 to 1, for the time between authentications.
        @param endpoint: connects to the server, instead of to the host of the URL.
        @param sessionOctets: octets that a session may hold above the first windows of its streams.
        @raise UsageError: there is no such version.
        """
        if version not in (1, 2):
            raise UsageError("the transport has the versions 1 and 2", version=version)
        self._reactor = reactor
        self._url = url.rstrip("/")
        self._streams = streams
        self._version = version
        self._contextFactory = contextFactory
        self._endpoint = endpoint
        self._sessionOctets = sessionOctets
        server = APIClient(
            reactor, url, agent=f"shellhub-agent/{VERSION}", contextFactory=contextFactory, endpoint=endpoint,
        )
        self.registration = Registration(server, self._url, identity, reactor, random)

    @inlineCallbacks
    def dial(self) -> Generator[Deferred[Any], Any, DeviceLink]:
        """
        Make one attempt.

        @return: a C{Deferred} of the L{DeviceLink}; it fails with L{DeviceNotAccepted}, L{DeviceRefused},
            L{DeviceTokenRefused}, L{ServerBusy}, L{NotAShellHubServer}, or as connecting does.
        """
        if not self.registration.token:
            yield self.registration.register()
        try:
            session = yield self._connect()
        except UpgradeRefused as refused:
            if refused.status != 401:
                raise self._upgradeError(refused) from None
            self.registration.token = ""      # revoked, or the server has another key
            yield self.registration.authorize()
            try:
                session = yield self._connect()
            except UpgradeRefused as again:
                raise self._upgradeError(again) from None
        self.registration.startRenewal(session)
        return DeviceLink(session, self.registration)

    def _upgradeError(self, refused: UpgradeRefused) -> Exception:
        """
        @return: the error in one of the classes that the agent distinguishes.
        """
        if refused.status == 401:
            self.registration.token = ""
            return DeviceTokenRefused(f"the server at {self._url} refuses the token that it has issued")
        if refused.status == 403:
            return DeviceNotAccepted(f"the device {self.registration.name} is not accepted yet", server=self._url)
        if refused.status == 429 or refused.status >= 500:
            return ServerBusy(f"the server at {self._url} accepts no agent at the moment", status=refused.status)
        return NotAShellHubServer(
            f"the server at {self._url} does not support agents of version {self._version}", status=refused.status
        )

    def _connect(self) -> Deferred[AgentSession]:
        """
        Open the WebSocket of the tunnel, with the present token.
        """
        version1 = self._version == 1
        session: AgentSession = self._sessionV1() if version1 else self._sessionV2()
        path = shellhub_v1.CONNECTION if version1 else shellhub.CONNECTION
        web = self._webSocketEndpoint(path, f"Bearer {self.registration.token}")
        connected: Deferred[IProtocol] = web.connect(OneProtocol(session))
        return connected.addCallback(lambda _: session)

    def _webSocketEndpoint(self, path: str, credential: str = "") -> WebSocketClientEndpoint:
        headers = [("User-Agent", "Go-http-client/1.1")]
        if credential:
            headers.append(("Authorization", credential))
        return WebSocketClientEndpoint(
            self._reactor, self._url + path, headers=headers, contextFactory=self._contextFactory, endpoint=self._endpoint,
            limits=STREAM_LIMITS if self._version == 1 else LIMITS, redirects=REDIRECTS,
        )

    def _sessionV1(self) -> RevdialListener:
        address = StreamAddress(key=self._url, dialect=NAME1)
        session = RevdialListener(self._pickUpEndpoint, clock=self._reactor, address=address)
        session.listener.listen(HTTPRequestFactory(self._streams.handlers, self._streamRequest))
        return session

    def _streamRequest(self, head: RequestHead) -> StreamRequest:
        return shellhub_v1.stream_request(head, self._reactor.seconds())

    def _sessionV2(self) -> YamuxSession:
        session = YamuxSession(
            False, clock=self._reactor, limits=self._limits(), address=StreamAddress(key=self._url, dialect=NAME2),
        )
        session.listener.listen(MultistreamFactory(self._streams.handlers, follow=shellhub.asked))
        return session

    def _limits(self) -> SessionLimits:
        """
        @return: the limits that the server has sent; the defaults if no session can have those.
        """
        config = {} if self.registration.answer is None else self.registration.answer.config
        try:
            return limitsFromSettings(read_settings_untrusted(config), self._sessionOctets)
        except (PeerError, ValueError) as unusable:
            self.log.warn("the server's session settings are invalid, defaults are used: {reason}", reason=str(unusable))
            return limitsFromSettings(DEFAULTS, self._sessionOctets)

    def _pickUpEndpoint(self, path: str) -> WebSocketClientEndpoint:
        """
        @raise NotAShellHubServer: the path leads to another server.
        """
        if not path.startswith("/"):
            raise NotAShellHubServer("the server requested a connection to another server", path=path[:64])
        try:
            return self._webSocketEndpoint(path)
        except ConfigurationError as invalid:
            raise NotAShellHubServer(str(invalid)) from None


def limitsFromSettings(settings: Settings, sessionOctets: int = DEFAULT_LIMITS.session_octets) -> SessionLimits:
    """
    @return: the limits of an agent's session.
    @raise ValueError: no session can have these.
    """
    limits = SessionLimits(session_octets=sessionOctets)
    window = min(settings.window, LARGEST_WINDOW)
    return evolve(
        limits, backlog=settings.backlog, keepalive=settings.interval if settings.keep_alive else 0.0,
        keepalive_timeout=settings.write_timeout, window=window, max_window=max(window, limits.max_window),
        open_timeout=max(0.0, settings.open_timeout), close_timeout=max(0.0, settings.close_timeout),
    )


__all__ = [
    "DeviceIdentity",
    "DeviceLink",
    "DeviceNotAccepted",
    "DeviceRefused",
    "DeviceStreams",
    "DeviceTokenRefused",
    "NotAShellHubServer",
    "ServerBusy",
    "ShellHubDialler",
    "limitsFromSettings",
]
