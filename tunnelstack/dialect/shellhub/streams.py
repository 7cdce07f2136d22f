"""
What a device does with the streams that a ShellHub server opens, in either version: SSH sessions, requests to close them, and
connections to allowed targets.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.shellhub.ssh_session import Stream
from tunnelstack.errors import Denied, Unavailable
from tunnelstack.handler.target_allowlist import TargetAllowlist
from tunnelstack.handler.tcp import TCPHandler
from tunnelstack.interfaces import IDiallingHandler
from tunnelstack.negotiation.endpoint import Handler
from tunnelstack.stream.address import StreamAddress
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.shellhub import (
    DIAL_FAILED,
    HTTP_PROXY,
    SSH_CLOSE,
    SSH_OPEN,
    HTTPProxy,
    decode_target_untrusted,
)

HAND_OVER_SECONDS = 0.1
"""Seconds that data of a target is held back: older servers lose what arrives together with the answer."""


class DeviceStreams:
    """
    Serves the streams of one device.

    @ivar handlers: by the names of version 2, which are used for version 1 as well.
    @ivar sessions: the streams of SSH sessions, by the server's identifiers.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        *,
        ssh: Handler | IStreamClientEndpoint | None = None,
        allowed: TargetAllowlist | None = None,
        endpoint: Callable[[str, int], IStreamClientEndpoint],
    ) -> None:
        """
        @param ssh: an endpoint of an SSH server, or a handler that is one; C{None} for no SSH.
        @param allowed: the targets that the server may connect to.
        @param endpoint: makes an endpoint from a host and a port.
        """
        self.sessions: dict[str, Stream] = {}
        self.clock = clock
        self.allowed = allowed or TargetAllowlist()
        self.endpoint = endpoint
        self.handlers: dict[bytes, Handler] = {HTTP_PROXY: _ProxyHandler(self)}
        if ssh is not None:
            handler = TCPHandler(ssh, clock) if IStreamClientEndpoint.providedBy(ssh) else ssh
            self.handlers |= {SSH_OPEN: _SSHSessionHandler(self, handler), SSH_CLOSE: _CloseRequestFactory(self)}

    def addSession(self, session: str, stream: Stream) -> None:
        """
        A session has begun.
        """
        self.sessions = {name: other for name, other in self.sessions.items() if other.connected}
        self.sessions[session] = stream

    def closeSession(self, session: str) -> None:
        """
        End a session, if there is one of that name, after what was written to its stream.

        The stream does not wait for its producer, as C{loseConnection} alone would: that of the embedded SSH server produces
        for as long as a command runs.
        """
        stream = self.sessions.pop(session, None)
        if stream is not None:
            stream.unregisterProducer()
            stream.loseConnection()


@implementer(IDiallingHandler)
class _SSHSessionHandler:
    """
    Accepts SSH sessions.
    """

    def __init__(self, streams: DeviceStreams, ssh: Handler) -> None:
        self._streams = streams
        self._ssh = ssh

    def connect(self, address: StreamAddress) -> Deferred[_SessionStreamProtocol | None]:
        """
        @return: fires with C{None} if the SSH server refuses the session.
        """
        session = str(address.parameters.get("id", ""))
        application: Deferred[IProtocol | None]
        if IDiallingHandler.providedBy(self._ssh):
            application = maybeDeferred(self._ssh.connect, address)
        else:
            application = succeed(self._ssh.buildProtocol(address))
        return application.addCallback(
            lambda built: None if built is None else _SessionStreamProtocol(built, self._streams, session)
        )


class _SessionStreamProtocol(Protocol):
    """
    Adds the stream of a session to the table, and hands it over to the SSH server.
    """

    transport: Stream

    def __init__(self, application: IProtocol, streams: DeviceStreams, session: str) -> None:
        self._application = application
        self._streams = streams
        self._session = session

    def connectionMade(self) -> None:
        self._streams.addSession(self._session, self.transport)
        self.transport.handOver(self._application)


class _CloseRequestFactory(Factory):
    """
    Accepts requests to close a session.
    """

    noisy = False

    def __init__(self, streams: DeviceStreams) -> None:
        self._streams = streams

    def buildProtocol(self, address: object) -> Protocol:
        assert isinstance(address, StreamAddress)
        self._streams.closeSession(str(address.parameters.get("id", "")))
        return _ClosingProtocol()


class _ClosingProtocol(Protocol):
    """
    A request that needs no answer.
    """

    transport: Stream

    def connectionMade(self) -> None:
        self.transport.loseConnection()


@implementer(IDiallingHandler)
class _ProxyHandler:
    """
    Connects streams to allowed targets.
    """

    def __init__(self, streams: DeviceStreams) -> None:
        self._streams = streams

    def connect(self, address: StreamAddress) -> Deferred[_DelayedHandOver]:
        """
        @raise Denied: the target is not allowed.
        """
        streams = self._streams
        target = decode_target_untrusted(HTTP_PROXY, address.parameters)
        assert isinstance(target, HTTPProxy)
        if not streams.allowed.has(target.host, target.port):
            streams.log.warn(
                "stream of {key} to {host}:{port} refused: the target is not allowed", key=address.key,
                host=printable(target.host, 255), port=target.port,
            )
            raise Denied("not-allowed", "address not allowed on the device")
        handler = TCPHandler(streams.endpoint(target.host or "127.0.0.1", target.port), streams.clock)
        connected = handler.connect(address).addErrback(_dialFailed)
        return connected.addCallback(_DelayedHandOver, streams.clock)


def _dialFailed(failure: Failure) -> IProtocol:
    raise Unavailable(DIAL_FAILED) from failure.value


class _DelayedHandOver(Protocol):
    """
    The stream of a target until the peer has read our answer: it has sent data, or L{HAND_OVER_SECONDS} have passed.
    """

    transport: Stream

    def __init__(self, application: IProtocol, clock: IReactorTime) -> None:
        self._application = application
        self._clock = clock
        self._timer: IDelayedCall

    def connectionMade(self) -> None:
        self._timer = self._clock.callLater(HAND_OVER_SECONDS, self._handOver, b"")

    def dataReceived(self, data: bytes) -> None:
        self._timer.cancel()
        self._handOver(data)

    def _handOver(self, data: bytes) -> None:
        self.transport.handOver(self._application, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # The connection to the target is closed as well.
        if self._timer.active():
            self._timer.cancel()
            self._application.makeConnection(self.transport)
            self._application.connectionLost(reason)
