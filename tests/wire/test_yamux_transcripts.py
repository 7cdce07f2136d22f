"""
Conversations with the Go library, played again with our machine in either part.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.test_yamux_vectors import merged
from tests.wire.transcripts_yamux import TRANSCRIPTS, Line, Transcript
from tests.wire.vectors_yamux import BROKEN
from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.errors import GoneAway
from tunnelstack.wire.yamux.events import KeepaliveLost, YamuxEvent

LONGEST = 26        # octets from the beginning of a line in which it is cut everywhere


class TranscriptTests(SynchronousTestCase):
    """
    The transcripts T1-T12.
    """

    def test_everyTranscriptIsHere(self) -> None:
        self.assertEqual({name.split()[0] for name in TRANSCRIPTS}, {f"T{number}" for number in range(1, 13)})

    def test_wePlayThePeerOfGo(self) -> None:
        self.play(">")

    def test_wePlayGo(self) -> None:
        self.play("<")

    def play(self, role: str) -> None:
        for name, transcript in TRANSCRIPTS.items():
            if role in transcript.roles:
                for cut in range(LONGEST):
                    self.replay(name, transcript, role, cut)

    def replay(self, name: str, transcript: Transcript, role: str, cut: int) -> YamuxConnection:
        ours = transcript.start(role)
        for number, line in enumerate(transcript.lines):
            where = f"{name} line {number} as {role} cut at {cut}"
            if line.sender != role:
                self.hear(ours, line, cut, where)
            elif line.act is not None:
                line.act(ours)
                said = b"".join(ours.data_to_send())
                self.assertEqual(said.hex(" ", 4), (line.instead or line.data).hex(" ", 4), where)
        return ours

    def hear(self, ours: YamuxConnection, line: Line, cut: int, where: str) -> None:
        if line.error is not None:
            self.assertRaises(line.error, ours.receive_data, line.data)
            self.assertEqual(ours.data_to_send(), [BROKEN], where)
            return
        events: list[YamuxEvent] = ours.receive_data(line.data[:cut]) + ours.receive_data(line.data[cut:])
        self.assertEqual(merged(events), list(line.sees), where)

    def replayed(self, name: str, role: str) -> YamuxConnection:
        return self.replay(name, TRANSCRIPTS[name], role, 0)

    def test_finishedStreamsAreForgotten(self) -> None:
        for name, role in (("T10", ">"), ("T11", ">"), ("T11", "<"), ("T8", ">")):
            ours = self.replayed(name, role)
            for stream_id in ours.stream_ids:
                ours.acknowledge(stream_id, ours.stream(stream_id).held)
            self.assertEqual(ours.streams, 0, name)
            self.assertEqual(ours.held, 0, name)
            self.assertEqual(ours.data_to_send(), [], name)

    def test_refusedPayloadIsDrained(self) -> None:
        self.assertEqual(self.replayed("T6", "<").drained, 2)
        self.assertEqual(self.replayed("T8", ">").drained, 200_000)
        self.assertEqual(self.replayed("T9", "<").drained, 2)

    def test_noOpeningAfterGoAwayOfEitherSide(self) -> None:
        for role in "<>":
            for name in ("T6", "T6 other direction"):
                self.assertRaises(GoneAway, self.replayed(name, role).open_stream, 0.0)

    def test_silenceAfterThePingIsLoss(self) -> None:
        ours = self.replayed("T7", "<")
        self.assertAlmostEqual(ours.next_deadline() or 0.0, 1.008)
        ours.expire(1.009)
        ours.ping_sent(1.009)
        self.assertEqual(ours.expire(1.309), [KeepaliveLost()])
        self.assertEqual(ours.expire(2.0), [])

    def test_windowIsUsedUpExactly(self) -> None:
        for name in ("T4", "T4 wide"):
            ours = self.replayed(name, ">")
            self.assertEqual(ours.octets_out, 1024 * 1024)
        self.assertEqual(self.replayed("T3", ">").octets_in, 1024 * 1024)
