"""
Messages as octets: where they end, for a reader and for a writer.
"""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.http1.framing import CHUNKED, UNTIL_CLOSE
from tunnelstack.wire.http1.head import (
    BadMessage,
    Fields,
    HeadLimits,
    RequestHead,
    ResponseHead,
    encode_request,
)
from tunnelstack.wire.http1.message import (
    REMEMBERED_HEADS,
    REMEMBERED_OCTETS,
    BodyLengthMismatch,
    MessageReader,
    MessageWriter,
    ReadRequest,
)

GET = RequestHead(b"GET", b"/", [(b"Host", b"a")])


def post(*fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"POST", b"/", [(b"Host", b"a"), *fields])


def written(head: RequestHead, pieces: list[bytes], trailers: Fields) -> bytes:
    writer = MessageWriter()
    octets = writer.request_head(head)
    return octets + b"".join(map(writer.body, pieces)) + writer.end(trailers)


class RoundTripTests(SynchronousTestCase):
    """
    What the writer writes, the reader reads, however it is cut.
    """

    @given(st.lists(st.binary(min_size=1, max_size=50), max_size=4), st.booleans(), st.integers(1, 40))
    def test_requestsSurviveAnyCut(self, pieces: list[bytes], chunked: bool, cut: int) -> None:
        body = b"".join(pieces)
        field = (b"Transfer-Encoding", b"chunked") if chunked else (b"Content-Length", b"%d" % len(body))
        trailers = [(b"X", b"y")] if chunked else []
        octets = written(post(field), pieces, trailers) + b"GET"
        reader, found, heads = MessageReader(), b"", []
        for start in range(0, len(octets), cut):
            piece = octets[start:start + cut]
            if heads and not reader.ended:
                found += reader.read_body(piece)
                continue
            reader.receive(piece)
            if not heads and (head := reader.read_request()) is not None:
                heads.append(head)
                if not reader.ended:
                    found += reader.read_body(reader.take_buffer())
        self.assertEqual((found, reader.ended, reader.trailers, reader.buffer), (body, True, trailers, b"GET"))


class ReaderTests(SynchronousTestCase):
    """
    One message after the other.
    """

    def test_aResponseMayEndWithTheConnection(self) -> None:
        reader = MessageReader()
        reader.receive(b"HTTP/1.0 200 OK\r\n\r\nhel")
        self.assertIsNot(reader.read_response(b"GET"), None)
        self.assertEqual(reader.remaining, UNTIL_CLOSE)
        self.assertEqual(reader.read_body(reader.take_buffer()) + reader.read_body(b"lo"), b"hello")
        self.assertEqual((reader.ended, reader.receive_eof(), reader.ended), (False, True, True))

    def test_anEndInTheMiddleIsNotTheEnd(self) -> None:
        for field in (b"Content-Length: 9", b"Transfer-Encoding: chunked"):
            reader = MessageReader()
            reader.receive(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\n")
            reader.read_response(b"GET")
            self.assertFalse(reader.receive_eof())

    def test_emptyLinesBeforeARequestAreSkipped(self) -> None:
        reader = MessageReader()
        reader.receive(b"\r\n" * 1000)
        self.assertIs(reader.read_request(), None)
        reader.receive(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(reader.read_request(), GET)
        self.assertEqual(reader.buffer, b"")

    def test_trailersAreOfOneMessage(self) -> None:
        reader = MessageReader()
        reader.receive(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
        )
        reader.read_response(b"GET")
        reader.read_body(reader.take_buffer())
        self.assertEqual(reader.trailers, [(b"A", b"b")])
        reader.read_response(b"GET")
        self.assertEqual((reader.ended, reader.trailers), (True, []))


class RepeatedHeadTests(SynchronousTestCase):
    """
    A head that is as the last one of its connection, or nearly so, is read as if it were the first.
    """

    LAST_FIELDS = (
        b"X-Id: 1", b"X-Id: 2", b"X-Id: 1 2", b"X-Id:  2", b"X-Id:2", b"X-Id: 2 ", b"X-Id: ", b"X-Id: \xff",
        b"X-Id: 1\r\nA: b", b"X-Id: 1\r\nContent-Length: 3", b"X-Id: \x01", b"X-Id: 1\n", b"X-Id: 1\r", b"X-Id: " + b"1" * 400,
        b"Content-Length: 3", b"Content-Length: 0", b"Connection: close", b"Connection: upgrade\r\nUpgrade: a", b"Host: b",
        b"Expect: 100-continue", b"Expect: 100-continue\r\nX-Id: 1", b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nX-Id: 1", b"A:b",
    )  # fmt: skip
    LIMITS = HeadLimits(octets=400, fields=2)

    def read(self, reader: MessageReader, octets: bytes, method: bytes | None) -> tuple[object, ...]:
        reader.receive(octets)
        try:
            head = reader.read_request() if method is None else reader.read_response(method)
        except BadMessage as bad:
            return bad.args, bad.status
        left = reader.take_buffer()
        if head is None:
            return None, left, 0
        written = encode_request(head) if isinstance(head, RequestHead) else b""
        return head, head.framing, written, left, reader.remaining, reader.ended

    def compare(self, heads: list[bytes], methods: tuple[bytes | None, ...]) -> None:
        """
        Read each head after each other head.
        """
        for (first, method), (second, other) in product(product(heads, methods), repeat=2):
            reader, fresh = MessageReader(self.LIMITS, lenient=True), MessageReader(self.LIMITS, lenient=True)
            read = self.read(reader, first, method)
            if len(read) > 2 and not reader.irregular:        # nothing is read after what is not understood
                found = self.read(reader, second + b"rest", other)
                self.assertEqual(found, self.read(fresh, second + b"rest", other), (first, second))

    def test_requestsDependOnNoEarlierOne(self) -> None:
        self.compare([b"GET / HTTP/1.1\r\nHost: a\r\n" + last + b"\r\n\r\n" for last in self.LAST_FIELDS], (None,))

    def test_firstRequestsDependOnNoOtherConnection(self) -> None:
        heads = [b"GET / HTTP/1.1\r\nHost: a\r\n" + last + b"\r\n\r\n" for last in self.LAST_FIELDS]
        for first, second, rest in product(heads, heads, (b"", b"rest")):
            known: dict[bytes, ReadRequest] = {}
            self.read(MessageReader(self.LIMITS, first_heads=known), first, None)
            found = self.read(MessageReader(self.LIMITS, first_heads=known), second + rest, None)
            self.assertEqual(found, self.read(MessageReader(self.LIMITS), second + rest, None), (first, second))

    def test_theFirstHeadsOfConnectionsAreReadAsTheSameRecord(self) -> None:
        known: dict[bytes, ReadRequest] = {}
        read = []
        for _ in range(2):
            reader = MessageReader(first_heads=known)
            for octets in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n"):
                reader.receive(octets)
                read.append(reader.read_request())
        self.assertIs(read[0], read[2])
        self.assertIsNot(read[1], read[3])                  # those that follow may be any

    def test_aBoundedNumberOfFirstHeadsIsKept(self) -> None:
        known: dict[bytes, ReadRequest] = {}
        for number in range(REMEMBERED_HEADS + 9):
            reader = MessageReader(first_heads=known)
            reader.receive(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
            reader.read_request()
        self.assertEqual(len(known), REMEMBERED_HEADS)
        self.assertEqual(next(iter(known)), b"GET /9 HTTP/1.1\r\nHost: a\r\n\r\n")

    def test_responsesDependOnNoEarlierOne(self) -> None:
        heads = [b"HTTP/1.1 %d OK\r\n%b\r\n\r\n" % (status, last) for last in self.LAST_FIELDS for status in (100, 200, 304)]
        self.compare(heads, (b"GET",))
        self.compare([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"], (b"GET", b"HEAD"))

    def test_theSameHeadIsReadAsTheSameRecord(self) -> None:
        reader = MessageReader()
        reader.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        self.assertIs(reader.read_request(), reader.read_request())
        reader.receive(b"HTTP/1.1 204 No Content\r\n\r\n" * 2)
        self.assertIs(reader.read_response(b"GET"), reader.read_response(b"GET"))

    def test_anotherLastValueChangesNoEarlierRecord(self) -> None:
        reader = MessageReader()
        reader.receive(b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nX: 2\r\n\r\n")
        heads = [reader.read_request(), reader.read_request()]
        self.assertEqual([head and head.field(b"x") for head in heads], [b"1", b"2"])
        self.assertIs(heads[0] and heads[0].framing, heads[1] and heads[1].framing)

    def test_aHeadInPiecesIsReadAfterTheSame(self) -> None:
        octets, reader = b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n", MessageReader()
        for cut in range(1, len(octets)):
            reader.receive(octets[:cut])
            self.assertIs(reader.read_request(), None)
            reader.receive(octets[cut:])
            self.assertIsNot(reader.read_request(), None)

    def test_trailersAreForgottenByARepeatedHead(self) -> None:
        plain = b"HTTP/1.1 204 No Content\r\n\r\n"
        reader = MessageReader()
        reader.receive(plain + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n" + plain)
        reader.read_response(b"GET")
        reader.read_response(b"GET")
        reader.read_body(reader.take_buffer())
        reader.read_response(b"GET")
        self.assertEqual((reader.ended, reader.trailers), (True, []))

    def test_longHeadsAreNotKept(self) -> None:
        octets, reader = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"1" * REMEMBERED_OCTETS + b"\r\n\r\n", MessageReader()
        reader.receive(octets * 2)
        self.assertIsNot(reader.read_request(), reader.read_request())
        known: dict[bytes, ReadRequest] = {}
        reader = MessageReader(first_heads=known)
        reader.receive(octets)
        reader.read_request()
        self.assertEqual(known, {})


class WriterTests(SynchronousTestCase):
    """
    What a head decides, and what breaks it.
    """

    def response(self, head: ResponseHead, request: RequestHead = GET) -> MessageWriter:
        writer = MessageWriter()
        writer.response_head(head, request)
        return writer

    def test_theEndOfAResponseIsChosen(self) -> None:
        length = [(b"Content-Length", b"3")]
        old = RequestHead(b"GET", b"/", [], (1, 0))
        for head, request, remaining, keep, bodyless in (
            (ResponseHead(200, b"", length), GET, 3, True, False),
            (ResponseHead(200, b""), GET, CHUNKED, True, False),
            (ResponseHead(200, b""), old, UNTIL_CLOSE, False, False),
            (ResponseHead(200, b"", length), old, 3, True, False),
            (ResponseHead(204, b""), GET, 0, True, True),
            (ResponseHead(304, b"", length), GET, 0, True, True),
            (ResponseHead(200, b"", length), RequestHead(b"HEAD", b"/"), 0, True, True),
        ):
            writer = self.response(head, request)
            self.assertEqual((writer.remaining, writer.keep_alive, writer.bodyless), (remaining, keep, bodyless), head)

    def test_aBodyThatIsTooLong(self) -> None:
        writer = self.response(ResponseHead(200, b"", [(b"Content-Length", b"3")]))
        self.assertEqual(writer.body(b"ab"), b"ab")
        self.assertRaises(BodyLengthMismatch, writer.body, b"cd")

    def test_aBodyThatIsTooShort(self) -> None:
        writer = self.response(ResponseHead(200, b"", [(b"Content-Length", b"3")]))
        writer.body(b"ab")
        self.assertRaises(BodyLengthMismatch, writer.end)

    def test_aBodyThatIsDropped(self) -> None:
        writer = self.response(ResponseHead(200, b""), RequestHead(b"HEAD", b"/"))
        self.assertEqual((writer.body(b"abc"), writer.end()), (b"", b""))
