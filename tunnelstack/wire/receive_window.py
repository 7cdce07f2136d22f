"""
The receive side of flow control: when credit goes back to the peer, and when a window grows.

A window is the sum of three parts: the I{allowance} that the peer may still send, what was delivered and not yet consumed
(I{held}), and what was consumed and not yet given back (I{returnable}).  Credit goes back in steps of half a window, of a
quarter once the window has grown.

A window grows when it was the window that held the peer back, and more would not only fill queues on the way.

The first is visible without a clock: the peer has stopped exactly where one of our grants ended (an I{edge}), although
everything it sent is consumed at once.  A peer that is not held back passes the edges of grants without stopping there.

The second needs one.  Where the way holds less than a window, a larger window adds no speed: it only lies in buffers, and
everything else of the session waits after it.  A window that is too small for its way is used up once in a round trip.  So a
window grows only if it was used up within L{ROUND_TRIPS} of the shortest round trips that the session has seen, on average
over a time in which the turns of busy programs even out; in other words, while the stream's rate times that round trip is
more than half of the window.

A short round trip is longer than its way if the peer was busy when it was measured.  There the growth is a trial: the rate
before it is compared with the rate after it.  If a larger window did not make the stream faster, it shrinks again, and the next
trial has to wait.

Growth is shared between the streams of a session by a dynamic threshold: what a window has above its first 256 KiB may be as
much as is left for all others, never more.  When others take of what is left, larger windows shrink: what their application
consumes is not given back until they are within that bound.  So one busy stream has half of the budget, two have a third
each, and a stream that stands still leaves as much as it took.

Source of the threshold: A. Choudhury, E. Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998.
"""

from __future__ import annotations

from math import inf

from attrs import define

from tunnelstack.wire.yamux.frames import INITIAL_WINDOW

FIRST_STEP = INITIAL_WINDOW // 2
"""Octets that must be returnable before some are given back, of a window that has not grown."""

LEAST_GROWTH = 16 * 1024
"""Octets; a window does not grow by less."""

ROUND_TRIPS = 2
"""A window that takes longer than so many of the shortest round trips to be used up does not grow."""

AVERAGE_ROUND_TRIPS = 100
"""The rate of a stream is an average over so many of the shortest round trips at least, and over a whole window;"""

AVERAGE_SECONDS = 0.05
"""but this is long enough for any average."""

LONG_ROUND_TRIP = 0.005
"""Seconds of a round trip to which a busy peer adds nothing that matters: growth is no trial."""

LEAST_TRIAL = 1.5
"""A window that grows by a smaller factor, since the budget allows no more, is not on trial: the difference would be too small
to be seen."""

WORTH = 0.2
"""By how much of what it grew a window must make its stream faster: one of twice the size by a fifth."""

WARM_UP = 0.1
"""Seconds without a trial after the first time that a window is used up: carriers and interpreters become faster in that time
by themselves."""

FIRST_REST = 2.0
"""Seconds after a trial that failed in which a window does not grow: twice as many after each further one,"""

LONGEST_REST = 64.0
"""but not more."""


class GrowthTrial:
    """
    Whether a window that has grown is worth it.

    @ivar running: the window has grown, and the rate since then is not known yet.
    @ivar until: when the next trial may be, in seconds of the owner's clock.
    """

    __slots__ = ("_octet_seconds", "_rest", "_size", "running", "until")

    def __init__(self, now: float) -> None:
        self._size = 0                        # before the growth; C{0} if it was not in vain
        self._octet_seconds = 0.0             # seconds for an octet, for the growth to be worth it
        self._rest = FIRST_REST
        self.running = False
        self.until = now + WARM_UP

    def begin(self, size: int, grown: int, octet_seconds: float) -> None:
        """
        The window has grown.

        @param size: octets before.
        @param grown: octets now.
        @param octet_seconds: seconds for an octet before.
        """
        self._size = size
        self._octet_seconds = octet_seconds / (1 + WORTH * (grown / size - 1))
        self.running = True

    def finish(self, octet_seconds: float, now: float) -> None:
        """
        The rate after the growth is known.

        @param octet_seconds: seconds for an octet now.
        """
        self.running = False
        if octet_seconds <= self._octet_seconds:
            self._size = 0
            return
        self.until = now + self._rest
        self._rest = min(2 * self._rest, LONGEST_REST)

    def in_vain(self, size: int) -> int:
        """
        @param size: octets of the window.
        @return: how many of them did not make the stream faster.
        """
        return max(0, size - self._size) if self._size and not self.running else 0


@define(eq=False, repr=False)
class CreditBudget:
    """
    Credit beyond the initial windows, shared by the streams of a session.

    @ivar limit: octets; below C{spent}, all growth is taken back.
    @ivar spent: octets given to windows now.
    """

    limit: int
    spent: int = 0

    def more(self, extra: int, octets: int) -> int:
        """
        Take octets for a window, as far as no less is then left than the window has.

        @param extra: octets that the window has already.
        @param octets: how many it would like.
        @return: how many were taken.
        """
        octets = min(octets, (self.limit - self.spent - extra) // 2)
        if octets < LEAST_GROWTH:
            return 0
        self.spent += octets
        return octets

    def less(self, extra: int, octets: int) -> int:
        """
        Take octets back from a window that has more than is left.

        @param extra: octets that the window has.
        @param octets: how many it can do without now.
        @return: how many were taken back.
        """
        left = self.limit - self.spent
        if extra <= left:
            return 0
        octets = min(octets, extra, (extra - left + 1) // 2)
        self.spent -= octets
        return octets


class ReceiveWindow:
    """
    The window of one stream toward us, in octets.

    @ivar size: the whole window.
    @ivar allowance: what the peer may still send.
    @ivar returnable: consumed, and not yet given back.
    @ivar step: how much must be returnable before something is due.
    @ivar grant_end: the allowance at which the peer has used up the oldest grant it did not pass yet.
    @ivar grants: what was granted after that edge, oldest first; their sum is C{grant_end}.
    @ivar read: number of the read in which payload came last.
    @ivar starved: the peer was seen waiting for credit since the rate of the stream is measured.
    @ivar measured: octets given back since the rate of the stream is measured.
    @ivar measured_from: since when it is, in seconds of the owner's clock.
    @ivar trial: of its growth; C{None} before there was reason for one.
    """

    __slots__ = (
        "allowance", "grant_end", "grants", "measured", "measured_from", "read", "returnable", "size", "starved", "step",
        "trial",
    )  # fmt: skip

    def __init__(self, now: float = 0.0) -> None:
        self.size = self.allowance = INITIAL_WINDOW
        self.returnable = 0
        self.step = FIRST_STEP
        self.grant_end = 0
        self.grants: tuple[int, ...] = ()
        self.read = -1
        self.starved = False
        self.measured = 0
        self.measured_from = now
        self.trial: GrowthTrial | None = None

    @property
    def held(self) -> int:
        """
        Octets delivered and not yet consumed.
        """
        return self.size - self.allowance - self.returnable

    def grant_used_up(self, read: int) -> None:
        """
        The allowance is at the edge or below it: see whether the peer stopped there.

        @param read: number of the present read.  Payload that is consumed in a later one than it came in shows that the
            application was slow, not the window small.
        """
        grants = self.grants
        while grants and self.allowance < self.grant_end:
            self.grant_end -= grants[0]
            grants = self.grants = grants[1:]
        if self.allowance == self.grant_end and self.read == read:
            self.starved = True

    def grow(self, size: int, budget: CreditBudget) -> None:
        """
        Make the window as large as C{size}, as far as the budget allows; the difference is returnable.
        """
        more = budget.more(self.size - INITIAL_WINDOW, size - self.size)
        self.size += more
        self.returnable += more

    def shrink(self, budget: CreditBudget) -> None:
        """
        Give growth back that others need more, or that was in vain, as far as what it let in is consumed.
        """
        less = budget.less(self.size - INITIAL_WINDOW, self.returnable)
        if self.trial is not None and (vain := min(self.trial.in_vain(self.size - less), self.returnable - less)):
            budget.spent -= vain
            less += vain
        self.size -= less
        self.returnable -= less

    def grant(self, highest: int, budget: CreditBudget, now: float, round_trip: float) -> int:
        """
        Give back what is returnable: more if the peer was held back by the window, less if the window is to shrink.

        @param highest: octets to which the window may grow.
        @param now: seconds of the owner's clock.
        @param round_trip: seconds of the shortest round trip; infinite while none is known, and then nothing grows.
        @return: octets of credit to put on the wire; C{0} if all of it was kept.
        """
        self.measured += self.returnable
        seconds = now - self.measured_from
        if self.measured >= self.size and seconds >= min(AVERAGE_SECONDS, AVERAGE_ROUND_TRIPS * round_trip):
            self._rate_known(highest, budget, now, round_trip)
        if self.size > INITIAL_WINDOW:
            self.shrink(budget)
            self.step = self.size // (4 if self.size > INITIAL_WINDOW else 2)
        delta, self.returnable = self.returnable, 0
        if not delta:
            return 0
        self.allowance += delta
        self.grant_end += delta
        self.grants += (delta,)
        return delta

    def _rate_known(self, highest: int, budget: CreditBudget, now: float, round_trip: float) -> None:
        """
        Finish the trial that runs, grow if the window is what holds the peer back, and measure anew.
        """
        size, trial, octet_seconds = self.size, self.trial, (now - self.measured_from) / self.measured
        starved, self.starved = self.starved, False
        self.measured, self.measured_from = 0, now
        if trial is not None and trial.running:
            trial.finish(octet_seconds, now)
        if not starved or size * octet_seconds > ROUND_TRIPS * round_trip or round_trip == inf:
            return
        if round_trip >= LONG_ROUND_TRIP:
            self.grow(min(2 * size, highest), budget)
        elif trial is None:
            self.trial = GrowthTrial(now)
        elif now >= trial.until:
            self.grow(min(2 * size, highest), budget)
            if self.size >= LEAST_TRIAL * size:
                trial.begin(size, self.size, octet_seconds)

    def close(self) -> None:
        """
        The peer will send no more: nothing goes back, and something is due when all is consumed.
        """
        self.step = self.size - self.allowance

    def release(self, budget: CreditBudget) -> None:
        """
        The stream is forgotten: what its window took from the budget goes back.
        """
        budget.spent -= self.size - INITIAL_WINDOW
