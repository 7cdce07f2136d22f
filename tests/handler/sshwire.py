"""
An embedded SSH server and a client of ours at the two ends of a wire, in virtual time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.filetransfer import FileTransferClient
from twisted.conch.ssh.keys import Key
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tunnelstack.edge.ssh.upstream import UpstreamConnection
from tunnelstack.handler.ssh.credentials import AuthorizedKeys, LoginPolicy, PasswordFile
from tunnelstack.handler.ssh.forwarding import StreamChannel
from tunnelstack.handler.ssh.local_user import LocalUser
from tunnelstack.handler.ssh.server import EmbeddedSSH
from tunnelstack.settings.password_hash import makePasswordEntry
from tunnelstack.testing import Wire

HOST_KEY = Key(ed25519.Ed25519PrivateKey.generate())
USER_KEY = Key(ed25519.Ed25519PrivateKey.generate())
OTHER_KEY = Key(ed25519.Ed25519PrivateKey.generate())
ENTRY = makePasswordEntry("ada", "lovelace", ln=10)


def inTurn(call: Any, *arguments: Any) -> Deferred[Any]:
    """
    Instead of a thread.
    """
    return maybeDeferred(call, *arguments)


def makeServer(folder: Path, clock: Clock, **how: Any) -> EmbeddedSSH:
    """
    A server that knows ada, her password and L{USER_KEY}; its files are at C{folder}.
    """
    (folder / "passwords").write_text(ENTRY + "\n")
    (folder / "keys").write_bytes(USER_KEY.public().toString("OPENSSH") + b"\n")
    logins = LoginPolicy(
        passwords=PasswordFile(folder / "passwords", inTurn), keys=AuthorizedKeys(folder / "keys").check)
    user = LocalUser(name="agent", home=str(folder), shell="/bin/sh")
    return EmbeddedSSH(clock, [HOST_KEY], logins, user=user, **how)


class Pair:
    """
    A server and a client.

    @ivar client: a L{UpstreamConnection}, whose protocol is on the near side.
    @ivar server: the server's protocol.
    @ivar banners: what the client heard before the login.
    """

    def __init__(self, factory: Any, clock: Clock | None = None, cut: int | None = None) -> None:
        self.wire = Wire(clock, cut=cut)
        self.banners: list[str] = []
        self.client = UpstreamConnection(self.wire.clock, self.banners.append)
        self.server = factory.buildProtocol(None)
        self.wire.connect(self.client.protocol, self.server)
        self.settle = self.wire.settle

    def login(self) -> None:
        """
        Log ada in.
        """
        self.settle()
        welcome: list[bool] = []
        self.client.password("ada", b"lovelace").addCallback(welcome.append)
        self.settle()
        assert welcome == [True], (welcome, self.client.protocol.sentence)

    def channel(self, kind: bytes = b"session", protocol: Any = None, extra: bytes = b"") -> Opened:
        """
        Open a channel.
        """
        channel = Opened(protocol or Collects())
        channel.name = kind
        self.client.connection.openChannel(channel, extra)
        self.settle()
        return channel

    def files(self) -> tuple[Opened, FileTransferClient]:
        """
        Begin file transfers.
        """
        client = FileTransferClient()
        channel = self.channel()
        self.client.connection.requestOnChannel(channel, b"subsystem", NS(b"sftp"))
        self.settle()
        channel.protocol = client
        client.makeConnection(channel)
        self.settle()
        return channel, client


class Opened(StreamChannel):
    """
    A client's channel.

    @ivar refused: why it was not opened, or C{None}.
    """

    refused: Any = None

    def openFailed(self, reason: Any) -> None:
        self.refused = reason

    def requestReceived(self, requestType: bytes, data: bytes) -> bool:
        self.protocol.asked.append((requestType, data))
        return True


class Collects(Protocol):
    """
    Keeps what it is told.
    """

    def __init__(self) -> None:
        self.got = b""
        self.asked: list[tuple[bytes, bytes]] = []
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
