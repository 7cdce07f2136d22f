"""
One edge with the agents of every dialect at the same time: each serves its own visitors, and none disturbs another.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from http.server import BaseHTTPRequestHandler

from tests.ports import freePort
from tests.system.stage import Hello, Program, Stage
from tunnelstack.control.auth.tokens import newToken

TENANT = "00000000-0000-4000-0000-000000000000"
IDENTIFIER, TOKEN = "identifier-of-the-client", "token-of-the-sandbox"

NAMES = ("native", "device1", "device2", "client", "sandbox", "dialled", "websocket", "grpc")

CARRIERS = ("websocket", "grpc")
"""Of Jetty."""


def named(name: str) -> type[BaseHTTPRequestHandler]:
    """
    A web server that answers with its name and the path.
    """

    class Named(Hello):
        def do_GET(self) -> None:
            self.answer(f"{name} {self.path}".encode())

    return Named


class AllAtOnceTests(Stage):
    timeout = 180

    def write(self, name: str, text: str) -> str:
        path = self.home / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def startAll(self) -> dict[str, Program]:
        """
        @return: the agents, by the names of their hosts.
        """
        self.origins = {name: self.origin(named(name)) for name in NAMES}
        agents = {"dialled": self.startDialled()}
        digests = {secret: sha256(secret.encode()).hexdigest() for secret in (IDENTIFIER, TOKEN)}
        devices = "".join(
            f'[[route]]\nhost = "device{version}.localhost"\nto = "lab.box{version}:{self.origins[f"device{version}"]}"\n'
            for version in (1, 2)
        )
        owners = {carrier: newToken() for carrier in CARRIERS}
        tokens = "".join(
            f'[[agent]]\nname = "owner-{name}"\ntoken_sha256 = "{token.tokenSha256}"\nid = "{token.id}"\n'
            f'allow = ["http:{name}"]\n'
            for name, token in owners.items()
        )
        config = self.write("edge.toml", (
            f'[jetty]\ntransport_mode = "grpc"\ngrpc_listen = "tcp:{freePort()}:interface=127.0.0.1"\n{tokens}'
            f'[shellhub]\npolicy = "automatic"\n[[tenant]]\nid = "{TENANT}"\nnamespace = "lab"\n{devices}'
            f'[koding]\n[[koding.host]]\nhost = "client.localhost"\nidentifier_sha256 = "{digests[IDENTIFIER]}"\n'
            f'[agentserver]\n[[agentserver.sandbox]]\nid = "sbx-1"\nname = "sandbox"\ntoken_sha256 = "{digests[TOKEN]}"\n'
            f'[godoxy]\n[[godoxy.agent]]\nname = "box"\naddress = "127.0.0.1:{self.agentPort}"\narchive = "edge.zip"\n'
            f'[[godoxy.service]]\nname = "dialled"\nagent = "box"\ntarget = "127.0.0.1:{self.origins["dialled"]}"\n'
        ))
        self.edge = self.startEdge("--config", config)
        url = f"http://127.0.0.1:{self.port}"
        agents |= {
            "native": self.startAgent("http", str(self.origins["native"]), "--name", "native"),
            "client": self.program(
                "tunnel-agent", "koding", "--edge", url, "--identifier-file", self.write("identifier", IDENTIFIER),
                "http", str(self.origins["client"]),
            ),
            "sandbox": self.program(
                "tunnel-agent", "agentserver", str(self.origins["sandbox"]), "--edge", url, "--sandbox", "sbx-1",
                "--token-file", self.write("token", TOKEN),
            ),
        }
        for carrier, token in owners.items():
            agents[carrier] = self.program(
                "tunnel-agent", "jetty", str(self.origins[carrier]), "--edge", url, "--name", carrier, "--transport", carrier,
                "--token-file", self.write(f"{carrier}.token", token.token),
            )
        for version in (1, 2):
            agents[f"device{version}"] = self.device(url, version)
        for name in NAMES:
            self.assertEqual(self.sees(name).body, f"{name} /".encode())
        return agents

    def startDialled(self) -> Program:
        """
        Start the agent that listens, with certificates for it and for the edge that dials it.  It is there before the edge,
        whose attempts become rare.
        """
        for arguments in (("ca",), ("server", "godoxy.agent"), ("client", "edge", "--archive", "edge.zip")):
            subprocess.run(
                [*self.command("tunnelstack"), "certs", *arguments], env=self.environ, cwd=self.home, check=True,
                capture_output=True, timeout=60,
            )
        self.agentPort = freePort()
        agent = self.program(
            "tunnel-agent", "godoxy", "--ca-file", "certs/ca.pem", "--certificate-file", "certs/server-godoxy.agent.pem",
            "--key-file", "certs/server-godoxy.agent.key", "--port", str(self.agentPort), "--address", "127.0.0.1",
            f"127.0.0.1:{self.origins['dialled']}",
        )  # fmt: skip
        agent.hears("^listen +listening ")
        return agent

    def device(self, url: str, version: int) -> Program:
        state = self.home / f"box{version}"
        config = self.write(f"box{version}.toml", (
            f'[[shellhub]]\nurl = "{url}"\ntenant = "{TENANT}"\nhostname = "box{version}"\nversion = {version}\nssh = ""\n'
            f'targets = ["127.0.0.1:{self.origins[f"device{version}"]}"]\n'
        ))
        return self.program("tunnel-agent", "--config", config, "start", STATE_DIRECTORY=str(state))

    def visits(self, names: tuple[str, ...], rounds: int) -> None:
        """
        Visitors of all of them at the same time.
        """
        asked = [(name, f"/{number}") for number in range(rounds) for name in names]
        with ThreadPoolExecutor(16) as visitors:
            answers = list(visitors.map(lambda each: self.visit(*each), asked))
        for (name, path), answer in zip(asked, answers, strict=True):
            self.assertEqual((answer.status, answer.body), (200, f"{name} {path}".encode()))

    def test_eachAnswersItsOwnVisitors(self) -> None:
        self.startAll()
        self.visits(NAMES, 40)

    def test_oneThatIsKilledDisturbsNoOther(self) -> None:
        agents = self.startAll()
        for gone in NAMES:
            agents[gone].drop()
            rest = tuple(name for name in NAMES if agents[name].process.poll() is None)
            if rest:
                self.visits(rest, 5)
        self.assertEqual(self.edge.end(), 0)
