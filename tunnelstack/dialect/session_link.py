"""
An agent's end of a session with an edge, for every dialect that has sessions.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tunnelstack.stream.errors import SessionLost


class SessionLink:
    """
    What an agent's uplink keeps.

    @ivar session: the L{ISession<tunnelstack.interfaces.ISession>}.
    """

    def __init__(self, session: Any) -> None:
        self.session = session

    def ping(self) -> Deferred[float]:
        """
        The round trip in seconds.
        """
        answer: Deferred[float] = self.session.ping()
        return answer

    def whenLost(self) -> Deferred[SessionLost]:
        """
        Fires with the reason once the session is gone.
        """
        lost: Deferred[SessionLost] = self.session.whenLost()
        return lost

    def drain(self) -> Deferred[None]:
        """
        Take no more streams, and close the session when the last one is done.
        """
        drained: Deferred[None] = self.session.drain()
        return drained

    def abort(self, reason: str) -> None:
        """
        Drop the session at once.
        """
        self.session.abort()
