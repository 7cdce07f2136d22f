"""
What people type for the URL of an edge and for an endpoint to listen on.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config.shorthand import edgeURL, isPort, listenEndpoint, loopbackEndpoint


class EdgeURLTests(SynchronousTestCase):
    """
    URLs of edges.
    """

    def test_whatPeopleTypeIsCompleted(self) -> None:
        for text, url in (
            ("http://localhost:8080", "http://localhost:8080"), ("https://a.net/base", "https://a.net/base"),
            ("ws://localhost:8080/_tunnel/1", "http://localhost:8080"), ("wss://a.net/_tunnel/1", "https://a.net"),
            ("WSS://a.net/base/_tunnel/1/", "https://a.net/base"), ("ws://a.net", "http://a.net"),
            ("https://a.net/_tunnel/1", "https://a.net"),
            ("a.net", "https://a.net"), ("a.net:8443", "https://a.net:8443"), ("a.net/base", "https://a.net/base"),
            ("localhost:8080", "http://localhost:8080"), ("127.0.0.1", "http://127.0.0.1"), ("[::1]:80", "http://[::1]:80"),
            ("0.0.0.0:80", "https://0.0.0.0:80"), ("[2001:db8::1]", "https://[2001:db8::1]"),
        ):  # fmt: skip
            self.assertEqual(edgeURL(text), url)

    def test_whatIsUnknownIsLeftToTheCheck(self) -> None:
        for text in ("", "ftp://a.net", "a b", "user@a.net", "http://[", "://"):
            self.assertEqual(edgeURL(text), text)

    @given(st.text(max_size=40))
    def test_aURLStaysWhatItIs(self, text: str) -> None:
        url = edgeURL(text)
        if "_tunnel" not in text:
            self.assertEqual(edgeURL(url), url)


class ListenTests(SynchronousTestCase):
    """
    Endpoints to listen on.
    """

    def test_whatPeopleTypeIsCompleted(self) -> None:
        for text, endpoint in (
            ("8080", "tcp:8080"), (":8080", "tcp:8080"), ("*:8080", "tcp:8080"), ("0.0.0.0:80", "tcp:80:interface=0.0.0.0"),
            ("127.0.0.1:80", "tcp:80:interface=127.0.0.1"), ("localhost:80", "tcp:80:interface=127.0.0.1"),
            ("[::1]:80", r"tcp:80:interface=\:\:1"), ("tcp:127.0.0.1:80", "tcp:80:interface=127.0.0.1"),
            ("haproxy:80", "haproxy:tcp:80"),
        ):  # fmt: skip
            self.assertEqual(listenEndpoint(text), endpoint)

    def test_endpointStringsStayAsTheyAre(self) -> None:
        for text in (
            "tcp:8080", "tcp:80:interface=127.0.0.1", "tls:certs:port=443", "haproxy:tls:certs", "unix:/run/a", "systemd:x",
            "tcp6:80", "myhost:80", "", "123456",
        ):  # fmt: skip
            self.assertEqual(listenEndpoint(text), text)

    def test_aPortAloneCanBeOneOfLoopback(self) -> None:
        for text in ("9000", ":9000"):
            self.assertTrue(isPort(text))
            self.assertEqual(loopbackEndpoint(text), "tcp:9000:interface=127.0.0.1")
        for text in ("tcp:9000", "0.0.0.0:9000", ""):
            self.assertEqual(loopbackEndpoint(text), listenEndpoint(text))
