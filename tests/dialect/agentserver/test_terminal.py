"""
Terminals: the edge's end with agents as a test has them, the agent's end with programs as a test has them, and real shells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.dialect.agentserver.support import Agent, Proxy
from tests.dialect.agentserver.test_edge import EdgeCase
from tests.promises.streams import Collect, Producer
from tests.wire.vectors_agentserver import RESIZED, TERMINAL_HEAD, TYPED
from tunnelstack.dialect.agentserver.terminal_endpoint import HIGH
from tunnelstack.dialect.agentserver.terminal_streams import TerminalStreams, runShell
from tunnelstack.errors import Denied
from tunnelstack.handler.terminal import TerminalProgram
from tunnelstack.records import Principal
from tunnelstack.testing import sessionPair
from tunnelstack.wire.records.agentserver_terminal import HISTORY, LARGEST_DATA, encode_data, encode_resize
from tunnelstack.wire.terminal import (
    TerminalMessageReader,
    WindowSize,
    encode_terminal_data,
    encode_window_size,
)


class EdgeEndTests(EdgeCase):
    """
    The edge's end.
    """

    def setUp(self) -> None:
        super().setUp()
        tunnel = self.proxy.dialect.tunnels["sbx-1"]
        self.near = self.successResultOf(tunnel.openTerminal(Factory.forProtocol(Collect)))
        self.settle()

    def passTime(self, seconds: float = 1.0) -> None:
        self.proxy.network.passTime(seconds, step=0.01)

    def messages(self) -> list[bytes]:
        """
        What arrived at the agent after the head, as its reads see it.
        """
        return self.stream().pieces[1:]

    def test_theHeadComesAloneAndFirst(self) -> None:
        self.assertEqual(self.stream().pieces, [TERMINAL_HEAD])

    def test_messagesAreThoseOfAGenuineServer(self) -> None:
        self.near.transport.write(encode_terminal_data(b"ls\r") + encode_window_size(WindowSize(80, 24)))
        self.passTime()
        self.assertEqual(self.messages(), [TYPED, RESIZED])

    def test_messagesLeaveTheAgentTime(self) -> None:
        """
        A genuine agent that reads two messages at once takes the second for what is typed.
        """
        self.near.transport.write(encode_terminal_data(b"a"))
        self.near.transport.write(encode_window_size(WindowSize(80, 24)))
        self.near.transport.write(encode_terminal_data(b"b"))
        self.settle()
        self.assertEqual(self.messages(), [encode_data(b"a")])
        self.proxy.network.passTime(0.02, step=0.02)
        self.assertEqual(len(self.messages()), 2)
        self.passTime()
        self.assertEqual(self.messages(), [encode_data(b"a"), RESIZED, encode_data(b"b")])

    def test_whatIsTypedMeanwhileIsOneMessage(self) -> None:
        for octet in b"hello":
            self.near.transport.write(encode_terminal_data(bytes((octet,))))
        self.passTime()
        self.assertEqual(self.messages(), [encode_data(b"h"), encode_data(b"ello")])

    def test_aSizeThatWaitsIsReplaced(self) -> None:
        self.near.transport.write(encode_terminal_data(b"a"))
        for columns in range(80, 120):
            self.near.transport.write(encode_window_size(WindowSize(columns, 24)))
        self.passTime()
        self.assertEqual(self.messages()[1:], [encode_resize(WindowSize(119, 24))])

    def test_noMessageIsLongerThanARead(self) -> None:
        typed = bytes(range(256)) * 64
        self.near.transport.write(encode_terminal_data(typed))
        self.passTime(2)
        self.assertEqual([len(message) for message in self.messages()], [4096] * 4 + [len(typed) - 4 * LARGEST_DATA + 1])
        self.assertEqual(b"".join(message[1:] for message in self.messages()), typed)

    def test_aLongPasteIsPaced(self) -> None:
        producer = Producer()
        self.near.transport.registerProducer(producer, True)
        self.near.transport.write(encode_terminal_data(b"x" * (2 * HIGH)))
        self.assertEqual(producer.asked, ["pause"])
        self.passTime(2)
        self.assertEqual(producer.asked, ["pause", "resume"])
        self.assertEqual(sum(len(message) - 1 for message in self.messages()), 2 * HIGH)

    def test_anAgentThatDoesNotReadIsWaitedFor(self) -> None:
        self.stream().transport.pauseProducing()
        producer = Producer()
        self.near.transport.registerProducer(producer, True)
        typed = 0
        while "pause" not in producer.asked:
            self.near.transport.write(encode_terminal_data(b"x" * 50_000))
            typed += 50_000
            self.passTime(2)
        self.passTime(30)
        self.assertEqual(producer.asked, ["pause"])
        self.stream().transport.resumeProducing()
        self.passTime(10)
        self.assertEqual(producer.asked, ["pause", "resume"])
        self.assertEqual(sum(len(message) - 1 for message in self.messages()), typed)

    def test_whatIsShownArrives(self) -> None:
        for piece in (encode_data(b"$ "), encode_data(b"ls\r\n")):
            self.stream().transport.writeRecord(piece)
        self.settle()
        self.assertEqual(TerminalMessageReader().receive_data(self.near.got), [b"$ ", b"ls\r\n"])

    def test_aLongHistoryIsShown(self) -> None:
        """
        In one message, whose later frames have no type.
        """
        self.stream().transport.write(encode_data(b"h" * HISTORY))
        self.settle()
        shown = b"".join(TerminalMessageReader().receive_data(self.near.got))  # type: ignore[arg-type]
        self.assertEqual(len(shown), HISTORY)

    def test_theAgentEndsIt(self) -> None:
        self.stream().transport.loseConnection()
        self.settle()
        self.passTime()
        assert isinstance(self.near.reason, Failure)
        self.assertTrue(self.near.reason.check(ConnectionDone))
        self.assertEqual(self.agent.session.streams, 0)

    def test_theUserEndsItAfterEverythingWasTyped(self) -> None:
        self.near.transport.write(encode_terminal_data(b"x" * 10_000))
        self.near.transport.loseConnection()
        self.passTime()
        self.assertEqual(sum(len(message) - 1 for message in self.messages()), 10_000)
        self.assertIn("read ended", self.stream().told)

    def test_nonsenseOfTheUserEndsItsTerminalOnly(self) -> None:
        self.near.transport.write(b"\x01\x00\x02zz")
        self.settle()
        self.assertIsNotNone(self.stream().reason)
        self.assertEqual(self.agent.lost, [])

    def test_aLostSessionEndsIt(self) -> None:
        self.agent.session.abort()
        self.settle()
        self.assertIsNotNone(self.near.reason)


class RightTests(SynchronousTestCase):
    """
    C{terminal:GLOB}.
    """

    def reach(self, *allow: str, to: str = "demo") -> Any:
        proxy = Proxy()
        Agent(proxy).connect()
        return proxy.edge.agents.reach(Principal(agent="ada", allow=allow), to, "terminal")

    def test_theRightIsOfItsOwn(self) -> None:
        for allow in ((), ("dial:*", "http:*", "ssh", "stream:*"), ("terminal:other",)):
            denied = self.assertRaises(Denied, self.reach, *allow)
            self.assertEqual((denied.code, denied.sentence), ("not-allowed", "the token does not allow terminal:demo"))

    def test_aGlobNamesAgents(self) -> None:
        for allow in ("terminal:demo", "terminal:d*", "terminal:*"):
            tunnel, _ = self.reach(allow)
            self.assertEqual(tunnel.key, "demo")

    def test_anAgentThatIsNotThereIsSaid(self) -> None:
        self.assertEqual(self.assertRaises(Denied, self.reach, "terminal:*", to="gone").code, "absent")


class Process:
    """
    The transport of a program.
    """

    def __init__(self) -> None:
        self.typed = b""
        self.told: list[str] = []
        self.producers: list[Any] = []
        self.pid = 0

    def write(self, octets: bytes) -> None:
        self.typed += octets

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert not self.producers
        self.producers.append(producer)

    def unregisterProducer(self) -> None:
        self.producers.clear()

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class AgentEndTests(SynchronousTestCase):
    """
    The agent's end.
    """

    def setUp(self) -> None:
        self.started: list[TerminalProgram] = []
        self.sizes: list[WindowSize] = []
        self.fails = False
        self.terminal = TerminalStreams(self.start)
        self.wire, self.server, self.far = sessionPair(self.terminal)
        self.wire.settle()

    def start(self, program: TerminalProgram, size: WindowSize) -> None:
        if self.fails:
            raise OSError(2, "No such file")
        self.sizes.append(size)
        self.patch(program, "resize", self.sizes.append)
        self.started.append(program)
        program.makeConnection(Process())  # type: ignore[arg-type]

    @property
    def program(self) -> TerminalProgram:
        return self.started[-1]

    def open(self) -> Any:
        stream = self.successResultOf(self.server.connector.connect(Factory.forProtocol(Collect)))
        self.wire.settle()
        return stream

    def type(self, stream: Any, *messages: bytes) -> None:
        for message in messages:
            stream.transport.writeRecord(message)
        self.wire.settle()

    def show(self, octets: bytes) -> None:
        self.program.outReceived(octets)
        self.wire.settle()

    def test_aShellIsStartedWithTheFirstStream(self) -> None:
        self.assertEqual(self.started, [])
        self.open()
        self.assertEqual((len(self.started), self.sizes), (1, [WindowSize(120, 40)]))

    def test_inputAndOutputArePassedOn(self) -> None:
        stream = self.open()
        self.type(stream, TYPED, RESIZED, encode_data(b"\x00\x01"))
        self.assertEqual(self.program.transport.typed, b"ls\r\x00\x01")
        self.assertEqual(self.sizes, [WindowSize(120, 40), WindowSize(80, 24)])
        self.show(b"file\r\n")
        self.assertEqual(stream.got, encode_data(b"file\r\n"))

    def test_outputTravelsInMessagesOfOneRead(self) -> None:
        stream = self.open()
        self.type(stream, TYPED)
        self.show(b"x" * 10_000)
        self.assertEqual([len(piece) for piece in stream.pieces], [4096, 4096, 10_000 - 2 * LARGEST_DATA + 1])

    def test_theShellSurvivesItsStream(self) -> None:
        first = self.open()
        self.type(first, TYPED)
        self.show(b"before ")
        first.transport.loseConnection()
        self.wire.settle()
        self.assertEqual(self.program.transport.producers, [])
        self.assertNotIn("stop", self.program.transport.told)
        self.show(b"meanwhile ")
        second = self.open()
        self.type(second, TYPED)
        self.assertEqual((second.got, len(self.started)), (encode_data(b"before meanwhile "), 1))

    def test_aNewStreamClosesTheFormer(self) -> None:
        first = self.open()
        self.type(first, TYPED)
        second = self.open()
        self.type(second, TYPED)
        self.assertIsNotNone(first.reason)
        self.show(b"for the second")
        self.assertEqual((first.got, second.got), (b"", encode_data(b"for the second")))

    def test_theHistoryHasABound(self) -> None:
        first = self.open()
        self.type(first, TYPED)
        first.transport.abortConnection()
        self.wire.settle()
        for _ in range(100):
            self.show(b"x" * 10_000)
        second = self.open()
        self.type(second, TYPED)
        self.assertLessEqual(len(second.got), HISTORY * 5 // 4 + HISTORY // LARGEST_DATA + 100)
        self.assertGreaterEqual(len(second.got), HISTORY)

    def test_anExitEndsTheStreamAndTheNextOneHasANewShell(self) -> None:
        first = self.open()
        self.type(first, TYPED)
        self.program.processEnded(Failure(ConnectionDone()))
        self.wire.settle()
        self.assertIsNotNone(first.reason)
        second = self.open()
        self.type(second, TYPED)
        self.assertEqual((len(self.started), second.got), (2, b""))

    def test_aShellThatCannotBeRunEndsTheStream(self) -> None:
        self.fails = True
        stream = self.open()
        self.type(stream, TYPED)
        self.assertIsNotNone(stream.reason)
        self.assertEqual(self.started, [])

    def test_aReaderThatStopsPausesTheShell(self) -> None:
        stream = self.open()
        self.type(stream, TYPED)
        stream.transport.pauseProducing()
        for _ in range(100):
            if "pause" in self.program.transport.told:
                break
            self.show(b"x" * 10_000)
        self.assertIn("pause", self.program.transport.told)

    def test_aStreamThatIsLostDoesNotLeaveTheShellPaused(self) -> None:
        self.test_aReaderThatStopsPausesTheShell()
        self.server.abort()
        self.wire.settle()
        self.assertEqual(self.program.transport.told[-1], "resume")


class MessageTests(SynchronousTestCase):
    """
    Terminal messages between an edge and who uses the terminal.
    """

    @given(st.lists(st.one_of(st.binary(min_size=1, max_size=50), st.tuples(st.integers(1, 65535), st.integers(1, 65535)))))
    def test_everyMessageIsReadAtEverySplit(self, sent: list[Any]) -> None:
        octets = b"".join(
            encode_terminal_data(each) if isinstance(each, bytes) else encode_window_size(WindowSize(*each)) for each in sent
        )
        expected = self.joined([each if isinstance(each, bytes) else WindowSize(*each) for each in sent])
        for size in (len(octets) or 1, 1, 3):
            reader, found = TerminalMessageReader(), []
            for start in range(0, len(octets), size):
                found += reader.receive_data(octets[start : start + size])
            self.assertEqual(self.joined(found), expected)

    def joined(self, messages: list[Any]) -> list[Any]:
        result: list[Any] = []
        for message in messages:
            if isinstance(message, bytes) and result and isinstance(result[-1], bytes):
                result[-1] += message
            else:
                result.append(message)
        return result

    def test_longOctetsAreSeveralMessages(self) -> None:
        octets = encode_terminal_data(b"x" * 100_000)
        self.assertEqual(len(octets), 100_006)
        self.assertEqual(len(b"".join(TerminalMessageReader().receive_data(octets))), 100_000)  # type: ignore[arg-type]

    def test_otherTypesAreIgnored(self) -> None:
        self.assertEqual(TerminalMessageReader().receive_data(b"\x07\x00\x02zz" + encode_terminal_data(b"a")), [b"a"])


class ShellTests(TestCase):
    """
    A real shell in a real terminal.
    """

    timeout = 30

    def setUp(self) -> None:
        self.terminal = TerminalStreams(runShell(reactor, "/bin/sh"))  # type: ignore[arg-type]
        self.wire, self.server, _ = sessionPair(self.terminal, clock=Clock())
        self.stream = self.successResultOf(self.server.connector.connect(Factory.forProtocol(Collect)))
        self.wire.settle()
        self.addCleanup(self.end)

    def end(self) -> Deferred[None] | None:
        program = self.terminal.program
        if program is None:
            return None
        self.terminal.close()
        return self.until(lambda: self.terminal.program is None)

    def until(self, condition: Any) -> Deferred[None]:
        """
        Move octets until something has happened.
        """
        self.wire.settle()
        if condition():
            return deferLater(reactor, 0)  # type: ignore[arg-type]
        return deferLater(reactor, 0.01, self.until, condition)  # type: ignore[arg-type]

    def type(self, text: bytes) -> None:
        self.stream.transport.writeRecord(encode_data(text))
        self.wire.settle()

    @property
    def shown(self) -> bytes:
        return b"".join(piece[1:] for piece in self.stream.pieces)

    async def test_theShellHasATerminalOfTheSizeThatIsAskedFor(self) -> None:
        self.type(b"stty size; echo term=$TERM\r")
        await self.until(lambda: b"40 120" in self.shown and b"term=xterm-256color" in self.shown)
        self.stream.transport.writeRecord(encode_resize(WindowSize(80, 24)))
        self.type(b"stty size\r")
        await self.until(lambda: b"24 80" in self.shown)

    async def test_anExitIsTheEnd(self) -> None:
        self.type(b"echo by''e; exit 3\r")
        await self.until(lambda: self.stream.reason is not None)
        self.assertIn(b"bye", self.shown)
        self.assertIsNone(self.terminal.program)

    async def test_controlCInterrupts(self) -> None:
        self.type(b"sleep 100; echo rc=$?\r")
        await self.until(lambda: b"sleep 100" in self.shown)
        await deferLater(reactor, 0.2)  # type: ignore[arg-type]
        self.type(b"\x03")
        self.type(b"echo rc=$?\r")
        await self.until(lambda: b"rc=130" in self.shown)

    async def test_theShellOutlivesItsStream(self) -> None:
        self.type(b"X=kept\r")
        await self.until(lambda: b"X=kept" in self.shown)
        self.stream.transport.loseConnection()
        self.wire.settle()
        self.stream = await self.server.connector.connect(Factory.forProtocol(Collect))
        self.type(b"echo $X$X\r")
        await self.until(lambda: b"keptkept" in self.shown)

    async def test_aShellThatDoesNotExistEndsTheStream(self) -> None:
        terminal = TerminalStreams(runShell(reactor, str(Path(self.mktemp()))))  # type: ignore[arg-type]
        wire, server, _ = sessionPair(terminal, clock=Clock())
        stream: Any = await server.connector.connect(Factory.forProtocol(Collect))
        ours, self.wire = self.wire, wire
        await self.until(lambda: stream.reason is not None)
        self.wire = ours


