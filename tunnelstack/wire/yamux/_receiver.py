"""
The receiving half of a yamux session: octets of the peer, cut anywhere, become events.

Payload is delivered as it comes and never collected; the only octets carried over are the beginning of a header.
"""

from __future__ import annotations

from tunnelstack.wire.yamux._streams import StreamTable
from tunnelstack.wire.yamux.errors import (
    DuplicateStream,
    ForbiddenStream,
    PeerFailed,
    SessionError,
    TruncatedFrame,
    UnknownFrame,
)
from tunnelstack.wire.yamux.events import (
    CREDIT_OVERFLOW,
    OVERRUN,
    PEER,
    CreditArrived,
    DataArrived,
    PeerWentAway,
    PongArrived,
    StreamEnded,
    StreamOpened,
    StreamReset,
    YamuxEvent,
)
from tunnelstack.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GOAWAY,
    HEADER_SIZE,
    MAX_CREDIT,
    NORMAL,
    PING,
    RST,
    SYN,
    WINDOW,
    WINDOW_ACK,
    WINDOW_FIN,
    WINDOW_SYN,
    unpack_header,
)
from tunnelstack.wire.yamux.stream import Stream


class FrameReceiver(StreamTable):
    """
    What the peer's octets do to a session.
    """

    def receive_data(self, data: bytes) -> list[YamuxEvent]:
        """
        Take what the peer sent, cut anywhere.

        @return: what it means, oldest first.
        @raise PeerError: the session is dead (L{SessionError}); what came before is in its C{events}, and the Go Away, if
            one is due, is in C{data_to_send}.
        """
        if self._error is not None:
            raise self._error
        self._keepalive.heard = True
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
        The frame that the former octets cut.

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
        The frames whose headers are whole.

        @return: where the next header begins.
        """
        streams, read, arrived, append, end = self._streams, self._reads, 0, events.append, len(data)
        try:
            while end - at >= HEADER_SIZE:
                word, stream_id, length = unpack_header(data, at)
                at += HEADER_SIZE
                # Nearly all frames are payload without flags, whole, for a stream that flows; then come its beginning and end.
                stream = streams.get(stream_id)
                if stream is None:
                    if word == WINDOW_SYN and stream_id and not length:
                        self._peer_opened(stream_id, None, SYN, events)
                        continue
                elif stream.flowing:
                    if not word and 0 < length <= end - at and length <= stream.allowance:
                        stream.allowance -= length
                        stream.read = read
                        arrived += length
                        append(DataArrived(stream_id, data[at : at + length]))
                        at += length
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
        Any frame, from behind its header on.

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
                self._overrun_allowance.pop(stream_id, None)
        return at

    def _stream(self, stream_id: int, flags: int, events: list[YamuxEvent]) -> Stream | None:
        """
        Whose frame it is, opened just now if it carries SYN; C{None} if nobody's.  Any frame acknowledges our opening: an
        ACK may never come (a Go peer sends none when our FIN came before its accept).
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
        if flags & RST:
            return None
        if (
            self._went_away
            or stream_id in self._ended_this_read     # the owner would take the one for the other
            or self._backlog >= self._limits.backlog
            or len(self._streams) - self._local_streams >= self._limits.max_streams
        ):
            self.refused += 1
            self._queue_counted_reset(stream_id)
            return None
        self._overrun_allowance.pop(stream_id, None)
        stream = self._streams[stream_id] = Stream(stream_id, is_local=False, now=self.now)
        self._backlog += 1
        events.append(StreamOpened(stream_id))
        return stream

    def _peer_reset(self, stream_id: int, stream: Stream | None, code: int, events: list[YamuxEvent]) -> None:
        if stream is None:
            self._overrun_allowance.pop(stream_id, None)
            return
        self._discard(stream)
        events.append(StreamReset(stream_id, code, PEER))

    def _window_updated(self, stream: Stream, octets: int, fin: int, events: list[YamuxEvent]) -> None:
        credit = stream.credit + octets
        if credit > MAX_CREDIT:
            self._reset_stream(stream, CREDIT_OVERFLOW, events)
            return
        if octets and not stream.credit and not stream.fin_sent:
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
            self._count_overrun(stream_id, length)
        elif stream.fin_received:
            stream = None               # a Go program that writes and closes at once can send FIN first
        elif length > stream.allowance:
            self._remember_overrun(stream, length - stream.allowance)
            self._reset_stream(stream, OVERRUN, events)
            stream = None
        self._payload_stream, self._payload_left, self._payload_fin = stream, length, bool(fin)
        return self._deliver_payload(data, at, events)

    def _deliver_payload(self, data: bytes, at: int, events: list[YamuxEvent]) -> int:
        """
        As much of the present payload as has come.

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
            events.append(DataArrived(stream.stream_id, data[at : at + octets]))
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
        stream.close()
        self._send_queue.updates.pop(stream.stream_id, None)
        events.append(StreamEnded(stream.stream_id))
        if stream.fin_sent and stream.finished:
            self._remove(stream)

    def _ping(self, flags: int, opaque: int, events: list[YamuxEvent]) -> None:
        if flags & SYN:
            if not self._send_queue.pong(opaque):
                self.pongs_dropped += 1
        elif flags & ACK and opaque in self._pings:
            del self._pings[opaque]
            events.append(PongArrived(opaque))

    def _go_away_received(self, code: int, events: list[YamuxEvent]) -> None:
        if code != NORMAL:
            raise PeerFailed(code)
        if not self._peer_went_away:
            self._peer_went_away = True
            events.append(PeerWentAway(code))
