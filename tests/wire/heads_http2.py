"""
Heads of HTTP/2: what is taken, what is refused, and the corpus of HTTP/1.1 as an attacker sends it by HTTP/2.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.wire.heads_http1 import MALFORMED, STRICTER
from tunnelstack.wire.http1.framing import Framing, request_framing_untrusted
from tunnelstack.wire.http1.head import (
    Fields,
    HeadLimits,
    RequestHead,
    find_end_untrusted,
    read_request_untrusted,
)
from tunnelstack.wire.http1.message import MessageWriter

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="

GET: Fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.example"), (b":path", b"/b?c")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]
CONNECT: Fields = [
    (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"), (b":path", b"/chat"),
    (b":authority", b"a.example"), (b"sec-websocket-version", b"13"), (b"origin", b"https://a.example"),
]


def changed(fields: Fields, name: bytes, value: bytes) -> Fields:
    """
    Fields with another value of one of them.
    """
    return [(known, value if known == name else old) for known, old in fields]


def lacking(fields: Fields, name: bytes) -> Fields:
    return [field for field in fields if field[0] != name]


#: name -> (fields, ended): requests that are taken.
GOOD: dict[str, tuple[Fields, bool]] = {
    "plain": (GET, True),
    "a body": (POST, False),
    "a body with a length": ([*POST, (b"content-length", b"3")], False),
    "no body, with a length": ([*POST, (b"content-length", b"0")], True),
    "host alone": ([*lacking(GET, b":authority"), (b"host", b"a.example")], True),
    "host and authority": ([*GET, (b"host", b"a.example")], True),
    "another spelling": ([*GET, (b"host", b"A.Example:443")], True),
    "the implied port": ([*changed(GET, b":authority", b"a.example:443"), (b"host", b"a.example")], True),
    "an address": (changed(GET, b":authority", b"[::1]:80"), True),
    "trailers": ([*POST, (b"te", b"trailers")], False),
    "asterisk": (changed(changed(GET, b":method", b"OPTIONS"), b":path", b"*"), True),
    "http": (changed(GET, b":scheme", b"http"), True),
    "an empty value": ([*GET, (b"x", b"")], True),
    "octets from 0x80": ([*GET, (b"x", b"\xc3\xa4\xff")], True),
    "expects": ([*POST, (b"expect", b"100-Continue"), (b"content-length", b"1")], False),
    "WebSocket": (CONNECT, False),
}

#: name -> (fields, ended, status): requests that are refused.
BAD: dict[str, tuple[Fields, bool, int]] = {
    "nothing": ([], True, 400),
    "no method": (lacking(GET, b":method"), True, 400),
    "no scheme": (lacking(GET, b":scheme"), True, 400),
    "no path": (lacking(GET, b":path"), True, 400),
    "no host": (lacking(GET, b":authority"), True, 400),
    "an empty host": (changed(GET, b":authority", b""), True, 400),
    "an empty path": (changed(GET, b":path", b""), True, 400),
    "a path without slash": (changed(GET, b":path", b"b"), True, 400),
    "a URL as path": (changed(GET, b":path", b"https://other/"), True, 400),
    "asterisk of GET": (changed(GET, b":path", b"*"), True, 400),
    "a fragment": (changed(GET, b":path", b"/a#b"), True, 400),
    "a blank in the path": (changed(GET, b":path", b"/a b"), True, 400),
    "a version in the path": (changed(GET, b":path", b"/ HTTP/1.1\r\nHost: b\r\n\r\nGET /x"), True, 400),
    "a request line in the method": (changed(GET, b":method", b"GET / HTTP/1.1\r\nHost: b\r\n\r\nGET"), True, 400),
    "a blank in the method": (changed(GET, b":method", b"GET /x"), True, 400),
    "another scheme": (changed(GET, b":scheme", b"ftp"), True, 400),
    "a line end in the scheme": (changed(GET, b":scheme", b"https\r\nX: y"), True, 400),
    "a line end in the host": (changed(GET, b":authority", b"a\r\nHost: b"), True, 400),
    "a user": (changed(GET, b":authority", b"me@a.example"), True, 400),
    "a path in the host": (changed(GET, b":authority", b"a.example/x"), True, 400),
    "another host": ([*GET, (b"host", b"b.example")], True, 400),
    "another port": ([*GET, (b"host", b"a.example:8443")], True, 400),
    "two hosts": ([*GET, (b"host", b"a.example"), (b"host", b"a.example")], True, 400),
    "method twice": ([(b":method", b"GET"), *GET], True, 400),
    "path twice": ([*GET, (b":path", b"/")], True, 400),
    "a pseudo-field of responses": ([(b":status", b"200"), *GET], True, 400),
    "an unknown pseudo-field": ([*GET, (b":x", b"y")], True, 400),
    "a late pseudo-field": ([*GET[:3], (b"x", b"y"), GET[3]], True, 400),
    "an uppercase name": ([*GET, (b"X-Mine", b"y")], True, 400),
    "an empty name": ([*GET, (b"", b"y")], True, 400),
    "a colon in a name": ([*GET, (b"x:y", b"z")], True, 400),
    "a line end in a name": ([*GET, (b"x\r\nhost", b"z")], True, 400),
    "a blank in a name": ([*GET, (b"x ", b"z")], True, 400),
    "CR in a value": ([*GET, (b"x", b"a\rb")], True, 400),
    "LF in a value": ([*GET, (b"x", b"a\nb")], True, 400),
    "NUL in a value": ([*GET, (b"x", b"a\0b")], True, 400),
    "a field in a value": ([*GET, (b"x", b"a\r\nTransfer-Encoding: chunked")], True, 400),
    "a blank before a value": ([*GET, (b"x", b" a")], True, 400),
    "a blank after a value": ([*GET, (b"x", b"a\t")], True, 400),
    "connection": ([*GET, (b"connection", b"close")], True, 400),
    "connection names host": ([*GET, (b"connection", b"host")], True, 400),
    "keep-alive": ([*GET, (b"keep-alive", b"5")], True, 400),
    "proxy-connection": ([*GET, (b"proxy-connection", b"close")], True, 400),
    "upgrade": ([*GET, (b"upgrade", b"websocket")], True, 400),
    "chunks": ([*POST, (b"transfer-encoding", b"chunked")], False, 400),
    "chunks and a length": ([*POST, (b"transfer-encoding", b"chunked"), (b"content-length", b"3")], False, 400),
    "another te": ([*GET, (b"te", b"gzip")], True, 400),
    "more than trailers": ([*GET, (b"te", b"trailers, deflate")], True, 400),
    "two lengths": ([*POST, (b"content-length", b"3"), (b"content-length", b"3")], False, 400),
    "a list of lengths": ([*POST, (b"content-length", b"3, 3")], False, 400),
    "a sign": ([*POST, (b"content-length", b"+3")], False, 400),
    "a hexadecimal length": ([*POST, (b"content-length", b"0x3")], False, 400),
    "an empty length": ([*POST, (b"content-length", b"")], False, 400),
    "a length of 19 digits": ([*POST, (b"content-length", b"1" * 19)], False, 400),
    "a length and no body": ([*POST, (b"content-length", b"3")], True, 400),
    "a proxy is meant": ([(b":method", b"CONNECT"), (b":authority", b"a:443")], False, 501),
    "CONNECT with a path": (changed(GET, b":method", b"CONNECT"), False, 400),
    "a protocol of GET": ([*GET, (b":protocol", b"websocket")], False, 400),
    "another protocol": (changed(CONNECT, b":protocol", b"connect-udp"), False, 501),
    "a WebSocket with a length": ([*CONNECT, (b"content-length", b"3")], False, 400),
    "a WebSocket that ends": (CONNECT, True, 400),
    "a WebSocket without a path": (lacking(CONNECT, b":path"), False, 400),
    "a WebSocket of another place": (changed(CONNECT, b":path", b"*"), False, 400),
    "a WebSocket and an upgrade": ([*CONNECT, (b"upgrade", b"websocket")], False, 400),
    "too many fields": ([*GET, *[(b"x", b"y")] * 100], True, 431),
    "too long": ([*GET, (b"x", b"y" * 32 * 1024)], True, 431),
}


def smuggled() -> Iterator[tuple[str, Fields]]:
    """
    What HTTP/1.1 refuses, as fields of HTTP/2: as a careless translator would send it, and hidden in a value, a name, the path
    or the authority.
    """
    for name, (octets, _) in {**MALFORMED, **STRICTER}.items():
        line, *lines = octets.rstrip(b"\r\n").split(b"\r\n")
        method, _, rest = line.partition(b" ")
        target = rest.rpartition(b" ")[0]
        fields = [each.partition(b":")[::2] for each in lines]
        lowered = [(one.lower(), value.strip(b" \t")) for one, value in fields]
        host = dict(lowered).get(b"host", b"a")
        pseudo = [(b":method", method), (b":scheme", b"http"), (b":authority", host), (b":path", target)]
        yield name, pseudo + lowered
        yield f"{name}, without Host", pseudo + [field for field in lowered if field[0] != b"host"]
        yield f"{name}, as it is", pseudo + [(one, value) for one, value in fields]
        tail = b"a\r\n" + octets.partition(b"\r\n")[2] + octets
        yield f"{name}, in a value", [*GET, (b"x", tail)]
        yield f"{name}, in a name", [*GET, (b"x: " + tail.lower(), b"y")]
        yield f"{name}, in the path", changed(GET, b":path", b"/ HTTP/1.1\r\nHost: " + tail)
        yield f"{name}, in the authority", changed(GET, b":authority", tail)


def written(head: RequestHead) -> tuple[RequestHead, Framing]:
    """
    A head as it is written to a connection of HTTP/1.1, and read there.
    """
    octets = MessageWriter().request_head(head)
    end = find_end_untrusted(octets)
    assert end == len(octets), octets
    again = read_request_untrusted(octets, end, HeadLimits(octets=1 << 20, fields=1000))
    return again, request_framing_untrusted(again)


def check_one_reading(head: RequestHead) -> None:
    """
    What an HTTP/1.1 program reads is what was meant.
    """
    again, framing = written(head)
    assert (again.method, again.target) == (head.method, head.target), again
    assert (framing.body, framing.host, framing.upgrade) == (head.framing.body, head.framing.host, head.framing.upgrade), again
    assert again.fields[:len(head.fields)] == head.fields, again
