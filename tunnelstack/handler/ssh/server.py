"""
SSH on a stream: an embedded server that works as the agent's own user, or the way to a local one; and the table of sessions.

The embedded server changes no user: whoever logs in, by the password file or a key, is the agent's user on that machine.  It
gives shells with terminals, commands, file transfers and connections to where the agent can connect; it forwards nothing from
the agent's side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from struct import error as StructError
from typing import Any

from attrs import define, field, frozen, validators
from twisted.conch.error import ConchError
from twisted.conch.ssh import _kex, connection, forwarding
from twisted.conch.ssh.keys import Key
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.handler.ssh.channel import FlowControlledChannel
from tunnelstack.handler.ssh.connection import CHANNELS, FlowControlledConnection
from tunnelstack.handler.ssh.credentials import LoginPolicy
from tunnelstack.handler.ssh.forwarding import StreamChannel
from tunnelstack.handler.ssh.local_user import LocalUser, ownUser
from tunnelstack.handler.ssh.shell import ShellSession
from tunnelstack.handler.ssh.transport import SIGNATURES, ServerTransport
from tunnelstack.handler.ssh.userauth import ATTEMPTS, UserAuthService
from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.interfaces import IDiallingHandler
from tunnelstack.stream.errors import TooManyStreams
from tunnelstack.stream.splice import Splice
from tunnelstack.wire.printable_text import printable

SESSIONS = 1024
"""Sessions that one table holds."""


@frozen(kw_only=True)
class SSHLimits:
    """
    What one connection may do.

    @ivar grace: seconds from the connection to the end of the login.
    @ivar attempts: refused logins before the connection ends.
    @ivar channels: open at once.
    @ivar connectTimeout: seconds for a connection that is forwarded.
    """

    grace: float = field(default=60.0, validator=validators.gt(0))
    attempts: int = field(default=ATTEMPTS, validator=validators.ge(1))
    channels: int = field(default=CHANNELS, validator=validators.ge(1))
    connectTimeout: float = field(default=30.0, validator=validators.gt(0))


class SSHFactory(Factory):
    """
    What embedded servers and front doors have in common: host keys, and a login before all else.
    """

    noisy = False

    def __init__(self, clock: Any, hostKeys: Iterable[Key], limits: SSHLimits) -> None:
        self.clock = clock
        self.limits = limits
        self.privateKeys = {key.sshType(): key for key in hostKeys}
        self.publicKeys = {name: key.public() for name, key in self.privateKeys.items()}

    def serverTransport(self, ended: Callable[[Failure, str], object] | None = None) -> ServerTransport:
        """
        @return: the protocol of one connection, as Conch wants it.
        """
        protocol = ServerTransport(self.clock, self.limits.grace, ended)
        protocol.factory = self  # type: ignore[assignment]
        offered = chain.from_iterable(key.supportedSignatureAlgorithms() for key in self.privateKeys.values())
        protocol.supportedPublicKeys = [name for name in offered if name in SIGNATURES]
        protocol.supportedKeyExchanges = [
            name for name in protocol.supportedKeyExchanges if not _kex.isDynamicPrimesGroup(name)
        ]
        return protocol

    def getService(self, transport: ServerTransport, service: bytes) -> Any:
        """
        From the transport: a login, once; what follows it is started by it.
        """
        if service == b"ssh-userauth" and transport.service is None:
            return lambda: self.userAuthService(transport)
        return None

    def userAuthService(self, transport: ServerTransport) -> UserAuthService:
        """
        @return: the login of one connection.
        """
        raise NotImplementedError


@implementer(IDiallingHandler)
class EmbeddedSSH(SSHFactory):
    """
    An SSH server on any transport: an C{IProtocolFactory}, and a handler of streams.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, hostKeys: Iterable[Key], logins: LoginPolicy, *, forwarding: bool = True,
        limits: SSHLimits | None = None, user: LocalUser | None = None, shell: str = "", home: str = "",
    ) -> None:
        """
        @param reactor: starts programs, connects and keeps time.
        @param hostKeys: from L{hostKeys<tunnelstack.handler.ssh.host_keys.hostKeys>}, or a key that the agent has anyway.
        @param logins: who may log in.
        @param forwarding: connections of clients are forwarded to where this machine can connect.
        @param user: who programs run as, and where; the process's own user unless given.
        @param shell: instead of the user's.
        @param home: instead of the user's.
        """
        super().__init__(reactor, hostKeys, limits or SSHLimits())
        self.reactor = reactor
        self.logins = logins
        self.forwarding = forwarding
        self.user = user or ownUser(shell, home)

    def buildProtocol(self, addr: Any) -> ServerTransport:
        """
        As in C{IProtocolFactory}.
        """
        return self.serverTransport()

    def connect(self, address: Any, ended: Callable[[], object] | None = None) -> Deferred[IProtocol]:
        """
        As in L{IDiallingHandler}.

        @param ended: called when the connection is over.
        """
        told = None if ended is None else (lambda reason, sentence: ended())
        return succeed(self.serverTransport(told))

    def userAuthService(self, transport: ServerTransport) -> UserAuthService:
        """
        As in L{SSHFactory}.
        """
        def admitted(user: str, method: str) -> ServerConnection:
            peer, user = str(transport.transport.getPeer()), printable(user, 64)
            self.log.info("SSH login of {user} from {peer} by {method}", user=user, peer=peer, method=method)
            transport.whenClosed(lambda sentence: self.log.info(
                "SSH connection of {user} from {peer} ended: {reason}", user=user, peer=peer, reason=sentence))
            return ServerConnection(self)

        return UserAuthService(self.logins, admitted, self.limits.attempts)


class ServerConnection(FlowControlledConnection):
    """
    The channels of an embedded server's client.
    """

    def __init__(self, server: EmbeddedSSH) -> None:
        super().__init__(server.limits.channels)
        self._server = server

    def channelRequested(self, kind: bytes, window: int, largest: int, extra: bytes) -> Any:
        """
        Sessions, and connections to be forwarded.
        """
        if kind == b"session":
            return ShellSession(
                self._server.user, self._server.reactor, remoteWindow=window, remoteMaxPacket=largest)
        if kind == b"direct-tcpip":
            host, port = destination(extra)
            if not self._server.forwarding:
                raise ConchError("forwarding is switched off here", connection.OPEN_ADMINISTRATIVELY_PROHIBITED)
            endpoint = HostnameEndpoint(
                self._server.reactor, host.encode("idna"), port, timeout=self._server.limits.connectTimeout)
            return connectedChannel(endpoint, self.clock, window, largest)
        return super().channelRequested(kind, window, largest, extra)


def destination(extra: bytes) -> tuple[str, int]:
    """
    Where a C{direct-tcpip} channel is to lead.

    @raise ConchError: it does not say so.
    """
    try:
        (host, port), _ = forwarding.unpackOpen_direct_tcpip(extra)
    except (StructError, UnicodeDecodeError):
        raise ConchError("the destination makes no sense", connection.OPEN_CONNECT_FAILED) from None
    if not host or len(host) > 255 or not 0 < port < 65536:
        raise ConchError("the destination makes no sense", connection.OPEN_CONNECT_FAILED)
    return host, port


def connectedChannel(endpoint: IStreamClientEndpoint, clock: Any, window: int, largest: int) -> Deferred[FlowControlledChannel]:
    """
    Connect to an endpoint, for a channel.

    @return: the channel, joined to the connection.
    """
    splice = Splice(clock)
    dialled = endpoint.connect(SpliceFactory(splice.far))
    return dialled.addCallback(
        lambda far: StreamChannel(splice.near, remoteWindow=window, remoteMaxPacket=largest))


@implementer(IDiallingHandler)
class LocalSSH:
    """
    The way to an SSH server that runs on this machine anyway: each stream is joined to a connection to it.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, clock: Any) -> None:
        self._endpoint = endpoint
        self._clock = clock

    def connect(self, address: Any, ended: Callable[[], object] | None = None) -> Deferred[IProtocol]:
        """
        As in L{IDiallingHandler}.

        @param ended: called when the connection is over.
        """
        splice = Splice(self._clock, None if ended is None else (lambda reason: ended()))
        dialled = self._endpoint.connect(SpliceFactory(splice.far))
        return dialled.addCallback(lambda far: splice.near)


class SSHSessions:
    """
    SSH streams by the names their openers gave them, so that another stream can ask for one to be closed.
    """

    log = Logger()

    def __init__(self, server: EmbeddedSSH | LocalSSH, limit: int = SESSIONS) -> None:
        """
        @param server: whom streams are opened to.
        @param limit: how many there may be at once.
        """
        self._server = server
        self._limit = limit
        self._open: dict[str, _SSHStream] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, id: object) -> bool:
        return id in self._open

    def open(self, id: str, address: Any) -> Deferred[IProtocol]:
        """
        Begin a session.  One that has the same name is closed: its opener has lost it.

        @param address: the stream's, for the server.
        @return: the protocol for the stream; fails as the server's endpoint does.
        @raise TooManyStreams: no more can be held.
        """
        self.close(id)
        if len(self._open) >= self._limit:
            raise TooManyStreams("there are too many SSH sessions")
        session = self._open[id] = _SSHStream()

        def forget() -> None:
            if self._open.get(id) is session:
                del self._open[id]

        def reached(protocol: IProtocol) -> IProtocol:
            session.protocol = protocol
            return protocol

        def failed(failure: Failure) -> Failure:
            forget()
            return failure

        session.dialled = self._server.connect(address, forget).addCallbacks(reached, failed)
        return session.dialled

    def close(self, id: str) -> bool:
        """
        End a session's stream.

        @return: whether there was one.
        """
        session = self._open.pop(id, None)
        if session is None:
            return False
        self.log.info("SSH session {id} closed on request", id=id)
        transport = getattr(session.protocol, "transport", None)
        if session.protocol is None and session.dialled is not None:
            session.dialled.cancel()
        elif transport is not None:
            transport.unregisterProducer()
            transport.loseConnection()
        return True


@define
class _SSHStream:
    """
    One session: on its way to its server, or there.
    """

    protocol: Any = None
    dialled: Deferred[IProtocol] | None = None
