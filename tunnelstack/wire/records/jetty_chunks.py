"""
The chunks of one request or response on a lane, checked in their order; and heads of HTTP/1.1 to those of chunks, and back.

::

    request    HEADERS, DATA ..., TRAILERS
    response   HEADERS (interim) ..., HEADERS, DATA ..., TRAILERS

The last chunk has C{end}, whichever it is.  ABORT ends a message at any time.  Chunks of unknown types are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

from attrs import define

from tunnelstack.errors import PeerError
from tunnelstack.wire.http1.framing import (
    CHUNKED,
    HOP_BY_HOP,
    HOST,
    LENGTH_DIGITS,
    Framing,
    outgoing_framing,
    tokens,
)
from tunnelstack.wire.http1.head import (
    HTTP_1_1,
    TOKEN,
    BadMessage,
    Fields,
    HeadLimits,
    HeadTooLarge,
    RequestHead,
    ResponseHead,
    first,
    values,
)
from tunnelstack.wire.http1.target import OCTET
from tunnelstack.wire.protobuf import encode_varint
from tunnelstack.wire.records import jetty_grpc as records
from tunnelstack.wire.records.jetty_grpc import (
    ABORT,
    DATA,
    HEADERS,
    TRAILERS,
    HTTPChunk,
    headers_of,
    read_headers_untrusted,
)

LONGEST_ID = 128
"""Octets of the longest C{request_id}."""

KNOWN_TYPES = frozenset((HEADERS, DATA, TRAILERS, ABORT))
_BODYLESS = frozenset((204, 304))

_METHOD = re.compile(TOKEN + rb"++\Z")
_TRACE = re.compile(rb"[!-~]{1,512}\Z")
_TARGET = re.compile(rb"/" + OCTET + rb"*+\Z")
_NOT_CARRIED = HOP_BY_HOP | {b"transfer-encoding", b"content-length"}
_NOT_REQUESTED = _NOT_CARRIED | {b"expect"}
_PRIVATE = b"x-jetty-"
_WITH_LENGTH = frozenset((b"POST", b"PUT", b"PATCH"))
_CHUNKED_FIELD = (b"Transfer-Encoding", b"chunked")
_REASONS = {int(status): status.phrase.encode() for status in HTTPStatus}
_TYPE_DATA, _DATA_KEY, _END = b"\x10\x02", b"\x2a", b"\x38\x01"


class BadChunk(PeerError):
    """
    A chunk is not allowed where it came, or is no valid one.
    """


@define(eq=False)
class MessageChunks:
    """
    The chunks of one message.

    @ivar response: whether it is a response.
    @ivar request_id: of its exchange; C{""} takes that of the first chunk.
    @ivar bodyless: no body follows, whatever the head says: the response to HEAD.
    @ivar begun: the final head has come.
    @ivar ended: the last chunk has come.
    @ivar raw: the response is a 101, and what follows are the octets of another protocol.
    """

    response: bool
    request_id: str = ""
    bodyless: bool = False
    begun: bool = False
    ended: bool = False
    raw: bool = False
    _left: int | None = None              # octets of the body that are missing, if its length is known

    def receive(self, chunk: HTTPChunk) -> bool:
        """
        @return: whether the chunk has a meaning.
        @raise BadChunk: it is not allowed here.
        """
        if chunk.type not in KNOWN_TYPES:
            return False
        if self.ended:
            raise BadChunk("a chunk comes after the end of its message", type=chunk.type)
        self._check_id(chunk.request_id)
        if chunk.type == ABORT:
            self.ended = True
            return True
        if chunk.type == HEADERS:
            self._receive_head(chunk)
        elif not self.begun:
            raise BadChunk("a chunk comes before the head of its message", type=chunk.type)
        elif chunk.type == DATA:
            self._receive_data(len(chunk.data))
        elif self.raw or not chunk.end:
            raise BadChunk("trailers are not at the end of a message")
        if chunk.end:
            self._receive_end()
        return True

    def _check_id(self, request_id: str) -> None:
        if not request_id:
            return
        if len(request_id.encode()) > LONGEST_ID:
            raise BadChunk("a request_id is too long", limit=LONGEST_ID)
        if self.request_id not in ("", request_id):
            raise BadChunk("a chunk belongs to another exchange")
        self.request_id = request_id

    def _receive_head(self, chunk: HTTPChunk) -> None:
        head, other = (chunk.response, chunk.request) if self.response else (chunk.request, chunk.response)
        if self.begun or head is None or other is not None:
            raise BadChunk("a head is not the one of this message")
        if isinstance(head, records.ResponseHead):
            if not 100 <= head.status <= 599:
                raise BadChunk("the status of a response is out of range", status=head.status)
            if head.status < 200 and head.status != 101:
                if chunk.end:
                    raise BadChunk("an interim response ends its message")
                return
            self.raw = head.status == 101
            self.bodyless = self.bodyless or head.status in _BODYLESS
        self.begun = True
        self._left = 0 if self.bodyless else None if self.raw else head.content_length

    def _receive_data(self, octets: int) -> None:
        if self._left is not None:
            self._left -= octets
            if self._left < 0:
                raise BadChunk("a body is longer than its content_length, or must not be there")

    def _receive_end(self) -> None:
        if self._left:
            raise BadChunk("a body is shorter than its content_length", missing=self._left)
        self.ended = True


# Chunks that are sent


def encode_data(octets: bytes, end: bool = False) -> bytes:
    """
    @return: DATA as a message.
    """
    data = (_DATA_KEY, encode_varint(len(octets)), octets) if octets else ()
    return b"".join((_TYPE_DATA, *data, _END if end else b""))


# Heads that are sent


def request_record(
    head: RequestHead, *, upstream: tuple[str, int] | None = None, timeout_ms: int = 0, remote_addr: str = "",
    scheme: str = "",
) -> records.RequestHead:
    """
    @param head: without fields that concern one connection, but with the marks of L{tunnelstack.wire.http1.framing}.
    @param upstream: the target instead of the agent's.
    @return: the head for a chunk.
    """
    framing = outgoing_framing(head)
    path, _, query = head.target.partition(b"?")
    fields = [
        (name, value) for name, value in head.fields
        if (lower := name.lower()) not in _NOT_REQUESTED and not lower.startswith(_PRIVATE)
    ]  # fmt: skip
    if framing.trailers:
        fields.append((b"TE", b"trailers"))
    if framing.upgrade:
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", framing.upgrade)]
    host, port = upstream or ("", 0)
    return records.RequestHead(
        method=head.method.decode("ascii"), path=path.decode("latin-1"), query=query.decode("latin-1"),
        headers=headers_of(fields), content_length=None if framing.body < 0 or framing.upgrade else framing.body,
        upgrade=framing.upgrade.decode("latin-1"), upstream_host=host, upstream_port=port,
        trace_parent=_single(values(head.fields, b"traceparent")), timeout_ms=timeout_ms, remote_addr=remote_addr,
        scheme=scheme,
    )  # fmt: skip


def _single(found: list[bytes]) -> str:
    return found[0].decode("latin-1") if len(found) == 1 else ""


def response_record(head: ResponseHead) -> records.ResponseHead:
    """
    @param head: as in L{request_record}; of the response to HEAD it may name the length of what is not sent.
    @return: the head for a chunk.
    """
    length = first(head.fields, b"content-length")
    fields = [(name, value) for name, value in head.fields if name.lower() not in _NOT_CARRIED]
    if head.status == 101:
        fields += [(b"Connection", b"Upgrade"), *((b"Upgrade", value) for value in values(head.fields, b"upgrade"))]
    known = length is not None and (head.status >= 200 and head.status != 204)
    return records.ResponseHead(
        status=head.status, headers=headers_of(fields), content_length=int(length or b"0") if known else None
    )


# Heads that arrive


def read_request_untrusted(record: records.RequestHead, ended: bool, public_host: bytes = b"") -> RequestHead:
    """
    @param ended: the head is the whole request.
    @param public_host: the host if the headers name none.
    @return: the head, with its framing.
    @raise BadMessage: it is no head of HTTP, or one that programs could read in two ways.
    """
    method = record.method.encode("latin-1", "replace")
    if not _METHOD.match(method):
        raise BadMessage("the method is malformed")
    target = _target(record, method)
    fields = _fields(record.headers)
    framing = Framing()
    framing.host = _host(fields, public_host)
    framing.trailers = any(b"trailers" in tokens(value) for value in values(fields, b"te"))
    if record.upgrade:
        framing.upgrade = b", ".join(values(fields, b"upgrade"))
        if not framing.upgrade:
            raise BadMessage("a request for an upgrade names no protocol")
    length = _length(record.content_length, fields)
    if ended and length:
        raise BadMessage("the request ends before its content_length")
    framing.body = 0 if ended or framing.upgrade else CHUNKED if length is None else length
    kept = _end_to_end(fields, framing)
    if not first(kept, b"host"):
        kept.insert(0, (b"Host", framing.host))
    if framing.body == CHUNKED:
        kept.append(_CHUNKED_FIELD)
    elif framing.body or (method in _WITH_LENGTH and not framing.upgrade):
        kept.append((b"Content-Length", b"%d" % framing.body))
    trace = record.trace_parent.encode("latin-1", "replace")
    if _TRACE.match(trace) and first(kept, b"traceparent") is None:
        kept.append((b"traceparent", trace))
    return RequestHead(method, target, kept, HTTP_1_1, framing)


def _target(record: records.RequestHead, method: bytes) -> bytes:
    path = record.path or "/"
    target = (f"{path}?{record.query}" if record.query else path).encode("latin-1", "replace")
    if not _TARGET.match(target) and not (target == b"*" and method == b"OPTIONS"):
        raise BadMessage("the path or the query is malformed")
    return target


def _host(fields: Fields, public_host: bytes) -> bytes:
    hosts = values(fields, b"host")
    if len(hosts) > 1:
        raise BadMessage("more than one Host")
    host = hosts[0] if hosts and hosts[0] else public_host
    if not HOST.match(host):
        raise BadMessage("the Host is malformed")
    return host


def read_response_untrusted(
    record: records.ResponseHead, ended: bool, method: bytes, limits: HeadLimits
) -> ResponseHead:
    """
    @param ended: the head is the whole response.
    @param method: of the request.
    @return: the head, with its framing; that of an interim response likewise.
    @raise BadMessage: as in L{read_request_untrusted}, or it exceeds C{limits}.
    """
    fields = _fields(record.headers)
    _check_size(fields, limits)
    status = record.status
    length = _length(record.content_length, fields)
    framing = Framing()
    if status == 101:
        framing.upgrade = b", ".join(values(fields, b"upgrade"))
    kept = _end_to_end(fields, framing)
    has_body = status >= 200 and status not in _BODYLESS and method != b"HEAD"
    if has_body:
        if ended and length:
            raise BadMessage("the response ends before its content_length")
        framing.body = length if length is not None else 0 if ended else CHUNKED
    if framing.body == CHUNKED:
        kept.append(_CHUNKED_FIELD)
    elif status >= 200 and status != 204 and (has_body or length is not None):
        kept.append((b"Content-Length", b"%d" % (framing.body if has_body else length or 0)))
    return ResponseHead(status, _REASONS.get(status, b""), kept, HTTP_1_1, framing)


def read_trailers_untrusted(trailers: tuple[records.Header, ...]) -> Fields:
    """
    @raise BadMessage: they are no fields of HTTP.
    """
    return _end_to_end(_fields(trailers), Framing())


def _fields(headers: tuple[records.Header, ...]) -> Fields:
    try:
        return [(name, value.strip(b"\t ")) for name, value in read_headers_untrusted(headers)]
    except records.BadHeaders as bad:
        raise BadMessage(str(bad)) from bad


def _check_size(fields: Fields, limits: HeadLimits) -> None:
    if len(fields) > limits.fields:
        raise HeadTooLarge("the head has too many fields", "fields", limits.fields)
    if sum(len(name) + len(value) + 4 for name, value in fields) > limits.octets:
        raise HeadTooLarge("the head is too long", "octets", limits.octets)


def _length(known: int | None, fields: Fields) -> int | None:
    """
    @return: octets of the body; C{None} if that is not known.
    """
    found = values(fields, b"content-length")
    if found and values(fields, b"transfer-encoding"):
        raise BadMessage("both Content-Length and Transfer-Encoding")
    for value in found:
        if not value.isdigit() or len(value) > LENGTH_DIGITS or (known is not None and int(value) != known):
            raise BadMessage("the Content-Length is malformed, or differs from another")
        known = int(value)
    return known


def _end_to_end(fields: Iterable[tuple[bytes, bytes]], framing: Framing) -> Fields:
    """
    @return: the fields without those that concern a connection, with the marks that remain.
    """
    every = list(fields)
    named = {each for value in values(every, b"connection") for each in tokens(value)} - {b"host", b"trailer", b"expect"}
    kept = [(name, value) for name, value in every if name.lower() not in _NOT_CARRIED | named]
    if framing.upgrade:
        kept.append((b"Upgrade", framing.upgrade))
    if framing.trailers:
        kept.append((b"TE", b"trailers"))
    return kept
