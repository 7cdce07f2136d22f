"""
Signs of life, on the caller's clock: a ping every so often, and something must be heard soon after it.
"""

from __future__ import annotations

PINGS_REMEMBERED = 32       # pings of the owner that may be unanswered before the oldest is forgotten


class Keepalive:
    """
    The two deadlines of a keepalive.  Any octet heard is life, not the answer alone.

    @ivar heard: set by the session for whatever it receives.
    """

    __slots__ = ("_answer_due", "_interval", "_ping_due", "_timeout", "heard")

    def __init__(self, interval: float, timeout: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._ping_due: float | None = None
        self._answer_due: float | None = None
        self.heard = False

    def next_deadline(self) -> float | None:
        """
        @return: seconds on the caller's clock; C{None} before the first C{expire} or without keepalive.
        """
        if self._ping_due is None or (self._answer_due is not None and self._answer_due < self._ping_due):
            return self._answer_due
        return self._ping_due

    def timed_out(self, now: float) -> bool:
        """
        @return: whether the time for an answer is over and nothing was heard since the ping; told once.
        """
        if self._answer_due is None:
            return False
        if self.heard:
            self._answer_due = None
            return False
        if now < self._answer_due:
            return False
        self._answer_due = self._ping_due = None
        self._interval = 0.0
        return True

    def ping_due(self, now: float) -> bool:
        """
        @return: whether to send a ping now; the time for its answer begins.  The first call only starts the clock.
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
            self._answer_due = now + self._timeout
            self.heard = False
        return True


class PingTable:
    """
    The pings of the owner that are not answered, and the opaque value of the next ping.

    @ivar next_opaque: of the next ping, between C{0} and C{2**32 - 1}.
    """

    __slots__ = ("_expected", "next_opaque")

    def __init__(self) -> None:
        self._expected: dict[int, None] = {}
        self.next_opaque = 0

    def __len__(self) -> int:
        return len(self._expected)

    def take_opaque(self) -> int:
        """
        @return: the value for a ping that is sent now.
        """
        opaque = self.next_opaque
        self.next_opaque = (opaque + 1) & 0xFFFF_FFFF
        return opaque

    def expect(self, opaque: int) -> None:
        """
        The owner waits for the answer to this ping.
        """
        if len(self._expected) >= PINGS_REMEMBERED:
            del self._expected[next(iter(self._expected))]
        self._expected[opaque] = None

    def answered(self, opaque: int) -> bool:
        """
        @return: whether the owner waited for this answer.
        """
        if opaque not in self._expected:
            return False
        del self._expected[opaque]
        return True
