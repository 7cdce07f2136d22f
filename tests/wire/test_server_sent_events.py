"""
Events of a stream, read by an observer.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.server_sent_events import EventStreamReader, StreamEvent

STREAM = b"data: one\r\n\r\nevent: x\rdata: two\r\rdata: three\n\n\n: comment\n\ndata: not ended"
EVENTS = [b"data: one\n", b"event: x\ndata: two\n", b"data: three\n", b": comment\n"]


class EventStreamReaderTests(SynchronousTestCase):
    """
    Events with each kind of line end.
    """

    def test_eventsAreReadAtEverySplit(self) -> None:
        for at in range(len(STREAM) + 1):
            reader = EventStreamReader(64)
            found = reader.receive_data(STREAM[:at]) + reader.receive_data(STREAM[at:])
            self.assertEqual([event.kept for event in found], EVENTS)
            self.assertFalse(any(event.cut for event in found))

    def test_eventsAreReadFromSingleOctets(self) -> None:
        reader = EventStreamReader(64)
        found = [event for at in range(len(STREAM)) for event in reader.receive_data(STREAM[at : at + 1])]
        self.assertEqual([event.kept for event in found], EVENTS)

    def test_aLongEventIsKeptInPart(self) -> None:
        reader = EventStreamReader(10)
        for _ in range(1000):
            self.assertEqual(reader.receive_data(b"x" * 1000), [])
        self.assertEqual(reader.receive_data(b"\n\n"), [StreamEvent(1_000_001, b"x" * 10)])
