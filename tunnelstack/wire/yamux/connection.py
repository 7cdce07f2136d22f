"""
A yamux session as a machine: octets of the peer become events, calls of the owner become octets.

Nothing here waits, sleeps, or knows a transport.  After any call the owner takes L{YamuxConnection.data_to_send} to the
transport; at L{YamuxConnection.next_deadline} it calls L{YamuxConnection.expire}.

Source: hashicorp/yamux at v0.1.2, as its code behaves; C{docs/protocols/yamux}.
"""

from __future__ import annotations

from math import inf

from tunnelstack.errors import UsageError
from tunnelstack.wire.yamux._receiver import FrameReceiver
from tunnelstack.wire.yamux.errors import GoneAway, StreamLimitReached, StreamsExhausted
from tunnelstack.wire.yamux.events import OPEN_TIMEOUT, KeepaliveLost, StreamReset, YamuxEvent
from tunnelstack.wire.yamux.frames import (
    DATA,
    FIRST_UNUSABLE_ID,
    GOAWAY_PLAIN,
    INITIAL_WINDOW,
    NORMAL,
    PING_REQUEST,
    WINDOW_ACK,
    WINDOW_SYN,
    pack_header,
)
from tunnelstack.wire.yamux.stream import Stream

PINGS_REMEMBERED = 32       # pings of the owner that may be unanswered before the oldest is forgotten


class YamuxConnection(FrameReceiver):
    """
    One side of a session.  The counters are those of L{tunnelstack.wire.yamux._streams.StreamTable}.
    """

    @property
    def control_octets(self) -> int:
        """
        Octets of control that wait; far above 64 KiB the peer is not reading.
        """
        return self._send_queue.control_octets

    def credit(self, stream_id: int) -> int:
        """
        Octets we may still send on a stream; C{0} for one that is gone, ended by us, or not accepted.
        """
        stream = self._streams.get(stream_id)
        return stream.credit if stream is not None and stream.sendable else 0

    def open_stream(self, now: float) -> int:
        """
        Open a stream; payload may follow at once.

        @param now: seconds on the caller's clock, from which the peer has C{open_timeout} to send a first frame.
        @return: the number of the stream.
        @raise GoneAway: after a Go Away of either side.
        @raise StreamsExhausted: all numbers are used.
        @raise StreamLimitReached: no open slot; L{SlotsFreed} tells when there is one.
        """
        if self._peer_went_away or self._went_away:
            raise GoneAway("the session takes no new streams")
        if self._next_id >= FIRST_UNUSABLE_ID:
            raise StreamsExhausted("the session has no stream numbers left")
        slots = self.open_slots
        if not slots:
            self._slots_wanted = True
            raise StreamLimitReached("too many streams", open=self._local_streams, unacknowledged=len(self._unacknowledged))
        stream_id = self._next_id
        self._next_id += 2
        stream = self._streams[stream_id] = Stream(stream_id, is_local=True, now=now)
        self._local_streams += 1
        self._unacknowledged[stream_id] = now + (self._limits.open_timeout or inf)
        self._slots_wanted = slots == 1
        self._send_queue.control(WINDOW_SYN, stream_id, self._initial_window(stream))
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
        delta = 0 if stream.fin_received else self._initial_window(stream)
        self._send_queue.control(WINDOW_ACK, stream_id, delta)

    def _initial_window(self, stream: Stream) -> int:
        """
        The octets of credit that our first frame on a stream carries.
        """
        if self._limits.window <= INITIAL_WINDOW and not stream.returnable:
            return 0
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
        queue = self._send_queue
        stream.flush = queue.flushes
        stream.sent_at = self.now
        queue.data += (pack_header(DATA, stream_id, taken), data)
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
        self._send_queue.end(stream)
        if stream.fin_received and stream.finished:
            self._remove(stream)

    def reset_stream(self, stream_id: int) -> None:
        """
        End both directions at once.  What C{data_to_send} did not give out yet is dropped; what the peer still sends is
        drained.  Nothing happens when the stream is gone.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        told = stream.fin_sent and stream.fin_received and not self._send_queue.has_unsent(stream)
        self._discard(stream)
        if not told:
            self._send_queue.reset(stream_id)

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
        if returnable >= stream.step:
            self._return_credit(stream)

    def _return_credit(self, stream: Stream) -> None:
        if not stream.fin_received:
            if stream.accepted:     # before, it rides on the ACK
                self._send_queue.updates[stream.stream_id] = stream
        elif stream.finished:
            self._remove(stream)

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

    def alive(self) -> None:
        """
        The owner does not read for now, so discard_pending means nothing: it counts as a sign of life, and a ping gives the
        peer one.
        """
        self._keepalive.heard = True
        self._queue_ping()

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
        self._send_queue.control(PING_REQUEST, 0, opaque)
        return opaque

    def go_away(self, code: int = NORMAL) -> None:
        """
        Announce that we take no new streams: those of the peer are answered by RST, and we open none.  Said once.
        """
        if not self._went_away:
            self._went_away = True
            self._send_queue.control(GOAWAY_PLAIN, 0, code)

    def data_to_send(self) -> list[bytes]:
        """
        @return: octets for the transport, in order: control first, then payload; empty when there is nothing to say.
        """
        return self._send_queue.take(self._limits.max_window, self._budget)

    def next_deadline(self) -> float | None:
        """
        @return: when to call C{expire} next, in seconds on the caller's clock; C{None}: not at all.
        """
        deadline = self._keepalive.next_deadline()
        first = next(iter(self._unacknowledged.values()), inf)     # they were opened in order of time
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
        if self._keepalive.timed_out(now):
            events.append(KeepaliveLost())
        if self._keepalive.ping_due(now):
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
