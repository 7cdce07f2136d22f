"""
The frames of Jetty over WebSocket as JSON: one object in one text message, whose member C{type} selects the record.

What is unknown is ignored: types, members, and frames that need a capability which was not agreed.  A member that is wrong is
reported with the identifier of its exchange, so that this exchange alone fails.

Source: as L{tunnelstack.wire.records.jetty}.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping
from typing import cast

from attrs import frozen

from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.jsonline import decode, encode
from tunnelstack.wire.records.jetty import (
    CANCEL,
    DRAIN,
    FLOW,
    HALF_CLOSE,
    MESSAGE_LIMIT,
    MULTIPLE_VALUES,
    STOCK,
    STREAM_REQUEST,
    UPGRADE,
    Cancel,
    DrainNotice,
    Flow,
    Frame,
    GRPCHint,
    Headers,
    HTTPRequest,
    HTTPResponse,
    Register,
    Registered,
    RegistrationError,
    RequestChunk,
    RequestEnd,
    ResponseChunk,
    ResponseEnd,
    ResponseStart,
    TCPClose,
    TCPConnect,
    TCPData,
    TCPEnd,
    UDPData,
)

LONGEST_IDENTIFIER = 128
"""Characters of an identifier."""

LONGEST_TEXT = 64 * 1024
"""Characters of any other text, such as a path."""

MOST_HEADERS, HEADER_OCTETS = 200, 64 * 1024
"""Headers of one head, and octets of all their names and values."""

MOST_COMMAS = 128 * 1024
"""Commas in one message.  They bound how many values it has, each of which costs far more memory than its octets."""

_NAME = re.compile("[!#$%&'*+\\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")
_METHOD = re.compile("[!#$%&'*+\\-.^_`|~0-9A-Z]{1,64}")
_PATH = re.compile("/[!-\"$->@-~]*")
_QUERY = re.compile("[!-\"$-~]*")
_NUMBER = re.compile("-?[0-9]{1,18}")
_LARGEST_MILLISECONDS = (1 << 31) - 1

Capabilities = frozenset[str]


class MessageTooLong(PeerError):
    """
    A message exceeds L{MESSAGE_LIMIT} or L{MOST_COMMAS}.
    """


class BadFrame(PeerError):
    """
    A member of a frame is missing or wrong.

    @ivar type: the type of the frame.
    @ivar member: the name of the member.
    @ivar identifier: of the request or the connection; empty if the frame has none.
    """

    def __init__(self, message: str, type: str, member: str, identifier: str) -> None:
        super().__init__(message, type=type, member=member)
        self.type = type
        self.member = member
        self.identifier = identifier


@frozen
class _Kind:
    """
    How the values of a member are read and written.  Reading raises C{ValueError}.
    """

    read: Callable[[object, Capabilities], object]
    write: Callable[[object, Capabilities], object]


@frozen
class _Member:
    """
    @ivar required: a frame without it is wrong.
    @ivar always: it is written even if it has its default value.
    @ivar optional: C{None} alone is its default value.
    @ivar attribute: its name in the record, if that is another.
    @ivar capability: without which it is neither read nor written.
    """

    name: str
    kind: _Kind
    required: bool = False
    always: bool = True
    optional: bool = False
    attribute: str = ""
    capability: str = ""

    @property
    def field(self) -> str:
        """
        The name of the attribute.
        """
        return self.attribute or self.name


def _same(value: object, capabilities: Capabilities) -> object:
    return value


def _text_of(longest: int, shortest: int = 0) -> Callable[[object, Capabilities], object]:
    def read(value: object, capabilities: Capabilities) -> object:
        if not isinstance(value, str) or not shortest <= len(value) <= longest:
            raise ValueError("not a text, or one of a length that is not allowed")
        return value

    return read


def _matching(pattern: re.Pattern[str], *, upper: bool = False) -> Callable[[object, Capabilities], object]:
    def read(value: object, capabilities: Capabilities) -> object:
        if not isinstance(value, str) or len(value) > LONGEST_TEXT:
            raise ValueError("not a text, or too long")
        value = value.upper() if upper and value.isascii() else value
        if not pattern.fullmatch(value):
            raise ValueError("a character is not allowed")
        return value

    return read


def _read_path(value: object, capabilities: Capabilities) -> object:
    return _matching(_PATH)("/" if value == "" else value, capabilities)


def _number_of(lowest: int, highest: int) -> Callable[[object, Capabilities], object]:
    def read(value: object, capabilities: Capabilities) -> object:
        if isinstance(value, str) and _NUMBER.fullmatch(value) and value.isascii():
            value = int(value)
        if type(value) is not int or not lowest <= value <= highest:
            raise ValueError("not a number, or out of range")
        return value

    return read


def _read_flag(value: object, capabilities: Capabilities) -> object:
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def _read_base64(value: object, capabilities: Capabilities) -> object:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return a2b_base64(value, strict_mode=True)      # its errors are ValueErrors


def _write_base64(value: object, capabilities: Capabilities) -> object:
    return b2a_base64(cast(bytes, value), newline=False).decode("ascii")


def _read_texts(value: object, capabilities: Capabilities) -> object:
    if not isinstance(value, list) or len(value) > MOST_HEADERS:
        raise ValueError("not a list, or too long")
    return tuple(cast(str, _text_of(LONGEST_IDENTIFIER)(each, capabilities)) for each in value)


def _write_texts(value: object, capabilities: Capabilities) -> object:
    return list(cast("tuple[str, ...]", value))


def _read_limits(value: object, capabilities: Capabilities) -> object:
    if not isinstance(value, dict) or len(value) > MOST_HEADERS:
        raise ValueError("not an object, or too many limits")
    return {name: number for name, number in value.items() if type(number) is int and 0 <= number < 1 << 63}


def _write_limits(value: object, capabilities: Capabilities) -> object:
    return dict(cast("Mapping[str, int]", value))


def _read_hint(value: object, capabilities: Capabilities) -> object:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    read = _text_of(LONGEST_TEXT)
    ticket = value.get("session_ticket")
    url = cast(str, _text_of(LONGEST_TEXT, 1)(value.get("url"), capabilities))
    return GRPCHint(url=url, session_ticket=cast(str, read("" if ticket is None else ticket, capabilities)))


def _write_hint(value: object, capabilities: Capabilities) -> object:
    hint = cast(GRPCHint, value)
    return {"url": hint.url, **({"session_ticket": hint.session_ticket} if hint.session_ticket else {})}


def _read_headers(value: object, capabilities: Capabilities) -> object:
    """
    PHP writes an empty object as an empty array.
    """
    if value == []:
        return ()
    if not isinstance(value, dict) or len(value) > MOST_HEADERS:
        raise ValueError("not an object, or too many headers")
    found: list[tuple[bytes, bytes]] = []
    for name, values in value.items():
        several = isinstance(values, list) and MULTIPLE_VALUES in capabilities
        found += (_header(name, each) for each in (values if several else [values])[: MOST_HEADERS + 1])
    if len(found) > MOST_HEADERS or sum(len(name) + len(each) for name, each in found) > HEADER_OCTETS:
        raise ValueError("too many headers, or too long")
    return tuple(found)


def _header(name: str, value: object) -> tuple[bytes, bytes]:
    """
    The octets of values are characters of Latin-1.  A value with others was UTF-8 before it became JSON.
    """
    if not isinstance(value, str) or len(value) > HEADER_OCTETS:
        raise ValueError("a header is not a text, or too long")
    try:
        octets = value.encode("latin-1")
    except UnicodeEncodeError:
        octets = value.encode("utf-8")
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(octets):
        raise ValueError("a header has a character that is not allowed")
    return name.encode("ascii"), octets


def _values_of(headers: Headers) -> dict[str, list[str]]:
    """
    @return: the values by name, in the spelling that was first.
    """
    spelling: dict[bytes, str] = {}
    found: dict[str, list[str]] = {}
    for name, value in headers:
        spelled = spelling.setdefault(name.lower(), name.decode("ascii"))
        found.setdefault(spelled, []).append(value.decode("latin-1"))
    return found


def _write_headers(value: object, capabilities: Capabilities) -> object:
    """
    @return: one text for each name, or a list where the peer accepts that.  Where it does not, only the last C{Set-Cookie}
        remains, as with the stock agent, because such values cannot be joined.
    """
    found = _values_of(cast(Headers, value))
    if MULTIPLE_VALUES in capabilities:
        return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
    return {name: _joined(name.lower(), values) for name, values in found.items()}


def _joined(name: str, values: list[str]) -> str:
    if name == "set-cookie":
        return values[-1]
    return ("; " if name == "cookie" else ", ").join(values)


_IDENTIFIER = _Kind(_text_of(LONGEST_IDENTIFIER, 1), _same)
_TEXT = _Kind(_text_of(LONGEST_TEXT), _same)
_SECRET = _Kind(_text_of(LONGEST_TEXT, 1), _same)
_OCTETS = _Kind(_read_base64, _write_base64)
_TEXTS = _Kind(_read_texts, _write_texts)
_HEADERS = _Kind(_read_headers, _write_headers)
_FLAG = _Kind(_read_flag, _same)
_STATUS = _Kind(_number_of(100, 599), _same)
_PORT = _Kind(_number_of(0, 65_535), _same)
_MILLISECONDS = _Kind(_number_of(0, _LARGEST_MILLISECONDS), _same)

_CAPABILITIES = _Member("capabilities", _TEXTS, always=False, optional=True)
_REQUEST_ID = _Member("request_id", _IDENTIFIER, required=True)
_CONNECTION_ID = _Member("connection_id", _IDENTIFIER, required=True)
_DATA = _Member("data_b64", _OCTETS, attribute="data")
_BODY = _Member("body_b64", _OCTETS, attribute="body")
_HEADERS_MEMBER = _Member("headers", _HEADERS)
_STATUS_MEMBER = _Member("status", _STATUS, required=True)
_TRACE = _Member("trace_parent", _TEXT, always=False)
_REASON = _Member("reason", _TEXT)

_FRAMES: dict[str, tuple[type[Frame], tuple[_Member, ...]]] = {
    "register": (Register, (
        _Member("tunnel_id", _IDENTIFIER, required=True), _Member("agent_token", _SECRET, required=True),
        _Member("protocol_version", _MILLISECONDS, always=False), _Member("agent_version", _TEXT, always=False),
        _CAPABILITIES, _Member("transports", _TEXTS, always=False), _Member("instance_id", _TEXT, always=False),
    )),
    "registered": (Registered, (
        _CAPABILITIES, _Member("session_id", _TEXT, always=False),
        _Member("edge_id", _TEXT, always=False), _Member("subdomain", _TEXT, always=False),
        _Member("public_url", _TEXT, always=False), _Member("limits", _Kind(_read_limits, _write_limits), always=False),
        _Member("grpc", _Kind(_read_hint, _write_hint), always=False),
    )),
    "error": (RegistrationError, (_Member("message", _TEXT), _Member("code", _TEXT, always=False))),
    "http_request": (HTTPRequest, (
        _REQUEST_ID, _Member("method", _Kind(_matching(_METHOD, upper=True), _same), required=True),
        _Member("path", _Kind(_read_path, _same)), _Member("query", _Kind(_matching(_QUERY), _same)), _HEADERS_MEMBER, _BODY,
        _Member("streamed", _FLAG, always=False, capability=STREAM_REQUEST),
        _Member("upgrade", _TEXT, always=False, capability=UPGRADE), _Member("upstream_host", _TEXT, always=False),
        _Member("upstream_port", _PORT, always=False), _TRACE,
    )),
    "http_response": (HTTPResponse, (_REQUEST_ID, _STATUS_MEMBER, _HEADERS_MEMBER, _BODY, _TRACE)),
    "http_response_start": (ResponseStart, (_REQUEST_ID, _STATUS_MEMBER, _HEADERS_MEMBER)),
    "http_response_chunk": (ResponseChunk, (_REQUEST_ID, _DATA)),
    "http_response_end": (ResponseEnd, (_REQUEST_ID,)),
    "http_request_chunk": (RequestChunk, (_REQUEST_ID, _DATA)),
    "http_request_end": (RequestEnd, (_REQUEST_ID,)),
    "http_cancel": (Cancel, (_REQUEST_ID, _REASON)),
    "tcp_connect": (TCPConnect, (_CONNECTION_ID,)),
    "tcp_data": (TCPData, (_CONNECTION_ID, _DATA)),
    "tcp_close": (TCPClose, (_CONNECTION_ID, _Member("reason", _TEXT, always=False))),
    "tcp_end": (TCPEnd, (_CONNECTION_ID,)),
    "udp_data": (UDPData, (_CONNECTION_ID, _Member("remote_addr", _TEXT), _DATA)),
    "drain": (DrainNotice, (
        _Member("grace_ms", _MILLISECONDS), _REASON, _Member("reconnect", _FLAG),
    )),
    "flow": (Flow, (_Member("id", _IDENTIFIER, required=True, attribute="identifier"), _Member("paused", _FLAG))),
}  # fmt: skip

_TYPES = {record: name for name, (record, _) in _FRAMES.items()}

_NEEDS: dict[str, Capabilities] = {
    "http_request_chunk": frozenset({STREAM_REQUEST, UPGRADE}), "http_request_end": frozenset({STREAM_REQUEST, UPGRADE}),
    "http_cancel": frozenset({CANCEL}), "drain": frozenset({DRAIN}), "flow": frozenset({FLOW}),
    "tcp_end": frozenset({HALF_CLOSE}),
}  # fmt: skip
"""One of these capabilities must be agreed."""

_LENIENT = {"registered", "error"}
"""What is wrong in these is ignored, because their type is all that counts."""


def encode_frame(frame: Frame, capabilities: Capabilities = STOCK) -> bytes:
    """
    @param capabilities: those that were agreed with the peer.
    @raise UsageError: the frame, or a member that it has, needs a capability that was not agreed.
    """
    name = _TYPES[type(frame)]
    if not _agreed(name, capabilities):
        raise UsageError("the peer did not announce that it accepts this frame", type=name)
    members: dict[str, object] = {"type": name}
    for each in _FRAMES[name][1]:
        value = getattr(frame, each.field)
        if each.always or value or (each.optional and value is not None):
            if each.capability and each.capability not in capabilities:
                raise UsageError("the peer did not announce that it accepts this member", type=name, member=each.name)
            members[each.name] = each.kind.write(value, capabilities)
    return encode(members)[:-1]


def _agreed(name: str, capabilities: Capabilities) -> bool:
    return name not in _NEEDS or bool(_NEEDS[name] & capabilities)


def decode_frame_untrusted(message: bytes, capabilities: Capabilities = STOCK) -> Frame | None:
    """
    @param message: a text message.
    @param capabilities: those that were agreed with the peer.
    @return: C{None} for what is ignored: JSON that is no object, an unknown type, and a frame that needs another capability.
    @raise MessageTooLong: nothing of it was read.
    @raise tunnelstack.wire.jsonline.InvalidJSON: it is not JSON.
    @raise BadFrame: a member is missing or wrong.
    """
    if len(message) > MESSAGE_LIMIT or message.count(b",") > MOST_COMMAS:
        raise MessageTooLong("a message is too long", octets=len(message), limit=MESSAGE_LIMIT)
    members: object = decode(message)
    if not isinstance(members, dict):
        return None
    name = members.get("type")
    if not isinstance(name, str) or name not in _FRAMES or not _agreed(name, capabilities):
        return None
    return _frame(name, members, capabilities)


def _frame(name: str, members: Mapping[str, object], capabilities: Capabilities) -> Frame:
    record, known = _FRAMES[name]
    values: dict[str, object] = {}
    for each in known:
        value = members.get(each.name)
        if (value is None and not each.required) or (each.capability and each.capability not in capabilities):
            continue
        try:
            values[each.field] = each.kind.read(value, capabilities)
        except ValueError as error:
            if name not in _LENIENT:
                raise BadFrame(f"invalid {each.name}", name, each.name, _identifier(members)) from error
    made: Callable[..., Frame] = record
    return made(**values)


def _identifier(members: Mapping[str, object]) -> str:
    """
    @return: the identifier of a frame, if it has a valid one.
    """
    for name in ("request_id", "connection_id"):
        found = members.get(name)
        if isinstance(found, str) and 0 < len(found) <= LONGEST_IDENTIFIER:
            return found
    return ""
