"""
Bent streams of events, in one piece and in two.
"""

from __future__ import annotations

from collections.abc import Hashable

from tests.wire.test_server_sent_events import STREAM
from tunnelstack.wire.server_sent_events import EventStreamReader

KEEP = 64

SEEDS = [STREAM, b"data: one\n\ndata: two\r\rdata: three\r\n\r\n", b"\r\n\r\n\n\r"]


def target(data: bytes) -> Hashable:
    """
    @return: how many events there are.
    """
    whole = feed([data])
    middle = len(data) // 2
    if feed([data[:middle], data[middle:]]) != whole:
        raise AssertionError("it matters where the octets are cut")
    return min(len(whole), 9)


def feed(pieces: list[bytes]) -> list[tuple[int, bytes]]:
    """
    @return: the events.
    """
    reader = EventStreamReader(KEEP)
    return [(event.octets, event.kept) for piece in pieces for event in reader.receive_data(piece)]
