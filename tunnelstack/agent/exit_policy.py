"""
Whether an agent may go on: how many servers it dials, whether one of them has ever taken it, and how long there has been none.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tunnelstack.control.process.exit_status import Ending, GaveUp


class Outlook:
    """
    Knows when it is over.

    @ivar ending: the L{Ending}, or C{None} as long as there is hope.
    """

    def __init__(self, clock: Any, patience: float) -> None:
        """
        @param patience: seconds without a session after which the agent gives up; C{0} never does.
        """
        self.ending: Ending | None = None
        self._clock = clock
        self._patience = patience
        self._servers = 0
        self._up: set[Any] = set()
        self._everUp = self._started = self._stopped = False
        self._timer: Any = None
        self._waiting: list[Deferred[Ending]] = []

    def expect(self) -> None:
        """
        There is one more server to be dialled, an edge or one of devices.
        """
        self._servers += 1

    def start(self) -> None:
        """
        They are dialled from now on.
        """
        self._started = True
        self._wait()

    def stop(self) -> None:
        """
        Nothing is an end any more: the agent stops as it was told.
        """
        self._stopped = True
        self._stopWaiting()

    def patient(self, patience: float) -> None:
        """
        Have another patience, from now on.
        """
        if patience != self._patience:
            self._patience = patience
            self._stopWaiting()
            self._wait()

    def up(self, uplink: Any) -> None:
        """
        There is a session.
        """
        self._everUp = True
        self._up.add(uplink)
        self._stopWaiting()

    def down(self, uplink: Any) -> None:
        """
        It is gone.
        """
        self._up.discard(uplink)
        self._wait()

    def hopeless(self, why: Ending) -> None:
        """
        A server does not take us, and never will as things are.  That of the only one, which never did, is the end.
        """
        if self._servers == 1 and not self._everUp:
            self.end(why)

    def end(self, why: Ending) -> None:
        """
        It is over.
        """
        if self.ending is not None or self._stopped:
            return
        self.ending = why
        self._stopWaiting()
        waiting, self._waiting = self._waiting, []
        for ended in waiting:
            ended.callback(why)

    def whenEnded(self) -> Deferred[Ending]:
        """
        @return: fires with the L{Ending}.
        """
        ended: Deferred[Ending] = Deferred()
        if self.ending is not None:
            ended.callback(self.ending)
        else:
            self._waiting.append(ended)
        return ended

    def _wait(self) -> None:
        """
        While there is no session: not for longer than one is told to be patient.
        """
        over = self._stopped or self.ending is not None
        if self._started and self._patience and self._servers and self._timer is None and not (self._up or over):
            self._timer = self._clock.callLater(self._patience, self._giveUp)

    def _stopWaiting(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _giveUp(self) -> None:
        self.end(GaveUp(f"no edge could be reached in {self._patience:g} seconds"))
