"""
The metrics of an agent, scraped from its own port.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.control.test_metrics import values
from tests.transport.certificates import authority
from tunnelstack.agent.metrics import certificateExpiries
from tunnelstack.agent.options import Options
from tunnelstack.agent.validation import agentMistakes
from tunnelstack.control.config.reader import parseAgent
from tunnelstack.control.config.records import AgentConfig, AgentMetricsConfig, EdgeAddress, ServiceConfig
from tunnelstack.control.metrics.families import AGENT, FAMILIES, PER_SERVICE
from tunnelstack.testing import EdgeAndAgent

PORT = 9001
METRICS = AgentMetricsConfig(listen=f"tcp:{PORT}:interface=127.0.0.1", perService=True)


class AgentMetricsTests(SynchronousTestCase):
    """
    An agent whose local server does not listen.
    """

    def setUp(self) -> None:
        self.both = EdgeAndAgent(ServiceConfig(name="site", target="3000"), agent={"metrics": METRICS})
        self.both.start()
        self.addCleanup(self.end)

    def end(self) -> None:
        for service in (self.both.agent, self.both.edge):
            service.stopService()
            self.both.network.passTime(40)

    def ask(self, path: str = "/metrics", method: str = "GET", port: int = PORT) -> tuple[str, str]:
        request = f"{method} {path} HTTP/1.0\r\nHost: site.localhost\r\n\r\n"
        head, _, body = self.both.visit(request.encode(), port).got.decode().partition("\r\n\r\n")
        return head, body

    def scrape(self) -> dict[str, float]:
        return values(self.ask()[1])

    def test_allMetricsOfAnAgentAreThereAndNoOthers(self) -> None:
        self.ask("/", port=self.both.PORT)
        names = {name.partition("{")[0] for name in self.scrape()}
        wanted = {name for family in (*FAMILIES, *PER_SERVICE) if AGENT in family.roles for name in family.sampleNames}
        optional = {"tunnelstack_certificate_expiry_timestamp_seconds"}
        self.assertEqual({name for name in names if name.startswith("tunnelstack_")}, wanted - optional)

    def test_requestsAreCounted(self) -> None:
        self.ask("/", port=self.both.PORT)
        read = self.scrape()
        self.assertEqual(read["tunnelstack_exchanges_total{5xx}"], 1)
        self.assertEqual(read["tunnelstack_exchange_failures_total{unreachable}"], 1)
        self.assertEqual(read["tunnelstack_service_exchanges_total{site}{5xx}"], 1)

    def test_uplinksAndTheirLosses(self) -> None:
        edge = "{localhost:8080}"
        read = self.scrape()
        self.assertEqual((read[f"tunnelstack_uplink_up{edge}"], read["tunnelstack_published_services"]), (1, 1))
        next(iter(self.both.edge.agents.sessions)).abort()
        self.both.settle()
        read = self.scrape()
        self.assertEqual((read[f"tunnelstack_uplink_up{edge}"], read["tunnelstack_published_services"]), (0, 0))
        self.assertEqual(read[f"tunnelstack_uplink_reconnects_total{edge}"], 0)
        self.both.network.passTime(30)
        self.assertEqual(self.scrape()[f"tunnelstack_uplink_reconnects_total{edge}"], 1)

    def test_attemptsThatFail(self) -> None:
        self.both.edge.stopService()
        self.both.network.passTime(60)
        self.assertGreaterEqual(self.scrape()["tunnelstack_uplink_failures_total{localhost:8080}"], 1)

    def test_otherPathsAndMethodsAreRejected(self) -> None:
        self.assertIn(" 404 ", self.ask("/")[0])
        self.assertIn(" 405 ", self.ask(method="DELETE")[0])
        self.assertEqual(self.ask(method="HEAD")[1], "")

    def test_itListensNoMoreWhenItHasStopped(self) -> None:
        self.assertIn(PORT, self.both.network.ports)
        self.both.agent.stopService()
        self.both.network.passTime(40)
        self.assertNotIn(PORT, self.both.network.ports)


class TakenPortTests(SynchronousTestCase):
    """
    A port that something else has.
    """

    def test_theAgentWorksWithoutMetrics(self) -> None:
        both = EdgeAndAgent(ServiceConfig(name="site", target="3000"), agent={"metrics": METRICS})
        both.network.listenTCP(PORT, Factory())
        both.start()
        self.assertEqual(len(both.agent.serviceLinks), 1)
        for service in (both.agent, both.edge):
            service.stopService()
            both.network.passTime(40)


class ConfigurationTests(SynchronousTestCase):
    """
    How metrics are requested.
    """

    def test_aPortAloneIsOneOfLoopback(self) -> None:
        config = parseAgent('[metrics]\nlisten = "9001"\n[[edge]]\nurl = "http://localhost"\n', "agent.toml")
        self.assertEqual(config.metrics.listen, "tcp:9001:interface=127.0.0.1")

    def test_theOptionIsThePort(self) -> None:
        options = Options({"TUNNELSTACK_TOKEN": "x"})
        options.parseOptions(["http", "3000", "--edge", "http://localhost:1", "--metrics", "9001"])
        self.assertEqual(options.config.metrics.listen, "tcp:9001:interface=127.0.0.1")

    def test_anEndpointThatIsNoneIsAMistake(self) -> None:
        network: Any = EdgeAndAgent().network
        [mistake] = agentMistakes(network, AgentConfig(metrics=AgentMetricsConfig(listen="nowhere")))
        self.assertTrue(mistake.startswith("[metrics] listen: 'nowhere' is not a valid endpoint"), mistake)

    def test_theCertificatesOfTheAgentAreThere(self) -> None:
        path = Path(self.mktemp())
        certificate = authority().identity("laptop").certificate.to_cryptography()
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
        edges = EdgeAddress(url="https://one.example", certificateFile=str(path)), EdgeAddress(url="https://two.example")
        self.assertEqual(
            certificateExpiries(AgentConfig(edges=edges)), {str(path): certificate.not_valid_after_utc.timestamp()}
        )
