"""
Heads and bodies of HTTP/1.1 from anybody.  What is taken must be read the same by whoever reads what we pass on.

The first octet of an input chooses request, response, or chunks, and where the rest is cut.
"""

from __future__ import annotations

from collections.abc import Hashable

from tunnelstack.wire.http1.chunked import ChunkedDecoder
from tunnelstack.wire.http1.framing import request_framing_untrusted, response_framing_untrusted
from tunnelstack.wire.http1.head import (
    RequestHead,
    ResponseHead,
    encode_request,
    encode_response,
    find_end_untrusted,
    read_request_untrusted,
    read_response_untrusted,
)

REQUEST, RESPONSE = 0, 1    # of the first octet modulo 3; 2 is chunks


def target(data: bytes) -> Hashable:
    """
    @return: what was made of it.
    """
    choice, rest = (data[0], data[1:]) if data else (0, b"")
    cut = min(len(rest), choice // 3)
    if choice % 3 == REQUEST:
        return request(rest, cut)
    return response(rest, cut) if choice % 3 == RESPONSE else chunks(rest, cut)


def request(octets: bytes, cut: int) -> Hashable:
    """
    Read, framed, written, and read again.
    """
    end = end_of_head(octets, cut)
    if end < 0:
        return "unfinished"
    head = read_request_untrusted(octets, end)
    framing = request_framing_untrusted(head)
    if head.version == (1, 1):
        again = encode_request(head)
        assert read_request_untrusted(again, find_end_untrusted(again)) == head, again
        assert request_framing_untrusted(head) == framing
    return (
        RequestHead,
        framing.body < 0 or bool(framing.body),
        framing.keep_alive,
        bool(framing.upgrade),
        framing.expect_continue,
    )


def response(octets: bytes, cut: int) -> Hashable:
    """
    The same for a response.
    """
    end = end_of_head(octets, cut)
    if end < 0:
        return "unfinished"
    head = read_response_untrusted(octets, end)
    framing = response_framing_untrusted(head, b"GET")
    if head.version == (1, 1):
        again = encode_response(head)
        assert read_response_untrusted(again, find_end_untrusted(again)) == head, again
    return ResponseHead, head.status // 100, framing.body < 0 or bool(framing.body), framing.keep_alive


def end_of_head(octets: bytes, cut: int) -> int:
    """
    In one piece and in two, the head ends at the same place.
    """
    whole = find_end_untrusted(octets)
    first = find_end_untrusted(octets[:cut])
    if first < 0:
        assert find_end_untrusted(octets, cut) == whole
    else:
        assert first == whole
    return whole


def chunks(octets: bytes, cut: int) -> Hashable:
    """
    In one piece and in two, the body is the same.
    """
    whole, parts = ChunkedDecoder(), ChunkedDecoder()
    body = whole.receive_data(octets)
    first = parts.receive_data(octets[:cut])
    if parts.ended:
        assert (first, parts.trailers, parts.leftover + octets[cut:]) == (body, whole.trailers, whole.leftover)
    else:
        assert first + parts.receive_data(octets[cut:]) == body
        assert (parts.ended, parts.trailers, parts.leftover) == (whole.ended, whole.trailers, whole.leftover)
    return whole.ended, bool(whole.trailers), bool(body)


_HEADS = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /x?y HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    b"PUT * HTTP/1.1\r\nhost:a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n0\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nX-Tail: \t \r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.0 304 \r\n\r\n",
    b"HTTP/1.1 204\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    b"3\r\nabc\r\n10;name=\"value\"\r\n0123456789abcdef\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\nnext",
    b"0\r\n\r\n",
    b"fffffffff\r\n",
]

SEEDS = [bytes([choice]) + head for head in _HEADS for choice in (0, 1, 2, 30, 31, 32)]
