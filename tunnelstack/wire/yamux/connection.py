"""
A yamux session as a machine: octets of the peer become events, calls of the owner become octets.

Nothing here waits, sleeps, or knows a transport.  After any call the owner takes L{YamuxConnection.data_to_send} to the
transport; at L{YamuxConnection.next_deadline} it calls L{YamuxConnection.expire}.

Source: hashicorp/yamux at v0.1.2, as its code behaves; C{docs/protocols/yamux}.
"""

from __future__ import annotations

from math import inf

from tunnelstack.errors import UsageError
from tunnelstack.wire.yamux._receiver import Intake
from tunnelstack.wire.yamux.errors import GoneAway, StreamsExhausted, TooManyStreams
from tunnelstack.wire.yamux.events import OPEN_TIMEOUT, Event, KeepaliveLost, StreamReset
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


class YamuxConnection(Intake):
    """
    One side of a session.  The counters are those of L{tunnelstack.wire.yamux._streams.SessionState}.
    """

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
        slots = self.open_slots
        if not slots:
            self._slots_wanted = True
            raise TooManyStreams("too many streams", open=self._ours, unacknowledged=len(self._unheard))
        stream_id = self._next_id
        self._next_id += 2
        stream = self._streams[stream_id] = Stream(stream_id, ours=True)
        self._ours += 1
        self._unheard[stream_id] = now + (self._limits.open_timeout or inf)
        self._slots_wanted = slots == 1
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
        if stream.fin_received and stream.finished:
            self._leave(stream)

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
            self._leave(stream)

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
            events.append(KeepaliveLost())
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
