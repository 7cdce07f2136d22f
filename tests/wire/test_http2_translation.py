"""
Heads of HTTP/2 as those of HTTP/1.1, and back.  What is taken has one reading in HTTP/1.1.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.heads_http2 import (
    BAD,
    CONNECT,
    GET,
    GOOD,
    KEY,
    POST,
    changed,
    check_one_reading,
    smuggled,
    written,
)
from tunnelstack.wire.http1.framing import CHUNKED, Framing
from tunnelstack.wire.http1.head import (
    DEFAULT_LIMITS,
    BadMessage,
    Fields,
    HeadLimits,
    HeadTooLarge,
    RequestHead,
    ResponseHead,
)
from tunnelstack.wire.http1.message import MessageWriter
from tunnelstack.wire.http2.message_fields import MalformedMessage, trailers_from_http2, trailers_to_http2
from tunnelstack.wire.http2.translation import (
    HTTP_2,
    request_from_http2,
    request_to_http2,
    response_from_http2,
    response_to_http2,
)
from tunnelstack.wire.http2.websocket import accept_for, opens_websocket, random_key

ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="         # RFC 6455, section 1.3


def read(fields: Fields, ended: bool = True) -> RequestHead:
    return request_from_http2(fields, ended, make_key=lambda: KEY)


class RequestTests(SynchronousTestCase):
    """
    Requests that arrive.
    """

    def status(self, fields: Fields, ended: bool = True) -> int:
        try:
            read(fields, ended)
        except BadMessage as bad:
            return bad.status
        return 0

    def test_validRequestsAreTranslated(self) -> None:
        for name, (fields, ended) in GOOD.items():
            self.assertEqual(self.status(fields, ended), 0, name)
            check_one_reading(read(fields, ended))

    def test_invalidOnesAreRejected(self) -> None:
        for name, (fields, ended, status) in BAD.items():
            self.assertEqual(self.status(fields, ended), status, name)

    def test_aPlainRequest(self) -> None:
        head = read([*GET, (b"accept", b"*/*")])
        self.assertEqual((head.method, head.target, head.version), (b"GET", b"/b?c", HTTP_2))
        self.assertEqual(head.fields, [(b"Host", b"a.example"), (b"accept", b"*/*")])
        self.assertEqual(head.framing, Framing(0, True, b"a.example"))

    def test_theLengthOfTheBodyIsFound(self) -> None:
        for fields, ended, body in (
            (POST, False, CHUNKED), (POST, True, 0), ([*POST, (b"content-length", b"7")], False, 7),
            ([*POST, (b"content-length", b"0")], False, 0),
        ):
            head = read(fields, ended)
            self.assertEqual(head.framing.body, body)
            self.assertEqual(head.field(b"transfer-encoding"), b"chunked" if body == CHUNKED else None)

    def test_crumbsOfCookiesAreJoined(self) -> None:
        head = read([*GET, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"), (b"cookie", b"c=3")])
        self.assertEqual(head.fields[1:], [(b"cookie", b"a=1; b=2; c=3"), (b"x", b"y")])

    def test_fieldsForProxiesEndHere(self) -> None:
        head = read([*GET, (b"proxy-authorization", b"x"), (b"http2-settings", b"AAM"), (b"x", b"y")])
        self.assertEqual(head.fields[1:], [(b"x", b"y")])

    def test_trailersAreAccepted(self) -> None:
        head = read([*POST, (b"te", b"Trailers")], False)
        self.assertTrue(head.framing.trailers)
        again, framing = written(head)
        self.assertTrue(framing.trailers)
        self.assertEqual(again.field(b"connection"), b"TE")

    def test_continueIsAwaited(self) -> None:
        self.assertTrue(read([*POST, (b"expect", b"100-Continue")], False).framing.expect_continue)

    def test_limits(self) -> None:
        few = HeadLimits(octets=1024, fields=8)
        request_from_http2([*GET, *[(b"x", b"y")] * 4], True, few)
        with self.assertRaises(HeadTooLarge) as many:
            request_from_http2([*GET, *[(b"x", b"y")] * 5], True, few)
        self.assertEqual((many.exception.what, many.exception.limit), ("fields", 8))
        with self.assertRaises(HeadTooLarge) as long:
            request_from_http2([*GET, (b"x", b"y" * 1024)], True, few)
        self.assertEqual((long.exception.what, long.exception.limit), ("octets", 1024))

    def test_aMalformedRequestIsToldFromOthers(self) -> None:
        for name, malformed in (("an uppercase name", True), ("a proxy is meant", False), ("too long", False)):
            with self.assertRaises(BadMessage) as raised:
                read(BAD[name][0], BAD[name][1])
            self.assertEqual(isinstance(raised.exception, MalformedMessage), malformed, name)

    def test_whatHTTP1RefusesIsRefusedOrHasOneReading(self) -> None:
        taken = []
        for name, fields in smuggled():
            for ended in (False, True):
                try:
                    head = read(fields, ended)
                except BadMessage:
                    continue
                check_one_reading(head)
                taken.append(name)
        # What is wrong with these is the version, a line, or the number of Hosts, all of which HTTP/2 has in another way.
        harmless = ("no host", "two hosts", "version", "no colon")
        self.assertEqual([name for name in taken if not any(each in name for each in harmless)], [])


class WebSocketTests(SynchronousTestCase):
    """
    RFC 8441.
    """

    def test_aConnectIsAnUpgrade(self) -> None:
        head = read([*CONNECT, (b"sec-websocket-protocol", b"chat")], False)
        again, framing = written(head)
        self.assertEqual((again.method, again.target, framing.body), (b"GET", b"/chat", 0))
        self.assertEqual((framing.upgrade, again.field(b"connection")), (b"websocket", b"Upgrade"))
        self.assertEqual((again.field(b"sec-websocket-key"), again.field(b"sec-websocket-version")), (KEY, b"13"))
        self.assertEqual(again.field(b"sec-websocket-protocol"), b"chat")
        self.assertTrue(opens_websocket(head))

    def test_theVersionIsAdded(self) -> None:
        head = read([field for field in CONNECT if field[0] != b"sec-websocket-version"], False)
        self.assertEqual(head.field(b"sec-websocket-version"), b"13")

    def test_aKeyOfTheVisitorIsDropped(self) -> None:
        head = read([*CONNECT, (b"sec-websocket-key", b"x"), (b"sec-websocket-accept", b"y")], False)
        self.assertEqual([value for name, value in head.fields if name.lower() == b"sec-websocket-key"], [KEY])
        self.assertIsNone(head.field(b"sec-websocket-accept"))

    def test_theKeyIsAnswered(self) -> None:
        self.assertEqual(accept_for(KEY), ACCEPT)
        self.assertNotEqual(random_key(), random_key())

    def opened(self, *fields: tuple[bytes, bytes]) -> Fields:
        return response_to_http2(ResponseHead(101, b"", list(fields)), read(CONNECT, False))

    def test_an101Is200(self) -> None:
        fields = self.opened(
            (b"Upgrade", b"WebSocket"), (b"Sec-WebSocket-Accept", ACCEPT), (b"Sec-WebSocket-Protocol", b"chat"),
        )
        self.assertEqual(fields, [(b":status", b"200"), (b"sec-websocket-protocol", b"chat")])

    def test_anAnswerThatDoesNotFitIsRefused(self) -> None:
        upgrade, accept = (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", ACCEPT)
        for fields in (
            [upgrade], [accept], [upgrade, (accept[0], KEY)], [(upgrade[0], b"h2c"), accept], [upgrade, accept, accept],
            [upgrade, upgrade, accept],
        ):
            with self.assertRaises(BadMessage) as raised:
                self.opened(*fields)
            self.assertEqual(raised.exception.status, 502)

    def test_successWithoutAWebSocketIsRefused(self) -> None:
        request = read(CONNECT, False)
        for status in (200, 204, 299):
            self.assertRaises(BadMessage, response_to_http2, ResponseHead(status, b"", []), request)
        self.assertEqual(response_to_http2(ResponseHead(403, b"", []), request), [(b":status", b"403")])

    def test_an101ThatWasNotOffered(self) -> None:
        self.assertRaises(BadMessage, response_to_http2, ResponseHead(101, b"", []), read(GET))

    def test_bothTranslations(self) -> None:
        """
        A visitor of HTTP/2 reaches a server of HTTP/2 by HTTP/1.1.
        """
        request = read(CONNECT, False)
        fields = request_to_http2(request, b"https")
        self.assertEqual(fields[:5], [
            (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"), (b":authority", b"a.example"),
            (b":path", b"/chat"),
        ])
        self.assertNotIn(b"sec-websocket-key", dict(fields))
        response = response_from_http2([(b":status", b"200"), (b"x", b"y")], request, False)
        self.assertEqual((response.status, response.framing.upgrade), (101, b"websocket"))
        self.assertEqual(response_to_http2(response, request), [(b":status", b"200"), (b"x", b"y")])

    def test_aServerThatRefuses(self) -> None:
        request = read(CONNECT, False)
        self.assertEqual(response_from_http2([(b":status", b"404")], request, True).status, 404)
        self.assertRaises(BadMessage, response_from_http2, [(b":status", b"200")], request, True)
        self.assertRaises(BadMessage, response_from_http2, [(b":status", b"101")], request, False)


class ResponseTests(SynchronousTestCase):
    """
    Responses that are sent, and that arrive.
    """

    def test_fieldsOfConnectionsAreNotSent(self) -> None:
        head = ResponseHead(200, b"OK", [
            (b"Content-Type", b"text/plain"), (b"Connection", b"close"), (b"Keep-Alive", b"5"),
            (b"Transfer-Encoding", b"chunked"), (b"Upgrade", b"h2c"), (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"),
        ])
        self.assertEqual(response_to_http2(head, read(GET)), [
            (b":status", b"200"), (b"content-type", b"text/plain"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"),
        ])

    def test_noLengthWhereThereIsNoBody(self) -> None:
        for status, kept in ((103, False), (204, False), (304, True), (200, True)):
            fields = response_to_http2(ResponseHead(status, b"", [(b"Content-Length", b"5")]), read(GET))
            self.assertEqual((b"content-length", b"5") in fields, kept, status)

    def response(self, *fields: tuple[bytes, bytes], ended: bool = False, method: bytes = b"GET") -> ResponseHead:
        request = RequestHead(method, b"/", [(b"Host", b"a")])
        return response_from_http2([(b":status", b"200"), *fields], request, ended)

    def test_theLengthOfTheBodyIsFound(self) -> None:
        self.assertEqual(self.response().framing.body, CHUNKED)
        self.assertEqual(self.response().fields, [(b"Transfer-Encoding", b"chunked")])
        self.assertEqual(self.response((b"content-length", b"7")).framing.body, 7)
        ended = self.response(ended=True)
        self.assertEqual((ended.framing.body, ended.fields), (0, [(b"content-length", b"0")]))
        head = self.response((b"content-length", b"7"), ended=True, method=b"HEAD")
        self.assertEqual((head.framing.body, head.fields), (0, [(b"content-length", b"7")]))
        self.assertEqual(self.response(ended=True, method=b"HEAD").fields, [])

    def test_someStatusesHaveNoBody(self) -> None:
        for status in (b"204", b"304"):
            head = response_from_http2([(b":status", status)], RequestHead(b"GET", b"/"), True)
            self.assertEqual((head.framing.body, head.fields), (0, []))

    def test_interimResponsesAreTranslated(self) -> None:
        head = response_from_http2([(b":status", b"103"), (b"link", b"x")], RequestHead(b"GET", b"/"), False)
        self.assertEqual((head.status, head.reason, head.fields), (103, b"Early Hints", [(b"link", b"x")]))

    def test_serversAreReadLeniently(self) -> None:
        head = self.response((b"connection", b"close"), (b"transfer-encoding", b"chunked"), (b"x", b" y "))
        self.assertEqual(head.fields, [(b"x", b"y"), (b"Transfer-Encoding", b"chunked")])
        self.assertEqual(self.response((b"content-length", b"3"), (b"content-length", b"3")).framing.body, 3)

    def test_invalidOnesAreRejected(self) -> None:
        request = RequestHead(b"GET", b"/")
        bad: list[tuple[Any, bool]] = [
            ([], False), ([(b":status", b"20")], False), ([(b":status", b"2000")], False), ([(b":status", b"099")], False),
            ([(b":status", b"200"), (b":status", b"200")], False), ([(b":status", b"200"), (b":path", b"/")], False),
            ([(b"x", b"y"), (b":status", b"200")], False), ([(b":status", b"101")], False), ([(b":status", b"100")], True),
            ([(b":status", b"200"), (b"X", b"y")], False), ([(b":status", b"200"), (b"x", b"a\r\nb: c")], False),
            ([(b":status", b"200"), (b"content-length", b"3")], True),
            ([(b":status", b"200"), (b"content-length", b"3"), (b"content-length", b"4")], False),
            ([(b":status", b"200"), (b"content-length", b"3x")], False),
            ([(b":status", b"200"), *[(b"x", b"y")] * 200], False),
        ]
        for fields, ended in bad:
            self.assertRaises(BadMessage, response_from_http2, fields, request, ended)


class SentRequestTests(SynchronousTestCase):
    """
    Requests that are sent.
    """

    def test_aPlainRequest(self) -> None:
        head = RequestHead(b"GET", b"/x", [(b"Host", b"a"), (b"X-Mine", b"y"), (b"Cookie", b"a=1; b=2")])
        self.assertEqual(request_to_http2(head, b"http"), [
            (b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/x"), (b"x-mine", b"y"),
            (b"cookie", b"a=1; b=2"),
        ])

    def test_fieldsOfConnectionsAreNotSent(self) -> None:
        framing = Framing(CHUNKED, host=b"a", upgrade=b"foo", trailers=True)
        head = RequestHead(b"POST", b"/", [
            (b"Host", b"a"), (b"Transfer-Encoding", b"chunked"), (b"Upgrade", b"foo"), (b"TE", b"trailers"), (b"X", b"y"),
        ], framing=framing)
        self.assertEqual(request_to_http2(head, b"https")[4:], [(b"x", b"y"), (b"te", b"trailers")])

    def test_whatIsSentIsRead(self) -> None:
        for name, (fields, ended) in GOOD.items():
            head = read(fields, ended)
            again = request_from_http2(request_to_http2(head, b"https"), ended, make_key=lambda: KEY)
            self.assertEqual((again.method, again.target, again.framing), (head.method, head.target, head.framing), name)
            self.assertEqual(sorted(again.fields), sorted(head.fields), name)


class TrailerTests(SynchronousTestCase):
    """
    Fields after the body.
    """

    def test_trailersThatWouldChangeTheMessageAreDropped(self) -> None:
        fields = [(b"x-sum", b"1"), (b"host", b"b"), (b"content-length", b"3"), (b"grpc-status", b"0")]
        self.assertEqual(trailers_from_http2(fields, DEFAULT_LIMITS), [(b"x-sum", b"1"), (b"grpc-status", b"0")])
        upper = [(name.title(), value) for name, value in fields]
        self.assertEqual(trailers_to_http2(upper), [(b"x-sum", b"1"), (b"grpc-status", b"0")])

    def test_invalidOnesAreRejected(self) -> None:
        for field in (
            (b":status", b"200"), (b"X", b"y"), (b"x", b"a\r\nb"), (b"connection", b"close"),
            (b"transfer-encoding", b"chunked"), (b"", b"x"), (b"x", b" y"),
        ):
            self.assertRaises(BadMessage, trailers_from_http2, [field], DEFAULT_LIMITS)
        self.assertRaises(BadMessage, trailers_from_http2, [(b"x", b"y")] * 101, DEFAULT_LIMITS)


NAMES = st.one_of(
    st.sampled_from([
        b":method", b":path", b":scheme", b":authority", b":protocol", b":status", b"host", b"content-length", b"cookie",
        b"transfer-encoding", b"te", b"connection", b"upgrade", b"x", b"Content-Length", b"expect",
    ]),
    st.binary(max_size=6),
)
VALUES = st.one_of(
    st.sampled_from([
        b"GET", b"POST", b"CONNECT", b"OPTIONS", b"/", b"*", b"http", b"https", b"a", b"a:80", b"A:443", b"trailers",
        b"websocket", b"0", b"5", b"chunked", b"100-continue", b"a\r\nb: c",
    ]),
    st.binary(max_size=8),
)


class AnyFieldsTests(SynchronousTestCase):
    """
    Whatever arrives is refused, or has one reading.
    """

    @given(st.lists(st.tuples(NAMES, VALUES), max_size=8), st.booleans(), st.booleans())
    def test_requestsHaveOneReading(self, fields: Fields, plain: bool, ended: bool) -> None:
        try:
            head = read([*GET, *fields] if plain else fields, ended)
        except BadMessage:
            return
        check_one_reading(head)

    @given(st.lists(st.tuples(NAMES, VALUES), max_size=5), st.booleans(), st.sampled_from([b"GET", b"HEAD"]))
    def test_responsesHaveOneReading(self, fields: Fields, ended: bool, method: bytes) -> None:
        request = RequestHead(method, b"/", [(b"Host", b"a")])
        try:
            head = response_from_http2([(b":status", b"200"), *fields], request, ended)
        except BadMessage:
            return
        MessageWriter().response_head(head, request)
        again = response_from_http2(response_to_http2(head, read(changed(GET, b":method", method))), request, ended)
        self.assertEqual((again.status, again.framing.body), (head.status, head.framing.body))
