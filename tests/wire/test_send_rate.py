"""
How fast a carrier takes octets, and how little it is given.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.send_rate import (
    FIRST_BATCH,
    FIRST_UNSENT,
    LARGEST_BATCH,
    LEAST_UNSENT,
    MOST_UNSENT,
    SMALLEST_BATCH,
    SendRate,
)


def measured(rate: float, seconds: float = 10.0, step: float = 0.25, unsent: int | None = 1 << 30) -> SendRate:
    """
    A carrier that has taken octets at this rate.
    """
    ours = SendRate()
    for number in range(int(seconds / step)):
        if ours.taken(number * step, int(number * step * rate)):
            ours.bound(unsent)
    return ours


class SendRateTests(SynchronousTestCase):
    """
    Rates on a clock of the test's.
    """

    def test_nothingIsKnownAtFirst(self) -> None:
        ours = SendRate()
        self.assertEqual((ours.rate, ours.batch, ours.unsent), (0.0, FIRST_BATCH, FIRST_UNSENT))
        self.assertEqual(ours.seconds(1_000_000), 0.0)

    def test_theRateIsMeasured(self) -> None:
        for rate in (1e3, 8e3, 1e6, 1e9):
            self.assertAlmostEqual(measured(rate).rate / rate, 1.0, 3)
        self.assertAlmostEqual(measured(1e6).seconds(500_000), 0.5, 3)

    def test_aSlowCarrierIsGivenAQuarterOfASecond(self) -> None:
        self.assertEqual(measured(60_000).batch, 15_000)
        self.assertEqual(measured(1_000).batch, SMALLEST_BATCH)
        self.assertEqual(measured(1e6).batch, LARGEST_BATCH)

    def test_theKernelKeepsLittleOfASlowCarrier(self) -> None:
        self.assertEqual(measured(1_000).unsent, LEAST_UNSENT)
        self.assertEqual(measured(60_000).unsent, 15_000)
        self.assertAlmostEqual(measured(10e6).unsent, 500_000, delta=10)
        self.assertEqual(measured(1e9).unsent, MOST_UNSENT)

    def test_aLateSenderGetsMoreInStore(self) -> None:
        for unsent in (0, None):
            self.assertEqual(measured(2e6, unsent=unsent).unsent, 2_000_000)
            self.assertEqual(measured(1e9, unsent=unsent).unsent, MOST_UNSENT)
            self.assertLess(measured(60_000, unsent=unsent).unsent, 61_000)        # never more than a second

    def test_aLateSenderDoesNotMeasureItself(self) -> None:
        """
        A carrier that sends whatever the kernel has, to a sender that comes back every 100 ms: what the kernel may keep grows
        until it is enough for them, and does not shrink to what was sent in the last 100 ms.
        """
        ours, octets = SendRate(), 0
        for turn in range(200):
            octets += ours.unsent
            if ours.taken(turn / 10, octets):
                ours.bound(0)
        self.assertEqual(ours.unsent, MOST_UNSENT)

    def test_aCarrierThatRefusesNothingIsGivenMore(self) -> None:
        ours = SendRate()
        for batch in (2 * FIRST_BATCH, 4 * FIRST_BATCH, LARGEST_BATCH, LARGEST_BATCH):
            ours.untroubled()
            self.assertEqual(ours.batch, min(batch, LARGEST_BATCH))
        slow = measured(8e3)
        slow.untroubled()
        self.assertEqual(slow.batch, SMALLEST_BATCH)

    def test_timeWithoutAnythingToSendIsNotMeasured(self) -> None:
        ours = measured(1e6)
        ours.idle_at = 10.0
        self.assertFalse(ours.taken(1000.0, 10_000_100))
        self.assertTrue(ours.taken(1001.0, 11_000_100))
        self.assertAlmostEqual(ours.rate, 1e6, 0)

    def test_shortGapsAreCounted(self) -> None:
        ours = measured(1e6)
        ours.idle_at = 9.76
        self.assertTrue(ours.taken(9.80, 9_800_000))
        self.assertAlmostEqual(ours.rate, 1e6, 0)

    def test_shortMeasurementsCountLittle(self) -> None:
        ours = measured(1e6)
        self.assertFalse(ours.taken(9.76, 50_000_000))
        self.assertTrue(ours.taken(9.80, 9_800_000))
        self.assertLess(abs(ours.rate - 1e6), 2e5)

    def test_aNewRateIsKnownWithinASecond(self) -> None:
        ours = measured(10e6)
        for tenth in range(101, 111):
            ours.taken(tenth / 10, int(10e6 * 9.75 + 8e3 * (tenth - 97) / 10))
        self.assertLess(ours.rate, 2e6)
        for tenth in range(111, 141):
            ours.taken(tenth / 10, int(10e6 * 9.75 + 8e3 * (tenth - 97) / 10))
        self.assertLess(ours.rate, 2e4)

    @given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 1 << 40), st.none() | st.integers(0, 1 << 30), st.booleans())))
    def test_theBoundsHold(self, moments: list[tuple[float, int, int | None, bool]]) -> None:
        ours, now, octets = SendRate(), 0.0, 0
        for seconds, more, unsent, idle in moments:
            if idle:
                ours.idle_at = now
            now, octets = now + seconds, octets + more
            if ours.taken(now, octets):
                ours.bound(unsent)
            else:
                ours.untroubled()
            self.assertTrue(SMALLEST_BATCH <= ours.batch <= LARGEST_BATCH)
            self.assertTrue(LEAST_UNSENT <= ours.unsent <= MOST_UNSENT)
            self.assertGreaterEqual(ours.rate, 0.0)
