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
from tunnelstack.session._closing import Late
from tunnelstack.stream.errors import SessionLost
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.direct_write import Write
from tunnelstack.transport.shared_timer import Deadlines

BATCH = 64 * 1024
"""Octets of whole frames that leave in one write, hence at most in one WebSocket message."""

SHARED_TURN = 16 * 1024
"""Octets of payload in one frame while streams share the session."""

HEADER = 12
"""Octets of a frame's header, at most."""

SMALLEST_TURN = 1024
"""With less room than this left in a batch, the frame waits for the next one."""

HASTE = 4
"""Streams in the ring that are worth a write of their own before the turn is over."""

BATCHES = 4
"""Batches that leave in one turn, however fast the carrier takes them."""

CONTROL_WHILE_FULL = 64 * 1024
"""Octets of control that are written to a carrier that takes no data; a peer that lets more pile up is not reading."""

@implementer(IStreamOwner, IPushProducer)
class StreamOwner(Late):
    """
    The half of a session that faces its streams.

    A subclass gives C{_core} (the pure machine) and C{transport} (the carrier), and calls L{flush} when it has fed the core.

    @ivar full: the carrier takes no more.
    @ivar deadlines: of whatever happens on the streams.
    """

    _log = Logger()
    _core: Any
    transport: Any

    def __init__(self, clock: Any) -> None:
        super().__init__()
        self._clock = clock
        self.deadlines = Deadlines(clock)
        self.full = False
        self._streams: dict[int, StreamTransport] = {}
        self._ring: deque[StreamTransport] = deque()
        self._held: deque[StreamTransport] = deque()
        self._over: list[StreamTransport] = []    # our end of them is with the core, and nobody was told yet
        self._short: list[StreamTransport] = []   # a record of theirs waits for more credit than there is
        self._calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._turn: Any = None                # the delayed call of the next turn
        self._feeding = False                 # a flush follows anyway
        self._again = False                   # somebody asked for one meanwhile
        self._whileFull = 0
        self._more = False                    # to send, on a later turn
        self._out: Write                      # the carrier's, once there is one
        self._wakeAt = inf                    # when the session's timer goes off

    def transports(self) -> list[StreamTransport]:
        """
        The streams that are open now.
        """
        return list(self._streams.values())

    # IStreamOwner

    def ready(self, stream: StreamTransport) -> None:
        """
        As in L{IStreamOwner}.
        """
        stream.ringed = True
        self._ring.append(stream)
        if self._turn is None and not self._feeding:
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
        self._wake()

    def departed(self, stream: StreamTransport, reason: Failure) -> None:
        """
        As in L{IStreamOwner}.
        """
        self._streams.pop(stream.streamId, None)
        self._calls.append((stream.tellLost, (reason,)))
        if self._turn is None and not self._feeding:
            self._wake()

    def soon(self, call: Callable[..., object], *arguments: Any) -> None:
        """
        As in L{IStreamOwner}.
        """
        self._calls.append((call, arguments))
        self._wake()

    def hold(self, stream: StreamTransport) -> None:
        """
        As in L{IStreamOwner}.
        """
        self._held.append(stream)

    def hasten(self) -> None:
        """
        As in L{IStreamOwner}.
        """
        if len(self._ring) >= HASTE and self._turn is not None and not self._feeding:
            self._feeding = True              # the flush that is to come sees to all else
            try:
                self._send()
            finally:
                self._feeding = False

    def _wake(self) -> None:
        """
        Flush once this reactor turn is over, or in the flush that is under way.
        """
        if self._feeding:
            self._again = True
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
        self._feeding = True                  # what follows needs no further turn
        try:
            if self._calls:
                self._makeCalls()
            self._again = False
            self._send()
            if self._over:                    # what it means that they are over can wait for what the peer waits for
                self._tellOver()
            if self._calls:
                self._makeCalls()
                if self._ring or self._again:
                    self._again = False
                    self._send()
                    self._tellOver()
        finally:
            self._feeding = False
        if self._calls or self._more or self._again:  # a producer that was resumed put something off, or there is more to send
            self._more = False
            self._wake()

    def _makeCalls(self) -> None:
        while self._calls:
            calls, self._calls = self._calls, []
            for call, arguments in calls:
                call(*arguments)

    def _send(self) -> None:
        """
        Write batches until there is nothing to say, the carrier is full, or others shall have their turn.
        """
        core, ring = self._core, self._ring
        if core is None:
            return
        if self._short:
            short, self._short = self._short, []
            for stream in short:
                if not stream.ringed:
                    self.ready(stream)
        for _ in range(BATCHES):
            if ring:
                self._fill(BATCH - core.control_octets)
            pieces = core.data_to_send()
            if not pieces:
                while self._held and not self.full and not ring:
                    self._held.popleft().relieve()
                if not ring or self.full:
                    return
                continue
            if self.full:
                self._whileFull += sum(map(len, pieces))
                if self._whileFull > CONTROL_WHILE_FULL:
                    self._stuck()
                    return
            self._out(b"".join(pieces))
            if not ring and not self._held:
                return
        self._more = not self.full and bool(ring or self._held)

    def _fill(self, room: int) -> None:
        """
        Give each stream of the ring its turn, until the batch is full.

        @param room: octets of frames that still fit.
        """
        ring, core = self._ring, self._core
        if self.full:
            self._endIdle()
            return
        while ring and room >= SMALLEST_TURN:
            stream = ring.popleft()
            if stream.queued:
                credit = core.credit(stream.streamId)
                data = stream.take(min(credit, SHARED_TURN if ring else room, room - HEADER)) if credit > 0 else b""
                if not data:
                    data = self._takeRecord(stream, credit, room)
                    if not data:
                        if stream.ringed:     # the batch has too little room left for it
                            return
                        continue
                core.send_data(stream.streamId, data)
                room -= len(data) + HEADER
                if stream.queued:
                    ring.append(stream)
                    continue
            stream.ringed = False
            if stream.finishing:
                self._end(stream)

    def _takeRecord(self, stream: StreamTransport, credit: int, room: int) -> bytes:
        """
        A record goes whole or not at all: it waits for its credit out of the ring, for room at the head of the ring.
        """
        size = stream.recordNext
        if not size or size > credit:
            stream.ringed = False             # back when credit comes
            if size and credit > 0:
                self._short.append(stream)    # of which the core, having told of some, says no more
            return b""
        if size + HEADER > room:
            self._ring.appendleft(stream)
            return b""
        return stream.take(size)

    def _endIdle(self) -> None:
        """
        While the carrier is full only ends leave, of streams that have nothing queued.
        """
        for _ in range(len(self._ring)):
            stream = self._ring.popleft()
            if stream.queued:
                self._ring.append(stream)
            else:
                stream.ringed = False
                if stream.finishing:
                    self._end(stream)

    def _end(self, stream: StreamTransport) -> None:
        """
        Send our end of a stream behind all its data.
        """
        if stream.connected:
            self._core.end_stream(stream.streamId)
            self._over.append(stream)

    def _tellOver(self) -> None:
        """
        Tell the streams whose end is on its way.
        """
        over, self._over = self._over, []
        for stream in over:
            self._endSent(stream)
            stream.ended()

    # The carrier's pressure (IPushProducer)

    def pauseProducing(self) -> None:
        """
        The carrier takes no more: data stops, control goes on.
        """
        self.full = True
        self._whileFull = 0

    def resumeProducing(self) -> None:
        """
        The carrier has room again.
        """
        self.full = False
        if not self._feeding:
            self.flush()

    def stopProducing(self) -> None:
        """
        The carrier is gone; C{connectionLost} says so as well.
        """

    # For the subclass

    def _stuck(self) -> None:
        """
        The peer does not read: the session is to be aborted.
        """
        raise NotImplementedError

    def _loseStreams(self, reason: SessionLost) -> None:
        """
        The session is gone, and its streams with it.
        """
        self._core = None
        self.deadlines.stop()
        self._closing.clear()
        self._ring.clear()
        self._held.clear()
        self._short.clear()
        self._over.clear()
        failure = Failure(reason)
        for stream in list(self._streams.values()):
            stream.lost(failure)
