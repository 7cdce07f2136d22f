"""
Bent octets for all that an agentserver peer sends: heads, documents and terminal messages.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from tests.wire import vectors_agentserver as vectors
from tunnelstack.errors import PeerError
from tunnelstack.wire.negotiation.typed_head import METADATA, TypedHeadResponder, encode_typed_head
from tunnelstack.wire.records.agentserver import (
    METADATA_LIMIT,
    NAMES,
    decode_document_untrusted,
    decode_request_metadata_untrusted,
    decode_response_metadata_untrusted,
    encode_document,
    encode_request_metadata,
    encode_response_metadata,
)
from tunnelstack.wire.records.agentserver_terminal import (
    TypedInputReader,
    WindowSize,
    encode_resize,
    shown_octets,
)

SEEDS = [
    vectors.GET_HEAD,
    vectors.OK_HEAD,
    encode_typed_head(1, vectors.POST) + b'{"a":1}',
    encode_typed_head(1, vectors.HELLO),
    vectors.CONTROL_HEAD + vectors.HEARTBEAT,
    vectors.TERMINAL_HEAD + vectors.TYPED + vectors.RESIZED,
    vectors.RESIZED + vectors.TYPED,
    vectors.LARGEST_PREFIX,
    vectors.TOO_LARGE_PREFIX,
    vectors.GET,
    vectors.OK,
    vectors.HEARTBEAT,
    b'{"hostname":"h","memory_total":1,"capabilities":{"x":[1]},"cpu_info":null}',
]


def target(data: bytes) -> Hashable:
    """
    @return: what each reader made of it.
    """
    whole = head(data, len(data) or 1)
    if head(data, 7) != whole or head(data, 1) != whole:
        raise AssertionError("it matters where the octets are cut")
    return (type(whole).__name__, *(read(data) for read in READERS), terminal(data))


def head(data: bytes, size: int) -> object:
    """
    The head of a stream, in pieces.

    @return: its name, its metadata and what is left, or the class of the error.
    """
    responder, agreed, rest = TypedHeadResponder(NAMES, limit=METADATA_LIMIT), None, b""
    try:
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            if agreed is not None:
                rest += piece
                continue
            for event in responder.receive_data(piece):
                agreed, rest = event, event.leftover
    except PeerError as error:
        return error.__class__
    return None if agreed is None else (agreed.name, agreed.parameters[METADATA], rest)


def again(decode: Callable[[bytes], object], encode: Callable[..., bytes]) -> Callable[[bytes], str]:
    """
    @return: reads, and checks that what was read is the same when it is written and read again.
    """

    def read(data: bytes) -> str:
        try:
            found = decode(data)
        except PeerError as error:
            return error.__class__.__name__
        if decode(encode(found)) != found:
            raise AssertionError("what was read cannot be written")
        return found.__class__.__name__

    return read


READERS = [
    again(decode_request_metadata_untrusted, encode_request_metadata),
    again(decode_response_metadata_untrusted, encode_response_metadata),
    again(decode_document_untrusted, encode_document),
]


def terminal(data: bytes) -> int:
    """
    What is typed, in one piece and octet by octet.

    @return: how many sizes of a window there were.
    """
    whole, reader = TypedInputReader().receive_data(data), TypedInputReader()
    pieces = [found for octet in data for found in reader.receive_data(bytes((octet,)))]
    for found in (whole, pieces):
        sizes = [each for each in found if isinstance(each, WindowSize)]
        typed = sum(len(each) for each in found if isinstance(each, bytes))
        if typed > len(data) or any(TypedInputReader().receive_data(encode_resize(size)) != [size] for size in sizes):
            raise AssertionError("more was typed than arrived, or a size cannot be written")
    shown_octets(data)
    return sum(isinstance(each, WindowSize) for each in whole)
