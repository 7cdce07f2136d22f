"""
An edge that dials and an agent that listens, as whole programs with certificates that the command makes.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
from typing import Any

from tests.ports import freePort
from tests.system.stage import Program, Stage, until

PATIENCE_SECONDS = 10.0


class DialledAgentTests(Stage):
    timeout = 180

    def setUp(self) -> None:
        super().setUp()
        for arguments in (("ca",), ("server", "godoxy.agent"), ("client", "edge", "--archive", "edge.zip")):
            self.run_("tunnelstack", "certs", *arguments)
        self.agentPort = freePort()

    def run_(self, name: str, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [*self.command(name), *arguments], env=self.environ, capture_output=True, text=True, timeout=60, cwd=self.home
        )
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def begin(self) -> None:
        config = self.home / "edge.toml"
        config.write_text("[godoxy]\nhealth_seconds = 1\nprobe_seconds = 2\n")
        self.edge = self.startEdge("--config", str(config))

    def agent(self, *targets: str) -> Program:
        return self.program(
            "tunnel-agent", "godoxy", "--ca-file", "certs/ca.pem", "--certificate-file", "certs/server-godoxy.agent.pem",
            "--key-file", "certs/server-godoxy.agent.key", "--port", str(self.agentPort), "--address", "127.0.0.1", *targets,
        )  # fmt: skip

    def listed(self) -> Any:
        return json.loads(self.run_("tunnelstack", "godoxy", "--json"))

    def state(self) -> str:
        word: str = self.listed()["agents"][0]["state"]
        return word

    def portOf(self, service: str) -> int:
        """
        The public port of a service, once it has one.
        """
        port: int = until(
            lambda: next(each["port"] for each in self.listed()["services"] if each["name"] == service), self.listed
        )
        return port

    def echoTCP(self) -> int:
        listening = socket.create_server(("127.0.0.1", 0))

        def echo(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):           # examinations reset their connections
                while data := connection.recv(65536):
                    connection.sendall(data)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=echo, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        self.addCleanup(listening.close)
        port: int = listening.getsockname()[1]
        return port

    def echoUDP(self) -> int:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind(("127.0.0.1", 0))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    data, address = bound.recvfrom(65536)
                    bound.sendto(data, address)

        threading.Thread(target=serve, daemon=True).start()
        self.addCleanup(bound.close)
        port: int = bound.getsockname()[1]
        return port

    def exchangeTCP(self, port: int, octets: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as visitor:
            visitor.sendall(octets)
            visitor.shutdown(socket.SHUT_WR)
            got = b""
            while data := visitor.recv(65536):
                got += data
            return got

    def exchangeUDP(self, port: int, datagram: bytes) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as visitor:
            visitor.settimeout(PATIENCE_SECONDS)
            visitor.sendto(datagram, ("127.0.0.1", port))
            return visitor.recv(65536)

    def test_webServersAndPortsOfAnAgentAreReached(self) -> None:
        self.begin()
        web, tcp, udp = self.origin(), self.echoTCP(), self.echoUDP()
        agent = self.agent(*(f"127.0.0.1:{port}" for port in (web, tcp, udp)))
        said = self.run_("tunnelstack", "godoxy", "add", "nas", f"127.0.0.1:{self.agentPort}", "--archive", "edge.zip")
        self.assertEqual(said, f"nas is dialled at 127.0.0.1:{self.agentPort}\n")
        for name, kind, target in (("wiki", "http", web), ("game", "tcp", tcp), ("names", "udp", udp)):
            self.run_("tunnelstack", "godoxy", "publish", name, "nas", kind, f"127.0.0.1:{target}")
        self.assertEqual(self.sees("wiki", path="/a?b").body, b"GET /a?b\n")
        self.assertEqual(self.exchangeTCP(self.portOf("game"), b"x" * 200_000), b"x" * 200_000)
        self.assertEqual(self.exchangeUDP(self.portOf("names"), b"query"), b"query")
        until(lambda: self.state() == "up", self.listed)
        self.assertRegex(self.run_("tunnelstack", "agents"), rf"nas +127\.0\.0\.1:{self.agentPort} +up\n")
        agent.drop()
        until(lambda: self.state() == "down", self.listed)
        self.sees("wiki", 503)
        self.agent(*(f"127.0.0.1:{port}" for port in (web, tcp, udp)))
        self.sees("wiki")
        self.assertEqual(self.exchangeUDP(self.portOf("names"), b"again"), b"again")
        self.run_("tunnelstack", "godoxy", "remove", "nas")
        self.assertEqual(self.listed(), {"agents": [], "services": []})
        self.assertEqual(self.edge.end(), 0)

    def test_whatTheAgentDoesNotGrantIsNotReached(self) -> None:
        self.begin()
        tcp = self.echoTCP()
        agent = self.agent("127.0.0.1:1")
        self.run_("tunnelstack", "godoxy", "add", "nas", f"127.0.0.1:{self.agentPort}", "--archive", "edge.zip")
        self.run_("tunnelstack", "godoxy", "publish", "game", "nas", "tcp", f"127.0.0.1:{tcp}")
        self.assertEqual(self.exchangeTCP(self.portOf("game"), b"x"), b"")
        until(lambda: any("is not among the targets" in line for line in agent.err), agent.said)
        self.run_("tunnelstack", "godoxy", "add", "nas", "127.0.0.1:1", "--archive", "edge.zip", code=69)
