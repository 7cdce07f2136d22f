"""
What Jetty's edge and agents send one another over WebSocket: records of the frames, and the capabilities without which some of
them are not sent.  L{tunnelstack.wire.records.jetty_frames} has their JSON.

A peer that announces no capabilities is one of the stock: it receives nothing beyond what the public programs know.

Source: shaferllc/jetty-client at e3a56e59; Jetty documentation, "Streaming Response Support", "OpenTelemetry Tracing".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import Factory, frozen

AGENT_PATH = "/agent"
"""To which agents connect at an edge."""

SUBPROTOCOL = "jetty.v0.json"
"""The subprotocol of WebSocket that our agent offers.  It need not be selected."""

PROTOCOL_VERSION = 1

STREAM_RESPONSE, STREAM_REQUEST, CANCEL = "stream-resp/1", "stream-req/1", "cancel/1"
MULTIPLE_VALUES, UPGRADE, RAW, DRAIN, FLOW = "mv-headers/1", "upgrade/1", "raw/1", "drain/1", "flow/1"
HALF_CLOSE = "half-close/1"
CAPABILITIES = (STREAM_RESPONSE, STREAM_REQUEST, CANCEL, MULTIPLE_VALUES, UPGRADE, RAW, DRAIN, FLOW, HALF_CLOSE)
"""Ours, in the order in which we announce them."""

STOCK: frozenset[str] = frozenset()
"""The capabilities of a peer that announced none."""

WEBSOCKET, GRPC = "websocket", "grpc"
TRANSPORTS = (WEBSOCKET, GRPC)

MESSAGE_LIMIT, STOCK_MESSAGE_LIMIT = 16 * 1024 * 1024, 10 * 1024 * 1024
"""Octets of the longest message that we accept, and that a stock agent accepts."""

BODY_LIMIT, STOCK_BODY_LIMIT = 10 * 1024 * 1024, 7 * 1024 * 1024
"""Octets of the longest body of a request, and of one to a stock agent, whose message must have room for its base64."""

CHUNK_OCTETS = 32 * 1024
"""Octets in one chunk of a response, and in one frame of a raw connection."""

REGISTER_SECONDS, VERIFY_SECONDS = 10.0, 5.0
"""Within which an agent must register and be answered, and within which its token must be verified."""

PING_SECONDS = 20.0
"""Between the pings of an edge."""

STOCK_IDLE_SECONDS, IDLE_SECONDS = 90.0, 45.0
"""After which a silent stock agent is lost, which waits up to 60 s for a response and sends nothing; and any other agent."""

MOST_REQUESTS, MOST_QUEUED = 64, 64
"""Requests that an agent serves at a time, and that are queued for it."""

VERIFY_REJECTED, VERIFY_UNAVAILABLE = "verify_rejected", "verify_unavailable"
FORBIDDEN, NO_SUCH_TUNNEL, TOO_MANY_AGENTS, REPLACED = "forbidden", "no_such_tunnel", "too_many_agents", "replaced"
BAD_REGISTER, BAD_VERSION, DRAINING = "bad_register", "version", "draining"
"""The codes of errors."""

REJECTED_MESSAGE, UNAVAILABLE_MESSAGE = 'verify rejected: {"valid":false}', "laravel verify: unavailable"
"""The messages with which a stock agent fetches another token."""

MOST_TOKENS = 8
"""Tokens that an agent fetches in one run because one was rejected."""

_REJECTIONS = ("verify rejected", "invalid tunnel credentials", "laravel verify")

Headers = tuple[tuple[bytes, bytes], ...]


@frozen(kw_only=True)
class Register:
    """
    The first frame of an agent.

    @ivar agent_token: a secret.
    @ivar protocol_version: 0 of a stock agent.
    @ivar capabilities: C{None} of a stock agent.
    @ivar transports: the carriers that the agent has.
    @ivar instance_id: the random name of the agent's process.
    """

    tunnel_id: str
    agent_token: str
    protocol_version: int = 0
    agent_version: str = ""
    capabilities: tuple[str, ...] | None = None
    transports: tuple[str, ...] = ()
    instance_id: str = ""


@frozen(kw_only=True)
class GRPCHint:
    """
    Where the agent may connect by gRPC instead.

    @ivar session_ticket: a secret.
    """

    url: str
    session_ticket: str = ""


@frozen(kw_only=True)
class Registered:
    """
    The first answer of an edge.  A stock agent reads nothing of it.

    @ivar capabilities: those that both have; C{None} of a stock edge.
    @ivar limits: by name.
    """

    capabilities: tuple[str, ...] | None = None
    session_id: str = ""
    edge_id: str = ""
    subdomain: str = ""
    public_url: str = ""
    limits: Mapping[str, int] = Factory(dict)
    grpc: GRPCHint | None = None


@frozen(kw_only=True)
class RegistrationError:
    """
    The other answer; the edge closes after it.

    @ivar message: for people, but the stock agent recognizes some.
    @ivar code: one of the codes above; empty of a stock edge.
    """

    message: str = ""
    code: str = ""

    @property
    def is_about_token(self) -> bool:
        """
        Whether another token may be accepted, which the agent fetches.
        """
        return self.code == VERIFY_REJECTED or any(text in self.message.lower() for text in _REJECTIONS)


@frozen(kw_only=True)
class HTTPRequest:
    """
    A request.

    @ivar path: as received, begins with a slash.
    @ivar query: as received, without the question mark.
    @ivar headers: C{Host} may be missing.
    @ivar body: the whole body; of one that is streamed, its beginning.
    @ivar streamed: chunks and an end follow.
    @ivar upgrade: the protocol to which the visitor asks to change.
    """

    request_id: str
    method: str
    path: str = "/"
    query: str = ""
    headers: Headers = ()
    body: bytes = b""
    streamed: bool = False
    upgrade: str = ""
    upstream_host: str = ""
    upstream_port: int = 0
    trace_parent: str = ""

    @property
    def upstream(self) -> tuple[str, int] | None:
        """
        Host and port instead of the agent's target, if the edge named both.
        """
        return (self.upstream_host, self.upstream_port) if self.upstream_host and self.upstream_port else None


@frozen(kw_only=True)
class HTTPResponse:
    """
    A whole response.
    """

    request_id: str
    status: int
    headers: Headers = ()
    body: bytes = b""
    trace_parent: str = ""


@frozen(kw_only=True)
class ResponseStart:
    """
    The head of a response whose body follows in chunks.
    """

    request_id: str
    status: int
    headers: Headers = ()


@frozen(kw_only=True)
class ResponseChunk:
    """
    A part of the body of a response.  An empty one flushes.
    """

    request_id: str
    data: bytes = b""


@frozen(kw_only=True)
class ResponseEnd:
    """
    The body of a response is complete.
    """

    request_id: str


@frozen(kw_only=True)
class RequestChunk:
    """
    A part of the body of a request.
    """

    request_id: str
    data: bytes = b""


@frozen(kw_only=True)
class RequestEnd:
    """
    The body of a request is complete.
    """

    request_id: str


@frozen(kw_only=True)
class Cancel:
    """
    The sender does not need an exchange any more, or cannot complete it.
    """

    request_id: str
    reason: str = ""


@frozen(kw_only=True)
class TCPConnect:
    """
    A visitor has connected.
    """

    connection_id: str


@frozen(kw_only=True)
class TCPData:
    """
    Octets of a connection.
    """

    connection_id: str
    data: bytes = b""


@frozen(kw_only=True)
class TCPClose:
    """
    A connection has ended.
    """

    connection_id: str
    reason: str = ""


@frozen(kw_only=True)
class TCPEnd:
    """
    The sender's direction of a connection has ended.  The connection is over when both have.
    """

    connection_id: str


@frozen(kw_only=True)
class UDPData:
    """
    A datagram.

    @ivar remote_addr: the visitor's, echoed by the agent.
    """

    connection_id: str
    remote_addr: str = ""
    data: bytes = b""


@frozen(kw_only=True)
class DrainNotice:
    """
    The sender ends after the exchanges that run.

    @ivar grace_ms: milliseconds that they have.
    @ivar reconnect: whether an agent connects again at once.
    """

    grace_ms: int = 0
    reason: str = ""
    reconnect: bool = False


@frozen(kw_only=True)
class Flow:
    """
    The receiver of a body, or of the octets of a connection, takes no more for now, or takes more again.

    @ivar identifier: of the request or of the connection.
    """

    identifier: str
    paused: bool = False


Frame = (
    Register | Registered | RegistrationError | HTTPRequest | HTTPResponse | ResponseStart | ResponseChunk | ResponseEnd
    | RequestChunk | RequestEnd | Cancel | TCPConnect | TCPData | TCPClose | TCPEnd | UDPData | DrainNotice | Flow
)  # fmt: skip


def common_capabilities(announced: Iterable[str] | None, ours: Iterable[str] = CAPABILITIES) -> tuple[str, ...] | None:
    """
    @param announced: by the peer; C{None} if it is one of the stock.
    @return: those that both have, in our order; C{None} if the peer is one of the stock.
    """
    if announced is None:
        return None
    known = set(announced)
    return tuple(each for each in ours if each in known)


def stock_retry_seconds(attempt: int) -> float:
    """
    @param attempt: 1 is the first of a run.
    @return: the seconds that a stock agent waits before it, without the up to 0.75 s that it adds at random.
    """
    return float(min(60, 2 ** min(attempt - 2, 6))) if attempt > 1 else 0.0
