"""
What can be read of DTLS records without a key.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.dtls import (
    HEADER,
    SHORTEST_HELLO,
    client_random,
    is_client_hello_untrusted,
    is_plaintext_untrusted,
    pack_datagrams,
    split_records,
    with_record_number_0,
)

RANDOM = bytes(range(32))

HELLO = bytes.fromhex(
    "16fefd00000000000000000082010000760000000000000076fefd"
) + RANDOM + bytes.fromhex(
    "00000002c02b0100004a000d001600140403050306030807080408050806040105010601ff01000100000a00080006001d00170018000b00020100"
    "0017000000000011000f00000c676f646f78792e6167656e74"
)
"""The first datagram of a client of pion/dtls v3.1.5."""


def record(content: bytes, kind: int = 23, epoch: int = 1, number: int = 0) -> bytes:
    """
    A record of DTLS 1.2.
    """
    header = bytes([kind, 0xFE, 0xFD]) + epoch.to_bytes(2, "big") + number.to_bytes(6, "big")
    return header + len(content).to_bytes(2, "big") + content


class ClientHelloTests(SynchronousTestCase):
    """
    Which datagrams may begin an association.
    """

    def test_aClientHelloIsRecognised(self) -> None:
        self.assertTrue(is_client_hello_untrusted(HELLO))
        self.assertEqual(client_random(HELLO), RANDOM)

    def test_aTruncatedOneIsNot(self) -> None:
        for length in range(SHORTEST_HELLO):
            self.assertFalse(is_client_hello_untrusted(HELLO[:length]), length)
        self.assertTrue(is_client_hello_untrusted(HELLO[:SHORTEST_HELLO]))

    def test_eachOfItsMarksCounts(self) -> None:
        for position in (0, 3, 4, HEADER, 19, 20, 21):
            changed = bytearray(HELLO)
            changed[position] ^= 1
            self.assertFalse(is_client_hello_untrusted(bytes(changed)), position)

    @given(st.binary(max_size=200))
    def test_anythingIsJudged(self, datagram: bytes) -> None:
        hello = is_client_hello_untrusted(datagram)
        self.assertTrue(not hello or is_plaintext_untrusted(datagram))

    def test_onlyEpoch0IsPlaintext(self) -> None:
        self.assertTrue(is_plaintext_untrusted(record(b"", epoch=0)))
        self.assertFalse(is_plaintext_untrusted(record(b"", epoch=1)))
        self.assertFalse(is_plaintext_untrusted(record(b"", epoch=256)))
        self.assertFalse(is_plaintext_untrusted(record(b"", epoch=0)[: HEADER - 1]))


class RecordTests(SynchronousTestCase):
    """
    Records within datagrams.
    """

    def test_theRecordNumberIsReplaced(self) -> None:
        self.assertEqual(with_record_number_0(record(b"abc", 22, 0, 0x0102030405)), record(b"abc", 22, 0, 0))

    def test_nothingGivesNoDatagram(self) -> None:
        self.assertEqual(pack_datagrams(b"", 1200), [])

    @given(st.lists(st.binary(max_size=60), min_size=1), st.integers(13, 200))
    def test_recordsArePackedInOrderAndWhole(self, contents: list[bytes], limit: int) -> None:
        records = [record(content, number=number) for number, content in enumerate(contents)]
        datagrams = pack_datagrams(b"".join(records), limit)
        self.assertEqual([one for datagram in datagrams for one in split_records(datagram)], records)
        for datagram in datagrams:
            self.assertTrue(len(datagram) <= limit or len(split_records(datagram)) == 1)
        for datagram, following in pairwise(datagrams):
            self.assertGreater(len(datagram) + len(split_records(following)[0]), limit)
