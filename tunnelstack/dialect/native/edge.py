"""
The native dialect at the edge: an agent sends its token, upgrades to a WebSocket, and introduces itself on its control stream.
"""

from __future__ import annotations

import re
from secrets import token_hex
from typing import NoReturn

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.http_entry import HTTPEntry, bearerToken, upgradeToWebSocket
from tunnelstack.dialect.native.control_messages import encodeBounds
from tunnelstack.dialect.native.control_server import ControlServer
from tunnelstack.dialect.native.control_stream import ControlStream
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
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.whole_message import WholeResponse, textResponse
from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.interfaces import Handler, IDialect, IDiallingHandler, IEdge, IServerExchange
from tunnelstack.negotiation.endpoint import NegotiatingFactory
from tunnelstack.records import (
    Claim,
    Grant,
    Principal,
    Purpose,
    Service,
    SSHPurpose,
    StreamPurpose,
    TCPPurpose,
    TerminalPurpose,
)
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionLost, StreamResetError, UnsupportedPurpose
from tunnelstack.stream.splice import Splice
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.wire.http1.head import RequestHead, values
from tunnelstack.wire.jsonline import JSONObject
from tunnelstack.wire.negotiation.base import Negotiation, NegotiationSequence
from tunnelstack.wire.negotiation.multistream.names import NameTable
from tunnelstack.wire.negotiation.multistream.responder import MultistreamResponder

INSTANCE = re.compile(r"[0-9A-Za-z_-]{0,64}")


@implementer(IDialect)
class NativeDialect:
    """
    How the agents of tunnelstack connect to an edge.
    """

    name = NAME

    def __init__(self) -> None:
        self._tunnels: set[NativeTunnel] = set()
        self.dialHandler: _DialHandler
        self.welcomeTimer: SharedTimer | None = None

    def doors(self, edge: IEdge) -> list[HTTPDoor]:
        edge.watchBounds(self._boundsChanged)
        self.dialHandler = _DialHandler(edge)
        self.welcomeTimer = SharedTimer(edge.clock)
        entry = _UpgradeProtocol(self, edge)
        server = HTTPEntry(edge.clock, entry.authenticate, entry.enter, entry.refuse)
        return [HTTPDoor(path=PATH, server=server)]

    def admitted(self, tunnel: NativeTunnel) -> None:
        """
        The edge has taken an agent in.
        """
        self._tunnels.add(tunnel)

    def lost(self, tunnel: NativeTunnel) -> None:
        """
        A tunnel is lost, whether the edge had taken it in or not.
        """
        self._tunnels.discard(tunnel)

    def _boundsChanged(self, bounds: ExchangeBounds) -> None:
        for tunnel in self._tunnels:
            if tunnel.control is not None:
                tunnel.control.sendEvent("limits", limits=encodeBounds(bounds))

    def close(self) -> None:
        """
        Wait for no agent any more.
        """
        if self.welcomeTimer is not None:
            self.welcomeTimer.stop()


def makeDialects(edge: IEdge, tables: object) -> list[IDialect]:
    """
    @return: the dialect; it has no tables.
    """
    return [NativeDialect()]


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
        @return: fails with L{Refused}.
        @raise Denied: the edge is about to stop.
        """
        if self._edge.stopping:
            raise Denied("stopping", "This edge is about to stop.")
        claim = Claim(
            dialect=NAME, path=PATH, fields=tuple(head.fields), certificate=exchange.certificate, address=exchange.peer,
            token=bearerToken(head.fields),
        )
        principal: Deferred[Principal] = self._edge.authenticate(claim)
        return principal

    def enter(self, principal: Principal, exchange: IServerExchange) -> None:
        """
        Upgrade the connection.

        @raise NotNative: the request does not offer the subprotocol.
        """
        offered = b",".join(values(exchange.head.fields, b"sec-websocket-protocol"))
        if SUBPROTOCOL.encode() not in map(bytes.strip, offered.split(b",")):
            raise NotNative(f"This path is for agents with the subprotocol {SUBPROTOCOL}.")
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
        @return: the refusal, with the reason as text.
        """
        error, peer = failure.value, addressText(exchange.peer)
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


_NAMES = NameTable((CONTROL, DIAL))


def _makeNegotiation() -> Negotiation:
    return NegotiationSequence(MultistreamResponder(_NAMES, strict=True), parametersReceiver)


class _AgentSessionFactory(Factory):
    """
    The session of one agent from the upgrade on: builds it, and handles the requests of its control stream.
    """

    noisy = False
    log = Logger()

    def __init__(self, dialect: NativeDialect, edge: IEdge, principal: Principal, peer: IAddress) -> None:
        self._dialect = dialect
        assert dialect.welcomeTimer is not None      # the doors are open
        self._timer = dialect.welcomeTimer
        self._edge = edge
        self._principal = principal
        self._tunnel: NativeTunnel | None = None
        self._peer = peer
        self._id = token_hex(4)
        self.session = YamuxSession(
            True, clock=edge.clock, limits=edge.sessionLimits,
            address=StreamAddress(key=principal.agent, principal=principal, dialect=NAME, peer=peer),
        )

    def buildProtocol(self, address: object) -> YamuxSession:
        handlers: dict[bytes, Handler] = {CONTROL: _ControlStreamFactory(self), DIAL: self._dialect.dialHandler}
        self.session.listener.listen(NegotiatingFactory(handlers, makeNegotiation=_makeNegotiation))
        self._timer.add(self, self._timer.seconds() + WELCOME_SECONDS)
        self.session.whenLost().addCallback(self._lost)
        return self.session

    def timedOut(self, now: float) -> None:
        self._abortSession(f"it did not open a control stream within {WELCOME_SECONDS:g} seconds")

    def _abortSession(self, why: str) -> None:
        agent, peer = self._principal.agent, addressText(self._peer)
        self.log.warn("agent {agent} at {peer} dropped: {reason}", agent=agent, peer=peer, reason=why, dialect=NAME)
        self.session.abort()

    def _lost(self, reason: SessionLost) -> None:
        self._timer.discard(self)
        if self._tunnel is not None:
            self._dialect.lost(self._tunnel)

    def controlStreamOpened(self, parameters: JSONObject) -> ControlStream | None:
        """
        The agent has opened its control stream.

        @param parameters: the version of the agent, and the name of its process.
        @return: C{None} if the stream is refused.
        """
        instance, version = parameters.get("instance", ""), parameters.get("version", "")
        if self._tunnel is not None:
            self.log.warn("agent {agent} opened a second control stream", agent=self._principal.agent)
            return None
        if not (isinstance(instance, str) and INSTANCE.fullmatch(instance) and isinstance(version, str)) or len(version) > 128:
            self._abortSession("the parameters of its control stream are invalid")
            return None
        self._timer.discard(self)
        self._tunnel = tunnel = NativeTunnel(
            self.session, self._principal, instance, clock=self._edge.clock, bounds=self._edge.bounds, version=version,
        )
        return self._admit(tunnel).stream

    def _admit(self, tunnel: NativeTunnel) -> ControlServer:
        try:
            self._edge.arrived(tunnel)
        except Denied as denied:
            first: JSONObject = {"event": "ended", "code": denied.code, "reason": denied.sentence}
            self._edge.clock.callLater(ABORT_DELAY_SECONDS, self.session.abort)
        else:
            first = {
                "event": "welcome", "agent": self._principal.agent, "session": self._id,
                "limits": {"line": MAX_LINE_OCTETS, **encodeBounds(self._edge.bounds)},
            }
            self._dialect.admitted(tunnel)
        tunnel.control = control = ControlServer(self, self._edge.clock, first)
        return control

    # ControlHandler

    def announce(self, service: Service) -> Deferred[Grant]:
        tunnel = self._controlledTunnel()
        granted: Deferred[Grant] = self._edge.announce(tunnel, service)
        return granted.addCallback(_published, tunnel, service)

    def withdraw(self, service: Service) -> Deferred[None]:
        tunnel = self._controlledTunnel()
        tunnel.serviceWithdrawn(service)
        withdrawn: Deferred[None] = self._edge.withdraw(tunnel, service)
        return withdrawn

    def drain(self) -> None:
        tunnel = self._controlledTunnel()
        tunnel.refuseMore()
        self._edge.clock.callLater(0, tunnel.drain)            # after the answer, because draining closes the control stream

    def ended(self, reason: Failure) -> None:
        # Without its control stream a session cannot be used, unless it is draining.
        if not self._controlledTunnel().draining and self.session.lostReason() is None:
            self._abortSession(f"its control stream ended: {errorText(reason)}")

    def _controlledTunnel(self) -> NativeTunnel:
        assert self._tunnel is not None       # made with the control stream
        return self._tunnel


def _published(grant: Grant, tunnel: NativeTunnel, service: Service) -> Grant:
    tunnel.servicePublished(service)
    return grant


class _ControlStreamFactory(Factory):
    """
    Accepts the control stream.
    """

    noisy = False

    def __init__(self, sessionFactory: _AgentSessionFactory) -> None:
        self._sessionFactory = sessionFactory

    def buildProtocol(self, addr: object) -> ControlStream | None:
        assert isinstance(addr, StreamAddress)
        return self._sessionFactory.controlStreamOpened(addr.parameters)


@implementer(IDiallingHandler)
class _DialHandler:
    """
    Accepts streams to a service of another agent, through the edge; one for all agents.
    """

    def __init__(self, edge: IEdge) -> None:
        self._edge = edge

    def connect(self, address: StreamAddress) -> Deferred[IProtocol]:
        to, purpose = address.parameters.get("to"), address.parameters.get("purpose", "")
        if not (isinstance(to, str) and isinstance(purpose, str) and len(to) < 256 and len(purpose) <= MAX_NAME_OCTETS):
            raise Denied("malformed", "the target or the purpose is missing or too long")
        assert address.principal is not None  # of the agent that opened the stream
        tunnel, wanted = self._edge.reach(address.principal, to, purpose)
        splice = Splice(self._edge.clock)
        try:
            endpoint = tunnel.endpointFor(wanted, wait=True)
        except UnsupportedPurpose:
            raise _notServed(to, wanted) from None
        dialled: Deferred[IProtocol] = endpoint.connect(SpliceFactory(splice.far))
        return dialled.addCallbacks(lambda _: splice.near, _farRefusal, errbackArgs=(to, wanted))


def _farRefusal(failure: Failure, to: str, wanted: Purpose) -> NoReturn:
    """
    Raise what the dialler is sent when the far agent did not accept its stream.  Agents of this dialect give no reason.
    """
    if failure.check(StreamResetError):
        raise _notServed(to, wanted)
    failure.raiseException()


def _notServed(to: str, wanted: Purpose) -> Denied:
    """
    @return: why an agent that is connected does not serve a purpose.
    """
    match wanted:
        case SSHPurpose():
            return Denied("absent", f"{to} has no SSH server")
        case TerminalPurpose():
            return Denied("absent", f"{to} has no terminals")
        case StreamPurpose(name=name):
            return Denied("unsupported", f"{to} does not serve the purpose {name.decode()}")
        case TCPPurpose(host=host, port=port) if port:
            return Denied("absent", f"{to} cannot reach {host}:{port}, or does not allow it")
    return Denied("absent", f"the agent of {to} cannot connect to its server")

