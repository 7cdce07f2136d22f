"""
JSON objects one after the other, with or without white space between them, as Go's C{json.Decoder} reads them: an object ends
with its last brace, and no line feed is needed.
"""

from __future__ import annotations

import re
from typing import Any

from tunnelstack.errors import PeerError
from tunnelstack.wire.jsonline import InvalidJSON, decode_object

LIMIT = 4096
"""Octets of the longest object, unless its reader has another limit."""

_SPACE = re.compile(rb"[ \t\r\n]*")
_OUTSIDE = re.compile(rb'[^"{}\[\]]*')
_INSIDE = re.compile(rb'(?:[^"\\]|\\.)*', re.DOTALL)


class ObjectTooLong(PeerError):
    """
    An object has more octets than its reader takes.
    """


class ObjectTruncated(PeerError):
    """
    The octets ended inside an object.
    """


class ObjectStreamReader:
    """
    Octets, cut anywhere, to objects.  Call L{next_object} after each L{feed} until it returns C{None}: that is the bound of
    what is held.
    """

    __slots__ = ("_at", "_buffer", "_depth", "_inside", "_limit")

    def __init__(self, limit: int = LIMIT) -> None:
        """
        @param limit: octets of the longest object.  White space between objects has no bound, since it is not kept.
        """
        self._limit = limit
        self._buffer = b""
        self._at = 0                    # everything before here was looked at
        self._depth = 0                 # braces and brackets that are open
        self._inside = False            # a string is open

    def feed(self, octets: bytes) -> None:
        """
        Octets have arrived.
        """
        self._buffer += octets

    def next_object(self) -> dict[str, Any] | None:
        """
        @return: the next object; C{None} while its end is missing.
        @raise PeerError: what comes is not an object (C{InvalidJSON}), or too long (L{ObjectTooLong}).
        """
        end = self._end()
        if end < 0 and len(self._buffer) <= self._limit:
            return None
        if end < 0 or end > self._limit:
            raise ObjectTooLong("a JSON object is too long", limit=self._limit)
        octets, self._buffer = self._buffer[:end], self._buffer[end:]
        self._at = 0
        return decode_object(octets)

    def receive_eof(self) -> None:
        """
        @raise ObjectTruncated: an object has begun and not ended.
        """
        if self._buffer.strip(b" \t\r\n"):
            raise ObjectTruncated("the octets end inside a JSON object", octets=len(self._buffer))

    def _end(self) -> int:
        """
        @return: the offset after the object's last octet; C{-1} while it has not come.
        """
        if not self._depth and not self._begins():
            return -1
        buffer = self._buffer
        while self._at < len(buffer):
            self._at = _skip(_INSIDE if self._inside else _OUTSIDE, buffer, self._at)
            octet = buffer[self._at : self._at + 1]
            if not octet or octet == b"\\":          # no more octets, or half an escape
                return -1
            self._at += 1
            if octet == b'"':
                self._inside = not self._inside
            elif octet in (b"{", b"["):
                self._depth += 1
            else:
                self._depth -= 1
                if not self._depth:
                    return self._at
        return -1

    def _begins(self) -> bool:
        """
        Drop white space, and begin the next object.

        @raise InvalidJSON: another value begins.
        """
        self._buffer = self._buffer[_skip(_SPACE, self._buffer, 0) :]
        if not self._buffer:
            return False
        if self._buffer[:1] != b"{":
            raise InvalidJSON("the octets are not a JSON object", octets=self._buffer[:16])
        self._at = self._depth = 1
        return True


def _skip(pattern: re.Pattern[bytes], buffer: bytes, start: int) -> int:
    """
    @return: where the pattern, which also matches nothing, stops.
    """
    found = pattern.match(buffer, start)
    return found.end() if found is not None else start
