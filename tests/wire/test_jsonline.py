"""
JSON lines: cut anywhere, bounded, and nothing that two readers could understand differently.
"""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.jsonline import (
    DEPTH,
    InvalidJSON,
    LineReader,
    LineTooLong,
    LineTruncated,
    decode,
    decode_object,
    encode,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def lines(reader: LineReader, octets: bytes, size: int) -> list[bytes]:
    """
    Feed a reader in pieces.
    """
    found = []
    for start in range(0, len(octets), size):
        reader.feed(octets[start : start + size])
        while (line := reader.next_line()) is not None:
            found.append(line)
    return found


class LinesTests(SynchronousTestCase):
    """
    Octets to lines.
    """

    def test_linesMayBeSplitAnywhere(self) -> None:
        octets = b'{"a":1}\n\n[2]\n"cut'
        for cut in range(len(octets) + 1):
            reader = LineReader()
            found = []
            for piece in (octets[:cut], octets[cut:]):
                found += lines(reader, piece, max(1, len(piece)))
            self.assertEqual(found, [b'{"a":1}', b"", b"[2]"])
            self.assertEqual(reader.take_leftover(), b'"cut')

    @given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=6), st.integers(1, 9))
    def test_linesMayArriveInAnyPieces(self, expected: list[bytes], size: int) -> None:
        self.assertEqual(lines(LineReader(20), b"".join(line + b"\n" for line in expected), size), expected)

    def test_aLineMayHaveTheLimitAndNoMore(self) -> None:
        for size in (1, 3, 100):
            self.assertEqual(lines(LineReader(5), b"12345\n", size), [b"12345"])
            self.assertRaises(LineTooLong, lines, LineReader(5), b"123456\n", size)
            self.assertRaises(LineTooLong, lines, LineReader(5), b"123456", size)
            self.assertRaises(LineTooLong, lines, LineReader(5), b"1\n123456\n", size)

    def test_restIsExact(self) -> None:
        reader = LineReader()
        reader.feed(b"one\ntwo\nthree")
        self.assertEqual(reader.next_line(), b"one")
        self.assertEqual(reader.take_leftover(), b"two\nthree")
        self.assertEqual(reader.take_leftover(), b"")
        reader.feed(b"four\n")
        self.assertEqual(reader.next_line(), b"four")

    def test_anEndInsideALineIsAnError(self) -> None:
        reader = LineReader()
        reader.feed(b"one\n")
        reader.next_line()
        reader.receive_eof()
        reader.feed(b"tw")
        self.assertRaises(LineTruncated, reader.receive_eof)


class DecodeTests(SynchronousTestCase):
    """
    What is a value and what is not.
    """

    @given(values)
    def test_valuesSurviveEncodingAndDecoding(self, value: object) -> None:
        line = encode(value)
        self.assertEqual((line.count(b"\n"), line[-1:]), (1, b"\n"))
        self.assertEqual(decode(line[:-1]), value)

    def test_spaceAroundAValueIsTaken(self) -> None:
        self.assertEqual(decode(b' {"a" : [1, 2.5, null, "\\u00e9"]}\r'), {"a": [1, 2.5, None, "\u00e9"]})
        self.assertEqual(decode(b'"\\ud83d\\ude00"'), "\U0001f600")

    def test_malformedLinesAreRejected(self) -> None:
        for line in (
            b"", b" ", b"{", b"}", b'{"a"}', b"[1,]", b"{'a':1}", b"nul", b"1 2", b'{"a":1}{"b":2}', b"01", b"+1", b'"\t"',
            b"NaN", b"Infinity", b"-Infinity", b"[NaN]", b"1e999", b"-1e999", b"1" * 5000,
            b'"\xff"', b'"\xed\xa0\x80"', b"\xef\xbb\xbf{}", b'"\\ud800"', b'{"\\udc00":1}', '"é"'.encode("utf-16"),
            b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b'[{"x":{"a":1,"a":1}}]',
        ):  # fmt: skip
            self.assertRaises(InvalidJSON, decode, line)

    def test_depthIsBounded(self) -> None:
        for opening, inside, closing in ((b"[", b"", b"]"), (b"[", b"1", b"]"), (b'{"a":', b"[]", b"}")):
            extra = inside == b"[]"
            most = DEPTH - extra
            decode(opening * most + inside + closing * most)
            for depth in (most + 1, 900, 5000, 60_000):
                self.assertRaises(InvalidJSON, decode, opening * depth + inside + closing * depth)
                self.assertRaises(InvalidJSON, decode, opening * depth)

    def test_bracesInAStringAreNotDepth(self) -> None:
        for text in ("[" * 1000, "{" * 1000):
            self.assertEqual(decode(encode(text)[:-1]), text)
            self.assertEqual(decode(encode([text, {text: [1]}])[:-1]), [text, {text: [1]}])
        self.assertEqual(decode(b"[" + b",".join([b"[]"] * 1000) + b"]"), [[]] * 1000)

    def test_onlyAnObjectIsAnObject(self) -> None:
        self.assertEqual(decode_object(b'{"a":1}'), {"a": 1})
        for line in (b"[]", b'"a"', b"1", b"null", b"true"):
            self.assertRaises(InvalidJSON, decode_object, line)

    @given(st.binary(max_size=60) | st.text('[]{}":,\\u019dD8-eE.truefalsnN é').map(str.encode))
    def test_nothingButAPeerErrorIsRaised(self, line: bytes) -> None:
        try:
            value = decode(line)
        except PeerError:
            return
        self.assertEqual(decode(encode(value)[:-1]), value)
        self.assertEqual(json.loads(line), value)


class EncodeTests(SynchronousTestCase):
    """
    What we say.
    """

    def test_linesAreCompact(self) -> None:
        self.assertEqual(encode({"b": [1, None, True], "a": "\u00e9\n<&>"}), '{"b":[1,null,true],"a":"é\\n<&>"}\n'.encode())

    def test_otherValuesAreNotEncoded(self) -> None:
        endless: list[object] = []
        endless.append(endless)
        for value in (float("nan"), float("inf"), b"octets", object(), {1, 2}, "\ud800", endless, {b"a": 1}):
            self.assertRaises(UsageError, encode, value)
