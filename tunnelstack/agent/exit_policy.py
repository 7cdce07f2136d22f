"""
Whether an agent may go on: how many servers it dials, whether one of them has ever taken it, and how long there has been none.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from tunnelstack.control.process.exit_status import FatalError, GaveUp
from tunnelstack.waiters import Waiters


class ExitPolicy:
    """
    Knows when it is over.

    @ivar ending: the L{FatalError}, or C{None} as long as there is hope.
    """

    def __init__(self, clock: Any, giveUpSeconds: float) -> None:
        """
        @param giveUpSeconds: seconds without a session after which the agent gives up; C{0} never does.
        """
        self.fatalError: FatalError | None = None
        self._clock = clock
        self._giveUpSeconds = giveUpSeconds
        self._servers = 0
        self._up: set[Any] = set()
        self._everUp = self._started = self._stopped = False
        self._timer: Any = None
        self._waiters: Waiters[FatalError] = Waiters()

    def addServer(self) -> None:
        """
        There is one more server to be dialled, an edge or one of devices.
        """
        self._servers += 1

    def start(self) -> None:
        """
        They are dialled from now on.
        """
        self._started = True
        self._startTimer()

    def stop(self) -> None:
        """
        Nothing is an end any more: the agent stops as it was told.
        """
        self._stopped = True
        self._cancelTimer()

    def setGiveUpSeconds(self, giveUpSeconds: float) -> None:
        """
        Have another giveUpSeconds, from now on.
        """
        if giveUpSeconds != self._giveUpSeconds:
            self._giveUpSeconds = giveUpSeconds
            self._cancelTimer()
            self._startTimer()

    def sessionUp(self, uplink: Any) -> None:
        """
        There is a session.
        """
        self._everUp = True
        self._up.add(uplink)
        self._cancelTimer()

    def sessionDown(self, uplink: Any) -> None:
        """
        It is gone.
        """
        self._up.discard(uplink)
        self._startTimer()

    def permanentFailure(self, why: FatalError) -> None:
        """
        A server does not take us, and never will as things are.  That of the only one, which never did, is the end.
        """
        if self._servers == 1 and not self._everUp:
            self.fail(why)

    def fail(self, why: FatalError) -> None:
        """
        It is over.
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
        While there is no session: not for longer than one is told to be patient.
        """
        over = self._stopped or self.fatalError is not None
        if self._started and self._giveUpSeconds and self._servers and self._timer is None and not (self._up or over):
            self._timer = self._clock.callLater(self._giveUpSeconds, self._giveUp)

    def _cancelTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _giveUp(self) -> None:
        self.fail(GaveUp(f"no edge could be reached in {self._giveUpSeconds:g} seconds"))
