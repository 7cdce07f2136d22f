"""
What all sessions together may hold.
"""

from __future__ import annotations

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.edge.memory_budget import MemoryBudget
from tunnelstack.testing import sessionPair

PIECE = 100_000


class Still(Protocol):
    """
    A reader that stands still.
    """

    def connectionMade(self) -> None:
        self.transport.pauseProducing()      # type: ignore[union-attr]


class Tunnel:
    """
    With one session, which holds so many times L{PIECE}.
    """

    def __init__(self, clock: Clock, streams: int) -> None:
        factory = Factory.forProtocol(Still)
        factory.noisy = False
        self.wire, self.near, self.session = sessionPair(factory, clock=clock)
        for _ in range(streams):
            self.near.connector.connect(factory).addCallback(lambda stream: stream.transport.write(bytes(PIECE)))
        self.wire.settle()


class BudgetTests(SynchronousTestCase):
    """
    Two sessions, three streams.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.tunnels = [Tunnel(self.clock, 1), Tunnel(self.clock, 2)]
        self.budget = MemoryBudget(self.clock, 4 * PIECE, self.tunnels)
        self.budget.startService()
        self.addCleanup(self.budget.stopService)

    def held(self) -> list[int]:
        return [tunnel.session.held // PIECE for tunnel in self.tunnels]

    def test_withinIt(self) -> None:
        self.assertEqual(self.budget.held, 3 * PIECE)
        self.clock.advance(1)
        self.assertEqual(self.held(), [1, 2])

    def test_theLargestAreResetUntilItIsEnough(self) -> None:
        self.budget.limit = 2 * PIECE
        self.clock.advance(1)
        self.assertEqual(self.held(), [1, 1])
        self.budget.limit = 0
        self.clock.advance(1)
        self.assertEqual(self.held(), [0, 0])
        for tunnel in self.tunnels:
            tunnel.wire.settle()
            self.assertEqual(tunnel.near.streams, 0)

    def test_itStops(self) -> None:
        self.budget.stopService()
        before = len(self.clock.getDelayedCalls())
        self.budget.startService()
        self.assertEqual(len(self.clock.getDelayedCalls()), before + 1)
