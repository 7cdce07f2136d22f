"""
One stream of a session as a Twisted transport: any protocol runs over it unchanged.

The transport keeps the queue of what waits to be sent and of what a paused application has not read; credit, frames and the
fairness between streams are the business of its owner, an L{IStreamOwner}.  It behaves as TCP's transports do: writes after the
end vanish, a close waits for the queue and for a registered producer, C{disconnecting} exists, and the protocol is never called
from inside a call that it is making.

Our direction, and that of the peer::

    writing --- loseConnection, loseWriteConnection ---> finishing --- the queue is sent ---> writeEnded
    reading --- the peer's FIN -----------------------> readEnded --- delivered -----------> readConnectionLost

The stream is over (C{lost}) when both have ended, on a reset from either side, and with the session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, cast

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IProducer,
    IProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import UsageError
from tunnelstack.interfaces import IRecordTransport, IStreamOwner
from tunnelstack.stream.address import StreamAddress
from tunnelstack.transport import handover
from tunnelstack.transport.octet_queue import cutOff
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.transport.stream_scheduler import LOW

LARGEST_RECORD = 65524
"""Octets of the largest record: a frame and its header then fill one message of 64 KiB."""

LEAST_PIECE = 4096
"""Octets up to which pieces that wait for a paused application are joined."""


class _Record(bytes):
    """
    Queued octets that travel alone in one frame.
    """

    __slots__ = ()


# The queue is part of this class and not a component.  The session reads C{queued} and calls C{take} for every frame:
# as an object of its own it made a frame cost 3 to 5 % more CPU time (100 and 16000 octets, over C{testing.sessionPair}).
@implementer(ITCPTransport, IConsumer, IPushProducer, ILoggingContext, IRecordTransport)
class StreamTransport:
    """
    A stream, as its protocol sees it.

    @ivar protocol: what receives the octets.
    @ivar streamId: the stream's number in its session.
    @ivar address: the L{StreamAddress} of the other end, as far as it is known.
    @ivar host: what C{getHost} returns, where more is known than C{address}.
    @ivar sharedTimer: for deadlines that are void when the session ends, a
        L{SharedTimer<tunnelstack.transport.shared_timer.SharedTimer>}.
    @ivar endsBothDirections: the far side ends both directions when one is ended: do not half-close while an answer is
        expected.
    @ivar connected: C{False} from the moment the end is certain; the protocol is called on a later turn.
    @ivar disconnecting: C{True} once the application has closed the stream, while the queue is being sent.
    @ivar queued: octets that wait to be sent.
    @ivar finishing: the end of our direction follows the queue.
    @ivar scheduled: whether the owner has this stream in its schedule; only the owner sets it.
    @ivar readEnded: the peer's FIN has arrived; the protocol may not have been called yet.
    @ivar writeEnded: our FIN was given to the session, after everything that was queued.
    @cvar heads: lists of fields that wait to be sent, of protocols that have them.
    """

    __slots__ = (
        "_acknowledged",
        "_deliveryScheduled",
        "_offset",
        "_owner",
        "_paused",
        "_producer",
        "_producerPaused",
        "_queue",
        "_readEndReported",
        "_records",
        "_streaming",
        "_undelivered",
        "_writing",
        "address",
        "connected",
        "disconnecting",
        "endsBothDirections",
        "finishing",
        "host",
        "protocol",
        "queued",
        "readEnded",
        "scheduled",
        "streamId",
        "writeEnded",
    )

    _log = Logger()
    heads = 0

    sharedTimer: SharedTimer = property(attrgetter("_owner.sharedTimer"))  # type: ignore[assignment]     # without a call

    def __init__(self, owner: IStreamOwner, streamId: int, address: StreamAddress, protocol: IProtocol) -> None:
        self._owner = owner
        self.streamId = streamId
        self.address = address
        self.host: IAddress | None = None
        self.endsBothDirections = False
        self.protocol: Any = protocol
        self.connected = True
        self.disconnecting = False
        self.finishing = False
        self.scheduled = False
        self.queued = 0
        self.writeEnded = False
        self.readEnded = False
        self._writing = True                  # writes are accepted
        self._queue: list[bytes] = []
        self._offset = 0                      # octets of the first piece that are sent
        self._records = 0                     # how many pieces are records
        self._producer: IPushProducer | None = None      # or a pull producer, unless it is streaming
        self._streaming = False
        self._producerPaused = False
        self._undelivered: list[bytes] | None = None      # received, and held for a paused application
        self._acknowledged = 0                # octets of them that were acknowledged before
        self._paused = False
        self._deliveryScheduled = False       # of what is held, on a later turn
        self._readEndReported = False         # to the protocol

    # ITransport: writing

    def write(self, data: bytes) -> None:
        """
        Queue octets.  Nothing happens after a close.

        @raise TypeError: they are not C{bytes}.
        """
        if data.__class__ is not bytes:
            data = _toBytes(data)
        if not self._writing or not data:
            return
        self._queue.append(data)
        self.queued += len(data)
        if not self.scheduled:
            self._owner.streamReady(self)
        if self._producer is not None and not self._producerPaused and (
            self.queued > self._owner.high or self._owner.full
        ):
            self._pauseProducer()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """
        Queue several pieces; they are joined once.
        """
        self.write(b"".join(iovec))

    def writeRecord(self, octets: bytes) -> None:
        """
        Queue octets that travel alone in one frame, neither split nor joined, once there is credit for all of them.

        @raise UsageError: it is empty, or has more than L{LARGEST_RECORD}.
        """
        if not 0 < len(octets) <= LARGEST_RECORD:
            raise UsageError("a record has between 1 and 65524 octets", octets=len(octets))
        if not self._writing:
            return
        self._queue.append(_Record(octets))
        self._records += 1
        self.queued += len(octets)
        if not self.scheduled:
            self._owner.streamReady(self)
        if self._producer is not None and not self._producerPaused:
            self._pauseProducer()

    # IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        The producer is paused while more than the owner's C{high} octets are queued, or the whole session is full.

        @raise RuntimeError: there is a producer already.
        """
        if self._producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self._producer!r} was never unregistered")
        if not self.connected or self.disconnecting:
            producer.stopProducing()
            return
        self._producer = cast(IPushProducer, producer)
        self._streaming = streaming
        self._producerPaused = not streaming
        if streaming:
            self._pauseProducer()
        else:
            self._producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """
        A close that waited for the producer continues.
        """
        if self._producer is None:
            return
        self._producer = None
        if self.disconnecting and not self.finishing:
            self._endWriting()

    def _pauseProducer(self) -> None:
        """
        Pause the streaming producer if too much waits here, or in the session.
        """
        full = self._owner.full
        producer = self._producer
        if producer is not None and self._streaming and (full or self.queued > self._owner.high):
            self._producerPaused = True
            if full:
                self._owner.waitForCapacity(self)
            producer.pauseProducing()

    def resumeProducer(self) -> None:
        """
        For the owner: there is room again; resume the producer if it was paused.
        """
        if self._producer is not None and self._producerPaused and self.queued <= LOW:
            if self._owner.full:
                self._owner.waitForCapacity(self)
                return
            self._producerPaused = not self._streaming
            self._call(self._producer.resumeProducing)

    def immediateWrite(self) -> Callable[[bytes], object]:
        """
        @return: a C{write} for callers that write once a turn; see
            L{immediateWrite<tunnelstack.transport.direct_write.immediateWrite>}.
        """
        return self._writeEarly

    def _writeEarly(self, data: bytes) -> None:
        self.write(data)
        if self._owner.eager:
            self._owner.flushEarly()

    # ITransport: the end of writing

    def loseConnection(self) -> None:
        """
        End the stream once a registered producer has finished and everything queued is sent.
        """
        if self.disconnecting or not self.connected:
            return
        self.disconnecting = True
        # nothing to do where nothing waits in either direction: our FIN is about to leave
        if self.queued or self._undelivered or self._producer or (self.writeEnded and not self.readEnded):
            self._discardUnread()
        if self._producer is None or not self._writing:     # after a half-close it produces for nothing
            self._endWriting()

    def loseWriteConnection(self) -> None:
        """
        End our direction once everything queued is sent; reading continues.
        """
        if self.connected and self._writing:
            self._endWriting()

    def abortConnection(self) -> None:
        """
        Reset the stream at once; what is queued and what was not read are lost.
        """
        if self.connected:
            self._owner.reset(self.streamId)
            self.lost(Failure(ConnectionAborted()))

    def _endWriting(self) -> None:
        """
        Accept no more writes; our FIN follows what is queued.
        """
        self._writing = False
        self.finishing = True
        if self.writeEnded:                   # half-closed earlier: there is nothing to wait for
            self.endSent()
        elif not self.scheduled:
            self._owner.streamReady(self)

    # For the owner: sending

    def sendHeads(self) -> int:
        """
        @return: C{0}: only streams of other protocols have heads.
        """
        return 0

    @property
    def recordNext(self) -> int:
        """
        Octets of the record that is next in the queue; C{0} if there is none.
        """
        return len(self._queue[0]) if self._records and self._queue[0].__class__ is _Record else 0

    def take(self, most: int) -> bytes:
        """
        Remove octets from the queue for one frame.

        @param most: how many at most; at least 1.
        @return: the octets; none if the next piece is a record that is larger.
        """
        if self._records:
            return self._takePiece(most)
        queue, queued = self._queue, self.queued
        if queued <= most:
            if self._offset:
                queue[0] = queue[0][self._offset:]
                self._offset = 0
            data = queue[0] if len(queue) == 1 else b"".join(queue)
            queue.clear()
            self.queued = 0
        else:
            data, self._offset = cutOff(queue, self._offset, most)
            self.queued -= most
        if self._producerPaused and self.queued <= LOW:
            self.resumeProducer()
        return data

    def _takePiece(self, most: int) -> bytes:
        """
        Like L{take}, for a queue in which there are records: one piece at a time.
        """
        first = self._queue[0]
        if first.__class__ is _Record:
            if len(first) > most:
                return b""
            self._records -= 1
            data = bytes(first)
        else:
            data = first[self._offset:self._offset + most]
            self._offset += len(data)
        if first.__class__ is _Record or self._offset == len(first):
            del self._queue[0]
            self._offset = 0
        self.queued -= len(data)
        if self._producerPaused and self.queued <= LOW:
            self.resumeProducer()
        return data

    # For the owner: how our direction ended, and what the peer sends

    def endSent(self) -> None:
        """
        Our FIN was given to the session, after everything that was queued.
        """
        self.writeEnded = True
        if self.disconnecting or self._readEndReported:
            self.lost(connectionDone)
        else:
            self._owner.callNextTurn(self._reportWriteEnded)

    def _reportWriteEnded(self) -> None:
        if self.connected and IHalfCloseableProtocol.providedBy(self.protocol):
            self._call(self.protocol.writeConnectionLost)

    @property
    def held(self) -> int:
        """
        Octets that were received and wait for a paused application.
        """
        return sum(map(len, self._undelivered or ()))

    @property
    def paused(self) -> bool:
        """
        Whether the application has paused reading.
        """
        return self._paused

    def deliverData(self, data: bytes) -> None:
        """
        Octets of the peer.  They count as consumed once the application has received them.
        """
        if self._paused or self._undelivered:
            self._keep(data)
            return
        self._owner.acknowledge(self.streamId, len(data))
        try:
            self.protocol.dataReceived(data)
        except Exception:
            self._protocolFailed(Failure())

    def _keep(self, data: bytes) -> None:
        """
        Keep octets for later.  Small pieces are joined, so that they take about as much memory as they have octets.
        """
        waiting = self._undelivered
        if waiting is None:
            self._undelivered = [data]
        elif waiting and len(waiting[-1]) + len(data) <= LEAST_PIECE:
            waiting[-1] += data
        else:
            waiting.append(data)

    def deliverEnd(self) -> None:
        """
        The peer's FIN.  A paused application is called when it resumes, after the data that it has yet to read.
        """
        self.readEnded = True
        if not self._undelivered and not self._paused and self.connected and not self.disconnecting:
            self._reportReadEnded()

    def _reportReadEnded(self) -> None:
        self._readEndReported = True
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self._call(self.protocol.readConnectionLost)
            if self.writeEnded and self.connected:
                self.lost(connectionDone)
        else:
            if self._producer is not None and self._streaming:
                producer, self._producer = self._producer, None
                self._call(producer.stopProducing)   # as TCP does: it may produce as long as it is connected
            self.loseConnection()

    def lost(self, reason: Failure) -> None:
        """
        The stream is over: the owner calls L{reportLost} on a later turn.  Only the first reason counts.
        """
        if not self.connected:
            return
        self.connected = self._writing = False
        if self.queued:
            self._queue.clear()
            self.queued = self._offset = self._records = 0
        self._undelivered = None
        if self._paused:
            self._paused = False
            self._owner.paused -= 1
        self._owner.streamLost(self, reason)

    def reportLost(self, reason: Failure) -> None:
        """
        Tell the producer and the protocol that the stream is over.
        """
        producer, self._producer = self._producer, None
        try:
            if producer is not None:
                producer.stopProducing()
        except Exception:
            self._log.failure("producer of stream {stream} failed when stopped", stream=self.streamId)
        try:
            self.protocol.connectionLost(reason)
        except Exception:
            self._log.failure("{protocol} failed in connectionLost", protocol=self.logPrefix())
        self.protocol = _NULL_PROTOCOL               # leaves no reference cycle

    def _call(self, method: Callable[[], object]) -> None:
        """
        Call a method of the application, which may fail.
        """
        try:
            method()
        except Exception:
            self._protocolFailed(Failure())

    def _protocolFailed(self, reason: Failure) -> None:
        """
        The application raised an exception: its stream is reset, and no other is affected.
        """
        self._log.failure(
            "{protocol} on stream {stream} of {key} failed", failure=reason, protocol=self.logPrefix(),
            stream=self.streamId, key=self.address.key,
        )
        if self.connected:
            self._owner.reset(self.streamId)
            self.lost(reason)

    # A change of protocol

    handOver = handover.handOver

    def redeliver(self, leftover: bytes) -> None:
        """
        As in L{SwitchableTransport<tunnelstack.transport.handover.SwitchableTransport>}.
        """
        if not self.connected or self.disconnecting:
            return
        if self._paused or self._undelivered:
            self._undelivered = [leftover, *(self._undelivered or ())]
            self._acknowledged += len(leftover)      # when they were delivered for the first time
        else:
            self.protocol.dataReceived(leftover)

    # IPushProducer: the reading half

    def pauseProducing(self) -> None:
        """
        Hold what arrives: at most one window, since no more credit is sent.
        """
        if self.connected and not self._paused:
            self._paused = True
            self._owner.paused += 1

    def resumeProducing(self) -> None:
        """
        What was held follows on a later turn.
        """
        if self._paused:
            self._paused = False
            self._owner.paused -= 1
        if (self._undelivered or (self.readEnded and not self._readEndReported)) and not self._deliveryScheduled:
            self._deliveryScheduled = True
            self._owner.callNextTurn(self._deliverHeld)

    def stopProducing(self) -> None:
        self.loseConnection()

    def _deliverHeld(self) -> None:
        """
        Deliver what was held, until the application pauses again.
        """
        self._deliveryScheduled = False
        while self._undelivered and not self._paused and self.connected and not self.disconnecting:
            data = self._undelivered.pop(0)
            self._acknowledge(len(data))
            try:
                self.protocol.dataReceived(data)
            except Exception:
                self._protocolFailed(Failure())
        if not self._undelivered:
            self._undelivered = None
        if self.readEnded and not self._readEndReported:
            self.deliverEnd()

    def _acknowledge(self, octets: int) -> None:
        acknowledged = min(octets, self._acknowledged)
        self._acknowledged -= acknowledged
        if octets > acknowledged:
            self._owner.acknowledge(self.streamId, octets - acknowledged)

    def _discardUnread(self) -> None:
        """
        Nothing more is delivered; the session absorbs what still arrives.
        """
        unread = 0
        if self._undelivered:
            unread = self.held - self._acknowledged
            self._undelivered = None
            self._acknowledged = 0
        self._owner.stopReading(self, unread)

    # Addresses, and what protocols made for TCP expect

    def getPeer(self) -> Any:
        """
        The visitor on whose behalf the stream was opened where that is known, else the stream's L{StreamAddress}.
        """
        return self.address.visitor or self.address

    def getHost(self) -> Any:
        """
        The tunnel's public side where that is known, else the stream's L{StreamAddress}.
        """
        return self.host or self.address

    def logPrefix(self) -> str:
        if ILoggingContext.providedBy(self.protocol):
            return str(self.protocol.logPrefix())
        return type(self.protocol).__name__

    def getTcpNoDelay(self) -> bool:
        """
        Always true: a stream never delays octets to collect more.
        """
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Has no effect.
        """

    def getTcpKeepAlive(self) -> bool:
        """
        Always true: the session sends pings.
        """
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """
        Has no effect.
        """


_NULL_PROTOCOL = Protocol()
"""The protocol of a stream that is over."""


def _toBytes(data: Any) -> bytes:
    """
    @raise TypeError: C{data} is not C{bytes}, nor of a subclass.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
    return bytes(data)
