"""
User authentication of an SSH server (RFC 4252): requests are processed one at a time and counted, and the refusal of a password
is delayed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from struct import error as StructError
from typing import Protocol

from twisted.conch.error import ConchError
from twisted.conch.ssh import transport, userauth
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.keys import BadKeyError, Key
from twisted.conch.ssh.service import SSHService
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.errors import Unavailable
from tunnelstack.handler.ssh.transport import SIGNATURES, ServerTransport
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.printable_text import printable

ATTEMPTS = 6
"""Refused requests before the connection is closed, as with OpenSSH's server."""

DELAY = 1.0
"""Seconds before a wrong password is refused."""


class UserAuthPolicy(Protocol):
    """
    Decides about logins, as L{LoginPolicy<tunnelstack.handler.ssh.credentials.LoginPolicy>} does.
    """

    def methods(self, user: str) -> tuple[bytes, ...]:
        """
        The names of the authentication methods that are offered to a user.
        """

    def authenticationStarted(self, user: str) -> object:
        """
        Called when a client requests the list of methods.

        @return: the answer is sent when this C{Deferred} fires; any other value does not delay it.
        """

    def password(self, user: str, password: bytes) -> Deferred[bool]:
        """
        Whether the password is accepted.
        """

    def offered(self, user: str, key: Key) -> Deferred[bool]:
        """
        Whether the key would be accepted.  The client has not proved that it owns it.
        """

    def key(self, user: str, key: Key) -> Deferred[bool]:
        """
        Whether the key is accepted.  The client has proved that it owns it.
        """


class UserAuthService(SSHService):
    """
    The server side of C{ssh-userauth}.
    """

    name = b"ssh-userauth"
    protocolMessages = userauth.SSHUserAuthServer.protocolMessages
    log = Logger()
    transport: ServerTransport

    def __init__(self, policy: UserAuthPolicy, admitted: Callable[[str, str], SSHService], attempts: int = ATTEMPTS) -> None:
        """
        @param admitted: called with the user and the method after a login; gives the service that follows.
        @param attempts: refused requests before the connection is closed.
        """
        self._policy = policy
        self._admitted = admitted
        self._attempts = attempts
        self._refused = 0
        self._waiting: deque[bytes] = deque()
        self._busy = False
        self._stopped = False

    def ssh_USERAUTH_REQUEST(self, packet: bytes) -> None:
        """
        Queue a request.

        @raise ConchError: more requests wait than may be refused.
        """
        if len(self._waiting) >= self._attempts:
            raise ConchError("too many login requests are waiting")
        self._waiting.append(packet)
        if not self._busy:
            self._next()

    def _next(self) -> None:
        user, service, method, rest = getNS(self._waiting.popleft(), 3)
        if service != b"ssh-connection":
            self.transport.sendDisconnect(transport.DISCONNECT_SERVICE_NOT_AVAILABLE, b"the service is not available")
            return
        name = user[:256].decode("utf-8", "replace")
        self._busy = True
        decided = maybeDeferred(self._decide, method, name, user, rest)
        decided.addCallbacks(self._answer, self._decisionFailed, (name, method), {}, (name, method), {})

    def _decide(self, method: bytes, name: str, user: bytes, rest: bytes) -> Deferred[bool | None]:
        """
        @return: C{True} to accept, C{False} to refuse, C{None} if the request was answered already.
        """
        open = self._policy.methods(name)
        if method == b"password" and method in open:
            password, _ = getNS(rest[1:])
            tried = self._policy.password(name, password)
            return tried.addCallback(lambda right: right or deferLater(self.transport.clock, DELAY, lambda: False))
        if method == b"publickey" and method in open:
            return self._decideKey(name, user, rest)
        return maybeDeferred(self._policy.authenticationStarted, name).addCallback(lambda ready: False)

    def _decideKey(self, name: str, user: bytes, rest: bytes) -> Deferred[bool | None]:
        algorithm, blob, proof = getNS(rest[1:], 2)
        try:
            key = Key.fromString(blob, type="blob")
        except (BadKeyError, ValueError, LookupError):
            return succeed(False)
        if algorithm not in SIGNATURES or algorithm not in key.supportedSignatureAlgorithms():
            return succeed(False)
        if rest[0]:
            signature, _ = getNS(proof)
            signed = NS(self.transport.sessionID or b"") + bytes((userauth.MSG_USERAUTH_REQUEST,)) + NS(user)
            signed += NS(b"ssh-connection") + NS(b"publickey") + b"\x01" + NS(algorithm) + NS(blob)
            if getNS(signature)[0] != algorithm or not key.verify(signature, signed):
                return succeed(False)
            return self._policy.key(name, key)  # type: ignore[return-value]
        return self._policy.offered(name, key).addCallback(self._offered, algorithm, blob)

    def _offered(self, welcome: bool, algorithm: bytes, blob: bytes) -> bool | None:
        if not welcome:
            return False
        self.transport.sendPacket(userauth.MSG_USERAUTH_PK_OK, NS(algorithm) + NS(blob))
        return None

    def _answer(self, verdict: bool | None, user: str, method: bytes) -> None:
        self._busy = False
        if self._stopped:
            return
        if verdict:
            self.transport.loggedIn()
            self.transport.sendPacket(userauth.MSG_USERAUTH_SUCCESS, b"")
            self.transport.setService(self._admitted(user, method.decode()))
            return
        if verdict is False and not self._refuse(user, method):
            return
        if self._waiting:
            self._next()

    def _refuse(self, user: str, method: bytes) -> bool:
        """
        @return: whether the client may try again.
        """
        if method != b"none":
            self._refused += 1
            self.log.info(
                "SSH login of {user} from {peer} by {method} refused", user=printable(user, 64),
                peer=addressText(self.transport.transport.getPeer()), method=method[:32].decode("ascii", "replace"),
            )
        if self._refused >= self._attempts:
            self.transport.sendDisconnect(
                transport.DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE, b"too many failed logins")
            return False
        self.transport.sendPacket(userauth.MSG_USERAUTH_FAILURE, NS(b",".join(self._policy.methods(user))) + b"\x00")
        return True

    def _decisionFailed(self, failure: Failure, user: str, method: bytes) -> None:
        """
        Close the connection after a request that was neither accepted nor refused.  The user receives the reason of an
        L{Unavailable}; other exceptions are protocol errors of the peer or defects, and their texts are not sent.
        """
        self._busy = False
        if self._stopped:
            return
        unavailable = failure.value
        if isinstance(unavailable, Unavailable):
            sentence = str(unavailable.args[0])
            self.banner(sentence)
        elif failure.check(StructError, LookupError, ValueError, TypeError):
            sentence = "the login request is malformed"
        else:
            sentence = "the login failed: internal error"
            self.log.failure("SSH login of {user} failed", failure=failure, user=printable(user, 64))
        self.transport.sendDisconnect(transport.DISCONNECT_BY_APPLICATION, sentence.encode())

    def banner(self, sentence: str) -> None:
        """
        Send a banner, which the client shows to its user before the login.
        """
        if not self._stopped:
            self.transport.sendPacket(userauth.MSG_USERAUTH_BANNER, NS(sentence.encode() + b"\r\n") + NS(b"en"))

    def serviceStopped(self) -> None:
        self._stopped = True
