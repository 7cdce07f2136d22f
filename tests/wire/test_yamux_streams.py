"""
How one stream lives and ends in a yamux session, and what it never says.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.reachable import objectsOf
from tests.wire.frames_yamux import data, frame, relay, said, syn
from tests.wire.vectors_yamux import FILLED, KIB, MIB, accepted, client, opened, server
from tunnelstack.errors import UsageError
from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.events import (
    CREDIT_OVERFLOW,
    CreditArrived,
    DataArrived,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from tunnelstack.wire.yamux.frames import ACK, DATA, FIN, PING, RST, SYN, WINDOW
from tunnelstack.wire.yamux.limits import SessionLimits


class SendingTests(SynchronousTestCase):
    """
    Payload goes out within credit, in frames, before its FIN.
    """

    def test_takesNoMoreThanAFrame(self) -> None:
        ours = opened()
        self.assertEqual(ours.send_data(1, bytes(100_000)), 65_524)
        self.assertEqual(said(ours), [(DATA, 0, 1, 65_524)])

    def test_takesNoMoreThanCredit(self) -> None:
        ours = YamuxConnection(True, SessionLimits(max_frame=64 * KIB))
        ours.open_stream(0.0)
        self.assertEqual([ours.send_data(1, bytes(64 * KIB)) for _ in range(5)], [64 * KIB] * 4 + [0])
        self.assertEqual(ours.credit(1), 0)
        self.assertEqual(ours.octets_out, 256 * KIB)
        ours.receive_data(frame(WINDOW, 0, 1, 10))
        self.assertEqual(ours.send_data(1, b"twelve octets"), 10)

    def test_aWholeTakenIsNotCopied(self) -> None:
        ours, payload = opened(), b"x" * 1000
        ours.send_data(1, payload)
        self.assertIs(ours.data_to_send()[1], payload)

    def test_nothingIsNoFrame(self) -> None:
        ours = opened()
        self.assertEqual(ours.send_data(1, b""), 0)
        self.assertEqual(ours.data_to_send(), [])

    def test_creditIsToldOnlyFromNothing(self) -> None:
        ours = opened()
        self.assertEqual(ours.receive_data(frame(WINDOW, 0, 1, 10)), [])
        while ours.send_data(1, FILLED):
            pass
        self.assertEqual(ours.receive_data(frame(WINDOW, 0, 1, 10) * 2), [CreditArrived(1)])

    def test_creditAfterOurEndIsNotTold(self) -> None:
        ours = opened()
        while ours.send_data(1, FILLED):
            pass
        ours.end_stream(1)
        self.assertEqual(ours.receive_data(frame(WINDOW, 0, 1, 10)), [])
        self.assertEqual(ours.credit(1), 0)

    def test_highestCreditIsTaken(self) -> None:
        ours = opened()
        self.assertEqual(ours.receive_data(frame(WINDOW, 0, 1, 0xFFFFFFFF - 256 * KIB)), [])
        self.assertEqual(ours.credit(1), 0xFFFFFFFF)
        self.assertEqual(ours.receive_data(frame(WINDOW, 0, 1, 1)), [StreamReset(1, 0, CREDIT_OVERFLOW)])

    def test_endFollowsAllPayloadOnce(self) -> None:
        ours = opened()
        ours.send_data(1, b"a")
        ours.send_data(1, b"b")
        ours.end_stream(1)
        ours.end_stream(1)
        self.assertEqual(said(ours), [(DATA, 0, 1, 1), (DATA, 0, 1, 1), (WINDOW, FIN, 1, 0)])
        ours.end_stream(1)
        self.assertEqual(said(ours), [])

    def test_payloadAfterTheEndIsAnError(self) -> None:
        ours = opened()
        ours.end_stream(1)
        self.assertRaises(UsageError, ours.send_data, 1, b"late")

    def test_nothingIsSentBeforeTheAccept(self) -> None:
        ours = server()
        ours.receive_data(syn(1))
        self.assertEqual(ours.credit(1), 0)
        self.assertRaises(UsageError, ours.send_data, 1, b"early")
        self.assertRaises(UsageError, ours.end_stream, 1)
        self.assertEqual(said(ours), [])

    def test_lateCallsOnAStreamThatIsGoneDoNothing(self) -> None:
        ours = accepted()
        ours.receive_data(frame(WINDOW, RST, 1))
        self.assertEqual(ours.send_data(1, b"late"), 0)
        self.assertEqual(ours.credit(1), 0)
        ours.end_stream(1)
        ours.reset_stream(1)
        ours.accept_stream(1)
        ours.acknowledge(1, 10)
        self.assertEqual(said(ours), [])

    def test_controlLeavesBeforePayload(self) -> None:
        ours = opened()
        ours.receive_data(data(1, bytes(128 * KIB)))
        ours.send_data(1, b"payload")
        ours.acknowledge(1, 128 * KIB)
        ours.open_stream(0.0)
        ours.receive_data(frame(PING, SYN, 0, 7) + syn(2))
        ours.accept_stream(2)
        self.assertEqual(ours.control_octets(), 48)
        self.assertEqual(
            said(ours),
            [
                (PING, ACK, 0, 7),
                (WINDOW, SYN, 3, 0),
                (WINDOW, ACK, 2, 0),
                (WINDOW, 0, 1, 128 * KIB),
                (DATA, 0, 1, 7),
            ],
        )
        self.assertEqual(ours.control_octets(), 0)
        self.assertEqual(ours.data_to_send(), [])


class ResetTests(SynchronousTestCase):
    """
    A reset is the last word on a stream.
    """

    def test_dropsWhatDidNotLeave(self) -> None:
        ours = opened()
        other = ours.open_stream(0.0)
        ours.data_to_send()
        ours.send_data(1, b"lost")
        ours.send_data(other, b"kept")
        ours.end_stream(other)
        ours.send_data(1, b"lost")
        ours.end_stream(1)
        ours.reset_stream(1)
        self.assertEqual(said(ours), [(WINDOW, RST, 1, 0), (DATA, 0, other, 4), (WINDOW, FIN, other, 0)])

    def test_peersResetDropsToo(self) -> None:
        ours = opened()
        ours.send_data(1, b"lost")
        self.assertEqual(ours.receive_data(frame(WINDOW, RST, 1)), [StreamReset(1)])
        self.assertEqual(said(ours), [])

    def test_whatLeftIsNotSaidAgain(self) -> None:
        ours = opened()
        ours.send_data(1, b"gone")
        ours.data_to_send()
        ours.reset_stream(1)
        self.assertEqual(said(ours), [(WINDOW, RST, 1, 0)])

    def test_followsItsOpening(self) -> None:
        ours = client()
        ours.open_stream(0.0)
        ours.reset_stream(1)
        self.assertEqual(said(ours), [(WINDOW, SYN, 1, 0), (WINDOW, RST, 1, 0)])

    def test_followsItsAcceptance(self) -> None:
        ours = server()
        ours.receive_data(syn(1))
        ours.accept_stream(1)
        ours.reset_stream(1)
        self.assertEqual(said(ours), [(WINDOW, ACK, 1, 0), (WINDOW, RST, 1, 0)])

    def test_takesCreditBack(self) -> None:
        ours = accepted()
        ours.receive_data(data(1, bytes(128 * KIB)))
        ours.acknowledge(1, 128 * KIB)
        ours.reset_stream(1)
        self.assertEqual(said(ours), [(WINDOW, RST, 1, 0)])

    def test_laterPayloadIsDrained(self) -> None:
        ours = accepted()
        ours.reset_stream(1)
        self.assertEqual(ours.receive_data(data(1, bytes(1000)) + frame(WINDOW, FIN, 1)), [])
        self.assertEqual(ours.drained, 1000)
        self.assertEqual(ours.held, 0)

    def test_aResetMayComeInTheMiddleOfAFrame(self) -> None:
        ours = accepted()
        whole = data(1, b"0123456789") + syn(3)
        self.assertEqual(ours.receive_data(whole[:16]), [DataArrived(1, b"0123")])
        ours.reset_stream(1)
        self.assertEqual(ours.receive_data(whole[16:]), [StreamOpened(3)])
        self.assertEqual(ours.drained, 6)

    def test_noResetAfterBothEndsWereTold(self) -> None:
        ours = accepted()
        ours.receive_data(data(1, b"held") + frame(WINDOW, FIN, 1))
        ours.end_stream(1)
        ours.data_to_send()
        ours.reset_stream(1)
        self.assertEqual(said(ours), [])
        self.assertEqual((ours.streams, ours.held), (0, 0))

    def test_resetTakesThePlaceOfAnEndThatDidNotLeave(self) -> None:
        ours = accepted()
        ours.receive_data(data(1, b"held") + frame(WINDOW, FIN, 1))
        ours.end_stream(1)
        ours.reset_stream(1)
        self.assertEqual(said(ours), [(WINDOW, RST, 1, 0)])

    def test_anIdMayComeAgain(self) -> None:
        ours = accepted()
        ours.receive_data(frame(WINDOW, RST, 1))
        self.assertEqual(ours.receive_data(syn(1)), [StreamOpened(1)])


class EndTests(SynchronousTestCase):
    """
    A stream leaves the table when everybody is done with it.
    """

    def test_bothEndsInAnyOrder(self) -> None:
        for ours_first in (True, False):
            ours = accepted()
            steps = [lambda ours=ours: ours.end_stream(1), lambda ours=ours: ours.receive_data(frame(WINDOW, FIN, 1))]
            for step in steps if ours_first else reversed(steps):
                self.assertEqual(ours.streams, 1)
                step()
            self.assertEqual(ours.streams, 0)
            self.assertEqual(said(ours), [(WINDOW, FIN, 1, 0)])

    def test_keptUntilAllIsConsumed(self) -> None:
        ours = accepted()
        ours.receive_data(data(1, b"bye") + frame(WINDOW, FIN, 1))
        ours.send_data(1, b"too")
        ours.end_stream(1)
        ours.acknowledge(1, 2)
        self.assertEqual(ours.streams, 1)
        ours.acknowledge(1, 1)
        self.assertEqual(ours.streams, 0)
        self.assertEqual(said(ours), [(DATA, 0, 1, 3), (WINDOW, FIN, 1, 0)])

    def test_endIsToldBehindItsPayload(self) -> None:
        whole = data(1, b"bye", FIN)
        for cut in range(len(whole) + 1):
            ours = accepted()
            events = ours.receive_data(whole[:cut]) + ours.receive_data(whole[cut:])
            self.assertEqual(events[-1], StreamEnded(1))
            self.assertEqual(b"".join(e.data for e in events if isinstance(e, DataArrived)), b"bye")

    def test_weMaySpeakAfterThePeersEnd(self) -> None:
        ours = accepted()
        ours.receive_data(frame(WINDOW, FIN, 1))
        self.assertEqual(ours.send_data(1, b"still here"), 10)

    def test_theBudgetComesBack(self) -> None:
        ours = YamuxConnection(False, SessionLimits(window=MIB))
        ours.receive_data(syn(1))
        ours.accept_stream(1)
        self.assertEqual(ours.growth, 768 * KIB)
        ours.receive_data(frame(WINDOW, FIN, 1))
        ours.end_stream(1)
        self.assertEqual(ours.growth, 0)

    def test_noTableGrows(self) -> None:
        near, far = client(), server()
        for _ in range(2000):
            stream_id = near.open_stream(0.0)
            near.send_data(stream_id, b"question")
            near.end_stream(stream_id)
            relay(near, far)
            far.accept_stream(stream_id)
            far.acknowledge(stream_id, 8)
            far.send_data(stream_id, b"answer")
            far.end_stream(stream_id)
            relay(far, near)
            near.acknowledge(stream_id, 6)
        for ours in (near, far):
            self.assertEqual(ours.data_to_send(), [])
            self.assertEqual((ours.streams, ours.held, ours.unaccepted, ours.unacknowledged), (0, 0, 0, 0))
            self.assertEqual((ours.overruns_followed, ours.pings_unanswered, ours.open_slots), (0, 0, 256))
            self.assertLess(objectsOf(ours), objectsOf(client()) + 20)
