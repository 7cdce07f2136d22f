"""
What of heads is not shown.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.http1.redaction import (
    NONE,
    REDACTED,
    STANDARD,
    STRICT,
    TIERS,
    is_hidden,
    shown_fields,
    shown_query,
)


class RedactionTests(SynchronousTestCase):
    def test_eachTierHidesMore(self) -> None:
        for names, hidden in (
            ((b"Authorization", b"Cookie", b"Set-Cookie", b"Proxy-Authorization", b"X-Api-Key", b"x-csrf-token"), (0, 1, 1)),
            ((b"X-Forwarded-For", b"X-Real-IP", b"Forwarded", b"CF-Connecting-IP", b"User-Agent", b"Referer"), (0, 0, 1)),
            ((b"Host", b"Accept", b"Content-Type", b"Content-Length", b"X-Zip", b"Recipe"), (0, 0, 0)),
        ):
            for name in names:
                self.assertEqual(tuple(is_hidden(name, tier) for tier in (NONE, STANDARD, STRICT)), hidden, name)

    def test_fieldsAreShownInOrder(self) -> None:
        fields = [(b"Host", b"a"), (b"Cookie", b"x=1"), (b"X-Name", b"caf\xe9"), (b"Cookie", b"y=2")]
        shown = [["Host", "a"], ["Cookie", REDACTED], ["X-Name", "caf\xe9"], ["Cookie", REDACTED]]
        self.assertEqual(shown_fields(fields, STANDARD), shown)

    def test_valuesOfQueriesAreHidden(self) -> None:
        for query, standard in (
            (b"", ""), (b"a=1&b=2", "a=1&b=2"), (b"token=x&a=1", f"token={REDACTED}&a=1"), (b"plain", "plain"),
            (b"a=1;api_key=x=y&code=3", f"a=1;api_key={REDACTED}&code={REDACTED}"), (b"%74oken=x", f"%74oken={REDACTED}"),
            (b"sig=a%26b&=x&x=", f"sig={REDACTED}&=x&x="), (b"access_token=a&access_token=b", f"access_token={REDACTED}&" * 2),
        ):
            self.assertEqual(shown_query(query, STANDARD), standard.removesuffix("&") if query else "")
            self.assertEqual(shown_query(query, NONE), query.decode())
        self.assertEqual(shown_query(b"q=shoes&page=2&flag", STRICT), f"q={REDACTED}&page={REDACTED}&flag")

    @given(st.binary(max_size=60), st.sampled_from(TIERS))
    def test_anyOctetsAreText(self, octets: bytes, tier: str) -> None:
        self.assertIsInstance(shown_query(octets, tier), str)
        self.assertIsInstance(shown_fields([(octets, octets)], tier)[0][1], str)
        self.assertNotIn("top", shown_query(b"password=top&" + octets.replace(b"top", b""), STANDARD).partition("&")[0])
