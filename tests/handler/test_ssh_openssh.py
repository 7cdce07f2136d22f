"""
The embedded SSH server, before OpenSSH's own client.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import termios
from pathlib import Path
from typing import Any

from twisted.internet import defer, reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.handler.openssh import Echo, ForwardingPromises, OpenSSH
from tunnelstack.handler.ssh.credentials import AuthorizedKeys, LoginPolicy, PasswordFile
from tunnelstack.handler.ssh.host_keys import hostKeys
from tunnelstack.handler.ssh.server import EmbeddedSSH
from tunnelstack.settings.password_hash import makePasswordEntry

SIZE = 20 * 1024 * 1024
HOST_KEYS: list[Any] = []


def serverKeys(folder: Path) -> list[Any]:
    """
    Made once a run: RSA takes its time.
    """
    if not HOST_KEYS:
        HOST_KEYS.extend(hostKeys(folder / "host_keys"))
    return HOST_KEYS


def serveSSH(case: TestCase, openssh: OpenSSH, **how: Any) -> tuple[EmbeddedSSH, int]:
    """
    Start an embedded server that knows C{ada} and her password, and the programs' key.

    @return: the server and its port.
    """
    folder = openssh.folder
    home = folder / "home"
    home.mkdir()
    passwords, keys = folder / "passwords", folder / "authorized_keys"
    passwords.write_text(makePasswordEntry("ada", "lovelace", ln=10) + "\n")
    keys.write_bytes(openssh.key)
    logins = LoginPolicy(passwords=PasswordFile(passwords), keys=AuthorizedKeys(keys).check)
    server = EmbeddedSSH(reactor, serverKeys(folder), logins, home=str(home), shell="/bin/sh", **how)
    port = reactor.listenTCP(0, server, interface="127.0.0.1")
    case.addCleanup(port.stopListening)
    return server, port.getHost().port


def digest(path: Path) -> str:
    """
    Of a file.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()


class SSHTests(ForwardingPromises, TestCase):
    """
    Every test starts real programs: seconds in all.
    """

    login = "ada@127.0.0.1"
    timeout = 60

    def setUp(self) -> None:
        self.openssh = OpenSSH(self)
        self.home = self.openssh.folder / "home"
        self.server, self.port = serveSSH(self, self.openssh)

    def ssh(self, *command: str, **how: Any) -> Any:
        return self.openssh.ssh(self.port, "ada@127.0.0.1", *command, **how)

    @inlineCallbacks
    def test_commandsHaveOutputErrorsAndAStatus(self) -> Any:
        done = yield self.ssh("cat; echo oops >&2; exit 3", stdin=b"through and through")
        self.assertEqual((done.code, done.out, done.err), (3, b"through and through", b"oops\n"))

    @inlineCallbacks
    def test_theEnvironmentIsNotTheAgents(self) -> Any:
        self.patch(os, "environ", {**os.environ, "TUNNELSTACK_TOKEN": "secret"})
        done = yield self.ssh(
            "env", more=("SendEnv=LC_* LD_*",), environment={"LC_NAME": "de_DE", "LD_PRELOADED": "no"})
        self.assertIn(b"LC_NAME=de_DE\n", done.out)
        self.assertNotIn(b"LD_PRELOADED", done.out)
        self.assertNotIn(b"secret", done.out)
        self.assertIn(f"HOME={self.home}\n".encode(), done.out)

    @inlineCallbacks
    def test_aSignalIsTold(self) -> Any:
        done = yield self.ssh("kill -TERM $$")
        self.assertEqual(done.code, 255)   # what ssh says of a signal; a status would be told as it is

    @inlineCallbacks
    def test_aPasswordLogsIn(self) -> Any:
        right = yield self.openssh.withPassword(self.port, "ada@127.0.0.1", "lovelace", "echo in")
        self.assertEqual((right.code, right.out), (0, b"in\n"))
        wrong = yield self.openssh.withPassword(self.port, "ada@127.0.0.1", "byron", "echo in")
        self.assertEqual((wrong.code, wrong.out), (255, b""))
        nobody = yield self.openssh.withPassword(self.port, "eve@127.0.0.1", "lovelace", "echo in")
        self.assertEqual((nobody.code, nobody.out), (255, b""))

    @inlineCallbacks
    def test_aKeyNeedsANameThatIsKnown(self) -> Any:
        done = yield self.openssh.ssh(self.port, "eve@127.0.0.1", "echo in")
        self.assertEqual((done.code, done.out), (255, b""))

    @inlineCallbacks
    def test_aTerminalChangesItsSizeAndControlsJobs(self) -> Any:
        running = self.openssh.start("ssh", *self.openssh.options(self.port), "-tt", "ada@127.0.0.1", terminal=True)
        size = struct.pack("4H", 31, 99, 0, 0)
        running.transport.write(b"PS1=; stty -echo; echo rea'dy' $TERM\n")
        yield running.hears(b"ready vt100")
        fcntl.ioctl(running.transport.fileno(), termios.TIOCSWINSZ, size)
        running.transport.write(b"while [ \"$(stty size)\" != '31 99' ]; do :; done; echo resi'zed'\n")
        yield running.hears(b"resized")
        running.transport.write(b"sh -c 'trap \"exit 4\" INT; echo wai\"\"ting; while :; do sleep 0.05; done'; exit $?\n")
        yield running.hears(b"waiting")
        running.transport.write(b"\x03")
        done = yield running.done
        self.assertEqual(done.code, 4)

    @inlineCallbacks
    def test_aClientThatIsGoneHangsUp(self) -> Any:
        """
        The command, without a terminal, and its children are told.
        """
        script = "trap '' PIPE; trap 'echo gone > told; exit' HUP; echo here; while :; do sleep 0.05; done"
        running = self.openssh.start("ssh", *self.openssh.options(self.port), "ada@127.0.0.1", script, stdin=None)
        yield running.hears(b"here")
        running.transport.signalProcess("KILL")
        yield running.done
        told = self.home / "told"
        while not (told.exists() and told.read_text()):
            yield deferLater(reactor, 0.01)
        self.assertEqual(told.read_text(), "gone\n")

    @inlineCallbacks
    def test_scpCopiesBothWays(self) -> Any:
        original = self.openssh.folder / "big"
        original.write_bytes(os.urandom(SIZE))
        options = self.openssh.options(self.port)
        up = yield self.openssh.run("scp", *options, str(original), "ada@127.0.0.1:copy")
        self.assertEqual((up.code, up.err), (0, b""))
        self.assertEqual(digest(self.home / "copy"), digest(original))
        down = yield self.openssh.run("scp", *options, "ada@127.0.0.1:copy", str(self.openssh.folder / "back"))
        self.assertEqual((down.code, down.err), (0, b""))
        self.assertEqual(digest(self.openssh.folder / "back"), digest(original))

    @inlineCallbacks
    def test_aPipeCopiesBothWays(self) -> Any:
        octets = os.urandom(SIZE)
        done = yield self.ssh("tee copy", stdin=octets)
        self.assertEqual(hashlib.sha256(done.out).digest(), hashlib.sha256(octets).digest())
        self.assertEqual(digest(self.home / "copy"), hashlib.sha256(octets).hexdigest())

    @inlineCallbacks
    def test_sftpDoesWhatPeopleDo(self) -> Any:
        (self.openssh.folder / "one").write_text("one\n")
        batch = (
            f"mkdir folder\ncd folder\nput {self.openssh.folder}/one one\nln -s one symbolic\nln one hard\nrename one two\n"
            "chmod 600 two\nls -l\nls -1 ..\nrm hard\n-rename -l symbolic two\n-get absent\n-rmdir ../folder\npwd\n"
        )
        done = yield self.openssh.run(
            "sftp", *self.openssh.options(self.port), "-b", "-", "ada@127.0.0.1", stdin=batch.encode())
        self.assertEqual(done.code, 0, done)
        self.assertEqual((self.home / "folder" / "two").read_text(), "one\n")
        self.assertEqual((self.home / "folder" / "two").stat().st_mode & 0o777, 0o600)
        self.assertFalse((self.home / "folder" / "hard").exists())
        self.assertIn(b"-rw-------    2", done.out)
        self.assertIn(b"absent\" not found", done.err)
        self.assertIn(f"Remote working directory: {self.home}/folder".encode(), done.out)

    @inlineCallbacks
    def test_connectionsAreForwarded(self) -> Any:
        echo = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        self.addCleanup(echo.stopListening)
        done = yield self.openssh.run(
            "ssh", *self.openssh.options(self.port), "-W", f"127.0.0.1:{echo.getHost().port}", "ada@127.0.0.1",
            stdin=b"and back")
        self.assertEqual((done.code, done.out), (0, b"hello and back"))

    @inlineCallbacks
    def test_forwardingCanBeSwitchedOff(self) -> Any:
        self.server.forwarding = False
        done = yield self.openssh.run(
            "ssh", *self.openssh.options(self.port), "-W", f"127.0.0.1:{self.port}", "ada@127.0.0.1")
        self.assertNotEqual(done.code, 0)

    @inlineCallbacks
    def test_nothingIsForwardedFromHere(self) -> Any:
        options = self.openssh.options(self.port, "ExitOnForwardFailure=yes")
        done = yield self.openssh.run("ssh", *options, "-N", "-R", "0:127.0.0.1:9", "ada@127.0.0.1")
        self.assertEqual(done.code, 255)
        self.assertIn(b"remote port forwarding failed", done.err)

    @inlineCallbacks
    def test_twentySessionsRunAtOnce(self) -> Any:
        running = [self.ssh(f"read line; echo {number} $line", stdin=b"%d\n" % number) for number in range(20)]
        done = yield defer.gatherResults(running)
        self.assertEqual([one.out for one in done], [b"%d %d\n" % (number, number) for number in range(20)])
