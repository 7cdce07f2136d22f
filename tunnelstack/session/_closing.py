"""
Streams that their applications have closed: what is queued is flushed, what still arrives is absorbed, and a stream whose peer
never ends its direction is reset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from tunnelstack.stream.errors import StreamResetError
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.deadline_timer import DeadlineTimer

ABSORB_OCTETS = 1024 * 1024
"""Octets absorbed after the application has closed, before the stream is reset."""

ABSORB_SECONDS = 30.0
"""Seconds for the flush before our end, and afterwards for late data."""


_ClosingStream = tuple[float, bool, int]
"""
A stream that its application has closed: when, in seconds of the session's clock; whether our end has been sent; and how many
octets arrived since.  It has no names, because nearly every stream makes one, and few change theirs.
"""


class ClosingCore(Protocol):
    """
    What this needs of the core of a session.

    @ivar now: the time of what happens now, while events are handled or something is sent, in seconds of the session's clock.
    """

    @property
    def now(self) -> float: ...

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
        return self._add(streamId, ended, self._clock.seconds())

    def _add(self, streamId: int, ended: bool, now: float) -> _ClosingStream:
        self.table[streamId] = closing = (now, ended, 0)
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
                since, _, absorbed = closing
                self.table[stream.streamId] = (since, True, absorbed)
        elif stream.connected and stream.disconnecting and not stream.readEnded:
            self._add(stream.streamId, True, self._core.now)

    def endReceived(self, streamId: int) -> None:
        """
        The peer has ended its direction.  Nothing happens for a stream that is not closed.
        """
        closing = self.table.get(streamId)
        if closing is not None and closing[1]:
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
        since, ended, absorbed = closing
        absorbed += octets
        self.table[streamId] = (since, ended, absorbed)
        if absorbed > ABSORB_OCTETS or self._clock.seconds() - since > ABSORB_SECONDS:
            self._reset(streamId, "the peer continued to send after the close")
        else:
            self._core.acknowledge(streamId, octets)

    def expire(self, now: float) -> None:
        """
        Reset streams whose queue was not flushed in time, or that the peer left open for too long.
        """
        for streamId, (since, ended, _) in list(self.table.items()):
            age = now - since
            if age < self._interval:
                self._timer.schedule(since + self._interval)
                return                        # they are in order of their age
            limit = self._closeTimeout if ended else ABSORB_SECONDS
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
