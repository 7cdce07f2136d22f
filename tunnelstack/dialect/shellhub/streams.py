"""
What a device does with the streams that a ShellHub server opens, in either version: SSH sessions, their ends, and proxies to
what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import Denied, Unavailable
from tunnelstack.handler.target_allowlist import TargetAllowlist
from tunnelstack.handler.tcp import TCPHandler
from tunnelstack.interfaces import IDiallingHandler
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
"""Seconds that a server which speaks first is held back: older peers lose what comes together with our answer."""

class DeviceStreams:
    """
    Serves one device's streams.

    @ivar handlers: by the names of version 2, which version 1 has here as well.
    @ivar sessions: the streams of SSH sessions, by the server's identifiers.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        *,
        ssh: Any = None,
        allowed: TargetAllowlist | None = None,
        endpoint: Callable[[str, int], IStreamClientEndpoint],
    ) -> None:
        """
        @param ssh: who serves SSH: an C{IStreamClientEndpoint} of an SSH server, an
            L{IDiallingHandler<tunnelstack.interfaces.IDiallingHandler>}, an C{IProtocolFactory}, or C{None} for nobody.
        @param allowed: what may be proxied to.
        @param endpoint: how to reach a host and a port.
        """
        if IStreamClientEndpoint.providedBy(ssh):
            ssh = TCPHandler(ssh, clock)
        self.sessions: dict[str, Any] = {}
        self.clock = clock
        self.allowed = allowed or TargetAllowlist()
        self.endpoint = endpoint
        self.handlers: dict[bytes, Any] = {HTTP_PROXY: _ProxyHandler(self)}
        if ssh is not None:
            self.handlers |= {SSH_OPEN: _SSHSessionHandler(self, ssh), SSH_CLOSE: _CloseRequestFactory(self)}

    def addSession(self, session: str, transport: Any) -> None:
        """
        A session has begun.
        """
        self.sessions = {name: stream for name, stream in self.sessions.items() if stream.connected}
        self.sessions[session] = transport

    def closeSession(self, session: str) -> None:
        """
        End a session, if there is one of that name.
        """
        stream = self.sessions.pop(session, None)
        if stream is not None:
            stream.loseConnection()


@implementer(IDiallingHandler)
class _SSHSessionHandler:
    """
    SSH sessions.
    """

    def __init__(self, streams: DeviceStreams, ssh: Any) -> None:
        self._streams = streams
        self._ssh = ssh

    def connect(self, address: StreamAddress) -> Deferred[Any]:
        """
        As in L{IDiallingHandler}.
        """
        session = str(address.parameters.get("id", ""))
        if IDiallingHandler.providedBy(self._ssh):
            served: Deferred[Any] = maybeDeferred(self._ssh.connect, address)
        else:
            served = succeed(self._ssh.buildProtocol(address))
        return served.addCallback(
            lambda built: None if built is None else _SessionStreamProtocol(built, self._streams, session)
        )


class _SessionStreamProtocol(Protocol):
    """
    Remembers whose stream it is, and is out of the way.
    """

    transport: Any

    def __init__(self, application: IProtocol, streams: DeviceStreams, session: str) -> None:
        self._application = application
        self._streams = streams
        self._session = session

    def connectionMade(self) -> None:
        """
        The application has the stream.
        """
        self._streams.addSession(self._session, self.transport)
        self.transport.handOver(self._application)


class _CloseRequestFactory(Factory):
    """
    Requests to end a session.
    """

    noisy = False

    def __init__(self, streams: DeviceStreams) -> None:
        self._streams = streams

    def buildProtocol(self, address: Any) -> Protocol:
        """
        As in L{IProtocolFactory<twisted.internet.interfaces.IProtocolFactory>}.
        """
        self._streams.closeSession(str(address.parameters.get("id", "")))
        return _ClosingProtocol()


class _ClosingProtocol(Protocol):
    transport: Any

    def connectionMade(self) -> None:
        """
        That was all.
        """
        self.transport.loseConnection()


@implementer(IDiallingHandler)
class _ProxyHandler:
    """
    Connections to servers that the device can reach.
    """

    def __init__(self, streams: DeviceStreams) -> None:
        self._streams = streams

    def connect(self, address: StreamAddress) -> Deferred[Any]:
        """
        As in L{IDiallingHandler}.
        """
        streams = self._streams
        target = decode_target_untrusted(HTTP_PROXY, address.parameters)
        assert isinstance(target, HTTPProxy)
        if not streams.allowed.has(target.host, target.port):
            streams.log.warn(
                "{key} asks for {host}:{port}, which is not allowed here", key=address.key, host=printable(target.host, 255),
                port=target.port,
            )
            raise Denied("not-allowed", "address not allowed on the device")
        handler = TCPHandler(streams.endpoint(target.host or "127.0.0.1", target.port), streams.clock)
        dialled: Deferred[Any] = handler.connect(address)
        return dialled.addCallbacks(lambda near: _DelayedHandOver(near, streams.clock), _dialFailed)


def _dialFailed(failure: Failure) -> Any:
    raise Unavailable(DIAL_FAILED) from failure.value


class _DelayedHandOver(Protocol):
    """
    The stream of a proxy, from our answer until the peer has surely read it: it has spoken, or some time has passed.
    """

    transport: Any

    def __init__(self, application: IProtocol, clock: Any) -> None:
        self._application = application
        self._clock = clock
        self._timer: Any = None

    def connectionMade(self) -> None:
        """
        Wait.
        """
        self._timer = self._clock.callLater(HAND_OVER_SECONDS, self._handOver, b"")

    def dataReceived(self, data: bytes) -> None:
        """
        It has read the answer.
        """
        self._timer.cancel()
        self._handOver(data)

    def _handOver(self, data: bytes) -> None:
        self.transport.handOver(self._application, data)

    def connectionLost(self, reason: Any = None) -> None:
        """
        It went, and what was dialled for it goes too.
        """
        if self._timer.active():
            self._timer.cancel()
            self._application.makeConnection(self.transport)
            self._application.connectionLost(reason)
