"""
The SSH front door in virtual time: a visitor, the door and a device at the ends of two wires.
"""

from __future__ import annotations

import os
from pathlib import Path
from struct import pack
from typing import Any

from attrs import evolve
from twisted.conch.ssh import connection
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.filetransfer import FXF_READ
from twisted.conch.ssh.forwarding import packOpen_direct_tcpip
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.handler.sshwire import HOST_KEY, OTHER_KEY, USER_KEY, Collects, Pair, makeServer
from tunnelstack.edge.ssh import gateway
from tunnelstack.edge.ssh.gateway import GatewayLimits, Login, SSHGateway, parseLogin
from tunnelstack.errors import Denied
from tunnelstack.handler.ssh.channel import WINDOW
from tunnelstack.handler.ssh.credentials import AuthorizedKeys, LoginPolicy
from tunnelstack.testing import Wire

LARGE = 4 << 20
PATIENCE = 60
"""Seconds in which every login has an answer."""


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

    def makeDoor(self, **how: Any) -> SSHGateway:
        return SSHGateway(self.clock, [HOST_KEY], self.dial, **how)

    def dial(self, key: str, session: str) -> Any:
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
        for _ in range(PATIENCE):             # the device answers late, and so does the door
            visitor.settle()
            if verdicts:
                break
            self.clock.advance(1)
        visitor.settle()
        return verdicts == [True]


class NameTests(SynchronousTestCase):
    """
    What people write before the last @.
    """

    def test_aLoginHasAUserAndADevice(self) -> None:
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
        self.server.limits = GatewayLimits(attempts=1)
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
            return USER_KEY

        self.assertFalse(self.showing(OTHER_KEY))
        self.door = self.makeDoor(known=lambda user, key: key == OTHER_KEY.public(), vouch=vouch)
        self.assertFalse(self.showing(USER_KEY))
        self.assertEqual(asked, [])
        self.assertTrue(self.showing(OTHER_KEY))
        self.assertEqual(asked, [Login("ada", "lab.bench")])

    def showing(self, key: Any, name: str = "ada@lab.bench") -> bool:
        """
        @return: whether a visitor is let in by a key.
        """
        visitor = self.visit()
        verdicts: list[bool] = []
        visitor.client.key(name, key).addCallbacks(verdicts.append, lambda gone: verdicts.append(False))
        for _ in range(PATIENCE):
            visitor.settle()
            if verdicts:
                break
            self.clock.advance(1)
        return verdicts == [True]

    def test_whoNamesNoDeviceIsToldHow(self) -> None:
        visitor = self.visit()
        self.assertFalse(self.login(visitor, name="ada"))
        self.assertIn("USER@NAMESPACE.DEVICE@EDGE", visitor.client.protocol.sentence)

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
        self.door = self.makeDoor(limits=GatewayLimits(connections=1))
        visitor = self.visit()
        self.assertIsNone(self.door.buildProtocol(None))
        visitor.wire.drop()
        self.assertIsNotNone(self.door.buildProtocol(None))
        self.clock.advance(0)


class Never:
    """
    The way to a device whose stream is never opened.
    """

    def connect(self, factory: Any) -> Any:
        return Deferred()


class Refusing:
    """
    The way to a device that cannot be reached.
    """

    def connect(self, factory: Any) -> Any:
        return fail(ConnectionRefusedError())


class SSHDoorStrangerTests(SSHDoorCase):
    """
    Those who may know of no device hear of none.
    """

    KNOWN, UNKNOWN = "ada@lab.bench", "ada@lab.other"

    def setUp(self) -> None:
        super().setUp()
        self.dialled: list[str] = []

    def dial(self, key: str, session: str) -> Any:
        self.dialled.append(key)
        return super().dial(key, session)

    def watched(self, ask: Any) -> tuple[Any, ...]:
        """
        All that a visitor sees of one try: when he is answered, what is said, and whether the connection lives.
        """
        visitor = self.visit()
        began = self.clock.seconds()
        seen: list[Any] = []
        ask(visitor.client).addBoth(lambda verdict: seen.append((verdict, self.clock.seconds() - began)))
        for _ in range(8 * PATIENCE):
            visitor.settle()
            if seen:
                break
            self.clock.advance(0.125)
        ((verdict, seconds),) = seen
        said = verdict if isinstance(verdict, bool) else type(verdict)
        return said, seconds, tuple(visitor.banners), visitor.client.protocol.sentence, visitor.client.closed

    def tries(self, name: str, password: bytes = b"byron") -> tuple[Any, ...]:
        return self.watched(lambda client: client.password(name, password))

    def test_whoHasShownNothingHasNobodyDialled(self) -> None:
        for method in (b"none", b"publickey", b"keyboard-interactive"):
            for name in (self.KNOWN, self.UNKNOWN):
                key = b"\0" + NS(USER_KEY.public().sshType()) + NS(USER_KEY.public().blob()) if method == b"publickey" else b""
                self.watched(lambda client, name=name, method=method, key=key: client._login.authenticate(name, method, key))
        self.assertEqual((self.dialled, self.wires), ([], []))

    def test_aWrongPasswordAndNoDeviceAreTheSame(self) -> None:
        wrong = self.tries(self.KNOWN)
        self.assertEqual(self.dialled, ["lab.bench"])
        self.assertEqual(wrong[0], False)
        self.assertEqual(self.tries(self.UNKNOWN), wrong)

    def test_soIsADeviceThatCannotBeReached(self) -> None:
        unknown = self.tries(self.UNKNOWN)
        self.endpoint = Refusing()
        self.assertEqual(self.tries(self.KNOWN), unknown)

    def test_aDeviceThatLeavesDuringTheLoginLooksUnknown(self) -> None:
        unknown = self.tries(self.UNKNOWN)
        self.server.limits = GatewayLimits(attempts=1)
        self.assertEqual(self.tries(self.KNOWN), unknown)

    def test_aDeviceThatIsSlowIsNoOddity(self) -> None:
        """
        The time in which it refuses does not show, up to a multiple.
        """
        unknown = self.tries(self.UNKNOWN)
        endpoint = self.endpoint

        class Slow:
            def connect(other, factory: Any) -> Any:
                return deferLater(self.clock, 2.5, lambda: endpoint.connect(factory))

        self.endpoint = Slow()
        self.assertEqual(self.tries(self.KNOWN), unknown)

    def test_oneThatNeverSpeaksHasThirtySeconds(self) -> None:
        for device, endpoint in ((Collects, self.endpoint), (self.device, Never())):
            self.device, self.endpoint = device, endpoint
            verdict, seconds, banners, sentence, gone = self.tries(self.KNOWN)
            self.assertEqual((verdict, banners, gone), (False, (), False))
            self.assertEqual(seconds, 33.0)                   # a whole number of refusals, and what any login server waits
        self.assertTrue(all(wire.over for wire in self.wires))

    def test_whatADeviceSaysIsForThoseWhomItLetsIn(self) -> None:
        build = self.device

        def greeting() -> Any:
            protocol = build()
            begin = protocol.setService

            def setService(service: Any) -> None:
                begin(service)
                if hasattr(service, "banner"):
                    service.banner("authorized use only\x1b[2J\r\nsecond line\x9b")

            protocol.setService = setService
            return protocol

        self.device = greeting
        self.assertEqual(self.tries(self.KNOWN)[2], ())
        self.assertEqual(self.tries(self.KNOWN, b"lovelace")[2], ("authorized use only\\x1b[2J\nsecond line\\x9b",))

    def test_keysSayNoMore(self) -> None:
        """
        The public half of a key of ours is not enough to learn which devices there are; nor is a key that is good elsewhere.
        """
        vouched: list[Login] = []

        def vouch(login: Login, key: Any) -> Any:
            vouched.append(login)
            return USER_KEY if login.device == "lab.bench" else None

        self.door = self.makeDoor(known=lambda user, key: key == OTHER_KEY.public(), vouch=vouch)
        public = OTHER_KEY.public()
        offer = b"\0" + NS(b"rsa-sha2-256" if public.type() == "RSA" else public.sshType()) + NS(public.blob())
        offers = [
            self.watched(lambda client, name=name: client._login.authenticate(name, b"publickey", offer))
            for name in (self.KNOWN, self.UNKNOWN)
        ]
        self.assertEqual(offers[0], offers[1])
        self.assertEqual((vouched, self.dialled), ([], []))
        self.server.logins = evolve(self.server.logins, keys=lambda user, key: False)
        shown = [self.watched(lambda client, name=name: client.key(name, OTHER_KEY)) for name in (self.KNOWN, self.UNKNOWN)]
        self.assertEqual(shown[0], shown[1])
        self.assertEqual(self.dialled, ["lab.bench"])

    def test_passwordsBeyondSoManyAreWrong(self) -> None:
        """
        Whoever guesses does not make the edge dial as often as he likes; nor does he notice.
        """
        self.door = self.makeDoor(limits=GatewayLimits(passwords=0.01))
        self.patch(gateway, "rateLimitKey", lambda address: "192.0.2.7")
        self.door.attempts.take("192.0.2.7", self.clock.seconds())
        wrong = self.tries(self.UNKNOWN)
        self.assertEqual((self.dialled, wrong), ([], self.tries(self.KNOWN, b"lovelace")))
        self.clock.advance(100)
        self.assertTrue(self.tries(self.KNOWN, b"lovelace")[0])

    def test_newcomersAreCounted(self) -> None:
        self.door = self.makeDoor(admit=lambda address: address != "192.0.2.7")
        self.assertIsNone(self.door.buildProtocol(IPv4Address("TCP", "192.0.2.7", 40000)))
        self.assertEqual(self.door.connected, 0)
        self.visit()

    def test_theLogKnows(self) -> None:
        with capturedLogs() as said:
            self.tries(self.UNKNOWN)
        self.assertIn("the device lab.other is not connected", "".join(str(formatEvent(event)) for event in said))

    def test_whoLeavesBeforeHeIsRefusedLeavesNothing(self) -> None:
        visitor = self.visit()
        visitor.client.password(self.UNKNOWN, b"byron").addErrback(lambda gone: None)
        visitor.settle()
        visitor.wire.drop()
        self.settle(visitor)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SSHDoorBridgeTests(SSHDoorCase):
    """
    What a visitor and a device say to each other.
    """

    def setUp(self) -> None:
        super().setUp()
        self.visitor = self.visit()
        self.assertTrue(self.login(self.visitor))

    def test_filesOfTheDeviceAreReached(self) -> None:
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
        self.assertLessEqual(near.unsent, 65536)
        self.assertLessEqual(near.other.held, WINDOW)
        (serving,) = self.wires[0].far.protocol.service.channels.values()
        self.assertLess(serving.unsent, 2 * 65536)
        channel.resumeProducing()
        self.visitor.settle()
        self.assertEqual(sum(len(self.successResultOf(one)) for one in asked), LARGE)

    def test_aDeviceThatStandsStillStopsTheVisitor(self) -> None:
        channel = self.visitor.channel()
        channel.write(bytes(8 * WINDOW))
        self.visitor.settle()
        (near,) = self.visitor.server.service.channels.values()
        self.assertLessEqual(near.held + near.other.unsent, 2 * WINDOW)
        self.assertGreater(channel.unsent, 4 * WINDOW)

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
        self.assertEqual(channel.refused.value, b"forwarding is disabled")
        self.assertEqual(channel.refused.data, connection.OPEN_ADMINISTRATIVELY_PROHIBITED)
        granted = self.visitor.client.connection.requestOnChannel(self.visitor.channel(), b"subsystem", NS(b"netconf"))
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
        self.assertTrue(self.visitor.client.closed)
        self.assertEqual(self.visitor.client.protocol.sentence, "the connection to the device was lost")

    def test_aDeviceThatIsGoneWhileNothingIsOpen(self) -> None:
        self.wires[0].drop()
        self.visitor.settle()
        self.assertEqual(self.visitor.client.protocol.sentence, "the connection to the device was lost")

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
        self.assertTrue(self.visitor.client.closed)


class SSHDoorJumpTests(SSHDoorCase):
    """
    Those who only pass.
    """

    def makeDoor(self, **how: Any) -> SSHGateway:
        keys = AuthorizedKeys(self.folder / "keys")
        return super().makeDoor(jumps=LoginPolicy(keys=keys.check, users=frozenset({"guest"})), **how)

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

    def test_onlyAuthorizedUsersJump(self) -> None:
        self.assertFalse(self.enter(user="eve"))
        self.assertFalse(self.enter(key=OTHER_KEY))
        self.assertTrue(self.enter())

    def test_aJumpReachesTheServerOfADevice(self) -> None:
        self.enter()
        channel = self.jump("lab.bench")
        self.assertTrue(channel.protocol.got.startswith(b"SSH-2.0-tunnelstack\r\n"))
        self.assertFalse(self.wires[0].over)
        channel.loseConnection()
        self.visitor.settle()
        self.assertTrue(self.wires[0].over)

    def test_aJumpReachesNothingElse(self) -> None:
        self.enter()
        self.assertEqual(self.jump("lab.other").refused.value, b"the device lab.other is not connected")
        self.assertEqual(self.jump("lab.bench", 80).refused.value, b"only port 22 of a device can be reached")
        self.assertEqual(self.jump("", 22).refused.value, b"the destination is malformed")
        self.assertIn(b"the gateway has no shell", self.visitor.channel().refused.value)
        self.assertEqual(self.wires, [])
