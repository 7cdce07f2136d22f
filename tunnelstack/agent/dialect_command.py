"""
The subcommands that dialects add to C{tunnel-agent}, and the options that they share with all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve

from tunnelstack.control.config.records import AgentConfig
from tunnelstack.control.config.shorthand import loopbackEndpoint
from tunnelstack.control.config.sources import CA_FILE, CONFIG, EDGE, TOKEN_FILE, Sources, readEdgeURL
from tunnelstack.control.options import BaseOptions, fromCommandLine, parseSeconds
from tunnelstack.control.subcommands import agentCommands, optionsClass
from tunnelstack.interfaces import IAgentCommand

GIVE_UP_AFTER, NAME = "TUNNELSTACK_GIVE_UP_AFTER", "TUNNELSTACK_NAME"

ENVIRONMENT = {"edge": EDGE, "token-file": TOKEN_FILE, "ca-file": CA_FILE, "name": NAME}
"""The variables that stand for options of dialects that the command line does not have."""

COMMON_HELP = """
      --give-up-after SECONDS  TUNNELSTACK_GIVE_UP_AFTER never        exit with code 69 after SECONDS without a session
  -c, --config FILE            TUNNELSTACK_CONFIG                     a TOML file, without its edges and services
      --access-log FILE                                  -            one line for each request; - is standard error
      --log-format FORM        TUNNELSTACK_LOG_FORMAT    auto         text or json; auto is text on a terminal
      --metrics PORT                                                  metrics for Prometheus at 127.0.0.1:PORT/metrics
      --version, --help
"""


class AgentOptions(BaseOptions):
    """
    The options of every command line of an agent.
    """

    optParameters = [
        ["give-up-after", None, None, "exit with code 69 after so many seconds without a session"],
        ["config", "c", None, "the configuration file (TOML)"],
        ["access-log", None, None, "a file with one line for each request"],
        ["log-format", None, None, "the format of the log: auto, text or json"],
        ["metrics", None, None, "the port of 127.0.0.1 at which metrics are read"],
    ]

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__()
        self._environ = environ

    @property
    def file(self) -> str:
        """
        The path of the configuration file; C{""} if there is none.
        """
        return self["config"] or self._environ.get(CONFIG, "")

    def readFile(self) -> AgentConfig:
        """
        Read the configuration file, and apply these options.

        @raise ConfigurationError: the file cannot be used.
        """
        agent = Sources(self._environ).readAgentFile(self.file) if self.file else AgentConfig()
        source = "--give-up-after" if self["give-up-after"] else GIVE_UP_AFTER
        giveUpSeconds = self["give-up-after"] or self._environ.get(GIVE_UP_AFTER)
        if giveUpSeconds:
            agent = evolve(agent, giveUpAfterSeconds=parseSeconds(giveUpSeconds, source))
        if self["metrics"]:
            agent = evolve(agent, metrics=evolve(agent.metrics, listen=loopbackEndpoint(self["metrics"])))
        return agent if self["access-log"] is None else evolve(agent, accessLog=self["access-log"])


class AgentCommandOptions(AgentOptions):
    """
    The command line of one subcommand, read into C{config}, an L{AgentConfig}.
    """

    dialect: str
    subcommand: IAgentCommand

    def __str__(self) -> str:
        return self.subcommand.helpText.strip("\n") + COMMON_HELP.rstrip("\n")

    def parseArgs(self, *arguments: str) -> None:
        """
        Keep the arguments for L{read}.
        """
        self._arguments: Sequence[str] = arguments

    def postOptions(self) -> None:
        """
        Let the subcommand read its options and arguments.
        """
        self.config = self.read()

    def read(self) -> AgentConfig:
        """
        Read the configuration; C{SIGHUP} calls this again.

        @raise ConfigurationError: the configuration cannot be used.
        """
        options = self._withEnvironment()
        with fromCommandLine():
            tables = self.subcommand.parse(options, self._arguments)
        return evolve(self.readFile(), services=(), edges=(), dialects={self.dialect: tables})

    def _withEnvironment(self) -> Mapping[str, object]:
        """
        @raise ConfigurationError: the edge is not a URL.
        """
        options = {**self}
        for name, variable in ENVIRONMENT.items():
            if name in options and options[name] is None:
                options[name] = self._environ.get(variable)
        edge = options.get("edge") or ""
        if edge:
            options["edge"] = edge = readEdgeURL(edge, "--edge" if self["edge"] else EDGE)
        if options.get("ca-file") and not (self["ca-file"] or edge.lower().startswith("https:")):
            options["ca-file"] = None           # the variable is for edges at https: only
        return options


def makeOptions(name: str, environ: Mapping[str, str]) -> AgentCommandOptions:
    """
    @return: the command line of the subcommand C{name}.
    """
    dialect, subcommand = agentCommands()[name]
    options = optionsClass(AgentCommandOptions, subcommand)(environ)
    options.dialect, options.subcommand = dialect, subcommand
    return options
