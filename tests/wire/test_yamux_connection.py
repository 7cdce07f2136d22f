"""
What a yamux session promises as a whole: pings, Go Away, its end, its deadlines and its limits.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.frames_yamux import data, frame, said, syn
from tests.wire.vectors_yamux import KIB, MIB, accepted, client, opened, server
from tunnelstack.wire.keepalive import PingTable
from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.errors import (
    GoneAway,
    SessionError,
    TooManyRefusals,
    TruncatedFrame,
    UnknownFrame,
)
from tunnelstack.wire.yamux.events import (
    OPEN_TIMEOUT,
    DataArrived,
    KeepaliveLost,
    PeerWentAway,
    PongArrived,
    SlotsFreed,
    StreamOpened,
    StreamReset,
)
from tunnelstack.wire.yamux.frames import ACK, GOAWAY, PING, RST, SYN, WINDOW
from tunnelstack.wire.yamux.limits import SessionLimits


class SessionTests(SynchronousTestCase):
    """
    Pings, Go Away, and the end of a session.
    """

    def test_pongsMayComeInAnyOrder(self) -> None:
        ours = client()
        first, second = ours.ping(), ours.ping()
        self.assertEqual((first, second), (0, 1))
        answers = frame(PING, ACK, 0, second) + frame(PING, ACK, 0, first) + frame(PING, ACK, 0, first)
        self.assertEqual(ours.receive_data(answers), [PongArrived(second), PongArrived(first)])

    def test_pingsAreForgottenInTime(self) -> None:
        ours = client()
        for _ in range(1000):
            ours.ping()
        self.assertEqual(ours.pings_unanswered, 32)
        self.assertEqual(ours.receive_data(frame(PING, ACK, 0, 1)), [])
        self.assertEqual(ours.receive_data(frame(PING, ACK, 0, 999)), [PongArrived(999)])

    def test_pingsThatTheOwnerWaitsForAreForgottenLast(self) -> None:
        pings = PingTable()
        awaited = [pings.take_opaque(0.0) for _ in range(16)]
        for opaque in awaited:
            pings.expect(opaque)
        for _ in range(100):
            pings.take_opaque(0.0)
        self.assertEqual([pings.answered(opaque, 1.0) for opaque in awaited], [True] * 16)
        for _ in range(100):
            pings.expect(pings.take_opaque(2.0))
        self.assertEqual(len(pings), 32)

    def test_pongsAreCapped(self) -> None:
        ours = server()
        ours.receive_data(b"".join(frame(PING, SYN, 0, number) for number in range(100)))
        self.assertEqual(said(ours), [(PING, ACK, 0, number) for number in range(32)])
        self.assertEqual(ours.pongs_dropped, 68)
        ours.receive_data(frame(PING, SYN, 0, 5))
        self.assertEqual(said(ours), [(PING, ACK, 0, 5)])

    def test_refusalsAreCapped(self) -> None:
        ours = YamuxConnection(False, SessionLimits(refusals=10))
        ours.go_away()
        for _ in range(3):
            ours.receive_data(syn(1) * 10)
            self.assertEqual(len([f for f in said(ours) if f[1] == RST]), 10)
        self.assertRaises(TooManyRefusals, ours.receive_data, syn(1) * 11)

    def test_controlStaysSmallForAPeerThatDoesNotRead(self) -> None:
        ours = server()
        hostile = b"".join(
            syn(1) + frame(PING, SYN, 0, 1) + frame(WINDOW, 0, 1, 0xFFFFFFFF) for _ in range(5000)
        )
        self.assertRaises(TooManyRefusals, ours.receive_data, hostile)
        self.assertLess(ours.control_octets(), 64 * KIB)

    def test_goAwayIsSaidOnce(self) -> None:
        ours = opened()
        ours.go_away()
        ours.go_away()
        self.assertEqual(said(ours), [(GOAWAY, 0, 0, 0)])
        self.assertEqual(ours.open_slots, 0)
        self.assertEqual(ours.send_data(1, b"streams go on"), 13)

    def test_peersGoAwayIsToldOnce(self) -> None:
        ours = opened()
        self.assertEqual(ours.receive_data(frame(GOAWAY, 0, 0) * 2), [PeerWentAway(0)])
        self.assertRaises(GoneAway, ours.open_stream, 0.0)
        self.assertEqual(ours.receive_data(syn(2)), [StreamOpened(2)])

    def test_whatCameBeforeTheBreakIsTold(self) -> None:
        ours = accepted()
        broken = self.assertRaises(UnknownFrame, ours.receive_data, data(1, b"last words") + b"\xff" * 12)
        self.assertEqual(broken.events, [DataArrived(1, b"last words")])
        self.assertEqual(ours.octets_in, 10)

    def test_nothingIsSentAfterTheBreak(self) -> None:
        ours = accepted()
        ours.send_data(1, b"unsent")
        self.assertRaises(UnknownFrame, ours.receive_data, b"\xff" * 12)
        self.assertEqual(said(ours), [(GOAWAY, 0, 0, 1)])
        self.assertRaises(SessionError, ours.receive_data, b"more")
        self.assertRaises(SessionError, ours.receive_eof)
        self.assertRaises(GoneAway, ours.open_stream, 0.0)
        self.assertEqual(ours.send_data(1, b"late"), 0)
        ours.acknowledge(1, 5)
        self.assertEqual(ours.expire(1e9), [])
        self.assertEqual((ours.streams, ours.held, said(ours)), (0, 0, []))

    def test_anEndBetweenFramesIsNoError(self) -> None:
        ours = accepted()
        ours.receive_data(data(1, b"whole"))
        self.assertEqual(ours.receive_eof(), [])

    def test_anEndInsideAFrameIsAnError(self) -> None:
        for cut in range(1, 17):
            ours = accepted()
            ours.receive_data(data(1, b"whole")[:cut])
            self.assertRaises(TruncatedFrame, ours.receive_eof)
            self.assertEqual(said(ours), [])


class TimeTests(SynchronousTestCase):
    """
    Deadlines are told, kept, and moved by what is heard.
    """

    def test_beforeTheFirstCallThereIsNoDeadline(self) -> None:
        self.assertIsNone(client().next_deadline())

    def test_aKeepaliveSendsPings(self) -> None:
        ours = client()
        self.assertEqual(ours.expire(100.0), [])
        self.assertEqual(ours.next_deadline(), 130.0)
        self.assertEqual(ours.expire(129.9), [])
        self.assertEqual(said(ours), [])
        self.assertEqual(ours.expire(130.0), [])
        self.assertTrue(ours.keepalive.unsent)
        self.assertEqual(said(ours), [(PING, SYN, 0, 0)])
        ours.ping_sent(130.0)
        self.assertFalse(ours.keepalive.unsent)
        self.assertEqual(ours.next_deadline(), 140.0)

    def test_silenceIsLoss(self) -> None:
        ours = self.pinged()
        self.assertEqual(ours.expire(39.9), [])
        self.assertEqual(ours.expire(40.0), [KeepaliveLost()])
        self.assertEqual(ours.expire(1000.0), [])
        self.assertIsNone(ours.next_deadline())

    def pinged(self, ahead: float = 0.0) -> YamuxConnection:
        """
        A session whose ping was sent 30 s after it began.
        """
        ours = client()
        ours.expire(0.0)
        ours.expire(30.0)
        ours.data_to_send()
        ours.ping_sent(30.0, ahead)
        return ours

    def test_theTimeForAnAnswerRunsFromWhenThePingWasSent(self) -> None:
        ours = client()
        ours.expire(0.0)
        ours.expire(30.0)
        ours.data_to_send()
        self.assertEqual(ours.expire(55.0), [])
        ours.ping_sent(55.0)
        self.assertEqual(ours.expire(64.9), [])
        self.assertEqual(ours.expire(65.0), [KeepaliveLost()])

    def test_whatLiesBeforeThePingHasItsTimeToo(self) -> None:
        ours = self.pinged(ahead=20.0)
        self.assertEqual(ours.expire(59.9), [])
        self.assertEqual(ours.expire(60.0), [KeepaliveLost()])

    def test_noPingIsWaitedForLongerThanAMinute(self) -> None:
        for ours in (self.pinged(ahead=1000.0), client()):
            ours.expire(0.0)
            ours.expire(30.0)
            for now in range(30, 90):
                self.assertEqual(ours.expire(float(now)), [])
            self.assertEqual(ours.expire(90.0), [KeepaliveLost()])

    def test_theLastRoundTripIsAllowedFor(self) -> None:
        ours = self.pinged()
        ours.now = 39.0
        ours.receive_data(frame(PING, ACK, 0, 0))
        ours.expire(60.0)
        ours.data_to_send()
        ours.ping_sent(60.0)
        self.assertEqual(ours.expire(78.9), [])
        self.assertEqual(ours.expire(79.0), [KeepaliveLost()])

    def test_theWaitForCreditIsAllowedFor(self) -> None:
        ours = client()
        ours.expire(0.0)
        stream = ours.open_stream(0.0)
        ours.now = 5.0
        for _ in range(5):
            ours.send_data(stream, bytes(64 * 1024))
        ours.data_to_send()
        ours.expire(30.0)
        ours.data_to_send()
        ours.ping_sent(30.0)                  # the stream has waited for 25 s
        self.assertEqual(ours.next_deadline(), 60.0)
        ours.now = 31.0
        ours.receive_data(frame(WINDOW, 0, stream, 1))
        ours.expire(60.0)
        ours.data_to_send()
        ours.ping_sent(60.0)                  # it had waited for 26 s
        self.assertEqual(ours.expire(95.9), [])
        self.assertEqual(ours.expire(96.0), [KeepaliveLost()])

    def test_aWaitThatAnAnswerHasOvertakenIsTheApplications(self) -> None:
        ours = client()
        ours.expire(0.0)
        stream = ours.open_stream(0.0)
        for _ in range(5):
            ours.send_data(stream, bytes(64 * 1024))
        for began in (30.0, 60.0):
            ours.expire(began)
            ours.data_to_send()
            ours.ping_sent(began)
            if began == 30.0:
                ours.receive_data(frame(PING, ACK, 0, 0))
        self.assertEqual(ours.expire(70.0), [KeepaliveLost()])

    def test_anyOctetIsLife(self) -> None:
        ours = client()
        ours.expire(0.0)
        ours.expire(30.0)
        ours.receive_data(b"\0")
        ours.ping_sent(30.0)
        self.assertEqual(ours.expire(40.0), [])
        self.assertEqual(ours.next_deadline(), 60.0)

    def test_lifeBeforeThePingDoesNotCount(self) -> None:
        ours = client()
        ours.expire(0.0)
        ours.receive_data(frame(PING, ACK, 0))
        ours.expire(30.0)
        ours.ping_sent(30.0)
        self.assertEqual(ours.expire(40.0), [KeepaliveLost()])

    def test_theAnswerToAKeepaliveIsNotTold(self) -> None:
        ours = client()
        ours.expire(0.0)
        ours.expire(30.0)
        self.assertEqual(ours.receive_data(frame(PING, ACK, 0, 0)), [])

    def test_zeroTurnsTheKeepaliveOff(self) -> None:
        ours = YamuxConnection(True, SessionLimits(keepalive=0))
        ours.expire(0.0)
        self.assertEqual(ours.expire(1e6), [])
        self.assertIsNone(ours.next_deadline())
        self.assertEqual(said(ours), [])

    def test_anUnansweredOpeningIsResetAlone(self) -> None:
        ours = YamuxConnection(True, SessionLimits(keepalive=0))
        first, second = ours.open_stream(0.0), ours.open_stream(10.0)
        ours.data_to_send()
        self.assertEqual(ours.next_deadline(), 75.0)
        self.assertEqual(ours.expire(75.0), [StreamReset(first, 0, OPEN_TIMEOUT)])
        self.assertEqual(said(ours), [(WINDOW, RST, first, 0)])
        self.assertEqual(ours.next_deadline(), 85.0)
        ours.receive_data(frame(WINDOW, ACK, second))
        self.assertIsNone(ours.next_deadline())
        self.assertEqual(ours.streams, 1)

    def test_theTimeoutFreesASlot(self) -> None:
        ours = YamuxConnection(True, SessionLimits(unacknowledged=1))
        ours.open_stream(0.0)
        self.assertEqual(ours.expire(75.0), [StreamReset(1, 0, OPEN_TIMEOUT), SlotsFreed()])

    def test_zeroTurnsTheOpenTimeoutOff(self) -> None:
        ours = YamuxConnection(True, SessionLimits(keepalive=0, open_timeout=0))
        ours.open_stream(0.0)
        self.assertIsNone(ours.next_deadline())
        self.assertEqual(ours.expire(1e9), [])


class LimitsTests(SynchronousTestCase):
    """
    Numbers that cannot work are refused at once.
    """

    def test_limitsAreBounded(self) -> None:
        for wrong in (
            {"window": 256 * KIB - 1},
            {"window": 32 * MIB},
            {"max_window": 1 << 31},
            {"max_frame": 64 * KIB + 1},
            {"max_frame": 1023},
            {"backlog": 0},
            {"max_streams": 0},
            {"keepalive": -1},
            {"keepalive_timeout": 0},
        ):
            self.assertRaises(ValueError, SessionLimits, **wrong)
