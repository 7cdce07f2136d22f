"""
HTTP/1.1 as we serve it, over a wire.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer, ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides
from zope.interface.verify import verifyObject

from tests.exchange.doubles import Producer, Server, Talker, reply
from tunnelstack.control.metrics.exchange_notes import MOST_NOTED, ExchangeNotes
from tunnelstack.errors import UsageError
from tunnelstack.exchange import server
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.exchange.forward import NullReceiver
from tunnelstack.exchange.server import LINGER, HTTPServerProtocol
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.interfaces import IServerExchange
from tunnelstack.records import TakenOverRequest
from tunnelstack.testing import Wire
from tunnelstack.wire.http1.head import HeadLimits, RequestHead, ResponseHead

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class ServerCase(SynchronousTestCase):
    """
    A visitor on one end of a wire, our server on the other.
    """

    def start(self, answer: Any = None, cut: int | None = None, **options: Any) -> None:
        self.wire = Wire(cut=cut)
        self.server = Server(answer)
        self.visitor = Talker()
        self.protocol = HTTPServerProtocol(self.server, clock=self.wire.clock, **options)
        self.wire.connect(self.visitor, self.protocol)

    def say(self, octets: bytes) -> bytes:
        self.visitor.say(octets)
        self.wire.settle()
        return self.visitor.take()

    def asked(self) -> tuple[RequestHead, Any, Any]:
        return self.server.asked[-1]

    def closed(self) -> bool:
        self.wire.settle()
        return self.visitor.readEnded or self.visitor.lost is not None


class ConversationTests(ServerCase):
    """
    One exchange after the other.
    """

    def test_theConnectionIsKept(self) -> None:
        self.start(reply())
        for _ in range(3):
            self.assertEqual(self.say(GET), OK)
        self.assertFalse(self.closed())

    def test_theConnectionIsClosedWhenAsked(self) -> None:
        self.start(reply())
        self.assertEqual(
            self.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        )
        self.assertTrue(self.closed())

    def test_oneHeadAnswersEveryKindOfConnection(self) -> None:
        head = ResponseHead(200, b"OK", [(b"Content-Length", b"2")])
        keep, old = GET, b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
        close = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        for request, field in ((close, b"close"), (keep, b""), (old, b"keep-alive"), (close, b"close"), (keep, b"")) * 2:
            self.start(lambda _, exchange: exchange.respond(head, b"ok"))
            line = b"Connection: " + field + b"\r\n" if field else b""
            self.assertEqual(self.say(request), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + line + b"\r\nok")
            self.assertEqual(self.closed(), field == b"close")

    def test_connectionsThatBeginAlikeAreServedAlike(self) -> None:
        known: dict[bytes, Any] = {}
        request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x-mine\r\nX-Mine: 1\r\nA: b\r\n\r\n"
        for _ in range(3):
            self.start(reply(), firstHeads=known)
            self.assertIn(b"Connection: close", self.say(request))
            head, exchange, _ = self.asked()
            self.assertEqual((head.fields, len(exchange.head.fields)), ([(b"Host", b"a"), (b"A", b"b")], 4))
        self.assertEqual(list(known), [request])

    def noted(self, notes: ExchangeNotes, context: object = 0.0, status: int = 200) -> list[Any]:
        """
        Serve an exchange that takes half a second.

        @param context: it begins at 0.
        @return: the contexts with which C{done} was called.
        """
        done: list[Any] = []

        def answer(_: Any, exchange: Any) -> None:
            exchange.context = context
            self.wire.clock.advance(0.5)
            exchange.respond(ResponseHead(status, b"", [(b"Content-Length", b"2")]), b"ok")

        self.start(answer, notes=notes, done=lambda exchange, now: done.append(exchange.context))
        self.say(GET)
        return done

    def test_anExchangeIsNotedWhereThatSaysAllOfIt(self) -> None:
        notes, pieces = ExchangeNotes(), (0.0, 0.1, "")
        self.assertEqual((self.noted(notes), self.noted(notes)), ([], []))
        self.assertEqual((self.noted(notes, None), self.noted(notes, pieces)), ([None], [pieces]))
        self.assertEqual(self.noted(notes, status=404), [0.0])
        self.assertEqual((notes.take(), notes.take()), (([0.5, 0.5], 4), ([], 0)))

    def test_notesAreBounded(self) -> None:
        notes = ExchangeNotes()
        notes.seconds += [1.0] * (MOST_NOTED - 1)
        self.assertEqual((self.noted(notes), self.noted(notes)), ([], [0.0]))
        self.assertEqual(len(notes.seconds), MOST_NOTED)

    def test_aResponseIsEncrypted(self) -> None:
        sent: list[bytes] = []
        encrypted: list[bytes] = []

        class Direct(StringTransport):
            def sendAtOnce(self, octets: bytes) -> None:
                sent.append(octets)

        class TLS(ProtocolWrapper):
            def registerProducer(self, producer: Any, streaming: bool) -> None: ...

            def immediateWrite(self) -> Any:
                return encrypted.append

        wrapper: Any = TLS(None, None)                       # type: ignore[arg-type]
        wrapper.transport = Direct()
        head = ResponseHead(200, b"OK", [(b"Content-Length", b"2")])
        for transport, where in ((Direct(), sent), (wrapper, encrypted)):
            server = Server(lambda _, exchange: exchange.respond(head, b"ok"))
            protocol = HTTPServerProtocol(server, clock=Clock())
            protocol.makeConnection(transport)
            protocol.dataReceived(GET)
            self.assertEqual(where, [OK])

    def test_headsConcernNoConnection(self) -> None:
        self.start(reply())
        self.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nA: b\r\n\r\n")
        self.assertEqual(self.asked()[0].fields, [(b"Host", b"a"), (b"A", b"b")])

    def test_requestsMayArriveInAnyPieces(self) -> None:
        conversation = (
            GET
            + b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
            + b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n"
            + b"\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        for cut in (None, 1, 2, 3, 7, 50):
            self.start(cut=cut)
            self.visitor.say(conversation)
            for number in range(4):
                self.wire.settle()
                self.assertEqual(len(self.server.asked), number + 1)
                _, exchange, recorder = self.asked()
                self.assertEqual(recorder.body, b"hello" if number in (1, 2) else b"")
                self.assertEqual(recorder.trailers, [(b"X", b"y")] if number == 2 else [])
                reply()(None, exchange)
            self.wire.settle()
            self.assertEqual(self.visitor.heard, OK * 4)

    def test_aPipelinedRequestWaitsUnread(self) -> None:
        self.start()
        self.say(GET + GET + b"x" * 100_000)
        self.assertEqual(len(self.server.asked), 1)
        self.assertTrue(self.wire.far.readPaused)
        self.say(b"y" * 100_000)
        self.assertEqual(self.wire.near.undelivered, 100_000)
        reply()(*self.asked()[:2])
        self.assertEqual(len(self.server.asked), 2)

    def test_manyPipelinedRequestsAnsweredAtOnceDoNotRecurse(self) -> None:
        self.start(reply())
        self.assertEqual(self.say(GET * 3000), OK * 3000)

    def test_aDefectCostsOneRequest(self) -> None:
        def broken(head: Any, exchange: Any) -> None:
            raise ZeroDivisionError("on purpose")

        self.start(broken)
        self.assertIn(b"HTTP/1.1 500 ", self.say(GET))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.server.answer = reply()
        self.assertEqual(self.say(GET), OK)

    def test_drainEndsAfterThePresentExchange(self) -> None:
        self.start()
        self.say(GET)
        self.protocol.drain()
        reply()(*self.asked()[:2])
        self.assertTrue(self.closed())
        self.assertIn(b"Connection: close", self.visitor.heard)

    def test_drainClosesAnIdleConnection(self) -> None:
        self.start()
        self.protocol.drain()
        self.assertTrue(self.closed())


class WholeTests(ServerCase):
    """
    Answers given at once are those that are given piece by piece, in one write.
    """

    REQUESTS = (
        GET,
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nunread",
    )
    HEADS = (
        (200, ((b"Content-Length", b"2"),)),
        (200, ((b"content-length", b"2"), (b"Upgrade", b"h3"))),
        (404, ((b"Content-Length", b"002"), (b"A", b"b"))),
        (200, ()),
        (200, ((b"Transfer-Encoding", b"chunked"),)),
    )

    def heard(self, answer: Any, request: bytes) -> tuple[bytes, bool, int]:
        self.start(answer)
        writes: list[bytes] = []
        real = self.protocol.send
        self.protocol.send = lambda octets: (writes.append(octets), real(octets))
        return self.say(request), self.closed(), len(writes)

    def test_nobodySeesADifference(self) -> None:
        for status, fields in self.HEADS:
            def whole(_: Any, exchange: Any, status: int = status, fields: Any = fields) -> None:
                exchange.respond(ResponseHead(status, b"So", list(fields)), b"ok")

            def pieces(_: Any, exchange: Any, status: int = status, fields: Any = fields) -> None:
                exchange.sendHead(ResponseHead(status, b"So", list(fields)))
                exchange.write(b"ok")
                exchange.end()

            for request in self.REQUESTS:
                self.assertEqual(self.heard(whole, request)[:2], self.heard(pieces, request)[:2], (request, fields))
                self.assertEqual(self.asked()[1].octets, 0 if request.startswith(b"HEAD") else 2)

    def test_itIsOneWrite(self) -> None:
        self.assertEqual(
            self.heard(lambda _, exchange: exchange.respond(ResponseHead(200, b"OK", [(b"Content-Length", b"2")]), b"ok"), GET),
            (OK, False, 1),
        )

    def test_someStatusesHaveNoBody(self) -> None:
        for status in (204, 304):
            head = ResponseHead(status, b"")
            said, closed, _ = self.heard(lambda _, exchange, head=head: exchange.respond(head, b""), GET)
            self.assertEqual((said, closed), (b"HTTP/1.1 %d \r\n\r\n" % status, False))

    def test_aBodyOfAnotherLengthBreaksTheConnection(self) -> None:
        for body in (b"o", b"okay"):
            self.start()
            self.say(GET)
            exchange = self.asked()[1]
            try:
                exchange.respond(ResponseHead(200, b"OK", [(b"Content-Length", b"2")]), body)
            except UsageError:
                self.assertEqual(body, b"okay")
            self.assertTrue(self.closed())
            assert self.visitor.lost is not None
            self.visitor.lost.trap(ConnectionLost)

    def test_thereIsOneAnswer(self) -> None:
        self.start(reply())
        self.say(GET)
        self.asked()[1].respond(ResponseHead(200, b"OK", [(b"Content-Length", b"2")]), b"ok")
        self.wire.settle()
        self.assertEqual(self.visitor.heard, b"")
        self.assertEqual(self.say(GET), OK)


class ResponseTests(ServerCase):
    """
    What an answer looks like.
    """

    def answer(self, head: ResponseHead, body: bytes = b"", request: bytes = GET) -> bytes:
        self.start()
        self.say(request)
        _, exchange, _ = self.asked()
        exchange.sendHead(head)
        exchange.write(body)
        exchange.end()
        self.wire.settle()
        return self.visitor.heard

    def test_anUnknownLengthIsChunked(self) -> None:
        self.assertEqual(
            self.answer(ResponseHead(200, b"OK"), b"hello"),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        )
        self.assertFalse(self.closed())

    def test_anUnknownLengthInHTTP10LastsUntilTheClose(self) -> None:
        self.assertEqual(
            self.answer(ResponseHead(200, b"OK", [(b"Transfer-Encoding", b"chunked")]), b"hello", b"GET / HTTP/1.0\r\n\r\n"),
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello",
        )
        self.assertTrue(self.closed())

    def test_HTTP10IsKeptWhereItAsksForThat(self) -> None:
        self.assertEqual(
            self.answer(
                ResponseHead(200, b"OK", [(b"Content-Length", b"1")]), b"a",
                b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            ),
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na",
        )
        self.assertFalse(self.closed())

    def test_aResponseToHEADHasNoBody(self) -> None:
        heard = self.answer(
            ResponseHead(200, b"OK", [(b"Content-Length", b"5")]), b"hello", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        self.assertEqual(heard, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")

    def test_noBodyWhereThereIsNone(self) -> None:
        fields = [(b"Content-Length", b"5")]
        self.assertEqual(self.answer(ResponseHead(204, b"", fields), b"hello"), b"HTTP/1.1 204 \r\n\r\n")
        self.assertEqual(
            self.answer(ResponseHead(304, b"", fields), b"hello"), b"HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n"
        )

    def test_trailersAreSent(self) -> None:
        self.start()
        self.say(GET)
        _, exchange, _ = self.asked()
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Transfer-Encoding", b"chunked")]))
        exchange.write(b"")
        exchange.end([(b"X", b"y")])
        self.assertTrue(self.say(b"").endswith(b"chunked\r\n\r\n0\r\nX: y\r\n\r\n"))

    def test_interimResponsesAreSent(self) -> None:
        self.start()
        self.say(GET)
        _, exchange, _ = self.asked()
        exchange.informational(ResponseHead(103, b"Early Hints", [(b"Link", b"x")]))
        reply()(None, exchange)
        self.assertEqual(self.say(b""), b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)

    def test_HTTP10HearsNoInterimResponse(self) -> None:
        self.start()
        self.say(b"GET / HTTP/1.0\r\n\r\n")
        self.asked()[1].informational(ResponseHead(103, b"Early Hints"))
        self.assertEqual(self.say(b""), b"")

    def test_aBodyShorterThanItSaidBreaksTheConnection(self) -> None:
        self.answer(ResponseHead(200, b"OK", [(b"Content-Length", b"5")]), b"hell")
        self.assertIsInstance(self.visitor.lost.value, ConnectionLost)      # type: ignore[union-attr]

    def test_aBodyLongerThanItSaidIsADefect(self) -> None:
        self.start()
        self.say(GET)
        _, exchange, _ = self.asked()
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Length", b"5")]))
        self.assertRaises(UsageError, exchange.write, b"hello!")
        self.wire.settle()
        self.assertIsNot(self.visitor.lost, None)

    def test_misuseIsAUsageError(self) -> None:
        self.start()
        self.say(GET)
        _, exchange, _ = self.asked()
        verifyObject(IServerExchange, exchange)
        verifyObject(IPushProducer, exchange)
        self.assertRaises(UsageError, exchange.write, b"x")
        self.assertRaises(UsageError, exchange.end)
        self.assertRaises(UsageError, exchange.sendHead, ResponseHead(100, b""))
        self.assertRaises(UsageError, exchange.sendHead, ResponseHead(101, b""))
        exchange.sendHead(ResponseHead(200, b""))
        self.assertRaises(UsageError, exchange.sendHead, ResponseHead(200, b""))

    def test_nothingIsWrittenIntoTheNextExchange(self) -> None:
        self.start(reply())
        self.say(GET)
        exchange = self.asked()[1]
        self.server.answer = None
        self.say(GET)
        exchange.write(b"late")
        exchange.sendHead(ResponseHead(200, b""))
        exchange.end()
        exchange.cancel(FailureKind.BROKEN)
        self.assertEqual(self.say(b""), b"")
        self.assertFalse(self.closed())

    def test_cancelBeforeTheHeadIsAPage(self) -> None:
        self.start()
        self.say(GET)
        self.asked()[1].cancel(FailureKind.GATEWAY_TIMEOUT)
        self.assertIn(b"HTTP/1.1 504 Gateway Timeout\r\n", self.say(b""))
        self.assertFalse(self.closed())

    def test_cancelAfterTheHeadBreaksTheConnection(self) -> None:
        self.start()
        self.say(GET)
        exchange = self.asked()[1]
        exchange.sendHead(ResponseHead(200, b"OK"))
        exchange.cancel(FailureKind.BROKEN)
        self.wire.settle()
        self.assertIsInstance(self.visitor.lost.value, ConnectionLost)      # type: ignore[union-attr]


class BodyTests(ServerCase):
    """
    The request's body.
    """

    POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"

    def test_theBodyArrivesAsItComes(self) -> None:
        self.start()
        self.say(self.POST + b"he")
        self.assertEqual(self.asked()[2].body, b"he")
        self.say(b"ll")
        self.assertEqual((self.asked()[2].body, self.asked()[2].trailers), (b"hell", None))
        self.say(b"o")
        self.assertEqual((self.asked()[2].body, self.asked()[2].trailers), (b"hello", []))

    def test_anExpectationIsLeftToTheServer(self) -> None:
        self.start()
        self.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        self.assertEqual(self.asked()[0].field(b"expect"), b"100-continue")
        self.asked()[1].informational(ResponseHead(100, b"Continue"))
        self.assertEqual(self.say(b"hello"), b"HTTP/1.1 100 Continue\r\n\r\n")
        reply()(*self.asked()[:2])
        self.assertEqual(self.say(b""), OK)

    def test_anEarlyAnswerClosesBehindIt(self) -> None:
        """
        Not at once: what the visitor is still sending would reset the connection before he has read.
        """
        self.start(reply(413))
        self.assertIn(b"Connection: close\r\n", self.say(self.POST))
        self.assertTrue(self.visitor.readEnded)
        self.assertIs(self.visitor.lost, None)
        self.say(b"x" * 100_000)
        self.assertEqual((self.wire.near.undelivered, self.visitor.lost), (0, None))
        self.wire.clock.advance(LINGER)
        self.wire.settle()
        self.assertFalse(self.wire.far.connected)
        self.assertIs(self.asked()[2].failure, None)

    def test_theRestOfAnAnsweredRequestIsReadAsLongAsItFlows(self) -> None:
        for secure in (False, True):
            self.start(reply(401))
            if secure:
                alsoProvides(self.wire.far, ISSLTransport)
            self.assertIn(b" 401 ", self.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\nx"))
            for _ in range(18):
                self.wire.clock.advance(LINGER - 1)
                self.say(b"x")
                self.assertTrue(self.wire.far.connected)
            self.wire.clock.advance(LINGER)
            self.wire.settle()
            self.assertFalse(self.wire.far.connected)

    def test_whatFollowsAnAnsweredRequestGainsNoTime(self) -> None:
        for request in (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxx", b"POST / HTTP/1.1\r\n\r\n"):
            self.start()
            self.say(request[:-1])
            if self.server.asked:
                reply()(*self.asked()[:2])
            for octet in (request[-1:], b"y"):
                self.say(octet)
                self.wire.clock.advance(LINGER - 1)
            self.wire.clock.advance(1)
            self.wire.settle()
            self.assertFalse(self.wire.far.connected)

    def test_theRestOfAnAnsweredRequestIsBounded(self) -> None:
        self.patch(server, "DISCARDED_OCTETS", 10)
        self.start(reply(401))
        self.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n")
        for _ in range(5):
            self.say(b"x" * 9)
            self.wire.clock.advance(2)
        self.wire.settle()
        self.assertFalse(self.wire.far.connected)

    def test_malformedChunksAreAnswered400(self) -> None:
        self.start()
        heard = self.say(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabX")
        self.assertIn(b"HTTP/1.1 400 ", heard)
        self.assertEqual(self.asked()[2].failure.kind, FailureKind.MALFORMED)
        self.assertTrue(self.closed())

    def test_theVisitorGoesInTheMiddle(self) -> None:
        self.start()
        self.say(self.POST + b"he")
        self.visitor.transport.loseConnection()
        self.wire.settle()
        self.assertEqual(self.asked()[2].failure.kind, FailureKind.CLIENT_CLOSED)
        self.assertIsInstance(self.visitor.lost.value, (ConnectionDone, ConnectionAborted))   # type: ignore[union-attr]


class PressureTests(ServerCase):
    """
    Nobody is sent more than he takes.
    """

    def test_aPausedExchangeIsNotRead(self) -> None:
        self.start()
        self.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
        _, exchange, recorder = self.asked()
        exchange.pauseProducing()
        self.say(b"x" * 100_000)
        self.assertEqual((recorder.body, self.wire.near.undelivered), (b"", 100_000))
        exchange.resumeProducing()
        self.say(b"")
        self.assertEqual(len(recorder.body), 100_000)

    def test_aPauseEndsWithItsExchange(self) -> None:
        self.start()
        self.say(GET)
        self.asked()[1].pauseProducing()
        reply()(*self.asked()[:2])
        self.say(GET)
        self.assertEqual(len(self.server.asked), 2)

    def test_aPauseInsideTheCallHolds(self) -> None:
        self.start(lambda head, exchange: exchange.pauseProducing())
        self.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
        self.say(b"x" * 1000)
        self.assertEqual(self.wire.near.undelivered, 1000)

    def test_theResponsesProducerIsPaused(self) -> None:
        self.start()
        self.say(GET)
        exchange = self.asked()[1]
        producer = Producer()
        exchange.registerProducer(producer, True)
        exchange.sendHead(ResponseHead(200, b"OK"))
        self.wire.near.readPaused = True
        exchange.write(b"x" * 100_000)
        self.assertEqual(producer.said, ["pause"])
        self.wire.near.readPaused = False
        self.wire.settle()
        self.assertEqual(producer.said, ["pause", "resume"])

    def test_aPullProducerIsAskedAsTheVisitorReads(self) -> None:
        self.start()
        self.say(GET)
        exchange = self.asked()[1]
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Length", b"300000")]))
        producer = Puller(exchange, 30)
        exchange.registerProducer(producer, False)
        self.wire.settle()
        self.assertTrue(self.visitor.take().endswith(b"x" * 300_000))
        self.server.answer = reply()
        self.assertEqual(self.say(GET), OK)
        verifyObject(IPushProducer, self.wire.far.producer)
        self.assertIsNot(self.wire.far.producer, producer)

    def test_theProducerIsStoppedWhenTheVisitorGoes(self) -> None:
        self.start()
        self.say(GET)
        producer = Producer()
        self.asked()[1].registerProducer(producer, True)
        self.visitor.transport.abortConnection()
        self.wire.settle()
        self.assertEqual(producer.said, ["stop"])


class UpgradeTests(ServerCase):
    """
    Another protocol on the same connection.
    """

    REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"

    def upgrade(self, more: bytes = b"") -> tuple[Any, Any]:
        self.start()
        self.say(self.REQUEST + more)
        head, exchange, recorder = self.asked()
        self.assertEqual(head.field(b"upgrade"), b"echo")
        recorder.trailers = None              # the request had its end; what comes now is raw
        exchange.sendHead(ResponseHead(101, b"Switching Protocols", [(b"Upgrade", b"echo")]))
        self.wire.settle()
        self.assertEqual(
            self.visitor.take(), b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"
        )
        return exchange, recorder

    def test_bothDirectionsAreRaw(self) -> None:
        exchange, recorder = self.upgrade()
        exchange.write(b"\r\nany")
        self.assertEqual(self.say(b"thing\r\n"), b"\r\nany")
        self.assertEqual(recorder.body, b"thing\r\n")

    def test_whatCameEarlyIsRaw(self) -> None:
        _, recorder = self.upgrade(b"early")
        self.assertEqual(recorder.body, b"early")
        self.say(b", late")
        self.assertEqual(recorder.body, b"early, late")

    def test_theVisitorEndsFirst(self) -> None:
        exchange, recorder = self.upgrade()
        self.visitor.transport.loseWriteConnection()
        self.wire.settle()
        self.assertEqual(recorder.trailers, [])
        exchange.write(b"still here")
        exchange.end()
        self.wire.settle()
        self.assertEqual(self.visitor.heard, b"still here")
        self.assertTrue(self.closed())
        self.assertFalse(self.wire.far.connected)
        self.assertIs(recorder.failure, None)

    def test_theServerEndsFirst(self) -> None:
        exchange, recorder = self.upgrade()
        exchange.end()
        self.wire.settle()
        self.assertTrue(self.visitor.readEnded)
        self.say(b"still here")
        self.assertEqual(recorder.body, b"still here")
        self.visitor.transport.loseConnection()
        self.wire.settle()
        self.assertEqual((recorder.trailers, recorder.failure), ([], None))
        self.assertFalse(self.wire.far.connected)

    def test_noTimeoutApplies(self) -> None:
        self.upgrade()
        self.wire.clock.advance(100_000)
        self.assertFalse(self.closed())

    def test_aResetIsTold(self) -> None:
        _, recorder = self.upgrade()
        self.visitor.transport.abortConnection()
        self.wire.settle()
        self.assertEqual(recorder.failure.kind, FailureKind.CLIENT_CLOSED)

    def test_aVisitorWithoutHalfClosesIsGoneWithHisEnd(self) -> None:
        """
        What he sent is still worth something, his absence is told a little later.
        """
        _, recorder = self.upgrade()
        self.wire.drop(Failure(ConnectionDone()))
        self.assertEqual((recorder.trailers, recorder.failure), ([], None))
        self.wire.clock.advance(30)
        self.assertEqual(recorder.failure.kind, FailureKind.CLIENT_CLOSED)

    def test_aConnectionThatIsLostDoesNotWaitForTheGarbageCollector(self) -> None:
        gc.disable()
        self.addCleanup(gc.enable)
        protocol = HTTPServerProtocol(Server(None), clock=Clock())
        protocol.makeConnection(StringTransport())
        protocol.connectionLost(Failure(ConnectionDone()))
        gone = weakref.ref(protocol)
        del protocol
        self.assertIsNone(gone())

    def test_nothingIsToldWhenTheFarSideEndsAsWell(self) -> None:
        exchange, recorder = self.upgrade()
        self.wire.drop(Failure(ConnectionDone()))
        exchange.write(b"to nobody")
        exchange.end()
        self.assertEqual((recorder.failure, self.wire.clock.getDelayedCalls()), (None, []))

    def test_aTransportWithoutHalfClosesIsClosed(self) -> None:
        exchange, recorder = self.upgrade()
        alsoProvides(self.wire.far, ISSLTransport)
        exchange.write(b"bye")
        exchange.end()
        self.assertEqual((recorder.trailers, recorder.failure), ([], None))
        self.wire.settle()
        self.assertEqual(self.visitor.heard, b"bye")
        self.assertFalse(self.wire.far.connected)

    def test_h2cIsNotOffered(self) -> None:
        """
        It would take a visitor past everything that reads requests.
        """
        self.start()
        self.say(GET[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n")
        self.assertEqual(self.asked()[0].fields, [(b"Host", b"a")])


class RefusalTests(ServerCase):
    """
    Requests that are none.
    """

    def test_eachRefusalHasItsPage(self) -> None:
        for octets, status in (
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\nHost: a\n\n", 400),
            (b"\x16\x03\x01\x02\x00\x01", 400),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 33_000, 431),
        ):
            self.start(reply())
            heard = self.say(octets)
            self.assertTrue(heard.startswith(b"HTTP/1.1 %d " % status), (octets[:40], heard[:40]))
            self.assertIn(b"\r\nConnection: close\r\n", heard)
            self.assertTrue(self.closed())
            self.assertEqual(self.server.asked, [])

    def test_nothingBehindABadRequestIsRead(self) -> None:
        self.start(reply())
        heard = self.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n" + GET + GET)
        self.assertEqual((heard.count(b"HTTP/1.1 "), self.server.asked), (1, []))

    def test_limitsAreOurs(self) -> None:
        self.start(reply(), limits=HeadLimits(octets=64, fields=1))
        self.assertEqual(self.say(GET), OK)
        self.assertIn(b"HTTP/1.1 431 ", self.say(b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"))


class TimeTests(ServerCase):
    """
    No phase lasts for ever.
    """

    times = Timeouts(head=10, idle=300, ending=30)

    def later(self, seconds: float) -> bytes:
        self.wire.clock.advance(seconds)
        self.wire.settle()
        return self.visitor.take()

    def test_aSlowHeadIsAnswered408(self) -> None:
        self.start(timeouts=self.times)
        for octet in GET[:9]:
            self.say(bytes([octet]))
            self.assertEqual(self.later(1), b"")
        self.say(GET[9:10])
        self.assertIn(b"HTTP/1.1 408 ", self.later(1))
        self.assertTrue(self.closed())

    def test_aSlowSecondHeadIsAnswered408(self) -> None:
        self.start(reply(), timeouts=self.times)
        self.say(GET)
        self.later(200)
        self.say(GET[:5])
        self.assertEqual(self.later(9), b"")
        self.assertIn(b"HTTP/1.1 408 ", self.later(1))

    def test_aSilentConnectionIsClosed(self) -> None:
        self.start(timeouts=self.times)
        self.assertEqual(self.later(10), b"")
        self.assertTrue(self.closed())

    def test_anIdleConnectionIsClosed(self) -> None:
        self.start(reply(), timeouts=self.times)
        self.say(GET)
        self.later(299)
        self.assertFalse(self.closed())
        self.assertEqual(self.say(GET), OK)
        self.later(299)
        self.assertFalse(self.closed())
        self.later(1)
        self.assertTrue(self.closed())

    def test_aSlowBodyFails(self) -> None:
        self.start(timeouts=self.times)
        self.say(BodyTests.POST + b"he")
        self.later(299)
        self.say(b"l")
        self.later(299)
        self.assertIs(self.asked()[2].failure, None)
        self.assertIn(b"HTTP/1.1 408 ", self.later(1))
        self.assertEqual(self.asked()[2].failure.kind, FailureKind.REQUEST_TIMEOUT)

    def test_anAnswerMayTakeItsTime(self) -> None:
        self.start(timeouts=self.times)
        self.say(GET)
        self.later(100_000)
        reply()(*self.asked()[:2])
        self.assertEqual(self.say(b""), OK)

    def test_aVisitorWhoReadsNoMore(self) -> None:
        self.start(timeouts=self.times)
        self.say(GET)
        exchange = self.asked()[1]
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Length", b"1000000")]))
        self.wire.near.readPaused = True
        exchange.write(b"x" * 100_000)
        self.later(299)
        self.assertIs(self.asked()[2].failure, None)
        self.later(1)
        self.assertEqual(self.asked()[2].failure.kind, FailureKind.CLIENT_CLOSED)
        self.assertFalse(self.wire.far.connected)

    def test_aVisitorWhoReadsNothingOfTheEnd(self) -> None:
        """
        The answer is written, and waits in the transport: neither with a close behind it nor without does that last for ever.
        """
        for field, idle in ((b"", 300), (b"Connection: close\r\n", 0)):
            self.start(reply(body=b"x" * 100_000), timeouts=self.times)
            self.wire.near.readPaused = True
            self.say(GET[:-2] + field + b"\r\n")
            self.later(idle)
            self.later(299)
            self.assertTrue(self.wire.far.connected)
            self.later(1)
            self.assertFalse(self.wire.far.connected)
            self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_aVisitorWhoReadsTheEndLate(self) -> None:
        self.start(reply(body=b"x" * 100_000), timeouts=self.times)
        self.wire.near.readPaused = True
        self.say(GET)
        self.later(300)
        self.later(299)
        self.wire.near.readPaused = False
        self.assertEqual(len(self.say(b"").partition(b"\r\n\r\n")[2]), 100_000)
        self.assertTrue(self.closed())
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])

    def test_aStreamIsNeverCut(self) -> None:
        self.start(timeouts=self.times)
        self.say(GET)
        exchange = self.asked()[1]
        exchange.sendHead(ResponseHead(200, b"OK"))
        self.wire.near.readPaused = True
        exchange.write(b"x" * 100_000)
        self.later(100_000)
        self.assertIs(self.asked()[2].failure, None)

    def test_whoHasSaidAllIsAnswered(self) -> None:
        self.start(timeouts=self.times)
        self.say(GET)
        self.visitor.transport.loseWriteConnection()
        self.later(29)
        reply()(*self.asked()[:2])
        self.assertIn(b"\r\nConnection: close\r\n\r\nok", self.say(b""))
        self.assertTrue(self.closed())

    def test_whoHasSaidAllIsNotWaitedForLong(self) -> None:
        self.start(timeouts=self.times)
        self.say(GET)
        self.visitor.transport.loseConnection()
        self.later(0)
        self.later(29)
        self.assertIs(self.asked()[2].failure, None)
        self.later(1)
        self.assertEqual(self.asked()[2].failure.kind, FailureKind.CLIENT_CLOSED)

    def test_nothingIsLeftOnTheClock(self) -> None:
        self.start(reply(), timeouts=self.times)
        self.say(GET)
        self.visitor.transport.loseConnection()
        self.wire.settle()
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])


class DoorTests(ServerCase):
    """
    A connection that becomes somebody else's.
    """

    def test_theServerLetsGoCompletely(self) -> None:
        taken: list[TakenOverRequest] = []
        other = Talker()

        def onRequest(head: object, exchange: Any) -> None:
            request = exchange.onRequest()
            taken.append(request)
            request.transport.protocol = other
            other.makeConnection(request.transport)

        door = Server(onRequest)
        self.start(reply(), doors=lambda head, framing: door if head.target == b"/door" else None)
        self.assertEqual(self.say(GET), OK)
        head = b"GET /door HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
        self.say(head + b"more")
        self.assertEqual(taken[0].leftover, b"more")
        self.assertEqual(taken[0].head.field(b"connection"), b"Upgrade")
        self.assertIs(self.wire.far.producer, None)
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])
        self.say(b"and more")
        self.assertEqual(other.heard, b"and more")
        self.assertEqual(len(self.server.asked), 1)

    def test_itsProtocolDoesNotWaitForTheGarbageCollector(self) -> None:
        gc.disable()
        self.addCleanup(gc.enable)
        transport = StringTransport()
        protocol = HTTPServerProtocol(Server(None), clock=Clock(), doors=lambda head, framing: TakingDoor())
        protocol.makeConnection(transport)
        protocol.dataReceived(GET)
        gone = weakref.ref(protocol)
        del protocol
        self.assertIsNone(gone())
        self.assertIs(transport.producer, None)


class TakingDoor:
    """
    Takes a connection over once it has all of the request, as doors of agents do.
    """

    def exchangeReceived(self, head: RequestHead, exchange: Any) -> Any:
        return Taker(exchange)


class Taker(NullReceiver):
    """
    Receives the request of L{TakingDoor}.
    """

    def __init__(self, exchange: Any) -> None:
        self.exchange = exchange

    def ended(self, trailers: object) -> None:
        self.exchange.onRequest()


class Puller(Producer):
    """
    Writes 10 000 octets each time it is asked.
    """

    def __init__(self, exchange: Any, times: int) -> None:
        super().__init__()
        self.exchange = exchange
        self.times = times

    def resumeProducing(self) -> None:
        if self.times:
            self.times -= 1
            self.exchange.write(b"x" * 10_000)
        else:
            self.exchange.unregisterProducer()
            self.exchange.end()
