"""
Whether a list of fields is well-formed, and what it says of the body.

A message that is not is malformed: its stream is reset, and no other is affected.  Sources: RFC 9113, sections 8.1.1, 8.2 and
8.3; RFC 8441, section 4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tunnelstack.wire.http2.events import Fields

FIELD_OVERHEAD = 32
"""Octets that count for each field beside its name and value.  Source: RFC 9113, section 6.5.2."""

CONNECTION_FIELDS = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""They concern one connection of HTTP/1.1, and are malformed in HTTP/2."""

REQUEST_PSEUDO_FIELDS = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})

LONGEST_LENGTH = 18
"""Digits of a Content-Length: more octets than can be counted in 64 bits are nobody's body."""

_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_method = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-zA-Z]+").fullmatch
_scheme = re.compile(rb"[a-zA-Z][a-zA-Z0-9+\-.]*").fullmatch
_status = re.compile(rb"[1-9][0-9][0-9]").fullmatch
_bad_value = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z").search
_bad_target = re.compile(rb"[\x00-\x20\x7f]").search


class Malformed(Exception):
    """
    A list of fields is malformed.  It does not leave L{tunnelstack.wire.http2}.
    """


def list_size(fields: Iterable[tuple[bytes, bytes]]) -> int:
    """
    @return: octets of a list of fields, as C{SETTINGS_MAX_HEADER_LIST_SIZE} counts them.
    """
    return sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in fields)


def check_request(fields: Fields, connect_protocol: bool) -> tuple[bytes, int | None]:
    """
    @param connect_protocol: the extended CONNECT is accepted.
    @return: the method, and the length of the body if the head has one.
    @raise Malformed: it is no head of a request.
    """
    pseudo = _split(fields)
    if not pseudo.keys() <= REQUEST_PSEUDO_FIELDS:
        raise Malformed("a request with a pseudo-field that it cannot have")
    method = pseudo.get(b":method")
    if method is None or not _method(method):
        raise Malformed("a request without a method")
    if any(map(_bad_target, pseudo.values())):
        raise Malformed("a pseudo-field with a control character or a space")
    if method == b"CONNECT" and b":protocol" not in pseudo:
        if pseudo.keys() != {b":method", b":authority"} or not pseudo[b":authority"]:
            raise Malformed("CONNECT has an authority, and neither scheme nor path")
        return method, _check_fields(fields)
    if b":protocol" in pseudo and not (connect_protocol and method == b"CONNECT" and pseudo.get(b":authority")):
        raise Malformed("a request with a protocol that is no extended CONNECT, or the extended CONNECT is not accepted")
    scheme, path = pseudo.get(b":scheme"), pseudo.get(b":path")
    if scheme is None or not _scheme(scheme):
        raise Malformed("a request without a scheme")
    if not path or not (path.startswith(b"/") or (path == b"*" and method == b"OPTIONS")):
        raise Malformed("a request without a path")
    return method, _check_fields(fields)


def check_response(fields: Fields) -> tuple[int, int | None]:
    """
    @return: the status, and the length of the body if the head has one.
    @raise Malformed: it is no head of a response.
    """
    pseudo = _split(fields)
    if pseudo.keys() != {b":status"} or not _status(pseudo[b":status"]):
        raise Malformed("a response without a status")
    status = int(pseudo[b":status"])
    if status == 101:
        raise Malformed("a response that switches protocols")
    return status, _check_fields(fields)


def check_trailers(fields: Fields) -> None:
    """
    @raise Malformed: they are no trailers.
    """
    if _split(fields):
        raise Malformed("trailers with a pseudo-field")
    _check_fields(fields)


def _split(fields: Fields) -> dict[bytes, bytes]:
    """
    @return: the pseudo-fields, which are at the beginning, once each.
    """
    pseudo: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] != b":":
            break
        if name in pseudo:
            raise Malformed("a pseudo-field twice")
        pseudo[name] = value
    return pseudo


def _check_fields(fields: Fields) -> int | None:
    """
    @return: the Content-Length, if there is one.
    """
    length = None
    past_pseudo = False
    for name, value in fields:
        if name[:1] == b":":
            if past_pseudo:
                raise Malformed("a pseudo-field after other fields")
        elif not _name(name):
            raise Malformed("a field whose name is not one in lower case")
        else:
            past_pseudo = True
            if name in CONNECTION_FIELDS:
                raise Malformed("a field that concerns one connection")
            if name == b"te" and value != b"trailers":
                raise Malformed("a TE field with more than trailers")
            if name == b"content-length":
                length = _content_length(value, length)
        if _bad_value(value):
            raise Malformed("a value with a forbidden character, or white space at an end")
    return length


def _content_length(value: bytes, before: int | None) -> int:
    if not value.isdigit() or len(value) > LONGEST_LENGTH or before not in (None, int(value)):
        raise Malformed("a Content-Length that is no number, or two that differ")
    return int(value)
