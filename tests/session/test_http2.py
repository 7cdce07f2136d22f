"""
Sessions over HTTP/2: the promises of streams, and what is the session's own.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.promises.streams import HalfCollect, StreamPromises
from tests.transport.http2 import OK, POST, RawPeer
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.session.http2 import HTTP2Session, StreamHeads
from tunnelstack.stream.errors import SessionClosed, SessionLost, StreamResetError
from tunnelstack.testing import Wire
from tunnelstack.wire.http2.limits import HTTP2Limits


class WholeTests(StreamPromises, SynchronousTestCase):
    """
    The client opens streams, the server accepts them.
    """

    cut: int | None = None

    def connectSessions(self) -> None:
        self.wire = Wire(cut=self.cut)
        self.near = HTTP2Session(True, clock=self.wire.clock)
        self.far = HTTP2Session(False, clock=self.wire.clock)
        self.wire.connect(self.near, self.far)

    def settle(self) -> None:
        self.wire.settle()

    def dropCarrier(self) -> None:
        self.wire.drop()


class CutTests(WholeTests):
    """
    The same, cut anywhere.
    """

    cut = 4093


class SessionTests(SynchronousTestCase):
    """
    What is not the streams'.
    """

    def setUp(self) -> None:
        self.wire = Wire()
        self.accepted: list[Any] = []

    def join(self, heads: StreamHeads | None = None, limits: HTTP2Limits | None = None) -> None:
        options: Any = {} if heads is None else {"heads": heads}
        self.near = HTTP2Session(True, clock=self.wire.clock, **options)
        self.far = HTTP2Session(False, clock=self.wire.clock, limits=limits, **options)
        self.wire.connect(self.near, self.far)
        self.wire.settle()

    def listen(self) -> None:
        test = self

        class Accepting(Factory):
            def buildProtocol(self, address: Any) -> Any:
                test.accepted.append(HalfCollect())
                test.accepted[-1].address = address
                return test.accepted[-1]

        self.successResultOf(self.far.listener.listen(Accepting()))

    def open(self) -> Any:
        return self.successResultOf(self.near.connector.connect(Factory.forProtocol(HalfCollect)))

    def test_streamsWaitForAFactory(self) -> None:
        self.join()
        near = self.open()
        near.transport.write(b"early")
        self.wire.settle()
        self.assertFalse(near.transport.established)
        self.listen()
        self.wire.settle()
        self.assertTrue(near.transport.established)
        self.assertEqual(self.accepted[0].got, b"early")

    def test_headsAreTheUsers(self) -> None:
        request = [*POST[:3], (b":path", b"/Lane"), (b"key", b"7")]
        self.join(StreamHeads(
            request=lambda address: request,
            response=lambda fields: [*OK, (b"content-type", b"application/grpc")] if (b"key", b"7") in fields else None,
            trailers=[(b"grpc-status", b"0")],
            address=lambda address, fields: evolve(address, protocol=dict(fields)[b":path"]),
        ))
        self.listen()
        near = self.open()
        self.wire.settle()
        self.assertEqual(self.accepted[0].address.protocol, b"/Lane")
        self.accepted[0].transport.write(b"octets")
        self.accepted[0].transport.loseConnection()
        self.wire.settle()
        self.assertEqual((near.got, near.told[1]), (b"octets", "read ended"))
        request[-1] = (b"key", b"8")
        near = self.open()
        self.wire.settle()
        self.assertTrue(near.reason.check(StreamResetError))
        self.assertEqual(len(self.accepted), 1)

    def test_aStreamThatIsNotAcceptedIsLost(self) -> None:
        wire, peer = Wire(), RawPeer(client=False)
        session = HTTP2Session(True, clock=wire.clock)
        wire.connect(session, peer)
        near = self.successResultOf(session.connector.connect(Factory.forProtocol(HalfCollect)))
        wire.settle()
        peer.send(1, 0x4, 1, peer.encoder.encode([(b":status", b"404")]))
        wire.settle()
        self.assertTrue(near.reason.check(StreamResetError))
        self.assertIn("404", near.reason.getErrorMessage())
        self.assertEqual(len(peer.resets), 1)

    def test_connectWaitsForAFreeStream(self) -> None:
        self.join(limits=HTTP2Limits(streams=2))
        self.listen()
        first = self.open()
        self.open()
        self.wire.settle()
        waiting = self.near.connector.connect(Factory.forProtocol(HalfCollect))
        self.wire.settle()
        self.assertNoResult(waiting)
        first.transport.abortConnection()
        self.wire.settle()
        self.successResultOf(waiting)

    def test_drainEndsAfterTheLastStream(self) -> None:
        self.join()
        self.listen()
        near = self.open()
        self.wire.settle()
        drained = self.far.drain()
        self.wire.settle()
        self.assertNoResult(drained)
        self.failureResultOf(self.near.connector.connect(Factory.forProtocol(HalfCollect)), SessionClosed)
        near.transport.loseConnection()
        self.accepted[0].transport.loseConnection()
        self.wire.settle()
        self.successResultOf(drained)
        self.assertIsInstance(self.successResultOf(self.near.whenLost()), SessionLost)

    def test_aServerOpensNoStreams(self) -> None:
        self.join()
        self.assertIsNotNone(self.failureResultOf(self.far.connector.connect(Factory.forProtocol(HalfCollect))))

    def test_pingsFailWithTheSession(self) -> None:
        self.join()
        self.successResultOf(self.near.whenUp())
        answer = self.near.ping()
        self.wire.settle()
        self.successResultOf(answer)
        answer = self.near.ping()
        self.wire.drop()
        self.failureResultOf(answer, SessionLost)
        self.failureResultOf(self.near.ping(), SessionLost)

    def test_theBudgetOfTheProcessSeesWhatIsHeld(self) -> None:
        self.join()
        self.listen()
        budget = MemoryBudget(self.wire.clock, 64 * 1024 * 1024)
        budget.join(self.far)
        near = self.open()
        self.wire.settle()
        self.accepted[0].transport.pauseProducing()
        near.transport.write(bytes(200_000))
        self.wire.settle()
        self.assertGreaterEqual(budget.held, 200_000)
        self.accepted[0].transport.resumeProducing()
        self.wire.settle()
        self.assertEqual((len(self.accepted[0].got), budget.held), (200_000, 0))
        self.wire.drop()
        self.wire.settle()
        self.assertEqual(budget.held, 0)
