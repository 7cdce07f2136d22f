"""
Two yamux sessions on a link that delivers any number of octets at any time, against a model that only counts.

The payload of a stream is a pattern that says where each octet belongs, so that the model holds no octets: what arrives is
compared with the pattern at the place that has been reached.  What leaves a session is also read as frames, by ten lines of
their own, and held against the rules of the protocol.
"""

from __future__ import annotations

import tracemalloc
from collections import Counter, deque
from struct import pack, unpack_from
from typing import Any

from attrs import Factory, define
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.reachable import octetsOf
from tunnelstack.errors import PeerError, Unavailable
from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.errors import SessionError
from tunnelstack.wire.yamux.events import (
    CREDIT_OVERFLOW,
    OVERRUN,
    CreditArrived,
    DataArrived,
    KeepaliveLost,
    PeerWentAway,
    PongArrived,
    SlotsFreed,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from tunnelstack.wire.yamux.limits import SessionLimits

PERIOD = 251
PATTERN = bytes(range(PERIOD)) * 4200      # a little more than 1 MiB
INITIAL = 256 * 1024
LIMITS = SessionLimits(
    backlog=3,
    max_streams=6,
    unacknowledged=4,
    session_octets=1024 * 1024,
    max_frame=40_000,
    open_timeout=75,
    keepalive=30,
)

sides = st.integers(0, 1)
choices = st.integers(0, 1000)


def pattern(stream_id: int, side: int, place: int, octets: int) -> bytes:
    """
    What a side sends on a stream at a place.
    """
    start = (stream_id * 7 + side * 3 + place) % PERIOD
    return PATTERN[start : start + octets]


@define
class Half:
    """
    A stream as one side knows it.
    """

    sent: int = 0           # octets taken by send_data
    got: int = 0            # octets delivered
    owed: int = 0           # delivered and not acknowledged
    accepted: bool = False
    ended: bool = False     # we called end_stream
    heard_end: bool = False
    gone: bool = False      # reset by anybody


@define
class Spoken:
    """
    What a side put on the link about a stream, as frames.
    """

    payload: int = 0
    granted: int = INITIAL  # credit that has reached it
    flags: Counter[int] = Factory(Counter)


class TwoSessions(RuleBasedStateMachine):
    """
    Sides 0 (client) and 1 (server).
    """

    def __init__(self) -> None:
        super().__init__()
        self.ends = [YamuxConnection(True, LIMITS), YamuxConnection(False, LIMITS)]
        self.link = [bytearray(), bytearray()]                      # on the way from a side
        self.grants: list[deque[list[int]]] = [deque(), deque()]    # octets until it arrives, stream, credit
        self.halves: list[dict[int, Half]] = [{}, {}]
        self.spoken: list[dict[int, Spoken]] = [{}, {}]
        self.pings: list[set[int]] = [set(), set()]
        self.away = [False, False]
        self.told_away = [False, False]
        self.now = 0.0
        for end in self.ends:
            end.expire(0.0)

    # The link.

    def flush(self, side: int) -> None:
        for piece in self.split(self.ends[side].data_to_send()):
            self.read_frame(side, piece)

    def split(self, pieces: list[bytes]) -> list[bytes]:
        octets, at, found = b"".join(pieces), 0, []
        while at < len(octets):
            kind, length = octets[at + 1], int.from_bytes(octets[at + 8 : at + 12], "big")
            end = at + 12 + (length if kind == 0 else 0)
            found.append(octets[at:end])
            at = end
        return found

    def read_frame(self, side: int, frame: bytes) -> None:
        version, kind, flags, stream_id, length = unpack_from(">BBHII", frame)
        assert version == 0 and kind < 4
        self.link[side] += frame
        credit = length if kind == 1 and not flags & 8 else 0
        self.grants[side].append([len(frame), stream_id, credit])
        if kind > 1:
            return
        spoken = self.spoken[side].setdefault(stream_id, Spoken())
        assert not spoken.flags[8], "a frame after RST"
        if kind == 0:
            assert flags == 0 and 0 < length <= LIMITS.max_frame
            assert not spoken.flags[4], "payload after FIN"
            spoken.payload += length
            assert spoken.payload <= spoken.granted, "more than the credit"
        first = 1 if stream_id % 2 == (1 - side) else 2
        for flag in (1, 2, 4, 8):
            spoken.flags[flag] += bool(flags & flag)
            assert spoken.flags[flag] <= 1
        if flags != 8:
            assert spoken.flags[first] == 1 and not spoken.flags[3 - first]

    def arrive(self, side: int, octets: int) -> None:
        """
        So many octets from a side reach the other.
        """
        data = bytes(self.link[side][:octets])
        del self.link[side][:octets]
        left, grants = len(data), self.grants[side]
        while left and grants:
            taken = min(left, grants[0][0])
            left -= taken
            grants[0][0] -= taken
            if not grants[0][0]:
                _, stream_id, credit = grants.popleft()
                self.spoken[1 - side].setdefault(stream_id, Spoken()).granted += credit
        self.saw(1 - side, self.ends[1 - side].receive_data(data))

    def saw(self, side: int, events: list[Any]) -> None:
        for event in events:
            getattr(self, event.__class__.__name__)(side, event)

    # What is told.

    def StreamOpened(self, side: int, event: StreamOpened) -> None:
        assert event.stream_id not in self.halves[side]
        assert event.stream_id in self.halves[1 - side]
        self.halves[side][event.stream_id] = Half()

    def DataArrived(self, side: int, event: DataArrived) -> None:
        half, other = self.halves[side][event.stream_id], self.halves[1 - side][event.stream_id]
        assert not half.heard_end and not half.gone
        assert event.data == pattern(event.stream_id, 1 - side, half.got, len(event.data))
        half.got += len(event.data)
        half.owed += len(event.data)
        assert 0 < half.got <= other.sent

    def StreamEnded(self, side: int, event: StreamEnded) -> None:
        half, other = self.halves[side][event.stream_id], self.halves[1 - side][event.stream_id]
        assert other.ended and half.got == other.sent and not half.heard_end and not half.gone
        half.heard_end = True

    def StreamReset(self, side: int, event: StreamReset) -> None:
        half = self.halves[side][event.stream_id]
        assert not half.gone and event.reason not in (OVERRUN, CREDIT_OVERFLOW)
        half.gone = True

    def CreditArrived(self, side: int, event: CreditArrived) -> None:
        assert self.ends[side].credit(event.stream_id) > 0 or not self.halves[side][event.stream_id].accepted

    def SlotsFreed(self, side: int, event: SlotsFreed) -> None:
        assert self.ends[side].open_slots > 0

    def PongArrived(self, side: int, event: PongArrived) -> None:
        self.pings[side].remove(event.opaque)

    def PeerWentAway(self, side: int, event: PeerWentAway) -> None:
        assert self.away[1 - side] and not self.told_away[side]
        self.told_away[side] = True

    def KeepaliveLost(self, side: int, event: KeepaliveLost) -> None:
        """
        The link may be as slow as it likes here.
        """

    # What happens.

    def some(self, side: int, choice: int, **state: bool) -> tuple[int, Half] | None:
        found = [
            (stream_id, half)
            for stream_id, half in self.halves[side].items()
            if not half.gone and all(getattr(half, name) is value for name, value in state.items())
        ]
        return found[choice % len(found)] if found else None

    @rule(side=sides)
    def open(self, side: int) -> None:
        slots = self.ends[side].open_slots
        try:
            stream_id = self.ends[side].open_stream(self.now)
        except Unavailable:
            assert slots == 0
            return
        assert slots > 0
        self.halves[side][stream_id] = Half(accepted=True)

    @rule(side=sides, choice=choices)
    def accept(self, side: int, choice: int) -> None:
        if found := self.some(side, choice, accepted=False):
            self.ends[side].accept_stream(found[0])
            found[1].accepted = True

    @rule(side=sides, choice=choices, octets=st.one_of(st.integers(0, 100), st.integers(0, 300_000)))
    def send(self, side: int, choice: int, octets: int) -> None:
        if found := self.some(side, choice, accepted=True, ended=False):
            stream_id, half = found
            while octets:
                credit = self.ends[side].credit(stream_id)
                taken = self.ends[side].send_data(stream_id, pattern(stream_id, side, half.sent, octets))
                assert taken == min(octets, credit, LIMITS.max_frame)
                if not taken:
                    break
                half.sent += taken
                octets -= taken

    @rule(side=sides, choice=choices)
    def end(self, side: int, choice: int) -> None:
        if found := self.some(side, choice, accepted=True, ended=False):
            self.ends[side].end_stream(found[0])
            found[1].ended = True

    @rule(side=sides, choice=choices)
    def reset(self, side: int, choice: int) -> None:
        if found := self.some(side, choice):
            self.ends[side].reset_stream(found[0])
            found[1].gone = True

    @rule(side=sides, choice=choices, part=st.floats(0, 1))
    def consume(self, side: int, choice: int, part: float) -> None:
        if found := self.some(side, choice):
            octets = round(found[1].owed * part)
            self.ends[side].acknowledge(found[0], octets)
            found[1].owed -= octets

    @rule(side=sides, octets=st.one_of(st.just(0), st.integers(0, LIMITS.session_octets)))
    def share(self, side: int, octets: int) -> None:
        self.ends[side].share_growth(octets)

    @rule(side=sides)
    def leave(self, side: int) -> None:
        self.flush(side)

    @rule(side=sides, octets=st.one_of(st.integers(1, 40), st.integers(1, 600_000)))
    def deliver(self, side: int, octets: int) -> None:
        self.flush(side)
        self.arrive(side, octets)

    @rule(side=sides)
    def ping(self, side: int) -> None:
        if len(self.pings[side]) < 32:
            self.pings[side].add(self.ends[side].ping())

    @precondition(lambda self: not any(self.away))
    @rule(side=sides, choice=choices)
    def go_away(self, side: int, choice: int) -> None:
        if choice % 10 == 0:
            self.away[side] = True
            self.ends[side].go_away()

    @rule(seconds=st.floats(0, 50))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for side, end in enumerate(self.ends):
            self.saw(side, end.expire(self.now))
            deadline = end.next_deadline()
            assert deadline is None or deadline > self.now

    @invariant()
    def windowsAddUp(self) -> None:
        for side, end in enumerate(self.ends):
            extra = 0
            for stream_id in end.stream_ids:
                stream = end.stream(stream_id)
                assert stream.allowance >= 0 and stream.credit >= 0 and stream.returnable >= 0
                assert stream.held == self.halves[side][stream_id].owed
                assert INITIAL <= stream.size <= LIMITS.max_window
                assert len(stream.grants) <= 6
                extra += stream.size - INITIAL
            assert extra == end.growth <= LIMITS.session_octets
            assert end.held == sum(end.stream(stream_id).held for stream_id in end.stream_ids)

    @invariant()
    def tablesAreBounded(self) -> None:
        for side, end in enumerate(self.ends):
            known = {stream_id for stream_id, half in self.halves[side].items() if not half.gone}
            streams = [end.stream(stream_id) for stream_id in end.stream_ids]
            assert set(end.stream_ids) <= known
            assert end.streams <= 2 * LIMITS.max_streams
            ours = sum(stream.is_local for stream in streams)
            assert end.unaccepted == sum(not stream.accepted for stream in streams) <= LIMITS.backlog
            assert end.unacknowledged <= min(ours, LIMITS.unacknowledged)
            if not self.away[0] and not self.away[1]:
                assert end.open_slots == min(LIMITS.max_streams - ours, LIMITS.unacknowledged - end.unacknowledged)
            assert not end.overruns_followed and not end.overruns

    def teardown(self) -> None:
        """
        Everybody finishes: then all that was sent has come, and nothing is left.
        """
        quiet = False
        while not quiet:
            quiet = True
            for side, end in enumerate(self.ends):
                for stream_id, half in self.halves[side].items():
                    if not half.gone:
                        self.finish(end, stream_id, half)
                self.flush(side)
                if self.link[side]:
                    quiet = False
                    self.arrive(side, len(self.link[side]))
        for side, end in enumerate(self.ends):
            assert not end.streams and not end.held and not end.unacknowledged
            assert end.data_to_send() == []
            for stream_id, half in self.halves[side].items():
                other = self.halves[1 - side].get(stream_id)
                if half.gone or other is None or other.gone:
                    continue
                assert half.heard_end and half.got == other.sent

    def finish(self, end: YamuxConnection, stream_id: int, half: Half) -> None:
        if not half.accepted:
            half.accepted = True
            end.accept_stream(stream_id)
        end.acknowledge(stream_id, half.owed)
        half.owed = 0
        if not half.ended:
            half.ended = True
            end.end_stream(stream_id)


class ModelTests(SynchronousTestCase):
    """
    The model, in whatever order hypothesis likes.
    """

    def test_bothSessionsAreAsTheModel(self) -> None:
        run_state_machine_as_test(TwoSessions, settings=settings(stateful_step_count=40))


words = st.one_of(
    st.just(0),
    st.integers(0, 3).flatmap(lambda kind: st.integers(0, 15).map(lambda flags: kind << 16 | flags)),
    st.integers(0, 0xFFFFFFFF),
)
lengths = st.one_of(st.integers(0, 40), st.sampled_from([INITIAL, INITIAL + 1, 0xFFFC0000, 0xFFFFFFFF]))
frames = st.tuples(words, st.integers(0, 6), lengths, st.integers(0, 60))


class HostileTests(SynchronousTestCase):
    """
    Frames that nobody meant.
    """

    @given(st.booleans(), st.lists(frames, max_size=30), st.integers(1, 80))
    def test_nothingButPeerErrorIsRaisedAndNoMemorySpentOnALength(
        self, client: bool, hostile: list[tuple[int, int, int, int]], cut: int
    ) -> None:
        ours = YamuxConnection(client, LIMITS)
        data = b"".join(pack(">III", *head) + bytes(octets) for *head, octets in hostile)
        heard = 0
        try:
            for at in range(0, len(data), cut):
                for event in ours.receive_data(data[at : at + cut]):
                    if isinstance(event, DataArrived):
                        heard += len(event.data)
            ours.receive_eof()
        except SessionError as error:
            error.events = ()                 # payload among them is its owner's
        except PeerError:
            pass
        self.assertLessEqual(heard, len(data))
        self.assertLess(sum(map(len, ours.data_to_send())), len(data) + 24)
        self.assertLessEqual(octetsOf(ours), 12)

    def test_aLengthIsNotBelieved(self) -> None:
        ours = YamuxConnection(False, LIMITS)
        hostile = pack(">III", 0x00010001, 1, 0) + pack(">III", 0, 99, 0xFFFFFFFF) + bytes(1000)
        tracemalloc.start()
        try:
            ours.receive_data(hostile)
            self.assertLess(tracemalloc.get_traced_memory()[1], 20_000)
        finally:
            tracemalloc.stop()
