"""
The front door, between OpenSSH's own client and a device's server.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import termios
from typing import Any

from twisted.internet import defer, reactor
from twisted.internet.defer import inlineCallbacks, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

from tests.handler.openssh import Echo, ForwardingPromises, OpenSSH
from tests.handler.test_ssh_openssh import SIZE, digest, serverKeys, serveSSH
from tunnelstack.edge.ssh.gateway import GatewayLimits, Login, SSHGateway
from tunnelstack.errors import Denied
from tunnelstack.handler.ssh import userauth
from tunnelstack.handler.ssh.credentials import AuthorizedKeys, LoginPolicy
from tunnelstack.handler.ssh.host_keys import newRSA

DEVICE = "ada@lab.bench@127.0.0.1"
MINTED: list[Any] = []


class SSHDoorTests(ForwardingPromises, TestCase):
    """
    Every test starts real programs: seconds in all.
    """

    login = DEVICE
    timeout = 60

    def setUp(self) -> None:
        self.patch(userauth, "DELAY", 0.1)
        self.openssh = OpenSSH(self)
        self.home = self.openssh.folder / "home"
        self.server, self.devicePort = serveSSH(self, self.openssh)
        self.vouched: list[Login] = []
        if not MINTED:
            MINTED.append(newRSA(2048))
        keys = AuthorizedKeys(self.openssh.folder / "authorized_keys")
        self.jumps = LoginPolicy(keys=keys.check, users=frozenset({"guest"}))
        self.door = SSHGateway(
            reactor, serverKeys(self.openssh.folder), self.dial, known=keys.check, vouch=self.vouch, jumps=self.jumps,
            limits=GatewayLimits(refusal=0.5))
        own = keys.check
        minted = MINTED[0].public()
        object.__setattr__(self.server.logins, "keys", lambda user, key: own(user, key) or key == minted)
        port = reactor.listenTCP(0, self.door, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port

    def dial(self, key: str, session: str) -> Any:
        if key != "lab.bench":
            raise Denied("absent", f"the device {key} is not connected")
        return TCP4ClientEndpoint(reactor, "127.0.0.1", self.devicePort)

    def vouch(self, login: Login, key: Any) -> Any:
        self.vouched.append(login)
        return succeed(MINTED[0])

    def ssh(self, *command: str, **how: Any) -> Any:
        return self.openssh.ssh(self.port, DEVICE, *command, **how)

    @inlineCallbacks
    def test_keysThatAreVouchedForOpenTheDevice(self) -> Any:
        done = yield self.ssh("cat; echo oops >&2; exit 3", stdin=b"through and through")
        self.assertEqual((done.code, done.out, done.err), (3, b"through and through", b"oops\n"))
        self.assertEqual(set(self.vouched), {Login("ada", "lab.bench")})

    @inlineCallbacks
    def test_passwordsAreTheDevices(self) -> Any:
        right = yield self.openssh.withPassword(self.port, DEVICE, "lovelace", "echo in")
        self.assertEqual((right.code, right.out), (0, b"in\n"))
        wrong = yield self.openssh.withPassword(self.port, DEVICE, "byron", "echo in", attempts=2)
        self.assertEqual((wrong.code, wrong.out), (255, b""))

    @inlineCallbacks
    def test_aDeviceThatIsNotThereIsAWrongPassword(self) -> Any:
        said = []
        for device, password in (("lab.bench", "byron"), ("lab.other", "lovelace")):
            done = yield self.openssh.withPassword(self.port, f"ada@{device}@127.0.0.1", password, "echo in", attempts=1)
            said.append((done.code, done.out, done.err.replace(device.encode(), b"DEVICE")))
        self.assertEqual(said[0], said[1])
        self.assertIn(b"Permission denied", said[0][2])

    @inlineCallbacks
    def test_aTerminalChangesItsSizeThere(self) -> Any:
        running = self.openssh.start("ssh", *self.openssh.options(self.port), "-tt", DEVICE, terminal=True)
        running.transport.write(b"PS1=; stty -echo; echo rea'dy' $TERM\n")
        yield running.hears(b"ready vt100")
        fcntl.ioctl(running.transport.fileno(), termios.TIOCSWINSZ, struct.pack("4H", 31, 99, 0, 0))
        running.transport.write(b"while [ \"$(stty size)\" != '31 99' ]; do :; done; echo resi'zed'\n")
        yield running.hears(b"resized")
        running.transport.write(b"sh -c 'trap \"exit 4\" INT; echo wai\"\"ting; while :; do sleep 0.05; done'; exit $?\n")
        yield running.hears(b"waiting")
        running.transport.write(b"\x03")
        done = yield running.done
        self.assertEqual(done.code, 4)

    @inlineCallbacks
    def test_scpCopiesBothWays(self) -> Any:
        original = self.openssh.folder / "big"
        original.write_bytes(os.urandom(SIZE))
        there = ("scp", *self.openssh.options(self.port, "User=ada@lab.bench"))
        up = yield self.openssh.run(*there, str(original), "127.0.0.1:copy")
        self.assertEqual((up.code, up.err), (0, b""))
        self.assertEqual(digest(self.home / "copy"), digest(original))
        down = yield self.openssh.run(*there, "127.0.0.1:copy", str(self.openssh.folder / "back"))
        self.assertEqual((down.code, down.err), (0, b""))
        self.assertEqual(digest(self.openssh.folder / "back"), digest(original))

    @inlineCallbacks
    def test_aPipeCopiesBothWays(self) -> Any:
        octets = os.urandom(SIZE)
        done = yield self.ssh("cat", stdin=octets)
        self.assertEqual(hashlib.sha256(done.out).digest(), hashlib.sha256(octets).digest())

    @inlineCallbacks
    def test_sftpReachesTheDevice(self) -> Any:
        done = yield self.openssh.run(
            "sftp", *self.openssh.options(self.port, "User=ada@lab.bench"), "-b", "-", "127.0.0.1",
            stdin=b"mkdir folder\nls -1\n")
        self.assertEqual((done.code, done.out[-7:]), (0, b"folder\n"))

    @inlineCallbacks
    def test_connectionsAreForwardedFromThere(self) -> Any:
        echo = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
        self.addCleanup(echo.stopListening)
        done = yield self.openssh.run(
            "ssh", *self.openssh.options(self.port), "-W", f"127.0.0.1:{echo.getHost().port}", DEVICE, stdin=b"and back")
        self.assertEqual((done.code, done.out), (0, b"hello and back"))

    @inlineCallbacks
    def test_aJumpReachesTheDevice(self) -> Any:
        """
        The second login is the device's own: nobody vouches.
        """
        jump = " ".join(["ssh", *self.openssh.options(self.port), "-W", "%h:22", "guest@127.0.0.1"])
        done = yield self.openssh.run(
            "ssh", *self.openssh.options(22, f"ProxyCommand={jump}"), "ada@lab.bench", "echo there; exit 5")
        self.assertEqual((done.code, done.out), (5, b"there\n"))
        self.assertEqual(self.vouched, [])

    @inlineCallbacks
    def test_theOptionForJumpsWorks(self) -> Any:
        config = self.openssh.folder / "config"
        options = self.openssh.options(22)
        config.write_text("\n".join(option.replace("=", " ", 1) for option in options[3::2] if not option.startswith("Port")))
        done = yield self.openssh.run(
            "ssh", "-F", str(config), "-J", f"guest@127.0.0.1:{self.port}", "ada@lab.bench", "echo there; exit 5")
        self.assertEqual((done.code, done.out), (5, b"there\n"))

    @inlineCallbacks
    def test_theGatewayItselfGivesNoShell(self) -> Any:
        done = yield self.openssh.ssh(self.port, "guest@127.0.0.1", "echo in", more=("LogLevel=INFO",))
        self.assertEqual((done.code, done.out), (255, b""))
        stranger = yield self.openssh.ssh(self.port, "eve@127.0.0.1", "echo in")
        self.assertEqual((stranger.code, stranger.out), (255, b""))

    @inlineCallbacks
    def test_twentySessionsRunAtOnce(self) -> Any:
        running = [self.ssh(f"read line; echo {number} $line", stdin=b"%d\n" % number) for number in range(20)]
        done = yield defer.gatherResults(running)
        self.assertEqual([one.out for one in done], [b"%d %d\n" % (number, number) for number in range(20)])
