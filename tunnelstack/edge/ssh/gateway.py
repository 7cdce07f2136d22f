"""
An SSH front door: C{ssh user@namespace.device@edge} leads to the device's own SSH server, and C{ssh -J edge device} past ours.

The door answers with host keys of its own, opens the device's stream when somebody shows a password or a good key for it, and
repeats the login there: the device decides about a password, and about a key where something vouches for it.  What the two then
say to each other is passed on channel by channel.  For a jump the visitor logs in here, and then at the device, whose octets we
cannot read.

Strangers may ask for any name.  They cannot tell a device that is not known, or not there, from one that does not let them in:
each refusal has the same words and comes after the same time, and nothing that a device says is passed on before it lets
somebody in.
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

from tunnelstack.edge.public.rate import KeyedRates, rateLimitKey
from tunnelstack.edge.ssh.channel_bridge import BridgeConnection, JumpConnection
from tunnelstack.edge.ssh.upstream import UpstreamConnection, connectUpstream
from tunnelstack.errors import Unavailable
from tunnelstack.handler.ssh.connection import FlowControlledConnection
from tunnelstack.handler.ssh.credentials import LoginPolicy
from tunnelstack.handler.ssh.server import SSHFactory, SSHLimits
from tunnelstack.handler.ssh.transport import ServerTransport
from tunnelstack.handler.ssh.userauth import UserAuthService
from tunnelstack.transport.peers import peerOf
from tunnelstack.wire.printable_text import printable

MAX_BANNERS = 8
"""Sentences of a device before the login that are kept for whom it lets in."""


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
"""The way to a device's SSH server by its key; raises L{Unavailable}, with a sentence for the log, and for who may jump."""

Known = Callable[[str, Key], Any]
"""Whether a key is one of ours, whatever it is shown for; given a user and a key, gives a C{bool} or a C{Deferred} of it."""

Vouch = Callable[[Login, Key], Any]
"""
Whether a key of ours is good for a device: gives the private key (or a C{Deferred} of it) with which the door logs in there,
and of which the device will be told that it is good; or C{None}.  Asked only when the visitor has proved that the key is his.
"""


@frozen(kw_only=True)
class GatewayLimits(SSHLimits):
    """
    What the door's visitors may do.

    @ivar connections: at once.
    @ivar handshake: seconds to reach a device and exchange keys with it.
    @ivar refusal: seconds after which somebody hears that a device does not let him in, or that there is none.  Longer than
        servers take to refuse a password (OpenSSH's with PAM up to three seconds); where one takes longer, a multiple.
    @ivar passwords: a second that one address may try, at devices; four times as many at once.  Further ones are wrong.
    """

    connections: int = field(default=512, validator=validators.ge(1))
    handshake: float = field(default=30.0, validator=validators.gt(0))
    refusal: float = field(default=4.0, validator=validators.gt(0))
    passwords: float = field(default=5.0, validator=validators.gt(0))


class SSHGateway(SSHFactory):
    """
    The factory for an edge's endpoint.

    @ivar connected: how many visitors there are.
    @ivar attempts: counts the passwords that are tried.
    """

    log = Logger()

    def __init__(
        self, clock: Any, hostKeys: Iterable[Key], dial: Dial, *, known: Known | None = None, vouch: Vouch | None = None,
        jumps: LoginPolicy | None = None, admit: Callable[[str], bool] = lambda address: True,
        limits: GatewayLimits | None = None,
    ) -> None:
        """
        @param hostKeys: from L{hostKeys<tunnelstack.handler.ssh.host_keys.hostKeys>}.
        @param known: without it, keys are not taken for devices.
        @param vouch: goes with C{known}.
        @param jumps: who may jump to devices; without it, nobody.
        @param admit: whether a newcomer from an address may stay.
        """
        self.limits: GatewayLimits
        super().__init__(clock, hostKeys, limits or GatewayLimits())
        self.dial = dial
        self.known = known
        self.vouch = vouch
        self.jumps = jumps
        self.attempts = KeyedRates(self.limits.passwords, 4 * self.limits.passwords)
        self._admit = admit
        self.connected = 0

    def buildProtocol(self, addr: Any) -> ServerTransport | None:
        """
        As in C{IProtocolFactory}; none when there are too many.
        """
        if self.connected >= self.limits.connections:
            self.log.warn("SSH door: {peer} turned away, there are {connected}", peer=str(addr), connected=self.connected)
            return None
        if not self._admit(getattr(addr, "host", "")):
            return None
        self.connected += 1
        return self.serverTransport(self._connectionClosed)

    def _connectionClosed(self, reason: Failure, sentence: str) -> None:
        self.connected -= 1

    def userAuthService(self, transport: ServerTransport) -> UserAuthService:
        """
        As in L{SSHFactory}.
        """
        auth = GatewayUserAuth(self, transport)
        login = UserAuthService(auth, auth.admitted, self.limits.attempts)
        auth.banner = login.banner
        return login


class GatewayUserAuth:
    """
    One visitor: judges his login by asking the device.
    """

    def __init__(self, door: SSHGateway, transport: ServerTransport) -> None:
        self._gateway = door
        self._transport = transport
        self._login: Login | None = None
        self._device: UpstreamConnection | None = None
        self._banners: list[str] = []            # by the device, not passed on yet
        self._delayedRefusal: Any = None            # the call that tells of a refusal
        self.banner: Callable[[str], object]
        transport.whenClosed(self._transportClosed)

    def methods(self, user: str) -> tuple[bytes, ...]:
        """
        What may be tried: for a device, what the door can pass on; else what opens the jump.
        """
        if not parseLogin(user).device:
            return self._jumpLogins().methods(user)
        return ((b"publickey",) if self._gateway.known is not None else ()) + (b"password",)

    def authenticationStarted(self, user: str) -> Any:
        """
        Nothing is done for who has shown nothing.
        """
        return None if self._selectLogin(user).device else self._jumpLogins().authenticationStarted(user)

    def _jumpLogins(self) -> LoginPolicy:
        if self._gateway.jumps is None:
            raise Unavailable("no device is named; say ssh USER@NAMESPACE.DEVICE@EDGE")
        return self._gateway.jumps

    def password(self, user: str, password: bytes) -> Deferred[bool]:
        """
        The device's to judge.
        """
        login = self._selectLogin(user)
        if not login.device:
            return self._jumpLogins().password(user, password)
        who, now = rateLimitKey(getattr(self._transport.transport.getPeer(), "host", "")), self._gateway.clock.seconds()
        if who and not self._gateway.attempts.take(who, now):
            self._gateway.log.info("SSH door: too many passwords from {peer}, which are not tried", peer=who)
            return succeed(False).addCallback(self._authResult, now)
        return self._attempt(self._withDevice, login, lambda device: device.password(login.user, password))

    def offered(self, user: str, key: Key) -> Deferred[bool]:
        """
        Whether the key is one of ours; for which device it is good is told to nobody who has but the public half of it.
        """
        login = self._selectLogin(user)
        if not login.device:
            return self._jumpLogins().offered(user, key)
        return maybeDeferred(self._gateway.known, login.user, key) if self._gateway.known is not None else succeed(False)

    def key(self, user: str, key: Key) -> Deferred[bool]:
        """
        The device's to judge, by the key that stands for the visitor's.
        """
        login = self._selectLogin(user)
        if not login.device:
            return self._jumpLogins().key(user, key)
        return self.offered(user, key).addCallback(lambda ours: self._attempt(self._tryUserKey, login, key) if ours else False)

    def _tryUserKey(self, login: Login, key: Key) -> Any:
        vouched = succeed(None) if self._gateway.vouch is None else maybeDeferred(self._gateway.vouch, login, key)

        def show(ours: Key | None) -> Any:
            return False if ours is None else self._withDevice(login, lambda device: device.key(login.user, ours))

        return vouched.addCallback(show)

    def _attempt(self, ask: Callable[..., Any], login: Login, *what: Any) -> Deferred[bool]:
        """
        Ask a device, and answer for it; whether there is one, only the log is told.
        """
        began = self._gateway.clock.seconds()
        tried: Deferred[bool] = maybeDeferred(ask, login, *what)
        tried.addErrback(self._unreachable, login)
        return tried.addCallback(self._authResult, began)

    def _unreachable(self, failure: Failure, login: Login) -> bool:
        failure.trap(Unavailable)
        self._gateway.log.info(
            "SSH door: {user} from {peer} wants to go to {device}: {reason}", user=printable(login.user, 64),
            device=printable(login.device, 128), peer=str(peerOf(self._transport.transport)),
            reason=failure.getErrorMessage(),
        )
        return False

    def _authResult(self, welcome: bool, began: float) -> bool | Deferred[bool]:
        said, self._banners = self._banners, []
        if welcome:
            for banner in said:
                self.banner(banner)
            return True
        if self._login is None:               # he has left meanwhile
            return False
        refusal = self._gateway.limits.refusal
        took = self._gateway.clock.seconds() - began
        refused: Deferred[bool] = Deferred()
        self._delayedRefusal = self._gateway.clock.callLater(refusal - took % refusal, refused.callback, False)
        return refused

    def _selectLogin(self, user: str) -> Login:
        login = parseLogin(user)
        if login != self._login:
            self._closeDevice()
            self._login = login
        return login

    def _withDevice(self, login: Login, ask: Callable[[UpstreamConnection], Any]) -> Deferred[Any]:
        """
        Ask a device over the connection to it, which is made if there is none or the device has ended it (too many wrong
        passwords).
        """
        if self._device is not None and not self._device.closed:
            return maybeDeferred(ask, self._device)
        dialled: Deferred[Any] = maybeDeferred(self._gateway.dial, login.device)
        dialled.addCallback(connectUpstream, self._gateway.clock, self._gateway.limits.handshake, self._bannerReceived)
        return dialled.addCallback(self._deviceConnected).addCallback(ask)

    def _deviceConnected(self, device: UpstreamConnection) -> UpstreamConnection:
        self._device = device
        if self._login is None:               # the visitor has left meanwhile
            self._closeDevice()
        return device

    def _bannerReceived(self, banner: str) -> None:
        """
        What a device says before the login, for those whom it lets in.
        """
        if banner not in self._banners and len(self._banners) < MAX_BANNERS:
            self._banners.append(banner)

    def admitted(self, user: str, method: str) -> FlowControlledConnection:
        """
        The visitor is in: what he may do from now on.
        """
        login = self._selectLogin(user)
        name, device = printable(login.user, 64), printable(login.device, 128) or "any device"
        peer = str(peerOf(self._transport.transport))
        self._gateway.log.info(
            "SSH door: {user} from {peer} to {device} by {method}",
            user=name, peer=peer, device=device, method=method,
        )
        self._transport.whenClosed(lambda sentence: self._gateway.log.info(
            "SSH door: {user} from {peer} to {device} ended: {reason}",
            user=name, peer=peer, device=device, reason=sentence,
        ))
        if not login.device:
            return JumpConnection(self._gateway.dial, self._gateway.limits.channels)
        assert self._device is not None       # it has just let him in
        return BridgeConnection(self._device, self._gateway.limits.channels)

    def _transportClosed(self, sentence: str) -> None:
        self._closeDevice()
        self._login = None
        if self._delayedRefusal is not None and self._delayedRefusal.active():
            self._delayedRefusal.cancel()

    def _closeDevice(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.close()
