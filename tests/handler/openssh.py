"""
OpenSSH's client programs as peers: started with nothing of this machine's configuration, and never asking anybody anything.

Where they are missing, the tests that need them are skipped with the reason; with C{TUNNELSTACK_REQUIRE_PEERS=1} they fail.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any
from unittest import SkipTest

from attrs import define
from cryptography.hazmat.primitives.asymmetric import ed25519
from twisted.conch.ssh.keys import Key
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

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
