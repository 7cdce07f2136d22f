"""
HTTP/2 as we speak it to a server, over wires: streams and connections, deadlines, what is sent again, and WebSockets.
"""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.exchange.doubles import Producer, Recorder, Server, Wires, reply, settle
from tunnelstack.exchange.errors import Busy, FailureKind
from tunnelstack.exchange.http2_client import TRIES
from tunnelstack.exchange.http2_pool import CLOGGED_OCTETS, HTTP2ExchangePool
from tunnelstack.exchange.negotiated_pool import NegotiatedPool
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.interfaces import IWholeResponseReceiver
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.wire.http1.framing import Framing
from tunnelstack.wire.http1.head import Fields, HeadLimits, RequestHead, ResponseHead
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.http2.limits import WINDOW, HTTP2Limits
from tunnelstack.wire.http2.websocket import ACCEPT, accept_for

HOST = (b"Host", b"a.example")
GET = RequestHead(b"GET", b"/", [HOST])
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
TIMEOUTS = Timeouts(first=10, interim=25, idle=20, connect=5)


def upgrade() -> RequestHead:
    fields = [HOST, (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Key", KEY), (b"Sec-WebSocket-Version", b"13")]
    return RequestHead(b"GET", b"/chat", fields, framing=Framing(host=b"a.example", upgrade=b"websocket"))


def chunks() -> RequestHead:
    return RequestHead(b"POST", b"/", [HOST, (b"Transfer-Encoding", b"chunked")])


@implementer(IWholeResponseReceiver)
@define(eq=False)
class WholeRecorder(Recorder):
    """
    Remembers whether a response came in one call.
    """

    whole: int = 0

    def responseReceived(self, head: ResponseHead, octets: bytes) -> None:
        self.whole += 1
        self.headReceived(head)
        self.body += octets
        self.ended(())


class Asked:
    """
    One stream at the server.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.fields: Fields = []
        self.body = b""
        self.trailers: Any = None
        self.failure: Any = None

    def informational(self, fields: Any) -> None:
        pass

    def headersReceived(self, fields: Any, ended: bool) -> None:
        self.fields = list(fields)

    def dataReceived(self, octets: bytes) -> None:
        self.body += octets

    def ended(self, trailers: Any) -> None:
        self.trailers = list(trailers)

    def closed(self) -> None:
        pass

    def failed(self, reason: Any) -> None:
        self.failure = reason

    def answer(self, status: bytes = b"200", body: bytes = b"ok") -> None:
        self.stream.sendHeaders([(b":status", status)])
        self.stream.write(body)
        self.stream.end()


class PoolCase(SynchronousTestCase):
    """
    A pool, and the servers at which its connections arrive.
    """

    limits = HTTP2Limits(streams=2)

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[Asked] = []
        self.connections: list[HTTP2Connection] = []
        self.wires = Wires(self.clock, self.build)
        self.pool = HTTP2ExchangePool(
            self.wires, clock=self.clock, timeouts=TIMEOUTS, maxConnections=2, maxWaiting=3, explain=lambda reason: "Nobody.",
        )

    def build(self) -> HTTP2Connection:
        connection = HTTP2Connection(False, clock=self.clock, limits=self.limits, accept=self.accept)
        self.connections.append(connection)
        return connection

    def accept(self, stream: Any) -> Asked:
        self.asked.append(Asked(stream))
        return self.asked[-1]

    def settle(self) -> None:
        settle(self.wires)

    def pass_(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.settle()

    def ask(self, head: RequestHead = GET, end: bool = True, receiver: Recorder | None = None) -> tuple[Any, Recorder]:
        receiver = receiver or Recorder()
        exchange = self.pool.exchange(receiver)
        exchange.sendHead(head)
        if end:
            exchange.end()
        self.settle()
        return exchange, receiver

    def kind(self, receiver: Recorder) -> FailureKind:
        assert receiver.failure is not None
        return receiver.failure.kind


class ConnectionTests(PoolCase):
    """
    Connections and their streams.
    """

    def test_oneConnectionCarriesThemAll(self) -> None:
        receivers = [self.ask()[1] for _ in range(2)]
        self.assertEqual((len(self.connections), len(self.asked), self.pool.inFlight), (1, 2, 2))
        for asked in self.asked:
            asked.answer()
        self.settle()
        self.assertEqual([(receiver.body, receiver.trailers) for receiver in receivers], [(b"ok", [])] * 2)
        self.assertEqual((self.pool.inFlight, self.pool.idle), (0, 1))
        self.ask()
        self.assertEqual(len(self.connections), 1)

    def test_anotherConnectionIsMadeWhenAllStreamsAreUsed(self) -> None:
        for _ in range(4):
            self.ask()
        self.assertEqual((len(self.connections), len(self.asked)), (2, 4))

    def test_othersWaitForAStream(self) -> None:
        receivers = [self.ask()[1] for _ in range(6)]
        self.assertEqual(len(self.asked), 4)
        self.asked[0].answer()
        self.asked[3].answer()
        self.settle()
        self.assertEqual(len(self.asked), 6)
        for asked in self.asked:
            if asked.trailers is not None and not asked.stream.ended:
                asked.answer()
        self.settle()
        self.assertEqual([receiver.body for receiver in receivers], [b"ok"] * 6)

    def test_notTooManyWait(self) -> None:
        for _ in range(7):
            self.ask()
        self.assertRaises(Busy, self.pool.exchange, Recorder())

    def test_oneThatWaitsMayGiveUp(self) -> None:
        for _ in range(4):
            self.ask()
        exchange, receiver = self.ask()
        exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.asked[0].answer()
        self.settle()
        self.assertEqual((len(self.asked), receiver.failure, self.pool.inFlight), (4, None, 3))

    def test_oneThatWaitsTooLong(self) -> None:
        for _ in range(4):
            self.ask(chunks(), False)
        _, receiver = self.ask()
        self.pass_(TIMEOUTS.connect + 1)
        self.assertEqual(self.kind(receiver), FailureKind.BUSY)

    def test_withoutAConnectionTheExchangeFails(self) -> None:
        self.wires.refuse = True
        _, receiver = self.ask()
        self.assertEqual(self.kind(receiver), FailureKind.UNREACHABLE)
        assert receiver.failure is not None
        self.assertEqual(receiver.failure.sentence, "Nobody.")
        self.assertIsInstance(receiver.failure.details["reason"], ConnectionRefusedError)
        self.wires.refuse = False
        self.ask()
        self.assertEqual(len(self.asked), 1)

    def test_aServerThatDoesNotAnswerAtAll(self) -> None:
        self.wires.waiting = []
        _, receiver = self.ask()
        self.pass_(TIMEOUTS.connect + 1)
        self.assertIn(self.kind(receiver), (FailureKind.UNREACHABLE, FailureKind.BUSY))

    def test_whatWasWrittenBeforeThereIsAConnection(self) -> None:
        self.wires.waiting = []
        exchange = self.pool.exchange(Recorder())
        producer = Producer()
        exchange.registerProducer(producer, True)
        self.assertEqual(producer.said, ["pause"])
        exchange.sendHead(chunks())
        exchange.write(b"hello ")
        exchange.write(b"world")
        exchange.end([(b"X-Sum", b"1")])
        self.wires.let()
        self.settle()
        asked, = self.asked
        self.assertEqual((asked.body, asked.trailers), (b"hello world", [(b"x-sum", b"1")]))

    def test_drainWaitsForExchanges(self) -> None:
        _, receiver = self.ask()
        drained = self.pool.drain()
        self.assertNoResult(drained)
        self.assertRaises(Busy, self.pool.exchange, Recorder())
        self.asked[0].answer()
        self.settle()
        self.successResultOf(drained)
        self.assertEqual(receiver.body, b"ok")
        self.assertIsNotNone(self.connections[0].lostReason)

    def test_drainWithoutExchangesEndsAtOnce(self) -> None:
        self.successResultOf(self.pool.drain())

    def test_closeFailsWhatWaits(self) -> None:
        _, receiver = self.ask()
        for _ in range(4):
            _, waiting = self.ask()
        self.pool.close()
        self.settle()
        self.assertEqual((self.kind(receiver), self.kind(waiting)), (FailureKind.BROKEN, FailureKind.STOPPED))
        self.assertEqual(self.pool.inFlight, 0)


class SlowReaderTests(PoolCase):
    """
    Exchanges whose receivers do not read.
    """

    limits = HTTP2Limits()

    def clog(self) -> None:
        """
        Use up what a connection may hold before others avoid it.
        """
        number = len(self.connections)
        for _ in range(CLOGGED_OCTETS // WINDOW + 1):
            exchange, _ = self.ask()
            exchange.pauseProducing()
            self.asked[-1].stream.sendHeaders([(b":status", b"200")])
            self.asked[-1].stream.write(bytes(2 * WINDOW))
            self.settle()
        self.assertEqual(len(self.connections), max(1, number))

    def test_othersUseAnotherConnection(self) -> None:
        self.clog()
        _, receiver = self.ask()
        self.assertEqual(len(self.connections), 2)
        self.asked[-1].answer()
        self.settle()
        self.assertEqual(receiver.body, b"ok")

    def test_withoutAnotherTheyUseTheSame(self) -> None:
        self.clog()
        self.wires.refuse = True
        _, receiver = self.ask()
        self.asked[-1].answer()
        self.settle()
        self.assertEqual((receiver.body, len(self.connections)), (b"ok", 1))

    def test_theLastConnectionIsUsedInAnyCase(self) -> None:
        self.clog()
        self.ask()
        self.clog()
        _, receiver = self.ask()
        self.asked[-1].answer()
        self.settle()
        self.assertEqual((receiver.body, len(self.connections)), (b"ok", 2))


class RepeatTests(PoolCase):
    """
    Requests that the server has not processed are sent once more.
    """

    def test_aRefusedStreamIsRepeated(self) -> None:
        exchange, receiver = self.ask(RequestHead(b"POST", b"/", [HOST, (b"Content-Length", b"5")]), False)
        exchange.write(b"hello")
        exchange.end()
        self.settle()
        self.asked[0].stream.reset(ErrorCode.REFUSED_STREAM)
        self.settle()
        self.assertEqual((len(self.asked), self.asked[1].body), (2, b"hello"))
        self.asked[1].answer()
        self.settle()
        self.assertEqual((receiver.body, receiver.failure), (b"ok", None))

    def test_aRequestIsRepeatedAFewTimesOnly(self) -> None:
        _, receiver = self.ask()
        for number in range(TRIES):
            self.assertEqual(len(self.asked), number + 1)
            self.asked[-1].stream.reset(ErrorCode.REFUSED_STREAM)
            self.settle()
        self.assertEqual((len(self.asked), self.kind(receiver)), (TRIES, FailureKind.BUSY))

    def test_notWhatMayHaveBeenProcessed(self) -> None:
        for code in (ErrorCode.INTERNAL_ERROR, ErrorCode.CANCEL):
            _, receiver = self.ask()
            self.asked[-1].stream.reset(code)
            self.settle()
            self.assertEqual(self.kind(receiver), FailureKind.BROKEN)
        self.assertEqual(len(self.asked), 2)

    def test_aLongBodyIsNotRepeated(self) -> None:
        exchange, receiver = self.ask(chunks(), False)
        exchange.write(bytes(65_537))
        exchange.end()
        self.settle()
        self.asked[0].stream.reset(ErrorCode.REFUSED_STREAM)
        self.settle()
        self.assertEqual((len(self.asked), self.kind(receiver)), (1, FailureKind.BUSY))

    def test_aServerThatGoesAway(self) -> None:
        self.ask()
        self.connections[0].drain()
        self.settle()
        _, receiver = self.ask()
        self.assertEqual((len(self.connections), len(self.asked)), (2, 2))
        self.asked[0].answer()
        self.asked[1].answer()
        self.settle()
        self.assertEqual(receiver.body, b"ok")
        self.assertIsNotNone(self.connections[0].lostReason)


class ResponseTests(PoolCase):
    """
    What the receiver is given.
    """

    def test_aHeadThatEndsItsStreamIsOneCall(self) -> None:
        receiver = WholeRecorder()
        self.ask(receiver=receiver)
        self.asked[0].stream.sendHeaders([(b":status", b"200"), (b"grpc-status", b"5")], endStream=True)
        self.settle()
        self.assertEqual((receiver.whole, receiver.trailers), (1, []))
        self.assertEqual(receiver.heads[0].framing.body, 0)
        self.assertEqual(receiver.heads[0].field(b"content-length"), b"0")

    def test_anEarlyResponseEndsTheRequest(self) -> None:
        exchange, receiver = self.ask(chunks(), False)
        self.asked[0].answer(b"403")
        self.settle()
        self.assertEqual((receiver.heads[0].status, receiver.trailers, exchange.finished), (403, [], True))
        exchange.write(b"more")
        exchange.end()
        self.assertEqual(self.connections[0].streams, 0)

    def test_aCancelledExchangeResetsItsStream(self) -> None:
        exchange, receiver = self.ask()
        exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.settle()
        self.assertEqual(self.asked[0].failure.code, ErrorCode.CANCEL)
        self.assertIsNone(receiver.failure)

    def test_aHeadThatIsTooLarge(self) -> None:
        self.pool.configure(TIMEOUTS, HeadLimits(octets=1024, fields=10))
        _, receiver = self.ask()
        self.asked[0].stream.sendHeaders([(b":status", b"200"), (b"x", b"y" * 1024)])
        self.settle()
        self.assertEqual(self.kind(receiver), FailureKind.RESPONSE_TOO_LARGE)

    def test_tooManyInterimResponsesFailTheExchange(self) -> None:
        _, receiver = self.ask()
        for _ in range(33):
            self.asked[0].stream.sendInformational([(b":status", b"150")])
        self.settle()
        self.assertEqual(len(receiver.interim), 32)
        self.assertEqual(self.kind(receiver), FailureKind.INVALID_RESPONSE)


class DeadlineTests(PoolCase):
    """
    The deadlines of HTTP/1.1.
    """

    def test_withoutAResponseTheExchangeFails(self) -> None:
        _, receiver = self.ask()
        self.pass_(9)
        self.assertIsNone(receiver.failure)
        self.pass_(2)
        self.assertEqual(self.kind(receiver), FailureKind.GATEWAY_TIMEOUT)
        self.assertEqual(self.asked[0].failure.code, ErrorCode.CANCEL)

    def test_theTimeBeginsWithTheEndOfTheRequest(self) -> None:
        exchange, receiver = self.ask(chunks(), False)
        self.pass_(1000)
        exchange.end()
        self.pass_(9)
        self.assertIsNone(receiver.failure)
        self.pass_(2)
        self.assertIsNotNone(receiver.failure)

    def test_interimResponsesGiveTime(self) -> None:
        _, receiver = self.ask()
        for _ in range(2):
            self.pass_(9)
            self.asked[0].stream.sendInformational([(b":status", b"102")])
            self.settle()
        self.pass_(9)
        self.assertIsNone(receiver.failure)
        self.pass_(8)
        self.assertEqual(self.kind(receiver), FailureKind.GATEWAY_TIMEOUT)

    def test_aResponseOfKnownLengthStops(self) -> None:
        _, receiver = self.ask()
        self.asked[0].stream.sendHeaders([(b":status", b"200"), (b"content-length", b"10")])
        self.asked[0].stream.write(b"hello")
        self.settle()
        self.pass_(19)
        self.assertIsNone(receiver.failure)
        self.pass_(2)
        self.assertEqual(self.kind(receiver), FailureKind.GATEWAY_TIMEOUT)

    def test_anyOtherResponseMayPause(self) -> None:
        _, receiver = self.ask()
        self.asked[0].stream.sendHeaders([(b":status", b"200")])
        self.settle()
        self.pass_(10_000)
        self.assertIsNone(receiver.failure)

    def test_aServerThatDoesNotRead(self) -> None:
        exchange, receiver = self.ask(chunks(), False)
        exchange.registerProducer(Producer(), True)
        self.asked[0].stream.pauseProducing()
        exchange.write(bytes(1 << 24))
        self.settle()
        self.pass_(TIMEOUTS.idle + 1)
        self.assertEqual(self.kind(receiver), FailureKind.GATEWAY_TIMEOUT)


class WebSocketTests(PoolCase):
    """
    An upgrade becomes an extended CONNECT, if the server takes it.
    """

    def test_octetsFlowBothWays(self) -> None:
        exchange, receiver = self.ask(upgrade())
        asked, = self.asked
        self.assertEqual(dict(asked.fields)[b":protocol"], b"websocket")
        self.assertIsNone(asked.trailers)
        asked.stream.sendHeaders([(b":status", b"200")])
        asked.stream.write(b"hello")
        self.settle()
        head, = receiver.heads
        self.assertEqual((head.status, head.field(ACCEPT.lower())), (101, accept_for(KEY)))
        exchange.write(b"world")
        exchange.end()
        self.settle()
        self.assertEqual((receiver.body, asked.body, asked.trailers), (b"hello", b"world", []))
        asked.stream.end()
        self.settle()
        self.assertEqual((receiver.trailers, exchange.finished, self.pool.inFlight), ([], True, 0))

    def test_aRefusalIsPassedOn(self) -> None:
        _, receiver = self.ask(upgrade())
        self.asked[0].answer(b"404")
        self.settle()
        self.assertEqual((receiver.heads[0].status, receiver.body, receiver.trailers), (404, b"ok", []))
        self.assertEqual(self.connections[0].streams, 0)

    def test_aServerWithoutThemIsNotSentAny(self) -> None:
        self.limits = HTTP2Limits(connect_protocol=False)
        _, receiver = self.ask(upgrade())
        self.assertEqual((self.kind(receiver), self.asked), (FailureKind.UNSUPPORTED, []))


class NegotiatedTests(SynchronousTestCase):
    """
    A server that selects the protocol.
    """

    selected: bytes | None = b"h2"

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = Server(reply())
        self.accepted: list[HTTP2Connection] = []
        self.tls = Wires(self.clock, self.build)
        self.http1 = Wires(self.clock, lambda: HTTPServerProtocol(self.server, clock=self.clock))
        self.http2 = Wires(self.clock, self.buildHTTP2)
        self.pool = NegotiatedPool(
            _Negotiating(self.tls, self), ExchangePool(self.http1, clock=self.clock),
            HTTP2ExchangePool(self.http2, clock=self.clock), clock=self.clock, explain=lambda reason: "Nobody.",
        )
        self.connectProtocol = True

    def build(self) -> Any:
        return self.buildHTTP2() if self.selected == b"h2" else HTTPServerProtocol(self.server, clock=self.clock)

    def buildHTTP2(self) -> HTTP2Connection:
        from tunnelstack.exchange.http2_server import HTTP2ServerConnection

        connection = HTTP2ServerConnection(self.server, clock=self.clock).protocol
        self.accepted.append(connection)
        return connection

    def settle(self) -> None:
        settle(self.tls, self.http1, self.http2)

    def ask(self, head: RequestHead = GET) -> Recorder:
        receiver = Recorder()
        exchange = self.pool.exchange(receiver)
        exchange.sendHead(head)
        exchange.end()
        return receiver

    def test_aWebSocketUsesHTTP1WhereTheServerHasNoneByHTTP2(self) -> None:
        self.tls.build = lambda: HTTP2Connection(
            False, clock=self.clock, limits=HTTP2Limits(connect_protocol=False), accept=Asked
        )
        receiver = self.ask(upgrade())
        self.settle()
        self.assertEqual((len(self.tls.wires), len(self.http1.wires), len(self.http2.wires)), (1, 1, 0))
        head, _, _ = self.server.asked[0]
        self.assertEqual((head.version, head.framing.upgrade), ((1, 1), b"websocket"))
        self.assertEqual(receiver.body, b"ok")

    def test_aWebSocketUsesHTTP2WhereTheServerHasOne(self) -> None:
        self.server.answer = None
        self.ask(upgrade())
        self.settle()
        head, _, _ = self.server.asked[0]
        self.assertEqual((head.version, head.framing.upgrade, len(self.http1.wires)), ((2, 0), b"websocket", 0))

    def test_HTTP2IsUsedIfSelected(self) -> None:
        receivers = [self.ask() for _ in range(3)]
        self.settle()
        receivers.append(self.ask())
        self.settle()
        self.assertEqual([receiver.body for receiver in receivers], [b"ok"] * 4)
        self.assertEqual([head.version for head, _, _ in self.server.asked], [(2, 0)] * 4)
        self.assertEqual((len(self.tls.wires), len(self.http1.wires), len(self.http2.wires)), (1, 0, 0))

    def test_HTTP1IsUsedOtherwise(self) -> None:
        for selected in (b"http/1.1", None):
            self.selected = selected
            self.setUp()
            receivers = [self.ask() for _ in range(3)]
            self.settle()
            receivers.append(self.ask())
            self.settle()
            self.assertEqual([receiver.body for receiver in receivers], [b"ok"] * 4)
            self.assertEqual([head.version for head, _, _ in self.server.asked], [(1, 1)] * 4)
            self.assertEqual((len(self.tls.wires), len(self.http2.wires)), (1, 0))

    def test_theServerIsAskedAgainWhenAllConnectionsAreGone(self) -> None:
        self.ask()
        self.settle()
        for wire in self.tls.wires:
            wire.drop()
        self.settle()
        self.selected = b"http/1.1"
        receiver = self.ask()
        self.settle()
        self.assertEqual((receiver.body, len(self.tls.wires)), (b"ok", 2))
        self.assertEqual(self.server.asked[-1][0].version, (1, 1))

    def test_withoutAConnectionTheExchangeFails(self) -> None:
        self.tls.refuse = True
        receivers = [self.ask(), self.ask()]
        for receiver in receivers:
            assert receiver.failure is not None
            self.assertEqual((receiver.failure.kind, receiver.failure.sentence), (FailureKind.UNREACHABLE, "Nobody."))
        self.tls.refuse = False
        receiver = self.ask()
        self.settle()
        self.assertEqual(receiver.body, b"ok")

    def test_aConnectionThatIsLostBeforeItIsUp(self) -> None:
        receiver = self.ask()
        self.tls.wires[0].drop()
        self.settle()
        assert receiver.failure is not None
        self.assertEqual(receiver.failure.kind, FailureKind.UNREACHABLE)
        receiver = self.ask()
        self.settle()
        self.assertEqual(receiver.body, b"ok")

    def test_drainWaitsForExchanges(self) -> None:
        self.server.answer = None
        receiver = self.ask()
        drained = self.pool.drain()
        self.settle()
        self.assertNoResult(drained)
        reply()(None, self.server.asked[0][1])
        self.settle()
        self.successResultOf(drained)
        self.assertEqual(receiver.body, b"ok")
        self.assertRaises(Busy, self.pool.exchange, Recorder())

    def test_closeFailsWhatWaits(self) -> None:
        self.tls.waiting = []
        receiver = self.ask()
        self.pool.close()
        assert receiver.failure is not None
        self.assertEqual(receiver.failure.kind, FailureKind.STOPPED)


class _Negotiating:
    """
    An endpoint as one with TLS is: its transports know what was selected.
    """

    def __init__(self, wires: Wires, test: NegotiatedTests) -> None:
        self._wires = wires
        self._test = test

    def connect(self, factory: Any) -> Any:
        return self._wires.connect(_Selecting(factory, self._test.selected))


class _Selecting:
    def __init__(self, factory: Any, selected: bytes | None) -> None:
        self._factory = factory
        self._selected = selected

    def buildProtocol(self, address: Any) -> Any:
        return _Selected(self._factory.buildProtocol(address), self._selected)


class _Selected:
    """
    What is between a wire and the protocol of a connection, in place of TLS.
    """

    def __init__(self, protocol: Any, selected: bytes | None) -> None:
        self.wrappedProtocol = protocol
        self.negotiatedProtocol = selected

    def makeConnection(self, transport: Any) -> None:
        self._transport = transport
        self.wrappedProtocol.makeConnection(self)

    def __getattr__(self, name: str) -> Any:
        if name in ("dataReceived", "connectionLost", "readConnectionLost", "writeConnectionLost"):
            return getattr(self.wrappedProtocol, name)
        return getattr(self._transport, name)
