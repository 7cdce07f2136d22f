"""
Streams that are connections of their own: how many there are, what they have carried, and what is held for slow readers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from attrs import evolve
from twisted.internet.interfaces import IReactorTime

from tunnelstack.session.budget import CONNECTION, SMALLEST, MemoryBudget, Stalled
from tunnelstack.stream.address import StreamAddress


class StreamConnection(Protocol):
    """
    A connection that is a stream.

    @ivar streamId: its number in the session.
    @ivar address: of the other end.
    @ivar octetsIn: octets of payload received.
    @ivar octetsOut: octets of payload sent.
    @ivar onEnded: called when it is over.
    """

    streamId: int
    address: StreamAddress
    octetsIn: int
    octetsOut: int
    onEnded: Callable[[], object] | None

    @property
    def held(self) -> int:
        """
        Octets that arrived and that its application has not read yet.
        """

    def abortConnection(self) -> None:
        """
        Reset it.
        """


Connection = TypeVar("Connection", bound=StreamConnection)


class StreamConnections(Generic[Connection]):
    """
    The streams of a session, which outlive it; a L{BudgetMember<tunnelstack.session.budget.BudgetMember>}.

    @ivar opened: how many there have been.
    """

    def __init__(self, clock: IReactorTime, streamDone: Callable[[], object]) -> None:
        """
        @param streamDone: called when a stream is over.
        """
        self._clock = clock
        self._streamDone = streamDone
        self._open: dict[int, Connection] = {}
        self._read: dict[int, tuple[int, float]] = {}   # octets read of a stream when it was last looked at, and since when
        self.opened = 0
        self._octetsIn = self._octetsOut = 0  # of the streams that are over
        self._budget: MemoryBudget | None = None
        self._sessionLost = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def octetsIn(self) -> int:
        """
        Octets of payload received.
        """
        return self._octetsIn + sum(stream.octetsIn for stream in self._open.values())

    @property
    def octetsOut(self) -> int:
        """
        Octets of payload sent.
        """
        return self._octetsOut + sum(stream.octetsOut for stream in self._open.values())

    def all(self) -> list[Connection]:
        """
        @return: the streams that are open now.
        """
        return list(self._open.values())

    def add(self, connection: Connection, session: StreamAddress) -> StreamAddress:
        """
        A connection has become a stream.

        @param session: the address of its session.
        @return: the address of the stream.
        """
        self.opened += 1
        connection.streamId = self.opened
        connection.address = address = evolve(session, streamId=self.opened)
        connection.onEnded = partial(self._ended, self.opened)
        self._open[self.opened] = connection
        return address

    def _ended(self, streamId: int) -> None:
        stream = self._open.pop(streamId)
        self._read.pop(streamId, None)
        self._octetsIn += stream.octetsIn
        self._octetsOut += stream.octetsOut
        self._streamDone()
        self._leaveBudget()

    def sessionLost(self) -> None:
        """
        The session is lost: its budget counts the streams until the last one is over.
        """
        self._sessionLost = True
        self._leaveBudget()

    # BudgetMember

    @property
    def held(self) -> int:
        """
        Octets held for applications that have not read them yet.
        """
        return sum(stream.held for stream in self._open.values())

    @property
    def growth(self) -> int:
        """
        There are no windows that grow.
        """
        return 0

    def joined(self, budget: MemoryBudget) -> None:
        """
        As in L{BudgetMember<tunnelstack.session.budget.BudgetMember>}.
        """
        self._budget = budget

    def _leaveBudget(self) -> None:
        if self._sessionLost and not self._open and self._budget is not None:
            budget, self._budget = self._budget, None
            budget.leave(self, 0)

    def count(self) -> None:
        """
        Nothing to report at once: TCP holds the streams' peers back, so little is held, which L{waiting} counts.
        """

    def waiting(self) -> int:
        """
        @return: octets that are held, and those that connections of readers have buffered and do not send.
        """
        now, octets = self._clock.seconds(), 0
        for streamId, stream in self._open.items():
            held = stream.held
            octets += held + CONNECTION * (held > 0)
            read = stream.octetsIn - held
            if self._read.get(streamId, (-1, 0.0))[0] != read:
                self._read[streamId] = read, now
        return octets

    def stalled(self, before: float) -> list[Stalled]:
        """
        @param before: seconds of the clock.
        @return: streams for which something is held and of which nothing was read after that moment.
        """
        return [
            Stalled(since, held + CONNECTION, self, streamId)
            for streamId, (_, since) in self._read.items()
            if since <= before and (held := self._open[streamId].held) >= SMALLEST
        ]

    def cut(self, streamId: int, why: str) -> None:
        """
        Reset a stream because too much is held.
        """
        self._open[streamId].abortConnection()

    def grow(self, allowed: bool) -> None:
        """
        There are no windows that grow.
        """

    def rest(self) -> None:
        """
        Streams for which something is held are not read already.
        """

    def goOn(self) -> None:
        """
        See L{rest}.
        """
