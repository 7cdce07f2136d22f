"""
W3C Trace Context.  The vectors are those of the recommendation and of its test suite, by what they test.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.http1.trace_context import LONGEST, TraceContext, read_trace_context, with_trace_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def read(*values: str) -> TraceContext | None:
    """
    What is read from a request with these fields.
    """
    return read_trace_context([(b"Host", b"a"), *((b"TraceParent", value.encode()) for value in values)])


class ReadTests(SynchronousTestCase):
    """
    What is accepted.
    """

    def test_theExampleOfTheRecommendationIsRead(self) -> None:
        self.assertEqual(read(GOOD), TraceContext(TRACE, SPAN, True))
        self.assertEqual(read(f"00-{TRACE}-{SPAN}-00"), TraceContext(TRACE, SPAN, False))

    def test_otherFlagsAreIgnored(self) -> None:
        self.assertEqual(read(f"00-{TRACE}-{SPAN}-ff"), TraceContext(TRACE, SPAN, True))
        self.assertEqual(read(f"00-{TRACE}-{SPAN}-fe"), TraceContext(TRACE, SPAN, False))

    def test_whiteSpaceAroundTheValueIsNoMatter(self) -> None:
        self.assertEqual(read(f"  {GOOD}\t"), TraceContext(TRACE, SPAN, True))

    def test_laterVersionsMayHaveMoreMembers(self) -> None:
        for value in (f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", f"01-{TRACE}-{SPAN}-01-"):
            self.assertEqual(read(value), TraceContext(TRACE, SPAN, True), value)

    def test_whatIsMalformedIsNone(self) -> None:
        for value in (
            "", "00", GOOD[:-1], GOOD + "0", GOOD + "-", GOOD + "-more", GOOD.upper(), GOOD.replace("-", "_"),
            f"ff-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01.more", f"0-{TRACE}-{SPAN}-01", f"00-{TRACE[1:]}-{SPAN}-01",
            f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{SPAN}-x1", f"00-{TRACE}-{SPAN}-1",
            GOOD + "\n", f"zz-{TRACE}-{SPAN}-01",
        ):  # fmt: skip
            if value.strip() != GOOD:
                self.assertIsNone(read(value), value)

    def test_severalAreNone(self) -> None:
        self.assertIsNone(read(GOOD, GOOD))
        self.assertIsNone(read())

    def test_lengthsAreBounded(self) -> None:
        self.assertIsNone(read(f"cc-{TRACE}-{SPAN}-01-" + "x" * LONGEST))

    @given(st.binary(max_size=80))
    def test_anythingIsReadOrNot(self, value: bytes) -> None:
        found = read_trace_context([(b"traceparent", value)])
        if found is not None:
            self.assertEqual(read(found.encode().decode()), found)


class WriteTests(SynchronousTestCase):
    """
    What is sent on.
    """

    context = TraceContext(TRACE, SPAN, True)

    def test_itIsWrittenAsItWasRead(self) -> None:
        self.assertEqual(self.context.encode(), GOOD.encode())

    def test_theStateStaysWithItsTrace(self) -> None:
        fields = [(b"TRACEPARENT", b"x"), (b"Host", b"a"), (b"Tracestate", b"a=1"), (b"traceparent", b"y")]
        parent = (b"traceparent", GOOD.encode())
        kept = with_trace_context(fields, self.context, keep_state=True)
        self.assertEqual(kept, [(b"Host", b"a"), (b"Tracestate", b"a=1"), parent])
        self.assertEqual(with_trace_context(fields, self.context, keep_state=False), [(b"Host", b"a"), parent])
