"""
Heads of HTTP/1.1: taken and refused as the lists say, at every split, and never otherwise than h11 reads them.
"""

from __future__ import annotations

import h11
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.heads_http1 import BAD_RESPONSES, LOOSER, MALFORMED, REQUESTS, RESPONSES, STRICTER
from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.http1.framing import (
    CHUNKED,
    Framing,
    request_framing_untrusted,
    response_framing_untrusted,
)
from tunnelstack.wire.http1.head import (
    BadMessage,
    Fields,
    HeadLimits,
    RequestHead,
    ResponseHead,
    encode_request,
    encode_response,
    find_end_untrusted,
    read_request_untrusted,
    read_response_untrusted,
    request_prefix,
    values,
)
from tunnelstack.wire.http1.target import percent_encoded


def readRequest(octets: bytes, cut: int = 0) -> tuple[RequestHead, Framing]:
    """
    As a server does: the first C{cut} octets come earlier.
    """
    if cut:
        end = find_end_untrusted(octets[:cut])
        assert end < 0, end
    end = find_end_untrusted(octets, cut)
    if end < 0:
        raise BadMessage("it does not end")
    head = read_request_untrusted(octets, end)
    return head, request_framing_untrusted(head)


def status(octets: bytes, cut: int = 0) -> int:
    """
    @return: with which status it is refused; C{0} if it is not.
    """
    try:
        readRequest(octets, cut)
    except BadMessage as bad:
        return bad.status
    return 0


def lowered(fields: Fields) -> Fields:
    """
    As h11 gives them.
    """
    return [(name.lower(), value) for name, value in fields]


def h11Reads(octets: bytes) -> h11.Request | None:
    """
    @return: C{None} if h11 refuses it.
    """
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(octets)
    try:
        event = judge.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


def h11Body(octets: bytes) -> int:
    """
    @return: the length of the body as h11 understands the head.
    """
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(octets)
    judge.next_event()
    reader = judge._reader
    if isinstance(reader, h11._readers.ChunkedReader):
        return CHUNKED
    return getattr(reader, "_remaining", 0)


class ListTests(SynchronousTestCase):
    """
    The lists, whole and at every split.
    """

    def test_whatIsWellFormedIsTaken(self) -> None:
        for name, octets in {**REQUESTS, **LOOSER}.items():
            for cut in range(len(octets)):
                self.assertEqual(status(octets, cut), 0, (name, cut))

    def test_aFragmentIsNamedInTheError(self) -> None:
        octets = b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"
        self.assertRaisesRegex(BadMessage, "has a fragment", read_request_untrusted, octets, len(octets))

    def test_controlOctetsInATargetAreRefused(self) -> None:
        for octet in (*range(0x21), 0x7F):
            octets = b"GET /a%bb HTTP/1.1\r\nHost: a\r\n\r\n" % bytes([octet])
            self.assertEqual(status(octets), 400, octet)

    def test_whatIsMalformedIsRefused(self) -> None:
        for name, (octets, expected) in {**MALFORMED, **STRICTER}.items():
            self.assertEqual(status(octets), expected, name)

    def test_aSplitMakesNothingAcceptable(self) -> None:
        for name, (octets, _) in {**MALFORMED, **STRICTER}.items():
            for cut in range(1, len(octets)):
                try:
                    end = find_end_untrusted(octets[:cut])
                except BadMessage:
                    continue
                if end < 0:
                    self.assertTrue(status(octets, cut), (name, cut))

    def test_responsesAreRead(self) -> None:
        for name, octets in RESPONSES.items():
            for cut in range(len(octets)):
                self.assertEqual(find_end_untrusted(octets[:cut]), -1, (name, cut))
                end = find_end_untrusted(octets, cut)
                self.assertEqual(end, len(octets))
                response_framing_untrusted(read_response_untrusted(octets, end), b"GET")

    def test_badResponsesAreErrors(self) -> None:
        for name, octets in BAD_RESPONSES.items():
            with self.assertRaises(BadMessage, msg=name):
                response_framing_untrusted(read_response_untrusted(octets, find_end_untrusted(octets)), b"GET")

    def test_namesAndValuesAreAsReceived(self) -> None:
        head, _ = readRequest(b"GET /a HTTP/1.1\r\nhOsT:\ta \t\r\nX-a:  b c  \r\nx-A:\r\n\r\n")
        self.assertEqual(head, RequestHead(b"GET", b"/a", [(b"hOsT", b"a"), (b"X-a", b"b c"), (b"x-A", b"")]))
        self.assertEqual(head.field(b"host"), b"a")
        self.assertIs(head.field(b"none"), None)
        self.assertEqual(values(head.fields, b"x-a"), [b"b c", b""])

    def test_versionsAreRead(self) -> None:
        self.assertEqual(readRequest(REQUESTS["old"])[0].version, (1, 0))
        self.assertEqual(readRequest(REQUESTS["plain"])[0].version, (1, 1))


class BoundTests(SynchronousTestCase):
    """
    What a head may take of us.
    """

    limits = HeadLimits(octets=100, fields=3)

    def refused(self, octets: bytes) -> int:
        with self.assertRaises(BadMessage) as caught:
            read_request_untrusted(octets, find_end_untrusted(octets, 0, self.limits), self.limits)
        return caught.exception.status

    def test_octetsOfAHeadAreBounded(self) -> None:
        line = b"GET / HTTP/1.1\r\nX: "
        fits = line + b"a" * (100 - len(line) - 4) + b"\r\n\r\n"
        self.assertEqual(find_end_untrusted(fits, 0, self.limits), 100)
        self.assertEqual(self.refused(fits[:-4] + b"a\r\n\r\n"), 431)
        self.assertEqual(self.refused(b"A" * 100), 431)

    def test_aLongHeadIsRefusedBeforeItEnds(self) -> None:
        with self.assertRaises(BadMessage):
            find_end_untrusted(b"GET /" + b"a" * 95, 0, self.limits)

    def test_fieldsOfAHeadAreBounded(self) -> None:
        head = b"GET / HTTP/1.1\r\n%b\r\n"
        octets = head % (b"a: b\r\n" * 3)
        self.assertEqual(len(read_request_untrusted(octets, len(octets), self.limits).fields), 3)
        self.assertEqual(self.refused(head % (b"a: b\r\n" * 4)), 431)

    def test_whatIsNoHTTPIsRefusedAtOnce(self) -> None:
        for octets in (b"\x16\x03\x01\x02", b"\x00", b" GET", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\rX"):
            with self.assertRaises(BadMessage, msg=octets):
                find_end_untrusted(octets)

    def test_fieldsAreReadInLinearTime(self) -> None:
        """
        Were it not linear, this would take minutes.
        """
        octets = b"GET / HTTP/1.1\r\n" + b"a:" + b" \t" * 500_000 + b"\x00\r\n\r\n"
        with self.assertRaises(BadMessage):
            read_request_untrusted(octets, len(octets))


class WriteTests(SynchronousTestCase):
    """
    What is written is read the same.
    """

    def test_headsSurviveWritingAndReading(self) -> None:
        for octets in REQUESTS.values():
            head, _ = readRequest(octets)
            if head.version == (1, 1):
                self.assertEqual(readRequest(encode_request(head))[0], head)
        response = ResponseHead(404, b"Not Found", [(b"A", b"b"), (b"a", b"")])
        self.assertEqual(encode_response(response), b"HTTP/1.1 404 Not Found\r\nA: b\r\na: \r\n\r\n")
        self.assertEqual(encode_response(ResponseHead(200, b"")), b"HTTP/1.1 200 \r\n\r\n")

    def test_noLineBreakGetsOut(self) -> None:
        for head in (
            RequestHead(b"GET", b"/\r\nX: y", [(b"Host", b"a")]),
            RequestHead(b"GET", b"/", [(b"Host", b"a\r\nX: y")]),
            RequestHead(b"GET", b"/", [(b"Host\n", b"a")]),
            RequestHead(b"G\rET", b"/"),
        ):
            self.assertRaises(UsageError, encode_request, head)
        self.assertRaises(UsageError, encode_response, ResponseHead(200, b"OK\n"))
        for value in (b"a\r\nX: y", b"\n", b"\r"):
            head = RequestHead(b"GET", b"/", [(b"Host", value)])
            head.prefix = request_prefix(RequestHead(b"GET", b"/", [(b"Host", b"a")]))
            self.assertRaises(UsageError, encode_request, head)

    def test_aPrefixIsWrittenBeforeTheLastValue(self) -> None:
        head = RequestHead(b"GET", b"/", [(b"Host", b"a"), (b"X", b"one")])
        other = RequestHead(b"GET", b"/", [(b"Host", b"a"), (b"X", b"")])
        expected = encode_request(other)
        other.prefix = request_prefix(head)
        self.assertEqual(other.prefix, b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        self.assertEqual(encode_request(other), expected)

    def test_aChangedCopyOfAHeadHasNoPrefix(self) -> None:
        head = RequestHead(b"GET", b"/", [(b"Host", b"a")])
        head.prefix = request_prefix(head)
        changed = evolve(head, fields=[(b"Host", b"b")])
        self.assertEqual(encode_request(changed), b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")


class DifferentialTests(SynchronousTestCase):
    """
    h11 judges.
    """

    def judge(self, octets: bytes) -> None:
        """
        What we take, h11 reads the same; but for octets of a target that it wants to be percent-encoded.
        """
        head, framing = readRequest(octets)
        head.target, sent = percent_encoded(head.target), head.target
        octets = octets.replace(sent, head.target, 1) if sent != head.target else octets
        theirs = h11Reads(octets)
        self.assertIsNot(theirs, None, octets)
        assert theirs is not None
        self.assertEqual((head.method, head.target), (theirs.method, theirs.target))
        self.assertEqual(
            [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in lowered(head.fields)],
            list(map(tuple, theirs.headers)),
        )
        self.assertEqual(b"%d.%d" % head.version, theirs.http_version)
        if head.method != b"CONNECT":
            self.assertEqual(framing.body, h11Body(octets), octets)

    def test_whatWeTakeOthersTakeAlike(self) -> None:
        for octets in (*REQUESTS.values(), *LOOSER.values()):
            self.judge(octets)

    def test_h11RefusesSomeThatWeTake(self) -> None:
        for name, octets in LOOSER.items():
            self.assertIs(h11Reads(octets), None, name)

    def test_h11RefusesThese(self) -> None:
        for name, (octets, _) in MALFORMED.items():
            self.assertIs(h11Reads(octets), None, name)

    def test_weAloneRefuseThese(self) -> None:
        for name, (octets, _) in STRICTER.items():
            self.assertIsNot(h11Reads(octets), None, name)

    @given(st.lists(st.sampled_from([
        b"GET", b"POST", b" ", b" ", b"/", b"/a?b", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\t",
        b"Host: a", b"Host", b":", b"a", b"Content-Length: 3", b"Content-Length:", b"3", b"Transfer-Encoding: chunked", b",",
        b"chunked", b"Connection: close", b"X: y", b"\x00", b"\xff", b"\x0b",
    ]), min_size=4, max_size=14))
    def test_anythingIsReadAsByH11OrRefused(self, pieces: list[bytes]) -> None:
        octets = b"GET / HTTP/1.1\r\n" * (len(pieces) % 2) + b"".join(pieces) + b"\r\n\r\n"
        octets = octets[:octets.index(b"\r\n\r\n") + 4]
        try:
            readRequest(octets)
        except PeerError:
            return
        self.judge(octets)

    @given(
        st.sampled_from([*REQUESTS.values(), *(octets for octets, _ in [*MALFORMED.values(), *STRICTER.values()])]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 1),
        st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b",", b"a", b"0", b"9", b"\x00", b"\x7f", b"\x80"]),
    )
    def test_headsWithAChangedOctetAreReadAsByH11OrRefused(self, octets: bytes, where: float, taken: int, put: bytes) -> None:
        position = int(where * len(octets))
        octets = octets[:position] + put + octets[position + taken:]
        end = octets.find(b"\r\n\r\n")
        try:
            readRequest(octets[:end + 4] if end >= 0 else octets)
        except PeerError:
            return
        self.judge(octets[:end + 4])


class SplitTests(SynchronousTestCase):
    """
    Octets in any order of arrival.
    """

    @given(st.sampled_from(sorted(REQUESTS)), st.lists(st.integers(1, 20), max_size=20))
    def test_headsMayBeSplitAnywhere(self, name: str, cuts: list[int]) -> None:
        octets = REQUESTS[name]
        buffer, rest, searched = b"", octets, 0
        for cut in [*cuts, len(octets)]:
            buffer, rest = buffer + rest[:cut], rest[cut:]
            if not buffer:
                continue
            end = find_end_untrusted(buffer, searched)
            self.assertEqual(end, len(octets) if not rest else -1)
            if not rest:
                break
            searched = len(buffer)
