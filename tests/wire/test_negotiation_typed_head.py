"""
Heads of a type and metadata: both halves, cut anywhere.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import UsageError
from tunnelstack.wire.negotiation.base import Agreed, NegotiationTruncated, Release
from tunnelstack.wire.negotiation.typed_head import (
    LIMIT,
    METADATA,
    MetadataTooLong,
    TypedHead,
    TypedHeadInitiator,
    TypedHeadReader,
    TypedHeadResponder,
    UnknownType,
    encode_typed_head,
)

NAMES = {1: b"one", 2: b"two"}
HEAD = b"\x01\x00\x00\x00\x05hello"


def splits(octets: bytes) -> list[list[bytes]]:
    ways = [[octets], [octets[at : at + 1] for at in range(len(octets))]]
    return ways + [[octets[:at], octets[at:]] for at in range(1, len(octets))]


class ReaderTests(SynchronousTestCase):
    @given(st.integers(0, 255), st.binary(max_size=64), st.binary(max_size=16))
    def test_everyHeadIsReadAtEverySplit(self, kind: int, metadata: bytes, rest: bytes) -> None:
        for pieces in splits(encode_typed_head(kind, metadata) + rest):
            reader, head, after = TypedHeadReader(), None, b""
            for piece in pieces:
                if head is not None:
                    after += piece
                    continue
                reader.feed(piece)
                head = reader.next_head()
                if head is not None:
                    after = reader.take_leftover()
            self.assertEqual((head, after), (TypedHead(kind, metadata), rest))

    def test_theLimitIsInclusive(self) -> None:
        reader = TypedHeadReader()
        reader.feed(b"\x01\x00\x10\x00\x00")
        self.assertIsNone(reader.next_head())
        reader.feed(bytes(LIMIT))
        self.assertEqual(reader.next_head(), TypedHead(1, bytes(LIMIT)))

    def test_aLengthAboveTheLimitIsRejectedBeforeItArrives(self) -> None:
        reader = TypedHeadReader()
        reader.feed(b"\x01\x00\x10\x00\x01")
        error = self.assertRaises(MetadataTooLong, reader.next_head)
        self.assertIn("stream metadata too large: 1048577 bytes", str(error))

    def test_whatDoesNotFitIsNotEncoded(self) -> None:
        self.assertRaises(UsageError, encode_typed_head, 256)
        self.assertRaises(UsageError, encode_typed_head, -1)


class InitiatorTests(SynchronousTestCase):
    def test_itIsAgreedAtOnceAndTheHeadIsSent(self) -> None:
        ours = TypedHeadInitiator(b"one", TypedHead(1, b"hello"))
        self.assertIs(ours.release, Release.AT_ONCE)
        self.assertEqual(ours.data_to_send(), [HEAD])
        self.assertEqual(ours.receive_data(b""), [Agreed(b"one")])
        self.assertRaises(UsageError, ours.receive_data, b"")


class ResponderTests(SynchronousTestCase):
    def test_everySplitIsAgreed(self) -> None:
        for pieces in splits(HEAD + b"body"):
            theirs, events = TypedHeadResponder(NAMES), []
            for piece in pieces:
                if events:
                    events[0].leftover += piece
                else:
                    events += self.read(theirs, piece)
            self.assertEqual(events, [Agreed(b"one", {METADATA: b"hello"}, b"body")])
            self.assertTrue(theirs.settled)

    def read(self, responder: TypedHeadResponder, piece: bytes) -> list[Any]:
        return responder.receive_data(piece)

    def test_anUnknownTypeIsAnError(self) -> None:
        self.assertRaises(UnknownType, TypedHeadResponder(NAMES).receive_data, b"\x07\x00\x00\x00\x00")

    def test_metadataAboveTheLimitAreAnError(self) -> None:
        self.assertRaises(MetadataTooLong, TypedHeadResponder(NAMES, limit=4).receive_data, HEAD)

    def test_anEarlyEndIsAnError(self) -> None:
        theirs = TypedHeadResponder(NAMES)
        theirs.receive_data(HEAD[:7])
        self.assertRaises(NegotiationTruncated, theirs.receive_eof)
