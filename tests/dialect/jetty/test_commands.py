"""
The command lines of Jetty, and mistakes in its tables.
"""

from __future__ import annotations

from typing import Any

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.agent.dialect_command import makeOptions
from tunnelstack.commands.admin_client import formatTable
from tunnelstack.control.config import reader
from tunnelstack.dialect.jetty.commands import Request, Tunnels
from tunnelstack.dialect.jetty.settings import AgentSettings, EdgeSettings, RolloutSettings
from tunnelstack.errors import ConfigurationError

EDGE = """
[jetty]
transport_mode = "grpc"
grpc_listen = "tcp:8091"

[jetty.rollout]
grpc_percent = 10
"""

AGENT = """
[[jetty]]
url = "https://tunnels.example.net"
token_file = "laptop.token"
target = "3000"
routes = ["/api=8000"]
"""


class FileTests(SynchronousTestCase):
    def test_theTablesAreRead(self) -> None:
        self.assertEqual(reader.parseEdge(EDGE, "edge.toml").dialects["jetty"], {
            "jetty": (EdgeSettings(transportMode="grpc", grpcListen="tcp:8091"),),
            "jetty.rollout": (RolloutSettings(grpcPercent=10),),
        })
        self.assertEqual(reader.parseAgent(AGENT, "agent.toml").dialects["jetty"], {"jetty": (AgentSettings(
            url="https://tunnels.example.net", tokenFile="laptop.token", target="3000", routes=("/api=8000",),
        ),)})  # fmt: skip

    def test_mistakesAreReported(self) -> None:
        for text, said in (
            ("[jetty]\nno_websocket = true\n", "refuses every agent"),
            ('[jetty]\ngrpc_url = "grpcs://a.example:1"\n', 'need transport_mode = "grpc"'),
            ('[jetty]\ntransport_mode = "carrier-pigeon"\n', "must be one of websocket, grpc"),
            ("[jetty.rollout]\ngrpc_percent = 101\n", "must be from 0 to 100"),
        ):
            self.assertIn(said, str(self.assertRaises(ConfigurationError, reader.parseEdge, text, "edge.toml")))
        for text, said in (
            (AGENT + AGENT, "url, target, protocol and subdomain"), (AGENT.replace("3000", "x"), "must be a port or HOST:PORT"),
            (AGENT.replace("/api=8000", "api"), "must be PATH=PORT"),
        ):
            self.assertIn(said, str(self.assertRaises(ConfigurationError, reader.parseAgent, text, "agent.toml")))


class AgentCommandTests(SynchronousTestCase):
    """
    C{tunnel-agent jetty}.
    """

    def settings(self, *words: str, **environ: str) -> Any:
        options = makeOptions("jetty", environ)
        options.parseOptions(list(words))
        return options.config.dialects["jetty"]["jetty"][0]

    def test_optionsAreSettings(self) -> None:
        edge = ("--edge", "https://t.example", "--token-file", "t")
        self.assertEqual(self.settings("3000", *edge), AgentSettings(url="https://t.example", tokenFile="t", target="3000"))
        self.assertEqual(
            self.settings(
                "app.test:80", *edge, "--name", "demo", "--protocol", "tcp", "--transport", "grpc", "--route", "/a=1,/b=c:2",
                "--server", "web", "--no-resume", "--delete-on-exit", "--health-path", "/up", "--no-health-check",
                "--rewrite-body", "--samples", "--insecure",
            ),
            AgentSettings(
                url="https://t.example", tokenFile="t", target="app.test:80", subdomain="demo", protocol="tcp",
                transport="grpc", routes=("/a=1", "/b=c:2"), server="web", resume=False, deleteOnExit=True, healthPath="/up",
                healthCheck=False, rewriteBody=True, samples=True, insecure=True,
            ),
        )

    def test_theEnvironmentIsUsed(self) -> None:
        found = self.settings("1", TUNNELSTACK_EDGE="https://t.example", TUNNELSTACK_TOKEN_FILE="t", TUNNELSTACK_NAME="demo")
        self.assertEqual((found.url, found.tokenFile, found.subdomain), ("https://t.example", "t", "demo"))

    def test_whatIsMissingIsNamed(self) -> None:
        for words, said in (
            ((), "takes one target"), (("1", "2"), "takes one target"), (("1",), "needs --edge, --token-file"),
            (("1", "--edge", "https://t.example"), "needs --token-file"),
        ):
            error = self.assertRaises((usage.UsageError, ConfigurationError), self.settings, *words)  # type: ignore[arg-type]
            self.assertIn(said, str(error))


class TunnelsTests(SynchronousTestCase):
    """
    C{tunnelstack jetty}.
    """

    def parse(self, *words: str, **options: str) -> Request:
        return Tunnels().parse({"owner": None, "protocol": None, **options}, words)

    def test_theVerbsAreParsed(self) -> None:
        self.assertEqual(self.parse(), Request())
        self.assertEqual(self.parse("add", "shop", owner="laptop", protocol="tcp"), Request("add", "shop", "laptop", "tcp"))
        self.assertEqual(self.parse("remove", "shop"), Request("remove", "shop"))
        for words in (("ad",), ("add",), ("list", "x"), ("remove", "a", "b")):
            self.assertRaises(usage.UsageError, self.parse, *words)
        self.assertIn("did you mean add", str(self.assertRaises(usage.UsageError, self.parse, "ad")))

    def test_tunnelsAreListed(self) -> None:
        tunnel = {
            "name": "demo", "owner": "laptop", "target": "localhost:3000", "agents": 2, "transports": ["grpc", "websocket"],
            "url": "https://demo.t.example", "id": "01J",
        }
        _, table = Tunnels().run(Request(), lambda method, path: {"tunnels": [tunnel, {**tunnel, "agents": 0, "target": ""}]})
        lines = formatTable(*table).splitlines()
        self.assertEqual(lines[0].split(), ["TUNNEL", "OWNER", "TARGET", "AGENTS", "URL", "ID"])
        self.assertIn("2 by grpc, websocket", lines[1])
        self.assertEqual(lines[2].split(), ["demo", "laptop", "-", "-", "https://demo.t.example", "01J"])
