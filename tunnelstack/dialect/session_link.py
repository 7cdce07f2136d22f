"""
The agent's end of a session with an edge, for all dialects with sessions.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from tunnelstack.exchange.bounds import DEFAULT_BOUNDS
from tunnelstack.interfaces import ILink, ISession
from tunnelstack.stream.errors import SessionLost

S = TypeVar("S", bound=ISession)


@implementer(ILink)
class SessionLink(Generic[S]):
    """
    What the uplink of an agent needs of a session.

    @ivar session: the session.
    @ivar bounds: the bounds of exchanges that the edge has announced.
    """

    def __init__(self, session: S) -> None:
        self.session = session
        self.bounds = DEFAULT_BOUNDS

    def ping(self) -> Deferred[float]:
        """
        @return: the round trip in seconds.
        """
        answer: Deferred[float] = self.session.ping()
        return answer

    def whenLost(self) -> Deferred[SessionLost]:
        """
        @return: fires with the reason, as a result, when the session is lost.
        """
        lost: Deferred[SessionLost] = self.session.whenLost()
        return lost

    def drain(self) -> Deferred[None]:
        """
        Accept no more streams, and close the session when the last one is done.

        @return: fires then.
        """
        drained: Deferred[None] = self.session.drain()
        return drained

    def abort(self, reason: str) -> None:
        """
        Drop the session at once.
        """
        self.session.abort()
