"""
The dialect of C{docs/tutorial/add-a-dialect.md}: found as a plugin, in both roles, in whole programs.
"""

from __future__ import annotations

import os

from tests.system.stage import ROOT, Stage

EXAMPLES = ROOT / "docs" / "examples"
FILES = [
    *(EXAMPLES / "porter" / f"{name}.py" for name in ("settings", "edge", "agent")),
    EXAMPLES / "twisted" / "plugins" / "porter_dialect.py",
]
"""What a dialect needs in both roles; its subcommand is a comfort."""


class PorterTests(Stage):
    """
    An edge and an agent that both have the plugin installed.
    """

    def setUp(self) -> None:
        super().setUp()
        self.environ["PYTHONPATH"] = os.pathsep.join([str(EXAMPLES), self.environ["PYTHONPATH"]])
        (self.home / "edge.toml").write_text("[porter]\n")
        self.token = self.program("tunnelstack", "token", "new", "desk", "--allow", "http:desk")
        self.token.ends()
        (self.home / "token").write_text(self.token.out[0])
        (self.home / "token").chmod(0o600)

    def readAgentFile(self, more: str = "") -> str:
        path = self.home / "agent.toml"
        path.write_text(
            f'[[porter]]\nurl = "http://localhost:{self.port}"\ntoken_file = "{self.home}/token"\n'
            f'target = "{self.origin()}"\n{more}'
        )
        return str(path)

    def test_aVisitorReachesTheServerBehindTheAgent(self) -> None:
        self.startEdge("--config", "edge.toml")
        agent = self.program("tunnel-agent", "--config", self.readAgentFile(), "start")
        agent.hears(r"^session +up +edge=localhost:\d+ dialect=porter rtt=")
        self.assertEqual(self.sees("desk", path="/page").body, b"GET /page\n")

    def test_aWrongTokenEndsTheAgent(self) -> None:
        self.startEdge("--config", "edge.toml")
        (self.home / "token").write_text("nonsense")
        agent = self.program("tunnel-agent", "--config", self.readAgentFile(), "start")
        self.assertEqual(agent.ends(), 77)

    def test_itsSubcommandNeedsNoConfigurationFile(self) -> None:
        self.startEdge("--config", "edge.toml")
        agent = self.program(
            "tunnel-agent", "porter", str(self.origin()), "--edge", f"http://localhost:{self.port}", "--token-file", "token",
        )
        agent.hears(r"^session +up +edge=localhost:\d+ dialect=porter rtt=")
        self.assertEqual(self.sees("desk", path="/page").body, b"GET /page\n")

    def test_helpNamesItsSubcommand(self) -> None:
        shown = self.program("tunnel-agent", "--help")
        self.assertEqual(shown.ends(), 0)
        self.assertIn("  porter TARGET        a web server, through an edge that supports porter", shown.out)

    def test_checkKnowsItsTables(self) -> None:
        self.port = 1
        check = self.program("tunnelstack", "check", self.readAgentFile('targt = "1"'))
        self.assertEqual(check.ends(), 78)
        self.assertIn("[[porter]] has no key targt; did you mean target?", check.said())

    def test_itIsShort(self) -> None:
        lines = [line for path in FILES for line in path.read_text().splitlines() if line]
        self.assertLess(len(lines), 120)
