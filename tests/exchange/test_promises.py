"""
The promises of exchanges, for each kind.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.exchange.doubles import Recorder, Server, Wires, settle
from tests.promises.exchanges import HOST, ExchangePromises
from tunnelstack.exchange.error_page import errorPage
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.exchange.stream_client import HeldBodies, StreamClientExchange
from tunnelstack.exchange.stream_server import StreamServerProtocol
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.negotiation.typed_head import TypedHeadFactory, typedHeadEndpoint
from tunnelstack.testing import sessionPair
from tunnelstack.wire.http1.framing import Framing
from tunnelstack.wire.http1.head import (
    RequestHead,
    ResponseHead,
    encode_request,
    encode_response,
    read_request_untrusted,
    read_response_untrusted,
)
from tunnelstack.wire.negotiation.typed_head import METADATA, TypedHead, TypedHeadReader, encode_typed_head

NAMES = {1: b"exchange"}
TIMEOUTS = Timeouts(first=10, idle=20, connect=5)


class HTTP1Tests(ExchangePromises, SynchronousTestCase):
    """
    HTTP/1.1 over a connection.
    """

    cut: int | None = None

    def connectExchanges(self) -> None:
        self.clock = clock = Clock()
        self.server = Server()
        wires = Wires(clock, lambda: HTTPServerProtocol(self.server, clock=clock), self.cut)
        self.open = ExchangePool(wires, clock=clock).exchange
        self.settle = lambda: settle(wires)
        self.sever = lambda: [wire.near.abortConnection() for wire in wires.wires]


class HeadReader:
    """
    Typed heads whose metadata are the head of a response.
    """

    def __init__(self) -> None:
        self._reader = TypedHeadReader()
        self.take_leftover = self._reader.take_leftover

    def receive_data(self, octets: bytes) -> ResponseHead | None:
        self._reader.feed(octets)
        head = self._reader.next_head()
        return None if head is None else read_response_untrusted(head.metadata, len(head.metadata))


class StreamTests(ExchangePromises, SynchronousTestCase):
    """
    A stream for each exchange, with typed heads.
    """

    cut: int | None = None

    def connectExchanges(self) -> None:
        self.server = Server()
        self.ended = 0
        self.bodies = HeldBodies(3000)
        self.wire, self.near, far = sessionPair(TypedHeadFactory({b"exchange": _Serving(self)}, NAMES), cut=self.cut)
        self.clock = self.wire.clock
        self.settle = self.wire.settle
        self.sever = self.near.abort
        self.settle()

    def open(self, receiver: Recorder) -> StreamClientExchange:
        return StreamClientExchange(
            receiver, self.endpointFor, HeadReader(), clock=self.wire.clock, largestCollected=2000, bodies=self.bodies,
            ended=self.countEnded, timeouts=TIMEOUTS, explain=lambda reason: "Nobody answers.",
        )

    def endpointFor(self, head: RequestHead, body: int) -> Any:
        octets = encode_request(head) + b"%d" % body
        return typedHeadEndpoint(self.near.connector, b"exchange", TypedHead(1, octets))

    def countEnded(self) -> None:
        self.ended += 1

    def raw(self, octets: bytes) -> tuple[Recorder, Any]:
        """
        A request that is answered with these octets.
        """
        _, receiver, server = self.get()
        server.transport.write(octets)
        self.settle()
        return receiver, server.transport

    # Bodies of unknown length

    def test_aBodyOfUnknownLengthHasABound(self) -> None:
        exchange, receiver = self.ask(b"POST", (b"Transfer-Encoding", b"chunked"))
        exchange.write(bytes(2000))
        self.assertIsNone(receiver.failure)
        exchange.write(b"x")
        assert receiver.failure is not None
        self.assertEqual((receiver.failure.kind, self.bodies.octets, self.ended), (FailureKind.TOO_LARGE, 0, 1))
        self.settle()
        self.assertEqual(self.server.asked, [])

    def test_allOfThemTogetherHaveABound(self) -> None:
        first, _ = self.ask(b"POST", (b"Transfer-Encoding", b"chunked"))
        first.write(bytes(2000))
        second, receiver = self.ask(b"POST", (b"Transfer-Encoding", b"chunked"))
        second.write(bytes(1500))
        assert receiver.failure is not None
        self.assertEqual((receiver.failure.kind, self.bodies.octets), (FailureKind.BUSY, 2000))
        first.end()
        self.settle()
        self.assertEqual((self.bodies.octets, len(self.server.asked[0][2].body)), (0, 2000))

    # Bad input

    def failure(self, octets: bytes, end: bool = False) -> FailureKind:
        receiver, transport = self.raw(octets)
        if end:
            transport.loseConnection()
            self.settle()
        assert receiver.failure is not None
        return receiver.failure.kind

    def test_aHeadThatIsNoneIsAFailure(self) -> None:
        self.assertEqual(self.failure(encode_typed_head(1, b"nonsense")), FailureKind.INVALID_RESPONSE)
        self.assertEqual(self.failure(b"\x01\xff\xff\xff\xff"), FailureKind.INVALID_RESPONSE)

    def test_anEndBeforeTheHeadIsAFailure(self) -> None:
        self.assertEqual(self.failure(b"\x01\x00", end=True), FailureKind.BROKEN)
        self.assertEqual(self.failure(b"", end=True), FailureKind.BROKEN)

    def test_aBodyLongerThanItsLengthIsAFailure(self) -> None:
        head = encode_typed_head(1, encode_response(ResponseHead(200, b"OK", [(b"Content-Length", b"2")])))
        self.assertEqual(self.failure(head + b"three"), FailureKind.INVALID_RESPONSE)

    # Deadlines

    def test_aServerThatDoesNotAnswerIsGivenUp(self) -> None:
        _, receiver, server = self.get()
        self.passTime(9)
        self.assertIsNone(receiver.failure)
        self.passTime(2)
        assert receiver.failure is not None
        self.assertEqual((receiver.failure.kind, server.finished), (FailureKind.GATEWAY_TIMEOUT, True))

    def test_aResponseOfKnownLengthMustGoOn(self) -> None:
        _, receiver, server = self.get()
        self.ok(server, (b"Content-Length", b"10"))
        for _ in range(3):
            server.write(b"x")
            self.settle()
            self.passTime(15)
        self.assertIsNone(receiver.failure)
        self.passTime(6)
        self.assertIsNotNone(receiver.failure)

    def test_aResponseOfUnknownLengthMayPause(self) -> None:
        _, receiver, server = self.get()
        self.ok(server)
        self.settle()
        self.passTime(100_000)
        self.assertIsNone(receiver.failure)

    def test_aRequestThatStopsIsGivenUp(self) -> None:
        exchange, _ = self.ask(b"POST", (b"Content-Length", b"10"))
        exchange.write(b"hello")
        self.settle()
        _, server, body = self.server.asked[-1]
        self.passTime(21)
        assert body.failure is not None
        self.assertEqual(body.failure.kind, FailureKind.REQUEST_TIMEOUT)
        self.assertEqual(server.status, 408)

    # The session

    def test_aSessionThatIsLostIsSaid(self) -> None:
        self.near.abort()
        self.settle()
        _, receiver = self.ask()
        self.settle()
        assert receiver.failure is not None
        self.assertEqual((receiver.failure.kind, receiver.failure.sentence), (FailureKind.ABSENT, "Nobody answers."))

    def test_theEndIsToldOnce(self) -> None:
        _, _, server = self.get()
        server.respond(ResponseHead(200, b"OK", []), b"ok")
        self.settle()
        self.sever()
        self.settle()
        self.assertEqual(self.ended, 1)

    def test_theStreamEndsWithTheExchange(self) -> None:
        _, _, server = self.get()
        self.assertEqual(self.near.streams, 1)
        server.respond(ResponseHead(200, b"OK", []), b"ok")
        self.settle()
        self.assertEqual(self.near.streams, 0)

    # The serving side

    def test_whatFollowsTheBodyIsDropped(self) -> None:
        head = RequestHead(b"POST", b"/", [HOST])
        self.endpointFor(head, 2).connect(Factory.forProtocol(_Sender))
        self.settle()
        (_, server, body), = self.server.asked
        self.assertEqual((body.body, body.trailers), (b"hi", []))
        server.respond(ResponseHead(200, b"OK", []), b"ok")
        self.settle()

    def test_aDefectOfTheServerIsAnErrorResponse(self) -> None:
        def fail(head: Any, exchange: Any) -> None:
            raise RuntimeError("a defect")

        self.server.answer = fail
        _, receiver, _ = self.getUnserved()
        self.assertEqual(receiver.heads[0].status, 502)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def getUnserved(self) -> tuple[Any, Recorder, None]:
        exchange, receiver = self.ask()
        exchange.end()
        self.settle()
        return exchange, receiver, None


class CutHTTP1Tests(HTTP1Tests):
    cut = 1000


class CutStreamTests(StreamTests):
    cut = 1000


class _Sender:
    """
    Sends more than it has announced, and has no half-closes.
    """

    def makeConnection(self, transport: Any) -> None:
        transport.write(b"hi and more")

    def dataReceived(self, data: bytes) -> None:
        pass

    def connectionLost(self, reason: Any) -> None:
        pass


class _Serving(Factory):
    noisy = False

    def __init__(self, test: StreamTests) -> None:
        self._test = test

    def buildProtocol(self, address: Any) -> Any:
        metadata = address.parameters[METADATA]
        head_octets, end, length = metadata.partition(b"\r\n\r\n")
        octets = head_octets + end
        head = read_request_untrusted(octets, len(octets))
        return StreamServerProtocol(
            self._test.server, head, Framing(int(length)),
            lambda response: encode_typed_head(1, encode_response(response)),
            clock=self._test.clock, pages=errorPage, timeouts=TIMEOUTS,
        )


