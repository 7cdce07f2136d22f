"""
koding/tunnel in whole programs: hosts are added and revoked while an edge runs, and an agent is their client.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess

from tests.system.stage import Program, Stage


class ClientTests(Stage):
    """
    An edge, and C{tunnel-agent koding}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.file = self.home / "edge.toml"
        self.file.write_text("[koding]\n")
        self.edge = self.startEdge("--config", str(self.file))

    def tunnelstack(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [*self.command("tunnelstack"), *arguments], env=self.environ, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    def client(self, identifier: str, *targets: str) -> Program:
        path = self.home / "identifier"
        path.write_text(identifier)
        path.chmod(0o600)
        return self.program(
            "tunnel-agent", "koding", "--edge", f"http://localhost:{self.port}", "--identifier-file", str(path), *targets
        )

    def test_aHostThatIsAddedIsServedUntilItIsRevoked(self) -> None:
        code, identifier = self.tunnelstack("koding", "add", "app.localhost")
        self.assertEqual((code, len(identifier.strip())), (0, 32), identifier)
        agent = self.client(identifier.strip(), "http", str(self.origin()))
        agent.hears(rf"^session +up +edge=localhost:{self.port} dialect=koding")
        self.assertEqual(self.sees("app").body, b"GET /\n")
        self.assertEqual(self.visit("app", "/post", method="POST", body=b"posted").body, b"posted")
        code, told = self.tunnelstack("koding", "--json")
        self.assertEqual(
            [(host["host"], host["connected"]) for host in json.loads(told)["hosts"]], [("app.localhost", True)]
        )
        self.assertIn("koding.app.localhost", self.tunnelstack("agents")[1])
        self.assertIn("app.localhost", self.tunnelstack("routes")[1])
        self.assertEqual(self.tunnelstack("koding", "revoke", "app.localhost"), (0, "app.localhost is revoked\n"))
        self.sees("app", 404)
        agent.hears("no host of the server has this identifier")
        self.assertEqual(agent.end(), 0)
        for program in (agent, self.edge):
            self.assertNotIn(identifier.strip(), program.said())

    def test_aReloadAddsAHostAndAPort(self) -> None:
        origin = self.origin()
        agent = self.client("from-a-file", "http", str(origin), "tcp", str(origin))
        self.assertEqual(agent.ends(), 77)
        secret = self.home / "secret"
        secret.write_text("from-a-file\n")
        secret.chmod(0o600)
        self.file.write_text(f'[koding]\n[[koding.host]]\nhost = "site.localhost"\nidentifier_file = "{secret}"\n')
        self.edge.tell(signal.SIGHUP)
        self.edge.hears(r"\[\[koding\.host\]\]: 1 added")
        self.client("from-a-file", "http", str(origin), "tcp", str(origin)).hears(r"^session +up ")
        self.assertEqual(self.sees("site").body, b"GET /\n")
        code, told = self.tunnelstack("check", str(self.file))
        self.assertEqual(code, 0, told)
        code, told = self.tunnelstack("koding", "revoke", "site.localhost")
        self.assertEqual(code, 69, told)
        self.assertIn("is in the configuration file", told)

    def test_aMistakeOfTheCommandLineIsAUsageError(self) -> None:
        for arguments in (("http",), ("htp", "3000"), ()):
            self.assertEqual(self.client("x", *arguments).ends(), 64)
        self.assertEqual(self.tunnelstack("koding", "add")[0], os.EX_USAGE)
