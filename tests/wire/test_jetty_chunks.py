"""
The order of chunks on a lane, and heads of HTTP in them.
"""

from __future__ import annotations

import re

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.vectors_jetty import VECTORS
from tunnelstack.wire.grpc import encode_prefixed
from tunnelstack.wire.http1.framing import CHUNKED, Framing, request_framing_untrusted
from tunnelstack.wire.http1.head import (
    DEFAULT_LIMITS,
    BadMessage,
    HeadLimits,
    HeadTooLarge,
)
from tunnelstack.wire.http1.head import RequestHead as HTTPRequestHead
from tunnelstack.wire.http1.head import ResponseHead as HTTPResponseHead
from tunnelstack.wire.protobuf import encode_message
from tunnelstack.wire.records.jetty_chunks import (
    BadChunk,
    MessageChunks,
    encode_data,
    read_request_untrusted,
    read_response_untrusted,
    request_record,
    response_record,
)
from tunnelstack.wire.records.jetty_grpc import (
    ABORT,
    DATA,
    HEADERS,
    TRAILERS,
    Header,
    HTTPChunk,
    RequestHead,
    ResponseHead,
)

UNKNOWN = 9

ASKS = HTTPChunk(type=HEADERS, request=RequestHead(method="GET", path="/"))
ANSWERS = HTTPChunk(type=HEADERS, response=ResponseHead(status=200))
HINTS = HTTPChunk(type=HEADERS, response=ResponseHead(status=103))
SWITCHES = HTTPChunk(type=HEADERS, response=ResponseHead(status=101))
PIECE = HTTPChunk(type=DATA, data=b"hello")
SUMS = HTTPChunk(type=TRAILERS, end=True)


def last(chunk: HTTPChunk) -> HTTPChunk:
    return evolve(chunk, end=True)


class OrderTests(SynchronousTestCase):
    """
    What may follow what.
    """

    def takes(self, response: bool, *chunks: HTTPChunk, **settings: bool) -> MessageChunks:
        message = MessageChunks(response, **settings)     # type: ignore[arg-type]
        for chunk in chunks:
            message.receive(chunk)
        return message

    def refuses(self, response: bool, *chunks: HTTPChunk, **settings: bool) -> None:
        message = self.takes(response, *chunks[:-1], **settings)
        self.assertRaises(BadChunk, message.receive, chunks[-1])

    def test_wholeMessagesAreTaken(self) -> None:
        for chunks in (
            [last(ASKS)], [ASKS, last(PIECE)], [ASKS, PIECE, PIECE, HTTPChunk(type=DATA, end=True)], [ASKS, PIECE, SUMS],
        ):  # fmt: skip
            self.assertTrue(self.takes(False, *chunks).ended)
        for chunks in ([last(ANSWERS)], [HINTS, HINTS, ANSWERS, PIECE, SUMS], [SWITCHES, PIECE, last(PIECE)]):
            self.assertTrue(self.takes(True, *chunks).ended)

    def test_anAbortEndsAMessageAtAnyTime(self) -> None:
        abort = HTTPChunk(type=ABORT, end=True)
        for chunks in ([abort], [ANSWERS, abort], [ANSWERS, PIECE, abort]):
            self.assertTrue(self.takes(True, *chunks).ended)

    def test_chunksOfUnknownTypesAreIgnored(self) -> None:
        message = MessageChunks(False)
        for chunk in (HTTPChunk(type=UNKNOWN, end=True), ASKS, HTTPChunk(type=UNKNOWN, request_id="other"), last(PIECE)):
            self.assertEqual(message.receive(chunk), chunk.type != UNKNOWN)
        self.assertTrue(message.ended)
        self.assertFalse(message.receive(HTTPChunk(type=UNKNOWN)))

    def test_whatIsOutOfOrderIsRefused(self) -> None:
        self.refuses(False, PIECE)
        self.refuses(False, SUMS)
        self.refuses(False, ASKS, ASKS)
        self.refuses(False, ANSWERS)
        self.refuses(False, HTTPChunk(type=HEADERS))
        self.refuses(False, evolve(ASKS, response=ResponseHead(status=200)))
        self.refuses(False, last(ASKS), PIECE)
        self.refuses(False, ASKS, SUMS, last(PIECE))
        self.refuses(False, ASKS, HTTPChunk(type=TRAILERS))
        self.refuses(True, ASKS)
        self.refuses(True, HINTS, PIECE)
        self.refuses(True, last(HINTS))
        self.refuses(True, ANSWERS, HINTS)
        self.refuses(True, SWITCHES, SUMS)
        for status in (0, 99, 600):
            self.refuses(True, HTTPChunk(type=HEADERS, response=ResponseHead(status=status)))

    def test_bodiesHaveTheLengthThatTheirHeadNames(self) -> None:
        five = evolve(ANSWERS, response=ResponseHead(status=200, content_length=5))
        self.assertTrue(self.takes(True, five, last(PIECE)).ended)
        self.refuses(True, five, PIECE, PIECE)
        self.refuses(True, five, HTTPChunk(type=DATA, data=b"four", end=True))
        self.refuses(True, last(five))
        self.assertTrue(self.takes(True, last(five), bodyless=True).ended)

    def test_someResponsesHaveNoBody(self) -> None:
        self.refuses(True, ANSWERS, PIECE, bodyless=True)
        for status in (204, 304):
            head = HTTPChunk(type=HEADERS, response=ResponseHead(status=status, content_length=5))
            self.assertTrue(self.takes(True, last(head)).ended)
            self.refuses(True, head, PIECE)

    def test_aMessageBelongsToOneExchange(self) -> None:
        self.refuses(False, evolve(ASKS, request_id="r1"), evolve(PIECE, request_id="r2"))
        self.refuses(False, evolve(ASKS, request_id="r" * 129))
        message = MessageChunks(True, "r1")
        self.assertRaises(BadChunk, message.receive, evolve(ANSWERS, request_id="r2"))
        self.assertTrue(message.receive(evolve(ANSWERS, request_id="r1")))

    @given(st.booleans(), st.lists(st.sampled_from([
        ASKS, last(ASKS), ANSWERS, last(ANSWERS), HINTS, SWITCHES, PIECE, last(PIECE), SUMS, HTTPChunk(type=TRAILERS),
        HTTPChunk(type=ABORT), HTTPChunk(type=UNKNOWN),
    ]), max_size=8))  # fmt: skip
    def test_onlyWhatTheGrammarHas(self, response: bool, chunks: list[HTTPChunk]) -> None:
        """
        The sentences that are accepted are those of the regular expression of the documentation.
        """
        message = MessageChunks(response)
        text = ""
        for chunk in chunks:
            if chunk.type == UNKNOWN:
                continue
            status = 0 if chunk.response is None else chunk.response.status
            word = {ABORT: "x", DATA: "d", TRAILERS: "t"}.get(chunk.type) or (
                "q" if chunk.request is not None else {103: "i", 101: "u"}.get(status, "h")
            )
            text += word.upper() if chunk.end and chunk.type != ABORT else word
            accepted = _begins(response, text)
            try:
                message.receive(chunk)
            except BadChunk:
                self.assertFalse(accepted, text)
                return
            self.assertTrue(accepted, text)
            self.assertEqual(message.ended, text[-1] in "xQHDTU")


_REQUESTS = re.compile("x|Q|q(d*)(|[xDT])", re.DOTALL)
_RESPONSES = re.compile("i*(|x|H|U|h(d*)(|[xDT])|u(d*)(|[xD]))")


def _begins(response: bool, text: str) -> bool:
    """
    @return: whether a message may begin so; an upper-case letter is the last chunk.
    """
    return (_RESPONSES if response else _REQUESTS).fullmatch(text) is not None


class HeadTests(SynchronousTestCase):
    """
    Heads of requests and responses.
    """

    def request(self, head: HTTPRequestHead, ended: bool = False) -> HTTPRequestHead:
        head.framing = request_framing_untrusted(head)
        return read_request_untrusted(request_record(head), ended)

    def test_aRequestArrivesAsItWasSent(self) -> None:
        fields = [(b"Host", b"a.example"), (b"X-A", b"1"), (b"x-a", b"\xff"), (b"Content-Length", b"5")]
        head = self.request(HTTPRequestHead(b"POST", b"/a%20b?c=%3F?d", fields))
        self.assertEqual((head.method, head.target, head.fields), (b"POST", b"/a%20b?c=%3F?d", fields))
        self.assertEqual((head.framing.body, head.framing.host), (5, b"a.example"))

    def test_aBodyOfUnknownLengthKeepsItsMark(self) -> None:
        head = self.request(HTTPRequestHead(b"POST", b"/", [(b"Host", b"a"), (b"Transfer-Encoding", b"chunked")]))
        self.assertEqual((head.framing.body, head.field(b"transfer-encoding")), (CHUNKED, b"chunked"))
        head = self.request(HTTPRequestHead(b"GET", b"/", [(b"Host", b"a")]), True)
        self.assertEqual((head.framing.body, head.fields), (0, [(b"Host", b"a")]))

    def test_anUpgradeIsAnOffer(self) -> None:
        fields = [(b"Host", b"a"), (b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Key", b"k")]
        sent = HTTPRequestHead(b"GET", b"/", fields)
        sent.framing = request_framing_untrusted(sent)
        record = request_record(sent)
        self.assertEqual((record.upgrade, record.content_length), ("websocket", None))
        self.assertIn(Header(name="Connection", value=b"Upgrade"), record.headers)
        head = read_request_untrusted(record, False)
        self.assertEqual((head.framing.upgrade, head.framing.body, head.field(b"connection")), (b"websocket", 0, None))

    def test_whatConcernsOneConnectionIsNotCarried(self) -> None:
        names = (b"Connection", b"Keep-Alive", b"Proxy-Connection", b"X-Jetty-Forwarded-From", b"X-Named")
        fields = [(b"Host", b"a"), (b"Connection", b"X-Named, close"), *((name, b"v") for name in names[1:])]
        sent = HTTPRequestHead(b"GET", b"/", fields, framing=Framing(host=b"a"))
        record = request_record(evolve(sent, framing=Framing(host=b"a")))
        self.assertEqual([each.name for each in record.headers], ["Host", "X-Named"])
        stranger = RequestHead(
            method="GET", path="/", headers=tuple(Header(name=name.decode(), value=value) for name, value in fields)
        )
        self.assertEqual(
            [name for name, _ in read_request_untrusted(stranger, True).fields], [b"Host", b"X-Jetty-Forwarded-From"]
        )

    def test_whatIsNoRequestIsRefused(self) -> None:
        good = RequestHead(method="GET", path="/", headers=(Header(name="Host", value=b"a"),))
        read_request_untrusted(good, True)
        headers = good.headers
        for changes in (
            {"method": "G T"}, {"method": ""}, {"path": "a"}, {"path": "/ b"}, {"path": "/", "query": "a\r\nb"}, {"path": "*"},
            {"headers": headers + headers}, {"headers": (Header(name="Host", value=b"a b"),)},
            {"headers": (*headers, Header(name="X", value=b"a\r\nb"))}, {"headers": (*headers, Header(name="X:", value=b""))},
            {"headers": (*headers, Header(name="Content-Length", value=b"+1"))}, {"content_length": 5},
            {"content_length": 0, "headers": (*headers, Header(name="Content-Length", value=b"1"))},
            {"headers": (*headers, Header(name="Content-Length", value=b"0"), Header(name="Transfer-Encoding", value=b"x"))},
            {"upgrade": "websocket"},
        ):  # fmt: skip
            self.assertRaises(BadMessage, read_request_untrusted, evolve(good, **changes), True)    # type: ignore[arg-type]

    def test_anEdgeThatNamesNoHostMeansThePublicOne(self) -> None:
        record = RequestHead(method="OPTIONS", path="*", trace_parent="00-1-2-01")
        head = read_request_untrusted(record, True, b"demo.example")
        self.assertEqual(head.fields, [(b"Host", b"demo.example"), (b"traceparent", b"00-1-2-01")])
        self.assertEqual(head.target, b"*")
        kept = read_request_untrusted(evolve(record, headers=(Header(name="Traceparent", value=b"own"),)), True)
        self.assertEqual(kept.field(b"traceparent"), b"own")
        self.assertIsNone(read_request_untrusted(evolve(record, trace_parent="a\r\nb"), True).field(b"traceparent"))

    def test_aResponseArrivesAsItWasSent(self) -> None:
        fields = [(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"Content-Length", b"5")]
        head = self.response(HTTPResponseHead(200, b"OK", fields))
        self.assertEqual((head.status, head.reason, head.fields, head.framing.body), (200, b"OK", fields, 5))

    def response(self, head: HTTPResponseHead, ended: bool = False, method: bytes = b"GET") -> HTTPResponseHead:
        return read_response_untrusted(response_record(head), ended, method, DEFAULT_LIMITS)

    def test_aResponseHasTheLengthThatItNames(self) -> None:
        unknown = HTTPResponseHead(200, b"", [])
        self.assertEqual(self.response(unknown).framing.body, CHUNKED)
        self.assertEqual(self.response(unknown, True).fields, [(b"Content-Length", b"0")])
        five = HTTPResponseHead(200, b"", [(b"Content-Length", b"5")])
        for head, method in ((five, b"HEAD"), (evolve(five, status=304), b"GET")):
            read = self.response(head, True, method)
            self.assertEqual((read.framing.body, read.field(b"content-length")), (0, b"5"))
        self.assertEqual(self.response(evolve(five, status=204), True).fields, [])
        self.assertRaises(BadMessage, self.response, five, True)

    def test_anUpgradeIsAccepted(self) -> None:
        head = HTTPResponseHead(101, b"", [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", b"x")])
        self.assertEqual([each.name for each in response_record(head).headers], [
            "Sec-WebSocket-Accept", "Connection", "Upgrade",
        ])  # fmt: skip
        read = self.response(head)
        self.assertEqual((read.status, read.framing.upgrade, read.field(b"upgrade")), (101, b"websocket", b"websocket"))
        self.assertEqual((read.framing.body, read.field(b"connection")), (0, None))

    def test_aHeadHasItsLimits(self) -> None:
        head = response_record(HTTPResponseHead(200, b"", [(b"X", b"v")] * 3))
        limits = HeadLimits(octets=1000, fields=2)
        self.assertRaises(HeadTooLarge, read_response_untrusted, head, False, b"GET", limits)
        limits = HeadLimits(octets=10, fields=20)
        self.assertRaises(HeadTooLarge, read_response_untrusted, head, False, b"GET", limits)


class DataTests(SynchronousTestCase):
    """
    DATA is encoded by a shorter way than other chunks.
    """

    def test_theVectorsMatch(self) -> None:
        found = 0
        for record, text in VECTORS:
            if isinstance(record, HTTPChunk) and record.type == DATA:
                self.assertEqual(encode_prefixed(encode_data(record.data, record.end)).hex(), text)
                found += 1
        self.assertEqual(found, 3)

    @given(st.binary(max_size=300), st.booleans())
    def test_itIsTheSameMessage(self, octets: bytes, end: bool) -> None:
        self.assertEqual(encode_data(octets, end), encode_message(HTTPChunk(type=DATA, data=octets, end=end)))
