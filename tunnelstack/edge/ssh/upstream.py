"""
The gateway's connection to a device's own SSH server, on which the client's login is repeated.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.conch.ssh import transport, userauth
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.service import SSHService
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.errors import Unavailable
from tunnelstack.handler.ssh.connection import FlowControlledConnection
from tunnelstack.handler.ssh.transport import ClientTransport
from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.transport.error_text import errorText
from tunnelstack.waiters import Waiters
from tunnelstack.wire.printable_text import printable_lines

MAX_BANNER_OCTETS = 4096
"""Octets of a device's banner that are forwarded."""

log = Logger()


class DeviceUnreachable(Unavailable):
    """
    There is no connection to the device's SSH server.
    """


class UpstreamUserAuth(SSHService):
    """
    The client side of C{ssh-userauth} (RFC 4252), with one request at a time.
    """

    name = b"ssh-userauth"
    protocolMessages = userauth.SSHUserAuthClient.protocolMessages
    transport: ClientTransport

    def __init__(self, started: Callable[[], object], banner: Callable[[str], object]) -> None:
        self._started = started
        self._banner = banner
        self._answer: Deferred[bool] | None = None

    def serviceStarted(self) -> None:
        self._started()

    def authenticate(self, user: str, method: bytes, rest: bytes) -> Deferred[bool]:
        """
        @return: whether the device accepts the login.
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
        self._finish(True)

    def ssh_USERAUTH_FAILURE(self, packet: bytes) -> None:
        # Includes partial success (RFC 4252, section 5.1): a device that requires several methods cannot be used.
        self._finish(False)

    def ssh_USERAUTH_PK_OK(self, packet: bytes) -> None:
        # The same number is USERAUTH_PASSWD_CHANGEREQ: the device requires a new password.
        self._finish(False)

    def ssh_USERAUTH_BANNER(self, packet: bytes) -> None:
        self._banner(printable_lines(getNS(packet)[0][:MAX_BANNER_OCTETS].decode("utf-8", "replace").rstrip()))

    def serviceStopped(self) -> None:
        # Servers close the connection instead of refusing the last login that they accept on it.
        self._finish(False)


class UpstreamConnection:
    """
    A connection to one device.

    @ivar connection: its channels; in use once a login was accepted.
    @ivar closed: the connection is closed or lost.
    """

    def __init__(self, clock: IReactorTime, banner: Callable[[str], object]) -> None:
        self.closed = False
        self.connection = FlowControlledConnection()
        self._ready: Deferred[UpstreamConnection] | None = None
        self._isReady = False
        self._login = UpstreamUserAuth(self._started, banner)
        self._lostWaiters: Waiters[None] = Waiters()
        self.protocol = ClientTransport(clock, lambda: self.protocol.requestService(self._login))
        self.protocol.whenClosed().addCallback(self._closed)

    def ready(self) -> Deferred[UpstreamConnection]:
        """
        @return: fires when the device accepts login requests; fails with L{DeviceUnreachable}.
        """
        if self.closed:
            return fail(DeviceUnreachable("the device closed the connection"))
        if self._isReady:
            return succeed(self)
        self._ready = Deferred(lambda cancelled: self.protocol.transport.abortConnection())
        return self._ready

    def _started(self) -> None:
        self._isReady = True
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.callback(self)

    def _closed(self, sentence: str) -> None:
        self.closed = True
        ready, self._ready = self._ready, None
        if ready is not None and not ready.called:
            ready.errback(DeviceUnreachable("the device closed the connection"))
        self._lostWaiters.fire(None)

    def whenLost(self) -> Deferred[None]:
        """
        @return: fires when the connection is lost.
        """
        return succeed(None) if self.closed else self._lostWaiters.wait()

    def password(self, user: str, password: bytes) -> Deferred[bool]:
        """
        @return: whether the device accepts the password.
        """
        return self._authenticate(user, b"password", b"\0" + NS(password))

    def key(self, user: str, key: Key) -> Deferred[bool]:
        """
        @param key: a private key.
        @return: whether the device accepts the key.
        """
        algorithm = b"rsa-sha2-256" if key.type() == "RSA" else key.sshType()
        offer = b"\x01" + NS(algorithm) + NS(key.public().blob())
        signed = NS(self.protocol.sessionID or b"") + bytes((userauth.MSG_USERAUTH_REQUEST,)) + NS(user.encode())
        signed += NS(b"ssh-connection") + NS(b"publickey") + offer
        return self._authenticate(user, b"publickey", offer + NS(key.sign(signed, signatureType=algorithm)))

    def _authenticate(self, user: str, method: bytes, rest: bytes) -> Deferred[bool]:
        return succeed(False) if self.closed else self._login.authenticate(user, method, rest).addCallback(self._authenticated)

    def _authenticated(self, welcome: bool) -> bool:
        if welcome:
            self.protocol.setService(self.connection)
        return welcome

    def close(self) -> None:
        """
        Send a disconnect message, then close the connection.
        """
        if self.protocol.transport is not None:
            self.protocol.sendDisconnect(transport.DISCONNECT_BY_APPLICATION, b"the client has disconnected")


def connectUpstream(
    endpoint: IStreamClientEndpoint, clock: IReactorTime, timeout: float, banner: Callable[[str], object],
) -> Deferred[UpstreamConnection]:
    """
    Connect to a device's SSH server and exchange keys with it.

    @param timeout: seconds for all of this.
    @param banner: called with each banner that the device sends before the login.
    @return: the connection when it accepts login requests; fails with L{DeviceUnreachable}.
    """
    device = UpstreamConnection(clock, banner)
    ready = endpoint.connect(SpliceFactory(device.protocol)).addCallback(lambda connected: device.ready())
    return ready.addTimeout(timeout, clock).addErrback(_unreachable)


def _unreachable(failure: Failure) -> Failure:
    log.info("the SSH server of a device cannot be reached: {reason}", reason=errorText(failure))
    if failure.check(DeviceUnreachable):
        return failure
    if failure.check(DeferredTimeout, CancelledError):
        return Failure(DeviceUnreachable("the device did not answer in time"))
    return Failure(DeviceUnreachable("the device cannot be reached"))
