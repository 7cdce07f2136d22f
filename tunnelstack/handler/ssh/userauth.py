"""
The login of an SSH server: requests judged one at a time, counted, and answered late when a password was wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from struct import error as StructError
from typing import Any, Protocol

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
from tunnelstack.handler.ssh.transport import SIGNATURES
from tunnelstack.wire.printable_text import printable

ATTEMPTS = 6
"""Refused requests before the connection ends, as with OpenSSH's server."""

DELAY = 1.0
"""Seconds before a wrong password is answered."""


class UserAuthPolicy(Protocol):
    """
    Who decides about a login, as L{LoginPolicy<tunnelstack.handler.ssh.credentials.LoginPolicy>} does.
    """

    def methods(self, user: str) -> tuple[bytes, ...]:
        """
        What may be tried.
        """

    def authenticationStarted(self, user: str) -> Any:
        """
        Somebody asks what may be tried; the answer waits for a C{Deferred}.
        """

    def password(self, user: str, password: bytes) -> Deferred[bool]:
        """
        Whether it lets the user in.
        """

    def offered(self, user: str, key: Key) -> Deferred[bool]:
        """
        Whether the key would let the user in if he had it.
        """

    def key(self, user: str, key: Key) -> Deferred[bool]:
        """
        Whether it lets the user in; he has proved that it is his.
        """


class UserAuthService(SSHService):
    """
    SSH's C{ssh-userauth}.
    """

    name = b"ssh-userauth"
    protocolMessages = userauth.SSHUserAuthServer.protocolMessages
    log = Logger()
    transport: Any

    def __init__(self, policy: UserAuthPolicy, admitted: Callable[[str, str], SSHService], attempts: int = ATTEMPTS) -> None:
        """
        @param admitted: called with the user and the method; gives the service that follows.
        @param attempts: how many may be refused.
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
        A request; those behind it wait for its answer.

        @raise ConchError: more wait than may be refused.
        """
        if len(self._waiting) >= self._attempts:
            raise ConchError("too many requests at once")
        self._waiting.append(packet)
        if not self._busy:
            self._next()

    def _next(self) -> None:
        user, service, method, rest = getNS(self._waiting.popleft(), 3)
        if service != b"ssh-connection":
            self.transport.sendDisconnect(transport.DISCONNECT_SERVICE_NOT_AVAILABLE, b"there is no such service")
            return
        name = user[:256].decode("utf-8", "replace")
        self._busy = True
        decided = maybeDeferred(self._decide, method, name, user, rest)
        decided.addCallbacks(self._answer, self._decisionFailed, (name, method), {}, (name, method), {})

    def _decide(self, method: bytes, name: str, user: bytes, rest: bytes) -> Deferred[bool | None]:
        """
        @return: C{True} admits, C{False} refuses, C{None} was answered already.
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
            said = NS(self.transport.sessionID) + bytes((userauth.MSG_USERAUTH_REQUEST,)) + NS(user) + NS(b"ssh-connection")
            said += NS(b"publickey") + b"\x01" + NS(algorithm) + NS(blob)
            if getNS(signature)[0] != algorithm or not key.verify(signature, said):
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
        @return: whether there may be another attempt.
        """
        if method != b"none":
            self._refused += 1
            self.log.info(
                "SSH login of {user} from {peer} refused: {method}", user=user, peer=str(self.transport.transport.getPeer()),
                method=method[:32].decode("ascii", "replace"),
            )
        if self._refused >= self._attempts:
            self.transport.sendDisconnect(
                transport.DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE, b"too many logins were refused")
            return False
        self.transport.sendPacket(userauth.MSG_USERAUTH_FAILURE, NS(b",".join(self._policy.methods(user))) + b"\x00")
        return True

    def _decisionFailed(self, failure: Failure, user: str, method: bytes) -> None:
        """
        Nobody could decide: for a reason that people may know, or because the request, or we, made no sense.
        """
        self._busy = False
        if self._stopped:
            return
        unavailable = failure.value
        if isinstance(unavailable, Unavailable):
            sentence = str(unavailable.args[0])
            self.banner(sentence)
        elif failure.check(StructError, LookupError, ValueError, TypeError):
            sentence = "the login request makes no sense"
        else:
            sentence = "the login could not be judged"
            self.log.failure("SSH login of {user} could not be judged", failure=failure, user=printable(user, 64))
        self.transport.sendDisconnect(transport.DISCONNECT_BY_APPLICATION, sentence.encode())

    def banner(self, sentence: str) -> None:
        """
        Tell the user something before he is logged in.
        """
        if not self._stopped:
            self.transport.sendPacket(userauth.MSG_USERAUTH_BANNER, NS(sentence.encode() + b"\r\n") + NS(b"en"))

    def serviceStopped(self) -> None:
        """
        What is judged yet comes too late.
        """
        self._stopped = True
