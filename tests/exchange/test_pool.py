"""
HTTP/1.1 as we ask it: one connection for one exchange after the other, and a pool of them.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import TimeoutError
from twisted.internet.interfaces import IPushProducer, ISSLTransport
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, implementer
from zope.interface.verify import verifyObject

from tests.exchange.doubles import Producer, Recorder, Talker, Wires, settle
from tunnelstack.errors import UsageError
from tunnelstack.exchange.errors import Busy, FailureKind
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.interfaces import IExchange, IWholeResponseReceiver
from tunnelstack.wire.http1.head import HeadLimits, RequestHead, ResponseHead

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def head(method: bytes = b"GET", *fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(method, b"/", [(b"Host", b"a"), *fields])


class PoolCase(SynchronousTestCase):
    """
    A pool whose connections end at somebody who says what the test says.
    """

    cut: int | None = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.wires = Wires(self.clock, Talker, self.cut)
        self.pool = self.make()

    def make(self, **options: Any) -> ExchangePool:
        return ExchangePool(
            self.wires, clock=self.clock, timeouts=Timeouts(first=60, idle=300, connect=30), idleSeconds=50, **options
        )

    def settle(self) -> None:
        settle(self.wires)

    def begin(self, request: RequestHead | None = None, body: bytes = b"") -> tuple[Any, Recorder]:
        """
        Send a whole request.
        """
        recorder = Recorder()
        exchange = self.pool.exchange(recorder)
        exchange.sendHead(request or head())
        exchange.write(body)
        exchange.end()
        self.settle()
        return exchange, recorder

    def origin(self, number: int = -1) -> Talker:
        talker: Talker = self.wires.far[number]
        return talker

    def answer(self, octets: bytes = OK, number: int = -1) -> bytes:
        """
        @return: what the origin had heard.
        """
        heard = self.origin(number).take()
        self.origin(number).say(octets)
        self.settle()
        return heard

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.settle()


class ExchangeTests(PoolCase):
    """
    One exchange.
    """

    def test_aRequestGetsItsResponse(self) -> None:
        _, recorder = self.begin()
        self.assertEqual(self.answer(), GET)
        self.assertEqual(recorder.heads, [ResponseHead(200, b"OK", [(b"Content-Length", b"2")])])
        self.assertEqual((recorder.body, recorder.trailers), (b"ok", []))

    def test_bodiesThatAreCounted(self) -> None:
        self.begin(head(b"POST", (b"Content-Length", b"5")), b"hello")
        self.assertTrue(self.answer().endswith(b"Content-Length: 5\r\n\r\nhello"))

    def test_bodiesAreSentAndReadInChunks(self) -> None:
        recorder = Recorder()
        exchange = self.pool.exchange(recorder)
        exchange.sendHead(head(b"POST", (b"Transfer-Encoding", b"chunked")))
        exchange.write(b"hello")
        exchange.end([(b"X", b"y")])
        self.settle()
        self.assertTrue(self.answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nA: b\r\n\r\n"
        ).endswith(b"chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n"))
        self.assertEqual((recorder.body, recorder.trailers), (b"abc", [(b"A", b"b")]))
        self.assertEqual(self.pool.idle, 1)

    def test_aBodyMayEndWithTheConnection(self) -> None:
        _, recorder = self.begin()
        self.answer(b"HTTP/1.0 200 OK\r\n\r\nhel")
        self.answer(b"lo")
        self.assertEqual((recorder.body, recorder.trailers), (b"hello", None))
        self.origin().transport.loseConnection()
        self.settle()
        self.assertEqual((recorder.trailers, self.pool.idle, self.pool.inFlight), ([], 0, 0))

    def test_aBodyUntilAResetIsBroken(self) -> None:
        _, recorder = self.begin()
        self.answer(b"HTTP/1.0 200 OK\r\n\r\nhel")
        self.origin().transport.abortConnection()
        self.settle()
        self.assertEqual((recorder.body, recorder.failure.kind), (b"hel", FailureKind.BROKEN))    # type: ignore[union-attr]

    def test_aResponseToHEADHasNoBody(self) -> None:
        _, recorder = self.begin(head(b"HEAD"))
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        self.assertEqual((recorder.trailers, self.pool.idle), ([], 1))

    def test_interimResponsesAreReceived(self) -> None:
        _, recorder = self.begin()
        self.answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\n" + OK)
        self.assertEqual([each.status for each in recorder.interim], [100, 103])
        self.assertEqual(recorder.body, b"ok")

    def test_interimResponsesAreBounded(self) -> None:
        _, recorder = self.begin()
        self.answer(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        self.assertEqual(recorder.failure.kind, FailureKind.INVALID_RESPONSE)         # type: ignore[union-attr]

    def test_interimResponsesExtendTheWait(self) -> None:
        """
        102 and 103 may come as often as a server likes: each shows that it works, until C{interim} seconds have passed.
        """
        for status in (102, 103):
            _, recorder = self.begin()
            for _ in range(11):
                self.later(50)
                self.answer(b"HTTP/1.1 %d Working\r\n\r\n" % status)
            self.later(59)
            self.answer()
            self.assertEqual((len(recorder.interim), recorder.body, recorder.failure), (11, b"ok", None))

    def test_manyInterimResponsesInAShortTimeAreAccepted(self) -> None:
        _, recorder = self.begin()
        for _ in range(60):
            self.later(1)
            self.answer(b"HTTP/1.1 102 Processing\r\n\r\n")
        self.answer()
        self.assertEqual((len(recorder.interim), recorder.body), (60, b"ok"))

    def test_interimResponsesDoNotExtendTheWaitForEver(self) -> None:
        _, recorder = self.begin()
        for second in range(0, 630, 30):
            self.assertEqual((recorder.failure is None, second), (second <= 600, second))
            self.answer(b"HTTP/1.1 102 Processing\r\n\r\n")
            self.later(30)
            if recorder.failure is not None:
                break
        self.assertEqual(recorder.failure.kind, FailureKind.GATEWAY_TIMEOUT)             # type: ignore[union-attr]

    def test_silenceAfterAnInterimResponseIsTooLate(self) -> None:
        _, recorder = self.begin()
        self.later(50)
        self.answer(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        self.later(59)
        self.assertIs(recorder.failure, None)
        self.later(1)
        self.assertEqual(recorder.failure.kind, FailureKind.GATEWAY_TIMEOUT)             # type: ignore[union-attr]

    def test_headsConcernNoConnection(self) -> None:
        _, recorder = self.begin()
        self.answer(
            b"HTTP/1.1 200 OK\r\nConnection: keep-alive, Upgrade, x\r\nUpgrade: h2\r\nKeep-Alive: timeout=5\r\nX: 1\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        self.assertEqual(recorder.heads[0].fields, [(b"Content-Length", b"0")])

    def test_nonsenseIsAnInvalidResponse(self) -> None:
        for octets in (
            b"HELO\r\n\r\n", b"\x00", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        ):
            _, recorder = self.begin()
            self.answer(octets)
            self.assertEqual(recorder.failure.kind, FailureKind.INVALID_RESPONSE, octets[:50])      # type: ignore[union-attr]
            self.assertEqual((self.pool.idle, self.pool.inFlight), (0, 0))
            self.assertIsNot(self.origin().lost, None)

    def test_headsThatAreTooLarge(self) -> None:
        """
        The cause is not "this is not HTTP", and the setting is named.
        """
        for what, octets in (("octets", b"X: " + b"a" * 33_000), ("fields", b"X: a\r\n" * 101 + b"\r\n")):
            _, recorder = self.begin()
            self.answer(b"HTTP/1.1 200 OK\r\n" + octets)
            failure: Any = recorder.failure
            self.assertEqual((failure.kind, failure.status), (FailureKind.RESPONSE_TOO_LARGE, 502))
            self.assertIn(f"response_head_{what} in [limits]", failure.sentence)

    def test_otherSettingsApplyToTheNextExchange(self) -> None:
        """
        They are for the exchanges that begin from then on: no connection is kept that works by earlier ones.
        """
        exchange, _ = self.begin()
        self.pool.configure(Timeouts(first=5.0), HeadLimits(octets=2000))
        self.answer(OK)
        self.assertEqual((self.pool.idle, self.pool.inFlight), (0, 0))
        _, recorder = self.begin()
        self.answer(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 2100)
        self.assertEqual(recorder.failure.kind, FailureKind.RESPONSE_TOO_LARGE)             # type: ignore[union-attr]
        self.begin()
        self.answer(OK)
        self.assertEqual(self.pool.idle, 1)
        self.pool.configure(Timeouts(first=6.0), HeadLimits(octets=2000))
        self.assertEqual(self.pool.idle, 0)

    def test_theOriginGoesInTheMiddle(self) -> None:
        for octets in (b"", b"HTTP/1.1 2", OK[:-1], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"):
            _, recorder = self.begin()
            self.answer(octets)
            self.origin().transport.loseConnection()
            self.settle()
            self.assertEqual(recorder.failure.kind, FailureKind.BROKEN, octets)             # type: ignore[union-attr]
            self.assertEqual(self.pool.inFlight, 0)

    def test_aResponseThatIsLateFails(self) -> None:
        _, recorder = self.begin()
        self.later(59)
        self.assertIs(recorder.failure, None)
        self.later(1)
        self.assertEqual(recorder.failure.kind, FailureKind.GATEWAY_TIMEOUT)             # type: ignore[union-attr]
        self.assertIsNot(self.origin().lost, None)

    def test_aStalledBodyFailsTheExchange(self) -> None:
        _, recorder = self.begin()
        self.answer(OK[:-1])
        self.later(299)
        self.assertIs(recorder.failure, None)
        self.later(1)
        self.assertEqual(recorder.failure.kind, FailureKind.GATEWAY_TIMEOUT)             # type: ignore[union-attr]

    def test_aStreamIsNeverCut(self) -> None:
        for octets in (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"HTTP/1.1 200 OK\r\n\r\nab"):
            _, recorder = self.begin()
            self.answer(octets)
            self.later(100_000)
            self.assertEqual((recorder.body, recorder.failure), (b"ab", None))

    def test_aPausedResponseIsNotRead(self) -> None:
        exchange, recorder = self.begin()
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n")
        exchange.pauseProducing()
        self.answer(b"x" * 20_000)
        self.later(10_000)
        self.assertEqual((recorder.body, recorder.failure), (b"", None))
        exchange.resumeProducing()
        self.settle()
        self.assertEqual((len(recorder.body), self.pool.idle), (20_000, 1))

    def test_theRequestsProducerIsPaused(self) -> None:
        producer = Producer()
        exchange = self.pool.exchange(Recorder())
        exchange.registerProducer(producer, True)
        exchange.sendHead(head(b"POST", (b"Content-Length", b"100000")))
        self.wires.wires[0].far.readPaused = True
        exchange.write(b"x" * 100_000)
        self.assertEqual(producer.said, ["pause"])
        self.wires.wires[0].far.readPaused = False
        self.settle()
        self.assertEqual(producer.said, ["pause", "resume"])

    def test_cancelBreaksTheConnection(self) -> None:
        exchange, recorder = self.begin()
        exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.settle()
        self.assertIsNot(self.origin().lost, None)
        self.assertEqual((recorder.failure, self.pool.inFlight, self.pool.idle), (None, 0, 0))

    def test_misuseIsAUsageError(self) -> None:
        exchange = self.pool.exchange(Recorder())
        verifyObject(IExchange, exchange)
        verifyObject(IPushProducer, exchange)
        self.assertRaises(UsageError, exchange.registerProducer, Producer(), False)
        exchange.sendHead(head(b"POST", (b"Content-Length", b"2")))
        self.assertRaises(UsageError, exchange.sendHead, head())
        self.assertRaises(UsageError, exchange.write, b"abc")


class UpgradeTests(PoolCase):
    """
    Another protocol on the same connection.
    """

    def upgrade(self, more: bytes = b"") -> tuple[Any, Recorder]:
        exchange, recorder = self.begin(head(b"GET", (b"Upgrade", b"echo")))
        heard = self.answer(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n" + more)
        self.assertTrue(heard.endswith(b"Upgrade: echo\r\nConnection: Upgrade\r\n\r\n"))
        self.assertEqual(recorder.heads[0].fields, [(b"Upgrade", b"echo")])
        return exchange, recorder

    def test_bothDirectionsAreRaw(self) -> None:
        exchange, recorder = self.upgrade(b"hi")
        exchange.write(b"there")
        self.settle()
        self.assertEqual((recorder.body, self.answer(b"!")), (b"hi", b"there"))
        self.assertEqual(recorder.body, b"hi!")
        self.later(100_000)
        self.assertEqual((recorder.trailers, recorder.failure), (None, None))

    def test_weEndFirst(self) -> None:
        exchange, recorder = self.upgrade()
        exchange.end()
        self.settle()
        self.assertTrue(self.origin().readEnded)
        self.answer(b"still here")
        self.origin().transport.loseConnection()
        self.settle()
        self.assertEqual((recorder.body, recorder.trailers), (b"still here", []))
        self.assertEqual((self.pool.inFlight, self.pool.idle), (0, 0))

    def test_theOriginEndsFirst(self) -> None:
        exchange, recorder = self.upgrade()
        self.origin().transport.loseWriteConnection()
        self.settle()
        self.assertEqual(recorder.trailers, [])
        exchange.write(b"still here")
        exchange.end()
        self.settle()
        self.assertEqual(self.origin().heard, b"still here")
        self.assertEqual((self.pool.inFlight, self.pool.idle), (0, 0))

    def test_anOriginWithoutHalfCloses(self) -> None:
        """
        It is not told that we end, and has its time to end by itself.
        """
        for waits in (False, True):
            exchange, recorder = self.upgrade()
            alsoProvides(self.wires.wires[-1].near, ISSLTransport)
            exchange.end()
            self.settle()
            self.assertFalse(self.origin().readEnded)
            self.answer(b"still here")
            if waits:
                self.later(30)
            else:
                self.origin().transport.loseConnection()
                self.settle()
            self.assertEqual((recorder.body, recorder.trailers, recorder.failure), (b"still here", [], None))
            self.assertTrue(waits <= self.origin().readEnded)
            self.assertEqual(self.pool.inFlight, 0)

    def test_aResetBreaksTheExchange(self) -> None:
        _, recorder = self.upgrade()
        self.origin().transport.abortConnection()
        self.settle()
        self.assertEqual(recorder.failure.kind, FailureKind.BROKEN)           # type: ignore[union-attr]
        self.assertEqual(self.pool.inFlight, 0)


class KeptTests(PoolCase):
    """
    Which connections are used again.
    """

    def test_aConnectionIsUsedAgain(self) -> None:
        for _ in range(5):
            _, recorder = self.begin()
            self.assertEqual(self.answer(), GET)
            self.assertEqual(recorder.body, b"ok")
        self.assertEqual((len(self.wires.far), self.pool.idle, self.pool.inFlight), (1, 1, 0))

    def test_theNextExchangeMayBeginFromWithinTheEnd(self) -> None:
        case = self

        class Follower(Recorder):
            def ended(self, trailers: Any) -> None:
                case.begin()

        exchange = self.pool.exchange(Follower())
        exchange.sendHead(head())
        exchange.end()
        self.settle()
        self.answer()
        self.assertEqual((len(self.wires.far), self.answer()), (1, GET))

    def test_aPauseEndsWithItsExchange(self) -> None:
        class Pauser(Recorder):
            exchange: Any = None

            def bodyReceived(self, octets: bytes) -> None:
                self.exchange.pauseProducing()

        recorder = Pauser()
        recorder.exchange = exchange = self.pool.exchange(recorder)
        exchange.sendHead(head())
        exchange.end()
        self.settle()
        self.answer()
        _, following = self.begin()
        self.answer()
        self.assertEqual((len(self.wires.far), following.body), (1, b"ok"))

    def test_theFreshestIsTakenFirst(self) -> None:
        self.begin()
        self.begin()
        self.answer(number=1)
        self.answer(number=0)
        self.begin()
        self.assertEqual((self.origin(0).heard, self.origin(1).heard), (GET, b""))

    def test_aConnectionThatClosesIsNotKept(self) -> None:
        for octets in (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            OK + b"x",
        ):
            _, recorder = self.begin()
            self.answer(octets)
            self.assertEqual((recorder.trailers, self.pool.idle), ([], 0))
            self.assertIsNot(self.origin().lost or self.origin().readEnded or None, None)

    def test_aConnectionWithAnUnfinishedRequestIsNotKept(self) -> None:
        recorder = Recorder()
        exchange = self.pool.exchange(recorder)
        exchange.sendHead(head(b"POST", (b"Content-Length", b"5")))
        exchange.write(b"he")
        self.settle()
        self.answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual((recorder.trailers, self.pool.idle), ([], 0))
        exchange.write(b"llo")
        exchange.end()
        self.assertEqual(self.pool.inFlight, 0)

    def test_anIdleConnectionIsClosed(self) -> None:
        self.begin()
        self.answer()
        self.later(49)
        self.assertEqual(self.pool.idle, 1)
        self.later(1)
        self.assertEqual(self.pool.idle, 0)
        self.assertTrue(self.origin().readEnded)

    def test_aConnectionWithUnexpectedOctetsIsNotKept(self) -> None:
        self.begin()
        self.answer()
        self.answer(OK)
        self.assertEqual(self.pool.idle, 0)

    def test_aLostConnectionIsNotKept(self) -> None:
        self.begin()
        self.answer()
        self.origin().transport.loseConnection()
        self.settle()
        self.assertEqual(self.pool.idle, 0)

    def test_noMoreThanMaxIdleConnectionsAreKept(self) -> None:
        self.pool = self.make(maxIdle=1)
        self.begin()
        self.begin()
        self.answer(number=0)
        self.answer(number=1)
        self.assertEqual(self.pool.idle, 1)


class StaleTests(PoolCase):
    """
    A kept connection that had died when it was used.
    """

    def stale(self, request: RequestHead, body: bytes = b"") -> Recorder:
        self.begin()
        self.answer()
        self.assertEqual(self.pool.idle, 1)
        recorder = Recorder()
        exchange = self.pool.exchange(recorder)
        exchange.sendHead(request)
        exchange.write(body)
        exchange.end()
        self.origin(0).transport.abortConnection()
        self.settle()
        return recorder

    def test_theRequestIsRepeated(self) -> None:
        for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS"):
            self.setUp()
            recorder = self.stale(head(method))
            self.assertEqual(len(self.wires.far), 2)
            self.assertIn(method, self.answer(b"HTTP/1.1 204 \r\n\r\n"))
            self.assertEqual((recorder.trailers, self.pool.inFlight), ([], 0))

    def test_aRequestIsRepeatedOnlyOnce(self) -> None:
        recorder = self.stale(head())
        self.origin(1).transport.abortConnection()
        self.settle()
        self.assertEqual((recorder.failure.kind, len(self.wires.far)), (FailureKind.BROKEN, 2))    # type: ignore[union-attr]

    def test_aCancelledExchangeIsNotRepeated(self) -> None:
        self.begin()
        self.answer()
        exchange, recorder = self.begin()
        self.wires.waiting = []
        self.origin(0).transport.abortConnection()
        self.settle()
        exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.wires.let()
        self.settle()
        self.assertEqual((recorder.failure, self.pool.idle, self.origin(1).heard), (None, 1, b""))

    def test_requestsWithAnEffectAreNotRepeated(self) -> None:
        for request, body in ((head(b"POST"), b""), (head(b"PUT", (b"Content-Length", b"1")), b"x")):
            self.setUp()
            recorder = self.stale(request, body)
            self.assertEqual((recorder.failure.kind, len(self.wires.far)), (FailureKind.BROKEN, 1))    # type: ignore[union-attr]

    def test_noRequestIsRepeatedAfterAnOctetOfItsResponse(self) -> None:
        self.begin()
        self.answer()
        _, recorder = self.begin()
        self.answer(b"H")
        self.origin().transport.abortConnection()
        self.settle()
        self.assertEqual((recorder.failure.kind, len(self.wires.far)), (FailureKind.BROKEN, 1))    # type: ignore[union-attr]

    def test_noRequestIsRepeatedOnANewConnection(self) -> None:
        _, recorder = self.begin()
        self.origin().transport.abortConnection()
        self.settle()
        self.assertEqual((recorder.failure.kind, len(self.wires.far)), (FailureKind.BROKEN, 1))    # type: ignore[union-attr]


class ConnectTests(PoolCase):
    """
    Before there is a connection.
    """

    def test_whatIsWrittenMeanwhileFollows(self) -> None:
        self.wires.waiting = []
        producer = Producer()
        exchange = self.pool.exchange(Recorder())
        exchange.registerProducer(producer, True)
        exchange.sendHead(head(b"POST", (b"Content-Length", b"5")))
        exchange.write(b"hel")
        self.assertEqual((producer.said, self.pool.inFlight), (["pause"], 1))
        self.wires.let()
        self.assertEqual(producer.said, ["pause", "resume"])
        exchange.write(b"lo")
        exchange.end()
        self.settle()
        self.assertTrue(self.answer().endswith(b"\r\n\r\nhello"))
        self.assertEqual(self.pool.idle, 1)

    def test_aProducerWhoseRequestIsWholeIsResumedToo(self) -> None:
        """
        What is upgraded goes on in both directions.
        """
        self.wires.waiting = []
        producer = Producer()
        exchange = self.pool.exchange(Recorder())
        exchange.registerProducer(producer, True)
        exchange.sendHead(head(b"GET", (b"Upgrade", b"echo")))
        exchange.end()
        self.wires.let()
        self.assertEqual(producer.said, ["pause", "resume"])

    def test_aFailureIsExplained(self) -> None:
        self.pool = self.make(explain=lambda reason: f"because of {reason.type.__name__}")
        self.wires.refuse = True
        recorder = Recorder()
        self.pool.exchange(recorder)
        self.assertEqual(recorder.failure.kind, FailureKind.UNREACHABLE)      # type: ignore[union-attr]
        self.assertEqual(recorder.failure.sentence, "because of ConnectionRefusedError")    # type: ignore[union-attr]
        self.assertEqual(self.pool.inFlight, 0)

    def test_connectingHasATimeOut(self) -> None:
        self.wires.waiting = []
        _, recorder = self.begin()
        self.later(30)
        self.assertEqual((recorder.failure.kind, self.pool.inFlight), (FailureKind.UNREACHABLE, 0))    # type: ignore[union-attr]
        self.assertIsInstance(recorder.failure.details["reason"], TimeoutError)                    # type: ignore[union-attr]

    def test_whoGaveUpLeavesAConnectionToTheNext(self) -> None:
        self.wires.waiting = []
        exchange, recorder = self.begin()
        exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.wires.let()
        self.settle()
        self.assertEqual((self.pool.idle, recorder.failure, self.origin().heard), (1, None, b""))

    def test_enoughIsEnough(self) -> None:
        self.pool = self.make(maxConnections=2)
        self.begin()
        self.begin()
        self.assertRaises(Busy, self.pool.exchange, Recorder())
        self.answer()
        self.begin()

    def test_theClockIsEmptyInTheEnd(self) -> None:
        self.begin()
        self.answer()
        self.pool.close()
        self.settle()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class EndTests(PoolCase):
    """
    A pool that is not needed any more.
    """

    def test_drainingLetsExchangesFinish(self) -> None:
        self.begin()
        self.begin()
        self.answer(number=0)
        drained = self.pool.drain()
        self.settle()
        self.assertNoResult(drained)
        self.assertTrue(self.origin(0).readEnded)
        self.assertRaises(Busy, self.pool.exchange, Recorder())
        self.answer(number=1)
        self.successResultOf(drained)
        self.assertTrue(self.origin(1).readEnded)

    def test_drainWithNothingToDo(self) -> None:
        self.successResultOf(self.pool.drain())

    def test_closingFailsExchanges(self) -> None:
        _, recorder = self.begin()
        self.pool.close()
        self.settle()
        self.assertEqual((recorder.failure.kind, self.pool.inFlight), (FailureKind.STOPPED, 0))    # type: ignore[union-attr]


class WholeTests(PoolCase):
    """
    Responses that come at once.
    """

    def test_oneThatTakesItWholeHearsOfItOnce(self) -> None:
        @implementer(IWholeResponseReceiver)
        class Whole(Recorder):
            """
            Remembers what came at once.
            """

            def responseReceived(self, head: ResponseHead, octets: bytes) -> None:
                self.answers = [*getattr(self, "answers", []), (head.status, octets, test.pool.idle)]

        test = self
        for pieces, told in (
            ((OK,), [(200, b"ok", 1)]),
            ((b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",), [(304, b"", 1)]),
            ((b"HTTP/1.1 103 Early\r\n\r\n" + OK,), [(200, b"ok", 1)]),
            ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",), [(200, b"ok", 0)]),
            ((OK[:-1], OK[-1:]), []),
            ((OK + b"more",), []),
        ):
            recorder: Any = Whole()
            verifyObject(IWholeResponseReceiver, recorder)
            exchange = self.pool.exchange(recorder)
            exchange.sendHead(head())
            exchange.end()
            self.settle()
            for piece in pieces:
                self.answer(piece)
            self.assertEqual(getattr(recorder, "answers", []), told, pieces)
            self.assertEqual((recorder.body, recorder.trailers), (b"", None) if told else (b"ok", []))
            self.assertEqual(recorder.failure, None)


class OctetByOctetTests(ExchangeTests):
    """
    The same, each octet for itself.
    """

    cut = 1
