"""
The store of samples: what is kept, and that it has a bound.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.exchange.sample_store import OVERHEAD, SampleStore


class StoreTests(SynchronousTestCase):
    def test_theOldestOfAKeyMakesRoom(self) -> None:
        store: SampleStore[int] = SampleStore(2)
        for number in range(5):
            store.add("a", number, 10, str(number))
        store.add("b", 9, 10)
        self.assertEqual((store.of("a"), store.of("b"), store.of("c")), ([3, 4], [9], []))
        self.assertEqual(list(store.newest()), [9, 4, 3])
        self.assertEqual((store.find("4"), store.find("0")), (4, None))

    def test_allTogetherHaveABound(self) -> None:
        store: SampleStore[int] = SampleStore(100, octets=4 * (OVERHEAD + 10))
        for number in range(10):
            store.add(str(number % 3), number, 10)
        self.assertEqual(list(store.newest()), [9, 8, 7, 6])
        store.add("large", 10, 5 * OVERHEAD)
        self.assertEqual(len(store), 0)

    def test_aStoreMayBecomeSmallerAndEmpty(self) -> None:
        store: SampleStore[int] = SampleStore(5)
        for number in range(10):
            store.add("ab"[number % 2], number, 0)
        store.resize(1)
        self.assertEqual(list(store.newest()), [9, 8])
        store.forget("a")
        store.forget("unknown")
        self.assertEqual(list(store.newest()), [9])
        store.resize(0)
        self.assertEqual(len(store), 0)

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3000), st.booleans())), st.integers(0, 4))
    def test_theBoundsHoldWhateverIsAdded(self, added: list[tuple[str, int, bool]], most: int) -> None:
        store: SampleStore[int] = SampleStore(most, octets=8 * OVERHEAD)
        for number, (key, octets, forgets) in enumerate(added):
            if forgets:
                store.forget(key)
            store.add(key, number, octets, f"id{number}")
            kept = list(store.newest())
            self.assertLessEqual(sum(added[each][1] + OVERHEAD for each in kept), 8 * OVERHEAD)
            self.assertEqual(sorted(kept), sorted(each for key in "abc" for each in store.of(key)))
            self.assertTrue(all(len(store.of(each)) <= most for each in "abc"))
            self.assertTrue(all(store.find(f"id{each}") == each for each in kept))
