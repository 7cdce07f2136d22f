"""
ShellHub's version 2 at the edge: one WebSocket with yamux, of which the edge is the client; a stream's purpose is negotiated by
multistream-select, and said in an object behind the name.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from attrs import evolve
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from tunnelstack.dialect.shellhub.connections import DeviceConnections
from tunnelstack.dialect.shellhub.tunnel import DeviceTunnel
from tunnelstack.doors import HTTPDoor
from tunnelstack.negotiation.endpoint import NegotiatingEndpoint
from tunnelstack.records import Principal
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.address import StreamAddress
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
"""Of the WebSocket: neither side says Close, and the pings are yamux's."""


class ShellHubV2:
    """
    Where agents of version 2 come in.
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
        bind = HTTPDoor(path=CONNECTION.encode(), server=self.connections.entry(LIMITS, self._buildTunnel))
        return [bind]

    def _buildTunnel(self, peer: Any, device: Any) -> DeviceTunnel:
        edge = self.connections.edge
        session = YamuxSession(
            True, clock=edge.clock, limits=evolve(edge.sessionLimits, keepalive=0.0),
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


def streamEndpoint(session: Any, target: Target) -> IStreamClientEndpoint:
    """
    How to open a stream for a target on a session with an agent of version 2.
    """

    def negotiation() -> NegotiationSequence:
        if isinstance(target, SSHClose):  # nothing follows the object, and nothing answers it
            return NegotiationSequence(
                MultistreamInitiator(name_of(target)), JSONInitiator(encode_target(target), codec=ENVELOPES)
            )
        return NegotiationSequence(MultistreamInitiator(name_of(target)), asking(target))

    return NegotiatingEndpoint(session.connector, negotiation, HANDSHAKE)


class _RefusingFactory(Factory):
    """
    Agents open no streams; one that does is reset.
    """

    noisy = False

    def buildProtocol(self, address: object) -> None:
        """
        As in C{IProtocolFactory}.
        """
        return None


class _Keepalive:
    """
    A ping, 35 seconds after the answer to the last one; an agent that does not answer is sent away, so that it comes again.
    """

    def __init__(self, tunnel: DeviceTunnel, clock: Any, connections: DeviceConnections) -> None:
        self._tunnel = tunnel
        self._clock = clock
        self._connections = connections
        self._timer: Any = None
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
                "device {device} did not answer a ping in {seconds:g} s: its connection is closed",
                device=self._tunnel.device.agent, seconds=PONG,
            )
        self._tunnel.abort("it did not answer a ping")

    def _stop(self, reason: Any) -> Any:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        return reason
