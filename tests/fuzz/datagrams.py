"""
Bent octets for datagrams in a stream, and for datagrams that may begin an association of DTLS.
"""

from __future__ import annotations

from collections.abc import Hashable

from tests.wire.test_dtls import HELLO
from tunnelstack.wire.datagrams import DatagramDecoder, encode_datagram
from tunnelstack.wire.dtls import (
    HEADER,
    client_random,
    is_client_hello_untrusted,
    is_plaintext_untrusted,
    with_record_number_0,
)

LONGEST = 4096  # octets that are delivered one by one

SEEDS = [
    encode_datagram(b""), encode_datagram(b"query") + encode_datagram(b"x" * 300), encode_datagram(bytes(65_535)),
    b"\xff\xff\0", encode_datagram(HELLO) + encode_datagram(HELLO[:40]), HELLO, HELLO[:60],
]  # fmt: skip


def target(data: bytes) -> Hashable:
    """
    @return: how many datagrams there are, whether one is incomplete, and what each is to DTLS.
    """
    whole = datagrams(data, len(data) or 1)
    for size in (1, 7) if len(data) <= LONGEST else (4096,):
        assert datagrams(data, size) == whole, size
    found, rest = whole
    assert b"".join(map(encode_datagram, found)) + rest == data
    return len(found), bool(rest), tuple(hello(each) for each in (data, *found[:8]))


def datagrams(data: bytes, size: int) -> tuple[list[bytes], bytes]:
    """
    The datagrams of octets that arrive in pieces, and what is left over.
    """
    decoder, found = DatagramDecoder(), []
    for start in range(0, len(data), size):
        found += decoder.receive_data(data[start : start + size])
    rest = data[sum(2 + len(each) for each in found) :]
    assert decoder.incomplete == bool(rest)
    return found, rest


def hello(datagram: bytes) -> Hashable:
    """
    What can be read without a key.
    """
    begins, plain = is_client_hello_untrusted(datagram), is_plaintext_untrusted(datagram)
    if begins:
        assert plain and len(client_random(datagram)) == 32
    if plain:
        first = with_record_number_0(datagram)
        assert len(first) == len(datagram) and first[HEADER:] == datagram[HEADER:] and is_plaintext_untrusted(first)
        assert is_client_hello_untrusted(first) == begins
    return begins, plain
