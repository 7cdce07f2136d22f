"""
Bent octets for C{Range} and for the conditions of requests: an input is a list of values, one a line, of which the first letter
names the field.
"""

from __future__ import annotations

from collections.abc import Hashable

from tunnelstack.wire.http1.conditions import (
    Validators,
    http_date,
    precondition,
    range_applies,
    read_date,
)
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.ranges import MOST_RANGES, content_range, read_ranges

NAMES = {
    b"m": b"If-Match", b"n": b"If-None-Match", b"s": b"If-Modified-Since", b"u": b"If-Unmodified-Since", b"i": b"If-Range",
    b"r": b"Range",
}  # fmt: skip
LENGTHS = (0, 1, 1000)
STATES = (Validators(b'"a"', 784_111_777), Validators(b'"a"', 784_111_777, strong=False))
LATEST = 253_402_300_799  # 31 December 9999

SEEDS = [
    b"rbytes=0-499\nrbytes=-5", b"rBYTES= 0-0, 4-9 ,-1,", b"rbytes=" + b"0-1," * 40, b"rbytes=9-0",
    b"rbytes=999-99999999999999999999", b'm"a", W/"b"\nn*', b'n"b"\nnW/"a"', b"m*\nm*", b'n, "a" ,', b'i"a"', b'iW/"a"',
    b"sSun, 06 Nov 1994 08:49:37 GMT", b"uSunday, 06-Nov-94 08:49:37 GMT", b"sSun Nov  6 08:49:37 1994\nsagain",
    b"iSun, 06 Nov 1994 08:49:37 GMT", b"sSun, 99 Feb 0000 29:59:69 GMT",
]  # fmt: skip


def target(data: bytes) -> Hashable:
    """
    @return: what was made of each field alone, and of all together.
    """
    fields = [(NAMES.get(line[:1], b"Other"), line[1:]) for line in data.split(b"\n")]
    found: list[Hashable] = [
        ranges(value) if name == b"Range" else date(value) for name, value in fields[:8]
    ]
    head = RequestHead(b"GET", b"/", fields)
    for state in STATES:
        status = precondition(head, state)
        assert status in (0, 304, 412), status
        found += [status, range_applies(head, state)]
    return tuple(found)


def ranges(value: bytes) -> Hashable:
    """
    What is asked for exists, is bounded, and is described so that it is read as the same.
    """
    kinds: list[int] = []
    for length in LENGTHS:
        read = read_ranges(value, length)
        kinds.append(-1 if read is None else len(read))
        for part in read or ():
            assert 0 <= part.start < part.stop <= length, (value, part)
            described = content_range(part, length).partition(b" ")[2].partition(b"/")[0]
            assert read_ranges(b"bytes=" + described, length) == [part], (value, described)
        assert len(read or ()) <= MOST_RANGES, value
    return tuple(kinds)


def date(value: bytes) -> Hashable:
    """
    A date that was read can be written.
    """
    seconds = read_date(value)
    if seconds is not None and 0 <= seconds <= LATEST:
        assert read_date(http_date(seconds)) == seconds, value
    return seconds is not None
