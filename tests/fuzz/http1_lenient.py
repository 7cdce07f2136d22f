"""
Bent octets for responses of servers that are not strict, with interim responses before them and their bodies.

The first octet of an input chooses the method of the request and how the rest is cut.  What is taken is the same wherever it is
cut, stays within the bounds, and is passed on so that a strict reader reads the same.
"""

from __future__ import annotations

from collections.abc import Hashable

from tests.wire.test_http1_lenient import NO_READING, ONE_READING
from tunnelstack.errors import PeerError
from tunnelstack.wire.http1.framing import CHUNKED, response_framing_untrusted
from tunnelstack.wire.http1.head import (
    HeadLimits,
    ResponseHead,
    encode_response,
    find_end_untrusted,
    read_response_untrusted,
)
from tunnelstack.wire.http1.lenient import find_end_lenient, read_response_lenient
from tunnelstack.wire.http1.message import MessageReader

FOUND = [
    b"\x0a\x0aP",  # after an empty line that arrived alone, anything was waited for
    b"\0HTTP/1.1 200\nTransfer-Encoding:chunked\n\n5 " + b";" * 1023 + b"\n",  # too long a line only where it was cut
    b"\0HTTP/1.1 200\nTransfer-Encoding:chunked\n\n0\n\5\n",  # no trailer, and refused only where it was cut
]

LIMITS = HeadLimits(octets=4096, fields=20)
LONGEST = 4096  # octets that are read one by one

_INTERIM = b"HTTP/1.1 103 Early Hints\nLink: </a>\n\n"

SEEDS = [
    bytes([choice]) + octets
    for octets in (*ONE_READING, *NO_READING, *(_INTERIM + octets for octets in list(ONE_READING)[:6]))
    for choice in (0, 1, 14)
]

Reading = tuple[list[tuple[int, bytes, tuple[tuple[bytes, bytes], ...]]], bytes, str]
"""The heads, the body, and how it ended."""


def target(data: bytes) -> Hashable:
    """
    @return: what was made of it.
    """
    choice, octets = (data[0], data[1:]) if data else (0, b"")
    method = b"HEAD" if choice & 1 else b"GET"
    whole = read(octets, len(octets) or 1, method)
    for size in (2 + choice // 2, 1) if len(octets) <= LONGEST else (2 + choice // 2,):
        assert read(octets, size, method) == whole, (size, whole)
    alone(octets, method)
    heads, body, end = whole
    return end, tuple(status for status, _, _ in heads[-2:]), bool(body), len(heads[-1][2]) if heads else 0


def read(octets: bytes, size: int, method: bytes) -> Reading:
    """
    Read a response and the interim ones before it, in pieces.
    """
    reader, heads, body, final = MessageReader(LIMITS, lenient=True), [], b"", False
    try:
        for start in range(0, len(octets), size):
            piece = octets[start : start + size]
            if final:
                if not reader.ended:
                    body += reader.read_body(piece)
                continue
            reader.receive(piece)
            while not final and (head := reader.read_response(method)) is not None:
                heads.append((head.status, head.reason, tuple(head.fields)))
                passed_on(head, method, reader.irregular)
                final = head.status >= 200 or head.status == 101
            if final and not reader.ended:
                body += reader.read_body(reader.take_buffer())
            assert final or len(reader.buffer) <= LIMITS.octets + len(piece), len(reader.buffer)
    except PeerError:
        return heads, b"", "refused"
    whole = reader.ended or (final and reader.receive_eof())
    return heads, body, f"{'whole' if whole else 'part'} {'irregular' if reader.irregular and whole else ''}"


def passed_on(head: ResponseHead, method: bytes, irregular: bool) -> None:
    """
    A strict reader reads what is passed on as it was read here; a connection with irregularities is not used again.
    """
    octets = encode_response(head)
    strict = read_response_untrusted(octets, find_end_untrusted(octets))
    assert (strict.status, strict.reason, strict.fields) == (head.status, head.reason, head.fields), octets
    framing = response_framing_untrusted(strict, method)
    assert head.version == (1, 0) or framing.body == head.framing.body, octets
    assert head.version == (1, 1) or head.framing.body != CHUNKED, octets
    assert not (irregular and head.framing.keep_alive), octets
    assert len(head.fields) <= LIMITS.fields, octets


def alone(octets: bytes, method: bytes) -> None:
    """
    What the strict reader takes, the lenient one takes for the same.
    """
    try:
        end = find_end_untrusted(octets, 0, LIMITS)
        strict = read_response_untrusted(octets, end, LIMITS) if end >= 0 else None
        framing = response_framing_untrusted(strict, method) if strict is not None else None
    except PeerError:
        return
    if strict is not None and framing is not None and find_end_lenient(octets, 0, LIMITS) == end:
        lenient = read_response_lenient(octets, end, method, LIMITS)
        assert (lenient.status, lenient.framing.body) == (strict.status, framing.body), octets
