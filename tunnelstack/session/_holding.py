"""
What a session holds for readers that are slow or stand still, as the budget of the process sees it
(L{tunnelstack.session.budget}).
"""

from __future__ import annotations

from math import inf
from typing import Any

from twisted.python.failure import Failure

from tunnelstack.session._scheduler import StreamScheduler
from tunnelstack.session.budget import CONNECTION, SMALLEST, Stalled
from tunnelstack.stream.errors import SessionLost, StreamResetError
from tunnelstack.stream.transport import HIGH, LOW
from tunnelstack.wire.yamux.limits import SessionLimits


class Holding(StreamScheduler):
    """
    The half of a yamux session that accounts for payload.
    """

    _limits: SessionLimits
    listener: Any

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self._octetsCounted = 0                     # octets that the budget knows of
        self._rests = False                   # the carrier is not read

    @property
    def held(self) -> int:
        """
        Octets held for applications that have not read them yet.
        """
        return 0 if self._core is None else int(self._core.held)

    def count(self) -> None:
        """
        Report to the budget what is held now, here and by connections of readers that do not go on.
        """
        change = self.held + CONNECTION * self.paused - self._octetsCounted
        if change:
            self._octetsCounted += change
            self.budget.changed(self, change)

    def waiting(self) -> int:
        """
        @return: octets that wait to be sent; of these L{count} does not report.
        """
        return sum(stream.queued for stream in self._streams.values())

    def stalled(self, before: float) -> list[Stalled]:
        """
        @param before: seconds of the clock.
        @return: streams for which something is held that did not move after that moment: payload that is not read here, or
            that the peer gives no credit for.
        """
        core, found = self._core, []
        if core is None:
            return []
        for streamId, stream in self._streams.items():
            held, since = core.unread(streamId)
            if held < SMALLEST:
                since = inf
            if stream.queued >= SMALLEST:
                since = min(since, core.blocked_since(streamId))
            if since <= before:
                octets = held + stream.queued + CONNECTION * stream.paused
                found.append(Stalled(since, octets, self, streamId))
        return found

    def cut(self, streamId: int, why: str) -> None:
        """
        Reset a stream because too much is held.
        """
        stream = self._streams[streamId]
        self.listener.streamGone(streamId)
        self.reset(streamId)
        stream.lost(Failure(StreamResetError(f"too much is held: {why}", stream=streamId)))

    def grow(self, allowed: bool) -> None:
        """
        Let windows and queues grow, or take growth back as payload is consumed.
        """
        self.high = HIGH if allowed else LOW
        if self._core is not None:
            self._core.share_growth(self._limits.session_octets if allowed else 0)

    def rest(self) -> None:
        """
        Do not read the carrier until L{goOn}; called again once a second.
        """
        if self._core is None:
            return
        if not self._rests:
            self._rests = True
            self.transport.pauseProducing()
        self._core.alive()
        self._scheduleFlush()

    def goOn(self) -> None:
        """
        Read the carrier again.
        """
        if self._rests:
            self._rests = False
            self.transport.resumeProducing()

    def _loseStreams(self, reason: SessionLost) -> None:
        super()._loseStreams(reason)
        if self.budget is not None:
            self.budget.leave(self, self._octetsCounted)
            self.budget = None
