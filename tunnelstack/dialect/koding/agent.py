"""
koding/tunnel at the agent: this machine is a client of a server, which requests streams.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.dialect.exponential_backoff import ExponentialBackoff
from tunnelstack.dialect.http_entry import OneProtocol
from tunnelstack.dialect.koding.control_client import (
    ClientControlStream,
    ConnectRequest,
    IdentifierRefused,
    NotAKodingServer,
)
from tunnelstack.dialect.koding.local_streams import LocalStreams
from tunnelstack.dialect.koding.settings import AgentSettings, parseTarget
from tunnelstack.dialect.koding.states import ClientState, ClientStates
from tunnelstack.dialect.session_link import SessionLink
from tunnelstack.errors import PeerError, Refused
from tunnelstack.interfaces import IAgentDialect, IAgentHost, IBackoff
from tunnelstack.session.announced import OpeningSession
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.settings.tables import Records
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.host_endpoint import connectTimedOut
from tunnelstack.wire.jsonline import JSONObject
from tunnelstack.wire.records.koding import OPEN_SECONDS, ControlMessage

RESPONSE_SECONDS = 30.0
"""Seconds for a server to answer the request; a genuine client has no limit."""

FINISH_SECONDS = 10.0
"""Seconds that requests under way may take after the server has ended the control stream."""

CLOSE_SECONDS = 1.0
"""Seconds that the session may take to close after that.  Streams for raw TCP and WebSockets are not waited for."""


class ClientLink(SessionLink[OpeningSession]):
    """
    A client's end of a session.
    """

    log = Logger()

    def __init__(self, session: OpeningSession, streams: LocalStreams, clock: IReactorTime) -> None:
        """
        @param streams: serves the streams that the server requests.
        """
        super().__init__(session)
        self.control = ClientControlStream(self._asked, self._controlEnded)
        self._streams = streams
        self._clock = clock
        session.listener.listen(streams)

    def _asked(self, message: ControlMessage) -> None:
        """
        Open exactly one stream for each message, whatever it is: the server counts them.
        """
        opened = self.session.openStream({"transport": message.transport, "port": message.local_port})
        opened.addErrback(
            lambda failure: self.log.warn("a stream could not be opened: {reason}", reason=errorText(failure))
        )

    def _controlEnded(self, reason: BaseException | None) -> None:
        """
        The server has disconnected this client: finish the requests under way, and close the session.
        """
        if self.session.lostReason() is not None:
            return
        if reason is not None:
            self.log.warn("the server has broken the rules of the control stream: {reason}", reason=str(reason))
        self.session.goAway()
        finished: Deferred[Any] = self._streams.whenNoRequest()
        finished.addTimeout(FINISH_SECONDS, self._clock).addErrback(lambda late: None)
        finished.addCallback(lambda _: self._close())

    def _close(self) -> None:
        self.session.drain()
        late = self._clock.callLater(CLOSE_SECONDS, self.session.abort)
        self.session.whenLost().addCallback(lambda _: late.cancel() if late.active() else None)

    @inlineCallbacks
    def drain(self) -> Any:
        """
        Finish the requests under way, and close the session.  The protocol has no message for a server to send no more
        requests, and it ends all of them at the end of the control stream; so this is waited with until none is under way.
        """
        self.session.goAway()
        while self._streams.requests and self.session.lostReason() is None:
            yield self._streams.whenNoRequest()
            yield deferLater(self._clock, 0)              # what has just been answered is sent
        self.control.close()
        yield self.session.drain()


@implementer(IAgentDialect, IBackoff)
class KodingAgent:
    """
    A client of one server.

    @ivar states: its states.  Watch them, or wait for one; see L{ClientStates}.
    """

    name = "koding"
    credentialErrors = (IdentifierRefused,)
    protocolErrors = (NotAKodingServer,)
    permanentErrors = (Refused, PeerError)

    def __init__(self, host: IAgentHost, settings: AgentSettings) -> None:
        """
        @raise ConfigurationError: a target or a file cannot be used.
        """
        self.address = urlsplit(settings.url).netloc
        self.states = ClientStates()
        self.link: ClientLink | None = None
        self._host = host
        self._settings = settings
        self._endpoint = host.edgeEndpoint(settings)
        self._backoff = ExponentialBackoff(host.random)
        http, tcp = (
            {port: host.target(target) for port, target in map(parseTarget, targets)}
            for targets in (settings.http, settings.tcp)
        )
        self._streams = LocalStreams(host.clock, http, tcp, settings.idleSeconds)
        host.readSecret(settings.identifierFile)          # a file that cannot be read is an error of the start

    # IBackoff

    def connected(self) -> None:
        self._backoff.reset()

    def nextWait(self) -> float:
        return self._backoff.next()

    # IAgentDialect

    @inlineCallbacks
    def dial(self) -> Any:
        """
        Make one attempt.  The identifier is read anew.

        @return: a C{Deferred} of the L{ClientLink}; it fails with L{IdentifierRefused}, L{NotAKodingServer}, C{ServerBusy}, or
            as connecting does.
        """
        if self.states.state(self.address) in (ClientState.UNKNOWN, ClientState.CLOSED):
            self._enter(ClientState.STARTED)
        self._enter(ClientState.CONNECTING)
        request = ConnectRequest(self._host.readSecret(self._settings.identifierFile), self._buildSession)
        yield self._endpoint.connect(OneProtocol(request))
        below = yield request.answered.addTimeout(RESPONSE_SECONDS, self._host.clock, connectTimedOut)
        link = ClientLink(OpeningSession(below), self._streams, self._host.clock)
        try:
            below.connector.connect(OneProtocol(link.control))
            yield link.control.handshakeDone.addTimeout(OPEN_SECONDS, self._host.clock, connectTimedOut)
        except PeerError as wrong:
            below.abort()
            raise NotAKodingServer(str(wrong)) from None
        except Exception:
            below.abort()
            raise
        return link

    def _buildSession(self) -> YamuxSession:
        return YamuxSession(
            True, clock=self._host.clock, limits=self._host.sessionLimits,
            address=StreamAddress(key=self.address, dialect=self.name),
        )

    def _enter(self, state: ClientState, reason: BaseException | None = None) -> None:
        self.states.change(self.address, state, reason)

    def up(self, link: ClientLink) -> Deferred[JSONObject]:
        self.link = link
        self._enter(ClientState.CONNECTED)
        link.whenLost().addCallback(lambda reason: self._lost(link, reason))
        facts: JSONObject = {}
        return succeed(facts)

    def _lost(self, link: ClientLink, reason: BaseException) -> None:
        """
        The session is lost: by the server, or because the agent has stopped.
        """
        stopped = self.link is not link
        self.link = None
        self._enter(ClientState.CLOSED if stopped else ClientState.DISCONNECTED, None if stopped else reason)

    def retire(self) -> None:
        self.link = None

    def report(self) -> JSONObject:
        return {"up": self.link is not None, "state": str(self.states.state(self.address)), "streams": self._streams.open}


def makeDialects(host: IAgentHost, tables: Records) -> list[IAgentDialect]:
    """
    Make one for each C{[[koding]]}.

    @raise ConfigurationError: a target or a file cannot be used.
    """
    return [KodingAgent(host, settings) for settings in tables["koding"]]
