"""
What all sessions of a process may hold together for readers that are slow or stand still, and which streams pay when it is
more.

Counted are payload that arrived and was not read yet, payload that waits to be sent, and an estimate of what the connection of
a reader that does not read has taken.  There are four steps:

 1. Above three quarters of the limit, until it is less than half of it, no window grows, and growth is taken back as payload
    is consumed.
 2. Above the limit streams are reset that were not read for L{STALE_SECONDS} or more, the one that waits longest first, until
    the rest is within the limit.  A stream that moved since then is never reset.
 3. One sixteenth above the limit, sessions that hold more than an equal share are not read.
 4. One eighth above the limit, no session is read.  Nothing is lost by this: TCP holds the peers back until readers have gone
    on or were reset.

Sessions report what they hold themselves, when it has changed, so that the third and fourth step come in time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from tunnelstack.interfaces import ISession
from tunnelstack.settings.record import Record
from tunnelstack.transport.direct_write import unsent

LOOK_SECONDS = 1.0
"""Seconds from one look at all sessions to the next."""

STALE_SECONDS = 10.0
"""A stream that moved within so many seconds is never reset."""

SMALLEST = 8 * 1024
"""Octets; a stream for which less is held is never reset."""

CONNECTION = 80 * 1024
"""Octets that the connection of a reader that does not read holds by itself: the 64 KiB at which a transport of Twisted pauses
its producer, and the frame that made it more."""

PAUSES = 64 * 1024
"""Octets at which a transport of Twisted pauses its producer."""

REPORT_SECONDS = 60.0
"""Seconds within which it is reported once that sessions are not read."""


class BudgetMember(Protocol):
    """
    The memory of one session, as the budget sees and governs it.
    """

    @property
    def held(self) -> int:
        """
        Octets of payload that applications have not read yet.
        """

    @property
    def growth(self) -> int:
        """
        Octets of credit that the peer has above the first windows of its streams.
        """

    def joined(self, budget: MemoryBudget) -> None:
        """
        Report to C{budget} from now on, and L{leave<MemoryBudget.leave>} it when the session is gone.
        """

    def count(self) -> None:
        """
        Report what is held now, by L{MemoryBudget.changed}.
        """

    def waiting(self) -> int:
        """
        @return: octets that are held and not reported by C{count}.
        """

    def stalled(self, before: float) -> list[Stalled]:
        """
        @return: the streams for which something is held and that did not move after that moment (seconds of the clock).
        """

    def cut(self, streamId: int, why: str) -> None:
        """
        Reset a stream.
        """

    def grow(self, allowed: bool) -> None:
        """
        Let windows and queues grow, or take growth back as payload is consumed.
        """

    def rest(self) -> None:
        """
        Read nothing from the peer until C{goOn}; called again once a second.
        """

    def goOn(self) -> None:
        """
        Read again.
        """


@frozen(eq=False, repr=False)
class Stalled(Record):
    """
    A stream that could be reset.

    @ivar since: when it moved last, in seconds of the clock.
    @ivar octets: what is held for it.
    """

    since: float
    octets: int
    member: BudgetMember
    streamId: int


class MemoryBudget(Service):
    """
    What the sessions that joined may hold.

    @ivar limit: octets.
    @ivar streamsReset: how many streams were reset because too much was held.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, limit: int, connections: Callable[[], Iterable[object]] = tuple) -> None:
        """
        @param connections: the transports of readers, as far as they are known.  What they hold counts as well, less the
            L{CONNECTION} that is counted once they have paused the stream before them.
        """
        self.limit = limit
        self.streamsReset = 0
        self._connections = connections
        self._clock = clock
        self._members: dict[BudgetMember, ISession] = {}
        self._resting: set[BudgetMember] = set()            # those whose sessions are not read
        self._payload = 0                     # that was not read, as sessions reported it
        self._waiting = 0                     # to be sent, to the peers and to readers, as of the last look
        self._tight = False                   # growth is taken back
        self._relieved = -LOOK_SECONDS        # when streams were looked for that can be reset
        self._reported = -REPORT_SECONDS
        self._look: IDelayedCall | None = None

    def startService(self) -> None:
        """
        Look from now on.
        """
        super().startService()
        self._look = self._clock.callLater(LOOK_SECONDS, self._lastLook)

    def stopService(self) -> None:
        """
        Look no more, and let every session be read.
        """
        super().stopService()
        look, self._look = self._look, None
        if look is not None:
            look.cancel()
        self._resumeReading()

    @property
    def held(self) -> int:
        """
        Octets that are held at the moment.
        """
        return self._payload + self._waiting

    # From sessions

    def join(self, session: ISession) -> None:
        """
        Count a session from now on, until it is gone; nothing happens when it is gone already.
        """
        if session.lostReason() is not None:
            return
        member: BudgetMember = session.memory
        self._members[member] = session
        member.joined(self)
        member.grow(not self._tight)
        member.count()

    def leave(self, member: BudgetMember, payload: int) -> None:
        """
        A session is gone.

        @param payload: what it had reported, in octets.
        """
        self._members.pop(member, None)
        self._resting.discard(member)
        self._payload -= payload

    def changed(self, member: BudgetMember, octets: int) -> None:
        """
        A session holds more payload than it reported last, or less.
        """
        self._payload += octets
        held = self._payload + self._waiting
        if self._look is None:
            return                            # not running
        if octets < 0:
            if self._resting and held <= self.limit:
                self._resumeReading()
        elif held > self.limit:
            self._exceeded(member, held)
        elif not self._tight and held > 3 * self.limit // 4:
            self._tighten(True)

    def _exceeded(self, member: BudgetMember, held: int) -> None:
        """
        A session brought more, and there is too much already.
        """
        if not self._tight:
            self._tighten(True)
        now = self._clock.seconds()
        if now - self._relieved >= LOOK_SECONDS:
            self._resetLargest(now)
            held = self.held
        if held <= self.limit + self.limit // 16 or member in self._resting:
            return
        if held > self.limit + self.limit // 8 or member.held * len(self._members) > self.limit:
            self._resting.add(member)
            member.rest()
            if now - self._reported >= REPORT_SECONDS:
                self._reported = now
                self.log.warn(
                    "{held} octets are held, and process_octets is {most}: agents that send more are not read for now",
                    held=held, most=self.limit, status="limit", why="process",
                )

    # Once a second

    def _lastLook(self) -> None:
        self._look = self._clock.callLater(LOOK_SECONDS, self._lastLook)
        for member in list(self._members):    # one may leave when its last stream is reset
            member.count()
        self._waiting = self._toBeSent()
        if self.held > self.limit:
            self._resetLargest(self._clock.seconds())
        if self._tight and self.held < self.limit // 2:
            self._tighten(False)
        elif not self._tight and self.held > 3 * self.limit // 4:
            self._tighten(True)
        if self.held <= self.limit:
            self._resumeReading()
        for member in self._resting:
            member.rest()

    def _tighten(self, tight: bool) -> None:
        """
        Take growth back, or allow it again.
        """
        self._tight = tight
        for member in self._members:
            member.grow(not tight)

    def _resumeReading(self) -> None:
        resting, self._resting = self._resting, set()
        for member in resting:
            member.goOn()

    def _resetLargest(self, now: float) -> None:
        """
        Reset streams that have not moved for long, until enough is free.
        """
        self._relieved = now
        sessions = dict(self._members)        # one may leave when its last stream is reset
        stalled = [one for member in self._members for one in member.stalled(now - STALE_SECONDS)]
        stalled.sort(key=lambda one: one.since)
        held, too = self.held, self.held - self.limit
        cut: dict[BudgetMember, int] = {}
        for one in stalled:
            if too <= 0:
                break
            too -= one.octets
            cut[one.member] = cut.get(one.member, 0) + 1
            self.streamsReset += 1
            one.member.cut(one.streamId, f"{held} octets are held, and it was not read for {now - one.since:.0f} s")
        for member, streams in cut.items():
            member.count()
            self.log.warn(
                "{streams} streams of {key} were reset, not read for {seconds:.0f} s or more: {held} octets are held, and "
                "process_octets is {most}", streams=streams, key=sessions[member].address.key, seconds=STALE_SECONDS,
                held=held, most=self.limit, status="limit", why="process",
            )
        if cut:
            self._waiting = self._toBeSent()

    def _toBeSent(self) -> int:
        octets = sum(member.waiting() for member in self._members)
        for connection in self._connections():
            held = unsent(connection)
            octets += held if held < PAUSES else max(0, held - CONNECTION)
        return octets
