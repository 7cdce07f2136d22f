"""
Streams that are connections of their own, against a simpler model: whatever the two applications do in whatever order, what one
has written before its end arrives at the other, in order and once, and nothing is left of a stream that both have closed.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from tests.promises.streams import HalfCollect
from tests.session.test_direct import Place
from tunnelstack.handler.tcp import SpliceFactory

SIDES = st.sampled_from(("near", "far"))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), SIDES, st.sampled_from((1, 100, 16_384, 16_385, 200_000))),
        st.tuples(st.sampled_from(("record", "end", "close", "pause", "resume")), SIDES, st.just(0)),
        st.tuples(st.sampled_from(("turn", "settle")), st.just("near"), st.just(0)),
    ),
    max_size=25,
)


class Side:
    """
    One application, and the model of what it does.

    @ivar sent: what it has written before its end.
    @ivar closed: it does not read any more; C{read}, how much it had read by then.
    """

    def __init__(self, end: HalfCollect) -> None:
        self.end = end
        self.transport: Any = end.transport
        self.sent = b""
        self.ended = self.closed = False
        self.read = 0

    def write(self, octets: bytes, record: bool = False) -> None:
        if self.transport.connected and not self.ended:
            self.sent += octets
        (self.transport.writeRecord if record else self.transport.write)(octets)

    def do(self, what: str, octets: int, number: int) -> None:
        match what:
            case "write":
                self.write(bytes([number % 251]) * octets)
            case "record":
                self.write(b"record %d" % number, record=True)
            case "end":
                self.transport.loseWriteConnection()
                self.ended = True
            case "close":
                self.transport.loseConnection()
                self.ended = True
                if not self.closed:
                    self.closed, self.read = True, len(self.end.got)
            case "pause":
                self.transport.pauseProducing()
            case "resume":
                self.transport.resumeProducing()


class DirectStreamModel(SynchronousTestCase):
    """
    Over TLS with half-close, and over TCP; whole and in pieces.
    """

    def play(self, steps: list[tuple[str, str, int]], **options: Any) -> None:
        place = Place(**options)
        near, far = HalfCollect(), HalfCollect()
        place.far.listener.listen(SpliceFactory(far))  # type: ignore[arg-type]
        place.near.connector.connect(SpliceFactory(near))  # type: ignore[arg-type]
        place.settle()
        sides = {"near": Side(near), "far": Side(far)}
        for number, (what, name, octets) in enumerate(steps):
            if what == "turn":
                place.wires[0].turn()
            elif what == "settle":
                place.settle()
            else:
                sides[name].do(what, octets, number)
        for name in sides:
            sides[name].do("resume", 0, 0)
        place.settle()
        self.check(sides["near"], sides["far"])
        self.check(sides["far"], sides["near"])
        for side in sides.values():
            side.do("close", 0, 0)
        place.settle()
        for side in sides.values():
            self.assertTrue(side.end.reason.check(ConnectionDone, ConnectionAborted), side.end.reason)
        self.assertEqual((place.near.streams, place.far.streams), (0, 0))
        self.assertEqual(place.clock.getDelayedCalls(), [])

    def check(self, writer: Side, reader: Side) -> None:
        got = reader.end.got
        if reader.closed:
            self.assertTrue(writer.sent.startswith(got))
            self.assertEqual(len(got), reader.read)
        else:
            self.assertTrue(got == writer.sent, (len(got), len(writer.sent)))
            if writer.ended:
                self.assertIn("read ended", reader.end.told)

    @given(STEPS)
    def test_tlsDeliversWhatWasWritten(self, steps: list[tuple[str, str, int]]) -> None:
        self.play(steps)

    @given(STEPS)
    def test_tlsInPiecesDeliversWhatWasWritten(self, steps: list[tuple[str, str, int]]) -> None:
        self.play(steps, cut=4093)

    @given(STEPS)
    def test_tcpDeliversWhatWasWritten(self, steps: list[tuple[str, str, int]]) -> None:
        self.play(steps, tls=False)
