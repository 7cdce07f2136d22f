"""
The short path of binary frames, beside autobahn's parser of all frames.
"""

from __future__ import annotations

import os
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.rawpeer import BINARY, CLOSE, CONTINUATION, MASK, PING, TEXT, frame
from tests.transport.test_direct_write import _Reactor
from tests.transport.test_send_buffer import pair
from tunnelstack.transport.websocket._autobahn import SHORT, xor
from tunnelstack.transport.websocket._connection import CLOSED, LARGE_READ, READ, WebSocketConnection

LIMIT = 70_000


class Listener:
    """
    Writes down what is reported, with all octets of a message, or without records of everything, in one.
    """

    readPaused = False
    maxMessage = LIMIT

    def __init__(self, records: bool) -> None:
        self.records = records
        self.octets = b""
        self.told: list[Any] = []

    def connectionMade(self) -> None: ...

    def octetsReceived(self, octets: bytes) -> None:
        assert octets.__class__ is bytes
        self.octets += octets

    def messageEnded(self, text: bool) -> None:
        self.told.append((text, self.octets))
        self.octets = b""

    def pongReceived(self, payload: bytes) -> None:
        self.told.append(payload)

    def closeReceived(self, code: int | None, reason: str) -> None:
        self.told.append((code, reason))

    def protocolViolated(self, code: int, reason: str) -> None:
        self.told.append((code, reason))


def play(server: bool, records: bool, pieces: list[bytes]) -> tuple[Any, ...]:
    """
    @return: what came of it, up to the end of the last message in records.
    """
    listener, network = Listener(records), StringTransport()
    connection = WebSocketConnection(server, listener)          # type: ignore[arg-type]
    connection.makeConnection(network)                          # type: ignore[arg-type]
    connection.webSocketOpened(listener)                        # type: ignore[arg-type]
    for piece in pieces:
        connection.dataReceived(piece)
    answers = network.value() if server else b""                # a client masks them with random keys
    ended = connection.state == CLOSED
    return listener.told, listener.octets, answers, ended, not ended and connection.messagePending


def cut(octets: bytes, at: list[int]) -> list[bytes]:
    places = sorted({place % (len(octets) + 1) for place in at})
    return [octets[a:b] for a, b in zip([0, *places], [*places, len(octets)], strict=True) if b > a]


lengths = st.sampled_from([0, 1, 3, 125, 126, 300, SHORT, SHORT + 1, 5000, 65535, 65536, LIMIT])
kinds = st.sampled_from([BINARY] * 6 + [CONTINUATION] * 3 + [TEXT, PING, CLOSE, 3])


@st.composite
def frames(draw: st.DrawFn, mask: bytes | None) -> bytes:
    kind, length = draw(kinds), draw(lengths)
    payload = b"text" if kind == TEXT else os.urandom(length) if kind in (BINARY, CONTINUATION) else b""
    octets = frame(kind, payload, mask=mask, fin=kind == PING or draw(st.booleans()))
    fault = draw(st.integers(0, 40))
    if fault == 0:
        octets = bytes([octets[0] | 0x40]) + octets[1:]         # a bit that is reserved
    elif fault == 1:
        octets = octets[:1] + bytes([octets[1] ^ 0x80]) + octets[2:]     # masked, or not masked
    elif fault == 2:
        octets = octets[:1] + bytes([octets[1] & 0x80 | 126, 0, 5]) + (mask or b"") + bytes(5)
    elif fault == 3:
        octets = octets[:1] + bytes([octets[1] & 0x80 | 127]) + (1000).to_bytes(8, "big") + (mask or b"") + bytes(1000)
    elif fault == 4:
        octets = octets[:1] + bytes([octets[1] & 0x80 | 127]) + b"\xff" * 8 + (mask or b"")
    return octets


class BinaryFrames(SynchronousTestCase):
    """
    What is taken by the short path is what autobahn's parser makes of it, however it is cut.
    """

    @given(st.data(), st.booleans(), st.booleans(), st.lists(st.integers(0, 1 << 20), max_size=12))
    def test_theShortPathDoesWhatTheParserDoes(self, data: st.DataObject, server: bool, records: bool, at: list[int]) -> None:
        pieces = cut(b"".join(data.draw(st.lists(frames(MASK if server else None), max_size=8))), at)
        ours = play(server, records, pieces)
        with (
            patch.object(WebSocketConnection, "_takeMessage", lambda self, data: False),
            patch.object(WebSocketConnection, "_takeBinary", lambda self: False),
        ):
            self.assertEqual(ours, play(server, records, pieces))

    def test_noReadIsTakenForOneMessageByItsSizeOnly(self) -> None:
        for server in (True, False):
            for code in (126, 127, 128, 130, 253, 254, 255):    # of the length, where the payload has as many octets
                for size in (code, code & 127, 125):
                    pieces = [bytes([0x80 | BINARY, code]) + (MASK if server else b"") + bytes(size)]
                    ours = play(server, False, pieces)
                    with patch.object(WebSocketConnection, "_takeMessage", lambda self, data: False):
                        self.assertEqual(ours, play(server, False, pieces))

    def test_aBinaryMessageAfterATextIsBinaryWhereverItIsCut(self) -> None:
        for server in (True, False):
            mask = MASK if server else None
            binary = frame(BINARY, b"\xff", fin=False, mask=mask) + frame(CONTINUATION, b"\xff", mask=mask)
            octets = frame(TEXT, b"text", mask=mask) + binary
            for at in range(len(octets)):
                told, *_ = play(server, True, cut(octets, [at]))
                self.assertEqual(told, [(True, b"text"), (False, b"\xff\xff")])

    def test_itTakesFragmentsAndFramesThatAreCut(self) -> None:
        octets = os.urandom(40_000)
        message = frame(BINARY, octets[:20_000], fin=False, mask=MASK) + frame(CONTINUATION, octets[20_000:], mask=MASK)
        with patch("tunnelstack.transport.websocket._autobahn.FrameParser.processData", side_effect=AssertionError):
            told, got, *_ = play(True, False, [message[:13], message[13:20_001], message[20_001:]])
        self.assertEqual((told, got), ([], octets))

    @given(st.binary(min_size=4, max_size=4), st.integers(0, 3 * SHORT), st.integers(0, 9))
    def test_maskingIsExclusiveOr(self, key: bytes, length: int, start: int) -> None:
        octets = os.urandom(start + length)
        expected = bytes(octet ^ key[at % 4] for at, octet in enumerate(octets[start:]))
        self.assertEqual(xor(key, octets, start, len(octets)), expected)


class Reads(SynchronousTestCase):
    """
    How much is read at once from TCP.
    """

    def setUp(self) -> None:
        near, far = pair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        listener = Listener(False)
        self.connection = WebSocketConnection(True, listener)   # type: ignore[arg-type]
        self.network = Connection(near, self.connection, _Reactor())     # type: ignore[arg-type]
        self.connection.makeConnection(self.network)            # type: ignore[arg-type]
        self.connection.webSocketOpened(listener)               # type: ignore[arg-type]

    def test_readsOfASessionGrowWhileTheyAreFull(self) -> None:
        self.connection.writeImmediately()
        message = frame(BINARY, bytes(READ - 8), mask=MASK)
        for piece, following in ((message, LARGE_READ), (message * 2, LARGE_READ), (message[:99], READ), (message[99:], READ)):
            self.connection.dataReceived(piece)
            self.assertEqual(self.network.bufferSize, following)

    def test_othersReadAsTwistedDoes(self) -> None:
        self.connection.dataReceived(frame(BINARY, bytes(READ), mask=MASK))
        self.assertEqual(self.network.bufferSize, READ)
