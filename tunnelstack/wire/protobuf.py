"""
Messages of Protocol Buffers (proto3) from and to records of C{attrs}, as far as tunnels need them: C{uint32}, C{uint64},
C{bool}, enumerations, strings, octets, messages within messages, C{oneof} of messages, and repeated strings and messages.

Each attribute of a record is made by the function of its type, with the number of its field::

    @frozen(kw_only=True)
    class Ping:
        nonce: int = uint64(1)

Encoding writes fields in ascending order and omits default values.  Decoding accepts any order, skips unknown fields, and reads
each length before it takes what has that length.  Groups are rejected.

Source: Protocol Buffers documentation, "Encoding".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

from attrs import Attribute, evolve, fields, frozen
from attrs import field as attribute

from tunnelstack.errors import PeerError, UsageError

MOST_FIELDS = 4096
"""Fields of one message and of all messages in it, at most.  Four MiB could hold two million, each with a record of its own."""

DEPTH = 32
"""Messages within one another, at most."""

LONGEST_VARINT = 10
"""Octets of the longest number."""

_VARINT, _FIXED_64, _LENGTH, _FIXED_32 = 0, 1, 2, 5
_FIXED = {_FIXED_64: 8, _FIXED_32: 4}
_LARGEST_FIELD = (1 << 29) - 1
_UINT32, _UINT64 = (1 << 32) - 1, (1 << 64) - 1
_UINT32_TYPE, _UINT64_TYPE, _BOOL_TYPE, _STRING_TYPE, _BYTES_TYPE, _MESSAGE_TYPE = range(6)
_KEY = "protobuf"

M = TypeVar("M")


class BadProtobuf(PeerError):
    """
    Octets are not a message, or exceed a bound.
    """


@frozen
class _Field:
    """
    One number of a message.

    @ivar kind: one of the constants above.
    @ivar message: the record of a message.
    @ivar repeated: whether the attribute is a tuple.
    @ivar optional: whether the default value is sent, because C{None} is what is absent.
    """

    number: int
    kind: int
    message: type[object] | None = None
    repeated: bool = False
    optional: bool = False
    name: str = ""


def uint32(number: int) -> int:
    """
    A C{uint32}, or the number of an enumeration's value, which is not checked.
    """
    made: int = attribute(default=0, metadata={_KEY: [_Field(number, _UINT32_TYPE)]})
    return made


def uint64(number: int) -> int:
    """
    A C{uint64}.
    """
    made: int = attribute(default=0, metadata={_KEY: [_Field(number, _UINT64_TYPE)]})
    return made


def optional_uint64(number: int) -> int | None:
    """
    An C{optional uint64}: C{None} is absent, and 0 is sent.
    """
    return cast("int | None", attribute(default=None, metadata={_KEY: [_Field(number, _UINT64_TYPE, optional=True)]}))


def boolean(number: int) -> bool:
    """
    A C{bool}.
    """
    made: bool = attribute(default=False, metadata={_KEY: [_Field(number, _BOOL_TYPE)]})
    return made


def string(number: int) -> str:
    """
    A C{string}.
    """
    made: str = attribute(default="", metadata={_KEY: [_Field(number, _STRING_TYPE)]})
    return made


def octets(number: int) -> bytes:
    """
    A C{bytes}.
    """
    made: bytes = attribute(default=b"", metadata={_KEY: [_Field(number, _BYTES_TYPE)]})
    return made


def strings(number: int) -> tuple[str, ...]:
    """
    A C{repeated string}.
    """
    made = attribute(default=(), metadata={_KEY: [_Field(number, _STRING_TYPE, repeated=True)]})
    return cast("tuple[str, ...]", made)


def message(number: int, record: type[M]) -> M | None:
    """
    A message; C{None} is absent.
    """
    made = attribute(default=None, metadata={_KEY: [_Field(number, _MESSAGE_TYPE, record)]})
    return cast("M | None", made)


def messages(number: int, record: type[M]) -> tuple[M, ...]:
    """
    A repeated message.
    """
    made = attribute(default=(), metadata={_KEY: [_Field(number, _MESSAGE_TYPE, record, repeated=True)]})
    return cast("tuple[M, ...]", made)


def one_of(choices: Mapping[int, type[M]]) -> M | None:
    """
    A C{oneof} of messages, each of another record; C{None} is none of them.
    """
    made = [_Field(number, _MESSAGE_TYPE, record) for number, record in choices.items()]
    return cast("M | None", attribute(default=None, metadata={_KEY: made}))


_SCHEMAS: dict[type[object], dict[int, _Field]] = {}


def _schema(record: type[object]) -> dict[int, _Field]:
    """
    @return: the fields of a record by their numbers, in ascending order.
    """
    known = _SCHEMAS.get(record)
    if known is None:
        attributes = cast("tuple[Attribute[object], ...]", fields(record))  # type: ignore[arg-type]
        found = [evolve(each, name=one.name) for one in attributes for each in one.metadata[_KEY]]
        known = _SCHEMAS[record] = {each.number: each for each in sorted(found, key=lambda each: each.number)}
    return known


def encode_varint(number: int) -> bytes:
    """
    @param number: 0 to 2**64 - 1.
    """
    if number < 0x80:
        return bytes((number,))
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def encode_message(record: object) -> bytes:
    """
    @raise UsageError: an attribute does not fit its field.
    """
    pieces: list[bytes] = []
    for each in _schema(type(record)).values():
        value = getattr(record, each.name)
        if each.repeated:
            for one in value:
                _encode_field(pieces, each, one)
        elif value is not None and (value or each.optional or each.kind == _MESSAGE_TYPE):
            if each.kind != _MESSAGE_TYPE or type(value) is each.message:
                _encode_field(pieces, each, value)
    return b"".join(pieces)


def _encode_field(pieces: list[bytes], each: _Field, value: object) -> None:
    if each.kind <= _BOOL_TYPE:
        pieces.append(encode_varint(each.number << 3 | _VARINT))
        pieces.append(encode_varint(_fitting(each, cast(int, value))))
        return
    encoded = _ENCODERS[each.kind](value)
    pieces.append(encode_varint(each.number << 3 | _LENGTH))
    pieces.append(encode_varint(len(encoded)))
    pieces.append(encoded)


def _fitting(each: _Field, number: int) -> int:
    """
    @raise UsageError: the number is out of range.
    """
    if not 0 <= number <= (_UINT64 if each.kind == _UINT64_TYPE else _UINT32):
        raise UsageError("a number does not fit its field", field=each.name, number=number)
    return int(number)


def _encode_text(value: object) -> bytes:
    try:
        return cast(str, value).encode()
    except UnicodeEncodeError as error:
        raise UsageError("a text cannot be encoded as UTF-8") from error


def _encode_octets(value: object) -> bytes:
    return bytes(cast(bytes, value))


_ENCODERS: dict[int, Callable[[object], bytes]] = {
    _STRING_TYPE: _encode_text, _BYTES_TYPE: _encode_octets, _MESSAGE_TYPE: encode_message,
}  # fmt: skip


def decode_message_untrusted(record: type[M], encoded: bytes, *, most_fields: int = MOST_FIELDS) -> M:
    """
    @param most_fields: see L{MOST_FIELDS}.
    @raise BadProtobuf: the octets are no message of this kind: a length that exceeds them, a group, a number that is too long,
        a string that is not UTF-8, or more than a bound allows.
    """
    return _Decoder(most_fields).decode(record, encoded)


class _Decoder:
    """
    Decodes one message and all in it.
    """

    __slots__ = ("_depth", "_left", "_most")

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._depth = 0

    def decode(self, record: type[M], encoded: bytes) -> M:
        """
        Messages of one field that is not repeated are merged, as the documentation requires: this is the same as decoding their
        octets one after the other.
        """
        values: dict[str, object] = {}
        parts: dict[str, tuple[_Field, list[bytes]]] = {}
        lists: dict[str, list[object]] = {}
        known = _schema(record)
        position, end = 0, len(encoded)
        while position < end:
            number, wire_type, position = self._key(encoded, position)
            each = known.get(number)
            expected = _VARINT if each is not None and each.kind <= _BOOL_TYPE else _LENGTH
            if each is None or wire_type != expected:
                position = _skip(encoded, position, wire_type)
            elif expected == _VARINT:
                value, position = _varint(encoded, position)
                values[each.name] = _NUMBERS[each.kind](value)
            else:
                content, position = _content(encoded, position)
                if each.repeated:
                    lists.setdefault(each.name, []).append(self._value(each, content))
                elif each.kind == _MESSAGE_TYPE:
                    values[each.name] = self._value(each, content)
                    before = parts.get(each.name)
                    parts[each.name] = (each, [*before[1], content]) if before and before[0] is each else (each, [content])
                else:
                    values[each.name] = self._value(each, content)
        values.update((name, tuple(found)) for name, found in lists.items())
        values.update((name, self._value(each, b"".join(found))) for name, (each, found) in parts.items() if len(found) > 1)
        return record(**values)

    def _key(self, encoded: bytes, position: int) -> tuple[int, int, int]:
        """
        @return: the number of a field, its wire type, and where its value begins.
        """
        self._left -= 1
        if self._left < 0:
            raise BadProtobuf("a message has too many fields", limit=self._most)
        key, position = _varint(encoded, position)
        if not 0 < key >> 3 <= _LARGEST_FIELD:
            raise BadProtobuf("the number of a field is out of range", number=key >> 3)
        return key >> 3, key & 7, position

    def _value(self, each: _Field, content: bytes) -> object:
        if each.kind == _BYTES_TYPE:
            return content
        if each.message is not None:
            return self._inner(each.message, content)
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise BadProtobuf("a string is not UTF-8", field=each.name) from error

    def _inner(self, record: type[object], content: bytes) -> object:
        if self._depth >= DEPTH:
            raise BadProtobuf("messages are nested too deeply", limit=DEPTH)
        self._depth += 1
        try:
            return self.decode(record, content)
        finally:
            self._depth -= 1


def _uint32(number: int) -> int:
    return number & _UINT32


_NUMBERS: dict[int, Callable[[int], int]] = {_UINT32_TYPE: _uint32, _UINT64_TYPE: int, _BOOL_TYPE: bool}


def _varint(encoded: bytes, position: int) -> tuple[int, int]:
    """
    @return: a number, of which 64 bits are kept, and where what follows it begins.
    """
    number = 0
    for place, octet in enumerate(encoded[position : position + LONGEST_VARINT]):
        number |= (octet & 0x7F) << 7 * place
        if octet < 0x80:
            return number & _UINT64, position + place + 1
    if len(encoded) - position >= LONGEST_VARINT:
        raise BadProtobuf("a number has too many octets", limit=LONGEST_VARINT)
    raise BadProtobuf("a message ends inside a number")


def _content(encoded: bytes, position: int) -> tuple[bytes, int]:
    """
    @return: what has its length before it, and where what follows it begins.
    """
    length, position = _varint(encoded, position)
    if length > len(encoded) - position:
        raise BadProtobuf("a field is longer than its message", octets=length, left=len(encoded) - position)
    return encoded[position : position + length], position + length


def _skip(encoded: bytes, position: int, wire_type: int) -> int:
    """
    @return: where the value of an unknown field ends.
    """
    if wire_type == _VARINT:
        return _varint(encoded, position)[1]
    if wire_type == _LENGTH:
        length, position = _varint(encoded, position)
    elif wire_type in _FIXED:
        length = _FIXED[wire_type]
    else:
        raise BadProtobuf("a field has a wire type that is not supported", wire_type=wire_type)
    if length > len(encoded) - position:
        raise BadProtobuf("a field is longer than its message", octets=length, left=len(encoded) - position)
    return position + length
