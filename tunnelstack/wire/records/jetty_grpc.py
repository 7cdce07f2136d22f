"""
What Jetty's edge and agents send one another over gRPC: the messages of C{tunnel.proto}, which is beside this module.

The carrier is bounded by public documentation (the service, its calls, and chunks of HEADERS, DATA and TRAILERS); names and
numbers of fields are our own.

Source: Jetty documentation, "HTTP/2 Support for Agent Transport".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from tunnelstack.errors import PeerError
from tunnelstack.wire.protobuf import (
    boolean,
    message,
    messages,
    octets,
    one_of,
    optional_uint64,
    string,
    strings,
    uint32,
    uint64,
)

SERVICE = "jetty.tunnel.v1.TunnelAgent"

REGISTER_PATH = b"/jetty.tunnel.v1.TunnelAgent/Register"
FORWARD_HTTP_PATH = b"/jetty.tunnel.v1.TunnelAgent/ForwardHTTP"
FORWARD_RAW_PATH = b"/jetty.tunnel.v1.TunnelAgent/ForwardRaw"

PROTOCOL_VERSION = 1

TUNNEL_ID, SESSION_ID = b"jetty-tunnel-id", b"jetty-session-id"
EDGE_ID, VERSION_FIELD = b"jetty-edge-id", b"jetty-protocol-version"
"""Names of metadata."""

REUSE, UPGRADE, RAW, DRAIN, TRAILERS_CAPABILITY = "reuse/1", "upgrade/1", "raw/1", "drain/1", "trailers/1"
CAPABILITIES = (REUSE, UPGRADE, RAW, DRAIN, TRAILERS_CAPABILITY)
"""What version 1 has beside the exchange of requests and responses."""

HEADERS, DATA, TRAILERS, ABORT = 1, 2, 3, 4
"""The types of L{HTTPChunk}.  Chunks of other types are ignored."""

RAW_CONNECT, RAW_DATA, RAW_CLOSE, RAW_DATAGRAM = 1, 2, 3, 4
"""The types of L{RawChunk}."""

CHUNK_OCTETS, LONGEST_CHUNK = 32 * 1024, 256 * 1024
"""Octets of DATA in one chunk: as we send them unless the limits have another number, and at most."""

MOST_HEADERS, HEADER_OCTETS = 200, 64 * 1024
"""Headers of one head, and octets of all their names and values."""

_NAME = re.compile("[!#$%&'*+\\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")

Fields = list[tuple[bytes, bytes]]


class BadHeaders(PeerError):
    """
    The headers of a chunk are not those of HTTP, or exceed a bound.
    """


@frozen(kw_only=True)
class Ping:
    """
    Whoever receives it answers by a L{Pong} with the same number.
    """

    nonce: int = uint64(1)


@frozen(kw_only=True)
class Pong:
    """
    The answer to L{Ping}.
    """

    nonce: int = uint64(1)


@frozen(kw_only=True)
class LaneDemand:
    """
    Requests wait: the agent opens this many lanes, as far as it may.
    """

    count: int = uint32(1)


@frozen(kw_only=True)
class Drain:
    """
    The sender ends after the exchanges that run.

    @ivar grace_ms: milliseconds that they have.
    @ivar reconnect: whether an agent connects again at once, elsewhere.
    """

    grace_ms: int = uint32(1)
    reason: str = string(2)
    reconnect: bool = boolean(3)


@frozen(kw_only=True)
class ErrorInfo:
    """
    @ivar code: for programs.
    @ivar message: for people.
    """

    code: str = string(1)
    message: str = string(2)


@frozen(kw_only=True)
class Limits:
    """
    What an edge grants an agent.

    @ivar lane_max_idle_ms: 0: lanes are not replaced because they are idle.
    @ivar max_request_body_bytes: 0: no limit.
    @ivar lane_max_exchanges: 1: lanes are not used again.
    """

    lanes_initial: int = uint32(1)
    lanes_min_idle: int = uint32(2)
    lanes_max: int = uint32(3)
    lane_max_idle_ms: int = uint32(4)
    max_chunk_bytes: int = uint32(5)
    max_request_body_bytes: int = uint64(6)
    upstream_timeout_ms: int = uint32(7)
    keepalive_interval_ms: int = uint32(8)
    keepalive_timeout_ms: int = uint32(9)
    lane_max_exchanges: int = uint32(10)


DEFAULT_LIMITS = Limits(
    lanes_initial=8, lanes_min_idle=4, lanes_max=256, lane_max_idle_ms=45_000, max_chunk_bytes=CHUNK_OCTETS,
    max_request_body_bytes=10 * 1024 * 1024, upstream_timeout_ms=60_000, keepalive_interval_ms=15_000,
    keepalive_timeout_ms=10_000, lane_max_exchanges=1000,
)  # fmt: skip


@frozen(kw_only=True)
class RegisterRequest:
    """
    From an agent.  The first has everything but C{control}, the others only that.

    @ivar agent_token: a secret; may be empty if it is in the metadata.
    @ivar max_lanes: 0: the edge decides.
    """

    tunnel_id: str = string(1)
    agent_token: str = string(2)
    protocol_version: int = uint32(3)
    agent_version: str = string(4)
    capabilities: tuple[str, ...] = strings(5)
    instance_id: str = string(6)
    max_lanes: int = uint32(7)
    control: Ping | Pong | Drain | None = one_of({10: Ping, 11: Pong, 12: Drain})


@frozen(kw_only=True)
class RegisterResponse:
    """
    From an edge.  The first has everything but C{control}, the others only that.

    @ivar session_id: 128 random bits in hexadecimal; a secret.
    """

    session_id: str = string(1)
    tunnel_id: str = string(2)
    subdomain: str = string(3)
    public_url: str = string(4)
    edge_id: str = string(5)
    protocol_version: int = uint32(6)
    capabilities: tuple[str, ...] = strings(7)
    limits: Limits | None = message(8, Limits)
    control: Ping | Pong | Drain | LaneDemand | ErrorInfo | None = one_of(
        {10: Ping, 11: Pong, 12: Drain, 13: LaneDemand, 14: ErrorInfo}
    )


@frozen(kw_only=True)
class Header:
    """
    @ivar value: need not be UTF-8.
    """

    name: str = string(1)
    value: bytes = octets(2)


@frozen(kw_only=True)
class RequestHead:
    """
    @ivar path: as received, begins with a slash; C{"*"} for C{OPTIONS *}.
    @ivar query: as received, without the question mark.
    @ivar headers: with C{Host}.
    @ivar content_length: C{None} is not known.
    @ivar upstream_host: with C{upstream_port}, the target instead of the agent's.
    @ivar timeout_ms: milliseconds to the first octet of the response.
    @ivar remote_addr: the visitor's address and port.
    """

    method: str = string(1)
    path: str = string(2)
    query: str = string(3)
    headers: tuple[Header, ...] = messages(4, Header)
    content_length: int | None = optional_uint64(5)
    upgrade: str = string(6)
    upstream_host: str = string(7)
    upstream_port: int = uint32(8)
    trace_parent: str = string(9)
    timeout_ms: int = uint32(10)
    remote_addr: str = string(11)
    scheme: str = string(12)


@frozen(kw_only=True)
class ResponseHead:
    """
    @ivar content_length: C{None} is not known.
    """

    status: int = uint32(1)
    headers: tuple[Header, ...] = messages(2, Header)
    content_length: int | None = optional_uint64(3)
    trace_parent: str = string(4)


@frozen(kw_only=True)
class HTTPChunk:
    """
    A part of a request, from the edge, or of a response.

    @ivar type: L{HEADERS}, L{DATA}, L{TRAILERS} or L{ABORT}.
    @ivar end: the last chunk of its exchange in its direction.
    """

    request_id: str = string(1)
    type: int = uint32(2)
    request: RequestHead | None = message(3, RequestHead)
    response: ResponseHead | None = message(4, ResponseHead)
    data: bytes = octets(5)
    trailers: tuple[Header, ...] = messages(6, Header)
    end: bool = boolean(7)
    abort: ErrorInfo | None = message(8, ErrorInfo)


@frozen(kw_only=True)
class RawChunk:
    """
    A part of a TCP connection, or a datagram.

    @ivar protocol: C{"tcp"} or C{"udp"}.
    @ivar end: the sender sends nothing more on this connection.
    """

    connection_id: str = string(1)
    type: int = uint32(2)
    data: bytes = octets(3)
    remote_addr: str = string(4)
    protocol: str = string(5)
    reason: str = string(6)
    end: bool = boolean(7)


def headers_of(fields: Iterable[tuple[bytes, bytes]]) -> tuple[Header, ...]:
    """
    @return: fields of HTTP, for a chunk.
    """
    return tuple(Header(name=name.decode("ascii"), value=value) for name, value in fields)


def read_headers_untrusted(headers: tuple[Header, ...]) -> Fields:
    """
    @return: the headers of a chunk as fields of HTTP.
    @raise BadHeaders: there are too many, a name is no token, or a value has octets that no field may have, such as CR and LF.
    """
    if len(headers) > MOST_HEADERS:
        raise BadHeaders("a head has too many headers", headers=len(headers), limit=MOST_HEADERS)
    if sum(len(each.name) + len(each.value) for each in headers) > HEADER_OCTETS:
        raise BadHeaders("the headers of a head are too long", limit=HEADER_OCTETS)
    for each in headers:
        if not _NAME.fullmatch(each.name) or not _VALUE.fullmatch(each.value):
            raise BadHeaders("a header is not valid")
    return [(each.name.encode(), each.value) for each in headers]
