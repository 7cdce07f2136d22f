"""
What heads say about messages and connections.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.http1 import framing
from tunnelstack.wire.http1.framing import (
    CACHED_NAMES,
    CHUNKED,
    LONGEST_CACHED_NAME,
    UNTIL_CLOSE,
    Framing,
    end_to_end,
    outgoing_framing,
    request_framing_untrusted,
    response_framing_untrusted,
    without,
)
from tunnelstack.wire.http1.head import Fields, RequestHead, ResponseHead


def request(*fields: tuple[bytes, bytes], version: tuple[int, int] = (1, 1)) -> Framing:
    return request_framing_untrusted(RequestHead(b"GET", b"/", [(b"Host", b"a"), *fields], version))


def response(status: int, *fields: tuple[bytes, bytes], method: bytes = b"GET", old: bool = False) -> Framing:
    return response_framing_untrusted(ResponseHead(status, b"", list(fields), (1, 0) if old else (1, 1)), method)


class BodyTests(SynchronousTestCase):
    """
    How long a body is.
    """

    def test_requestsHaveTheirBodies(self) -> None:
        self.assertEqual(request().body, 0)
        self.assertEqual(request((b"content-length", b"007")).body, 7)
        self.assertEqual(request((b"TRANSFER-ENCODING", b"CHUNKED")).body, CHUNKED)

    def test_responsesHaveTheirBodies(self) -> None:
        self.assertEqual(response(200, (b"Content-Length", b"5")).body, 5)
        self.assertEqual(response(200, (b"Transfer-Encoding", b"chunked")).body, CHUNKED)
        self.assertEqual(response(200).body, UNTIL_CLOSE)

    def test_responsesThatHaveNone(self) -> None:
        for status in (100, 101, 199, 204, 304):
            self.assertEqual(response(status, (b"Content-Length", b"5")).body, 0)
            self.assertEqual(response(status, (b"Transfer-Encoding", b"chunked")).body, 0)
            self.assertEqual(response(status).body, 0)
        self.assertEqual(response(200, (b"Content-Length", b"5"), method=b"HEAD").body, 0)
        self.assertTrue(response(304).keep_alive)


class KeepTests(SynchronousTestCase):
    """
    Whether the connection is kept.
    """

    def test_connectionsAreKeptWhereBothAllow(self) -> None:
        self.assertTrue(request().keep_alive)
        self.assertFalse(request((b"Connection", b"close")).keep_alive)
        self.assertFalse(request((b"Connection", b"keep-alive, CLOSE")).keep_alive)
        self.assertFalse(request((b"Connection", b"x"), (b"connection", b"close")).keep_alive)
        self.assertFalse(request((b"Connection", b"closed")).hop_by_hop == frozenset())
        self.assertTrue(request((b"Connection", b"closed")).keep_alive)
        self.assertFalse(request(version=(1, 0)).keep_alive)
        self.assertTrue(request((b"Connection", b"Keep-Alive"), version=(1, 0)).keep_alive)

    def test_aBodyUntilTheCloseCloses(self) -> None:
        self.assertFalse(response(200, (b"Connection", b"keep-alive")).keep_alive)
        self.assertTrue(response(200, (b"Content-Length", b"0")).keep_alive)
        self.assertFalse(response(200, (b"Content-Length", b"0"), old=True).keep_alive)

    def test_expectationsAreRecognized(self) -> None:
        self.assertTrue(request((b"Expect", b"100-Continue")).expect_continue)
        self.assertFalse(request((b"Expect", b"100-Continue"), version=(1, 0)).expect_continue)
        self.assertFalse(request((b"Expect", b"tea")).expect_continue)


class EndToEndTests(SynchronousTestCase):
    """
    What is passed on.
    """

    def passed(self, *fields: tuple[bytes, bytes]) -> Fields:
        every: Fields = [(b"Host", b"a"), *fields]
        head = RequestHead(b"GET", b"/", every)
        return end_to_end(every, request_framing_untrusted(head))[1:]

    def test_nothingIsCopiedForNothing(self) -> None:
        fields: Fields = [(b"Host", b"a"), (b"Accept", b"*/*")]
        self.assertIs(end_to_end(fields, request_framing_untrusted(RequestHead(b"GET", b"/", fields))), fields)

    def test_hopByHopFieldsAreRemoved(self) -> None:
        self.assertEqual(self.passed(
            (b"Connection", b"keep-alive, X-Mine"), (b"Keep-Alive", b"timeout=5"), (b"x-mine", b"1"), (b"X-Yours", b"2"),
            (b"Proxy-Connection", b"keep-alive"), (b"Proxy-Authorization", b"x"), (b"TE", b"gzip"), (b"Upgrade", b"h2c"),
            (b"HTTP2-Settings", b"x"),
        ), [(b"X-Yours", b"2")])

    def test_hopByHopFieldsNeedNoConnectionField(self) -> None:
        self.assertEqual(self.passed((b"Keep-Alive", b"timeout=5"), (b"Upgrade", b"websocket"), (b"TE", b"trailers")), [])

    def test_someFieldsAreKeptDespiteConnection(self) -> None:
        kept = ((b"Content-Length", b"1"), (b"Expect", b"100-continue"))
        self.assertEqual(self.passed((b"Connection", b"host, content-length, expect"), *kept), list(kept))
        self.assertEqual(end_to_end([(b"Host", b"a")], request((b"Connection", b"host"))), [(b"Host", b"a")])

    def test_theMarksStay(self) -> None:
        self.assertEqual(
            self.passed((b"Connection", b"upgrade, te"), (b"Upgrade", b"websocket, h2c"), (b"TE", b"gzip, trailers"),
                        (b"Transfer-Encoding", b"chunked")),
            [(b"Transfer-Encoding", b"chunked"), (b"Upgrade", b"websocket"), (b"TE", b"trailers")],
        )

    def test_HTTP10HasNoUpgrade(self) -> None:
        self.assertEqual(request((b"Connection", b"upgrade"), (b"Upgrade", b"x"), version=(1, 0)).upgrade, b"")


class OutgoingTests(SynchronousTestCase):
    """
    What a connection adds.
    """

    def test_framingOfOutgoingHeadsIsTold(self) -> None:
        def told(*fields: tuple[bytes, bytes]) -> Framing:
            return outgoing_framing(ResponseHead(200, b"OK", list(fields)))

        self.assertEqual((told().body, told().options), (UNTIL_CLOSE, ()))
        self.assertEqual(outgoing_framing(RequestHead(b"GET", b"/")).body, 0)
        self.assertEqual(told((b"content-length", b"3")).body, 3)
        self.assertEqual(told((b"Transfer-Encoding", b"chunked")).body, CHUNKED)
        self.assertEqual(told((b"upgrade", b"x"), (b"te", b"trailers")).options, (b"Upgrade", b"TE"))

    def test_outgoingAsItWasRead(self) -> None:
        head = RequestHead(b"PUT", b"/", [(b"Host", b"a"), (b"Content-Length", b"3")])
        head.framing = request_framing_untrusted(head)
        self.assertIs(outgoing_framing(head), head.framing)

    def test_spellingsAreRememberedWithinBounds(self) -> None:
        for number in range(2 * CACHED_NAMES):
            name = b"x-%d" % number + b"x" * (number % 100)
            request_framing_untrusted(RequestHead(b"GET", b"/", [(b"hOsT", b"a"), (name, b"")]))
        self.assertLessEqual(len(framing._field_kinds), CACHED_NAMES)
        self.assertLessEqual(max(map(len, framing._field_kinds)), LONGEST_CACHED_NAME)
        late = RequestHead(b"GET", b"/", [(b"Host", b"a"), (b"cOnTeNt-lEnGtH", b"3")])
        self.assertEqual(request_framing_untrusted(late).body, 3)

    def test_fieldsAreRemovedByName(self) -> None:
        self.assertEqual(without([(b"A", b"1"), (b"b", b"2"), (b"a", b"3")], b"a"), [(b"b", b"2")])
