"""
One stream of a session as an honest Twisted transport: any protocol runs over it unchanged.

The transport keeps the queue of what waits to be sent and of what a paused application has not read; everything else (credit,
frames, fairness between streams) is its owner's, an L{IStreamOwner}.  The manners are TCP's: late writes vanish, a close waits
for the queue and for a registered producer, C{disconnecting} is there, and the protocol is never called from inside a call it
is making itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    ILoggingContext,
    IProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import UsageError
from tunnelstack.interfaces import IRecordTransport
from tunnelstack.stream.address import StreamAddress

if TYPE_CHECKING:
    from collections.abc import Iterable

HIGH = 128 * 1024
"""Octets queued above which a registered producer is paused."""

LOW = 32 * 1024
"""Octets queued at which it is resumed: two turns of a shared session, so that it is never idle for want of data."""

LARGEST_RECORD = 65524
"""Octets of the largest record: a frame and its header then fill one message of 64 KiB."""


class _Record(bytes):
    """
    Queued octets that travel alone in one frame.
    """

    __slots__ = ()


@implementer(ITCPTransport, IConsumer, IPushProducer, ILoggingContext, IRecordTransport)
class StreamTransport:
    """
    A stream, as its protocol sees it.

    @ivar protocol: who is told what arrives.
    @ivar connected: C{False} from the moment the end is certain; the protocol hears of it on a later turn.
    @ivar disconnecting: C{True} once the application has asked for the end and the queue is being flushed.
    @ivar address: the L{StreamAddress} of the other end, as far as it is known.
    @ivar host: what C{getHost} says, where somebody knows better than C{address}.
    @ivar streamId: the stream's number in its session.
    @ivar queued: octets that wait to be sent.
    @ivar finishing: the queue is to be followed by the end of our direction.
    @ivar readEnded: the peer's end has come; the protocol may yet have to hear of it.
    @ivar ringed: whether the owner has this stream in its ring; only the owner sets it.
    """

    __slots__ = (
        "__weakref__",
        "_fresh",
        "_offset",
        "_owner",
        "_paused",
        "_prepaid",
        "_producer",
        "_producerPaused",
        "_queue",
        "_readTold",
        "_records",
        "_streaming",
        "_waiting",
        "_writeEnded",
        "_writing",
        "address",
        "connected",
        "disconnecting",
        "finishing",
        "host",
        "protocol",
        "queued",
        "readEnded",
        "ringed",
        "streamId",
    )

    _log = Logger()

    def __init__(self, owner: Any, streamId: int, address: StreamAddress, protocol: IProtocol) -> None:
        self._owner = owner
        self.streamId = streamId
        self.address = address
        self.host: IAddress | None = None
        self.protocol: Any = protocol
        self.connected = True
        self.disconnecting = False
        self.finishing = False
        self.ringed = False
        self.queued = 0
        self._queue: list[bytes] = []
        self._offset = 0                      # octets of the first piece that are sent
        self._records = 0                     # how many pieces are records
        self._waiting: list[bytes] = []       # arrived, and held for a paused application
        self._prepaid = 0                     # octets of them that were acknowledged before
        self._paused = False
        self._fresh = False                   # a delivery of what waits is on its way
        self._producer: Any = None
        self._streaming = False
        self._producerPaused = False
        self._writing = True                  # writes are taken
        self._writeEnded = False              # our FIN is with the session
        self.readEnded = False               # the peer's FIN has come (it may wait behind held octets)
        self._readTold = False                # and the protocol knows

    # ITransport, out

    def write(self, data: bytes) -> None:
        """
        Queue octets.  Nothing happens after a close.

        @raise TypeError: not C{bytes}.
        """
        if data.__class__ is not bytes:
            data = _plain(data)
        if not self._writing or not data:
            return
        self._queue.append(data)
        self.queued += len(data)
        if not self.ringed:
            self._owner.ready(self)
        if self._producer is not None and not self._producerPaused:
            self._restrain()

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
        if not self.ringed:
            self._owner.ready(self)

    def loseConnection(self) -> None:
        """
        End the stream once a registered producer is done and everything queued is sent.
        """
        if self.disconnecting or not self.connected:
            return
        self.disconnecting = True
        self._abandonReading()
        if self._producer is None:
            self._finish()

    def loseWriteConnection(self) -> None:
        """
        End our direction once everything queued is sent; reading goes on.
        """
        if self.connected and self._writing:
            self._finish()

    def abortConnection(self) -> None:
        """
        Reset the stream at once; what is queued and what was not read is lost.
        """
        if self.connected:
            self._owner.reset(self.streamId)
            self.lost(Failure(ConnectionAborted()))

    def _finish(self) -> None:
        """
        No more writes: our end follows what is queued.
        """
        self._writing = False
        self.finishing = True
        if self._writeEnded:                  # half-closed earlier: nothing is left to wait for
            self.ended()
        elif not self.ringed:
            self._owner.ready(self)

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        As in L{IConsumer}; it is paused while more than L{HIGH} octets are queued or the whole session is full.

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
            self._restrain()
        else:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """
        As in L{IConsumer}; a close that waited for the producer goes on.
        """
        if self._producer is None:
            return
        self._producer = None
        if self.disconnecting and not self.finishing:
            self._finish()

    def _restrain(self) -> None:
        """
        Pause the streaming producer if too much waits here, or in the session.
        """
        full = self._owner.full
        if self._streaming and (full or self.queued > HIGH):
            self._producerPaused = True
            if full:
                self._owner.hold(self)
            self._producer.pauseProducing()

    def relieve(self) -> None:
        """
        From the owner: there is room again; let the producer go on if it was paused.
        """
        if self._producer is not None and self._producerPaused and self.queued <= LOW:
            if self._owner.full:
                self._owner.hold(self)
                return
            self._producerPaused = not self._streaming
            self._call(self._producer.resumeProducing)

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
            return self._takeBesideRecords(most)
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
            self.relieve()
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

    def _takeBesideRecords(self, most: int) -> bytes:
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
            self.relieve()
        return data

    def ended(self) -> None:
        """
        From the owner: our end is with the session, behind everything that was queued.
        """
        self._writeEnded = True
        if self.disconnecting or self._readTold:
            self.lost(Failure(ConnectionDone()))
        else:
            self._owner.soon(self._tellWriteEnded)

    def _tellWriteEnded(self) -> None:
        if self.connected and IHalfCloseableProtocol.providedBy(self.protocol):
            self._call(self.protocol.writeConnectionLost)

    # For the owner: receiving

    @property
    def held(self) -> int:
        """
        Octets that arrived and wait for a paused application.
        """
        return sum(map(len, self._waiting))

    def dataArrived(self, data: bytes) -> None:
        """
        From the owner: octets of the peer.  They count as consumed once the application was given them.
        """
        if self._paused or self._waiting:
            self._waiting.append(data)
            return
        self._owner.acknowledge(self.streamId, len(data))
        try:
            self.protocol.dataReceived(data)
        except Exception:
            self._broken(Failure())

    def endArrived(self) -> None:
        """
        From the owner: the peer's FIN.  A paused application is told when it goes on, behind what it has yet to read.
        """
        self.readEnded = True
        if not self._waiting and not self._paused and self.connected and not self.disconnecting:
            self._tellReadEnded()

    def _tellReadEnded(self) -> None:
        self._readTold = True
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self._call(self.protocol.readConnectionLost)
            if self._writeEnded and self.connected:
                self.lost(Failure(ConnectionDone()))
        else:
            self.loseConnection()

    def lost(self, reason: Failure) -> None:
        """
        The stream is over: told to the producer and to the protocol on a later turn.  Only the first reason counts.
        """
        if not self.connected:
            return
        self.connected = self._writing = False
        self._queue.clear()
        self._waiting.clear()
        self.queued = self._offset = self._records = 0
        self._owner.departed(self, reason)

    def tellLost(self, reason: Failure) -> None:
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

    def _call(self, method: Any) -> None:
        try:
            method()
        except Exception:
            self._broken(Failure())

    def _broken(self, reason: Failure) -> None:
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
        self.protocol = protocol
        protocol.makeConnection(self)
        if leftover and self.connected and not self.disconnecting:
            if self._paused or self._waiting:
                self._waiting.insert(0, leftover)
                self._prepaid = len(leftover)
            else:
                protocol.dataReceived(leftover)

    # IPushProducer: the application and what it is given

    def pauseProducing(self) -> None:
        """
        Hold what arrives: at most one window, since no credit goes back.
        """
        self._paused = True

    def resumeProducing(self) -> None:
        """
        Go on; what was held follows on a later turn.
        """
        self._paused = False
        if (self._waiting or (self.readEnded and not self._readTold)) and not self._fresh:
            self._fresh = True
            self._owner.soon(self._deliverWaiting)

    def stopProducing(self) -> None:
        """
        As in L{IPushProducer}: the consumer wants no more, for good.
        """
        self.loseConnection()

    def _deliverWaiting(self) -> None:
        """
        Give the application what was held, until it pauses again.
        """
        self._fresh = False
        waiting = self._waiting
        while waiting and not self._paused and self.connected and not self.disconnecting:
            data = waiting.pop(0)
            self._acknowledge(len(data))
            try:
                self.protocol.dataReceived(data)
            except Exception:
                self._broken(Failure())
        if self.readEnded and not self._readTold:
            self.endArrived()

    def _acknowledge(self, octets: int) -> None:
        prepaid = min(octets, self._prepaid)
        self._prepaid -= prepaid
        if octets > prepaid:
            self._owner.acknowledge(self.streamId, octets - prepaid)

    def _abandonReading(self) -> None:
        """
        Nothing more is told to the application; the session absorbs what still comes.
        """
        unread = self.held - self._prepaid
        self._waiting.clear()
        self._prepaid = 0
        self._owner.forget(self.streamId, unread)

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


def _plain(data: Any) -> bytes:
    """
    @raise TypeError: C{data} is no kind of C{bytes}; transports take nothing else.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
    return bytes(data)
