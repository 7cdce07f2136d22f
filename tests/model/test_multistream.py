"""
An initiator and a responder over a pipe that loses nothing and cuts anywhere: they always come to an end, both to the same,
and the octets of both applications arrive whole.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import PeerError
from tunnelstack.wire.negotiation.base import (
    Agreed,
    Negotiation,
    NegotiationEvent,
    NegotiationSequence,
    Proposed,
    Rejected,
    Release,
)
from tunnelstack.wire.negotiation.json_object import OK_OR_REASON, JSONInitiator, JSONResponder
from tunnelstack.wire.negotiation.multistream.initiator import MultistreamInitiator
from tunnelstack.wire.negotiation.multistream.names import NameTable
from tunnelstack.wire.negotiation.multistream.responder import MultistreamResponder
from tunnelstack.wire.negotiation.multistream.tokens import token

names = st.sampled_from([b"/a", b"/b", b"/c", b"/a/longer", b"/" + b"n" * 126, b"/" + b"n" * 1022])
applications = st.binary(max_size=40) | st.sampled_from([token(b"/a"), token(b"na"), b"{}\n"])


class Pipe:
    """
    Two negotiations and what is under way between them.

    @ivar events: what each was told last.
    @ivar got: what each one's application got.
    """

    def __init__(self, sides: tuple[Negotiation, Negotiation], applications: tuple[bytes, bytes], accepts: list[bool]) -> None:
        self.sides = sides
        self.applications = list(applications)
        self.accepts = accepts
        self.wire = [b"", b""]              # toward the initiator, toward the responder
        self.events: list[NegotiationEvent | None] = [None, None]
        self.got = [b"", b""]
        for side in (0, 1):
            self.told(side, [])

    def told(self, side: int, events: list[NegotiationEvent]) -> None:
        """
        Do what an owner does.
        """
        ours = self.sides[side]
        while events:
            (self.events[side],) = events
            events = []
            if isinstance(self.events[side], Proposed):
                events = ours.accept() if self.accepts.pop() else ours.reject("no")
        self.wire[1 - side] += b"".join(ours.data_to_send())
        event = self.events[side]
        if isinstance(event, Agreed):
            self.got[side] += event.leftover
        free = isinstance(event, Agreed) or (event is None and side == 0 and ours.release is Release.AT_ONCE)
        if free:
            self.wire[1 - side] += self.applications[side]
            self.applications[side] = b""

    def deliver(self, side: int, most: int) -> None:
        """
        Some octets arrive.
        """
        data, self.wire[side] = self.wire[side][:most], self.wire[side][most:]
        if not data or isinstance(self.events[side], Rejected):
            return
        if isinstance(self.events[side], Agreed):
            self.got[side] += data
            return
        self.told(side, self.sides[side].receive_data(data))

    def run(self, deliveries: list[tuple[int, int]]) -> None:
        """
        Deliver as told, then everything.
        """
        for side, most in deliveries:
            self.deliver(side, most)
        for _ in range(1000):
            if not any(self.wire):
                return
            for side in (0, 1):
                self.deliver(side, len(self.wire[side]))
        raise AssertionError("they do not come to an end")


deliveries = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 60)), max_size=40)


class PipeTests(SynchronousTestCase):
    """
    Both sides of ours.
    """

    @given(
        st.lists(names, min_size=1, max_size=4), st.sets(names), st.sets(names),
        st.lists(st.booleans(), min_size=4, max_size=4), applications, applications, deliveries,
    )  # fmt: skip
    def test_severalNamesAreProposedInOrder(
        self, proposed: list[bytes], known: set[bytes], asked: set[bytes], accepts: list[bool], up: bytes, down: bytes,
        when: list[tuple[int, int]],
    ) -> None:  # fmt: skip
        decisions = iter(list(reversed(accepts)))
        expected = next((name for name in proposed if (name in asked and next(decisions)) or name in known - asked), None)
        pipe = Pipe(
            (MultistreamInitiator(proposed), MultistreamResponder(NameTable(known - asked, asked=asked))),
            (up, down),
            accepts,
        )
        pipe.run(when)
        ours, theirs = pipe.events
        if expected is None:
            self.assertIsInstance(ours, Rejected)
            self.assertNotIsInstance(theirs, Agreed)
        else:
            assert isinstance(ours, Agreed) and isinstance(theirs, Agreed)
            self.assertEqual((ours.name, theirs.name), (expected, expected))
            self.assertEqual(pipe.got, [down, up])

    @given(names, st.booleans(), st.sampled_from([None, OK_OR_REASON]), st.booleans(), applications, applications, deliveries)
    def test_everythingMayArriveAtOnce(
        self, name: bytes, early: bool, answers: object, accept: bool, up: bytes, down: bytes, when: list[tuple[int, int]],
    ) -> None:  # fmt: skip
        release = Release.AT_ONCE if early else Release.ON_REPLY
        initiator = NegotiationSequence(MultistreamInitiator(name, release=release), JSONInitiator({"n": 1}, answers=answers))  # type: ignore[arg-type]
        responder = NegotiationSequence(MultistreamResponder([name], strict=True), JSONResponder(answers=answers))  # type: ignore[arg-type]
        pipe = Pipe((initiator, responder), (up, down), [accept])
        pipe.run(when)
        ours, theirs = pipe.events
        if answers is None or accept:
            assert isinstance(ours, Agreed) and isinstance(theirs, Agreed)
            self.assertEqual((ours.name, theirs.name, theirs.parameters), (name, name, {"n": 1}))
            self.assertEqual(pipe.got, [down, up])
        else:
            self.assertEqual(pipe.events, [Rejected("no"), Rejected("no")])

    @given(st.lists(names | st.just(b"na") | st.binary(max_size=5), max_size=5), st.binary(max_size=20), st.data())
    def test_chunkingChangesNothing(self, texts: list[bytes], rest: bytes, data: st.DataObject) -> None:
        stream = token(b"/multistream/1.0.0") + b"".join(map(token, texts)) + rest
        for make in (lambda: MultistreamResponder([b"/a", b"/c"]), lambda: MultistreamInitiator([b"/b", b"/a"])):
            whole = outcome(make(), [stream])
            cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
            pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
            self.assertEqual(outcome(make(), pieces), whole)


def outcome(ours: Negotiation, pieces: list[bytes]) -> tuple[bytes, object]:
    """
    @return: what was said, and the event with all that is left, or the class of the error.
    """
    event: object = None
    said = ours.data_to_send()
    try:
        for piece in pieces:
            if not ours.settled:
                event = next(iter(ours.receive_data(piece)), None)
            elif isinstance(event, Agreed):
                event.leftover += piece
    except PeerError as error:
        event = type(error)
    return b"".join(said + ours.data_to_send()), event
