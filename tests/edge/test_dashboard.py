"""
The dashboard of an edge: who may use it, what it reads, what it follows and what it changes.
"""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.agent.inspected import unchunked
from tunnelstack.control.config.reader import parseEdge
from tunnelstack.control.config.records import AdminConfig, MetricsConfig, Route, ServiceConfig
from tunnelstack.edge import slices
from tunnelstack.edge.admin import adminToken
from tunnelstack.edge.admin_access import AdminAccess
from tunnelstack.edge.admin_answers import AdminFactory
from tunnelstack.edge.dashboard.feed import INTERVAL_SECONDS
from tunnelstack.edge.list_query import ListQuery
from tunnelstack.edge.presences import MOST_DEPARTURES
from tunnelstack.edge.round_trips import FRESH_SECONDS
from tunnelstack.edge.slices import SLICE_SECONDS, STEP, SlicedWork, Steps
from tunnelstack.edge.stream_report import slowSide
from tunnelstack.edge.validation import otherMistakes
from tunnelstack.pages.event_stream import MOST_STREAMS, STALLED_SECONDS
from tunnelstack.testing import Caller, EdgeAndAgent

PORT = 9000
SOCKET = 9001
TOKEN = "correct-token"


class DashboardTestCase(SynchronousTestCase):
    """
    An edge and an agent; the administration listens as configured at C{PORT}, and as the Unix socket does at C{SOCKET}.
    """

    settings: dict[str, Any] = {}
    hosts: tuple[str, ...] = ()

    def setUp(self) -> None:
        path = Path(self.mktemp())
        path.write_text(f"{TOKEN}\n")
        path.chmod(0o600)
        self.config = AdminConfig(tokenFile=str(path), hosts=self.hosts)
        self.both = EdgeAndAgent(ServiceConfig(name="site", target="3000"), edge=self.settings)
        self.network, self.edge, self.admin = self.both.network, self.both.edge, self.both.edge.admin.administration
        self.both.start()
        public = AdminAccess(adminToken(self.config), self.config.hosts)
        self.network.listenTCP(PORT, AdminFactory(self.network, self.admin, public))
        self.network.listenTCP(SOCKET, AdminFactory(self.network, self.admin, AdminAccess(writable=True)))
        self.addCleanup(self.end)

    def end(self) -> None:
        for service in (self.both.agent, self.both.edge):
            if service.running:
                service.stopService()
            self.network.passTime(40)

    def ask(
        self, path: str, method: str = "GET", body: bytes = b"", fields: str = "", host: str = "127.0.0.1:9000",
        port: int = PORT,
    ) -> tuple[int, str, bytes]:
        """
        @return: the status, the head and the body of the response.
        """
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}{length}\r\n"
        got = self.both.visit(head.encode("latin-1") + body, port).got
        before, _, after = got.partition(b"\r\n\r\n")
        text = before.decode("latin-1")
        return int(text.split()[1]), text, unchunked(after) if "chunked" in text.lower() else after

    def json(self, path: str, status: int = 200, **how: Any) -> Any:
        """
        As L{ask}, of JSON.
        """
        found, _, answer = self.ask(path, **how)
        self.assertEqual(found, status, answer)
        return json.loads(answer)

    def change(self, path: str, body: object = None, status: int = 200, fields: str = "", port: int = PORT) -> Any:
        octets = b"" if body is None else json.dumps(body).encode()
        return self.json(path, status, method="POST", body=octets, fields=fields, port=port)

    def session(self) -> int:
        """
        @return: the number of the agent's session.
        """
        return int(self.json("/agents")["agents"][0]["session"])


BEARER = f"Authorization: Bearer {TOKEN}\r\n"


class PageTests(DashboardTestCase):
    """
    The page and its files.
    """

    def test_thePageIsServedWithItsFiles(self) -> None:
        for path, wanted in (
            ("/", b"<!DOCTYPE html>"), ("/page.css", b"color-scheme"), ("/page.js", b"use strict"),
            ("/dashboard.js", b"follow("), ("/dashboard.css", b"#totals"),
        ):  # fmt: skip
            status, head, body = self.ask(path)
            self.assertEqual((status, wanted in body), (200, True), path)
            for field in ("Content-Security-Policy: default-src 'none'", "nosniff", "X-Frame-Options: DENY", "no-store"):
                self.assertIn(field, head, path)

    def test_nothingElseIsServed(self) -> None:
        for path in ("/../admin.py", "/%2e%2e/admin.py", "/admin.py", "/static/page.js", "//page.js", "/page.js/"):
            self.assertEqual(self.ask(path)[0], 404, path)

    def test_itUsesNoOtherHostAndNoInlineCode(self) -> None:
        page = self.ask("/")[2].decode()
        for never in ("http:", "https:", "onclick", "<style", "style=", "<script>"):
            self.assertNotIn(never, page)
        code = (self.ask("/page.js")[2] + self.ask("/dashboard.js")[2]).decode()
        for never in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            self.assertNotIn(never, code)


class AccessTests(DashboardTestCase):
    """
    Pages of other sites, names that lead to this machine, and the token.
    """

    hosts = ("admin.example.net",)

    def test_aNameOfAnotherSiteIsRefused(self) -> None:
        for host in ("evil.example", "evil.example:9000", "127.0.0.1.evil.example", "localhost.evil.example", "evil."):
            for path in ("/", "/agents", "/events", "/status", "/rights", "/page.js"):
                self.assertEqual(self.ask(path, host=host)[0], 421, (host, path))

    def test_ownNamesAreAllowed(self) -> None:
        for host in (
            "localhost:9000", "127.0.0.1:9000", "[::1]:9000", "192.0.2.1", "edge", "admin.example.net:9000",
            "ADMIN.example.net",
        ):  # fmt: skip
            self.assertEqual(self.ask("/agents", host=host)[0], 200, host)

    def test_monitorsUseAnyName(self) -> None:
        for path, status in (("/health", 200), ("/ready", 200), ("/metrics", 404)):
            self.assertEqual(self.ask(path, host="edge.example.org:9000")[0], status, path)

    def test_aHolderOfTheTokenUsesAnyName(self) -> None:
        self.assertEqual(self.ask("/agents", host="edge.example.org", fields=BEARER)[0], 200)
        self.assertEqual(self.ask("/agents", host="edge.example.org", fields="Authorization: Bearer wrong\r\n")[0], 421)

    def test_pagesOfOtherSitesAreRefused(self) -> None:
        for port in (PORT, SOCKET):
            for fields in (
                "Origin: https://evil.example\r\n", "Origin: null\r\n", "Origin: http://127.0.0.1:3000\r\n",
                "Sec-Fetch-Site: cross-site\r\n", "Sec-Fetch-Site: same-site\r\n",
            ):  # fmt: skip
                self.assertEqual(self.ask("/agents", fields=fields, port=port)[0], 403, fields)
                self.assertEqual(self.ask("/drain", "POST", fields=fields + BEARER, port=port)[0], 403, fields)
            own = "Origin: http://127.0.0.1:9000\r\nSec-Fetch-Site: same-origin\r\n"
            self.assertEqual(self.ask("/agents", fields=own, port=port)[0], 200)

    def test_aLinkOfAnotherSiteOpensThePage(self) -> None:
        self.assertEqual(self.ask("/", fields="Sec-Fetch-Site: cross-site\r\n")[0], 200)

    def test_aForwardedSocketKnowsOtherSites(self) -> None:
        """
        An operator forwards the socket to a port of the own machine: then a page of another site can reach it.
        """
        self.assertEqual(self.ask("/drain", "POST", host="evil.example:9000", port=SOCKET)[0], 421)
        self.assertEqual(self.ask("/agents", host="evil.example:9000", port=SOCKET)[0], 421)

    def test_changesNeedTheToken(self) -> None:
        number = self.session()
        for fields in (
            "", "Authorization: Bearer wrong\r\n", "Authorization: Bearer \r\n", f"Authorization: Basic {TOKEN}\r\n",
            "Cookie: tunnelstack-dashboard=\r\n", "X-Tunnelstack: 1\r\n",
        ):  # fmt: skip
            for path in self.admin.postHandlers:
                answer = self.change(path.decode(), {"session": number}, 403, fields)
                self.assertIn("read-only", answer["error"], (path, fields))
        self.assertEqual(self.session(), number)
        self.change("/agents/disconnect", {"session": number}, fields=BEARER)

    def test_withoutATokenItIsReadOnly(self) -> None:
        self.network.listenTCP(9002, AdminFactory(self.network, self.admin, AdminAccess()))
        self.assertEqual(self.json("/rights", port=9002), {"change": False, "token": False})
        for path in ("/agents/drain", "/unlock", "/lock"):
            self.assertEqual(self.ask(path, "POST", fields=BEARER, port=9002)[0], 403, path)

    def test_rightsAreReported(self) -> None:
        self.assertEqual(self.json("/rights"), {"change": False, "token": True})
        self.assertEqual(self.json("/rights", fields=BEARER), {"change": True, "token": True})
        self.assertEqual(self.json("/rights", port=SOCKET), {"change": True, "token": False})

    def test_aBrowserGetsACookieAndSendsAField(self) -> None:
        status, head, _ = self.ask("/unlock", "POST", fields=BEARER)
        self.assertEqual(status, 200)
        cookie = self.cookieOf(head)
        self.assertEqual(self.json("/rights", fields=cookie), {"change": True, "token": True})
        number = self.session()
        self.change("/agents/drain", {"session": number}, 403, cookie)
        self.change("/agents/drain", {"session": number}, 403, cookie + "X-Tunnelstack: 1\r\nOrigin: http://localhost:9000\r\n")
        self.change("/agents/drain", {"session": number}, 200, cookie + "X-Tunnelstack: 1\r\nOrigin: http://127.0.0.1:9000\r\n")
        status, head, _ = self.ask("/lock", "POST", fields=cookie + "X-Tunnelstack: 1\r\n")
        self.assertIn("Max-Age=0", head)

    def test_theTokenInTheAddressBecomesACookie(self) -> None:
        status, head, _ = self.ask(f"/?token={TOKEN}", host="edge.example.org:9000")
        self.assertEqual((status, "\r\nLocation: /\r\n" in head), (303, True))
        self.assertEqual(self.ask("/agents", fields=self.cookieOf(head), host="edge.example.org:9000")[0], 200)
        self.assertNotIn("Set-Cookie", self.ask("/?token=wrong")[1])
        self.assertEqual(self.ask(f"/agents?token={TOKEN}", host="edge.example.org")[0], 421)

    def cookieOf(self, head: str) -> str:
        cookie = next(line for line in head.split("\r\n") if line.startswith("Set-Cookie: ")).removeprefix("Set-Cookie: ")
        self.assertNotIn(TOKEN, cookie)
        for attribute in ("HttpOnly", "SameSite=Strict"):
            self.assertIn(attribute, cookie)
        return f"Cookie: other=1; {cookie.partition(';')[0]}\r\n"

    def test_theTokenFileMayBeReplaced(self) -> None:
        Path(self.config.tokenFile).write_text("another-token\n")
        self.assertFalse(self.json("/rights", fields=BEARER)["change"])
        self.assertTrue(self.json("/rights", fields="Authorization: Bearer another-token\r\n")["change"])

    def test_aTokenThatCannotBeReadIsAMistake(self) -> None:
        config = parseEdge('[edge]\n[admin]\nlisten = "9000"\ntoken_file = "/nowhere/admin.token"\n', "edge.toml")
        [sentence] = otherMistakes(self.network, config)      # type: ignore[arg-type]
        self.assertIn("/nowhere/admin.token", sentence)


class ListTests(DashboardTestCase):
    """
    Parts of lists.
    """

    settings = {"routes": (
        Route(host="www.example.net", to="site"), Route(host="old.example.net", to="gone"),
        Route(host="port.example.net", to="laptop:3000"),
    )}  # fmt: skip

    def test_anAgentHasItsNumberAndItsRoundTripOnceSeen(self) -> None:
        [agent] = self.json("/agents")["agents"]
        self.assertEqual((agent["session"], agent["round_trip"], agent["healthy"]), (1, None, True))
        self.json("/agents?limit=10")
        self.both.settle()
        [agent] = self.json("/agents?limit=10")["agents"]
        self.assertEqual(agent["round_trip"], 0)

    def test_roundTripsAreNotMeasuredAgainAtOnce(self) -> None:
        [tunnel] = self.edge.registry
        pings: list[object] = []
        ping = tunnel.ping
        tunnel.ping = lambda: pings.append(1) or ping()                # type: ignore[method-assign, func-returns-value]
        for _ in range(5):
            self.json("/agents?limit=10")
        self.network.passTime(FRESH_SECONDS)
        self.json("/agents?limit=10")
        self.json("/agents")
        self.assertEqual(len(pings), 2)
        tunnel.abort("it ends")
        self.network.passTime(3)
        self.json("/agents?limit=10")
        self.assertLessEqual(len(self.edge.roundTrips), 1)

    def test_aPartIsReadByTextAndPlace(self) -> None:
        for query, names in (
            ("", 4), ("?filter=WWW", 1), ("?filter=http", 4), ("?filter=nothing", 0), ("?limit=2", 2), ("?from=3&limit=2", 1),
            ("?from=9&limit=2", 0), ("?limit=0", 0),
        ):  # fmt: skip
            answer = self.json(f"/routes{query}")
            self.assertEqual(len(answer["routes"]), names, query)
            if "filter" not in query:
                self.assertEqual(answer["count"], 4)

    def test_whatCannotBeReadIsRefused(self) -> None:
        for query in ("limit=x", "limit=-1", "from=1e3", "limit=9999999999", "limit=\u0663", "&".join(["a=1"] * 99)):
            self.assertEqual(self.ask("/agents?" + query.encode().decode("latin-1"))[0], 400, query)

    def test_routesHaveAState(self) -> None:
        states = {route["public"]: (route["state"], route["agents"]) for route in self.json("/routes")["routes"]}
        self.assertEqual(states["www.example.net"], ("up", ["laptop"]))
        self.assertEqual(states["old.example.net"], ("down", []))
        self.assertEqual(states["port.example.net"], ("up", ["laptop"]))
        [tunnel] = self.edge.registry
        tunnel.healthy = False
        self.assertEqual(self.json("/routes?filter=www")["routes"][0]["state"], "draining")
        self.both.agent.stopService()
        self.network.passTime(5)
        self.assertEqual(self.json("/routes?filter=www")["routes"][0]["state"], "away")

    def test_sessionsThatHaveEndedAreRemembered(self) -> None:
        for number in range(1, MOST_DEPARTURES + 5):
            self.change("/agents/disconnect", {"session": self.session()}, port=SOCKET)
            self.network.passTime(40)
            if number == 1:
                [left] = self.json("/agents")["left"]
                self.assertEqual((left["agent"], left["session"]), ("laptop", 1))
                self.assertIn("operator", left["reason"])
        self.assertEqual(len(self.json("/agents")["left"]), MOST_DEPARTURES)


class StreamTests(DashboardTestCase):
    """
    The side that a stream waits for.
    """

    def test_theSlowSideIsMarked(self) -> None:
        class Stream:
            paused, queued = False, 0

        stream = Stream()
        self.assertEqual(slowSide(stream), "")
        stream.queued = 8 * 1024
        self.assertEqual(slowSide(stream), "agent")
        stream.paused = True
        self.assertEqual(slowSide(stream), "visitor")
        self.assertEqual(slowSide(object()), "")

    def test_aVisitorThatDoesNotReadIsFound(self) -> None:
        [tunnel] = self.edge.registry
        streams = tunnel.session.transports()                          # type: ignore[attr-defined]
        streams[0].pauseProducing()
        self.network.passTime(5)
        answer = self.json("/streams?slow=1&limit=10")
        self.assertEqual((answer["count"], answer["slow"]), (1, {"agent": 0, "visitor": 1}))
        self.assertEqual((answer["streams"][0]["slow"], answer["streams"][0]["session"]), ("visitor", 1))
        self.assertEqual(self.json("/streams?limit=1")["streams"], answer["streams"])
        self.assertEqual(self.json("/streams?filter=visitor")["count"], 1)
        streams[0].resumeProducing()
        self.assertEqual(self.json("/streams?slow=1")["count"], 0)


    def test_aRequestOnAStreamHasItsHostAndItsVisitor(self) -> None:
        connected: list[Protocol] = []
        factory = Factory.forProtocol(Protocol)
        factory.buildProtocol = lambda address: connected.append(Protocol()) or connected[-1]    # type: ignore
        self.network.listenTCP(3000, factory)
        self.both.visit(b"GET /secret?token=x HTTP/1.1\r\nHost: site.localhost\r\n\r\n")
        answer = self.json("/streams?filter=site.localhost")
        self.assertEqual((answer["count"], answer["streams"][0]["service"]), (1, "site.localhost"))
        self.assertTrue(answer["streams"][0]["visitor"].startswith("127.0.0.1:"))
        self.assertNotIn("secret", json.dumps(answer))


class SliceTests(SynchronousTestCase):
    """
    Long work.
    """

    def test_workIsDoneInTurnsAndGivesWayToOthers(self) -> None:
        clock = Clock()
        order: list[str] = []
        times = count(step=SLICE_SECONDS * 0.6)
        self.patch(slices, "perf_counter", lambda: next(times))

        def slow(name: str) -> Steps[str]:
            for _ in range(3):
                order.append(name)
                yield
            return name

        work = SlicedWork(clock)
        done = [work.do(slow("a")), work.do(slow("b"))]
        clock.callLater(0, order.append, "other")
        clock.advance(0)
        self.assertEqual([self.successResultOf(each) for each in done], ["a", "b"])
        self.assertEqual(order, ["a", "b", "other", "a", "b", "a", "b"])
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_aDefectFailsThatWorkAlone(self) -> None:
        clock = Clock()

        def broken() -> Steps[int]:
            yield
            raise ZeroDivisionError

        def sound() -> Steps[int]:
            yield
            return 1

        work = SlicedWork(clock)
        first, second = work.do(broken()), work.do(sound())
        clock.advance(0)
        self.failureResultOf(first, ZeroDivisionError)
        self.assertEqual(self.successResultOf(second), 1)


class ManyAgentsTests(DashboardTestCase):
    """
    Lists with many agents are read step by step, and each name once.
    """

    def test_aPartOfManyCostsItsRecordsOnly(self) -> None:
        [tunnel] = self.edge.registry
        registry = self.edge.registry
        named: list[int] = []
        names = registry.names
        self.patch(registry, "names", lambda tunnel: named.append(1) or names(tunnel))      # type: ignore[func-returns-value]
        self.patch(type(registry), "__iter__", lambda self: iter([tunnel] * 1000))
        steps = self.admin.listHandlers[b"/agents"]
        done = 0
        running = steps(ListQuery(limit=50))
        while True:
            try:
                next(running)
            except StopIteration as stop:
                answer = stop.value
                break
            done += 1
        self.assertEqual((answer["count"], len(answer["agents"])), (1000, 50))
        self.assertEqual(len(named), 50)
        self.assertGreaterEqual(done, 1000 // STEP)


class EventTests(DashboardTestCase):
    """
    The stream that pages follow.
    """

    settings = {"metrics": MetricsConfig(enabled=True)}

    def follow(self) -> Caller:
        return self.both.visit(b"GET /events HTTP/1.1\r\nHost: localhost:9000\r\n\r\n", PORT)

    def snapshots(self, page: Caller) -> list[dict[str, Any]]:
        return [
            json.loads(line.removeprefix("data: ")) for line in page.got.decode().split("\n") if line.startswith("data: ")
        ]

    def test_snapshotsAreSent(self) -> None:
        page = self.follow()
        self.assertIn(b"text/event-stream", page.got)
        self.network.passTime(0.2, 0.1)
        self.both.get("site.localhost")
        self.network.passTime(INTERVAL_SECONDS + 0.2, 0.1)
        first, second = self.snapshots(page)
        self.assertEqual((first["state"], first["agents"], first["slow"]), ("ready", 1, {"agent": 0, "visitor": 0}))
        self.assertEqual((first["totals"]["requests"], second["totals"]["requests"]), (0, 1))
        self.assertEqual(second["totals"]["requests_by_class"]["5xx"], 1)
        self.assertEqual({each["key"] for each in first["limits"]}, {"visitors", "process_octets", "udp_flows"})

    def test_thereIsNoTimerWithoutAPage(self) -> None:
        before = len(self.timers())
        page, other = self.follow(), self.follow()
        self.network.passTime(3, 0.1)
        self.assertGreater(len(self.timers()), before)
        for each in (page, other):
            each.transport.abortConnection()
        self.both.settle()
        self.assertEqual(self.timers(), [])

    def timers(self) -> list[object]:
        """
        @return: the delayed calls of the dashboard.
        """
        return [call for call in self.network.getDelayedCalls() if "StatusFeed" in repr(call) or "EventStream" in repr(call)]

    def test_allPagesShareOneSnapshot(self) -> None:
        made: list[int] = []
        read = self.admin._feed._read
        self.patch(self.admin._feed, "_read", lambda: made.append(1) or read())          # type: ignore[func-returns-value]
        pages = [self.follow() for _ in range(MOST_STREAMS)]
        self.network.passTime(0.3, 0.1)
        self.assertEqual((len(made), [len(self.snapshots(page)) for page in pages]), (1, [1] * MOST_STREAMS))

    def test_aLaterPageGetsTheLastSnapshot(self) -> None:
        self.follow()
        self.network.passTime(0.3, 0.1)
        page = self.follow()
        self.network.passTime(0.2, 0.1)
        self.assertEqual(len(self.snapshots(page)), 1)

    def test_aPageThatNeverReadsHoldsOneSnapshotAndIsReset(self) -> None:
        page = self.follow()
        self.network.passTime(0.3, 0.1)
        [stream] = self.admin._feed._streams._open
        got = len(page.got)
        stream.pauseProducing()
        self.network.passTime(STALLED_SECONDS - 5)
        self.assertEqual(len(page.got), got)
        self.assertEqual(self.admin._feed._newest, stream._events._newest)               # type: ignore[attr-defined]
        self.network.passTime(10)
        self.assertEqual((len(self.admin._feed._streams), self.timers()), (0, []))
        self.assertIsNotNone(page.lost)

    def test_aPageThatReadsAgainGetsTheNewestOnly(self) -> None:
        page = self.follow()
        self.network.passTime(0.3, 0.1)
        [stream] = self.admin._feed._streams._open
        stream.pauseProducing()
        self.network.passTime(20)
        stream.resumeProducing()
        self.network.passTime(0.2, 0.1)
        first, last = self.snapshots(page)
        self.assertGreater(last["uptime_seconds"] - first["uptime_seconds"], 15)

    def test_pagesAreBounded(self) -> None:
        for _ in range(MOST_STREAMS):
            self.follow()
        self.assertIn(b" 503 ", self.follow().got)
        self.assertEqual(self.ask("/agents")[0], 200)

    def test_HEADIsAnsweredAndForgotten(self) -> None:
        self.assertEqual(self.ask("/events", "HEAD")[0], 200)
        self.assertEqual((len(self.admin._feed._streams), self.timers()), (0, []))

    def test_aDefectIsLoggedAndTriedAgain(self) -> None:
        read = self.admin._feed._read
        self.patch(self.admin._feed, "_read", broken)
        page = self.follow()
        self.network.passTime(0.3, 0.1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.admin._feed._read = read
        self.network.passTime(INTERVAL_SECONDS + 0.3, 0.1)
        self.assertEqual(len(self.snapshots(page)), 1)

    def test_pagesFollowWhileTheEdgeDrainsAndEndWithIt(self) -> None:
        page = self.follow()
        self.edge.agents.stopping = True
        self.network.passTime(INTERVAL_SECONDS + 0.3, 0.1)
        self.assertEqual(self.snapshots(page)[-1]["state"], "draining")
        stopped = self.edge.stopService()
        self.network.passTime(40)
        self.assertTrue(stopped.called)
        self.assertTrue(page.got.endswith(b"0\r\n\r\n"))


def broken() -> Steps[dict[str, object]]:
    """
    A snapshot that cannot be made.
    """
    yield
    raise ZeroDivisionError


class ChangeTests(DashboardTestCase):
    """
    Agents that are drained and disconnected.
    """

    def test_aDisconnectedAgentIsGoneAtOnceAndComesBack(self) -> None:
        self.assertEqual(self.change("/agents/disconnect", {"session": 1}, fields=BEARER), {"disconnected": True})
        self.assertEqual(self.json("/agents")["agents"], [])
        self.network.passTime(40)
        self.assertEqual(self.session(), 2)
        [left] = self.json("/agents")["left"]
        self.assertEqual((left["session"], left["reason"]), (1, "an operator has requested it"))

    def test_aDrainedAgentEndsAndComesBack(self) -> None:
        self.assertEqual(self.change("/agents/drain", {"session": 1}, fields=BEARER), {"draining": True})
        self.network.passTime(40)
        [agent] = self.json("/agents")["agents"]
        self.assertEqual((agent["session"], agent["healthy"]), (2, True))

    def test_aDrainedAgentGetsNoNewRequests(self) -> None:
        [tunnel] = self.edge.registry
        self.change("/agents/drain", {"session": 1}, fields=BEARER)
        self.assertFalse(tunnel.healthy)

    def test_anotherSessionIsNotFound(self) -> None:
        for path in ("/agents/drain", "/agents/disconnect"):
            self.assertIn("session 7", self.change(path, {"session": 7}, 404, BEARER)["error"])
            for body in ({}, {"session": "1"}, {"session": True}, {"session": None}, {"session": 1.0}):
                self.change(path, body, 400, BEARER)

    def test_changesAreLogged(self) -> None:
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)                  # type: ignore[arg-type]
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.change("/agents/drain", {"session": 1}, fields=BEARER)
        [event] = [event for event in events if event.get("status") == "admin"]
        self.assertEqual((event["path"], event["peer"].startswith("127.0.0.1:")), ("/agents/drain", True))

    def test_theLastReloadIsShown(self) -> None:
        self.assertIsNone(self.json("/status")["reload"])
        self.edge.reload(self.edge.config)
        self.network.passTime(3)
        self.assertEqual(self.json("/status")["reload"], {"seconds": 3.0, "changed": ["nothing has changed"], "error": ""})
        self.edge.reloadFailed("line 3 is wrong")
        self.assertEqual(self.json("/status")["reload"]["error"], "line 3 is wrong")
