"""
A terminal as a stream of messages: what is typed and shown, and the size of its window::

    +------+--------+---------+
    | type | length | payload |
    | 1 B  | 2 B    | length  |
    +------+--------+---------+

Numbers are unsigned and big-endian.  Type 0 has octets that are typed or shown.  Type 1 has the columns and rows of the window,
two octets each, and is sent toward the program only.  Messages of other types are ignored.
"""

from __future__ import annotations

from struct import Struct

from attrs import frozen

from tunnelstack.errors import PeerError

DATA, WINDOW = 0, 1

LARGEST_SIZE = 0xFFFF
"""Columns or rows of the largest window."""

_HEADER = Struct(">BH")
_SIZE = Struct(">HH")
_LARGEST_PAYLOAD = 0xFFFF


class MalformedTerminalMessage(PeerError):
    """
    A message has a payload that its type cannot have.
    """


@frozen
class WindowSize:
    """
    The size of a terminal's window, in characters.
    """

    columns: int
    rows: int


def encode_terminal_data(octets: bytes) -> bytes:
    """
    @return: as many messages as the octets need.
    """
    pieces = (octets[start : start + _LARGEST_PAYLOAD] for start in range(0, len(octets), _LARGEST_PAYLOAD))
    return b"".join(_HEADER.pack(DATA, len(piece)) + piece for piece in pieces)


def encode_window_size(size: WindowSize) -> bytes:
    """
    @return: one message.
    """
    return _HEADER.pack(WINDOW, _SIZE.size) + _SIZE.pack(size.columns, size.rows)


class TerminalMessageReader:
    """
    Octets, cut anywhere, to messages.  Octets of a terminal are returned as they arrive, whatever the length of their message.
    """

    __slots__ = ("_header", "_kind", "_missing", "_payload")

    def __init__(self) -> None:
        self._header = b""
        self._kind = DATA
        self._missing = 0                    # octets of the present payload
        self._payload = b""                  # of a message that is read as a whole

    def receive_data(self, octets: bytes) -> list[bytes | WindowSize]:
        """
        @return: octets of the terminal, and sizes of its window, in order.
        @raise MalformedTerminalMessage: a size is not one.
        """
        found: list[bytes | WindowSize] = []
        while octets:
            if not self._missing:
                octets = self._read_header(octets)
                continue
            piece, octets = octets[: self._missing], octets[self._missing :]
            self._missing -= len(piece)
            if self._kind == DATA:
                found.append(piece)
            elif self._kind == WINDOW:
                self._payload += piece
                if not self._missing:
                    found.append(self._window())
        return found

    def _read_header(self, octets: bytes) -> bytes:
        wanted = _HEADER.size - len(self._header)
        self._header += octets[:wanted]
        if len(self._header) == _HEADER.size:
            self._kind, self._missing = _HEADER.unpack(self._header)
            self._header = self._payload = b""
            if self._kind == WINDOW and self._missing != _SIZE.size:
                raise MalformedTerminalMessage("the size of a window has four octets", octets=self._missing)
        return octets[wanted:]

    def _window(self) -> WindowSize:
        columns, rows = _SIZE.unpack(self._payload)
        if not (columns and rows):
            raise MalformedTerminalMessage("a window has at least one column and one row", columns=columns, rows=rows)
        return WindowSize(columns, rows)
