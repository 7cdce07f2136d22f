"""
The native dialect at the edge: an agent knocks, shows its token, upgrades to a WebSocket, and says hello on its control stream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from secrets import token_hex
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

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
from tunnelstack.errors import Denied, Refused
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS, Timeouts
from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.interfaces import IDialect, IDiallingHandler
from tunnelstack.negotiation.multistream import MultistreamFactory
from tunnelstack.records import Claim, Grant, HTTPDoor, Principal, Service, TakenOverRequest
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.splice import Splice
from tunnelstack.transport.peers import peerOf
from tunnelstack.transport.websocket.server import upgrade
from tunnelstack.wire.http1.head import Fields, ResponseHead, encode_response, values

AUTHENTICATE_SECONDS = 10.0
"""Seconds within which it must be known who knocks."""

INSTANCE = re.compile(r"[0-9A-Za-z_-]{0,64}")
BEARER = re.compile(rb"(?i:bearer) +([!-~]+) *")

REASON_PHRASES = {401: b"Unauthorized", 400: b"Bad Request", 503: b"Service Unavailable"}


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

    def doors(self, edge: Any) -> list[HTTPDoor]:
        """
        As in L{IDialect}.

        @param edge: an L{IEdge<tunnelstack.interfaces.IEdge>}.
        """
        return [HTTPDoor(path=PATH, onRequest=partial(_UpgradeProtocol, self, edge))]


class _UpgradeProtocol(Protocol):
    """
    A connection between the request and the upgrade: nothing is read while it is found out whose it is.
    """

    transport: Any
    log = Logger()

    def __init__(self, dialect: NativeDialect, edge: Any, request: TakenOverRequest) -> None:
        self._dialect = dialect
        self._edge = edge
        self._request = request
        self._leftover = request.leftover
        self._disconnected = False
        self._authentication: Deferred[Any] | None = None
        transport = request.transport
        setattr(transport, "wrappedProtocol" if hasattr(transport, "wrappedProtocol") else "protocol", self)
        self.makeConnection(transport)

    def connectionMade(self) -> None:
        """
        Ask who it is.
        """
        if self._edge.stopping:
            self._reject(503, "This edge is about to stop.", [(b"Retry-After", b"5")])
            return
        self.transport.pauseProducing()
        request, peer = self._request, peerOf(self.transport)
        claim = Claim(
            dialect=NAME, path=PATH, fields=tuple(request.head.fields), certificate=request.certificate, address=peer,
            token=_bearerToken(request),
        )
        self._authentication = asked = self._edge.authenticate(claim)
        asked.addTimeout(AUTHENTICATE_SECONDS, self._edge.clock)
        asked.addCallbacks(self._authenticated, self._authenticationFailed)
        asked.addErrback(self._unexpectedError)

    def dataReceived(self, data: bytes) -> None:
        """
        What was on its way when reading was paused.
        """
        self._leftover += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Nobody waits for the answer any more.
        """
        self._disconnected = True
        if self._authentication is not None:
            self._authentication.cancel()

    def _authenticated(self, principal: Principal) -> None:
        if self._disconnected:
            return
        self.transport.resumeProducing()
        offered = b",".join(values(self._request.head.fields, b"sec-websocket-protocol"))
        if SUBPROTOCOL.encode() not in map(bytes.strip, offered.split(b",")):
            self._reject(400, f"This is a door for agents that speak {SUBPROTOCOL}.")
            return
        sessionFactory = _AgentSessionFactory(self._dialect, self._edge, principal, peerOf(self.transport))
        protocol = upgrade(
            self.transport, self._request.octets, sessionFactory, clock=self._edge.clock,
            subprotocols=[SUBPROTOCOL], limits=WEBSOCKET_LIMITS,
        )
        if self._leftover:
            protocol.dataReceived(self._leftover)

    def _authenticationFailed(self, failure: Failure) -> None:
        if self._disconnected:
            return
        self.transport.resumeProducing()
        peer = str(peerOf(self.transport))
        if failure.check(Refused):
            self.log.warn("agent at {peer} refused: {reason}", peer=peer, dialect=NAME, reason=str(failure.value))
            reason = failure.value
            sentence = reason.sentence if isinstance(reason, Denied) else "the token is not known to this edge"
            self._reject(401, f"{sentence[0].upper()}{sentence[1:]}.", [(b"WWW-Authenticate", b'Bearer realm="tunnelstack"')])
        else:
            self.log.error("it could not be found out who knocks from {peer}: {reason}", peer=peer, reason=str(failure.value))
            self._reject(503, "This edge cannot check tokens at the moment.", [(b"Retry-After", b"5")])

    def _unexpectedError(self, failure: Failure) -> None:
        self.log.failure("an agent could not be let in", failure=failure)
        self.transport.abortConnection()

    def _reject(self, status: int, sentence: str, fields: Fields | None = None) -> None:
        body = sentence.encode() + b"\n"
        head = ResponseHead(
            status, REASON_PHRASES[status],
            [
                (b"Content-Type", b"text/plain; charset=utf-8"), (b"Content-Length", b"%d" % len(body)),
                (b"Connection", b"close"), *(fields or ()),
            ],
        )  # fmt: skip
        self.transport.write(encode_response(head) + body)
        self.transport.loseConnection()


class _AgentSessionFactory(Factory):
    """
    One agent's session, from the upgrade on: builds it, and is the desk of its control stream.
    """

    noisy = False
    log = Logger()

    def __init__(self, dialect: NativeDialect, edge: Any, principal: Principal, peer: Any) -> None:
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

    def __init__(self, edge: Any, principal: Principal) -> None:
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


def _bearerToken(request: TakenOverRequest) -> str | None:
    """
    The token of a request.
    """
    shown = values(request.head.fields, b"authorization")
    found = BEARER.fullmatch(shown[0]) if len(shown) == 1 else None
    return found[1].decode("ascii") if found else None
