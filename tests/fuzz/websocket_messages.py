"""
Bent frames for the observer of WebSocket messages, in one piece and in two, compressed and not.
"""

from __future__ import annotations

from collections.abc import Hashable

from tests.wire.test_websocket_messages import STREAM, TEXT, Deflater, frame
from tunnelstack.errors import PeerError
from tunnelstack.wire.websocket_messages import WebSocketMessageReader

KEEP = 256

SEEDS = [
    STREAM,
    frame(TEXT, Deflater()(b"some words " * 20), b"1234", compressed=True) * 2,
    frame(TEXT, b"x" * 300, final=False) + frame(0, b"y" * 70_000, b"abcd"),
]


def target(data: bytes) -> Hashable:
    """
    @return: the kinds of messages with each way of compression.
    """
    found = []
    middle = len(data) // 2
    for takeover in (None, True, False):
        whole = feed([data], takeover)
        if feed([data[:middle], data[middle:]], takeover) != whole:
            raise AssertionError("it matters where the octets are cut")
        found.append(whole)
    return tuple(found)


def feed(pieces: list[bytes], takeover: bool | None) -> Hashable:
    """
    @return: the messages that were read.
    """
    reader = WebSocketMessageReader(KEEP, takeover)
    found: list[Hashable] = []
    try:
        for piece in pieces:
            for message in reader.receive_data(piece):
                if len(message.kept) > KEEP:
                    raise AssertionError("more is kept than the bound")
                found.append((message.kind, message.octets, message.kept, message.readable))
    except PeerError:
        return "rejected"
    return tuple(found)
