"""
The fields C{Origin} and C{Referer} of a request whose C{Host} is replaced: a server that compares them with C{Host} must find
its own name in them.

Only the origin that the visitor's request itself has is replaced.  Another one shows the server that a page of another site
made the request, which is what the comparison is for.

Source: RFC 6454, section 4 (origins) and 7 (C{Origin}); RFC 9110, section 10.1.3 (C{Referer}).
"""

from __future__ import annotations

import re

from tunnelstack.wire.http1.forwarded import HOST, PROTO, SECURE
from tunnelstack.wire.http1.head import Fields, values

NAMES = (b"origin", b"referer")

_AUTHORITY = rb"([^/?#\\@]++)"
_ORIGIN = re.compile(rb"(https?)://" + _AUTHORITY, re.IGNORECASE)
_DEFAULT_PORT = {b"http": b":80", b"https": b":443"}


def public_origin(fields: Fields) -> bytes:
    """
    @param fields: of a request that an edge has passed on.
    @return: the origin of its URL as the visitor has it, from C{X-Forwarded-Proto} and C{X-Forwarded-Host} of the edge or else
        C{Host}; C{b""} if it is not known.
    """
    hosts, schemes = values(fields, HOST) or values(fields, b"host"), values(fields, PROTO)
    if len(hosts) != 1 or len(schemes) > 1:
        return b""
    secure = bool(schemes) and schemes[0].lower() in SECURE
    return normalized_origin(b"%b://%b" % (b"https" if secure else b"http", hosts[0]))


def normalized_origin(text: bytes) -> bytes:
    """
    @return: scheme, host and port of a URL, in lower case and without the default port; C{b""} if it has another scheme, or
        user information.
    """
    found = _ORIGIN.match(text)
    if found is None or text[found.end() : found.end() + 1] in (b"\\", b"@"):
        return b""
    scheme, authority = found[1].lower(), found[2].lower()
    return b"%b://%b" % (scheme, authority.removesuffix(_DEFAULT_PORT[scheme]))


def replace_origin(fields: Fields, public: bytes, local: bytes) -> Fields:
    """
    @param public: the L{public_origin}.
    @param local: C{scheme://host[:port]}, which replaces it.
    @return: the fields, with C{Origin} and C{Referer} replaced where they have the public origin.
    """
    return [
        (name, _replaced(value, public, local)) if name.lower() in NAMES else (name, value) for name, value in fields
    ]


def _replaced(value: bytes, public: bytes, local: bytes) -> bytes:
    if not public or normalized_origin(value) != public:
        return value
    found = _ORIGIN.match(value)
    return value if found is None else local + value[found.end() :]
