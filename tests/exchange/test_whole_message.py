"""
Requests that are answered when they are whole.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.exchange.doubles import Talker
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.exchange.whole_message import WholeMessageServer, WholeRequest, WholeResponse
from tunnelstack.testing import Wire

POST = b"POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


class WholeMessageTests(SynchronousTestCase):
    """
    A client on one end of a wire, the server on the other.
    """

    def start(self, respond: Any = None, cut: int | None = None) -> None:
        self.requests: list[WholeRequest] = []

        def echo(request: WholeRequest) -> WholeResponse:
            self.requests.append(request)
            return WholeResponse(200, request.body)

        self.wire = Wire(cut=cut)
        self.client = Talker()
        server = WholeMessageServer(respond or echo, clock=self.wire.clock, bodyOctets=10, seconds=5.0)
        self.wire.connect(self.client, HTTPServerProtocol(server, clock=self.wire.clock))

    def send(self, octets: bytes) -> bytes:
        self.client.say(octets)
        self.wire.settle()
        return self.client.take()

    def test_aBodyIsCollectedAtEverySplit(self) -> None:
        for cut in range(1, 20):
            self.start(cut=cut)
            answer = self.send(POST % 10 + b"0123456789")
            self.assertTrue(answer.endswith(b"\r\n\r\n0123456789"), answer)
            self.assertEqual((self.requests[0].path, self.requests[0].head.target), (b"/a", b"/a?b"))
        self.assertEqual(self.wire.clock.getDelayedCalls()[1:], [], "only the timer of the kept connection is left")

    def test_aRequestWithoutABodyIsAnswered(self) -> None:
        self.start()
        self.assertIn(b"Content-Length: 0\r\n", self.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))

    def test_aBodyThatIsTooLongIsRefusedBeforeItIsRead(self) -> None:
        self.start()
        self.assertTrue(self.send(POST % 11).startswith(b"HTTP/1.1 413 "))
        self.assertEqual(self.requests, [])

    def test_chunksThatAreTooLongAreRefused(self) -> None:
        self.start()
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.assertTrue(self.send(head + b"6\r\n012345\r\n" * 2).startswith(b"HTTP/1.1 413 "))
        self.assertEqual(self.requests, [])

    def test_aLateBodyIsRefused(self) -> None:
        self.start()
        self.send(POST % 10 + b"0")
        for _ in range(4):
            self.wire.clock.advance(1)
            self.assertEqual(self.send(b"1"), b"")
        self.wire.clock.advance(1)
        self.wire.settle()
        self.assertTrue(self.client.take().startswith(b"HTTP/1.1 408 "))

    def test_anExceptionIsAnsweredWith500AndLogged(self) -> None:
        def broken(request: WholeRequest) -> WholeResponse:
            raise ZeroDivisionError

        self.start(broken)
        self.assertTrue(self.send(POST % 0).startswith(b"HTTP/1.1 500 "))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_aClientThatLeavesIsNotAnswered(self) -> None:
        waiting: Deferred[WholeResponse] = Deferred()
        self.start(lambda request: waiting)
        self.send(POST % 0)
        self.client.transport.abortConnection()
        self.wire.settle()
        waiting.callback(WholeResponse(200))
        self.assertEqual(self.client.take(), b"")
