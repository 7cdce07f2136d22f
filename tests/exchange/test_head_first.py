"""
An exchange whose carrier is chosen by its head.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.exchange.doubles import Recorder
from tests.exchange.test_pool import GET, OK, PoolCase, head
from tests.promises.streams import Producer
from tunnelstack.errors import Unavailable, UsageError
from tunnelstack.exchange.errors import Busy, FailureKind
from tunnelstack.exchange.head_first import HeadFirstExchange
from tunnelstack.interfaces import IExchange
from tunnelstack.wire.http1.head import RequestHead


class CarriedTests(PoolCase):
    """
    Over a pool.
    """

    def open(self, request: RequestHead) -> Any:
        self.heads.append(request)
        return self.pool.exchange(self.recorder)

    def setUp(self) -> None:
        super().setUp()
        self.heads: list[RequestHead] = []
        self.recorder = Recorder()
        self.exchange = HeadFirstExchange(self.recorder, self.open)

    def test_itIsAnExchange(self) -> None:
        verifyObject(IExchange, self.exchange)
        verifyObject(IPushProducer, self.exchange)

    def test_nothingIsOpenedBeforeTheHead(self) -> None:
        self.exchange.pauseProducing()
        self.exchange.resumeProducing()
        self.settle()
        self.assertEqual((self.heads, self.wires.far), ([], []))
        self.exchange.sendHead(head())
        self.exchange.end()
        self.settle()
        (talker,) = self.wires.far
        self.assertEqual((len(self.heads), talker.heard), (1, GET))
        talker.transport.write(OK)
        self.settle()
        self.assertEqual(self.recorder.body, b"ok")
        self.assertRaises(UsageError, self.exchange.sendHead, head())

    def test_theHeadMayBePrepared(self) -> None:
        def prepare(request: RequestHead) -> RequestHead:
            return RequestHead(request.method, b"/below" + request.target, [*request.fields, (b"X-To", b"1")])

        self.exchange = HeadFirstExchange(self.recorder, self.open, prepare=prepare)
        self.exchange.sendHead(head())
        self.exchange.end()
        self.settle()
        self.assertEqual(self.heads[0].target, b"/below/")
        self.assertTrue(self.wires.far[0].heard.startswith(b"GET /below/ HTTP/1.1\r\n"))
        self.assertIn(b"X-To: 1\r\n", self.wires.far[0].heard)

    def test_aHeadThatCannotBePreparedIsAFailure(self) -> None:
        def prepare(request: RequestHead) -> RequestHead:
            raise Busy()

        self.exchange = HeadFirstExchange(self.recorder, self.open, prepare=prepare)
        self.exchange.sendHead(head())
        assert self.recorder.failure is not None
        self.assertEqual((self.recorder.failure.kind, self.heads), (FailureKind.BUSY, []))

    def test_theBodyGoesTheShortWay(self) -> None:
        self.exchange.sendHead(head(b"POST", (b"Content-Length", b"4")))
        self.assertIsNot(getattr(self.exchange.write, "__self__", None), self.exchange)
        self.exchange.write(b"body")
        self.exchange.end()
        self.settle()
        self.assertTrue(self.wires.far[0].heard.endswith(b"\r\n\r\nbody"))

    def test_aProducerIsRegisteredWithTheCarrier(self) -> None:
        producer = Producer()
        self.assertRaises(UsageError, self.exchange.registerProducer, producer, False)
        self.wires.waiting = []
        self.exchange.registerProducer(producer, True)
        self.assertEqual(producer.asked, [])
        self.exchange.sendHead(head(b"POST", (b"Content-Length", b"4")))
        self.assertEqual(producer.asked, ["pause"])            # there is no connection yet
        self.wires.let()
        self.settle()
        self.assertEqual(producer.asked, ["pause", "resume"])
        self.exchange.unregisterProducer()
        self.exchange.registerProducer(producer, True)

    def test_aPauseBeforeTheHeadHolds(self) -> None:
        self.exchange.pauseProducing()
        self.exchange.sendHead(head())
        self.exchange.end()
        self.settle()
        self.wires.far[0].transport.write(OK)
        self.settle()
        self.assertEqual(self.recorder.body, b"")
        self.exchange.resumeProducing()
        self.settle()
        self.assertEqual(self.recorder.body, b"ok")

    def test_whatIsCancelledOpensNothing(self) -> None:
        self.exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.exchange.sendHead(head())
        self.assertEqual(self.heads, [])
        self.exchange.write(b"x")
        self.exchange.end()

    def test_aCancelReachesTheCarrier(self) -> None:
        self.exchange.sendHead(head())
        self.exchange.end()
        self.settle()
        self.exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.settle()
        self.assertTrue(self.wires.far[0].lost)


class FailureTests(SynchronousTestCase):
    """
    What cannot be carried.
    """

    def test_aFailureToOpenIsReported(self) -> None:
        for error, kind in ((Busy(), FailureKind.BUSY), (Unavailable("no"), FailureKind.UNREACHABLE)):
            recorder = Recorder()

            def open(request: RequestHead, error: Exception = error) -> Any:
                raise error

            exchange = HeadFirstExchange(recorder, open)
            exchange.sendHead(head())
            exchange.write(b"dropped")
            exchange.end()
            exchange.stopProducing()
            assert recorder.failure is not None
            self.assertEqual(recorder.failure.kind, kind)
