"""
OpenSSH's client programs as peers: started with nothing of this machine's configuration, and never asking anybody anything.

Where they are missing, the tests that need them are skipped with the reason; with C{TUNNELSTACK_REQUIRE_PEERS=1} they fail.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import SkipTest

from attrs import define
from cryptography.hazmat.primitives.asymmetric import ed25519
from twisted.conch.ssh.keys import Key
from twisted.internet import defer, reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

TIMEOUT = 15  # seconds; one program, on a machine that does other things too


@define
class Done:
    """
    How a program ended.
    """

    code: int | None
    out: bytes
    err: bytes


class Running(ProcessProtocol):
    """
    One client program.

    @ivar out: what it said.
    @ivar done: fires with L{Done}.
    """

    def __init__(self, stdin: bytes | None) -> None:
        self.out = bytearray()
        self.err = b""
        self.done: Deferred[Done] = Deferred()
        self._stdin = stdin
        self._heard: list[tuple[bytes, Deferred[bytes]]] = []

    def connectionMade(self) -> None:
        if self._stdin is not None:
            self.transport.write(self._stdin)
            self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self.out += data
        for sought, heard in list(self._heard):
            if sought in self.out:
                self._heard.remove((sought, heard))
                heard.callback(bytes(self.out))

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def hears(self, sought: bytes) -> Deferred[bytes]:
        """
        @return: fires once the program has said this.
        """
        heard: Deferred[bytes] = Deferred()
        self._heard.append((sought, heard))
        self.outReceived(b"")
        return heard.addTimeout(TIMEOUT, reactor, lambda result, seconds: self._silent(sought))

    def _silent(self, sought: bytes) -> None:
        raise AssertionError(f"{sought!r} was not said, but {self.out!r}, {self.err!r}")

    def processEnded(self, reason: Failure) -> None:
        self.done.callback(Done(reason.value.exitCode, bytes(self.out), self.err))


class OpenSSH:
    """
    The programs, with a key of their own, for one test.

    @ivar folder: where their files are.
    @ivar key: the public key, as C{authorized_keys} has it.
    """

    def __init__(self, case: TestCase) -> None:
        missing = [name for name in ("ssh", "scp", "sftp") if shutil.which(name) is None]
        if missing:
            reason = f"no OpenSSH client: {', '.join(missing)} not on the PATH"
            if os.environ.get("TUNNELSTACK_REQUIRE_PEERS") == "1":
                raise AssertionError(reason)
            raise SkipTest(reason)
        self._case = case
        self.folder = Path(case.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        key = Key(ed25519.Ed25519PrivateKey.generate())
        self._write("id", key.toString("OPENSSH", subtype="v1"))
        self.key = key.public().toString("OPENSSH") + b"\n"

    def _write(self, name: str, octets: bytes, mode: int = 0o600) -> str:
        path = self.folder / name
        path.write_bytes(octets)
        path.chmod(mode)
        return str(path)

    def options(self, port: int, *more: str) -> list[str]:
        """
        Options of all three programs: the key and nothing else.

        @param more: before those, since the first of a kind counts.
        """
        given = [
            *more, f"Port={port}", "UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=no", "LogLevel=ERROR",
            "BatchMode=yes", "IdentitiesOnly=yes", f"IdentityFile={self.folder / 'id'}", "ControlPath=none",
            "ConnectTimeout=30",
        ]
        return ["-F", "none", *(word for option in given for word in ("-o", option))]

    def start(
        self, *command: str, stdin: bytes | None = b"", terminal: bool = False, environment: dict[str, str] | None = None,
    ) -> Running:
        """
        Start a program; it ends with the test.

        @param stdin: what it reads; C{None} leaves it open.
        @param terminal: it has one (and C{stdin} is not used).
        """
        running = Running(None if terminal else stdin)
        given = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "TERM": "vt100", **(environment or {})}
        process: Any = reactor.spawnProcess(running, shutil.which(command[0]), command, given, usePTY=terminal)

        def end() -> Any:
            if running.done.called:
                return None
            process.signalProcess("KILL")
            return running.done

        self._case.addCleanup(end)
        return running

    def run(self, *command: str, **how: Any) -> Deferred[Done]:
        """
        Run a program to its end.
        """
        running = self.start(*command, **how)
        told: Deferred[Done] = Deferred()
        running.done.addCallback(lambda done: (told.callback(done), done)[1])
        return told.addTimeout(TIMEOUT, reactor, lambda result, seconds: self._late(command, running))

    def _late(self, command: tuple[str, ...], running: Running) -> None:
        raise AssertionError(f"{command[0]} did not end; it said {running.out[-300:]!r} {running.err[-300:]!r}")

    def ssh(self, port: int, to: str, *command: str, more: tuple[str, ...] = (), **how: Any) -> Deferred[Done]:
        """
        Run a command, logged in with the key.
        """
        return self.run("ssh", *self.options(port, *more), to, *command, **how)

    def withPassword(self, port: int, to: str, password: str, *command: str, attempts: int = 1) -> Deferred[Done]:
        """
        Run a command, logged in with a password that a program of ours tells.
        """
        asked = self._write("askpass", b"#!/bin/sh\necho '" + password.encode() + b"'\n", 0o700)
        more = ("PreferredAuthentications=password", f"NumberOfPasswordPrompts={attempts}")
        options = self.options(port, *more)
        options[options.index("BatchMode=yes")] = "BatchMode=no"
        return self.run(
            "ssh", *options, to, *command, environment={"SSH_ASKPASS": asked, "SSH_ASKPASS_REQUIRE": "force"})


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """
    Says hello, then everything back.
    """

    transport: Any

    def connectionMade(self) -> None:
        self.transport.write(b"hello ")

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        It ends with the rest.
        """


class Says(Protocol):
    """
    Says something and its end; keeps the answer.
    """

    transport: Any

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.heard = bytearray()
        self.done: defer.Deferred[bytes] = defer.Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.octets)
        self.transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.done.callback(bytes(self.heard))


class ForwardingPromises:
    """
    What every server of ours promises to OpenSSH's client that forwards connections.

    @cvar login: the user and host to log in to.
    """

    login: str
    openssh: OpenSSH
    port: int
    addCleanup: Any
    assertEqual: Any

    @inlineCallbacks
    def test_connectionsToALocalSocketAreForwarded(self) -> Any:
        """
        C{-L}, with two connections at once.
        """
        echo = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        self.addCleanup(echo.stopListening)
        folder = tempfile.mkdtemp()           # a socket's path has to be short
        self.addCleanup(shutil.rmtree, folder)
        forward = f"{folder}/socket:127.0.0.1:{echo.getHost().port}"
        running = self.openssh.start(
            "ssh", *self.openssh.options(self.port), "-L", forward, self.login, "echo up; cat", stdin=None)
        yield running.hears(b"up")
        both = yield defer.gatherResults([
            connectProtocol(UNIXClientEndpoint(reactor, f"{folder}/socket"), Says(octets))
            for octets in (b"one", os.urandom(1 << 20))])
        heard = yield defer.gatherResults([one.done for one in both])
        self.assertEqual(heard, [b"hello " + one.octets for one in both])
        running.transport.closeStdin()
        done = yield running.done
        self.assertEqual(done.code, 0)
