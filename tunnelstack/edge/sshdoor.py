"""
An SSH front door: C{ssh user@namespace.device@edge} leads to the device's own SSH server, and C{ssh -J edge device} past ours.

The door answers with host keys of its own, opens the device's stream when somebody names it, and repeats the login there: the
device decides about a password, and about a key where something vouches for it.  What the two then say to each other is passed
on channel by channel.  For a jump the visitor logs in here, and then at the device, whose octets we cannot read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import field, frozen, validators
from twisted.conch.ssh.keys import Key
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.edge._sshdoor_bridge import BridgeConnection, JumpConnection
from tunnelstack.edge._sshdoor_device import Device, reach
from tunnelstack.errors import Unavailable
from tunnelstack.handler.ssh import SSHFactory, SSHLimits
from tunnelstack.handler.ssh_connection import Connection
from tunnelstack.handler.ssh_credentials import Logins
from tunnelstack.handler.ssh_login import LoginService
from tunnelstack.handler.ssh_transport import ServerTransport


@frozen
class Login:
    """
    Who wants to go where.

    @ivar user: the name on the device.
    @ivar device: the device's key (C{namespace.device}); C{""} for a visitor who is only passing.
    """

    user: str
    device: str


def parseLogin(name: str) -> Login:
    """
    Read what stands before the last C{@} of C{ssh user@namespace.device@edge}.
    """
    user, at, device = name.rpartition("@")
    return Login(user, device) if at else Login(name, "")


Dial = Callable[[str], IStreamClientEndpoint]
"""The way to a device's SSH server by its key; raises L{Unavailable}, with a sentence for the visitor."""

Vouch = Callable[[Login, Key], Any]
"""
Whether a visitor's key is good for a device: gives the private key (or a C{Deferred} of it) with which the door logs in there,
and of which the device will be told that it is good; or C{None}.
"""


@frozen(kw_only=True)
class DoorLimits(SSHLimits):
    """
    What the door's visitors may do.

    @ivar connections: at once.
    @ivar handshake: seconds to reach a device and exchange keys with it.
    """

    connections: int = field(default=512, validator=validators.ge(1))
    handshake: float = field(default=30.0, validator=validators.gt(0))


class SSHDoor(SSHFactory):
    """
    The factory for an edge's endpoint.

    @ivar connected: how many visitors there are.
    """

    log = Logger()

    def __init__(
        self, clock: Any, hostKeys: Iterable[Key], dial: Dial, *, vouch: Vouch | None = None, jumps: Logins | None = None,
        limits: DoorLimits | None = None,
    ) -> None:
        """
        @param hostKeys: from L{hostKeys<tunnelstack.handler.ssh_keys.hostKeys>}.
        @param vouch: without it, keys are not taken for devices.
        @param jumps: who may jump to devices; without it, nobody.
        """
        self.limits: DoorLimits
        super().__init__(clock, hostKeys, limits or DoorLimits())
        self.dial = dial
        self.vouch = vouch
        self.jumps = jumps
        self.connected = 0

    def buildProtocol(self, addr: Any) -> ServerTransport | None:
        """
        As in C{IProtocolFactory}; none when there are too many.
        """
        if self.connected >= self.limits.connections:
            self.log.warn("SSH door: {peer} turned away, there are {connected}", peer=str(addr), connected=self.connected)
            return None
        self.connected += 1
        return self.serverTransport(self._gone)

    def _gone(self, reason: Failure, sentence: str) -> None:
        self.connected -= 1

    def loginService(self, transport: ServerTransport) -> LoginService:
        """
        As in L{SSHFactory}.
        """
        visit = Visit(self, transport)
        login = LoginService(visit, visit.admitted, self.limits.attempts)
        visit.banner = login.banner
        return login


class Visit:
    """
    One visitor: judges his login by asking the device.
    """

    def __init__(self, door: SSHDoor, transport: ServerTransport) -> None:
        self._door = door
        self._transport = transport
        self._login: Login | None = None
        self._device: Device | None = None
        self._said: set[str] = set()
        self.banner: Callable[[str], object]
        transport.whenOver(self._over)

    def methods(self, user: str) -> tuple[bytes, ...]:
        """
        What may be tried: for a device, what the door can pass on; else what opens the jump.
        """
        if not parseLogin(user).device:
            return self._jumps().methods(user)
        return ((b"publickey",) if self._door.vouch is not None else ()) + (b"password",)

    def begins(self, user: str) -> Any:
        """
        Reach the device before the visitor is asked for anything.
        """
        login = self._named(user)
        return self._reached(login) if login.device else self._jumps().begins(user)

    def _jumps(self) -> Logins:
        if self._door.jumps is None:
            raise Unavailable("no device is named; say ssh USER@NAMESPACE.DEVICE@EDGE")
        return self._door.jumps

    def password(self, user: str, password: bytes) -> Deferred[bool]:
        """
        The device's to judge.
        """
        login = self._named(user)
        if not login.device:
            return self._jumps().password(user, password)
        return self._reached(login).addCallback(lambda device: device.password(login.user, password))

    def offered(self, user: str, key: Key) -> Deferred[bool]:
        """
        Whether something vouches for the key.
        """
        login = self._named(user)
        if not login.device:
            return self._jumps().offered(user, key)
        return self._vouched(login, key).addCallback(lambda ours: ours is not None)

    def key(self, user: str, key: Key) -> Deferred[bool]:
        """
        The device's to judge, by the key that stands for the visitor's.
        """
        login = self._named(user)
        if not login.device:
            return self._jumps().key(user, key)
        return self._vouched(login, key).addCallback(self._shown, login)

    def _vouched(self, login: Login, key: Key) -> Deferred[Key | None]:
        return succeed(None) if self._door.vouch is None else maybeDeferred(self._door.vouch, login, key)

    def _shown(self, ours: Key | None, login: Login) -> Any:
        if ours is None:
            return False
        return self._reached(login).addCallback(lambda device: device.key(login.user, ours))

    def _named(self, user: str) -> Login:
        login = parseLogin(user)
        if login != self._login:
            self._leave()
            self._login = login
        return login

    def _reached(self, login: Login) -> Deferred[Any]:
        """
        The connection to the device, made if there is none or the device has ended it (too many wrong passwords).
        """
        if self._device is not None and not self._device.gone:
            return succeed(self._device)
        dialled: Deferred[Any] = maybeDeferred(self._door.dial, login.device)
        dialled.addCallback(reach, self._door.clock, self._door.limits.handshake, self._announce)
        return dialled.addCallback(self._arrived)

    def _arrived(self, device: Device) -> Device:
        self._device = device
        if self._login is None:               # the visitor has left meanwhile
            self._leave()
        return device

    def _announce(self, banner: str) -> None:
        """
        What a device says before the login, once.
        """
        if banner not in self._said and len(self._said) < 8:
            self._said.add(banner)
            self.banner(banner)

    def admitted(self, user: str, method: str) -> Connection:
        """
        The visitor is in: what he may do from now on.
        """
        login = self._named(user)
        peer = str(self._transport.transport.getPeer())
        self._door.log.info(
            "SSH door: {user} from {peer} to {device} by {method}",
            user=login.user, peer=peer, device=login.device or "any device", method=method,
        )
        self._transport.whenOver(lambda sentence: self._door.log.info(
            "SSH door: {user} from {peer} to {device} ended: {reason}",
            user=login.user, peer=peer, device=login.device or "any device", reason=sentence,
        ))
        if self._device is None:
            return JumpConnection(self._door.dial, self._door.limits.channels)
        return BridgeConnection(self._device, self._door.limits.channels)

    def _over(self, sentence: str) -> None:
        self._leave()
        self._login = None

    def _leave(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()
