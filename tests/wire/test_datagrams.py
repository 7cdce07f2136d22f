"""
Datagrams in a stream of octets.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import UsageError
from tunnelstack.wire.datagrams import LONGEST, DatagramDecoder, encode_datagram

VECTORS = [
    ([b""], "0000"),
    ([b"a"], "000161"),
    ([b"", b"ab", b""], "0000000261620000"),
]


class DatagramTests(SynchronousTestCase):
    """
    The vectors, at every split.
    """

    def test_vectorsAreEncoded(self) -> None:
        for datagrams, octets in VECTORS:
            self.assertEqual(b"".join(map(encode_datagram, datagrams)).hex(), octets)

    def test_vectorsAreDecodedAtEverySplit(self) -> None:
        for datagrams, text in VECTORS:
            octets = bytes.fromhex(text)
            for split in range(len(octets) + 1):
                decoder = DatagramDecoder()
                found = decoder.receive_data(octets[:split]) + decoder.receive_data(octets[split:])
                self.assertEqual((found, decoder.incomplete), (datagrams, False))

    @given(st.lists(st.binary(max_size=70)), st.lists(st.integers(0, 9)))
    def test_anyChunksGiveTheSame(self, datagrams: list[bytes], sizes: list[int]) -> None:
        octets = b"".join(map(encode_datagram, datagrams))
        decoder, found, start = DatagramDecoder(), [], 0
        for size in [*sizes, len(octets)]:
            found += decoder.receive_data(octets[start : start + size])
            start += size
        self.assertEqual(found, datagrams)

    def test_theLongestFits(self) -> None:
        decoder = DatagramDecoder()
        self.assertEqual(decoder.receive_data(encode_datagram(bytes(LONGEST))), [bytes(LONGEST)])
        self.assertRaises(UsageError, encode_datagram, bytes(LONGEST + 1))

    def test_anIncompleteOneIsKnown(self) -> None:
        decoder = DatagramDecoder()
        decoder.receive_data(b"\0")
        self.assertTrue(decoder.incomplete)
