"""
Bent octets for the messages of terminals between an edge and whoever uses a terminal.
"""

from __future__ import annotations

from collections.abc import Hashable

from tunnelstack.errors import PeerError
from tunnelstack.wire.terminal import (
    TerminalMessageReader,
    WindowSize,
    encode_terminal_data,
    encode_window_size,
)

SEEDS = [
    encode_terminal_data(b"ls\r"),
    encode_window_size(WindowSize(80, 24)),
    encode_window_size(WindowSize(80, 24)) + encode_terminal_data(b"x" * 300) + encode_window_size(WindowSize(1, 65535)),
    encode_terminal_data(bytes(70_000)),
    b"\x07\x00\x02zz" + encode_terminal_data(b"a"),
    b"\x01\x00\x04\x00\x00\x00\x01",
    b"\x01\x00\x02\x00\x00",
    b"\x00\x00\x00\x01\x00",
]


def target(data: bytes) -> Hashable:
    """
    @return: what was read, with the octets between two sizes joined.
    """
    whole = messages(data, len(data) or 1)
    if messages(data, 5) != whole or messages(data, 1) != whole:
        raise AssertionError("it matters where the octets are cut")
    if isinstance(whole, tuple):
        again = b"".join(
            encode_terminal_data(each) if isinstance(each, bytes) else encode_window_size(each) for each in whole
        )
        if messages(again, len(again) or 1) != whole:
            raise AssertionError("what was read cannot be written")
        return tuple(type(each).__name__ for each in whole)
    return whole


def messages(data: bytes, size: int) -> tuple[bytes | WindowSize, ...] | str:
    """
    The messages, in pieces; or the error.
    """
    reader, found = TerminalMessageReader(), []  # type: ignore[var-annotated]
    try:
        for start in range(0, len(data), size):
            for message in reader.receive_data(data[start : start + size]):
                if found and isinstance(message, bytes) and isinstance(found[-1], bytes):
                    found[-1] += message
                else:
                    found.append(message)
    except PeerError as error:
        return type(error).__name__
    return tuple(found)
