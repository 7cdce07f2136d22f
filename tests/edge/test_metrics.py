"""
The metrics of an edge, scraped from its administration.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from tests.control.test_metrics import values
from tunnelstack.control.config.reader import parseEdge
from tunnelstack.control.config.records import EdgeConfig, MetricsConfig, ServiceConfig
from tunnelstack.control.metrics.families import EDGE, FAMILIES, PER_SERVICE
from tunnelstack.edge.admin_access import AdminAccess
from tunnelstack.edge.admin_answers import AdminFactory
from tunnelstack.edge.validation import otherMistakes
from tunnelstack.errors import Denied, Refused
from tunnelstack.records import Claim, Service
from tunnelstack.testing import EdgeAndAgent

PORT = 9000
ENABLED = {"metrics": MetricsConfig(enabled=True)}
PER = {"metrics": MetricsConfig(enabled=True, perService=True)}


class Scraped(SynchronousTestCase):
    """
    An edge and an agent with a service that answers 404, because nothing listens.
    """

    def start(self, settings: dict[str, Any] | None = None) -> None:
        self.both = both = EdgeAndAgent(ServiceConfig(name="site", target="3000"), edge=settings)
        both.start()
        both.network.listenTCP(PORT, AdminFactory(both.network, both.edge.admin.administration, AdminAccess()))
        self.addCleanup(self.end)

    def end(self) -> None:
        for service in (self.both.agent, self.both.edge):
            service.stopService()
            self.both.network.passTime(40)

    def ask(self, path: str = "/metrics", method: str = "GET", port: int = PORT, host: str = "x") -> tuple[str, str]:
        request = f"{method} {path} HTTP/1.0\r\nHost: {host}\r\n\r\n"
        head, _, body = self.both.visit(request.encode(), port).got.decode().partition("\r\n\r\n")
        return head, body

    def scrape(self) -> dict[str, float]:
        head, body = self.ask()
        self.assertIn(" 200 OK\r\n", head)
        self.assertIn("Content-Type: text/plain; version=", head)
        return values(body)

    def visit(self, host: str = "site.localhost") -> str:
        return self.ask("/", port=self.both.PORT, host=host)[0]


class EdgeMetricsTests(Scraped):
    """
    What a scrape has.
    """

    def test_allMetricsOfAnEdgeAreThereAndNoOthers(self) -> None:
        self.start(PER)
        self.visit()
        names = {name.partition("{")[0] for name in self.scrape()}
        wanted = {name for family in (*FAMILIES, *PER_SERVICE) if EDGE in family.roles for name in family.sampleNames}
        optional = {"tunnelstack_agent_denials_total", "tunnelstack_certificate_expiry_timestamp_seconds"}
        self.assertEqual({name for name in names if name.startswith("tunnelstack_")}, wanted - optional)

    def test_sessionsAndStreamsAreCounted(self) -> None:
        self.start(ENABLED)
        read = self.scrape()
        self.assertEqual((read["tunnelstack_sessions"], read["tunnelstack_agents"], read["tunnelstack_ready"]), (1, 1, 1))
        self.assertEqual((read["tunnelstack_services{http}"], read["tunnelstack_sessions_lost_total"]), (1, 0))
        self.assertGreaterEqual(read["tunnelstack_streams_opened_total"], read["tunnelstack_streams"])
        self.assertGreater(read["tunnelstack_received_bytes_total"], 0)

    def test_countersDoNotFallWhenASessionIsLost(self) -> None:
        self.start(ENABLED)
        self.visit()
        before = self.scrape()
        next(iter(self.both.edge.agents.sessions)).abort()
        self.both.settle()
        after = self.scrape()
        self.assertEqual((after["tunnelstack_sessions"], after["tunnelstack_sessions_lost_total"]), (0, 1))
        for name in ("received_bytes", "sent_bytes", "streams_opened", "sessions_opened"):
            self.assertGreaterEqual(after[f"tunnelstack_{name}_total"], before[f"tunnelstack_{name}_total"], name)

    def test_requestsAreCountedOnce(self) -> None:
        self.start(ENABLED)
        self.assertIn(" 503 ", self.visit())
        self.assertIn(" 404 ", self.visit("nothing.localhost"))
        read = self.scrape()
        self.assertEqual((read["tunnelstack_exchanges_total{5xx}"], read["tunnelstack_exchanges_total{4xx}"]), (1, 1))
        self.assertEqual(read["tunnelstack_exchange_failures_total{unknown}"], 1)
        self.assertEqual((read["tunnelstack_exchange_seconds_count"], read["tunnelstack_first_octet_seconds_count"]), (2, 1))
        self.assertGreater(read["tunnelstack_response_bytes_total"], 0)

    def test_namesAreLabelsOnlyIfAsked(self) -> None:
        self.start(ENABLED)
        self.visit()
        self.visit("made-up.localhost")
        self.assertNotIn("site", self.ask()[1])
        self.assertNotIn("laptop", self.ask()[1])

    def test_eachServiceAndAgentIsCountedIfConfigured(self) -> None:
        self.start(PER)
        self.visit()
        self.visit("made-up.localhost")
        read = self.scrape()
        self.assertEqual(read["tunnelstack_service_exchanges_total{site}{5xx}"], 1)
        self.assertEqual(read["tunnelstack_agent_sessions{laptop}"], 1)
        self.assertNotIn("made-up", self.ask()[1])

    def test_deniedAgentsAreCountedByCode(self) -> None:
        self.start(ENABLED)
        agents = self.both.edge.agents
        [tunnel] = self.both.edge.registry
        self.failureResultOf(agents.announce(tunnel, Service(name="site", kind="ssh")))
        self.assertRaises(Denied, agents.reach, tunnel.principal, "nobody", "ssh")
        agents.stopping = True
        self.assertRaises(Denied, agents.arrived, tunnel)
        agents.authenticator.authenticate = lambda claim: fail(Refused("who is it?"))      # type: ignore[method-assign]
        self.failureResultOf(agents.authenticate(Claim(dialect="native")), Refused)
        read = self.scrape()
        self.assertEqual(read["tunnelstack_agent_denials_total{not-allowed}"], 1)
        self.assertEqual(read["tunnelstack_agent_denials_total{refused}"], 1)
        self.assertEqual(read["tunnelstack_agent_denials_total{absent}"], 1)
        self.assertEqual(read["tunnelstack_agent_denials_total{stopping}"], 1)

    def test_theAccessLogIsWrittenAsWell(self) -> None:
        self.start(ENABLED)
        seen: list[Any] = []
        self.both.edge.observeRequests(seen.append)
        self.visit()
        self.assertEqual((len(seen), self.scrape()["tunnelstack_exchanges_total{5xx}"]), (1, 1))

    def test_theLagIsMeasured(self) -> None:
        self.start(ENABLED)
        self.both.network.passTime(5)
        self.assertGreaterEqual(self.scrape()["tunnelstack_reactor_lag_seconds_count"], 4)


class AccessTests(Scraped):
    """
    Who may scrape, and when nobody can.
    """

    def test_withoutConfigurationTheAnswerNamesTheRemedy(self) -> None:
        self.start()
        head, body = self.ask()
        self.assertIn(" 404 ", head)
        self.assertIn("set enabled = true in [metrics]", body)
        self.assertIsNone(self.both.edge.public.site.counts, "nothing is counted")

    def test_onlyGETIsAnswered(self) -> None:
        self.start(ENABLED)
        self.assertIn(" 405 ", self.ask(method="POST")[0])
        head, body = self.ask(method="HEAD")
        self.assertIn(" 200 ", head)
        self.assertEqual(body, "")

    def test_theMetricsOfVisitorsAreNotPublic(self) -> None:
        self.start(ENABLED)
        self.assertIn(" 404 ", self.ask(port=self.both.PORT, host="localhost")[0])

    def test_withoutTheExtraTheEdgeIsNotStarted(self) -> None:
        config = EdgeConfig(metrics=MetricsConfig(enabled=True))
        network: Any = EdgeAndAgent().network
        self.assertEqual(otherMistakes(network, config), [])
        with patch("tunnelstack.control.metrics.extra.find_spec", lambda name: None):
            [mistake] = otherMistakes(network, config)
        self.assertIn("tunnelstack[metrics]", mistake)

    def test_theFileHasTheTable(self) -> None:
        config = parseEdge("[metrics]\nenabled = true\nper_service = true\n", "edge.toml")
        self.assertEqual(config.metrics, MetricsConfig(enabled=True, perService=True))
