"""
Version 1 of ShellHub's transport at the edge: the agent keeps a control connection, and opens a WebSocket for each stream that
the edge requests on it; the purpose of a stream is the HTTP request that the edge sends first.
"""

from __future__ import annotations

from functools import partial
from urllib.parse import parse_qs

from twisted.internet.interfaces import IAddress, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure

from tunnelstack.dialect.http_entry import HTTPEntry
from tunnelstack.dialect.shellhub.connections import DeviceConnections
from tunnelstack.dialect.shellhub.device_book import Device
from tunnelstack.dialect.shellhub.tunnel import DeviceTunnel
from tunnelstack.doors import HTTPDoor
from tunnelstack.errors import Refused
from tunnelstack.exchange.whole_message import TEXT, WholeResponse
from tunnelstack.interfaces import IServerExchange, ISession
from tunnelstack.negotiation.http_request import requestEndpoint
from tunnelstack.records import Principal
from tunnelstack.session.revdial.dialler import STREAM_LIMITS, RevdialDialler
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText
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
    The edge has not requested this connection.
    """


class ShellHubV1:
    """
    The doors of version 1: for control connections, and for the connections that the edge requests on them.
    """

    def __init__(self, connections: DeviceConnections) -> None:
        """
        @param connections: the connections of both versions.
        """
        self.connections = connections

    def doors(self) -> list[HTTPDoor]:
        """
        @return: the doors at the edge of the connections.
        """
        pickUp = HTTPEntry(self.connections.edge.clock, self._acceptPickUp, self._pickedUp, self._notPickedUp)
        return [
            HTTPDoor(path=CONNECTION.encode(), server=self.connections.entry(LIMITS, self._buildTunnel)),
            HTTPDoor(path=PICK_UP.encode(), server=pickUp),
        ]

    def _buildTunnel(self, peer: IAddress, device: Device) -> DeviceTunnel:
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

        def watch(_: object) -> None:
            session.transport.onPeerAlive = lambda: self.connections.deviceSeen(tunnel)

        session.whenUp().addCallback(watch)
        return tunnel

    def _acceptPickUp(self, head: RequestHead, exchange: IServerExchange) -> IProtocolFactory:
        """
        @return: the factory of the stream that waits for this connection.
        @raise UnknownDialler: no stream does.
        """
        query = parse_qs(head.target.partition(b"?")[2].decode("latin-1"), max_num_fields=16)
        identifier, ticket = query.get("revdial.dialer", [""])[0], query.get("uuid", [""])[0]
        factory: IProtocolFactory | None = self.connections.pickUps.take(identifier, ticket)
        if factory is None:
            raise UnknownDialler("the edge has not requested this connection")
        return factory

    def _pickedUp(self, factory: IProtocolFactory, exchange: IServerExchange) -> None:
        self.connections.upgrade(exchange, factory, STREAM_LIMITS)

    def _notPickedUp(self, failure: Failure, exchange: IServerExchange) -> WholeResponse:
        self.connections.log.warn(
            "pick-up from {peer} refused: {reason}", peer=addressText(exchange.peer), reason=errorText(failure)
        )
        return WholeResponse(400, UNKNOWN_DIALLER, TEXT, ((b"X-Content-Type-Options", b"nosniff"),))


def streamEndpoint(session: ISession, target: Target) -> IStreamClientEndpoint:
    """
    @return: an endpoint for streams to a target on a session with an agent of version 1.
    """
    answered = None if isinstance(target, SSHOpen) else refusal
    return requestEndpoint(session.connector, name_of(target), encode_ask(target), HANDSHAKE, refusal=answered)
