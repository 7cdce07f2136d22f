"""
ShellHub's version 1 at the edge: the agent keeps a control connection, and makes a WebSocket of its own for each stream it is
asked for; a stream's purpose is the request that the edge begins with.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import parse_qs

from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure

from tunnelstack.dialect.http_entry import HTTPEntry
from tunnelstack.dialect.shellhub.connections import DeviceConnections
from tunnelstack.dialect.shellhub.tunnel import DeviceTunnel
from tunnelstack.doors import HTTPDoor
from tunnelstack.errors import Refused
from tunnelstack.exchange.whole_message import TEXT, WholeResponse
from tunnelstack.interfaces import IServerExchange
from tunnelstack.negotiation.http_request import requestEndpoint
from tunnelstack.records import Principal
from tunnelstack.session.revdial.dialler import STREAM_LIMITS, RevdialDialler
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport.websocket.settings import WebSocketLimits
from tunnelstack.wire.http1.head import RequestHead
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


class UnknownDialler(Refused):
    """
    A connection that the edge did not ask for.
    """


class ShellHubV1:
    """
    Where agents of version 1 come in, and pick up what they are asked for.
    """

    def __init__(self, connections: DeviceConnections) -> None:
        """
        @param connections: the connections of both versions.
        """
        self.connections = connections

    def doors(self) -> list[HTTPDoor]:
        """
        Its doors; the edge is that of the connections.
        """
        pickUp = HTTPEntry(self.connections.edge.clock, self._acceptPickUp, self._pickedUp, self._notPickedUp)
        return [
            HTTPDoor(path=CONNECTION.encode(), server=self.connections.entry(LIMITS, self._buildTunnel)),
            HTTPDoor(path=PICK_UP.encode(), server=pickUp),
        ]

    def _buildTunnel(self, peer: Any, device: Any) -> DeviceTunnel:
        edge = self.connections.edge
        session = RevdialDialler(
            self.connections.pickUps, PICK_UP, clock=edge.clock,
            address=StreamAddress(
                key=device.agent, principal=Principal(agent=device.agent, realm=device.tenant), dialect=NAME, peer=peer,
            ),
        )
        tunnel = DeviceTunnel(
            NAME, device, session, partial(streamEndpoint, session), clock=edge.clock, bounds=edge.bounds,
        )

        def watch(_: Any) -> None:
            session.transport.onPeerAlive = lambda: self.connections.deviceSeen(tunnel)

        session.whenUp().addCallback(watch)
        return tunnel

    def _acceptPickUp(self, head: RequestHead, exchange: IServerExchange) -> IProtocolFactory:
        """
        A connection that the edge asked for, as its request says.
        """
        query = parse_qs(head.target.partition(b"?")[2].decode("latin-1"), max_num_fields=16)
        identifier, ticket = query.get("revdial.dialer", [""])[0], query.get("uuid", [""])[0]
        factory: IProtocolFactory | None = self.connections.pickUps.take(identifier, ticket)
        if factory is None:
            raise UnknownDialler("no such connection was asked for")
        return factory

    def _pickedUp(self, factory: IProtocolFactory, exchange: IServerExchange) -> None:
        self.connections.upgrade(exchange, factory, STREAM_LIMITS)

    def _notPickedUp(self, failure: Failure, exchange: IServerExchange) -> WholeResponse:
        self.connections.log.warn(
            "a pick-up from {peer} is refused: {reason}", peer=str(exchange.peer), reason=str(failure.value)
        )
        return WholeResponse(400, UNKNOWN_DIALLER, TEXT, ((b"X-Content-Type-Options", b"nosniff"),))


def streamEndpoint(session: Any, target: Target) -> IStreamClientEndpoint:
    """
    How to open a stream for a target on a session with an agent of version 1.
    """
    answered = None if isinstance(target, SSHOpen) else refusal
    return requestEndpoint(
        session.connector, name_of(target), encode_ask(target), HANDSHAKE, refusal=answered,
    )
