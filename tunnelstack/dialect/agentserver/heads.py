"""
Heads of HTTP messages, from and to the metadata of agentserver's streams, for both roles.

Metadata have one value for each name.  Fields that occur several times are joined, as RFC 9110 permits.  Of several
C{Set-Cookie}, which cannot be joined, only the first is carried.  The C{Host} of a request is not carried.

Source: agentserver C{internal/sandboxproxy/tunnel.go} and C{internal/agent/client.go}; RFC 9110, section 5.3; RFC 9113, section
8.2.3 for C{Cookie}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

from tunnelstack.errors import PeerError
from tunnelstack.wire.http1.framing import HOP_BY_HOP, Framing, tokens
from tunnelstack.wire.http1.head import FIELD_CONTENT, TOKEN, Fields, RequestHead, ResponseHead
from tunnelstack.wire.http1.target import OCTET, percent_encoded
from tunnelstack.wire.negotiation.typed_head import TypedHeadReader, encode_typed_head
from tunnelstack.wire.records.agentserver import (
    HTTP,
    METADATA_LIMIT,
    BadMetadata,
    RequestMetadata,
    ResponseMetadata,
    decode_response_metadata_untrusted,
    encode_response_metadata,
)

NO_SNIFFING = (b"X-Content-Type-Options", b"nosniff")
"""A field that a genuine server adds to every response of a sandbox."""

_TOKEN = re.compile(TOKEN + rb"++")
_CONTENT = re.compile(FIELD_CONTENT + rb"*+")
_PATH = re.compile(rb"/(?!/)" + OCTET + rb"*+|/")

_OF_ONE_CONNECTION = HOP_BY_HOP | {b"transfer-encoding", b"trailer", b"expect"}


class BadPath(PeerError):
    """
    The path of a request is none.
    """


# Requests


def requestMetadata(head: RequestHead, body: int) -> RequestMetadata:
    """
    @param head: of a request; no field of it concerns one connection.
    @param body: octets of its body.
    """
    return RequestMetadata(
        head.method.decode("ascii"), percent_encoded(head.target).decode("ascii"),
        _join(head.fields, _OF_ONE_CONNECTION | {b"host"}), body,
    )


def requestHead(metadata: RequestMetadata) -> RequestHead:
    """
    @return: the head, with its C{framing}.  It has no C{Host}.
    @raise BadPath: the path has a host in it, or characters that no path has.
    @raise BadMetadata: the method or a header cannot be sent.
    """
    method = metadata.method.encode()
    if not _TOKEN.fullmatch(method):
        raise BadMetadata("the method of a request is malformed")
    path = metadata.path if metadata.path.startswith("/") else f"/{metadata.path}"
    target = percent_encoded(path.encode()) if not path.isascii() else path.encode()
    if not _PATH.fullmatch(target):
        raise BadPath("the path of a request is malformed")
    body = max(0, metadata.body_len)
    fields = _split(metadata.headers, _OF_ONE_CONNECTION | {b"host", b"content-length"})
    if body or any(name.lower() == "content-length" for name in metadata.headers):
        fields.append((b"Content-Length", b"%d" % body))
    return RequestHead(method, target, fields, framing=Framing(body))


# Responses


def encodeResponse(head: ResponseHead) -> bytes:
    """
    @return: the octets with which a stream answers.
    """
    metadata = ResponseMetadata(head.status, _join(head.fields, _OF_ONE_CONNECTION))
    return encode_typed_head(HTTP, encode_response_metadata(metadata))


def responseHead(metadata: ResponseMetadata) -> ResponseHead:
    """
    @raise BadMetadata: the status is not that of a final response, or a header cannot be sent.
    """
    status = metadata.status or 200
    if not 200 <= status <= 999:
        raise BadMetadata("the status is not that of a final response", status=status)
    fields = _split(metadata.headers, _OF_ONE_CONNECTION | {NO_SNIFFING[0].lower()})
    return ResponseHead(status, _phrase(status), [*fields, NO_SNIFFING])


class ResponseReader:
    """
    Octets, cut anywhere, to the head of a response.  The type of the head is not examined, as in a genuine server.
    """

    def __init__(self) -> None:
        self._reader = TypedHeadReader(METADATA_LIMIT)
        self.take_leftover = self._reader.take_leftover

    def receive_data(self, octets: bytes) -> ResponseHead | None:
        """
        @raise PeerError: they are no head, or a head that cannot be sent on.
        """
        self._reader.feed(octets)
        head = self._reader.next_head()
        return None if head is None else responseHead(decode_response_metadata_untrusted(head.metadata))


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


# Fields


def _join(fields: Fields, without: frozenset[bytes]) -> dict[str, str]:
    """
    @return: one value for each name, which has capitals as in Go.
    """
    joined: dict[bytes, bytes] = {}
    for name, value in fields:
        lower = name.lower()
        if lower in without:
            continue
        before = joined.get(lower)
        if before is None:
            joined[lower] = value
        elif lower != b"set-cookie":
            joined[lower] = before + (b"; " if lower == b"cookie" else b", ") + value
    return {
        b"-".join(word.capitalize() for word in name.split(b"-")).decode("ascii"): value.decode("utf-8", "replace")
        for name, value in joined.items()
    }


def _split(headers: Mapping[str, str], without: frozenset[bytes]) -> Fields:
    """
    @return: the fields that are not about one connection.
    @raise BadMetadata: one of them cannot be sent.
    """
    fields: Fields = [(name.encode(), value.strip(" \t").encode()) for name, value in headers.items()]
    if not all(_TOKEN.fullmatch(name) and _CONTENT.fullmatch(value) for name, value in fields):
        raise BadMetadata("a header has characters that cannot be sent")
    options = {option for name, value in fields if name.lower() == b"connection" for option in tokens(value)}
    return [field for field in fields if field[0].lower() not in without and field[0].lower() not in options]
