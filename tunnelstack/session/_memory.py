"""
What a session holds for readers that are slow or stand still, for the budget of the process (L{tunnelstack.session.budget}).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Protocol

from tunnelstack.session.budget import CONNECTION, SMALLEST, MemoryBudget, Stalled
from tunnelstack.stream.errors import StreamResetError
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.stream_scheduler import HIGH, LOW


class MemoryCore(Protocol):
    """
    What this needs of the core of a session.
    """

    @property
    def held(self) -> int:
        """
        Octets delivered and not acknowledged.
        """

    @property
    def growth(self) -> int:
        """
        Octets that the windows of all streams have grown by.
        """

    @property
    def growth_limit(self) -> int:
        """
        Octets that they may grow by.
        """

    def unread(self, stream_id: int) -> tuple[int, float]:
        """
        @return: octets delivered on a stream and not acknowledged, and since when none of it was.
        """

    def blocked_since(self, stream_id: int) -> float:
        """
        @return: since when the peer has given no credit for a stream.
        """

    def share_growth(self, octets: int) -> None:
        """
        Change L{growth_limit}.
        """

    def alive(self) -> None:
        """
        The owner does not read for now.
        """


class MemoryScheduler(Protocol):
    """
    What this needs of the scheduler of a session, a
    L{StreamScheduler<tunnelstack.transport.stream_scheduler.StreamScheduler>}.
    """

    high: int
    paused: int

    def watchHeld(self, call: Callable[[], object] | None) -> None:
        """
        Call C{call} after each flush that finds another amount held, or other streams paused, than the one before it.
        """

    def scheduleFlush(self) -> None:
        """
        Flush once this turn of the reactor is over.
        """


class ReadableSession(Protocol):
    """
    What this needs of the life of a session, a L{SessionLifecycle<tunnelstack.session.lifecycle.SessionLifecycle>}.
    """

    @property
    def isLost(self) -> bool:
        """
        Whether the carrier is gone.
        """

    def pauseReading(self) -> None:
        """
        Do not read the carrier.
        """

    def resumeReading(self) -> None:
        """
        Read it again.
        """


class SessionMemory:
    """
    The memory of a session, a L{BudgetMember<tunnelstack.session.budget.BudgetMember>}.

    @ivar resting: the carrier is not read.
    """

    __slots__ = ("_budget", "_core", "_lifecycle", "_octets", "_reported", "_resetStream", "_scheduler", "_streams", "resting")

    def __init__(
        self,
        core: MemoryCore,
        octets: int,
        streams: Mapping[int, StreamTransport],
        scheduler: MemoryScheduler,
        lifecycle: ReadableSession,
        resetStream: Callable[[StreamTransport, StreamResetError], object],
    ) -> None:
        """
        @param octets: what all windows together may grow by, unless the budget forbids it.
        @param streams: those of the session, by number.
        @param resetStream: resets a stream, and reports it to its protocol.
        """
        self._core = core
        self._octets = octets
        self._streams = streams
        self._scheduler = scheduler
        self._lifecycle = lifecycle
        self._resetStream = resetStream
        self._budget: MemoryBudget | None = None
        self._reported = 0                     # octets that were reported to the budget
        self.resting = False

    @property
    def held(self) -> int:
        """
        Octets held for applications that have not read them yet.
        """
        return 0 if self._lifecycle.isLost else self._core.held

    @property
    def growth(self) -> int:
        """
        Octets that the windows of all streams have grown by.
        """
        return self._core.growth

    @property
    def growthLimit(self) -> int:
        """
        Octets that they may grow by.
        """
        return self._core.growth_limit

    def joined(self, budget: MemoryBudget) -> None:
        """
        As in L{BudgetMember<tunnelstack.session.budget.BudgetMember>}.
        """
        self._budget = budget
        self._scheduler.watchHeld(self.count)

    def leave(self) -> None:
        """
        The session is lost.
        """
        budget, self._budget = self._budget, None
        self._scheduler.watchHeld(None)
        if budget is not None:
            budget.leave(self, self._reported)

    def count(self) -> None:
        """
        Report to the budget what is held now, here and by connections of readers that have paused.
        """
        held = 0 if self._lifecycle.isLost else self._core.held
        change = held + CONNECTION * self._scheduler.paused - self._reported
        if change and self._budget is not None:
            self._reported += change
            self._budget.changed(self, change)

    def waiting(self) -> int:
        """
        @return: octets that wait to be sent, which L{count} does not report.
        """
        return sum(stream.queued for stream in self._streams.values())

    def stalled(self, before: float) -> list[Stalled]:
        """
        @param before: seconds of the clock.
        @return: streams for which something is held that did not move after that moment: payload that is not read here, or
            that the peer gives no credit for.
        """
        core, found = self._core, []
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
        self._resetStream(self._streams[streamId], StreamResetError(f"too much is held: {why}", stream=streamId))

    def grow(self, allowed: bool) -> None:
        """
        Let windows and queues grow, or take growth back as payload is consumed.
        """
        self._scheduler.high = HIGH if allowed else LOW
        self._core.share_growth(self._octets if allowed else 0)

    def rest(self) -> None:
        """
        Do not read the carrier until L{goOn}; called again once a second.
        """
        if not self.resting:
            self.resting = True
            self._lifecycle.pauseReading()
        self._core.alive()
        self._scheduler.scheduleFlush()

    def goOn(self) -> None:
        """
        Read the carrier again.
        """
        if self.resting:
            self.resting = False
            self._lifecycle.resumeReading()
