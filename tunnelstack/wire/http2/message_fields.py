"""
The fields of HTTP/2 messages: which names and values there may be, and what each name means.

HTTP/2 carries names and values as octets with a length, so a value can hold what would end a line in HTTP/1.1.  Nothing of that
kind gets past this module.

Source: RFC 9113, sections 8.2 and 8.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tunnelstack.wire.http1.chunked import FORBIDDEN_TRAILERS
from tunnelstack.wire.http1.framing import LENGTH_DIGITS
from tunnelstack.wire.http1.head import BadMessage, Fields, HeadLimits, HeadTooLarge

NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]" + rb"++\Z")
VALUE = re.compile(rb"[\t -~\x80-\xff]" + rb"*+\Z")
BLANKS = b"\t "

ORDINARY, PSEUDO, CONNECTION, TE, COOKIE, HOST, LENGTH, EXPECT, DROPPED, WEBSOCKET = range(10)
"""What a field is: one that is passed on, a pseudo-field, one that concerns a connection of HTTP/1.1, and those that are read
here.  WEBSOCKET is a field of the handshake of HTTP/1.1 that a WebSocket of HTTP/2 does not have."""

_KNOWN_KINDS = {
    **dict.fromkeys((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"), CONNECTION),
    **dict.fromkeys((b"http2-settings", b"proxy-authenticate", b"proxy-authorization"), DROPPED),
    **dict.fromkeys((b"sec-websocket-key", b"sec-websocket-accept"), WEBSOCKET),
    b"te": TE, b"cookie": COOKIE, b"host": HOST, b"content-length": LENGTH, b"expect": EXPECT,
}

LONGEST_CACHED_NAME = 64
CACHED_NAMES = 512
"""Names whose kind is remembered, so that the same few need not be checked for every message."""

_kinds: dict[bytes, int] = dict(_KNOWN_KINDS)


class MalformedMessage(BadMessage):
    """
    The message is malformed as RFC 9113, section 8.1.1, defines it: its stream ends with PROTOCOL_ERROR.
    """


def kind_of(name: bytes) -> int:
    """
    @return: what a field is.
    @raise MalformedMessage: the name has an uppercase letter, or is no name.
    """
    kind = _kinds.get(name)
    if kind is not None:
        return kind
    if name.startswith(b":"):
        return PSEUDO
    if not NAME.match(name):
        if NAME.match(name.lower()):
            raise MalformedMessage("the name of a field has an uppercase letter")
        raise MalformedMessage("the name of a field is malformed")
    if len(_kinds) < CACHED_NAMES and len(name) <= LONGEST_CACHED_NAME:
        _kinds[name] = ORDINARY
    return ORDINARY


def check_value(value: bytes) -> None:
    """
    @raise MalformedMessage: the value has a control octet, or blanks at an end.
    """
    if not VALUE.match(value):
        raise MalformedMessage("the value of a field has a control octet")
    if value != value.strip(BLANKS):
        raise MalformedMessage("the value of a field begins or ends with a blank")


def check_size(fields: Fields, limits: HeadLimits) -> None:
    """
    Compare fields with the bounds of a head, as HTTP/1.1 counts them.

    @raise HeadTooLarge: there are more, or they are longer.
    """
    if len(fields) > limits.fields:
        raise HeadTooLarge("the head has too many fields", "fields", limits.fields)
    if sum(len(name) + len(value) + 4 for name, value in fields) > limits.octets:
        raise HeadTooLarge("the head is too long", "octets", limits.octets)


def split_pseudo(fields: Fields, known: frozenset[bytes]) -> tuple[dict[bytes, bytes], Fields]:
    """
    Separate the pseudo-fields, which come first.

    @param known: those that this kind of message may have.
    @return: the pseudo-fields, and the other fields.
    @raise MalformedMessage: one is unknown, comes twice, or has a control octet.  One after another field is left among those.
    """
    pseudo: dict[bytes, bytes] = {}
    for number, (name, value) in enumerate(fields):
        if not name.startswith(b":"):
            return pseudo, fields[number:]
        if name not in known:
            raise MalformedMessage("the message has a pseudo-field that it must not have")
        if name in pseudo:
            raise MalformedMessage("the message has a pseudo-field twice")
        check_value(value)
        pseudo[name] = value
    return pseudo, []


def read_length(value: bytes, earlier: int | None) -> int:
    """
    @param earlier: the length that another field gave.
    @return: the number of octets that a C{content-length} gives.
    @raise MalformedMessage: it is no number, or there are two.
    """
    if not value.isdigit() or len(value) > LENGTH_DIGITS:
        raise MalformedMessage("the content-length is not a valid number")
    if earlier is not None:
        raise MalformedMessage("the message has more than one content-length")
    return int(value)


def trailers_from_http2(fields: Fields, limits: HeadLimits) -> Fields:
    """
    @return: the trailers that are passed on; those that could change the message are dropped.
    @raise BadMessage: they are malformed, or too many.
    """
    check_size(fields, limits)
    for name, value in fields:
        kind = kind_of(name)
        check_value(value)
        if kind == PSEUDO:
            raise MalformedMessage("the trailers have a pseudo-field")
        if kind == CONNECTION:
            raise MalformedMessage("the trailers have a field that concerns a connection")
    return [field for field in fields if field[0] not in FORBIDDEN_TRAILERS]


def trailers_to_http2(trailers: Iterable[tuple[bytes, bytes]]) -> Fields:
    """
    @return: trailers of HTTP/1.1 as those of HTTP/2.
    """
    lowered = [(name.lower(), value) for name, value in trailers]
    return [field for field in lowered if field[0] not in FORBIDDEN_TRAILERS]
