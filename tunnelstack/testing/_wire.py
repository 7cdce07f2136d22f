"""
Two transports back to back, whose octets a test moves by hand.

Nothing arrives until the test says so, and nothing is ever called from inside a call that a protocol is making, as on a real
network.  An exception that a protocol raises reaches the test.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tunnelstack.testing._transport import MemoryTransport

CAPACITY = 64 * 1024   # octets a transport takes before it pauses its producer; what Twisted's TCP takes
ROUNDS = 100_000       # of L{Wire.settle}; two sides that still talk then will never stop
ADDRESSES = (IPv4Address("TCP", "127.0.0.1", 40001), IPv4Address("TCP", "127.0.0.1", 80))


class Wire:
    """
    Two transports back to back.

    @ivar near: one L{MemoryTransport}.
    @ivar far: the other.
    @ivar clock: the virtual time of both sides.
    @ivar cut: the most octets that one C{dataReceived} is given by L{settle}; C{None} for all there is.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        cut: int | None = None,
        capacity: int = CAPACITY,
        addresses: tuple[IPv4Address, IPv4Address] = ADDRESSES,
    ) -> None:
        """
        @param capacity: octets that may wait for delivery before the producer at that end is paused.
        @param addresses: of the near end and of the far one.
        """
        if cut is not None and cut < 1:
            raise ValueError(f"a delivery has at least one octet, not {cut}")
        self.clock = Clock() if clock is None else clock
        self.cut = cut
        near, far = addresses
        self.near = MemoryTransport(near, far, capacity)
        self.far = MemoryTransport(far, near, capacity)
        self.near.other, self.far.other = self.far, self.near

    def connect(self, nearProtocol: Any, farProtocol: Any) -> None:
        """
        Connect a protocol to each end, the far one (the server) first.
        """
        self.near.protocol, self.far.protocol = nearProtocol, farProtocol
        farProtocol.makeConnection(self.far)
        nearProtocol.makeConnection(self.near)

    def deliver(self, transport: MemoryTransport, octets: int | None = None) -> int:
        """
        Make one delivery by hand: one C{dataReceived} to the protocol of a transport.

        @param transport: who receives; L{near} or L{far}.
        @param octets: the most octets to deliver; C{None} for all there is.
        @return: how many were delivered; C{0} when there is nothing, or the receiver does not read.
        """
        return transport.receive(transport.other.undelivered if octets is None else octets)

    def turn(self) -> bool:
        """
        One round: what is due on the clock, the octets that waited when it began, and the ends of
        connections.

        @return: whether anything happened.
        """
        now = self.clock.seconds()
        due = any(call.getTime() <= now for call in self.clock.getDelayedCalls())
        self.clock.advance(0)
        moved = [self._carry(transport) for transport in (self.far, self.near)]
        ended = [transport.turn() for transport in (self.far, self.near)]
        return due or any(moved) or any(ended)

    @property
    def over(self) -> bool:
        """
        Whether nothing can happen here any more.
        """
        return self.near.over and self.far.over

    def settle(self, rounds: int = ROUNDS) -> None:
        """
        Carry octets both ways until neither side has anything left to say.  Time does not pass, but what was
        put off to the next turn (C{callLater(0)}) happens.

        @raise AssertionError: they still talk after so many rounds.
        """
        for _ in range(rounds):
            if not self.turn():
                return
        raise AssertionError(f"the two sides did not come to rest in {rounds} rounds")

    def drop(self, reason: Failure | None = None) -> None:
        """
        The network dies: what is under way is lost, and both sides are told at once.

        @param reason: what C{connectionLost} says; L{ConnectionLost<twisted.internet.error.ConnectionLost>} unless given.
        """
        for transport in (self.near, self.far):
            transport.fail(Failure(ConnectionLost()) if reason is None else reason)
        for transport in (self.near, self.far):
            transport.reportLost()

    def _carry(self, receiver: MemoryTransport) -> bool:
        waiting = receiver.other.undelivered
        carried = 0
        while carried < waiting:
            delivered = receiver.receive(min(waiting - carried, self.cut or waiting))
            if not delivered:
                break
            carried += delivered
        return carried > 0
