"""
HTTP/2 as we serve it, over a wire: what reaches the server of the exchanges, its deadlines, WebSockets, and ends.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.exchange.doubles import Producer, Server, reply
from tests.wire.heads_http2 import BAD, CONNECT, GET, POST, changed
from tunnelstack.errors import UsageError
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.exchange.http2_server import HTTP2ServerConnection
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.testing import Wire
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.wire.http1.head import Fields, HeadLimits, ResponseHead
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.http2.websocket import ACCEPT, accept_for

TIMEOUTS = Timeouts(head=10, idle=30)


class Caught:
    """
    What a visitor receives on one stream.
    """

    def __init__(self) -> None:
        self.interim: list[Fields] = []
        self.fields: Fields = []
        self.body = b""
        self.trailers: Any = None
        self.closedInOrder = False
        self.failure: Any = None

    def informational(self, fields: Fields) -> None:
        self.interim.append(fields)

    def headersReceived(self, fields: Fields, ended: bool) -> None:
        self.fields = list(fields)

    def dataReceived(self, octets: bytes) -> None:
        self.body += octets

    def ended(self, trailers: Any) -> None:
        self.trailers = list(trailers)

    def closed(self) -> None:
        self.closedInOrder = True

    def failed(self, reason: Any) -> None:
        self.failure = reason

    @property
    def status(self) -> bytes:
        return dict(self.fields).get(b":status", b"")


class ServerCase(SynchronousTestCase):
    """
    A visitor on one end of a wire, our server on the other.
    """

    def start(self, answer: Any = None, **options: Any) -> None:
        self.wire = Wire()
        self.clock: Clock = self.wire.clock
        self.server = Server(answer)
        self.done: list[Any] = []
        self.visitor = HTTP2Connection(True, clock=self.clock)
        self.connection = HTTP2ServerConnection(
            self.server, clock=self.clock, timeouts=TIMEOUTS, done=lambda exchange, now: self.done.append(exchange), **options
        )
        self.wire.connect(self.visitor, self.connection.protocol)
        self.wire.settle()

    def ask(self, fields: Fields = GET, end: bool = True) -> tuple[Any, Caught]:
        caught = Caught()
        stream = self.visitor.openStream(fields, caught, end)
        self.wire.settle()
        return stream, caught

    def pass_(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wire.settle()

    def asked(self) -> tuple[Any, Any, Any]:
        return self.server.asked[-1]


class RequestTests(ServerCase):
    """
    What arrives.
    """

    def test_aRequestIsAnswered(self) -> None:
        self.start(reply())
        _, caught = self.ask()
        head, exchange, body = self.asked()
        self.assertEqual((head.method, head.target, head.version), (b"GET", b"/b?c", (2, 0)))
        self.assertEqual((exchange.host, exchange.framing.body, body.trailers), (b"a.example", 0, None))
        self.assertEqual((caught.status, caught.body, caught.trailers), (b"200", b"ok", []))
        self.assertTrue(caught.closedInOrder)
        self.assertEqual(self.done, [exchange])

    def test_aResponseWithoutABodyIsOneHead(self) -> None:
        """
        As calls of gRPC need it that fail at once.
        """
        self.start(reply(200, b""))
        stream, caught = self.ask()
        self.assertEqual((dict(caught.fields)[b"content-length"], caught.trailers), (b"0", []))

    def test_badRequestsDoNotArrive(self) -> None:
        for name, (fields, ended, status) in BAD.items():
            if not fields:
                continue                      # our own client refuses to send that
            self.start(reply())
            _, caught = self.ask(fields, ended)
            self.assertEqual(self.server.asked, [], name)
            refused = caught.status == b"%d" % status
            self.assertTrue(refused or caught.failure is not None, (name, caught.status))

    def test_aRefusalHasAReason(self) -> None:
        self.start()
        _, caught = self.ask([*GET, (b"host", b"b.example")])
        self.assertEqual(caught.status, b"400")
        self.assertIn(b"the :authority and the host differ", caught.body)

    def test_aHeadThatIsTooLarge(self) -> None:
        self.start(limits=HeadLimits(octets=1024, fields=10))
        _, caught = self.ask([*GET, (b"x", b"y" * 1000)])
        self.assertEqual((caught.status, self.server.asked), (b"431", []))

    def test_othersGoOn(self) -> None:
        self.start(reply())
        self.ask([*GET, (b"X", b"y")])
        self.ask(changed(GET, b":path", b"x"))
        self.assertEqual(self.ask()[1].status, b"200")

    def test_trailersThatAreBad(self) -> None:
        self.start()
        stream, caught = self.ask(POST, False)
        stream.end([(b"connection", b"close")])
        self.wire.settle()
        self.assertIsNotNone(self.asked()[2].failure)
        self.assertTrue(caught.failure is not None or caught.status == b"400")

    def test_aBodyThatDoesNotFitItsLength(self) -> None:
        for octets in (b"ab", b"abcd"):
            self.start()
            stream, _ = self.ask([*POST, (b"content-length", b"3")], False)
            stream.write(octets)
            stream.end()
            self.wire.settle()
            self.assertIsNotNone(self.asked()[2].failure, octets)
            self.assertIsNone(self.asked()[2].trailers)

    def test_aDefectCostsOneRequest(self) -> None:
        def broken(head: Any, exchange: Any) -> None:
            raise ZeroDivisionError("on purpose")

        self.start(broken)
        _, caught = self.ask()
        self.assertEqual(caught.status, b"500")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.server.answer = reply()
        self.assertEqual(self.ask()[1].status, b"200")

    def test_doorsComeFirst(self) -> None:
        door = Server(reply(201))
        self.start(reply(), doors=lambda head, framing: door if head.target == b"/door" else None)
        self.assertEqual(self.ask(changed(GET, b":path", b"/door"))[1].status, b"201")
        self.assertEqual(self.ask()[1].status, b"200")

    def test_aStreamIsNotTakenOver(self) -> None:
        self.start()
        _, caught = self.ask()
        exchange = self.asked()[1]
        self.assertRaises(UsageError, exchange.onRequest)
        self.assertTrue(exchange.finished)
        self.wire.settle()
        self.assertEqual(caught.failure.code, ErrorCode.HTTP_1_1_REQUIRED)

    def test_interimResponsesAreSent(self) -> None:
        self.start()
        _, caught = self.ask()
        exchange = self.asked()[1]
        exchange.informational(ResponseHead(103, b"Early Hints", [(b"Link", b"x")]))
        self.wire.settle()
        self.assertEqual(caught.interim, [[(b":status", b"103"), (b"link", b"x")]])
        reply()(None, exchange)
        exchange.informational(ResponseHead(103, b"", []))
        self.wire.settle()
        self.assertEqual((caught.status, len(caught.interim)), (b"200", 1))


class EndTests(ServerCase):
    """
    How exchanges end.
    """

    def test_anEarlyResponseStopsTheRequest(self) -> None:
        self.start()
        stream, caught = self.ask(POST, False)
        reply(403)(None, self.asked()[1])
        self.wire.settle()
        self.assertEqual((caught.status, caught.body, caught.trailers), (b"403", b"ok", []))
        self.assertTrue(stream.isOver)
        self.assertEqual(self.connection.protocol.streams, 0)

    def test_aVisitorThatGivesUp(self) -> None:
        self.start()
        stream, _ = self.ask()
        producer = Producer()
        exchange = self.asked()[1]
        exchange.registerProducer(producer, True)
        stream.reset()
        self.wire.settle()
        self.assertEqual(self.asked()[2].failure.kind, FailureKind.CLIENT_CLOSED)
        self.assertTrue(exchange.finished)
        self.assertEqual(self.done, [exchange])
        reply()(None, exchange)

    def test_aBrokenResponseResetsTheStream(self) -> None:
        self.start()
        _, caught = self.ask()
        exchange = self.asked()[1]
        exchange.sendHead(ResponseHead(200, b"OK", []))
        self.wire.settle()
        exchange.cancel(FailureKind.BROKEN)
        self.wire.settle()
        self.assertEqual(caught.failure.code, ErrorCode.INTERNAL_ERROR)

    def test_drainLetsExchangesFinish(self) -> None:
        self.start()
        _, caught = self.ask()
        drained = self.connection.drain()
        self.wire.settle()
        self.assertTrue(self.visitor.isGoingAway)
        self.assertNoResult(drained)
        reply()(None, self.asked()[1])
        self.wire.settle()
        self.assertEqual(caught.status, b"200")
        self.successResultOf(drained)

    def test_aConnectionIsIdleSinceTheLastExchange(self) -> None:
        self.start()
        self.clock.advance(3)
        self.ask()
        self.assertEqual(self.connection.idleSince, float("inf"))
        reply()(None, self.asked()[1])
        self.wire.settle()
        self.assertEqual(self.connection.idleSince, 3)
        self.connection.timedOut()
        self.wire.settle()
        self.assertIsNotNone(self.visitor.lostReason)

    def test_aLostConnectionFailsAllExchanges(self) -> None:
        self.start()
        for _ in range(3):
            self.ask()
        self.wire.drop()
        self.wire.settle()
        self.assertEqual(len(self.done), 3)
        for _, exchange, body in self.server.asked:
            self.assertTrue(exchange.finished)
            self.assertEqual(body.failure.kind, FailureKind.CLIENT_CLOSED)
        self.assertEqual(self.connection.timer.waiting, 0)


class DeadlineTests(ServerCase):
    """
    The counterparts of the deadlines of HTTP/1.1.
    """

    def failedAfter(self, seconds: float, caught: Caught) -> None:
        self.pass_(seconds - 1)
        self.assertIsNone(self.asked()[2].failure)
        self.pass_(1.5)
        self.assertIsNotNone(self.asked()[2].failure)
        self.assertEqual(self.asked()[2].failure.kind, FailureKind.REQUEST_TIMEOUT)
        self.assertEqual(caught.status, b"408")

    def test_noBodyBegins(self) -> None:
        self.start()
        _, caught = self.ask(POST, False)
        self.failedAfter(TIMEOUTS.head, caught)

    def test_aBodyOfKnownLengthStops(self) -> None:
        self.start()
        stream, caught = self.ask([*POST, (b"content-length", b"10")], False)
        stream.write(b"hello")
        self.wire.settle()
        self.failedAfter(TIMEOUTS.idle, caught)

    def test_aBodyOfUnknownLengthMayPause(self) -> None:
        self.start()
        stream, _ = self.ask(POST, False)
        stream.write(b"hello")
        self.wire.settle()
        self.pass_(10_000)
        self.assertIsNone(self.asked()[2].failure)

    def test_aCallMayBeginWithSilence(self) -> None:
        self.start()
        self.ask([*POST, (b"te", b"trailers")], False)
        self.pass_(10_000)
        self.assertIsNone(self.asked()[2].failure)

    def test_aBodyThatIsNotReadHasTime(self) -> None:
        self.start()
        _, caught = self.ask(POST, False)
        exchange = self.asked()[1]
        exchange.pauseProducing()
        self.pass_(10_000)
        self.assertIsNone(self.asked()[2].failure)
        exchange.resumeProducing()
        self.failedAfter(TIMEOUTS.head, caught)

    def test_aVisitorThatDoesNotRead(self) -> None:
        self.start()
        stream, _ = self.ask()
        stream.pauseProducing()
        exchange = self.asked()[1]
        exchange.registerProducer(Producer(), True)
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Length", b"%d" % (1 << 24))]))
        exchange.write(bytes(1 << 23))
        self.wire.settle()
        self.pass_(TIMEOUTS.idle + 1)
        self.assertEqual(self.asked()[2].failure.kind, FailureKind.CLIENT_CLOSED)

    def test_anIdleConnectionIsClosed(self) -> None:
        self.start(reply())
        self.ask()
        self.pass_(TIMEOUTS.idle + 5)
        self.pass_(5)
        self.assertIsNotNone(self.visitor.lostReason)


class WebSocketTests(ServerCase):
    """
    RFC 8441: an extended CONNECT is an upgrade for the server.
    """

    def open(self, answer: bool = True) -> tuple[Any, Caught]:
        self.start()
        stream, caught = self.ask(CONNECT, False)
        head, exchange, body = self.asked()
        self.assertEqual((head.method, head.target, exchange.framing.upgrade), (b"GET", b"/chat", b"websocket"))
        self.assertEqual(body.trailers, [])
        body.trailers = None                  # of the WebSocket there are others
        if answer:
            key = head.field(b"sec-websocket-key")
            exchange.sendHead(ResponseHead(101, b"", [(b"Upgrade", b"websocket"), (ACCEPT, accept_for(key))]))
            self.wire.settle()
        return stream, caught

    def test_theVisitorIsToldThatItMay(self) -> None:
        self.start()
        self.assertTrue(self.visitor.peerAllowsConnectProtocol)

    def test_octetsFlowBothWays(self) -> None:
        stream, caught = self.open()
        self.assertEqual((caught.status, caught.trailers), (b"200", None))
        stream.write(b"hello")
        self.asked()[1].write(b"world")
        self.wire.settle()
        self.assertEqual((caught.body, self.asked()[2].body), (b"world", b"hello"))
        stream.end()
        self.wire.settle()
        self.assertEqual((self.asked()[2].trailers, self.asked()[1].finished), ([], False))
        self.asked()[1].end()
        self.wire.settle()
        self.assertTrue(self.asked()[1].finished)

    def test_octetsBeforeThe101Wait(self) -> None:
        stream, _ = self.open(False)
        stream.write(b"early")
        self.wire.settle()
        self.assertEqual(self.asked()[2].body, b"")

    def test_aRefusalIsAResponse(self) -> None:
        _, caught = self.open(False)
        reply(403)(None, self.asked()[1])
        self.wire.settle()
        self.assertEqual((caught.status, caught.body), (b"403", b"ok"))
        self.assertEqual(self.connection.protocol.streams, 0)

    def test_successWithoutAWebSocketIsAnError(self) -> None:
        _, caught = self.open(False)
        reply(200)(None, self.asked()[1])
        self.wire.settle()
        self.assertEqual(caught.status, b"502")

    def test_theServerEndsFirst(self) -> None:
        stream, caught = self.open()
        exchange = self.asked()[1]
        exchange.end()
        self.wire.settle()
        self.assertEqual((caught.trailers, exchange.finished), ([], False))
        stream.end()
        self.wire.settle()
        self.assertTrue(exchange.finished)
        self.assertEqual(self.done, [exchange])
        self.assertTrue(caught.closedInOrder)
