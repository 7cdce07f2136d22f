"""
The page at the apex of a development edge.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.edge.test_edge_and_agent import RAW, SITE, Both
from tunnelstack.control.config.records import Route, ServiceConfig
from tunnelstack.edge.service_page import prefersJSON
from tunnelstack.wire.http1.head import RequestHead

ECHO = ServiceConfig(name="echo", kind="stream", target="4000")
ROUTES = (
    Route(host="www.example.net", path="/shop", to="site"), Route(host="*.example.org", to="laptop/site"),
    Route(host="device.example.net", to="laptop:80"), Route(host="gone.example.net", to="nothing"),
    Route(host="other.example.net", to="elsewhere/site"), Route(host="off.example.net", to="elsewhere:80"),
)  # fmt: skip


class IndexTests(Both):
    """
    By HTTP, on a whole edge.
    """

    def begin(self, *services: ServiceConfig, start: bool = True, **settings: Any) -> Any:
        return super().begin(*services, start=start, edge={"dev": True, **settings})

    def ask(self, method: str = "GET", path: str = "/", host: str = "localhost:8080", **fields: str) -> tuple[bytes, bytes]:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        asked = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n"
        head, _, body = self.both.visit(asked.encode()).got.partition(b"\r\n\r\n")
        return head, body

    def services(self) -> list[dict[str, Any]]:
        return list(json.loads(self.ask(Accept="application/json")[1])["services"])

    def test_thePageLinksToServicesThatAreUp(self) -> None:
        self.begin(SITE, RAW, ECHO)
        head, body = self.ask()
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"), head)
        self.assertIn(b'<li><a href="http://site.localhost:8080/">site</a><br>', body)
        self.assertIn(b"<li>raw<br><small>tcp, at tcp:localhost:2000</small></li>", body)
        self.assertIn(b"<li>echo<br><small>stream, at tunnel:echo</small></li>", body)
        self.assertLess(body.index(b">site<"), body.index(b">echo<"), "those that a browser opens come first")

    def test_thePageIsNotStoredAndUsesNoOtherHost(self) -> None:
        self.begin(SITE)
        head, body = self.ask()
        for field in (
            b"Cache-Control: no-store", b"Content-Type: text/html; charset=utf-8", b"Vary: Accept",
            b"Content-Security-Policy: default-src 'none'",
        ):  # fmt: skip
            self.assertIn(field, head)
        self.assertNotIn(b"Access-Control", head)
        self.assertNotIn(b"src=", body)
        self.assertNotIn(b"<link", body)
        for part in (b"width=device-width", b"prefers-color-scheme: dark", b"color-scheme: light dark"):
            self.assertIn(part, body)

    def test_aProgramGetsJSON(self) -> None:
        self.begin(SITE, RAW)
        head, body = self.ask(Accept="application/json")
        self.assertIn(b"Content-Type: application/json\r\n", head)
        self.assertEqual(json.loads(body), {"edge": "http://localhost:8080", "services": [
            {"kind": "http", "name": "site", "address": "http://site.localhost:8080/", "url": "http://site.localhost:8080/",
             "agents": ["laptop"]},
            {"kind": "tcp", "name": "raw", "address": "tcp:localhost:2000", "url": None, "agents": ["laptop"]},
        ]})  # fmt: skip

    def test_HEADHasTheLengthOfTheBodyAndNoBody(self) -> None:
        self.begin(SITE)
        length = len(self.ask()[1])
        head, body = self.ask("HEAD")
        self.assertIn(b"\r\nContent-Length: %d\r\n" % length, head)
        self.assertEqual(body, b"")

    def test_otherMethodsAreRejected(self) -> None:
        self.begin(SITE)
        for method in ("POST", "DELETE", "PUT"):
            head, _ = self.ask(method, Content_Length="0")
            self.assertTrue(head.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n"), head)
            self.assertIn(b"\r\nAllow: GET, HEAD", head)

    def test_thePageChangesWithTheServices(self) -> None:
        both = self.begin(SITE)
        self.assertEqual([each["name"] for each in self.services()], ["site"])
        both.agent.stopService()
        both.settle()
        self.assertEqual(self.services(), [])
        self.assertIn(b"<code>tunnel-agent --dev http 3000 --name myapp</code>", self.ask()[1])

    def test_aServiceWhoseAgentDrainsIsNotUp(self) -> None:
        both = self.begin(SITE)
        for tunnel in both.edge.registry:
            both.edge.registry.remove(tunnel)
            tunnel_ = _Unhealthy(tunnel)
            both.edge.registry.add(tunnel_)                 # type: ignore[arg-type]
            both.edge.registry.claim("http", "site", tunnel_)  # type: ignore[arg-type]
            self.assertEqual(self.services(), [])
            both.edge.registry.remove(tunnel_)              # type: ignore[arg-type]

    def test_routesAreListedWhileTheirAgentsAreConnected(self) -> None:
        both = self.begin(SITE, routes=ROUTES)
        both.edge.hosts.publish("published.example.net", "laptop")
        both.edge.hosts.publish("absent.example.net", "elsewhere")
        self.assertEqual([(each["name"], each["url"]) for each in self.services()], [
            ("www.example.net/shop", "http://www.example.net:8080/shop"), ("*.example.org", None),
            ("device.example.net", "http://device.example.net:8080/"),
            ("published.example.net", "http://published.example.net:8080/"),
            ("site", "http://site.localhost:8080/"),
        ])  # fmt: skip
        self.assertIn(b"*.example.org<br>", self.ask()[1])

    def test_everyTextIsEscaped(self) -> None:
        both = self.begin(SITE)
        both.edge.hosts._agents['"><script>alert(1)</script>'] = "laptop"
        body = self.ask()[1]
        self.assertNotIn(b"<script", body)
        self.assertIn(b"&quot;&gt;&lt;script&gt;alert(1)", body)

    def test_onlyADevelopmentEdgeHasThePage(self) -> None:
        self.begin(SITE, dev=False)
        head, body = self.ask()
        self.assertTrue(head.startswith(b"HTTP/1.1 404"), head)
        self.assertNotIn(b"site.localhost", body)

    def test_otherHostsAndPathsDoNotHaveIt(self) -> None:
        self.begin(SITE)
        for host, path, status in (
            ("localhost", "/", 200), ("LOCALHOST:8080", "/?x", 200), ("127.0.0.1:8080", "/", 200), ("[::1]:8080", "/", 200),
            ("rebound.example", "/", 404), ("a.b.localhost", "/", 404), ("localhost", "/status", 404), ("localhost", "//", 404),
            ("127.0.0.2", "/", 404),
        ):  # fmt: skip
            with self.subTest(host=host, path=path):
                head, body = self.ask(host=host, path=path)
                self.assertIn(b" %d " % status, head[:16])
                self.assertEqual(b"site.localhost" in body, status == 200)

    def test_aRequestThatWasForwardedDoesNotGetIt(self) -> None:
        self.begin(SITE)
        for name in ("X_Forwarded_For", "Forwarded", "CDN_Loop", "X_Forwarded_Host"):
            head, body = self.ask(**{name: "for=192.0.2.1"})
            self.assertTrue(head.startswith(b"HTTP/1.1 404"), (name, head))

    def test_anotherMachineDoesNotGetIt(self) -> None:
        both = self.begin(SITE)
        index, head = both.edge.public.site.index, RequestHead(b"GET", b"/", [])
        assert index is not None
        for peer, served in (("127.0.0.1", True), ("::1", True), ("192.0.2.1", False), ("2001:db8::1", False), ("", False)):
            self.assertEqual(index.serves(head, b"localhost", peer), served, peer)

    def test_aRouteOfTheApexPrecedesIt(self) -> None:
        """
        The agent is not connected, because a host that has a route has no doors.
        """
        self.begin(SITE, routes=(Route(host="localhost", to="site"),))
        self.assertIn(b"The agent of this site is not connected.", self.ask()[1])

    def test_theRequestIsInTheAccessLog(self) -> None:
        both = self.begin(SITE)
        records: list[Any] = []
        both.edge.observeRequests(records.append)
        self.ask(path="/?q")
        self.assertEqual([(each.status, each.host, each.target, each.service) for each in records],
                         [(200, "localhost:8080", "/?q", "")])  # fmt: skip


class _Unhealthy:
    """
    A tunnel that drains.
    """

    healthy = False

    def __init__(self, tunnel: Any) -> None:
        self._tunnel = tunnel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tunnel, name)


class AcceptTests(SynchronousTestCase):
    """
    Which form a client prefers.
    """

    def test_JSONIsSentToThoseThatPreferIt(self) -> None:
        for accept, asJSON in (
            (b"application/json", True), (b"Application/JSON; q=0.5", True), (b"application/json, text/html", True),
            (b"text/html, application/json", False), (b"text/html;q=0.5, application/json;q=0.9", True),
            (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False), (b"*/*", False), (b"", False),
            (b"application/json;q=0", False), (b"application/json;q=x", False), (b"application/json;q=nan", False),
            (b", ,;q=1,application/json", True),
        ):  # fmt: skip
            head = RequestHead(b"GET", b"/", [(b"Accept", accept)])
            self.assertEqual(prefersJSON(head), asJSON, accept)
        self.assertFalse(prefersJSON(RequestHead(b"GET", b"/", [])))
