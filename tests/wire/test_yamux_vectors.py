"""
Every vector of the protocol's page means to us what the page says, wherever it is cut, and what we say is the page's octets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.vectors_yamux import (
    ENDED_BY_EOF,
    GOLDEN,
    MEANINGS,
    NEVER_SAID,
    ODD,
    PAYLOADS,
    SAYINGS,
    Meaning,
    octets,
)
from tunnelstack.wire.yamux.errors import PeerFailed, SessionError
from tunnelstack.wire.yamux.events import DataArrived, YamuxEvent

SHORT = 200     # octets up to which a vector is cut at every place


def merged(events: Iterable[YamuxEvent]) -> list[YamuxEvent]:
    """
    The same events with payload of a stream joined where nothing came between.
    """
    joined: list[YamuxEvent] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, DataArrived) and isinstance(last, DataArrived) and event.stream_id == last.stream_id:
            joined[-1] = DataArrived(event.stream_id, last.data + event.data)
        else:
            joined.append(event)
    return joined


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """
    In one piece, in two at every place (of a long one: around its ends and in the middle), and octet by octet.
    """
    yield [data]
    total = len(data)
    places = range(1, total) if total <= SHORT else [*range(1, 30), 4096, total // 2, *range(total - 30, total)]
    for place in places:
        yield [data[:place], data[place:]]
    if total <= SHORT:
        yield [data[place : place + 1] for place in range(total)]


class VectorTests(SynchronousTestCase):
    """
    The vectors V01-V38 and X01-X34.
    """

    def test_everyVectorIsHere(self) -> None:
        valid = {f"V{number:02}" for number in range(1, 39)}
        self.assertEqual(set(GOLDEN), valid)
        self.assertEqual(set(MEANINGS), valid)
        self.assertEqual(set(SAYINGS) | NEVER_SAID, valid)
        self.assertEqual(set(SAYINGS) & NEVER_SAID, set())
        self.assertEqual(set(ODD), {f"X{number:02}" for number in range(1, 35)})

    def receive(self, name: str, pieces: list[bytes], meaning: Meaning) -> None:
        ours = meaning.setup()
        before = ours.drained
        events: list[YamuxEvent] = []
        error: SessionError | None = None
        try:
            for piece in pieces:
                events += ours.receive_data(piece)
            if name in ENDED_BY_EOF:
                ours.receive_eof()
        except SessionError as broken:
            error = broken
            events += broken.events
        where = f"{name} cut at {len(pieces[0])}"
        self.assertEqual(merged(events), list(meaning.events), where)
        self.assertIs(error and type(error), meaning.error, where)
        self.assertEqual(b"".join(ours.data_to_send()), meaning.answer, where)
        self.assertEqual(ours.drained - before, meaning.drained, where)
        self.assertEqual(ours.streams, meaning.streams, where)

    def test_goodFramesAreDecoded(self) -> None:
        for name, meaning in MEANINGS.items():
            for pieces in cuts(octets(GOLDEN[name]) + PAYLOADS.get(name, b"")):
                self.receive(name, pieces, meaning)

    def test_oddFramesAreTakenAsAgreed(self) -> None:
        for name, (data, meaning) in ODD.items():
            for pieces in cuts(data):
                self.receive(name, pieces, meaning)

    def test_weSendTheSameOctets(self) -> None:
        for name, saying in SAYINGS.items():
            expected = octets(GOLDEN[name]) + PAYLOADS.get(name, b"")
            self.assertEqual(b"".join(saying().data_to_send()), expected, name)

    def test_goAwayKeepsItsCode(self) -> None:
        for data, code in ((octets(GOLDEN["V34"]), 2), (octets(GOLDEN["V35"]), 0x1005), (ODD["X20"][0], 3)):
            ours = MEANINGS["V34"].setup()
            self.assertEqual(self.assertRaises(PeerFailed, ours.receive_data, data).code, code)

    def test_grantsAreCounted(self) -> None:
        for name, expected in (
            ("V07", 256 * 1024),
            ("V08", 1024 * 1024),
            ("V14", 128 * 1024),
            ("V15", 512 * 1024),
            ("V17", 1),
            ("V16", 0),
        ):
            ours = MEANINGS[name].setup()
            ours.receive_data(octets(GOLDEN[name]))
            self.assertEqual(ours.credit(1), expected, name)
