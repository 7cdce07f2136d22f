"""
koding/tunnel at the agent: recorded conversations at every split, when it waits, and what it does for servers with bugs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any
from unittest import mock

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.changed_settings import changes
from tests.wire.vectors_koding import (
    ANSWER,
    CLIENT,
    CONNECT,
    DISPLACED,
    HANDSHAKE,
    LATE,
    REQUEST,
    RESPONSE,
    SERVER,
    SWITCHING,
    TRANSCRIPTS,
    UNAVAILABLE,
    UPGRADE,
    control,
    data,
    window,
)
from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.control.process.exit_status import CredentialRefused, WrongProtocol
from tunnelstack.dialect.koding.local_streams import FINISH_SECONDS, SWITCH_SECONDS
from tunnelstack.dialect.koding.settings import AgentSettings
from tunnelstack.dialect.koding.states import ClientState
from tunnelstack.errors import ConfigurationError
from tunnelstack.testing import Network
from tunnelstack.wire.records import koding

PORT, WEB, RAW = 7002, 3000, 4000


def octets(lines: Any, who: str) -> list[bytes]:
    """
    The frames of one side.
    """
    return [bytes.fromhex(frame) for side, frame in lines if side == who]


def split(stream: bytes) -> list[bytes]:
    """
    Frames of yamux.
    """
    found = []
    while stream:
        size = int.from_bytes(stream[8:12], "big") if stream[1] == 0 else 0
        found.append(stream[: 12 + size])
        stream = stream[12 + size :]
    return found


class Kept(Protocol):
    """
    Keeps what arrives.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.lost: Failure | None = None
        self.ended = False

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    def take(self) -> bytes:
        taken, self.got = self.got, b""
        return taken


class Local(Kept):
    """
    A local server: answers each piece as the test says.
    """

    answer: Callable[[bytes], bytes] | None = None

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        octets = data if self.answer is None else self.answer(self.got)
        if octets:
            self.transport.write(octets)


class AgentCase(SynchronousTestCase):
    """
    An agent, a scripted server, and local servers.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.servers: list[Kept] = []
        self.locals: list[Local] = []
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.file = Path(self.mktemp())
        self.file.write_text("1234\n")
        self.network.listenTCP(PORT, self.factory(Kept, self.servers))

    def factory(self, kind: type[Kept], kept: list[Any]) -> Factory:
        factory = Factory()
        factory.noisy = False

        def build(address: Any) -> Kept:
            kept.append(kind())
            return kept[-1]

        factory.buildProtocol = build  # type: ignore[method-assign]
        return factory

    def local(self, answer: Callable[[bytes], bytes] | None = None, port: int = WEB) -> None:
        kind = Local if answer is None else type("Answering", (Local,), {"answer": staticmethod(answer)})
        self.network.listenTCP(port, self.factory(kind, self.locals))

    def agent(self, **settings: Any) -> AgentService:
        table = AgentSettings(**{
            "url": f"http://127.0.0.1:{PORT}", "identifierFile": str(self.file), "http": (str(WEB),), "tcp": (str(RAW),),
            **settings,
        })  # fmt: skip
        config = evolve(AgentConfig(dialects={"koding": {"koding": (table,)}}), drainSeconds=5.0)
        self.service = service = AgentService(self.network, config, plugins=False, random=lambda: 0.5)
        service.startService()
        self.network.settle()
        self.addCleanup(self.stop, service)
        return service

    def stop(self, service: AgentService) -> None:
        if service.running:
            stopped: Any = service.stopService()
            self.network.passTime(40)
            self.successResultOf(stopped)

    @property
    def dialect(self) -> Any:
        return self.service.links[0].dialect

    def send(self, server: Kept, *frames: bytes, cut: int = 0) -> None:
        stream = b"".join(frames)
        for piece in (stream[:cut], stream[cut:]):
            if piece:
                server.transport.write(piece)
                self.network.settle()

    def shake(self, cut: int = 0) -> Kept:
        """
        The server accepts the newest connection.
        """
        server = self.servers[-1]
        self.assertEqual(server.take(), CONNECT)
        self.send(server, ANSWER, cut=cut)
        self.assertEqual(split(server.take()), octets(HANDSHAKE, CLIENT))
        self.send(server, *octets(HANDSHAKE, SERVER), cut=cut)
        return server

    def connected(self, **settings: Any) -> Kept:
        self.agent(**settings)
        return self.shake()


class TranscriptTests(AgentCase):
    """
    What a genuine server sent, sent again; the frames that the client answers are those of the recording.
    """

    def test_theHandshakeIsReadAtEverySplit(self) -> None:
        for cut in range(1, len(ANSWER) + 20):
            self.agent()
            self.shake(cut)
            self.assertIn("up", [event.get("log_format", "")[:2] for event in self.events])
            self.events.clear()
            self.stop(self.service)

    def test_transcriptsAreReadAtEverySplit(self) -> None:
        for name, lines in TRANSCRIPTS.items():
            turns = [(side, b"".join(octets(list(turn), side))) for side, turn in groupby(lines, lambda line: line[0])]
            longest = max(len(stream) for side, stream in turns if side == SERVER)
            for cut in range(1, longest + 1):
                with self.subTest(name, cut=cut):
                    self.setUp()
                    if name != "no local server":
                        self.local({
                            "request": lambda data: RESPONSE if data.endswith(b"\r\n\r\n") else b"",
                            "chunked": lambda data: RESPONSE if data.endswith(b"0\r\n\r\n") else b"",
                            "websocket": lambda data: SWITCHING + LATE if data.endswith(b"\r\n\r\n") else b"",
                            "tcp": None,
                        }[name], RAW if name == "tcp" else WEB)  # fmt: skip
                    server = self.connected()
                    for side, stream in turns:
                        if side == SERVER:
                            self.send(server, stream, cut=cut)
                            self.network.passTime(0.2, 0.1)
                    self.compare(name, split(server.take()), octets(lines, CLIENT))
                    self.stop(self.service)

    def compare(self, name: str, ours: list[bytes], recorded: list[bytes]) -> None:
        """
        The same frames in the same order.  A response may be in several frames, as it arrived from the local server.
        """
        def joined(frames: list[bytes]) -> list[bytes]:
            found: list[bytes] = []
            for frame in frames:
                if frame[1] == 0 and found and found[-1][:1] == b"=":
                    found[-1] += frame[12:]
                else:
                    found.append(b"=" + frame[12:] if frame[1] == 0 else frame)
            return found

        self.assertEqual(joined(ours), joined(recorded), name)

    def test_thirtyFourOctetsAreEnough(self) -> None:
        self.agent()
        self.send(self.servers[0], ANSWER)
        self.assertTrue(self.servers[0].got.endswith(b"controlHandshake"))

    def test_aServerThatIsLeftSaysSo(self) -> None:
        server = self.connected()
        self.send(server, *(bytes.fromhex(frame) for frame in DISPLACED))
        self.network.passTime(1.2, 0.1)
        self.assertIsNotNone(server.lost)
        frames = split(server.take())
        self.assertIn(bytes.fromhex("000300000000000000000000"), frames)
        self.network.passTime(0.6, 0.1)
        self.assertEqual(len(self.servers), 2)             # after half a second

    def test_aPingIsAnswered(self) -> None:
        server = self.connected()
        self.send(server, bytes.fromhex("000200010000000000000000"))
        self.assertEqual(server.take(), bytes.fromhex("000200020000000000000000"))


class StreamTests(AgentCase):
    """
    One stream for each object, and what comes of it.
    """

    def frames(self, server: Kept) -> list[bytes]:
        return split(server.take())

    def ask(self, server: Kept, transport: int = 1, port: int = 0) -> None:
        self.send(server, bytes.fromhex(control(transport, port)))

    def test_everyObjectIsAnsweredWithOneStream(self) -> None:
        """
        Whatever it holds: the server counts them.
        """
        server = self.connected()
        objects = (
            b'{"action":1,"transportProtocol":1,"localPort":0}', b"{}", b'{"action":99,"transportProtocol":7}',
            b'{"transportProtocol":-3,"localPort":70000}\n', b'{"unknown":[{}]}', b'{"transportProtocol":2,"localPort":null}',
        )
        self.send(server, bytes.fromhex(data(1, b"".join(objects))))
        opened = [frame for frame in self.frames(server) if frame[1] == 1 and frame[3] & 1]
        self.assertEqual([int.from_bytes(frame[4:8], "big") for frame in opened], [3, 5, 7, 9, 11, 13])

    def test_anUnknownTransportEndsItsStreamAtOnce(self) -> None:
        """
        A genuine client ends as a whole.
        """
        server = self.connected()
        self.send(server, bytes.fromhex(data(1, b'{"transportProtocol":9}')))
        self.assertEqual(self.frames(server), [bytes.fromhex(window(3, 1)), bytes.fromhex(window(3, 4))])

    def test_streamsWithoutALocalServerAreAnsweredAndEnded(self) -> None:
        server = self.connected()
        for transport, answer in ((1, UNAVAILABLE), (3, UNAVAILABLE), (2, b"")):
            self.ask(server, transport)
            frames = self.frames(server)
            self.assertEqual(b"".join(frame[12:] for frame in frames if frame[1] == 0), answer)
            self.assertEqual(frames[-1][3], 4)

    def test_thePortChoosesTheTarget(self) -> None:
        self.local(lambda data: b"", WEB)
        self.local(lambda data: b"", 3001)
        server = self.connected(http=("8081=3001", str(WEB)), tcp=("7005=3001",))
        for transport, port, count in ((1, 8081, 1), (1, 80, 2), (3, 8081, 3), (2, 7005, 4), (2, 7006, 4)):
            self.ask(server, transport, port)
            self.assertEqual(len(self.locals), count)

    def test_interimResponsesAreLeftOut(self) -> None:
        self.local(lambda data: b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + RESPONSE)
        server = self.connected()
        self.ask(server)
        self.send(server, bytes.fromhex(window(3, 2)), bytes.fromhex(data(3, REQUEST)))
        received = b"".join(frame[12:] for frame in self.frames(server) if frame[1] == 0)
        self.assertEqual(received, RESPONSE)

    def test_whatFollowsASwitchIsSentAWhileLater(self) -> None:
        """
        A genuine server loses what arrives together with the head.
        """
        self.local(lambda data: SWITCHING + LATE if data.endswith(b"\r\n\r\n") else b"")
        server = self.connected()
        self.ask(server, 3)
        self.send(server, bytes.fromhex(window(3, 2)), bytes.fromhex(data(3, UPGRADE)))
        self.assertTrue(server.take().endswith(SWITCHING))
        self.network.passTime(SWITCH_SECONDS, SWITCH_SECONDS)
        self.assertEqual(self.frames(server), [bytes.fromhex(data(3, LATE))])
        self.locals[0].transport.write(b"\x81\x00")
        self.network.settle()
        self.assertEqual(self.frames(server), [bytes.fromhex(data(3, b"\x81\x00"))])

    def test_theEndOfTheLocalConnectionIsSent(self) -> None:
        """
        Bug 2: a genuine client sends no FIN, so a body until the end of the connection never ends.
        """
        self.local(lambda data: b"")
        server = self.connected()
        for transport in (1, 2):
            self.network.ports.pop(RAW, None)
            self.local(lambda data: b"", RAW)
            self.ask(server, transport)
            number = 1 + 2 * transport
            self.send(server, bytes.fromhex(window(number, 2)), bytes.fromhex(data(number, b"x")))
            self.locals[-1].transport.write(b"HTTP/1.0 200 OK\r\n\r\nall")
            self.locals[-1].transport.loseConnection()
            self.network.settle()
            frames = self.frames(server)
            self.assertTrue(frames[-2].endswith(b"all"), frames)
            self.assertEqual(frames[-1], bytes.fromhex(window(number, 4)))

    def test_theEndOfTheVisitorIsPassedOn(self) -> None:
        self.local(port=RAW)
        server = self.connected()
        self.ask(server, 2)
        self.send(server, bytes.fromhex(window(3, 2)), bytes.fromhex(data(3, b"ping")), bytes.fromhex(window(3, 4)))
        self.network.settle()
        self.assertEqual(self.locals[0].got, b"ping")
        self.assertIsNotNone(self.locals[0].lost)
        self.assertEqual(self.frames(server)[-1], bytes.fromhex(window(3, 4)))

    def test_aLocalServerThatKeepsItsConnectionIsNotWaitedForForEver(self) -> None:
        class Stubborn(Local):
            def readConnectionLost(self) -> None: ...
            def writeConnectionLost(self) -> None: ...

        from twisted.internet.interfaces import IHalfCloseableProtocol
        from zope.interface import classImplements

        classImplements(Stubborn, IHalfCloseableProtocol)
        self.network.listenTCP(WEB, self.factory(Stubborn, self.locals))
        server = self.connected()
        self.ask(server)
        self.send(server, bytes.fromhex(window(3, 2)), bytes.fromhex(data(3, REQUEST)), bytes.fromhex(window(3, 4)))
        self.assertIsNone(self.locals[0].lost)
        self.network.passTime(FINISH_SECONDS)
        self.assertIsNotNone(self.locals[0].lost)
        self.assertEqual(self.dialect.report()["streams"], 0)

    @changes("agent [[koding]] idle_seconds")
    def test_aConnectionOnWhichNothingPassesIsClosed(self) -> None:
        """
        Bug 2: a genuine server does not report that its visitor has left.
        """
        self.local(port=RAW)
        server = self.connected(idleSeconds=8.0)
        self.ask(server, 2)
        for _ in range(3):
            self.network.passTime(7)
            self.send(server, bytes.fromhex(data(3, b"x")))
        self.assertIsNone(self.locals[0].lost)
        self.network.passTime(16)
        self.assertIsNotNone(self.locals[0].lost)
        self.assertEqual(self.dialect.report()["streams"], 0)

    def test_aStreamThatIsResetWhileItDialsLeavesNothing(self) -> None:
        dialling: Deferred[Any] = Deferred()
        server = self.connected()
        self.dialect._streams._targets = {1: {0: mock.Mock(connect=lambda factory: dialling)}}
        self.send(server, bytes.fromhex(control(1, 0)))
        self.assertEqual(self.dialect.report()["streams"], 1)
        self.send(server, bytes.fromhex(window(3, 8)))
        self.assertEqual(self.dialect.report()["streams"], 0)
        self.assertTrue(dialling.called)

    def test_nonsenseOnTheControlStreamEndsTheSession(self) -> None:
        for nonsense in (b"[]", b"nonsense", b'{"localPort":"80"}', b'{"localPort":1.5}', b"null", b'{"x":"' + b"y" * 5000):
            self.setUp()
            server = self.connected()
            self.send(server, bytes.fromhex(data(1, nonsense)))
            self.network.passTime(1.2, 0.1)
            self.assertIsNotNone(server.lost, nonsense)
            self.network.passTime(1.0, 0.1)
            self.assertEqual(len(self.servers), 2)
            self.stop(self.service)


class LifeTests(AgentCase):
    """
    Attempts and waits.
    """

    def waits(self, count: int) -> list[float]:
        """
        @return: the seconds between attempts that all fail.
        """
        found, last = [], self.network.seconds()
        for _ in range(count):
            before = len(self.servers)
            self.send(self.servers[-1], b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            while len(self.servers) == before:
                self.network.passTime(0.05, 0.05)
            found.append(round(self.network.seconds() - last, 1))
            last = self.network.seconds()
        return found

    def test_waitsGrowByHalfUpToAMinuteAndStartAgainAfterASession(self) -> None:
        self.agent()
        waits = self.waits(14)
        for found, wanted in zip(waits, [0.5, 0.75, 1.1, 1.7, 2.5, 3.8, 5.7, 8.5, 12.8, 19.2, 28.8, 43.2, 60, 60], strict=True):
            self.assertLess(abs(found - wanted), 0.15)
        server = self.shake()
        server.transport.loseConnection()
        self.network.passTime(0.6, 0.1)
        self.assertGreater(len(self.servers), 15)

    def test_waitsAreVariedByHalf(self) -> None:
        from tunnelstack.dialect.exponential_backoff import ExponentialBackoff

        for chance, wanted in ((0.0, [0.25, 0.375]), (1.0, [0.75, 1.125])):
            backoff = ExponentialBackoff(lambda: chance)
            self.assertEqual([backoff.next(), backoff.next()], wanted)

    def test_aServerThatDisplacesAnotherConnectionIsTriedAgain(self) -> None:
        self.agent()
        body = koding.already_connected(b"1234")
        self.send(self.servers[0], b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        self.network.passTime(0.6, 0.1)
        self.assertEqual(len(self.servers), 2)
        self.shake()

    def test_anUnknownIdentifierEndsTheAgentAndIsNotLogged(self) -> None:
        self.file.write_text("s3cr3t")
        service = self.agent()
        failed = service.whenFailed()
        body = koding.unknown_identifier(b"s3cr3t")
        self.send(self.servers[0], b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        error = self.successResultOf(failed)
        self.assertIsInstance(error, CredentialRefused)
        self.assertNotIn("s3cr3t", str([{key: str(value) for key, value in event.items()} for event in self.events]))
        self.assertNotIn("s3cr3t", str(error))

    def test_anotherServerEndsTheAgent(self) -> None:
        for answer in (
            b"HTTP/1.1 200 OK\r\n\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 404 Not Found\r\n\r\n", b"\x15\x03\x01\x00\x02",
        ):
            self.setUp()
            service = self.agent()
            failed = service.whenFailed()
            self.send(self.servers[0], answer)
            self.assertIsInstance(self.successResultOf(failed), WrongProtocol, answer)

    def test_noAnswerIsTriedAgain(self) -> None:
        self.agent()
        self.network.passTime(32)
        self.assertEqual(len(self.servers), 2)
        self.assertIsNotNone(self.servers[0].lost)

    def test_aServerThatClosesWithoutAnAnswerIsTriedAgain(self) -> None:
        self.agent()
        self.servers[0].transport.loseConnection()
        self.network.passTime(0.6, 0.1)
        self.assertEqual(len(self.servers), 2)

    def test_aWrongHandshakeEndsTheAgent(self) -> None:
        service = self.agent()
        failed = service.whenFailed()
        self.send(self.servers[0], ANSWER)
        self.send(self.servers[0], bytes.fromhex(window(1, 2)), bytes.fromhex(data(1, b"controlNo")))
        self.assertIsInstance(self.successResultOf(failed), WrongProtocol)

    def test_noHandshakeIsTriedAgain(self) -> None:
        self.agent()
        self.send(self.servers[0], ANSWER)
        self.network.passTime(11)
        self.assertEqual(len(self.servers), 2)

    def test_statesAreReported(self) -> None:
        self.agent()
        changes: list[str] = []
        self.dialect.states.watch(lambda change: changes.append(change.current.name))
        self.assertEqual(self.dialect.states.state("127.0.0.1:7002"), ClientState.CONNECTING)
        server = self.shake()
        server.transport.loseConnection()
        self.network.passTime(0.6, 0.1)
        self.shake()
        self.stop(self.service)
        self.assertEqual(changes, ["CONNECTED", "DISCONNECTED", "CONNECTING", "CONNECTED", "CLOSED"])
        self.assertEqual(self.dialect.report(), {"up": False, "state": "ClientClosed", "streams": 0})

    def test_theIdentifierIsReadAnewForEachAttempt(self) -> None:
        self.agent()
        self.file.write_text("5678")
        self.servers[0].transport.loseConnection()
        self.network.passTime(0.6, 0.1)
        self.assertIn(b"Identifier: 5678\r\n", self.servers[1].got)

    def test_requestsUnderWayAreFinishedWhenTheServerDisconnects(self) -> None:
        self.local(lambda data: b"")
        server = self.connected()
        self.send(server, bytes.fromhex(control(1, 0)), bytes.fromhex(window(3, 2)), bytes.fromhex(data(3, REQUEST)))
        self.send(server, bytes.fromhex(window(1, 4)))
        self.network.passTime(2)
        self.assertIsNone(server.lost)
        self.locals[0].transport.write(RESPONSE)
        self.network.settle()
        self.assertIn(RESPONSE, server.take())
        self.send(server, bytes.fromhex(window(3, 4)))
        self.network.passTime(1.2, 0.1)
        self.assertIsNotNone(server.lost)

    def test_requestsThatDoNotFinishAreNotWaitedForForEver(self) -> None:
        self.local(lambda data: b"")
        server = self.connected()
        self.send(server, bytes.fromhex(control(1, 0)), bytes.fromhex(window(3, 2)), bytes.fromhex(data(3, REQUEST)))
        self.send(server, bytes.fromhex(window(1, 4)))
        self.network.passTime(12)
        self.assertIsNotNone(server.lost)

    def test_aStoppingAgentFinishesRequestsFirst(self) -> None:
        self.local(lambda data: b"")
        server = self.connected()
        self.send(server, bytes.fromhex(control(1, 0)), bytes.fromhex(window(3, 2)), bytes.fromhex(data(3, REQUEST)))
        server.take()
        stopped: Any = self.service.stopService()
        self.network.settle()
        self.assertEqual(split(server.take()), [bytes.fromhex("000300000000000000000000")])
        self.locals[0].transport.write(RESPONSE)
        self.send(server, bytes.fromhex(window(3, 4)))
        self.network.settle()
        frames = split(server.take())
        self.assertTrue(frames[0].endswith(RESPONSE))
        self.assertEqual(frames[-1], bytes.fromhex(window(1, 4)))
        self.send(server, bytes.fromhex(window(1, 4)))
        self.network.passTime(1)
        self.successResultOf(stopped)
        self.assertIsNotNone(server.lost)

    def test_anIdentifierOverPlainHTTPToAnotherMachineIsRefused(self) -> None:
        self.assertRaises(ConfigurationError, self.agent, url="http://tunnels.example.net")
        self.assertRaises(ConfigurationError, self.agent, identifierFile="/nonexistent")
