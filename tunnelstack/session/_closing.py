"""
What becomes of a stream that its application has closed: what was queued is flushed, what still comes is absorbed, and a peer
that does not end is not waited for for ever.
"""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.python.failure import Failure

from tunnelstack.stream.errors import StreamResetError
from tunnelstack.stream.transport import StreamTransport

ABSORB_OCTETS = 1024 * 1024
"""Octets absorbed after the application has closed, before the stream is reset."""

ABSORB_SECONDS = 30.0
"""Seconds for the flush before our end, and afterwards for late data."""

CLOSE_SECONDS = 300.0
"""Seconds that a peer may leave its direction open after our end."""


@define
class _ClosingStream:
    """
    A stream that its application has closed.

    @ivar since: when that was seen, in seconds of the session's clock.
    @ivar ended: our end has been sent.
    @ivar absorbed: octets that came since.
    """

    since: float
    ended: bool
    absorbed: int = 0


class ClosingStreams:
    """
    The streams of a session that were closed on this side and are not over.
    """

    _core: Any
    _clock: Any
    _streams: dict[int, StreamTransport]
    _timerAt: float

    def __init__(self) -> None:
        self._closing: dict[int, _ClosingStream] = {}

    def stopReading(self, stream: StreamTransport, discarded: int) -> None:
        """
        As in L{IStreamOwner}.
        """
        if discarded:
            self._core.acknowledge(stream.streamId, discarded)
            self._scheduleFlush()
        if not (stream.readEnded and stream.writeEnded):
            self._addClosing(stream.streamId, stream.writeEnded)

    def _addClosing(self, streamId: int, ended: bool) -> _ClosingStream:
        """
        From now on see to it that the stream comes to an end.
        """
        now = self._clock.seconds()
        self._closing[streamId] = closing = _ClosingStream(now, ended)
        if now + ABSORB_SECONDS < self._timerAt:
            self._scheduleTimer(now + ABSORB_SECONDS)
        return closing

    def _endSent(self, stream: StreamTransport) -> None:
        """
        Our end of a stream has been sent.
        """
        closing = self._closing.get(stream.streamId)
        if closing is not None:
            if stream.readEnded:
                del self._closing[stream.streamId]
            closing.ended = True
        elif stream.connected and stream.disconnecting and not stream.readEnded:
            self._addClosing(stream.streamId, True)

    def _absorbData(self, streamId: int, octets: int) -> None:
        """
        Data for a stream that its application has closed: credited, so that an honest peer can finish, within bounds.
        """
        closing = self._closing.get(streamId)
        if closing is None:
            if streamId not in self._streams:
                return
            closing = self._addClosing(streamId, False)     # our end is about to leave
        closing.absorbed += octets
        if closing.absorbed > ABSORB_OCTETS or self._clock.seconds() - closing.since > ABSORB_SECONDS:
            self._resetClosing(streamId, "it went on sending after the close")
        else:
            self._core.acknowledge(streamId, octets)

    def _expireClosing(self, now: float) -> None:
        """
        Reset what was to be flushed for too long, or was left open by the peer for too long.
        """
        for streamId, closing in list(self._closing.items()):
            age = now - closing.since
            if age < ABSORB_SECONDS:
                self._scheduleTimer(closing.since + ABSORB_SECONDS)
                return                        # they are in order of their age
            if not closing.ended or age >= CLOSE_SECONDS:
                self._resetClosing(streamId, "it was not closed in time")
        if self._closing:
            self._scheduleTimer(now + ABSORB_SECONDS)

    def _resetClosing(self, streamId: int, why: str) -> None:
        del self._closing[streamId]
        self._core.reset_stream(streamId)
        stream = self._streams.get(streamId)
        if stream is not None:
            stream.lost(Failure(StreamResetError(why, stream=streamId)))
        self._checkIdle()

    # For the subclass

    def _scheduleFlush(self) -> None:
        """
        Flush soon.
        """
        raise NotImplementedError

    def _scheduleTimer(self, at: float) -> None:
        """
        See to it that L{_expireClosing} is called at C{at} (seconds of the clock) at the latest.
        """
        raise NotImplementedError

    def _checkIdle(self) -> None:
        """
        A stream has ended: it may have been the last of a session that drains.
        """
        raise NotImplementedError
