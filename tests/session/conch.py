"""
A small SSH server and client of Twisted Conch, for tests of what carries them.
"""

from __future__ import annotations

from typing import Any

from twisted.conch import avatar
from twisted.conch.ssh import channel, common, connection, factory, keys, session, transport, userauth
from twisted.cred import checkers, portal
from twisted.internet import defer
from twisted.internet.protocol import ClientFactory
from twisted.python import components
from zope.interface import implementer

USER, PASSWORD = b"ada", b"lovelace"


@implementer(session.ISession)
class Runs:
    """
    Answers C{exec} with what it was asked to run.
    """

    def __init__(self, user: Any) -> None:
        self.user = user

    def getPty(self, term: Any, windowSize: Any, modes: Any) -> None:
        raise NotImplementedError

    def openShell(self, proto: Any) -> None:
        raise NotImplementedError

    def execCommand(self, proto: Any, command: bytes) -> None:
        proto.write(b"ran: " + command)
        proto.loseConnection()

    def windowChanged(self, newWindowSize: Any) -> None:
        raise NotImplementedError

    def eofReceived(self) -> None:
        """
        Nothing waits for it.
        """

    def closed(self) -> None:
        """
        Nothing is held.
        """


class User(avatar.ConchUser):
    """
    May open a session.
    """

    def __init__(self) -> None:
        super().__init__()
        self.channelLookup[b"session"] = session.SSHSession


@implementer(portal.IRealm)
class Realm:
    """
    Everybody is a L{User}.
    """

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return interfaces[0], User(), lambda: None


components.registerAdapter(Runs, User, session.ISession)


class Server(factory.SSHFactory):
    """
    An SSH server with one user.
    """

    def __init__(self, key: keys.Key) -> None:
        self.publicKeys = {key.sshType(): key.public()}
        self.privateKeys = {key.sshType(): key}
        checker = checkers.InMemoryUsernamePasswordDatabaseDontUse()
        checker.addUser(USER, PASSWORD)
        self.portal = portal.Portal(Realm(), [checker])


class Auth(userauth.SSHUserAuthClient):
    """
    Logs in with a password.
    """

    def getPassword(self, immediateWrite: Any = None) -> Any:
        return defer.succeed(PASSWORD)

    def getPublicKey(self) -> Any:
        return None


class Exec(channel.SSHChannel):
    """
    Runs C{uptime} and collects what it prints.
    """

    name = b"session"

    def channelOpen(self, data: Any) -> None:
        self.printed = b""
        self.conn.sendRequest(self, b"exec", common.NS(b"uptime"))

    def dataReceived(self, data: bytes) -> None:
        self.printed += data

    def closed(self) -> None:
        self.conn.done.callback(self.printed)


class Connection(connection.SSHConnection):
    """
    Opens one channel.
    """

    def __init__(self, done: Any) -> None:
        super().__init__()
        self.done = done

    def serviceStarted(self) -> None:
        super().serviceStarted()
        self.openChannel(Exec(conn=self))


class Client(transport.SSHClientTransport):
    """
    Trusts the one key it was told.
    """

    fingerprint = ""
    done: Any = None

    def verifyHostKey(self, hostKey: bytes, fingerprint: bytes) -> Any:
        if fingerprint.decode() != self.fingerprint:
            return defer.fail(ValueError(fingerprint))
        return defer.succeed(1)

    def connectionSecure(self) -> None:
        self.requestService(Auth(USER, Connection(self.done)))


def sshPair(key: keys.Key) -> tuple[Any, Any, defer.Deferred[bytes]]:
    """
    @return: a started server factory, a client factory, and what C{exec} will have printed.
    """
    done: defer.Deferred[bytes] = defer.Deferred()
    server = Server(key)
    server.startFactory()
    connecting = ClientFactory()

    def build(address: Any) -> Client:
        client = Client()
        client.fingerprint, client.done = key.public().fingerprint(), done
        return client

    connecting.buildProtocol = build  # type: ignore[assignment,method-assign]
    return server, connecting, done
