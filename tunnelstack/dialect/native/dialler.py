"""
The native dialect at the agent: dial the edge, say hello, serve the streams that it opens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.dialect.http_entry import OneProtocol
from tunnelstack.dialect.native.control_client import ControlClient
from tunnelstack.dialect.native.protocol import (
    CONTROL,
    NAME,
    PATH,
    SUBPROTOCOL,
    WEBSOCKET_LIMITS,
    WELCOME_SECONDS,
    dialEndpoint,
    parametersReceiver,
    streamEndpoint,
)
from tunnelstack.dialect.native.streams import DiallingServiceStreams, ServiceStreams, TargetStreams
from tunnelstack.dialect.session_link import SessionLink
from tunnelstack.errors import Denied, PeerError, Refused, Unavailable
from tunnelstack.negotiation.multistream import MultistreamFactory
from tunnelstack.records import Grant, Service
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.errors import UpgradeFailed, UpgradeRefused
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.yamux.limits import DEFAULT_LIMITS, SessionLimits

__all__ = [
    "DiallingServiceStreams",
    "EdgeBusy",
    "NativeDialler",
    "NativeLink",
    "NotAnEdge",
    "ServiceStreams",
    "TargetStreams",
    "TokenRefused",
]

CREDENTIAL_STATUSES = frozenset((401, 403))
TEMPORARY_STATUSES = frozenset((408, 429, 500, 502, 503, 504))

EventHandler = Callable[[str, Mapping[str, Any]], object]


class TokenRefused(Refused):
    """
    The edge does not take our token.
    """


class NotAnEdge(PeerError):
    """
    What answers is no edge, or none that speaks this version.
    """


class EdgeBusy(Unavailable):
    """
    There is an edge, or something before it, that cannot take us now.
    """


class NativeLink(SessionLink):
    """
    An agent's end of a session with its edge.

    @ivar agent: the name by which the edge knows us.
    """

    log = Logger()

    def __init__(self, session: YamuxSession, streams: MultistreamFactory, clock: Any, onEvent: EventHandler) -> None:
        """
        @param streams: takes the streams of the edge.
        @param onEvent: called with the name and the members of each event.
        """
        super().__init__(session)
        self.agent = ""
        self.draining = False
        self._streams = streams
        self._clock = clock
        self._onEvent = onEvent
        self._welcome: Deferred[NativeLink] | None = None
        self._control = ControlClient(clock, self._eventReceived, self._controlEnded)

    @inlineCallbacks
    def handshake(self, hello: Mapping[str, Any]) -> Any:
        """
        Open the control stream.

        @return: fires with this link once the edge has welcomed us.
        """
        welcome = self._welcome = Deferred()
        welcome.addTimeout(WELCOME_SECONDS, self._clock, _welcomeTimeout)
        yield streamEndpoint(self.session.connector, CONTROL, hello).connect(OneProtocol(self._control))
        return (yield welcome)

    def _eventReceived(self, event: str, members: Mapping[str, Any]) -> None:
        waiting = self._welcome
        if waiting is None:
            self._onEvent(event, members)
            return
        self._welcome = None
        if event == "welcome":
            self.agent = printable(str(members.get("agent", "")), 64)
            waiting.callback(self)
        elif event == "ended":
            reason = printable(str(members.get("reason", "the edge gave no reason")))
            waiting.errback(Denied(str(members.get("code", ""))[:64], reason))
        else:
            waiting.errback(NotAnEdge("the edge did not say welcome first"))

    def _controlEnded(self, reason: Failure) -> None:
        waiting, self._welcome = self._welcome, None
        if waiting is not None:
            waiting.errback(_dialError(reason))
        if reason.check(PeerError) and not reason.check(ConnectionLost):
            self.log.warn("the edge broke the control protocol: {reason}", reason=str(reason.value))
        if self.session.lostReason() is None:
            self.session.drain()              # what is under way goes on; without control there is nothing new

    # What one can do with it

    def announce(self, service: Service) -> Deferred[Grant]:
        """
        Ask the edge to publish a service; fails with L{Denied}.
        """
        return self._control.announce(service)

    def withdraw(self, service: Service) -> Deferred[Any]:
        """
        Ask it to publish it no more.
        """
        return self._control.withdraw(service)

    def handle(self, name: bytes, handler: Any) -> None:
        """
        Serve streams of a name.
        """
        self._streams.handle(name, handler)

    def dial(self, to: str, purpose: str = "") -> IStreamClientEndpoint:
        """
        The way to somebody else's service, through the edge.

        @param to: a service, C{agent/service}, or an agent's name.
        @param purpose: C{""} for the service itself, or the name of a stream protocol.
        @raise UsageError: longer than a line may be.
        """
        return dialEndpoint(self.session.connector, to, purpose)

    def drain(self) -> Deferred[None]:
        """
        Ask for no more work, and close the session when what is under way is done.
        """
        self.draining = True
        asked: Deferred[Any] = self._control.drain()
        asked.addErrback(lambda failure: failure.trap(Unavailable) and None)
        return asked.addCallback(lambda _: self.session.drain())


class NativeDialler:
    """
    Dials one edge.
    """

    def __init__(
        self,
        reactor: Any,
        url: str,
        token: str | Callable[[], str],
        handlers: Mapping[bytes, Any],
        *,
        instance: str = "",
        version: str = "",
        limits: SessionLimits = DEFAULT_LIMITS,
        contextFactory: IOpenSSLClientConnectionCreator | None = None,
        endpoint: IStreamClientEndpoint | None = None,
    ) -> None:
        """
        @param url: of the edge: C{http(s)://host[:port][/base]}.
        @param token: the credential, or what gives it, which is called before each attempt; C{""} shows none.
        @param handlers: of the streams that the edge opens, by name.
        @param instance: this process's own random name.
        @param endpoint: how to reach the edge, where that is not what the URL says.
        """
        self._reactor = reactor
        self._url = url
        self._handlers = handlers
        self._hello = {"version": version, "instance": instance}
        self._limits = limits
        self._token = token
        self._contextFactory = contextFactory
        self._endpoint = endpoint
        self._carrier(token if isinstance(token, str) else "")     # what cannot be used is an error now

    @inlineCallbacks
    def dial(self, onEvent: EventHandler = lambda event, members: None) -> Any:
        """
        Make one attempt.

        @param onEvent: called with the name and the members of each event that the edge tells of.
        @return: a C{Deferred} of the L{NativeLink}; it fails with L{TokenRefused}, L{NotAnEdge}, L{EdgeBusy}, L{Denied},
            or as connecting does.
        """
        clock = self._reactor
        session = YamuxSession(
            False, clock=clock, limits=self._limits, address=StreamAddress(key=self._url, dialect=NAME),
        )
        streams = MultistreamFactory(self._handlers, strict=True, follow=parametersReceiver)
        session.listener.listen(streams)
        try:
            token = self._token if isinstance(self._token, str) else self._token()
            yield self._carrier(token).connect(OneProtocol(session))
            if session.transport.subprotocol != SUBPROTOCOL:
                raise NotAnEdge(f"the server at {self._url} is no edge: it does not speak {SUBPROTOCOL}")
            link = NativeLink(session, streams, clock, onEvent)
            return (yield link.handshake(self._hello))
        except Exception:
            if session.transport is not None:
                session.abort()
            _dialError(Failure(), self._url).raiseException()


    def _carrier(self, token: str) -> WebSocketClientEndpoint:
        headers = [("Authorization", f"Bearer {token}")] if token else []
        return WebSocketClientEndpoint(
            self._reactor, self._url.rstrip("/") + PATH.decode(), headers=headers,
            subprotocols=[SUBPROTOCOL], contextFactory=self._contextFactory, endpoint=self._endpoint, limits=WEBSOCKET_LIMITS,
        )


def _dialError(failure: Failure, url: str = "") -> Failure:
    """
    What happened, in the words that an uplink understands.
    """
    error: Any = failure.value
    if isinstance(error, UpgradeRefused):
        if error.status in CREDENTIAL_STATUSES:
            return Failure(TokenRefused(f"the edge at {url} refuses the token{_sentence(error)}"))
        if error.status in TEMPORARY_STATUSES:
            return Failure(EdgeBusy(f"the edge at {url} cannot take an agent now", status=error.status))
        return Failure(NotAnEdge(f"the server at {url} is no edge, or an edge of another version", status=error.status))
    if isinstance(error, UpgradeFailed):
        return Failure(NotAnEdge(f"what answers at {url} is no edge: {error.args[0]}"))
    return failure


def _sentence(refused: UpgradeRefused) -> str:
    """
    The reason that an edge gives in the body of a refusal, C{""} for what is no plain text.
    """
    body = refused.body.strip()
    if not body or not refused.headers.get("content-type", "").startswith("text/plain"):
        return ""
    return f": {printable(body.splitlines()[0], 256)}"


def _welcomeTimeout(result: Any, seconds: float) -> Any:
    if not isinstance(result, Failure):
        return result
    raise EdgeBusy(f"the edge did not welcome us within {seconds:g} seconds")
