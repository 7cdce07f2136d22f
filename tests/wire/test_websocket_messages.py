"""
Messages of WebSocket connections, read by an observer.
"""

from __future__ import annotations

import zlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.websocket_messages import (
    BINARY,
    CLOSE,
    CONTINUATION,
    INFLATED_OCTETS,
    PING,
    TEXT,
    BadFrame,
    DeflateParameters,
    WebSocketMessage,
    WebSocketMessageReader,
    deflate_parameters,
)

KEEP = 64


def frame(opcode: int, payload: bytes, mask: bytes = b"", final: bool = True, compressed: bool = False) -> bytes:
    """
    A frame as RFC 6455 has it.
    """
    size, flag = len(payload), 128 if mask else 0
    if size < 126:
        length = bytes((flag | size,))
    elif size < 65_536:
        length = bytes((flag | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((flag | 127,)) + size.to_bytes(8, "big")
    if mask:
        payload = bytes(octet ^ mask[index % 4] for index, octet in enumerate(payload))
    return bytes((opcode | (128 if final else 0) | (64 if compressed else 0),)) + length + mask + payload


class Deflater:
    """
    Compresses messages in one context, as RFC 7692 has it.
    """

    def __init__(self) -> None:
        self._context = zlib.compressobj(wbits=-15)

    def __call__(self, payload: bytes) -> bytes:
        return (self._context.compress(payload) + self._context.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


STREAM = (
    frame(TEXT, b"hel", b"\x01\x02\x03\x04", final=False) + frame(PING, b"now", b"abcd")
    + frame(CONTINUATION, b"lo", b"\x09\x08\x07\x06") + frame(BINARY, b"x" * 300, b"wxyz") + frame(TEXT, b"")
    + frame(CLOSE, b"\x03\xe8bye")
)  # fmt: skip
MESSAGES = [
    WebSocketMessage("ping", 3, b"now"), WebSocketMessage("text", 5, b"hello"),
    WebSocketMessage("binary", 300, b"x" * KEEP), WebSocketMessage("text", 0, b""),
    WebSocketMessage("close", 5, b"\x03\xe8bye"),
]  # fmt: skip


class PlainTests(SynchronousTestCase):
    """
    Messages that are not compressed.
    """

    def test_messagesAreReadAtEverySplit(self) -> None:
        for at in range(len(STREAM) + 1):
            reader = WebSocketMessageReader(KEEP)
            self.assertEqual(reader.receive_data(STREAM[:at]) + reader.receive_data(STREAM[at:]), MESSAGES)

    def test_messagesAreReadFromSingleOctets(self) -> None:
        reader = WebSocketMessageReader(KEEP)
        self.assertEqual([each for at in range(len(STREAM)) for each in reader.receive_data(STREAM[at : at + 1])], MESSAGES)

    @given(st.lists(st.integers(0, len(STREAM))))
    def test_messagesAreReadFromAnyPieces(self, cuts: list[int]) -> None:
        reader = WebSocketMessageReader(KEEP)
        pieces = [STREAM[begin:end] for begin, end in pairwise([0, *sorted(cuts), len(STREAM)])]
        self.assertEqual([each for piece in pieces for each in reader.receive_data(piece)], MESSAGES)

    def test_aLongMessageIsKeptInPart(self) -> None:
        reader = WebSocketMessageReader(KEEP)
        size = 64 * 1024 * 1024
        reader.receive_data(bytes((0x82, 127)) + size.to_bytes(8, "big"))
        piece = bytes(1024 * 1024)
        found = [message for _ in range(64) for message in reader.receive_data(piece)]
        self.assertEqual(found, [WebSocketMessage("binary", size, bytes(KEEP))])
        self.assertTrue(found[0].cut)

    def test_whatIsNoFrameIsRejected(self) -> None:
        for octets in (
            frame(3, b""), frame(CONTINUATION, b""), frame(TEXT, b"", compressed=True), b"\xf1\x00", frame(PING, bytes(126)),
            frame(PING, b"", final=False), frame(TEXT, b"a", final=False) + frame(TEXT, b"b"),
        ):  # fmt: skip
            with self.assertRaises(BadFrame):
                WebSocketMessageReader(KEEP).receive_data(octets)


class CompressedTests(SynchronousTestCase):
    """
    Messages that are compressed by permessage-deflate.
    """

    def test_messagesOfOneContextAreInflated(self) -> None:
        deflate = Deflater()
        words = [b"the same words", b"the same words", b""]
        octets = b"".join(frame(TEXT, deflate(word), b"1234", compressed=True) for word in words)
        for at in range(len(octets) + 1):
            reader = WebSocketMessageReader(KEEP, takeover=True)
            found = reader.receive_data(octets[:at]) + reader.receive_data(octets[at:])
            self.assertEqual([message.kept for message in found], words)

    def test_fragmentsAreInflatedTogether(self) -> None:
        packed = Deflater()(b"some words in two fragments")
        octets = frame(TEXT, packed[:9], final=False, compressed=True) + frame(CONTINUATION, packed[9:])
        [message] = WebSocketMessageReader(KEEP, takeover=False).receive_data(octets)
        self.assertEqual((message.kept, message.octets), (b"some words in two fragments", 27))

    def test_messagesWithoutTheBitAreNotInflated(self) -> None:
        [message] = WebSocketMessageReader(KEEP, takeover=True).receive_data(frame(TEXT, b"plain"))
        self.assertEqual(message.kept, b"plain")

    def test_littleIsInflatedOfALongMessage(self) -> None:
        bomb = Deflater()(bytes(64 * INFLATED_OCTETS))
        reader = WebSocketMessageReader(KEEP, takeover=True)
        [message] = reader.receive_data(frame(BINARY, bomb, compressed=True))
        self.assertEqual((message.readable, message.cut, message.octets), (False, True, len(bomb)))
        assert reader._inflater is not None
        self.assertLess(reader._inflater.octets, INFLATED_OCTETS + 128 * 1024)
        self.assertLess(len(message.kept), KEEP + 1)

    def test_theNextMessageIsReadAgainWithoutCommonContext(self) -> None:
        reader = WebSocketMessageReader(KEEP, takeover=False)
        bomb = Deflater()(bytes(2 * INFLATED_OCTETS))
        octets = frame(BINARY, bomb, compressed=True) + frame(TEXT, Deflater()(b"small"), compressed=True)
        self.assertEqual([message.readable for message in reader.receive_data(octets)], [False, True])

    def test_whatIsNotDeflatedIsNotReadable(self) -> None:
        [message] = WebSocketMessageReader(KEEP, takeover=True).receive_data(frame(TEXT, b"\xff\xff\xff", compressed=True))
        self.assertFalse(message.readable)

    def test_theParametersAreThoseOfTheResponse(self) -> None:
        self.assertIsNone(deflate_parameters(b"x-other"))
        self.assertEqual(deflate_parameters(b"permessage-deflate"), DeflateParameters(True, True))
        offered = b"x-other, Permessage-Deflate; client_no_context_takeover ; server_max_window_bits=10"
        self.assertEqual(deflate_parameters(offered), DeflateParameters(False, True))
