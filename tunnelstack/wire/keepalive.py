"""
Signs of life, on the caller's clock: a ping at intervals, and something must be received in time after it.

On a slow carrier the ping waits like all other octets.  So the time for its answer runs from when the ping itself has been
sent, and is longer by the time that the carrier needs for what lies before it.  It is never longer than L{MOST_SECONDS} after
the ping was due: octets that are sent prove nothing about the peer, since a proxy may take them.
"""

from __future__ import annotations

from math import inf

PINGS_REMEMBERED = 32
"""Pings that may be unanswered.  Then one is forgotten: the oldest for whose answer the owner does not wait."""

MOST_SECONDS = 60.0
"""Seconds after a ping was due within which something must be received, however slow the carrier is."""


class Keepalive:
    """
    The two deadlines of a keepalive.  Any octet that is received is a sign of life, not the answer alone.

    @ivar heard: set by the session for whatever it receives.
    @ivar unsent: a ping is due or queued, and the owner has not reported that it was sent.
    """

    __slots__ = ("_answer_due", "_interval", "_ping_due", "_timeout", "heard", "unsent")

    def __init__(self, interval: float, timeout: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._ping_due: float | None = None
        self._answer_due: float | None = None
        self.heard = self.unsent = False

    def next_deadline(self) -> float | None:
        """
        @return: seconds on the caller's clock; C{None} before the first C{expire} or without keepalive.
        """
        if self._ping_due is None or (self._answer_due is not None and self._answer_due < self._ping_due):
            return self._answer_due
        return self._ping_due

    def timed_out(self, now: float) -> bool:
        """
        @return: whether the time for an answer is over and nothing was received since the ping; true once.
        """
        if self._answer_due is None:
            return False
        if self.heard:
            self._answer_due = None
            self.unsent = False
            return False
        if now < self._answer_due:
            return False
        self._answer_due = self._ping_due = None
        self._interval = 0.0
        return True

    def ping_due(self, now: float) -> bool:
        """
        @return: whether to queue a ping now; the longest time for its answer begins.  The first call only starts the clock.
        """
        if not self._interval:
            return False
        if self._ping_due is None:
            self._ping_due = now + self._interval
            return False
        if now < self._ping_due:
            return False
        self._ping_due = now + self._interval
        if self._answer_due is None:
            self._answer_due = now + max(MOST_SECONDS, self._timeout)
            self.heard = False
            self.unsent = True
        return True

    def ping_sent(self, now: float, ahead: float) -> None:
        """
        The ping was sent: from now on its answer is due in time.

        @param ahead: seconds that the carrier needs for what lies before the ping.
        """
        self.unsent = False
        if self._answer_due is not None:
            self._answer_due = min(self._answer_due, now + self._timeout + ahead)


class PingTable:
    """
    The pings that are not answered, the opaque value of the next one, and the round trips that answers have shown.

    @ivar next_opaque: of the next ping, between C{0} and C{2**32 - 1}.
    @ivar last: when the last ping was queued.
    @ivar smallest: seconds of the shortest round trip; infinite before the first answer.
    @ivar latest: seconds of the latest round trip; C{0} before the first answer.
    @ivar proved: when the ping was sent that was answered last.  What was sent before it has reached the peer.
    """

    __slots__ = ("_expected", "_sent", "last", "latest", "next_opaque", "proved", "smallest")

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}     # opaque value -> when it was queued
        self._expected: dict[int, None] = {}  # those that the owner waits for; an empty set would take four times the memory
        self.next_opaque = 0
        self.last = -inf
        self.smallest = inf
        self.latest = 0.0
        self.proved = -inf

    def __len__(self) -> int:
        return len(self._expected)

    def take_opaque(self, now: float) -> int:
        """
        @return: the value for a ping that is queued now.
        """
        opaque = self.next_opaque
        self.next_opaque = (opaque + 1) & 0xFFFF_FFFF
        if len(self._sent) >= PINGS_REMEMBERED:
            oldest = next((each for each in self._sent if each not in self._expected), next(iter(self._sent)))
            del self._sent[oldest]
            self._expected.pop(oldest, None)
        self._sent[opaque] = self.last = now
        return opaque

    def expect(self, opaque: int) -> None:
        """
        The owner waits for the answer to this ping.
        """
        self._expected[opaque] = None

    def answered(self, opaque: int, now: float) -> bool:
        """
        An answer arrived.

        @return: whether the owner waited for it.
        """
        sent = self._sent.pop(opaque, None)
        if sent is None:
            return False
        self.latest = now - sent
        self.smallest = min(self.smallest, self.latest)
        self.proved = max(self.proved, sent)
        expected = opaque in self._expected
        self._expected.pop(opaque, None)
        return expected
