"""
The command C{tunnelstack check}, which reports every mistake in a configuration file before an edge or agent loads it.

It goes the way of an edge or agent that starts with the file, up to the point where that would listen or dial.  It creates
files in a temporary folder only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from tempfile import TemporaryDirectory

from attrs import evolve
from twisted.python import usage

from tunnelstack.agent import options as agent
from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.reader import Mistakes, parse
from tunnelstack.control.config.records import AgentConfig, EdgeConfig
from tunnelstack.control.config.sources import EDGE, TOKEN, NotConfigured
from tunnelstack.control.options import BaseOptions, Misconfigured
from tunnelstack.control.process.exit_status import CONFIGURATION, STOPPED
from tunnelstack.control.process.reactor import runningReactor
from tunnelstack.edge import options as edge
from tunnelstack.edge.service import EdgeService
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IReactor
from tunnelstack.settings.files import readFile
from tunnelstack.settings.tables import withoutCreation
from tunnelstack.wire.printable_text import printable_lines

HELP = """
Usage: tunnelstack check FILE

Report every mistake in a configuration file of an edge or an agent: of its text with line, key and the nearest known
key, and whatever else would keep an edge or agent from starting with it here.

  tunnelstack check edge.toml
  tunnelstack check agent.toml && systemctl reload tunnel-agent
  tunnelstack check "$TUNNELSTACK_CONFIG"

The environment is used as at a start.  Ports that are in use are not detected.
Exit codes: 0 the file can be used, 64 usage, 78 it has mistakes.
"""

ASSUMED = {TOKEN: "unset"}, {TOKEN: "unset", EDGE: "https://edge.invalid"}
"""What the check assumes if the environment has no token, or no edge either."""

PREFIX = "tunnelstack-check-"
"""Of the temporary state folder."""


class Options(BaseOptions):
    """
    The command line.
    """

    helpText = HELP

    def parseArgs(self, *arguments: str) -> None:
        """
        Read the path of the file.
        """
        if len(arguments) != 1:
            raise usage.UsageError("check takes one file")
        self.path = arguments[0]


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    reactor = runningReactor()
    path = options.path
    config = parse(readFile(path), path)
    try:
        if isinstance(config, EdgeConfig):
            notes = checkEdge(reactor, path, os.environ)
        else:
            notes = checkAgent(reactor, path, os.environ)
    except Mistakes:
        raise
    except ConfigurationError as wrong:
        lines = str(wrong).splitlines()
        text = "\n".join(line if line.startswith(path) else f"{path}: {line}" for line in lines)
        print(printable_lines(text), file=sys.stderr)  # noqa: T201
        return CONFIGURATION
    for note in notes:
        print(f"{path}: {note}", file=sys.stderr)  # noqa: T201
    print(f"{path}: good, {summary(config)}")  # noqa: T201
    return STOPPED


def summary(config: EdgeConfig | AgentConfig) -> str:
    """
    Describe a configuration in a few words.
    """
    if isinstance(config, EdgeConfig):
        what, counts = f"an edge for {config.domain}", {"tokens": len(config.tokens), "routes": len(config.routes)}
    else:
        what, counts = "an agent", {"services": len(config.services), "edges": len(config.edges)}
    for tables in config.dialects.values():
        counts |= {name: len(records) for name, records in tables.items() if records}
    return f"{what}; {', '.join(f'{name}: {count}' for name, count in counts.items())}"


def checkEdge(reactor: IReactor, path: str, environ: Mapping[str, str]) -> list[str]:
    """
    Do what C{tunnel-edge --config FILE} does before it listens.

    @return: notes for people.
    @raise ConfigurationError: it would not start.
    """
    options = edge.Options(environ)
    options.parseOptions(["--config", path])
    config = options.checked(reactor, options.config)
    with TemporaryDirectory(prefix=PREFIX) as folder:
        service = EdgeService(reactor, withoutCreation(evolve(config, stateDirectory=folder), folder))
        if service.credentials is not None:
            service.credentials.configure(service.config)
    return []


def checkAgent(reactor: IReactor, path: str, environ: Mapping[str, str]) -> list[str]:
    """
    Do what C{tunnel-agent --config FILE start} does before it dials.  An edge or a token that the environment has at a start,
    but not here, is no mistake of the file.

    @return: notes for people.
    @raise ConfigurationError: it would not start.
    """
    options, missing = _agentOptions(path, environ)
    config = options.checked(reactor, options.config)
    with TemporaryDirectory(prefix=PREFIX) as folder:
        AgentService(
            reactor, withoutCreation(config, folder), plugins=False, environ={**environ, "STATE_DIRECTORY": folder}
        )
    return [f"in this environment, {missing}"] if missing else []


def _agentOptions(path: str, environ: Mapping[str, str]) -> tuple[agent.Options, str]:
    """
    @return: the command line that starts an agent with a file, and what the environment lacks for it.
    """
    missing = ""
    for more in ({}, *ASSUMED):
        options = agent.Options({**environ, **more})
        try:
            options.parseOptions(["--config", path, "start"])
            break
        except Misconfigured as wrong:
            if not isinstance(wrong.__cause__, NotConfigured) or more == ASSUMED[-1]:
                raise
            missing = missing or str(wrong)
    return options, missing
