"""
Our HTTP/2 machine and C{h2} in the other role, on a link that delivers any number of octets at any time, with pauses and
resets.

C{h2} is asked to check what our machine leaves to rules of its own: it validates our lists of fields and our use of credit,
and counts the lengths of bodies.  What either side sends on a stream is a pattern, so that what arrives is compared with the
pattern at the place that has been reached.
"""

from __future__ import annotations

from attrs import Factory, define
from h2 import events as h2events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes
from h2.windows import WindowManager
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.transport.http2 import OK, POST
from tunnelstack.wire.http2.connection import HTTP2Machine
from tunnelstack.wire.http2.events import (
    BodyArrived,
    HeadArrived,
    InformationalArrived,
    MessageEnded,
    PingAnswered,
    StreamAborted,
)
from tunnelstack.wire.http2.limits import HTTP2Limits

PERIOD = 251
PATTERN = bytes(range(PERIOD)) * 2200      # a little more than 512 KiB
LIMITS = HTTP2Limits(
    streams=5, resets=1_000_000, pings=1_000_000, settings=1_000_000, empty_frames=1_000_000, window_updates=1_000_000,
    connection_window=300 * 1024, held_octets=200 * 1024, session_octets=256 * 1024,
)
OURS, THEIRS = 0, 1
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)     # to make a failure small would take minutes
TRAILERS = [(b"x-trailer", b"1")]

sides = st.integers(0, 1)
choices = st.integers(0, 1000)
sizes = st.one_of(st.integers(1, 200), st.integers(1, 100_000))


@define
class Half:
    """
    One direction of a stream.

    @ivar sent: octets that were given to the sender.
    @ivar got: octets that the receiver was given.
    @ivar trailers: that were sent.
    """

    head: bool = False
    sent: int = 0
    ended: bool = False
    trailers: bool = False
    headGot: bool = False
    got: int = 0
    endGot: bool = False


@define
class Stream:
    """
    A stream, with the half that each side sends, and whether it is gone at each side.
    """

    halves: list[Half] = Factory(lambda: [Half(), Half()])
    gone: list[bool] = Factory(lambda: [False, False])
    owed: list[int] = Factory(lambda: [0, 0])      # octets that each side was given and has not acknowledged


class Conversation(RuleBasedStateMachine):
    """
    The two sides, and what is on its way between them.
    """

    @initialize(client=st.booleans())
    def connect(self, client: bool) -> None:
        self.client = OURS if client else THEIRS
        self.ours = HTTP2Machine(client, LIMITS)
        self.ours.expire(0.0)
        self.theirs = H2Connection(H2Configuration(client_side=not client, header_encoding=None))
        self.theirs.initiate_connection()
        self.ways = [bytearray(), bytearray()]     # toward each side
        self.streams: dict[int, Stream] = {}
        self.pings: set[int] = set()
        self.unacknowledged = True            # SETTINGS of theirs
        self.informed = 0
        self.now = 0.0

    # What was chosen

    def pick(self, choice: int, side: int, ready: object = None) -> tuple[int, Stream] | None:
        """
        @return: one of the streams that are open at a side.
        """
        there = [(number, stream) for number, stream in self.streams.items() if not stream.gone[side]]
        return there[choice % len(there)] if there else None

    def collect(self) -> None:
        self.ways[THEIRS] += b"".join(self.ours.data_to_send())
        self.ways[OURS] += self.theirs.data_to_send()

    # The link

    @rule(side=sides, octets=sizes)
    def deliver(self, side: int, octets: int) -> None:
        self.collect()
        data = bytes(self.ways[side][:octets])
        del self.ways[side][:octets]
        if not data:
            return
        if side == OURS:
            for event in self.ours.receive_data(data):
                self.heard(event)
        else:
            for theirs in self.theirs.receive_data(data):
                self.theyHeard(theirs)
        self.collect()

    def heard(self, event: object) -> None:
        if isinstance(event, HeadArrived):
            if self.client == THEIRS:
                assert event.fields == POST
            else:
                assert event.fields == OK
            self.streams[event.stream_id].halves[THEIRS].headGot = True
        elif isinstance(event, InformationalArrived):
            self.informed += 1
        elif isinstance(event, BodyArrived):
            self.arrived(event.stream_id, OURS, event.data)
        elif isinstance(event, MessageEnded):
            half = self.streams[event.stream_id].halves[THEIRS]
            assert half.ended and half.got == half.sent and not half.endGot
            assert event.trailers == (TRAILERS if half.trailers else [])
            half.endGot = True
        elif isinstance(event, StreamAborted):
            assert event.by_peer, event
            self.streams[event.stream_id].gone[OURS] = True
        elif isinstance(event, PingAnswered):
            self.pings.remove(event.opaque)

    def theyHeard(self, event: object) -> None:
        if isinstance(event, (h2events.RequestReceived, h2events.ResponseReceived)):
            self.streams[event.stream_id].halves[OURS].headGot = True
        elif isinstance(event, h2events.DataReceived):
            self.arrived(event.stream_id, THEIRS, event.data)
        elif isinstance(event, h2events.TrailersReceived):
            assert self.streams[event.stream_id].halves[OURS].trailers
        elif isinstance(event, h2events.StreamEnded):
            half = self.streams[event.stream_id].halves[OURS]
            assert half.ended and half.got == half.sent
            half.endGot = True
        elif isinstance(event, h2events.SettingsAcknowledged):
            self.unacknowledged = False
        elif isinstance(event, h2events.StreamReset):
            self.streams[event.stream_id].gone[THEIRS] = True

    def arrived(self, number: int, side: int, data: bytes) -> None:
        stream = self.streams[number]
        half = stream.halves[1 - side]
        start = (number * 7 + side + half.got) % PERIOD
        assert data == PATTERN[start:start + len(data)]
        half.got += len(data)
        stream.owed[side] += len(data)

    # What the sides do

    @rule()
    def open(self) -> None:
        if self.client == OURS:
            if not self.ours.open_slots:
                return
            number = self.ours.open_stream(self.now)
            self.ours.send_head(number, POST)
        else:
            if self.theirs.open_outbound_streams >= min(LIMITS.streams, self.theirs.remote_settings.max_concurrent_streams):
                return
            number = self.theirs.get_next_available_stream_id()
            self.theirs.send_headers(number, POST)
        self.streams[number] = Stream()
        self.streams[number].halves[self.client].head = True

    @rule(choice=choices, interim=st.booleans())
    def answer(self, choice: int, interim: bool) -> None:
        server = 1 - self.client
        picked = self.pick(choice, server)
        if picked is None:
            return
        number, stream = picked
        half = stream.halves[server]
        if half.head or not stream.halves[self.client].headGot:
            return
        interim = interim and server == THEIRS     # h2 4.4.1 rejects one that arrives after a reset
        head = [(b":status", b"103")] if interim else OK
        half.head = not interim
        if server == OURS:
            self.ours.send_head(number, head)
        else:
            self.theirs.send_headers(number, head)

    @rule(choice=choices, side=sides, octets=sizes)
    def write(self, choice: int, side: int, octets: int) -> None:
        picked = self.pick(choice, side)
        if picked is None:
            return
        number, stream = picked
        half = stream.halves[side]
        if not half.head or half.ended:
            return
        if side == OURS:
            octets = min(octets, self.ours.credit(number), self.ours.max_frame)
        else:
            octets = min(octets, self.theirs.local_flow_control_window(number), self.theirs.max_outbound_frame_size)
        if octets <= 0:
            return
        start = (number * 7 + 1 - side + half.sent) % PERIOD
        data = PATTERN[start:start + octets]
        half.sent += len(data)
        if side == OURS:
            assert self.ours.send_data(number, data) == len(data)
        else:
            self.theirs.send_data(number, data)

    @rule(choice=choices, side=sides, trailers=st.booleans())
    def end(self, choice: int, side: int, trailers: bool) -> None:
        picked = self.pick(choice, side)
        if picked is None:
            return
        number, stream = picked
        half = stream.halves[side]
        if not half.head or half.ended:
            return
        half.ended, half.trailers = True, trailers
        if side == OURS:
            if trailers:
                self.ours.set_trailers(number, TRAILERS)
            self.ours.end_stream(number)
        elif trailers:
            self.theirs.send_headers(number, TRAILERS, end_stream=True)
        else:
            self.theirs.end_stream(number)

    @precondition(lambda self: len(self.streams) > 2)
    @rule(choice=choices, side=sides)
    def reset(self, choice: int, side: int) -> None:
        picked = self.pick(choice, side)
        if picked is None:
            return
        number, stream = picked
        if all(half.ended for half in stream.halves) or not stream.halves[self.client].headGot:
            return
        stream.gone[side] = True
        if side == OURS:
            self.ours.reset_stream(number)
        else:
            self.theirs.reset_stream(number, 8)

    @rule(choice=choices, side=sides)
    def consume(self, choice: int, side: int) -> None:
        picked = self.pick(choice, side)
        if picked is not None:
            self.acknowledge(*picked, side)

    def acknowledge(self, number: int, stream: Stream, side: int) -> None:
        octets, stream.owed[side] = stream.owed[side], 0
        if not octets:
            return
        if side == OURS:
            self.ours.acknowledge(number, octets)
        else:
            self.theirs.acknowledge_received_data(octets, number)

    @precondition(lambda self: len(self.pings) < 20)     # the oldest of many is forgotten
    @rule()
    def ping(self) -> None:
        self.pings.add(self.ours.ping())

    # h2 4.4.1 takes the acknowledgement of its first SETTINGS for that of the second
    @precondition(lambda self: not self.unacknowledged)
    @rule(window=st.integers(0, 200_000), frame=st.integers(16_384, 100_000))
    def changeSettings(self, window: int, frame: int) -> None:
        self.unacknowledged = True
        self.theirs.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window, SettingCodes.MAX_FRAME_SIZE: frame})

    @rule(seconds=st.floats(0, 5))
    def passTime(self, seconds: float) -> None:
        self.now += seconds
        self.ours.now = self.now

    # What always holds

    @invariant()
    def whatIsHeldIsCounted(self) -> None:
        if not hasattr(self, "ours"):
            return
        owed = sum(stream.owed[OURS] for stream in self.streams.values() if not stream.gone[OURS])
        assert self.ours.held == owed, (self.ours.held, owed)
        assert self.ours.open_streams <= LIMITS.opened_streams

    def teardown(self) -> None:
        """
        Everything arrives if nobody resets or pauses any more.
        """
        if not hasattr(self, "ours"):
            return
        for _ in range(50):
            self.settle()
        for number, stream in self.streams.items():
            if not any(stream.gone):
                for half in stream.halves:
                    assert (half.got, half.endGot) == (half.sent, half.ended), (number, half)
        assert not self.pings
        gone = [number for number, stream in self.streams.items() if stream.gone[OURS]]
        assert not any(number in self.ours._streams for number in gone)

    def settle(self) -> None:
        for side in (OURS, THEIRS):
            while True:
                self.collect()
                if not self.ways[side]:
                    break
                self.deliver(side, len(self.ways[side]))
            for number, stream in self.streams.items():
                if not stream.gone[side]:
                    self.acknowledge(number, stream, side)


class ModelTests(SynchronousTestCase):
    """
    Any conversation.
    """

    def test_whatEitherSideSendsArrives(self) -> None:
        consumed = WindowManager.window_consumed

        def windowConsumed(manager: WindowManager, size: int) -> None:
            if size:                          # h2 4.4.1 rejects even the end of a stream whose window is negative
                consumed(manager, size)

        self.patch(WindowManager, "window_consumed", windowConsumed)
        run_state_machine_as_test(Conversation, settings=settings(deadline=None, stateful_step_count=60, phases=PHASES))
