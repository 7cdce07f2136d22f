"""
The call C{Register} at the edge: an agent registers, and as long as the call is open both sides send signs of life, the edge
asks for lanes, and either may announce its end.

::

    state         until
    ------------  ------------------------------------------------------------
    new           the first message has arrived
    verifying     the edge has accepted the agent; errors are trailers-only
    registered    either side ends the call

A client whose C{Register} is unary ends its direction with its message.  It is answered, its call ends with C{OK}, and its
session lives as long as it has lanes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hmac import compare_digest
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.jetty.grpc_tunnel import GRPCTunnel
from tunnelstack.dialect.jetty.register_pings import MOST_QUEUED, RegisterPings
from tunnelstack.dialect.jetty.registration import (
    STATUS,
    Acceptance,
    IRegistrar,
    Registration,
    RegistrationRefused,
)
from tunnelstack.interfaces import ICallReceiver
from tunnelstack.stream.errors import SessionClosed, SessionLost
from tunnelstack.transport.grpc_call import GRPCCall
from tunnelstack.wire.grpc import CallResult, Status
from tunnelstack.wire.http1.head import first
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.protobuf import BadProtobuf, decode_message_untrusted, encode_message
from tunnelstack.wire.records.jetty import (
    BAD_REGISTER,
    BAD_VERSION,
    DRAINING,
    FORBIDDEN,
    GRPC,
    REGISTER_SECONDS,
    REPLACED,
    VERIFY_SECONDS,
    VERIFY_UNAVAILABLE,
)
from tunnelstack.wire.records.jetty_grpc import (
    CAPABILITIES,
    EDGE_ID,
    PROTOCOL_VERSION,
    TUNNEL_ID,
    VERSION_FIELD,
    Drain,
    ErrorInfo,
    LaneDemand,
    Limits,
    Ping,
    Pong,
    RegisterRequest,
    RegisterResponse,
)

Fields = Sequence[tuple[bytes, bytes]]
Control = Ping | Pong | Drain | LaneDemand | ErrorInfo

BEARER = re.compile(rb"(?i:bearer) +([!-~]+) *")

LONGEST_REGISTRATION = 64 * 1024
"""Octets of the longest message of C{Register}: it may come from a stranger."""

CLOSE_CODES = {"replaced": REPLACED, "stopping": DRAINING}
"""Codes of L{Denied<tunnelstack.errors.Denied>} as Jetty has them; the others are C{forbidden}."""


class Door(Protocol):
    """
    Where agents register.
    """

    registrar: IRegistrar

    @property
    def clock(self) -> IReactorTime: ...
    @property
    def stopping(self) -> bool: ...

    def makeTunnel(self, register: RegisterCall, acceptance: Acceptance, limits: Limits) -> GRPCTunnel:
        """
        @return: the tunnel of an agent that was accepted.
        """

    def limitsFor(self, request: RegisterRequest) -> Limits:
        """
        @return: what an agent is granted.
        """


@implementer(ICallReceiver)
class RegisterCall:
    """
    A call of C{Register}.

    @ivar capabilities: those that both sides have.
    @ivar version: the version that the agent reports.
    """

    log = Logger()

    def __init__(self, door: Door, call: GRPCCall, fields: Fields, peer: IAddress) -> None:
        """
        @param fields: of the head of the call.
        @param peer: the address of the agent.
        """
        self.capabilities: tuple[str, ...] = ()
        self.version = ""
        self._door = door
        self._call = call
        self._fields = list(fields)
        self._peer = peer
        self._request: RegisterRequest | None = None
        self._halfClosed = False
        self._verifying: Deferred[object] | None = None
        self._tunnel: GRPCTunnel | None = None
        self._registered = False
        self._deadline: IDelayedCall | None = door.clock.callLater(REGISTER_SECONDS, self._expired)
        self._pings = RegisterPings(door.clock, self._sendPing, self._silent)

    # The registration

    def _expired(self) -> None:
        self._deadline = None
        self._refuse(RegistrationRefused(BAD_REGISTER if self._request is None else BAD_VERSION))

    def _stopDeadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()

    def _receiveFirst(self, request: RegisterRequest) -> None:
        """
        An agent that names no version is a unary client of the first two fields, if it sends nothing else: that is known once
        it has ended its direction.
        """
        self._request = request
        version = request.protocol_version or int(_digits(first(self._fields, VERSION_FIELD)))
        if version or self._halfClosed:
            self._verify(request)

    def _verify(self, request: RegisterRequest) -> None:
        self._stopDeadline()
        try:
            registration = self._registration(request)
            verifying: Deferred[Acceptance] = self._door.registrar.verify(registration)
        except RegistrationRefused:
            verifying = fail()
        verifying.addTimeout(VERIFY_SECONDS, self._door.clock)
        self.version = request.agent_version
        self.capabilities = tuple(each for each in CAPABILITIES if each in request.capabilities)
        accepted = verifying.addCallback(self._accepted, self._door.limitsFor(request))
        self._verifying = accepted.addErrback(self._refused)

    def _registration(self, request: RegisterRequest) -> Registration:
        """
        @raise RegistrationRefused: the message and the metadata differ, or name no tunnel.
        """
        found = BEARER.fullmatch(first(self._fields, b"authorization") or b"")
        token = found[1].decode() if found is not None else request.agent_token
        tunnelId = request.tunnel_id or (first(self._fields, TUNNEL_ID) or b"").decode("latin-1")
        named = (first(self._fields, TUNNEL_ID) or tunnelId.encode()).decode("latin-1")
        same = not request.agent_token or compare_digest(request.agent_token.encode(), token.encode())
        if not (same and tunnelId and named == tunnelId):
            raise RegistrationRefused(BAD_REGISTER)
        return Registration(
            tunnelId=tunnelId, agentToken=token, transport=GRPC, capabilities=request.capabilities,
            agentVersion=printable(request.agent_version, 64), instance=request.instance_id, peer=self._peer,
        )

    def _accepted(self, acceptance: Acceptance, limits: Limits) -> Deferred[object]:
        """
        Register the tunnel before the agent knows, so that it is reachable when it does.
        """
        self._tunnel = tunnel = self._door.makeTunnel(self, acceptance, limits)
        arrived: Deferred[object] = self._door.registrar.arrived(tunnel, acceptance)
        arrived.addCallback(self._arrived, acceptance, limits)
        return arrived

    def _arrived(self, published: object, acceptance: Acceptance, limits: Limits) -> None:
        if self._call.over or self._tunnel is None:
            return
        self._registered = True
        self._call.accept([(EDGE_ID, acceptance.edgeId.encode()), (VERSION_FIELD, b"%d" % PROTOCOL_VERSION)])
        self._call.send(encode_message(RegisterResponse(
            session_id=acceptance.sessionId, tunnel_id=acceptance.tunnelId, subdomain=acceptance.subdomain,
            public_url=acceptance.publicURL, edge_id=acceptance.edgeId, protocol_version=PROTOCOL_VERSION,
            capabilities=self.capabilities, limits=limits,
        )))  # fmt: skip
        if self._halfClosed:
            self._call.finish()
            self._tunnel.registerHalfClosed()
        else:
            self._pings.start()

    def _refused(self, failure: Failure) -> None:
        if failure.check(TimeoutError):
            reason: BaseException = RegistrationRefused(VERIFY_UNAVAILABLE)
        else:
            reason = failure.value or RegistrationRefused(VERIFY_UNAVAILABLE)
        if not isinstance(reason, (RegistrationRefused, CancelledError)):
            self.log.failure("the registration of an agent failed", failure=failure)
            reason = RegistrationRefused(VERIFY_UNAVAILABLE)
        if isinstance(reason, RegistrationRefused):
            self._refuse(reason)

    def _refuse(self, reason: RegistrationRefused) -> None:
        self._call.finish(CallResult(reason.grpcStatus, reason.sentence))
        self._over(SessionClosed(reason.sentence))

    # ICallReceiver

    def answered(self, fields: Fields) -> None:
        """
        Not called: this is the server.
        """

    def messageReceived(self, message: bytes) -> None:
        try:
            request = decode_message_untrusted(RegisterRequest, message)
        except BadProtobuf as bad:
            self._call.finish(CallResult(Status.INTERNAL, str(bad)))
            self._over(SessionLost(str(bad)))
            return
        self._pings.heard()
        if self._request is None:
            self._receiveFirst(request)
        elif self._registered:
            self._controlReceived(request.control)

    def halfClosed(self) -> None:
        self._halfClosed = True
        if self._request is None:
            self._refuse(RegistrationRefused(BAD_REGISTER))
        elif self._verifying is None:
            self._verify(self._request)
        elif self._registered and self._tunnel is not None:
            self._call.finish()
            self._over(SessionClosed("the agent has ended the session"))

    def ended(self, result: CallResult, reason: Exception | None) -> None:
        self._over(SessionLost(result.message or "the agent has ended the session"))

    def _over(self, reason: SessionLost) -> None:
        self._stopDeadline()
        self._pings.stop(reason)
        verifying, self._verifying = self._verifying, None
        if verifying is not None:
            verifying.cancel()
        if self._tunnel is not None:
            self._tunnel.sessionOver(reason)

    # Control

    def _controlReceived(self, control: Control | None) -> None:
        if isinstance(control, Ping):
            self._send(Pong(nonce=control.nonce))
        elif isinstance(control, Pong):
            self._pings.answered(control.nonce)
        elif isinstance(control, Drain) and self._tunnel is not None:
            self._tunnel.agentDrains()

    def _send(self, control: Control) -> None:
        if self._call.queued > MOST_QUEUED:
            self._silent(SessionLost("the agent does not read what it is sent"))
        elif self._registered and not self._halfClosed:
            self._call.send(encode_message(RegisterResponse(control=control)))

    def _sendPing(self, nonce: int) -> None:
        self._send(Ping(nonce=nonce))

    def _silent(self, reason: SessionLost) -> None:
        self._call.reset()
        self._over(reason)

    # From the tunnel

    def demand(self, count: int) -> None:
        """
        Ask for lanes.
        """
        self._send(LaneDemand(count=count))

    def ping(self) -> Deferred[float]:
        """
        Measure the round trip to the agent, whatever is in between.
        """
        return self._pings.ping()

    def announceDrain(self, graceMs: int) -> None:
        """
        Notify the agent that the session ends after the work under way.  If the edge stops, it is to connect elsewhere;
        otherwise it has another session already.
        """
        stops = self._door.stopping
        reason = "the edge is about to stop" if stops else "another session has taken over"
        self._send(Drain(grace_ms=graceMs, reason=reason, reconnect=stops))

    def close(self, code: str, reason: str) -> None:
        """
        End the call.

        @param code: why; C{""} in good order.
        """
        if self._call.over:
            return
        if not code:
            self._call.finish()
        else:
            refused = RegistrationRefused(code if code in STATUS else CLOSE_CODES.get(code, FORBIDDEN), reason)
            self._send(ErrorInfo(code=refused.code, message=reason))
            self._call.finish(CallResult(refused.grpcStatus, reason))
        self._pings.stop(SessionClosed(reason))


def _digits(value: bytes | None) -> bytes:
    """
    @return: a number of few digits; C{b"0"} for what is none.
    """
    return value if value is not None and value.isdigit() and len(value) < 6 else b"0"
