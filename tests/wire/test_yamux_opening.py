"""
How many streams may open, who waits, and who is refused.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.frames_yamux import data, frame, said, syn
from tests.wire.vectors_yamux import MIB, client, opened, server
from tunnelstack.errors import Unavailable, UsageError
from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.errors import GoneAway, StreamLimitReached, StreamsExhausted
from tunnelstack.wire.yamux.events import DataArrived, SlotsFreed, StreamOpened, StreamReset
from tunnelstack.wire.yamux.frames import ACK, DATA, FIN, RST, WINDOW
from tunnelstack.wire.yamux.limits import SessionLimits


class OpeningTests(SynchronousTestCase):
    """
    Streams open within what both sides can take.
    """

    def test_numbersOfStreamsRise(self) -> None:
        self.assertEqual([client().open_stream(0.0), server().open_stream(0.0)], [1, 2])
        ours = client()
        self.assertEqual([ours.open_stream(0.0) for _ in range(3)], [1, 3, 5])

    def test_numbersRunOut(self) -> None:
        for ours, last in ((client(), 0xFFFFFFFD), (server(), 0xFFFFFFFC)):
            ours._next_id = last
            self.assertEqual(ours.open_slots, 1)
            self.assertEqual(ours.open_stream(0.0), last)
            self.assertEqual(ours.open_slots, 0)
            self.assertRaises(StreamsExhausted, ours.open_stream, 0.0)

    def full(self) -> YamuxConnection:
        ours = client()
        self.assertEqual(ours.open_slots, 256)
        for _ in range(256):
            ours.open_stream(0.0)
        self.assertEqual(ours.open_slots, 0)
        self.assertRaises(StreamLimitReached, ours.open_stream, 0.0)
        ours.data_to_send()
        return ours

    def test_anyFrameFreesASlot(self) -> None:
        for first in (
            frame(WINDOW, ACK, 1),
            data(1, b"un-acknowledged"),
            frame(DATA, 0, 1),
            frame(WINDOW, 0, 1, 1),
            frame(WINDOW, FIN, 1),
            frame(WINDOW, RST, 1),
            frame(DATA, RST, 1),
        ):
            ours = self.full()
            self.assertEqual(ours.receive_data(first)[-1], SlotsFreed())
            self.assertEqual(ours.open_slots, 1)
            self.assertEqual(ours.receive_data(frame(WINDOW, 0, 1, 1)), [])
            self.assertEqual(ours.open_slots, 1)

    def test_ourResetFreesASlot(self) -> None:
        ours = self.full()
        ours.reset_stream(1)
        self.assertEqual(ours.open_slots, 1)

    def test_aStrangersFrameFreesNone(self) -> None:
        ours = self.full()
        self.assertEqual(ours.receive_data(frame(WINDOW, ACK, 513) + syn(2) + frame(WINDOW, ACK, 2)), [StreamOpened(2)])
        self.assertEqual(ours.open_slots, 0)

    def test_liveStreamsAreLimited(self) -> None:
        ours = YamuxConnection(True, SessionLimits(max_streams=2))
        ours.open_stream(0.0)
        ours.open_stream(0.0)
        self.assertRaises(StreamLimitReached, ours.open_stream, 0.0)
        self.assertEqual(ours.receive_data(frame(WINDOW, ACK, 1)), [])
        self.assertEqual(ours.receive_data(frame(WINDOW, RST, 3)), [StreamReset(3), SlotsFreed()])

    def test_refusalsAreOfTheWorld(self) -> None:
        for error in (StreamLimitReached, GoneAway, StreamsExhausted):
            self.assertTrue(issubclass(error, Unavailable))

    def test_aStreamIsAcceptedExactlyOnce(self) -> None:
        ours = server()
        ours.receive_data(syn(1))
        ours.accept_stream(1)
        self.assertRaises(UsageError, ours.accept_stream, 1)
        self.assertEqual(said(ours), [(WINDOW, ACK, 1, 0)])

    def test_oursAreNotAccepted(self) -> None:
        self.assertRaises(UsageError, opened().accept_stream, 1)

    def test_aStreamIsAcceptedAfterThePeersEnd(self) -> None:
        ours = YamuxConnection(False, SessionLimits(window=MIB))
        ours.receive_data(syn(1) + frame(WINDOW, FIN, 1))
        ours.accept_stream(1)
        self.assertEqual(said(ours), [(WINDOW, ACK, 1, 0)])

    def test_openingsMayComeOutOfOrder(self) -> None:
        self.assertEqual(server().receive_data(syn(9) + syn(3)), [StreamOpened(9), StreamOpened(3)])

    def test_backlogHoldsSoMany(self) -> None:
        ours = YamuxConnection(False, SessionLimits(backlog=2))
        self.assertEqual(len(ours.receive_data(syn(1) + syn(3) + syn(5))), 2)
        self.assertEqual(said(ours), [(WINDOW, RST, 5, 0)])
        self.assertEqual(ours.refused, 1)
        ours.accept_stream(1)
        ours.reset_stream(3)
        self.assertEqual(len(ours.receive_data(syn(7) + syn(9) + syn(11))), 2)

    def test_aPeersResetLeavesTheBacklog(self) -> None:
        ours = YamuxConnection(False, SessionLimits(backlog=1))
        for stream_id in (1, 3, 5):
            events = ours.receive_data(syn(stream_id) + frame(WINDOW, RST, stream_id))
            self.assertEqual(events, [StreamOpened(stream_id), StreamReset(stream_id)])
        self.assertEqual(said(ours), [])

    def test_anIdComesNotAgainBeforeItsEndIsHeard(self) -> None:
        ours = server()
        events = ours.receive_data(syn(1) + data(1, b"old") + frame(WINDOW, RST, 1) + syn(1) + data(1, b"new"))
        self.assertEqual(events, [StreamOpened(1), DataArrived(1, b"old"), StreamReset(1)])
        ours.accept_stream(1)
        ours.acknowledge(1, 3)
        self.assertEqual(said(ours), [(WINDOW, RST, 1, 0)])
        self.assertEqual(ours.receive_data(syn(1)), [StreamOpened(1)])

    def test_inboundStreamsAreLimited(self) -> None:
        ours = YamuxConnection(False, SessionLimits(max_streams=2))
        for stream_id in (1, 3, 5):
            ours.receive_data(syn(stream_id))
            ours.accept_stream(stream_id)
        self.assertEqual(said(ours), [(WINDOW, ACK, 1, 0), (WINDOW, ACK, 3, 0), (WINDOW, RST, 5, 0)])
