"""
The embedded SSH server in virtual time: logins, bounds, ends and pressure.
"""

from __future__ import annotations

import os
from pathlib import Path
from struct import pack
from typing import Any

from twisted.conch.error import ConchError
from twisted.conch.ssh import connection
from twisted.conch.ssh.common import NS
from twisted.conch.ssh.filetransfer import FXF_READ, FileTransferClient
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.handler.sshwire import ENTRY, OTHER_KEY, USER_KEY, Collects, Opened, Pair, inTurn, makeServer
from tunnelstack.edge.ssh.upstream import connectUpstream
from tunnelstack.errors import ConfigurationError
from tunnelstack.handler.ssh.channel import PACKET, WINDOW
from tunnelstack.handler.ssh.connection import FlowControlledConnection
from tunnelstack.handler.ssh.credentials import AuthorizedKeys, PasswordFile
from tunnelstack.handler.ssh.forwarding import StreamChannel
from tunnelstack.handler.ssh.host_keys import hostKeys
from tunnelstack.handler.ssh.server import SSHLimits
from tunnelstack.handler.ssh.sftp import LARGEST_CHUNK
from tunnelstack.handler.ssh.transport import ServerTransport
from tunnelstack.settings.password_hash import makePasswordEntry
from tunnelstack.testing import CAPACITY, Wire, sessionPair

PLAINTEXT_FAREWELL = b"DELETE /ssh/close/sess-1 HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\n\r\n"


class Case(SynchronousTestCase):
    """
    With a folder.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def pair(self, cut: int | None = None, **how: Any) -> Pair:
        """
        A server and a client, nothing delivered yet.
        """
        clock = Clock()
        return Pair(makeServer(self.folder, clock, **how), clock, cut)


class CredentialTests(Case):
    """
    The two files.
    """

    def passwords(self, *lines: str) -> PasswordFile:
        path = self.folder / "passwords"
        path.write_text("\n".join(lines) + "\n")
        return PasswordFile(path, inTurn)

    def test_onlyTheRightPasswordOfTheRightUserIsAccepted(self) -> None:
        book = self.passwords("# people", ENTRY)
        for user, password, right in (
            ("ada", b"lovelace", True), ("ada", b"lovelace ", False), ("ada", b"", False), ("eve", b"lovelace", False)):
            self.assertIs(self.successResultOf(book.check(user, password)), right, (user, password))

    def test_unknownUsersTakeAsLong(self) -> None:
        """
        Something is hashed for them too.
        """
        hashed: list[object] = []

        def count(call: Any, password: bytes) -> Deferred[bool]:
            hashed.append(call)
            return inTurn(call, password)

        book = PasswordFile(self.passwords(ENTRY).path, count)
        self.assertFalse(self.successResultOf(book.check("eve", b"x")))
        self.assertEqual(len(hashed), 1)

    def test_anEditCountsAtOnce(self) -> None:
        book = self.passwords(ENTRY)
        self.assertIn("ada", book)
        self.passwords(makePasswordEntry("grace", "hopper", ln=10))
        self.assertNotIn("ada", book)
        self.assertTrue(self.successResultOf(book.check("grace", b"hopper")))

    def test_entriesOutOfBoundsAreNoEntries(self) -> None:
        """
        A line cannot make a login take a gigabyte.
        """
        changed = [ENTRY.replace("ln=10", other) for other in ("ln=30", "ln=1", "ln=99")]
        book = self.passwords(*changed, "eve", ":", "x:$scrypt$")
        self.assertEqual(book.users(), {})

    def test_aFileThatOthersMayWriteIsNotUsed(self) -> None:
        book = self.passwords(ENTRY)
        book.path.chmod(0o622)
        self.assertFalse(self.successResultOf(book.check("ada", b"lovelace")))

    def test_noFileIsNobody(self) -> None:
        self.assertEqual(PasswordFile(self.folder / "absent").users(), {})
        self.assertEqual(list(AuthorizedKeys(self.folder / "absent").keys()), [])

    def test_keysWithOptionsAreLeftOut(self) -> None:
        """
        To take the key without its options would allow more than was meant.
        """
        path = self.folder / "keys"
        mine, other = (key.public().toString("OPENSSH").decode() for key in (USER_KEY, OTHER_KEY))
        path.write_text(f"# mine\n\nnonsense\n{mine} ada@home\ncommand=\"/bin/false\" {other}\nssh-ed25519 AAAA\n")
        book = AuthorizedKeys(path)
        self.assertTrue(book.check("ada", USER_KEY.public()))
        self.assertFalse(book.check("ada", OTHER_KEY.public()))


class HostKeyTests(Case):
    """
    Made once.
    """

    def test_hostKeysAreMadeOnceAndKeptPrivate(self) -> None:
        path = self.folder / "host_keys"
        made = hostKeys(path)
        self.assertEqual([key.sshType() for key in made], [b"ssh-ed25519", b"ssh-rsa"])
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual([key.fingerprint() for key in hostKeys(path)], [key.fingerprint() for key in made])
        self.assertEqual(os.listdir(self.folder), ["host_keys"])
        path.chmod(0o640)
        self.assertRaises(ConfigurationError, hostKeys, path)

    def test_theFolderOfHostKeysIsMadeForItsUserAlone(self) -> None:
        """
        The kind of H3: a file that is made in a folder which the first start does not find.
        """
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        path = self.folder / "state" / "tunnelstack" / "host_keys"
        made = hostKeys(path)
        self.assertEqual(path.parent.stat().st_mode & 0o777, 0o700)
        self.assertEqual([key.fingerprint() for key in hostKeys(path)], [key.fingerprint() for key in made])

    def test_whatIsNoKeyIsSaid(self) -> None:
        path = self.folder / "host_keys"
        for text in ("", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"):
            path.write_text(text)
            path.chmod(0o600)
            self.assertRaises(ConfigurationError, hostKeys, path)
        self.assertRaises(ConfigurationError, hostKeys, path / "below a file")


class LoginTests(Case):
    """
    Before anybody is in.
    """

    def setUp(self) -> None:
        super().setUp()
        self.both = self.pair()
        self.both.settle()
        self.clock = self.both.wire.clock

    def test_aWrongPasswordIsAnsweredLate(self) -> None:
        tried = self.both.client.password("ada", b"byron")
        self.both.settle()
        self.clock.advance(0.9)
        self.both.settle()
        self.assertNoResult(tried)
        self.clock.advance(0.1)
        self.both.settle()
        self.assertFalse(self.successResultOf(tried))
        again = self.both.client.password("ada", b"lovelace")
        self.both.settle()
        self.assertTrue(self.successResultOf(again))

    def test_sixRefusalsEndIt(self) -> None:
        for _ in range(6):
            self.both.client.password("ada", b"byron").addErrback(lambda gone: None)
            self.both.settle()
            self.clock.advance(1)
            self.both.settle()
        self.assertTrue(self.both.client.closed)
        self.assertEqual(self.both.client.protocol.sentence, "too many failed logins")

    def test_manyRequestsAtOnceEndIt(self) -> None:
        """
        They would wait here, each for its second.
        """
        for _ in range(20):
            self.both.client.password("ada", b"byron").addErrback(lambda gone: None)
        self.both.settle()
        self.assertTrue(self.both.client.closed)

    def test_aLoginHasAMinute(self) -> None:
        self.clock.advance(59)
        self.both.settle()
        self.assertFalse(self.both.client.closed)
        self.clock.advance(1)
        self.both.settle()
        self.assertTrue(self.both.client.closed)
        self.assertEqual(self.both.client.protocol.sentence, "the login took too long")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_somebodySilentIsDroppedToo(self) -> None:
        wire = Wire(self.clock)
        wire.connect(Collects(), makeServer(self.folder, self.clock).buildProtocol(None))
        wire.settle()
        self.clock.advance(60)
        wire.settle()
        self.assertTrue(wire.over)

    def test_whoIsInHasAllTheTimeHeWants(self) -> None:
        self.both.login()
        self.clock.advance(3600)
        self.both.settle()
        self.assertFalse(self.both.client.closed)

    def test_onlyAnAuthorizedKeyLogsIn(self) -> None:
        for user, key, right in (("ada", OTHER_KEY, False), ("eve", USER_KEY, False), ("ada", USER_KEY, True)):
            tried = self.both.client.key(user, key)
            self.both.settle()
            self.assertIs(self.successResultOf(tried), right)

    def test_aKeyNeedsItsOwnersSignature(self) -> None:
        offer = b"\x01" + NS(b"ssh-ed25519") + NS(USER_KEY.public().blob())
        tried = self.both.client._login.authenticate("ada", b"publickey", offer + NS(OTHER_KEY.sign(b"something")))
        self.both.settle()
        self.assertFalse(self.successResultOf(tried))

    def test_onlyKeysThatWouldDoAreAskedToSign(self) -> None:
        answers = []
        login = self.both.client._login
        login.ssh_USERAUTH_PK_OK = lambda packet: (answers.append("sign"), login._answered(False))
        for key in (OTHER_KEY, USER_KEY):
            login.authenticate(
                "ada", b"publickey", b"\x00" + NS(b"ssh-ed25519") + NS(key.public().blob())
            ).addCallback(answers.append)
            self.both.settle()
        self.assertEqual(answers, [False, "sign", False])

    def test_requestsThatMakeNoSenseEndIt(self) -> None:
        with capturedLogs() as said:
            for packet in (b"", b"\xff\xff\xff\xff", NS(b"ada") + NS(b"ssh-connection") + NS(b"publickey")):
                both = self.pair()
                both.settle()
                both.client.protocol.sendPacket(50, packet)
                both.settle()
                self.assertTrue(both.client.closed, packet)
        self.assertNotIn("critical", {event["log_level"].name for event in said if event["log_level"].name != "debug"})

    def test_passwordsAreNotInLogs(self) -> None:
        with capturedLogs() as said:
            self.both.client.password("ada", b"swordfish")
            self.both.settle()
            self.clock.advance(1)
            self.both.login()
        self.assertIn("ada", repr(said))
        self.assertNotIn("swordfish", repr(said))
        self.assertNotIn("lovelace", repr(said))


class EndTests(Case):
    """
    How connections end.
    """

    def test_aPlaintextFarewellIsAnOrdinaryEnd(self) -> None:
        for cut in (None, 1, 7):
            with capturedLogs() as said:
                both = self.pair(cut)
                both.login()
                channel = both.channel()
                both.wire.near.write(PLAINTEXT_FAREWELL)
                both.settle()
            self.assertTrue(both.wire.over)
            self.assertIsNotNone(channel.protocol)
            self.assertEqual({event["log_level"].name for event in said}, {"info"})
            self.assertIn("the peer closed the connection", repr(said))

    def test_garbageEndsItAndNothingElse(self) -> None:
        for cut in (None, 3):
            both = self.pair(cut)
            both.login()
            both.wire.near.write(os.urandom(8192))
            both.settle()
            both.wire.near.loseConnection()
            both.settle()
            self.assertTrue(both.wire.over)

    def test_messagesWithinAKeyExchangeEndIt(self) -> None:
        """
        Their answers would pile up until its end, which never comes.
        """
        both = self.pair()
        both.login()
        client = both.client.protocol
        client.sendKexInit()
        client._keyExchangeState = client._KEY_EXCHANGE_NONE
        client.sendPacket(connection.MSG_GLOBAL_REQUEST, NS(b"keepalive") + b"\1")
        both.settle()
        self.assertTrue(both.wire.over)
        self.assertEqual(both.server.sentence, "protocol error of the peer: ConchError")

    def test_keysAreExchangedAnew(self) -> None:
        both = self.pair()
        both.login()
        both.client.protocol.sendKexInit()
        both.settle()
        _, files = both.files()
        listed = files.realPath(b".")
        both.settle()
        self.assertEqual(self.successResultOf(listed), os.path.realpath(self.folder))

    def test_aPeerThatNeverReadsIsDropped(self) -> None:
        """
        Questions are small; their answers would grow here for ever.
        """
        both = self.pair()
        both.login()
        both.wire.near.pauseProducing()
        for _ in range(400):
            for _ in range(200):
                both.client.protocol.sendPacket(connection.MSG_CHANNEL_OPEN, NS(b"x" * 20) + bytes(12))
            both.settle()
        self.assertTrue(both.wire.over or not both.wire.far.connected)

    def test_aliveIsAnswered(self) -> None:
        both = self.pair()
        both.login()
        alive = both.client.connection.sendGlobalRequest(b"keepalive@openssh.com", b"", wantReply=1)
        forward = both.client.connection.sendGlobalRequest(b"tcpip-forward", NS(b"") + pack(">L", 0), wantReply=1)
        both.settle()
        self.successResultOf(alive)
        self.failureResultOf(forward, ConchError)


class ChannelTests(Case):
    """
    What one connection may hold.
    """

    def test_channelsAreCounted(self) -> None:
        both = self.pair(limits=SSHLimits(channels=3))
        both.login()
        channels = [both.channel() for _ in range(4)]
        self.assertEqual([channel.refused is None for channel in channels], [True, True, True, False])
        self.assertEqual(channels[3].refused.data, connection.OPEN_RESOURCE_SHORTAGE)
        channels[0].loseConnection()
        both.settle()
        self.assertIsNone(both.channel().refused)

    def test_unknownKindsAndRequestsAreRefused(self) -> None:
        both = self.pair()
        both.login()
        self.assertEqual(both.channel(b"x11").refused.data, connection.OPEN_UNKNOWN_CHANNEL_TYPE)
        channel = both.channel()
        for kind, data in ((b"x11-req", b""), (b"subsystem", NS(b"netconf")), (b"env", b"\0"), (b"signal", NS(b"TERM"))):
            granted = both.client.connection.requestOnChannel(channel, kind, data)
            both.settle()
            self.assertFalse(self.successResultOf(granted), kind)

    def test_whatNobodyReadsStaysWithItsWriter(self) -> None:
        """
        There is no program yet: one window is held, the rest has no credit.
        """
        both = self.pair()
        both.login()
        channel = both.channel()
        channel.write(bytes(3 * WINDOW))
        both.settle()
        held = [one.held for one in both.server.service.channels.values()]
        self.assertEqual(held, [WINDOW])
        self.assertEqual(channel.unsent, 2 * WINDOW)

    def test_filesWaitForTheirReader(self) -> None:
        """
        A client that asks for everything and takes nothing costs a window, not a file.
        """
        (self.folder / "big").write_bytes(os.urandom(4 << 20))
        both = self.pair()
        both.login()
        channel, files = both.files()
        opened = files.openFile(b"big", FXF_READ, {})
        both.settle()
        big = self.successResultOf(opened)
        channel.pauseProducing()
        asked = [big.readChunk(offset, LARGEST_CHUNK) for offset in range(0, 4 << 20, LARGEST_CHUNK)]
        both.settle()
        (serving,) = both.server.service.channels.values()
        self.assertLess(serving.unsent, 2 * LARGEST_CHUNK)
        channel.resumeProducing()
        both.settle()
        self.assertEqual(b"".join(map(self.successResultOf, asked)), (self.folder / "big").read_bytes())

    def test_requestsWaitForTheirAnswersReader(self) -> None:
        """
        Requests are small: a thousand of them fit into a packet, and none is read while an answer waits.
        """
        (self.folder / "big").write_bytes(bytes(1 << 20))
        both = self.pair()
        both.login()
        channel, files = both.files()
        opened = files.openFile(b"big", FXF_READ, {})
        both.settle()
        request = NS(b"\x05" + bytes(4) + self.successResultOf(opened).handle + pack(">QL", 0, LARGEST_CHUNK))
        channel.pauseProducing()
        channel.write(request * (2 * WINDOW // len(request)))
        both.settle()
        (serving,) = both.server.service.channels.values()
        self.assertLess(serving.unsent, 2 * LARGEST_CHUNK)
        self.assertLess(len(serving._files._pending), 4 * PACKET)
        self.assertGreater(channel.unsent, 0)

    def test_fileRequestsHaveASize(self) -> None:
        both = self.pair()
        both.login()
        channel, files = both.files()
        channel.protocol = collected = Collects()
        channel.write(pack(">LB", 1 << 30, 3))
        both.settle()
        self.assertIn((b"exit-status", pack(">L", 1)), collected.asked)
        self.assertIsNotNone(collected.reason)

    def test_filesEndWithTheirClient(self) -> None:
        both = self.pair()
        both.login()
        channel, files = both.files()
        channel.protocol = collected = Collects()
        channel.loseWriteConnection()
        both.settle()
        self.assertIn((b"exit-status", pack(">L", 0)), collected.asked)

    def test_aPipeIsNotOpened(self) -> None:
        """
        It would stand still until somebody writes, and we with it.
        """
        os.mkfifo(self.folder / "pipe")
        both = self.pair()
        both.login()
        _, files = both.files()
        opened = files.openFile(b"pipe", FXF_READ, {})
        both.settle()
        self.failureResultOf(opened)


class Greets(Protocol):
    """
    A stream's far end.
    """

    def connectionMade(self) -> None:
        self.transport.write(b"hello")

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data.upper())


class StreamTests(SynchronousTestCase):
    """
    A channel is a transport.
    """

    def setUp(self) -> None:
        class Serving(FlowControlledConnection):
            def channelRequested(self, kind: bytes, window: int, largest: int, extra: bytes) -> Any:
                return StreamChannel(Greets(), remoteWindow=window, remoteMaxPacket=largest)

        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        clock = Clock()
        server = makeServer(self.folder, clock)
        made = server.userAuthService

        def userAuthService(transport: Any) -> Any:
            login = made(transport)
            login._admitted = lambda user, method: Serving()
            return login

        server.userAuthService = userAuthService
        self.both = Pair(server, clock)
        self.both.login()

    def test_bothDirectionsAndTheEndPass(self) -> None:
        channel = self.both.channel(b"direct-tcpip")
        collected = channel.protocol
        channel.writeSequence([b"a", b"b"])
        channel.loseConnection()
        channel.write(b"late")
        self.both.settle()
        self.assertEqual(collected.got[:5], b"hello")
        self.assertIsNotNone(collected.reason)

    def test_endFollowsData(self) -> None:
        """
        An end said at once does not overtake what waits for the window.
        """
        channel = self.both.channel(b"direct-tcpip")
        collected = channel.protocol
        channel.write(b"a" * (2 * WINDOW))
        channel.loseWriteConnection()
        self.both.settle()
        self.assertEqual(len(collected.got), 5 + 2 * WINDOW)

    def test_producersArePausedByTheWindow(self) -> None:
        channel = self.both.channel(b"direct-tcpip")
        (far,) = self.both.server.service.channels.values()
        told: list[str] = []

        class Producer:
            pauseProducing = staticmethod(lambda: told.append("pause"))
            resumeProducing = staticmethod(lambda: told.append("resume"))
            stopProducing = staticmethod(lambda: told.append("stop"))

        far.pauseProducing()
        channel.registerProducer(Producer(), True)
        channel.write(bytes(WINDOW))
        self.both.settle()
        told.clear()                          # the carrier had its word
        channel.write(b"one more")
        self.assertEqual(told, ["pause"])
        far.resumeProducing()
        self.both.settle()
        self.assertEqual(told, ["pause", "resume"])
        self.both.wire.drop()
        self.assertEqual(told, ["pause", "resume", "stop"])

    def test_whatTheCarrierDoesNotTakeWaitsInItsChannel(self) -> None:
        channel = self.both.channel(b"direct-tcpip")
        (far,) = self.both.server.service.channels.values()
        self.both.wire.near.pauseProducing()
        far.write(bytes(WINDOW // 2))
        self.both.settle()
        self.assertLess(self.both.wire.far.undelivered, CAPACITY + 2 * PACKET)
        self.both.wire.near.resumeProducing()
        self.both.settle()
        self.assertEqual(len(channel.protocol.got), 5 + WINDOW // 2)

    def test_aFailingApplicationCostsItsChannel(self) -> None:
        channel = self.both.channel(b"direct-tcpip")
        (far,) = self.both.server.service.channels.values()
        far.protocol.dataReceived = lambda data: 1 / 0
        channel.write(b"x")
        self.both.settle()
        self.assertIsNotNone(channel.localClosed)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(self.both.client.closed)


class TunnelTests(Case):
    """
    On a stream of a tunnel, which has manners of its own: a close waits for whoever produces.
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.accepted: list[ServerTransport] = []
        server = makeServer(self.folder, self.clock)
        accepting = Factory()
        accepting.buildProtocol = lambda address: self.accept(server.connect(address))  # type: ignore[method-assign]
        self.wire, self.near, _ = sessionPair(accepting, clock=self.clock)
        reached = connectUpstream(self.near.connector, self.clock, 30, lambda banner: None)
        self.wire.settle()
        self.client = self.successResultOf(reached)
        welcome = self.client.password("ada", b"lovelace")
        self.wire.settle()
        self.assertTrue(self.successResultOf(welcome))

    def accept(self, connected: Deferred[Any]) -> ServerTransport:
        self.accepted.append(self.successResultOf(connected))
        return self.accepted[-1]

    def assertBothSidesAreClosed(self) -> None:
        self.assertTrue(self.client.closed)
        self.assertIsNotNone(self.accepted[0].lost)
        self.assertEqual(self.near.streams, 0)

    def test_filesPassThroughATunnel(self) -> None:
        (self.folder / "big").write_bytes(os.urandom(2 << 20))
        channel, files = Opened(Collects()), FileTransferClient()
        channel.name = b"session"
        self.client.connection.openChannel(channel)
        self.wire.settle()
        self.client.connection.requestOnChannel(channel, b"subsystem", NS(b"sftp"))
        channel.protocol = files
        files.makeConnection(channel)
        self.wire.settle()
        opened = files.openFile(b"big", FXF_READ, {})
        self.wire.settle()
        big = self.successResultOf(opened)
        asked = [big.readChunk(offset, 65536) for offset in range(0, 2 << 20, 65536)]
        self.wire.settle()
        self.assertEqual(b"".join(map(self.successResultOf, asked)), (self.folder / "big").read_bytes())

    def test_theServersSideMayCloseTheStream(self) -> None:
        stream = self.accepted[0].transport
        stream.unregisterProducer()
        stream.loseConnection()
        self.wire.settle()
        self.assertBothSidesAreClosed()

    def test_theClientMayCloseTheStream(self) -> None:
        self.client.close()
        self.wire.settle()
        self.assertBothSidesAreClosed()

    def test_aFarewellInPlaintextEndsTheConnection(self) -> None:
        self.client.protocol.transport.write(PLAINTEXT_FAREWELL)
        self.wire.settle()
        self.assertBothSidesAreClosed()
