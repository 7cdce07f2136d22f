"""
Messages as octets: where they end, for a reader and for a writer.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.http1.framing import CHUNKED, UNTIL_CLOSE
from tunnelstack.wire.http1.head import Fields, RequestHead, ResponseHead
from tunnelstack.wire.http1.message import BodyLengthMismatch, MessageReader, MessageWriter

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
