"""
A queue of octets, cut anywhere.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.transport.octet_queue import FEW, cutOff


class CutTests(SynchronousTestCase):
    """
    The kinds of pieces: shorter than what is cut off, longer, and just as long.
    """

    @given(
        st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=FEW + 4), st.lists(st.integers(1, 20), max_size=30)
    )
    def test_octetsLeaveInOrder(self, pieces: list[bytes], cuts: list[int]) -> None:
        octets = b"".join(pieces)
        queue, offset, taken = list(pieces), 0, b""
        for most in cuts:
            if most >= len(octets) - len(taken):
                break
            data, offset = cutOff(queue, offset, most)
            self.assertEqual(len(data), most)
            taken += data
            self.assertEqual(taken + b"".join(queue)[offset:], octets)
            self.assertLess(offset, len(queue[0]))
