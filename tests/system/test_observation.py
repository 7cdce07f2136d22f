"""
Edges and agents that are observed: metrics, traces, and where the time of a request went.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.control.test_metrics import values
from tests.system.stage import BIN, Stage, until


class MetricsTests(Stage):
    """
    A scraper.
    """

    def scrape(self, connection: http.client.HTTPConnection) -> dict[str, float]:
        try:
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            self.assertEqual(response.status, 200)
            return values(response.read().decode())
        finally:
            connection.close()

    def adminPort(self) -> int:
        """
        Where the administration of the edge listens.
        """
        command = [*self.command("tunnelstack"), "status", "--json"]
        status = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60)
        return int(json.loads(status.stdout)["admin"][0].rpartition(":")[2])

    def test_edgeAndAgentCountTheSameRequests(self) -> None:
        config = self.home / "edge.toml"
        config.write_text('[metrics]\nenabled = true\n[admin]\nlisten = "0"\n')
        edge = self.startEdge("--config", str(config))
        agent = self.startAgent("http", str(self.origin()), "--name", "site", "--metrics", "0")
        agent.hears(r"^site ")
        for _ in range(3):
            self.assertEqual(self.visit("site", "/here").status, 200)
        port = int(agent.hears(r"^metrics +http://127\.0\.0\.1:(\d+)/metrics$")[1])
        for place in (self.adminPort(), port):
            read = self.scrape(http.client.HTTPConnection("127.0.0.1", place, timeout=30))
            self.assertEqual(read["tunnelstack_exchanges_total{2xx}"], 3, place)
            self.assertEqual(read["tunnelstack_first_octet_seconds_count"], 3)
            self.assertEqual(read["tunnelstack_sessions"], 1)
            self.assertGreater(read["process_open_fds"], 5)
            self.assertLess(read["process_start_time_seconds"], 1e11)
        self.assertEqual((agent.end(), edge.end()), (0, 0))

    def test_aScraperThatDoesNotReadStopsNothing(self) -> None:
        config = self.home / "edge.toml"
        config.write_text('[metrics]\nenabled = true\n[admin]\nlisten = "0"\n')
        edge = self.startEdge("--config", str(config))
        port = self.adminPort()
        for _ in range(20):
            client = socket.create_connection(("127.0.0.1", port), timeout=30)
            self.addCleanup(client.close)
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: edge\r\n\r\n" * 100)
        self.assertEqual(self.visit("nobody").status, 404)
        self.assertEqual(edge.end(), 0)


class Collector(BaseHTTPRequestHandler):
    """
    Collects spans.
    """

    spans: list[tuple[str, str, str]] = []

    def do_POST(self) -> None:
        sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for each in sent.resource_spans:
            service = next(a.value.string_value for a in each.resource.attributes if a.key == "service.name")
            for span in each.scope_spans[0].spans:
                self.spans.append((service, span.name, span.trace_id.hex()))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """
        Log nothing.
        """


class TraceTests(Stage):
    """
    One request, followed through edge and agent.
    """

    def test_bothLogsTellWhereTheTimeWent(self) -> None:
        edgeLog, agentLog = self.home / "edge.log", self.home / "agent.log"
        self.startEdge("--access-log", str(edgeLog))
        agent = self.startAgent("http", str(self.origin()), "--name", "site", "--access-log", str(agentLog))
        agent.hears(r"^site ")
        self.visit("site", "/slow?page=1")
        line = json.loads(until(lambda: edgeLog.exists() and edgeLog.read_text()))
        until(lambda: agentLog.exists() and agentLog.read_text())
        command = [str(BIN / "tunnelstack"), "trace", line["request"], str(edgeLog), str(agentLog)]
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("/slow?page=1\n", done.stdout)
        self.assertRegex(done.stdout, r"\nedge   200  [\d.]+ ms, .*, service site, ")
        self.assertRegex(done.stdout, r"\nagent  200  [\d.]+ ms, .*, service site, ")
        self.assertRegex(done.stdout, r"\ntunnel  [\d.]+ ms ")
        done = subprocess.run(command[:-1], env=self.environ, capture_output=True, text=True, timeout=60)
        self.assertIn("No log of the agent has this request", done.stdout)

    def test_spansOfBothSidesAreInOneTrace(self) -> None:
        Collector.spans = []
        server = HTTPServer(("127.0.0.1", 0), Collector)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        tracing = (
            "[tracing]\nenabled = true\nsample_ratio = 1.0\n"
            f'endpoint = "http://127.0.0.1:{server.server_address[1]}/v1/traces"\n'
        )
        (self.home / "edge.toml").write_text(tracing)
        (self.home / "agent.toml").write_text(f"[agent]\n{tracing}")
        edge = self.startEdge("--config", str(self.home / "edge.toml"))
        agent = self.startAgent(
            "http", str(self.origin()), "--name", "site", "--config", str(self.home / "agent.toml"), "--edge",
            f"http://localhost:{self.port}",
        )
        agent.hears(r"^site ")
        self.assertEqual(self.visit("site").status, 200)
        self.assertEqual((agent.end(), edge.end()), (0, 0))      # the last spans are sent before the end
        self.assertEqual(len({trace for _, _, trace in Collector.spans}), 1)
        self.assertEqual(
            {(service, name) for service, name, _ in Collector.spans if name in ("GET", "wait for the response")},
            {(service, name) for service in ("tunnel-edge", "tunnel-agent") for name in ("GET", "wait for the response")},
        )


class InspectorTests(Stage):
    """
    The inspector of an agent, used as its users do.
    """

    def tool(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self.command("tunnelstack"), *arguments, "--inspector", self.url]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=60)

    def startInspected(self) -> None:
        config = self.home / "agent.toml"
        config.write_text('[inspect]\nlisten = "0"\n')
        self.edge = self.startEdge()
        self.agent = self.startAgent("http", str(self.origin()), "--name", "site", "--inspect", "--config", str(config))
        self.url = self.agent.hears(r"inspect +(http://127\.0\.0\.1:\d+)/$")[1]
        self.agent.hears(r"site +http:")

    def test_requestsAreListedAndReplayed(self) -> None:
        self.startInspected()
        self.assertEqual(self.visit("site", "/here").status, 200)
        [request] = json.loads(self.tool("requests", "--json").stdout)["requests"]
        self.assertEqual((request["target"], request["status"], request["service"]), ("/here", 200, "site"))
        replayed = self.tool("replay", str(request["id"]))
        self.assertIn(f"replays request {request['id']}: 200, ", replayed.stdout, replayed.stderr)
        self.assertEqual(len(self.tool("requests").stdout.splitlines()), 3)
        missing = self.tool("replay", "99")
        self.assertEqual((missing.returncode, missing.stdout), (69, ""))
        self.assertEqual((self.agent.end(), self.edge.end()), (0, 0))
        away = self.tool("requests")
        self.assertEqual(away.returncode, 69)
        self.assertIn("start the agent with --inspect", away.stderr)
