"""
ShellHub's version 1 at the edge: the agent keeps a control connection, and makes a WebSocket of its own for each stream it is
asked for; a stream's purpose is the request that the edge begins with.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import parse_qs

from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from tunnelstack.dialect.shellhub.connections import DeviceConnections, upgradeToWebSocket
from tunnelstack.dialect.shellhub.http_server import TEXT, RequestProtocol, Response
from tunnelstack.dialect.shellhub.tunnel import DeviceTunnel
from tunnelstack.interfaces import IDialect
from tunnelstack.negotiation.http_request import requestEndpoint
from tunnelstack.records import HTTPDoor, Principal, TakenOverRequest
from tunnelstack.session.revdial.dialler import STREAM_LIMITS, RevdialDialler
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport.peers import peerOf
from tunnelstack.transport.websocket.settings import WebSocketLimits
from tunnelstack.wire.records.shellhub import HANDSHAKE, SSHOpen, Target, name_of
from tunnelstack.wire.records.shellhub_v1 import (
    CONNECTION,
    PICK_UP,
    PING,
    PONG,
    UNKNOWN_DIALLER,
    encode_ask,
    refusal,
)

NAME = "shellhub/1"

LIMITS = WebSocketLimits(keepalive=PING, keepaliveTimeout=PONG - PING, pongOnly=True, closeFrame=False)
"""Of the control connection."""


@implementer(IDialect)
class ShellHubV1:
    """
    Where agents of version 1 come in, and pick up what they are asked for.
    """

    name = NAME

    def __init__(self, connections: DeviceConnections) -> None:
        """
        @param connections: is shared with version 2, which has the doors of plain HTTP.
        """
        self.connections = connections

    def doors(self, edge: Any) -> list[HTTPDoor]:
        """
        As in L{IDialect}.
        """
        self.connections.attach(edge)
        return [
            HTTPDoor(path=CONNECTION.encode(), onRequest=self._acceptAgent),
            HTTPDoor(path=PICK_UP.encode(), onRequest=self._acceptPickUp),
        ]

    def _acceptAgent(self, request: TakenOverRequest) -> Any:
        return self.connections.acceptAgent(request, LIMITS, partial(self._buildTunnel, peerOf(request.transport)))

    def _buildTunnel(self, peer: Any, device: Any) -> DeviceTunnel:
        edge = self.connections.edge
        session = RevdialDialler(
            self.connections.pickUps, PICK_UP, clock=edge.clock,
            address=StreamAddress(
                key=device.agent, principal=Principal(agent=device.agent, tenant=device.tenant), dialect=NAME, peer=peer,
            ),
        )
        tunnel = DeviceTunnel(
            NAME, device, session, partial(streamEndpoint, session), clock=edge.clock, timeouts=self.connections.timeouts,
        )

        def watch(_: Any) -> None:
            session.transport.onPeerAlive = lambda: self.connections.deviceSeen(tunnel)

        session.whenUp().addCallback(watch)
        return tunnel

    def _acceptPickUp(self, request: TakenOverRequest) -> Any:
        """
        A connection that somebody has asked for, or says so.
        """
        query = parse_qs(request.head.target.partition(b"?")[2].decode("latin-1"), max_num_fields=16)
        identifier, ticket = query.get("revdial.dialer", [""])[0], query.get("uuid", [""])[0]
        factory = self.connections.pickUps.take(identifier, ticket)
        if factory is None:
            self.connections.log.warn("a pick-up from {peer} that nobody asked for", peer=str(peerOf(request.transport)))
            return RequestProtocol(request, self.connections.edge.clock, lambda request, body: _UNKNOWN)
        return upgradeToWebSocket(request, factory, self.connections.edge.clock, STREAM_LIMITS)


_UNKNOWN = Response(400, UNKNOWN_DIALLER, TEXT, ((b"X-Content-Type-Options", b"nosniff"),))


def streamEndpoint(session: Any, target: Target) -> IStreamClientEndpoint:
    """
    How to open a stream for a target on a session with an agent of version 1.
    """
    answered = None if isinstance(target, SSHOpen) else refusal
    return requestEndpoint(
        session.connector, name_of(target), encode_ask(target), HANDSHAKE, refusal=answered,
    )
