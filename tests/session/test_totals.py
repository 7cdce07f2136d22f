"""
What the sessions of a process have carried.
"""

from __future__ import annotations

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.session.totals import SessionTotals
from tunnelstack.testing import sessionPair


class Echo(Protocol):
    """
    Sends back what it receives.
    """

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class TotalsTests(SynchronousTestCase):
    """
    Sessions that join, work, and are lost.
    """

    def setUp(self) -> None:
        self.wire, self.near, self.far = sessionPair()
        self.far.listener.listen(Factory.forProtocol(Echo))
        self.totals = SessionTotals()
        self.totals.watch(self.near)

    def work(self) -> None:
        protocol = self.successResultOf(self.near.connector.connect(Factory.forProtocol(Protocol)))
        protocol.transport.write(b"x" * 1000)
        self.wire.settle()
        protocol.transport.loseConnection()
        self.wire.settle()

    def figures(self) -> tuple[int, int, int]:
        return self.totals.streamsOpened, self.totals.octetsOut, self.totals.octetsIn

    def test_octetsAndStreamsOfOpenSessionsAreThoseOfNow(self) -> None:
        self.assertEqual(self.figures(), (0, 0, 0))
        self.work()
        self.work()
        self.assertEqual(self.figures(), (2, 2000, 2000))
        self.assertEqual((len(self.totals), self.totals.joined, self.totals.lost), (1, 1, 0))

    def test_bothSidesCountAStream(self) -> None:
        self.work()
        self.assertEqual((self.near.streamsOpened, self.far.streamsOpened), (1, 1))

    def test_aSessionThatIsLostStaysCounted(self) -> None:
        self.work()
        self.near.abort()
        self.wire.settle()
        self.assertEqual(self.figures(), (1, 1000, 1000))
        self.assertEqual((len(self.totals), list(self.totals), self.totals.lost), (0, [], 1))

    def test_theReasonReachesOthers(self) -> None:
        self.near.abort()
        self.wire.settle()
        self.assertIsNotNone(self.successResultOf(self.near.whenLost()))
