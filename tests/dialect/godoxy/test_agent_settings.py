"""
The table of GoDoxy in files of agents, and its subcommand.
"""

from __future__ import annotations

from typing import Any

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.agent.options import Options
from tunnelstack.control.config.reader import parse, parseAgent
from tunnelstack.dialect.godoxy.agent_command import HELP
from tunnelstack.errors import ConfigurationError

FILES = 'ca_file = "ca.pem"\ncertificate_file = "agent.pem"\n'


class TableTests(SynchronousTestCase):
    """
    C{[[godoxy]]}.
    """

    def read(self, lines: str = "") -> Any:
        return parseAgent(f"[[godoxy]]\n{FILES}{lines}", "agent.toml").dialects["godoxy"]["godoxy"][0]

    def wrong(self, lines: str) -> str:
        return str(self.assertRaises(ConfigurationError, self.read, lines))

    def test_nothingIsGrantedByDefault(self) -> None:
        settings = self.read()
        self.assertEqual((settings.targets, settings.dockerSocket, settings.dockerMethods), ((), "", ("GET",)))
        self.assertEqual((settings.port, settings.address, settings.datagrams), (8890, "", True))

    def test_filesOfAgentsAreToldFromThoseOfEdges(self) -> None:
        agent, edge = parse(f"[[godoxy]]\n{FILES}", "a.toml"), parse("[godoxy]\n", "e.toml")
        self.assertEqual((type(agent).__name__, type(edge).__name__), ("AgentConfig", "EdgeConfig"))

    def test_mistakesAreReportedWithTheirLine(self) -> None:
        for lines, reason in (
            ('targets = ["localhost"]', "must be host:port"), ('targets = ["10.0.0.1/8:80"]', "must be an IP address or"),
            ("port = 0", "from 1 to 65535"), ('address = "lan"', "an IP address"), ('runtime = "lxc"', "docker, podman"),
            ('docker_socket = "/s"\ndocker_methods = ["get"]', "must be one of GET"), ("flow_idle_seconds = -1", "from 0"),
            ('docker_methods = ["GET", "POST"]', "docker_methods is for docker_socket"),
            (f"[[godoxy]]\n{FILES}", "the same address and port"),
        ):  # fmt: skip
            self.assertIn(reason, self.wrong(lines))
            self.assertRegex(self.wrong(lines), r"^agent\.toml:\d+: ")

    def test_certificatesAreRequired(self) -> None:
        self.assertRaises(ConfigurationError, parseAgent, '[[godoxy]]\nca_file = "ca.pem"\n', "agent.toml")


class CommandTests(SynchronousTestCase):
    """
    C{tunnel-agent godoxy}.
    """

    def read(self, *arguments: str) -> Any:
        options = Options({"TUNNELSTACK_CA_FILE": "/of/edges"})
        options.parseOptions(["godoxy", *arguments])
        return options.config.dialects["godoxy"]["godoxy"][0]

    def test_theCommandLineMakesTheSameRecord(self) -> None:
        settings = self.read(
            "--ca-file", "ca.pem", "--certificate-file", "a.pem", "-p", "9000", "--address", "::1", "--no-datagrams",
            "--docker-socket", "/s", "localhost:3000", "10.0.0.0/8:*",
        )  # fmt: skip
        self.assertEqual((settings.port, settings.address, settings.datagrams), (9000, "::1", False))
        self.assertEqual((settings.targets, settings.dockerSocket), (("localhost:3000", "10.0.0.0/8:*"), "/s"))

    def test_certificatesAreRequired(self) -> None:
        for arguments in ((), ("--ca-file", "ca.pem"), ("--certificate-file", "a.pem")):
            self.assertRaises(UsageError, self.read, *arguments)

    def test_mistakesAreUsageErrors(self) -> None:
        files = ("--ca-file", "ca.pem", "--certificate-file", "a.pem")
        for arguments in (("-p", "x"), ("-p", "70000"), ("localhost",), ("--address", "lan")):
            with self.assertRaises((UsageError, ConfigurationError)):
                self.read(*files, *arguments)

    def test_theHelpFitsATerminal(self) -> None:
        self.assertLessEqual(max(map(len, HELP.splitlines())), 120)
