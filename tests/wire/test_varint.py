"""
Unsigned varints: the shortest form, and no other.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.varint import LARGEST, BadVarint, decode, encode

KNOWN = {0: "00", 1: "01", 127: "7f", 128: "8001", 255: "ff01", 300: "ac02", 16384: "808001", LARGEST: "ffffffffffffffff7f"}


class VarintTests(SynchronousTestCase):
    """
    Both directions.
    """

    def test_knownNumbersAreMatched(self) -> None:
        for number, written in KNOWN.items():
            self.assertEqual(encode(number).hex(), written)
            self.assertEqual(decode(bytes.fromhex(written)), (number, len(written) // 2))

    @given(st.integers(0, LARGEST), st.binary(max_size=3), st.binary(max_size=3))
    def test_numbersSurviveEncodingAndDecoding(self, number: int, before: bytes, behind: bytes) -> None:
        written = encode(number)
        found = decode(before + written + behind, len(before))
        self.assertEqual(found, (number, len(before) + len(written)))
        for cut in range(len(written)):
            self.assertIsNone(decode(before + written[:cut], len(before)))

    @given(st.binary(max_size=12), st.integers(1, 9))
    def test_whatIsTakenIsSaidTheSameWay(self, octets: bytes, longest: int) -> None:
        try:
            found = decode(octets, 0, longest)
        except PeerError:
            return
        if found is not None:
            number, end = found
            self.assertEqual(encode(number), octets[:end])
            self.assertLessEqual(end, longest)

    def test_longerFormsAreRefused(self) -> None:
        for written in ("8000", "9300", "808000", "ff8000", "ffffffffffffffff00"):
            self.assertRaises(BadVarint, decode, bytes.fromhex(written))

    def test_tooManyOctetsAreRefusedAtTheLastOne(self) -> None:
        self.assertIsNone(decode(b"\xff" * 8))
        self.assertRaises(BadVarint, decode, b"\xff" * 9)
        self.assertIsNone(decode(b"\xff", 0, 2))
        self.assertRaises(BadVarint, decode, b"\xff\xff", 0, 2)

    def test_numbersThatCannotBeSaid(self) -> None:
        for number in (-1, LARGEST + 1):
            self.assertRaises(UsageError, encode, number)
