"""
Responses of servers that are not strict.

The kind of F11: strictness towards the operator's own server, where every client would understand what it says.  A response is
read if it has one reading; what has two is refused still, and requests are read strictly.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.http1.chunked import ChunkedDecoder
from tunnelstack.wire.http1.framing import UNTIL_CLOSE
from tunnelstack.wire.http1.head import BadMessage, Fields, HeadLimits, HeadTooLarge, encode_response
from tunnelstack.wire.http1.message import MessageReader

Reading = tuple[int, Fields, bytes, bool]

LENGTH: Fields = [(b"Content-Length", b"5")]
CHUNKS: Fields = [(b"Transfer-Encoding", b"chunked")]

ONE_READING: dict[bytes, Reading] = {
    b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello": (200, LENGTH, b"hello", False),
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\nhello": (200, LENGTH, b"hello", False),
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello": (200, LENGTH, b"hello", False),
    b"\r\n\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello": (200, LENGTH, b"hello", False),
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello": (200, LENGTH, b"hello", False),
    b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello": (200, LENGTH, b"hello", False),
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n": (200, CHUNKS, b"hello", False),
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n":
        (200, CHUNKS, b"hello", False),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello": (200, LENGTH, b"hello", False),
    b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello": (200, LENGTH, b"hello", False),
    b"HTTP/1.1 200 OK\r\nX: a\r\n  b\r\n\tc\r\nContent-Length: 5\r\n\r\nhello":
        (200, [(b"X", b"a b c"), *LENGTH], b"hello", False),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n": (200, CHUNKS, b"hello", False),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 ;x=y\nhello\r\n0\r\n\n": (200, CHUNKS, b"hello", False),
    b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0\nX: y\nZ: z\n\n": (200, CHUNKS, b"hello", False),
    b"HTTP/1.1 200 \nContent-Length: 5\n\nhello": (200, LENGTH, b"hello", False),
    b"HTTP/1.1 204 No Content\nContent-Length: 5\n\n": (204, LENGTH, b"", False),
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello": (200, LENGTH, b"hello", True),
}
"""Responses, and what is read: status, fields, body, and whether the connection is used again."""

NO_READING = (
    b"HELO\n\n", b"ICY 200 OK\n\n", b"<html>\n", b"HTTP/2.0 200 OK\n\n", b"HTTP/1.1 2x0 OK\n\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: -1\n\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity, chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n folded: first\r\n\r\n", b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n", b"HTTP/1.1 200 OK\r\nA B: c\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n: c\r\n\r\n",
)  # fmt: skip


def read(octets: bytes, cut: int, method: bytes = b"GET", limits: HeadLimits | None = None) -> Reading | None:
    """
    Read a response in pieces of so many octets.
    """
    reader, head, body = MessageReader(limits or HeadLimits(), lenient=True), None, b""
    for start in range(0, len(octets), cut):
        piece = octets[start:start + cut]
        if head is None:
            reader.receive(piece)
            head = reader.read_response(method)
            if head is not None and not reader.ended:
                body += reader.read_body(reader.take_buffer())
        elif not reader.ended:
            body += reader.read_body(piece)
    if head is None:
        return None
    assert reader.ended or reader.remaining == UNTIL_CLOSE, octets
    return head.status, head.fields, body, head.framing.keep_alive and not reader.irregular


class LenientTests(SynchronousTestCase):
    """
    L{MessageReader.read_response} and chunks.
    """

    def test_messagesWithOneReadingAreRead(self) -> None:
        for octets, reading in ONE_READING.items():
            for cut in (1, 2, 3, 7, len(octets)):
                self.assertEqual(read(octets, cut), reading, (octets, cut))

    def test_whatIsNoResponseIsRefusedAtOnce(self) -> None:
        """
        After empty lines that arrived alone, although no line has ended.
        """
        for octets in (b"\nSSH-2.0", b"\r\n\r\n<html", b"\nHTTQ", b"\r\nHTTP/2", b"\nHTTP/1 "):
            for cut in (1, 2, len(octets)):
                self.assertRaises(BadMessage, read, octets, cut)

    def test_trailersThatAreNoneAreRefusedAtOnce(self) -> None:
        head = b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\n"
        for octets in (b"\5\n", b":\n", b" a: b\n", b"\rX", b"\5"):
            for cut in (1, 2, 1000):
                self.assertRaises(BadMessage, read, head + octets, cut)

    def test_messagesWithoutAReadingAreRejected(self) -> None:
        for octets in NO_READING:
            for cut in (1, 5, len(octets)):
                self.assertRaises(BadMessage, read, octets, cut)

    def test_whatIsPassedOnIsStrict(self) -> None:
        """
        What was read is written so that a strict reader reads the same.
        """
        for octets, (status, fields, _, _) in ONE_READING.items():
            reader = MessageReader(lenient=True)
            reader.receive(octets)
            head = reader.read_response(b"GET")
            assert head is not None
            passed = read(encode_response(head), 1000, b"HEAD")
            assert passed is not None
            self.assertEqual(passed[:2], (status, fields))

    def test_theEndOfALongBodyIsNoHead(self) -> None:
        """
        A head whose lines end in line feeds is found in whatever follows it.
        """
        octets = b"HTTP/1.1 200 OK\nContent-Length: 99999\n\n" + b"x" * 99_999
        self.assertEqual(read(octets, len(octets)), (200, [(b"Content-Length", b"99999")], b"x" * 99_999, False))

    def test_theBoundsHold(self) -> None:
        limits = HeadLimits(octets=100, fields=3)
        for cut in (1, 1000):
            for octets in (b"HTTP/1.1 200 OK\nX: " + b"a" * 100, b"HTTP/1.1 200 OK\nA: b\nA: b\nA: b\nA: b\n\n"):
                self.assertRaises(HeadTooLarge, read, octets, cut, limits=limits)

    def test_requestsAreReadStrictly(self) -> None:
        for octets in (
            b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ):  # fmt: skip
            reader = MessageReader(lenient=True)
            reader.receive(octets)
            self.assertRaises(BadMessage, reader.read_request)
        self.assertRaises(BadMessage, ChunkedDecoder().receive_data, b"1\nx\n")

    @given(st.lists(st.tuples(
        st.sampled_from([b"A", b"Set-Cookie", b"X-Y"]), st.sampled_from([b"", b"b", b"a b", b"c; d"]), st.booleans(),
        st.booleans(),
    ), max_size=5), st.data(), st.integers(1, 60))
    def test_irregularitiesChangeNothing(
        self, given: list[tuple[bytes, bytes, bool, bool]], data: st.DataObject, cut: int
    ) -> None:
        """
        A head with any of the irregularities at any line is read as the strict one.
        """
        lines, fields = [b"HTTP/1.1 200 OK"], []
        for name, value, blank, folded in given:
            lines.append(name + (b" \t" if blank else b"") + b": " + value)
            if folded:
                lines.append(b" \tmore")
            fields.append((name, (value + b" more").lstrip() if folded else value))
        lines += [b"Content-Length: 2", b""]
        octets = b"".join(line + data.draw(st.sampled_from([b"\n", b"\r\n"])) for line in lines) + b"ok"
        strict = b"".join(b"%b: %b\r\n" % field for field in fields)
        expected = read(b"HTTP/1.1 200 OK\r\n" + strict + b"Content-Length: 2\r\n\r\nok", 1000)
        found = read(octets, cut)
        assert found is not None and expected is not None
        self.assertEqual(found[:3], expected[:3])
