"""
The edge's end of a session with a ShellHub agent of either version: an L{ITunnel<tunnelstack.interfaces.ITunnel>}.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.session_tunnel import SessionTunnel, explain
from tunnelstack.errors import Denied
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.negotiation.errors import NegotiationRefused
from tunnelstack.records import HTTPPurpose, Principal, Purpose, SSHPurpose, TCPPurpose, Visitor
from tunnelstack.session.revdial.dialler import RevdialDialler
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.errors import SessionLost, UnsupportedPurpose
from tunnelstack.transport.host_endpoint import connectTimedOut
from tunnelstack.wire.records.shellhub import HANDSHAKE, HTTPProxy, SSHClose, SSHOpen, Target

LOCALHOST = "127.0.0.1"
"""The device itself, as its agent dials it."""


DeviceSession = YamuxSession | RevdialDialler
"""A session of either version of the transport."""


class DeviceTunnel(SessionTunnel[DeviceSession]):
    """
    A way to one device.

    @ivar device: what is known of it.
    """

    def __init__(
        self,
        dialect: str,
        device: Any,
        session: DeviceSession,
        streamEndpoint: Callable[[Target], IStreamClientEndpoint],
        *,
        clock: Any,
        bounds: ExchangeBounds,
    ) -> None:
        """
        @param streamEndpoint: how streams for a target are opened on this session.
        """
        super().__init__(
            session, Principal(agent=device.agent, realm=device.tenant), dialect=dialect, instance=device.uid,
            endpointFor=self._open, clock=clock, bounds=bounds, explain=_explain,
        )
        self.device = device
        self._streamEndpoint = streamEndpoint

    def targetEndpoint(self, target: Target) -> IStreamClientEndpoint:
        """
        How to open a stream for a target.  It connects within L{HANDSHAKE} seconds.
        """
        return _TimedEndpoint(self._streamEndpoint(target), self._clock)

    def _open(self, purpose: Purpose, visitor: Visitor | None, wait: bool) -> IStreamClientEndpoint:
        """
        A device always answers before the stream is connected, whether that is waited for or not.
        """
        match purpose:
            case SSHPurpose(id=identifier):
                return self.targetEndpoint(SSHOpen(identifier or token_hex(32)))
            case HTTPPurpose(host=host, port=port) | TCPPurpose(host=host, port=port) if port:
                request = visitor.trace if visitor is not None and visitor.trace else token_hex(8)
                return self.targetEndpoint(HTTPProxy(host or LOCALHOST, port, request))
        raise UnsupportedPurpose(f"the dialect {self.dialect} cannot carry this", purpose=type(purpose).__name__)

    def closeSession(self, session: str) -> Deferred[None]:
        """
        Ask the agent to end the stream of an SSH session; it does not answer whether there was one.

        @return: fires once it has been asked.
        """
        asked: Deferred[Any] = self.targetEndpoint(SSHClose(session)).connect(Factory.forProtocol(_CloseRequestProtocol))
        return asked.addCallback(lambda _: None)

    def abort(self, reason: Any) -> None:
        """
        As in L{ITunnel<tunnelstack.interfaces.ITunnel>}.  The agent cannot be told why.  Where streams are connections of their
        own, those of an agent that has connected again go on.
        """
        self.draining = True
        if isinstance(self.session, RevdialDialler) and isinstance(reason, Denied) and reason.code == "replaced":
            self.session.close(reason.sentence)
        else:
            self.session.abort()


@implementer(IStreamClientEndpoint)
class _TimedEndpoint:
    """
    Bounds the time of an opening, and marks streams whose far end has no halves.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, clock: Any) -> None:
        self._endpoint = endpoint
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        As in L{IStreamClientEndpoint}.
        """
        opened: Deferred[Any] = self._endpoint.connect(protocolFactory)
        opened.addTimeout(HANDSHAKE, self._clock, connectTimedOut)
        return opened.addCallback(_withoutHalfClose)


def _withoutHalfClose(protocol: Any) -> Any:
    protocol.transport.endsBothDirections = True
    return protocol


class _CloseRequestProtocol(Protocol):
    """
    Everything is said; genuine agents end their half when they have done it.
    """

    transport: Any

    def connectionMade(self) -> None:
        """
        End ours.
        """
        self.transport.loseConnection()


def _explain(reason: Failure) -> str:
    """
    One sentence for a visitor about a stream that could not be opened.
    """
    if reason.check(SessionLost):
        return explain(reason)
    if reason.check(NegotiationRefused):
        return "The device cannot reach this site's server."
    return "The agent of this site does not answer."
