"""
What an agent of Jetty changes in headers: the vectors of its redirects, and what is dropped and added.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.records.jetty_headers import (
    lookup_hosts,
    public_headers,
    public_url_of,
    request_to_upstream,
    response_from_upstream,
)

HOSTS = lookup_hosts(["App.test", ""])
PUBLIC = "d.t.example"


class RedirectTests(SynchronousTestCase):
    """
    Redirects of the local server.
    """

    def test_redirectsToTheLocalServerAreToThePublicHost(self) -> None:
        for url, expected in (
            ("//app.test/x?y#z", "https://d.t.example/x?y#z"), ("http://APP.test:8000", "https://d.t.example/"),
            ("https://www.app.test/a%2Fb", "https://d.t.example/a%2Fb"),
        ):  # fmt: skip
            self.assertEqual(public_url_of(url, HOSTS, PUBLIC), expected)

    def test_otherRedirectsAreUnchanged(self) -> None:
        for url in (
            "/x", "https://other.example/", "", "x", "?a", "ftp://app.test/", "https://[::1", "https://app.test\r\n/", "http:///x",
            "mailto:a@app.test", "https://app.test.other.example/", "https:// app.test/",
        ):  # fmt: skip
            self.assertEqual(public_url_of(url, HOSTS, PUBLIC, "app.test"), url)

    def test_theUpstreamIsReplacedWhereThatMakesAPublicURL(self) -> None:
        self.assertEqual(public_url_of("http://Local:80/x", frozenset(), PUBLIC, "local"), "http://d.t.example:80/x")
        for url in ("http://a.example/?to=http://local/", "http://local/?to=http://a.example/"):
            self.assertEqual(public_url_of(url, frozenset(), PUBLIC, "local"), url)

    def test_threeHeadersHaveURLs(self) -> None:
        headers = (
            (b"Refresh", b"5; url=https://app.test/a"), (b"refresh", b'0;URL="//app.test"'), (b"Refresh", b"5"),
            (b"X-Inertia-Location", b"//app.test"), (b"Link", b"//app.test"), (b"Location", b"//app.test/\xff"),
        )  # fmt: skip
        self.assertEqual([value for _, value in public_headers(headers, HOSTS, PUBLIC)], [
            b"5; url=https://d.t.example/a", b'0;URL="https://d.t.example/"', b"5", b"https://d.t.example/", b"//app.test",
            b"https://d.t.example/\xff",
        ])  # fmt: skip

    def test_longValuesAreReadInLinearTime(self) -> None:
        """
        Quadratic time would be minutes.
        """
        for value in (b" " * 65_536, b"1;url=" + b" " * 65_536 + b"x", b"1;url='" + b"' " * 32_768):
            public_headers(((b"Refresh", value), (b"Location", value)), HOSTS, PUBLIC, "app.test")

    @given(st.text(st.characters(max_codepoint=255)))
    def test_anyValueIsTaken(self, text: str) -> None:
        value = text.encode("latin-1")
        for name in (b"Location", b"Refresh"):
            public_headers(((name, value), (name, b"//app.test" + value), (name, b"1;url=" + value)), HOSTS, PUBLIC, "app.test")


class RuleTests(SynchronousTestCase):
    """
    What is dropped, replaced and added.
    """

    def test_headersOfOneConnectionAreDropped(self) -> None:
        headers = (
            (b"Connection", b"close, X-Mine"), (b"x-mine", b"1"), (b"Keep-Alive", b"1"), (b"TE", b"trailers"),
            (b"Trailer", b"a"), (b"Transfer-Encoding", b"chunked"), (b"Upgrade", b"x"),
            (b"Proxy-Connection", b"close"), (b"A", b"b"),
        )  # fmt: skip
        self.assertEqual(response_from_upstream(headers), ((b"A", b"b"),))
        sent = request_to_upstream(headers, "app.test", 80, "app.test")
        self.assertEqual(sent, ((b"Host", b"app.test"), (b"A", b"b"), (b"X-Forwarded-Proto", b"https")))

    def test_theHostIsThatOfTheLocalServer(self) -> None:
        headers = ((b"host", b"d.t.example"), (b"Accept-Encoding", b"gzip"))
        added = ((b"X-Forwarded-Host", b"d.t.example"), (b"X-Forwarded-Proto", b"https"))
        self.assertEqual(request_to_upstream(headers, "app.test", 8000, PUBLIC), ((b"Host", b"app.test:8000"), *added))
        kept = request_to_upstream(headers, "app.test", 443, PUBLIC, keep_coding=True)
        self.assertEqual(kept, ((b"Host", b"app.test"), headers[1], *added))

    def test_forwardedFieldsAreKept(self) -> None:
        headers = ((b"x-forwarded-host", b"a"), (b"X-Forwarded-Proto", b"http"))
        self.assertEqual(request_to_upstream(headers, "b", 80, PUBLIC), ((b"Host", b"b"), *headers))

    def test_lengthAndCodingOfAnUnchangedBodyAreKept(self) -> None:
        headers = ((b"Content-Length", b"1"), (b"content-encoding", b"gzip"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b"))
        self.assertEqual(response_from_upstream(headers, keep_body=True), headers)
        self.assertEqual(response_from_upstream(headers), headers[2:])
