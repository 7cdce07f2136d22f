"""
One stream of an HTTP/2 connection, as its application sees it: one request and its response.

The stream keeps the queue of what waits to be sent, and what arrived while its application had paused it.  Credit, frames and
the fairness between streams are the business of the connection's scheduler
(L{tunnelstack.transport.stream_scheduler}).

Our direction, and that of the peer::

    sendHeaders -> write ... -> end ----- the queue is sent -----> writeEnded
    headersReceived -> dataReceived ... -> ended(trailers) ------> readEnded and reported

The stream is over when both have ended (C{closed}), on a reset from either side, and with the connection (C{failed}).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast

from twisted.internet.interfaces import IAddress, IConsumer, IProducer, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import UsageError
from tunnelstack.interfaces import IHTTP2Receiver, IStreamOwner
from tunnelstack.transport.http2.errors import HTTP2StreamFailed, HTTP2StreamReset, NoFreeStream
from tunnelstack.transport.octet_queue import cutOff
from tunnelstack.transport.stream_scheduler import LOW
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.http2.connection import HTTP2Machine
from tunnelstack.wire.http2.events import Fields

LEAST_PIECE = 4096
"""Octets up to which pieces that wait for a paused application are joined."""


@implementer(IHTTP2Receiver)
class _NoReceiver:
    """
    The receiver of a stream that nobody receives.
    """

    def informational(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        pass

    def headersReceived(self, fields: Sequence[tuple[bytes, bytes]], ended: bool) -> None:
        pass

    def dataReceived(self, octets: bytes) -> None:
        pass

    def ended(self, trailers: Sequence[tuple[bytes, bytes]]) -> None:
        pass

    def closed(self) -> None:
        pass

    def failed(self, reason: Exception) -> None:
        pass


_UNRECEIVED = _NoReceiver()


@implementer(IConsumer, IPushProducer)
class HTTP2Stream:
    """
    A stream.

    @ivar streamId: its number.
    @ivar receiver: receives the peer's message, an L{IHTTP2Receiver}; it may be replaced.
    @ivar connected: C{False} from the moment the end is certain; the receiver is told on a later turn.
    @ivar queued: octets of the body that wait to be sent.
    @ivar heads: lists of fields that wait to be sent before them.
    @ivar finishing: the end of our direction follows the queue.
    @ivar scheduled: whether the scheduler has this stream in its ring; only the scheduler sets it.
    @ivar readEnded: the peer's direction has ended; the receiver may not have been told yet.
    @ivar writeEnded: the end of our direction was given to the connection.
    """

    __slots__ = (
        "__weakref__",
        "_core",
        "_deliveryScheduled",
        "_discarding",
        "_endReported",
        "_endsWithHead",
        "_getHost",
        "_getPeer",
        "_headSent",
        "_heads",
        "_offset",
        "_owner",
        "_paused",
        "_producer",
        "_producerPaused",
        "_queue",
        "_streaming",
        "_trailers",
        "_undelivered",
        "_undeliveredHeads",
        "connected",
        "finishing",
        "heads",
        "queued",
        "readEnded",
        "receiver",
        "scheduled",
        "streamId",
        "writeEnded",
    )

    _log = Logger()
    recordNext = 0

    def __init__(
        self, owner: IStreamOwner, core: HTTP2Machine, streamId: int,
        getPeer: Callable[[], IAddress], getHost: Callable[[], IAddress],
    ) -> None:
        """
        @param owner: the scheduler.
        @param core: knows the stream.
        """
        self._owner = owner
        self._core = core
        self._getPeer = getPeer
        self._getHost = getHost
        self.streamId = streamId
        self.receiver: IHTTP2Receiver = _UNRECEIVED
        self.connected = True
        self.finishing = self.scheduled = self.readEnded = self.writeEnded = False
        self.heads = self.queued = 0
        self._heads: list[Fields] = []
        self._headSent = self._endsWithHead = False
        self._queue: list[bytes] = []
        self._offset = 0                      # octets of the first piece that are sent
        self._trailers: Fields = []           # the peer's, until they are delivered
        self._producer: IPushProducer | None = None      # or a pull producer, unless it is streaming
        self._streaming = self._producerPaused = False
        self._undeliveredHeads: list[tuple[Fields, bool | None]] = []     # with whether it ended; C{None}: informational
        self._undelivered: list[bytes] = []
        self._paused = self._deliveryScheduled = self._endReported = False
        self._discarding = False                # what the peer still sends is dropped

    # Sending

    def sendInformational(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """
        Send the head of an interim response (1xx but 101).

        @raise UsageError: after the final head.
        """
        if self._headSent:
            raise UsageError("an interim response after the final head", stream=self.streamId)
        self._queueHead(list(fields))

    def sendHeaders(self, fields: Iterable[tuple[bytes, bytes]], endStream: bool = False) -> None:
        """
        Send the head of the message, once.

        @param fields: the pseudo-fields first; names in lower case.
        @param endStream: there is neither a body nor trailers.
        @raise UsageError: it was sent before.
        """
        if self._headSent:
            raise UsageError("the head was sent before", stream=self.streamId)
        self._headSent = True
        self._queueHead(list(fields))
        if endStream:
            self._endsWithHead = True
            self.end()

    def _queueHead(self, fields: Fields) -> None:
        if self.connected:
            self._heads.append(fields)
            self.heads += 1
            if not self.scheduled:
                self._owner.streamReady(self)

    def write(self, data: bytes) -> None:
        """
        Queue octets of the body.  Nothing happens after the end.

        @raise UsageError: before the head.
        """
        if not self._headSent:
            raise UsageError("a body before the head", stream=self.streamId)
        if self.finishing or not self.connected or not data:
            return
        self._queue.append(bytes(data))
        self.queued += len(data)
        if not self.scheduled:
            self._owner.streamReady(self)
        if self._producer is not None and not self._producerPaused:
            self._pauseProducer()

    def end(self, trailers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """
        End our direction after what is queued.  Nothing happens if it has ended.

        @raise UsageError: before the head.
        """
        if not self._headSent:
            raise UsageError("the end of a message before its head", stream=self.streamId)
        if self.finishing or not self.connected:
            return
        fields = list(trailers)
        if fields:
            self._core.set_trailers(self.streamId, fields)
        self.finishing = True
        if not self.scheduled:
            self._owner.streamReady(self)

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        """
        End both directions at once.  The receiver is not called any more.
        """
        self.receiver = _UNRECEIVED
        if self.connected:
            self._reset(code)
            self.lost(Failure(HTTP2StreamReset("the stream was reset by this side", code)))

    def _reset(self, code: int) -> None:
        self._core.reset_stream(self.streamId, code)
        self._owner.reset(self.streamId)      # sends it

    def stopReading(self) -> None:
        """
        Drop what the peer still sends.  When our direction has ended and its has not, the stream is reset with C{NO_ERROR},
        which asks a client to send no more of a request that was answered.
        """
        if not self._discarding:
            self._discarding = True
            self._dropUndelivered()
            if self.writeEnded:
                self.endSent()

    @property
    def ended(self) -> bool:
        """
        Whether L{end} was called.
        """
        return self.finishing

    @property
    def isOver(self) -> bool:
        """
        Whether both directions have ended, or the stream was reset.
        """
        return not self.connected

    def callNextTurn(self, call: Callable[..., object], *arguments: object) -> None:
        """
        Call a function of the application on a later turn of the reactor.
        """
        self._owner.callNextTurn(self._call, call, *arguments)

    # IConsumer

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """
        The producer is paused while more than the owner's C{high} octets are queued, or the whole connection is full.

        @raise RuntimeError: there is a producer already.
        """
        if self._producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self._producer!r} was never unregistered")
        if not self.connected or self.finishing:
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
        The producer has finished.
        """
        self._producer = None

    def _pauseProducer(self) -> None:
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

    # For the owner: sending

    def sendHeads(self) -> int:
        """
        Give the heads to the core: the last one with the end of our direction, if that was requested with it.  A head whose
        body turned out to be empty ends by a frame of its own: servers of gRPC wait for that.

        @return: octets that they take.
        """
        heads, self._heads = self._heads, []
        self.heads = 0
        octets = 0
        last = len(heads) - 1
        for number, fields in enumerate(heads):
            end = number == last and self._endsWithHead
            sent = self._core.send_head(self.streamId, fields, end)
            if sent < 0:
                self.lost(Failure(NoFreeStream("the peer accepts fewer streams than before")))
                break
            octets += sent
        return octets

    def take(self, most: int) -> bytes:
        """
        Remove octets from the queue for one frame.

        @param most: how many at most; at least 1.
        """
        queue = self._queue
        if self.queued <= most:
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

    def endSent(self) -> None:
        """
        The end of our direction was given to the connection.
        """
        self.writeEnded = True
        if not self.connected:
            return
        if self._endReported or (self._discarding and self.readEnded):
            self.lost(connectionDone)
        elif self._discarding:
            self._reset(ErrorCode.NO_ERROR)
            self.lost(connectionDone)

    # For the connection: what arrived

    def deliverInformational(self, fields: Fields) -> None:
        """
        An interim response.
        """
        if self.deliveryBlocked:
            self._undeliveredHeads.append((fields, None))
        elif not self._discarding:
            self._call(self.receiver.informational, fields)

    def deliverHead(self, fields: Fields, ended: bool) -> None:
        """
        The peer's head.
        """
        if self.deliveryBlocked:
            self._undeliveredHeads.append((fields, ended))
        elif not self._discarding:
            self._call(self.receiver.headersReceived, fields, ended)

    def deliverData(self, data: bytes) -> None:
        """
        Octets of the peer's body.  They count as consumed once the receiver has them.
        """
        if self.deliveryBlocked:
            self._keep(data)
            return
        self._owner.acknowledge(self.streamId, len(data))
        if not self._discarding:
            self._call(self.receiver.dataReceived, data)

    def deliverTrailers(self, trailers: Fields) -> None:
        """
        The end of the peer's direction.
        """
        self.readEnded = True
        self._trailers = trailers
        if not self.deliveryBlocked:
            self._reportEnd()

    def _reportEnd(self) -> None:
        self._endReported = True
        trailers, self._trailers = self._trailers, []
        if not self._discarding:
            self._call(self.receiver.ended, trailers)
        if self.writeEnded and self.connected:
            self.lost(connectionDone)

    def _keep(self, data: bytes) -> None:
        waiting = self._undelivered
        if waiting and len(waiting[-1]) + len(data) <= LEAST_PIECE:
            waiting[-1] += data
        else:
            waiting.append(data)

    @property
    def held(self) -> int:
        """
        Octets that were received and wait for a paused receiver.
        """
        return sum(map(len, self._undelivered))

    @property
    def paused(self) -> bool:
        """
        Whether the application has paused reading.
        """
        return self._paused

    @property
    def deliveryBlocked(self) -> bool:
        """
        Whether nothing may be delivered now: it is paused, or something else waits.
        """
        return self._paused or bool(self._undelivered or self._undeliveredHeads)

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
        if (self._undelivered or self._undeliveredHeads or (self.readEnded and not self._endReported)) and (
            not self._deliveryScheduled
        ):
            self._deliveryScheduled = True
            self._owner.callNextTurn(self._deliverHeld)

    def stopProducing(self) -> None:
        """
        The consumer of the peer's message is gone.
        """
        self.stopReading()

    def _deliverHeld(self) -> None:
        """
        Deliver what was held, until the application pauses again.
        """
        self._deliveryScheduled = False
        heads, waiting = self._undeliveredHeads, self._undelivered
        while heads and not self._paused and self.connected:
            fields, ended = heads.pop(0)
            if ended is None:
                self._call(self.receiver.informational, fields)
            else:
                self._call(self.receiver.headersReceived, fields, ended)
        while waiting and not self._paused and self.connected:
            data = waiting.pop(0)
            self._owner.acknowledge(self.streamId, len(data))
            self._call(self.receiver.dataReceived, data)
        if self.readEnded and not self._endReported and self.connected and not self.deliveryBlocked:
            self._reportEnd()

    def _dropUndelivered(self) -> None:
        unread = self.held
        self._undelivered.clear()
        self._undeliveredHeads.clear()
        if self._paused:
            self._paused = False
            self._owner.paused -= 1
        if unread and self.connected:
            self._owner.stopReading(self, unread)
        if self.readEnded and not self._endReported and self.connected:
            self._reportEnd()

    # The end

    def lost(self, reason: Failure) -> None:
        """
        The stream is over: the owner calls L{reportLost} on a later turn.  Only the first reason counts.
        """
        if not self.connected:
            return
        self.connected = False
        self._queue.clear()
        self._heads.clear()
        self.queued = self.heads = self._offset = 0
        self._undelivered.clear()
        self._undeliveredHeads.clear()
        if self._paused:
            self._paused = False
            self._owner.paused -= 1
        self._owner.streamLost(self, reason)

    def reportLost(self, reason: Failure) -> None:
        """
        Report to the producer and the receiver that the stream is over.
        """
        producer, self._producer = self._producer, None
        if producer is not None:
            self._call(producer.stopProducing)
        receiver, self.receiver = self.receiver, _UNRECEIVED
        if isinstance(reason.value, HTTP2StreamFailed):
            self._call(receiver.failed, reason.value)
        else:
            self._call(receiver.closed)

    def _call(self, method: Callable[..., object], *arguments: object) -> None:
        """
        Call a method of the application, which may fail: then its stream is reset, and no other is affected.
        """
        try:
            method(*arguments)
        except Exception:
            self._log.failure("the receiver of HTTP/2 stream {stream} failed", stream=self.streamId)
            if self.connected:
                self._reset(ErrorCode.INTERNAL_ERROR)
                self.lost(Failure(HTTP2StreamReset("the application failed", ErrorCode.INTERNAL_ERROR)))

    # Addresses

    def getPeer(self) -> IAddress:
        """
        @return: the address of the other end of the connection.
        """
        return self._getPeer()

    def getHost(self) -> IAddress:
        """
        @return: the address of this end of the connection.
        """
        return self._getHost()


class OpensStreams(Protocol):
    """
    A connection, such as an L{HTTP2Connection<tunnelstack.transport.http2.connection.HTTP2Connection>}.
    """

    def openStream(
        self, fields: Iterable[tuple[bytes, bytes]], receiver: IHTTP2Receiver, endStream: bool = False
    ) -> HTTP2Stream:
        """
        Open a stream.
        """
