"""
What a test of anything above a transport needs: a wire whose octets are moved by hand, in virtual time.

L{Wire} holds two L{MemoryTransport}s back to back.  Nothing arrives until the test says so, and nothing is
ever called from inside a call that a protocol is making, as on a real network.  An exception that a protocol
raises reaches the test.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IHalfCloseableProtocol, IPushProducer, ITCPTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.session.yamux import YamuxSession
from tunnelstack.wire.yamux.limits import SessionLimits

CAPACITY = 64 * 1024   # octets a transport takes before it pauses its producer; what Twisted's TCP takes
ROUNDS = 100_000       # of L{Wire.settle}; two sides that still talk then will never stop


@implementer(ITCPTransport, IConsumer, IPushProducer)
class MemoryTransport:
    """
    One end of a L{Wire}; behaves as Twisted's TCP transport does, and takes nothing but C{bytes}.

    @ivar protocol: who is told what arrives; may be replaced at any time.
    @ivar connected: false once C{connectionLost} was, or is about to be, called.
    @ivar disconnecting: C{loseConnection} was called; nothing is read any more, later writes vanish.
    @ivar stalled: this side does not read (C{pauseProducing}), so that octets pile up at the other side.
    @ivar producer: what is registered here, or C{None}.
    @ivar capacity: octets that may wait for delivery before the producer is paused.
    """

    def __init__(self, host: IPv4Address, peer: IPv4Address, capacity: int) -> None:
        self._host = host
        self._peer = peer
        self.capacity = capacity
        self.protocol: Any = None
        self.connected = True
        self.disconnecting = False
        self.stalled = False
        self.producer: Any = None
        self.other: MemoryTransport = self      # L{Wire} joins two of them
        self._streaming = False
        self._producerPaused = False
        self._queue: deque[bytes] = deque()     # written here, not yet delivered there
        self._queued = 0
        self._lost: Failure | None = None       # what connectionLost will say, on the next round
        self._endingWrites = False              # loseWriteConnection was called
        self._wroteEnd = False                  # our FIN is out, behind all octets
        self._readEnd = False                   # the other's FIN was delivered here
        self._noDelay = False
        self._keepAlive = False

    @property
    def undelivered(self) -> int:
        """
        Octets written here which the other side has not been given.
        """
        return self._queued

    # ITransport

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
        if not data or not self._takesWrites():
            return
        self._queue.append(data)
        self._queued += len(data)
        if self._streaming and not self._producerPaused and self._queued > self.capacity:
            self._producerPaused = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        pieces = list(data)
        for piece in pieces:
            if not isinstance(piece, bytes):
                raise TypeError(f"a transport takes bytes, not {type(piece).__name__}")
        self.write(b"".join(pieces))

    def loseConnection(self) -> None:
        if self.connected:
            self.disconnecting = True

    def loseWriteConnection(self) -> None:
        if self.connected:
            self._endingWrites = True

    def abortConnection(self) -> None:
        if self.connected:
            self._fail(Failure(ConnectionAborted()))
            self.other._fail(Failure(ConnectionLost()))

    def getPeer(self) -> IPv4Address:
        return self._peer

    def getHost(self) -> IPv4Address:
        return self._host

    # ITCPTransport

    def getTcpNoDelay(self) -> bool:
        return self._noDelay

    def setTcpNoDelay(self, enabled: bool) -> None:
        self._noDelay = bool(enabled)

    def getTcpKeepAlive(self) -> bool:
        return self._keepAlive

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self._keepAlive = bool(enabled)

    # IPushProducer: the reading half

    def pauseProducing(self) -> None:
        self.stalled = True

    def resumeProducing(self) -> None:
        self.stalled = False

    def stopProducing(self) -> None:
        self.loseConnection()

    # IConsumer: the writing half

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self.producer!r} was never unregistered")
        if not self.connected:
            producer.stopProducing()
            return
        self.producer = producer
        self._streaming = bool(streaming)
        self._producerPaused = False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None
        self._streaming = self._producerPaused = False

    # What the wire does with it

    def _takesWrites(self) -> bool:
        producing = self.producer is not None     # after loseConnection, until the queue is empty
        return self.connected and not self._endingWrites and (producing or not self.disconnecting)

    def _fail(self, reason: Failure) -> None:
        """
        Both directions end now; the protocol hears of it on the next round.
        """
        if self.connected:
            self.connected = False
            self._lost = reason
            self._queue.clear()
            self._queued = 0

    def _take(self, octets: int) -> bytes:
        """
        Remove at most so many octets from the queue.
        """
        taken: list[bytes] = []
        while octets and self._queue:
            piece = self._queue.popleft()
            if len(piece) > octets:
                self._queue.appendleft(piece[octets:])
                piece = piece[:octets]
            taken.append(piece)
            octets -= len(piece)
        joined = b"".join(taken)
        self._queued -= len(joined)
        return joined

    def _receive(self, octets: int) -> int:
        """
        Deliver to the protocol here, in one call, at most so many octets that the other side wrote.

        @return: how many were delivered; none when this side does not read.
        """
        if self.stalled or not self.connected or self.disconnecting or not self.other._queued:
            return 0
        data = self.other._take(octets)
        self.protocol.dataReceived(data)
        return len(data)

    def _turn(self) -> bool:
        """
        One round of everything that is not the delivery of octets.

        @return: whether anything happened.
        """
        return self._tellLost() or self._askProducer() or self._endWrites() or self._readFin()

    def _tellLost(self) -> bool:
        if self._lost is None:
            return False
        reason, self._lost = self._lost, None
        producer, self.producer, self._streaming = self.producer, None, False
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(reason)
        return True

    def _askProducer(self) -> bool:
        if not self.connected or self.producer is None or self._queued:
            return False
        if self._streaming and not self._producerPaused:
            return False
        self._producerPaused = False
        self.producer.resumeProducing()
        return True

    def _endWrites(self) -> bool:
        """
        The queue is empty: say FIN, and go when C{loseConnection} asked for that.  As with TCP, a pull producer
        has to finish first, a streaming one does not.
        """
        if not self.connected or self._queued or (self.producer is not None and not self._streaming):
            return False
        if self.disconnecting:
            self._wroteEnd = True
            self._fail(Failure(ConnectionDone()))
            return True
        if not self._endingWrites or self._wroteEnd:
            return False
        self._wroteEnd = True
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.writeConnectionLost()
        return True

    def _readFin(self) -> bool:
        """
        Hear the other side's end, and the reset that answers octets written to somebody who has gone.
        """
        if self.connected and self._queued and not self.other.connected:
            self._fail(Failure(ConnectionLost()))
            return True
        reads = self.connected and not (self.disconnecting or self.stalled or self._readEnd)
        if not reads or not self.other._wroteEnd or self.other._queued:
            return False
        self._readEnd = True
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self._wroteEnd = True
            self._fail(Failure(ConnectionDone()))
        return True


class Wire:
    """
    Two transports back to back.

    @ivar near: one L{MemoryTransport}.
    @ivar far: the other.
    @ivar clock: the virtual time of both sides.
    @ivar cut: the most octets that one C{dataReceived} is given by L{settle}; C{None} for all there is.
    """

    def __init__(self, clock: Clock | None = None, cut: int | None = None, capacity: int = CAPACITY) -> None:
        if cut is not None and cut < 1:
            raise ValueError(f"a delivery has at least one octet, not {cut}")
        self.clock = Clock() if clock is None else clock
        self.cut = cut
        nearAddress = IPv4Address("TCP", "127.0.0.1", 40001)
        farAddress = IPv4Address("TCP", "127.0.0.1", 80)
        self.near = MemoryTransport(nearAddress, farAddress, capacity)
        self.far = MemoryTransport(farAddress, nearAddress, capacity)
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
        return transport._receive(transport.other._queued if octets is None else octets)

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
        ended = [transport._turn() for transport in (self.far, self.near)]
        return due or any(moved) or any(ended)

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

        @param reason: what C{connectionLost} says; L{ConnectionLost} unless given.
        """
        for transport in (self.near, self.far):
            transport._fail(Failure(ConnectionLost()) if reason is None else reason)
        for transport in (self.near, self.far):
            transport._tellLost()

    def _carry(self, receiver: MemoryTransport) -> bool:
        waiting = receiver.other._queued
        carried = 0
        while carried < waiting:
            delivered = receiver._receive(min(waiting - carried, self.cut or waiting))
            if not delivered:
                break
            carried += delivered
        return carried > 0


def sessionPair(
    listening: Any = None,
    *,
    clock: Clock | None = None,
    cut: int | None = None,
    limits: SessionLimits | None = None,
) -> tuple[Wire, YamuxSession, YamuxSession]:
    """
    Two yamux sessions over a wire; nothing has been delivered yet.

    @param listening: the factory that the far session's streams are given to, if any.
    @param clock: virtual time; a new one unless given.
    @param cut: the most octets of one delivery (see L{Wire}).
    @param limits: of both sessions.
    @return: the wire, the near session (yamux client) and the far one.
    """
    wire = Wire(clock=clock, cut=cut)
    near = YamuxSession(True, clock=wire.clock, limits=limits)
    far = YamuxSession(False, clock=wire.clock, limits=limits)
    if listening is not None:
        far.listener.listen(listening)
    wire.connect(near, far)
    return wire, near, far
