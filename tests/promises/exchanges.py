"""
What every carrier of HTTP exchanges promises: one suite, which the tests of each carrier inherit.

A carrier is examined through L{IExchange} and L{IServerExchange} only, and asked only for what its L{Traits} declare.  Tests of
tunnels inherit L{tests.promises.tunnels.TunnelPromises}, which adds what concerns L{ITunnel<tunnelstack.interfaces.ITunnel>}.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.exchange.doubles import Recorder, Server
from tunnelstack.errors import UsageError
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.interfaces import IExchange, IServerExchange
from tunnelstack.wire.http1.head import RequestHead, ResponseHead, values
from tunnelstack.wire.http2.websocket import accept_for

HOST = (b"Host", b"a.example")
PIECE = 64 * 1024
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = ((b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13"), (b"Sec-WebSocket-Key", KEY))


@implementer(IPushProducer)
class Pressed:
    """
    A producer that remembers what it was told last.
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


def noise(octets: int) -> bytes:
    """
    Octets that no carrier can guess.
    """
    blocks = b"".join(sha256(b"%d" % number).digest() for number in range(octets // 32 + 1))
    return blocks[:octets]


class ExchangePromises:
    """
    A test inherits this and C{SynchronousTestCase}, and defines C{connectExchanges}, which sets

      - C{server}, a L{Server} that is asked what the exchanges carry,
      - C{open}, which takes an L{IExchangeReceiver<tunnelstack.interfaces.IExchangeReceiver>} and gives an L{IExchange},
      - C{settle}, which lets everything happen that can happen without time,
      - C{sever}, which cuts the network between both sides,
      - C{clock}, the virtual time of both sides.

    @cvar between: somebody forwards in between, who answers with an error page if an exchange fails before its response.
    @cvar large: octets of large bodies.
    @cvar parallel: exchanges at once.
    @cvar patience: seconds after which a client gives up that hears nothing.
    """

    server: Server
    open: Any
    settle: Any
    sever: Any
    clock: Any
    between = False
    large = 300_000
    parallel = 20
    patience = 70

    def connectExchanges(self) -> None:
        raise NotImplementedError

    def setUp(self) -> None:
        self.connectExchanges()

    # Steps

    def ask(self, method: bytes = b"GET", *fields: tuple[bytes, bytes]) -> tuple[Any, Recorder]:
        receiver = Recorder()
        exchange = self.open(receiver)
        exchange.sendHead(RequestHead(method, b"/path?query", [HOST, *fields]))
        return exchange, receiver

    def get(self, *fields: tuple[bytes, bytes]) -> tuple[Any, Recorder, Any]:
        """
        A request without a body that has arrived.
        """
        exchange, receiver = self.ask(b"GET", *fields)
        exchange.end()
        self.settle()
        return exchange, receiver, self.server.asked[-1][1]

    def post(self, length: int, octets: bytes = b"") -> tuple[Any, Recorder]:
        """
        A request of which some of the body has been sent.
        """
        exchange, receiver = self.ask(b"POST", (b"Content-Length", b"%d" % length))
        exchange.write(octets)
        self.settle()
        return exchange, receiver

    def ok(self: Any, server: Any, *fields: tuple[bytes, bytes]) -> None:
        server.sendHead(ResponseHead(200, b"OK", list(fields)))

    def passTime(self, seconds: float) -> None:
        self.settle()
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.settle()

    def works(self: Any) -> None:
        """
        A further exchange is as good as the first.
        """
        _, receiver, server = self.get()
        server.respond(ResponseHead(200, b"OK", [(b"Content-Length", b"2")]), b"ok")
        self.settle()
        self.assertEqual((receiver.heads[0].status, receiver.body, receiver.trailers), (200, b"ok", []))

    def wasBroken(self: Any, receiver: Recorder, *statuses: int) -> None:
        """
        The client knows that it has not received a whole response.
        """
        if self.between and receiver.failure is None:
            self.assertIn(receiver.heads[0].status, statuses or (502,))
        else:
            self.assertIsNotNone(receiver.failure)
            self.assertIsNone(receiver.trailers)

    def fill(self, write: Callable[[bytes], object], producer: Pressed, limit: int = 128 * PIECE) -> int:
        """
        Write until the producer is told to pause.

        @return: octets that were written.
        """
        written = 0
        while not producer.paused and written < limit:
            write(bytes(PIECE))
            written += PIECE
            self.settle()
        return written

    # Heads

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

    def test_repeatedFieldsStaySeveral(self: Any) -> None:
        exchange, receiver, server = self.get((b"X-Many", b"1, 2"), (b"X-Other", b"a"), (b"X-Many", b"3"))
        self.ok(server, (b"Set-Cookie", b"a=1; Path=/"), (b"X-Other", b"b"), (b"Set-Cookie", b"b=2"))
        server.end()
        self.settle()
        asked = values(self.server.asked[-1][0].fields, b"x-many")
        answered = values(receiver.heads[0].fields, b"set-cookie")
        if exchange.traits.repeated:
            self.assertEqual((asked, answered), ([b"1, 2", b"3"], [b"a=1; Path=/", b"b=2"]))
        else:
            self.assertEqual((len(asked), len(answered)), (1, 1))

    def test_valuesNeedNotBeUTF8(self: Any) -> None:
        exchange, receiver, server = self.get((b"X-Name", b"caf\xe9 \xff"))
        self.ok(server, (b"X-Name", b"\xff caf\xe9"))
        server.end()
        self.settle()
        if exchange.traits.binary:
            self.assertEqual(self.server.asked[-1][0].field(b"x-name"), b"caf\xe9 \xff")
            self.assertEqual(receiver.heads[0].field(b"x-name"), b"\xff caf\xe9")
        self.assertEqual((receiver.trailers, receiver.failure), ([], None))

    def test_aHeadIsSentOnce(self: Any) -> None:
        exchange, _, server = self.get()
        self.assertRaises(UsageError, exchange.sendHead, RequestHead(b"GET", b"/", [HOST]))
        self.ok(server)
        self.assertRaises(UsageError, self.ok, server)

    def test_interimResponsesPass(self: Any) -> None:
        exchange, receiver, server = self.get()
        for link in (b"</a>", b"</b>"):
            server.informational(ResponseHead(103, b"Early Hints", [(b"Link", link)]))
            self.settle()
        self.ok(server, (b"Content-Length", b"2"))
        server.write(b"ok")
        server.end()
        self.settle()
        links = [(head.status, head.field(b"link")) for head in receiver.interim]
        self.assertEqual(links, [(103, b"</a>"), (103, b"</b>")] if exchange.traits.informational else [])
        self.assertEqual((len(receiver.heads), receiver.body, receiver.trailers), (1, b"ok", []))

    # Bodies

    def test_aBodyOfKnownLengthArrivesAsItIsWritten(self: Any) -> None:
        exchange, _ = self.post(10, b"hello")
        if exchange.traits.streamed or self.server.asked:
            _, _, body = self.server.asked[-1]
            self.assertEqual((body.body, body.trailers), (b"hello", None))
        exchange.write(b"world")
        exchange.end()
        self.settle()
        _, _, body = self.server.asked[-1]
        self.assertEqual((body.body, body.trailers), (b"helloworld", []))

    def test_aBodyOfUnknownLengthArrives(self: Any) -> None:
        exchange, _ = self.ask(b"POST", (b"Transfer-Encoding", b"chunked"))
        for piece in (b"one", b"two", b"three"):
            exchange.write(piece)
        exchange.end()
        self.settle()
        _, _, body = self.server.asked[-1]
        self.assertEqual((body.body, body.failure), (b"onetwothree", None))

    def test_largeBodiesArriveUnchanged(self: Any) -> None:
        octets = noise(self.large)
        length = (b"Content-Length", b"%d" % len(octets))
        exchange, receiver = self.ask(b"PUT", length)
        for at in range(0, len(octets), PIECE):
            exchange.write(octets[at : at + PIECE])
            self.settle()
        exchange.end()
        self.settle()
        _, server, body = self.server.asked[-1]
        self.assertEqual(sha256(body.body).hexdigest(), sha256(octets).hexdigest())
        self.ok(server, length)
        for at in range(0, len(octets), PIECE):
            server.write(octets[at : at + PIECE])
            self.settle()
        server.end()
        self.settle()
        self.assertEqual(sha256(receiver.body).hexdigest(), sha256(octets).hexdigest())
        self.assertEqual((body.trailers, receiver.trailers), ([], []))

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

    def test_someResponsesHaveNoBody(self: Any) -> None:
        for method, status in ((b"HEAD", 200), (b"GET", 204), (b"GET", 304), (b"HEAD", 404)):
            exchange, receiver = self.ask(method)
            exchange.end()
            self.settle()
            server = self.server.asked[-1][1]
            self.assertEqual(self.server.asked[-1][0].method, method)
            server.sendHead(ResponseHead(status, b"", [] if status == 204 else [(b"Content-Length", b"5")]))
            if method == b"HEAD":
                server.write(b"hello")
            server.end()
            self.settle()
            self.assertEqual((receiver.heads[0].status, receiver.body), (status, b""))
            self.assertEqual((receiver.trailers, receiver.failure), ([], None))
            if method == b"HEAD":
                self.assertEqual(receiver.heads[0].field(b"content-length"), b"5")
        self.works()

    def test_trailersArriveBothWays(self: Any) -> None:
        exchange, receiver = self.ask(b"POST", (b"Transfer-Encoding", b"chunked"), (b"TE", b"trailers"))
        exchange.write(b"hello")
        exchange.end([(b"X-Sum", b"1")])
        self.settle()
        _, server, body = self.server.asked[-1]
        self.ok(server)
        server.write(b"ok")
        server.end([(b"Grpc-Status", b"0")])
        self.settle()
        asked, answered = ([(name.lower(), value) for name, value in each.trailers or ()] for each in (body, receiver))
        carried = exchange.traits.trailers
        self.assertEqual(asked, [(b"x-sum", b"1")] if carried else [])
        self.assertEqual(answered, [(b"grpc-status", b"0")] if carried else [])
        self.assertEqual((body.body, receiver.body, receiver.failure), (b"hello", b"ok", None))

    def test_aBodyLongerThanItsLengthIsADefect(self: Any) -> None:
        exchange, receiver = self.ask(b"POST", (b"Content-Length", b"2"))
        self.assertRaises(UsageError, exchange.write, b"three")
        self.settle()
        self.assertIsNone(receiver.failure)
        _, receiver, server = self.get()
        self.ok(server, (b"Content-Length", b"2"))
        self.assertRaises(UsageError, server.write, b"three")
        self.settle()
        self.wasBroken(receiver)

    # Both directions

    def test_bothDirectionsFlowAtOnce(self: Any) -> None:
        exchange, receiver = self.ask(b"POST", (b"Transfer-Encoding", b"chunked"))
        self.settle()
        if not exchange.traits.streamed:
            self.assertEqual(self.server.asked, [])
            return
        _, server, body = self.server.asked[-1]
        self.ok(server)
        for number in range(5):
            exchange.write(b"%d" % number)
            self.settle()
            self.assertTrue(body.body.endswith(b"%d" % number))
            server.write(b"<%d>" % number)
            self.settle()
            self.assertTrue(receiver.body.endswith(b"<%d>" % number))
        exchange.end()
        self.settle()
        server.end()
        self.settle()
        self.assertEqual((body.trailers, receiver.trailers, receiver.failure), ([], [], None))

    def test_aResponseMayComeBeforeTheRequestIsWhole(self: Any) -> None:
        exchange, receiver = self.post(4 * PIECE, bytes(PIECE))
        if self.server.asked:                # a carrier that sends whole requests has not asked yet
            _, server, _ = self.server.asked[-1]
            server.respond(ResponseHead(413, b"Content Too Large", [(b"Content-Length", b"2")]), b"no")
            self.settle()
            self.assertEqual((receiver.heads[0].status, receiver.body, receiver.trailers), (413, b"no", []))
        for _ in range(3):
            exchange.write(bytes(PIECE))
        exchange.end()
        self.settle()
        self.assertIsNone(receiver.failure)
        self.works()

    def test_manyAtOnceKeepApart(self: Any) -> None:
        asked = []
        for number in range(self.parallel):
            exchange, receiver = self.ask(b"POST", (b"Content-Length", b"3"))
            exchange.write(b"%03d" % number)
            exchange.end()
            asked.append(receiver)
        self.settle()
        for _, server, body in reversed(self.server.asked):
            server.respond(ResponseHead(200, b"OK", [(b"Content-Length", b"3")]), body.body)
        self.settle()
        self.assertEqual([receiver.body for receiver in asked], [b"%03d" % number for number in range(self.parallel)])

    def test_anUpgradeIsTwoRawDirections(self: Any) -> None:
        exchange, receiver = self.ask(b"GET", *UPGRADE)
        if not exchange.traits.upgrade:
            exchange.cancel(FailureKind.UNSUPPORTED)
            return
        exchange.end()
        self.settle()
        head, server, heard = self.server.asked[-1]
        self.assertEqual(heard.trailers, [])
        heard.trailers = None                # the request has ended; its raw direction will end as well
        accepted = (b"Sec-WebSocket-Accept", accept_for(head.field(b"sec-websocket-key")))
        server.sendHead(ResponseHead(101, b"Switching Protocols", [(b"Upgrade", b"websocket"), accepted]))
        self.passTime(1)
        answer = receiver.heads[0]
        self.assertEqual((answer.status, answer.field(b"sec-websocket-accept")), (101, accept_for(KEY)))
        for octets in (b"\x81\x00", b"\xff" * 1000, b"three"):
            exchange.write(octets)
            server.write(octets[::-1])
            self.settle()
        sent = b"\x81\x00" + b"\xff" * 1000
        self.assertEqual((heard.body, receiver.body), (sent + b"three", sent[1::-1] + sent[2:] + b"eerht"))
        exchange.end()
        self.settle()
        if exchange.traits.halfClose:
            self.assertEqual((heard.trailers, receiver.trailers), ([], None))
            server.write(b" late")
            server.end()
            self.settle()
            self.assertTrue(receiver.body.endswith(b"eerht late"))
        self.passTime(self.patience)         # one that cannot end alone is given time for what the other still sends
        self.assertTrue(heard.trailers is not None or heard.failure is not None)
        self.assertTrue(receiver.trailers is not None or receiver.failure is not None)

    def test_anUpgradeMayBeRefused(self: Any) -> None:
        exchange, receiver = self.ask(b"GET", *UPGRADE)
        if not exchange.traits.upgrade:
            exchange.cancel(FailureKind.UNSUPPORTED)
            return
        exchange.end()
        self.settle()
        server = self.server.asked[-1][1]
        server.respond(ResponseHead(426, b"Upgrade Required", [(b"Content-Length", b"2")]), b"no")
        self.settle()
        self.assertEqual((receiver.heads[0].status, receiver.body, receiver.trailers), (426, b"no", []))
        self.works()

    # Pressure

    def test_aClientThatDoesNotReadStopsTheServer(self: Any) -> None:
        exchange, receiver, server = self.get()
        producer = Pressed()
        server.registerProducer(producer, True)
        exchange.pauseProducing()
        self.ok(server)
        written = self.fill(server.write, producer)
        self.assertTrue(producer.paused)
        self.assertLess(len(receiver.body), written)
        exchange.resumeProducing()
        self.settle()
        self.assertFalse(producer.paused)
        self.assertEqual(len(receiver.body), written)

    def test_aServerThatDoesNotReadStopsTheClient(self: Any) -> None:
        size = PIECE * 128
        exchange, _ = self.ask(b"POST", (b"Content-Length", b"%d" % size))
        if not (exchange.traits.streamed or exchange.traits.largestBody >= size):
            exchange.cancel(FailureKind.TOO_LARGE)
            return
        producer = Pressed()
        exchange.registerProducer(producer, True)
        self.settle()
        if not self.server.asked:
            return                           # it holds requests until they are whole, within its bound
        _, server, body = self.server.asked[-1]
        server.pauseProducing()
        written = self.fill(exchange.write, producer)
        self.assertTrue(producer.paused)
        self.assertLess(len(body.body), written)
        server.resumeProducing()
        self.settle()
        self.assertFalse(producer.paused)
        self.assertEqual(len(body.body), written)

    def test_aClientThatDoesNotReadHoldsNobodyElse(self: Any) -> None:
        stalled, receiver, server = self.get()
        producer = Pressed()
        server.registerProducer(producer, True)
        stalled.pauseProducing()
        self.ok(server)
        written = self.fill(server.write, producer, 32 * PIECE)
        for _ in range(3):
            self.works()
        stalled.resumeProducing()
        self.settle()
        self.assertEqual(len(receiver.body), written)
        server.unregisterProducer()
        server.end()
        self.settle()
        self.assertEqual((receiver.trailers, receiver.failure), ([], None))

    # Ends

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
        exchange, _ = self.post(10, b"hello")
        exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.settle()
        for _, server, body in self.server.asked:
            self.assertIsNotNone(body.failure)
            self.assertTrue(server.finished)

    def test_aClientMayGiveUpAtAnyPoint(self: Any) -> None:
        def answer(octets: bytes) -> None:
            server = self.server.asked[-1][1]
            self.ok(server, (b"Content-Length", b"8"))
            server.write(octets)

        steps: list[Callable[[Any], object]] = [
            lambda exchange: exchange.sendHead(RequestHead(b"POST", b"/", [HOST, (b"Content-Length", b"8")])),
            lambda exchange: exchange.write(b"half"),
            lambda exchange: self.settle(),
            lambda exchange: exchange.write(b"half"),
            lambda exchange: exchange.end(),
            lambda exchange: self.settle(),
            lambda exchange: answer(b""),
            lambda exchange: self.settle(),
            lambda exchange: self.server.asked[-1][1].write(b"half"),
            lambda exchange: self.settle(),
        ]
        for count in range(len(steps) + 1):
            receiver = Recorder()
            exchange = self.open(receiver)
            for step in steps[:count]:
                step(exchange)
            heads, body = len(receiver.heads), receiver.body
            exchange.cancel(FailureKind.CLIENT_CLOSED)
            exchange.cancel(FailureKind.CLIENT_CLOSED)
            exchange.write(b"more")
            exchange.end()
            self.settle()
            self.assertEqual((len(receiver.heads), receiver.body), (heads, body))
            self.assertEqual((receiver.trailers, receiver.failure), (None, None))
            self.assertTrue(all(server.finished for _, server, _ in self.server.asked), count)
            self.works()

    def test_nobodyHearsTheResponseToWhatWasGivenUp(self: Any) -> None:
        exchange, receiver, server = self.get()
        exchange.cancel(FailureKind.CLIENT_CLOSED)
        server.respond(ResponseHead(200, b"OK", [(b"Content-Length", b"4")]), b"late")
        self.settle()
        self.assertEqual((receiver.heads, receiver.body, receiver.failure), ([], b"", None))
        self.works()

    def test_aBrokenResponseIsAFailure(self: Any) -> None:
        for fields in ([(b"Content-Length", b"10")], []):
            _, receiver, server = self.get()
            self.ok(server, *fields)
            server.write(b"half")
            self.settle()
            server.cancel(FailureKind.BROKEN)
            self.settle()
            self.assertIsNotNone(receiver.failure)
            self.assertIsNone(receiver.trailers)
        self.works()

    def test_aResponseThatEndsTooEarlyIsAFailure(self: Any) -> None:
        _, receiver, server = self.get()
        self.ok(server, (b"Content-Length", b"10"))
        server.write(b"half")
        server.end()
        self.settle()
        self.wasBroken(receiver)

    def test_theNetworkIsLost(self: Any) -> None:
        _, receiver, server = self.get()
        _, unanswered, waiting = self.get()
        self.ok(server)
        server.write(b"some")
        self.settle()
        self.sever()
        self.settle()
        for each in (receiver, unanswered):
            self.assertIsNotNone(each.failure)
            self.assertIsNone(each.trailers)
        self.assertTrue(server.finished and waiting.finished)

    def test_aServerThatDoesNotAnswerIsGivenUp(self: Any) -> None:
        _, receiver, server = self.get()
        self.passTime(self.patience)
        self.wasBroken(receiver, 504)
        if receiver.failure is not None:
            self.assertEqual(receiver.failure.kind, FailureKind.GATEWAY_TIMEOUT)
        self.assertTrue(server.finished)
        self.works()
