"""
A yamux session as a machine: octets of the peer become events, calls of the owner become octets.

Nothing here waits, sleeps, or uses a transport.  After any call the owner writes L{YamuxConnection.data_to_send} to the
transport; at L{YamuxConnection.next_deadline} it calls L{YamuxConnection.expire}.  Payload is delivered as it arrives and never
collected; the only octets that are carried over from one read to the next are the beginning of a header.

A stream has two directions that end one by one::

        open_stream                                   SYN received
             |                                             |
             v              any frame of the peer          v             accept_stream
         SYN_SENT ------------------+                 SYN_RECEIVED ------------+
             |                      |                                          |
             | open_timeout         +------------> ESTABLISHED <---------------+
             |                                      |       |
             |                  end_stream (FIN)    |       |    FIN received
             |                                      v       v
             |                             LOCAL_ENDED     REMOTE_ENDED
             |                                      |       |
             |                        FIN received  |       |    end_stream (FIN)
             |                                      v       v
             |                                     BOTH_ENDED
             |                                         |
             |                                         |  everything that was delivered is consumed
             v                                         v
           gone  <---------------------------------- gone

    From every state: reset_stream, RST received, or a rule broken by the peer (payload beyond credit, credit beyond what can
    be counted) makes the stream gone at once.

The states are not stored as such: each follows from the attributes of L{Stream<tunnelstack.wire.yamux.stream.Stream>}, and
by the table that the stream is in as well::

    state          accepted  sendable  flowing  fin_sent  fin_received   counted in
    SYN_SENT       yes       yes       no       no        no             _unacknowledged, with its deadline
    SYN_RECEIVED   no        no        yes      no        no             _backlog
    ESTABLISHED    yes       yes       yes      no        no
    LOCAL_ENDED    yes       no        yes      yes       no
    REMOTE_ENDED   yes       yes       no       no        yes
    BOTH_ENDED     yes       no        no       yes       yes            until nothing is held

    A stream of ours may be ended before the peer has answered (SYN_SENT with fin_sent); one of the peer's may have been ended
    by the peer before it is accepted (SYN_RECEIVED with fin_received).

Source: hashicorp/yamux at v0.1.2, as its code behaves; C{docs/protocols/yamux}.
"""

from __future__ import annotations

from math import inf

from attrs import evolve

from tunnelstack.errors import UsageError
from tunnelstack.wire.keepalive import Keepalive, PingTable
from tunnelstack.wire.receive_window import CreditBudget
from tunnelstack.wire.yamux.errors import (
    DuplicateStream,
    ForbiddenStream,
    GoneAway,
    PeerFailed,
    SessionError,
    StreamLimitReached,
    StreamsExhausted,
    TooManyRefusals,
    TruncatedFrame,
    UnknownFrame,
)
from tunnelstack.wire.yamux.events import (
    CREDIT_OVERFLOW,
    OPEN_TIMEOUT,
    OVERRUN,
    PEER,
    CreditArrived,
    DataArrived,
    KeepaliveLost,
    PeerWentAway,
    PongArrived,
    ResetReason,
    SlotsFreed,
    StreamEnded,
    StreamOpened,
    StreamReset,
    YamuxEvent,
    new_event,
)
from tunnelstack.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    FIRST_UNUSABLE_ID,
    GOAWAY,
    GOAWAY_PLAIN,
    HEADER_SIZE,
    INITIAL_WINDOW,
    MAX_CREDIT,
    NORMAL,
    PING,
    PING_REQUEST,
    RST,
    SYN,
    WINDOW,
    WINDOW_ACK,
    WINDOW_FIN,
    WINDOW_SYN,
    pack_header,
    unpack_header,
)
from tunnelstack.wire.yamux.limits import DEFAULT_LIMITS, SessionLimits
from tunnelstack.wire.yamux.overruns import OverrunTable
from tunnelstack.wire.yamux.send_queue import SendQueue
from tunnelstack.wire.yamux.stream import Stream

ROUND_TRIP_SECONDS = 0.01
"""Seconds between two measurements of the round trip while windows might grow: it is the shortest of them that counts, and the
turns of busy programs make most of them longer."""

UNANSWERED_SECONDS = 1.0
"""The same while the last one is not answered."""


class YamuxConnection:
    """
    One side of a session.

    @ivar max_frame: octets of payload that C{send_data} takes at most, from the limits.
    @ivar keepalive: its pings; while one is C{unsent}, the owner is to call L{ping_sent} once it has left.
    @ivar now: the time of what happens next, in seconds of the owner's clock, as the owner sets it.
    @ivar octets_in: payload delivered.
    @ivar octets_out: payload taken by C{send_data}.
    @ivar held: payload delivered and not acknowledged, of all streams.
    @ivar drained: octets of payload for streams that are gone or were ended by the peer.
    @ivar refused: streams of the peer answered by RST without an event.
    @ivar overruns: streams reset because the peer exceeded its credit.
    @ivar pongs_dropped: pings not answered because too many answers waited.
    """

    __slots__ = (
        "_backlog", "_budget", "_credit_wait", "_ended_this_read", "_error", "_header", "_limits", "_local_streams",
        "_next_id", "_overruns", "_parity", "_payload_fin", "_payload_left", "_payload_stream", "_peer_went_away", "_pings",
        "_reads", "_send_queue", "_slots_wanted", "_streams", "_unacknowledged", "_went_away", "drained", "held", "keepalive",
        "max_frame", "now", "octets_in", "octets_out", "overruns", "pongs_dropped", "refused", "streams_opened",
    )  # fmt: skip

    def __init__(self, client: bool, limits: SessionLimits = DEFAULT_LIMITS) -> None:
        """
        @param client: whether our streams have odd numbers.  It does not depend on which side opened the connection.
        """
        self._limits = limits
        self.max_frame = limits.max_frame
        self._parity = 1 if client else 0
        self._next_id = 1 if client else 2
        self._streams: dict[int, Stream] = {}
        self._local_streams = 0               # streams in the table that we opened
        self._backlog = 0                     # streams of the peer that are not accepted yet
        self._unacknowledged: dict[int, float] = {}     # our streams without a frame of the peer -> deadline
        self._overruns = OverrunTable()
        self._pings = PingTable()
        self._budget = CreditBudget(limits.session_octets)
        self._send_queue = SendQueue(limits.pongs)
        self.keepalive = Keepalive(limits.keepalive, limits.keepalive_timeout)
        self._reads = 0
        self._ended_this_read: dict[int, None] = {}     # the peer's streams whose end is among the events of this read
        self._header = b""                    # the beginning of a header that was cut
        self._payload_left = 0                # octets to come of a payload that was cut
        self._payload_stream: Stream | None = None      # the stream that it is for; None: it is drained
        self._payload_fin = False             # FIN came with it, and counts when it is whole
        self._credit_wait = 0.0               # seconds that a stream waited for credit, if no later ping was answered
        self._slots_wanted = False            # the owner has seen that no stream can be opened
        self._peer_went_away = self._went_away = False
        self._error: SessionError | None = None
        self.now = 0.0
        self.octets_in = self.octets_out = self.held = self.streams_opened = 0
        self.drained = self.refused = self.overruns = self.pongs_dropped = 0

    # Counters

    @property
    def streams(self) -> int:
        """
        Streams that are open in any direction, or whose payload is not consumed.
        """
        return len(self._streams)

    @property
    def stream_ids(self) -> list[int]:
        """
        The numbers of those streams, oldest first.
        """
        return list(self._streams)

    @property
    def unaccepted(self) -> int:
        """
        Streams of the peer that the owner has not accepted yet.
        """
        return self._backlog

    @property
    def unacknowledged(self) -> int:
        """
        Streams of ours of which the peer has sent nothing yet.
        """
        return len(self._unacknowledged)

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

    def control_octets(self) -> int:
        """
        @return: octets of control that wait; far above 64 KiB the peer is not reading.
        """
        queue = self._send_queue
        waiting = len(queue.frames)
        if queue.pongs or queue.updates:
            waiting += len(queue.pongs) + len(queue.updates)
        return HEADER_SIZE * waiting

    @property
    def growth(self) -> int:
        """
        Octets of credit that all streams together have above their first windows.
        """
        return self._budget.spent

    @property
    def growth_limit(self) -> int:
        """
        What C{growth} may be at most, in octets; see L{share_growth}.
        """
        return self._budget.limit

    @property
    def pings_unanswered(self) -> int:
        """
        Pings of the owner that the peer has not answered.
        """
        return len(self._pings)

    @property
    def overruns_followed(self) -> int:
        """
        Streams reset for an overrun whose further payload is still counted.
        """
        return len(self._overruns)

    # Streams

    def open_stream(self, now: float) -> int:
        """
        Open a stream; payload may follow at once.

        @param now: seconds on the caller's clock, from which the peer has C{open_timeout} to send a first frame.
        @return: the number of the stream.
        @raise GoneAway: after a Go Away of either side.
        @raise StreamsExhausted: all numbers are used.
        @raise StreamLimitReached: no slot is free; L{SlotsFreed} reports when one is.
        """
        if self._peer_went_away or self._went_away:
            raise GoneAway("the session accepts no new streams")
        if self._next_id >= FIRST_UNUSABLE_ID:
            raise StreamsExhausted("the session has no stream numbers left")
        stream_id, limits = self._next_id, self._limits
        free = limits.unacknowledged - len(self._unacknowledged)
        if free > limits.max_streams - self._local_streams:
            free = limits.max_streams - self._local_streams
        if free < 1:
            self._slots_wanted = True
            raise StreamLimitReached("too many streams", open=self._local_streams, unacknowledged=len(self._unacknowledged))
        self._next_id = stream_id + 2
        stream = self._streams[stream_id] = Stream(stream_id, True, now)
        self._local_streams += 1
        self.streams_opened += 1
        self._unacknowledged[stream_id] = now + (limits.open_timeout or inf)
        self._slots_wanted = False
        if free == 1 or stream_id + 2 >= FIRST_UNUSABLE_ID:
            self._slots_wanted = True
        delta = self._initial_window(stream) if limits.window > INITIAL_WINDOW else 0
        self._send_queue.frames.append(pack_header(WINDOW_SYN, stream_id, delta))
        return stream_id

    def accept_stream(self, stream_id: int) -> None:
        """
        Take a stream of the peer: its ACK is queued, once.  Nothing happens when the stream is gone.

        @raise UsageError: one of ours, or accepted already.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if stream.accepted:
            raise UsageError("the stream was accepted already", stream=stream_id)
        stream.accepted = True
        stream.sendable = not stream.fin_sent
        self._backlog -= 1
        delta = 0
        if (stream.returnable or self._limits.window > INITIAL_WINDOW) and not stream.fin_received:
            delta = self._initial_window(stream)
        self._send_queue.frames.append(pack_header(WINDOW_ACK, stream_id, delta))

    def _initial_window(self, stream: Stream) -> int:
        """
        The octets of credit that our first frame on a stream carries.
        """
        stream.grow(self._limits.window, self._budget)
        return stream.grant(self._limits.max_window, self._budget, self.now, self._pings.smallest)

    def credit(self, stream_id: int) -> int:
        """
        Octets we may still send on a stream; C{0} for one that is gone, ended by us, or not accepted.
        """
        stream = self._streams.get(stream_id)
        return stream.credit if stream is not None and stream.sendable else 0

    def send_data(self, stream_id: int, data: bytes) -> int:
        """
        Queue one DATA frame, as large as credit and C{max_frame} allow.

        @return: octets taken; C{0} without credit, or when the stream is gone.
        @raise UsageError: after C{end_stream}, or before C{accept_stream}.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return 0
        if not stream.sendable:
            raise UsageError("payload before the stream was accepted or after it was ended", stream=stream_id)
        taken, credit = len(data), stream.credit
        if taken > credit or taken > self.max_frame:
            taken = min(credit, self.max_frame)
            data = data[:taken]
        if not taken:
            return 0
        stream.credit = credit - taken
        queue = self._send_queue
        stream.flush = queue.flushes
        stream.sent_at = self.now
        pieces = queue.data
        pieces.append(pack_header(DATA, stream_id, taken))
        pieces.append(data)
        self.octets_out += taken
        return taken

    def end_stream(self, stream_id: int) -> None:
        """
        End our direction, after everything that C{send_data} took.  Again, or on a stream that is gone: nothing happens.

        @raise UsageError: before C{accept_stream}.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.fin_sent:
            return
        if not stream.accepted:
            raise UsageError("end of a stream that was not accepted", stream=stream_id)
        stream.fin_sent = True
        stream.sendable = False
        queue = self._send_queue
        stream.flush = queue.flushes
        # after the payload of the stream and never on it: a Go peer may lose payload that comes with a FIN
        queue.data.append(pack_header(WINDOW_FIN, stream_id, 0))
        if stream.fin_received and stream.size == stream.allowance + stream.returnable:
            self._remove(stream)

    def reset_stream(self, stream_id: int) -> None:
        """
        End both directions at once.  What C{data_to_send} did not give out yet is dropped; what the peer still sends is
        drained.  Nothing happens when the stream is gone.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        both_ended = stream.fin_sent and stream.fin_received and not self._send_queue.has_unsent(stream)
        self._discard(stream)
        if not both_ended:
            self._send_queue.reset(stream_id)

    # Consumption and growth

    def acknowledge(self, stream_id: int, octets: int) -> None:
        """
        The application has consumed payload: let the peer send as much again, in steps.  Nothing happens when the stream is
        gone.

        @raise UsageError: more octets than were delivered, or less than none.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        returnable = stream.returnable + octets
        if octets < 0 or returnable + stream.allowance > stream.size:
            raise UsageError("more acknowledged than delivered", stream=stream_id, octets=octets, held=stream.held)
        stream.returnable = returnable
        stream.consumed_at = self.now
        self.held -= octets
        if stream.allowance <= stream.grant_end:
            stream.grant_used_up(self._reads)
            if stream.starved:
                self._measure_round_trip(stream)
        if returnable >= stream.step:
            self._return_credit(stream)

    def _return_credit(self, stream: Stream) -> None:
        if not stream.fin_received:
            if stream.accepted:     # before, it rides on the ACK
                self._send_queue.updates[stream.stream_id] = stream
        elif stream.finished:
            self._remove(stream)

    def stream(self, stream_id: int) -> Stream:
        """
        @return: the state of a stream, which callers may read and must not change.
        @raise KeyError: the stream is gone.
        """
        return self._streams[stream_id]

    def unread(self, stream_id: int) -> tuple[int, float]:
        """
        @return: octets delivered on a stream and not acknowledged, and since when none of it was; C{0} for one that is gone.
        """
        stream = self._streams.get(stream_id)
        return (0, inf) if stream is None else (stream.held, stream.consumed_at)

    def blocked_since(self, stream_id: int) -> float:
        """
        @return: since when the peer has given no credit to send on a stream; infinite where there is credit.
        """
        stream = self._streams.get(stream_id)
        return inf if stream is None or stream.credit or not stream.sendable else stream.sent_at

    def share_growth(self, octets: int) -> None:
        """
        Change how much credit all streams together may have above their first windows.  With less than they have, windows
        shrink as their payload is consumed.

        @param octets: C{session_octets} of the limits, or less.
        """
        self._budget.limit = octets

    def limit_streams(self, most: int) -> None:
        """
        Change how many streams each side may have open.  Those that are open beyond stay open.

        @param most: C{max_streams} of the limits.
        """
        self._limits = evolve(self._limits, max_streams=most)

    # Signs of life, and round trips

    def _measure_round_trip(self, stream: Stream) -> None:
        """
        The peer has stopped for lack of credit, and the window may grow if the way is long: measure it by a ping.  Nothing of
        this stream is on the way now, so the answer does not wait for it.
        """
        pings = self._pings
        interval = ROUND_TRIP_SECONDS if pings.proved == pings.last else UNANSWERED_SECONDS
        if stream.size < self._limits.max_window and self.now >= pings.last + interval:
            self._queue_ping()

    def ping_sent(self, now: float, ahead: float = 0.0) -> None:
        """
        The ping of the keepalive, which L{data_to_send} gave out, has left our buffers.  Only then the time for its answer
        begins, and is longer by the time that what lies before it may need: by what the owner reports, what the last ping
        needed, and what the streams need whose credit is used up.

        @param ahead: seconds that the carrier needs for what it has taken before.
        """
        self.keepalive.ping_sent(now, max(ahead, self._pings.latest, self._longest_wait(now)))

    def _longest_wait(self, now: float) -> float:
        """
        How long a stream has waited for credit, now or the last time.  If a ping was answered that was sent later than the
        payload, the wait is the application's, and does not count.
        """
        proved = self._pings.proved
        sent = min((each.sent_at for each in self._streams.values() if not each.credit and each.sent_at > proved), default=now)
        return max(now - sent, self._credit_wait)

    def alive(self) -> None:
        """
        The owner does not read for now, so missing data does not mean that the peer is lost: count it as a sign of
        life, and give the peer one by a ping.
        """
        self.keepalive.heard = True
        self._queue_ping()

    def ping(self) -> int:
        """
        Ask the peer for a sign of life.

        @return: the opaque value that L{PongArrived} will carry.
        """
        opaque = self._queue_ping()
        self._pings.expect(opaque)
        return opaque

    def _queue_ping(self) -> int:
        opaque = self._pings.take_opaque(self.now)
        self._send_queue.control(PING_REQUEST, 0, opaque)
        return opaque

    def go_away(self, code: int = NORMAL) -> None:
        """
        Announce that we take no new streams: those of the peer are answered by RST, and we open none.  Sent once.
        """
        if not self._went_away:
            self._went_away = True
            self._send_queue.control(GOAWAY_PLAIN, 0, code)

    # Output and time

    def data_to_send(self) -> list[bytes]:
        """
        @return: octets for the transport, in order: control first, then payload; empty when there is nothing to send.
        """
        queue = self._send_queue
        data = queue.data
        if data:
            queue.data = []
            queue.flushes += 1
        if queue.frames or queue.updates or queue.pongs:
            return queue.take_control(self._limits.max_window, self._budget, self.now, self._pings.smallest) + data
        return data

    def next_deadline(self) -> float | None:
        """
        @return: when to call C{expire} next, in seconds on the caller's clock; C{None}: not at all.
        """
        deadline = self.keepalive.next_deadline()
        first = next(iter(self._unacknowledged.values()), inf)     # a dict keeps the order in which they were opened
        if deadline is None or first < deadline:
            return None if first == inf else first
        return deadline

    def expire(self, now: float) -> list[YamuxEvent]:
        """
        Time has passed.  The first call, at connection, starts the keepalive.

        @param now: seconds on the caller's clock.
        """
        events: list[YamuxEvent] = []
        if self._error is not None:
            return events
        self.now = now
        if self.keepalive.timed_out(now):
            events.append(KeepaliveLost())
        if self.keepalive.ping_due(now):
            self._queue_ping()
        while self._unacknowledged:
            stream_id, deadline = next(iter(self._unacknowledged.items()))
            if deadline > now:
                break
            self._discard(self._streams[stream_id])
            self._send_queue.reset(stream_id)
            events.append(StreamReset(stream_id, 0, OPEN_TIMEOUT))
        if self._slots_wanted:
            self._report_free_slots(events)
        return events

    def _report_free_slots(self, events: list[YamuxEvent]) -> None:
        if self.open_slots:
            self._slots_wanted = False
            events.append(SlotsFreed())

    # Input: octets of the peer, cut anywhere

    def receive_data(self, data: bytes) -> list[YamuxEvent]:
        """
        Take what the peer sent, cut anywhere.

        @return: what it means, oldest first.
        @raise PeerError: the session is dead (L{SessionError}); what came before is in its C{events}, and the Go Away, if
            one is due, is in C{data_to_send}.
        """
        if self._error is not None:
            raise self._error
        self.keepalive.heard = True
        self._reads += 1
        self._ended_this_read.clear()
        events: list[YamuxEvent] = []
        try:
            at = self._finish_cut_frame(data, events) if self._payload_left or self._header else 0
            at = self._whole_frames(data, at, events)
            if at < len(data):
                self._header = data[at:]
        except SessionError as error:
            self._fail(error, events)
            raise
        if self._slots_wanted:
            self._report_free_slots(events)
        return events

    def receive_eof(self) -> list[YamuxEvent]:
        """
        The peer's octets have ended.

        @raise PeerError: inside a frame (L{TruncatedFrame}); what arrived of it was delivered.
        """
        if self._error is not None:
            raise self._error
        if self._header or self._payload_left:
            self._error = TruncatedFrame("the octets ended inside a frame", missing=self._payload_left)
            raise self._error
        return []

    def _finish_cut_frame(self, data: bytes, events: list[YamuxEvent]) -> int:
        """
        Finish the frame that the last read cut.

        @return: where the next begins.
        """
        if self._payload_left:
            return self._deliver_payload(data, 0, events)
        at = HEADER_SIZE - len(self._header)
        header = self._header + data[:at]
        if len(header) < HEADER_SIZE:
            self._header = header
            return len(data)
        self._header = b""
        word, stream_id, length = unpack_header(header)
        return self._frame(word, stream_id, length, data, at, events)

    def _whole_frames(self, data: bytes, at: int, events: list[YamuxEvent]) -> int:
        """
        Handle all frames whose headers are whole.

        @return: where the next header begins.
        """
        streams, read, arrived, append, end = self._streams, self._reads, 0, events.append, len(data)
        last = end - HEADER_SIZE
        try:
            while True:
                if at > last:                 # not at the end of the loop: CPython does not specialize what jumps as far
                    break
                word, stream_id, length = unpack_header(data, at)
                at += HEADER_SIZE
                # Nearly all frames are payload without flags, whole, for a stream that flows; then come its beginning and end.
                stream = streams.get(stream_id)
                if stream is None:
                    if word == WINDOW_SYN and stream_id and not length:
                        self._peer_opened(stream_id, None, SYN, events)
                        continue
                elif stream.flowing:
                    if not word and length:
                        to, left = at + length, stream.allowance - length
                        if to <= end and left >= 0:
                            stream.allowance = left
                            stream.read = read
                            arrived += length
                            append(new_event(DataArrived, (stream_id, data[at:to])))
                            at = to
                            continue
                    if word == WINDOW_FIN and not length:
                        self._peer_ended(stream, events)
                        continue
                elif word == WINDOW_ACK and not length and self._unacknowledged.pop(stream_id, None) is not None:
                    stream.flowing = True
                    continue
                at = self._frame(word, stream_id, length, data, at, events)
        finally:
            self.octets_in += arrived
            self.held += arrived
        return at

    def _frame(self, word: int, stream_id: int, length: int, data: bytes, at: int, events: list[YamuxEvent]) -> int:
        """
        Handle any frame whose header is known.

        @return: where the next begins.
        """
        kind, flags = word >> 16, word & 0xFFFF
        if kind == PING:
            self._ping(flags, length, events)
        elif kind == GOAWAY:
            self._go_away_received(length, events)
        elif kind > GOAWAY:     # the version, when it is not zero, stands above the kind
            raise UnknownFrame("not a yamux frame", version=kind >> 8, kind=kind & 0xFF)
        else:
            stream = self._stream(stream_id, flags, events)
            if flags & RST:
                self._peer_reset(stream_id, stream, length if kind == WINDOW else 0, events)
                stream = None
            if kind == DATA:
                return self._begin_payload(stream_id, stream, length, flags & FIN, data, at, events)
            if stream is not None:
                self._window_updated(stream, length, flags & FIN, events)
            elif flags & FIN:
                self._overruns.forget(stream_id)
        return at

    def _stream(self, stream_id: int, flags: int, events: list[YamuxEvent]) -> Stream | None:
        """
        Find the stream of a frame, and open it if the frame carries SYN.  Any frame acknowledges our opening: an ACK may
        never come (a Go peer sends none when our FIN came before its accept).

        @return: C{None} for a stream that is gone.
        """
        if not stream_id:
            raise ForbiddenStream("a frame for stream 0", flags=flags)
        stream = self._streams.get(stream_id)
        if flags & SYN:
            return self._peer_opened(stream_id, stream, flags, events)
        if stream is not None and stream.is_local and self._unacknowledged.pop(stream_id, None) is not None:
            stream.flowing = True
        return stream

    def _peer_opened(
        self, stream_id: int, known: Stream | None, flags: int, events: list[YamuxEvent]
    ) -> Stream | None:
        if stream_id & 1 == self._parity:
            raise ForbiddenStream("the peer opened a stream under our parity", stream=stream_id)
        if known is not None:
            raise DuplicateStream("stream opened twice", stream=stream_id)
        if flags != SYN and flags & RST:
            return None
        if (
            self._went_away
            or stream_id in self._ended_this_read     # the owner could not distinguish its events from those of the former
            or self._backlog >= self._limits.backlog
            or len(self._streams) - self._local_streams >= self._limits.max_streams
        ):
            self.refused += 1
            self._queue_counted_reset(stream_id)
            return None
        if self._overruns.left:               # hardly ever, so that it costs no call
            self._overruns.forget(stream_id)
        stream = self._streams[stream_id] = Stream(stream_id, False, self.now)
        self._backlog += 1
        self.streams_opened += 1
        events.append(new_event(StreamOpened, (stream_id,)))
        return stream

    def _peer_reset(self, stream_id: int, stream: Stream | None, code: int, events: list[YamuxEvent]) -> None:
        if stream is None:
            self._overruns.forget(stream_id)
            return
        self._discard(stream)
        events.append(StreamReset(stream_id, code, PEER))

    def _window_updated(self, stream: Stream, octets: int, fin: int, events: list[YamuxEvent]) -> None:
        credit = stream.credit + octets
        if credit > MAX_CREDIT:
            self._reset_stream(stream, CREDIT_OVERFLOW, events)
            return
        if octets and not stream.credit:
            if stream.sent_at > self._pings.proved:
                self._credit_wait = self.now - stream.sent_at
            if not stream.fin_sent:
                events.append(CreditArrived(stream.stream_id))
        stream.credit = credit
        if fin:
            self._peer_ended(stream, events)

    def _begin_payload(
        self,
        stream_id: int,
        stream: Stream | None,
        length: int,
        fin: int,
        data: bytes,
        at: int,
        events: list[YamuxEvent],
    ) -> int:
        if stream is None:
            self._overruns.count(stream_id, length)
        elif stream.fin_received:
            stream = None               # a Go program that writes and closes at once can send FIN first
        elif length > stream.allowance:
            self.overruns += 1
            self._overruns.add(stream_id, stream.size)
            self._overruns.count(stream_id, length - stream.allowance)
            self._reset_stream(stream, OVERRUN, events)
            stream = None
        self._payload_stream, self._payload_left, self._payload_fin = stream, length, bool(fin)
        return self._deliver_payload(data, at, events)

    def _deliver_payload(self, data: bytes, at: int, events: list[YamuxEvent]) -> int:
        """
        Deliver as much of the present payload as has arrived.

        @return: where it ends.
        """
        stream = self._payload_stream
        octets = min(self._payload_left, len(data) - at)
        self._payload_left -= octets
        if stream is None:
            self.drained += octets
        elif octets:
            stream.allowance -= octets
            stream.read = self._reads
            self.octets_in += octets
            self.held += octets
            events.append(new_event(DataArrived, (stream.stream_id, data[at : at + octets])))
        if not self._payload_left:
            self._payload_stream = None
            if self._payload_fin and stream is not None:
                self._peer_ended(stream, events)
        return at + octets

    def _peer_ended(self, stream: Stream, events: list[YamuxEvent]) -> None:
        if stream.fin_received:
            return
        stream.fin_received = True
        stream.flowing = False
        stream.step = unread = stream.size - stream.allowance     # something is due when all is consumed
        if self._send_queue.updates:
            self._send_queue.updates.pop(stream.stream_id, None)
        events.append(new_event(StreamEnded, (stream.stream_id,)))
        if stream.fin_sent and unread == stream.returnable:
            self._remove(stream)

    def _ping(self, flags: int, opaque: int, events: list[YamuxEvent]) -> None:
        if flags & SYN:
            if not self._send_queue.pong(opaque):
                self.pongs_dropped += 1
        elif flags & ACK:
            if self._pings.answered(opaque, self.now):
                events.append(PongArrived(opaque))
            self._credit_wait = 0.0

    def _go_away_received(self, code: int, events: list[YamuxEvent]) -> None:
        if code != NORMAL:
            raise PeerFailed(code)
        if not self._peer_went_away:
            self._peer_went_away = True
            events.append(PeerWentAway(code))

    # How a stream leaves the table, and how the session fails

    def _reset_stream(self, stream: Stream, reason: ResetReason, events: list[YamuxEvent]) -> None:
        self._discard(stream)
        events.append(StreamReset(stream.stream_id, 0, reason))
        self._queue_counted_reset(stream.stream_id)

    def _queue_counted_reset(self, stream_id: int) -> None:
        self._send_queue.resets += 1
        if self._send_queue.resets > self._limits.refusals:
            raise TooManyRefusals("the peer causes resets and does not read them", waiting=self._limits.refusals)
        self._send_queue.reset(stream_id)

    def _discard(self, stream: Stream) -> None:
        """
        A stream is reset: what is held of it, or has not left yet, is dropped.
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
        if self._send_queue.updates:
            self._send_queue.updates.pop(stream_id, None)
        if stream.is_local:
            self._local_streams -= 1
            if not stream.fin_received:       # which acknowledges the stream as well
                self._unacknowledged.pop(stream_id, None)
        else:
            self._ended_this_read[stream_id] = None      # an empty set would take four times the memory of an empty dict
            if not stream.accepted:
                self._backlog -= 1
        if stream.size != INITIAL_WINDOW:
            self._budget.spent -= stream.size - INITIAL_WINDOW
        if self._payload_stream is stream:
            self._payload_stream = None

    def _fail(self, error: SessionError, events: list[YamuxEvent]) -> None:
        """
        The session is dead: nothing is kept but the Go Away for the peer.
        """
        error.events = events
        self._error = error
        self.held = 0
        self._went_away = True
        self._streams.clear()
        self._unacknowledged.clear()
        self._overruns.clear()
        self._send_queue.discard_pending()
        if not isinstance(error, PeerFailed):
            self._send_queue.control(GOAWAY_PLAIN, 0, error.code)
