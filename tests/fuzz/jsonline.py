"""
Bent octets for lines of JSON: what is taken can be said again, and means the same.
"""

from __future__ import annotations

from collections.abc import Hashable

from tunnelstack.errors import PeerError
from tunnelstack.wire.jsonline import LineReader, decode, encode

SEEDS = [
    b'{"to":"db","purpose":"tcp"}\n{"id":1,"ok":true}\n',
    b'[1,-2.5e3,null,true,false,"\\u00e9\\ud83d\\ude00\\n"]\nrest',
    b'{"a":{"b":[{"c":[[[[[[[]]]]]]]}]}}\n',
    b"[" * 70 + b"]" * 70 + b"\n",
    b"NaN\n1e999\n",
]

LIMIT = 4096


def target(data: bytes) -> Hashable:
    """
    @return: the kinds of what was read.
    """
    found = read(data, len(data) or 1)
    if read(data, 7) != found:
        raise AssertionError("it matters where the octets are cut")
    kinds = set()
    for line in found:
        try:
            value = decode(line)
        except PeerError:
            kinds.add("refused")
            continue
        if decode(encode(value)[:-1]) != value:
            raise AssertionError("what was taken cannot be said again")
        kinds.add(value.__class__.__name__)
    return tuple(sorted(kinds))


def read(data: bytes, size: int) -> list[bytes]:
    """
    @return: the lines, up to one that is too long.
    """
    lines, found = LineReader(LIMIT), []
    try:
        for start in range(0, len(data), size):
            lines.feed(data[start : start + size])
            while (line := lines.next_line()) is not None:
                found.append(line)
    except PeerError:
        found.append(b"(too long)")
    return found
