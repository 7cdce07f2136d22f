"""
The native dialect, what both its sides know: names, the line of parameters behind each, and their numbers.

Source: docs/protocols/native.md, which is meant to be enough for somebody who writes a client in another language.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address

from tunnelstack.dialect.native.settings import AGENT_PATH
from tunnelstack.errors import UsageError
from tunnelstack.negotiation.endpoint import NegotiatingEndpoint
from tunnelstack.negotiation.multistream import multistreamEndpoint
from tunnelstack.records import HTTPPurpose, Purpose, StreamPurpose, TCPPurpose, Visitor
from tunnelstack.stream.errors import UnsupportedPurpose
from tunnelstack.transport.websocket.settings import WebSocketLimits
from tunnelstack.wire.addresses import read_address
from tunnelstack.wire.jsonline import encode
from tunnelstack.wire.negotiation.base import Negotiation, Release
from tunnelstack.wire.negotiation.json_object import OK_OR_REASON, JSONResponder

NAME = "tunnelstack/1"
"""The dialect's name, in logs and status lines."""

PATH = AGENT_PATH.encode()
"""The door."""

SUBPROTOCOL = "tunnelstack.v1"
"""What both sides agree on when the WebSocket is opened."""

CONTROL = b"/tunnelstack/control/1.0.0"
DIAL = b"/tunnelstack/dial/1.0.0"
HTTP = b"/tunnelstack/http/1.0.0"
TCP = b"/tunnelstack/tcp/1.0.0"

RESERVED_PREFIX = b"/tunnelstack/"
"""What the names of developers' own protocols do not begin with."""

MAX_LINE_OCTETS = 16 * 1024
"""Octets of the longest line of parameters."""

MAX_NAME_OCTETS = 255
"""Octets of the longest stream protocol's name that can be dialled."""

WEBSOCKET_LIMITS = WebSocketLimits(maxMessage=1024 * 1024)
"""Messages of ours have at most 64 KiB; those of others may have more, within reason."""

WELCOME_SECONDS = 10.0
"""Seconds from the upgrade until the agent has said hello, and until the edge has answered."""

ABORT_DELAY_SECONDS = 1.0
"""Seconds between a last word on the control stream and the end of the connection."""


def streamEndpoint(
    connector: Any, name: bytes, parameters: Mapping[str, Any], *, wait: bool = False,
) -> NegotiatingEndpoint:
    """
    An endpoint for streams of one name.  Name, parameters and what the application writes first leave together, since our side
    wrote all of it and a responder of this dialect resets a stream whose name it does not know.

    @param wait: connect only once the peer has said that it knows the name.
    @raise UsageError: more parameters than a line holds.
    """
    _checkLength(parameters)
    release = Release.ON_REPLY if wait else Release.AT_ONCE
    return multistreamEndpoint(connector, name, release=release, parameters=parameters)


def dialEndpoint(connector: Any, to: str, purpose: str) -> NegotiatingEndpoint:
    """
    An endpoint for streams through the edge to somebody else's service.

    @raise UsageError: longer than a line may be.
    """
    parameters = {"to": to, "purpose": purpose} if purpose else {"to": to}
    _checkLength(parameters)
    return multistreamEndpoint(connector, DIAL, release=Release.AT_ONCE, parameters=parameters, answers=OK_OR_REASON)


def _checkLength(parameters: Mapping[str, Any]) -> None:
    if len(encode(parameters)) > MAX_LINE_OCTETS + 1:    # the line feed does not count
        raise UsageError("the parameters are too long for a line", limit=MAX_LINE_OCTETS)


def parametersReceiver(name: bytes) -> Negotiation:
    """
    What the responder hears behind a name: a line of parameters, which is answered where somebody dials.
    """
    return JSONResponder(limit=MAX_LINE_OCTETS, answers=OK_OR_REASON if name == DIAL else None)


def encodePurpose(purpose: Purpose, visitor: Visitor | None = None) -> tuple[bytes, dict[str, Any]]:
    """
    @return: the name and the parameters that say to an agent what a stream is for.
    @raise UnsupportedPurpose: the dialect has no words for it.
    """
    match purpose:
        case HTTPPurpose(service=service) if service:
            return HTTP, {"service": service, **_visitorParameters(visitor)}
        case TCPPurpose(service=service) if service:
            return TCP, {"service": service, **_visitorParameters(visitor)}
        case TCPPurpose(host=host, port=port) if port:
            return TCP, {"host": host, "port": port, **_visitorParameters(visitor)}
        case StreamPurpose(name=name, parameters=parameters):
            return name, {"parameters": dict(parameters), **_visitorParameters(visitor)}
    raise UnsupportedPurpose(f"the dialect {NAME} cannot carry this", purpose=type(purpose).__name__)


def _visitorParameters(visitor: Visitor | None) -> dict[str, Any]:
    """
    On whose behalf.
    """
    if visitor is None:
        return {}
    said: dict[str, Any] = {"visitor": {}}
    if isinstance(visitor.address, (IPv4Address, IPv6Address)):
        said["visitor"] = {"host": visitor.address.host, "port": visitor.address.port}
    if visitor.scheme:
        said["visitor"]["scheme"] = visitor.scheme
    if visitor.trace:
        said["trace"] = visitor.trace
    return said


def decodeVisitor(parameters: Mapping[str, Any]) -> IPv4Address | IPv6Address | None:
    """
    @return: the visitor's address as a line of parameters says it, or C{None}.
    """
    match parameters.get("visitor"):
        case {"host": str(host), "port": int(port)} if 0 <= port <= 65_535:
            address = read_address(host)
            if address is not None:
                return (IPv4Address if address.version == 4 else IPv6Address)("TCP", str(address), port)
    return None
