"""
The demo's site, asked directly.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import TestCase

from tunnelstack.demo.site import CHUNK, makeSite


class SiteTests(TestCase):
    """
    Every page of it.
    """

    def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """
        @return: head and body of the answer.
        """
        head, _, body = self.begin(request).value().partition(b"\r\n\r\n")
        return head, body

    def begin(self, request: bytes) -> Any:
        """
        @return: the transport into which the answer is written.
        """
        channel = makeSite().buildProtocol(None)
        transport = StringTransportWithDisconnection()
        transport.protocol = channel
        channel.makeConnection(transport)
        self.addCleanup(channel.connectionLost, None)
        channel.dataReceived(request)
        return transport

    def test_thePageShowsWhatItSawAndNoMarkupOfTheVisitors(self) -> None:
        head, body = self.ask(b"GET / HTTP/1.1\r\nHost: demo.localhost:8080\r\nX-Odd: <script>\r\n\r\n")
        self.assertIn(b" 200 ", head)
        self.assertIn(b"curl http://demo.localhost:8080/clock", body.replace(b" -N", b""))
        self.assertIn(b"<td>X-Odd<td>&lt;script&gt;", body)

    def test_otherPathsAreNotFound(self) -> None:
        for path in (b"/nothing", b"/octets/many", b"/octets/", b"/octets/1/2x"):
            self.assertIn(b" 404 ", self.ask(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")[0])

    def test_theEchoReturnsTheBody(self) -> None:
        head, body = self.ask(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        self.assertEqual(body, b"hello")

    @inlineCallbacks
    def test_bodiesOfAnySizeArrive(self) -> Any:
        """
        Twisted makes such bodies in turns of its own reactor.
        """
        from twisted.internet import reactor

        for size in (0, 1, len(CHUNK), len(CHUNK) * 3 + 7):
            transport = self.begin(b"GET /octets/%d HTTP/1.1\r\nHost: a\r\n\r\n" % size)
            for _ in range(10):
                yield deferLater(reactor, 0)
            self.assertEqual(len(transport.value().partition(b"\r\n\r\n")[2]), size)
