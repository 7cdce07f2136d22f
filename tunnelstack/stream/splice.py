"""
Two transports joined: what arrives on one is written to the other, in both directions, with the pressure of each and with
half-closes where both can carry them.

Each end is the other's producer, so a reader that stands still stops its writer: by credit if that is a stream, by TCP
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

HALF_CLOSE_SECONDS = 30.0
"""Seconds that an end is remembered for a transport that cannot be half-closed."""

FLUSH_SECONDS = 300.0
"""Seconds that the last end has for reading what is written to it."""


@implementer(IHalfCloseableProtocol)
class SpliceEnd(Protocol):
    """
    One end of a splice.

    @ivar other: the other end.
    @ivar octets: how many were passed on from this end.
    @ivar producer: who is paused when the other end can take no more.
    """

    other: SpliceEnd
    transport: Any
    producer: IPushProducer
    octets = 0

    def __init__(self, splice: Splice) -> None:
        self._splice = splice
        self._readEnded = False
        self._halfClosePending = False

    def connectionMade(self) -> None:
        """
        Joined once both ends are.
        """
        self.producer = self._producer()
        self._splice._connected(self)

    def _producer(self) -> IPushProducer:
        producer: IPushProducer = self.transport
        return producer

    def dataReceived(self, data: bytes) -> None:
        """
        Pass it on.  The join binds the other transport's C{write} over this where nothing is to be counted.
        """
        self.octets += len(data)
        self.other.transport.write(data)

    def readConnectionLost(self) -> None:
        """
        This end says no more: half-close the other, or remember it until the other has said all.
        """
        self._readEnded = True
        self.other.transport.unregisterProducer()   # a paused one would keep TCP from ending its direction
        self.other._endWriting()

    def writeConnectionLost(self) -> None:
        """
        Our own half-close is through.
        """

    def _endWriting(self) -> None:
        transport = self.transport
        if self._readEnded or self._halfClosePending:
            transport.loseConnection()
        elif supportsHalfClose(transport):
            transport.loseWriteConnection()
        else:
            self._halfClosePending = True
            self._splice._closeLater(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        This end is gone; so is the other once it has flushed what it got, or at once if this was no clean end.
        """
        self._splice._lost(self, reason)


class Splice:
    """
    Two ends that pass on to each other what they receive.

    Connect C{near} and C{far} to their transports (with C{makeConnection}, C{handOver}, or from a factory), in any order; what
    arrives before both are there waits in its transport.

    @ivar near: an L{SpliceEnd}.
    @ivar far: the other.
    @ivar ended: called once, with the first reason, when both ends are gone.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ended: Callable[[Failure], object] | None = None,
        end: Callable[[Splice], SpliceEnd] = SpliceEnd,
    ) -> None:
        """
        @param end: makes each of the two.
        """
        self._clock = clock
        self._ended = ended
        self._timer: IDelayedCall | None = None
        self._reason: Failure | None = None
        self._open = 0
        self.near = end(self)
        self.far = end(self)
        self.near.other = self.far
        self.far.other = self.near

    def close(self) -> None:
        """
        The other end will never come: close the one that is there.
        """
        for end in (self.near, self.far):
            if end.transport is not None:
                end.transport.loseConnection()

    def _connected(self, end: SpliceEnd) -> None:
        self._open += 1
        if end.other.transport is None:
            end.producer.pauseProducing()
        elif self._reason is not None:        # the first one is gone already
            end.transport.loseConnection()
        else:
            end.transport.registerProducer(end.other.producer, True)
            end.other.transport.registerProducer(end.producer, True)
            end.other.producer.resumeProducing()

    def _closeLater(self, end: SpliceEnd) -> None:
        self._timer = self._clock.callLater(HALF_CLOSE_SECONDS, end.transport.loseConnection)

    def _lost(self, end: SpliceEnd, reason: Failure) -> None:
        self._open -= 1
        if self._reason is None:
            self._reason = reason
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        other = end.other.transport
        if self._open and other is not None:
            other.unregisterProducer()
            if reason.check(ConnectionDone):
                self._timer = self._clock.callLater(FLUSH_SECONDS, other.abortConnection)
                other.loseConnection()
            else:
                other.abortConnection()
        elif not self._open and self._ended is not None:
            ended, self._ended = self._ended, None
            ended(self._reason)


def supportsHalfClose(transport: object) -> bool:
    """
    TLS cannot end one direction: Twisted's loses what is queued when asked to.  Nor may a stream whose far side ends both then.
    """
    able = ITCPTransport.providedBy(transport) or IHalfCloseableDescriptor.providedBy(transport)   # the latter: pipes
    return able and not (ISSLTransport.providedBy(transport) or getattr(transport, "endsBothDirections", False))
