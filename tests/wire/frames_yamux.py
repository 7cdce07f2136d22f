"""
Yamux frames for tests: written by hand, and read from what a session says.
"""

from __future__ import annotations

from collections.abc import Iterable

from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.frames import DATA, SYN, WINDOW, pack_header, unpack_header

Frame = tuple[int, int, int, int]       # kind, flags, stream, length


def frame(kind: int, flags: int, stream_id: int, length: int = 0, payload: bytes = b"") -> bytes:
    return pack_header(kind << 16 | flags, stream_id, length) + payload


def data(stream_id: int, payload: bytes, flags: int = 0) -> bytes:
    return frame(DATA, flags, stream_id, len(payload), payload)


def syn(stream_id: int) -> bytes:
    return frame(WINDOW, SYN, stream_id)


def frames(octets: Iterable[bytes]) -> list[Frame]:
    """
    The headers in what a session says.
    """
    joined, at, found = b"".join(octets), 0, []
    while at < len(joined):
        word, stream_id, length = unpack_header(joined, at)
        found.append((word >> 16, word & 0xFFFF, stream_id, length))
        at += 12 + (length if word >> 16 == DATA else 0)
    return found


def said(ours: YamuxConnection) -> list[Frame]:
    return frames(ours.data_to_send())


def relay(sender: YamuxConnection, receiver: YamuxConnection) -> list[object]:
    return list(receiver.receive_data(b"".join(sender.data_to_send())))
