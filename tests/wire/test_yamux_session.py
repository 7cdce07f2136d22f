"""
What a yamux session promises its owner and its peer beyond the golden octets: credit, order, bounds, ends and deadlines.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.vectors_yamux import FILLED, KIB, MIB, accepted, client, opened, server
from tunnelstack.errors import Unavailable, UsageError
from tunnelstack.wire.yamux.errors import (
    GoneAway,
    SessionBroken,
    StreamsExhausted,
    TooManyRefusals,
    TooManyStreams,
    TruncatedFrame,
    UnknownFrame,
    WindowOverrun,
)
from tunnelstack.wire.yamux.events import (
    CREDIT_OVERFLOW,
    OPEN_TIMEOUT,
    OVERRUN,
    CreditArrived,
    DataArrived,
    KeepaliveLost,
    PeerWentAway,
    PongArrived,
    SlotsFreed,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from tunnelstack.wire.yamux.frames import (
    ACK,
    DATA,
    FIN,
    GOAWAY,
    PING,
    RST,
    SYN,
    WINDOW,
    pack_header,
    unpack_header,
)
from tunnelstack.wire.yamux.limits import SessionLimits
from tunnelstack.wire.yamux.session import YamuxConnection

Frame = tuple[int, int, int, int]       # kind, flags, stream, length


def frame(kind: int, flags: int, stream_id: int, length: int = 0, payload: bytes = b"") -> bytes:
    return pack_header(kind << 16 | flags, stream_id, length) + payload


def data(stream_id: int, payload: bytes, flags: int = 0) -> bytes:
    return frame(DATA, flags, stream_id, len(payload), payload)


def syn(stream_id: int) -> bytes:
    return frame(WINDOW, SYN, stream_id)


def frames(octets: Iterable[bytes]) -> list[Frame]:
    """
    The headers in what a session says.
    """
    joined, at, found = b"".join(octets), 0, []
    while at < len(joined):
        word, stream_id, length = unpack_header(joined, at)
        found.append((word >> 16, word & 0xFFFF, stream_id, length))
        at += 12 + (length if word >> 16 == DATA else 0)
    return found


def said(ours: YamuxConnection) -> list[Frame]:
    return frames(ours.data_to_send())


def relay(sender: YamuxConnection, receiver: YamuxConnection) -> list[object]:
    return list(receiver.receive_data(b"".join(sender.data_to_send())))


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

    def test_noPayloadAfterTheEnd(self) -> None:
        ours = opened()
        ours.end_stream(1)
        self.assertRaises(UsageError, ours.send_data, 1, b"late")

    def test_nothingBeforeTheAccept(self) -> None:
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
        self.assertEqual(ours.control_octets, 48)
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
        self.assertEqual(ours.control_octets, 0)
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

    def test_inTheMiddleOfAFrame(self) -> None:
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


class ReceiveWindowTests(SynchronousTestCase):
    """
    Credit goes back when it is worth a frame, and windows grow for those who need it.
    """

    def test_creditGoesBackInHalves(self) -> None:
        ours = accepted()
        ours.receive_data(data(1, bytes(200 * KIB)))
        ours.acknowledge(1, 128 * KIB - 1)
        self.assertEqual(said(ours), [])
        ours.acknowledge(1, 1)
        ours.acknowledge(1, 10)
        self.assertEqual(said(ours), [(WINDOW, 0, 1, 128 * KIB + 10)])

    def test_unreadPayloadIsNotCredited(self) -> None:
        ours = accepted()
        ours.receive_data(data(1, FILLED))
        self.assertEqual(said(ours), [])
        self.assertEqual(ours.held, 256 * KIB)

    def test_moreThanDeliveredIsAMistake(self) -> None:
        ours = accepted()
        ours.receive_data(frame(DATA, 0, 1, 10) + b"1234")
        self.assertRaises(UsageError, ours.acknowledge, 1, 5)
        self.assertRaises(UsageError, ours.acknowledge, 1, -1)
        ours.acknowledge(1, 4)
        self.assertEqual(ours.held, 0)

    def test_nothingGoesBackAfterThePeersEnd(self) -> None:
        ours = accepted()
        ours.receive_data(data(1, bytes(130 * KIB)))
        ours.acknowledge(1, 129 * KIB)
        ours.receive_data(frame(WINDOW, FIN, 1))
        ours.acknowledge(1, 1 * KIB)
        self.assertEqual(said(ours), [])

    def test_consumedBeforeTheAcceptRidesOnIt(self) -> None:
        ours = server()
        ours.receive_data(syn(1) + data(1, bytes(250 * KIB)))
        ours.acknowledge(1, 200 * KIB)
        self.assertEqual(said(ours), [])
        ours.accept_stream(1)
        self.assertEqual(said(ours), [(WINDOW, ACK, 1, 200 * KIB)])

    def stall(self, ours: YamuxConnection, credit: int) -> int:
        """
        The peer uses up its credit, our application consumes all at once.

        @return: the credit that comes back.
        """
        for event in ours.receive_data(data(1, bytes(credit))):
            assert isinstance(event, DataArrived)
            ours.acknowledge(1, len(event.data))
        return sum(length for _, _, _, length in said(ours))

    def test_growsForAPeerWithoutCredit(self) -> None:
        ours = YamuxConnection(False, SessionLimits(session_octets=64 * MIB))
        ours.receive_data(syn(1))
        ours.accept_stream(1)
        ours.data_to_send()
        credit, sizes = 256 * KIB, []
        for _ in range(8):
            credit = self.stall(ours, credit)
            sizes.append(credit)
        self.assertEqual(sizes, [KIB << n for n in (9, 10, 11, 12, 13, 14, 14, 14)])

    def test_growsAcrossALongLine(self) -> None:
        # All of a window is on its way; half of it comes, is credited, then the other half: the peer waits, and our
        # allowance never fell to nothing.
        ours = accepted()
        self.assertEqual(self.stall(ours, 128 * KIB), 128 * KIB)
        self.assertEqual(self.stall(ours, 128 * KIB), 128 * KIB + 256 * KIB)

    def test_staysForAPeerThatIsNotHeldBack(self) -> None:
        ours = accepted()
        for _ in range(300):
            self.stall(ours, 10_007)
        self.assertEqual(ours._budget.spent, 0)

    def test_staysForASlowApplication(self) -> None:
        ours = accepted()
        for _ in range(10):
            ours.receive_data(data(1, bytes(128 * KIB)) * 2)
            ours.receive_data(frame(PING, ACK, 0))
            ours.acknowledge(1, 256 * KIB)
            self.assertEqual(said(ours), [(WINDOW, 0, 1, 256 * KIB)])

    def test_growsWithinTheBudgetOfTheSession(self) -> None:
        ours = YamuxConnection(False, SessionLimits(session_octets=1 * MIB))
        for stream_id in (1, 3):
            ours.receive_data(syn(stream_id))
            ours.accept_stream(stream_id)
        ours.data_to_send()
        credit = 256 * KIB
        for _ in range(4):
            credit = self.stall(ours, credit)
        self.assertEqual(credit, 1 * MIB)       # 768 KiB of the budget; twice as much does not fit
        ours.reset_stream(1)
        self.assertEqual(ours._budget.spent, 0)

    def test_quarterStepsOnceGrown(self) -> None:
        ours = accepted()
        self.stall(ours, 256 * KIB)
        self.assertEqual(self.stall(ours, 128 * KIB - 1), 0)
        self.assertEqual(self.stall(ours, 1), 128 * KIB)

    def test_largeWindowsFitTheBudget(self) -> None:
        ours = YamuxConnection(True, SessionLimits(window=MIB, session_octets=MIB))
        ours.open_stream(0.0)
        ours.open_stream(0.0)
        self.assertEqual(said(ours), [(WINDOW, SYN, 1, 768 * KIB), (WINDOW, SYN, 3, 0)])

    def test_windowIsTheSumOfItsParts(self) -> None:
        ours = accepted()
        stream = ours._streams[1]
        for octets, consumed in ((100_000, 50_000), (100_000, 140_000), (62_144, 0), (1, 62_144)):
            ours.receive_data(data(1, bytes(octets)))
            ours.acknowledge(1, consumed)
            self.assertEqual(stream.allowance + stream.held + stream.returnable, stream.size)
            self.assertEqual(stream.held, ours.held)
            ours.data_to_send()


class OverrunTests(SynchronousTestCase):
    """
    A peer beyond its credit loses the stream, and the session only when it goes on and on.
    """

    def overrun(self) -> YamuxConnection:
        ours = accepted()
        ours.receive_data(data(1, FILLED))
        self.assertEqual(ours.receive_data(data(1, b"a")), [StreamReset(1, 0, OVERRUN)])
        self.assertEqual(said(ours), [(WINDOW, RST, 1, 0)])
        self.assertEqual(ours.overruns, 1)
        return ours

    def test_theSessionGoesOn(self) -> None:
        ours = self.overrun()
        self.assertEqual(ours.receive_data(syn(3) + data(3, b"fine")), [StreamOpened(3), DataArrived(3, b"fine")])

    def test_aWindowMoreIsDrained(self) -> None:
        ours = self.overrun()
        self.assertEqual(ours.receive_data(data(1, bytes(256 * KIB - 1))), [])
        self.assertEqual(ours.drained, 256 * KIB)

    def test_stillMoreEndsTheSession(self) -> None:
        ours = self.overrun()
        ours.receive_data(data(1, bytes(256 * KIB - 1)))
        self.assertRaises(WindowOverrun, ours.receive_data, frame(DATA, 0, 1, 1))
        self.assertEqual(said(ours), [(GOAWAY, 0, 0, 1)])

    def test_anAbsurdLengthEndsTheSessionAtItsHeader(self) -> None:
        self.assertRaises(WindowOverrun, accepted().receive_data, frame(DATA, 0, 1, 0xFFFFFFFF))

    def test_forgottenAtThePeersEnd(self) -> None:
        for end in (frame(WINDOW, FIN, 1), frame(WINDOW, RST, 1), syn(1)):
            ours = self.overrun()
            ours.receive_data(end)
            self.assertEqual(ours._overrun, {})

    def test_onlySomeAreRemembered(self) -> None:
        ours = server()
        for stream_id in range(1, 401, 2):
            ours.receive_data(syn(stream_id) + frame(DATA, 0, stream_id, 256 * KIB + 1) + bytes(256 * KIB + 1))
        self.assertEqual(len(ours._overrun), 64)
        self.assertEqual((ours.overruns, ours.streams, ours.held), (200, 0, 0))


class OpeningTests(SynchronousTestCase):
    """
    Streams open within what both sides can take.
    """

    def test_numbersRise(self) -> None:
        self.assertEqual([client().open_stream(0.0), server().open_stream(0.0)], [1, 2])
        ours = client()
        self.assertEqual([ours.open_stream(0.0) for _ in range(3)], [1, 3, 5])

    def test_numbersRunOut(self) -> None:
        for ours, last in ((client(), 0xFFFFFFFD), (server(), 0xFFFFFFFC)):
            ours._next_id = last
            self.assertEqual(ours.open_slots, 1)
            self.assertEqual(ours.open_stream(0.0), last)
            self.assertEqual(ours.open_slots, 0)
            self.assertRaises(StreamsExhausted, ours.open_stream, 0.0)

    def full(self) -> YamuxConnection:
        ours = client()
        self.assertEqual(ours.open_slots, 256)
        for _ in range(256):
            ours.open_stream(0.0)
        self.assertEqual(ours.open_slots, 0)
        self.assertRaises(TooManyStreams, ours.open_stream, 0.0)
        ours.data_to_send()
        return ours

    def test_anyFrameFreesASlot(self) -> None:
        for first in (
            frame(WINDOW, ACK, 1),
            data(1, b"un-acknowledged"),
            frame(DATA, 0, 1),
            frame(WINDOW, 0, 1, 1),
            frame(WINDOW, FIN, 1),
            frame(WINDOW, RST, 1),
            frame(DATA, RST, 1),
        ):
            ours = self.full()
            self.assertEqual(ours.receive_data(first)[-1], SlotsFreed())
            self.assertEqual(ours.open_slots, 1)
            self.assertEqual(ours.receive_data(frame(WINDOW, 0, 1, 1)), [])
            self.assertEqual(ours.open_slots, 1)

    def test_ourResetFreesASlot(self) -> None:
        ours = self.full()
        ours.reset_stream(1)
        self.assertEqual(ours.open_slots, 1)

    def test_aStrangersFrameFreesNone(self) -> None:
        ours = self.full()
        self.assertEqual(ours.receive_data(frame(WINDOW, ACK, 513) + syn(2) + frame(WINDOW, ACK, 2)), [StreamOpened(2)])
        self.assertEqual(ours.open_slots, 0)

    def test_liveStreamsAreLimited(self) -> None:
        ours = YamuxConnection(True, SessionLimits(max_streams=2))
        ours.open_stream(0.0)
        ours.open_stream(0.0)
        self.assertRaises(TooManyStreams, ours.open_stream, 0.0)
        self.assertEqual(ours.receive_data(frame(WINDOW, ACK, 1)), [])
        self.assertEqual(ours.receive_data(frame(WINDOW, RST, 3)), [StreamReset(3), SlotsFreed()])

    def test_refusalsAreOfTheWorld(self) -> None:
        for error in (TooManyStreams, GoneAway, StreamsExhausted):
            self.assertTrue(issubclass(error, Unavailable))

    def test_acceptedExactlyOnce(self) -> None:
        ours = server()
        ours.receive_data(syn(1))
        ours.accept_stream(1)
        self.assertRaises(UsageError, ours.accept_stream, 1)
        self.assertEqual(said(ours), [(WINDOW, ACK, 1, 0)])

    def test_oursAreNotAccepted(self) -> None:
        self.assertRaises(UsageError, opened().accept_stream, 1)

    def test_acceptedAfterThePeersEnd(self) -> None:
        ours = YamuxConnection(False, SessionLimits(window=MIB))
        ours.receive_data(syn(1) + frame(WINDOW, FIN, 1))
        ours.accept_stream(1)
        self.assertEqual(said(ours), [(WINDOW, ACK, 1, 0)])

    def test_openingsOutOfOrder(self) -> None:
        self.assertEqual(server().receive_data(syn(9) + syn(3)), [StreamOpened(9), StreamOpened(3)])

    def test_backlogHoldsSoMany(self) -> None:
        ours = YamuxConnection(False, SessionLimits(backlog=2))
        self.assertEqual(len(ours.receive_data(syn(1) + syn(3) + syn(5))), 2)
        self.assertEqual(said(ours), [(WINDOW, RST, 5, 0)])
        self.assertEqual(ours.refused, 1)
        ours.accept_stream(1)
        ours.reset_stream(3)
        self.assertEqual(len(ours.receive_data(syn(7) + syn(9) + syn(11))), 2)

    def test_aPeersResetLeavesTheBacklog(self) -> None:
        ours = YamuxConnection(False, SessionLimits(backlog=1))
        for stream_id in (1, 3, 5):
            events = ours.receive_data(syn(stream_id) + frame(WINDOW, RST, stream_id))
            self.assertEqual(events, [StreamOpened(stream_id), StreamReset(stream_id)])
        self.assertEqual(said(ours), [])

    def test_anIdComesNotAgainBeforeItsEndIsHeard(self) -> None:
        ours = server()
        events = ours.receive_data(syn(1) + data(1, b"old") + frame(WINDOW, RST, 1) + syn(1) + data(1, b"new"))
        self.assertEqual(events, [StreamOpened(1), DataArrived(1, b"old"), StreamReset(1)])
        ours.accept_stream(1)
        ours.acknowledge(1, 3)
        self.assertEqual(said(ours), [(WINDOW, RST, 1, 0)])
        self.assertEqual(ours.receive_data(syn(1)), [StreamOpened(1)])

    def test_inboundStreamsAreLimited(self) -> None:
        ours = YamuxConnection(False, SessionLimits(max_streams=2))
        for stream_id in (1, 3, 5):
            ours.receive_data(syn(stream_id))
            ours.accept_stream(stream_id)
        self.assertEqual(said(ours), [(WINDOW, ACK, 1, 0), (WINDOW, ACK, 3, 0), (WINDOW, RST, 5, 0)])


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
        self.assertEqual(ours._budget.spent, 768 * KIB)
        ours.receive_data(frame(WINDOW, FIN, 1))
        ours.end_stream(1)
        self.assertEqual(ours._budget.spent, 0)

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
            kept = [ours._streams, ours._unheard, ours._overrun, ours._pings, ours._outbox.updates, ours._outbox.data]
            self.assertEqual([len(table) for table in kept], [0] * 6)
            self.assertEqual((ours.streams, ours.held, ours._ours, ours._backlog), (0, 0, 0, 0))


class SessionTests(SynchronousTestCase):
    """
    Pings, Go Away, and the end of a session.
    """

    def test_pongsInAnyOrder(self) -> None:
        ours = client()
        first, second = ours.ping(), ours.ping()
        self.assertEqual((first, second), (0, 1))
        answers = frame(PING, ACK, 0, second) + frame(PING, ACK, 0, first) + frame(PING, ACK, 0, first)
        self.assertEqual(ours.receive_data(answers), [PongArrived(second), PongArrived(first)])

    def test_pingsAreForgottenInTime(self) -> None:
        ours = client()
        for _ in range(1000):
            ours.ping()
        self.assertEqual(len(ours._pings), 32)
        self.assertEqual(ours.receive_data(frame(PING, ACK, 0, 1)), [])
        self.assertEqual(ours.receive_data(frame(PING, ACK, 0, 999)), [PongArrived(999)])

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
        self.assertLess(ours.control_octets, 64 * KIB)

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

    def test_nothingAfterTheBreak(self) -> None:
        ours = accepted()
        ours.send_data(1, b"unsent")
        self.assertRaises(UnknownFrame, ours.receive_data, b"\xff" * 12)
        self.assertEqual(said(ours), [(GOAWAY, 0, 0, 1)])
        self.assertRaises(SessionBroken, ours.receive_data, b"more")
        self.assertRaises(SessionBroken, ours.receive_eof)
        self.assertRaises(GoneAway, ours.open_stream, 0.0)
        self.assertEqual(ours.send_data(1, b"late"), 0)
        ours.acknowledge(1, 5)
        self.assertEqual(ours.expire(1e9), [])
        self.assertEqual((ours.streams, ours.held, said(ours)), (0, 0, []))

    def test_endOfOctetsBetweenFrames(self) -> None:
        ours = accepted()
        ours.receive_data(data(1, b"whole"))
        self.assertEqual(ours.receive_eof(), [])

    def test_endOfOctetsInsideAFrame(self) -> None:
        for cut in range(1, 17):
            ours = accepted()
            ours.receive_data(data(1, b"whole")[:cut])
            self.assertRaises(TruncatedFrame, ours.receive_eof)
            self.assertEqual(said(ours), [])


class TimeTests(SynchronousTestCase):
    """
    Deadlines are told, kept, and moved by what is heard.
    """

    def test_noTimersBeforeTheFirstCall(self) -> None:
        self.assertIsNone(client().next_deadline())

    def test_keepalivePings(self) -> None:
        ours = client()
        self.assertEqual(ours.expire(100.0), [])
        self.assertEqual(ours.next_deadline(), 130.0)
        self.assertEqual(ours.expire(129.9), [])
        self.assertEqual(said(ours), [])
        self.assertEqual(ours.expire(130.0), [])
        self.assertEqual(said(ours), [(PING, SYN, 0, 0)])
        self.assertEqual(ours.next_deadline(), 140.0)

    def test_silenceIsLoss(self) -> None:
        ours = client()
        ours.expire(0.0)
        ours.expire(30.0)
        self.assertEqual(ours.expire(39.9), [])
        self.assertEqual(ours.expire(40.0), [KeepaliveLost()])
        self.assertEqual(ours.expire(1000.0), [])
        self.assertIsNone(ours.next_deadline())

    def test_anyOctetIsLife(self) -> None:
        ours = client()
        ours.expire(0.0)
        ours.expire(30.0)
        ours.receive_data(b"\0")
        self.assertEqual(ours.expire(40.0), [])
        self.assertEqual(ours.next_deadline(), 60.0)

    def test_lifeBeforeThePingDoesNotCount(self) -> None:
        ours = client()
        ours.expire(0.0)
        ours.receive_data(frame(PING, ACK, 0))
        ours.expire(30.0)
        self.assertEqual(ours.expire(40.0), [KeepaliveLost()])

    def test_theAnswerToAKeepaliveIsNotTold(self) -> None:
        ours = client()
        ours.expire(0.0)
        ours.expire(30.0)
        self.assertEqual(ours.receive_data(frame(PING, ACK, 0, 0)), [])

    def test_keepaliveOff(self) -> None:
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

    def test_openTimeoutOff(self) -> None:
        ours = YamuxConnection(True, SessionLimits(keepalive=0, open_timeout=0))
        ours.open_stream(0.0)
        self.assertIsNone(ours.next_deadline())
        self.assertEqual(ours.expire(1e9), [])


class LimitsTests(SynchronousTestCase):
    """
    Numbers that cannot work are refused at once.
    """

    def test_bounds(self) -> None:
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
