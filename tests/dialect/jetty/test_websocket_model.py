"""
The table of requests against a model: whatever an edge does and an agent sends, in any order.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.dialect.jetty.websocket_requests import (
    LATE_SECONDS,
    MOST_LATE,
    OutOfOrder,
    RequestTable,
    TableFull,
)

AWAITING, SENT, QUEUED = 2, 4, 3
SLOT_SECONDS = 65.0
IDENTIFIERS = st.sampled_from([f"r{number}" for number in range(12)])


class TableMachine(RuleBasedStateMachine):
    """
    The model keeps a word for each request, and what each owner was given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.table: RequestTable[str] = RequestTable(awaiting=AWAITING, sent=SENT, queued=QUEUED)
        self.states: dict[str, str] = {}
        self.ended: set[str] = set()          # raw ones whose agent's direction has ended
        self.line: list[str] = []
        self.late: dict[str, tuple[float, float]] = {}     # until when each is known, and has a slot
        self.now = 1.0
        self.unknown = self.lateFrames = 0

    # The model

    def slots(self) -> tuple[int, int]:
        late = sum(1 for _, slot in self.late.values() if slot)
        words = list(self.states.values())
        awaiting = words.count("awaiting") + late
        return awaiting, awaiting + words.count("streaming") + words.count("raw")

    def dropped(self, identifier: str, *, starts: bool = False, ends: bool = False) -> None:
        if identifier not in self.late:
            self.unknown += 1
            return
        self.lateFrames += 1
        if ends:
            del self.late[identifier]
        elif starts:
            self.late[identifier] = self.late[identifier][0], 0.0

    def over(self, identifier: str) -> None:
        del self.states[identifier]
        self.ended.discard(identifier)

    # The edge

    @rule(identifier=IDENTIFIERS)
    def add(self, identifier: str) -> None:
        if identifier in self.states or identifier in self.late:
            return
        if len(self.states) >= SENT + QUEUED:
            try:
                self.table.add(identifier, identifier)
            except TableFull:
                return
            raise AssertionError("the table took one too many")
        self.table.add(identifier, identifier)
        self.states[identifier] = "new"

    @rule(identifier=IDENTIFIERS)
    def submit(self, identifier: str) -> None:
        if identifier not in self.states:
            return
        self.table.submit(identifier)
        if self.states[identifier] == "new":
            self.states[identifier] = "queued"
            self.line.append(identifier)

    @rule()
    def takeNext(self) -> None:
        awaiting, sent = self.slots()
        expected = self.line.pop(0) if self.line and awaiting < AWAITING and sent < SENT else None
        assert self.table.takeNext() == expected
        if expected is not None:
            self.states[expected] = "awaiting"

    @rule(identifier=IDENTIFIERS, notified=st.booleans())
    def leave(self, identifier: str, notified: bool) -> None:
        state = self.states.get(identifier)
        has = self.table.leave(identifier, self.now, 0.0 if notified else SLOT_SECONDS)
        assert has == (state in ("awaiting", "streaming", "raw"))
        if state is None:
            return
        self.over(identifier)
        if state == "queued":
            self.line.remove(identifier)
        if has:
            keeps = state == "awaiting" and not notified
            self.late[identifier] = self.now + LATE_SECONDS, self.now + SLOT_SECONDS if keeps else 0.0

    @rule(identifier=IDENTIFIERS)
    def finish(self, identifier: str) -> None:
        self.table.finish(identifier)
        if self.states.get(identifier) == "queued":
            self.line.remove(identifier)
        if identifier in self.states:
            self.over(identifier)

    @rule(seconds=st.sampled_from([1.0, 30.0, 70.0, 700.0]))
    def passTime(self, seconds: float) -> None:
        self.now += seconds
        self.table.expire(self.now)
        self.late = {
            identifier: (until, slot if slot > self.now else 0.0)
            for identifier, (until, slot) in self.late.items() if until > self.now
        }  # fmt: skip

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def clear(self, data: Any) -> None:
        if data.draw(st.integers(0, 9)):
            return
        assert sorted(self.table.clear()) == sorted(self.states)
        self.states.clear()
        self.late.clear()
        self.line.clear()
        self.ended.clear()

    # The agent

    @rule(identifier=IDENTIFIERS)
    def whole(self, identifier: str) -> None:
        expected = identifier if self.states.get(identifier) == "awaiting" else None
        assert self.table.whole(identifier) == expected
        if expected:
            self.over(identifier)
        else:
            self.dropped(identifier, ends=True)

    @rule(identifier=IDENTIFIERS, raw=st.booleans())
    def start(self, identifier: str, raw: bool) -> None:
        expected = identifier if self.states.get(identifier) == "awaiting" else None
        assert self.table.start(identifier, raw) == expected
        if expected:
            self.states[identifier] = "raw" if raw else "streaming"
        else:
            self.dropped(identifier, starts=True)

    @rule(identifier=IDENTIFIERS)
    def chunk(self, identifier: str) -> None:
        state = self.states.get(identifier)
        if state == "awaiting":
            self.outOfOrder(self.table.chunk, identifier)
        elif state in ("streaming", "raw") and identifier not in self.ended:
            assert self.table.chunk(identifier) == identifier
        else:
            assert self.table.chunk(identifier) is None
            self.dropped(identifier)

    @rule(identifier=IDENTIFIERS)
    def end(self, identifier: str) -> None:
        state = self.states.get(identifier)
        if state == "awaiting":
            self.outOfOrder(self.table.end, identifier)
        elif state == "streaming":
            assert self.table.end(identifier) == identifier
            self.over(identifier)
        elif state == "raw" and identifier not in self.ended:
            assert self.table.end(identifier) == identifier
            self.ended.add(identifier)
        else:
            assert self.table.end(identifier) is None
            self.dropped(identifier, ends=True)

    @rule(identifier=IDENTIFIERS)
    def failed(self, identifier: str) -> None:
        expected = identifier if self.states.get(identifier) in ("awaiting", "streaming", "raw") else None
        assert self.table.failed(identifier) == expected
        if expected:
            self.over(identifier)
        else:
            self.dropped(identifier, ends=True)

    def outOfOrder(self, call: Any, identifier: str) -> None:
        try:
            call(identifier)
        except OutOfOrder as wrong:
            assert wrong.owner == identifier
        else:
            raise AssertionError("it was in order")
        self.over(identifier)

    # What is always true

    @invariant()
    def theFiguresAgree(self) -> None:
        assert (self.table.awaiting, self.table.sent) == self.slots()
        assert (len(self.table), self.table.unknown, self.table.late) == (len(self.states), self.unknown, self.lateFrames)
        assert sorted(self.table.owners()) == sorted(self.states)

    @invariant()
    def theBoundsHold(self) -> None:
        assert self.table.awaiting <= AWAITING
        assert self.table.sent <= SENT
        assert len(self.table) <= SENT + QUEUED


TableMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
ModelTests = TableMachine.TestCase


class LateTests(SynchronousTestCase):
    def test_whatWasLeftIsKnownWithinABound(self) -> None:
        table: RequestTable[str] = RequestTable()
        for number in range(MOST_LATE + 10):
            identifier = f"r{number}"
            table.add(identifier, identifier)
            table.submit(identifier)
            self.assertEqual(table.takeNext(), identifier)
            self.assertTrue(table.leave(identifier, 0.0, 0.0))
        self.assertIsNone(table.whole("r0"))
        self.assertIsNone(table.whole(f"r{MOST_LATE}"))
        self.assertEqual((table.unknown, table.late), (1, 1))

    def test_aSlotIsGivenBackWithTheOldest(self) -> None:
        table: RequestTable[str] = RequestTable(awaiting=1)
        table.add("a", "a")
        table.submit("a")
        table.takeNext()
        table.leave("a", 0.0, 65.0)
        table.add("b", "b")
        table.submit("b")
        self.assertIsNone(table.takeNext())
        table.expire(LATE_SECONDS)
        self.assertEqual((table.takeNext(), table.sent), ("b", 1))
