"""
KeyedRates and buckets, in virtual time.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.edge.public.rate import SMALLEST_BURST, Bucket, KeyedRates, Rate, rateLimitKey


class RateTests(SynchronousTestCase):
    """
    Events a second.
    """

    def test_aBurstIsFollowedByOneAtATime(self) -> None:
        rate = Rate(2, burst=3)
        self.assertEqual([rate.take(100.0) for _ in range(3)], [0.0] * 3)
        self.assertAlmostEqual(rate.take(100.0), 0.5)
        self.assertAlmostEqual(rate.take(100.2), 0.3)
        self.assertEqual(rate.take(100.5), 0.0)
        self.assertGreater(rate.take(100.5), 0)

    def test_waitingLongEarnsOneBurstAndNoMore(self) -> None:
        rate = Rate(2, burst=3)
        rate.take(0.0)
        self.assertEqual([rate.take(1e6) == 0 for _ in range(4)], [True, True, True, False])

    def test_aRateMayBeLessThanOneASecond(self) -> None:
        rate = Rate(0.1)
        self.assertEqual(rate.take(5.0), 0.0)
        self.assertAlmostEqual(rate.take(5.0), 10.0)

    @given(st.floats(0.5, 100), st.integers(1, 20), st.lists(st.floats(0, 2), max_size=60))
    def test_noMoreThanRateAndBurstAreAllowed(self, perSecond: float, burst: int, gaps: list[float]) -> None:
        rate, now, let = Rate(perSecond, burst), 0.0, 0
        for gap in gaps:
            now += gap
            let += rate.take(now) == 0
        self.assertLessEqual(let, burst + now * perSecond + 1e-6)


class BucketTests(SynchronousTestCase):
    """
    Octets a second.
    """

    def test_whatIsTooFastWaits(self) -> None:
        bucket = Bucket(SMALLEST_BURST)       # a burst is one second's worth
        self.assertEqual(bucket.take(SMALLEST_BURST, 10.0), 0.0)
        self.assertAlmostEqual(bucket.take(SMALLEST_BURST, 10.0), 1.0)
        self.assertAlmostEqual(bucket.take(0, 10.75), 0.25)
        self.assertEqual(bucket.take(0, 11.0), 0.0)

    @given(st.integers(1000, 10**7), st.lists(st.integers(1, 65536), min_size=1, max_size=50))
    def test_whoWaitsAsToldIsAsFastAsAllowed(self, perSecond: int, pieces: list[int]) -> None:
        bucket, now = Bucket(perSecond), 0.0
        for octets in pieces:
            now += bucket.take(octets, now)
        burst = max(SMALLEST_BURST, perSecond / 4)
        self.assertLessEqual(sum(pieces), now * perSecond + burst + 1)


class RatesTests(SynchronousTestCase):
    """
    Very many.
    """

    def test_eachHasItsOwn(self) -> None:
        rates = KeyedRates(2)
        self.assertEqual([rates.take("a", 0.0) for _ in range(3)], [True, True, False])
        self.assertTrue(rates.take("b", 0.0))
        self.assertTrue(rates.take("a", 0.5))

    def test_strangersCannotMakeItRememberThemAll(self) -> None:
        rates = KeyedRates(1, most=100)
        for number in range(10_000):
            self.assertTrue(rates.take(number, number * 1e-6))
            self.assertLessEqual(len(rates), 101)

    def test_thoseWhoStillOweAreRememberedLongest(self) -> None:
        rates = KeyedRates(1, most=2)
        for name, now in (("old", 0.0), ("new", 5.0), ("newer", 5.0)):
            rates.take(name, now)
        self.assertFalse(rates.take("new", 5.1))

    def test_zeroIsNoLimit(self) -> None:
        rates = KeyedRates(0)
        self.assertTrue(all(rates.take("a", 0.0) for _ in range(1000)))


class HouseholdTests(SynchronousTestCase):
    """
    Whom an address stands for.
    """

    def test_visitorsAreCountedByNetwork(self) -> None:
        self.assertEqual(rateLimitKey("192.0.2.1"), "192.0.2.1")
        self.assertEqual(rateLimitKey("::ffff:192.0.2.1"), "192.0.2.1")
        self.assertEqual(rateLimitKey("2001:db8::1"), rateLimitKey("2001:db8::ffff:1"))
        self.assertNotEqual(rateLimitKey("2001:db8::1"), rateLimitKey("2001:db8:0:1::1"))
        for nobody in ("127.0.0.1", "::1", "::ffff:127.0.0.9", "", "a name"):
            self.assertEqual(rateLimitKey(nobody), "")
