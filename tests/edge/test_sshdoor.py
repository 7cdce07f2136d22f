"""
The SSH front door in virtual time: a visitor, the door and a device at the ends of two wires.
"""

from __future__ import annotations

import os
from pathlib import Path
from struct import pack
from typing import Any

from twisted.conch.ssh import connection
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.filetransfer import FXF_READ
from twisted.conch.ssh.forwarding import packOpen_direct_tcpip
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.handler.sshwire import HOST_KEY, OTHER_KEY, USER_KEY, Collects, Pair, makeServer
from tunnelstack.edge.sshdoor import DoorLimits, Login, SSHDoor, parseLogin
from tunnelstack.errors import Denied
from tunnelstack.handler.ssh_channel import WINDOW
from tunnelstack.handler.ssh_credentials import AuthorizedKeys, Logins
from tunnelstack.testing import Wire

LARGE = 4 << 20


class Endpoint:
    """
    The way to a device: a new wire for each connection.
    """

    def __init__(self, case: SSHDoorCase) -> None:
        self._case = case

    def connect(self, factory: Any) -> Deferred[Any]:
        wire = Wire(self._case.clock)
        self._case.wires.append(wire)
        near = factory.buildProtocol(None)
        wire.connect(near, self._case.device())
        return succeed(near)


class SSHDoorCase(SynchronousTestCase):
    """
    One device, C{lab.bench}.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.clock = Clock()
        self.wires: list[Wire] = []
        self.server = makeServer(self.folder, self.clock)
        self.device: Any = lambda: self.server.buildProtocol(None)
        self.endpoint: Any = Endpoint(self)
        self.door = self.makeDoor()

    def makeDoor(self, **how: Any) -> SSHDoor:
        return SSHDoor(self.clock, [HOST_KEY], self.dial, **how)

    def dial(self, key: str) -> Any:
        if key != "lab.bench":
            raise Denied("absent", f"the device {key} is not connected")
        return self.endpoint

    def visit(self) -> Pair:
        """
        A visitor has come.
        """
        visitor = Pair(self.door, self.clock)
        visitor.settle = lambda: self.settle(visitor)  # type: ignore[method-assign,misc,assignment]
        visitor.settle()
        return visitor

    def settle(self, *visitors: Pair) -> None:
        moved = True
        while moved:
            moved = False
            for wire in (*self.wires, *(visitor.wire for visitor in visitors)):
                moved = wire.turn() or moved

    def login(self, visitor: Pair, name: str = "ada@lab.bench", password: bytes = b"lovelace") -> bool:
        """
        @return: whether the visitor was let in.
        """
        verdicts: list[bool] = []
        visitor.client.password(name, password).addCallbacks(verdicts.append, lambda gone: verdicts.append(False))
        for _ in range(2):                    # the device answers late, and so does the door
            visitor.settle()
            self.clock.advance(1)
        visitor.settle()
        return verdicts == [True]


class NameTests(SynchronousTestCase):
    """
    What people write before the last @.
    """

    def test_names(self) -> None:
        self.assertEqual(parseLogin("ada@lab.bench"), Login("ada", "lab.bench"))
        self.assertEqual(parseLogin("ada@example.com@lab.bench"), Login("ada@example.com", "lab.bench"))
        self.assertEqual(parseLogin("ada"), Login("ada", ""))
        self.assertEqual(parseLogin("ada@"), Login("ada", ""))


class SSHDoorLoginTests(SSHDoorCase):
    """
    The device decides.
    """

    def test_passwordsAreTheDevicesToJudge(self) -> None:
        visitor = self.visit()
        self.assertFalse(self.login(visitor, password=b"byron"))
        self.assertTrue(self.login(visitor))
        self.assertEqual(len(self.wires), 1)

    def test_theDeviceIsDialledAnewWhenItHasEnough(self) -> None:
        self.server.limits = DoorLimits(attempts=1)
        visitor = self.visit()
        self.assertFalse(self.login(visitor, password=b"byron"))
        self.assertFalse(self.login(visitor, password=b"byron"))
        self.assertTrue(self.login(visitor))
        self.assertEqual(len(self.wires), 3)

    def test_anotherNameIsAnotherDevice(self) -> None:
        visitor = self.visit()
        self.assertFalse(self.login(visitor, name="eve@lab.bench"))
        self.assertTrue(self.login(visitor))
        self.assertEqual([wire.over for wire in self.wires], [True, False])

    def test_keysNeedSomethingThatVouches(self) -> None:
        asked: list[Login] = []

        def vouch(login: Login, key: Any) -> Any:
            asked.append(login)
            return USER_KEY if key == OTHER_KEY.public() else None

        visitor = self.visit()
        tried = visitor.client.key("ada@lab.bench", OTHER_KEY)
        visitor.settle()
        self.assertFalse(self.successResultOf(tried))
        self.door = self.makeDoor(vouch=vouch)
        visitor = self.visit()
        for key, right in ((USER_KEY, False), (OTHER_KEY, True)):
            tried = visitor.client.key("ada@lab.bench", key)
            visitor.settle()
            self.assertIs(self.successResultOf(tried), right)
        self.assertEqual(asked, [Login("ada", "lab.bench")] * 2)

    def test_aDeviceThatIsNotConnectedIsNamed(self) -> None:
        visitor = self.visit()
        self.assertFalse(self.login(visitor, name="ada@lab.other"))
        self.assertEqual(visitor.banners, ["the device lab.other is not connected"])
        self.assertEqual(visitor.client.protocol.sentence, "the device lab.other is not connected")
        self.assertTrue(visitor.client.gone)

    def test_theDeviceIsReachedBeforeAPasswordIsAskedFor(self) -> None:
        visitor = self.visit()
        visitor.client._login.ask("ada@lab.other", b"none", b"").addErrback(lambda gone: None)
        visitor.settle()
        self.assertEqual(visitor.banners, ["the device lab.other is not connected"])

    def test_aDeviceThatNeverSpeaksHasThirtySeconds(self) -> None:
        self.device = Collects
        visitor = self.visit()
        self.assertFalse(self.login(visitor))
        self.clock.advance(27.9)
        visitor.settle()
        self.assertFalse(visitor.client.gone)
        self.clock.advance(0.2)
        visitor.settle()
        self.assertEqual(visitor.client.protocol.sentence, "the device did not answer in time")
        self.assertTrue(self.wires[0].over)

    def test_aStreamThatCannotBeOpened(self) -> None:
        class Refusing:
            def connect(self, factory: Any) -> Any:
                return fail(ConnectionRefusedError())

        self.endpoint = Refusing()
        visitor = self.visit()
        self.assertFalse(self.login(visitor))
        self.assertEqual(visitor.client.protocol.sentence, "the device cannot be reached")

    def test_aStreamThatIsNeverOpened(self) -> None:
        class Silent:
            def connect(self, factory: Any) -> Any:
                return Deferred()

        self.endpoint = Silent()
        visitor = self.visit()
        self.login(visitor)
        self.clock.advance(30)
        visitor.settle()
        self.assertEqual(visitor.client.protocol.sentence, "the device did not answer in time")

    def test_aVisitorWhoLeavesWhileTheDeviceIsReached(self) -> None:
        waiting: Deferred[Any] = Deferred()
        endpoint = self.endpoint

        class Slow:
            def connect(self, factory: Any) -> Any:
                return waiting.addCallback(lambda go: endpoint.connect(factory))

        self.endpoint = Slow()
        visitor = self.visit()
        visitor.client.password("ada@lab.bench", b"lovelace").addErrback(lambda gone: None)
        visitor.settle()
        visitor.wire.drop()
        waiting.callback(None)
        self.settle()
        self.assertTrue(self.wires[0].over)

    def test_whoNamesNoDeviceIsToldHow(self) -> None:
        visitor = self.visit()
        self.assertFalse(self.login(visitor, name="ada"))
        self.assertIn("USER@NAMESPACE.DEVICE@EDGE", visitor.client.protocol.sentence)

    def test_passwordsAreNotInLogs(self) -> None:
        with capturedLogs() as said:
            visitor = self.visit()
            self.login(visitor, password=b"swordfish")
            self.login(visitor)
            visitor.wire.drop()
            self.settle(visitor)
        self.assertIn("lab.bench", repr(said))
        self.assertNotIn("swordfish", repr(said))
        self.assertNotIn("lovelace", repr(said))

    def test_visitorsAreCounted(self) -> None:
        self.door = self.makeDoor(limits=DoorLimits(connections=1))
        visitor = self.visit()
        self.assertIsNone(self.door.buildProtocol(None))
        visitor.wire.drop()
        self.assertIsNotNone(self.door.buildProtocol(None))
        self.clock.advance(0)


class SSHDoorBridgeTests(SSHDoorCase):
    """
    What a visitor and a device say to each other.
    """

    def setUp(self) -> None:
        super().setUp()
        self.visitor = self.visit()
        self.assertTrue(self.login(self.visitor))

    def test_filesThere(self) -> None:
        (self.folder / "big").write_bytes(os.urandom(LARGE))
        _, files = self.visitor.files()
        opened = files.openFile(b"big", FXF_READ, {})
        self.visitor.settle()
        big = self.successResultOf(opened)
        asked = [big.readChunk(offset, 65536) for offset in range(0, LARGE, 65536)]
        self.visitor.settle()
        self.assertEqual(b"".join(map(self.successResultOf, asked)), (self.folder / "big").read_bytes())

    def test_aVisitorWhoStandsStillStopsTheDevice(self) -> None:
        """
        What waits for him is a window at each step, whatever he asked for.
        """
        (self.folder / "big").write_bytes(bytes(LARGE))
        channel, files = self.visitor.files()
        opened = files.openFile(b"big", FXF_READ, {})
        self.visitor.settle()
        channel.pauseProducing()
        big = self.successResultOf(opened)
        asked = [big.readChunk(offset, 65536) for offset in range(0, LARGE, 65536)]
        self.visitor.settle()
        (near,) = self.visitor.server.service.channels.values()
        self.assertLessEqual(near._unsent, 65536)
        self.assertLessEqual(near.other.held, WINDOW)
        (serving,) = self.wires[0].far.protocol.service.channels.values()
        self.assertLess(serving._unsent, 2 * 65536)
        channel.resumeProducing()
        self.visitor.settle()
        self.assertEqual(sum(len(self.successResultOf(one)) for one in asked), LARGE)

    def test_aDeviceThatStandsStillStopsTheVisitor(self) -> None:
        channel = self.visitor.channel()
        channel.write(bytes(8 * WINDOW))
        self.visitor.settle()
        (near,) = self.visitor.server.service.channels.values()
        self.assertLessEqual(near.held + near.other._unsent, 2 * WINDOW)
        self.assertGreater(channel._unsent, 4 * WINDOW)

    def test_howItEndedIsTold(self) -> None:
        channel, files = self.visitor.files()
        channel.protocol = collected = Collects()
        channel.loseWriteConnection()
        self.visitor.settle()
        self.assertIn((b"exit-status", pack(">L", 0)), collected.asked)
        self.assertIsNotNone(collected.reason)
        self.assertEqual(self.wires[0].far.protocol.service.channels, {})

    def test_refusalsAreTheDevices(self) -> None:
        self.server.forwarding = False
        channel = self.visitor.channel(
            b"direct-tcpip", extra=packOpen_direct_tcpip(("127.0.0.1", 9), ("127.0.0.1", 1)))
        self.assertEqual(channel.refused.value, b"forwarding is switched off here")
        self.assertEqual(channel.refused.data, connection.OPEN_ADMINISTRATIVELY_PROHIBITED)
        granted = self.visitor.client.connection.ask(self.visitor.channel(), b"subsystem", NS(b"netconf"))
        self.visitor.settle()
        self.assertFalse(self.successResultOf(granted))

    def test_onlyWhatIsBridgedIsOpened(self) -> None:
        channel = self.visitor.channel(b"x11")
        self.assertEqual(channel.refused.data, connection.OPEN_UNKNOWN_CHANNEL_TYPE)

    def test_aDeviceThatIsGoneIsTold(self) -> None:
        channel = self.visitor.channel()
        collected = channel.protocol
        self.wires[0].drop()
        self.visitor.settle()
        self.assertIsNotNone(collected.reason)
        self.assertTrue(self.visitor.client.gone)
        self.assertEqual(self.visitor.client.protocol.sentence, "the device is gone")

    def test_aDeviceThatIsGoneWhileNothingIsOpen(self) -> None:
        self.wires[0].drop()
        self.visitor.settle()
        self.assertEqual(self.visitor.client.protocol.sentence, "the device is gone")

    def test_aVisitorWhoIsGoneLeavesNothing(self) -> None:
        self.visitor.channel()
        self.visitor.wire.drop()
        self.settle()
        self.assertTrue(self.wires[0].over)
        self.assertEqual(self.door.connected, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aVisitorWhoDoesNotTakeTheEndIsLeft(self) -> None:
        channel, files = self.visitor.files()
        channel.pauseProducing()
        self.visitor.wire.near.pauseProducing()
        self.visitor.channel()
        self.wires[0].drop()
        self.visitor.settle()
        self.clock.advance(10)
        self.visitor.wire.near.resumeProducing()
        self.visitor.settle()
        self.assertTrue(self.visitor.client.gone)


class SSHDoorJumpTests(SSHDoorCase):
    """
    Those who only pass.
    """

    def makeDoor(self, **how: Any) -> SSHDoor:
        keys = AuthorizedKeys(self.folder / "keys")
        return super().makeDoor(jumps=Logins(keys=keys.check, users=frozenset({"guest"})), **how)

    def setUp(self) -> None:
        super().setUp()
        self.visitor = self.visit()

    def enter(self, user: str = "guest", key: Any = USER_KEY) -> bool:
        tried = self.visitor.client.key(user, key)
        self.visitor.settle()
        return self.successResultOf(tried)

    def jump(self, to: str, port: int = 22) -> Any:
        channel = self.visitor.channel(b"direct-tcpip", extra=packOpen_direct_tcpip((to, port), ("127.0.0.1", 1)))
        self.visitor.settle()
        return channel

    def test_onlyThoseWhoMay(self) -> None:
        self.assertFalse(self.enter(user="eve"))
        self.assertFalse(self.enter(key=OTHER_KEY))
        self.assertTrue(self.enter())

    def test_toADevice(self) -> None:
        self.enter()
        channel = self.jump("lab.bench")
        self.assertTrue(channel.protocol.got.startswith(b"SSH-2.0-tunnelstack\r\n"))
        self.assertFalse(self.wires[0].over)
        channel.loseConnection()
        self.visitor.settle()
        self.assertTrue(self.wires[0].over)

    def test_nowhereElse(self) -> None:
        self.enter()
        self.assertEqual(self.jump("lab.other").refused.value, b"the device lab.other is not connected")
        self.assertEqual(self.jump("lab.bench", 80).refused.value, b"behind a device's name is port 22 only")
        self.assertEqual(self.jump("", 22).refused.value, b"the destination makes no sense")
        self.assertIn(b"there is no shell here", self.visitor.channel().refused.value)
        self.assertEqual(self.wires, [])
