"""
What a yamux session knows: its streams and what it counts about them.  The two halves of the machine,
L{tunnelstack.wire.yamux._receiver} and L{tunnelstack.wire.yamux.connection}, work on it.
"""

from __future__ import annotations

from tunnelstack.wire.yamux.errors import PeerFailed, SessionError, TooManyRefusals, WindowOverrun
from tunnelstack.wire.yamux.events import ResetReason, SlotsFreed, StreamReset, YamuxEvent
from tunnelstack.wire.yamux.frames import FIRST_UNUSABLE_ID, GOAWAY_PLAIN
from tunnelstack.wire.yamux.keepalive import Keepalive
from tunnelstack.wire.yamux.limits import DEFAULT_LIMITS, SessionLimits
from tunnelstack.wire.yamux.receive_window import CreditBudget
from tunnelstack.wire.yamux.send_queue import SendQueue
from tunnelstack.wire.yamux.stream import Stream

OVERRUNS_REMEMBERED = 64    # streams reset for an overrun whose further payload is still counted


class StreamTable:
    """
    The tables of one side of a session, and how a stream leaves them.

    @ivar now: the time of what happens next, in seconds of the owner's clock, as the owner sets it.
    @ivar octets_in: payload delivered.
    @ivar octets_out: payload taken by C{send_data}.
    @ivar held: payload delivered and not acknowledged, of all streams.
    @ivar drained: octets of payload for streams that are gone or were ended by the peer.
    @ivar refused: streams of the peer answered by RST without an event.
    @ivar overruns: streams reset because the peer exceeded its credit.
    @ivar pongs_dropped: pings not answered because too many answers waited.
    """

    def __init__(self, client: bool, limits: SessionLimits = DEFAULT_LIMITS) -> None:
        """
        @param client: whether our streams have odd numbers; it says nothing about who dialled.
        """
        self._limits = limits
        self._max_frame = limits.max_frame
        self._parity = 1 if client else 0
        self._next_id = 1 if client else 2
        self._streams: dict[int, Stream] = {}
        self._local_streams = 0                                  # streams in the table that we opened
        self._backlog = 0                               # streams of the peer not accepted yet
        self._unacknowledged: dict[int, float] = {}            # our streams without a frame of the peer -> deadline
        # streams reset for an overrun -> octets until the session ends
        self._overrun_allowance: dict[int, int] = {}
        self._pings: dict[int, None] = {}               # the owner's, unanswered
        self._next_ping = 0
        self._budget = CreditBudget(limits.session_octets)
        self._send_queue = SendQueue(limits.pongs)
        self._keepalive = Keepalive(limits.keepalive, limits.keepalive_timeout)
        self._reads = 0
        self._ended_this_read: set[int] = set()           # the peer's, whose end is among the events of this read
        self._header = b""                              # the beginning of a header that was cut
        self._payload_left = 0                             # octets to come of a payload that was cut
        self._payload_stream: Stream | None = None             # whose it is; None: nobody's, to be drained
        self._payload_fin = False                         # FIN came with it and counts when it is whole
        self._slots_wanted = False                      # somebody saw that no stream can be opened
        self._peer_went_away = self._went_away = False
        self._error: SessionError | None = None
        self.now = 0.0
        self.octets_in = self.octets_out = self.held = 0
        self.drained = self.refused = self.overruns = self.pongs_dropped = 0

    @property
    def streams(self) -> int:
        """
        Streams that are open in any direction, or whose payload is not consumed.
        """
        return len(self._streams)

    @property
    def open_slots(self) -> int:
        """
        How many streams can be opened now; never negative.
        """
        if self._peer_went_away or self._went_away:
            return 0
        return max(
            0,
            min(
                self._limits.unacknowledged - len(self._unacknowledged),
                self._limits.max_streams - self._local_streams,
                (FIRST_UNUSABLE_ID - self._next_id + 1) // 2,
            ),
        )

    def _reset_stream(self, stream: Stream, reason: ResetReason, events: list[YamuxEvent]) -> None:
        self._discard(stream)
        events.append(StreamReset(stream.stream_id, 0, reason))
        self._queue_counted_reset(stream.stream_id)

    def _queue_counted_reset(self, stream_id: int) -> None:
        self._send_queue.resets += 1
        if self._send_queue.resets > self._limits.refusals:
            raise TooManyRefusals("the peer causes resets and does not read them", waiting=self._limits.refusals)
        self._send_queue.reset(stream_id)

    def _remember_overrun(self, stream: Stream, beyond: int) -> None:
        self.overruns += 1
        if len(self._overrun_allowance) >= OVERRUNS_REMEMBERED:
            del self._overrun_allowance[next(iter(self._overrun_allowance))]
        self._overrun_allowance[stream.stream_id] = stream.size
        self._count_overrun(stream.stream_id, beyond)

    def _count_overrun(self, stream_id: int, octets: int) -> None:
        """
        Payload beyond credit, on a stream that was reset for it: a Go peer may have a window more on its way, not two.
        """
        left = self._overrun_allowance.get(stream_id)
        if left is None:
            return
        if octets > left:
            raise WindowOverrun("payload far beyond credit", stream=stream_id, octets=octets, tolerated=left)
        self._overrun_allowance[stream_id] = left - octets

    def _discard(self, stream: Stream) -> None:
        """
        A stream is over before its time: what is held of it, or has not left, goes as well.
        """
        self._remove(stream)
        self.held -= stream.held
        self._send_queue.discard(stream)

    def _remove(self, stream: Stream) -> None:
        """
        Take a stream out of every table.
        """
        stream_id = stream.stream_id
        del self._streams[stream_id]
        self._unacknowledged.pop(stream_id, None)
        self._send_queue.updates.pop(stream_id, None)
        if stream.is_local:
            self._local_streams -= 1
        else:
            self._ended_this_read.add(stream_id)
            self._backlog -= not stream.accepted
        stream.release(self._budget)
        if self._payload_stream is stream:
            self._payload_stream = None

    def _report_free_slots(self, events: list[YamuxEvent]) -> None:
        if self.open_slots:
            self._slots_wanted = False
            events.append(SlotsFreed())

    def _fail(self, error: SessionError, events: list[YamuxEvent]) -> None:
        """
        The session is dead: nothing is kept but what tells the peer.
        """
        error.events = events
        self._error = error
        self.held = 0
        self._went_away = True
        self._streams.clear()
        self._unacknowledged.clear()
        self._overrun_allowance.clear()
        self._send_queue.discard_pending()
        if not isinstance(error, PeerFailed):
            self._send_queue.control(GOAWAY_PLAIN, 0, error.code)
