"""
When credit goes back, when a window grows, and what becomes of a peer beyond its credit.
"""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.frames_yamux import data, frame, said, syn
from tests.wire.vectors_yamux import FILLED, KIB, MIB, accepted, server
from tunnelstack.errors import UsageError
from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.errors import WindowOverrun
from tunnelstack.wire.yamux.events import OVERRUN, DataArrived, StreamOpened, StreamReset
from tunnelstack.wire.yamux.frames import ACK, DATA, FIN, GOAWAY, PING, RST, SYN, WINDOW
from tunnelstack.wire.yamux.limits import SessionLimits

FAR = 1.0
"""Seconds of a long round trip,"""

SOON = 0.1
"""and those that it takes here until a window is used up: less, so that all of them may grow."""

NEAR = 0.004
"""Seconds of a short round trip, on which growth is a trial."""


def near(ours: YamuxConnection, seconds: float = 0.0) -> YamuxConnection:
    """
    Let the session see a round trip of so many seconds.
    """
    opaque = ours.ping()
    ours.data_to_send()
    ours.now += seconds
    ours.receive_data(frame(PING, ACK, 0, opaque))
    return ours


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

    def stall(self, ours: YamuxConnection, credit: int, seconds: float = SOON) -> int:
        """
        The peer uses up its credit within so many seconds, our application consumes all at once.

        @return: the credit that comes back.
        """
        ours.now += seconds
        for event in ours.receive_data(data(1, bytes(credit))):
            assert isinstance(event, DataArrived)
            ours.acknowledge(1, len(event.data))
        return sum(length for kind, _, _, length in said(ours) if kind == WINDOW)

    def test_growsForAPeerWithoutCredit(self) -> None:
        ours = near(YamuxConnection(False, SessionLimits(session_octets=64 * MIB)), FAR)
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
        ours = near(accepted(), FAR)
        self.assertEqual(self.stall(ours, 128 * KIB), 128 * KIB)
        self.assertEqual(self.stall(ours, 128 * KIB), 128 * KIB + 256 * KIB)

    def test_theRoundTripIsMeasuredBeforeAWindowGrows(self) -> None:
        ours = accepted()
        ours.receive_data(data(1, FILLED))
        ours.acknowledge(1, 256 * KIB)
        self.assertEqual(said(ours), [(PING, SYN, 0, 0), (WINDOW, 0, 1, 256 * KIB)])
        ours.receive_data(data(1, FILLED))
        ours.acknowledge(1, 256 * KIB)
        self.assertEqual(said(ours), [(WINDOW, 0, 1, 256 * KIB)])        # not again before the answer
        ours.now += SOON
        ours.receive_data(frame(PING, ACK, 0, 0) + data(1, FILLED))
        ours.acknowledge(1, 256 * KIB)
        self.assertEqual(said(ours), [(PING, SYN, 0, 1), (WINDOW, 0, 1, 512 * KIB)])

    def test_nothingIsMeasuredWhereNothingCanGrow(self) -> None:
        ours = YamuxConnection(False, SessionLimits(max_window=256 * KIB))
        ours.receive_data(syn(1) + data(1, FILLED))
        ours.accept_stream(1)
        ours.acknowledge(1, 256 * KIB)
        self.assertEqual({kind for kind, *_ in said(ours)}, {WINDOW})

    def test_thePeerIsAskedAgainOnlyWhenItHasAnsweredOrIsLate(self) -> None:
        ours, pings = accepted(), []
        for tenth in range(25):
            ours.now = tenth / 10
            ours.receive_data(data(1, FILLED))
            ours.acknowledge(1, 256 * KIB)
            pings += [tenth for kind, *_ in said(ours) if kind == PING]
        self.assertEqual(pings, [0, 10, 20])

    def transfer(self, rate: float, round_trip: float, windows: int = 200) -> int:
        """
        A peer that uses all its credit, over a way of so many octets a second and seconds.

        @return: the window at the end.
        """
        ours = near(accepted(), round_trip)
        credit, answers = 256 * KIB, b""
        for _ in range(windows):
            ours.now += max(round_trip, credit / rate)
            for event in ours.receive_data(answers + data(1, bytes(credit))):
                if isinstance(event, DataArrived):
                    ours.acknowledge(1, len(event.data))
            given = said(ours)
            answers = b"".join(frame(PING, ACK, 0, length) for kind, _, _, length in given if kind == PING)
            credit = sum(length for kind, _, _, length in given if kind == WINDOW)
        return ours.stream(1).size

    def test_aWindowGrowsToWhatItsWayHolds(self) -> None:
        for rate, round_trip, size in (
            (1e9, 0.0001, 256 * KIB), (125e6, 0.001, 256 * KIB), (1e6, 0.1, 256 * KIB), (8e3, 4.0, 256 * KIB),
            (8e3, 0.01, 256 * KIB),
            (10e6, 0.1, 2 * MIB), (50e6, 0.01, MIB), (125e6, 0.1, 4 * MIB + 256 * KIB), (1e9, 0.2, 4 * MIB + 256 * KIB),
        ):  # fmt: skip
            self.assertEqual(self.transfer(rate, round_trip), size, (rate, round_trip))

    def near(self, rate: float, windows: int) -> list[tuple[float, int]]:
        """
        A peer that is near, and a carrier of so many octets a second, which is faster with another window only if it is
        infinite.

        @return: seconds after the first window, and the size of the window, for each window that was used up.
        """
        ours, credit, sizes = near(accepted(), NEAR), 256 * KIB, []
        for _ in range(windows):
            credit = self.stall(ours, credit, max(credit / rate, NEAR))
            sizes.append((ours.now, ours.stream(1).size))
            self.assertEqual(ours.stream(1).allowance, credit)
        return [(now - sizes[0][0], size) for now, size in sizes]

    def test_aWindowThatGrewInVainShrinksAgain(self) -> None:
        sizes = self.near(60e6, 4000)
        self.assertEqual({size for _, size in sizes}, {256 * KIB, 512 * KIB})
        self.assertLess(sum(size > 256 * KIB for _, size in sizes), 100)
        grown = [now for now, size in sizes if size > 256 * KIB]
        begins = [now for last, now in zip([-1.0, *grown], grown, strict=False) if now - last > 0.3]
        for begun, expected in zip(begins, (0.15, 2.25, 6.35, 14.42), strict=True):
            self.assertLess(abs(begun - expected), 0.03, begins)

    def test_aWindowThatGrewForGoodReasonStays(self) -> None:
        sizes = [size for _, size in self.near(inf, 400)]
        self.assertEqual(sizes, sorted(sizes))
        self.assertEqual(sizes[-1], 4 * MIB + 256 * KIB)

    def test_aWindowThatGrewInVainShrinksAsItIsRead(self) -> None:
        ours = near(accepted(), NEAR)
        stream, sizes = ours.stream(1), []
        while stream.size == 256 * KIB:
            self.stall(ours, 256 * KIB, NEAR)
        for _ in range(3):
            ours.now += SOON
            ours.receive_data(data(1, bytes(stream.allowance)))
            while stream.held:
                ours.acknowledge(1, min(stream.held, 50_000))
                ours.data_to_send()
                sizes.append(stream.size)
                self.assertEqual(stream.allowance + stream.held + stream.returnable, stream.size)
        self.assertEqual((sizes[0], sizes[-1], ours.growth), (512 * KIB, 256 * KIB, 0))
        self.assertGreater(len(set(sizes)), 2, "by what was read each time")

    def test_oneQuickWindowGrowsNothing(self) -> None:
        ours = near(accepted(), 0.001)
        for number in range(100):
            ours.now += 0.0001 if number % 10 else 0.05      # nine are read at once, after the program was busy elsewhere
            self.assertEqual(self.stall(ours, 256 * KIB), 256 * KIB)

    def test_staysForAPeerThatIsNotHeldBack(self) -> None:
        ours = accepted()
        for _ in range(300):
            self.stall(ours, 10_007)
        self.assertEqual(ours.growth, 0)

    def test_staysForASlowApplication(self) -> None:
        ours = accepted()
        for _ in range(10):
            ours.receive_data(data(1, bytes(128 * KIB)) * 2)
            ours.receive_data(frame(PING, ACK, 0))
            ours.acknowledge(1, 256 * KIB)
            self.assertEqual(said(ours), [(WINDOW, 0, 1, 256 * KIB)])

    def test_growsWithinTheBudgetOfTheSession(self) -> None:
        ours = near(YamuxConnection(False, SessionLimits(session_octets=1 * MIB)), FAR)
        for stream_id in (1, 3):
            ours.receive_data(syn(stream_id))
            ours.accept_stream(stream_id)
        ours.data_to_send()
        credit = 256 * KIB
        for _ in range(4):
            credit = self.stall(ours, credit)
        self.assertEqual(credit, 768 * KIB)     # 512 KiB of the budget, and as much is left
        ours.reset_stream(1)
        self.assertEqual(ours.growth, 0)

    def several(self, streams: int, budget: int) -> tuple[YamuxConnection, list[int]]:
        ours = near(YamuxConnection(False, SessionLimits(session_octets=budget)), FAR)
        ids = [2 * number + 1 for number in range(streams)]
        for stream_id in ids:
            ours.receive_data(syn(stream_id))
            ours.accept_stream(stream_id)
        ours.data_to_send()
        return ours, ids

    def exhaust(self, ours: YamuxConnection, stream_id: int) -> None:
        """
        The peer soon uses up its credit on a stream, and our application consumes all at once.
        """
        ours.now += SOON
        credit = ours.stream(stream_id).allowance
        ours.receive_data(data(stream_id, bytes(credit)))
        ours.acknowledge(stream_id, credit)
        ours.data_to_send()

    def extras(self, ours: YamuxConnection) -> list[int]:
        return [ours.stream(stream_id).size - 256 * KIB for stream_id in ours.stream_ids]

    def test_busyStreamsComeToShareTheBudget(self) -> None:
        for streams in (1, 2, 3, 7):
            ours, ids = self.several(streams, 4 * MIB)
            for _ in range(40):
                for stream_id in ids:
                    self.exhaust(ours, stream_id)
            share = 4 * MIB // (streams + 1)
            for extra in self.extras(ours):
                self.assertLess(abs(extra - share), 32 * KIB, (streams, self.extras(ours)))

    def test_aNewcomerGetsItsShareOfOneThatHasHalf(self) -> None:
        ours, ids = self.several(2, 6 * MIB)
        for _ in range(10):
            self.exhaust(ours, ids[0])
        self.assertEqual(self.extras(ours), [3 * MIB, 0])
        for _ in range(20):
            self.exhaust(ours, ids[1])
            self.exhaust(ours, ids[0])
        for extra in self.extras(ours):
            self.assertLess(abs(extra - 2 * MIB), 32 * KIB)

    def test_streamsThatStandStillLeaveSomethingForTheNext(self) -> None:
        ours, ids = self.several(4, 8 * MIB)
        for stream_id in ids:
            for _ in range(10):
                self.exhaust(ours, stream_id)
            ours.receive_data(data(stream_id, bytes(ours.stream(stream_id).allowance)))
        self.assertEqual(self.extras(ours), [4 * MIB, 2 * MIB, MIB, MIB // 2])

    def test_growthIsTakenBackAsItIsConsumed(self) -> None:
        ours, (stream_id,) = self.several(1, 8 * MIB)
        for _ in range(10):
            self.exhaust(ours, stream_id)
        stream = ours.stream(stream_id)
        ours.receive_data(data(stream_id, bytes(stream.allowance)))
        ours.share_growth(0)
        given = 0
        for _ in range(stream.held // (16 * KIB)):
            ours.acknowledge(stream_id, 16 * KIB)
            given += sum(length for kind, _, _, length in said(ours) if kind == WINDOW)
            self.assertEqual(stream.allowance + stream.held + stream.returnable, stream.size)
        self.assertEqual((stream.size, ours.growth), (256 * KIB, 0))
        self.assertEqual(given, stream.allowance)
        self.assertGreaterEqual(stream.allowance, 128 * KIB)
        for _ in range(5):                    # and it goes on, with a first window
            self.exhaust(ours, stream_id)
            self.assertEqual(stream.allowance, 256 * KIB)
        ours.share_growth(8 * MIB)
        self.exhaust(ours, stream_id)
        self.assertEqual(stream.allowance, 512 * KIB)

    def test_quarterStepsOnceGrown(self) -> None:
        ours = near(accepted(), FAR)
        self.assertEqual(self.stall(ours, self.stall(ours, 256 * KIB)), MIB)
        self.assertEqual(self.stall(ours, 256 * KIB - 1), 0)
        self.assertEqual(self.stall(ours, 1), 256 * KIB)

    def test_growsForAStopAtTheEndOfALaterGrant(self) -> None:
        ours = near(accepted(), FAR)
        self.assertEqual(self.stall(ours, 256 * KIB), 512 * KIB)
        # 512 KiB of credit in one grant: 200 + 184 are used, and given back as 200 + 184; then 128 end the first grant.
        self.assertEqual(self.stall(ours, 200 * KIB), 200 * KIB)
        self.assertEqual(self.stall(ours, 184 * KIB), 184 * KIB)
        self.assertEqual(self.stall(ours, 128 * KIB), (128 + 512) * KIB)

    def test_largeWindowsFitTheBudget(self) -> None:
        ours = YamuxConnection(True, SessionLimits(window=MIB, session_octets=MIB))
        ours.open_stream(0.0)
        ours.open_stream(0.0)
        self.assertEqual(said(ours), [(WINDOW, SYN, 1, 512 * KIB), (WINDOW, SYN, 3, 256 * KIB)])

    def test_windowIsTheSumOfItsParts(self) -> None:
        ours = accepted()
        stream = ours.stream(1)
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

    def test_aStreamIsForgottenAtThePeersEnd(self) -> None:
        for end in (frame(WINDOW, FIN, 1), frame(WINDOW, RST, 1), syn(1)):
            ours = self.overrun()
            ours.receive_data(end)
            self.assertEqual(ours.overruns_followed, 0)

    def test_onlySomeAreRemembered(self) -> None:
        ours = server()
        for stream_id in range(1, 401, 2):
            ours.receive_data(syn(stream_id) + frame(DATA, 0, stream_id, 256 * KIB + 1) + bytes(256 * KIB + 1))
        self.assertEqual(ours.overruns_followed, 64)
        self.assertEqual((ours.overruns, ours.streams, ours.held), (200, 0, 0))
