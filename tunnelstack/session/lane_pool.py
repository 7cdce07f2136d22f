"""
Idle lanes as a part of their own, for lanes of every kind: streams of one session, or calls that belong together although they
come by several connections.

A lane is what the peer has opened in advance, so that this side can use it as if it had opened it.  L{IdleLanes} is for the
side that uses lanes, L{LaneKeeper} for the side that opens them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, frozen
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from tunnelstack.stream.errors import OpenTimeout, TooManyStreams

LANE_SECONDS = 2.0
"""Seconds that a call waits for an idle lane."""

MOST_WAITING = 1024
"""Calls that may wait for a lane."""

LOSSES = 10
"""Idle lanes that may be lost within L{LOSS_SECONDS} and are replaced at once."""

LOSS_SECONDS = 10.0

FIRST_DELAY = 0.1
"""Seconds before a lane is replaced after more losses; doubled by each, up to L{LONGEST_DELAY}."""

LONGEST_DELAY = 5.0

L = TypeVar("L")


@define(eq=False)
class _Waiting(Generic[L]):
    """
    Somebody who waits for a lane.
    """

    taken: Deferred[L]
    deadline: float


class IdleLanes(Generic[L]):
    """
    The lanes that are not used.  The one that was used last is used next; who has waited longest is served first.

    @ivar onDemand: called with the number of those who wait, whenever there is one more.
    """

    def __init__(self, clock: IReactorTime, *, seconds: float = LANE_SECONDS, most: int = MOST_WAITING) -> None:
        """
        @param seconds: how long one waits for a lane.
        @param most: how many may wait.
        """
        self.onDemand: Callable[[int], object] = lambda waiting: None
        self._clock = clock
        self._seconds = seconds
        self._most = most
        self._idle: dict[L, None] = {}        # the one that was used last stands last
        self._waiting: deque[_Waiting[L]] = deque()
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """
        How many wait for a lane.
        """
        return len(self._waiting)

    def lanes(self) -> list[L]:
        """
        @return: those that are idle.
        """
        return list(self._idle)

    def take(self) -> Deferred[L]:
        """
        @return: a C{Deferred} of a lane, which is not idle any more; it can be cancelled, and fails with L{OpenTimeout},
            L{TooManyStreams}, or the reason given to L{fail}.
        """
        if len(self._waiting) >= self._most:
            return fail(TooManyStreams("too many calls wait for lanes", waiting=len(self._waiting)))
        taken: Deferred[L] = Deferred(self._cancelled)
        if self._idle and not self._waiting:
            taken.callback(self._idle.popitem()[0])
            return taken
        self._waiting.append(_Waiting(taken, self._clock.seconds() + self._seconds))
        if self._timer is None:
            self._timer = self._clock.callLater(self._seconds, self._expire)
        self.onDemand(len(self._waiting))
        return taken

    def add(self, lane: L) -> None:
        """
        A lane is idle.
        """
        self._idle[lane] = None
        while self._waiting and self._idle:
            self._waiting.popleft().taken.callback(self._idle.popitem()[0])

    def discard(self, lane: L) -> None:
        """
        A lane is idle no more, if it was.
        """
        self._idle.pop(lane, None)

    def fail(self, reason: Exception | Failure) -> None:
        """
        There will be no lanes: all who wait are told.
        """
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            each.taken.errback(reason)

    def _cancelled(self, taken: Deferred[L]) -> None:
        self._waiting = deque(each for each in self._waiting if each.taken is not taken)

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._waiting and self._waiting[0].deadline <= now:
            self._waiting.popleft().taken.errback(OpenTimeout("no lane became idle in time"))
        if self._waiting and self._timer is None:
            self._timer = self._clock.callLater(self._waiting[0].deadline - now, self._expire)


@frozen(kw_only=True)
class LaneCounts:
    """
    How many lanes are opened.

    @ivar initial: at first.
    @ivar idle: that are kept idle.
    @ivar most: at most, idle or not.
    @ivar idleSeconds: after which a lane that was not used is retired; 0: never.
    """

    initial: int = 4
    idle: int = 4
    most: int = 256
    idleSeconds: float = 0.0


class LaneKeeper(Generic[L]):
    """
    Opens lanes, so that some are idle, and retires those that were idle for long.  The owner tells what happens to lanes.

    Idle lanes that are lost are replaced; when that happens often, after a growing delay: whatever closes them would close the
    next ones as well.
    """

    def __init__(
        self, clock: IReactorTime, counts: LaneCounts, open: Callable[[], bool], retire: Callable[[L], object],
        count: Callable[[], int] | None = None,
    ) -> None:
        """
        @param open: opens a lane, and calls L{opened} then or later; C{False} if that is not possible now.
        @param retire: ends a lane that is idle.
        @param count: gives how many lanes there are, those being opened included, if the owner does not tell when lanes have
            ended that were used.
        """
        self._clock = clock
        self._counts = counts
        self._open = open
        self._retire = retire
        self._count = count
        self._idle: dict[L, float] = {}       # since when; the first for the longest time
        self._others: set[L] = set()          # those in use, and those that end
        self._opening = 0
        self._losses: deque[float] = deque(maxlen=LOSSES + 1)     # when idle lanes were lost
        self._delay = 0.0
        self._again: IDelayedCall | None = None
        self._rotation: IDelayedCall | None = None
        self._stopped = True

    @property
    def idle(self) -> int:
        """
        How many lanes are idle.
        """
        return len(self._idle)

    @property
    def open(self) -> int:
        """
        How many lanes there are.
        """
        return len(self._idle) + len(self._others) + self._opening if self._count is None else self._count()

    @property
    def opening(self) -> int:
        """
        How many lanes are being opened.
        """
        return self._opening

    def start(self) -> None:
        """
        Open lanes from now on.
        """
        self._stopped = False
        self._openSome(self._counts.initial - len(self._idle) - self._opening)

    def stop(self) -> None:
        """
        Open no more lanes, and retire none.
        """
        self._stopped = True
        for timer in (self._again, self._rotation):
            if timer is not None:
                timer.cancel()
        self._again = self._rotation = None

    def idleLanes(self) -> list[L]:
        """
        @return: the lanes that are idle.
        """
        return list(self._idle)

    # From the owner

    def demand(self, count: int) -> None:
        """
        The peer waits for so many further lanes: open them, even if that is more than are kept idle.
        """
        self._openSome(count)

    def opened(self, lane: L) -> None:
        """
        A lane is open, and idle.
        """
        self._opening -= 1
        self._setIdle(lane)

    def notOpened(self) -> None:
        """
        A lane that was being opened will not be.
        """
        self._opening -= 1
        self._later()

    def used(self, lane: L) -> None:
        """
        The peer begins to use a lane.
        """
        self._idle.pop(lane, None)
        if self._count is None:
            self._others.add(lane)
        self._delay = 0.0
        self._fill()

    def unused(self, lane: L) -> None:
        """
        A lane is idle again.
        """
        self._others.discard(lane)
        self._setIdle(lane)

    def lost(self, lane: L) -> None:
        """
        A lane has ended, idle or not.
        """
        self._others.discard(lane)
        if self._idle.pop(lane, None) is None:
            self._fill()
            return
        now = self._clock.seconds()
        self._losses.append(now)
        if len(self._losses) > LOSSES and now - self._losses[0] < LOSS_SECONDS:
            self._later()
        else:
            self._fill()

    # Opening

    def _fill(self) -> None:
        if self._again is not None:
            return
        self._openSome(self._counts.idle - len(self._idle) - self._opening)
        if self._count is not None and len(self._idle) + self._opening < self._counts.idle:
            self._later()                     # nobody tells when there may be more

    def _openSome(self, wanted: int) -> None:
        for _ in range(min(wanted, self._counts.most - self.open)):
            if self._stopped:
                return
            self._opening += 1
            if not self._open():
                self._opening -= 1
                self._later()
                return

    def _later(self) -> None:
        if self._again is None and not self._stopped:
            self._delay = min(LONGEST_DELAY, 2 * self._delay) or FIRST_DELAY
            self._again = self._clock.callLater(self._delay, self._openAgain)

    def _openAgain(self) -> None:
        self._again = None
        self._fill()

    # Rotation

    def _setIdle(self, lane: L) -> None:
        self._idle[lane] = self._clock.seconds()
        if self._rotation is None:
            self._rotateLater()

    def _rotateLater(self) -> None:
        seconds = self._counts.idleSeconds
        if self._idle and seconds and not self._stopped:
            due = min(self._idle.values()) + seconds
            self._rotation = self._clock.callLater(due - self._clock.seconds(), self._rotate)

    def _rotate(self) -> None:
        """
        Retire the lanes that were idle for too long, and open others first.
        """
        now, seconds = self._clock.seconds(), self._counts.idleSeconds
        old = [lane for lane, since in self._idle.items() if since + seconds <= now]
        for lane in old:
            del self._idle[lane]
            self._others.add(lane)
        self._fill()                          # which finds a rotation that is due already
        self._rotation = None
        for lane in old:
            self._retire(lane)
        self._rotateLater()
