"""
Heads of HTTP as frames, in both directions and both roles.

Source: shaferllc/jetty-client at e3a56e59.  What a peer that has announced capabilities receives besides is our own design.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from tunnelstack.exchange.errors import ExchangeFailed, FailureKind, unreadableResponse
from tunnelstack.wire.http1.framing import (
    Framing,
    end_to_end,
    outgoing_framing,
    request_framing_untrusted,
    response_framing_untrusted,
    tokens,
    without,
)
from tunnelstack.wire.http1.head import (
    BadMessage,
    Fields,
    HeadLimits,
    HeadTooLarge,
    RequestHead,
    ResponseHead,
)
from tunnelstack.wire.http1.target import percent_encoded
from tunnelstack.wire.records.jetty import Headers, HTTPRequest
from tunnelstack.wire.records.jetty_headers import HOP_BY_HOP

HOST, LENGTH, CODING, UPGRADE_FIELD, TRACE = b"host", b"content-length", b"transfer-encoding", b"upgrade", b"traceparent"

RESERVED = b"x-jetty-"
"""How the names of fields begin that only edges may send to one another."""

PROTOCOLS = re.compile("[!-~]+(, [!-~]+)*")
"""What C{Upgrade} offers."""

TRACE_VALUE = re.compile("[!-~]{1,512}")
"""The value of C{traceparent}; anything else is dropped."""

BODY_METHODS = frozenset((b"POST", b"PUT", b"PATCH"))
"""Methods whose requests have a length even if they have no body."""

DROPPED = HOP_BY_HOP | {b"expect", b"proxy-authorization", b"http2-settings"}
"""Fields of a request that do not go to an agent."""


def requestFrame(
    identifier: str, head: RequestHead, *, stock: bool, streamed: bool = False, upstream: tuple[str, int] | None = None
) -> HTTPRequest:
    """
    The head of a request, at an edge.

    @param stock: the agent announced no capabilities: a HEAD is sent as a GET.
    @param streamed: the body follows in parts.
    @param upstream: the server that the agent is to use instead of its own.
    @raise ExchangeFailed: such a request cannot be carried.
    """
    if not head.target.startswith(b"/"):
        raise ExchangeFailed(FailureKind.UNSUPPORTED, "This site takes requests for paths only.")
    path, _, query = percent_encoded(head.target).decode("ascii").partition("?")
    upgrade = outgoing_framing(head).upgrade
    fields = [
        (name, value) for name, value in head.fields
        if (lower := name.lower()) not in DROPPED and (streamed or lower != LENGTH) and not lower.startswith(RESERVED)
    ]  # fmt: skip
    if upgrade:
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", upgrade)]
    host, port = upstream or ("", 0)
    return HTTPRequest(
        request_id=identifier, method="GET" if stock and head.method == b"HEAD" else head.method.decode("ascii"), path=path,
        query=query, headers=tuple(fields), upgrade=upgrade.decode("latin-1"), upstream_host=host, upstream_port=port,
        trace_parent=(head.field(TRACE) or b"").decode("latin-1"), streamed=streamed,
    )


def requestHead(frame: HTTPRequest, publicHost: str) -> RequestHead:
    """
    The head of a request, at an agent.

    @param publicHost: for a request that names no host.
    @raise BadMessage: its fields contradict each other.
    """
    fields: Fields = list(without(list(frame.headers), CODING, *(() if frame.streamed else (LENGTH,))))
    method = frame.method.encode("ascii")
    if not any(name.lower() == HOST for name, _ in fields):
        fields.insert(0, (b"Host", publicHost.encode("ascii", "replace")))
    if frame.upgrade:
        if not PROTOCOLS.fullmatch(frame.upgrade):
            raise BadMessage("invalid upgrade")
        fields = without(fields, b"connection", UPGRADE_FIELD)
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", frame.upgrade.encode("ascii"))]
    if frame.streamed:
        if not any(name.lower() == LENGTH for name, _ in fields):
            fields.append((b"Transfer-Encoding", b"chunked"))
    elif frame.body or method in BODY_METHODS:
        fields.append((b"Content-Length", b"%d" % len(frame.body)))
    if TRACE_VALUE.fullmatch(frame.trace_parent) and not any(name.lower() == TRACE for name, _ in fields):
        fields.append((b"traceparent", frame.trace_parent.encode("ascii")))
    target = f"{frame.path}?{frame.query}" if frame.query else frame.path
    head = RequestHead(method, target.encode("ascii"), fields)
    framing = request_framing_untrusted(head)
    if not frame.upgrade:
        framing.upgrade = b""
    return RequestHead(method, head.target, end_to_end(fields, framing), framing=framing)


def responseHead(
    status: int, headers: Headers, method: bytes, limits: HeadLimits, octets: int | None = None
) -> ResponseHead:
    """
    The head of a response, at an edge.

    @param method: of the request of the visitor.
    @param octets: of the body of a response that is whole; C{None} if its body follows.
    @return: with its framing.
    @raise ExchangeFailed: it cannot be passed on.
    """
    bodyless = status in (204, 304) or method == b"HEAD"
    fields = without(_endToEnd(headers), UPGRADE_FIELD)
    if octets is not None and not (bodyless and not octets):
        fields = without(fields, LENGTH)
        if status not in (204, 304):
            fields.append((b"Content-Length", b"%d" % octets))
    head = ResponseHead(status, phraseOf(status), fields)
    try:
        _checkSize(fields, limits)
        head.framing = response_framing_untrusted(head, method)
    except BadMessage as bad:
        raise unreadableResponse(bad) from None
    return head


def upgradedHead(headers: Headers, limits: HeadLimits) -> ResponseHead:
    """
    The head of a response with status 101, at an edge.

    @raise ExchangeFailed: it cannot be passed on.
    """
    fields = without(_endToEnd(headers), LENGTH)
    try:
        _checkSize(fields, limits)
    except BadMessage as bad:
        raise unreadableResponse(bad) from None
    return ResponseHead(101, phraseOf(101), fields)


def _endToEnd(headers: Headers) -> Fields:
    """
    @return: the fields of a response that do not concern the connection of its agent; C{Upgrade} stays.
    """
    named = {each for name, value in headers if name.lower() == b"connection" for each in tokens(value)}
    dropped = (HOP_BY_HOP | named) - {UPGRADE_FIELD}
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def _checkSize(fields: Fields, limits: HeadLimits) -> None:
    """
    @raise HeadTooLarge: there are too many fields, or they are too long.
    """
    if len(fields) > limits.fields:
        raise HeadTooLarge("too many fields", "fields", limits.fields)
    if sum(len(name) + len(value) + 4 for name, value in fields) > limits.octets:
        raise HeadTooLarge("the fields are too long", "octets", limits.octets)


def responseHeaders(head: ResponseHead) -> Headers:
    """
    The fields of a response, at an agent.
    """
    fields = tuple((name, value) for name, value in head.fields if name.lower() not in HOP_BY_HOP)
    if head.status != 101:
        return fields
    upgrade = head.field(UPGRADE_FIELD) or b""
    return (*fields, (b"Connection", b"Upgrade"), (b"Upgrade", upgrade))


def bodyOctets(head: RequestHead) -> int:
    """
    @return: octets of the body of a request that is to be sent; C{-1} if that is not known.
    """
    framing: Framing | None = head.framing
    return (framing or outgoing_framing(head)).body


def phraseOf(status: int) -> bytes:
    """
    @return: the reason phrase of a status; C{b""} if it has none.
    """
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
