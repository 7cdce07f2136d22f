"""
C{tunnelstack terminal}: its command line, its escape sequence, and both ends of a session.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.promises.streams import Producer
from tunnelstack.commands.terminal import EscapeFilter, Options, TerminalSession
from tunnelstack.errors import PeerError
from tunnelstack.wire.terminal import (
    TerminalMessageReader,
    WindowSize,
    encode_terminal_data,
    encode_window_size,
)


class OptionsTests(SynchronousTestCase):
    def test_oneNameIsNeeded(self) -> None:
        for arguments in ([], ["one", "two"]):
            self.assertRaises(usage.UsageError, Options({}).parseOptions, arguments)


class EscapeTests(SynchronousTestCase):
    def filtered(self, *pieces: bytes) -> tuple[bytes, bool]:
        escapes, sent = EscapeFilter(), b""
        for piece in pieces:
            octets, left = escapes.filter(piece)
            sent += octets
            if left:
                return sent, True
        return sent, False

    def test_aTildeAndADotAtTheBeginningOfALineLeave(self) -> None:
        for pieces, sent in (
            ((b"~.",), b""), ((b"~", b"."), b""), ((b"ls\r~.more",), b"ls\r"), ((b"ls\n", b"~", b".x"), b"ls\n"),
        ):  # fmt: skip
            self.assertEqual(self.filtered(*pieces), (sent, True))

    def test_everythingElseIsSent(self) -> None:
        for typed, sent in (
            (b"ls ~.", b"ls ~."), (b"~/x", b"~/x"), (b"~~.", b"~."), (b"a~.\r", b"a~.\r"), (b"~\r~x", b"~\r~x"), (b"", b""),
        ):  # fmt: skip
            self.assertEqual(self.filtered(typed), (sent, False))

    @given(st.binary(max_size=30).filter(lambda octets: b"~" not in octets))
    def test_withoutATildeNothingChanges(self, octets: bytes) -> None:
        self.assertEqual(self.filtered(octets), (octets, False))


class Transport(Producer):
    """
    Remembers what is written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.producer: Any = None
        self.closed = False

    def write(self, octets: bytes) -> None:
        self.written += octets

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseConnection(self) -> None:
        self.closed = True


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ended: list[Failure] = []
        self.size = WindowSize(100, 30)
        self.session = TerminalSession(self.ended.append, lambda: self.size)
        self.far, self.near = Transport(), Transport()
        self.session.far.makeConnection(self.far)  # type: ignore[arg-type]
        self.session.near.makeConnection(self.near)  # type: ignore[arg-type]

    def sent(self) -> list[Any]:
        return TerminalMessageReader().receive_data(self.far.written)

    def test_theSizeIsSentFirstAndWhenItChanges(self) -> None:
        self.size = WindowSize(80, 24)
        self.session.windowChanged()
        self.assertEqual(self.sent(), [WindowSize(100, 30), WindowSize(80, 24)])

    def test_keysAreSentAndOutputIsShown(self) -> None:
        self.session.near.dataReceived(b"ls\r")
        self.assertEqual(self.sent()[1:], [b"ls\r"])
        for octet in encode_terminal_data(b"file\r\n"):
            self.session.far.dataReceived(bytes((octet,)))
        self.assertEqual(self.near.written, b"file\r\n")

    def test_theSlowerEndPausesTheOther(self) -> None:
        self.far.producer.pauseProducing()
        self.near.producer.pauseProducing()
        self.assertEqual((self.near.asked, self.far.asked), (["pause"], ["pause"]))

    def assertEnded(self, kind: type[Exception]) -> None:
        self.assertEqual([failure.check(kind) for failure in self.ended], [kind])
        self.assertTrue(self.far.closed and self.near.closed)
        self.session.windowChanged()
        self.session.far.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(self.ended), 1)

    def test_theRemoteEndEnds(self) -> None:
        self.session.far.connectionLost(Failure(ConnectionDone()))
        self.assertEnded(ConnectionDone)

    def test_aLostStreamIsSaid(self) -> None:
        self.session.far.connectionLost(Failure(ConnectionLost()))
        self.assertEnded(ConnectionLost)

    def test_theEscapeSequenceEndsIt(self) -> None:
        self.session.near.dataReceived(b"\r~.")
        self.assertEnded(ConnectionDone)

    def test_theEndOfTheInputEndsIt(self) -> None:
        self.session.near.connectionLost(Failure(ConnectionLost()))
        self.assertEnded(ConnectionDone)

    def test_nonsenseEndsIt(self) -> None:
        self.session.far.dataReceived(encode_window_size(WindowSize(0, 1)))
        self.assertEnded(PeerError)
