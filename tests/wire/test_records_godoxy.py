"""
GoDoxy's headers of streams: the vectors that the genuine validator has judged, and what it does with each corrupted octet.
"""

from __future__ import annotations

from hashlib import sha256
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.negotiation.base import Agreed, NegotiationExpired, NegotiationTruncated
from tunnelstack.wire.negotiation.fixed_head import FixedHeadInitiator, FixedHeadResponder
from tunnelstack.wire.records.godoxy import (
    HEADER_OCTETS,
    PROBE,
    BadHeader,
    StreamHeader,
    decode_header_untrusted,
    encode_header,
    port_of,
)

V1 = StreamHeader("example.com", "443")
OCTETS = encode_header(V1)

ENCODED = {
    "V1": (V1, "e89b2e09", "a06e28d696921168"),
    "V2": (PROBE, "7d621c75", "33de3872885639c8"),
    "V3": (StreamHeader("127.0.0.1", "80"), "56b8ed49", "4b129ac47b25d2f3"),
    "V4": (StreamHeader("::1", "65535"), "bd2db4d7", "baf6633de5bf8db1"),
    "V5": (StreamHeader("a" * 255, "8080"), "b3e8ce0b", "5d0539975bd41ea1"),
    "V6": (StreamHeader(), "0a652ce3", "218f29a173602fd6"),
    "V10": (StreamHeader("127.0.0.1", "abc"), "b00e7b84", "5d931e537ce9a04f"),
    "V11": (StreamHeader("127.0.0.1", "http"), "24397196", "4b34d12ffc95e6b6"),
    "V12": (StreamHeader("127.0.0.1", "70000"), "694f4ad0", "7aaa52726dec2f20"),
    "V13": (StreamHeader("example.com", "443", 2), "06954f25", "135837662c95e63a"),
    "V14": (StreamHeader("example.com", "443", 3), "71927fb3", "20255cf9a6307334"),
    "V16": (StreamHeader("ab\0cd", "443"), "eceb686b", "49da7eba7cb42b79"),
}
"""The valid vectors: the header, its checksum, and the beginning of the SHA-256 of all its octets."""

CHECKSUMS = {
    StreamHeader("db.internal", ""): "231314bc",
    StreamHeader("db.internal", "0"): "811e18a5",
    StreamHeader("db.internal", "53"): "06ba51dd",
    StreamHeader("db.internal", "443"): "3b2f0293",
    StreamHeader("db.internal", "8080"): "8fa03837",
    StreamHeader("db.internal", "65535"): "892079b1",
    StreamHeader("a" * 254, "8080"): "d1de2058",
    StreamHeader("fe80::1%eth0", "22"): "e896deb9",
}


def changed(at: int, octets: bytes, *, right: bool = True) -> bytes:
    """
    V1 with other octets.

    @param right: the checksum is computed anew.
    """
    block = OCTETS[:at] + octets + OCTETS[at + len(octets) :]
    return block[:271] + crc32(block[:271]).to_bytes(4, "big") if right else block


def digest(octets: bytes) -> str:
    return sha256(octets).hexdigest()[:16]


class HeaderTests(SynchronousTestCase):
    """
    The block.
    """

    def test_vectorsAreEncodedAndDecoded(self) -> None:
        for name, (header, checksum, hashed) in ENCODED.items():
            octets = encode_header(header)
            self.assertEqual((octets[-4:].hex(), digest(octets)), (checksum, hashed), name)
            self.assertEqual(decode_header_untrusted(octets), header, name)

    def test_portsAndHostsMayHaveAnyLength(self) -> None:
        for header, checksum in CHECKSUMS.items():
            self.assertEqual(encode_header(header)[-4:].hex(), checksum)
            self.assertEqual(decode_header_untrusted(encode_header(header)), header)

    def test_aWholeHeaderIsEncoded(self) -> None:
        text = "302e312e30000000" + "0b" + b"example.com".hex() + 244 * "00" + "03" + "3434330000" + "00" + "e89b2e09"
        self.assertEqual(OCTETS.hex(), text)

    def test_invalidVectorsAreRejected(self) -> None:
        version = b"0.2.0\0\0\0"
        for name, octets, hashed in (
            ("V7", OCTETS[:-1] + bytes([OCTETS[-1] ^ 1]), "850e043c5927162e"),
            ("V8", changed(0, version), "2910ea1332ec7693"),
            ("V9", changed(264, b"\x0644300"), "afda801a1c2c169c"),
            ("V17", OCTETS[:-4] + bytes(4), "639b3cbc3525517a"),
            ("V18", OCTETS[:-4] + OCTETS[:-5:-1], "5837bea58e35791b"),
            ("V19", changed(0, b"0.1.0   "), "b1069e92079beb6e"),
        ):
            self.assertEqual(digest(octets), hashed, name)
            self.assertRaises(BadHeader, decode_header_untrusted, octets)

    def test_paddingIsNotExamined(self) -> None:
        octets = changed(20, b"\xff" * 244)
        octets = octets[:268] + b"\xff\xff" + octets[270:271]
        octets += crc32(octets).to_bytes(4, "big")
        self.assertEqual((octets[-4:].hex(), digest(octets)), ("2b2c39bb", "19844a535b91c531"))
        self.assertEqual(decode_header_untrusted(octets), V1)

    def test_everyCorruptedOctetIsNoticed(self) -> None:
        for at in range(HEADER_OCTETS):
            for bit in (1, 0x80):
                corrupted = changed(at, bytes([OCTETS[at] ^ bit]), right=False)
                self.assertRaises(BadHeader, decode_header_untrusted, corrupted)

    def test_everyOtherLengthIsWrong(self) -> None:
        for octets in (b"", OCTETS[:-1], OCTETS + b"x"):
            self.assertRaises(BadHeader, decode_header_untrusted, octets)

    def test_whatDoesNotFitIsRefused(self) -> None:
        long, wide = StreamHeader("a" * 256), StreamHeader("\u00e9" * 128)
        for header in (long, wide, StreamHeader("", "123456"), StreamHeader(flags=256)):
            self.assertRaises(UsageError, encode_header, header)

    def test_onlyTheFirstFlagMakesAProbe(self) -> None:
        self.assertEqual([StreamHeader(flags=flags).isProbe for flags in (0, 1, 2, 3)], [False, True, False, True])

    def test_portsAreNumbersOrNames(self) -> None:
        for text, number in (("80", 80), ("65535", 65_535), ("http", 80), ("HTTPS", 443), ("00080", 80)):
            self.assertEqual(port_of(StreamHeader("a", text)), number)
        for text in ("", "0", "70000", "abc", "-1", "+80", "8 0", "\u0661"):
            self.assertRaises(BadHeader, port_of, StreamHeader("a", text))

    @given(st.binary(min_size=HEADER_OCTETS, max_size=HEADER_OCTETS))
    def test_anyBlockIsJudged(self, octets: bytes) -> None:
        try:
            header = decode_header_untrusted(octets[:271] + crc32(octets[:271]).to_bytes(4, "big"))
        except BadHeader:
            return
        self.assertLessEqual(len(header.port), 5)


class NegotiationTests(SynchronousTestCase):
    """
    The block at the beginning of a stream.
    """

    def responder(self) -> FixedHeadResponder:
        return FixedHeadResponder(
            HEADER_OCTETS, lambda head: (b"godoxy", {"host": decode_header_untrusted(head).host}), timeout=10.0
        )

    def test_aHeaderIsReadAtEverySplit(self) -> None:
        octets = OCTETS + b"payload"
        for split in range(len(octets) + 1):
            ours = self.responder()
            events = ours.receive_data(octets[:split])
            rest = octets[split:]
            if not events:
                events, rest = ours.receive_data(rest), b""
            self.assertEqual([(event.name, event.parameters) for event in events if isinstance(event, Agreed)],
                             [(b"godoxy", {"host": "example.com"})])    # fmt: skip
            (agreed,) = events
            assert isinstance(agreed, Agreed)
            self.assertEqual(agreed.leftover + rest, b"payload")

    def test_theInitiatorSendsItAtOnce(self) -> None:
        ours = FixedHeadInitiator(b"godoxy", OCTETS)
        self.assertEqual(ours.data_to_send(), [OCTETS])
        self.assertEqual(ours.receive_data(b"answer"), [Agreed(b"godoxy", {}, b"answer")])

    def test_aBadHeadIsThePeersError(self) -> None:
        self.assertRaises(PeerError, self.responder().receive_data, bytes(HEADER_OCTETS))

    def test_anIncompleteOneIsTruncatedOrExpires(self) -> None:
        ours = self.responder()
        ours.begin(5.0)
        ours.receive_data(OCTETS[:-1])
        self.assertEqual(ours.next_deadline(), 15.0)
        self.assertEqual(ours.expire(14.9), [])
        self.assertRaises(NegotiationExpired, ours.expire, 15.0)
        self.assertRaises(NegotiationTruncated, ours.receive_eof)
