"""
The sending half of a stream: what waits to be sent, the records in it, and the producer that makes it.

Only the session's owner takes octets out, in the stream's turn and as far as the peer's credit goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tunnelstack.errors import UsageError
from tunnelstack.interfaces import IStreamOwner

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


class StreamSendQueue:
    """
    A queue of octets toward the peer, and what Twisted's transports let applications do with one.

    @ivar streamId: the stream's number in its session.
    @ivar connected: C{False} from the moment the end is certain; the protocol hears of it on a later turn.
    @ivar disconnecting: C{True} once the application has asked for the end and the queue is being flushed.
    @ivar queued: octets that wait to be sent.
    @ivar finishing: the queue is to be followed by the end of our direction.
    @ivar scheduled: whether the owner has this stream in its ring; only the owner sets it.
    """

    __slots__ = (
        "_offset",
        "_owner",
        "_producer",
        "_producerPaused",
        "_queue",
        "_records",
        "_streaming",
        "_writing",
        "connected",
        "disconnecting",
        "finishing",
        "queued",
        "scheduled",
        "streamId",
    )

    def __init__(self, owner: IStreamOwner, streamId: int) -> None:
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

    # ITransport

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

    # IConsumer

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

    def _endWriting(self) -> None:
        """
        No more writes: our end follows what is queued.
        """
        raise NotImplementedError

    def _call(self, method: Callable[[], object]) -> None:
        """
        Call an application's method that may fail.
        """
        raise NotImplementedError

    def _discard(self) -> None:
        """
        Nothing will be sent any more.
        """
        self._writing = False
        self._queue.clear()
        self.queued = self._offset = self._records = 0

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


def _toBytes(data: object) -> bytes:
    """
    @raise TypeError: C{data} is no kind of C{bytes}; transports take nothing else.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"a transport takes bytes, not {type(data).__name__}")
    return bytes(data)
