"""
For whom a request is passed on: C{X-Forwarded-For}, C{-Proto}, C{-Host} and C{Forwarded}.

What a stranger says about himself is replaced; only a proxy that the operator trusts is believed, and then added to.

Source: RFC 7239; the X- fields as nginx, Go and twisted.web read them.
"""

from __future__ import annotations

import re

from tunnelstack.wire.http1.head import TOKEN, Fields, values

FOR, PROTO, HOST, FORWARDED = b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"
FORWARDING_NAMES = frozenset(
    (
        FOR,
        PROTO,
        HOST,
        FORWARDED,
        b"x-forwarded-port",
        b"x-forwarded-server",
        b"x-real-ip",
        b"x-forwarded-ssl",
    )
)
"""What a stranger is not believed."""

TOKEN_ONLY = re.compile(TOKEN + rb"+\Z")


def node(address: bytes) -> bytes:
    """
    An address as C{Forwarded} writes it.
    """
    return b'"[%b]"' % address if b":" in address else address


def quoted(value: bytes) -> bytes:
    """
    A value as C{Forwarded} writes it: a token, or a quoted string.
    """
    if TOKEN_ONLY.match(value):
        return value
    return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def forwarding_fields(address: bytes, scheme: bytes, host: bytes) -> Fields:
    """
    The fields that say for whom a request is passed on.

    @param address: the visitor's IP address; C{b""} if there is none to tell.
    @param scheme: C{b"http"} or C{b"https"}.
    @param host: the C{Host} he asked for.
    """
    who = b"for=%b" % (node(address) if address else b"unknown")
    fields = [
        (b"X-Forwarded-For", address or b"unknown"),
        (b"X-Forwarded-Proto", scheme),
        (b"Forwarded", b"%b;proto=%b" % (who, scheme)),
    ]
    if host:
        fields.insert(2, (b"X-Forwarded-Host", host))
        fields[3] = (b"Forwarded", b"%b;host=%b;proto=%b" % (who, quoted(host), scheme))
    return fields


def without_forwarding_fields(fields: Fields) -> Fields:
    """
    @return: the fields without what a visitor says of himself.
    """
    names = FORWARDING_NAMES
    return [field for field in fields if field[0].lower() not in names]


def extend_forwarding_fields(fields: Fields, own: Fields) -> Fields:
    """
    What a trusted proxy said, and that it was the proxy who said it to us.

    @param fields: of the request it passed on.
    @param own: what L{forwarding_fields} says about the proxy's own connection.
    @return: the fields that say so; they replace those of the request.
    """
    answer: Fields = []
    for name, value in own:
        before = values(fields, name.lower())
        if not before:
            answer.append((name, value))
        elif name in (b"X-Forwarded-For", b"Forwarded"):
            answer.append((name, b", ".join([*before, value])))
        else:
            answer.append((name, before[0]))
    return answer
