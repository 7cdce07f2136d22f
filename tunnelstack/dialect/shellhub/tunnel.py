"""
The edge's end of a session with a ShellHub agent of either version: an L{ITunnel<tunnelstack.interfaces.ITunnel>}.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.session_tunnel import SessionTunnel, explain
from tunnelstack.dialect.shellhub.device_book import Device
from tunnelstack.dialect.shellhub.ssh_session import DeviceSSHSession, SessionProtocol, Stream
from tunnelstack.errors import Denied, TunnelError
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.traits import Traits
from tunnelstack.negotiation.errors import NegotiationRefused
from tunnelstack.records import HTTPPurpose, Principal, Purpose, SSHPurpose, TCPPurpose, Visitor
from tunnelstack.session.revdial.dialler import RevdialDialler
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.errors import SessionLost, UnsupportedPurpose
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.host_endpoint import connectTimedOut
from tunnelstack.wire.records.shellhub import HANDSHAKE, HTTPProxy, SSHClose, SSHOpen, Target

LOCALHOST = "127.0.0.1"
"""The device itself, as its agent dials it."""

TRAITS = Traits(halfClose=False)
"""Of streams to devices: an end is the end of both directions."""

DeviceSession = YamuxSession | RevdialDialler
"""A session of either version of the transport."""


class DeviceTunnel(SessionTunnel[DeviceSession]):
    """
    A tunnel to one device.

    @ivar device: the device, as it was when it connected.
    @ivar sshSessions: the open SSH sessions, by their identifiers.
    """

    log = Logger()

    def __init__(
        self,
        dialect: str,
        device: Device,
        session: DeviceSession,
        streamEndpoint: Callable[[Target], IStreamClientEndpoint],
        *,
        clock: IReactorTime,
        bounds: ExchangeBounds,
    ) -> None:
        """
        @param streamEndpoint: makes an endpoint for streams to a target on this session.
        """
        super().__init__(
            session, Principal(agent=device.agent, realm=device.tenant), dialect=dialect, instance=device.uid,
            endpointFor=self._open, clock=clock, bounds=bounds, explain=_explain, traits=TRAITS,
        )
        self.device = device
        self.sshSessions: dict[str, DeviceSSHSession] = {}
        self._streamEndpoint = streamEndpoint

    def targetEndpoint(self, target: Target) -> IStreamClientEndpoint:
        """
        @return: an endpoint for streams to a target.  It connects within L{HANDSHAKE} seconds.
        """
        opened = self._sessionOpened if isinstance(target, SSHOpen) else None
        return _TargetEndpoint(self._streamEndpoint(target), self._clock, target, opened)

    def _open(self, purpose: Purpose, visitor: Visitor | None, wait: bool) -> IStreamClientEndpoint:
        # A device always answers before the stream is connected, whatever C{wait} is.
        match purpose:
            case SSHPurpose(id=identifier):
                return self.targetEndpoint(SSHOpen(identifier or token_hex(32)))
            case HTTPPurpose(host=host, port=port) | TCPPurpose(host=host, port=port) if port:
                request = visitor.trace if visitor is not None and visitor.trace else token_hex(8)
                return self.targetEndpoint(HTTPProxy(host or LOCALHOST, port, request))
        raise UnsupportedPurpose(f"the dialect {self.dialect} cannot carry this", purpose=type(purpose).__name__)

    # SSH sessions

    def _sessionOpened(self, target: SSHOpen, stream: Stream) -> None:
        self.sshSessions[target.session] = DeviceSSHSession(target.session, self._clock.seconds())
        SessionProtocol(stream, lambda: self._sessionEnded(target.session))

    def _sessionEnded(self, uid: str) -> None:
        """
        The stream of a session is lost.  Genuine agents forget a session only when they are sent a request to close it.
        """
        if self.sshSessions.pop(uid, None) is not None and not self._lost:
            self._requestClose(uid).addErrback(self._closeFailed, uid)

    def closeSession(self, uid: str) -> Deferred[None]:
        """
        Request that the agent ends an SSH session.  The agent does not report whether there was one.

        @return: fires when the request was sent.
        """
        self.sshSessions.pop(uid, None)
        return self._requestClose(uid)

    def _requestClose(self, uid: str) -> Deferred[None]:
        connected = self.targetEndpoint(SSHClose(uid)).connect(Factory.forProtocol(_CloseRequestProtocol))
        return connected.addCallback(lambda _: None)

    def _closeFailed(self, failure: Failure, uid: str) -> None:
        failure.trap(Exception)
        self.log.debug(
            "device {device} was not notified of the end of SSH session {session}: {reason}", device=self.device.agent,
            session=uid, reason=errorText(failure),
        )

    def abort(self, reason: TunnelError | str) -> None:
        """
        Drop the session.  The agent is not sent the reason.  In version 1, where each stream has a connection of its own, the
        streams of an agent that has connected again continue.
        """
        self.refuseMore()
        if isinstance(self.session, RevdialDialler) and isinstance(reason, Denied) and reason.code == "replaced":
            self.session.close(reason.sentence)
        else:
            self.session.abort()


@implementer(IStreamClientEndpoint)
class _TargetEndpoint:
    """
    Opens streams to one target, within L{HANDSHAKE} seconds.
    """

    def __init__(
        self, endpoint: IStreamClientEndpoint, clock: IReactorTime, target: Target,
        opened: Callable[[SSHOpen, Stream], object] | None,
    ) -> None:
        """
        @param opened: called with the target and each stream that is connected to it, if it is an SSH session.
        """
        self._endpoint = endpoint
        self._clock = clock
        self._target = target
        self._opened = opened

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        connected: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)
        connected.addTimeout(HANDSHAKE, self._clock, connectTimedOut)
        return connected.addCallback(self._connected)

    def _connected(self, protocol: IProtocol) -> IProtocol:
        stream: Stream = cast(Any, protocol).transport
        stream.endsBothDirections = True      # the far side of a device's stream has no half-close
        if self._opened is not None and isinstance(self._target, SSHOpen):
            self._opened(self._target, stream)
        return protocol


class _CloseRequestProtocol(Protocol):
    """
    A stream whose parameters are all that is sent.  Genuine agents end their direction when they have closed the session.
    """

    transport: Stream

    def connectionMade(self) -> None:
        self.transport.loseConnection()


def _explain(reason: Failure) -> str:
    """
    @return: a sentence for a visitor about a stream that could not be opened.
    """
    if reason.check(SessionLost):
        return explain(reason)
    if reason.check(NegotiationRefused):
        return "The device cannot reach the server of this site."
    return "The agent of this site does not answer."
