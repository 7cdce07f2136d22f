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

LOOK_SECONDS = 1.0


class ProcessBudget(Service):
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
        self._look: Any = None

    def startService(self) -> None:
        """
        Look from now on.
        """
        super().startService()
        self._look = self._clock.callLater(LOOK_SECONDS, self._looked)

    def stopService(self) -> None:
        """
        Look no more.
        """
        super().stopService()
        look, self._look = self._look, None
        if look is not None:
            look.cancel()

    @property
    def held(self) -> int:
        """
        Octets that sessions hold at the moment.
        """
        return sum(session.held for session in self._sessions())

    def _sessions(self) -> list[Any]:
        return [session for tunnel in self._tunnels if (session := getattr(tunnel, "session", None)) is not None]

    def _looked(self) -> None:
        self._look = self._clock.callLater(LOOK_SECONDS, self._looked)
        held = self.held
        if held > self.limit:
            self.log.warn(
                "{held} octets are held for readers that stand still, and {most} may be: the largest are reset", held=held,
                most=self.limit, status="limit", why="process",
            )
            self._relieve(held)

    def _relieve(self, held: int) -> None:
        for session in sorted(self._sessions(), key=lambda session: int(session.held), reverse=True):
            while held > self.limit and session.held:
                held -= session.relieve()
