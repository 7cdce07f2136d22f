"""
Health checks: which agents are left out, for how long, and what is seen of it.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.protocol import Factory
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.changed_settings import changes
from tests.dialect.agentserver import test_promises as agentserver
from tests.dialect.koding import test_promises as koding
from tests.dialect.shellhub.support import Hub
from tests.exchange.doubles import Server, reply
from tests.promises.tunnels import WEB
from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.reader import Mistakes, parseEdge
from tunnelstack.control.config.records import MetricsConfig, Route, ServiceConfig
from tunnelstack.control.config.upkeep import HealthCheck
from tunnelstack.edge.health import MOST_PROBES
from tunnelstack.edge.status import agentsOf, routesOf, statusOf
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.records import HTTPPurpose
from tunnelstack.testing import EdgeAndAgent
from tunnelstack.wire.http1.head import ResponseHead

CHECK = HealthCheck(to="site", path="/healthz?deep=1", intervalSeconds=10, timeoutSeconds=4, failures=2, successes=2)


class Web(Server):
    """
    A web server that is asked by visitors and by the edge.

    @ivar status: what it answers at C{/healthz}; C{0} for nothing.
    """

    def __init__(self, name: str) -> None:
        super().__init__(self.respond)
        self.name = name.encode()
        self.status = 200
        self.body = b"fine"
        self.probes: list[Any] = []

    def respond(self, head: Any, exchange: Any) -> None:
        if not head.target.startswith(b"/healthz"):
            reply(200, self.name)(head, exchange)
            return
        self.probes.append(head)
        if self.status:
            reply(self.status, self.body)(head, exchange)


class HealthCase(SynchronousTestCase):
    """
    An edge with two processes of an agent, each with its own web server.
    """

    def begin(self, *checks: HealthCheck, processes: int = 2, kind: str = "site", **edge: Any) -> EdgeAndAgent:
        self.both = both = EdgeAndAgent(
            ServiceConfig(name=kind, target="3000"), share=True, edge={"health": checks, **edge},
            agent={"targets": ("localhost:*", "127.0.0.1:*")},
        )
        self.webs = [Web(f"web{number}") for number in range(processes)]
        for number, web in enumerate(self.webs):
            factory = Factory.forProtocol(lambda web=web: HTTPServerProtocol(web, clock=both.network))
            factory.noisy = False
            both.network.listenTCP(3000 + number, factory)
        both.start()
        self.others: list[AgentService] = []
        for number in range(1, processes):
            other = both.another(ServiceConfig(name=kind, target=str(3000 + number)))
            other.startService()
            self.others.append(other)
            both.settle()
        self.addCleanup(self.end)
        return both

    def end(self) -> None:
        for other in self.others:
            if other.running:
                other.stopService()
        self.both.stop()
        delayed = [call for call in self.both.network.getDelayedCalls() if "health" in str(call)]
        self.assertEqual(delayed, [])

    def later(self, seconds: float) -> None:
        self.both.network.passTime(seconds)

    def get(self, host: str = "site.localhost") -> str:
        """
        @return: what answers a visitor: the name of a web server, or a status.
        """
        response = self.both.get(host).decode()
        return response.rpartition("\r\n\r\n")[2] if " 200 " in response.splitlines()[0] else response.split()[1]

    def reached(self, host: str = "site.localhost") -> list[str]:
        return sorted({self.get(host) for _ in range(6)})


class PoolTests(HealthCase):
    """
    Which agents get requests.
    """

    def test_nothingIsAskedUnlessItIsConfigured(self) -> None:
        self.begin()
        self.later(100)
        self.assertEqual([web.probes for web in self.webs], [[], []])
        self.assertEqual(self.reached(), ["web0", "web1"])

    def test_eachAgentIsAskedAtOnceAndThenAtItsInterval(self) -> None:
        self.begin(CHECK)
        self.later(35)
        self.assertEqual([len(web.probes) for web in self.webs], [4, 4])
        probe = self.webs[0].probes[0]
        self.assertEqual((probe.method, probe.target), (b"GET", b"/healthz?deep=1"))
        self.assertEqual(probe.field(b"host"), b"site.localhost")
        self.assertEqual(self.reached(), ["web0", "web1"])

    def test_anAgentThatFailsIsLeftOutUntilItSucceeds(self) -> None:
        self.begin(CHECK)
        self.later(5)
        self.webs[0].status = 500
        self.later(10)
        self.assertEqual(self.reached(), ["web0", "web1"])
        self.later(10)
        self.assertEqual(self.reached(), ["web1"])
        self.webs[0].status = 204
        self.later(10)
        self.assertEqual(self.reached(), ["web1"])
        self.later(10)
        self.assertEqual(self.reached(), ["web0", "web1"])

    def test_aSingleFailureIsForgiven(self) -> None:
        self.begin(CHECK)
        for _ in range(4):
            self.webs[0].status = 500
            self.later(10)
            self.webs[0].status = 200
            self.later(10)
        self.assertEqual(self.reached(), ["web0", "web1"])

    def test_noAgentIsLeft(self) -> None:
        self.begin(CHECK)
        for web in self.webs:
            web.status = 503
        self.later(20)
        response = self.both.get("site.localhost")
        self.assertIn(b" 503 ", response.splitlines()[0])
        self.assertIn(b"\r\nRetry-After: 10\r\n", response)
        self.assertIn(b"The web server of this site is out of service: it answered 503.", response)
        self.webs[1].status = 200
        self.later(20)
        self.assertEqual(self.reached(), ["web1"])

    def test_aServerThatDoesNotAnswerFails(self) -> None:
        self.begin(CHECK)
        self.webs[0].status = 0
        self.later(25)
        self.assertEqual(self.reached(), ["web1"])
        self.assertEqual(self.both.edge.health.reasons(self.tunnel(0)), {"site": "no answer within 4 s"})
        self.assertTrue(all(exchange.finished for _, exchange, _ in self.webs[0].asked))

    def tunnel(self, number: int) -> Any:
        return list(self.both.edge.registry)[number]

    def test_aServerThatIsNotThereFails(self) -> None:
        both = self.begin(CHECK)
        del both.network.ports[3000]
        self.later(25)
        self.assertEqual(self.reached(), ["web1"])

    def test_anUnansweredRequestOfAnEventStreamDoesNotWait(self) -> None:
        both = self.begin(CHECK, processes=1)
        self.webs[0].status = 500
        self.later(25)
        answer = both.visit(b"GET / HTTP/1.1\r\nHost: site.localhost\r\nAccept: text/event-stream\r\n\r\n").got
        self.assertIn(b" 503 ", answer)

    def test_aLargeBodyIsNotReadToItsEnd(self) -> None:
        self.begin(CHECK, processes=1)
        self.webs[0].body = bytes(1024 * 1024)
        self.later(25)
        self.assertEqual(self.reached(), ["web0"])
        self.assertEqual(self.tunnel(0).inFlight, 0)

    def test_aBodyThatNeverEndsIsNoFailure(self) -> None:
        self.begin(CHECK, processes=1)
        web = self.webs[0]

        def endless(head: Any, exchange: Any) -> None:
            if head.target.startswith(b"/healthz"):
                exchange.sendHead(ResponseHead(200, b"OK", []))
                exchange.write(b"some")
            else:
                web.respond(head, exchange)

        web.answer = endless
        self.later(35)
        self.assertEqual(self.reached(), ["web0"])
        self.assertLessEqual(sum(not exchange.finished for _, exchange, _ in web.asked), 1)

    def test_aDrainingTunnelIsNotAsked(self) -> None:
        both = self.begin(CHECK)
        self.later(5)
        asked = len(self.webs[1].probes)
        waiting: list[Any] = []
        self.webs[1].answer = lambda head, exchange: waiting.append(exchange)
        tunnel = self.tunnel(1)
        visitor = [both.visit(b"GET / HTTP/1.1\r\nHost: site.localhost\r\n\r\n") for _ in range(2)]
        tunnel.drain()
        self.later(30)
        self.assertFalse(tunnel.healthy)
        self.assertEqual((len(self.webs[1].probes), len(waiting)), (asked, 1))
        waiting[0].cancel(FailureKind.BROKEN)
        self.assertEqual(len(visitor), 2)

    def test_anAgentThatComesBackIsUsedAtOnce(self) -> None:
        self.begin(CHECK)
        self.webs[1].status = 500
        self.later(25)
        self.assertEqual(self.reached(), ["web0"])
        self.others[0].stopService()
        self.later(40)
        other = self.both.another(ServiceConfig(name="site", target="3001"))
        other.startService()
        self.others.append(other)
        self.both.settle()
        self.assertEqual(self.reached(), ["web0", "web1"])
        self.later(25)
        self.assertEqual(self.reached(), ["web0"])


class TargetTests(HealthCase):
    """
    What is asked.
    """

    def test_oneAgentHasItsOwnCheck(self) -> None:
        own = evolve(CHECK, to="laptop/site", host="inside.example:8443", path="/healthz/own")
        self.begin(CHECK, own)
        self.later(5)
        self.assertEqual([web.probes[0].target for web in self.webs], [b"/healthz/own"] * 2)
        self.assertEqual(self.webs[0].probes[0].field(b"host"), b"inside.example:8443")

    def test_theCheckOfAnotherAgentIsNotForThisOne(self) -> None:
        self.begin(evolve(CHECK, to="desk/site"))
        self.later(25)
        self.assertEqual([web.probes for web in self.webs], [[], []])

    def test_everyKeyOfAServiceFollows(self) -> None:
        self.begin(CHECK, routes=(Route(host="www.localhost", to="laptop/site"),))
        self.webs[0].status = 500
        self.later(25)
        self.assertEqual(self.reached("www.localhost"), ["web1"])

    def test_aPortOfADeviceIsAsked(self) -> None:
        """
        Agents of ours have no ports that requests can reach: it fails, and only for the port.
        """
        self.begin(evolve(CHECK, to="laptop:3000"), routes=(Route(host="port.localhost", to="laptop:3000"),), processes=1)
        self.later(25)
        self.assertEqual(self.both.edge.health.out, 1)
        self.assertEqual(self.both.edge.registry.pick("laptop:3000"), None)
        self.assertEqual(self.get("port.localhost"), "503")
        self.assertEqual(self.get(), "web0")

    def test_moreServicesThanMayBeAskedAtOnceWait(self) -> None:
        names = [f"site{number}" for number in range(MOST_PROBES + 3)]
        both = self.begin(*(evolve(CHECK, to=name) for name in names), processes=1)
        (tunnel,) = both.edge.registry
        asked: list[Any] = []
        self.patch(tunnel, "exchange", lambda purpose, receiver: _Silent(asked, purpose, receiver))
        for name in names:
            both.edge.registry.claim("http", name, tunnel)
        self.later(1)
        self.assertEqual(len(asked), MOST_PROBES)
        self.assertEqual(asked[0], HTTPPurpose(service="site0"))
        self.later(6)
        self.assertEqual(len(asked), len(names))


class DialectTests(SynchronousTestCase):
    """
    Agents of other systems, whose tunnels are examined alike.
    """

    def listen(self, network: Any) -> Web:
        web = Web("web")
        factory = Factory.forProtocol(lambda: HTTPServerProtocol(web, clock=network))
        factory.noisy = False
        network.listenTCP(WEB, factory)
        return web

    def examined(self, edge: Any, network: Any, web: Web, to: str, key: str) -> None:
        """
        A service is left out, and used again.
        """
        edge.health.configure((evolve(CHECK, to=to),))
        for status, reasons in ((200, {}), (500, {key: "it answered 500"}), (200, {})):
            web.status = status
            network.passTime(25)
            (tunnel,) = edge.registry
            self.assertEqual(edge.health.reasons(tunnel), reasons)
            self.assertEqual(edge.registry.pick(key) is None, bool(reasons))
        self.assertEqual(len(web.probes), 8)

    def test_aPortOfADeviceIsExamined(self) -> None:
        for version in (1, 2):
            hub = Hub()
            self.addCleanup(hub.stop)
            hub.device(version, hostname="box")
            (tunnel,) = hub.edge.registry
            key = f"{tunnel.principal.agent}:{WEB}"
            self.examined(hub.edge, hub.network, self.listen(hub.network), key, key)

    def test_theHostOfAClientIsExamined(self) -> None:
        """
        It has no name of a service.
        """
        case = koding.KodingTests("test_theHeadArrives")
        self.addCleanup(case.doCleanups)
        tunnel = case.connectTunnel()
        case.web.stopListening()
        edge = case.both.edge
        ((host, agent),) = edge.hosts
        self.assertEqual(agent, tunnel.principal.agent)
        self.examined(edge, case.network, self.listen(case.network), host, f"{agent}:0")

    def test_theWebServerOfASandboxIsExamined(self) -> None:
        case = agentserver.AgentserverTests("test_theHeadArrives")
        self.addCleanup(case.doCleanups)
        case.connectTunnel()
        case.web.stopListening()
        self.examined(case.proxy.edge, case.network, self.listen(case.network), "demo", "demo")


class _Silent:
    """
    An exchange that is never answered.
    """

    def __init__(self, asked: list[Any], purpose: Any, receiver: Any) -> None:
        asked.append(purpose)
        self.sendHead = self.end = self.cancel = lambda *arguments: None


class SettingTests(HealthCase):
    """
    Each number, seen from outside.
    """

    @changes("edge [[health]] interval_seconds")
    def test_intervalSecondsApply(self) -> None:
        for interval, probes in ((10.0, 4), (30.0, 2), (1.0, 35)):
            self.begin(evolve(CHECK, intervalSeconds=interval), processes=1)
            self.later(35.5)
            self.assertEqual(len(self.webs[0].probes), probes)

    @changes("edge [[health]] timeout_seconds", "edge [[health]] failures")
    def test_timeoutSecondsAndFailuresApply(self) -> None:
        for timeout, failures, out in ((4.0, 1, 5), (8.0, 1, 9), (4.0, 3, 25)):
            self.begin(evolve(CHECK, timeoutSeconds=timeout, failures=failures), processes=1)
            self.webs[0].status = 0
            self.later(out - 2)
            self.assertEqual(self.get(), "web0")
            self.later(2)
            self.assertEqual(self.get(), "503")

    @changes("edge [[health]] successes")
    def test_successesApply(self) -> None:
        for successes in (1, 3):
            self.begin(evolve(CHECK, successes=successes, failures=1), processes=1)
            self.webs[0].status = 500
            self.later(11)
            self.webs[0].status = 200
            self.later(10 * successes - 5)
            self.assertEqual(self.get(), "503")
            self.later(5)
            self.assertEqual(self.get(), "web0")

    def test_statusesApply(self) -> None:
        for statuses, status, reached in (
            (("200-399",), 404, "503"), (("200-399",), 301, "web0"), (("204", "400-404"), 404, "web0"), (("204",), 200, "503"),
        ):
            self.begin(evolve(CHECK, statuses=statuses, failures=1), processes=1)
            self.webs[0].status = status
            self.later(11)
            self.assertEqual(self.get(), reached)

    def test_aReloadAppliesAtOnce(self) -> None:
        both = self.begin(CHECK)
        self.webs[0].status = 500
        self.later(25)
        self.assertEqual(self.reached(), ["web1"])
        same = evolve(both.edge.config, health=(CHECK, evolve(CHECK, to="other")))
        self.assertEqual(both.edge.reload(same), ("[[health]]: 1 added",))
        self.assertEqual(self.reached(), ["web1"])
        both.edge.reload(evolve(both.edge.config, health=()))
        self.assertEqual(self.reached(), ["web0", "web1"])
        asked = len(self.webs[0].probes)
        self.later(30)
        self.assertEqual(len(self.webs[0].probes), asked)
        both.edge.reload(evolve(both.edge.config, health=(CHECK,)))
        self.later(25)
        self.assertEqual(self.reached(), ["web1"])


class FileTests(SynchronousTestCase):
    """
    C{[[health]]} in a file.
    """

    def read(self, lines: str) -> HealthCheck:
        (check,) = parseEdge(f'[[health]]\nto = "site"\n{lines}\n', "edge.toml").health
        return check

    def test_defaultsAreThoseOfTheRecord(self) -> None:
        self.assertEqual(self.read(""), HealthCheck(to="site"))
        self.assertEqual(parseEdge("", "edge.toml").health, ())

    def test_mistakesAreReported(self) -> None:
        for line, sentence in (
            ('path = "healthz"', "path must be a path that begins with '/'"), ('path = "/a b"', "in ASCII without spaces"),
            ('path = "/a#b"', "without spaces and '#'"), ('statuses = ["2xx"]', "must be a status such as 204"),
            ('statuses = ["399-200"]', "whose first status is not after its last one"),
            ("failures = 0", "must be from 1 to 100"),
            ('host = "a b"', "host must be"), ('[[health]]\nto = "site"', "the same to"),
        ):  # fmt: skip
            self.assertIn(sentence, str(self.assertRaises(Mistakes, self.read, line)))


class ReportTests(HealthCase):
    """
    What operators see.
    """

    def test_statusAgentsAndRoutesSayIt(self) -> None:
        both = self.begin(CHECK, metrics=MetricsConfig(enabled=True), processes=1)
        lines: list[str] = []

        def observe(event: Any) -> None:
            if event.get("status") == "health":
                lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.webs[0].status = 500
        self.later(25)
        edge: Any = both.edge
        self.assertEqual(statusOf(edge)["out_of_service"], 1)
        self.assertEqual(agentsOf(edge)[0]["out_of_service"], {"site": "it answered 500"})
        self.assertEqual(routesOf(edge)[0]["out_of_service"], ["laptop"])
        samples = {family.name: {each.values: each.value for each in values} for family, values in edge.metrics.read()}
        self.assertEqual(samples["tunnelstack_services_out_of_service"], {(): 1})
        self.assertEqual(samples["tunnelstack_health_checks"], {("success",): 0, ("failure",): 3})
        self.webs[0].status = 200
        self.later(25)
        self.assertEqual(statusOf(edge)["out_of_service"], 0)
        self.assertEqual(lines, [
            "laptop gets no requests for site: it answered 500", "laptop gets requests for site again",
        ])
