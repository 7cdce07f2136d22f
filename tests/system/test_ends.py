"""
Agents of each dialect that are told to end, whole programs: the edge keeps idle streams to them for further requests, and they
may take 5 minutes for work that is under way.
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
from hashlib import sha256

from tests.ports import freePort
from tests.system.stage import ROOT, Hello, Program, Stage

TENANT = "00000000-0000-4000-0000-000000000000"
DEVICE = """[agent]
drain_seconds = 300
[[shellhub]]
url = "http://127.0.0.1:{port}"
tenant = "{tenant}"
hostname = "bench"
version = {version}
targets = ["localhost:{web}"]
"""


class EndTests(Stage):
    """
    Each dialect is one test.
    """

    def setUp(self) -> None:
        super().setUp()
        self.begun, self.release = threading.Event(), threading.Event()
        self.addCleanup(self.release.set)
        begun, release = self.begun, self.release

        class Held(Hello):
            """
            Answers C{/held} when the test says so.
            """

            def do_GET(self) -> None:
                if self.path == "/held":
                    begun.set()
                    release.wait(60)
                super().do_GET()

        self.web = self.origin(Held)
        self.write("agent.toml", "[agent]\ndrain_seconds = 300\n")

    def write(self, name: str, text: str) -> str:
        """
        @return: the path of a file that only this user can read.
        """
        path = self.home / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def edge(self, text: str) -> str:
        """
        Start an edge.

        @return: its URL.
        """
        self.startEdge("--config", self.write("edge.toml", text))
        return f"http://localhost:{self.port}"

    def agent(self, *arguments: str) -> Program:
        agent = self.program("tunnel-agent", *arguments, "--config", "agent.toml")
        agent.hears(r"^session +up ")
        return agent

    def endsWithIdleStreams(self, agent: Program, name: str) -> None:
        self.assertEqual(self.sees(name, path="/idle").body, b"GET /idle\n")
        self.assertEqual(agent.end(), 0, agent.said())

    def endsAfterItsRequests(self, agent: Program, name: str) -> None:
        """
        One request is under way when the agent is told to end, and one stream is idle.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.addCleanup(connection.close)
        self.sees(name, path="/idle")
        connection.request("GET", "/held", headers={"Host": f"{name}.localhost"})
        self.assertTrue(self.begun.wait(30))
        self.sees(name, path="/idle")
        agent.tell(signal.SIGTERM)
        agent.hears("^stopping ")
        self.sees(name, 503)
        self.assertIsNone(agent.process.poll())
        self.release.set()
        response = connection.getresponse()
        self.assertEqual((response.status, response.read()), (200, b"GET /held\n"))
        self.assertEqual(agent.ends(), 0, agent.said())

    def bothEnds(self, *arguments: str, name: str = "demo") -> None:
        self.endsWithIdleStreams(self.agent(*arguments), name)
        self.endsAfterItsRequests(self.agent(*arguments), name)

    def test_anAgentEnds(self) -> None:
        self.edge("")
        self.bothEnds("--dev", "http", str(self.web), "--name", "demo")

    def test_aPorterEnds(self) -> None:
        self.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "docs" / "examples"), self.environ["PYTHONPATH"]])
        url = self.edge("[porter]\n")
        made = self.program("tunnelstack", "token", "new", "demo", "--allow", "http:demo")
        made.ends()
        self.write("token", made.out[0])
        self.bothEnds("porter", str(self.web), "--edge", url, "--token-file", "token")

    def test_aKodingClientEnds(self) -> None:
        url = self.edge(
            f'[koding]\n[[koding.host]]\nhost = "demo.localhost"\nidentifier_file = "{self.write("id", "secret")}"\n'
        )
        self.bothEnds("koding", "--edge", url, "--identifier-file", "id", "http", str(self.web))

    def test_aSandboxEnds(self) -> None:
        digest = sha256(b"secret").hexdigest()
        url = self.edge(f'[agentserver]\n[[agentserver.sandbox]]\nid = "demo"\nname = "demo"\ntoken_sha256 = "{digest}"\n')
        self.bothEnds(
            "agentserver", str(self.web), "--edge", url, "--sandbox", "demo", "--token-file", self.write("token", "secret")
        )

    def device(self, version: int) -> None:
        self.edge(
            f'[shellhub]\npolicy = "automatic"\n[[tenant]]\nid = "{TENANT}"\nnamespace = "lab"\n'
            f'[[route]]\nhost = "demo.localhost"\nto = "lab.bench:{self.web}"\n'
        )
        self.write("agent.toml", DEVICE.format(port=self.port, tenant=TENANT, version=version, web=self.web))
        self.bothEnds("start")

    def test_aDeviceOfVersionOneEnds(self) -> None:
        self.device(1)

    def test_aDeviceOfVersionTwoEnds(self) -> None:
        self.device(2)

    def test_aGodoxyAgentEnds(self) -> None:
        for arguments in (("ca",), ("server", "godoxy.agent"), ("client", "edge", "--archive", "edge.zip")):
            self.assertEqual(self.program("tunnelstack", "certs", *arguments).ends(), 0)
        port = str(freePort())
        self.edge("[godoxy]\nhealth_seconds = 1\nprobe_seconds = 2\n")
        for words in (("add", "nas", f"127.0.0.1:{port}", "--archive", "edge.zip"),
                      ("publish", "demo", "nas", "http", f"127.0.0.1:{self.web}")):
            self.assertEqual(self.program("tunnelstack", "godoxy", *words).ends(), 0)
        agent = (
            "tunnel-agent", "godoxy", "--config", "agent.toml", "--ca-file", "certs/ca.pem", "--address", "127.0.0.1",
            "--certificate-file", "certs/server-godoxy.agent.pem", "--key-file", "certs/server-godoxy.agent.key",
            "--port", port, f"127.0.0.1:{self.web}",
        )
        self.endsWithIdleStreams(self.program(*agent), "demo")
        self.endsAfterItsRequests(self.program(*agent), "demo")
