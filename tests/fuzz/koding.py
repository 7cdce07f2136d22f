"""
Bent octets for all that a peer of koding/tunnel sends: the answer to a request, handshakes, control messages, and responses
whose interim ones are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from tests.wire.vectors_koding import ANSWER, CONNECT, RESPONSE, SWITCHING, TRANSCRIPTS
from tunnelstack.errors import PeerError
from tunnelstack.wire.http1.final_response import FinalResponseFilter
from tunnelstack.wire.http1.head import find_end_untrusted, read_request_untrusted
from tunnelstack.wire.records.koding import (
    HANDSHAKE_REQUEST,
    HANDSHAKE_RESPONSE,
    AnswerReader,
    ControlMessage,
    ControlReader,
    HandshakeReader,
    encode_control,
    identifier_of,
    is_control_path,
    unknown_identifier,
)

SEEDS = [
    ANSWER + b"\x00\x01",
    CONNECT,
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 68\r\n\r\n" + unknown_identifier(b"1234"),
    b"HTTP/1.1 405 Method Not Allowed\n\n",
    HANDSHAKE_REQUEST + b"{}",
    HANDSHAKE_RESPONSE + encode_control(ControlMessage(1)) * 2,
    b'{"action":1,"transportProtocol":2,"localPort":7005}{"x":[{"y":"}\\""}]} \n{}',
    b"HTTP/1.1 100 Continue\r\n\r\n" + RESPONSE,
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + SWITCHING + b"\x81\x00",
    *(bytes.fromhex(text)[12:] for lines in TRANSCRIPTS.values() for _, text in lines),
]


def pieces(data: bytes, size: int) -> list[bytes]:
    """
    The octets, cut.
    """
    return [data[start : start + size] for start in range(0, len(data), size)]


def answers(data: bytes, size: int) -> object:
    """
    @return: what a client understood of an answer, without the length of what follows, which depends on the cut.
    """
    reader = AnswerReader()
    for piece in pieces(data, size):
        if (answer := reader.receive_data(piece)) is not None:
            return answer.__class__.__name__, getattr(answer, "status", 200)
    return None


def messages(data: bytes, size: int) -> object:
    """
    @return: the control messages.
    """
    reader, found = ControlReader(), []
    for piece in pieces(data, size):
        found += reader.receive_data(piece)
    return tuple(found)


def handshakes(data: bytes, size: int) -> object:
    """
    @return: whether a handshake was complete.
    """
    reader = HandshakeReader(HANDSHAKE_REQUEST)
    return any(reader.receive_data(piece) is not None for piece in pieces(data, size)[:16])


def responses(data: bytes, size: int) -> object:
    """
    @return: what passes of a response.
    """
    filter = FinalResponseFilter()
    found = b"".join(map(filter.receive_data, pieces(data, size))) + filter.receive_eof()
    if not data.endswith(found):
        raise AssertionError("what passes is not the end of what arrived")
    return found


def requests(data: bytes, size: int) -> object:
    """
    @return: whether it is a request of a client.
    """
    end = find_end_untrusted(data)
    if end < 0:
        return None
    head = read_request_untrusted(data, end)
    return is_control_path(head.target.partition(b"?")[0]), bool(identifier_of(head))


def attempt(read: Callable[[bytes, int], object], data: bytes, size: int) -> object:
    """
    A peer's error is an answer.
    """
    try:
        return read(data, size)
    except PeerError as error:
        return error.__class__.__name__


def target(data: bytes) -> Hashable:
    """
    @return: what each reader made of it.
    """
    found = []
    for read in (answers, messages, responses, requests):
        whole = attempt(read, data, len(data) or 1)
        if attempt(read, data, 7) != whole and read is not messages:
            raise AssertionError(f"it matters to {read.__name__} where the octets are cut")
        found.append(whole.__class__.__name__ if isinstance(whole, (bytes, tuple)) else whole)
    found.append(attempt(handshakes, data, 5))
    return tuple(found)
