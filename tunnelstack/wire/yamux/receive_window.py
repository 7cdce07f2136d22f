"""
The receive side of flow control: when credit goes back to the peer, and when a window grows.

A window is the sum of three parts: the I{allowance} that the peer may still send, what was delivered and not yet consumed
(I{held}), and what was consumed and not yet given back (I{returnable}).  Credit goes back in steps of half a window, of a
quarter once the window has grown.

A window grows when it was the window that held the peer back.  That is visible without a clock: the peer has stopped
exactly where one of our grants ended (an I{edge}), although everything it sent is consumed at once.  A peer that is not
held back passes the edges of grants without stopping there.
"""

from __future__ import annotations

from attrs import define

from tunnelstack.wire.yamux.frames import INITIAL_WINDOW


@define
class CreditBudget:
    """
    Credit beyond the initial windows, shared by the streams of a session.

    @ivar limit: octets.
    @ivar spent: octets given to windows now.
    """

    limit: int
    spent: int = 0

    def take(self, octets: int) -> bool:
        """
        @return: whether there was as much left; if so it is taken.
        """
        if octets > self.limit - self.spent:
            return False
        self.spent += octets
        return True


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
        Make the window as large as C{size}, if the budget allows; the difference is returnable.
        """
        more = size - self.size
        if more > 0 and budget.take(more):
            self.size = size
            self.returnable += more

    def grant(self, highest: int, budget: CreditBudget) -> int:
        """
        Give back what is returnable, and more if the peer was held back by the window.

        @param highest: octets to which the window may grow.
        @return: octets of credit to put on the wire.
        """
        if self.starved:
            self.starved = False
            self.grow(min(2 * self.size, highest), budget)
        if self.size > INITIAL_WINDOW:
            self.step = self.size // 4
        delta, self.returnable = self.returnable, 0
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
