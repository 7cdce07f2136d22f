"""
Twisted's epoll reactor, which looks a little longer before it goes to sleep.

To be woken is dear, above all on a virtual machine: tens of microseconds pass before a process runs again, and then it finds
its caches cold.  Who was answered just now is often heard again before that.  So a reactor that has nothing more to do asks
for what is ready over and over, for up to L{SPIN_SECONDS} seconds, before it waits.  Where this is vain it is soon given up,
and tried again only now and then: a program that has nothing to do sleeps as it did.

Source: Linux does the like for a virtual processor without work (C{drivers/cpuidle/governors/haltpoll.c}, where
L{SPIN_SECONDS} is from, and which looks for a shorter time where this one looks more rarely), and for a socket
(C{net.core.busy_poll}).
"""

from __future__ import annotations

from time import monotonic

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

SPIN_SECONDS = 200e-6
"""Seconds."""

MAX_SKIP_EXPONENT = 10
"""Twice the waits are let pass for each look that is vain, up to 2 to the power of this."""


class BusyPollReactor(EPollReactor):
    """
    The epoll reactor, awake a little longer.  How often its looks were vain says how many waits pass between two of them.
    """

    _missed = 0                                 # how many looks were, less half of them for each that was not
    _skip = 0                                 # waits before which nobody looks

    def doPoll(self, timeout: float | None) -> None:
        """
        As in C{EPollReactor}.

        @param timeout: seconds; C{None} for ever.
        """
        if timeout is None or timeout > 0:
            if self._skip:
                self._skip -= 1
            elif timeout is None:
                self._spin(SPIN_SECONDS)
            elif not self._spin(min(timeout, SPIN_SECONDS)):
                timeout = max(0.0, timeout - SPIN_SECONDS)
        super().doPoll(timeout)

    doIteration = doPoll

    def _spin(self, seconds: float) -> bool:
        """
        See whether something comes at once.

        @return: whether it has.
        """
        poll = self._poller.poll
        if poll(0, 1):
            return True                       # it was there: nothing is learnt from that
        end = monotonic() + seconds
        while not poll(0, 1):
            if monotonic() >= end:
                self._missed = min(self._missed + 1, MAX_SKIP_EXPONENT)
                self._skip = 1 << self._missed
                return False
        self._missed //= 2
        return True


def install() -> None:
    """
    Make it the process's reactor.
    """
    installReactor(BusyPollReactor())
