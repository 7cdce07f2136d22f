"""
Heads of HTTP/1.1: what is taken, what is refused and why, and where we are stricter than h11.
"""

from __future__ import annotations

#: name -> octets of a whole head that every program must take.
REQUESTS = {
    "plain": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "empty host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "query": b"GET /a/b?c=d&e HTTP/1.1\r\nHost: a.example:8080\r\n\r\n",
    "white space around a value": b"GET / HTTP/1.1\r\nHost:\t a \t\r\nX:b\r\n\r\n",
    "empty value": b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \r\n\r\n",
    "any method": b"M-SEARCH!#$%&'*+-.^_`|~09 / HTTP/1.1\r\nHost: a\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "absolute": b"GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "authority": b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    "old": b"GET / HTTP/1.0\r\n\r\n",
    "old, kept": b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n",
    "length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n",
    "no length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "chunks": b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n",
    "close": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n",
    "high octets": b"GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa4\xff\r\n\r\n",
    "expects": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\n",
    "IPv6": b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
}

#: name -> octets of a whole head that h11 refuses; other servers take it, and there is one way to read it.
LOOSER = {
    "UTF-8 in the target": b"GET /gr\xc3\xbc\xc3\x9fe?\xe2\x82\xac HTTP/1.1\r\nHost: a\r\n\r\n",
    "high octets in the target": b"GET /\x80\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "high octets in a URL": b"GET http://a/\xe4 HTTP/1.1\r\nHost: a\r\n\r\n",
}

#: name -> (octets, status): what we and h11 both refuse.
MALFORMED = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "name of nothing": (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
    "no colon": (b"GET / HTTP/1.1\r\nHost: a\r\nabc\r\n\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400),
    "CR in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    "CR in a name": (b"GET / HTTP/1.1\r\nHost: a\r\nX\rY: b\r\n\r\n", 400),
    "a fold before any field": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no version": (b"GET /\r\nHost: a\r\n\r\n", 400),
    "a control character in the target": (b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "length of letters": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: a\r\n\r\n", 400),
    "negative length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    "length with a sign": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
    "length in hexadecimal": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x10\r\n\r\n", 400),
    "empty length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
    "two different lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "two different lengths in one": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n", 400),
    "another coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "chunked twice": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400),
    "chunked in two fields": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
    ),
    "chunked is not last": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", 400),
    "almost chunked": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
    "quoted chunked": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", 400),
    "two hosts in HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
}

#: name -> (octets, status): what h11 takes and we refuse, and the reason for each.
STRICTER = {
    # two programs may read it in two ways: request smuggling
    "length and chunks": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400,
    ),
    "the same length twice": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", 400),
    "the same length twice in one": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n", 400),
    "chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "a fold": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    "LF alone": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "LF alone in one line": (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
    # programs cut the target there, and decide about the rest
    "a fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an empty fragment": (b"GET /a# HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a fragment in the query": (b"GET /a?b#c HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a fragment of a URL": (b"GET http://a#/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "nothing but a fragment": (b"GET #/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    # nobody means well with it
    "a control character in a value": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n", 400),
    "a host that is none": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "a user in the host": (b"GET / HTTP/1.1\r\nHost: b@a\r\n\r\n", 400),
    "a space in the host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "another version": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "a version that will never be": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    # a bound
    "a length of 19 digits": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000000000\r\n\r\n", 400),
}

RESPONSES = {
    "plain": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
    "no reason": b"HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\n",
    "not even its space": b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\n",
    "long reason": b"HTTP/1.1 404 Not  Found, \xe4ch\r\n\r\n",
    "old": b"HTTP/1.0 200 OK\r\n\r\n",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "no body": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
}

BAD_RESPONSES = {
    "two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "no version": b"200 OK\r\n\r\n",
    "version 2": b"HTTP/2 200 OK\r\n\r\n",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a fold": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    "LF alone": b"HTTP/1.1 200 OK\nContent-Length: 3\n\n",
    "CR in the reason": b"HTTP/1.1 200 O\rK\r\n\r\n",
}
