"""
HTTP/1.1 heads as octets: records, where a head ends, what is taken for one, and how one is written.

The parser is strict: what two programs could read in two ways is refused, so that no request can be smuggled past us.  A
head is one pass of a regular expression whose repetitions never give back what they took, hence linear in its octets.

Source: RFC 9112, sections 2 to 5; RFC 9110, section 5.
"""

from __future__ import annotations

import re
from typing import Any

from attrs import define, field, frozen

from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.http1.target import OCTET

Fields = list[tuple[bytes, bytes]]

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
FIELD_CONTENT = rb"[\t -~\x80-\xff]"        # what a field's value, a reason or a chunk's extension is made of

REQUEST_LINE = re.compile(rb"(" + TOKEN + rb"++) (" + OCTET + rb"++) HTTP/1\.([01])(?=\r\n)")
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (" + FIELD_CONTENT + rb"*+))?(?=\r\n)")
FIELD = re.compile(rb"\r\n(" + TOKEN + rb"++):[\t ]*+(" + FIELD_CONTENT + rb"*+)(?=\r\n)")
OTHER_VERSION = re.compile(TOKEN + rb"++ " + OCTET + rb"++ HTTP/[0-9]\.[0-9]\r\n")
FRAGMENT = re.compile(TOKEN + rb"++ " + OCTET + rb"*+#")
MESSAGE_START = re.compile(TOKEN)
BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")

HTTP_1_0, HTTP_1_1 = (1, 0), (1, 1)

LF, CR = b"\n\r"

LINE_BREAK = "a head that is to be written has a line break in it"


class BadMessage(PeerError):
    """
    The peer's message breaks the rules of HTTP/1.1, or a bound of ours.

    @ivar status: what a server answers, if it answers at all.
    """

    def __init__(self, message: str, status: int = 400, **details: object) -> None:
        super().__init__(message, **details)
        self.status = status


class HeadTooLarge(BadMessage):
    """
    A head exceeds L{HeadLimits}.

    @ivar what: which of them, C{"octets"} or C{"fields"}.
    @ivar limit: its value.
    """

    def __init__(self, message: str, what: str, limit: int) -> None:
        super().__init__(message, 431, limit=limit)
        self.what = what
        self.limit = limit


@frozen(kw_only=True)
class HeadLimits:
    """
    What a peer's head may take of us.

    @ivar octets: of the whole head, the empty line included.
    @ivar fields: how many.
    """

    octets: int = 32 * 1024
    fields: int = 100


DEFAULT_LIMITS = HeadLimits()


def first(fields: Fields, name: bytes) -> bytes | None:
    """
    @param name: in lower case.
    @return: the value of the first field of that name.
    """
    for known, value in fields:
        if known.lower() == name:
            return value
    return None


def _first_field(head: RequestHead | ResponseHead, name: bytes) -> bytes | None:
    """
    @param name: in lower case.
    @return: the value of the first field of that name.
    """
    for known, value in head.fields:          # as first() does; every request looks for a field or two
        if known.lower() == name:
            return value
    return None


@define
class RequestHead:
    """
    The head of a request.

    @ivar method: the method's token.
    @ivar target: the request target as received.
    @ivar fields: (name, value) pairs in order, names as received.
    @ivar version: (major, minor).
    @ivar framing: what the fields determine about the body and an upgrade, once they were read: a
        L{Framing<tunnelstack.wire.http1.framing.Framing>}.  Code that changes those fields makes a new head.
    @ivar passed_on: the same without the fields that concern one connection only, once it was made; C{None} before.
    @ivar prefix: what L{encode_request} writes before the value of the last field, if a head was written that differs in that
        value only; else C{b""}.  A copy of a head does not have it.
    """

    method: bytes
    target: bytes
    fields: Fields = field(factory=list)
    version: tuple[int, int] = HTTP_1_1
    framing: Any = field(default=None, eq=False, repr=False)
    passed_on: RequestHead | None = field(default=None, eq=False, repr=False, init=False)
    prefix: bytes = field(default=b"", eq=False, repr=False, init=False)

    field = _first_field


@define
class ResponseHead:
    """
    The head of a response (fields, version and framing as in L{RequestHead}).

    @ivar status: three digits.
    @ivar reason: the phrase, possibly empty.
    @ivar octets: what L{encode_response} made of it, once that is known to be of use again; C{None} before.
    @ivar closing_octets: the same with C{Connection: close}.
    """

    status: int
    reason: bytes
    fields: Fields = field(factory=list)
    version: tuple[int, int] = HTTP_1_1
    framing: Any = field(default=None, eq=False, repr=False)
    octets: bytes | None = field(default=None, eq=False, repr=False, init=False)
    closing_octets: bytes | None = field(default=None, eq=False, repr=False, init=False)

    field = _first_field


def values(fields: Fields, name: bytes) -> list[bytes]:
    """
    @param name: in lower case.
    @return: the values of all fields of that name, in order.
    """
    return [value for known, value in fields if known.lower() == name]


def find_end_untrusted(octets: bytes, searched: int = 0, limits: HeadLimits = DEFAULT_LIMITS) -> int:
    """
    Where the head that begins C{octets} ends.

    @param searched: how many octets were there at the last call, so that they are not searched again.
    @return: the offset after the empty line; C{-1} as long as it has not come.
    @raise BadMessage: too long, or nothing that could become a head.
    """
    end = octets.find(b"\r\n\r\n", searched - 3 if searched > 3 else 0, limits.octets) + 4
    if end >= 4:
        return end
    if len(octets) >= limits.octets:
        raise HeadTooLarge("the head is too long", "octets", limits.octets)
    if octets and not MESSAGE_START.match(octets) and octets != b"\r":
        raise BadMessage("this does not begin like an HTTP/1.1 message")
    if BARE_LINE_END.search(octets, searched - 1 if searched else 0):
        raise BadMessage("a line does not end in CR LF")
    return -1


def read_request_untrusted(octets: bytes, end: int, limits: HeadLimits = DEFAULT_LIMITS) -> RequestHead:
    """
    @param octets: begins with a head.
    @param end: what L{find_end_untrusted} found.
    @raise BadMessage: it is none.
    """
    line = REQUEST_LINE.match(octets, 0, end)
    if line is None:
        if OTHER_VERSION.match(octets, 0, end):
            raise BadMessage("the version is neither HTTP/1.0 nor HTTP/1.1", 505)
        if FRAGMENT.match(octets, 0, end):
            raise BadMessage("the request target has a fragment ('#...'), which is not for a server")
        raise BadMessage("the request line is malformed")
    method, target, minor = line.groups()
    return RequestHead(method, target, _fields(octets, line.end(), end, limits), HTTP_1_1 if minor == b"1" else HTTP_1_0)


def read_response_untrusted(octets: bytes, end: int, limits: HeadLimits = DEFAULT_LIMITS) -> ResponseHead:
    """
    @param octets: begins with a head.
    @param end: what L{find_end_untrusted} found.
    @raise BadMessage: it is none.
    """
    line = STATUS_LINE.match(octets, 0, end)
    if line is None:
        raise BadMessage("the status line is malformed", 502)
    minor, status, reason = line.groups()
    fields = _fields(octets, line.end(), end, limits)
    return ResponseHead(int(status), reason or b"", fields, HTTP_1_1 if minor == b"1" else HTTP_1_0)


def read_fields_untrusted(octets: bytes, limits: HeadLimits = DEFAULT_LIMITS) -> Fields:
    """
    @param octets: lines of fields, each with its CR LF, and the empty line.
    @raise BadMessage: they are none.
    """
    return _fields(b"\r\n" + octets, 0, len(octets) + 2, limits)


def _fields(octets: bytes, start: int, end: int, limits: HeadLimits) -> Fields:
    """
    @param start: where the CR LF is that ends the line before the first field.
    @param end: the offset after the empty line.
    """
    fields = FIELD.findall(octets, start, end)
    if octets.count(b"\r\n", start, end) != len(fields) + 2:     # a line that is no field
        raise BadMessage("a line of the head is not a header field")
    if len(fields) > limits.fields:
        raise HeadTooLarge("the head has too many fields", "fields", limits.fields)
    if octets.find(b" \r\n", start, end) >= 0 or octets.find(b"\t\r\n", start, end) >= 0:
        return [(name, value.rstrip(b"\t ")) for name, value in fields]
    return fields


def encode_request(head: RequestHead) -> bytes:
    """
    The octets of a head.

    @raise UsageError: a line break where none may be.
    """
    fields = head.fields
    if head.prefix:
        value = fields[-1][1]
        if LF in value or CR in value:
            raise UsageError(LINE_BREAK)
        return head.prefix + value + b"\r\n\r\n"
    octets = b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (head.method, head.target, b"\r\n".join(map(b": ".join, fields)))
    lines = len(fields) + 2
    if octets.count(b"\n") != lines or octets.count(b"\r") != lines or not fields:
        return _encode(b"%b %b HTTP/1.1\r\n" % (head.method, head.target), fields)
    return octets


def request_prefix(head: RequestHead) -> bytes:
    """
    @param head: with at least one field.
    @return: the C{prefix} of heads that differ from it in the value of the last field only.
    @raise UsageError: a line break where none may be.
    """
    return encode_request(head)[:-4 - len(head.fields[-1][1])]


def encode_response(head: ResponseHead) -> bytes:
    """
    The octets of a head.

    @raise UsageError: a line break where none may be.
    """
    fields = head.fields
    octets = b"HTTP/1.1 %d %b\r\n%b\r\n\r\n" % (head.status, head.reason, b"\r\n".join(map(b": ".join, fields)))
    lines = len(fields) + 2
    if octets.count(b"\n") != lines or octets.count(b"\r") != lines or not fields:
        return _encode(b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason), fields)
    return octets


def encode_fields(fields: Fields) -> bytes:
    """
    The octets of fields, each with its CR LF; no empty line.

    @raise UsageError: a line break where none may be.
    """
    return _encode(b"", fields)[:-2]


def _encode(line: bytes, fields: Fields) -> bytes:
    octets = b"%b%b\r\n\r\n" % (line, b"\r\n".join(map(b": ".join, fields))) if fields else line + b"\r\n"
    lines = len(fields) + (2 if line else 1)
    if octets.count(b"\n") != lines or octets.count(b"\r") != lines:
        raise UsageError(LINE_BREAK)
    return octets
