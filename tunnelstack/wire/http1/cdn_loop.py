"""
The field C{CDN-Loop}: which edges a request has passed, so that one that comes back is noticed.

Each member is read by the grammar.  A member that breaks it ends at the next comma: a quotation mark that a visitor leaves open
cannot take in the members that edges add after it.

Source: RFC 8586.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tunnelstack.wire.http1.forwarded import quoted
from tunnelstack.wire.http1.head import TOKEN

NAME = b"CDN-Loop"

_BLANKS = rb"[\t ]*+"
_QUOTED = rb'"(?:[^"\\]|\\.)*+"'
_PARAMETER = TOKEN + rb"++" + _BLANKS + rb"=" + _BLANKS + rb"(?:" + TOKEN + rb"++|" + _QUOTED + rb")"
_GOOD_MEMBER = rb'[^\t ;,"]++' + _BLANKS + rb"(?:;" + _BLANKS + rb"(?:" + _PARAMETER + rb")?+" + _BLANKS + rb")*+"
_MEMBER = re.compile(_BLANKS + rb"(?:(" + _GOOD_MEMBER + rb")(?=,|\Z)|([^,]++))")
_IDENTIFIER = re.compile(rb"[\t ]*([^\t ;]+)")
_SERVICE = re.compile(
    rb"(?:" + _QUOTED + rb'|[^";])*+;[\t ]*+service[\t ]*+=[\t ]*+(?:"((?:[^"\\]|\\.)*+)"|(' + TOKEN + rb"++))", re.IGNORECASE
)
_ESCAPED = re.compile(rb"\\(.)")

Hop = tuple[bytes, bytes]
"""The identifier of an edge, and the service that it passed the request to; C{b""} where that is missing."""


def read_hops(values: Iterable[bytes]) -> list[Hop]:
    """
    @param values: of all C{CDN-Loop} fields of a request.
    @return: every hop, in order.  What cannot be read counts as a hop as well.
    """
    return [_hop(good or bad) for value in values for good, bad in _MEMBER.findall(value)]


def extended(values: Iterable[bytes], identifier: bytes, service: bytes) -> bytes:
    """
    The value to send on.  Members that break the grammar lose their quotation marks, so that no reader takes what follows for a
    part of them.

    @param values: of all C{CDN-Loop} fields of a request.
    @param identifier: a token, of this edge.
    """
    members = [
        good.rstrip(b"\t ") or bad.replace(b'"', b"").strip(b"\t ")
        for value in values for good, bad in _MEMBER.findall(value)
    ]  # fmt: skip
    return b", ".join([*filter(None, members), encode_hop(identifier, service)])


def _hop(member: bytes) -> Hop:
    identifier, service = _IDENTIFIER.match(member), _SERVICE.match(member)
    named = b"" if service is None else service[2] or _ESCAPED.sub(rb"\1", service[1] or b"")
    return b"" if identifier is None else identifier[1], named


def encode_hop(identifier: bytes, service: bytes) -> bytes:
    """
    @param identifier: a token.
    @return: a member of the field.
    """
    return b"%b; service=%b" % (identifier, quoted(service))
