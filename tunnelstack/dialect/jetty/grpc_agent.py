"""
How an agent connects by gRPC, registers, and keeps lanes open for the requests of the edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast
from urllib.parse import urlsplit

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.jetty.grpc_link import GRPCLink
from tunnelstack.dialect.jetty.registration import (
    STATUS,
    Registration,
    RegistrationAnswer,
    RegistrationRefused,
    TransportUnavailable,
    Upstream,
)
from tunnelstack.interfaces import IAgentHost, ICallReceiver
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.grpc_call import GRPCCall, openCall
from tunnelstack.transport.http2.alpn import ALPN_HTTP2
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.transport.http2.endpoint import HTTP2ClientEndpoint
from tunnelstack.transport.http2.errors import HTTP2StreamFailed
from tunnelstack.wire.grpc import CallResult, Status
from tunnelstack.wire.http2.limits import CLIENT_LIMITS
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.protobuf import BadProtobuf, decode_message_untrusted, encode_message
from tunnelstack.wire.records.jetty import (
    DRAINING,
    REGISTER_SECONDS,
    UNAVAILABLE_MESSAGE,
    VERIFY_UNAVAILABLE,
)
from tunnelstack.wire.records.jetty_grpc import (
    CAPABILITIES,
    PROTOCOL_VERSION,
    REGISTER_PATH,
    TUNNEL_ID,
    VERSION_FIELD,
    RegisterRequest,
    RegisterResponse,
)

Fields = Sequence[tuple[bytes, bytes]]

WINDOW = 1024 * 1024
"""Octets of a request that wait at most for a local server that does not read."""

CONNECTION_WINDOW = 16 * 1024 * 1024

KEEPALIVE, KEEPALIVE_SECONDS, LONGEST_KEEPALIVE = 15.0, 10.0, 300.0
"""Seconds between pings, for their answer, and between pings to an edge that finds them too many."""

CODES: dict[Status, str] = {status: code for code, status in reversed(STATUS.items()) if status is not Status.UNAVAILABLE}
"""Codes of refusals by the status of the call.  C{UNAVAILABLE} has two, which the message distinguishes."""


class KeepaliveInterval:
    """
    How often an agent sends pings, over all its connections to one edge.

    @ivar seconds: between two of them.
    """

    def __init__(self) -> None:
        self.seconds = KEEPALIVE

    def slowDown(self) -> None:
        """
        The edge finds them too many.
        """
        self.seconds = min(LONGEST_KEEPALIVE, 2 * self.seconds)


def connectGRPC(
    host: IAgentHost, url: str, endpoint: IStreamClientEndpoint, registration: Registration, upstream: Upstream,
    keepalive: KeepaliveInterval | None = None,
) -> Deferred[GRPCLink]:
    """
    Connect to an edge, and register.

    @param url: C{grpc(s)://host:port}.
    @param endpoint: connects to it; for C{grpcs} by TLS that offers C{ALPN_HTTP2}.
    @param keepalive: kept between attempts.
    @return: a C{Deferred} of the link, which can be cancelled; it fails with L{RegistrationRefused}, or with
        L{TransportUnavailable} if another carrier may work.
    """
    attempt = _Attempt(host, url, registration, upstream, keepalive or KeepaliveInterval())
    return Deferred.fromCoroutine(attempt.run(endpoint))


class _Attempt:
    """
    One attempt.
    """

    def __init__(
        self, host: IAgentHost, url: str, registration: Registration, upstream: Upstream, keepalive: KeepaliveInterval
    ) -> None:
        parts = urlsplit(url)
        self._host = host
        self._secure = parts.scheme == "grpcs"
        self._authority = parts.netloc.encode()
        self._registration = registration
        self._upstream = upstream
        self._keepalive = keepalive

    async def run(self, endpoint: IStreamClientEndpoint) -> GRPCLink:
        """
        @return: the link.
        """
        clock = cast(IReactorTime, self._host.clock)
        limits = evolve(
            CLIENT_LIMITS, max_window=WINDOW, connection_window=CONNECTION_WINDOW, held_octets=CONNECTION_WINDOW,
            keepalive=self._keepalive.seconds, keepalive_timeout=KEEPALIVE_SECONDS, header_list=16 * 1024,
        )  # fmt: skip
        try:
            connection = await HTTP2ClientEndpoint(clock, endpoint, limits).connect()
        except CancelledError:
            raise
        except Exception as reason:
            raise TransportUnavailable(f"no connection by gRPC: {errorText(Failure(reason))}") from reason
        try:
            return await self._register(connection, clock)
        except BaseException:
            connection.abort()
            raise

    async def _register(self, connection: HTTP2Connection, clock: IReactorTime) -> GRPCLink:
        if self._secure and getattr(connection.transport, "negotiatedProtocol", None) != ALPN_HTTP2:
            raise TransportUnavailable("the edge does not offer HTTP/2 by TLS")
        registering = Registering()
        try:
            call = self._open(connection, REGISTER_PATH, registering, self._credentials())
        except HTTP2StreamFailed as reason:
            raise TransportUnavailable("the edge accepts no call") from reason
        registering.call = call
        call.send(encode_message(self._request()))
        registering.answer.addTimeout(REGISTER_SECONDS, clock)
        try:
            response = await registering.answer
        except TimeoutError as reason:
            raise TransportUnavailable("the edge did not answer the registration") from reason
        link = GRPCLink(
            connection, call, response, clock=clock, upstream=self._upstream, opening=self._open,
            answer=_answerOf(response), slowDown=self._keepalive.slowDown,
        )
        call.receiver = link
        link.start()
        return link

    def _open(self, connection: HTTP2Connection, path: bytes, receiver: ICallReceiver, metadata: Fields) -> GRPCCall:
        """
        @raise HTTP2StreamFailed: it is not possible, now or at all.
        """
        version = (VERSION_FIELD, b"%d" % PROTOCOL_VERSION)
        agent = (b"user-agent", (self._registration.agentVersion or "tunnelstack").encode("ascii", "replace"))
        return openCall(
            connection, path, receiver, scheme=b"https" if self._secure else b"http", authority=self._authority,
            metadata=[agent, version, *metadata],
        )

    def _credentials(self) -> Fields:
        registration = self._registration
        return [
            (b"authorization", b"Bearer " + registration.agentToken.encode()), (TUNNEL_ID, registration.tunnelId.encode()),
        ]  # fmt: skip

    def _request(self) -> RegisterRequest:
        registration = self._registration
        return RegisterRequest(
            tunnel_id=registration.tunnelId, agent_token=registration.agentToken, protocol_version=PROTOCOL_VERSION,
            agent_version=registration.agentVersion, capabilities=CAPABILITIES, instance_id=registration.instance,
        )


@implementer(ICallReceiver)
class Registering:
    """
    The receiver of C{Register} until the edge has answered.

    @ivar answer: a C{Deferred} of the first message, which fails with L{RegistrationRefused} or L{TransportUnavailable}.
    """

    call: GRPCCall

    def __init__(self) -> None:
        self.answer: Deferred[RegisterResponse] = Deferred()

    def answered(self, fields: Fields) -> None:
        """
        The message follows.
        """

    def messageReceived(self, message: bytes) -> None:
        if self.answer.called:
            return
        try:
            response = decode_message_untrusted(RegisterResponse, message)
        except BadProtobuf as bad:
            self.call.reset()
            self.answer.errback(TransportUnavailable(f"the answer of the edge is malformed: {bad}"))
            return
        if not response.session_id or not response.protocol_version:
            self.call.reset()
            self.answer.errback(TransportUnavailable("the answer of the edge is not a registration"))
        else:
            self.answer.callback(response)

    def halfClosed(self) -> None:
        """
        Not called: this is the client.
        """

    def ended(self, result: CallResult, reason: Exception | None) -> None:
        if not self.answer.called:
            self.answer.errback(_refusal(result, reason))


def _refusal(result: CallResult, reason: Exception | None) -> RegistrationRefused | TransportUnavailable:
    """
    @return: why the edge has not accepted the registration.
    """
    message = printable(result.message, 200)
    code = CODES.get(result.status, "")
    if result.status is Status.UNAVAILABLE and reason is None and message:
        code = VERIFY_UNAVAILABLE if message == UNAVAILABLE_MESSAGE else DRAINING
    if code and reason is None:
        return RegistrationRefused(code, message)
    return TransportUnavailable(f"the edge does not accept the call Register: {result.status.name} {message}")


def _answerOf(response: RegisterResponse) -> RegistrationAnswer:
    limits = response.limits
    return RegistrationAnswer(
        sessionId=response.session_id, subdomain=printable(response.subdomain, 64),
        publicURL=printable(response.public_url, 512), edgeId=printable(response.edge_id, 64),
        capabilities=tuple(each for each in CAPABILITIES if each in response.capabilities),
        limits={} if limits is None else {"max_body_bytes": limits.max_request_body_bytes},
    )
