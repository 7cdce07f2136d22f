"""
Streams that their applications have closed: what is queued is flushed, what still arrives is absorbed, and a stream whose peer
never ends its direction is reset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tunnelstack.stream.errors import StreamResetError
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.deadline_timer import DeadlineTimer

ABSORB_OCTETS = 1024 * 1024
"""Octets absorbed after the application has closed, before the stream is reset."""

ABSORB_SECONDS = 30.0
"""Seconds for the flush before our end, and afterwards for late data."""


class _ClosingStream(NamedTuple):
    """
    A stream that its application has closed.  It is a tuple, because nearly every stream makes one, and few change theirs.

    @ivar since: when it was closed, in seconds of the session's clock.
    @ivar ended: our end has been sent.
    @ivar absorbed: octets that arrived since.
    """

    since: float
    ended: bool
    absorbed: int


_new: Callable[[type[_ClosingStream], tuple[float, bool, int]], _ClosingStream] = tuple.__new__


class ClosingCore(Protocol):
    """
    What this needs of the core of a session.
    """

    def acknowledge(self, stream_id: int, octets: int) -> None:
        """
        Payload of a stream was consumed.
        """

    def reset_stream(self, stream_id: int) -> None:
        """
        End both directions of a stream.
        """


class ClosingStreams:
    """
    The streams of a session that were closed on this side and are not over.  It is true while there are any.

    @ivar table: these streams, by number.
    """

    __slots__ = ("_clock", "_closeTimeout", "_core", "_interval", "_streamDone", "_streams", "_timer", "table")

    def __init__(
        self, clock: IReactorTime, core: ClosingCore, streams: Mapping[int, StreamTransport], timer: DeadlineTimer,
        closeTimeout: float, streamDone: Callable[[], object],
    ) -> None:
        """
        @param closeTimeout: seconds that a peer may leave its direction open after the close; C{0} for no bound.
        @param streams: those of the session, by number.
        @param timer: is to call L{expire} in time.
        @param streamDone: called after a stream was reset here.
        """
        self._clock = clock
        self._core = core
        self._streams = streams
        self._timer = timer
        self._streamDone = streamDone
        self._closeTimeout = closeTimeout
        self._interval = min(ABSORB_SECONDS, closeTimeout or ABSORB_SECONDS)      # between two looks at a stream
        self.table: dict[int, _ClosingStream] = {}

    def __len__(self) -> int:
        return len(self.table)

    def add(self, streamId: int, ended: bool) -> _ClosingStream:
        """
        From now on see to it that the stream comes to an end.

        @param ended: our end has been sent.
        """
        now = self._clock.seconds()
        self.table[streamId] = closing = _new(_ClosingStream, (now, ended, 0))
        if now + self._interval < self._timer.at:
            self._timer.schedule(now + self._interval)
        return closing

    def endSent(self, stream: StreamTransport) -> None:
        """
        Our end of a stream has been sent.
        """
        closing = self.table.get(stream.streamId)
        if closing is not None:
            if stream.readEnded:
                del self.table[stream.streamId]
            else:
                self.table[stream.streamId] = _new(_ClosingStream, (closing.since, True, closing.absorbed))
        elif stream.connected and stream.disconnecting and not stream.readEnded:
            self.add(stream.streamId, True)

    def endReceived(self, streamId: int) -> None:
        """
        The peer has ended its direction.
        """
        closing = self.table.get(streamId)
        if closing is not None and closing.ended:
            del self.table[streamId]

    def absorb(self, streamId: int, octets: int) -> None:
        """
        Data for a stream that its application has closed: credited, so that an honest peer can finish, within bounds.
        """
        closing = self.table.get(streamId)
        if closing is None:
            if streamId not in self._streams:
                return
            closing = self.add(streamId, False)     # our end is about to leave
        self.table[streamId] = closing = closing._replace(absorbed=closing.absorbed + octets)
        if closing.absorbed > ABSORB_OCTETS or self._clock.seconds() - closing.since > ABSORB_SECONDS:
            self._reset(streamId, "the peer continued to send after the close")
        else:
            self._core.acknowledge(streamId, octets)

    def expire(self, now: float) -> None:
        """
        Reset streams whose queue was not flushed in time, or that the peer left open for too long.
        """
        for streamId, closing in list(self.table.items()):
            age = now - closing.since
            if age < self._interval:
                self._timer.schedule(closing.since + self._interval)
                return                        # they are in order of their age
            limit = self._closeTimeout if closing.ended else ABSORB_SECONDS
            if 0 < limit <= age:
                self._reset(streamId, "the peer did not close the stream in time")
        if self.table:
            self._timer.schedule(now + self._interval)

    def forget(self, streamId: int) -> None:
        """
        The stream was reset by either side.
        """
        self.table.pop(streamId, None)

    def clear(self) -> None:
        """
        The session is lost.
        """
        self.table.clear()

    def _reset(self, streamId: int, why: str) -> None:
        del self.table[streamId]
        self._core.reset_stream(streamId)
        stream = self._streams.get(streamId)
        if stream is not None:
            stream.lost(Failure(StreamResetError(why, stream=streamId)))
        self._streamDone()
