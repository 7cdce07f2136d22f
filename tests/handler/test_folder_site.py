"""
The files of a folder as a web site.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.exchange.doubles import Talker
from tunnelstack.agent.service_kinds import _refuse
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.handler.folder import Folder, OpenEntry
from tunnelstack.handler.folder_site import PIECE, FolderSite
from tunnelstack.testing import Wire
from tunnelstack.wire.http1.conditions import http_date

MODIFIED = 1_000_000_000
NOW = MODIFIED + 1000.0
SECRET = b"the secret"
STEPS = st.sampled_from(["..", ".", "", "sub", "out", "secret", "outside", ".git", "config", "%2e%2e", "%2f", "%00"])


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


class SiteCase(SynchronousTestCase):
    """
    A folder with everything that a folder may hold, a site of it, and a client.
    """

    def setUp(self) -> None:
        top = Path(self.mktemp())
        self.outside, self.folder = top / "outside", top / "site"
        for each in (self.outside, self.folder, self.folder / "sub", self.folder / ".git", self.folder / ".well-known"):
            each.mkdir(parents=True)
        for path in ("outside/secret", "site/.env", "site/.git/config", "site/sub/.hidden", "site/.well-known/.hidden"):
            (top / path).write_bytes(SECRET)
        self.write("a.txt", b"0123456789" * 10)
        self.write("sub/page.html", b"<p>a page")
        self.write(".well-known/security.txt", b"Contact: x")
        self.now = NOW
        site = FolderSite(Folder(str(self.folder)), lambda: self.now, _refuse)
        self.wire, self.client = Wire(), Talker()
        self.protocol = HTTPServerProtocol(site, clock=self.wire.clock)
        self.wire.connect(self.client, self.protocol)
        self.before = open_descriptors()

    def tearDown(self) -> None:
        self.wire.settle()
        self.assertEqual(open_descriptors(), self.before, "a descriptor was left open")

    def write(self, name: str, octets: bytes) -> None:
        path = self.folder / name
        path.write_bytes(octets)
        os.utime(path, (MODIFIED, MODIFIED))

    def ask(self, target: bytes, fields: bytes = b"", method: bytes = b"GET") -> tuple[int, dict[bytes, bytes], bytes]:
        self.client.say(b"%b %b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (method, target, fields))
        self.wire.settle()
        head, _, body = self.client.take().partition(b"\r\n\r\n")
        line, *lines = head.split(b"\r\n")
        named = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
        return int(line.split(b" ")[1]), named, body

    def absent(self, target: bytes) -> None:
        status, _, body = self.ask(target)
        self.assertEqual(status, 404, target)
        self.assertNotIn(SECRET, body)


class PublishedTests(SiteCase):
    """
    The kind of S1: what a folder holds that is not a regular file below it, or not meant for visitors, is 404, and no request
    makes the agent wait.
    """

    def test_filesBelowTheFolderAreServed(self) -> None:
        for target, body in (
            (b"/a.txt", b"0123456789" * 10), (b"/%61.txt?x=%00", b"0123456789" * 10), (b"/sub/page.html", b"<p>a page"),
            (b"/.well-known/security.txt", b"Contact: x"), (b"http://a/sub/page.html", b"<p>a page"),
        ):  # fmt: skip
            self.assertEqual(self.ask(target)[::2], (200, body), target)

    def test_hiddenFilesAreNotServed(self) -> None:
        for target in (
            b"/.env", b"/%2eenv", b"/.git/config", b"/.git/", b"/.git", b"/sub/.hidden", b"/.well-known/.hidden",
            b"/sub/.well-known/x", b"/.WELL-KNOWN/security.txt",
        ):  # fmt: skip
            self.absent(target)

    def test_noPathLeavesTheFolder(self) -> None:
        for target in (
            b"/../outside/secret", b"/%2e%2e/outside/secret", b"/..%2foutside%2fsecret", b"/sub/../../outside/secret",
            b"/..", b"/.", b"/./a.txt", b"/sub/..", b"//outside/secret", b"/%2Fetc/passwd", b"/..\\outside\\secret", b"*",
        ):  # fmt: skip
            self.absent(target)

    def test_linksOutOfTheFolderAreNotFollowed(self) -> None:
        for name, to in (("file", "../outside/secret"), ("out", "../outside"), ("inside", "a.txt"), ("loop", "loop")):
            (self.folder / name).symlink_to(to)
        for target in (b"/file", b"/out", b"/out/", b"/out/secret", b"/inside", b"/loop", b"/loop/x"):
            self.absent(target)

    def test_theFolderItselfMayBeALink(self) -> None:
        link = self.folder.parent / "link"
        link.symlink_to("site")
        entry = Folder(str(link)).open([b"a.txt"])
        assert entry is not None
        entry.close()

    def test_onlyRegularFilesAreServed(self) -> None:
        os.mkfifo(self.folder / "fifo")
        with socket.socket(socket.AF_UNIX) as server:
            here = os.open(".", os.O_RDONLY)
            try:
                os.chdir(self.folder)
                server.bind("socket")
            finally:
                os.fchdir(here)
                os.close(here)
            for target in (b"/fifo", b"/fifo/", b"/socket"):
                self.absent(target)

    def test_devicesAreNotOpened(self) -> None:
        folder = Folder("/dev")
        for name in (b"null", b"zero", b"tty"):
            self.assertIsNone(folder.open([name]))

    def test_aFIFOThatTakesTheFilesPlaceIsNotWaitedFor(self) -> None:
        path = self.folder / "a.txt"
        genuine = os.stat

        def swap(*arguments: Any, **options: Any) -> Any:
            result = genuine(*arguments, **options)
            if arguments[0] == b"a.txt":
                path.unlink()
                os.mkfifo(path)
            return result

        self.patch(os, "stat", swap)
        self.absent(b"/a.txt")

    def test_aLinkThatTakesTheFilesPlaceIsNotFollowed(self) -> None:
        genuine = os.stat

        def swap(*arguments: Any, **options: Any) -> Any:
            result = genuine(*arguments, **options)
            if arguments[0] == b"sub":
                (self.folder / "sub").rename(self.folder / "before")
                (self.folder / "sub").symlink_to("../outside")
            return result

        self.patch(os, "stat", swap)
        self.absent(b"/sub/secret")

    def test_namesThatNoFileCanHave(self) -> None:
        for target in (
            b"/a.txt%00", b"/%00", b"/a%00/b", b"/" + b"x" * 5000, b"/%ff%fe", b"/\xff\xfe", b"/a.txt/", b"/a.txt/x",
        ):  # fmt: skip
            self.absent(target)
        self.assertEqual(self.ask(b"/a.txt")[0], 200)

    def test_namesMayHaveAnyOctets(self) -> None:
        for name in (b"gr\xc3\xbc\xc3\x9fe", b"\xff\xfe", b"a b", b"a:b", b"100%", b"a\\b", b"%2e", b"a\nb"):
            (Path(os.fsdecode(os.fsencode(self.folder) + b"/" + name))).write_bytes(b"found")
            encoded = b"".join(b"%%%02x" % octet for octet in name)
            self.assertEqual(self.ask(b"/" + encoded)[::2], (200, b"found"), name)

    @settings(max_examples=60)
    @given(st.lists(STEPS))
    def test_noTargetLeavesTheFolder(self, steps: list[str]) -> None:
        if not (self.folder / "out").is_symlink():
            (self.folder / "out").symlink_to("../outside")
        self.assertNotIn(SECRET, self.ask(b"/" + "/".join(steps).encode())[2])

    def test_aFolderThatIsNotThere(self) -> None:
        self.assertIsNone(Folder(str(self.folder / "none")).open([]))

    def test_aFileThatMayNotBeRead(self) -> None:
        def refuse(*arguments: Any, **options: Any) -> int:
            raise PermissionError(errno.EACCES, "no")

        self.patch(os, "stat", refuse)
        self.absent(b"/a.txt")

    def test_tooManyOpenFiles(self) -> None:
        def refuse(*arguments: Any, **options: Any) -> int:
            raise OSError(errno.EMFILE, "too many open files")

        self.patch(os, "open", refuse)
        status, fields, _ = self.ask(b"/a.txt")
        self.assertEqual((status, fields[b"retry-after"]), (503, b"5"))


class FolderTests(SiteCase):
    """
    Folders.
    """

    def test_aFolderHasItsIndex(self) -> None:
        self.write("sub/index.html", b"the index")
        self.assertEqual(self.ask(b"/sub/")[::2], (200, b"the index"))

    def test_aLinkIsNoIndex(self) -> None:
        (self.folder / "sub/index.html").symlink_to("../../outside/secret")
        self.assertNotIn(SECRET, self.ask(b"/sub/")[2])

    def test_aFolderWithoutASlashIsRedirected(self) -> None:
        status, fields, _ = self.ask(b"/sub?a=b")
        self.assertEqual((status, fields[b"location"]), (301, b"sub/?a=b"))

    def test_theRedirectStaysHere(self) -> None:
        for name in ("a:b", "\\x", "é", "x?y"):
            (self.folder / name).mkdir()
            encoded = b"".join(b"%%%02X" % octet for octet in name.encode())
            location = self.ask(b"/" + encoded)[1][b"location"]
            self.assertRegex(location, rb"\A[0-9a-zA-Z%]+/\Z")

    def test_filesAndFoldersAreListed(self) -> None:
        os.mkfifo(self.folder / "fifo")
        (self.folder / "link").symlink_to("a.txt")
        (self.folder / "a:<b>").write_bytes(b"")
        status, fields, body = self.ask(b"/")
        self.assertEqual((status, fields[b"content-type"]), (200, b"text/html; charset=utf-8"))
        links = [piece.partition(b'"')[0] for piece in body.split(b'href="')[1:]]
        self.assertEqual(links, [b".well-known/", b"a.txt", b"a%3A%3Cb%3E", b"sub/"])
        self.assertIn(b"a:&lt;b&gt;", body)
        self.assertIn(b'href="../"', self.ask(b"/sub/")[2])


class ResponseTests(SiteCase):
    """
    Whole files and parts of them.
    """

    TAG = b'"de0b6b3a7640000-64"'

    def test_aWholeFileIsServedWithItsFields(self) -> None:
        status, fields, body = self.ask(b"/a.txt")
        self.assertEqual((status, body), (200, b"0123456789" * 10))
        self.assertEqual(fields, {
            b"date": http_date(int(NOW)), b"etag": self.TAG, b"last-modified": http_date(MODIFIED), b"accept-ranges": b"bytes",
            b"content-type": b"text/plain", b"content-length": b"100",
        })  # fmt: skip

    def test_aResponseToHEADHasNoBody(self) -> None:
        status, fields, body = self.ask(b"/a.txt", b"Range: bytes=0-9\r\n", b"HEAD")
        self.assertEqual((status, fields[b"content-length"], body), (200, b"100", b""))
        self.assertEqual(self.ask(b"/none", method=b"HEAD")[::2], (404, b""))
        self.assertEqual(self.ask(b"/", method=b"HEAD")[::2], (200, b""))

    def test_otherMethodsAre405(self) -> None:
        for method in (b"PUT", b"DELETE", b"OPTIONS", b"NONSENSE"):
            status, fields, _ = self.ask(b"/a.txt", method=method)
            self.assertEqual((status, fields[b"allow"]), (405, b"GET, HEAD"))

    def test_aBodyIsOfNoUse(self) -> None:
        self.assertEqual(self.ask(b"/a.txt", b"Content-Length: 5\r\n")[0], 200)

    def test_aBodyThatHasArrivedKeepsTheConnection(self) -> None:
        self.ask(b"/a.txt", b"Content-Length: 0\r\n")
        self.assertEqual(self.ask(b"/a.txt")[0], 200)

    def test_aFileThatIsNotThere(self) -> None:
        self.assertEqual(self.ask(b"/none", b"If-None-Match: *\r\nRange: bytes=0-1\r\n")[0], 404)

    def test_aRangeIsServed(self) -> None:
        for asked, status, part, body in (
            (b"bytes=0-9", 206, b"bytes 0-9/100", b"0123456789"), (b"bytes=-20", 206, b"bytes 80-99/100", b"0123456789" * 2),
            (b"bytes=-200", 206, b"bytes 0-99/100", b"0123456789" * 10), (b"bytes=99-", 206, b"bytes 99-99/100", b"9"),
            (b"bytes=9-0", 200, None, b"0123456789" * 10), (b"lines=1-2", 200, None, b"0123456789" * 10),
        ):  # fmt: skip
            found, fields, octets = self.ask(b"/a.txt", b"Range: " + asked + b"\r\n")
            self.assertEqual((found, fields.get(b"content-range"), octets), (status, part, body), asked)
            self.assertEqual(int(fields[b"content-length"]), len(body))
        status, fields, _ = self.ask(b"/a.txt", b"Range: bytes=100-\r\n")
        self.assertEqual((status, fields[b"content-range"]), (416, b"bytes */100"))

    def test_severalRangesAreServedAsParts(self) -> None:
        status, fields, body = self.ask(b"/a.txt", b"Range: bytes=0-1, 90-\r\n")
        kind, _, boundary = fields[b"content-type"].partition(b"; boundary=")
        part = b"\r\n--" + boundary + b"\r\nContent-Type: text/plain\r\nContent-Range: bytes %b/100\r\n\r\n%b"
        self.assertEqual((status, kind), (206, b"multipart/byteranges"))
        self.assertEqual(body, part % (b"0-1", b"01") + part % (b"90-99", b"0123456789") + b"\r\n--" + boundary + b"--\r\n")
        self.assertEqual(int(fields[b"content-length"]), len(body))

    def test_conditionsAreEvaluated(self) -> None:
        old = http_date(MODIFIED - 1)
        for fields, status in (
            (b"If-None-Match: " + self.TAG, 304), (b'If-None-Match: "x"', 200),
            (b"If-Modified-Since: " + http_date(MODIFIED), 304),
            (b'If-Match: "x"', 412), (b"If-Match: " + self.TAG, 200), (b"If-Unmodified-Since: " + old, 412),
            (b"Range: bytes=0-9\r\nIf-Range: " + self.TAG, 206), (b'Range: bytes=0-9\r\nIf-Range: "x"', 200),
            (b"Range: bytes=0-9\r\nIf-Range: " + http_date(MODIFIED), 206), (b"Range: bytes=0-9\r\nIf-Range: " + old, 200),
            (b"Range: bytes=900-\r\nIf-Range: " + old, 200), (b"Range: bytes=900-\r\nIf-None-Match: " + self.TAG, 304),
        ):  # fmt: skip
            self.assertEqual(self.ask(b"/a.txt", fields + b"\r\n")[0], status, fields)

    def test_theNotModifiedResponseHasTheTagOfTheFile(self) -> None:
        status, fields, body = self.ask(b"/a.txt", b"If-None-Match: *\r\n")
        self.assertEqual((status, fields[b"etag"], body), (304, self.TAG, b""))
        self.assertEqual(self.ask(b"/a.txt")[0], 200)

    def test_aFileThatWasJustModifiedMayBeModifiedAgain(self) -> None:
        self.now = MODIFIED + 1.0
        self.assertEqual(self.ask(b"/a.txt")[1][b"etag"], b"W/" + self.TAG)
        self.assertEqual(self.ask(b"/a.txt", b"Range: bytes=0-9\r\nIf-Range: " + self.TAG + b"\r\n")[0], 200)
        self.now = MODIFIED - 100.0
        self.assertEqual(self.ask(b"/a.txt")[1][b"last-modified"], http_date(MODIFIED - 100))

    def test_mediaTypesFollowNames(self) -> None:
        for name, kind in (
            ("a.html", b"text/html"), ("a.css", b"text/css"), ("README", b"application/octet-stream"),
            ("a.tar.gz", b"application/gzip"), ("a.unheard", b"application/octet-stream"), ("a.png", b"image/png"),
        ):  # fmt: skip
            self.write(name, b"")
            _, fields, _ = self.ask(b"/" + name.encode())
            self.assertEqual(fields[b"content-type"], kind)
            self.assertNotIn(b"content-encoding", fields)

    def test_aLargeFileIsReadAsTheClientReads(self) -> None:
        octets = os.urandom(40 * PIECE)
        self.write("large", octets)
        self.wire.near.readPaused = True
        read: list[int] = []
        genuine = os.pread
        self.patch(os, "pread", lambda descriptor, count, at: read.append(count) or genuine(descriptor, count, at))
        self.client.say(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        self.wire.settle()
        self.assertLess(sum(read), 5 * PIECE)
        self.wire.near.readPaused = False
        self.wire.settle()
        self.assertTrue(self.client.take().endswith(octets))
        self.assertEqual(self.ask(b"/a.txt")[0], 200)

    def test_aFileThatBecomesShorterBreaksTheResponse(self) -> None:
        self.write("large", b"x" * 40 * PIECE)
        self.wire.near.readPaused = True
        self.client.say(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        self.wire.settle()
        os.truncate(self.folder / "large", 20 * PIECE)
        self.wire.near.readPaused = False
        self.wire.settle()
        self.assertIsNotNone(self.client.lost)

    def test_aClientThatLeavesClosesTheFile(self) -> None:
        self.write("large", b"x" * 40 * PIECE)
        self.wire.near.readPaused = True
        self.client.say(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        self.wire.settle()
        self.assertGreater(open_descriptors(), self.before)
        self.client.transport.abortConnection()

    def test_closingTwiceClosesNothingElse(self) -> None:
        entry = OpenEntry(os.open(self.folder, os.O_RDONLY))
        entry.close()
        entry.close()
