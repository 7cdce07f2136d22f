"""
For whom a request is passed on.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.http1.forwarded import (
    extend_forwarding_fields,
    forwarding_fields,
    without_forwarding_fields,
)


class ForwardedTests(SynchronousTestCase):
    """
    Our own fields, and those of others.
    """

    def test_introduce(self) -> None:
        self.assertEqual(forwarding_fields(b"192.0.2.1", b"https", b"a.example"), [
            (b"X-Forwarded-For", b"192.0.2.1"), (b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Host", b"a.example"),
            (b"Forwarded", b"for=192.0.2.1;host=a.example;proto=https"),
        ])

    def test_whatHasToBeQuoted(self) -> None:
        self.assertEqual(
            forwarding_fields(b"2001:db8::1", b"http", b"a:80")[3],
            (b"Forwarded", b'for="[2001:db8::1]";host="a:80";proto=http'),
        )

    def test_nothingToTell(self) -> None:
        self.assertEqual(forwarding_fields(b"", b"http", b""), [
            (b"X-Forwarded-For", b"unknown"), (b"X-Forwarded-Proto", b"http"), (b"Forwarded", b"for=unknown;proto=http"),
        ])

    def test_strangersAreNotBelieved(self) -> None:
        self.assertEqual(
            without_forwarding_fields(
                [(b"x-forwarded-FOR", b"1"), (b"Forwarded", b"for=1"), (b"X-Real-IP", b"1"), (b"A", b"b")]
            ),
            [(b"A", b"b")],
        )

    def test_trustedProxiesAreAddedTo(self) -> None:
        own = forwarding_fields(b"10.0.0.1", b"http", b"inner")
        told = [(b"X-Forwarded-For", b"192.0.2.7"), (b"x-forwarded-proto", b"https"), (b"Forwarded", b"for=192.0.2.7")]
        self.assertEqual(extend_forwarding_fields(told, own), [
            (b"X-Forwarded-For", b"192.0.2.7, 10.0.0.1"), (b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Host", b"inner"),
            (b"Forwarded", b"for=192.0.2.7, for=10.0.0.1;host=inner;proto=http"),
        ])
