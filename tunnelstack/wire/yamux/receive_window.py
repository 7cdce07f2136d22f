"""
The receive side of flow control: when credit goes back to the peer, and when a window grows.

A window is the sum of three parts: the I{allowance} that the peer may still send, what was delivered and not yet consumed
(I{held}), and what was consumed and not yet given back (I{returnable}).  Credit goes back in steps of half a window, of a
quarter once the window has grown.

A window grows when it was the window that held the peer back.  That is visible without a clock: the peer has stopped
exactly where one of our grants ended (an I{edge}), although everything it sent is consumed at once.  A peer that is not
held back passes the edges of grants without stopping there.

Growth is shared between the streams of a session by a dynamic threshold: what a window has above its first 256 KiB may be as
much as is left for all others, never more.  When others take of what is left, larger windows shrink: what their application
consumes is not given back until they are within that bound.  So one busy stream has half of the budget, two have a third
each, and a stream that stands still leaves as much as it took.

Source of the threshold: A. Choudhury, E. Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998.
"""

from __future__ import annotations

from attrs import define

from tunnelstack.wire.yamux.frames import INITIAL_WINDOW

LEAST_GROWTH = 16 * 1024
"""Octets; a window does not grow by less."""


@define
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
    @ivar starved: the peer was seen waiting for credit; the next grant is larger.
    """

    __slots__ = ("allowance", "grant_end", "grants", "read", "returnable", "size", "starved", "step")

    def __init__(self) -> None:
        self.size = self.allowance = INITIAL_WINDOW
        self.returnable = 0
        self.step = INITIAL_WINDOW // 2
        self.grant_end = 0
        self.grants: tuple[int, ...] = ()
        self.read = -1
        self.starved = False

    @property
    def held(self) -> int:
        """
        Octets delivered and not yet consumed.
        """
        return self.size - self.allowance - self.returnable

    def grant_used_up(self, read: int) -> None:
        """
        The allowance is at the edge or below it: see whether the peer stopped there.

        @param read: number of the present read.  Payload that is consumed in a later one than it came in says that the
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
        Give growth back that others need more, as far as what it let in is consumed.
        """
        less = budget.less(self.size - INITIAL_WINDOW, self.returnable)
        self.size -= less
        self.returnable -= less

    def grant(self, highest: int, budget: CreditBudget) -> int:
        """
        Give back what is returnable: more if the peer was held back by the window, less if the window is to shrink.

        @param highest: octets to which the window may grow.
        @return: octets of credit to put on the wire; C{0} if all of it was kept.
        """
        if self.starved:
            self.starved = False
            self.grow(min(2 * self.size, highest), budget)
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
