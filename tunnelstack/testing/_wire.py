"""
Two connected transports, between which the test delivers octets.

Nothing is delivered until the test calls for it, and, as on a real network, no protocol is called from within a call that it
makes.  An exception that a protocol raises reaches the test.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tunnelstack.testing._transport import MemoryTransport

CAPACITY = 64 * 1024   # octets in a transport's queue above which it pauses its producer, as in Twisted's TCP
ROUNDS = 100_000       # of Wire.settle; two sides that are still busy then do not stop at all
ADDRESSES = (IPv4Address("TCP", "127.0.0.1", 40001), IPv4Address("TCP", "127.0.0.1", 80))


class Wire:
    """
    Two connected transports.

    @ivar near: one L{MemoryTransport}.
    @ivar far: the other.
    @ivar clock: the virtual time of both sides.
    @ivar cut: the most octets that L{settle} passes to one C{dataReceived}; C{None} for all.
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
        @param addresses: the addresses of the near end and the far end.
        """
        if cut is not None and cut < 1:
            raise ValueError(f"cut must be at least 1, not {cut}")
        self.clock = Clock() if clock is None else clock
        self.cut = cut
        near, far = addresses
        self.near = MemoryTransport(near, far, capacity)
        self.far = MemoryTransport(far, near, capacity)
        self.near.other, self.far.other = self.far, self.near

    def connect(self, nearProtocol: IProtocol, farProtocol: IProtocol) -> None:
        """
        Connect a protocol to each end, the far one (the server) first.
        """
        self.near.protocol, self.far.protocol = nearProtocol, farProtocol
        farProtocol.makeConnection(self.far)
        nearProtocol.makeConnection(self.near)

    def deliver(self, transport: MemoryTransport, octets: int | None = None) -> int:
        """
        Make one delivery: one C{dataReceived} of the protocol of a transport.

        @param transport: the receiver, L{near} or L{far}.
        @param octets: the most octets to deliver; C{None} for all.
        @return: how many were delivered; C{0} if there are none, or the receiver does not read.
        """
        return transport.receive(transport.other.undelivered if octets is None else octets)

    def turn(self) -> bool:
        """
        Run one round: the calls that are due on the clock, the octets that waited when the round began, and the ends of
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
        Whether no event can happen here any more.
        """
        return self.near.over and self.far.over

    def settle(self, rounds: int = ROUNDS) -> None:
        """
        Deliver octets in both directions until none are left.  Time does not pass, but calls of the next turn
        (C{callLater(0)}) are made.

        @raise AssertionError: there is still something to deliver after so many rounds.
        """
        for _ in range(rounds):
            if not self.turn():
                return
        raise AssertionError(f"the wire is still busy after {rounds} rounds")

    def drop(self, reason: Failure | None = None) -> None:
        """
        Lose the connection: octets that were not delivered are lost, and C{connectionLost} is called at both sides now.

        @param reason: for C{connectionLost}; a L{ConnectionLost<twisted.internet.error.ConnectionLost>} by default.
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
