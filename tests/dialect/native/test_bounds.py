"""
The bounds of a welcome, as JSON.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import asdict
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.dialect.native.control_messages import BOUNDS, LARGEST_BOUND, decodeBounds, encodeBounds
from tunnelstack.exchange.bounds import DEFAULT_BOUNDS, EARLIER, ExchangeBounds, earlier

NUMBERS = st.integers(1, LARGEST_BOUND)
SECONDS = st.floats(0.1, 86_400)
WRONG: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.text(max_size=5), st.just(0), st.integers(max_value=-1), st.just(LARGEST_BOUND + 1),
    st.floats(max_value=0), st.just(float("nan")), st.lists(st.integers(), max_size=2),
)  # fmt: skip


def bounds() -> st.SearchStrategy[ExchangeBounds]:
    kinds = {name: SECONDS if name.endswith("Seconds") else NUMBERS for name in BOUNDS.values()}
    return st.builds(ExchangeBounds, **kinds)


class BoundsTests(SynchronousTestCase):
    """
    L{encodeBounds} and L{decodeBounds}.
    """

    def test_everyBoundIsAnnounced(self) -> None:
        self.assertEqual(set(BOUNDS.values()), set(asdict(DEFAULT_BOUNDS)))

    @given(bounds())
    def test_whatIsAnnouncedIsRead(self, announced: ExchangeBounds) -> None:
        self.assertEqual(decodeBounds(json.loads(json.dumps(encodeBounds(announced)))), announced)

    @given(bounds(), st.dictionaries(st.sampled_from(sorted(BOUNDS)), WRONG))
    def test_whatMakesNoSenseIsMissing(self, announced: ExchangeBounds, wrong: dict[str, Any]) -> None:
        read = asdict(decodeBounds(encodeBounds(announced) | wrong))
        for member, name in BOUNDS.items():
            self.assertEqual(read[name], getattr(DEFAULT_BOUNDS if member in wrong else announced, name))

    @given(WRONG)
    def test_limitsThatAreNoObject(self, said: Any) -> None:
        self.assertEqual(decodeBounds(said), DEFAULT_BOUNDS)

    @given(bounds(), bounds())
    def test_combinationsAreTheGreaterOfBoth(self, one: ExchangeBounds, other: ExchangeBounds) -> None:
        self.assertEqual(one.atLeast(other), other.atLeast(one))
        self.assertEqual(one.atLeast(one), one)
        for name, value in asdict(one.atLeast(other)).items():
            self.assertEqual(value, max(getattr(one, name), getattr(other, name)))

    @given(SECONDS)
    def test_theAgentWaitsALittleLess(self, seconds: float) -> None:
        self.assertTrue(0 < earlier(seconds) < seconds)
        self.assertEqual(earlier(60.0), 60.0 - EARLIER)
