"""
The first response without its interim ones, at every split.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.http1.final_response import FinalResponseFilter
from tunnelstack.wire.http1.head import HeadLimits

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def passed(octets: bytes, *sizes: int) -> bytes:
    """
    What passes a filter in pieces, with what it held back until the end.
    """
    filter, found = FinalResponseFilter(), b""
    start = 0
    for size in (*sizes, len(octets)):
        found += filter.receive_data(octets[start : start + size])
        start += size
    return found + filter.receive_eof()


class FilterTests(SynchronousTestCase):
    """
    What passes.
    """

    def test_interimResponsesAreLeftOutAtEverySplit(self) -> None:
        for interim in (b"", CONTINUE, CONTINUE + HINTS + HINTS):
            for final in (OK, OK + CONTINUE, SWITCHING + b"\x81\x02hi"):
                octets = interim + final
                for cut in range(len(octets) + 1):
                    self.assertEqual(passed(octets, cut), final, cut)

    def test_whatFollowsASwitchIsHeldBackOnce(self) -> None:
        filter = FinalResponseFilter()
        self.assertEqual(filter.receive_data(CONTINUE + SWITCHING + b"\x81\x02hi"), SWITCHING)
        self.assertTrue(filter.done and filter.switched)
        self.assertEqual(filter.receive_data(b"!"), b"")
        self.assertEqual((filter.take_held(), filter.take_held()), (b"\x81\x02hi!", b""))
        self.assertEqual(filter.receive_data(CONTINUE), CONTINUE)

    def test_whatIsNotHTTPPasses(self) -> None:
        for octets in (b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", b"HTTP/2 200\r\n\r\n", b"\x00\x01",
                       b"<html>hello", b"HTTP/1.1 2x0 OK\r\n\r\n"):
            for cut in range(len(octets)):
                self.assertEqual(passed(octets, cut), octets)

    def test_anEndInsideAHeadLosesNothing(self) -> None:
        self.assertEqual(passed(OK[:20]), OK[:20])
        self.assertEqual(passed(CONTINUE + OK[:5]), OK[:5])

    def test_aHeadThatIsTooLongPasses(self) -> None:
        filter = FinalResponseFilter(HeadLimits(octets=100, fields=10))
        long = b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200
        self.assertEqual(filter.receive_data(long), long)
        self.assertTrue(filter.done)

    @given(st.binary(max_size=300), st.lists(st.integers(1, 20), max_size=20))
    def test_octetsThatAreNotInterimPassUnchanged(self, octets: bytes, sizes: list[int]) -> None:
        self.assertEqual(passed(octets, *sizes), octets)
