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
from zope.interface import implementer

from tunnelstack.dialect.shellhub.connections import Fleet
from tunnelstack.dialect.shellhub.tunnel import DeviceTunnel
from tunnelstack.interfaces import IDialect
from tunnelstack.negotiation.endpoint import NegotiatingEndpoint
from tunnelstack.records import HTTPDoor, Knock, Principal
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport.websocket.settings import WebSocketLimits
from tunnelstack.wire.negotiation.base import Then
from tunnelstack.wire.negotiation.json_object import Sender
from tunnelstack.wire.negotiation.multistream.initiator import Initiator
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


@implementer(IDialect)
class ShellHub2:
    """
    Where agents of version 2 come in, and all agents are told who they are.
    """

    name = NAME

    def __init__(self, fleet: Fleet) -> None:
        """
        @param fleet: may be shared with version 1.
        """
        self.fleet = fleet

    def doors(self, edge: Any) -> list[HTTPDoor]:
        """
        As in L{IDialect}.
        """
        self.fleet.join(edge)
        bind = HTTPDoor(path=CONNECTION.encode(), takeOver=self._enter)
        return [*self.fleet.bootstrap.doors(), bind]

    def _enter(self, knock: Knock) -> Any:
        return self.fleet.enter(knock, LIMITS, partial(self._build, knock.transport.getPeer()))

    def _build(self, peer: Any, device: Any) -> DeviceTunnel:
        edge = self.fleet.edge
        session = YamuxSession(
            True, clock=edge.clock, limits=evolve(edge.sessionLimits, keepalive=0.0),
            address=StreamAddress(
                key=device.agent, principal=Principal(agent=device.agent, tenant=device.tenant), dialect=NAME, peer=peer,
            ),
        )
        session.listener.listen(_Nobody())
        tunnel = DeviceTunnel(
            NAME, device, session, partial(reach, session), clock=edge.clock, timeouts=self.fleet.timeouts,
        )
        session.whenUp().addCallback(lambda _: _Pulse(tunnel, edge.clock, self.fleet))
        return tunnel


def reach(session: Any, target: Target) -> IStreamClientEndpoint:
    """
    How to open a stream for a target on a session with an agent of version 2.
    """

    def negotiation() -> Then:
        if isinstance(target, SSHClose):      # nothing follows the object, and nothing answers it
            return Then(Initiator(name_of(target)), Sender(encode_target(target), codec=ENVELOPES))
        return Then(Initiator(name_of(target)), asking(target))

    return NegotiatingEndpoint(session.connector, negotiation, HANDSHAKE)


class _Nobody(Factory):
    """
    Agents open no streams; one that does is reset.
    """

    noisy = False

    def buildProtocol(self, address: object) -> None:
        """
        As in C{IProtocolFactory}.
        """
        return None


class _Pulse:
    """
    A ping, 35 seconds after the answer to the last one; an agent that does not answer is sent away, so that it comes again.
    """

    def __init__(self, tunnel: DeviceTunnel, clock: Any, fleet: Fleet) -> None:
        self._tunnel = tunnel
        self._clock = clock
        self._fleet = fleet
        self._timer: Any = None
        tunnel.whenLost().addCallback(self._stop)
        self._wait()

    def _wait(self) -> None:
        self._timer = self._clock.callLater(PING, self._ask)

    def _ask(self) -> None:
        self._timer = None
        answer = self._tunnel.session.ping().addTimeout(PONG, self._clock)
        answer.addCallbacks(self._answered, self._silent)

    def _answered(self, seconds: float) -> None:
        self._fleet.heard(self._tunnel)
        self._wait()

    def _silent(self, failure: Failure) -> None:
        if self._tunnel.healthy:
            self._fleet.log.warn(
                "device {device} did not answer a ping in {seconds:g} s: its connection is closed",
                device=self._tunnel.device.agent, seconds=PONG,
            )
        self._tunnel.abort("it did not answer a ping")

    def _stop(self, reason: Any) -> Any:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        return reason
