"""
Bent octets for all that a ShellHub peer says: objects in pieces, requests and answers of version 1, bodies, tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from tests.wire.vectors_shellhub import KEEP_ALIVE, PROXY, REQUESTS, TRANSCRIPTS
from tunnelstack.errors import PeerError
from tunnelstack.wire.go_json import encode_strings
from tunnelstack.wire.http1.head import find_end_untrusted, read_request_untrusted, read_response_untrusted
from tunnelstack.wire.jsonline import decode_object
from tunnelstack.wire.records.shellhub import (
    HTTP_PROXY,
    REPLY,
    ObjectReader,
    decode_target_untrusted,
    encode_object,
    encode_target,
)
from tunnelstack.wire.records.shellhub_bootstrap import (
    decode_device_answer_untrusted,
    decode_device_auth_untrusted,
    decode_info_untrusted,
    decode_signature_untrusted,
    decode_ssh_auth_untrusted,
)
from tunnelstack.wire.records.shellhub_settings import read_settings_untrusted
from tunnelstack.wire.records.shellhub_v1 import decode_ask_untrusted, refusal

SEEDS = [
    *(bytes.fromhex(text)[12:] for lines in TRANSCRIPTS.values() for _, text in lines),
    encode_object(encode_target(PROXY)) + b"GET / HTTP/1.1\r\n\r\n",
    b' {"status" : null , "error":"\\u0026\\\\\\""}\n',
    b"null\n",
    *(request for _, request, _, _, _ in REQUESTS.values()),
    *(answer for _, _, _, answer, _ in REQUESTS.values() if answer),
    b"CONNECT /ssh/proxy/[::1]:80 HTTP/1.1\r\nHost: \r\n\r\n",
    b'{"version":"v","endpoints":{"api":"a","ssh":"b"}}',
    b'{"info":{"id":"x"},"identity":{"mac":"m"},"public_key":"k","tenant_id":"t","sessions":["s"]}',
    b'{"uid":"u","token":"t","name":"n","namespace":"ns","config":{"yamux_accept_backlog":2e2,"yamux_enable_keep_alive":false}}',
    b'{"fingerprint":"f","data":"d","signature":"s"}',
    KEEP_ALIVE,
]

BODIES: list[Callable[[bytes], object]] = [
    decode_info_untrusted,
    decode_device_auth_untrusted,
    decode_ssh_auth_untrusted,
    decode_signature_untrusted,
    lambda body: read_settings_untrusted(decode_device_answer_untrusted(body).config),
]


def target(data: bytes) -> Hashable:
    """
    @return: what each reader made of it.
    """
    whole = strings(data, len(data) or 1)
    if strings(data, 7) != whole or strings(data, 1) != whole:
        raise AssertionError("it matters where the octets are cut")
    return (kind(whole), kind(asks(data)), *(kind(attempt(lambda: read(data))) for read in BODIES))


def attempt(read: Callable[[], object]) -> object:
    """
    A peer's error is an answer.
    """
    try:
        return read()
    except PeerError as error:
        return error


def kind(found: object) -> str:
    """
    The name of a class.
    """
    return found.__class__.__name__


def strings(data: bytes, size: int) -> object:
    """
    An object, in pieces; it can be said again.

    @return: its members and what is left, or the class of the error.
    """
    reader, members, rest = ObjectReader(REPLY), None, b""
    try:
        for start in range(0, len(data), size):
            if members is not None:
                rest += data[start : start + size]
                continue
            reader.feed(data[start : start + size])
            members = reader.next_object()
            if members is not None:
                rest = reader.take_leftover()
    except PeerError:
        return PeerError
    if members is None:
        return None
    if decode_object(encode_strings(members)) != members or not data.endswith(rest):
        raise AssertionError("what was taken cannot be said again")
    attempt(lambda: decode_target_untrusted(HTTP_PROXY, members))
    return tuple(members.items()), rest


def asks(data: bytes) -> object:
    """
    A request of version 1, or the answer to one.
    """

    def read() -> object:
        end = find_end_untrusted(data)
        if end < 0:
            return None
        if data[:5] == b"HTTP/":
            return refusal(read_response_untrusted(data, end))
        return decode_ask_untrusted(read_request_untrusted(data, end))

    return attempt(read)
