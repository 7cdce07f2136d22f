"""
Byte ranges: the parts of a representation that a request is for.

Source: RFC 9110, sections 14.1.2, 14.2 and 14.4.
"""

from __future__ import annotations

import re

MOST_RANGES = 32
"""Ranges of one request; the whole representation is sent for more, since each part costs a head of its own."""

_SPEC = rb"(?:[0-9]+-[0-9]*|-[0-9]+)"
_RANGES = re.compile(rb"(?i:bytes)=[ \t,]*" + _SPEC + rb"[ \t]*(?:,[ \t,]*(?:" + _SPEC + rb"[ \t]*|\Z))*\Z")
_ONE_SPEC = re.compile(rb"([0-9]*)-([0-9]*)")
_DIGITS = 18
"""Digits of a position that a file can have."""


def read_ranges(value: bytes, length: int) -> list[range] | None:
    """
    Read a C{Range} field.

    Ranges that overlap or touch are joined; the result is then in the order of the representation.

    @param length: octets of the representation.
    @return: the ranges; none if no range can be satisfied (416); C{None} if the field is to be ignored, because it is
        malformed, has another unit, or is for too many ranges or for everything.
    """
    if not _RANGES.match(value):
        return None
    specs = _ONE_SPEC.findall(value.partition(b"=")[2])
    if any(first and last and _number(last) < _number(first) for first, last in specs):
        return None
    if length == 0 and any(not first and _number(last) for first, last in specs):
        return None                         # satisfiable, but a Content-Range cannot describe an empty part
    ranges = [part for first, last in specs if (part := _range(first, last, length))]
    if len(ranges) > 1:
        ranges = _joined(ranges)
    if len(ranges) > MOST_RANGES or (ranges == [range(length)] and len(specs) > 1):
        return None
    return ranges


def content_range(part: range | None, length: int) -> bytes:
    """
    @param part: C{None} in a response with status 416.
    @return: the value of C{Content-Range}.
    """
    if part is None:
        return b"bytes */%d" % length
    return b"bytes %d-%d/%d" % (part.start, part.stop - 1, length)


def _number(digits: bytes) -> int:
    digits = digits.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= _DIGITS else 10**_DIGITS


def _range(first: bytes, last: bytes, length: int) -> range:
    """
    @return: what exists of a range; an empty one if nothing does.
    """
    if not first:
        return range(max(0, length - _number(last)), length)
    return range(_number(first), min(_number(last) + 1, length) if last else length)


def _joined(ranges: list[range]) -> list[range]:
    """
    @return: the ranges as they are if no two of them overlap or touch.
    """
    joined: list[range] = []
    for part in sorted(ranges, key=lambda part: part.start):
        if joined and part.start <= joined[-1].stop:
            joined[-1] = range(joined[-1].start, max(joined[-1].stop, part.stop))
        else:
            joined.append(part)
    return ranges if len(joined) == len(ranges) else joined
