"""
Services and grants as JSON objects of the control stream.

Source: docs/protocols/native.md.
"""

from __future__ import annotations

import re
from typing import Any, TypeGuard

from attrs import evolve

from tunnelstack.errors import Denied, PeerError
from tunnelstack.exchange.bounds import DEFAULT_BOUNDS, ExchangeBounds
from tunnelstack.records import KINDS, Grant, Service
from tunnelstack.wire.jsonline import JSONObject
from tunnelstack.wire.printable_text import printable

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class ControlProtocolError(PeerError):
    """
    A message of the peer breaks the control protocol.
    """


def encodeService(service: Service) -> JSONObject:
    """
    @return: the object for C{service}, without the members that have their defaults.
    """
    members: dict[str, object] = {"name": service.name, "kind": service.kind}
    if service.port:
        members["port"] = service.port
    if service.perVisitor:
        members["per_visitor"] = True
    return members


def decodeService(value: object) -> Service:
    """
    @raise Denied: C{malformed} or C{unsupported}.
    """
    match value:
        case {"name": str(name), "kind": str(kind), **others}:
            port, perVisitor = others.get("port", 0), others.get("per_visitor", False)
        case _:
            raise Denied("malformed", "a service has a name and a kind")
    if not LABEL.fullmatch(name):
        raise Denied("malformed", "the name of a service has up to 63 letters a-z, digits and inner hyphens")
    if kind not in KINDS:
        raise Denied("unsupported", f"this edge supports services of the kinds {', '.join(KINDS)}")
    if not isNumber(port, 65_535) or not isinstance(perVisitor, bool):
        raise Denied("malformed", "port is a number from 0 to 65535, and per_visitor is true or false")
    return Service(name=name, kind=kind, port=port, perVisitor=perVisitor)


def encodeGrant(grant: Grant) -> JSONObject:
    """
    @return: the object for C{grant}.
    """
    return {"url": grant.url, "host": grant.host, "port": grant.port}


def decodeGrant(value: object) -> Grant:
    """
    @raise ControlProtocolError: it is not a grant.
    """
    match value:
        case {"url": str(url), "host": str(host), "port": int(port)}:
            return Grant(url=printable(url), host=printable(host), port=port)
    raise ControlProtocolError("the answer of the edge has no valid grant")


BOUNDS = {
    "head_octets": "headOctets", "head_fields": "headFields", "response_head_octets": "responseHeadOctets",
    "response_head_fields": "responseHeadFields", "first_octet_seconds": "firstOctetSeconds",
    "interim_seconds": "interimSeconds", "idle_seconds": "idleSeconds", "streams": "streams",
}  # fmt: skip
"""The members of C{limits}, and their names in L{ExchangeBounds}."""

LARGEST_BOUND = 2**31


def encodeBounds(bounds: ExchangeBounds) -> JSONObject:
    """
    @return: the member C{limits} of a welcome.
    """
    return {member: getattr(bounds, name) for member, name in BOUNDS.items()}


def decodeBounds(value: object) -> ExchangeBounds:
    """
    @return: what was announced; the default of each bound that is missing or is not a positive number.
    """
    if not isinstance(value, dict):
        return DEFAULT_BOUNDS
    announced: dict[str, Any] = {name: value.get(member) for member, name in BOUNDS.items()}
    known = {name: bound for name, bound in announced.items() if _isBound(bound, getattr(DEFAULT_BOUNDS, name))}
    return evolve(DEFAULT_BOUNDS, **known)


def _isBound(value: object, default: float) -> bool:
    """
    @return: whether it is a positive number, and a whole one where the default is.
    """
    kinds = int if isinstance(default, int) else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 < value <= LARGEST_BOUND


def isNumber(value: object, highest: int) -> TypeGuard[int]:
    """
    @return: whether it is an integer from 0 to C{highest}; C{true} is not one.
    """
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= highest
