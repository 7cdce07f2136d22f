"""
The policy of an agent for one local web server.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.handler.http import LocalSite
from tunnelstack.transport.verification import CertificateRejected
from tunnelstack.wire.http1.head import RequestHead


class LocalSiteTests(SynchronousTestCase):
    """
    What it changes, explains and logs.
    """

    head = RequestHead(b"GET", b"/a", [(b"host", b"a"), (b"X-Request-Id", b"t-1")])

    def exchange(self) -> SimpleNamespace:
        return SimpleNamespace(trace="", head=self.head)

    def test_theRequestGoesOnAsItIs(self) -> None:
        exchange = self.exchange()
        self.assertIs(LocalSite("localhost:3000").prepareRequest(self.head, exchange), self.head)
        self.assertEqual(exchange.trace, "t-1")

    def test_theHostMayBeRewritten(self) -> None:
        head = LocalSite("localhost:3000", host="inner").prepareRequest(self.head, self.exchange())
        self.assertEqual(head.fields, [(b"Host", b"inner"), (b"X-Request-Id", b"t-1")])
        self.assertEqual(self.head.field(b"host"), b"a")

    def test_theOriginMayBeRewrittenWithTheHost(self) -> None:
        """
        The kind: a server that compares C{Origin} with C{Host}.  It must find both the same, and a foreign origin foreign.
        """
        site = LocalSite("localhost:3000", host="inner:1", origin="http://inner:1")
        for origin, sent in (
            (b"https://app.example", b"http://inner:1"), (b"https://evil.example", b"https://evil.example"),
            (b"null", b"null"),
        ):
            fields = [
                (b"Host", b"app.example"), (b"Origin", origin), (b"Referer", origin + b"/a?b"),
                (b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Host", b"app.example"),
            ]
            head = site.prepareRequest(RequestHead(b"GET", b"/a", fields), self.exchange())
            self.assertEqual(
                head.fields, [(b"Host", b"inner:1"), (b"Origin", sent), (b"Referer", sent + b"/a?b"), *fields[3:]]
            )

    def test_requestsAreHeard(self) -> None:
        heard: list[RequestHead] = []
        LocalSite("localhost:3000", asked=heard.append).prepareRequest(self.head, self.exchange())
        self.assertEqual(heard, [self.head])

    def test_theTargetIsInEveryFailure(self) -> None:
        def rejected() -> Exception:
            return CertificateRejected("its certificate is for a.example", "replace it")

        site = LocalSite("localhost:3000")
        sentences = {
            site.explain(Failure(error()))
            for error in (ConnectionRefusedError, DNSLookupError, TimeoutError, ConnectError, ValueError, rejected)
        }
        self.assertEqual(len(sentences), 6)
        self.assertFalse(any("certificate is for" in sentence for sentence in sentences), "a visitor need not know")
        self.assertTrue(all("localhost:3000" in sentence for sentence in sentences))
        self.assertIn("Nothing listens on localhost:3000 yet.", sentences)

    def test_failuresAreLoggedWithTheirTrace(self) -> None:
        events: list[dict[str, object]] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        site, exchange = LocalSite("localhost:3000"), self.exchange()
        site.prepareRequest(self.head, exchange)
        site.failed(exchange, ExchangeFailed(FailureKind.UNREACHABLE))
        (event,) = events
        self.assertEqual(
            (event["trace"], event["status"], event["target"], event["kind"]), ("t-1", 503, "localhost:3000", "UNREACHABLE")
        )

    def test_thePathIsLoggedInASCII(self) -> None:
        events: list[dict[str, object]] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        site, exchange = LocalSite("localhost:3000"), self.exchange()
        exchange.head = RequestHead(b"GET", b"/\xc3\xa4\xff", [])
        site.failed(exchange, ExchangeFailed(FailureKind.UNREACHABLE))
        self.assertEqual(events[0]["path"], "/%C3%A4%FF")
