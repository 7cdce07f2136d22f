"""
JSON objects without separators: cut anywhere, bounded, and nothing but objects.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.test_jsonline import texts, values
from tunnelstack.errors import PeerError
from tunnelstack.wire.json_stream import ObjectStreamReader, ObjectTooLong, ObjectTruncated
from tunnelstack.wire.jsonline import InvalidJSON


def read(reader: ObjectStreamReader, octets: bytes, size: int) -> list[dict[str, Any]]:
    """
    Feed a reader in pieces.
    """
    found = []
    for start in range(0, len(octets), size):
        reader.feed(octets[start : start + size])
        while (value := reader.next_object()) is not None:
            found.append(value)
    return found


class ObjectTests(SynchronousTestCase):
    """
    Octets to objects.
    """

    def test_objectsMayBeSplitAnywhere(self) -> None:
        octets = b'{"a":1}{"b":[{"c":"}\\"]"},{}]} \t\r\n{"d":"\\\\"}\n{}'
        wanted = [{"a": 1}, {"b": [{"c": '}"]'}, {}]}, {"d": "\\"}, {}]
        for cut in range(len(octets) + 1):
            reader = ObjectStreamReader()
            found = [value for piece in (octets[:cut], octets[cut:]) for value in read(reader, piece, len(piece) or 1)]
            self.assertEqual(found, wanted, cut)
            reader.receive_eof()
        self.assertEqual(read(ObjectStreamReader(), octets, 1), wanted)

    @given(
        st.lists(st.dictionaries(texts, values, max_size=3), max_size=4), st.integers(1, 9),
        st.sampled_from([b"", b"\n", b" \r\n\t"]),
    )
    def test_anyObjectsAreReadAtAnySplit(self, objects: list[dict[str, Any]], size: int, between: bytes) -> None:
        octets = between.join(json.dumps(value, ensure_ascii=False).encode() for value in objects)
        self.assertEqual(read(ObjectStreamReader(1 << 20), octets, size), objects)

    def test_onlyObjectsAreAccepted(self) -> None:
        for octets in (b"[]", b"1", b'"{}"', b"null", b"true", b"}", b"x", b"\x00{}", b"{}{}nonsense", b"{]", b'{"a":1]',
                       b"{a}", b"{}\xff"):
            for size in (1, len(octets)):
                self.assertRaises(InvalidJSON, read, ObjectStreamReader(), octets, size)

    def test_lengthsAreBounded(self) -> None:
        whole = b'{"a":"' + b"x" * 92 + b'"}'
        self.assertEqual(len(whole), 100)
        for size in (1, 7, 1000):
            self.assertEqual(len(read(ObjectStreamReader(100), whole * 3, size)), 3)
            self.assertRaises(ObjectTooLong, read, ObjectStreamReader(99), whole, size)
            self.assertRaises(ObjectTooLong, read, ObjectStreamReader(50), whole[:60], size)

    def test_spaceBetweenObjectsIsNotKept(self) -> None:
        reader = ObjectStreamReader(10)
        self.assertEqual(read(reader, b" " * 5000 + b"{}" + b"\n" * 5000, 100), [{}])
        reader.receive_eof()

    def test_anEndInsideAnObjectIsAnError(self) -> None:
        reader = ObjectStreamReader()
        self.assertEqual(read(reader, b'{"a":', 2), [])
        self.assertRaises(ObjectTruncated, reader.receive_eof)

    def test_objectsOfTwoMeaningsAreRejected(self) -> None:
        for octets in (b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":1e999}', b'{"a":' + b"[" * 70 + b"]" * 70 + b"}"):
            self.assertRaises(PeerError, read, ObjectStreamReader(), octets, 3)
