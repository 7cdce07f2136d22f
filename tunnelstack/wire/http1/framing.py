"""
What a head determines about the message and the connection: how long the body is, whether the connection is kept, which
fields end here.

Above the wire a head carries no field that concerns one connection only, with two exceptions that are marks rather than
orders: C{Transfer-Encoding: chunked} (the body's length is not known), and C{Upgrade} (the connection may change its
protocol).  L{end_to_end} takes the others away, and L{outgoing_framing} returns what a connection has to add.

Source: RFC 9112, sections 6 and 9; RFC 9110, sections 7.6.1 and 7.8.
"""

from __future__ import annotations

import re
from operator import methodcaller

from attrs import define

from tunnelstack.settings.record import Record
from tunnelstack.wire.http1.head import HTTP_1_1, BadMessage, Fields, RequestHead, ResponseHead, values

CHUNKED = -1          # a body in chunks
UNTIL_CLOSE = -2      # a body that ends with its connection
LENGTH_DIGITS = 18          # digits of a length: all that a signed 64-bit integer surely holds

HOP_BY_HOP = frozenset((
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"proxy-authenticate", b"proxy-authorization",
    b"http2-settings",
))
"""Fields that concern one connection, whether or not C{Connection} names them."""

HOP_BY_HOP_OR_CLOSE = HOP_BY_HOP | {b"close"}
"""The same with C{Connection: close}: a word in C{Connection} is the name of a field as well."""

NEVER_HOP_BY_HOP = frozenset((b"host", b"content-length", b"transfer-encoding", b"trailer", b"expect"))
"""Fields that C{Connection} cannot take away."""

CODINGS = frozenset((b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"chunked"))

_strip = methodcaller("strip", b" \t")

_NAME = rb"(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_PORT = rb":0*+(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{0,4})"
HOST = re.compile(
    rb"(?:(?:\[[0-9A-Fa-f:.]{2,45}(?:%25[0-9A-Za-z._~-]{1,32})?\]|" + _NAME + rb"{1,255}+)(?:" + _PORT + rb")?)?\Z"
)
"""The value of C{Host}: nothing, or a name or an address, perhaps with a port.  Whatever else a program could read as another
host, or fail to read, is refused.  Names have 255 octets at most."""

_ORDINARY, _LENGTH, _CODING, _CONNECTION, _HOST, _EXPECT, _UPGRADE, _HOP_BY_HOP = range(8)
_KNOWN_FIELDS = {
    b"content-length": _LENGTH, b"transfer-encoding": _CODING, b"connection": _CONNECTION, b"host": _HOST,
    b"expect": _EXPECT, b"upgrade": _UPGRADE, **dict.fromkeys(HOP_BY_HOP - {b"connection", b"upgrade"}, _HOP_BY_HOP),
}

LONGEST_CACHED_NAME = 64
CACHED_NAMES = 512
"""Spellings of fields' names that are remembered, so that the same few need not be put in lower case for every message."""

_field_kinds: dict[bytes, int] = {}


def _field_kind(name: bytes) -> int:
    """
    What a field means here whose name is spelt in a way that was not seen before, or was not worth remembering.
    """
    kind = _KNOWN_FIELDS.get(name.lower(), _ORDINARY)
    if len(_field_kinds) < CACHED_NAMES and len(name) <= LONGEST_CACHED_NAME:
        _field_kinds[name] = kind
    return kind


def is_ordinary(name: bytes) -> bool:
    """
    @return: whether a field of this name determines nothing that L{Framing} has.
    """
    kind = _field_kinds.get(name)
    return (_field_kind(name) if kind is None else kind) == _ORDINARY


@define(eq=False, repr=False)
class Framing(Record):
    """
    What a head determines.

    @ivar body: octets of the body, or L{CHUNKED}, or L{UNTIL_CLOSE}.
    @ivar keep_alive: the sender is ready to keep the connection.
    @ivar host: the one C{Host}; C{b""} if there is none.
    @ivar expect_continue: the sender waits for C{100 Continue} before it sends the body.
    @ivar upgrade: the protocols that may follow, in a C{Connection: upgrade}; C{b""} if none.
    @ivar hop_by_hop: lower-case names of the fields that are not passed on; empty, most of the time.
    @ivar trailers: the sender takes trailers (C{TE: trailers}).
    """

    body: int = 0
    keep_alive: bool = True
    host: bytes = b""
    expect_continue: bool = False
    upgrade: bytes = b""
    hop_by_hop: frozenset[bytes] = frozenset()
    trailers: bool = False

    @property
    def options(self) -> tuple[bytes, ...]:
        """
        What the C{Connection} of such a head has to name.
        """
        if not (self.upgrade or self.trailers):
            return ()
        return ((b"Upgrade",) if self.upgrade else ()) + ((b"TE",) if self.trailers else ())


def request_framing_untrusted(head: RequestHead) -> Framing:
    """
    @raise BadMessage: not exactly one C{Host}, or a length that two programs could read in two ways.
    """
    return framing_untrusted(head)


def response_framing_untrusted(head: ResponseHead, method: bytes) -> Framing:
    """
    @param method: of the request that it answers.
    @raise BadMessage: a length that two programs could read in two ways.
    """
    return framing_untrusted(head, method)


def framing_untrusted(head: RequestHead | ResponseHead, method: bytes = b"") -> Framing:
    """
    One pass over the fields.

    @param method: where it is the head of a response, the method of the request that it answers.
    @raise BadMessage: a request without a C{Host}, or with two, or a length that two programs could read in two ways.
    """
    keep_alive = head.version == HTTP_1_1
    framing = Framing(0, keep_alive)
    length = coding = host = connection = upgrade = None
    seen = _field_kinds
    for name, value in head.fields:
        kind = seen.get(name)
        if kind is None:
            kind = _field_kind(name)
        if not kind:
            continue
        if kind == _HOST:
            if host is not None:
                raise BadMessage("more than one Host")
            if not HOST.match(value):
                raise BadMessage("the Host is malformed")
            framing.host = host = value
        elif kind == _CONNECTION:
            connection = value if connection is None else connection + b"," + value
        elif kind == _LENGTH:
            if length is not None:
                raise BadMessage("more than one Content-Length")
            length = value
        elif kind == _CODING:
            if coding is not None:
                raise BadMessage("more than one Transfer-Encoding")
            coding = value
        elif kind == _EXPECT:
            framing.expect_continue = keep_alive and value.lower() == b"100-continue"
        elif kind == _UPGRADE:
            upgrade = value if upgrade is None else upgrade + b"," + value
        else:
            framing.hop_by_hop = HOP_BY_HOP
    if length is not None and coding is None and length.isdigit() and len(length) <= LENGTH_DIGITS:
        framing.body = int(length)
    elif length is not None or coding is not None:
        framing.body = _body(length, coding, keep_alive)
    if connection is not None or upgrade is not None or framing.hop_by_hop:
        _connection(framing, head, connection or b"", upgrade or b"")
    if isinstance(head, RequestHead):
        if host is None and keep_alive:
            raise BadMessage("a request of HTTP/1.1 needs a Host")
        return framing
    status = head.status
    if status < 200 or status == 204 or status == 304 or method == b"HEAD":
        framing.body = 0
    elif length is None and coding is None:
        framing.body = UNTIL_CLOSE
        framing.keep_alive = False
    return framing


def _body(length: bytes | None, coding: bytes | None, chunks: bool) -> int:
    if coding is None:
        assert length is not None
        if not length.isdigit() or len(length) > LENGTH_DIGITS:
            raise BadMessage("the Content-Length is malformed")
        return int(length)
    if length is not None:
        raise BadMessage("both Content-Length and Transfer-Encoding")
    if not chunks:
        raise BadMessage("HTTP/1.0 has no Transfer-Encoding")
    if coding.lower() == b"chunked":
        return CHUNKED
    codings = [each.strip(b" \t").lower() for each in coding.split(b",")]
    if codings[-1] == b"chunked" and codings.count(b"chunked") == 1 and CODINGS.issuperset(codings):
        raise BadMessage("the Transfer-Encoding is known, but not supported here", 501)
    raise BadMessage("the Transfer-Encoding is not chunked")


def _connection(framing: Framing, head: RequestHead | ResponseHead, connection: bytes, upgrade: bytes) -> None:
    """
    Read the options of the connection, and note what they take away.
    """
    lower = connection.lower()
    if (lower == b"close" or lower == b"keep-alive") and not upgrade:
        framing.keep_alive = lower == b"keep-alive"
        framing.hop_by_hop = HOP_BY_HOP if framing.keep_alive else HOP_BY_HOP_OR_CLOSE
        return
    options = tokens(connection)
    if b"close" in options:
        framing.keep_alive = False
    elif b"keep-alive" in options:
        framing.keep_alive = True
    if b"upgrade" in options and head.version == HTTP_1_1:
        offered = [each.strip(b" \t") for each in upgrade.split(b",")]
        framing.upgrade = b", ".join(each for each in offered if each and each.lower() != b"h2c")
    framing.hop_by_hop = HOP_BY_HOP.union(options) - NEVER_HOP_BY_HOP
    if b"te" in options:
        framing.trailers = any(b"trailers" in tokens(value) for value in values(head.fields, b"te"))


def tokens(value: bytes) -> list[bytes]:
    """
    @return: the members of a list, in lower case.
    """
    return [*map(_strip, value.lower().split(b","))]


def end_to_end(fields: Fields, framing: Framing) -> Fields:
    """
    @return: the fields that are passed on; C{Upgrade} stays, as does C{TE: trailers}, where they were meant for us.
    """
    hop_by_hop = framing.hop_by_hop
    if not hop_by_hop:
        return fields
    kept = [field for field in fields if field[0].lower() not in hop_by_hop]
    if framing.upgrade:
        kept.append((b"Upgrade", framing.upgrade))
    if framing.trailers:
        kept.append((b"TE", b"trailers"))
    return kept


def outgoing_framing(head: RequestHead | ResponseHead) -> Framing:
    """
    @return: the framing of a head that is to be written: C{body}, and the C{options} that C{Connection} has to name.
    """
    framing: Framing | None = head.framing
    return framing if framing is not None else _framing_from_fields(head)


def _framing_from_fields(head: RequestHead | ResponseHead) -> Framing:
    """
    One pass over the fields of a head that was made here.
    """
    framing = Framing(0 if isinstance(head, RequestHead) else UNTIL_CLOSE)
    for name, value in head.fields:
        name = name.lower()
        if name == b"content-length":
            framing.body = int(value)
        elif name == b"transfer-encoding":
            framing.body = CHUNKED
        elif name == b"upgrade":
            framing.upgrade = value
        elif name == b"te":
            framing.trailers = True
    return framing


def without(fields: Fields, *names: bytes) -> Fields:
    """
    @param names: in lower case.
    @return: the other fields.
    """
    return [field for field in fields if field[0].lower() not in names]
