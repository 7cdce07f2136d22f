"""
Origins in C{Origin} and C{Referer}: that of the request is replaced, and no other.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.http1.origin import normalized_origin, public_origin, replace_origin

PUBLIC, LOCAL = b"https://app.example.net", b"http://localhost:8888"


class OriginTests(SynchronousTestCase):
    """
    What is replaced.
    """

    def replaced(self, name: bytes, value: bytes, public: bytes = PUBLIC) -> bytes:
        [(same, new)] = replace_origin([(name, value)], public, LOCAL)
        self.assertEqual(same, name)
        return new

    def test_theOriginOfTheRequestIsReplaced(self) -> None:
        for value in (b"https://app.example.net", b"HTTPS://App.Example.NET", b"https://app.example.net:443"):
            self.assertEqual(self.replaced(b"Origin", value), LOCAL)
        self.assertEqual(
            self.replaced(b"referer", b"https://app.example.net/lab/tree?a=https://app.example.net#b"),
            b"http://localhost:8888/lab/tree?a=https://app.example.net#b",
        )
        self.assertEqual(self.replaced(b"Referer", b"https://app.example.net?q"), b"http://localhost:8888?q")

    def test_everyOtherOriginIsLeft(self) -> None:
        """
        The kind: a server that compares C{Origin} with C{Host} recognizes by it requests of other sites.
        """
        for value in (
            b"https://evil.example", b"http://app.example.net", b"https://app.example.net:8443", b"null", b"",
            b"https://app.example.net.evil.example", b"https://app.example.net@evil.example/", b"https://a@app.example.net",
            b"https://evil.example/https://app.example.net", b"https://app.example.net\\@evil.example", b"//app.example.net",
            b"wss://app.example.net", b"https://app.example.net, https://evil.example", b" https://app.example.net",
        ):  # fmt: skip
            self.assertEqual(self.replaced(b"Origin", value), value)
            self.assertEqual(self.replaced(b"Referer", value), value)
        self.assertEqual(self.replaced(b"Origin", PUBLIC, b""), PUBLIC)
        self.assertEqual(self.replaced(b"Origin", b"", b""), b"")

    def test_otherFieldsAreLeft(self) -> None:
        fields = [(b"X-Origin", PUBLIC), (b"Host", b"app.example.net"), (b"Origins", PUBLIC)]
        self.assertEqual(replace_origin(fields, PUBLIC, LOCAL), fields)

    def test_theOriginOfARequest(self) -> None:
        host, proto = (b"Host", b"App.example:8080"), (b"X-Forwarded-Proto", b"https")
        forwarded = b"X-Forwarded-Host", b"b.example:443"
        for fields, origin in (
            ([host], b"http://app.example:8080"), ([host, proto], b"https://app.example:8080"),
            ([host, proto, forwarded], b"https://b.example"), ([proto, forwarded], b"https://b.example"),
            ([host, (b"x-forwarded-proto", b"WSS")], b"https://app.example:8080"),
            ([], b""), ([proto], b""), ([host, host], b""), ([host, proto, proto], b""), ([host, forwarded, forwarded], b""),
            ([(b"Host", b"")], b""), ([(b"Host", b"[::1]:80")], b"http://[::1]"),
        ):  # fmt: skip
            self.assertEqual(public_origin(fields), origin, fields)

    @given(st.binary(max_size=64))
    def test_whateverIsSentHasThePublicOriginOrIsLeft(self, value: bytes) -> None:
        new = self.replaced(b"Origin", value)
        self.assertEqual(new != value, normalized_origin(value) == PUBLIC)
