"""
One stream of a session as an honest Twisted transport: any protocol runs over it unchanged.

The transport keeps the queue of what waits to be sent and of what a paused application has not read; everything else (credit,
frames, fairness between streams) is its owner's, an L{IStreamOwner}.  The manners are TCP's: late writes vanish, a close waits
for the queue and for a registered producer, C{disconnecting} is there, and the protocol is never called from inside a call it
is making itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
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

HIGH = 128 * 1024
"""Octets queued above which a registered producer is paused."""

LOW = 32 * 1024
"""Octets queued at which it is resumed: two turns of a shared session, so that it is never idle for want of data."""

LARGEST_RECORD = 65524
"""Octets of the largest record: a frame and its header then fill one message of 64 KiB."""

LEAST_PIECE = 4096
"""Octets up to which pieces that wait for a paused application are joined."""


class _Record(bytes):
    """
    Queued octets that travel alone in one frame.
    """

    __slots__ = ()


@implementer(ITCPTransport, IConsumer, IPushProducer, ILoggingContext, IRecordTransport)
class StreamTransport:
    """
    A stream, as its protocol sees it.

    @ivar streamId: the stream's number in its session.
    @ivar connected: C{False} from the moment the end is certain; the protocol is told on a later turn.
    @ivar disconnecting: C{True} once the application has asked for the end and the queue is being flushed.
    @ivar queued: octets that wait to be sent.
    @ivar finishing: the queue is to be followed by the end of our direction.
    @ivar scheduled: whether the owner has this stream among those that are ready; only the owner sets it.
    @ivar protocol: what is given the octets that arrive.
    @ivar address: the L{StreamAddress} of the other end, as far as it is known.
    @ivar sharedTimer: who tells of deadlines as long as the session lasts, a
        L{SharedTimer<tunnelstack.transport.shared_timer.SharedTimer>}.
    @ivar host: what C{getHost} says, where somebody knows better than C{address}.
    @ivar readEnded: the peer's end has come; the protocol may yet have to hear of it.
    @ivar writeEnded: our end is with the session, behind all that was queued.
    @ivar endsBothDirections: the far side ends both directions when one is ended: nobody should end one who waits for an
        answer.
    """

    __slots__ = (
        "__weakref__",
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
        "sharedTimer",
        "streamId",
        "writeEnded",
    )

    _log = Logger()

    def __init__(self, owner: IStreamOwner, streamId: int, address: StreamAddress, protocol: IProtocol) -> None:
        self._owner = owner
        self.streamId = streamId
        self.connected = True
        self.disconnecting = False
        self.finishing = False
        self.scheduled = False
        self.queued = 0
        self._writing = True                  # writes are taken
        self._queue: list[bytes] = []
        self._offset = 0                      # octets of the first piece that are sent
        self._records = 0                     # how many pieces are records
        self._producer: Any = None            # an L{IPushProducer} if C{_streaming}, else an L{IPullProducer}
        self._streaming = False
        self._producerPaused = False
        self.address = address
        self.sharedTimer = owner.sharedTimer
        self.endsBothDirections = False
        self.host: IAddress | None = None
        self.protocol: Any = protocol
        self._undelivered: list[bytes] = []       # arrived, and held for a paused application
        self._acknowledged = 0                     # octets of them that were acknowledged before
        self._paused = False
        self._deliveryScheduled = False                   # a delivery of what waits is on its way
        self.writeEnded = False               # our FIN is with the session
        self.readEnded = False                # the peer's FIN has come (it may wait behind held octets)
        self._readEndReported = False                # and the protocol knows

    def immediateWrite(self) -> Callable[[bytes], object]:
        """
        @return: a C{write} for those who have collected; see
            L{immediateWrite<tunnelstack.transport.direct_write.immediateWrite>}.
        """
        return self._writeEarly

    def _writeEarly(self, data: bytes) -> None:
        self.write(data)
        self._owner.flushEarly()

    # ITransport and IConsumer: what is to be sent

    def write(self, data: bytes) -> None:
        """
        Queue octets.  Nothing happens after a close.

        @raise TypeError: not C{bytes}.
        """
        if data.__class__ is not bytes:
            data = _toBytes(data)
        if not self._writing or not data:
            return
        self._queue.append(data)
        self.queued += len(data)
        if not self.scheduled:
            self._owner.streamReady(self)
        if self._producer is not None and not self._producerPaused:
            self._pauseProducer()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """
        Queue several pieces; they are joined once.
        """
        self.write(b"".join(iovec))

    def writeRecord(self, octets: bytes) -> None:
        """
        Queue octets that travel alone in one frame, neither split nor joined, once there is credit for all of them.

        @raise UsageError: none, or more than L{LARGEST_RECORD}.
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

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        As in C{IConsumer}; it is paused while more than the owner's C{high} octets are queued or the whole session is full.

        @raise RuntimeError: there is a producer already.
        """
        if self._producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self._producer!r} was never unregistered")
        if not self.connected or self.disconnecting:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._producerPaused = not streaming
        if streaming:
            self._pauseProducer()
        else:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """
        As in C{IConsumer}; a close that waited for the producer goes on.
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
        if self._streaming and (full or self.queued > self._owner.high):
            self._producerPaused = True
            if full:
                self._owner.waitForCapacity(self)
            self._producer.pauseProducing()

    def resumeProducer(self) -> None:
        """
        From the owner: there is room again; let the producer go on if it was paused.
        """
        if self._producer is not None and self._producerPaused and self.queued <= LOW:
            if self._owner.full:
                self._owner.waitForCapacity(self)
                return
            self._producerPaused = not self._streaming
            self._call(self._producer.resumeProducing)

    def _discard(self) -> None:
        """
        Nothing will be sent any more.
        """
        self._writing = False
        self._queue.clear()
        self.queued = self._offset = self._records = 0

    # ITransport: the end of writing

    def loseConnection(self) -> None:
        """
        End the stream once a registered producer is done and everything queued is sent.
        """
        if self.disconnecting or not self.connected:
            return
        self.disconnecting = True
        self._discardUnread()
        if self._producer is None or not self._writing:     # after a half-close it produces for nobody
            self._endWriting()

    def loseWriteConnection(self) -> None:
        """
        End our direction once everything queued is sent; reading goes on.
        """
        if self.connected and self._writing:
            self._endWriting()

    def abortConnection(self) -> None:
        """
        Reset the stream at once; what is queued and what was not read is lost.
        """
        if self.connected:
            self._owner.reset(self.streamId)
            self.lost(Failure(ConnectionAborted()))

    def _endWriting(self) -> None:
        """
        No more writes: our end follows what is queued.
        """
        self._writing = False
        self.finishing = True
        if self.writeEnded:                   # half-closed earlier: nothing is left to wait for
            self.endSent()
        elif not self.scheduled:
            self._owner.streamReady(self)

    # For the owner: sending

    @property
    def recordNext(self) -> int:
        """
        Octets of the record that is next in the queue; C{0} if none is.
        """
        return len(self._queue[0]) if self._records and self._queue[0].__class__ is _Record else 0

    def take(self, most: int) -> bytes:
        """
        Remove octets from the queue for one frame.

        @param most: how many at most; at least 1.
        @return: the octets; none if a record is next that is larger.
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
            data = self._slice(most)
        if self._producerPaused and self.queued <= LOW:
            self.resumeProducer()
        return data

    def _slice(self, most: int) -> bytes:
        """
        Cut C{most} octets off a queue that holds more.
        """
        queue, offset = self._queue, self._offset
        first = queue[0]
        if len(first) - offset < most:        # joined once, then cut by offset
            if offset:
                queue[0] = first[offset:]
            first = b"".join(queue)
            self._queue = queue = [first]
            offset = 0
        data = first[offset:offset + most]
        offset += most
        if offset == len(first):
            del queue[0]
            offset = 0
        self._offset = offset
        self.queued -= most
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

    # For the owner: ends, and what arrives

    def endSent(self) -> None:
        """
        From the owner: our end is with the session, behind everything that was queued.
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
        Octets that arrived and wait for a paused application.
        """
        return sum(map(len, self._undelivered))

    @property
    def paused(self) -> bool:
        """
        Whether the application does not read.
        """
        return self._paused

    def deliverData(self, data: bytes) -> None:
        """
        From the owner: octets of the peer.  They count as consumed once the application was given them.
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
        Hold what arrived.  Small pieces are joined, so that they cost about as much memory as they have octets.
        """
        waiting = self._undelivered
        if waiting and len(waiting[-1]) + len(data) <= LEAST_PIECE:
            waiting[-1] += data
        else:
            waiting.append(data)

    def deliverEnd(self) -> None:
        """
        From the owner: the peer's FIN.  A paused application is told when it goes on, behind what it has yet to read.
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
                self._call(producer.stopProducing)   # as TCP does; it may be one that produces as long as it is connected
            self.loseConnection()

    def lost(self, reason: Failure) -> None:
        """
        The stream is over: told to the producer and to the protocol on a later turn.  Only the first reason counts.
        """
        if not self.connected:
            return
        self.connected = False
        self._discard()
        self._undelivered.clear()
        if self._paused:
            self._paused = False
            self._owner.paused -= 1
        self._owner.streamLost(self, reason)

    def reportLost(self, reason: Failure) -> None:
        """
        From the owner, on a later turn: tell the producer and the protocol.
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
        self.protocol = _NULL_PROTOCOL               # no ring of references is left for the collector to find

    def _call(self, method: Callable[[], object]) -> None:
        try:
            method()
        except Exception:
            self._protocolFailed(Failure())

    def _protocolFailed(self, reason: Failure) -> None:
        """
        The application raised: its stream is reset, and nothing else is touched.
        """
        self._log.failure(
            "{protocol} on stream {stream} of {key} failed", failure=reason, protocol=self.logPrefix(),
            stream=self.streamId, key=self.address.key,
        )
        if self.connected:
            self._owner.reset(self.streamId)
            self.lost(reason)

    def handOver(self, protocol: IProtocol, leftover: bytes = b"") -> None:
        """
        Give the stream to another protocol; the present one is out of the path.

        @param leftover: octets of the peer that the present protocol was given and that belong to the next one.
        """
        replaceProtocol = getattr(self.protocol, "replaceProtocol", None)
        if replaceProtocol is None:
            self.protocol = protocol
        else:
            replaceProtocol(protocol)             # it takes an answer off what arrives first, on behalf of who writes already
        protocol.makeConnection(self)
        if leftover:
            self.redeliver(leftover)

    def redeliver(self, leftover: bytes) -> None:
        """
        Give the protocol, before anything that is yet to come, octets that a former one was given and did not need.
        """
        if self.connected and not self.disconnecting:
            if self._paused or self._undelivered:
                self._undelivered.insert(0, leftover)
                self._acknowledged += len(leftover)
            else:
                self.protocol.dataReceived(leftover)

    # IPushProducer: the application and what it is given

    def pauseProducing(self) -> None:
        """
        Hold what arrives: at most one window, since no credit goes back.
        """
        if self.connected and not self._paused:
            self._paused = True
            self._owner.paused += 1

    def resumeProducing(self) -> None:
        """
        Go on; what was held follows on a later turn.
        """
        if self._paused:
            self._paused = False
            self._owner.paused -= 1
        if (self._undelivered or (self.readEnded and not self._readEndReported)) and not self._deliveryScheduled:
            self._deliveryScheduled = True
            self._owner.callNextTurn(self._deliverHeld)

    def stopProducing(self) -> None:
        """
        As in L{IPushProducer}: the consumer wants no more, for good.
        """
        self.loseConnection()

    def _deliverHeld(self) -> None:
        """
        Give the application what was held, until it pauses again.
        """
        self._deliveryScheduled = False
        waiting = self._undelivered
        while waiting and not self._paused and self.connected and not self.disconnecting:
            data = waiting.pop(0)
            self._acknowledge(len(data))
            try:
                self.protocol.dataReceived(data)
            except Exception:
                self._protocolFailed(Failure())
        if self.readEnded and not self._readEndReported:
            self.deliverEnd()

    def _acknowledge(self, octets: int) -> None:
        acknowledged = min(octets, self._acknowledged)
        self._acknowledged -= acknowledged
        if octets > acknowledged:
            self._owner.acknowledge(self.streamId, octets - acknowledged)

    def _discardUnread(self) -> None:
        """
        Nothing more is told to the application; the session absorbs what still comes.
        """
        if (self.readEnded or not self.writeEnded) and not (self.queued or self._undelivered or self._producer):
            return                            # nothing waits for anybody: the end of the stream is about to leave
        unread = 0
        if self._undelivered:
            unread = self.held - self._acknowledged
            self._undelivered.clear()
            self._acknowledged = 0
        self._owner.stopReading(self, unread)

    # Who is who

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
        """
        As in L{ILoggingContext}.
        """
        if ILoggingContext.providedBy(self.protocol):
            return str(self.protocol.logPrefix())
        return type(self.protocol).__name__

    def getTcpNoDelay(self) -> bool:
        """
        Always true: a stream never waits for more octets.
        """
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Nothing to do; protocols made for TCP ask for it.
        """

    def getTcpKeepAlive(self) -> bool:
        """
        Always true: the session is kept alive.
        """
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """
        Nothing to do; protocols made for TCP ask for it.
        """


def _toBytes(data: object) -> bytes:
    """
    @raise TypeError: C{data} is no kind of C{bytes}; transports take nothing else.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
    return bytes(data)


_NULL_PROTOCOL = Protocol()
"""The protocol of a stream that is over."""
