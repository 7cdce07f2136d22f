"""
Negotiations in a row: a name, then parameters, then the application's octets, with nothing lost between them.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.test_multistream import cuts, hear, whole
from tunnelstack.errors import PeerError, UsageError
from tunnelstack.wire.jsonline import InvalidJSON, LineTooLong, encode
from tunnelstack.wire.negotiation.base import (
    BUFFER_LIMIT,
    Agreed,
    Negotiation,
    NegotiationError,
    NegotiationExpired,
    NegotiationSequence,
    NegotiationTruncated,
    Proposed,
    Rejected,
    Release,
)
from tunnelstack.wire.negotiation.json_object import OK_OR_REASON, JSONInitiator, JSONResponder
from tunnelstack.wire.negotiation.multistream.initiator import MultistreamInitiator, UnexpectedAnswer
from tunnelstack.wire.negotiation.multistream.names import NameTable
from tunnelstack.wire.negotiation.multistream.responder import MultistreamResponder
from tunnelstack.wire.negotiation.multistream.tokens import HEADER, NOT_AVAILABLE_TOKEN, token

NAME = b"/demo/shout/1.0.0"
OPENING = HEADER + token(NAME)
PARAMETERS = {"volume": 11}
LINE = b'{"volume":11}\n'


class SenderTests(SynchronousTestCase):
    """
    One line of parameters, said.
    """

    def test_withoutAnAnswerItIsSettledByItself(self) -> None:
        ours = JSONInitiator(PARAMETERS)
        self.assertEqual(ours.release, Release.AT_ONCE)
        self.assertEqual(ours.data_to_send(), [LINE])
        self.assertEqual(ours.receive_data(b""), [Agreed(b"", {}, b"")])

    def test_anAcceptingAnswerIsRead(self) -> None:
        for pieces in cuts(b'{"ok":true,"port":7}\nbehind'):
            said, outcome, left = hear(JSONInitiator(PARAMETERS, answers=OK_OR_REASON), pieces, False, prompt=True)
            self.assertEqual(said, LINE)
            self.assertEqual(whole(outcome, left), Agreed(b"", {"ok": True, "port": 7}, b"behind"))

    def test_aRefusingAnswerIsRead(self) -> None:
        for pieces in cuts(b'{"ok":false,"reason":"closed today"}\n'):
            _, outcome, _ = hear(JSONInitiator(PARAMETERS, answers=OK_OR_REASON), pieces, False, prompt=True)
            self.assertEqual(outcome, Rejected("closed today"))

    def test_anAnswerThatIsNeitherIsAnError(self) -> None:
        for answer, error in (
            (b"{}\n", NegotiationError),
            (b'{"ok":1}\n', NegotiationError),
            (b'{"ok":false}\n', NegotiationError),
            (b"[true]\n", InvalidJSON),
            (b"x" * 65, LineTooLong),
        ):
            self.assertRaises(error, JSONInitiator(PARAMETERS, answers=OK_OR_REASON, limit=64).receive_data, answer)

    def test_anEndBeforeTheAnswerIsAnError(self) -> None:
        ours = JSONInitiator(PARAMETERS, answers=OK_OR_REASON)
        ours.receive_data(b'{"ok"')
        self.assertRaises(NegotiationTruncated, ours.receive_eof)

    def test_anAnswerThatNeverComesIsNotWaitedFor(self) -> None:
        self.assertRaises(UsageError, JSONInitiator, PARAMETERS, release=Release.ON_REPLY)
        self.assertRaises(UsageError, JSONInitiator, {"key": b"octets"})


class ReceiverTests(SynchronousTestCase):
    """
    One line of parameters, heard.
    """

    def test_aLineMayNeedNoAnswer(self) -> None:
        for pieces in cuts(LINE + b"behind"):
            said, outcome, left = hear(JSONResponder(), pieces, False, prompt=True)
            self.assertEqual((said, whole(outcome, left)), (b"", Agreed(b"", PARAMETERS, b"behind")))

    def ask(self) -> JSONResponder:
        ours = JSONResponder(answers=OK_OR_REASON)
        self.assertEqual(ours.receive_data(LINE + b"be"), [Proposed(b"", PARAMETERS)])
        self.assertEqual(ours.receive_data(b"hind"), [])
        self.assertEqual(ours.data_to_send(), [])
        return ours

    def test_acceptingWritesTheAnswer(self) -> None:
        ours = self.ask()
        self.assertEqual(ours.receive_eof(), [])
        self.assertEqual(ours.accept({"port": 7, "ok": False}), [Agreed(b"", PARAMETERS, b"behind")])
        self.assertEqual(ours.data_to_send(), [b'{"port":7,"ok":true}\n'])
        self.assertRaises(UsageError, ours.accept)

    def test_refusingWritesTheReason(self) -> None:
        ours = self.ask()
        self.assertEqual(ours.reject("closed"), [Rejected("closed")])
        self.assertEqual(ours.data_to_send(), [b'{"ok":false,"reason":"closed"}\n'])

    def test_badLinesAreErrors(self) -> None:
        for line, error in ((b"[]\n", InvalidJSON), (b"{]\n", InvalidJSON), (b"x" * 17, LineTooLong)):
            self.assertRaises(error, JSONResponder(limit=16).receive_data, line)

    def test_anEarlyEndIsAnError(self) -> None:
        ours = JSONResponder(answers=OK_OR_REASON)
        ours.receive_data(b'{"vol')
        self.assertRaises(NegotiationTruncated, ours.receive_eof)

    def test_whatIsKeptIsBounded(self) -> None:
        ours = self.ask()
        ours.receive_data(b"x" * (BUFFER_LIMIT - 4))
        self.assertRaises(NegotiationError, ours.receive_data, b"x")

    def test_onlyWhatWasAskedIsAnswered(self) -> None:
        self.assertRaises(UsageError, JSONResponder(answers=OK_OR_REASON).accept)
        self.assertRaises(UsageError, JSONResponder().reject, "")


def opening(first: Release, **options: Any) -> NegotiationSequence:
    """
    An initiator's name and parameters.
    """
    return NegotiationSequence(MultistreamInitiator(NAME, release=first), JSONInitiator(PARAMETERS, **options))


class ThenTests(SynchronousTestCase):
    """
    Two as one.
    """

    def test_everythingMayBeSentAtOnce(self) -> None:
        ours = opening(Release.AT_ONCE)
        self.assertEqual(ours.release, Release.AT_ONCE)
        self.assertEqual(b"".join(ours.data_to_send()), OPENING + LINE)
        self.assertEqual(ours.receive_data(OPENING + b"shout"), [Agreed(NAME, {}, b"shout")])
        self.assertTrue(ours.settled)
        self.assertEqual(ours.data_to_send(), [])

    def test_parametersWaitForTheName(self) -> None:
        ours = opening(Release.ON_REPLY)
        self.assertEqual(ours.release, Release.ON_REPLY)
        self.assertEqual(b"".join(ours.data_to_send()), OPENING)
        self.assertEqual(ours.receive_data(OPENING), [Agreed(NAME)])
        self.assertEqual(b"".join(ours.data_to_send()), LINE)

    def test_releaseIsTheLaterOne(self) -> None:
        for first, second, both in (
            (Release.AT_ONCE, {"answers": OK_OR_REASON}, Release.ON_REPLY),
            (Release.ON_REPLY, {"release": Release.ON_FIRST_OCTET}, Release.ON_FIRST_OCTET),
            (Release.AT_ONCE, {"release": Release.ON_FIRST_OCTET}, Release.ON_FIRST_OCTET),
        ):
            self.assertEqual(opening(first, **second).release, both)
        self.assertRaises(UsageError, opening, Release.ON_FIRST_OCTET)

    def test_answersAreReadInOrder(self) -> None:
        for release in (Release.AT_ONCE, Release.ON_REPLY):
            for pieces in cuts(OPENING + b'{"ok":true}\nshout'):
                said, outcome, left = hear(opening(release, answers=OK_OR_REASON), pieces, False, prompt=True)
                self.assertEqual(said, OPENING + LINE)
                self.assertEqual(whole(outcome, left), Agreed(NAME, {"ok": True}, b"shout"))

    def test_aRefusedNameIsARefusal(self) -> None:
        ours = opening(Release.AT_ONCE)
        (event,) = ours.receive_data(HEADER + NOT_AVAILABLE_TOKEN)
        self.assertIsInstance(event, Rejected)
        self.assertTrue(ours.settled)

    def test_anotherNameIsAnError(self) -> None:
        self.assertRaises(UnexpectedAnswer, opening(Release.AT_ONCE).receive_data, HEADER + token(b"/other"))

    def respond(self, *, ask: bool = False, **options: Any) -> NegotiationSequence:
        names = NameTable(asked=[NAME]) if ask else NameTable([NAME, b"/bare"])
        return NegotiationSequence(MultistreamResponder(names), lambda name: JSONResponder(**options) if name == NAME else None)

    def test_theResponderAnswersBothParts(self) -> None:
        for pieces in cuts(OPENING + LINE + b"whisper"):
            said, outcome, left = hear(self.respond(), pieces, False, prompt=True)
            self.assertEqual(said, OPENING)
            self.assertEqual(whole(outcome, left), Agreed(NAME, PARAMETERS, b"whisper"))

    def test_responderIsAskedWithTheName(self) -> None:
        ours = self.respond(answers=OK_OR_REASON)
        self.assertEqual(ours.receive_data(OPENING + LINE + b"whisper"), [Proposed(NAME, PARAMETERS)])
        self.assertEqual(ours.accept(), [Agreed(NAME, PARAMETERS, b"whisper")])
        self.assertEqual(b"".join(ours.data_to_send()), OPENING + encode({"ok": True}))

    def test_theResponderMayRefuseTheSecondPart(self) -> None:
        ours = self.respond(answers=OK_OR_REASON)
        ours.receive_data(OPENING + LINE)
        self.assertEqual(ours.reject("no"), [Rejected("no")])
        self.assertTrue(ours.settled)

    def test_aNameThatNothingFollows(self) -> None:
        ours = self.respond()
        self.assertEqual(ours.receive_data(HEADER + token(b"/bare") + b"{}\n"), [Agreed(b"/bare", {}, b"{}\n")])
        self.assertTrue(ours.settled)

    def test_theNameIsProposedFirst(self) -> None:
        ours = self.respond(ask=True)
        self.assertEqual(ours.receive_data(OPENING + LINE[:5]), [Proposed(NAME)])
        self.assertEqual(ours.receive_data(LINE[5:] + b"!"), [])
        self.assertEqual(ours.accept(), [Agreed(NAME, PARAMETERS, b"!")])

    def test_endIsToldToTheSecond(self) -> None:
        ours = self.respond(ask=True, answers=OK_OR_REASON)
        ours.receive_data(OPENING + LINE)
        self.assertEqual(ours.receive_eof(), [])
        self.assertEqual(ours.accept(), [Proposed(NAME, PARAMETERS)])
        self.assertEqual(ours.accept(), [Agreed(NAME, PARAMETERS)])
        ours = self.respond(ask=True)
        ours.receive_data(OPENING + LINE[:3])
        ours.receive_eof()
        self.assertRaises(NegotiationTruncated, ours.accept)

    def test_anEndBetweenTheTwoIsAnError(self) -> None:
        ours = self.respond()
        ours.receive_data(OPENING)
        self.assertRaises(NegotiationTruncated, ours.receive_eof)

    def test_eachHasItsOwnTime(self) -> None:
        ours = NegotiationSequence(MultistreamResponder([NAME], timeout=10), JSONResponder(timeout=5))
        self.assertIsNone(ours.next_deadline())
        self.assertEqual(ours.begin(100.0), 110.0)
        self.assertEqual(ours.next_deadline(), 110.0)
        ours.expire(108.0)
        ours.receive_data(OPENING)
        self.assertEqual(ours.next_deadline(), 113.0)
        self.assertRaises(NegotiationExpired, ours.expire, 113.0)

    def test_threeMayFollowEachOther(self) -> None:
        ours: Negotiation = NegotiationSequence(
            NegotiationSequence(MultistreamInitiator(NAME), JSONInitiator({"a": 1}, answers=OK_OR_REASON)),
            JSONInitiator({"b": 2}),
        )
        ours.data_to_send()
        ours.receive_data(OPENING)
        self.assertEqual(ours.data_to_send(), [b'{"a":1}\n'])
        self.assertEqual(ours.receive_data(b'{"ok":true}\nx'), [Agreed(NAME, {}, b"x")])
        self.assertEqual(ours.data_to_send(), [b'{"b":2}\n'])

    def test_onlyPeerErrorsAreRaised(self) -> None:
        for data in (b"\x00", b"\x80\x00", HEADER + b"\x01x", OPENING + b"\xff\n"):
            self.assertRaises(PeerError, self.respond().receive_data, data)
