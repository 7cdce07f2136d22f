"""
What all sessions together may hold for readers that stand still.

Each session keeps to a budget of its own; this is about very many of them.  It is looked at once a second, which is soon enough
because a session's own budget bounds what it can gather in that time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

CHECK_SECONDS = 1.0


class MemoryBudget(Service):
    """
    Resets the streams that hold most, while all sessions together hold too much.

    @ivar limit: octets.
    """

    log = Logger()

    def __init__(self, clock: Any, limit: int, tunnels: Iterable[Any]) -> None:
        """
        @param tunnels: all that there are, whenever it is asked.
        """
        self.limit = limit
        self._clock = clock
        self._tunnels = tunnels
        self._timer: Any = None

    def startService(self) -> None:
        """
        Look from now on.
        """
        super().startService()
        self._timer = self._clock.callLater(CHECK_SECONDS, self._check)

    def stopService(self) -> None:
        """
        Look no more.
        """
        super().stopService()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    @property
    def held(self) -> int:
        """
        Octets that sessions hold at the moment.
        """
        return sum(session.held for session in self._sessions())

    def _sessions(self) -> list[Any]:
        return [session for tunnel in self._tunnels if (session := getattr(tunnel, "session", None)) is not None]

    def _check(self) -> None:
        self._timer = self._clock.callLater(CHECK_SECONDS, self._check)
        held = self.held
        if held > self.limit:
            self.log.warn(
                "{held} octets are held for readers that stand still, and {most} may be: the largest are reset", held=held,
                most=self.limit, status="limit", why="process",
            )
            self._reclaim(held)

    def _reclaim(self, held: int) -> None:
        for session in sorted(self._sessions(), key=lambda session: int(session.held), reverse=True):
            while held > self.limit and session.held:
                held -= session.resetLargest()
