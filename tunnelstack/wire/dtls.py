"""
The records of DTLS 1.2, as far as they can be read without a key: which datagrams may begin an association, and how records are
packed into datagrams.

Source: RFC 6347, sections 4.1 (records), 4.2.1 (C{ClientHello} and cookies) and 4.2.3 (flights).
"""

from __future__ import annotations

HEADER = 13
"""Octets before the content of a record: type, version, epoch, record number and length."""

HANDSHAKE, CLIENT_HELLO = 22, 1
"""The type of a record, and the type of the message in it."""

SHORTEST_HELLO = HEADER + 12 + 2 + 32
"""Octets up to the end of the random number of a C{ClientHello}: the headers of record and message, the version, the number."""

RANDOM = slice(SHORTEST_HELLO - 32, SHORTEST_HELLO)


def is_client_hello_untrusted(datagram: bytes) -> bool:
    """
    Whether a datagram begins with a C{ClientHello} that is not encrypted and not a later fragment.
    """
    return (
        len(datagram) >= SHORTEST_HELLO
        and datagram[0] == HANDSHAKE
        and datagram[3:5] == b"\0\0"        # the epoch
        and datagram[HEADER] == CLIENT_HELLO
        and datagram[19:22] == b"\0\0\0"    # the offset of the fragment
    )


def client_random(hello: bytes) -> bytes:
    """
    @param hello: a datagram for which L{is_client_hello_untrusted} is true.
    @return: the 32 octets that differ from one handshake to the next, and are the same in the repetitions of one handshake.
    """
    return hello[RANDOM]


def is_plaintext_untrusted(datagram: bytes) -> bool:
    """
    Whether the first record of a datagram is of epoch 0, the one before keys are agreed.
    """
    return len(datagram) >= HEADER and datagram[3:5] == b"\0\0"


def with_record_number_0(datagram: bytes) -> bytes:
    """
    The same with 0 for the number of its first record, which must not be encrypted.
    """
    return datagram[:5] + bytes(6) + datagram[11:]


def split_records(octets: bytes) -> list[bytes]:
    """
    @param octets: whole records, one after another, of an implementation that is trusted.
    """
    records = []
    start = 0
    while start < len(octets):
        end = start + HEADER + int.from_bytes(octets[start + 11 : start + 13], "big")
        records.append(octets[start:end])
        start = end
    return records


def pack_datagrams(octets: bytes, limit: int) -> list[bytes]:
    """
    Put records into as few datagrams as their order allows.

    @param octets: as in L{split_records}.
    @param limit: octets of a datagram; a record that is longer is a datagram of its own.
    """
    if len(octets) <= limit:
        return [octets] if octets else []
    datagrams = [b""]
    for record in split_records(octets):
        if datagrams[-1] and len(datagrams[-1]) + len(record) > limit:
            datagrams.append(b"")
        datagrams[-1] += record
    return datagrams
