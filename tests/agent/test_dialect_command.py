"""
Subcommands of C{tunnel-agent} that dialects add: which options and variables they get, and what becomes of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tunnelstack.agent import dialect_command
from tunnelstack.agent import options as agentOptions
from tunnelstack.agent.dialect_command import COMMON_HELP
from tunnelstack.control import subcommands
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IAgentCommand


@frozen
class Record:
    """
    A table of the made-up dialect.
    """

    options: Mapping[str, Any]
    arguments: Sequence[str]


@implementer(IAgentCommand)
class Ferry:
    """
    A subcommand of a made-up dialect.
    """

    name = "ferry"
    usage = "ferry PORT"
    summary = "a made-up system"
    helpText = "\nUsage: tunnel-agent ferry PORT\n"
    optFlags = [["slow", "s", "a flag"]]
    optParameters = [["edge", "e", None, "URL"], ["ca-file", None, None, "a file"], ["berth", None, "1", "a number"]]

    def parse(self, options: Mapping[str, Any], arguments: Sequence[str]) -> Mapping[str, tuple[object, ...]]:
        if not arguments:
            raise usage.UsageError("ferry takes a port")
        own = {name: options[name] for name in ("slow", "edge", "ca-file", "berth")}
        return {"boats": (Record(own, arguments),)}


class FerryTests(SynchronousTestCase):
    """
    A dialect with one subcommand.
    """

    def setUp(self) -> None:
        self.patch(agentOptions, "agentCommands", lambda: {"ferry": ("ships", Ferry())})
        self.patch(dialect_command, "agentCommands", lambda: {"ferry": ("ships", Ferry())})

    def read(self, *arguments: str, **environ: str) -> AgentConfig:
        options = agentOptions.Options(environ)
        options.parseOptions(arguments)
        self.options = options
        return options.config

    def record(self, *arguments: str, **environ: str) -> Record:
        return self.read(*arguments, **environ).dialects["ships"]["boats"][0]

    def test_itProvidesItsInterface(self) -> None:
        verifyObject(IAgentCommand, Ferry())

    def test_itsOptionsMayBeBeforeAndAfterItsArguments(self) -> None:
        record = self.record("ferry", "-s", "3000", "--edge", "http://localhost", "--berth=7", "4000")
        self.assertEqual(record.arguments, ("3000", "4000"))
        self.assertEqual(record.options, {"slow": 1, "edge": "http://localhost", "ca-file": None, "berth": "7"})

    def test_commonOptionsMayPrecedeItsName(self) -> None:
        config = self.read("--log-format", "json", "--access-log", "log", "ferry", "1", "--give-up-after", "9")
        self.assertEqual((config.accessLog, config.giveUpAfterSeconds), ("log", 9.0))
        self.assertEqual(self.options.logFormat({}), "json")

    def test_otherOptionsOfTheAgentAreUnknown(self) -> None:
        wrong = self.assertRaises(usage.UsageError, self.read, "--remote-port", "1", "ferry", "1")
        self.assertIn("--remote-port", str(wrong))

    def test_theEnvironmentStandsForOptionsThatAreMissing(self) -> None:
        environ = {"TUNNELSTACK_EDGE": "https://e.example", "TUNNELSTACK_CA_FILE": "ca.pem"}
        self.assertEqual(self.record("ferry", "1", **environ).options["ca-file"], "ca.pem")
        plain = self.record("ferry", "1", "--edge", "http://localhost", **environ)
        self.assertEqual((plain.options["edge"], plain.options["ca-file"]), ("http://localhost", None))

    def test_anEdgeThatIsNoURLIsReportedWithItsSource(self) -> None:
        for arguments, environ, named in (
            (("--edge", "ftp://e"), {}, "--edge must"), ((), {"TUNNELSTACK_EDGE": "ftp://e"}, "TUNNELSTACK_EDGE must"),
        ):  # fmt: skip
            wrong = self.assertRaises(ConfigurationError, self.read, "ferry", "1", *arguments, **environ)
            self.assertIn(named, str(wrong))

    def test_ofTheFileOnlyTheGeneralTablesAreUsed(self) -> None:
        path = Path(self.mktemp())
        more = '[[edge]]\nurl = "http://localhost"\n[[service]]\nname = "a"\ntarget = "1"\n'
        path.write_text("[agent]\ndrain_seconds = 3\n" + more)
        config = self.read("--config", str(path), "ferry", "1")
        self.assertEqual((config.drainSeconds, config.edges, config.services), (3.0, (), ()))
        self.assertEqual((self.options.file, list(config.dialects)), (str(path), ["ships"]))
        path.write_text("[agent]\ndrain_seconds = 4\n")
        self.assertEqual(self.options.read().drainSeconds, 4.0)

    def test_mistakesOfItsOwnAreReported(self) -> None:
        self.assertEqual(str(self.assertRaises(usage.UsageError, self.read, "ferry")), "ferry takes a port")

    def test_aCredentialIsNeverAnArgument(self) -> None:
        self.assertRaises(usage.UsageError, self.read, "ferry", "ts_0123_abc")

    def test_helpEndsWithTheCommonOptions(self) -> None:
        shown = str(agentOptions.makeOptions("ferry", {}))
        self.assertEqual(shown, "Usage: tunnel-agent ferry PORT" + COMMON_HELP.rstrip("\n"))
        self.assertIn("  ferry PORT           a made-up system\n", str(agentOptions.Options({})))


class Package:
    """
    A dialect that is installed.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.COMMANDS = [Ferry()]

    def module(self, which: str) -> Any:
        return self


class ClashTests(SynchronousTestCase):
    """
    Two dialects with one name.
    """

    def test_theSameSubcommandOfTwoDialectsIsAnError(self) -> None:
        self.patch(subcommands, "dialectPackages", lambda: (Package("ships"), Package("boats")))
        wrong = self.assertRaises(ConfigurationError, subcommands.agentCommands.__wrapped__)
        self.assertEqual(str(wrong), "the dialects ships and boats define the same subcommand ferry")
