"""
Heads of HTTP/2 from anybody, as lists of fields.  What is taken must be read the same by programs of HTTP/1.1.

The first octet of an input chooses request, response or trailers, and whether the stream ends.  Fields follow: the length of
the name, the length of the value, both.  A length from 0x80 is that of an entry of C{WORDS}.
"""

from __future__ import annotations

from collections.abc import Hashable

from tests.wire.heads_http2 import BAD, GOOD, KEY, check_one_reading
from tunnelstack.wire.http1.head import DEFAULT_LIMITS, Fields, RequestHead, ResponseHead
from tunnelstack.wire.http1.message import MessageWriter
from tunnelstack.wire.http2.message_fields import trailers_from_http2, trailers_to_http2
from tunnelstack.wire.http2.translation import request_from_http2, response_from_http2, response_to_http2

ENDED, RESPONSE, TRAILERS = 1, 2, 4     # of the first octet
REQUEST = RequestHead(b"GET", b"/", [(b"Host", b"a")])

WORDS = tuple(sorted({octets for fields, *_ in (*GOOD.values(), *BAD.values()) for field in fields for octets in field
                      if len(octets) < 64}))[:128]


def target(data: bytes) -> Hashable:
    """
    @return: what was made of it.
    """
    choice, fields = (data[0] if data else 0), read_fields(data[1:])
    ended = bool(choice & ENDED)
    if choice & TRAILERS:
        return trailers(fields)
    return response(fields, ended) if choice & RESPONSE else request(fields, ended)


def request(fields: Fields, ended: bool) -> Hashable:
    head = request_from_http2(fields, ended, make_key=lambda: KEY)
    check_one_reading(head)
    return head.method, bool(head.framing.body), bool(head.framing.upgrade), head.framing.trailers


def response(fields: Fields, ended: bool) -> Hashable:
    head: ResponseHead = response_from_http2(fields, REQUEST, ended)
    MessageWriter().response_head(head, REQUEST)
    if head.status >= 200:
        seen = request_from_http2(GOOD["plain"][0], True)
        again = response_from_http2(response_to_http2(head, seen), REQUEST, ended)
        assert (again.status, again.framing.body) == (head.status, head.framing.body), again
    return head.status // 100, head.framing.body > 0


def trailers(fields: Fields) -> Hashable:
    kept = trailers_from_http2(fields, DEFAULT_LIMITS)
    assert trailers_to_http2(kept) == kept
    return len(kept)


def read_fields(octets: bytes) -> Fields:
    fields: Fields = []
    at = 0
    while at + 1 < len(octets):
        name_length, value_length = octets[at], octets[at + 1]
        at += 2
        pair = []
        for length in (name_length, value_length):
            if length >= 0x80:
                pair.append(WORDS[(length - 0x80) % len(WORDS)])
            else:
                pair.append(octets[at:at + length])
                at += length
        fields.append((pair[0], pair[1]))
    return fields


def encode_fields(fields: Fields, choice: int) -> bytes:
    """
    An input that L{read_fields} reads.
    """
    short = [(name[:127], value[:127]) for name, value in fields]
    return bytes([choice]) + b"".join(bytes([len(name), len(value)]) + name + value for name, value in short)


SEEDS = [
    *(encode_fields(fields, int(ended)) for fields, ended, *_ in (*GOOD.values(), *BAD.values()) if len(fields) < 20),
    encode_fields([(b":status", b"200"), (b"content-length", b"3")], RESPONSE),
    encode_fields([(b":status", b"103"), (b"link", b"x")], RESPONSE),
    encode_fields([(b":status", b"204")], RESPONSE | ENDED),
    encode_fields([(b"grpc-status", b"0"), (b"host", b"b")], TRAILERS),
]
