"""
What both sides of the native dialect have in common: the names of its streams, their parameters, and its limits.

Source: docs/protocols/native.md.
"""

from __future__ import annotations

from typing import Literal

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IStreamClientEndpoint

from tunnelstack.dialect.native.defaults import AGENT_PATH
from tunnelstack.errors import UsageError
from tunnelstack.negotiation.endpoint import NegotiatingEndpoint
from tunnelstack.negotiation.multistream import multistreamEndpoint
from tunnelstack.records import HTTPPurpose, Purpose, StreamPurpose, TCPPurpose, UDPPurpose, Visitor
from tunnelstack.stream.errors import UnsupportedPurpose
from tunnelstack.transport.websocket.settings import WebSocketLimits
from tunnelstack.wire.addresses import read_address
from tunnelstack.wire.jsonline import JSONObject, encode
from tunnelstack.wire.negotiation.base import Negotiation, Release
from tunnelstack.wire.negotiation.json_object import OK_OR_REASON, JSONResponder

NAME = "tunnelstack/1"
"""The name of the dialect in logs and status lines."""

PATH = AGENT_PATH.encode()
"""The path of the door."""

SUBPROTOCOL = "tunnelstack.v1"
"""The subprotocol of the WebSocket."""

CONTROL = b"/tunnelstack/control/1.0.0"
DIAL = b"/tunnelstack/dial/1.0.0"
HTTP = b"/tunnelstack/http/1.0.0"
TCP = b"/tunnelstack/tcp/1.0.0"
UDP = b"/tunnelstack/udp/1.0.0"

RESERVED_PREFIX = b"/tunnelstack/"
"""Names of developers' own protocols must not begin with this."""

MAX_LINE_OCTETS = 16 * 1024
"""Octets of the longest line of parameters."""

MAX_NAME_OCTETS = 255
"""Octets of the longest name of a stream protocol that can be dialled."""

WEBSOCKET_LIMITS = WebSocketLimits(maxMessage=1024 * 1024)
"""This implementation sends messages of at most 64 KiB, others may send longer ones."""

WELCOME_SECONDS = 10.0
"""Seconds from the upgrade until the agent has opened its control stream, and until the edge has answered."""

ABORT_DELAY_SECONDS = 1.0
"""Seconds between the last message on the control stream and the end of the connection."""


def streamEndpoint(
    connector: IStreamClientEndpoint, name: bytes, parameters: JSONObject, *, wait: bool = False,
) -> NegotiatingEndpoint:
    """
    Name, parameters and the first data of the application are sent together: a responder of this dialect resets a stream whose
    name it does not know.

    @param wait: connect when the peer has accepted the name.
    @return: an endpoint for streams of one name.
    @raise UsageError: the parameters are longer than a line may be.
    """
    _checkLength(parameters)
    release = Release.ON_REPLY if wait else Release.AT_ONCE
    return multistreamEndpoint(connector, name, release=release, parameters=parameters)


def dialEndpoint(connector: IStreamClientEndpoint, to: str, purpose: str) -> NegotiatingEndpoint:
    """
    @return: an endpoint for streams through the edge to a service of another agent.
    @raise UsageError: the parameters are longer than a line may be.
    """
    parameters = {"to": to, "purpose": purpose} if purpose else {"to": to}
    _checkLength(parameters)
    return multistreamEndpoint(connector, DIAL, release=Release.AT_ONCE, parameters=parameters, answers=OK_OR_REASON)


def _checkLength(parameters: JSONObject) -> None:
    if len(encode(parameters)) > MAX_LINE_OCTETS + 1:    # the line feed does not count
        raise UsageError("the parameters are too long for a line", limit=MAX_LINE_OCTETS)


def parametersReceiver(name: bytes) -> Negotiation:
    """
    @return: the responder's half of what follows a name: a line of parameters, which is answered for L{DIAL} only.
    """
    return JSONResponder(limit=MAX_LINE_OCTETS, answers=OK_OR_REASON if name == DIAL else None)


def encodePurpose(purpose: Purpose, visitor: Visitor | None = None) -> tuple[bytes, JSONObject]:
    """
    @return: the name and the parameters of a stream for a purpose.
    @raise UnsupportedPurpose: the dialect has no such streams.
    """
    match purpose:
        case HTTPPurpose(service=service) if service:
            return HTTP, {"service": service, **_visitorParameters(visitor)}
        case TCPPurpose(service=service) if service:
            return TCP, {"service": service, **_visitorParameters(visitor)}
        case UDPPurpose(service=service) if service:
            return UDP, {"service": service, **_visitorParameters(visitor)}
        case TCPPurpose(host=host, port=port) if port:
            return TCP, {"host": host, "port": port, **_visitorParameters(visitor)}
        case StreamPurpose(name=name, parameters=parameters):
            return name, {"parameters": dict(parameters), **_visitorParameters(visitor)}
    raise UnsupportedPurpose(f"the dialect {NAME} cannot carry this", purpose=type(purpose).__name__)


def _visitorParameters(visitor: Visitor | None) -> JSONObject:
    """
    @return: the members that describe the visitor.
    """
    if visitor is None:
        return {}
    known: dict[str, object] = {}
    if isinstance(visitor.address, (IPv4Address, IPv6Address)):
        known |= {"host": visitor.address.host, "port": visitor.address.port}
    if visitor.scheme:
        known["scheme"] = visitor.scheme
    return {"visitor": known, "trace": visitor.trace} if visitor.trace else {"visitor": known}


def decodeVisitor(parameters: JSONObject) -> IPv4Address | IPv6Address | None:
    """
    @return: the address of the visitor in the parameters of a stream; C{None} if they have none that is valid.
    """
    match parameters.get("visitor"):
        case {"host": str(host), "port": int(port), **others} if 0 <= port <= 65_535:
            address = read_address(host)
            if address is not None:
                kind: Literal["TCP", "UDP"] = "UDP" if others.get("scheme") == "udp" else "TCP"
                return (IPv4Address if address.version == 4 else IPv6Address)(kind, str(address), port)
    return None
