"""
Version 2 of ShellHub's transport at the edge: one WebSocket with yamux, of which the edge is the client; the purpose of a
stream is a name that multistream-select agrees on, and a JSON object after it.
"""

from __future__ import annotations

from functools import partial

from attrs import evolve
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from tunnelstack.dialect.shellhub.connections import DeviceConnections
from tunnelstack.dialect.shellhub.device_book import Device
from tunnelstack.dialect.shellhub.tunnel import DeviceTunnel
from tunnelstack.doors import HTTPDoor
from tunnelstack.interfaces import ISession
from tunnelstack.negotiation.endpoint import NegotiatingEndpoint
from tunnelstack.records import Principal
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionLost
from tunnelstack.transport.websocket.settings import WebSocketLimits
from tunnelstack.wire.negotiation.base import NegotiationSequence
from tunnelstack.wire.negotiation.json_object import JSONInitiator
from tunnelstack.wire.negotiation.multistream.initiator import MultistreamInitiator
from tunnelstack.wire.records.shellhub import (
    CONNECTION,
    ENVELOPES,
    HANDSHAKE,
    PING,
    PONG,
    SSHClose,
    Target,
    asking,
    encode_target,
    name_of,
)

NAME = "shellhub/2"

LIMITS = WebSocketLimits(closeFrame=False)
"""Of the WebSocket: neither side sends a Close frame, and the pings are those of yamux."""


class ShellHubV2:
    """
    The door of version 2.
    """

    def __init__(self, connections: DeviceConnections) -> None:
        """
        @param connections: the connections of both versions.
        """
        self.connections = connections

    def doors(self) -> list[HTTPDoor]:
        """
        @return: the door at the edge of the connections.
        """
        bind = HTTPDoor(path=CONNECTION.encode(), server=self.connections.entry(LIMITS, self._buildTunnel))
        return [bind]

    def _buildTunnel(self, peer: IAddress, device: Device) -> DeviceTunnel:
        edge, settings = self.connections.edge, self.connections.bootstrap.settings
        limits = evolve(
            edge.sessionLimits, keepalive=0.0, open_timeout=settings.open_timeout, close_timeout=settings.close_timeout
        )
        session = YamuxSession(
            True, clock=edge.clock, limits=limits,
            address=StreamAddress(
                key=device.agent, principal=Principal(agent=device.agent, realm=device.tenant), dialect=NAME, peer=peer,
            ),
        )
        session.listener.listen(_RefusingFactory())
        tunnel = DeviceTunnel(
            NAME, device, session, partial(streamEndpoint, session), clock=edge.clock, bounds=edge.bounds,
        )
        session.whenUp().addCallback(lambda _: _Keepalive(tunnel, edge.clock, self.connections))
        return tunnel


def streamEndpoint(session: ISession, target: Target) -> IStreamClientEndpoint:
    """
    @return: an endpoint for streams to a target on a session with an agent of version 2.
    """

    def negotiation() -> NegotiationSequence:
        if isinstance(target, SSHClose):  # the object is not answered, and nothing follows it
            return NegotiationSequence(
                MultistreamInitiator(name_of(target)), JSONInitiator(encode_target(target), codec=ENVELOPES)
            )
        return NegotiationSequence(MultistreamInitiator(name_of(target)), asking(target))

    return NegotiatingEndpoint(session.connector, negotiation, HANDSHAKE)


class _RefusingFactory(Factory):
    """
    Refuses all streams: agents open none.
    """

    noisy = False

    def buildProtocol(self, address: object) -> None:
        return None


class _Keepalive:
    """
    Sends a ping L{PING} seconds after each answer.  An agent that does not answer is disconnected, so that it connects again:
    a genuine server would forget the device, and keep its connection.
    """

    def __init__(self, tunnel: DeviceTunnel, clock: IReactorTime, connections: DeviceConnections) -> None:
        self._tunnel = tunnel
        self._clock = clock
        self._connections = connections
        self._timer: IDelayedCall | None = None
        tunnel.whenLost().addCallback(self._stop)
        self._schedule()

    def _schedule(self) -> None:
        self._timer = self._clock.callLater(PING, self._ping)

    def _ping(self) -> None:
        self._timer = None
        answer = self._tunnel.session.ping().addTimeout(PONG, self._clock)
        answer.addCallbacks(self._pingAnswered, self._pingTimeout)

    def _pingAnswered(self, seconds: float) -> None:
        self._connections.deviceSeen(self._tunnel)
        self._schedule()

    def _pingTimeout(self, failure: Failure) -> None:
        if self._tunnel.healthy:
            self._connections.log.warn(
                "device {device} disconnected: it did not answer a ping within {seconds:g} s",
                device=self._tunnel.device.agent, seconds=PONG,
            )
        self._tunnel.abort("the device did not answer a ping")

    def _stop(self, reason: SessionLost) -> SessionLost:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        return reason
