"""
Bent octets for what a Jetty peer sends over gRPC: messages with their prefixes, trailers, deadlines and binary metadata.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress

from tests.wire.vectors_jetty import LANE_REQUEST, LANE_RESPONSE, VECTORS
from tunnelstack.errors import PeerError
from tunnelstack.wire.grpc import (
    PrefixedMessageReader,
    decode_binary_untrusted,
    decode_percent_untrusted,
    encode_binary,
    encode_percent,
    read_result_untrusted,
    read_timeout_untrusted,
)
from tunnelstack.wire.http1.head import DEFAULT_LIMITS, encode_request, encode_response
from tunnelstack.wire.protobuf import decode_message_untrusted, encode_message
from tunnelstack.wire.records.jetty_chunks import (
    BadChunk,
    MessageChunks,
    read_request_untrusted,
    read_response_untrusted,
    read_trailers_untrusted,
    request_record,
)
from tunnelstack.wire.records.jetty_grpc import (
    HTTPChunk,
    RawChunk,
    RegisterRequest,
    RegisterResponse,
)

KINDS: tuple[type[object], ...] = (RegisterRequest, RegisterResponse, HTTPChunk, RawChunk)

SEEDS = [
    *(bytes.fromhex(text) for _, text in VECTORS),
    bytes.fromhex(LANE_REQUEST + LANE_RESPONSE),
    b"\1\0\0\0\0", b"\0\xff\xff\xff\xff", b"16", b"%C3%A9%25%zz", b"20S", b"AP8,AP8=",
]  # fmt: skip


def target(data: bytes) -> Hashable:
    """
    @return: what each reader made of it.
    """
    whole = prefixed(data, len(data) or 1)
    for size in (1, 7):
        assert prefixed(data, size) == whole, size
    found = tuple(message(kind, each) for each in (*whole[0][:8], data[5:]) for kind in KINDS)
    return len(whole[0]), whole[1], found, texts(data[:4096])


def prefixed(data: bytes, size: int) -> tuple[list[bytes], str]:
    """
    The messages of octets that arrive in pieces, and the error that ended them.
    """
    reader, found = PrefixedMessageReader(), []
    try:
        for start in range(0, len(data), size):
            reader.feed(data[start : start + size])
            found += iter(reader.next_message, None)
    except PeerError as error:
        return found, str(error)
    return found, "incomplete" if reader.incomplete else ""


def message(kind: type[object], data: bytes) -> str:
    """
    Whether it is a message, which is the same when it is written and read again.
    """
    try:
        found = decode_message_untrusted(kind, data)
    except PeerError as error:
        return error.__class__.__name__
    assert decode_message_untrusted(kind, encode_message(found)) == found
    return chunk(found) if isinstance(found, HTTPChunk) else kind.__name__


def chunk(found: HTTPChunk) -> str:
    """
    Whether a message may begin with this chunk, and has headers of HTTP.
    """
    try:
        for response in (False, True):
            with suppress(BadChunk):
                MessageChunks(response).receive(found)
        read_trailers_untrusted(found.trailers)
        if found.request is not None:
            head = read_request_untrusted(found.request, found.end)
            encode_request(head)
            request_record(head)
        if found.response is not None:
            encode_response(read_response_untrusted(found.response, found.end, b"GET", DEFAULT_LIMITS))
    except PeerError as error:
        return error.__class__.__name__
    return "chunk"


def texts(data: bytes) -> Hashable:
    """
    What the octets are as values of fields.
    """
    text = decode_percent_untrusted(data)
    assert decode_percent_untrusted(encode_percent(text)) == text
    result = read_result_untrusted([(b"grpc-status", data)])
    try:
        binary = decode_binary_untrusted(data)
        assert decode_binary_untrusted(encode_binary(binary)) == binary
        return result.status, len(binary)
    except PeerError:
        pass
    try:
        return result.status, read_timeout_untrusted(data) > 0
    except PeerError:
        return result.status, None
