"""
Multistream-select: every vector and transcript of the protocol's page, wherever it is cut, and the bounds.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.vectors_multistream import (
    INITIATOR,
    LAZY_REFUSED,
    RESPONDER,
    STACKED,
    TOKENS,
    TRANSCRIPTS,
    Heard,
    Transcript,
    octets,
)
from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.negotiation.base import (
    BUFFER_LIMIT,
    Agreed,
    Negotiation,
    NegotiationError,
    NegotiationEvent,
    NegotiationExpired,
    NegotiationTruncated,
    Proposed,
    Rejected,
    Release,
)
from tunnelstack.wire.negotiation.multistream.initiator import MultistreamInitiator
from tunnelstack.wire.negotiation.multistream.names import NameTable
from tunnelstack.wire.negotiation.multistream.responder import (
    PROPOSALS,
    MultistreamResponder,
    TooManyProposals,
)
from tunnelstack.wire.negotiation.multistream.tokens import (
    HEADER,
    LARGEST,
    NOT_AVAILABLE_TOKEN,
    BadMultistreamToken,
    next_token,
    token,
)
from tunnelstack.wire.varint import BadVarint

KNOWN = [b"/a", b"/b"]


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """
    In one piece, in two at every place, and octet by octet.
    """
    yield [data] if data else []
    for place in range(1, len(data)):
        yield [data[:place], data[place:]]
    yield [data[place : place + 1] for place in range(len(data))]


def hear(negotiation: Negotiation, pieces: list[bytes], eof: bool, prompt: bool) -> tuple[bytes, object, bytes]:
    """
    Feed a negotiation until it is settled.

    @param prompt: its owner writes before anything has arrived, not only behind what has.
    @return: what it said; its event, or the class of its error; and what was left to feed, which is the application's.
    """
    said = list(negotiation.data_to_send()) if prompt else []
    outcome: object = None
    left = list(pieces)
    try:
        while left and not negotiation.settled:
            for event in negotiation.receive_data(left.pop(0)):
                outcome = event
            if prompt:
                said += negotiation.data_to_send()
        if eof and not negotiation.settled:
            negotiation.receive_eof()
    except PeerError as error:
        outcome = type(error)
    said += negotiation.data_to_send()
    return b"".join(said), outcome, b"".join(left)


def whole(outcome: object, left: bytes) -> object:
    """
    An outcome with all that is the application's in its leftover.
    """
    return Agreed(outcome.name, outcome.parameters, outcome.leftover + left) if isinstance(outcome, Agreed) else outcome


class VectorTests(SynchronousTestCase):
    """
    The vectors A01-A12, B01-B19, C01-C08 and the transcripts N1-N7.
    """

    def test_everyVectorIsHere(self) -> None:
        self.assertEqual(set(TOKENS), {f"A{number:02}" for number in range(1, 13)})
        self.assertEqual(set(RESPONDER), {f"B{number:02}" for number in range(1, 20)})
        self.assertEqual(set(INITIATOR), {f"C{number:02}" for number in range(1, 9)})
        self.assertEqual({*TRANSCRIPTS, *LAZY_REFUSED, *STACKED}, {f"N{number}" for number in range(1, 11)})

    def test_tokensMatchTheirVectors(self) -> None:
        for name, (text, _) in TOKENS.items():
            written = octets(name)
            self.assertEqual(token(text), written, name)
            self.assertEqual(next_token(written + b"\x03"), (text, len(written)), name)
            for cut in range(len(written)):
                self.assertIsNone(next_token(written[:cut]), name)

    def check(
        self,
        name: str,
        heard: Heard,
        make: type[MultistreamInitiator] | type[MultistreamResponder],
        names: list[bytes],
    ) -> None:
        for prompt in (True, False):
            for pieces in cuts(octets(heard.hears)):
                said, outcome, left = hear(make(names), pieces, heard.eof, prompt)
                where = f"{name} in {pieces}"
                self.assertEqual(said, octets(heard.says), where)
                self.assertEqual(whole(outcome, left), heard.outcome, where)

    def test_respondersMatchTheirVectors(self) -> None:
        for name, heard in RESPONDER.items():
            self.check(name, heard, MultistreamResponder, KNOWN)

    def test_endBehindTheHeaderIsTooEarly(self) -> None:
        self.check("B15, after A01", Heard("A01", "A01", NegotiationTruncated, eof=True), MultistreamResponder, KNOWN)

    def test_lengthsThatAreNone(self) -> None:
        for hears in ("A01 9300", "A01 8000", "A01 ffffffffffffffffff01"):
            self.check(hears, Heard(hears, "A01", BadVarint), MultistreamResponder, KNOWN)
            self.check(hears, Heard(hears, "A01 A04", BadVarint), MultistreamInitiator, [b"/a"])

    def test_initiatorsMatchTheirVectors(self) -> None:
        for name, heard in INITIATOR.items():
            self.check(name, heard, MultistreamInitiator, [b"/a"])

    def test_lazyInitiatorThatIsRefused(self) -> None:
        for name, heard in LAZY_REFUSED.items():
            self.check(name, heard, MultistreamResponder, [b"/b"])

    def speak(self, name: str, transcript: Transcript, cut: int | None) -> None:
        """
        Feed what the peer says, and expect what we said between.
        """
        ours: Negotiation = MultistreamResponder(KNOWN)
        if transcript.proposes:
            release = Release.AT_ONCE if transcript.early else Release.ON_REPLY
            ours = MultistreamInitiator(transcript.proposes, release=release, early=transcript.early)
        said, outcome, left = b"", None, b""
        for who, text in transcript.turns:
            if who == ">":
                said += b"".join(ours.data_to_send())
                self.assertEqual(said, octets(text), f"{name} in pieces of {cut}")
                said = b""
                continue
            data = octets(text)
            size = cut or len(data)
            for start in range(0, len(data), size):
                if ours.settled:
                    left += data[start : start + size]
                else:
                    outcome = next(iter(ours.receive_data(data[start : start + size])), outcome)
        self.assertEqual(whole(outcome, left), transcript.outcome, f"{name} in pieces of {cut}")

    def test_transcriptsAreMatchedInAnyPieces(self) -> None:
        for name, transcript in TRANSCRIPTS.items():
            for cut in (None, *range(1, 30)):
                self.speak(name, transcript, cut)


class InitiatorTests(SynchronousTestCase):
    """
    What the vectors do not say of the initiator.
    """

    def test_proposesInOneWrite(self) -> None:
        self.assertEqual(b"".join(MultistreamInitiator([b"/a", b"/b"]).data_to_send()), octets("A01 A04"))

    def test_nextNameFollowsEachRefusal(self) -> None:
        ours = MultistreamInitiator([b"/x", b"/y", b"/a"])
        ours.data_to_send()
        self.assertEqual(ours.receive_data(HEADER + NOT_AVAILABLE_TOKEN), [])
        self.assertEqual(ours.data_to_send(), [token(b"/y")])
        self.assertEqual(ours.receive_data(NOT_AVAILABLE_TOKEN), [])
        self.assertEqual(ours.data_to_send(), [token(b"/a")])
        self.assertEqual(ours.receive_data(token(b"/a") + b"!"), [Agreed(b"/a", {}, b"!")])

    def test_whenAllNamesAreRefusedItIsRejected(self) -> None:
        ours = MultistreamInitiator([b"/x", b"/y"])
        self.assertEqual(ours.receive_data(HEADER + NOT_AVAILABLE_TOKEN), [])
        (event,) = ours.receive_data(NOT_AVAILABLE_TOKEN)
        self.assertIsInstance(event, Rejected)

    def test_aSingleNameMayBeBare(self) -> None:
        self.assertEqual(MultistreamInitiator(b"/a").data_to_send(), [octets("A01 A04")])

    def test_earlyOctetsMayFollowASingleNameOnly(self) -> None:
        self.assertRaises(UsageError, MultistreamInitiator, [b"/a", b"/b"], release=Release.AT_ONCE)
        self.assertRaises(UsageError, MultistreamInitiator, [b"/a"], early=b"x")
        self.assertRaises(UsageError, MultistreamInitiator, [b"/a", b"/b"], early=b"x")

    def test_namesThatCannotBeProposed(self) -> None:
        for name in (b"", b"na", b"/multistream/1.0.0", b"/a\n", b"y" * 1024):
            self.assertRaises(UsageError, MultistreamInitiator, [name])
        self.assertRaises(UsageError, MultistreamInitiator, [])
        MultistreamInitiator([b"y" * 1023])

    def test_nothingIsFedAfterTheEnd(self) -> None:
        ours = MultistreamInitiator(b"/a")
        ours.receive_data(octets("A01 A04"))
        self.assertRaises(UsageError, ours.receive_data, b"x")
        self.assertRaises(UsageError, ours.receive_eof)

    def test_nothingIsAskedOfItsOwner(self) -> None:
        self.assertRaises(UsageError, MultistreamInitiator(b"/a").accept)
        self.assertRaises(UsageError, MultistreamInitiator(b"/a").reject, "")

    def test_aDeadlineEndsTheNegotiation(self) -> None:
        for ours in (MultistreamInitiator(b"/a", timeout=30), MultistreamResponder(KNOWN, timeout=30)):
            self.assertIsNone(ours.next_deadline())
            self.assertEqual(ours.begin(1000.0), 1030.0)
            self.assertEqual(ours.next_deadline(), 1030.0)
            self.assertEqual(ours.expire(1029.0), [])
            self.assertRaises(NegotiationExpired, ours.expire, 1030.0)

    def test_aSettledNegotiationHasNoDeadline(self) -> None:
        ours = MultistreamInitiator(b"/a", timeout=30)
        ours.begin(0.0)
        ours.receive_data(octets("A01 A04"))
        self.assertIsNone(ours.next_deadline())
        self.assertEqual(ours.expire(1000.0), [])

    def test_withoutATimeoutThereIsNoDeadline(self) -> None:
        ours = MultistreamInitiator(b"/a")
        self.assertIsNone(ours.begin(0.0))
        self.assertIsNone(ours.next_deadline())


class ResponderTests(SynchronousTestCase):
    """
    What the vectors do not say of the responder.
    """

    def test_headerAndAnswerAreSentTogether(self) -> None:
        ours = MultistreamResponder(KNOWN)
        ours.receive_data(octets("A01 A04"))
        self.assertEqual(b"".join(ours.data_to_send()), octets("A01 A04"))
        self.assertEqual(ours.data_to_send(), [])

    def test_headerWaitsForNothing(self) -> None:
        ours = MultistreamResponder(KNOWN)
        self.assertEqual(ours.data_to_send(), [HEADER])
        ours.receive_data(octets("A01 A04"))
        self.assertEqual(ours.data_to_send(), [octets("A04")])

    def test_proposalsAreBounded(self) -> None:
        ours = MultistreamResponder(KNOWN)
        ours.receive_data(HEADER + token(b"/x") * (PROPOSALS - 1))
        self.assertEqual(b"".join(ours.data_to_send()), HEADER + NOT_AVAILABLE_TOKEN * (PROPOSALS - 1))
        self.assertRaises(TooManyProposals, ours.receive_data, token(b"/x"))

    def test_octetsOfProposalsAreBoundedWithThem(self) -> None:
        large = token(b"y" * (LARGEST - 1))
        self.assertRaises(
            TooManyProposals,
            MultistreamResponder(KNOWN).receive_data,
            HEADER + large * (64 * 1024 // len(large) + 1),
        )

    def test_anOverlongTokenIsNotWaitedFor(self) -> None:
        self.assertRaises(BadMultistreamToken, MultistreamResponder(KNOWN).receive_data, HEADER + bytes.fromhex("8108"))

    def test_namesMayBeMatchedByAFunction(self) -> None:
        for knows in (lambda name: name.startswith(b"/pre/"), NameTable([b"/a"], match=lambda name: name.startswith(b"/pre/"))):
            ours = MultistreamResponder(knows)
            self.assertEqual(ours.receive_data(HEADER + token(b"/pre/9") + b"x"), [Agreed(b"/pre/9", {}, b"x")])
            self.assertEqual(b"".join(ours.data_to_send()), HEADER + token(b"/pre/9"))

    def test_longNamesAreKnown(self) -> None:
        for size in (126, 127, 128, 1023):
            name = b"/" + b"n" * (size - 1)
            event = MultistreamResponder([name]).receive_data(HEADER + token(name) + b"x")
            self.assertEqual(event, [Agreed(name, {}, b"x")])

    def test_aDiscardedNameIsNotKnown(self) -> None:
        names = NameTable(KNOWN)
        names.discard(b"/a")
        names.discard(b"/never")
        self.assertEqual(MultistreamResponder(names).receive_data(octets("A01 A04")), [])
        names.add(b"/a")
        self.assertEqual(MultistreamResponder(names).receive_data(octets("A01 A04")), [Agreed(b"/a")])

    def test_strictReadsNothingBehindAnUnknownName(self) -> None:
        for pieces in cuts(octets("A01 032f780a 032f620a 7a7a")):
            said, outcome, _ = hear(MultistreamResponder(KNOWN, strict=True), pieces, False, prompt=False)
            self.assertIsInstance(outcome, Rejected)
            self.assertIn(said, (b"", HEADER))

    def test_strictTakesAKnownName(self) -> None:
        self.assertEqual(MultistreamResponder(KNOWN, strict=True).receive_data(octets("A01 A04 78")), [Agreed(b"/a", {}, b"x")])


class AskedTests(SynchronousTestCase):
    """
    A responder whose owner decides.
    """

    def ask(self, behind: bytes = b"", strict: bool = False) -> MultistreamResponder:
        ours = MultistreamResponder(NameTable([b"/b"], asked=[b"/a"]), strict=strict)
        self.assertEqual(ours.receive_data(octets("A01 A04") + behind), [Proposed(b"/a")])
        self.assertEqual(b"".join(ours.data_to_send()), HEADER)
        return ours

    def test_nothingIsAnsweredBeforeTheOwnerHas(self) -> None:
        ours = self.ask(b"one ")
        self.assertEqual(ours.receive_data(b"two "), [])
        self.assertEqual(ours.data_to_send(), [])
        self.assertEqual(ours.receive_data(b"three"), [])
        self.assertEqual(ours.accept(), [Agreed(b"/a", {}, b"one two three")])
        self.assertEqual(ours.data_to_send(), [octets("A04")])
        self.assertTrue(ours.settled)

    def test_afterARefusalThePeerMayProposeAnother(self) -> None:
        ours = self.ask(octets("03"))
        ours.receive_data(octets("2f620a 7a7a"))
        self.assertEqual(ours.reject("not now"), [Agreed(b"/b", {}, b"zz")])
        self.assertEqual(b"".join(ours.data_to_send()), NOT_AVAILABLE_TOKEN + token(b"/b"))

    def test_theSameMayBeAskedAgainButNotForEver(self) -> None:
        ours = self.ask()
        for _ in range(PROPOSALS - 1):
            self.assertEqual(ours.reject("no"), [])
            self.assertEqual(ours.receive_data(octets("A04")), [Proposed(b"/a")])
        self.assertRaises(TooManyProposals, ours.reject, "no")

    def test_strictRefusalIsTheEnd(self) -> None:
        ours = self.ask(b"behind", strict=True)
        self.assertEqual(ours.reject("the database is away"), [Rejected("the database is away")])
        self.assertEqual(ours.data_to_send(), [])

    def test_whatIsKeptIsBounded(self) -> None:
        ours = self.ask()
        ours.receive_data(b"x" * BUFFER_LIMIT)
        self.assertRaises(NegotiationError, ours.receive_data, b"x")

    def test_endWhileTheOwnerThinks(self) -> None:
        ours = self.ask(b"whole request")
        self.assertEqual(ours.receive_eof(), [])
        self.assertEqual(ours.accept(), [Agreed(b"/a", {}, b"whole request")])
        ours = self.ask()
        ours.receive_eof()
        self.assertRaises(NegotiationTruncated, ours.reject, "no")

    def test_onlyWhatWasAskedIsAnswered(self) -> None:
        ours = MultistreamResponder(NameTable(asked=[b"/a"]))
        self.assertRaises(UsageError, ours.accept)
        self.assertRaises(UsageError, ours.reject, "")
        ours.receive_data(octets("A01 A04"))
        self.assertRaises(UsageError, ours.accept, {"no": "place"})
        events: list[NegotiationEvent] = ours.accept()
        self.assertEqual(events, [Agreed(b"/a")])
        self.assertRaises(UsageError, ours.accept)
