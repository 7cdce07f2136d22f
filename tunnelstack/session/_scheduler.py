"""
What every session does with its streams, whatever frames it speaks: the one flush a reactor turn, turns between streams, and
pressure from the carrier.

The pure core (yamux, HTTP/2) owns credit and control frames; the stream transports own the queues of payload.  This module
moves octets between the two and hands the carrier no more than it takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IStreamOwner
from tunnelstack.session._closing import ClosingStreams
from tunnelstack.stream.errors import SessionLost
from tunnelstack.stream.transport import HIGH, StreamTransport
from tunnelstack.transport.direct_write import Write
from tunnelstack.transport.shared_timer import SharedTimer

BATCH = 64 * 1024
"""Octets of whole frames that leave in one write, hence at most in one WebSocket message."""

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

@implementer(IStreamOwner, IPushProducer)
class StreamScheduler(ClosingStreams):
    """
    The half of a session that faces its streams.

    A subclass gives C{_core} (the pure machine) and C{transport} (the carrier), and calls L{flush} when it has fed the core.

    @ivar full: the carrier takes no more.
    @ivar sharedTimer: of whatever happens on the streams.
    @ivar high: octets queued on a stream above which its producer is paused.
    @ivar paused: streams whose applications do not read; the streams count it.
    """

    _log = Logger()
    _core: Any
    high = HIGH
    transport: Any

    def __init__(self, clock: Any) -> None:
        super().__init__()
        self._clock = clock
        self.sharedTimer = SharedTimer(clock)
        self.full = False
        self.paused = 0
        self._streams: dict[int, StreamTransport] = {}
        self._readyStreams: deque[StreamTransport] = deque()
        self._pausedProducers: deque[StreamTransport] = deque()
        self._endedStreams: list[StreamTransport] = []    # our end of them is with the core, and nobody was told yet
        self._awaitingCredit: list[StreamTransport] = []   # a record of theirs waits for more credit than there is
        self._calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._turn: Any = None                # the delayed call of the next turn
        self._inFlush = False                 # a flush follows anyway
        self._flushAgain = False                   # somebody asked for one meanwhile
        self._controlWhileFull = 0
        self._moreToSend = False                    # to send, on a later turn
        self._write: Write                      # the carrier's, once there is one
        self._timerAt = inf                    # when the session's timer goes off
        self.budget: Any = None               # what all sessions of the process may hold, once there is one

    def transports(self) -> list[StreamTransport]:
        """
        The streams that are open now.
        """
        return list(self._streams.values())

    # IStreamOwner

    def streamReady(self, stream: StreamTransport) -> None:
        """
        As in L{IStreamOwner}.
        """
        stream.scheduled = True
        self._readyStreams.append(stream)
        if self._turn is None and not self._inFlush:
            self._turn = self._clock.callLater(0, self._onTurn)

    def acknowledge(self, streamId: int, octets: int) -> None:
        """
        As in L{IStreamOwner}.  A session binds its core's own method over this one, to spare a call a frame.
        """
        self._core.acknowledge(streamId, octets)

    def reset(self, streamId: int) -> None:
        """
        As in L{IStreamOwner}.
        """
        self._closing.pop(streamId, None)
        self._core.reset_stream(streamId)
        self._scheduleFlush()

    def streamLost(self, stream: StreamTransport, reason: Failure) -> None:
        """
        As in L{IStreamOwner}.
        """
        self._streams.pop(stream.streamId, None)
        self._calls.append((stream.reportLost, (reason,)))
        if self._turn is None and not self._inFlush:
            self._scheduleFlush()

    def callNextTurn(self, call: Callable[..., object], *arguments: Any) -> None:
        """
        As in L{IStreamOwner}.
        """
        self._calls.append((call, arguments))
        self._scheduleFlush()

    def waitForCapacity(self, stream: StreamTransport) -> None:
        """
        As in L{IStreamOwner}.
        """
        self._pausedProducers.append(stream)

    def flushEarly(self) -> None:
        """
        As in L{IStreamOwner}.
        """
        if len(self._readyStreams) >= EARLY_FLUSH_STREAMS and self._turn is not None and not self._inFlush:
            self._inFlush = True              # the flush that is to come sees to all else
            try:
                self._send()
            finally:
                self._inFlush = False

    def _scheduleFlush(self) -> None:
        """
        Flush once this reactor turn is over, or in the flush that is under way.
        """
        if self._inFlush:
            self._flushAgain = True
        elif self._turn is None:
            self._turn = self._clock.callLater(0, self._onTurn)

    def _onTurn(self) -> None:
        self._turn = None
        self.flush()

    # The flush

    def flush(self) -> None:
        """
        Make the calls that were put off, then give the carrier what is due: control, and data as far as it takes any.
        """
        self._inFlush = True                  # what follows needs no further turn
        core = self._core
        if core is not None:
            core.now = self._clock.seconds()
        try:
            if self._calls:
                self._makeCalls()
            self._flushAgain = False
            self._send()
            if self._endedStreams:                    # what it means that they are over can wait for what the peer waits for
                self._reportEnded()
            if self._calls:
                self._makeCalls()
                if self._readyStreams or self._flushAgain:
                    self._flushAgain = False
                    self._send()
                    self._reportEnded()
        finally:
            self._inFlush = False
        # a producer that was resumed put something off, or there is more to send
        if self._calls or self._moreToSend or self._flushAgain:
            self._moreToSend = False
            self._scheduleFlush()
        if self.budget is not None:
            self.count()

    def _makeCalls(self) -> None:
        while self._calls:
            calls, self._calls = self._calls, []
            for call, arguments in calls:
                call(*arguments)

    def _send(self) -> None:
        """
        Write batches until there is nothing to say, the carrier is full, or others shall have their turn.
        """
        core, ready = self._core, self._readyStreams
        if core is None:
            return
        if self._awaitingCredit:
            short, self._awaitingCredit = self._awaitingCredit, []
            for stream in short:
                if not stream.scheduled:
                    self.streamReady(stream)
        for _ in range(BATCHES):
            if ready:
                self._fillBatch(BATCH - core.control_octets)
            pieces = core.data_to_send()
            if not pieces:
                while self._pausedProducers and not self.full and not ready:
                    self._pausedProducers.popleft().resumeProducer()
                if not ready or self.full:
                    return
                continue
            if self.full:
                self._controlWhileFull += sum(map(len, pieces))
                if self._controlWhileFull > CONTROL_WHILE_FULL:
                    self._peerNotReading()
                    return
            self._write(b"".join(pieces))
            if not ready and not self._pausedProducers:
                return
        self._moreToSend = not self.full and bool(ready or self._pausedProducers)

    def _fillBatch(self, room: int) -> None:
        """
        Give each stream that is ready its turn, until the batch is full.

        @param room: octets of frames that still fit.
        """
        ready, core = self._readyStreams, self._core
        if self.full:
            self._endEmptyStreams()
            return
        while ready and room >= SMALLEST_TURN:
            stream = ready.popleft()
            if stream.queued:
                credit = core.credit(stream.streamId)
                data = stream.take(min(credit, SHARED_TURN if ready else room, room - HEADER)) if credit > 0 else b""
                if not data:
                    data = self._takeRecord(stream, credit, room)
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
            if stream.finishing:
                self._end(stream)

    def _takeRecord(self, stream: StreamTransport, credit: int, room: int) -> bytes:
        """
        A record goes whole or not at all: it waits for its credit out of the queue, for room at its head.
        """
        size = stream.recordNext
        if not size or size > credit:
            stream.scheduled = False             # back when credit comes
            if size and credit > 0:
                self._awaitingCredit.append(stream)    # of which the core, having told of some, says no more
            return b""
        if size + HEADER > room:
            self._readyStreams.appendleft(stream)
            return b""
        return stream.take(size)

    def _endEmptyStreams(self) -> None:
        """
        While the carrier is full only ends leave, of streams that have nothing queued.
        """
        for _ in range(len(self._readyStreams)):
            stream = self._readyStreams.popleft()
            if stream.queued:
                self._readyStreams.append(stream)
            else:
                stream.scheduled = False
                if stream.finishing:
                    self._end(stream)

    def _end(self, stream: StreamTransport) -> None:
        """
        Send our end of a stream behind all its data.
        """
        if stream.connected:
            self._core.end_stream(stream.streamId)
            self._endedStreams.append(stream)

    def _reportEnded(self) -> None:
        """
        Tell the streams whose end is on its way.
        """
        over, self._endedStreams = self._endedStreams, []
        for stream in over:
            self._endSent(stream)
            stream.endSent()

    # The carrier's pressure (IPushProducer)

    def pauseProducing(self) -> None:
        """
        The carrier takes no more: data stops, control goes on.
        """
        self.full = True
        self._controlWhileFull = 0

    def resumeProducing(self) -> None:
        """
        The carrier has room again.
        """
        self.full = False
        if not self._inFlush:
            self.flush()

    def stopProducing(self) -> None:
        """
        The carrier is gone; C{connectionLost} says so as well.
        """

    # For the subclass

    def _peerNotReading(self) -> None:
        """
        The peer does not read: the session is to be aborted.
        """
        raise NotImplementedError

    def count(self) -> None:
        """
        Report to the budget of the process what is held now.
        """
        raise NotImplementedError

    def _loseStreams(self, reason: SessionLost) -> None:
        """
        The session is gone, and its streams with it.
        """
        self._core = None
        self.sharedTimer.stop()
        self._closing.clear()
        self._readyStreams.clear()
        self._pausedProducers.clear()
        self._awaitingCredit.clear()
        self._endedStreams.clear()
        failure = Failure(reason)
        for stream in list(self._streams.values()):
            stream.lost(failure)
