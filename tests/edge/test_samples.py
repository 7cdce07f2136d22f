"""
Samples of requests, seen from outside: what an edge keeps of visitors' requests, and what it does not.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve

from tests.changed_settings import changes
from tests.edge.test_edge_and_agent import SITE, Both, Page
from tests.edge.test_http2_visitors import CALLS, HTTP2Case, to
from tests.wire.heads_http2 import GET
from tunnelstack.control.config.records import Route
from tunnelstack.control.config.upkeep import SamplesConfig
from tunnelstack.edge.list_query import ALL, ListQuery
from tunnelstack.edge.public.samples import LONGEST_TEXT, MOST_FIELDS
from tunnelstack.edge.slices import toEnd
from tunnelstack.testing import EdgeAndAgent
from tunnelstack.wire.http1.redaction import REDACTED

KEEP = SamplesConfig(requests=3)
HEAD = b"POST /form/1?q=shoes&token=abc HTTP/1.1\r\nHost: site.localhost\r\nCookie: a=secret\r\nUser-Agent: me\r\n"


class SampleTests(Both):
    def sampled(self, samples: SamplesConfig = KEEP, **edge: Any) -> EdgeAndAgent:
        return self.begin(SITE, edge={"samples": samples, **edge})

    def report(self, query: ListQuery = ALL) -> list[Any]:
        """
        @return: what C{GET /samples} of the administration answers.
        """
        said = toEnd(self.both.edge.admin.administration.listHandlers[b"/samples"](query))
        found: list[Any] = said["samples"]
        return found

    def test_nothingIsKeptUnlessItIsConfigured(self) -> None:
        self.sampled(SamplesConfig())
        self.both.get("site.localhost")
        self.assertEqual(self.report(), [])

    def test_aRequestIsKeptWithoutBodyAndCredentials(self) -> None:
        both = self.sampled()
        both.visit(HEAD + b"Content-Length: 4\r\n\r\nbody")
        (sample,) = self.report()
        headers = dict(map(tuple, sample.pop("headers")))
        self.assertEqual((headers["Cookie"], headers["User-Agent"], headers["Content-Length"]), (REDACTED, "me", "4"))
        self.assertNotIn("X-Forwarded-For", headers)
        trace, time, seconds = (sample.pop(name) for name in ("request", "time", "seconds"))
        self.assertEqual(sample, {
            "service": "site", "method": "POST", "path": "/form/1", "query": f"q=shoes&token={REDACTED}", "status": 200,
            "octets_in": 4, "octets_out": 13,
        })  # fmt: skip
        self.assertTrue(trace and time > 1_700_000_000 and seconds >= 0)
        self.assertNotIn("secret", str(self.report()))

    def test_redactionApplies(self) -> None:
        for redaction, agent, query in (
            ("strict", REDACTED, f"q={REDACTED}&token={REDACTED}"), ("none", "me", "q=shoes&token=abc"),
        ):
            self.sampled(evolve(KEEP, redaction=redaction)).visit(HEAD + b"\r\n")
            (sample,) = self.report()
            self.assertIn(["User-Agent", agent], sample["headers"])
            self.assertEqual(sample["query"], query)
            self.assertEqual(["Cookie", "a=secret"] in sample["headers"], redaction == "none")

    @changes("edge [samples] requests")
    def test_theLastOfEachServiceAreKept(self) -> None:
        for requests in (1, 4):
            both = self.sampled(SamplesConfig(requests=requests), routes=(Route(host="www.localhost", to="laptop/site"),))
            both.get("www.localhost", "/other")
            for number in range(6):
                both.get("site.localhost", f"/{number}")
            paths = [sample["path"] for sample in self.report()]
            self.assertEqual(paths, [f"/{number}" for number in range(5, 5 - requests, -1)] + ["/other"])

    def test_aPartOfThemCanBeRead(self) -> None:
        both = self.sampled(SamplesConfig(requests=200))
        for number in range(150):
            both.get("site.localhost", f"/{'odd' if number % 2 else 'even'}/{number}")
        paths = [sample["path"] for sample in self.report(ListQuery("odd", 1, 2))]
        self.assertEqual(paths, ["/odd/147", "/odd/145"])

    def test_refusalsAndFailuresAreKeptToo(self) -> None:
        both = self.sampled(routes=(Route(host="www.localhost", to="site", visitors=("deny all",)),))
        both.get("www.localhost")
        del both.network.ports[3000]
        both.get("elsewhere.localhost")
        both.get("nowhere.example")
        self.assertEqual([(each["service"], each["status"]) for each in self.report()], [("elsewhere", 404), ("site", 403)])

    def test_aVisitorWhoLeavesIsKept(self) -> None:
        both = self.sampled()
        self.patch(Page, "dataReceived", lambda page, data: None)
        visitor = both.visit(HEAD + b"\r\n")
        visitor.transport.abortConnection()
        both.settle()
        self.assertEqual([each["status"] for each in self.report()], [499])

    def test_whatIsLongIsCut(self) -> None:
        both = self.sampled()
        fields = b"".join(b"X-%d: %s\r\n" % (number, bytes([97]) * 100) for number in range(90))
        path = "/" + "p" * 5000
        both.visit(f"GET {path}?{'q' * 5000} HTTP/1.1\r\nHost: site.localhost\r\n".encode() + fields + b"\r\n")
        (sample,) = self.report()
        self.assertEqual((len(sample["path"]), len(sample["query"])), (LONGEST_TEXT, LONGEST_TEXT))
        self.assertLessEqual(len(sample["headers"]), MOST_FIELDS)

    def test_aReloadApplies(self) -> None:
        both = self.sampled(SamplesConfig())
        visitor = both.visit(HEAD + b"\r\n")
        sentences = both.edge.reload(evolve(both.edge.config, samples=KEEP))
        self.assertEqual(sentences, ("[samples] requests: 0 becomes 3",))
        visitor.transport.write(HEAD + b"\r\n")
        both.settle()
        self.assertEqual(len(self.report()), 1)
        both.edge.reload(evolve(both.edge.config, samples=evolve(KEEP, redaction="strict")))
        self.assertEqual(self.report(), [])
        both.get("site.localhost")
        self.assertEqual(len(self.report()), 1)
        both.edge.reload(evolve(both.edge.config, samples=SamplesConfig()))
        self.assertEqual(self.report(), [])


class HTTP2SampleTests(HTTP2Case):
    """
    Visitors of HTTP/2.
    """

    def test_theirRequestsAreKept(self) -> None:
        self.begin(CALLS, edge={"samples": KEEP})
        self.ask(to(GET, b"calls.localhost"), visitor=self.visitor())
        (sample,) = self.both.edge.public.site.samples.newest()
        self.assertEqual((sample.service, sample.method, sample.status), ("calls", "GET", 200))
