"""
When the streams of a connection send: one flush a reactor turn, turns between streams, and pressure from the carrier.

It serves every protocol that has streams with credit.  The pure core owns credit and control frames; the streams own the queues
of payload.  This module moves octets
between the two and gives the carrier no more than it takes.  What the carrier has not sent yet cannot be overtaken, so it is
kept short, in time: see L{tunnelstack.wire.send_rate} for how much a carrier is given, and
L{tunnelstack.transport.send_buffer} for how little may wait below the session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IStreamOwner
from tunnelstack.transport.direct_write import Write
from tunnelstack.transport.send_buffer import SendBuffer
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.transport.turn_end import turnEnd
from tunnelstack.wire.keepalive import Keepalive
from tunnelstack.wire.send_rate import SendRate

HIGH = 128 * 1024
"""Octets queued on a stream above which a registered producer is paused."""

LOW = 32 * 1024
"""Octets queued at which it is resumed: two turns of a shared session, so that the stream always has something to send."""

SHARED_TURN = 16 * 1024
"""Octets of payload in one frame while streams share the session."""

HEADER = 12
"""Octets of a frame's header, at most."""

SMALLEST_TURN = 1024
"""With less room than this left in a batch, the frame waits for the next one."""

EARLY_FLUSH_STREAMS = 4
"""Ready streams that are worth a write of their own before the turn is over."""

BATCHES = 4
"""Batches that leave in one turn, however fast the carrier takes them."""

CONTROL_WHILE_FULL = 64 * 1024
"""Octets of control that are written to a carrier that takes no data; a peer that lets more pile up is not reading."""


class SendingCore(Protocol):
    """
    The core of a connection, as its scheduler sees it.

    @ivar now: the time of what happens next, in seconds of the clock; the scheduler sets it.
    @ivar octets_out: octets of payload taken.
    @ivar held: octets of payload delivered and not acknowledged.
    """

    now: float
    octets_out: int
    held: int

    @property
    def keepalive(self) -> Keepalive:
        """
        Its pings.
        """

    @property
    def max_frame(self) -> int:
        """
        Octets of payload that one frame takes.
        """

    def control_octets(self) -> int:
        """
        @return: octets of control that wait.
        """

    def credit(self, stream_id: int) -> int:
        """
        @return: octets that may be sent on a stream now.
        """

    def send_data(self, stream_id: int, data: bytes) -> object:
        """
        Queue one frame.
        """

    def end_stream(self, stream_id: int) -> None:
        """
        End our direction of a stream.
        """

    def reset_stream(self, stream_id: int) -> None:
        """
        End both directions of a stream.
        """

    def acknowledge(self, stream_id: int, octets: int) -> None:
        """
        Payload of a stream was consumed.
        """

    def data_to_send(self) -> list[bytes]:
        """
        @return: what is due, in order.
        """


class ScheduledStream(Protocol):
    """
    A stream, as its scheduler sees it; the attributes are those of
    L{StreamTransport<tunnelstack.stream.transport.StreamTransport>}.

    @ivar heads: lists of fields that are sent before what is queued, for protocols that have them.
    """

    scheduled: bool

    @property
    def streamId(self) -> int:
        """
        Its number.
        """

    @property
    def connected(self) -> bool:
        """
        Whether its end is not certain yet.
        """

    @property
    def queued(self) -> int:
        """
        Octets that wait to be sent.
        """

    @property
    def heads(self) -> int:
        """
        How many lists of fields wait to be sent before them.
        """

    @property
    def finishing(self) -> bool:
        """
        Whether our end follows the queue.
        """

    @property
    def writeEnded(self) -> bool:
        """
        Whether our end was sent.
        """

    @property
    def readEnded(self) -> bool:
        """
        Whether the peer's end has arrived.
        """

    @property
    def recordNext(self) -> int:
        """
        Octets of the record that is next in the queue; C{0} if there is none.
        """

    def take(self, most: int) -> bytes:
        """
        @return: octets for one frame.
        """

    def sendHeads(self) -> int:
        """
        Give L{heads} to the core.

        @return: octets that they take.
        """

    def resumeProducer(self) -> None:
        """
        There is room again.
        """

    def endSent(self) -> None:
        """
        Our end was given to the core.
        """

    def reportLost(self, reason: Failure) -> None:
        """
        Report to the application that the stream is over.
        """


StreamType = TypeVar("StreamType", bound=ScheduledStream)


ClosedType = TypeVar("ClosedType", bound=ScheduledStream, contravariant=True)


class ClosingTable(Protocol[ClosedType]):
    """
    The streams that their applications have closed, as the scheduler sees them.
    """

    def add(self, streamId: int, ended: bool) -> object:
        """
        From now on see to it that the stream comes to an end.
        """

    def endSent(self, stream: ClosedType) -> None:
        """
        Our end of a stream has been sent.
        """

    def forget(self, streamId: int) -> None:
        """
        The stream was reset.
        """


@implementer(IStreamOwner, IPushProducer)
class StreamScheduler(Generic[StreamType]):
    """
    The owner of a session's streams, and the producer of its carrier.  Its session calls L{flush} when it has fed the core.

    @ivar full: the carrier takes no more.
    @ivar rate: how fast it takes octets, and how many to give it in one write, hence at most in one WebSocket message.
    @ivar sharedTimer: of whatever happens on the streams.
    @ivar high: octets queued on a stream above which its producer is paused.
    @ivar paused: streams whose applications do not read; the streams count it.
    @ivar acknowledge: as in L{IStreamOwner}; it is the core's own method, to spare a call for each frame.
    @ivar inFlush: a flush is under way or follows anyway, so that nothing needs a turn of its own.
    @ivar sending: the session is connected, and not lost.
    @ivar closing: the streams that their applications have closed.
    @ivar eager: so many streams are ready that L{flushEarly} sends.
    """

    __slots__ = (
        "_atTurnEnd", "_awaitingCredit", "_buffer", "_calls", "_clock", "_controlWhileFull", "_core", "_endedStreams",
        "_flushAgain", "_flushIsDue", "_heads", "_held", "_keepalive", "_moreToSend", "_onHeldChanged", "_onPeerNotReading",
        "_onPingSent", "_onStreamsLost", "_pausedProducers", "_pausedStreams", "_readyStreams", "_streams", "_write",
        "acknowledge", "closing", "eager", "full", "high", "inFlush", "paused", "rate", "sending", "sharedTimer",
    )  # fmt: skip

    def __init__(
        self,
        clock: IReactorTime,
        core: SendingCore,
        streams: dict[int, StreamType],
        closing: ClosingTable[StreamType],
        *,
        onStreamsLost: Callable[[], object],
        onPeerNotReading: Callable[[], object],
        onPingSent: Callable[[], object],
        heads: bool = False,
    ) -> None:
        """
        @param streams: those of the session, by number; they are removed here.
        @param onStreamsLost: called when some were removed, and their applications were told.
        @param onPeerNotReading: called when too much control waits for the peer: the session is to be dropped.
        @param onPingSent: called when a ping of the keepalive has left for the carrier, and does not wait in its buffer.
        @param heads: whether the streams have L{heads<ScheduledStream>}.
        """
        self._clock = clock
        self._atTurnEnd = turnEnd(clock)
        self._core = core
        self._streams = streams
        self.closing = closing
        self._onStreamsLost = onStreamsLost
        self._onPeerNotReading = onPeerNotReading
        self._onPingSent = onPingSent
        self._heads = heads
        self._keepalive = core.keepalive
        self.acknowledge = core.acknowledge
        self.sharedTimer = SharedTimer(clock)
        self.full = self.inFlush = self.sending = self.eager = False
        self.rate = SendRate()
        self._buffer = SendBuffer()
        self.high = HIGH
        self.paused = 0
        self._write: Write = _nowhere
        self._onHeldChanged: Callable[[], object] | None = None
        self._held = self._pausedStreams = 0  # when C{_onHeldChanged} was called last
        self._readyStreams: deque[StreamType] | None = None      # an empty one takes 750 octets, so an idle session has none
        self._pausedProducers: list[StreamType] = []
        self._endedStreams: list[StreamType] = []      # our end of them is with the core, and is not reported to them yet
        self._awaitingCredit: list[StreamType] = []    # a record of theirs waits for more credit than there is
        self._calls: list[tuple[Any, Failure | None]] = []        # something to call, or a stream that is lost and the reason
        self._flushIsDue = False                            # at the end of this turn
        self._flushAgain = False              # another flush was requested during this one
        self._controlWhileFull = 0
        self._moreToSend = False              # something is left for a later turn

    # IStreamOwner

    def streamReady(self, stream: StreamType) -> None:
        """
        As in L{IStreamOwner}.
        """
        stream.scheduled = True
        ready = self._readyStreams
        if ready is None:
            ready = self._readyStreams = deque()
        ready.append(stream)
        if len(ready) >= EARLY_FLUSH_STREAMS:
            self.eager = True
        if not self._flushIsDue and not self.inFlush:
            self._flushIsDue = True
            self._atTurnEnd(self._onTurn)

    def reset(self, streamId: int) -> None:
        """
        As in L{IStreamOwner}.
        """
        self.closing.forget(streamId)
        self._core.reset_stream(streamId)
        self.scheduleFlush()

    def stopReading(self, stream: StreamType, discarded: int) -> None:
        """
        As in L{IStreamOwner}.
        """
        if discarded:
            self._core.acknowledge(stream.streamId, discarded)
            self.scheduleFlush()
        if not (stream.readEnded and stream.writeEnded):
            self.closing.add(stream.streamId, stream.writeEnded)

    def streamLost(self, stream: StreamType, reason: Failure) -> None:
        """
        As in L{IStreamOwner}.
        """
        self._streams.pop(stream.streamId, None)
        self._calls.append((stream, reason))
        if not self._flushIsDue and not self.inFlush:
            self.scheduleFlush()

    def callNextTurn(self, call: Callable[..., object], *arguments: Any) -> None:
        """
        As in L{IStreamOwner}.
        """
        self._calls.append((partial(call, *arguments) if arguments else call, None))
        self.scheduleFlush()

    def waitForCapacity(self, stream: StreamType) -> None:
        """
        As in L{IStreamOwner}.
        """
        self._pausedProducers.append(stream)

    def flushEarly(self) -> None:
        """
        As in L{IStreamOwner}.
        """
        ready = self._readyStreams
        if ready is not None and len(ready) >= EARLY_FLUSH_STREAMS and self._flushIsDue and not self.inFlush:
            self.inFlush = True              # the flush that is to come does the rest
            self._core.now = self._clock.seconds()
            try:
                self.send()
            finally:
                self.inFlush = False

    def scheduleFlush(self) -> None:
        """
        Flush once this reactor turn is over, or in the flush that is under way.
        """
        if self.inFlush:
            self._flushAgain = True
        elif not self._flushIsDue:
            self._flushIsDue = True
            self._atTurnEnd(self._onTurn)

    def _onTurn(self) -> None:
        self._flushIsDue = False
        self.flush()

    # The flush

    def flush(self) -> None:
        """
        Make the calls that were put off, then write what is due: control, and data as far as the carrier takes any.
        """
        self.inFlush = True                  # what follows needs no further turn
        self._core.now = self._clock.seconds()
        try:
            if self._calls:
                self._makeCalls()
            self._flushAgain = False
            self.send()
            if self._endedStreams:                    # the peer waits for what was sent, nothing waits for this
                self._reportEnded()
            if self._calls:
                self._makeCalls()
                if self._readyStreams or self._flushAgain:
                    self._flushAgain = False
                    self.send()
                    self._reportEnded()
        finally:
            self.inFlush = False
        # a producer that was resumed put something off, or there is more to send
        if self._calls or self._moreToSend or self._flushAgain:
            self._moreToSend = False
            self.scheduleFlush()
        else:
            if not self._readyStreams:
                self._readyStreams = None
            if not self.full and self.rate.idle_at is None:
                self.rate.idle_at = self._core.now
        if self._keepalive.unsent and not self.full:
            self._onPingSent()
        if self._onHeldChanged is not None and (self._core.held != self._held or self.paused != self._pausedStreams):
            self._held, self._pausedStreams = self._core.held, self.paused
            self._onHeldChanged()

    def watchHeld(self, call: Callable[[], object] | None) -> None:
        """
        Call C{call} after each flush that finds another amount held, or other streams paused, than the one before it.
        """
        self._onHeldChanged = call
        self._held = -1

    def _makeCalls(self) -> None:
        while self._calls:
            calls, self._calls = self._calls, []
            lost = False
            for call, reason in calls:
                if reason is not None:
                    call.reportLost(reason)
                    lost = True
                else:
                    call()
            if lost:
                self._onStreamsLost()

    def send(self) -> None:
        """
        Write batches until nothing is left to send, the carrier is full, or it is the turn of other connections.
        """
        if not self.sending:
            return
        core = self._core
        if self._awaitingCredit:
            short, self._awaitingCredit = self._awaitingCredit, []
            for stream in short:
                if not stream.scheduled:
                    self.streamReady(stream)
        for number in range(BATCHES):
            if number == BATCHES - 1 and not self.full:
                self.rate.untroubled()
            ready = self._readyStreams
            if ready:
                self._fillBatch(ready, self.rate.batch - core.control_octets())
                self.eager = len(ready) >= EARLY_FLUSH_STREAMS
            pieces = core.data_to_send()
            if not pieces:
                while self._pausedProducers and not self.full and not self._readyStreams:
                    self._pausedProducers.pop(0).resumeProducer()
                if not self._readyStreams or self.full:
                    return
                continue
            if self.full:
                self._controlWhileFull += sum(map(len, pieces))
                if self._controlWhileFull > CONTROL_WHILE_FULL:
                    self._onPeerNotReading()
                    return
            self._write(b"".join(pieces))
            if not self._readyStreams and not self._pausedProducers:
                return
        self._moreToSend = not self.full and bool(self._readyStreams or self._pausedProducers)

    def _fillBatch(self, ready: deque[StreamType], room: int) -> None:
        """
        Give each stream that is ready its turn, until the batch is full.

        @param ready: the queue of them.
        @param room: octets of frames that still fit.
        """
        core, heads = self._core, self._heads
        if self.full:
            self._endEmptyStreams(ready)
            return
        while ready:
            if room < SMALLEST_TURN:
                return
            stream = ready.popleft()
            if heads and stream.heads:
                room -= stream.sendHeads()
                if room < SMALLEST_TURN and stream.queued:
                    ready.appendleft(stream)     # its data begins the next batch
                    return
            if stream.queued:
                credit = core.credit(stream.streamId)
                if credit <= 0:
                    stream.scheduled = False     # back when credit comes
                    continue
                most = SHARED_TURN if ready else core.max_frame
                if most > credit:             # min() would take ten times as long
                    most = credit
                if most > room - HEADER:
                    most = room - HEADER
                data = stream.take(most)
                if not data:
                    data = self._takeRecord(ready, stream, credit, room)
                    if not data:
                        if stream.scheduled:     # the batch has too little room left for it
                            return
                        continue
                core.send_data(stream.streamId, data)
                room -= len(data) + HEADER
                if stream.queued:
                    ready.append(stream)
                    continue
            stream.scheduled = False
            if stream.finishing and stream.connected:     # as _end does
                core.end_stream(stream.streamId)
                self._endedStreams.append(stream)

    def _takeRecord(self, ready: deque[StreamType], stream: StreamType, credit: int, room: int) -> bytes:
        """
        A record goes whole or not at all: it waits for its credit out of the queue, for room at its head.
        """
        size = stream.recordNext
        if not size or size > credit:
            stream.scheduled = False             # back when credit comes
            if size:
                self._awaitingCredit.append(stream)    # the core reports the first credit and none that follows
            return b""
        if size + HEADER > room:
            ready.appendleft(stream)
            return b""
        return stream.take(size)

    def _endEmptyStreams(self, ready: deque[StreamType]) -> None:
        """
        While the carrier is full only ends leave, of streams that have nothing queued.
        """
        for _ in range(len(ready)):
            stream = ready.popleft()
            if stream.queued or stream.heads:
                ready.append(stream)
            else:
                stream.scheduled = False
                if stream.finishing:
                    self._end(stream)

    def _end(self, stream: StreamType) -> None:
        """
        Send our end of a stream after all its data.
        """
        if stream.connected:
            self._core.end_stream(stream.streamId)
            self._endedStreams.append(stream)

    def _reportEnded(self) -> None:
        """
        Report to streams that their end is on its way.
        """
        over, self._endedStreams = self._endedStreams, []
        for stream in over:
            self.closing.endSent(stream)
            stream.endSent()

    # The carrier's pressure (IPushProducer)

    def pauseProducing(self) -> None:
        """
        The carrier accepts no more: data stops, control continues.
        """
        self.full = True
        self._controlWhileFull = 0

    def resumeProducing(self) -> None:
        """
        The carrier has room again.
        """
        self.full = False
        if self.rate.taken(self._clock.seconds(), self._core.octets_out):
            self.rate.bound(self._buffer.unsent())
            self._buffer.bound(self.rate.batch, self.rate.unsent)
        if not self.inFlush:
            self.flush()

    def stopProducing(self) -> None:
        """
        The carrier is closed; C{connectionLost} follows.
        """

    # From the session

    def start(self, write: Write, buffer: SendBuffer) -> None:
        """
        The session is connected.

        @param write: takes what is due once a turn.
        @param buffer: where it waits if the network does not take it.
        """
        self._write = write
        self._buffer = buffer
        buffer.bound(self.rate.batch, self.rate.unsent)
        self.sending = True
        self.scheduleFlush()

    def secondsAhead(self) -> float:
        """
        @return: seconds that the carrier needs for what it has taken, as far as that is known.
        """
        return self.rate.seconds(self._buffer.unacknowledged())

    def close(self) -> None:
        """
        The session is lost: forget what was to be sent.
        """
        self.sending = False
        self.sharedTimer.stop()
        if self._readyStreams is not None:
            self._readyStreams.clear()
        self._pausedProducers.clear()
        self._awaitingCredit.clear()
        self._endedStreams.clear()


def _nowhere(octets: bytes) -> None:
    """
    The C{write} of a session that is not connected yet; nothing is sent then.
    """
