"""
The native dialect at the edge: an agent shows its token, upgrades to a WebSocket, and says hello on its control stream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from secrets import token_hex
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.http_entry import HTTPEntry, bearerToken, upgradeToWebSocket
from tunnelstack.dialect.native.control_server import ControlServer
from tunnelstack.dialect.native.protocol import (
    ABORT_DELAY_SECONDS,
    CONTROL,
    DIAL,
    MAX_LINE_OCTETS,
    MAX_NAME_OCTETS,
    NAME,
    PATH,
    SUBPROTOCOL,
    WEBSOCKET_LIMITS,
    WELCOME_SECONDS,
    parametersReceiver,
)
from tunnelstack.dialect.native.tunnel import NativeTunnel
from tunnelstack.doors import HTTPDoor
from tunnelstack.errors import Denied, Refused
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, Timeouts
from tunnelstack.exchange.whole_message import WholeResponse, textResponse
from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.interfaces import IDialect, IDiallingHandler, IEdge, IServerExchange
from tunnelstack.negotiation.multistream import MultistreamFactory
from tunnelstack.records import Claim, Grant, Principal, Service
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.splice import Splice
from tunnelstack.wire.http1.head import RequestHead, values

INSTANCE = re.compile(r"[0-9A-Za-z_-]{0,64}")


@implementer(IDialect)
class NativeDialect:
    """
    How our own agents come in.
    """

    name = NAME

    def __init__(self, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        """
        @param timeouts: of the exchanges that agents are asked.
        """
        self.timeouts = timeouts

    def doors(self, edge: IEdge) -> list[HTTPDoor]:
        """
        As in L{IDialect}.

        @param edge: an L{IEdge<tunnelstack.interfaces.IEdge>}.
        """
        entry = _UpgradeProtocol(self, edge)
        server = HTTPEntry(edge.clock, entry.authenticate, entry.enter, entry.refuse)
        return [HTTPDoor(path=PATH, server=server)]

    def close(self) -> None:
        """
        As in L{IDialect}.
        """


def makeDialects(edge: IEdge, tables: object) -> list[IDialect]:
    """
    Make the dialect of an edge.
    """
    return [NativeDialect(edge.timeouts)]


class NotNative(Refused):
    """
    The request does not offer the subprotocol of this dialect.
    """


class _UpgradeProtocol:
    """
    Authenticates agents, and upgrades their connections.
    """

    log = Logger()

    def __init__(self, dialect: NativeDialect, edge: IEdge) -> None:
        self._dialect = dialect
        self._edge = edge

    def authenticate(self, head: RequestHead, exchange: IServerExchange) -> Deferred[Principal]:
        """
        @raise Denied: the edge is about to stop.
        """
        if self._edge.stopping:
            raise Denied("stopping", "This edge is about to stop.")
        claim = Claim(
            dialect=NAME, path=PATH, fields=tuple(head.fields), certificate=exchange.certificate, address=exchange.peer,
            token=bearerToken(head.fields),
        )
        asked: Deferred[Principal] = self._edge.authenticate(claim)
        return asked

    def enter(self, principal: Principal, exchange: IServerExchange) -> None:
        """
        Upgrade.

        @raise NotNative: the agent speaks another protocol.
        """
        offered = b",".join(values(exchange.head.fields, b"sec-websocket-protocol"))
        if SUBPROTOCOL.encode() not in map(bytes.strip, offered.split(b",")):
            raise NotNative(f"This is a door for agents that speak {SUBPROTOCOL}.")
        sessionFactory = _AgentSessionFactory(self._dialect, self._edge, principal, exchange.peer)
        upgradeToWebSocket(
            exchange,
            sessionFactory,
            clock=self._edge.clock,
            subprotocols=[SUBPROTOCOL],
            limits=WEBSOCKET_LIMITS,
        )

    def refuse(self, failure: Failure, exchange: IServerExchange) -> WholeResponse:
        """
        Say why, as text.
        """
        error, peer = failure.value, str(exchange.peer)
        if isinstance(error, NotNative):
            return textResponse(400, str(error))
        if isinstance(error, Denied) and error.code == "stopping":
            return evolve(textResponse(503, error.sentence), fields=((b"Retry-After", b"5"),))
        if isinstance(error, Refused):
            self.log.warn("agent at {peer} refused: {reason}", peer=peer, dialect=NAME, reason=str(error))
            challenge = (b"WWW-Authenticate", b'Bearer realm="tunnelstack"')
            sentence = error.sentence if isinstance(error, Denied) else "the token is unknown to this edge"
            return evolve(textResponse(401, f"{sentence[0].upper()}{sentence[1:]}."), fields=(challenge,))
        self.log.error("authentication of {peer} failed: {reason}", peer=peer, reason=str(error))
        return evolve(textResponse(503, "This edge cannot check tokens at the moment."), fields=((b"Retry-After", b"5"),))


class _AgentSessionFactory(Factory):
    """
    One agent's session, from the upgrade on: builds it, and is the desk of its control stream.
    """

    noisy = False
    log = Logger()

    def __init__(self, dialect: NativeDialect, edge: IEdge, principal: Principal, peer: Any) -> None:
        self._dialect = dialect
        self._edge = edge
        self._principal = principal
        self._tunnel: Any = None
        self._peer = peer
        self._id = token_hex(4)
        self._deadline: Any = None
        self.session = YamuxSession(
            True, clock=edge.clock, limits=edge.sessionLimits,
            address=StreamAddress(key=principal.agent, principal=principal, dialect=NAME, peer=peer),
        )

    def buildProtocol(self, address: Any) -> YamuxSession:
        """
        The session, for the WebSocket.
        """
        handlers: dict[bytes, Any] = {CONTROL: _ControlStreamFactory(self), DIAL: _DialHandler(self._edge, self._principal)}
        self.session.listener.listen(MultistreamFactory(handlers, strict=True, follow=parametersReceiver))
        self._deadline = self._edge.clock.callLater(WELCOME_SECONDS, self._helloTimeout)
        self.session.whenLost().addCallback(self._lost)
        return self.session

    def _helloTimeout(self) -> None:
        self._abortSession("it did not say hello")

    def _abortSession(self, why: str) -> None:
        agent, peer = self._principal.agent, str(self._peer)
        self.log.warn("agent {agent} at {peer} dropped: {reason}", agent=agent, peer=peer, reason=why, dialect=NAME)
        self.session.abort()

    def _lost(self, reason: Any) -> None:
        if self._deadline.active():
            self._deadline.cancel()

    def controlStreamOpened(self, said: Mapping[str, Any]) -> ControlServer | None:
        """
        The agent has opened its control stream.

        @return: C{None} if it is not to have one.
        """
        instance, version = said.get("instance", ""), said.get("version", "")
        if self._tunnel is not None:
            self.log.warn("agent {agent} opened a second control stream", agent=self._principal.agent)
            return None
        sound = isinstance(instance, str) and INSTANCE.fullmatch(instance) and isinstance(version, str)
        if not sound or len(version) > 128:
            self._abortSession("its hello cannot be understood")
            return None
        self._deadline.cancel()
        self._tunnel = tunnel = NativeTunnel(
            self.session, self._principal, instance, clock=self._edge.clock, timeouts=self._dialect.timeouts,
            version=version,
        )
        return self._admit(tunnel)

    def _admit(self, tunnel: NativeTunnel) -> ControlServer:
        try:
            self._edge.arrived(tunnel)
        except Denied as denied:
            first: dict[str, Any] = {"event": "ended", "code": denied.code, "reason": denied.sentence}
            self._edge.clock.callLater(ABORT_DELAY_SECONDS, self.session.abort)
        else:
            first = {
                "event": "welcome", "agent": self._principal.agent, "session": self._id,
                "limits": {"line": MAX_LINE_OCTETS, "streams": self._edge.sessionLimits.max_streams},
            }
        tunnel.control = control = ControlServer(self, self._edge.clock, first)
        return control

    # The desk of the control stream

    def announce(self, service: Service) -> Deferred[Grant]:
        """
        Publish it.
        """
        asked: Deferred[Grant] = self._edge.announce(self._tunnel, service)
        return asked.addCallback(self._granted, service)

    def _granted(self, grant: Grant, service: Service) -> Grant:
        self._tunnel.servicePublished(service)
        return grant

    def withdraw(self, service: Service) -> Deferred[None]:
        """
        Publish it no more.
        """
        self._tunnel.serviceWithdrawn(service)
        done: Deferred[None] = self._edge.withdraw(self._tunnel, service)
        return done

    def drain(self) -> None:
        """
        The agent is about to stop: nothing new from here on.
        """
        self._tunnel.draining = True
        self._edge.clock.callLater(0, self._tunnel.drain)      # behind the answer, which ends nothing

    def ended(self, reason: Failure) -> None:
        """
        A session without its control stream is of no use, unless it is draining.
        """
        if not self._tunnel.draining and self.session.lostReason() is None:
            self._abortSession(f"its control stream ended: {reason.getErrorMessage()}")


class _ControlStreamFactory:
    """
    Takes the control stream.
    """

    def __init__(self, sessionFactory: _AgentSessionFactory) -> None:
        self._sessionFactory = sessionFactory

    def buildProtocol(self, address: StreamAddress) -> ControlServer | None:
        """
        As in L{IProtocolFactory<twisted.internet.interfaces.IProtocolFactory>}.
        """
        return self._sessionFactory.controlStreamOpened(address.parameters)


@implementer(IDiallingHandler)
class _DialHandler:
    """
    Takes streams that lead through the edge to another agent's service.
    """

    def __init__(self, edge: IEdge, principal: Principal) -> None:
        self._edge = edge
        self._principal = principal

    def connect(self, address: StreamAddress) -> Deferred[IProtocol]:
        """
        As in L{IDiallingHandler}.
        """
        to, purpose = address.parameters.get("to"), address.parameters.get("purpose", "")
        if not (isinstance(to, str) and isinstance(purpose, str) and len(to) < 256 and len(purpose) <= MAX_NAME_OCTETS):
            raise Denied("malformed", "say whom to reach, and for which purpose")
        tunnel, asked = self._edge.reach(self._principal, to, purpose)
        splice = Splice(self._edge.clock)
        dialled: Deferred[Any] = tunnel.endpointFor(asked, wait=True).connect(SpliceFactory(splice.far))
        return dialled.addCallback(lambda _: splice.near)

