"""
One end of a connection in memory.

It behaves as Twisted's TCP transport does.  Events that a reactor would cause happen in rounds, which the wire runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IProducer,
    IPushProducer,
    ITCPTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(ITCPTransport, IConsumer, IPushProducer)
class MemoryTransport:
    """
    One end of a L{Wire}.  It behaves as Twisted's TCP transport does, and accepts only C{bytes}.

    @ivar protocol: the receiver of octets and events; may be replaced at any time.
    @ivar connected: false when C{connectionLost} was called or is about to be called.
    @ivar disconnecting: C{loseConnection} was called; nothing more is read, and further writes are discarded.
    @ivar readPaused: this side does not read (C{pauseProducing}), so that octets wait at the other side.
    @ivar producer: the registered producer, or C{None}.
    @ivar capacity: octets that may wait for delivery before the producer is paused.
    """

    def __init__(self, host: IPv4Address, peer: IPv4Address, capacity: int) -> None:
        self._host = host
        self._peer = peer
        self.capacity = capacity
        self.protocol: Any = None
        self.connected = True
        self.disconnecting = False
        self.readPaused = False
        self.producer: Any = None
        self.other: MemoryTransport = self      # L{Wire} joins two of them
        self._streaming = False
        self._producerPaused = False
        self._queue: deque[bytes] = deque()     # written here, not yet delivered there
        self._queued = 0
        self._lost: Failure | None = None       # the reason for connectionLost, on the next round
        self._endingWrites = False              # loseWriteConnection was called
        self._wroteEnd = False                  # our FIN was sent, after all octets
        self._readEnd = False                   # the other side's FIN was delivered here
        self._noDelay = False
        self._keepAlive = False

    @property
    def undelivered(self) -> int:
        """
        Octets written here that were not delivered to the other side yet.
        """
        return self._queued

    # ITransport

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"a transport accepts bytes, not {type(data).__name__}")
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
                raise TypeError(f"a transport accepts bytes, not {type(piece).__name__}")
        self.write(b"".join(pieces))

    def loseConnection(self) -> None:
        if self.connected:
            self.disconnecting = True

    def loseWriteConnection(self) -> None:
        if self.connected:
            self._endingWrites = True

    def abortConnection(self) -> None:
        if self.connected:
            self.fail(Failure(ConnectionAborted()))
            self.other.fail(Failure(ConnectionLost()))

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
        self.readPaused = True

    def resumeProducing(self) -> None:
        self.readPaused = False

    def stopProducing(self) -> None:
        self.loseConnection()

    # IConsumer: the writing half

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self.producer!r} was never unregistered")
        if not self.connected:
            producer.stopProducing()
            return
        self.producer = producer
        self._streaming = bool(streaming)
        self._producerPaused = False
        if not streaming:
            self.producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None
        self._streaming = self._producerPaused = False

    def _takesWrites(self) -> bool:
        producing = self.producer is not None     # after loseConnection, until the queue is empty
        return self.connected and not self._endingWrites and (producing or not self.disconnecting)

    # For the wire

    def fail(self, reason: Failure) -> None:
        """
        Lose the connection.  C{connectionLost} is called on the next round.
        """
        if self.connected:
            self.connected = False
            self._lost = reason
            self._queue.clear()
            self._queued = 0

    @property
    def over(self) -> bool:
        """
        Whether no event can happen here any more.
        """
        return not self.connected and self._lost is None

    def _take(self, octets: int) -> bytes:
        """
        Remove octets from the queue.

        @param octets: how many at most.
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

    def receive(self, octets: int) -> int:
        """
        Deliver octets that the other side wrote to the protocol here, in one call.

        @param octets: how many at most.
        @return: how many were delivered; 0 if this side does not read.
        """
        if self.readPaused or not self.connected or self.disconnecting or not self.other._queued:
            return 0
        data = self.other._take(octets)
        self.protocol.dataReceived(data)
        return len(data)

    def turn(self) -> bool:
        """
        Run one round of the events that are not the delivery of octets.

        @return: whether anything happened.
        """
        return self.reportLost() or self._askProducer() or self._endWrites() or self._readFin()

    def reportLost(self) -> bool:
        """
        Call C{connectionLost} if the connection was lost and this was not reported yet.

        @return: whether it was called.
        """
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
        If the queue is empty, send FIN after C{loseWriteConnection}, or close after C{loseConnection}.  As with Twisted's TCP,
        a pull producer must finish first, a streaming producer need not.
        """
        if not self.connected or self._queued or (self.producer is not None and not self._streaming):
            return False
        if self.disconnecting:
            self._wroteEnd = True
            self.fail(Failure(ConnectionDone()))
            return True
        if not self._endingWrites or self._wroteEnd:
            return False
        self._wroteEnd = True
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.writeConnectionLost()
        return True

    def _readFin(self) -> bool:
        """
        Receive the other side's FIN, or the reset that answers octets sent to a closed connection.
        """
        if self.connected and self._queued and not self.other.connected:
            self.fail(Failure(ConnectionLost()))
            return True
        reads = self.connected and not (self.disconnecting or self.readPaused or self._readEnd)
        if not reads or not self.other._wroteEnd or self.other._queued:
            return False
        self._readEnd = True
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self._wroteEnd = True
            self.fail(Failure(ConnectionDone()))
        return True
