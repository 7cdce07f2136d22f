"""
One JSON value a line: UTF-8, ended by a line feed.

Decoding takes what RFC 8259 describes and I-JSON (RFC 7493) keeps: no C{NaN} and no number beyond a double, no member twice,
no half of a surrogate pair, no value nested deeper than L{DEPTH}.  What is accepted can therefore be encoded again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

from tunnelstack.errors import PeerError, UsageError

JSONObject = Mapping[str, object]
"""The members of a JSON object, whose values are still to be checked."""

LIMIT = 64 * 1024
"""Octets of the longest line, unless its reader has another limit."""

DEPTH = 64
"""Arrays and objects within one another, at most."""


class LineTooLong(PeerError):
    """
    A line has more octets than its reader takes.
    """


class LineTruncated(PeerError):
    """
    The octets ended inside a line.
    """


class InvalidJSON(PeerError):
    """
    A line is not a JSON value, or not one that all readers interpret alike.
    """


class LineReader:
    """
    Octets, cut anywhere, to lines.

    @ivar limit: octets of the longest line, without its line feed.
    """

    __slots__ = ("_buffer", "_searched", "_start", "limit")

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._buffer = b""
        self._start = 0                 # where the next line begins
        self._searched = 0              # no line feed before here

    @property
    def waiting(self) -> bool:
        """
        Whether octets were fed that L{next_line} has not returned.
        """
        return self._start < len(self._buffer)

    def feed(self, octets: bytes) -> None:
        """
        Octets have arrived.  Ask for L{next_line} until there is none before feeding more: that is the bound of what is held.
        """
        if self._start < len(self._buffer):
            octets = self._buffer[self._start :] + octets
        self._searched -= self._start
        self._buffer, self._start = octets, 0

    def next_line(self) -> bytes | None:
        """
        @return: a line without its line feed; C{None} while its end is missing.
        @raise LineTooLong: it cannot become a line any more.
        """
        end = self._buffer.find(b"\n", self._searched, self._start + self.limit + 1)
        if end >= 0:
            line = self._buffer[self._start : end]
            self._start = self._searched = end + 1
            return line
        if len(self._buffer) - self._start > self.limit:
            raise LineTooLong("a line is too long", limit=self.limit)
        self._searched = len(self._buffer)
        return None

    def take_leftover(self) -> bytes:
        """
        @return: what was fed and is no line yet; it is held here no longer.
        """
        rest = self._buffer[self._start :]
        self._buffer, self._start, self._searched = b"", 0, 0
        return rest

    def receive_eof(self) -> None:
        """
        @raise LineTruncated: not all that was fed became lines.
        """
        if self._start < len(self._buffer):
            raise LineTruncated("the octets end inside a line", octets=len(self._buffer) - self._start)


def decode(line: bytes) -> Any:
    """
    @return: the value, of Python's types.
    @raise InvalidJSON: there is none, or an ambiguous one.
    """
    try:
        value = _DECODER.decode(line.decode("utf-8"))
        if line.count(b"[") + line.count(b"{") > DEPTH:
            _check_depth(value)
        if b"\\u" in line:
            _ENCODER.encode(value).encode("utf-8")
    except (ValueError, RecursionError) as error:     # json's and UTF-8's errors are ValueErrors
        raise InvalidJSON("a line is not a JSON value", octets=len(line)) from error
    return value


def decode_object(line: bytes) -> dict[str, Any]:
    """
    @raise InvalidJSON: as L{decode}, and where the value is not an object.
    """
    value = decode(line)
    if not isinstance(value, dict):
        raise InvalidJSON("a line is not a JSON object", seen=type(value).__name__)
    return value


def encode(value: Any) -> bytes:
    """
    @return: the value without spaces, and a line feed.
    @raise UsageError: JSON cannot hold it.
    """
    try:
        return _ENCODER.encode(value).encode("utf-8") + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"it cannot be encoded as JSON: {error}") from error


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member of an object comes twice")
    return members


def _number(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("a number is out of range")
    return number


def _reject_constant(text: str) -> float:
    raise ValueError("NaN and infinities are not JSON")


def _check_depth(value: Any) -> None:
    """
    @raise ValueError: deeper than L{DEPTH}.
    """
    level = [value]
    for _ in range(DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ValueError("a value is nested too deeply")


_DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_float=_number, parse_constant=_reject_constant)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
