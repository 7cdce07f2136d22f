"""
The native dialect at the agent: dials an edge, opens the control stream, and serves the streams that the edge opens.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.http_entry import OneProtocol
from tunnelstack.dialect.native.control_client import ControlClient
from tunnelstack.dialect.native.control_messages import decodeBounds
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
from tunnelstack.interfaces import Handler, IServiceLink
from tunnelstack.negotiation.multistream import MultistreamFactory
from tunnelstack.records import Grant, Service
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.errors import UpgradeFailed, UpgradeRefused
from tunnelstack.wire.jsonline import JSONObject
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

T = TypeVar("T")

EventHandler = Callable[[str, JSONObject], object]
"""Called with the name and the members of an event of the edge."""


class TokenRefused(Refused):
    """
    The edge does not accept the token.
    """


class NotAnEdge(PeerError):
    """
    The server is not an edge, or an edge of another version.
    """


class EdgeBusy(Unavailable):
    """
    The edge, or a proxy in front of it, accepts no agent at the moment.
    """


@implementer(IServiceLink)
class NativeLink(SessionLink[YamuxSession]):
    """
    An agent's end of a session with its edge.

    @ivar agent: the name of this agent at the edge.
    @ivar draining: no more work is accepted.
    """

    log = Logger()

    def __init__(self, session: YamuxSession, streams: MultistreamFactory, clock: IReactorTime, onEvent: EventHandler) -> None:
        """
        @param streams: serves the streams that the edge opens.
        """
        super().__init__(session)
        self.agent = ""
        self.draining = False
        self._streams = streams
        self._clock = clock
        self._onEvent = onEvent
        self._welcome: Deferred[NativeLink] | None = None
        self._control = ControlClient(clock, self._eventReceived, self._controlEnded)

    def handshake(self, parameters: JSONObject) -> Deferred[NativeLink]:
        """
        Open the control stream.

        @param parameters: the version of the agent, and the name of its process.
        @return: fires with this link when the edge has accepted the agent.
        """
        welcome: Deferred[NativeLink] = Deferred()
        self._welcome = welcome
        welcome.addTimeout(WELCOME_SECONDS, self._clock, _welcomeTimeout)
        opened = streamEndpoint(self.session.connector, CONTROL, parameters).connect(OneProtocol(self._control.stream))
        opened.addErrback(self._controlEnded)
        return welcome

    def _eventReceived(self, event: str, members: JSONObject) -> None:
        waiting = self._welcome
        if event in ("welcome", "limits"):
            self._boundsReceived(members.get("limits"))
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
            waiting.errback(NotAnEdge("the first message of the edge was not a welcome"))

    def _boundsReceived(self, limits: object) -> None:
        self.bounds = bounds = decodeBounds(limits)
        self.session.limitStreams(min(bounds.streams, self.session.limits.max_streams))

    def _controlEnded(self, reason: Failure) -> None:
        waiting, self._welcome = self._welcome, None
        if waiting is not None:
            waiting.errback(_dialError(reason))
        if reason.check(PeerError) and not reason.check(ConnectionLost):
            self.log.warn("the edge broke the control protocol: {reason}", reason=str(reason.value))
        if self.session.lostReason() is None:
            self.session.drain()              # streams under way continue; no others can be opened

    # For the agent

    def announce(self, service: Service) -> Deferred[Grant]:
        """
        Request that the edge publishes a service.

        @return: fails with L{Denied}.
        """
        return self._control.announce(service)

    def withdraw(self, service: Service) -> Deferred[JSONObject]:
        """
        Request that the edge no longer publishes a service.
        """
        return self._control.withdraw(service)

    def handle(self, name: bytes, handler: Handler) -> None:
        """
        Serve streams of a name, which the edge opens from now on.
        """
        self._streams.handle(name, handler)

    def dial(self, to: str, purpose: str = "") -> IStreamClientEndpoint:
        """
        @param to: a service, C{agent/service}, or the name of an agent.
        @param purpose: C{""} for the service itself, or the name of a stream protocol.
        @return: an endpoint that connects to a service of another agent, through the edge.
        @raise UsageError: the parameters are longer than a line may be.
        """
        return dialEndpoint(self.session.connector, to, purpose)

    def drain(self) -> Deferred[None]:
        """
        Request no more work, and close the session when the last stream is done.
        """
        self.draining = True
        requested = self._control.drain().addErrback(_ignoreUnavailable)
        return requested.addCallback(lambda _: self.session.drain())


class NativeDialler:
    """
    Dials one edge.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        url: str,
        token: str | Callable[[], str],
        handlers: Mapping[bytes, Handler],
        *,
        instance: str = "",
        version: str = "",
        limits: SessionLimits = DEFAULT_LIMITS,
        contextFactory: IOpenSSLClientConnectionCreator | None = None,
        endpoint: IStreamClientEndpoint | None = None,
    ) -> None:
        """
        @param url: of the edge: C{http(s)://host[:port][/base]}.
        @param token: the credential, or a function that is called for it before each attempt; C{""} sends none.
        @param handlers: of the streams that the edge opens, by name.
        @param instance: the random name of this process.
        @param version: of this program, for the status of the edge.
        @param endpoint: connects to the edge, instead of to the host of the URL.
        """
        self._reactor = reactor
        self._url = url
        self._handlers = handlers
        self._hello = {"version": version, "instance": instance}
        self._limits = limits
        self._token = token
        self._contextFactory = contextFactory
        self._endpoint = endpoint
        self._carrier(token if isinstance(token, str) else "")     # an invalid URL is an error now

    @inlineCallbacks
    def dial(
        self, onEvent: EventHandler = lambda event, members: None,
    ) -> Generator[Deferred[Any], Any, NativeLink]:
        """
        Make one attempt.

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
                raise NotAnEdge(f"the server at {self._url} is not an edge: it does not accept the subprotocol {SUBPROTOCOL}")
            link = NativeLink(session, streams, clock, onEvent)
            yield link.handshake(self._hello)
            return link
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
    @return: the failure in one of the classes that the agent distinguishes.
    """
    error = failure.value
    if isinstance(error, UpgradeRefused):
        if error.status in CREDENTIAL_STATUSES:
            return Failure(TokenRefused(f"the edge at {url} refuses the token{_sentence(error)}"))
        if error.status in TEMPORARY_STATUSES:
            return Failure(EdgeBusy(f"the edge at {url} accepts no agent at the moment", status=error.status))
        return Failure(NotAnEdge(f"the server at {url} is not an edge, or an edge of another version", status=error.status))
    if isinstance(error, UpgradeFailed):
        return Failure(NotAnEdge(f"the server at {url} is not an edge: {error.args[0]}"))
    return failure


def _sentence(refused: UpgradeRefused) -> str:
    """
    @return: the reason in the body of a refusal, after a colon; C{""} if the body is not plain text.
    """
    body = refused.body.strip()
    if not body or not refused.headers.get("content-type", "").startswith("text/plain"):
        return ""
    return f": {printable(body.splitlines()[0], 256)}"


def _welcomeTimeout(result: T | Failure, seconds: float) -> T:
    if not isinstance(result, Failure):
        return result
    raise EdgeBusy(f"the edge did not accept the agent within {seconds:g} seconds")


def _ignoreUnavailable(failure: Failure) -> None:
    """
    The session is lost, so nothing is left to drain.
    """
    failure.trap(Unavailable)
