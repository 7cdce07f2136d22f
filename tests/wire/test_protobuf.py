"""
The codec of Protocol Buffers, on records of its own.
"""

from __future__ import annotations

import tracemalloc

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.protobuf import (
    BadProtobuf,
    boolean,
    decode_message_untrusted,
    encode_message,
    encode_varint,
    message,
    messages,
    octets,
    one_of,
    optional_uint64,
    string,
    strings,
    uint32,
    uint64,
)


@frozen(kw_only=True)
class Leaf:
    small: int = uint32(1)
    large: int = uint64(2)


@frozen(kw_only=True)
class Other:
    text: str = string(1)


@frozen(kw_only=True)
class Tree:
    leaf: Leaf | None = message(3, Leaf)
    number: int = uint32(1)
    yes: bool = boolean(2)
    names: tuple[str, ...] = strings(4)
    data: bytes = octets(5)
    leaves: tuple[Leaf, ...] = messages(6, Leaf)
    maybe: int | None = optional_uint64(7)
    choice: Leaf | Other | None = one_of({20: Leaf, 21: Other})


LEAVES = st.builds(Leaf, small=st.integers(0, 2**32 - 1), large=st.integers(0, 2**64 - 1))
TREES = st.builds(
    Tree, leaf=st.none() | LEAVES, number=st.integers(0, 2**32 - 1), yes=st.booleans(),
    names=st.lists(st.text(), max_size=4).map(tuple), data=st.binary(max_size=300),
    leaves=st.lists(LEAVES, max_size=4).map(tuple), maybe=st.none() | st.integers(0, 2**64 - 1),
    choice=st.none() | LEAVES | st.builds(Other, text=st.text()),
)  # fmt: skip


def tree(text: str) -> Tree:
    return decode_message_untrusted(Tree, bytes.fromhex(text))


class EncodingTests(SynchronousTestCase):
    """
    Records become octets.
    """

    def test_fieldsAreInAscendingOrderAndDefaultsAreOmitted(self) -> None:
        self.assertEqual(encode_message(Tree()), b"")
        encoded = encode_message(Tree(leaf=Leaf(small=1), number=300, yes=True, maybe=0, names=("", "a")))
        self.assertEqual(encoded, bytes.fromhex("08ac02 1001 1a020801 2200 220161 3800"))

    def test_anEmptyMessageIsPresent(self) -> None:
        self.assertEqual(encode_message(Tree(choice=Other())).hex(), "aa0100")
        self.assertEqual(tree("aa0100"), Tree(choice=Other()))

    def test_whatDoesNotFitIsRejected(self) -> None:
        for wrong in (Leaf(small=1 << 32), Leaf(small=-1), Leaf(large=1 << 64), Other(text="\ud800")):
            self.assertRaises(UsageError, encode_message, wrong)

    @given(TREES)
    def test_whatWasEncodedIsDecoded(self, made: Tree) -> None:
        self.assertEqual(decode_message_untrusted(Tree, encode_message(made)), made)


class DecodingTests(SynchronousTestCase):
    """
    Octets become records.
    """

    def test_theLastScalarCountsAndRepeatedValuesAreAdded(self) -> None:
        self.assertEqual(tree("0801 220161 0802 220162"), Tree(number=2, names=("a", "b")))

    def test_messagesOfOneFieldAreMerged(self) -> None:
        self.assertEqual(tree("1a020801 1a021002"), Tree(leaf=Leaf(small=1, large=2)))
        self.assertEqual(tree("a201020801 a201021002").choice, Leaf(small=1, large=2))

    def test_theLastChoiceCounts(self) -> None:
        self.assertEqual(tree("a201020801 aa01030a0161").choice, Other(text="a"))
        self.assertEqual(tree("a201020801 aa01030a0161 a201021002").choice, Leaf(large=2))

    def test_partsOfAMergedMessageAreValidByThemselves(self) -> None:
        self.assertRaises(BadProtobuf, tree, "1a0108 1a0101")
        self.assertRaises(BadProtobuf, tree, "a2010108 aa0100")

    def test_unknownFieldsAreSkipped(self) -> None:
        skipped = "f8ff7f01" + "f9ff7f0102030405060708" + "faff7f020102" + "fdff7f01020304"
        self.assertEqual(tree(skipped + "0801" + skipped), Tree(number=1))

    def test_aKnownFieldOfAnotherWireTypeIsUnknown(self) -> None:
        self.assertEqual(tree("0a0101 0d01020304 2001"), Tree())

    def test_numbersKeepTheirLowBits(self) -> None:
        self.assertEqual(tree("08 ffffffffffffffffff01"), Tree(number=2**32 - 1))
        self.assertEqual(tree("38 ffffffffffffffffff01"), Tree(maybe=2**64 - 1))
        self.assertEqual(tree("10 8002"), Tree(yes=True))

    def test_badOctetsAreRejected(self) -> None:
        for text in (
            "08", "0880", "08 ffffffffffffffffffff01", "2205 61", "2201 ff", "00", "0001", "0b", "0c", "0e", "f9ff7f01",
            "fdff7f01", "faff7f7f", "ffffffffff7f", "22ffffffffffffffff7f", "1a0208", "1a02 0880",
        ):  # fmt: skip
            with self.subTest(text):
                self.assertRaises(BadProtobuf, tree, text)

    def test_everyTruncationIsRejectedOrIsAMessage(self) -> None:
        made = Tree(leaf=Leaf(small=300), number=300, names=("abc",), data=b"abc", maybe=1, choice=Other(text="a"))
        encoded = encode_message(made)
        taken = 0
        for end in range(len(encoded)):
            try:
                decode_message_untrusted(Tree, encoded[:end])
                taken += 1
            except BadProtobuf:
                pass
        self.assertEqual(taken, 6)      # between two fields

    def test_aMessageHasSoManyFieldsAtMost(self) -> None:
        self.assertEqual(len(decode_message_untrusted(Tree, b"\x32\0" * 4096).leaves), 4096)
        self.assertRaises(BadProtobuf, decode_message_untrusted, Tree, b"\x32\0" * 4097)
        inner = b"\x08\1" * 60
        self.assertRaises(BadProtobuf, decode_message_untrusted, Tree, (b"\x32" + encode_varint(len(inner)) + inner) * 100)

    def test_aLengthCostsNoMemory(self) -> None:
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assertRaises(BadProtobuf, tree, "2affffffff07")
        self.assertLess(tracemalloc.get_traced_memory()[1], 1 << 20)

    @given(st.binary(max_size=100))
    def test_anythingIsAMessageOrRejected(self, data: bytes) -> None:
        try:
            made = decode_message_untrusted(Tree, data)
        except PeerError:
            return
        self.assertEqual(decode_message_untrusted(Tree, encode_message(made)), made)
