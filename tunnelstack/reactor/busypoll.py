"""
Twisted's epoll reactor, which polls for a short time before it sleeps.

To wake a process is expensive, especially on a virtual machine: it takes tens of microseconds until the process runs again, and
its caches are cold.  A peer that has just received an answer often sends its next message earlier than that.  Therefore an idle
reactor polls without sleeping for up to L{SPIN_SECONDS} seconds before it waits.  If polling finds nothing it is soon done
rarely, so that an idle program uses no more processor time than with the epoll reactor.

Source: Linux does the same for an idle virtual processor (C{drivers/cpuidle/governors/haltpoll.c}, from which L{SPIN_SECONDS}
is taken; it shortens the polling where this reactor polls more rarely) and for a socket (C{net.core.busy_poll}).
"""

from __future__ import annotations

from time import monotonic

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

SPIN_SECONDS = 200e-6
"""Seconds of polling before a wait."""

MAX_SKIP_EXPONENT = 10
"""After each vain polling, twice as many waits go without one, up to 2 to the power of this."""


class BusyPollReactor(EPollReactor):
    """
    The epoll reactor with polling.  The more often polling was vain, the more waits go without it.
    """

    _missed = 0                               # plus 1 for each vain polling, halved by each that found something
    _skip = 0                                 # waits that go without polling

    def doPoll(self, timeout: float | None) -> None:
        """
        Poll, then wait.

        @param timeout: seconds; C{None} for no limit.
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
        Poll until a descriptor is ready.

        @param seconds: how long at most.
        @return: whether a descriptor is ready.
        """
        poll = self._poller.poll
        if poll(0, 1):
            return True                       # it was ready before the polling, which therefore proves nothing
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
    Install it as the process's reactor.
    """
    installReactor(BusyPollReactor())
