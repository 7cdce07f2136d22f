"""
Conditions of requests.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.http1.conditions import Validators, http_date, precondition, range_applies, read_date
from tunnelstack.wire.http1.head import Fields, RequestHead

MODIFIED = 784_111_777
DATE, BEFORE, AFTER = map(http_date, (MODIFIED, MODIFIED - 1, MODIFIED + 1))
STRONG, WEAK = Validators(b'"a,b"', MODIFIED), Validators(b'"a,b"', MODIFIED, strong=False)


def head(*fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", b"/", list[tuple[bytes, bytes]](fields))


class DateTests(SynchronousTestCase):
    """
    The three forms of a date.
    """

    def test_theFormsOfTheRFCAreRead(self) -> None:
        for value in (b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"):
            self.assertEqual(read_date(value), MODIFIED, value)

    def test_invalidDatesAreIgnored(self) -> None:
        for value in (
            b"", b"0", b"yesterday", b"Sun, 06 Nov 1994 08:49:37", b"Sun, 06 Nov 1994 08:49:37 +0200", b'"a"',
            b"Sun, 06 Nov 1994 08:49:37 GMT, x", b"Sun, 06 nov 1994 08:49:37 GMT",
        ):  # fmt: skip
            self.assertIsNone(read_date(value), value)

    @given(st.integers(0, 4_000_000_000))
    def test_whatIsWrittenIsRead(self, seconds: int) -> None:
        self.assertEqual(read_date(http_date(seconds)), seconds)

    @given(st.binary(max_size=40))
    def test_anyOctetsAreTolerated(self, value: bytes) -> None:
        read_date(value)


class PreconditionTests(SynchronousTestCase):
    """
    Each condition, for a strong and a weak validator: the status, which is 0 where the request is performed.
    """

    def check(self, strong: int, weak: int, *fields: tuple[bytes, bytes]) -> None:
        self.assertEqual((precondition(head(*fields), STRONG), precondition(head(*fields), WEAK)), (strong, weak), fields)

    def test_withoutConditionsARequestIsAnswered(self) -> None:
        self.check(0, 0)

    def test_ifMatchIsEvaluated(self) -> None:
        self.check(0, 412, (b"If-Match", b'"a,b"'))
        self.check(0, 412, (b"If-Match", b'"x", "a,b" , W/"y"'))
        self.check(0, 412, (b"If-Match", b'"x"'), (b"if-match", b'"a,b"'))
        self.check(0, 0, (b"If-Match", b"*"))
        for value in (b'W/"a,b"', b'"a"', b"a,b", b'"a,b', b'"a,b" "x"', b"", b'w/"a,b"'):
            self.check(412, 412, (b"If-Match", value))

    def test_ifUnmodifiedSinceIsEvaluated(self) -> None:
        for value, status in ((DATE, 0), (AFTER, 0), (BEFORE, 412), (b"nonsense", 0)):
            self.check(status, status, (b"If-Unmodified-Since", value))
        self.check(0, 412, (b"If-Match", b'"a,b"'), (b"If-Unmodified-Since", BEFORE))

    def test_ifNoneMatchIsEvaluated(self) -> None:
        for value in (b'"a,b"', b'W/"a,b"', b', "x",,"a,b"', b"*"):
            self.check(304, 304, (b"If-None-Match", value))
        for value in (b'"a"', b"a,b", b""):
            self.check(0, 0, (b"If-None-Match", value))

    def test_ifModifiedSinceIsEvaluated(self) -> None:
        for value, status in ((DATE, 304), (AFTER, 304), (BEFORE, 0), (b"nonsense", 0)):
            self.check(status, status, (b"If-Modified-Since", value))
        self.check(0, 0, (b"If-None-Match", b'"x"'), (b"If-Modified-Since", DATE))
        self.check(0, 0, (b"If-Modified-Since", DATE), (b"If-Modified-Since", DATE))

    def test_conditionsHaveAnOrder(self) -> None:
        self.check(412, 412, (b"If-None-Match", b"*"), (b"If-Match", b'"x"'))
        self.check(412, 412, (b"If-Modified-Since", DATE), (b"If-Unmodified-Since", BEFORE))

    def test_ifRangeIsEvaluated(self) -> None:
        for fields, applies in (
            ((), True), ([b'"a,b"'], True), ([DATE], True), ([b'"x"'], False), ([b'W/"a,b"'], False), ([AFTER], False),
            ([BEFORE], False), ([b"nonsense"], False), ([b'"a,b"', b'"a,b"'], False), ([b""], False),
        ):  # fmt: skip
            given: Fields = [(b"If-Range", value) for value in fields]
            self.assertEqual(range_applies(head(*given), STRONG), applies, fields)
            self.assertEqual(range_applies(head(*given), WEAK), not fields, fields)

    @given(st.binary(max_size=60))
    def test_anyOctetsAreTolerated(self, value: bytes) -> None:
        for name in (b"If-Match", b"If-None-Match", b"If-Range", b"If-Modified-Since", b"If-Unmodified-Since"):
            self.assertIn(precondition(head((name, value)), STRONG), (0, 304, 412))
            range_applies(head((name, value)), STRONG)
