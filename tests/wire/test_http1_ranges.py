"""
Byte ranges: which octets a C{Range} field asks for.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.http1.ranges import MOST_RANGES, content_range, read_ranges

NUMBERS = st.integers(0, 120)
SPECS = st.one_of(
    st.tuples(NUMBERS, NUMBERS).map(lambda pair: b"%d-%d" % pair),
    NUMBERS.map(lambda first: b"%d-" % first),
    NUMBERS.map(lambda last: b"-%d" % last),
)
FIELDS = st.lists(st.one_of(SPECS, st.sampled_from([b"", b" ", b"x", b"--1", b"1-2-3"])), max_size=6).map(
    lambda specs: b"bytes=" + b", ".join(specs)
)


def model(field: bytes, length: int) -> list[set[int]] | None:
    """
    What RFC 9110 says of a field with one specification after the other: the octets of each.
    """
    ranges = []
    specs = [spec.strip(b" \t") for spec in field.removeprefix(b"bytes=").split(b",")]
    for spec in filter(None, specs):
        first, dash, last = spec.partition(b"-")
        if not dash or not (first.isdigit() or (not first and last.isdigit())) or not (last.isdigit() or not last):
            return None
        if first and last and int(last) < int(first):
            return None
        start, stop = (int(first), int(last) + 1 if last else length) if first else (max(0, length - int(last)), length)
        ranges.append({octet for octet in range(start, stop) if octet < length})
    return ranges or None


class RangeTests(SynchronousTestCase):
    """
    Every form of the field: what it asks for exists, and is all that is sent.
    """

    def test_theExamplesOfTheRFCAreRead(self) -> None:
        for value, ranges in (
            (b"bytes=0-499", [range(500)]), (b"bytes=500-999", [range(500, 1000)]), (b"bytes=-500", [range(9500, 10000)]),
            (b"bytes=9500-", [range(9500, 10000)]), (b"bytes=0-0,-1", [range(1), range(9999, 10000)]),
            (b"bytes= 0-999, 4500-5499, -1000", [range(1000), range(4500, 5500), range(9000, 10000)]),
            (b"bytes=500-600,601-999", [range(500, 1000)]), (b"bytes=500-700,601-999", [range(500, 1000)]),
        ):  # fmt: skip
            self.assertEqual(read_ranges(value, 10_000), ranges, value)

    def test_aSuffixThatIsLongerThanTheFileIsAllOfIt(self) -> None:
        self.assertEqual(read_ranges(b"bytes=-200", 100), [range(100)])
        self.assertEqual(read_ranges(b"bytes=-" + b"9" * 5000, 100), [range(100)])

    def test_whatNoFileHasIsNotSatisfiable(self) -> None:
        for value in (b"bytes=100-", b"bytes=100-200", b"bytes=-0", b"bytes=500-,100-101", b"bytes=" + b"9" * 5000 + b"-"):
            self.assertEqual(read_ranges(value, 100), [], value)
        self.assertEqual(read_ranges(b"bytes=0-", 0), [])

    def test_whatIsMalformedIsIgnored(self) -> None:
        for value in (
            b"", b"bytes", b"bytes=", b"bytes=,", b"bytes=-", b"bytes=a-b", b"bytes=9-0", b"bytes=0-1,9-0", b"bytes=0-1-2",
            b"lines=0-1", b"bytes =0-1", b"bytes=0 -1", b"bytes=0-1;", b"bytes=+0-1", b"bytes=0-\xb2", b"bytes=0-1, bytes=2-3",
        ):  # fmt: skip
            self.assertIsNone(read_ranges(value, 100), value)

    def test_anEmptyFileHasNoEndOfItsOwn(self) -> None:
        self.assertIsNone(read_ranges(b"bytes=-5", 0))

    def test_theUnitIsReadInAnyCase(self) -> None:
        self.assertEqual(read_ranges(b"BYTES=0-0", 100), [range(1)])

    def test_zerosBeforeANumberDoNotCount(self) -> None:
        self.assertEqual(read_ranges(b"bytes=" + b"0" * 5000 + b"1-2", 100), [range(1, 3)])

    def test_moreRangesThanAreWorthIt(self) -> None:
        many = [b"%d-%d" % (2 * index, 2 * index) for index in range(MOST_RANGES + 1)]
        self.assertEqual(len(read_ranges(b"bytes=" + b",".join(many[1:]), 1000) or ()), MOST_RANGES)
        self.assertIsNone(read_ranges(b"bytes=" + b",".join(many), 1000))
        self.assertIsNone(read_ranges(b"bytes=" + b",".join([b"0-"] * 1000), 1000))

    @given(FIELDS, st.integers(1, 100))
    def test_rangesAreReadAsByTheModel(self, field: bytes, length: int) -> None:
        asked, given = model(field, length), read_ranges(field, length)
        if asked is None:
            self.assertIsNone(given)
        elif given is None:
            self.assertEqual(set().union(*asked), set(range(length)))
        else:
            self.assertEqual({octet for part in given for octet in part}, set().union(*asked))
            self.assertEqual(sum(map(len, given)), len(set().union(*asked)), "no octet is sent twice")
            self.assertTrue(all(part.step == 1 and 0 <= part.start < part.stop <= length for part in given))

    @given(st.binary(max_size=60), st.integers(0, 100))
    def test_anyOctetsAreTolerated(self, field: bytes, length: int) -> None:
        for part in read_ranges(b"bytes=" + field, length) or ():
            self.assertTrue(0 <= part.start < part.stop <= length)

    def test_contentRangesAreWritten(self) -> None:
        self.assertEqual(content_range(range(5, 10), 20), b"bytes 5-9/20")
        self.assertEqual(content_range(None, 20), b"bytes */20")
