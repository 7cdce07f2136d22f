"""
Streams named by the head of a request: both halves, cut anywhere.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.http1.head import BadMessage, RequestHead, ResponseHead
from tunnelstack.wire.negotiation.base import (
    BUFFER_LIMIT,
    Agreed,
    NegotiationError,
    NegotiationTruncated,
    Proposed,
    Rejected,
    Release,
)
from tunnelstack.wire.negotiation.http_request import (
    LIMITS,
    REASON,
    HTTPRequestInitiator,
    HTTPRequestResponder,
    StreamRequest,
)

REQUEST = b"CONNECT /to/here HTTP/1.1\r\nHost: \r\n\r\n"
YES = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NO = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 12\r\n\r\nnot  to\nhave"


def refusal(head: ResponseHead) -> str | None:
    return None if head.status == 200 else f"{head.status}"


def splits(octets: bytes) -> list[list[bytes]]:
    ways = [[octets], [octets[at : at + 1] for at in range(len(octets))]]
    return ways + [[octets[:at], octets[at:]] for at in range(1, len(octets))]


def fed(negotiation: Any, pieces: list[bytes]) -> list[Any]:
    """
    What is said of pieces; what is left over when it is settled goes on to the application.
    """
    events: list[Any] = []
    for piece in pieces:
        if negotiation.settled:
            events[0].leftover += piece
        else:
            events += negotiation.receive_data(piece)
    return events


class SenderTests(SynchronousTestCase):
    def test_aYesIsPayloadBehindTheEmptyLineWhateverItPromises(self) -> None:
        for pieces in splits(YES + b"5\r\nno chunk"):
            ours = HTTPRequestInitiator(b"/proxy", REQUEST, refusal=refusal)
            self.assertEqual(ours.data_to_send(), [REQUEST])
            self.assertEqual(fed(ours, pieces), [Agreed(b"/proxy", {}, b"5\r\nno chunk")])

    def test_aNoWaitsForItsReason(self) -> None:
        for pieces in splits(NO):
            ours = HTTPRequestInitiator(b"/proxy", REQUEST, refusal=refusal)
            self.assertEqual(fed(ours, pieces), [Rejected("500: not to have")])

    def test_aReasonMayBeCutShortOrMissing(self) -> None:
        for octets, said in (
            (NO[:-4], "500: not to"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: x\r\n\r\nlost", "404: lost"),
        ):
            ours = HTTPRequestInitiator(b"/proxy", REQUEST, refusal=refusal)
            self.assertEqual(ours.receive_data(octets), [])
            self.assertEqual(ours.receive_eof(), [Rejected(said)])
        ours = HTTPRequestInitiator(b"/proxy", REQUEST, refusal=refusal)
        self.assertEqual(ours.receive_data(b"HTTP/1.1 503 Later\r\n\r\n"), [Rejected("503")])

    def test_aLongReasonIsReadSoFar(self) -> None:
        ours = HTTPRequestInitiator(b"/proxy", REQUEST, refusal=refusal)
        self.assertEqual(ours.receive_data(b"HTTP/1.1 500 No\r\nContent-Length: 99999\r\n\r\n" + b"x" * (REASON - 1)), [])
        self.assertEqual(ours.receive_data(b"x" * 999), [Rejected("500: " + "x" * REASON)])

    def test_whatIsNoAnswerBreaksIt(self) -> None:
        for octets in (b"SSH-2.0-Go\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n", b"HTTP/1.1 200 OK\n\n", b"A" * LIMITS.octets):
            ours = HTTPRequestInitiator(b"/proxy", REQUEST, refusal=refusal)
            self.assertRaises(PeerError, ours.receive_data, octets)
        ours = HTTPRequestInitiator(b"/proxy", REQUEST, refusal=refusal)
        ours.receive_data(YES[:-1])
        self.assertRaises(NegotiationTruncated, ours.receive_eof)

    def test_withoutAnAnswerItIsAgreedAtOnce(self) -> None:
        ours = HTTPRequestInitiator(b"/ssh", REQUEST)
        self.assertIs(ours.release, Release.AT_ONCE)
        self.assertEqual(ours.receive_data(b""), [Agreed(b"/ssh")])
        self.assertRaises(UsageError, ours.receive_data, b"")
        self.assertRaises(UsageError, HTTPRequestInitiator, b"/ssh", REQUEST, release=Release.ON_REPLY)

    def test_itTravelsAlone(self) -> None:
        self.assertTrue(HTTPRequestInitiator(b"/ssh", REQUEST).own_frame)
        self.assertTrue(HTTPRequestResponder(lambda head: StreamRequest(b"")).own_frame)


class ReceiverTests(SynchronousTestCase):
    def receiver(self, **said: Any) -> HTTPRequestResponder:
        def read(head: RequestHead) -> StreamRequest:
            return StreamRequest(b"/proxy", {"to": head.target}, yes=YES, no=lambda reason: b"no: " + reason.encode(), **said)

        return HTTPRequestResponder(read)

    def test_itIsAskedAtAnySplit(self) -> None:
        for pieces in splits(REQUEST + b"early"):
            ours = self.receiver()
            asked = [event for piece in pieces for event in ours.receive_data(piece)]
            self.assertEqual(asked, [Proposed(b"/proxy", {"to": b"/to/here"})])
            self.assertEqual(ours.data_to_send(), [])
            self.assertEqual(ours.accept(), [Agreed(b"/proxy", {"to": b"/to/here"}, b"early")])
            self.assertEqual(ours.data_to_send(), [YES])

    def test_aRefusalIsWritten(self) -> None:
        ours = self.receiver()
        ours.receive_data(REQUEST)
        self.assertEqual(ours.receive_eof(), [])
        self.assertEqual(ours.reject("nobody"), [Rejected("nobody")])
        self.assertEqual(ours.data_to_send(), [b"no: nobody"])
        self.assertRaises(UsageError, ours.accept)

    def test_theFirstOctetsAreHandedOver(self) -> None:
        ours = self.receiver(first=b"GET / ")
        ours.receive_data(REQUEST + b"HTTP")
        self.assertEqual(ours.accept()[0].leftover, b"GET / HTTP")  # type: ignore[attr-defined]

    def test_malformedRequestsAreRejected(self) -> None:
        for octets in (b"\x00", b"GET / HTTP/2.0\r\n\r\n", b"GET / HTTP/1.1\r\nbad\r\n\r\n", b"G" * LIMITS.octets):
            self.assertRaises(BadMessage, self.receiver().receive_data, octets)
        ours = self.receiver()
        ours.receive_data(REQUEST[:-1])
        self.assertRaises(NegotiationTruncated, ours.receive_eof)
        self.assertRaises(UsageError, self.receiver().accept)

    def test_aPeerThatGoesOnWithoutAnAnswerIsBounded(self) -> None:
        ours = self.receiver()
        ours.receive_data(REQUEST)
        ours.receive_data(bytes(BUFFER_LIMIT))
        self.assertRaises(NegotiationError, ours.receive_data, b"x")
