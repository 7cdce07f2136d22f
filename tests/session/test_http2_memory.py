"""
What connections of visitors hold, in the budget of the process.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.exchange.doubles import Server
from tests.exchange.test_http2_server import Caught
from tests.wire.heads_http2 import POST
from tunnelstack.exchange.http2_server import CONNECTION_WINDOW, HELD_OCTETS, HTTP2ServerConnection
from tunnelstack.session.budget import CONNECTION, STALE_SECONDS, MemoryBudget
from tunnelstack.session.http2_memory import HTTP2ConnectionMemory
from tunnelstack.testing import Wire
from tunnelstack.transport.http2.connection import HTTP2Connection
from tunnelstack.wire.http2.codes import ErrorCode

LIMIT = 200_000


class BudgetTests(SynchronousTestCase):
    """
    A visitor who uploads what the server of the exchange does not read.
    """

    def setUp(self) -> None:
        self.wire = Wire()
        self.clock = self.wire.clock
        self.budget = MemoryBudget(self.clock, LIMIT)
        self.budget.startService()
        self.addCleanup(self.budget.stopService)
        self.server = Server(lambda head, exchange: exchange.pauseProducing())
        self.visitor = HTTP2Connection(True, clock=self.clock)
        self.connection = HTTP2ServerConnection(self.server, clock=self.clock)
        self.wire.connect(self.visitor, self.connection.protocol)
        self.wire.settle()
        HTTP2ConnectionMemory(self.connection.protocol, "visitor 192.0.2.1").join(self.budget)

    def upload(self, octets: int) -> tuple[Any, Caught]:
        caught = Caught()
        stream = self.visitor.openStream(POST, caught)
        stream.write(bytes(octets))
        self.wire.settle()
        return stream, caught

    def test_whatIsHeldCounts(self) -> None:
        self.upload(100_000)
        self.assertEqual(self.budget.held, 100_000 + CONNECTION)
        self.server.asked[0][1].resumeProducing()
        self.wire.settle()
        self.assertEqual(self.budget.held, 0)

    def test_aStreamThatIsNotReadForLongIsReset(self) -> None:
        _, caught = self.upload(LIMIT + 1)
        for _ in range(int(STALE_SECONDS) + 2):
            self.clock.advance(1)
            self.wire.settle()
        self.assertEqual(caught.failure.code, ErrorCode.ENHANCE_YOUR_CALM)
        self.assertIsNotNone(self.server.asked[0][2].failure)
        self.assertTrue(self.server.asked[0][1].finished)
        self.assertEqual((self.budget.held, self.budget.streamsReset), (0, 1))

    def test_aConnectionThatIsLostHoldsNothing(self) -> None:
        self.upload(100_000)
        self.wire.drop()
        self.wire.settle()
        self.assertEqual(self.budget.held, 0)

    def test_aConnectionHoldsNoMoreThanItsLimits(self) -> None:
        """
        A visitor that opens as many streams as it may, all of which stand still.
        """
        self.budget.limit = 1 << 30
        for _ in range(100):
            self.upload(1 << 20)
        self.assertEqual(len(self.server.asked), 100)
        self.assertLessEqual(self.connection.protocol.held, HELD_OCTETS + CONNECTION_WINDOW)
