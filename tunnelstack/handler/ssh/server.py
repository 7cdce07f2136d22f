"""
The embedded SSH server for streams.

It does not change users: after a login by the password file or a key, programs run as the agent's own user.
It provides shells with terminals, commands, file transfers and forwarded connections (C{direct-tcpip}); it does not listen on
behalf of clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from struct import error as StructError

from attrs import field, frozen, validators
from twisted.conch.error import ConchError
from twisted.conch.ssh import _kex, connection, forwarding
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.service import SSHService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.handler.ssh.channel import FlowControlledChannel
from tunnelstack.handler.ssh.connection import CHANNELS, FlowControlledConnection, OpenedChannel
from tunnelstack.handler.ssh.credentials import LoginPolicy
from tunnelstack.handler.ssh.forwarding import StreamChannel
from tunnelstack.handler.ssh.local_user import LocalUser, ownUser
from tunnelstack.handler.ssh.shell import ShellSession
from tunnelstack.handler.ssh.transport import SIGNATURES, ServerTransport
from tunnelstack.handler.ssh.userauth import ATTEMPTS, UserAuthService
from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.interfaces import IDiallingHandler, IReactor
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.splice import Splice
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.printable_text import printable


@frozen(kw_only=True)
class SSHLimits:
    """
    Limits of one connection.

    @ivar grace: seconds from the connection to the end of the login.
    @ivar attempts: refused logins before the connection is closed.
    @ivar channels: open channels at the same time.
    @ivar connectTimeout: seconds to make a forwarded connection.
    """

    grace: float = field(default=60.0, validator=validators.gt(0))
    attempts: int = field(default=ATTEMPTS, validator=validators.ge(1))
    channels: int = field(default=CHANNELS, validator=validators.ge(1))
    connectTimeout: float = field(default=30.0, validator=validators.gt(0))


class SSHFactory(Factory):
    """
    The common part of embedded servers and gateways: host keys, and a login before all other services.
    """

    noisy = False

    def __init__(
        self, clock: IReactorTime, hostKeys: Iterable[Key], limits: SSHLimits,
        userAuthService: Callable[[ServerTransport], UserAuthService],
    ) -> None:
        """
        @param userAuthService: makes the C{ssh-userauth} service of one connection.
        """
        self.clock = clock
        self.userAuthService = userAuthService
        self.limits = limits
        self.privateKeys = {key.sshType(): key for key in hostKeys}
        self.publicKeys = {name: key.public() for name, key in self.privateKeys.items()}

    def serverTransport(self) -> ServerTransport:
        """
        @return: the protocol of one connection.
        """
        protocol = ServerTransport(self.clock, self.limits.grace)
        protocol.factory = self  # type: ignore[assignment]
        offered = chain.from_iterable(key.supportedSignatureAlgorithms() for key in self.privateKeys.values())
        protocol.supportedPublicKeys = [name for name in offered if name in SIGNATURES]
        protocol.supportedKeyExchanges = [
            name for name in protocol.supportedKeyExchanges if not _kex.isDynamicPrimesGroup(name)
        ]
        return protocol

    def getService(self, transport: ServerTransport, service: bytes) -> Callable[[], SSHService] | None:
        """
        Called by the transport when the client requests a service.  Only C{ssh-userauth} may be requested, once; it starts the
        service that follows.
        """
        if service == b"ssh-userauth" and transport.service is None:
            return lambda: self.userAuthService(transport)
        return None


@implementer(IDiallingHandler)
class EmbeddedSSH(SSHFactory):
    """
    An SSH server on any transport: an C{IProtocolFactory}, and a handler of streams.
    """

    log = Logger()

    def __init__(
        self, reactor: IReactor, hostKeys: Iterable[Key], logins: LoginPolicy, *, forwarding: bool = True,
        limits: SSHLimits | None = None, user: LocalUser | None = None, shell: str = "", home: str = "",
    ) -> None:
        """
        @param reactor: provides C{IReactorTime}, C{IReactorProcess} and what C{HostnameEndpoint} needs.
        @param hostKeys: from L{hostKeys<tunnelstack.handler.ssh.host_keys.hostKeys>}, or another key of the agent.
        @param logins: decides about logins.
        @param forwarding: whether clients may open connections to other hosts (C{direct-tcpip}).
        @param user: the user as which programs run; by default the process's own.
        @param shell: replaces the user's shell, if C{user} is not given.
        @param home: replaces the user's home folder, if C{user} is not given.
        """
        super().__init__(reactor, hostKeys, limits or SSHLimits(), self._login)
        self.reactor = reactor
        self.logins = logins
        self.forwarding = forwarding
        self.user = user or ownUser(shell, home)

    def buildProtocol(self, addr: IAddress | None) -> ServerTransport:
        return self.serverTransport()

    def connect(self, address: StreamAddress) -> Deferred[IProtocol]:
        return succeed(self.serverTransport())

    def _login(self, transport: ServerTransport) -> UserAuthService:
        def admitted(user: str, method: str) -> ServerConnection:
            peer, user = addressText(transport.transport.getPeer()), printable(user, 64)
            self.log.info("SSH login of {user} from {peer} by {method}", user=user, peer=peer, method=method)
            transport.whenClosed().addCallback(lambda sentence: self.log.info(
                "SSH connection of {user} from {peer} closed: {reason}", user=user, peer=peer, reason=sentence))
            return ServerConnection(self)

        return UserAuthService(self.logins, admitted, self.limits.attempts)


class ServerConnection(FlowControlledConnection):
    """
    The channels of an embedded server's client.
    """

    def __init__(self, server: EmbeddedSSH) -> None:
        super().__init__(server.limits.channels)
        self._server = server

    def channelRequested(self, kind: bytes, window: int, largest: int, extra: bytes) -> OpenedChannel:
        if kind == b"session":
            return ShellSession(
                self._server.user, self._server.reactor, remoteWindow=window, remoteMaxPacket=largest)
        if kind == b"direct-tcpip":
            host, port = destination(extra)
            if not self._server.forwarding:
                raise ConchError("forwarding is disabled", connection.OPEN_ADMINISTRATIVELY_PROHIBITED)
            endpoint = HostnameEndpoint(
                self._server.reactor, host.encode("idna"), port, timeout=self._server.limits.connectTimeout)
            return connectedChannel(endpoint, self.clock, window, largest)
        return super().channelRequested(kind, window, largest, extra)


def destination(extra: bytes) -> tuple[str, int]:
    """
    Decode the destination of a C{direct-tcpip} channel (RFC 4254, section 7.2).

    @return: host and port.
    @raise ConchError: the destination is malformed.
    """
    try:
        (host, port), _ = forwarding.unpackOpen_direct_tcpip(extra)
    except (StructError, UnicodeDecodeError):
        raise ConchError("the destination is malformed", connection.OPEN_CONNECT_FAILED) from None
    if not host or len(host) > 255 or not 0 < port < 65536:
        raise ConchError("the destination is malformed", connection.OPEN_CONNECT_FAILED)
    return host, port


def connectedChannel(
    endpoint: IStreamClientEndpoint, clock: IReactorTime, window: int, largest: int
) -> Deferred[FlowControlledChannel]:
    """
    Connect an endpoint for a channel.

    @param window: the peer's window, in octets.
    @param largest: the octets of the largest packet that the peer accepts.
    @return: the channel, joined to the connection.
    """
    splice = Splice(clock)
    dialled = endpoint.connect(SpliceFactory(splice.far))
    return dialled.addCallback(
        lambda far: StreamChannel(splice.near, remoteWindow=window, remoteMaxPacket=largest))
