"""
Where the carriers of the dialect and all else of it meet: what an agent sends when it registers, what an edge answers, and
what an agent serves requests with.

A carrier reads and writes these records in its own form.  It decides nothing: the edge's L{IRegistrar} does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from attrs import Factory, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint

from tunnelstack.errors import Refused, TunnelError, Unavailable
from tunnelstack.interfaces import IExchangeServer, ITunnel
from tunnelstack.records import Principal
from tunnelstack.stream.errors import SessionClosed
from tunnelstack.wire.grpc import Status
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.records.jetty import (
    BAD_REGISTER,
    BAD_VERSION,
    DRAINING,
    FORBIDDEN,
    NO_SUCH_TUNNEL,
    REJECTED_MESSAGE,
    REPLACED,
    TOO_MANY_AGENTS,
    UNAVAILABLE_MESSAGE,
    VERIFY_REJECTED,
    VERIFY_UNAVAILABLE,
    GRPCHint,
)

NAME = "jetty"
"""The name of the dialect."""

HTTP, TCP, UDP = "http", "tcp", "udp"
PROTOCOLS = (HTTP, TCP, UDP)
"""The protocols of tunnels, which are kinds of services as well."""

STATUS = {
    VERIFY_REJECTED: Status.UNAUTHENTICATED,
    VERIFY_UNAVAILABLE: Status.UNAVAILABLE,
    FORBIDDEN: Status.PERMISSION_DENIED,
    NO_SUCH_TUNNEL: Status.NOT_FOUND,
    TOO_MANY_AGENTS: Status.RESOURCE_EXHAUSTED,
    REPLACED: Status.ABORTED,
    BAD_REGISTER: Status.INVALID_ARGUMENT,
    BAD_VERSION: Status.FAILED_PRECONDITION,
    DRAINING: Status.UNAVAILABLE,
}
"""The status of gRPC for each code of an error."""

SENTENCES = {
    VERIFY_REJECTED: REJECTED_MESSAGE,
    VERIFY_UNAVAILABLE: UNAVAILABLE_MESSAGE,
    FORBIDDEN: "the token does not allow this tunnel",
    NO_SUCH_TUNNEL: "there is no such tunnel",
    TOO_MANY_AGENTS: "too many agents serve this tunnel",
    REPLACED: "another agent has taken over this tunnel",
    BAD_REGISTER: "the first message must be a valid registration",
    BAD_VERSION: "the version of the protocol is not supported",
    DRAINING: "this edge is about to stop",
}
"""What is said for each code where nothing more is known.  A stock agent recognizes the first two."""


@frozen(kw_only=True)
class Registration:
    """
    What an agent sends when it registers.

    @ivar agentToken: a secret.
    @ivar transport: the carrier, C{"websocket"} or C{"grpc"}.
    @ivar capabilities: C{None} if it announces none, as a stock agent.
    @ivar agentVersion: for logs.
    @ivar instance: the random name of the agent's process; C{""} if it has none.
    @ivar peer: where it connects from.
    """

    tunnelId: str
    agentToken: str = field(repr=False)
    transport: str
    capabilities: tuple[str, ...] | None
    agentVersion: str = ""
    instance: str = ""
    peer: IAddress | None = None


UpstreamOf = Callable[[RequestHead], tuple[str, int] | None]
"""Gives host and port of the server that an agent is to use for a request; C{None} for its own."""


def ownUpstream(head: RequestHead) -> None:
    """
    As L{UpstreamOf}: the agent's own server for all requests.
    """


@frozen(kw_only=True)
class Acceptance:
    """
    What the edge answers.

    @ivar subdomain: the name of the tunnel's service.
    @ivar sessionId: 128 random bits in hexadecimal digits; a secret.
    @ivar protocol: one of L{PROTOCOLS}.
    @ivar principal: the agent, as the edge knows it: the C{principal} of the carrier's tunnel, whose C{key} is its C{agent}.
    @ivar instance: the C{instance} of the carrier's tunnel.  An older tunnel of the same agent and instance is replaced.
    @ivar process: the C{instance} of the agent's L{Registration}.
    @ivar transport: the carrier.
    @ivar grpc: where an agent that has come by WebSocket may come by gRPC; C{None} if it shall not.
    @ivar upstreamOf: applies the rules of the tunnel.
    """

    tunnelId: str
    subdomain: str
    publicURL: str
    edgeId: str
    sessionId: str = field(repr=False)
    protocol: str
    principal: Principal
    instance: str
    process: str = ""
    transport: str = ""
    grpc: GRPCHint | None = None
    upstreamOf: UpstreamOf = field(default=ownUpstream, repr=False)


class RegistrationRefused(Refused):
    """
    An agent is not accepted.

    @ivar code: one of the codes of L{tunnelstack.wire.records.jetty}; C{""} if the peer gave none.
    """

    def __init__(self, code: str, sentence: str = "", **details: object) -> None:
        """
        @param sentence: for people; C{""} for that of the code.
        """
        super().__init__(sentence or SENTENCES.get(code, "the registration was refused"), **details)
        self.code = code

    @property
    def sentence(self) -> str:
        """
        The message without its details, as it is sent.
        """
        return str(self.args[0])

    @property
    def grpcStatus(self) -> Status:
        """
        The status of gRPC.
        """
        return STATUS.get(self.code, Status.UNKNOWN)


class TransportUnavailable(Unavailable):
    """
    A carrier cannot be used with this edge, and another one may.
    """


class EdgeDrains(SessionClosed):
    """
    The edge is about to stop, and asks its agents to connect elsewhere.
    """


class UpstreamRefused(TunnelError):
    """
    The edge names a target that the agent does not allow.
    """


@frozen(kw_only=True)
class RegistrationAnswer:
    """
    What the edge answered, as an agent reads it from either carrier.

    @ivar capabilities: those that both have; C{None} if the edge announced none.
    @ivar limits: of the edge, by name.
    """

    sessionId: str = field(default="", repr=False)
    subdomain: str = ""
    publicURL: str = ""
    edgeId: str = ""
    capabilities: tuple[str, ...] | None = None
    limits: Mapping[str, int] = Factory(dict)
    grpc: GRPCHint | None = None


class IRegistrar(Protocol):
    """
    Decides which agents an edge accepts.
    """

    def verify(self, registration: Registration) -> Deferred[Acceptance]:
        """
        Verify the token of an agent.  The caller sets the time limit.

        @return: a C{Deferred} of the answer; it fails with L{RegistrationRefused}.
        """

    def arrived(self, tunnel: ITunnel, acceptance: Acceptance) -> Deferred[object]:
        """
        Publish the tunnel of an agent that was verified.

        @return: a C{Deferred} that fires when visitors can reach it; it fails with L{RegistrationRefused}.
        """


@frozen(kw_only=True)
class Upstream:
    """
    What an agent serves requests with.

    @ivar serverFor: called with the host and port that a request names, C{None} for the configured target; returns what serves
        it, or raises L{UpstreamRefused}, whose text is then the body of a 502.
    @ivar tcp: the target of TCP connections; C{None} if the tunnel is for something else.
    @ivar udp: host and port of the target of datagrams; C{None} if the tunnel is for something else.
    """

    serverFor: Callable[[tuple[str, int] | None], IExchangeServer]
    tcp: IStreamClientEndpoint | None = None
    udp: tuple[str, int] | None = None
