"""
Request targets: their readings, their parts, and how they are shown.
"""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.edge.path_readers import SEGMENTS, SEPARATORS
from tunnelstack.wire.http1.target import (
    MOST_OCTETS,
    MOST_READINGS,
    OPERATIONS,
    PLAIN,
    folded,
    path_of,
    percent_encoded,
    readings,
    split_absolute,
)

PATHS = st.one_of(
    st.lists(st.sampled_from(SEPARATORS + SEGMENTS), max_size=8).map(lambda pieces: b"/" + b"".join(pieces)),
    st.lists(st.integers(0x21, 0xFF), max_size=16).map(lambda octets: b"/" + bytes(octets)),
)


class ReadingTests(SynchronousTestCase):
    """
    Every way to read a path.
    """

    def test_examplesAreRead(self) -> None:
        for path, reading in (
            (b"/%61dmin", b"/admin"), (b"/%2561dmin", b"/admin"), (b"/%u0061dmin", b"/admin"),
            (b"/x/../admin", b"/admin"), (b"/x/./admin", b"/x/admin"), (b"//admin", b"/admin"),
            (b"//x/admin", b"/admin"), (b"//x", b"/"), (b"///x/admin", b"/admin"), (b"/\\admin", b"/admin"),
            (b"/admin;x=y/z;", b"/admin/z"), (b"/x/..;/admin", b"/admin"), (b"/admin%00.html", b"/admin"),
            (b"/admin%3fx", b"/admin"), (b"/admin%23x", b"/admin"), (b"/admin. ./x", b"/admin/x"),
            (b"/admin%20", b"/admin"), (b"/\xc0\xafadmin", b"/admin"), (b"/x/%c0%ae%c0%ae/admin", b"/admin"),
            (b"/\xe0\x81\xa1dmin", b"/admin"), (b"/\xf0\x80\x81\xa1dmin", b"/admin"),
            (b"/\xf8\x80\x80\x81\xa1dmin", b"/admin"), (b"/\xfc\x80\x80\x80\x81\xa1dmin", b"/admin"),
            (b"/a%2fb/%2e%2e/admin", b"/admin"), (b"/api/%2e", b"/api/"), (b"/api/x/..", b"/api/"),
            (b"/../../admin", b"/admin"),
        ):  # fmt: skip
            read = readings(path)
            assert read is not None
            self.assertIn(reading, read, path)
            self.assertIn(path, read)

    def test_harmlessPathsAreNotReadAsOthers(self) -> None:
        for path in (b"/100%", b"/%zz", b"/%u12", b"/\xc3\xa4", b"/x/...", b"/a.b/.c", b"/x;"):
            self.assertNotIn(b"/", readings(path) or (b"/",), path)

    @given(PATHS)
    def test_theyAreClosed(self, path: bytes) -> None:
        read = readings(path)
        if read is None:
            return
        self.assertIn(path, read)
        for each in read:
            self.assertTrue(each.startswith(b"/"), each)
            self.assertLessEqual(len(each), len(path))
            for operation in OPERATIONS:
                self.assertIn(operation(each), read)

    @given(PATHS)
    def test_aPlainPathHasOne(self, path: bytes) -> None:
        if PLAIN.match(path) and b"?" not in path:
            self.assertEqual([(operation(path), folded(path)) for operation in OPERATIONS], [(path, path)] * len(OPERATIONS))

    def test_plainTargetsAreRecognized(self) -> None:
        for target in (b"/", b"/a", b"/a/", b"/a/b-c_d~e/f.g.h", b"/a?b=%20//../\\", b"/@:$&'()*+,=!", b"/?", b"/a.b?.", b"/0"):
            self.assertTrue(PLAIN.match(target), target)
        for target in (
            b"*", b"", b"a", b"//", b"/a//", b"/A", b"/%61", b"/a;b", b"/a\\b", b"/.", b"/..", b"/a/./b",
            b"/.a", b"/a.", b"/a./b", b"/\x80", b"/a/..?x", b"/a b", b"/a\0", b"/#", b"/a\n",
        ):  # fmt: skip
            self.assertFalse(PLAIN.match(target), target)

    def test_whatPeopleUseHasFew(self) -> None:
        for path in (
            b"/Images/Logo.png", b"/a%20b/c%2Fd", b"/.well-known/acme-challenge/Ab-_", b"/x;jsessionid=0?",
            b"/%E4%BD%A0%E5%A5%BD", b"/a//b", b"/wiki/C%2B%2B_(language)", b"/gr\xc3\xbc\xc3\x9fe",
            b"/app/..", b"/tel:+1%20555;ext=3",
        ):  # fmt: skip
            read = readings(path)
            assert read is not None
            self.assertLess(len(read), 10, path)

    def test_theyAreBounded(self) -> None:
        for path in (
            b"/" + b"%25" * 200 + b"41", b"/%" + b"25" * 200 + b"41", b"//a" * 200, b"/%2e" * 12_000,
            b"/;%2f\\.. %00" * 3000, b"/" + b"a." * 20_000, b"/a" + b". " * 20_000,
            b"/a" + b"." * 40_000 + b"b", b"/" * 40_000, b"/\xc0\xae" * 12_000,
            b"/%252e%252e%252f;a//..\\%00%c0%af%u002e." * 200, b"/a//b;c=d/%2F..%5Cx\\y/./z%00%C0%AE.",
        ):  # fmt: skip
            began = time.process_time()
            read = readings(path)
            self.assertLess(time.process_time() - began, 1.0, path[:50])
            if read is not None and len(read) > 1:
                self.assertLessEqual(len(read), MOST_READINGS)
                self.assertLessEqual(sum(map(len, read)), MOST_OCTETS)
        self.assertIsNone(readings(b"/;%2f\\.. %00" * 3000))
        self.assertIsNone(readings(b"/a//b;c=d/%2F..%5Cx\\y/./z%00%C0%AE."))

    def test_lettersAreFolded(self) -> None:
        for one, other in (
            (b"/ADMIN", b"/admin"), ("/GR\u00dc\u00dfE".encode(), "/gru\u0308sse".encode()),
            ("/\u212aelvin".encode(), b"/kelvin"), ("/\uff41dmin".encode(), b"/admin"), (b"/\xff", b"/\xff"),
        ):  # fmt: skip
            self.assertEqual(folded(one), folded(other))
        self.assertNotEqual(folded(b"/\xff"), folded(b"/\xfe"))


class PartTests(SynchronousTestCase):
    """
    Targets and their parts.
    """

    def test_aPathEndsAtItsQuery(self) -> None:
        for target, path in ((b"/a?b?c", b"/a"), (b"/a", b"/a"), (b"/?", b"/"), (b"*", b"*")):
            self.assertEqual(path_of(target), path)

    def test_absoluteTargetsAreSplit(self) -> None:
        for target, parts in (
            (b"http://a/b?c", (b"a", b"/b?c")), (b"HTTPS://A:80", (b"A:80", b"/")),
            (b"http://a?x", (b"a", b"/?x")), (b"http://me:secret@a/", (b"a", b"/")),
            (b"http://[::1]:80/x", (b"[::1]:80", b"/x")), (b"http://a//b", (b"a", b"//b")),
            (b"http://a/\xe4", (b"a", b"/\xe4")),
        ):  # fmt: skip
            self.assertEqual(split_absolute(target), parts)
        for target in (
            b"ftp://a/", b"a:443", b"/http://a/", b"http:///x", b"http://a\\b/", b"http://\xe4/",
            b"http://a#/x", b"*",
        ):  # fmt: skip
            self.assertIsNone(split_absolute(target), target)

    def test_otherOctetsAreEncoded(self) -> None:
        self.assertEqual(percent_encoded("/gr\u00fc\u00dfe?\u20ac".encode()), b"/gr%C3%BC%C3%9Fe?%E2%82%AC")
        self.assertEqual(percent_encoded(b"/\xff\x80\x9b31m"), b"/%FF%80%9B31m")

    @given(st.binary(max_size=40))
    def test_percentEncodedIsPrintable(self, target: bytes) -> None:
        encoded = percent_encoded(target)
        self.assertTrue(all(0x21 <= octet <= 0x7E for octet in encoded))
        self.assertEqual(percent_encoded(encoded), encoded)
