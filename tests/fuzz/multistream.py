"""
Bent octets for both sides of multistream-select, in one piece and in two.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from tests.wire.vectors_multistream import INITIATOR, RESPONDER, octets
from tunnelstack.errors import PeerError
from tunnelstack.wire.negotiation.base import Agreed, Negotiation, NegotiationSequence, Proposed
from tunnelstack.wire.negotiation.json_object import OK_OR_REASON, JSONInitiator, JSONResponder
from tunnelstack.wire.negotiation.multistream.initiator import MultistreamInitiator
from tunnelstack.wire.negotiation.multistream.names import NameTable
from tunnelstack.wire.negotiation.multistream.responder import MultistreamResponder

SEEDS = [
    *(octets(heard.hears) for heard in [*RESPONDER.values(), *INITIATOR.values()]),
    octets("A01 A04") + b'{"to":"db","purpose":"tcp"}\nbehind',
    octets("A01 A02 032f620a") + b'{"ok":true}\nbehind',
]

SIDES: list[Callable[[], Negotiation]] = [
    lambda: MultistreamResponder([b"/a", b"/b"]),
    lambda: MultistreamResponder(NameTable([b"/b"], asked=[b"/a"]), strict=True),
    lambda: NegotiationSequence(MultistreamResponder([b"/a", b"/b"]), JSONResponder(answers=OK_OR_REASON, limit=256)),
    lambda: MultistreamInitiator([b"/a", b"/b"]),
    lambda: NegotiationSequence(MultistreamInitiator([b"/a", b"/b"]), JSONInitiator({}, answers=OK_OR_REASON, limit=256)),
]


def target(data: bytes) -> Hashable:
    """
    @return: what each side made of it.
    """
    return tuple(heard(make, data) for make in SIDES)


def heard(make: Callable[[], Negotiation], data: bytes) -> Hashable:
    """
    In one piece and in two, which must come to the same; leftovers are exact.
    """
    whole = feed(make(), [data])
    middle = len(data) // 2
    if feed(make(), [data[:middle], data[middle:]]) != whole:
        raise AssertionError("it matters where the octets are cut")
    return whole[0]


def feed(ours: Negotiation, pieces: list[bytes]) -> tuple[Hashable, bytes, bytes]:
    """
    @return: what kind of end it came to, what was said, and what is left for the application.
    """
    said, kind, rest = ours.data_to_send(), "undecided", b""
    try:
        for piece in pieces:
            if ours.settled:
                rest += piece if kind == "Agreed" else b""
                continue
            for event in ours.receive_data(piece):
                kind = event.__class__.__name__
                if isinstance(event, Agreed):
                    rest = event.leftover
                    if not piece.endswith(rest):
                        raise AssertionError("the leftover is not what was left")
        if kind == Proposed.__name__:
            (answer,) = ours.accept()
            kind, rest = "Proposed and agreed", answer.leftover  # type: ignore[attr-defined]
    except PeerError as error:
        kind, rest = error.__class__.__name__, b""
    return kind, b"".join(said + ours.data_to_send()), rest
