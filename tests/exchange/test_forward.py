"""
The whole way of a request: a visitor, the edge's server, a join, the edge's pool, the agent's server, a join, the agent's pool,
a web server; in virtual time, with octets cut anywhere.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.exchange.doubles import Server, Talker, Wires, settle
from tunnelstack.exchange.errors import Busy, ExchangeFailed, FailureKind
from tunnelstack.exchange.forward import NULL_RECEIVER, Forwarder, forward
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.exchange.traits import Timeouts, Traits
from tunnelstack.interfaces import IExchangeReceiver, IExchangeServer, IWholeResponseReceiver
from tunnelstack.stream.errors import UnsupportedPurpose
from tunnelstack.testing import Wire
from tunnelstack.wire.http1.head import RequestHead, ResponseHead

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class ChainCase(SynchronousTestCase):
    """
    The chain; the web server says what the test says.
    """

    def start(self, cut: int | None = None, build: Any = Talker) -> None:
        self.clock = Clock()
        self.told: list[ExchangeFailed] = []
        self.web = Wires(self.clock, build, cut)
        times = Timeouts(first=60)
        self.local = ExchangePool(self.web, clock=self.clock, timeouts=times, explain=lambda reason: "Nobody is at home.")
        self.agent = Wires(self.clock, self.agentSide, cut)
        self.remote = ExchangePool(self.agent, clock=self.clock, timeouts=times)
        self.wire = Wire(self.clock, cut)
        self.visitor = Talker()
        edge = Forwarder(self.remote.exchange, onFailure=lambda near, failed: self.told.append(failed))
        self.wire.connect(self.visitor, HTTPServerProtocol(edge, clock=self.clock))

    def agentSide(self) -> HTTPServerProtocol:
        return HTTPServerProtocol(Forwarder(self.local.exchange), clock=self.clock)

    def settle(self) -> None:
        settle(self.wire, self.agent, self.web)

    def say(self, octets: bytes) -> bytes:
        self.visitor.say(octets)
        self.settle()
        return self.visitor.take()

    def origin(self) -> Talker:
        talker: Talker = self.web.far[-1]
        return talker

    def answer(self, octets: bytes) -> bytes:
        """
        @return: what the visitor hears.
        """
        self.origin().say(octets)
        self.settle()
        return self.visitor.take()

    def held(self) -> int:
        """
        Octets that were written somewhere and have not arrived.
        """
        wires = [self.wire, *self.agent.wires, *self.web.wires]
        return sum(wire.near.undelivered + wire.far.undelivered for wire in wires)


class ChainTests(ChainCase):
    """
    What a visitor sees of it: nothing.
    """

    def test_connectionsAreKeptForFurtherRequests(self) -> None:
        self.start()
        for _ in range(4):
            self.assertEqual(self.say(GET), b"")
            self.assertEqual(self.origin().take(), GET)
            self.assertEqual(self.answer(OK), OK)
        self.assertEqual((len(self.agent.wires), len(self.web.wires)), (1, 1))

    def test_bodiesPassBothWays(self) -> None:
        for cut in (None, 1, 3, 10):
            self.start(cut)
            self.say(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            self.assertEqual(self.origin().take(), b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            self.assertEqual(self.answer(OK), OK)
            self.say(b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n"
                     b"5\r\nhello\r\n0\r\nX: y\r\n\r\n")
            self.assertIn(b"\r\n0\r\nX: y\r\n\r\n", self.origin().take())
            heard = self.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n")
            self.assertTrue(heard.endswith(b"\r\n0\r\nA: b\r\n\r\n"))
            self.assertEqual((len(self.web.wires), self.held()), (1, 0))

    def test_aResponseIsPassedOnEventByEvent(self) -> None:
        self.start()
        self.say(GET)
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for number in range(3):
            self.assertEqual(self.answer(b"data: %d\n\n" % number), b"9\r\ndata: %d\n\n\r\n" % number)
        self.origin().transport.loseConnection()
        self.settle()
        self.assertEqual(self.visitor.take(), b"0\r\n\r\n")

    def test_anExpectationIsForwarded(self) -> None:
        self.start()
        self.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        self.assertEqual(self.answer(b"HTTP/1.1 100 Continue\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.say(b"hello")
        self.assertEqual(self.answer(OK), OK)

    def test_aResponseToHEADHasNoBody(self) -> None:
        self.start()
        self.say(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        self.assertEqual(self.answer(head), head)
        self.say(GET)
        self.assertEqual(self.answer(OK), OK)

    def test_anUpgradeIsForwarded(self) -> None:
        self.start()
        request = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        self.say(request)
        self.assertEqual(self.origin().take(), request)
        response = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        self.assertEqual(self.answer(response + b"welcome"), response + b"welcome")
        self.say(b"\x81\x01a")
        self.assertEqual(self.origin().take(), b"\x81\x01a")
        self.assertEqual(self.answer(b"\x81\x01b"), b"\x81\x01b")
        self.clock.advance(100_000)
        self.visitor.transport.loseWriteConnection()
        self.settle()
        self.assertTrue(self.origin().readEnded)
        self.assertEqual(self.answer(b"last words"), b"last words")
        self.origin().transport.loseConnection()
        self.settle()
        self.assertTrue(self.visitor.readEnded)
        self.assertEqual((self.remote.inFlight, self.local.inFlight), (0, 0))

    def test_aRefusedUpgradeKeepsTheConnection(self) -> None:
        self.start()
        self.say(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        self.assertEqual(self.answer(OK), OK)
        self.say(GET)
        self.assertEqual(self.answer(OK), OK)

    def test_whoHasSaidAllIsAnswered(self) -> None:
        self.start()
        self.visitor.say(GET)
        self.visitor.transport.loseWriteConnection()
        self.settle()
        self.assertEqual(self.answer(OK), OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))


class PressureTests(ChainCase):
    """
    A reader that stands still stops its writer, through everything.
    """

    def test_aVisitorThatDoesNotReadStopsTheDownload(self) -> None:
        self.start()
        self.say(GET)
        self.wire.near.readPaused = True
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        written = 0
        for _ in range(100):
            if self.web.wires[0].far.undelivered:
                break
            self.origin().say(b"x" * 65_536)
            written += 65_536
            self.settle()
        self.assertTrue(60_000 < written < 600_000, written)
        self.assertLess(self.held(), 600_000)
        self.wire.near.readPaused = False
        self.settle()
        self.assertEqual(self.held(), 0)
        self.answer(b"x" * (50_000_000 - written))
        self.assertEqual(self.local.idle, 1)

    def test_aServerThatDoesNotReadStopsTheUpload(self) -> None:
        self.start()
        self.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
        self.web.wires[0].far.readPaused = True
        written = 0
        for _ in range(100):
            if self.wire.near.undelivered:
                break
            self.say(b"x" * 65_536)
            written += 65_536
        self.assertTrue(60_000 < written < 600_000, written)
        self.web.wires[0].far.readPaused = False
        self.settle()
        self.assertEqual(self.held(), 0)


class FailureTests(ChainCase):
    """
    What breaks is told, once, and leaves nothing behind.
    """

    def status(self, heard: bytes) -> int:
        self.assertTrue(heard.startswith(b"HTTP/1.1 "), heard)
        return int(heard[9:12])

    def nothingLeft(self) -> None:
        self.settle()
        self.assertEqual((self.remote.inFlight, self.local.inFlight, self.held()), (0, 0, 0))

    def test_aServerThatCannotBeReachedIs503(self) -> None:
        self.start()
        self.web.refuse = True
        heard = self.say(GET)
        self.assertEqual(self.status(heard), 503)
        self.assertIn(b"Nobody is at home.", heard)
        self.nothingLeft()
        self.web.refuse = False
        self.say(GET)
        self.assertEqual(self.answer(OK), OK)

    def test_theWebServerBreaks(self) -> None:
        for octets in (b"", b"HTTP/1.1 200", b"nonsense\r\n\r\n"):
            self.start()
            self.say(GET)
            self.origin().say(octets)
            self.settle()
            self.origin().transport.abortConnection()
            self.settle()
            self.assertEqual(self.status(self.visitor.take()), 502)
            self.nothingLeft()
            self.say(GET)
            self.assertEqual(self.answer(OK), OK)

    def test_theWebServerBreaksInTheMiddle(self) -> None:
        for octets in (OK[:-1], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"):
            self.start()
            self.say(GET)
            self.answer(octets)
            self.origin().transport.abortConnection()
            self.settle()
            self.assertIsNot(self.visitor.lost, None)
            self.nothingLeft()

    def test_theWebServerIsSlow(self) -> None:
        self.start()
        self.say(GET)
        self.clock.advance(60)
        self.settle()
        self.assertEqual(self.status(self.visitor.take()), 504)
        self.nothingLeft()

    def test_theAgentGoes(self) -> None:
        self.start()
        self.say(GET)
        self.agent.wires[0].far.abortConnection()
        self.settle()
        self.assertEqual(self.status(self.visitor.take()), 502)
        self.assertEqual(self.told[0].kind, FailureKind.BROKEN)
        self.assertIsNot(self.origin().lost, None)
        self.nothingLeft()

    def test_theVisitorGoes(self) -> None:
        self.start()
        self.say(GET)
        self.visitor.transport.abortConnection()
        self.settle()
        self.assertIsNot(self.origin().lost, None)
        self.nothingLeft()

    def test_theVisitorGoesInTheMiddle(self) -> None:
        self.start()
        self.say(GET)
        self.answer(OK[:-1])
        self.visitor.transport.abortConnection()
        self.settle()
        self.assertIsNot(self.origin().lost, None)
        self.nothingLeft()

    def test_anEarlyResponseEndsTheUpload(self) -> None:
        self.start()
        self.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
        heard = self.answer(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.status(heard), 403)
        self.assertIn(b"Connection: close", heard)
        self.say(b"llo")
        self.clock.advance(5)
        self.nothingLeft()

    def test_badChunksGoNoFurther(self) -> None:
        self.start()
        self.say(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na")
        self.assertEqual(self.status(self.say(b"bcd")), 400)
        self.assertIsNot(self.origin().lost, None)
        self.clock.advance(5)
        self.nothingLeft()


class InterfaceTests(SynchronousTestCase):
    """
    The parts of a join are what they say.
    """

    def test_receiversProvideTheirInterfaces(self) -> None:
        far = Far(Traits())
        receivers: list[object] = []

        def open(receiver: object) -> Far:
            receivers.append(receiver)
            return far

        receivers.append(forward(Near(), RequestHead(b"GET", b"/"), open))
        for receiver in (*receivers, NULL_RECEIVER):
            verifyObject(IExchangeReceiver, receiver)
        verifyObject(IWholeResponseReceiver, receivers[0])
        verifyObject(IExchangeServer, Forwarder(lambda receiver: far))


class Near:
    """
    As much of a serving side as a response has to know.
    """

    def informational(self, head: Any) -> None:
        pass

    def write(self, octets: bytes) -> None:
        pass

    def end(self, trailers: Any = ()) -> None:
        pass


class OpenTests(SynchronousTestCase):
    """
    Tunnels that say no, and carriers that cannot do everything.
    """

    def ask(self, open: Any, request: bytes = GET) -> bytes:
        wire = Wire()
        visitor = Talker()
        self.server = HTTPServerProtocol(Forwarder(open), clock=wire.clock)
        wire.connect(visitor, self.server)
        visitor.say(request)
        wire.settle()
        return visitor.heard

    def test_aBusyPoolIsAnswered503(self) -> None:
        def open(receiver: Any) -> Any:
            raise Busy()

        heard = self.ask(open)
        self.assertTrue(heard.startswith(b"HTTP/1.1 503 "))
        self.assertIn(b"\r\nRetry-After: 1\r\n", heard)

    def test_anUnavailableTunnelIsAnswered503(self) -> None:
        def open(receiver: Any) -> Any:
            raise UnsupportedPurpose("no HTTP here")

        self.assertTrue(self.ask(open).startswith(b"HTTP/1.1 503 "))

    def test_anUpgradeNeedsARawCarrier(self) -> None:
        small = Traits(streamed=False, largestBody=4, upgrade=False, informational=False)
        for request, status in (
            (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", b"501"),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", b"413"),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", b"100"),
        ):
            far = Far(small)
            self.assertTrue(self.ask(lambda receiver, far=far: far, request).startswith(b"HTTP/1.1 " + status), status)
            self.assertEqual(far.cancelled, status != b"100")


class Far:
    """
    A client side that does nothing, on a carrier of some traits.
    """

    def __init__(self, traits: Traits) -> None:
        self.traits = traits
        self.cancelled = False

    def sendHead(self, head: Any) -> None:
        pass

    def write(self, octets: bytes) -> None:
        pass

    def end(self, trailers: Any = ()) -> None:
        pass

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def cancel(self, kind: FailureKind) -> None:
        self.cancelled = True


class AnyOrderTests(ChainCase):
    """
    Any conversation, in any pieces, is what it would be without us.
    """

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.tuples(st.binary(max_size=60), st.booleans(), st.binary(max_size=60), st.booleans()), min_size=1, max_size=5,
        ),
        st.sampled_from([None, 1, 2, 5, 23]),
    )
    def test_responsesFollowTheirRequests(self, exchanges: list[tuple[bytes, bool, bytes, bool]], cut: int | None) -> None:
        """
        The web server answers with what the test says, and remembers what it was asked; requests are pipelined.
        """
        answers = iter(exchanges)
        asked: list[bytes] = []

        def build() -> HTTPServerProtocol:
            return HTTPServerProtocol(Echo(answers, asked), clock=self.clock)

        self.start(cut, build)
        for request, chunked, _, _ in exchanges:
            if chunked:
                length, body = b"Transfer-Encoding: chunked", b"".join(
                    b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (request[:7], request[7:]) if piece
                ) + b"0\r\n\r\n"
            else:
                length, body = b"Content-Length: %d" % len(request), request
            self.visitor.say(b"POST / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n%b" % (length, body))
        self.settle()
        self.assertEqual(asked, [request for request, _, _, _ in exchanges])
        heard = self.visitor.take()
        for _, _, body, chunked in exchanges:
            head, _, heard = heard.partition(b"\r\n\r\n")
            if not chunked:
                self.assertIn(b"Content-Length: %d" % len(body), head)
                self.assertEqual(heard[:len(body)], body)
                heard = heard[len(body):]
                continue
            got = b""
            while not heard.startswith(b"0\r\n\r\n"):
                size, _, heard = heard.partition(b"\r\n")
                got += heard[:int(size, 16)]
                heard = heard[int(size, 16) + 2:]
            heard = heard[5:]
            self.assertEqual(got, body)
        self.assertEqual((heard, self.held()), (b"", 0))


class Echo(Server):
    """
    Answers each whole request with the next answer.
    """

    def __init__(self, answers: Any, asked: list[bytes]) -> None:
        super().__init__()
        self.answers = answers
        self.bodies = asked

    def exchangeReceived(self, head: Any, exchange: Any) -> Any:
        recorder = super().exchangeReceived(head, exchange)
        answers, bodies = self.answers, self.bodies

        class ServerClosing:
            bodyReceived = recorder.bodyReceived
            failed = recorder.failed

            def ended(self, trailers: Any) -> None:
                bodies.append(recorder.body)
                _, _, body, chunked = next(answers)
                fields = [] if chunked else [(b"Content-Length", b"%d" % len(body))]
                exchange.sendHead(ResponseHead(200, b"OK", fields))
                exchange.write(body)
                exchange.end()

        return ServerClosing()
