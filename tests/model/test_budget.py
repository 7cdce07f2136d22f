"""
The budget of a process against a model: readers that read, sip and stand still, on two sessions, in whatever order hypothesis
likes.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.session.budget import CONNECTION, STALE_SECONDS, MemoryBudget
from tunnelstack.testing import sessionPair
from tunnelstack.wire.yamux.frames import INITIAL_WINDOW
from tunnelstack.wire.yamux.limits import SessionLimits

KIB = 1024
SESSION = 512 * KIB
PROCESS = 1024 * KIB
DELIVERY = 64 * KIB
LIMITS = SessionLimits(session_octets=SESSION, window=INITIAL_WINDOW + SESSION, max_streams=12)

choices = st.integers(0, 1000)


class Reader(Protocol):
    """
    The far end of a stream.

    @ivar moved: when it read last, or was opened.
    @ivar sips: it pauses after each piece.
    @ivar broken: a promise was broken: it was reset although it had moved.
    """

    transport: Any

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.moved = clock.seconds()
        self.paused = self.sips = self.over = self.broken = False

    def pause(self) -> None:
        self.paused = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        self.paused = False
        self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        self.moved = self.clock.seconds()
        if self.sips:
            self.pause()

    def connectionLost(self, reason: Any = None) -> None:
        self.over = True
        self.broken = self.clock.seconds() - self.moved < STALE_SECONDS


class Tunnel:
    """
    A session whose far end has joined the budget.
    """

    def __init__(self, clock: Clock, budget: MemoryBudget) -> None:
        self.clock = clock
        self.readers: list[Reader] = []
        self.writers: list[Any] = []
        self.wire, self.near, self.far = sessionPair(self, clock=clock, cut=DELIVERY, limits=LIMITS)
        self.factory = Factory.forProtocol(Protocol)
        self.factory.noisy = False
        self.wire.settle()
        budget.join(self.far)

    def buildProtocol(self, address: Any) -> Reader:
        self.readers.append(Reader(self.clock))
        return self.readers[-1]


class Strain(RuleBasedStateMachine):
    """
    Two sessions that are bounded together.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.budget = MemoryBudget(self.clock, PROCESS)
        self.budget.startService()
        self.tunnels = [Tunnel(self.clock, self.budget) for _ in range(2)]
        self.above = 0                        # what was held when the limit was changed last

    def settle(self) -> None:
        for tunnel in self.tunnels:
            tunnel.wire.settle()

    def reader(self, choice: int, **state: bool) -> Reader | None:
        found = [
            reader for tunnel in self.tunnels for reader in tunnel.readers
            if not reader.over and all(getattr(reader, name) is value for name, value in state.items())
        ]  # fmt: skip
        return found[choice % len(found)] if found else None

    @rule(side=st.integers(0, 1), octets=st.integers(1, 2000 * KIB), paused=st.booleans())
    def open(self, side: int, octets: int, paused: bool) -> None:
        tunnel = self.tunnels[side]
        if len(tunnel.far.transports()) >= 8:
            return
        tunnel.near.connector.connect(tunnel.factory).addCallback(tunnel.writers.append)
        tunnel.wire.settle()
        if paused and len(tunnel.readers) == len(tunnel.writers):
            tunnel.readers[-1].pause()
        self.write(side, len(tunnel.writers) - 1, octets)

    @rule(side=st.integers(0, 1), choice=choices, octets=st.integers(1, 2000 * KIB))
    def write(self, side: int, choice: int, octets: int) -> None:
        writers = self.tunnels[side].writers
        if writers:
            writers[choice % len(writers)].transport.write(bytes(octets))
            self.settle()

    @rule(choice=choices)
    def pause(self, choice: int) -> None:
        if reader := self.reader(choice, paused=False):
            reader.pause()

    @rule(choice=choices)
    def resume(self, choice: int) -> None:
        if reader := self.reader(choice, paused=True):
            reader.sips = False
            reader.resume()
            self.settle()

    @rule(choice=choices)
    def sip(self, choice: int) -> None:
        if reader := self.reader(choice, paused=True):
            reader.sips = True
            reader.resume()
            self.settle()

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            self.settle()

    @rule(limit=st.integers(256 * KIB, 4 * PROCESS))
    def change(self, limit: int) -> None:
        self.budget.limit = limit
        self.above = self.payload

    @property
    def payload(self) -> int:
        """
        Octets that were not read, and what the readers' own connections are taken to hold.
        """
        readers = [stream for tunnel in self.tunnels for stream in tunnel.far.transports()]
        return sum(tunnel.far.held for tunnel in self.tunnels) + CONNECTION * sum(stream.paused for stream in readers)

    @precondition(lambda self: any(tunnel.readers for tunnel in self.tunnels))
    @rule()
    def everybodyReads(self) -> None:
        """
        Growth goes back when it is wanted back and payload is consumed.
        """
        for tunnel in self.tunnels:
            tunnel.far.memory.grow(False)
            for reader in tunnel.readers:
                if not reader.over:
                    reader.sips = False
                    reader.resume()
        self.settle()
        for tunnel in self.tunnels:
            for writer in tunnel.writers:
                writer.transport.write(bytes(1024 * KIB))
        self.settle()
        for tunnel in self.tunnels:
            assert tunnel.far.held == 0 and tunnel.far.memory.growth == 0
            tunnel.far.memory.grow(not self.budget._tight)

    @invariant()
    def nobodyIsResetThatMoved(self) -> None:
        assert not any(reader.broken for tunnel in self.tunnels for reader in tunnel.readers)

    @invariant()
    def sessionsHoldWhatTheyMay(self) -> None:
        for tunnel in self.tunnels:
            streams = tunnel.far.transports()
            assert tunnel.far.held == sum(stream.held for stream in streams)
            assert sum(max(0, stream.held - INITIAL_WINDOW) for stream in streams) <= SESSION

    @invariant()
    def theProcessHoldsWhatItMay(self) -> None:
        for tunnel in self.tunnels:
            tunnel.far.memory.count()
        assert self.payload == self.budget._payload
        assert self.payload <= max(self.above, self.budget.limit * 9 // 8) + 2 * (DELIVERY + CONNECTION)

    def teardown(self) -> None:
        """
        Whoever stands still for long goes, as far as there is too much.
        """
        self.wait(30)
        assert self.budget.held <= self.budget.limit or not self.stalled()
        self.budget.stopService()

    def stalled(self) -> bool:
        return any(tunnel.far.memory.stalled(self.clock.seconds() - STALE_SECONDS - 1) for tunnel in self.tunnels)


class BoundTests(SynchronousTestCase):
    """
    The model.
    """

    def test_theBudgetIsAsTheModel(self) -> None:
        run_state_machine_as_test(Strain, settings=settings(max_examples=60, stateful_step_count=25, deadline=None))
