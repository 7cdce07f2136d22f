"""
The field C{CDN-Loop}: which edges a request has passed, so that one that comes back is noticed.

Source: RFC 8586.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tunnelstack.wire.http1.forwarded import quoted
from tunnelstack.wire.http1.head import TOKEN

NAME = b"CDN-Loop"

_QUOTED = rb'"(?:[^"\\]|\\.)*+"'
_MEMBER = re.compile(rb"(?:" + _QUOTED + rb"|[^,])++")
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
    return [_hop(member) for value in values for member in _MEMBER.findall(value) if member.strip(b"\t ")]


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
