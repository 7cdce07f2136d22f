"""
Services and grants as the control stream's JSON has them.
"""

from __future__ import annotations

import re
from typing import Any

from tunnelstack.errors import Denied, PeerError
from tunnelstack.records import KINDS, Grant, Service
from tunnelstack.wire.printable_text import printable

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class ControlProtocolError(PeerError):
    """
    What the peer says is no conversation.
    """


def encodeService(service: Service) -> dict[str, Any]:
    """
    A service as JSON says it.
    """
    said: dict[str, Any] = {"name": service.name, "kind": service.kind}
    if service.port:
        said["port"] = service.port
    if service.perVisitor:
        said["per_visitor"] = True
    return said


def decodeService(said: Any) -> Service:
    """
    @raise Denied: C{malformed} or C{unsupported}.
    """
    match said:
        case {"name": str(name), "kind": str(kind)}:
            port, perVisitor = said.get("port", 0), said.get("per_visitor", False)
        case _:
            raise Denied("malformed", "a service has a name and a kind")
    if not LABEL.fullmatch(name):
        raise Denied("malformed", "a service's name is up to 63 letters a-z, digits and inner hyphens")
    if kind not in KINDS:
        raise Denied("unsupported", f"this edge knows services of the kinds {', '.join(KINDS)}")
    if not isNumber(port, 65_535) or not isinstance(perVisitor, bool):
        raise Denied("malformed", "a port is a number from 0 to 65535, and per_visitor is true or false")
    return Service(name=name, kind=kind, port=port, perVisitor=perVisitor)


def encodeGrant(grant: Grant) -> dict[str, Any]:
    """
    A grant as JSON says it.
    """
    return {"url": grant.url, "host": grant.host, "port": grant.port}


def decodeGrant(said: Any) -> Grant:
    """
    @raise ControlProtocolError: it says nothing that could be understood.
    """
    match said:
        case {"url": str(url), "host": str(host), "port": int(port)}:
            return Grant(url=printable(url), host=printable(host), port=port)
    raise ControlProtocolError("the edge granted nothing that could be understood")


def isNumber(value: Any, highest: int) -> bool:
    """
    Whether it is an integer from 0 to C{highest}, which C{true} is not.
    """
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= highest
