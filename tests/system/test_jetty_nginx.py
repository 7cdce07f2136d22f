"""
nginx before the port of an edge for agents of Jetty: it makes a connection for each call, and so for each lane of a session.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.ports import freePort
from tests.system.origin import Origin
from tests.system.stage import PATIENCE, Stage, until
from tests.system.test_visitors import peer
from tunnelstack.control.auth.tokens import newToken

DOCUMENTED = Path(__file__).resolve().parent.parent.parent / "docs" / "protocols" / "jetty.md"
BODY = 2_000_000
"""Octets of one request: nginx ends a lane after one million, unless it is told not to."""


class JettyNginxTests(Stage):
    """
    An edge, nginx, and an agent by gRPC through it.
    """

    timeout = 300

    def setUp(self) -> None:
        super().setUp()
        self.web = Origin(True)
        self.addCleanup(self.web.close)
        self.inner, self.outer = freePort(), freePort()
        token = newToken()
        (self.home / "edge.toml").write_text(
            f'[[agent]]\nname = "owner"\ntoken_sha256 = "{token.tokenSha256}"\nid = "{token.id}"\nallow = ["http:demo"]\n'
            f'[jetty]\ntransport_mode = "grpc"\ngrpc_listen = "tcp:{self.inner}:interface=127.0.0.1"\n'
            f'grpc_url = "grpc://127.0.0.1:{self.outer}"\n'
        )
        self.edge = self.startEdge("--config", "edge.toml")
        self.startNginx()
        file = self.home / "token"
        file.write_text(token.token)
        file.chmod(0o600)
        self.agent = self.program(
            "tunnel-agent", "jetty", str(self.web.port), "--edge", f"http://127.0.0.1:{self.port}", "--token-file", str(file),
            "--name", "demo", "--transport", "grpc", "--health-path", "/length",
        )

    def startNginx(self) -> None:
        text = DOCUMENTED.read_text()
        location = text.split("```nginx\n", 1)[1].split("```", 1)[0].replace("127.0.0.1:8091", f"127.0.0.1:{self.inner}")
        folder = self.home / "nginx"
        (folder / "logs").mkdir(parents=True)
        paths = "\n".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/logs/error.log;\n"
            f"events {{ worker_connections 256; }}\nhttp {{ access_log off; keepalive_requests 1000000;\n{paths}\n"
            f"server {{ listen 127.0.0.1:{self.outer} http2;\n{location}}} }}\n"
        )
        process = subprocess.Popen(
            [peer("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL
        )

        def stop() -> None:
            process.terminate()
            process.wait(PATIENCE)

        self.addCleanup(stop)

    def test_lanesComeByConnectionsOfTheirOwn(self) -> None:
        self.assertEqual(self.sees("demo", path="/length").body, b"hello")
        for _ in range(3):
            answer = self.visit("demo", "/echo", method="POST", body=bytes(BODY), seconds=60)
            self.assertEqual((answer.status, len(answer.body)), (200, BODY))
        with ThreadPoolExecutor(20) as visitors:
            answers = list(visitors.map(
                lambda number: self.visit("demo", "/echo", method="POST", body=b"%d" % number, seconds=60), range(20)
            ))  # fmt: skip
        self.assertEqual([(each.status, each.body) for each in answers], [(200, b"%d" % number) for number in range(20)])
        until(lambda: self.connections() >= 4, lambda: f"{self.connections()} connections")

    def connections(self) -> int:
        """
        @return: how many connections nginx has made to the edge.
        """
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        local = f"0100007F:{self.inner:04X}"
        return sum(fields[1] == local and fields[3] == "01" for fields in map(str.split, lines))
