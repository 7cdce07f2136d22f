"""
The far half of an SSH front door: a connection to a device's own SSH server, on which a visitor's login is repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.conch.ssh import transport, userauth
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.service import SSHService
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.errors import Unavailable
from tunnelstack.handler.ssh.connection import FlowControlledConnection
from tunnelstack.handler.ssh.transport import ClientTransport
from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.wire.printable_text import printable_lines

MAX_BANNER_OCTETS = 4096
"""Octets of what a device says before the login."""

log = Logger()


class DeviceUnreachable(Unavailable):
    """
    The device's SSH server cannot be spoken to; the message is for its visitor.
    """


class UpstreamUserAuth(SSHService):
    """
    SSH's C{ssh-userauth}, client's side: asks one thing at a time.
    """

    name = b"ssh-userauth"
    protocolMessages = userauth.SSHUserAuthClient.protocolMessages
    transport: Any

    def __init__(self, started: Callable[[], object], banner: Callable[[str], object]) -> None:
        self._started = started
        self._banner = banner
        self._answer: Deferred[bool] | None = None

    def serviceStarted(self) -> None:
        """
        The device listens.
        """
        self._started()

    def authenticate(self, user: str, method: bytes, rest: bytes) -> Deferred[bool]:
        """
        @return: whether the device lets the user in.
        """
        self._answer = Deferred()
        self.transport.sendPacket(
            userauth.MSG_USERAUTH_REQUEST, NS(user.encode()) + NS(b"ssh-connection") + NS(method) + rest)
        return self._answer

    def _finish(self, verdict: bool) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.callback(verdict)

    def ssh_USERAUTH_SUCCESS(self, packet: bytes) -> None:
        """
        The device lets the user in.
        """
        self._finish(True)

    def ssh_USERAUTH_FAILURE(self, packet: bytes) -> None:
        """
        It does not; or wants more than one proof, which we cannot give.
        """
        self._finish(False)

    def ssh_USERAUTH_PK_OK(self, packet: bytes) -> None:
        """
        By its number also the demand for another password.
        """
        self._finish(False)

    def ssh_USERAUTH_BANNER(self, packet: bytes) -> None:
        """
        What the device says to whoever wants in.
        """
        self._banner(printable_lines(getNS(packet)[0][:MAX_BANNER_OCTETS].decode("utf-8", "replace").rstrip()))

    def serviceStopped(self) -> None:
        """
        Nobody answers any more: servers end a connection instead of refusing the last login they take on it.
        """
        self._finish(False)


class UpstreamConnection:
    """
    A connection to one device.

    @ivar connection: its channels, once somebody is logged in.
    @ivar gone: the connection is over.
    """

    def __init__(self, clock: Any, banner: Callable[[str], object]) -> None:
        self.closed = False
        self.connection = FlowControlledConnection()
        self._ready: Deferred[UpstreamConnection] | None = None
        self._isReady = False
        self._login = UpstreamUserAuth(self._started, banner)
        self._lost: list[Callable[[], object]] = []
        self.protocol = ClientTransport(clock, lambda: self.protocol.requestService(self._login), self._ended)

    def ready(self) -> Deferred[UpstreamConnection]:
        """
        @return: fires when the device listens to a login; fails with L{DeviceUnreachable}.
        """
        if self.closed:
            return fail(DeviceUnreachable("the device ended the connection"))
        if self._isReady:
            return succeed(self)
        self._ready = Deferred(lambda cancelled: self.protocol.transport.abortConnection())
        return self._ready

    def _started(self) -> None:
        self._isReady = True
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.callback(self)

    def _ended(self, reason: Failure, sentence: str) -> None:
        self.closed = True
        ready, self._ready = self._ready, None
        if ready is not None and not ready.called:
            ready.errback(DeviceUnreachable("the device ended the connection"))
        lost, self._lost = self._lost, []
        for callback in lost:
            callback()

    def whenLost(self, callback: Callable[[], object]) -> None:
        """
        Call C{callback} when the connection is over.
        """
        if self.closed:
            callback()
        else:
            self._lost.append(callback)

    def password(self, user: str, password: bytes) -> Deferred[bool]:
        """
        @return: whether the device lets the user in with it.
        """
        return self._authenticate(user, b"password", b"\0" + NS(password))

    def key(self, user: str, key: Key) -> Deferred[bool]:
        """
        @param key: a private key.
        @return: whether the device lets the user in with it.
        """
        algorithm = b"rsa-sha2-256" if key.type() == "RSA" else key.sshType()
        offer = b"\x01" + NS(algorithm) + NS(key.public().blob())
        said = NS(self.protocol.sessionID or b"") + bytes((userauth.MSG_USERAUTH_REQUEST,)) + NS(user.encode())
        said += NS(b"ssh-connection") + NS(b"publickey") + offer
        return self._authenticate(user, b"publickey", offer + NS(key.sign(said, signatureType=algorithm)))

    def _authenticate(self, user: str, method: bytes, rest: bytes) -> Deferred[bool]:
        return succeed(False) if self.closed else self._login.authenticate(user, method, rest).addCallback(self._authenticated)

    def _authenticated(self, welcome: bool) -> bool:
        if welcome:
            self.protocol.setService(self.connection)
        return welcome

    def close(self) -> None:
        """
        Say goodbye.
        """
        if self.protocol.transport is not None:
            self.protocol.sendDisconnect(transport.DISCONNECT_BY_APPLICATION, b"the visitor is gone")


def connectUpstream(
    endpoint: IStreamClientEndpoint, clock: Any, timeout: float, banner: Callable[[str], object],
) -> Deferred[UpstreamConnection]:
    """
    Connect to a device's SSH server and exchange keys with it.

    @param timeout: seconds for all of it.
    @param banner: callback what the device says before the login.
    @return: fails with L{DeviceUnreachable}.
    """
    device = UpstreamConnection(clock, banner)
    reached: Deferred[Any] = endpoint.connect(SpliceFactory(device.protocol))
    reached.addCallback(lambda connected: device.ready())
    return reached.addTimeout(timeout, clock).addErrback(_unreachable)


def _unreachable(failure: Failure) -> Failure:
    log.info("a device's SSH server cannot be reached: {reason}", reason=failure.getErrorMessage())
    if failure.check(DeviceUnreachable):
        return failure
    if failure.check(DeferredTimeout, CancelledError):
        return Failure(DeviceUnreachable("the device did not answer in time"))
    return Failure(DeviceUnreachable("the device cannot be reached"))
