"""
Two transports joined: what arrives on one is written to the other, in both directions, with back pressure and half-closes.

Each end is the other's producer, so a reader that stops reading stops its writer: by credit if that is a stream, by TCP
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
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.transport.direct_write import Write, disableNagle, immediateWrite
from tunnelstack.transport.half_close_tls import HalfCloseTLS

HALF_CLOSE_SECONDS = 30.0
"""Seconds after which a transport that cannot be half-closed is closed, once the other has ended its direction."""

FLUSH_SECONDS = 300.0
"""Seconds that the remaining end has to read what was written to it."""


@implementer(IHalfCloseableProtocol)
class SpliceEnd(Protocol):
    """
    One end of a splice.

    @ivar other: the other end.
    @ivar octets: how many were received on this end.
    @ivar producer: what is paused when the other end can take no more.
    @ivar write: writes to the transport; at once where that is possible, because a peer waits for small pieces.
    """

    other: SpliceEnd
    transport: Any
    write: Write
    producer: IPushProducer
    octets = 0

    def __init__(self, splice: Splice) -> None:
        self._splice = splice
        self._readEnded = False
        self._halfClosePending = False

    def connectionMade(self) -> None:
        self.producer = self._producer()
        disableNagle(self.transport)           # whoever wrote it has decided what belongs together
        self.write = immediateWrite(self.transport)
        self._splice._connected(self)

    def _producer(self) -> IPushProducer:
        transport: IPushProducer = self.transport
        return transport

    def dataReceived(self, data: bytes) -> None:
        """
        Pass it on.
        """
        self.octets += len(data)
        self.other.write(data)

    def readConnectionLost(self) -> None:
        """
        This direction ended: half-close the other transport.  If it cannot be, it is closed when its own direction ends.
        """
        self._readEnded = True
        self.other.transport.unregisterProducer()   # a paused one would keep TCP from ending its direction
        self.other._endWriting()

    def writeConnectionLost(self) -> None:
        """
        The half-close of this transport is done; reading continues.
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
        This end is gone: close the other once everything written to it has left, or at once after an end that was not clean.
        """
        self._splice._lost(self, reason)


class Splice:
    """
    Two protocols that pass on to each other what they receive.

    Connect C{near} and C{far} to their transports (with C{makeConnection}, C{handOver}, or from a factory), in any order; what
    arrives before both are connected waits in its transport.

    @ivar near: a L{SpliceEnd}.
    @ivar far: the other L{SpliceEnd}.
    @ivar ended: called once, with the first reason, when both ends are gone.
    """

    def __init__(
        self, clock: IReactorTime, ended: Callable[[Failure], object] | None = None,
        end: Callable[[Splice], SpliceEnd] = SpliceEnd,
    ) -> None:
        """
        @param end: builds each of the two ends.
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
        One end will never be connected: close the other.
        """
        for end in (self.near, self.far):
            if end.transport is not None:
                end.transport.loseConnection()

    def _connected(self, end: SpliceEnd) -> None:
        self._open += 1
        if end.other.transport is None:
            end.producer.pauseProducing()
        elif self._reason is not None:        # the first end is gone already
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


def supportsHalfClose(transport: ITransport) -> bool:
    """
    Whether C{loseWriteConnection} may be called: not with Twisted's own TLS (it loses what is queued then), nor on a stream
    whose far side ends both directions.
    """
    if isinstance(transport, HalfCloseTLS):
        return True
    able = ITCPTransport.providedBy(transport) or IHalfCloseableDescriptor.providedBy(transport)   # the latter: pipes
    return able and not (ISSLTransport.providedBy(transport) or getattr(transport, "endsBothDirections", False))
