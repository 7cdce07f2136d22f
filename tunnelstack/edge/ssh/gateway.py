"""
The SSH gateway: C{ssh user@namespace.device@edge} leads to the device's own SSH server, C{ssh -J edge device} jumps to it.

The gateway has host keys of its own.  It connects to a device when a client shows a password or an accepted key, and repeats
the login there: the device decides about a password, and about a key for which a rule vouches.  Channels are then forwarded one
by one.  For a jump the client logs in at the gateway and then, end to end, at the device; the gateway cannot read that
connection.

Unauthenticated clients may request any name.  They cannot distinguish a device that is unknown or not connected from a device
that refuses the login: each refusal has the same text and the same delay, and banners of a device are forwarded only after it
has accepted the login.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from secrets import token_hex
from typing import Any

from attrs import field, frozen, validators
from twisted.conch.ssh.keys import Key
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.edge.public.rate import KeyedRates, rateLimitKey
from tunnelstack.edge.ssh.channel_bridge import BridgeConnection, JumpConnection
from tunnelstack.edge.ssh.upstream import UpstreamConnection, connectUpstream
from tunnelstack.errors import Unavailable
from tunnelstack.handler.ssh.connection import FlowControlledConnection
from tunnelstack.handler.ssh.server import SSHFactory, SSHLimits
from tunnelstack.handler.ssh.transport import ServerTransport
from tunnelstack.handler.ssh.userauth import UserAuthPolicy, UserAuthService
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.printable_text import printable

MAX_BANNERS = 8
"""Banners of a device that are kept until it accepts the login."""


@frozen
class Login:
    """
    What the user name of an SSH client means.

    @ivar user: the user name on the device.
    @ivar device: the device's key (C{namespace.device}); C{""} for a client that jumps.
    """

    user: str
    device: str


def parseLogin(name: str) -> Login:
    """
    @param name: the user name that the client sent: the text before the last C{@} of C{ssh user@namespace.device@edge}.
    """
    user, at, device = name.rpartition("@")
    return Login(user, device) if at else Login(name, "")


Dial = Callable[[str, str], IStreamClientEndpoint]
"""
Gives the endpoint of a device's SSH server, by the device's key and an identifier for the new session.  Raises L{Unavailable}
with a sentence, which goes into the log and to clients that may jump.
"""

Known = Callable[[str, Key], Deferred[bool]] | Callable[[str, Key], bool]
"""Whether a public key is authorized for any device.  Called with a user and a key."""

Vouch = Callable[[Login, Key], Any]
"""
Gives the private key with which the gateway logs in to a device for a client's key, or C{None} if no rule vouches for that key
(or a C{Deferred} of either).  Called only after the client has proved that it owns the key.
"""


@frozen(kw_only=True)
class GatewayLimits(SSHLimits):
    """
    Limits of the gateway's clients.

    @ivar connections: connections at the same time.
    @ivar handshake: seconds to connect to a device and exchange keys with it.
    @ivar refusal: seconds after which a login to a device is refused, whether the device refused it or does not exist.  It must
        be longer than servers take to refuse a password (OpenSSH with PAM: up to three seconds).  If a device takes longer, the
        refusal comes after the next multiple.
    @ivar passwords: passwords for devices that one address may try in a second, with bursts of four times as many.  Further
        passwords are refused without a try.
    """

    connections: int = field(default=512, validator=validators.ge(1))
    handshake: float = field(default=30.0, validator=validators.gt(0))
    refusal: float = field(default=4.0, validator=validators.gt(0))
    passwords: float = field(default=5.0, validator=validators.gt(0))


class SSHGateway(SSHFactory):
    """
    Builds the protocols of the gateway's connections.

    @ivar connected: the number of connections.
    @ivar attempts: limits the passwords tried by each address.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        hostKeys: Iterable[Key],
        dial: Dial,
        *,
        known: Known | None = None,
        vouch: Vouch | None = None,
        jumps: UserAuthPolicy | None = None,
        admit: Callable[[str], bool] = lambda address: True,
        limits: GatewayLimits | None = None,
    ) -> None:
        """
        @param hostKeys: from L{hostKeys<tunnelstack.handler.ssh.host_keys.hostKeys>}.
        @param known: without it, devices accept passwords only.
        @param vouch: required with C{known}.
        @param jumps: decides which clients may jump to devices; C{None} for none.
        @param admit: whether a new connection from an address is accepted.
        """
        self.limits: GatewayLimits
        super().__init__(clock, hostKeys, limits or GatewayLimits(), self._login)
        self.dial = dial
        self.known = known
        self.vouch = vouch
        self.jumps = jumps
        self.attempts = KeyedRates(self.limits.passwords, 4 * self.limits.passwords)
        self._admit = admit
        self.connected = 0

    def buildProtocol(self, addr: IAddress | None) -> ServerTransport | None:
        if self.connected >= self.limits.connections:
            self.log.warn(
                "SSH gateway: connection from {peer} closed: there are {connected} connections already",
                peer=addressText(addr), connected=self.connected,
            )
            return None
        if not self._admit(getattr(addr, "host", "")):
            return None
        self.connected += 1
        protocol = self.serverTransport()
        protocol.whenClosed().addCallback(self._connectionClosed)
        return protocol

    def _connectionClosed(self, sentence: str) -> None:
        self.connected -= 1

    def _login(self, transport: ServerTransport) -> UserAuthService:
        auth = GatewayUserAuth(self, transport)
        login = UserAuthService(auth, auth.admitted, self.limits.attempts)
        auth.banner = login.banner
        return login


class GatewayUserAuth:
    """
    The L{UserAuthPolicy<tunnelstack.handler.ssh.userauth.UserAuthPolicy>} of one client: logs in to the device to decide.
    """

    def __init__(self, gateway: SSHGateway, transport: ServerTransport) -> None:
        self._gateway = gateway
        self._transport = transport
        self._login: Login | None = None
        self._device: UpstreamConnection | None = None
        self._session = ""                       # the connection's name at the device and its dialect
        self._banners: list[str] = []            # of the device, not forwarded yet
        self._delayedRefusal: IDelayedCall | None = None
        self.banner: Callable[[str], object]
        transport.whenClosed().addCallback(self._transportClosed)

    def methods(self, user: str) -> tuple[bytes, ...]:
        """
        The methods that the gateway can repeat at a device, or those that permit a jump.
        """
        if not parseLogin(user).device:
            return self._jumpLogins().methods(user)
        return ((b"publickey",) if self._gateway.known is not None else ()) + (b"password",)

    def authenticationStarted(self, user: str) -> object:
        # No device is dialled before the client has sent a credential.
        return None if self._selectLogin(user).device else self._jumpLogins().authenticationStarted(user)

    def _jumpLogins(self) -> UserAuthPolicy:
        if self._gateway.jumps is None:
            raise Unavailable("the user name does not contain a device: use ssh USER@NAMESPACE.DEVICE@EDGE")
        return self._gateway.jumps

    def password(self, user: str, password: bytes) -> Deferred[bool]:
        """
        @return: whether the device accepts the password.
        """
        login = self._selectLogin(user)
        if not login.device:
            return self._jumpLogins().password(user, password)
        peer, now = rateLimitKey(getattr(self._transport.transport.getPeer(), "host", "")), self._gateway.clock.seconds()
        if peer and not self._gateway.attempts.take(peer, now):
            self._gateway.log.info("SSH gateway: too many passwords from {peer}; a password was refused untried", peer=peer)
            return succeed(False).addCallback(self._authResult, now)
        return self._attempt(self._withDevice, login, lambda device: device.password(login.user, password))

    def offered(self, user: str, key: Key) -> Deferred[bool]:
        """
        Whether the key is authorized for any device.  For which one is not revealed to a client that shows only the public key.
        """
        login = self._selectLogin(user)
        if not login.device:
            return self._jumpLogins().offered(user, key)
        return maybeDeferred(self._gateway.known, login.user, key) if self._gateway.known is not None else succeed(False)

    def key(self, user: str, key: Key) -> Deferred[bool]:
        """
        @return: whether the device accepts the key that vouches for the client's key.
        """
        login = self._selectLogin(user)
        if not login.device:
            return self._jumpLogins().key(user, key)
        return self.offered(user, key).addCallback(lambda ours: self._attempt(self._tryUserKey, login, key) if ours else False)

    def _tryUserKey(self, login: Login, key: Key) -> Deferred[bool]:
        vouched: Deferred[Key | None]
        vouched = succeed(None) if self._gateway.vouch is None else maybeDeferred(self._gateway.vouch, login, key)

        def show(ours: Key | None) -> bool | Deferred[bool]:
            return False if ours is None else self._withDevice(login, lambda device: device.key(login.user, ours))

        return vouched.addCallback(show)

    def _attempt(self, ask: Callable[..., Deferred[bool]], login: Login, *what: object) -> Deferred[bool]:
        """
        Try a login at a device.  That a device cannot be reached is logged, and is for the client a refusal like any other.
        """
        began = self._gateway.clock.seconds()
        tried: Deferred[bool] = maybeDeferred(ask, login, *what)
        tried.addErrback(self._unreachable, login)
        return tried.addCallback(self._authResult, began)

    def _unreachable(self, failure: Failure, login: Login) -> bool:
        failure.trap(Unavailable)
        self._gateway.log.info(
            "SSH gateway: login of {user} from {peer} to {device} failed: {reason}", user=printable(login.user, 64),
            device=printable(login.device, 128), peer=addressText(self._transport.transport.getPeer()),
            reason=errorText(failure),
        )
        return False

    def _authResult(self, welcome: bool, began: float) -> bool | Deferred[bool]:
        banners, self._banners = self._banners, []
        if welcome:
            for banner in banners:
                self.banner(banner)
            return True
        if self._login is None:               # the client has disconnected meanwhile
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

    def _withDevice(self, login: Login, ask: Callable[[UpstreamConnection], Deferred[bool]]) -> Deferred[bool]:
        """
        Call C{ask} with the connection to a device.  The connection is made if there is none, or if the device has closed it
        (after too many wrong passwords).
        """
        if self._device is not None and not self._device.closed:
            return maybeDeferred(ask, self._device)
        self._session = token_hex(32)
        dialled = maybeDeferred(self._gateway.dial, login.device, self._session)
        connected = dialled.addCallback(
            connectUpstream, self._gateway.clock, self._gateway.limits.handshake, self._bannerReceived
        )
        return connected.addCallback(self._deviceConnected).addCallback(ask)

    def _deviceConnected(self, device: UpstreamConnection) -> UpstreamConnection:
        self._device = device
        if self._login is None:               # the client has disconnected meanwhile
            self._closeDevice()
        return device

    def _bannerReceived(self, banner: str) -> None:
        """
        Keep a banner until the device accepts the login.
        """
        if banner not in self._banners and len(self._banners) < MAX_BANNERS:
            self._banners.append(banner)

    def admitted(self, user: str, method: str) -> FlowControlledConnection:
        """
        The login was accepted.

        @return: the connection service, which forwards the client's channels.
        """
        login = self._selectLogin(user)
        name, device = printable(login.user, 64), printable(login.device, 128) or "any device"
        peer = addressText(self._transport.transport.getPeer())
        self._gateway.log.info(
            "SSH gateway: login of {user} from {peer} to {device} by {method}",
            user=name, peer=peer, device=device, method=method,
        )
        if login.device:
            self._gateway.log.info(
                "SSH gateway: session {session} of {user} on {device}", session=self._session, user=name, device=device
            )
        self._transport.whenClosed().addCallback(lambda sentence: self._gateway.log.info(
            "SSH gateway: connection of {user} from {peer} to {device} closed: {reason}",
            user=name, peer=peer, device=device, reason=sentence,
        ))
        if not login.device:
            return JumpConnection(self._gateway.dial, self._gateway.limits.channels)
        assert self._device is not None       # it has just accepted the login
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
