"""
What all sessions may hold together, and who pays when it is more.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.session.test_yamux import COLLECT
from tunnelstack.session import budget
from tunnelstack.session.budget import CONNECTION, STALE_SECONDS, MemoryBudget
from tunnelstack.session.revdial.dialler import PickUpTable, RevdialDialler
from tunnelstack.stream.errors import StreamResetError
from tunnelstack.stream.transport import LEAST_PIECE
from tunnelstack.testing import Wire, sessionPair
from tunnelstack.transport.stream_scheduler import HIGH, LOW
from tunnelstack.wire.yamux.frames import INITIAL_WINDOW
from tunnelstack.wire.yamux.limits import SessionLimits

PIECE = 100_000
COST = PIECE + CONNECTION
"""What a stream counts for which L{PIECE} is held."""


class Reader(Protocol):
    """
    A reader that stands still until it is told to read.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = 0
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        self.got += len(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason


class Tunnel:
    """
    With one session, whose far end is counted and has a L{Reader} for each stream.
    """

    def __init__(self, clock: Clock, limits: SessionLimits | None = None) -> None:
        self.readers: list[Reader] = []
        self.writers: list[Any] = []
        self.wire, self.near, self.session = sessionPair(self, clock=clock, limits=limits)

    def buildProtocol(self, address: Any) -> Reader:
        self.readers.append(Reader())
        return self.readers[-1]

    def open(self, *sizes: int) -> None:
        """
        Open a stream for each size, and send so many octets on it.
        """
        for octets in sizes:
            self.near.connector.connect(COLLECT).addCallback(self.writers.append)
            self.writers[-1].transport.write(bytes(octets))
        self.wire.settle()


class BudgetTests(SynchronousTestCase):
    """
    Two sessions; a limit of four streams that hold L{PIECE} each.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.one, self.two = self.tunnels = [Tunnel(self.clock), Tunnel(self.clock)]
        self.budget = MemoryBudget(self.clock, 4 * COST)
        for tunnel in self.tunnels:
            tunnel.wire.settle()
            self.budget.join(tunnel.session)
        self.budget.startService()
        self.addCleanup(lambda: self.budget.running and self.budget.stopService())

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            self.settle()

    def settle(self) -> None:
        for tunnel in self.tunnels:
            tunnel.wire.settle()

    def lost(self, tunnel: Tunnel) -> list[int]:
        """
        Which of its readers were reset.
        """
        for reader in tunnel.readers:
            self.assertTrue(reader.lost is None or reader.lost.check(StreamResetError))
        return [index for index, reader in enumerate(tunnel.readers) if reader.lost is not None]

    def fill(self) -> None:
        """
        Five streams are held for, each opened two seconds after the one before, for which a little less is held.
        """
        for number, tunnel in enumerate((self.one, self.two, self.one, self.two, self.one)):
            tunnel.open(PIECE - 4000 + 1000 * number)
            self.wait(2)

    def test_heldOctetsAreCounted(self) -> None:
        self.one.open(PIECE)
        self.two.open(PIECE, PIECE)
        self.assertEqual(self.budget.held, 3 * COST)
        self.one.readers[0].transport.resumeProducing()
        self.settle()
        self.wait(1)
        self.assertEqual(self.budget.held, 2 * COST)

    def test_withinTheLimitNobodyIsResetHoweverLongItStands(self) -> None:
        self.one.open(PIECE)
        self.two.open(PIECE, PIECE, PIECE)
        self.wait(100)
        self.assertEqual((self.lost(self.one), self.lost(self.two)), ([], []))

    def test_theOneThatWaitsLongestIsResetFirstAndNoMoreThanNeeded(self) -> None:
        self.fill()
        self.wait(1)
        self.assertEqual((self.lost(self.one), self.lost(self.two)), ([0], []))
        self.wait(30)
        self.assertEqual((self.lost(self.one), self.lost(self.two)), ([0], []))
        self.assertEqual(self.budget.held, 4 * COST - 6000)

    def test_theyAreResetInTheOrderInWhichTheyMoved(self) -> None:
        self.budget.limit = 10 * COST
        self.fill()
        self.wait(20)
        seen = []
        for most in (4, 3, 2):
            self.budget.limit = most * COST
            self.wait(1)
            seen.append((self.lost(self.one), self.lost(self.two)))
        self.assertEqual(seen, [([0], []), ([0], [0]), ([0, 1], [0])])

    def test_theLargestIsSparedIfItMoved(self) -> None:
        self.budget.limit = 10 * COST
        self.one.open(INITIAL_WINDOW)
        self.two.open(PIECE)
        self.wait(15)
        self.one.readers[0].transport.resumeProducing()
        self.settle()
        self.one.readers[0].transport.pauseProducing()
        self.one.writers[0].transport.write(bytes(INITIAL_WINDOW))
        self.settle()
        self.budget.limit = INITIAL_WINDOW + CONNECTION
        self.wait(1)
        self.assertEqual((self.lost(self.one), self.lost(self.two)), ([], [0]))

    def test_nobodyIsResetThatMovedWithinTenSeconds(self) -> None:
        self.one.open(*[PIECE] * 5)
        self.wait(int(STALE_SECONDS) - 1)
        self.assertEqual(self.lost(self.one), [])
        self.wait(2)
        self.assertEqual(len(self.lost(self.one)), 1)

    def test_whoHoldsLittleIsNeverReset(self) -> None:
        self.one.open(*[1000] * 5)
        self.budget.limit = 1000
        self.wait(30)
        self.assertEqual(self.lost(self.one), [])

    def test_queuedOctetsCountAndABlockedStreamIsReset(self) -> None:
        """
        Uploads: the payload waits to be sent, as the peer gives no credit.
        """
        self.one.open(INITIAL_WINDOW)
        ours = self.one.readers[0].transport
        self.one.writers[0].transport.pauseProducing()
        self.one.readers[0].transport.resumeProducing()
        self.wait(5)
        ours.write(bytes(INITIAL_WINDOW + PIECE))
        self.settle()
        self.wait(1)
        self.assertEqual(self.budget.held, PIECE)
        self.budget.limit = PIECE - 1
        self.wait(int(STALE_SECONDS) - 2)
        self.assertEqual(self.lost(self.one), [])
        self.wait(2)
        self.assertEqual(self.lost(self.one), [0])

    def test_aCarrierThatIsSlowIsNoReasonForAReset(self) -> None:
        self.one.open(0)
        self.one.session.scheduler.pauseProducing()
        self.one.readers[0].transport.write(bytes(PIECE))
        self.budget.limit = PIECE - 1
        self.wait(30)
        self.assertEqual(self.budget.held, COST)
        self.assertEqual(self.lost(self.one), [])

    def test_farAboveTheLimitTheSessionThatHoldsMostIsNotRead(self) -> None:
        self.budget.limit = 20 * CONNECTION + 12 * PIECE
        self.two.open(10)
        self.one.open(*[PIECE] * 20)
        self.assertLess(self.budget.held, 1.2 * self.budget.limit)
        held = self.one.session.held
        self.wait(3)
        self.assertEqual(self.one.session.held, held)
        self.two.readers[0].transport.resumeProducing()
        self.two.writers[0].transport.write(bytes(PIECE))
        self.settle()
        self.assertEqual(self.two.readers[0].got, PIECE + 10)
        self.wait(60)
        self.assertLessEqual(self.budget.held, self.budget.limit)
        self.assertEqual(self.lost(self.two), [])
        self.assertEqual(self.one.session.lostReason(), None)

    def test_aSessionThatWasNotReadGoesOnWhenItsReadersDo(self) -> None:
        self.budget.limit = 10 * PIECE
        self.one.open(*[PIECE] * 20)
        self.assertTrue(self.one.session.memory.resting)
        for _ in range(20):
            for reader in self.one.readers:
                reader.transport.resumeProducing()
            self.settle()
        self.assertEqual([reader.got for reader in self.one.readers], [PIECE] * 20)

    def test_aSessionThatIsNotReadIsKeptAlive(self) -> None:
        self.patch(budget, "STALE_SECONDS", 1000)       # as if each stream moved now and then
        self.budget.limit = 4 * PIECE
        self.one.open(*[PIECE] * 20)
        self.assertTrue(self.one.session.memory.resting)
        for _ in range(20):
            self.wait(9)
        self.assertTrue(self.one.session.memory.resting)
        self.assertEqual((self.one.session.lostReason(), self.one.near.lostReason()), (None, None))

    def test_growthIsTakenBackBeforeAnybodyIsReset(self) -> None:
        self.one.open(PIECE)
        self.assertEqual(self.one.session.scheduler.high, HIGH)
        self.two.open(PIECE, PIECE, PIECE)
        self.wait(1)
        for tunnel in self.tunnels:
            self.assertEqual((tunnel.session.memory.growthLimit, tunnel.session.scheduler.high), (0, LOW))
        third = Tunnel(self.clock)
        third.wire.settle()
        self.budget.join(third.session)
        self.assertEqual(third.session.memory.growthLimit, 0)
        for reader in self.two.readers:
            reader.transport.resumeProducing()
        self.settle()
        self.wait(1)
        for tunnel in (*self.tunnels, third):
            self.assertEqual((tunnel.session.memory.growthLimit, tunnel.session.scheduler.high), (8 * 1024 * 1024, HIGH))

    def test_unsentOctetsOfConnectionsAreCounted(self) -> None:
        slow, stuck = TCPConnection.__new__(TCPConnection), TCPConnection.__new__(TCPConnection)
        slow.dataBuffer, slow._tempDataLen = bytes(1000), 10
        stuck.dataBuffer, stuck._tempDataLen = bytes(CONNECTION), 5        # of which its paused stream counts the rest
        below = MemoryBudget(self.clock, COST, lambda: [slow, stuck, object()])
        below.startService()
        self.addCleanup(below.stopService)
        self.wait(1)
        self.assertEqual(below.held, 1015)

    def test_aSessionThatIsGoneCountsNoMore(self) -> None:
        self.one.open(PIECE)
        self.two.open(PIECE)
        self.one.wire.drop()
        self.wait(1)
        self.assertEqual(self.budget.held, COST)
        self.budget.join(self.one.session)
        self.wait(1)
        self.assertEqual(self.budget.held, COST)

    def test_aSessionStopsAtTheLimit(self) -> None:
        self.budget.limit = 4 * PIECE
        self.one.open(*[PIECE] * 20)
        self.assertTrue(self.one.session.memory.resting)
        self.budget.stopService()
        self.settle()
        self.assertEqual(self.one.session.held, 20 * PIECE)
        before = len(self.clock.getDelayedCalls())
        self.budget.startService()
        self.assertEqual(len(self.clock.getDelayedCalls()), before + 1)


class ManyTests(SynchronousTestCase):
    """
    A thousand readers that stand still beside ten that read, in one session.
    """

    def turns(self, stalled: int) -> Tunnel:
        """
        Ten honest readers of a mebibyte each; how many turns they took is C{took} of the tunnel.
        """
        tunnel: Any = Tunnel(Clock(), SessionLimits(max_streams=2000, unacknowledged=2000, backlog=2000))
        tunnel.wire.settle()
        budget = MemoryBudget(tunnel.wire.clock, 1024 * 1024 * 1024)
        budget.join(tunnel.session)
        budget.startService()
        self.addCleanup(budget.stopService)
        tunnel.open(*[300_000] * stalled)
        tunnel.open(*[0] * 10)
        honest = tunnel.readers[stalled:]
        for reader in honest:
            reader.transport.resumeProducing()
        for writer in tunnel.writers[stalled:]:
            writer.transport.write(bytes(1024 * 1024))
        tunnel.took = 0
        while any(reader.got < 1024 * 1024 for reader in honest):
            self.assertTrue(tunnel.wire.turn())
            tunnel.took += 1
        return tunnel

    def test_nobodyIsResetAndTheHonestAreAsFast(self) -> None:
        alone, beside = self.turns(0), self.turns(1000)
        self.assertLessEqual(beside.took, 1.2 * alone.took)
        self.assertEqual([reader.lost for reader in beside.readers], [None] * 1010)
        self.assertLessEqual(beside.session.held, 1000 * INITIAL_WINDOW)


class PieceTests(SynchronousTestCase):
    """
    What is held costs about as much memory as it has octets.
    """

    def test_smallPiecesAreJoined(self) -> None:
        tunnel = Tunnel(Clock())
        tunnel.open(0)
        for _ in range(3000):
            tunnel.writers[0].transport.write(b"12")
            tunnel.near.flush()
        tunnel.wire.settle()
        waiting = tunnel.readers[0].transport._undelivered
        self.assertEqual(b"".join(waiting), b"12" * 3000)
        self.assertLessEqual(len(waiting), 1 + 2 * 6000 // LEAST_PIECE)


class Connection:
    """
    A stream that is a connection of its own, for which something may be held.
    """

    connected = 1
    octetsIn = octetsOut = held = 0
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.onEnded()

    def onEnded(self) -> None:
        """
        The session puts its own here.
        """


class ControlTests(SynchronousTestCase):
    """
    Sessions whose streams are connections of their own.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.wire = Wire(clock=self.clock)
        self.session = RevdialDialler(PickUpTable(), "/", clock=self.clock)
        self.wire.connect(self.session, Protocol())
        self.streams: list[Any] = [Connection(), Connection()]
        for stream in self.streams:
            self.session.memory.add(stream, self.session.address)
        self.budget = MemoryBudget(self.clock, PIECE)
        self.budget.join(self.session)
        self.budget.startService()
        self.addCleanup(self.budget.stopService)

    def test_theOneThatMovesIsSpared(self) -> None:
        for second in range(20):
            for stream in self.streams:
                stream.octetsIn, stream.held = PIECE, PIECE
            self.streams[0].octetsIn += second
            self.clock.advance(1)
            self.assertFalse(self.streams[1].aborted and second < STALE_SECONDS)
        self.assertEqual([stream.aborted for stream in self.streams], [False, True])

    def test_countedUntilTheLastStreamIsOver(self) -> None:
        self.streams[0].held = 10
        self.wire.drop()
        self.clock.advance(1)
        self.assertEqual(self.budget.held, 10 + CONNECTION)
        for stream in self.streams:
            stream.onEnded()
        self.clock.advance(1)
        self.assertEqual(self.budget.held, 0)
        self.streams[0].held = 10
        self.clock.advance(1)
        self.assertEqual(self.budget.held, 0)

    def test_aSessionMayLeaveWhileOthersAreCounted(self) -> None:
        """
        A reader pauses between two looks, which makes it too much; the stream that is reset for it is the last of its session.
        """
        tunnel = Tunnel(self.clock)
        tunnel.wire.settle()
        tunnel.open(0)
        reader = tunnel.readers[0].transport
        reader.resumeProducing()
        tunnel.wire.settle()
        self.budget.join(tunnel.session)
        self.budget.limit = PIECE + CONNECTION
        self.streams[0].held = PIECE
        self.streams[1].onEnded()
        self.wire.drop()
        for _ in range(int(STALE_SECONDS) + 5):
            self.clock.advance(1)
        self.assertFalse(self.streams[0].aborted)
        reader.pauseProducing()
        self.clock.advance(1)
        self.assertTrue(self.streams[0].aborted)
        self.assertEqual(self.budget.held, CONNECTION)
