"""
What gRPC adds to HTTP/2: a prefix of five octets before each message, the status and its message in the trailers, and
deadlines::

    ======  ======  ===========  =======================================
    offset  octets  field        content
    ======  ======  ===========  =======================================
    0       1       compressed   0; 1 is a message that is compressed
    1       4       length       of the message, in network order
    5       length  message
    ======  ======  ===========  =======================================

Source: grpc C{doc/PROTOCOL-HTTP2.md}, C{doc/http-grpc-status-mapping.md}.
"""

from __future__ import annotations

import re
from binascii import Error as BinasciiError
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable
from enum import IntEnum

from attrs import frozen

from tunnelstack.errors import PeerError, UsageError

MESSAGE_LIMIT = 4 * 1024 * 1024
"""Octets of the longest message that is received, which is the usual limit of gRPC."""

PREFIX_OCTETS = 5
"""Octets before each message."""

CONTENT_TYPE = b"application/grpc"
"""The C{content-type} of requests and responses; others may follow it with a plus sign or a semicolon."""

STATUS_FIELD, MESSAGE_FIELD = b"grpc-status", b"grpc-message"

_LONGEST = (1 << 32) - 1
_BUFFERED = 64 * 1024
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_TO_ESCAPE = re.compile(rb"[^ -$&-~]")


class Status(IntEnum):
    """
    How a call ended.
    """

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_OF_HTTP = {
    400: Status.INTERNAL, 401: Status.UNAUTHENTICATED, 403: Status.PERMISSION_DENIED, 404: Status.UNIMPLEMENTED,
    429: Status.UNAVAILABLE, 502: Status.UNAVAILABLE, 503: Status.UNAVAILABLE, 504: Status.UNAVAILABLE,
}  # fmt: skip

_OF_RESET = {
    7: Status.UNAVAILABLE, 8: Status.CANCELLED, 11: Status.RESOURCE_EXHAUSTED, 12: Status.PERMISSION_DENIED,
}  # fmt: skip


class BadCall(PeerError):
    """
    The peer broke a rule of gRPC.

    @ivar status: with what the call ends.
    """

    def __init__(self, message: str, status: Status = Status.INTERNAL, **details: object) -> None:
        super().__init__(message, **details)
        self.status = status


@frozen
class CallResult:
    """
    @ivar message: for people; empty if there is none.  It is the peer's text.
    """

    status: Status
    message: str = ""


def encode_prefixed(message: bytes) -> bytes:
    """
    @return: the message after its prefix.
    @raise UsageError: it is longer than its length field.
    """
    if len(message) > _LONGEST:
        raise UsageError("a message is too long for its length field", octets=len(message))
    return b"\0" + len(message).to_bytes(4, "big") + message


class PrefixedMessageReader:
    """
    Octets, cut anywhere, to messages.

    @ivar limit: octets of the longest message.
    @ivar encoding: what the peer named as C{grpc-encoding}.  We have offered none but C{identity}.
    """

    __slots__ = ("_buffer", "_start", "encoding", "limit")

    def __init__(self, limit: int = MESSAGE_LIMIT, encoding: bytes = b"identity") -> None:
        self.limit = limit
        self.encoding = encoding
        self._buffer = bytearray()
        self._start = 0                 # where the next message begins

    @property
    def incomplete(self) -> bool:
        """
        Whether octets are here that are no message yet.
        """
        return self._start < len(self._buffer)

    def feed(self, octets: bytes) -> None:
        """
        Octets have arrived.  Ask for L{next_message} until there is none before feeding more, which bounds what is held.
        """
        self._buffer += octets

    def next_message(self) -> bytes | None:
        """
        @return: a message without its prefix; C{None} while its end is missing.
        @raise BadCall: it is compressed or too long.  This is found as soon as its prefix is here, and again at each call: the
            stream cannot be read any further.
        """
        start = self._start + PREFIX_OCTETS
        if len(self._buffer) < start:
            self._release()
            return None
        end = start + self._length(self._buffer[self._start], int.from_bytes(self._buffer[self._start + 1 : start], "big"))
        if len(self._buffer) < end:
            self._release()
            return None
        found = bytes(memoryview(self._buffer)[start:end])
        self._start = end
        if self._start >= _BUFFERED:
            self._release()
        return found

    def receive_eof(self) -> None:
        """
        @raise BadCall: the octets ended inside a message.
        """
        if self.incomplete:
            raise BadCall("a stream ends inside a message", octets=len(self._buffer) - self._start)

    def _release(self) -> None:
        """
        The octets of messages that were returned are held no longer.
        """
        del self._buffer[: self._start]
        self._start = 0

    def _length(self, flag: int, length: int) -> int:
        """
        @raise BadCall: see L{next_message}.
        """
        if flag == 1 and self.encoding not in (b"", b"identity"):
            raise BadCall("the compression of a message is not supported", Status.UNIMPLEMENTED)
        if flag:
            raise BadCall("a message is compressed, and no compression was agreed", flag=flag)
        if length > self.limit:
            raise BadCall("a message is too long", Status.RESOURCE_EXHAUSTED, octets=length, limit=self.limit)
        return length


def encode_percent(text: str) -> bytes:
    """
    @return: a text as C{grpc-message}: UTF-8, of which all but visible ASCII, the space and what is not C{%} is escaped.
    """
    return _TO_ESCAPE.sub(lambda found: b"%%%02X" % found.group()[0], text.encode("utf-8", "replace"))


def decode_percent_untrusted(value: bytes) -> str:
    """
    @return: the text of a C{grpc-message}.  Escapes that are none remain, and what is not UTF-8 is replaced.
    """
    return _ESCAPED.sub(lambda found: bytes((int(found.group(1), 16),)), value).decode("utf-8", "replace")


def encode_result(result: CallResult) -> list[tuple[bytes, bytes]]:
    """
    @return: the fields of the trailers.
    """
    fields = [(STATUS_FIELD, b"%d" % result.status)]
    if result.message:
        fields.append((MESSAGE_FIELD, encode_percent(result.message)))
    return fields


def read_result_untrusted(fields: Iterable[tuple[bytes, bytes]], http_status: int = 200) -> CallResult:
    """
    @param fields: the trailers, or the only HEADERS of a response; C{()} if a response ended without trailers.
    @param http_status: that of the response, which counts if there is no C{grpc-status}.
    """
    found = dict(reversed([(name, value) for name, value in fields]))
    number, text = found.get(STATUS_FIELD), decode_percent_untrusted(found.get(MESSAGE_FIELD, b""))
    if number is None:
        return CallResult(status_of_http(http_status), text)
    known = number.isdigit() and len(number) <= 2 and int(number) <= max(Status)
    return CallResult(Status(int(number)) if known else Status.UNKNOWN, text)


def status_of_http(http_status: int) -> Status:
    """
    @return: what a response without C{grpc-status} stands for.
    """
    return _OF_HTTP.get(http_status, Status.UNKNOWN)


def status_of_reset(code: int) -> Status:
    """
    @param code: that of RST_STREAM.
    @return: with what a call ended that was reset before its trailers came.
    """
    return _OF_RESET.get(code, Status.INTERNAL)


def is_content_type_untrusted(value: bytes) -> bool:
    """
    @return: whether C{value} is L{CONTENT_TYPE}, or that with a format or parameters after it.
    """
    lower = value.lower()
    return lower.startswith(CONTENT_TYPE) and lower[len(CONTENT_TYPE) :][:1] in (b"", b"+", b";")


def read_timeout_untrusted(value: bytes) -> float:
    """
    @return: the seconds of a C{grpc-timeout}.
    @raise BadCall: it is none.
    """
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise BadCall("grpc-timeout is not one to eight digits and a unit")
    return int(found[1]) * _UNITS[found[2]]


def encode_binary(values: Iterable[bytes]) -> bytes:
    """
    @return: the value of a field whose name ends with C{-bin}.
    """
    return b",".join(b2a_base64(value, newline=False).rstrip(b"=") for value in values)


def decode_binary_untrusted(value: bytes) -> list[bytes]:
    """
    @return: the values of such a field; base64 with and without padding is accepted.
    @raise BadCall: it is no base64.
    """
    try:
        return [a2b_base64(_padded(each.strip(b" ")), strict_mode=True) for each in value.split(b",")]
    except BinasciiError as error:
        raise BadCall("binary metadata is not base64") from error


def _padded(coded: bytes) -> bytes:
    return coded if coded.endswith(b"=") else coded + b"=" * (-len(coded) % 4)
