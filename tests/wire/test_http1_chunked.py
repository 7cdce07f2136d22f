"""
Bodies in chunks, at every split, and as h11 reads them.
"""

from __future__ import annotations

import h11
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.reachable import octetsOf
from tunnelstack.errors import PeerError
from tunnelstack.wire.http1.chunked import LONGEST_LINE, ChunkedDecoder, encode_chunk, encode_last_chunk
from tunnelstack.wire.http1.head import BadMessage, Fields, HeadLimits

#: octets -> (body, trailers, leftover)
BODIES: dict[bytes, tuple[bytes, Fields, bytes]] = {
    b"0\r\n\r\n": (b"", [], b""),
    b"000\r\n\r\nGET /": (b"", [], b"GET /"),
    b"3\r\nabc\r\n0\r\n\r\n": (b"abc", [], b""),
    b"A;x=y;z=\"a b\"\r\n0123456789\r\n1\r\n\r\r\n2\r\n\r\n\r\n0;last\r\n\r\nx": (b"0123456789\r\r\n", [], b"x"),
    b"1 \r\na\r\n0\r\n\r\n": (b"a", [], b""),
    b"1a\t  \r\nabcdefghijklmnopqrstuvwxyz\r\n1 ;x=y\r\nz\r\n0 \t\r\n\r\nx": (b"abcdefghijklmnopqrstuvwxyzz", [], b"x"),
    b"1\r\na\r\n0\r\nX-Sum:  1 \r\nY:\r\n\r\nx": (b"a", [(b"X-Sum", b"1"), (b"Y", b"")], b"x"),
    b"0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nHost: b\r\nA: b\r\n\r\n": (b"", [(b"A", b"b")], b""),
}

MALFORMED = [
    b"\r\n", b"g\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b" 1\r\n", b";x\r\n", b"1_0\r\n", b"1000000000000000\r\n",
    b"1\r\nab", b"1\r\na\n", b"1\r\na\rb", b"1\na", b"1;\x00\r\n", b"1;a\nb\r\n", b"1\rx",
    b"1 1\r\n", b"1 x\r\n", b"1 \n", b"1 \x00\r\n", b"1 \rx", b"1" + b" " * LONGEST_LINE,
    b"0\r\nX\r\n\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\n X: y\r\n\r\n", b"0\r\nX: y\n\n", b"0\r\nX: a\r\n b\r\n\r\n",
]


def decode(octets: bytes, cuts: list[int]) -> tuple[bytes, bool, Fields, bytes]:
    """
    In pieces of these lengths, and the rest.
    """
    decoder, body, start = ChunkedDecoder(), b"", 0
    for cut in [*cuts, len(octets)]:
        if decoder.ended:
            break
        body += decoder.receive_data(octets[start:start + cut])
        start += cut
    return body, decoder.ended, decoder.trailers, decoder.leftover + octets[start:]


def h11Decodes(octets: bytes) -> tuple[bytes, bool] | None:
    """
    @return: the body and whether it is whole; C{None} if h11 refuses it.
    """
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + octets)
    body = b""
    try:
        while True:
            event = judge.next_event()
            if isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return body, True
            elif event is h11.NEED_DATA:
                return body, False
    except h11.RemoteProtocolError:
        return None


class DecoderTests(SynchronousTestCase):
    """
    The lists.
    """

    def test_bodiesAreReadAtEverySplit(self) -> None:
        for octets, (body, trailers, leftover) in BODIES.items():
            for first in range(len(octets) + 1):
                self.assertEqual(decode(octets, [first]), (body, True, trailers, leftover), (octets, first))
            self.assertEqual(decode(octets, [1] * len(octets)), (body, True, trailers, leftover), octets)

    def test_malformedBodiesAreRejectedAtEverySplit(self) -> None:
        for octets in MALFORMED:
            for first in range(len(octets) + 1):
                with self.assertRaises(BadMessage, msg=(octets, first)):
                    decode(octets, [first])

    def test_nothingIsHeldOfAChunk(self) -> None:
        decoder = ChunkedDecoder()
        self.assertEqual(decoder.receive_data(b"ffffff\r\n" + b"a" * 1000), b"a" * 1000)
        self.assertLess(octetsOf(decoder), 10)

    def test_sizesAreBounded(self) -> None:
        """
        The bound is the same for a line that arrives whole and for one that is cut.
        """
        for lenient, end in ((False, b"\r\n"), (True, b"\r\n"), (True, b"\n")):
            line = b"1;" + b"a" * (LONGEST_LINE - 2 - len(end)) + end
            for cut in (0, 1, 2, LONGEST_LINE - 1):
                decoder = ChunkedDecoder(lenient=lenient)
                self.assertEqual(decoder.receive_data(line[:cut]) + decoder.receive_data(line[cut:] + b"x"), b"x")
                decoder = ChunkedDecoder(lenient=lenient)
                longer = b"1;a" + line[2:]
                decoder.receive_data(longer[:cut])
                self.assertRaises(BadMessage, decoder.receive_data, longer[cut:])

    def test_trailersAreBounded(self) -> None:
        decoder = ChunkedDecoder(HeadLimits(octets=100, fields=2))
        self.assertRaises(BadMessage, decoder.receive_data, b"0\r\nX: " + b"a" * 100)
        decoder = ChunkedDecoder(HeadLimits(octets=100, fields=2))
        self.assertRaises(BadMessage, decoder.receive_data, b"0\r\n" + b"a: b\r\n" * 3 + b"\r\n")

    def test_chunksAreEncoded(self) -> None:
        octets = encode_chunk(b"a" * 17) + encode_last_chunk([(b"X", b"y")])
        self.assertEqual(octets, b"11\r\n" + b"a" * 17 + b"\r\n0\r\nX: y\r\n\r\n")
        self.assertEqual(encode_last_chunk([]), b"0\r\n\r\n")

    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0, 12), max_size=40))
    def test_bodiesSurviveEncodingAndDecoding(self, pieces: list[bytes], cuts: list[int]) -> None:
        octets = b"".join(map(encode_chunk, pieces)) + encode_last_chunk([(b"X", b"y")]) + b"next"
        self.assertEqual(decode(octets, cuts), (b"".join(pieces), True, [(b"X", b"y")], b"next"))

    @given(st.lists(st.sampled_from([
        b"0", b"1", b"a", b"F", b"\r\n", b"\r\n", b"\r", b"\n", b";", b"x=y", b" ", b"X: y", b"1\r\na\r\n", b"0\r\n\r\n",
        b"\x00",
    ]), max_size=12))
    def test_h11Agrees(self, pieces: list[bytes]) -> None:
        octets = b"".join(pieces)
        try:
            body, ended, _, _ = decode(octets, [])
        except PeerError:
            return
        if ended:
            self.assertEqual(h11Decodes(octets), (body, True), octets)
        else:
            self.assertEqual((h11Decodes(octets) or (body, False))[0], body, octets)
