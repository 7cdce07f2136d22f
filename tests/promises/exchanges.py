"""
What every kind of exchange promises: a suite that the tests of each implementation inherit.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.exchange.doubles import Recorder, Server
from tunnelstack.errors import UsageError
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.interfaces import IExchange, IServerExchange
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

HOST = (b"Host", b"a.example")


@implementer(IPushProducer)
class Pressed:
    """
    A producer that counts what it is told.
    """

    def __init__(self) -> None:
        self.paused = False
        self.stopped = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.stopped = True


class ExchangePromises:
    """
    A test inherits this, and defines C{connectExchanges}, which sets C{server} (a L{Server}), C{open} (of a receiver, gives an
    exchange), C{settle} and C{sever} (which cuts the network).
    """

    server: Server
    open: Any
    settle: Any
    sever: Any

    def connectExchanges(self) -> None:
        raise NotImplementedError

    def setUp(self) -> None:
        self.connectExchanges()

    def ask(self, method: bytes = b"GET", *fields: tuple[bytes, bytes]) -> tuple[Any, Recorder]:
        receiver = Recorder()
        exchange = self.open(receiver)
        exchange.sendHead(RequestHead(method, b"/path?query", [HOST, *fields]))
        return exchange, receiver

    def get(self) -> tuple[Any, Recorder, Any]:
        """
        A request without a body that has arrived.
        """
        exchange, receiver = self.ask()
        exchange.end()
        self.settle()
        return exchange, receiver, self.server.asked[-1][1]

    def ok(self: Any, server: Any, *fields: tuple[bytes, bytes]) -> None:
        server.sendHead(ResponseHead(200, b"OK", list(fields)))

    def test_bothSidesProvideTheirInterfaces(self: Any) -> None:
        exchange, _, server = self.get()
        self.assertTrue(verifyObject(IExchange, exchange))
        self.assertTrue(verifyObject(IServerExchange, server))

    def test_theHeadArrives(self: Any) -> None:
        _, receiver, server = self.get()
        head, _, body = self.server.asked[-1]
        self.assertEqual((head.method, head.target), (b"GET", b"/path?query"))
        self.assertEqual((body.body, body.trailers), (b"", []))
        self.ok(server, (b"X-Answer", b"yes"), (b"Content-Length", b"2"))
        server.write(b"ok")
        server.end()
        self.settle()
        self.assertEqual((receiver.heads[0].status, receiver.heads[0].field(b"x-answer")), (200, b"yes"))
        self.assertEqual((receiver.body, receiver.trailers, receiver.failure), (b"ok", [], None))

    def test_aBodyOfKnownLengthArrivesAsItIsWritten(self: Any) -> None:
        exchange, _ = self.ask(b"POST", (b"Content-Length", b"10"))
        exchange.write(b"hello")
        self.settle()
        _, _, body = self.server.asked[-1]
        self.assertEqual((body.body, body.trailers), (b"hello", None))
        exchange.write(b"world")
        exchange.end()
        self.settle()
        self.assertEqual((body.body, body.trailers), (b"helloworld", []))

    def test_aBodyOfUnknownLengthArrives(self: Any) -> None:
        exchange, _ = self.ask(b"POST", (b"Transfer-Encoding", b"chunked"))
        for piece in (b"one", b"two", b"three"):
            exchange.write(piece)
        exchange.end()
        self.settle()
        _, _, body = self.server.asked[-1]
        self.assertEqual((body.body, body.failure), (b"onetwothree", None))

    def test_aResponseArrivesPieceByPiece(self: Any) -> None:
        _, receiver, server = self.get()
        self.ok(server, (b"Content-Type", b"text/event-stream"))
        for number in range(3):
            server.write(b"data: %d\n\n" % number)
            self.settle()
            self.assertTrue(receiver.body.endswith(b"data: %d\n\n" % number))
        self.assertIsNone(receiver.trailers)
        server.end()
        self.settle()
        self.assertEqual(receiver.trailers, [])

    def test_aResponseMayComeBeforeTheRequestIsWhole(self: Any) -> None:
        exchange, receiver = self.ask(b"POST", (b"Content-Length", b"10"))
        exchange.write(b"hello")
        self.settle()
        server = self.server.asked[-1][1]
        server.respond(ResponseHead(403, b"Forbidden", [(b"Content-Length", b"2")]), b"no")
        self.settle()
        self.assertEqual((receiver.heads[0].status, receiver.body, receiver.trailers), (403, b"no", []))
        exchange.write(b"world")
        exchange.end()
        self.settle()
        self.assertIsNone(receiver.failure)

    def test_aResponseToHEADHasNoBody(self: Any) -> None:
        exchange, receiver = self.ask(b"HEAD")
        exchange.end()
        self.settle()
        self.server.asked[-1][1].respond(ResponseHead(200, b"OK", [(b"Content-Length", b"5")]), b"hello")
        self.settle()
        self.assertEqual((receiver.body, receiver.trailers, receiver.failure), (b"", [], None))
        self.assertEqual(receiver.heads[0].field(b"content-length"), b"5")

    def test_manyAtOnceKeepApart(self: Any) -> None:
        asked = []
        for number in range(20):
            exchange, receiver = self.ask(b"POST", (b"Content-Length", b"2"))
            exchange.write(b"%02d" % number)
            exchange.end()
            asked.append(receiver)
        self.settle()
        for _, server, body in reversed(self.server.asked):
            server.respond(ResponseHead(200, b"OK", [(b"Content-Length", b"2")]), body.body)
        self.settle()
        self.assertEqual([receiver.body for receiver in asked], [b"%02d" % number for number in range(20)])

    def test_whoGivesUpHearsNoMore(self: Any) -> None:
        exchange, receiver, server = self.get()
        self.ok(server)
        server.write(b"some")
        self.settle()
        exchange.cancel(FailureKind.CLIENT_CLOSED)
        server.write(b"more")
        self.settle()
        self.assertEqual((receiver.body, receiver.trailers, receiver.failure), (b"some", None, None))
        self.assertTrue(server.finished)

    def test_theServerHearsThatTheClientGaveUp(self: Any) -> None:
        exchange, _ = self.ask(b"POST", (b"Content-Length", b"10"))
        exchange.write(b"hello")
        self.settle()
        exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.settle()
        _, server, body = self.server.asked[-1]
        self.assertIsNotNone(body.failure)
        self.assertTrue(server.finished)

    def test_aBrokenResponseIsAFailure(self: Any) -> None:
        _, receiver, server = self.get()
        self.ok(server, (b"Content-Length", b"10"))
        server.write(b"half")
        self.settle()
        server.cancel(FailureKind.BROKEN)
        self.settle()
        self.assertIsNotNone(receiver.failure)
        self.assertIsNone(receiver.trailers)

    def test_aResponseThatEndsTooEarlyIsAFailure(self: Any) -> None:
        _, receiver, server = self.get()
        self.ok(server, (b"Content-Length", b"10"))
        server.write(b"half")
        server.end()
        self.settle()
        self.assertIsNotNone(receiver.failure)

    def test_aBodyLongerThanItsLengthIsADefect(self: Any) -> None:
        exchange, receiver = self.ask(b"POST", (b"Content-Length", b"2"))
        self.assertRaises(UsageError, exchange.write, b"three")
        self.settle()
        self.assertIsNone(receiver.failure)
        _, receiver, server = self.get()
        self.ok(server, (b"Content-Length", b"2"))
        self.assertRaises(UsageError, server.write, b"three")
        self.settle()
        self.assertIsNotNone(receiver.failure)

    def test_theNetworkIsLost(self: Any) -> None:
        _, receiver, server = self.get()
        self.ok(server)
        server.write(b"some")
        self.settle()
        self.sever()
        self.settle()
        self.assertIsNotNone(receiver.failure)
        self.assertTrue(server.finished)

    def test_aClientThatDoesNotReadStopsTheServer(self: Any) -> None:
        exchange, receiver, server = self.get()
        producer = Pressed()
        server.registerProducer(producer, True)
        exchange.pauseProducing()
        self.ok(server)
        written = 0
        while not producer.paused and written < 8 * 1024 * 1024:
            server.write(bytes(64 * 1024))
            written += 64 * 1024
            self.settle()
        self.assertTrue(producer.paused)
        self.assertLess(len(receiver.body), written)
        exchange.resumeProducing()
        self.settle()
        self.assertFalse(producer.paused)
        self.assertEqual(len(receiver.body), written)

    def test_aServerThatDoesNotReadStopsTheClient(self: Any) -> None:
        size = 64 * 1024 * 128
        exchange, _ = self.ask(b"POST", (b"Content-Length", b"%d" % size))
        producer = Pressed()
        exchange.registerProducer(producer, True)
        self.settle()
        _, server, body = self.server.asked[-1]
        server.pauseProducing()
        written = 0
        while not producer.paused and written < size:
            exchange.write(bytes(64 * 1024))
            written += 64 * 1024
            self.settle()
        self.assertTrue(producer.paused)
        self.assertLess(len(body.body), written)
        server.resumeProducing()
        self.settle()
        self.assertFalse(producer.paused)
        self.assertEqual(len(body.body), written)

    def test_aHeadIsSentOnce(self: Any) -> None:
        exchange, _, server = self.get()
        self.assertRaises(UsageError, exchange.sendHead, RequestHead(b"GET", b"/", [HOST]))
        self.ok(server)
        self.assertRaises(UsageError, self.ok, server)
