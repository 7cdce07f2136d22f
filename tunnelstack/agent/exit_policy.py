"""
When an agent gives up: which failures are permanent, and how long it may be without a session.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tunnelstack.control.process.exit_status import FatalError, GaveUp
from tunnelstack.waiters import Waiters


class ExitPolicy:
    """
    Decides when an agent ends by itself.

    An agent ends if it has had no session with any server for a given time, or if its only server, with which it never had a
    session, refuses it permanently.  Where there are several servers, or where a server has accepted the agent before, a
    refusal may be the server's fault and may pass, so the agent tries again.

    @ivar fatalError: why the agent ends; C{None} as long as it does not.
    """

    def __init__(self, clock: IReactorTime, giveUpSeconds: float) -> None:
        """
        @param giveUpSeconds: seconds without a session after which the agent gives up; C{0} never does.
        """
        self.fatalError: FatalError | None = None
        self._clock = clock
        self._giveUpSeconds = giveUpSeconds
        self._servers = 0
        self._up: set[object] = set()
        self._everUp = self._started = self._stopped = False
        self._timer: IDelayedCall | None = None
        self._waiters: Waiters[FatalError] = Waiters()

    def addServer(self) -> None:
        """
        Count one more server that the agent dials.
        """
        self._servers += 1

    def start(self) -> None:
        """
        The agent has begun to dial: the time without a session counts from now.
        """
        self._started = True
        self._startTimer()

    def stop(self) -> None:
        """
        The agent is being stopped: no failure counts any more.
        """
        self._stopped = True
        self._cancelTimer()

    def setGiveUpSeconds(self, giveUpSeconds: float) -> None:
        """
        Change the time without a session.  The time that has passed does not count.
        """
        if giveUpSeconds != self._giveUpSeconds:
            self._giveUpSeconds = giveUpSeconds
            self._cancelTimer()
            self._startTimer()

    def sessionUp(self, link: object) -> None:
        """
        A session has been established.
        """
        self._everUp = True
        self._up.add(link)
        self._cancelTimer()

    def sessionDown(self, link: object) -> None:
        """
        A session is lost.
        """
        self._up.discard(link)
        self._startTimer()

    def permanentFailure(self, why: FatalError) -> None:
        """
        A server refuses the agent, and will do so until a person changes something.
        """
        if self._servers == 1 and not self._everUp:
            self.fail(why)

    def fail(self, why: FatalError) -> None:
        """
        End the agent for this reason; the first reason counts.
        """
        if self.fatalError is not None or self._stopped:
            return
        self.fatalError = why
        self._cancelTimer()
        self._waiters.fire(why)

    def whenFailed(self) -> Deferred[FatalError]:
        """
        @return: fires with the L{FatalError}.
        """
        return self._waiters.wait() if self.fatalError is None else succeed(self.fatalError)

    def _startTimer(self) -> None:
        """
        Limit the time without a session.
        """
        over = self._stopped or self.fatalError is not None
        if self._started and self._giveUpSeconds and self._servers and self._timer is None and not (self._up or over):
            self._timer = self._clock.callLater(self._giveUpSeconds, self._giveUp)

    def _cancelTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _giveUp(self) -> None:
        self.fail(GaveUp(f"no session with an edge within {self._giveUpSeconds:g} seconds"))
