"""
A yamux session as a machine: octets of the peer become events, calls of the owner become octets.

Nothing here waits, sleeps, or knows a transport.  After any call the owner takes L{YamuxConnection.data_to_send} to the
transport; at L{YamuxConnection.next_deadline} it calls L{YamuxConnection.expire}.

Source: hashicorp/yamux at v0.1.2, as its code behaves; C{docs/protocols/yamux}.
"""

from __future__ import annotations

from math import inf

from tunnelstack.errors import UsageError
from tunnelstack.wire.yamux.credit import Budget
from tunnelstack.wire.yamux.errors import (
    DuplicateStream,
    ForbiddenStream,
    GoneAway,
    PeerFailed,
    SessionBroken,
    StreamsExhausted,
    TooManyRefusals,
    TooManyStreams,
    TruncatedFrame,
    UnknownFrame,
    WindowOverrun,
)
from tunnelstack.wire.yamux.events import (
    CREDIT_OVERFLOW,
    OPEN_TIMEOUT,
    OVERRUN,
    PEER,
    CreditArrived,
    DataArrived,
    Event,
    KeepaliveLost,
    PeerWentAway,
    PongArrived,
    ResetReason,
    SlotsFreed,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from tunnelstack.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    FIRST_UNUSABLE_ID,
    GOAWAY,
    GOAWAY_PLAIN,
    HEADER_SIZE,
    HIGHEST_CREDIT,
    NORMAL,
    PING,
    PING_REQUEST,
    RST,
    SYN,
    WINDOW,
    WINDOW_ACK,
    WINDOW_SYN,
    pack_header,
    unpack_header,
)
from tunnelstack.wire.yamux.keepalive import Keepalive
from tunnelstack.wire.yamux.limits import DEFAULT_LIMITS, SessionLimits
from tunnelstack.wire.yamux.outbox import Outbox
from tunnelstack.wire.yamux.stream import Stream

PINGS_REMEMBERED = 32       # pings of the owner that may be unanswered before the oldest is forgotten
OVERRUNS_REMEMBERED = 64    # streams reset for an overrun whose further payload is still counted


class YamuxConnection:
    """
    One side of a session.

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
        self._ours = 0                                  # streams in the table that we opened
        self._backlog = 0                               # streams of the peer not accepted yet
        self._unheard: dict[int, float] = {}            # our streams without a frame of the peer -> deadline
        self._overrun: dict[int, int] = {}              # streams reset for an overrun -> octets until the session ends
        self._pings: dict[int, None] = {}               # the owner's, unanswered
        self._next_ping = 0
        self._budget = Budget(limits.session_octets)
        self._outbox = Outbox(limits.pongs)
        self._keepalive = Keepalive(limits.keepalive, limits.keepalive_timeout)
        self._reads = 0
        self._header = b""                              # the beginning of a header that was cut
        self._body_left = 0                             # octets to come of a payload that was cut
        self._body_of: Stream | None = None             # whose it is; None: nobody's, to be drained
        self._body_ends = False                         # FIN came with it and counts when it is whole
        self._slots_wanted = False                      # somebody saw that no stream can be opened
        self._peer_gone = self._we_are_gone = False
        self._broken: SessionBroken | None = None
        self.octets_in = self.octets_out = self.held = 0
        self.drained = self.refused = self.overruns = self.pongs_dropped = 0

    # What the owner asks.

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
        if self._peer_gone or self._we_are_gone:
            return 0
        return max(
            0,
            min(self._limits.unacknowledged - len(self._unheard), self._limits.max_streams - self._ours),
        )

    @property
    def control_octets(self) -> int:
        """
        Octets of control that wait; far above 64 KiB the peer is not reading.
        """
        return self._outbox.control_octets

    def credit(self, stream_id: int) -> int:
        """
        Octets we may still send on a stream; C{0} for one that is gone, ended by us, or not accepted.
        """
        stream = self._streams.get(stream_id)
        return stream.credit if stream is not None and stream.sendable else 0

    # Octets of the peer.

    def receive_data(self, data: bytes) -> list[Event]:
        """
        Take what the peer sent, cut anywhere.

        @return: what it means, oldest first.
        @raise PeerError: the session is dead (L{SessionBroken}); what came before is in its C{events}, and the Go Away, if
            one is due, is in C{data_to_send}.
        """
        if self._broken is not None:
            raise self._broken
        self._keepalive.heard = True
        self._reads += 1
        events: list[Event] = []
        try:
            self._read(data, events)
        except SessionBroken as broken:
            self._break(broken, events)
            raise
        if self._slots_wanted:
            self._tell_slots(events)
        return events

    def receive_eof(self) -> list[Event]:
        """
        The peer's octets have ended.

        @raise PeerError: inside a frame (L{TruncatedFrame}); what arrived of it was delivered.
        """
        if self._broken is not None:
            raise self._broken
        if self._header or self._body_left:
            self._broken = TruncatedFrame("the octets ended inside a frame", missing=self._body_left)
            raise self._broken
        return []

    def _read(self, data: bytes, events: list[Event]) -> None:
        at, end = 0, len(data)
        if self._body_left:
            at = self._body(data, 0, events)
        elif self._header:
            at = HEADER_SIZE - len(self._header)
            header = self._header + data[:at]
            if len(header) < HEADER_SIZE:
                self._header = header
                return
            self._header = b""
            at = self._frame(*unpack_header(header), data, at, events)
        streams, read, arrived, append = self._streams, self._reads, 0, events.append
        while end - at >= HEADER_SIZE:
            word, stream_id, length = unpack_header(data, at)
            at += HEADER_SIZE
            # Nearly all frames are payload without flags, whole, for a stream that flows.
            if not word and 0 < length <= end - at:
                stream = streams.get(stream_id)
                if stream is not None and stream.flowing and length <= stream.allowance:
                    stream.allowance -= length
                    stream.read = read
                    arrived += length
                    append(DataArrived(stream_id, data[at : at + length]))
                    at += length
                    continue
            at = self._frame(word, stream_id, length, data, at, events)
        self.octets_in += arrived
        self.held += arrived
        if at < end:
            self._header = data[at:]

    def _frame(self, word: int, stream_id: int, length: int, data: bytes, at: int, events: list[Event]) -> int:
        """
        Any frame, from behind its header on.

        @return: where the next begins.
        """
        kind, flags = word >> 16, word & 0xFFFF
        if kind == PING:
            self._ping(flags, length, events)
        elif kind == GOAWAY:
            self._peer_goes_away(length, events)
        elif kind > GOAWAY:     # the version, when it is not zero, stands above the kind
            raise UnknownFrame("not a yamux frame", version=kind >> 8, kind=kind & 0xFF)
        else:
            stream = self._stream(stream_id, flags, events)
            if flags & RST:
                self._reset_by_peer(stream_id, stream, length if kind == WINDOW else 0, events)
                stream = None
            if kind == DATA:
                return self._payload(stream_id, stream, length, flags & FIN, data, at, events)
            if stream is not None:
                self._credit_arrives(stream, length, flags & FIN, events)
            elif flags & FIN:
                self._overrun.pop(stream_id, None)
        return at

    def _stream(self, stream_id: int, flags: int, events: list[Event]) -> Stream | None:
        """
        Whose frame it is, opened just now if it carries SYN; C{None} if nobody's.  Any frame acknowledges our opening: an
        ACK may never come (a Go peer sends none when our FIN came before its accept).
        """
        if not stream_id:
            raise ForbiddenStream("a frame for stream 0", flags=flags)
        stream = self._streams.get(stream_id)
        if flags & SYN:
            return self._opened_by_peer(stream_id, stream, flags, events)
        if stream is not None and stream.ours and self._unheard.pop(stream_id, None) is not None:
            stream.flowing = True
        return stream

    def _opened_by_peer(
        self, stream_id: int, known: Stream | None, flags: int, events: list[Event]
    ) -> Stream | None:
        if stream_id & 1 == self._parity:
            raise ForbiddenStream("the peer opened a stream under our parity", stream=stream_id)
        if known is not None:
            raise DuplicateStream("stream opened twice", stream=stream_id)
        self._overrun.pop(stream_id, None)
        if flags & RST:
            return None
        if (
            self._we_are_gone
            or self._backlog >= self._limits.backlog
            or len(self._streams) - self._ours >= self._limits.max_streams
        ):
            self.refused += 1
            self._reset_on_peers_account(stream_id)
            return None
        stream = self._streams[stream_id] = Stream(stream_id, ours=False)
        self._backlog += 1
        events.append(StreamOpened(stream_id))
        return stream

    def _reset_by_peer(self, stream_id: int, stream: Stream | None, code: int, events: list[Event]) -> None:
        if stream is None:
            self._overrun.pop(stream_id, None)
            return
        self._forget(stream)
        events.append(StreamReset(stream_id, code, PEER))

    def _credit_arrives(self, stream: Stream, octets: int, fin: int, events: list[Event]) -> None:
        credit = stream.credit + octets
        if credit > HIGHEST_CREDIT:
            self._reset_for(stream, CREDIT_OVERFLOW, events)
            return
        if octets and not stream.credit and not stream.fin_sent:
            events.append(CreditArrived(stream.stream_id))
        stream.credit = credit
        if fin:
            self._ended_by_peer(stream, events)

    def _payload(
        self,
        stream_id: int,
        stream: Stream | None,
        length: int,
        fin: int,
        data: bytes,
        at: int,
        events: list[Event],
    ) -> int:
        if stream is None:
            self._count_overrun(stream_id, length)
        elif stream.fin_received:
            stream = None               # a Go program that writes and closes at once can send FIN first
        elif length > stream.allowance:
            self._remember_overrun(stream, length - stream.allowance)
            self._reset_for(stream, OVERRUN, events)
            stream = None
        self._body_of, self._body_left, self._body_ends = stream, length, bool(fin)
        return self._body(data, at, events)

    def _body(self, data: bytes, at: int, events: list[Event]) -> int:
        """
        As much of the present payload as has come.

        @return: where it ends.
        """
        stream = self._body_of
        octets = min(self._body_left, len(data) - at)
        self._body_left -= octets
        if stream is None:
            self.drained += octets
        elif octets:
            stream.allowance -= octets
            stream.read = self._reads
            self.octets_in += octets
            self.held += octets
            events.append(DataArrived(stream.stream_id, data[at : at + octets]))
        if not self._body_left:
            self._body_of = None
            if self._body_ends and stream is not None:
                self._ended_by_peer(stream, events)
        return at + octets

    def _ended_by_peer(self, stream: Stream, events: list[Event]) -> None:
        if stream.fin_received:
            return
        stream.fin_received = True
        stream.flowing = False
        stream.close()
        self._outbox.updates.pop(stream.stream_id, None)
        events.append(StreamEnded(stream.stream_id))
        if stream.finished:
            self._forget(stream)

    def _ping(self, flags: int, opaque: int, events: list[Event]) -> None:
        if flags & SYN:
            if not self._outbox.pong(opaque):
                self.pongs_dropped += 1
        elif flags & ACK and opaque in self._pings:
            del self._pings[opaque]
            events.append(PongArrived(opaque))

    def _peer_goes_away(self, code: int, events: list[Event]) -> None:
        if code != NORMAL:
            raise PeerFailed(code)
        if not self._peer_gone:
            self._peer_gone = True
            events.append(PeerWentAway(code))

    # What the session does by itself.

    def _reset_for(self, stream: Stream, reason: ResetReason, events: list[Event]) -> None:
        self._forget(stream)
        events.append(StreamReset(stream.stream_id, 0, reason))
        self._reset_on_peers_account(stream.stream_id)

    def _reset_on_peers_account(self, stream_id: int) -> None:
        self._outbox.resets += 1
        if self._outbox.resets > self._limits.refusals:
            raise TooManyRefusals("the peer causes resets and does not read them", waiting=self._limits.refusals)
        self._outbox.reset(stream_id)

    def _remember_overrun(self, stream: Stream, beyond: int) -> None:
        self.overruns += 1
        if len(self._overrun) >= OVERRUNS_REMEMBERED:
            del self._overrun[next(iter(self._overrun))]
        self._overrun[stream.stream_id] = stream.size
        self._count_overrun(stream.stream_id, beyond)

    def _count_overrun(self, stream_id: int, octets: int) -> None:
        """
        Payload beyond credit, on a stream that was reset for it: a Go peer may have a window more on its way, not two.
        """
        left = self._overrun.get(stream_id)
        if left is None:
            return
        if octets > left:
            raise WindowOverrun("payload far beyond credit", stream=stream_id, octets=octets, tolerated=left)
        self._overrun[stream_id] = left - octets

    def _forget(self, stream: Stream) -> None:
        """
        Take a stream out of every table, and its unsent payload out of the outbox unless it ended in peace.
        """
        stream_id = stream.stream_id
        del self._streams[stream_id]
        self._unheard.pop(stream_id, None)
        self._outbox.updates.pop(stream_id, None)
        if stream.ours:
            self._ours -= 1
        elif not stream.accepted:
            self._backlog -= 1
        self.held -= stream.held
        stream.release(self._budget)
        if self._body_of is stream:
            self._body_of = None
        if not stream.finished:
            self._outbox.drop(stream)

    def _tell_slots(self, events: list[Event]) -> None:
        if self.open_slots:
            self._slots_wanted = False
            events.append(SlotsFreed())

    def _break(self, broken: SessionBroken, events: list[Event]) -> None:
        """
        The session is dead: nothing is kept but what tells the peer.
        """
        broken.events = events
        self._broken = broken
        self._we_are_gone = True
        self._streams.clear()
        self._unheard.clear()
        self._overrun.clear()
        self._outbox.silence()
        if not isinstance(broken, PeerFailed):
            self._outbox.control(GOAWAY_PLAIN, 0, broken.code)

    # Streams.

    def open_stream(self, now: float) -> int:
        """
        Open a stream; payload may follow at once.

        @param now: seconds on the caller's clock, from which the peer has C{open_timeout} to send a first frame.
        @return: the number of the stream.
        @raise GoneAway: after a Go Away of either side.
        @raise StreamsExhausted: all numbers are used.
        @raise TooManyStreams: no open slot; L{SlotsFreed} tells when there is one.
        """
        if self._peer_gone or self._we_are_gone:
            raise GoneAway("the session takes no new streams")
        if self._next_id >= FIRST_UNUSABLE_ID:
            raise StreamsExhausted("the session has no stream numbers left")
        if not self.open_slots:
            self._slots_wanted = True
            raise TooManyStreams("too many streams", open=self._ours, unacknowledged=len(self._unheard))
        stream_id = self._next_id
        self._next_id += 2
        stream = self._streams[stream_id] = Stream(stream_id, ours=True)
        self._ours += 1
        self._unheard[stream_id] = now + (self._limits.open_timeout or inf)
        self._slots_wanted = not self.open_slots
        self._outbox.control(WINDOW_SYN, stream_id, self._first_grant(stream))
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
        delta = 0 if stream.fin_received else self._first_grant(stream)
        self._outbox.control(WINDOW_ACK, stream_id, delta)

    def _first_grant(self, stream: Stream) -> int:
        """
        The octets of credit that our first frame on a stream carries.
        """
        stream.grow(self._limits.window, self._budget)
        return stream.grant(self._limits.max_window, self._budget)

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
        if taken > credit or taken > self._max_frame:
            taken = min(credit, self._max_frame)
            data = data[:taken]
        if not taken:
            return 0
        stream.credit = credit - taken
        outbox = self._outbox
        stream.flush = outbox.flushes
        outbox.data += (pack_header(DATA, stream_id, taken), data)
        self.octets_out += taken
        return taken

    def end_stream(self, stream_id: int) -> None:
        """
        End our direction, behind everything that C{send_data} took.  Again, or on a stream that is gone: nothing happens.

        @raise UsageError: before C{accept_stream}.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.fin_sent:
            return
        if not stream.accepted:
            raise UsageError("end of a stream that was not accepted", stream=stream_id)
        stream.fin_sent = True
        stream.sendable = False
        self._outbox.end(stream)
        if stream.finished:
            self._forget(stream)

    def reset_stream(self, stream_id: int) -> None:
        """
        End both directions at once.  What C{data_to_send} did not give out yet is dropped; what the peer still sends is
        drained.  Nothing happens when the stream is gone.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        told = stream.fin_sent and stream.fin_received and not self._outbox.holds(stream)
        self._forget(stream)
        if not told:
            self._outbox.reset(stream_id)

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
        self.held -= octets
        if stream.allowance <= stream.edge:
            stream.reached_edge(self._reads)
        if returnable >= stream.step:
            self._credit_due(stream)

    def _credit_due(self, stream: Stream) -> None:
        if not stream.fin_received:
            if stream.accepted:     # before, it rides on the ACK
                self._outbox.updates[stream.stream_id] = stream
        elif stream.finished:
            self._forget(stream)

    # The session.

    def ping(self) -> int:
        """
        Ask for a sign of life.

        @return: the opaque value that L{PongArrived} will carry.
        """
        opaque = self._queue_ping()
        if len(self._pings) >= PINGS_REMEMBERED:
            del self._pings[next(iter(self._pings))]
        self._pings[opaque] = None
        return opaque

    def _queue_ping(self) -> int:
        opaque = self._next_ping
        self._next_ping = (opaque + 1) & 0xFFFF_FFFF
        self._outbox.control(PING_REQUEST, 0, opaque)
        return opaque

    def go_away(self, code: int = NORMAL) -> None:
        """
        Announce that we take no new streams: those of the peer are answered by RST, and we open none.  Said once.
        """
        if not self._we_are_gone:
            self._we_are_gone = True
            self._outbox.control(GOAWAY_PLAIN, 0, code)

    def data_to_send(self) -> list[bytes]:
        """
        @return: octets for the transport, in order: control first, then payload; empty when there is nothing to say.
        """
        return self._outbox.take(self._limits.max_window, self._budget)

    def next_deadline(self) -> float | None:
        """
        @return: when to call C{expire} next, in seconds on the caller's clock; C{None}: not at all.
        """
        deadline = self._keepalive.next_deadline()
        first = next(iter(self._unheard.values()), inf)     # they were opened in order of time
        if deadline is None or first < deadline:
            return None if first == inf else first
        return deadline

    def expire(self, now: float) -> list[Event]:
        """
        Time has passed.  The first call, at connection, starts the keepalive.

        @param now: seconds on the caller's clock.
        """
        events: list[Event] = []
        if self._broken is not None:
            return events
        if self._keepalive.lost(now):
            return [KeepaliveLost()]
        if self._keepalive.ping_due(now):
            self._queue_ping()
        while self._unheard:
            stream_id, deadline = next(iter(self._unheard.items()))
            if deadline > now:
                break
            self._forget(self._streams[stream_id])
            self._outbox.reset(stream_id)
            events.append(StreamReset(stream_id, 0, OPEN_TIMEOUT))
        if self._slots_wanted:
            self._tell_slots(events)
        return events
