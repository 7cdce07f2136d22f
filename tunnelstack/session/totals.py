"""
What all sessions of a process have carried, those that are lost included: figures that only grow.
"""

from __future__ import annotations

from collections.abc import Iterator

from tunnelstack.interfaces import ISession


class SessionTotals:
    """
    The sessions of a process.  They are counted from when they join until they are lost.

    @ivar joined: how many sessions have joined.
    @ivar lost: how many of them are lost.
    """

    def __init__(self) -> None:
        self.joined = self.lost = 0
        self._sessions: dict[int, ISession] = {}     # by the id of each
        self._streams = self._octetsIn = self._octetsOut = 0      # of those that are lost

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[ISession]:
        return iter(list(self._sessions.values()))

    def join(self, session: ISession) -> None:
        """
        Count a session.  L{leave} is to follow when it is lost.
        """
        self.joined += 1
        self._sessions[id(session)] = session

    def leave(self, session: ISession) -> None:
        """
        A session is lost.
        """
        del self._sessions[id(session)]
        self.lost += 1
        self._streams += session.streamsOpened
        self._octetsIn += session.octetsIn
        self._octetsOut += session.octetsOut

    def watch(self, session: ISession) -> None:
        """
        Count a session until it is lost.
        """
        self.join(session)
        session.whenLost().addCallback(lambda _: self.leave(session))

    @property
    def streamsOpened(self) -> int:
        """
        How many streams have been opened.
        """
        return self._streams + sum(session.streamsOpened for session in self._sessions.values())

    @property
    def octetsIn(self) -> int:
        """
        Octets of payload received.
        """
        return self._octetsIn + sum(session.octetsIn for session in self._sessions.values())

    @property
    def octetsOut(self) -> int:
        """
        Octets of payload sent.
        """
        return self._octetsOut + sum(session.octetsOut for session in self._sessions.values())
