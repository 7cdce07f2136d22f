"""
Responses that are made piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.exchange.doubles import Talker
from tunnelstack.exchange.piecewise_response import SECONDS, PiecewiseResponse
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.exchange.whole_message import WholeMessageServer, WholeRequest
from tunnelstack.testing import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PIECE = b"x" * 1000


class PiecewiseTests(SynchronousTestCase):
    """
    A client on one end of a wire, the server on the other.
    """

    def setUp(self) -> None:
        self.made = 0
        self.pieces = 3
        self.wire = Wire()
        self.client = Talker()
        server = WholeMessageServer(self.respond, clock=self.wire.clock, bodyOctets=0)
        self.wire.connect(self.client, HTTPServerProtocol(server, clock=self.wire.clock))

    def respond(self, request: WholeRequest) -> PiecewiseResponse:
        return PiecewiseResponse(self.body(), b"text/plain", self.wire.clock)

    def body(self) -> Iterator[bytes]:
        for _ in range(self.pieces):
            self.made += 1
            yield PIECE

    def send(self, octets: bytes) -> bytes:
        self.client.say(octets)
        self.wire.settle()
        return self.client.take()

    def test_theWholeBodyArrivesInChunks(self) -> None:
        answer = self.send(GET)
        self.assertIn(b"\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n", answer)
        self.assertEqual((answer.count(PIECE), answer.endswith(b"\r\n0\r\n\r\n")), (3, True))

    def test_theConnectionIsKept(self) -> None:
        self.send(GET)
        self.assertEqual(self.send(GET).count(PIECE), 3)

    def test_aClientOfHTTP10ReadsUntilTheConnectionCloses(self) -> None:
        answer = self.send(b"GET / HTTP/1.0\r\n\r\n")
        self.assertTrue(answer.endswith(b"\r\n\r\n" + 3 * PIECE))
        self.assertTrue(self.client.readEnded)

    def test_HEADMakesNoPiece(self) -> None:
        answer = self.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(answer.endswith(b"\r\n\r\n"), answer)
        self.assertEqual(self.made, 0)
        self.assertEqual(self.send(GET).count(PIECE), 3)

    def test_nothingIsMadeForAClientThatDoesNotRead(self) -> None:
        self.pieces = 1000
        self.client.transport.pauseProducing()
        self.send(GET)
        self.assertLess(self.made, 3)

    def test_aClientThatDoesNotReadIsDisconnected(self) -> None:
        self.pieces = 1000
        self.client.transport.pauseProducing()
        self.send(GET)
        self.wire.clock.advance(SECONDS)
        self.wire.settle()
        self.assertIsNotNone(self.client.lost)
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_noTimerIsLeft(self) -> None:
        self.pieces = 1000
        self.client.transport.pauseProducing()
        self.send(GET)
        self.client.transport.abortConnection()
        self.wire.settle()
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_anErrorBreaksTheResponse(self) -> None:
        def body() -> Iterator[bytes]:
            yield PIECE
            raise ValueError("a defect")

        self.body = body                      # type: ignore[method-assign]
        answer = self.send(GET)
        self.assertEqual((answer.count(PIECE), answer.endswith(b"0\r\n\r\n")), (1, False))
        self.assertIsNotNone(self.client.lost)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
