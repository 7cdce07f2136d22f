"""
The messages of agentserver's terminal streams.  They have no length::

    00 octets                                        what is typed, and what is shown
    01 {"type":"resize","cols":80,"rows":24}         the size of the window, toward the agent only

A message is a write of its sender, so it usually travels in one frame.  A genuine agent interprets the first octet of what one
read returns, of at most 4096 octets.  So a message toward it must be a frame of its own, no longer than that, and should not
arrive together with another.

Source: agentserver C{internal/agent/terminal.go}, C{internal/server/terminal.go}.
"""

from __future__ import annotations

import re

from tunnelstack.errors import PeerError
from tunnelstack.wire.jsonline import decode_object
from tunnelstack.wire.terminal import LARGEST_SIZE, WindowSize

READ = 4096
"""Octets of one read of a genuine agent, and so of the longest message toward it."""

LARGEST_DATA = READ - 1
"""Octets that are typed in one message."""

HISTORY = 256 * 1024
"""Octets of earlier output that an agent sends first to a terminal that is opened again."""

COLUMNS, ROWS = 120, 40
"""The size of a terminal's window until the first message that changes it."""

_DATA, _CONTROL = b"\x00", b"\x01"
_RESIZE = re.compile(rb'\x01(\{"type":"resize","cols":[0-9]{1,5},"rows":[0-9]{1,5}\})')
_LONGEST_CONTROL = 4096


def encode_data(octets: bytes) -> bytes:
    """
    @return: one message.
    """
    return _DATA + octets


def encode_resize(size: WindowSize) -> bytes:
    """
    @return: one message.
    """
    return b'\x01{"type":"resize","cols":%d,"rows":%d}' % (size.columns, size.rows)


def shown_octets(frame: bytes) -> bytes:
    """
    @param frame: octets of an agent as they arrived.
    @return: those of them that are for the terminal.  A frame without a type is the rest of a message that was cut: agents
        send up to 256 KiB of history in one.
    """
    return frame[1:] if frame[:1] == _DATA else frame


class TypedInputReader:
    """
    Reads what a server sends to the terminal of an agent.

    The only boundaries of messages that it has are those of the calls of L{receive_data}.  So it accepts what a genuine
    agent gets wrong: a C{resize} that was cut, or that arrives in one piece with octets before or after it.
    """

    __slots__ = ("_control",)

    def __init__(self) -> None:
        self._control = b""                  # a control message whose end has not arrived

    def receive_data(self, octets: bytes) -> list[bytes | WindowSize]:
        """
        @return: what is typed, and sizes of the window, in order.
        """
        if self._control:
            octets, self._control = self._control + octets, b""
        elif octets[:1] == _DATA:
            return self._with_resizes(octets[1:])
        if octets[:1] != _CONTROL:
            return self._with_resizes(octets)
        if octets[1:2] not in (b"", b"{"):
            return [octets]                  # the rest of a long message, which begins with Control-A
        end = octets.find(b"}", 0, _LONGEST_CONTROL)
        if end < 0:
            if len(octets) < _LONGEST_CONTROL:
                self._control = octets
            return []
        found: list[bytes | WindowSize] = [*_size(octets[1 : end + 1])]
        rest = octets[end + 1 :]
        return found + self.receive_data(rest) if rest else found

    def _with_resizes(self, octets: bytes) -> list[bytes | WindowSize]:
        """
        @return: the octets, without the sizes of the window among them.
        """
        found: list[bytes | WindowSize] = []
        for number, piece in enumerate(_RESIZE.split(octets)):
            if number % 2:
                found += _size(piece)
            elif piece:
                found.append(piece)
        return found


def _size(message: bytes) -> list[WindowSize]:
    """
    @return: at most one size; anything else is ignored, as genuine agents do.
    """
    try:
        members = decode_object(message)
    except PeerError:
        return []
    columns, rows = members.get("cols"), members.get("rows")
    sound = all(type(number) is int and 0 < number <= LARGEST_SIZE for number in (columns, rows))
    return [WindowSize(int(columns), int(rows))] if sound and members.get("type") == "resize" else []  # type: ignore[arg-type]
