"""
The samples of sessions and of their memory, on the edge and on the agent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from tunnelstack.control.metrics import families
from tunnelstack.control.metrics.samples import Samples, single
from tunnelstack.interfaces import ISession


class Sessions(Protocol):
    """
    The sessions of a process, as L{SessionTotals<tunnelstack.session.totals.SessionTotals>} has them.
    """

    joined: int
    lost: int

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[ISession]: ...

    @property
    def streamsOpened(self) -> int: ...

    @property
    def octetsIn(self) -> int: ...

    @property
    def octetsOut(self) -> int: ...


class Budget(Protocol):
    """
    The memory of a process, as L{MemoryBudget<tunnelstack.session.budget.MemoryBudget>} has it.
    """

    limit: int
    streamsReset: int

    @property
    def held(self) -> int: ...


def sessionSamples(sessions: Sessions) -> Iterator[Samples]:
    """
    What sessions carry and hold.
    """
    yield single(families.SESSIONS, len(sessions))
    yield single(families.SESSIONS_OPENED, sessions.joined)
    yield single(families.SESSIONS_LOST, sessions.lost)
    yield single(families.STREAMS, sum(session.streams for session in sessions))
    yield single(families.STREAMS_OPENED, sessions.streamsOpened)
    yield single(families.RECEIVED, sessions.octetsIn)
    yield single(families.SENT, sessions.octetsOut)
    yield single(families.QUEUED, sum(session.memory.waiting() for session in sessions))
    yield single(families.HELD, sum(session.held for session in sessions))
    yield single(families.CREDIT, sum(session.memory.growth for session in sessions))


def budgetSamples(budget: Budget) -> Iterator[Samples]:
    """
    What counts against the limit of memory.
    """
    yield single(families.BUDGET_HELD, budget.held)
    yield single(families.BUDGET_LIMIT, budget.limit)
    yield single(families.BUDGET_RESETS, budget.streamsReset)
