"""
ShellHub's version 1: requests on a picked-up connection, and their answers.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.vectors_shellhub import END, NOW, PROXY, REQUESTS, SESSION
from tunnelstack.errors import UsageError
from tunnelstack.wire.http1.head import (
    RequestHead,
    encode_request,
    find_end_untrusted,
    read_request_untrusted,
    read_response_untrusted,
)
from tunnelstack.wire.negotiation.base import Agreed, Proposed, Rejected
from tunnelstack.wire.negotiation.http_request import HTTPRequestInitiator, HTTPRequestResponder
from tunnelstack.wire.records.shellhub import (
    DIAL_FAILED,
    HTTP_PROXY,
    BadTarget,
    HTTPProxy,
    SSHClose,
    SSHOpen,
    decode_target_untrusted,
    encode_target,
    name_of,
)
from tunnelstack.wire.records.shellhub_v1 import (
    CONNECT_FAILED,
    INVALID_ADDRESS,
    HTTPForward,
    decode_ask_untrusted,
    encode_ask,
    encode_no,
    encode_yes,
    refusal,
    stream_request,
)


def requestOf(octets: bytes) -> RequestHead:
    """
    All of some octets as a head.
    """
    end = find_end_untrusted(octets)
    assert end == len(octets), octets
    return read_request_untrusted(octets, end)


def line(text: str, *fields: tuple[bytes, bytes]) -> RequestHead:
    """
    A request by its line.
    """
    method, target = text.encode().split()
    return RequestHead(method, target, [(b"Host", b""), *fields])


class RequestTests(SynchronousTestCase):
    """
    What the server asks for.
    """

    def test_vectorsAreMatched(self) -> None:
        for name, (target, request, length, _, _) in REQUESTS.items():
            self.assertEqual(encode_ask(target), request, name)
            self.assertEqual(len(request), length, name)
            self.assertEqual(decode_ask_untrusted(requestOf(request)), target, name)

    def test_theRequestsIdentifierIsNotSaid(self) -> None:
        self.assertEqual(decode_ask_untrusted(requestOf(encode_ask(PROXY))), HTTPProxy("127.0.0.1", 8080))

    def test_addressesOfVersion6HaveBrackets(self) -> None:
        """
        The genuine server writes none, so that its own agents do not understand it.
        """
        target = HTTPProxy("fd00::1", 80)
        self.assertIn(b" /http/proxy/[fd00::1]:80 ", encode_ask(target))
        self.assertEqual(decode_ask_untrusted(requestOf(encode_ask(target))), target)
        self.assertEqual(decode_ask_untrusted(line("CONNECT /http/proxy/fd00::1:80")), target)

    def test_legacyFormsAreRead(self) -> None:
        for text, target in {
            "CONNECT /ssh/proxy/:80": HTTPProxy("127.0.0.1", 80),
            "CONNECT /http/proxy/:8080": HTTPProxy("127.0.0.1", 8080),
            "GET /ssh/abc?x=y": SSHOpen("abc"),
            "GET /ssh/close/abc": SSHClose("abc"),
        }.items():
            self.assertEqual(decode_ask_untrusted(line(text)), target)
        head = line("GET /ssh/http", (b"X-Path", b"/index.html?a=b"), (b"X-Namespace", b"n"))
        forward = decode_ask_untrusted(head)
        assert isinstance(forward, HTTPForward)
        self.assertEqual((forward.head.method, forward.head.target), (b"GET", b"/index.html?a=b"))
        self.assertEqual(forward.head.fields, head.fields)
        self.assertEqual(head.target, b"/ssh/http")
        bare = decode_ask_untrusted(line("GET /ssh/http"))
        assert isinstance(bare, HTTPForward)
        self.assertEqual(bare.head.target, b"/")

    def test_pathsThatAreNone(self) -> None:
        for path in (b"/a b", b"/a#b", b"/a\x7f"):
            self.assertRaises(BadTarget, decode_ask_untrusted, line("GET /ssh/http", (b"X-Path", path)))

    def test_aPathInUTF8IsPassedOn(self) -> None:
        forward = decode_ask_untrusted(line("GET /ssh/http", (b"X-Path", b"/gr\xc3\xbc\xc3\x9fe")))
        assert isinstance(forward, HTTPForward)
        self.assertEqual(forward.head.target, b"/gr\xc3\xbc\xc3\x9fe")

    def test_unknownRoutesAreRefused(self) -> None:
        for text in (
            "GET /", "GET *", "GET /ssh", "GET /ssh/close/a/b", "POST /ssh/a", "DELETE /ssh/close/a", "CONNECT h:80",
            "GET /http/proxy/h:80", "CONNECT /http/proxy", "CONNECT /http/proxy/h:80/x", "GET http://h/ssh/a",
        ):  # fmt: skip
            self.assertIsNone(decode_ask_untrusted(line(text)), text)

    def test_badAddressesAreRefused(self) -> None:
        for address in ("h", "h:", "h:0", "h:99999", "h:http", "h!:80", "@:80", "x" * 256 + ":80"):
            self.assertRaises(BadTarget, decode_ask_untrusted, line(f"CONNECT /http/proxy/{address}"))

    def test_whatDoesNotFitIsNotSaid(self) -> None:
        for target in (SSHOpen(""), SSHOpen("a/b"), SSHClose("a b"), SSHOpen("a\r\n"), HTTPProxy("", 80), HTTPProxy("a b", 80),
                       HTTPProxy("h/", 80), HTTPProxy("h", 0)):  # fmt: skip
            self.assertRaises(UsageError, encode_ask, target)


class AnswerTests(SynchronousTestCase):
    """
    What the device says to it.
    """

    def test_vectorsAreMatched(self) -> None:
        for name, (target, _, _, answer, length) in REQUESTS.items():
            self.assertEqual(encode_yes(target, NOW), answer, name)
            self.assertEqual(len(answer), length, name)
            if answer:
                end = find_end_untrusted(answer + b"payload")
                self.assertEqual(end, len(answer))
                self.assertIsNone(refusal(read_response_untrusted(answer, end)))

    def test_whatIsForwardedAnswersItself(self) -> None:
        self.assertEqual(encode_yes(HTTPForward(line("GET /")), NOW), b"")
        self.assertEqual(encode_yes(SESSION, NOW), b"")
        self.assertNotEqual(encode_yes(END, NOW), b"")

    def test_aRefusalIsEncoded(self) -> None:
        octets = encode_no(CONNECT_FAILED, NOW)
        end = find_end_untrusted(octets)
        head = read_response_untrusted(octets, end)
        self.assertEqual(octets[end:], b"failed to connect to the server on device")
        self.assertEqual(head.field(b"content-length"), b"41")
        self.assertEqual(head.field(b"content-type"), b"text/plain; charset=UTF-8")
        self.assertEqual(refusal(head), "500 Internal Server Error")

    def test_anUnknownRouteIsAnswered(self) -> None:
        octets = encode_no("", NOW, 404)
        end = find_end_untrusted(octets)
        self.assertEqual(octets[end:], b'{"message":"Not Found"}\n')
        self.assertEqual(refusal(read_response_untrusted(octets, end)), "404 Not Found")

    def test_onlyTwoHundredIsAYes(self) -> None:
        for octets in (b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 101 \r\n\r\n", b"HTTP/1.0 302 Found\r\n\r\n"):
            head = read_response_untrusted(octets, len(octets))
            self.assertEqual(refusal(head), octets.split(b"\r\n")[0][9:].decode().strip())


class QuestionTests(SynchronousTestCase):
    """
    Both versions come to the same for a handler.
    """

    def asked(self, head: RequestHead) -> tuple[HTTPRequestResponder, Proposed]:
        ours = HTTPRequestResponder(lambda head: stream_request(head, NOW))
        (event,) = ours.receive_data(encode_request(head))
        assert isinstance(event, Proposed)
        return ours, event

    def test_aHandlerReceivesWhatVersion2WouldSend(self) -> None:
        for target, request, _, answer, _ in REQUESTS.values():
            ours, asked = self.asked(requestOf(request))
            self.assertEqual(asked, Proposed(name_of(target), encode_target(target)))
            self.assertEqual(decode_target_untrusted(asked.name, asked.parameters), target)
            self.assertEqual(ours.accept(), [Agreed(name_of(target), encode_target(target))])
            self.assertEqual(b"".join(ours.data_to_send()), answer)

    def test_aRequestOfAVisitorIsForwarded(self) -> None:
        ours, asked = self.asked(line("GET /ssh/http", (b"X-Path", b"/index.html")))
        self.assertEqual(decode_target_untrusted(asked.name, asked.parameters), HTTPProxy("127.0.0.1", 80))
        ours.receive_data(b"more")
        (agreed,) = ours.accept()
        assert isinstance(agreed, Agreed)
        self.assertEqual(agreed.leftover, b"GET /index.html HTTP/1.1\r\nHost: \r\nX-Path: /index.html\r\n\r\nmore")
        self.assertEqual(ours.data_to_send(), [])

    def refused(self, head: RequestHead, reason: str) -> bytes:
        ours, _ = self.asked(head)
        ours.reject(reason)
        return b"".join(ours.data_to_send())

    def test_eachRefusalIsEncoded(self) -> None:
        proxy = line("CONNECT /http/proxy/h:80")
        for reason in (DIAL_FAILED, "not allowed"):
            self.assertEqual(self.refused(proxy, reason), encode_no(CONNECT_FAILED, NOW))
        self.assertEqual(self.refused(line("GET /ssh/http"), DIAL_FAILED), encode_no(CONNECT_FAILED, NOW))
        self.assertEqual(self.refused(line("GET /ssh/s1"), "no SSH here"), encode_no("", NOW, 404))
        self.assertEqual(self.refused(line("CONNECT /http/proxy/h:x"), "x"), encode_no(INVALID_ADDRESS, NOW))
        self.assertEqual(self.refused(line("GET /what"), "x"), encode_no("", NOW, 404))

    def test_whatOneSideSaysTheOtherHears(self) -> None:
        asks = HTTPRequestInitiator(HTTP_PROXY, encode_ask(PROXY), refusal=refusal)
        asks.receive_data(b"")
        answers = HTTPRequestResponder(lambda head: stream_request(head, NOW))
        answers.receive_data(b"".join(asks.data_to_send()))
        answers.reject(DIAL_FAILED)
        told = asks.receive_data(b"".join(answers.data_to_send()))
        self.assertEqual(told, [Rejected(f"500 Internal Server Error: {CONNECT_FAILED}")])
