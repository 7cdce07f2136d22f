"""
An HTTP/2 connection as a machine: octets of the peer become events, calls of the owner become octets.

The states of connection and streams, and the frames, are those of C{h2}.  Before it and after it there is what it leaves to its
users, or does in a way that costs the connection where a stream would do::

    octets -> FrameScanner -> the frame is checked and counted -> h2 -> the event is checked -> events
              L{frames}       L{floods}, here                          L{fields}, here

DATA frames pass by C{h2}, which would copy each several times and write it out in hexadecimal for a log that there is not; it
gets to know their ends.  GOAWAY passes by it, because its machine is closed by one in either direction, so that the frames that
follow raise an exception (release 4.4.1; issues 1181 and 1199 of its project).  PRIORITY frames, frames of unknown kinds and
unknown settings are counted and dropped.  Lists of fields pass by it as well, see
L{field_codec<tunnelstack.wire.http2.field_codec>}.

Credit for a stream is returned when its payload was consumed, and its window grows, as those of yamux do
(L{tunnelstack.wire.receive_window}).  Credit for the connection is returned when payload arrives, unless too much is held for
applications that do not read: so a stream that is not read does not hold up the others.

Sources: RFC 9113, RFC 8441.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any

from h2 import events as h2events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError, StreamClosedError, TooManyStreamsError
from h2.settings import SettingCodes, Settings

from tunnelstack.errors import UsageError
from tunnelstack.wire.http2 import frames
from tunnelstack.wire.http2.codes import ErrorCode
from tunnelstack.wire.http2.errors import HTTP2Error, HTTP2Flood, NoMoreStreams, NotHTTP2, StreamLimitUsedUp
from tunnelstack.wire.http2.events import (
    BodyArrived,
    ConnectionExpired,
    ConnectionIdle,
    Fields,
    GoAwayArrived,
    HeadArrived,
    HTTP2Event,
    InformationalArrived,
    MessageEnded,
    PingAnswered,
    SettingsArrived,
    StreamAborted,
    StreamSlotsChanged,
    WindowOpened,
)
from tunnelstack.wire.http2.field_codec import FieldDecoder, FieldEncoder
from tunnelstack.wire.http2.fields import Malformed, check_request, check_response, check_trailers, list_size
from tunnelstack.wire.http2.floods import (
    FRAMES_PER_STREAM,
    OCTETS_PER_UPDATE,
    PINGS_PER_DATA,
    UPDATES_PER_DATA,
    FloodGuard,
)
from tunnelstack.wire.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HEADER_SIZE,
    LARGEST_ID,
    PADDED,
    FrameScanner,
)
from tunnelstack.wire.http2.limits import CLIENT_LIMITS, SERVER_LIMITS, WINDOW, HTTP2Limits
from tunnelstack.wire.http2.preface import PREFACE
from tunnelstack.wire.http2.stream import HTTP2StreamState
from tunnelstack.wire.keepalive import Keepalive, PingTable
from tunnelstack.wire.receive_window import CreditBudget

DEFAULT_CONNECTION_WINDOW = 65535
"""Octets of the connection's window before a WINDOW_UPDATE.  Source: RFC 9113, section 6.9.2."""

STREAMS_BEFORE_SETTINGS = 100
"""Streams that a client opens before it knows how many the server accepts.  Source: RFC 9113, section 6.5.2 recommends that no
fewer are accepted."""

LARGEST_FRAME_SENT = 64 * 1024
"""Octets of payload of a DATA frame, however many the peer accepts: other streams wait for it."""

DRAIN_SECONDS = 1.0
"""Seconds between the first and the final GOAWAY, if the peer does not answer the ping between them."""

LONGEST_DEBUG = 256
"""Octets of a GOAWAY's debug data that are kept."""

ROUND_TRIP_SECONDS = 0.01
"""Seconds between two measurements of the round trip while windows might grow."""

UNANSWERED_SECONDS = 1.0
"""The same while the last one is not answered."""


class _H2(H2Connection):
    MAX_CLOSED_STREAMS = 1024                 # remembered; of those before, h2 cannot tell how they ended


class HTTP2Machine:
    """
    One side of a connection.

    @ivar client: this side opens the streams.
    @ivar keepalive: its pings; while one is C{unsent}, the owner is to call L{ping_sent} once it has left.
    @ivar now: the time of what happens next, in seconds of the owner's clock, as the owner sets it.
    @ivar octets_in: octets of bodies that arrived.
    @ivar octets_out: octets of bodies taken by C{send_data}.
    @ivar held: octets of bodies that arrived and are not acknowledged, of all streams.
    @ivar peer_went_away: the peer has sent GOAWAY.
    @ivar went_away: GOAWAY was sent, so that no more streams are accepted; or a client opens no more.
    @ivar draining: the first of two GOAWAYs was sent.
    """

    def __init__(self, client: bool, limits: HTTP2Limits | None = None) -> None:
        self.client = client
        self._limits = limits = limits or (CLIENT_LIMITS if client else SERVER_LIMITS)
        self._h2 = _H2(H2Configuration(
            client_side=client, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False,
            validate_inbound_headers=False, normalize_inbound_headers=False,
        ))
        self._h2.decoder = self._decoder = FieldDecoder(2 * limits.header_list)
        self._h2.encoder = self._encoder = FieldEncoder()
        self._scanner = FrameScanner(not client, limits.max_frame)
        self._floods = FloodGuard(limits)
        self._streams: dict[int, HTTP2StreamState] = {}
        self._next_id = 1
        self._open = 0                        # streams that are not over
        self._blocked: dict[int, None] = {}   # streams that were without credit when they wanted some, in that order
        self._updates: dict[int, HTTP2StreamState] = {}     # streams that have credit to give back
        self._budget = CreditBudget(limits.session_octets)
        self._allowance = limits.connection_window          # what the peer may still send on all streams
        self._pings = PingTable()
        self.keepalive = Keepalive(limits.keepalive, limits.keepalive_timeout)
        self._out: list[bytes] = []
        self._last_data = 0                   # the stream of the last DATA frame in it, which may yet end the stream,
        self._last_data_at = 0                # and where its header is
        self._reads = 0
        self._settings_seen = False
        self._block_stream = 0                # the stream of a list of fields that is not complete
        self._block_size = self._block_frames = 0
        self._bad_trailers = False            # the list of fields that h2 is given comes after the head, and ends nothing
        self._slots_changed = False
        self._last_accepted = LARGEST_ID      # streams of the peer's above it are refused
        self._drain_ping = -1
        self._preface_due = self._settings_due = self._final_due = inf
        self._idle_since: float | None = None
        self._error: HTTP2Error | None = None
        self.now = 0.0
        self.octets_in = self.octets_out = self.held = self.streams_opened = 0
        self.peer_went_away = self.went_away = self.draining = False
        self._scan: dict[int, Callable[[int, int, bytes, list[HTTP2Event]], bytes | None]] = {
            frames.DATA: self._scan_data,
            frames.HEADERS: self._scan_headers,
            frames.PRIORITY: self._scan_priority,
            frames.RST_STREAM: self._scan_reset,
            frames.SETTINGS: self._scan_settings,
            frames.PING: self._scan_ping,
            frames.GOAWAY: self._scan_go_away,
            frames.WINDOW_UPDATE: self._scan_window_update,
            frames.CONTINUATION: self._scan_continuation,
        }
        self._handle: dict[type[h2events.Event], Callable[[Any, list[HTTP2Event]], None]] = {
            h2events.RequestReceived: self._request_received,
            h2events.ResponseReceived: self._response_received,
            h2events.InformationalResponseReceived: self._informational_received,
            h2events.TrailersReceived: self._trailers_received,
            h2events.StreamEnded: self._stream_ended,
            h2events.StreamReset: self._stream_reset,
            h2events.WindowUpdated: self._window_updated,
            h2events.RemoteSettingsChanged: self._settings_changed,
            h2events.PingAckReceived: self._ping_answered,
        }
        self._initiate()

    def _initiate(self) -> None:
        """
        Queue what comes first.  C{h2} knows no limit of concurrent streams: it would close the connection for one too many.
        """
        limits, h2 = self._limits, self._h2
        h2.local_settings = Settings(self.client, {
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
            SettingCodes.MAX_FRAME_SIZE: limits.max_frame,
            SettingCodes.MAX_CONCURRENT_STREAMS: LARGEST_ID,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: int(limits.connect_protocol and not self.client),
        })
        h2.max_inbound_frame_size = limits.max_frame
        h2.initiate_connection()
        h2.clear_outbound_data_buffer()
        settings = {
            frames.MAX_CONCURRENT_STREAMS: limits.streams,
            frames.INITIAL_WINDOW_SIZE: WINDOW,
            frames.MAX_FRAME_SIZE: limits.max_frame,
            frames.MAX_HEADER_LIST_SIZE: limits.header_list,
        }
        if self.client:
            settings[frames.ENABLE_PUSH] = 0
            self._out.append(PREFACE)
        else:
            if limits.connect_protocol:
                settings[frames.ENABLE_CONNECT_PROTOCOL] = 1
            h2.receive_data(PREFACE)          # the scanner has the peer's
        self._out.append(frames.pack_settings(settings))
        h2.increment_flow_control_window(limits.connection_window - DEFAULT_CONNECTION_WINDOW)

    # What is known of the peer, and counters

    @property
    def streams(self) -> int:
        """
        Streams that are open in any direction, or whose payload is not consumed.
        """
        return len(self._streams)

    @property
    def settings_seen(self) -> bool:
        """
        Whether the peer's first SETTINGS have arrived.
        """
        return self._settings_seen

    @property
    def open_streams(self) -> int:
        """
        Streams of which a direction is open.
        """
        return self._open

    @property
    def open_slots(self) -> int:
        """
        How many streams can be opened now; never negative.
        """
        if not self.client or self.peer_went_away or self.went_away or self._error is not None:
            return 0
        most = self._h2.remote_settings.max_concurrent_streams if self._settings_seen else STREAMS_BEFORE_SETTINGS
        return max(0, min(most, self._limits.opened_streams) - self._open)

    @property
    def peer_allows_connect_protocol(self) -> bool:
        """
        Whether the server accepts the extended CONNECT.
        """
        return self.client and bool(self._h2.remote_settings.enable_connect_protocol)

    @property
    def max_frame(self) -> int:
        """
        Octets of payload that C{send_data} takes at most.
        """
        return min(self._h2.max_outbound_frame_size, LARGEST_FRAME_SENT)

    def control_octets(self) -> int:
        """
        @return: octets that wait to be given out.
        """
        self._collect()
        return sum(map(len, self._out))

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

    # Streams

    def open_stream(self, now: float) -> int:
        """
        Reserve a number for a stream.  Streams are to send their heads in the order in which they were opened.

        @raise NoMoreStreams: never again.
        @raise StreamLimitUsedUp: not now; L{StreamSlotsChanged} reports when it may be possible.
        """
        if not self.client:
            raise UsageError("a server opens no streams")
        if self.peer_went_away or self.went_away or self._error is not None or self._next_id > LARGEST_ID:
            raise NoMoreStreams("the connection takes no new streams")
        if not self.open_slots:
            raise StreamLimitUsedUp("too many streams", open=self._open)
        stream_id = self._next_id
        self._next_id += 2
        self._streams[stream_id] = HTTP2StreamState(stream_id, True, now)
        self._open += 1
        self.streams_opened += 1
        return stream_id

    def send_head(self, stream_id: int, fields: Fields, end: bool = False) -> int:
        """
        Send a head: that of a request, of an interim response, or of the final one.

        @param end: no body and no trailers follow.
        @return: octets that it takes; C{-1} if the peer now accepts fewer streams than are open: the stream is gone.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.end_sent:
            return 0
        informational = not self.client and fields[0][1][:1] == b"1"
        try:
            self._h2.send_headers(stream_id, self._encoder.prepare(fields, informational), end)
        except TooManyStreamsError:
            self._discard(stream)
            return -1
        if self.client:
            stream.opened = True
            stream.method = next((value for name, value in fields if name == b":method"), b"")
        elif not informational:
            stream.answered = True
        head = self._h2.data_to_send()
        self._out.append(head)
        if end:
            self._end_sent(stream)
        return len(head)

    def credit(self, stream_id: int) -> int:
        """
        Octets we may still send on a stream; C{0} for one that is gone, ended by us, or not open.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.end_sent or not stream.opened:
            return 0
        h2 = self._h2
        credit = min(h2.outbound_flow_control_window, h2.streams[stream_id].outbound_flow_control_window)
        if credit > 0:
            return credit
        self._blocked[stream_id] = None
        return 0

    def send_data(self, stream_id: int, data: bytes) -> int:
        """
        Send one DATA frame; more if one cannot hold so much.

        @param data: no more than C{credit}.
        @return: octets taken; C{0} if the stream is gone.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.end_sent:
            return 0
        h2, octets = self._h2, len(data)
        self._collect()
        most = self.max_frame
        while len(data) > most:               # a record
            self._out += (frames.pack_header(most, frames.DATA, 0, stream_id), data[:most])
            data = data[most:]
        self._last_data, self._last_data_at = stream_id, len(self._out)
        self._out += (frames.pack_header(len(data), frames.DATA, 0, stream_id), data)
        h2.outbound_flow_control_window -= octets
        h2.streams[stream_id].outbound_flow_control_window -= octets
        stream.sent_at = self.now
        self.octets_out += octets
        self._floods.window_updates.make_up(UPDATES_PER_DATA + octets // OCTETS_PER_UPDATE)
        self._floods.pings.make_up(PINGS_PER_DATA)
        return octets

    def set_trailers(self, stream_id: int, fields: Fields) -> None:
        """
        What L{end_stream} is to send.
        """
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.own_trailers = fields

    def end_stream(self, stream_id: int) -> None:
        """
        End our direction.  Again, or on a stream that is gone: nothing happens.
        """
        stream = self._streams.get(stream_id)
        if stream is None or stream.end_sent:
            return
        if stream.own_trailers:
            self._h2.send_headers(stream_id, self._encoder.prepare(stream.own_trailers, False), True)
        else:
            self._collect()
            self._h2.end_stream(stream_id)
            if self._last_data == stream_id:  # with the last octets, not by a frame of its own
                self._h2.clear_outbound_data_buffer()
                self._out[self._last_data_at] = frames.set_flags(self._out[self._last_data_at], END_STREAM)
        self._end_sent(stream)

    def _end_sent(self, stream: HTTP2StreamState) -> None:
        stream.end_sent = True
        self._blocked.pop(stream.stream_id, None)
        if stream.end_received:
            self._over(stream)

    def reset_stream(self, stream_id: int, code: int = ErrorCode.CANCEL) -> None:
        """
        End both directions at once.  Nothing happens when the stream is gone.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        over, opened = stream.over, stream.opened
        self._discard(stream)
        if opened and not over:
            self._reset(stream_id, code)

    def _reset(self, stream_id: int, code: int) -> None:
        with suppress(StreamClosedError):     # h2 has closed it
            self._h2.reset_stream(stream_id, code)

    def _over(self, stream: HTTP2StreamState) -> None:
        """
        Both directions have ended in an orderly way.
        """
        self._floods.resets.make_up(1)
        self._count_out()
        if not stream.held:
            self._remove(stream)

    def _count_out(self) -> None:
        self._open -= 1
        self._slots_changed = self.client
        if not self._open:
            self._idle_since = self.now

    def _discard(self, stream: HTTP2StreamState) -> None:
        """
        A stream is reset: what is held of it is dropped.
        """
        if not stream.over:
            self._count_out()
        self.held -= stream.held
        self._remove(stream)

    def _remove(self, stream: HTTP2StreamState) -> None:
        stream_id = stream.stream_id
        del self._streams[stream_id]
        self._updates.pop(stream_id, None)
        self._blocked.pop(stream_id, None)
        stream.release(self._budget)

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
        if not 0 <= octets <= stream.held:
            raise UsageError("more acknowledged than delivered", stream=stream_id, octets=octets, held=stream.held)
        self.held -= octets
        stream.consumed_at = self.now
        stream.returnable += octets
        if stream.end_received:
            if stream.end_sent and not stream.held:
                self._remove(stream)
            return
        if stream.allowance <= stream.grant_end:
            stream.grant_used_up(self._reads)
            if stream.starved:
                self._measure_round_trip(stream)
        if stream.returnable >= stream.step:
            self._updates[stream_id] = stream

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
        return inf if stream is None or stream_id not in self._blocked else stream.sent_at

    def share_growth(self, octets: int) -> None:
        """
        Change how much credit all streams together may have above their first windows.  With less than they have, windows
        shrink as their payload is consumed.

        @param octets: C{session_octets} of the limits, or less.
        """
        self._budget.limit = octets

    def _measure_round_trip(self, stream: HTTP2StreamState) -> None:
        """
        The peer has stopped for want of credit, and the window may grow if the way is long: measure it by a ping.
        """
        pings = self._pings
        interval = ROUND_TRIP_SECONDS if pings.proved == pings.last else UNANSWERED_SECONDS
        if stream.size < self._limits.max_window and self.now >= pings.last + interval:
            self._queue_ping()

    # Pings, and the end of the connection

    def ping(self) -> int:
        """
        Ask the peer for a sign of life.

        @return: the opaque value that L{PingAnswered} will carry.
        """
        opaque = self._queue_ping()
        self._pings.expect(opaque)
        return opaque

    def _queue_ping(self) -> int:
        opaque = self._pings.take_opaque(self.now)
        self._floods.pings.make_up(1)         # for its answer
        self._h2.ping(opaque.to_bytes(8, "big"))
        return opaque

    def ping_sent(self, now: float, ahead: float = 0.0) -> None:
        """
        The ping of the keepalive, which L{data_to_send} gave out, has left our buffers.  Only then the time for its answer
        begins.

        @param ahead: seconds that the carrier needs for what it has taken before.
        """
        self.keepalive.ping_sent(now, max(ahead, self._pings.latest))

    def alive(self) -> None:
        """
        The owner does not read for now, so that it hears nothing does not mean that the peer is gone: count it as a sign of
        life, and give the peer one by a ping.
        """
        self.keepalive.heard = True
        if self._error is None:
            self._queue_ping()

    def go_away(self, code: int = ErrorCode.NO_ERROR) -> None:
        """
        Accept no more streams, and open none.  Those that are open go on.
        """
        if self.went_away or self._error is not None:
            return
        self.went_away = True
        self._final_due = inf
        self._last_accepted = 0 if self.client else self._h2.highest_inbound_stream_id
        self._queue(frames.pack_go_away(self._last_accepted, code))

    def drain(self) -> None:
        """
        As L{go_away}, in two steps: streams that the peer has opened before the first GOAWAY has reached it are accepted.
        After the second C{went_away} is true.
        """
        if self.client:
            self.go_away()
        elif not (self.draining or self.went_away):
            self._queue(frames.pack_go_away(LARGEST_ID, ErrorCode.NO_ERROR))
            self._drain_ping = self._queue_ping()
            self._pings.expect(self._drain_ping)
            self._final_due = self.now + DRAIN_SECONDS
            self.draining = True

    # Output and time

    def data_to_send(self) -> list[bytes]:
        """
        @return: octets for the transport, in order; empty when there is nothing to send.
        """
        if self._error is None:
            self._return_credit()
        self._collect()
        out, self._out = self._out, []
        self._last_data = 0
        return out

    def _return_credit(self) -> None:
        limits = self._limits
        returnable = limits.connection_window - self._allowance
        if returnable >= limits.connection_window // 2 and self.held <= limits.held_octets:
            self._allowance += returnable
            self._queue(frames.pack_window_update(0, returnable))
        if self._updates:
            for stream_id, stream in self._updates.items():
                if octets := stream.grant(limits.max_window, self._budget, self.now, self._pings.smallest):
                    self._queue(frames.pack_window_update(stream_id, octets))
            self._updates.clear()

    def _collect(self) -> None:
        octets = self._h2.data_to_send()
        if octets:
            self._out.append(octets)

    def _queue(self, frame: bytes) -> None:
        self._collect()
        self._out.append(frame)

    def next_deadline(self) -> float | None:
        """
        @return: when to call C{expire} next, in seconds on the caller's clock; C{None}: not at all.
        """
        deadline = min(self.keepalive.next_deadline() or inf, self._preface_due, self._settings_due, self._final_due)
        if self._limits.idle_timeout and not self.draining:
            since = self.now if self._open or self._idle_since is None else self._idle_since
            deadline = min(deadline, since + self._limits.idle_timeout)
        return None if deadline == inf else deadline

    def expire(self, now: float) -> list[HTTP2Event]:
        """
        Time has passed.  The first call, at connection, starts all deadlines.

        @param now: seconds on the caller's clock.
        """
        events: list[HTTP2Event] = []
        if self._error is not None:
            return events
        self.now = now
        if self._idle_since is None:
            self._idle_since = now
            self._preface_due = now + self._limits.preface_timeout
            self._settings_due = now + self._limits.settings_timeout
        late = "send its SETTINGS" if self._preface_due <= now else "acknowledge SETTINGS" if self._settings_due <= now else ""
        if late:
            self._give_up(ErrorCode.SETTINGS_TIMEOUT, f"the peer did not {late} in time", events)
        elif self.keepalive.timed_out(now):
            self._give_up(ErrorCode.NO_ERROR, "the peer did not answer a ping in time", events)
        else:
            self._expire_others(now, events)
        return events

    def _expire_others(self, now: float, events: list[HTTP2Event]) -> None:
        if self.keepalive.ping_due(now):
            self._queue_ping()
        if self._final_due <= now:
            self.go_away()
        idle = self._limits.idle_timeout
        if idle and not self._open and not self.draining and self._idle_since is not None and now >= self._idle_since + idle:
            self._idle_since = now            # in case the owner does not drain
            events.append(ConnectionIdle())

    def _give_up(self, code: int, why: str, events: list[HTTP2Event]) -> None:
        events.append(ConnectionExpired(code, why))
        self._fail(HTTP2Error(why, code), [])

    # Input: octets of the peer, cut anywhere

    def receive_data(self, data: bytes) -> list[HTTP2Event]:
        """
        Take what the peer sent, cut anywhere.

        @return: what it means, oldest first.
        @raise PeerError: the connection is dead (L{HTTP2Error}); what came before is in its C{events}, and the GOAWAY is in
            C{data_to_send}.
        """
        if self._error is not None:
            raise self._error
        self.keepalive.heard = True
        self._reads += 1
        self._collect()
        events: list[HTTP2Event] = []
        try:
            for kind, flags, stream_id, frame in self._scanner.frames(data):
                self._frame(kind, flags, stream_id, frame, events)
        except HTTP2Error as error:
            self._fail(error, events)
            raise
        if self._slots_changed:
            self._slots_changed = False
            events.append(StreamSlotsChanged())
        return events

    def receive_eof(self) -> list[HTTP2Event]:
        """
        The peer's octets have ended.

        @raise PeerError: inside a frame.
        """
        if self._error is not None:
            raise self._error
        if self._scanner.inside:
            self._error = HTTP2Error("the octets ended inside a frame")
            raise self._error
        return []

    def _frame(self, kind: int, flags: int, stream_id: int, frame: bytes, events: list[HTTP2Event]) -> None:
        """
        Check and count a frame, and give it to C{h2}.
        """
        if self._block_stream:
            if kind != frames.CONTINUATION or stream_id != self._block_stream:
                raise HTTP2Error("another frame inside a list of fields", stream=self._block_stream)
        elif not self._settings_seen and (kind != frames.SETTINGS or flags & ACK):
            raise NotHTTP2("the peer's first frame is not SETTINGS")
        scan = self._scan.get(kind)
        if scan is not None:
            passed = scan(flags, stream_id, frame, events)
            if passed is None:
                return
            frame = passed
        elif kind > frames.CONTINUATION:
            self._floods.priorities.count(self.now)
            return
        try:
            happened = self._h2.receive_data(frame)
        except ProtocolError as error:
            self._out.append(self._h2.data_to_send()[:-frames.GOAWAY_SIZE])     # without the GOAWAY of h2
            code = self._decoder.error_code or int(error.error_code)
            raise HTTP2Error("a frame that is not allowed", code, kind=kind, stream=stream_id, cause=error) from error
        for event in happened:
            handle = self._handle.get(event.__class__)
            if handle is not None:
                handle(event, events)

    def _fail(self, error: HTTP2Error, events: list[HTTP2Event]) -> None:
        """
        The connection is dead: nothing is kept but what was queued before, and the GOAWAY for the peer.
        """
        error.events = events
        self._error = error
        self.held = self._open = 0
        self.went_away = True
        self._streams.clear()
        self._blocked.clear()
        self._updates.clear()
        self._preface_due = self._settings_due = self._final_due = inf
        self._collect()
        last = 0 if self.client else self._h2.highest_inbound_stream_id
        self._out.append(frames.pack_go_away(last, error.code, str(error.args[0]).encode("ascii", "replace")))

    # Frames before h2: what is returned goes on to it

    def _scan_data(self, flags: int, stream_id: int, frame: bytes, events: list[HTTP2Event]) -> bytes | None:
        stream = self._streams.get(stream_id)
        if stream is None or stream.end_received or not (stream.answered or not self.client):
            return frame                      # it is an error, or was sent before our reset arrived
        octets = len(frame) - HEADER_SIZE
        data = frame[HEADER_SIZE:] if not flags & PADDED else self._without_padding(frame)
        if octets > self._allowance:
            raise HTTP2Error("more than the window of the connection", ErrorCode.FLOW_CONTROL_ERROR)
        self._allowance -= octets
        if octets > stream.allowance:
            self._stream_error(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "more than the window of the stream", events)
            return None
        if not data and not flags & END_STREAM:
            self._floods.empty_frames.count(self.now)
        self._data_received(stream, octets, data, events)
        return frames.pack_header(0, frames.DATA, END_STREAM, stream_id) if flags & END_STREAM else None

    @staticmethod
    def _without_padding(frame: bytes) -> bytes:
        padding = frame[HEADER_SIZE] if len(frame) > HEADER_SIZE else 0
        if padding + 1 > len(frame) - HEADER_SIZE:
            raise HTTP2Error("a frame that is shorter than its padding")
        return frame[HEADER_SIZE + 1:len(frame) - padding]

    def _scan_headers(self, flags: int, stream_id: int, frame: bytes, events: list[HTTP2Event]) -> bytes:
        self._block_size, self._block_frames = 0, 0
        self._count_block(frame, 2 * self._limits.header_list)
        self._block_stream = 0 if flags & END_HEADERS else stream_id
        stream = self._streams.get(stream_id)
        answered = stream is not None and stream.answered_by_peer(self.client)
        self._decoder.informational = self.client and stream is not None and not answered
        self._bad_trailers = answered and not flags & END_STREAM
        # h2 would close the connection
        return frames.set_flags(frame, END_STREAM) if self._bad_trailers else frame

    def _scan_continuation(self, flags: int, stream_id: int, frame: bytes, events: list[HTTP2Event]) -> bytes:
        if self._block_stream:
            self._block_frames += 1
            if self._block_frames > self._limits.continuations:
                raise HTTP2Flood("CONTINUATION frames", self._limits.continuations)
            self._count_block(frame, 2 * self._limits.header_list)
            if flags & END_HEADERS:
                self._block_stream = 0
        return frame

    def _count_block(self, frame: bytes, most: int) -> None:
        self._block_size += len(frame) - HEADER_SIZE
        if self._block_size > most:
            raise HTTP2Error("a list of fields that is too large", ErrorCode.ENHANCE_YOUR_CALM, most=most)

    def _scan_priority(self, flags: int, stream_id: int, frame: bytes, events: list[HTTP2Event]) -> None:
        if not stream_id:
            raise HTTP2Error("a PRIORITY frame for no stream")
        self._floods.priorities.count(self.now)
        if len(frame) != HEADER_SIZE + frames.PRIORITY_SIZE:
            self._stream_error(stream_id, ErrorCode.FRAME_SIZE_ERROR, "a PRIORITY frame of another size", events)
        elif int.from_bytes(frame[HEADER_SIZE:HEADER_SIZE + 4], "big") & LARGEST_ID == stream_id:
            self._stream_error(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself", events)

    def _scan_reset(self, flags: int, stream_id: int, frame: bytes, events: list[HTTP2Event]) -> bytes:
        if self._is_idle(stream_id):
            raise HTTP2Error("a reset of a stream that was never opened", stream=stream_id)
        stream = self._streams.get(stream_id)
        if not self.client and (stream is None or not stream.answered):
            self._floods.resets.count(self.now)
        elif stream is None:
            self._floods.empty_frames.count(self.now)
        return frame

    def _scan_settings(self, flags: int, stream_id: int, frame: bytes, events: list[HTTP2Event]) -> bytes:
        self._floods.settings.count(self.now)
        if flags & ACK:
            self._settings_due = inf
        return frame if flags & ACK or stream_id else frames.known_settings(frame)

    def _scan_ping(self, flags: int, stream_id: int, frame: bytes, events: list[HTTP2Event]) -> bytes:
        self._floods.pings.count(self.now)
        return frame

    def _scan_window_update(self, flags: int, stream_id: int, frame: bytes, events: list[HTTP2Event]) -> bytes | None:
        self._floods.window_updates.count(self.now)
        octets = frame[HEADER_SIZE:]
        if stream_id in self._streams and len(octets) == 4 and not int.from_bytes(octets, "big") & LARGEST_ID:
            self._stream_error(stream_id, ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE frame of nothing", events)
            return None
        return frame

    def _scan_go_away(self, flags: int, stream_id: int, frame: bytes, events: list[HTTP2Event]) -> None:
        self._floods.pings.count(self.now)
        if stream_id:
            raise HTTP2Error("a GOAWAY frame for a stream", stream=stream_id)
        last, code, debug = frames.unpack_go_away(frame)
        self.peer_went_away = True
        for stream in list(self._streams.values()) if self.client else ():
            if stream.stream_id > last:
                self._collect()
                opened = stream.opened
                self._discard(stream)
                if opened:                    # the peer does not know it
                    self._reset(stream.stream_id, ErrorCode.CANCEL)
                    self._h2.clear_outbound_data_buffer()
                events.append(StreamAborted(stream.stream_id, code, True, True))
        self._slots_changed = self.client
        events.append(GoAwayArrived(code, last, debug[:LONGEST_DEBUG]))

    def _is_idle(self, stream_id: int) -> bool:
        """
        Whether no side has opened a stream of this number.
        """
        ours = stream_id % 2 == int(self.client)
        return stream_id > (self._h2.highest_outbound_stream_id if ours else self._h2.highest_inbound_stream_id)

    def _stream_error(self, stream_id: int, code: int, why: str, events: list[HTTP2Event]) -> None:
        """
        The peer has broken a rule on one stream: reset it.
        """
        if self._is_idle(stream_id):
            raise HTTP2Error(why, code, stream=stream_id)
        self._count_reset(stream_id)
        stream = self._streams.get(stream_id)
        if stream is None:                    # over, and h2 would not reset it again
            self._queue(frames.pack_reset(stream_id, code))
            return
        self._discard(stream)
        events.append(StreamAborted(stream_id, code, False, False, why))
        self._reset(stream_id, code)

    def _count_reset(self, stream_id: int) -> None:
        self._floods.resets.count(self.now)

    # Events of h2

    def _request_received(self, event: h2events.RequestReceived, events: list[HTTP2Event]) -> None:
        stream_id, fields = event.stream_id, self._decoder.fields
        ended = event.stream_ended is not None
        if stream_id > self._last_accepted or self._open >= self._limits.streams:
            self._count_reset(stream_id)
            self._reset(stream_id, ErrorCode.REFUSED_STREAM)
            return
        self._floods.priorities.make_up(FRAMES_PER_STREAM)
        self._floods.window_updates.make_up(FRAMES_PER_STREAM)
        stream = self._streams[stream_id] = HTTP2StreamState(stream_id, False, self.now)
        self._open += 1
        self.streams_opened += 1
        if list_size(fields) > self._limits.header_list:
            self._answer_too_large(stream)
            return
        try:
            stream.method, stream.length = check_request(fields, self._limits.connect_protocol)
            self._check_end(stream, ended)
        except Malformed:
            self._count_reset(stream_id)
            self._discard(stream)
            self._reset(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        events.append(HeadArrived(stream_id, fields, ended))

    def _answer_too_large(self, stream: HTTP2StreamState) -> None:
        self._count_reset(stream.stream_id)
        self.send_head(stream.stream_id, [(b":status", b"431"), (b"content-length", b"0")], True)
        self._discard(stream)
        self._reset(stream.stream_id, ErrorCode.NO_ERROR)

    def _response_received(self, event: h2events.ResponseReceived, events: list[HTTP2Event]) -> None:
        stream_id, fields = event.stream_id, self._decoder.fields
        stream = self._streams[stream_id]
        ended = event.stream_ended is not None
        try:
            if list_size(fields) > self._limits.header_list:
                raise Malformed("a response whose list of fields is too large")
            status, length = check_response(fields)
            stream.answered = True
            if stream.method == b"HEAD" or status in (204, 304):
                stream.length = 0
            elif not (stream.method == b"CONNECT" and status < 300):
                stream.length = length
            self._check_end(stream, ended)
        except Malformed as why:
            self._stream_error(stream_id, ErrorCode.PROTOCOL_ERROR, str(why), events)
            return
        events.append(HeadArrived(stream_id, fields, ended))

    @staticmethod
    def _check_end(stream: HTTP2StreamState, ended: bool) -> None:
        if ended and stream.length:
            raise Malformed("a message without a body whose Content-Length announces one")

    def _informational_received(
        self, event: h2events.InformationalResponseReceived, events: list[HTTP2Event]
    ) -> None:
        self._floods.empty_frames.count(self.now)
        fields = self._decoder.fields
        try:
            if list_size(fields) > self._limits.header_list:
                raise Malformed("an interim response whose list of fields is too large")
            check_response(fields)
        except Malformed as why:
            self._stream_error(event.stream_id, ErrorCode.PROTOCOL_ERROR, str(why), events)
            return
        events.append(InformationalArrived(event.stream_id, fields))

    def _trailers_received(self, event: h2events.TrailersReceived, events: list[HTTP2Event]) -> None:
        fields = self._decoder.fields
        try:
            if self._bad_trailers:
                raise Malformed("a second head, or trailers that do not end the message")
            if list_size(fields) > self._limits.header_list:
                raise Malformed("trailers that are too large")
            check_trailers(fields)
        except Malformed as why:
            self._stream_error(event.stream_id, ErrorCode.PROTOCOL_ERROR, str(why), events)
            return
        self._streams[event.stream_id].trailers = fields

    def _data_received(self, stream: HTTP2StreamState, octets: int, data: bytes, events: list[HTTP2Event]) -> None:
        """
        @param octets: of the frame, with its padding.
        """
        stream.allowance -= octets
        stream.read = self._reads
        stream.received += len(data)
        self.held += octets
        if stream.length is not None and stream.received > stream.length:
            self._stream_error(
                stream.stream_id, ErrorCode.PROTOCOL_ERROR, "a body that is longer than its Content-Length", events)
            return
        padding = octets - len(data)
        self.octets_in += len(data)
        if data:
            events.append(BodyArrived(stream.stream_id, data))
        if padding:
            self.acknowledge(stream.stream_id, padding)

    def _stream_ended(self, event: h2events.StreamEnded, events: list[HTTP2Event]) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        if stream.length is not None and stream.received != stream.length:
            self._stream_error(
                event.stream_id, ErrorCode.PROTOCOL_ERROR, "a body that is shorter than its Content-Length", events)
            return
        stream.end_received = True
        stream.close()
        self._updates.pop(event.stream_id, None)
        events.append(MessageEnded(event.stream_id, stream.trailers))
        if stream.end_sent:
            self._over(stream)

    def _stream_reset(self, event: h2events.StreamReset, events: list[HTTP2Event]) -> None:
        stream = self._streams.get(event.stream_id)
        by_peer = bool(event.remote_reset)
        if not by_peer:
            self._count_reset(event.stream_id)
        if stream is None:
            return
        self._discard(stream)
        code = int(event.error_code or 0)
        refused = by_peer and code == ErrorCode.REFUSED_STREAM
        events.append(StreamAborted(event.stream_id, code, by_peer, refused, "" if by_peer else "the peer broke the protocol"))

    def _window_updated(self, event: h2events.WindowUpdated, events: list[HTTP2Event]) -> None:
        if not event.stream_id:
            self._unblock(events)
        elif event.stream_id in self._blocked:
            del self._blocked[event.stream_id]
            events.append(WindowOpened(event.stream_id))

    def _unblock(self, events: list[HTTP2Event]) -> None:
        events += map(WindowOpened, self._blocked)
        self._blocked.clear()

    def _settings_changed(self, event: h2events.RemoteSettingsChanged, events: list[HTTP2Event]) -> None:
        if not self._settings_seen:
            self._settings_seen = True
            self._preface_due = inf
            events.append(SettingsArrived())
        self._slots_changed = self.client
        self._unblock(events)

    def _ping_answered(self, event: h2events.PingAckReceived, events: list[HTTP2Event]) -> None:
        opaque = int.from_bytes(event.ping_data or b"", "big")
        if self._pings.answered(opaque, self.now):
            if opaque == self._drain_ping:
                self.go_away()
            else:
                events.append(PingAnswered(opaque))
