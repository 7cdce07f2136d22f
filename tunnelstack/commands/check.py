"""
The command C{tunnelstack check}, which reports every mistake in a configuration file before an edge or agent loads it.
"""

from __future__ import annotations

import sys

from twisted.python import usage

from tunnelstack.agent.target import Target
from tunnelstack.control.config.reader import parse
from tunnelstack.control.config.records import AgentConfig, EdgeConfig, ListenerConfig, Route, ServiceConfig
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import CONFIGURATION, STOPPED
from tunnelstack.control.process.reactor import runningReactor
from tunnelstack.edge.listeners import makeListener
from tunnelstack.edge.public.access_policy import usersOf
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IReactor
from tunnelstack.settings.files import readFile
from tunnelstack.transport.tls import errorText

HELP = """
Usage: tunnelstack check FILE

Report every mistake in a configuration file of an edge or an agent, with its line, its key and the nearest known key.

  tunnelstack check edge.toml
  tunnelstack check agent.toml && systemctl reload tunnel-agent
  tunnelstack check "$TUNNELSTACK_CONFIG"

Exit codes: 0 the file can be used, 64 usage, 78 it has mistakes.
"""


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
    config = parse(readFile(options.path), options.path)
    mistakes = [f"{options.path}: {mistake}" for mistake in findMistakes(reactor, config)]
    for mistake in mistakes:
        print(mistake, file=sys.stderr)  # noqa: T201
    if mistakes:
        return CONFIGURATION
    print(f"{options.path}: good, {summary(config)}")  # noqa: T201
    return STOPPED


def findMistakes(reactor: IReactor, config: EdgeConfig | AgentConfig) -> list[str]:
    """
    Check what the syntax of the file does not show: endpoints, targets and files of users.

    @return: a sentence for each mistake.
    """
    if isinstance(config, EdgeConfig):
        listeners = [*(ListenerConfig(endpoint=text) for text in config.listen), *config.listeners]
        sentences = [*(_listener(reactor, listener) for listener in listeners), *map(_users, config.routes)]
        return [sentence for sentence in sentences if sentence]
    return [sentence for service in config.services if (sentence := _target(reactor, service))]


def summary(config: EdgeConfig | AgentConfig) -> str:
    """
    Describe a configuration in a few words.
    """
    if isinstance(config, EdgeConfig):
        return f"an edge for {config.domain}; tokens: {len(config.tokens)}, routes: {len(config.routes)}"
    return f"an agent; services: {len(config.services)}, edges: {len(config.edges)}"


def _listener(reactor: IReactor, listener: ListenerConfig) -> str:
    try:
        makeListener(reactor, listener)
    except ConfigurationError as wrong:
        return f"listen: {wrong}"
    except Exception as wrong:      # parsers of endpoint strings are plugins, and may raise any exception
        return f"listen: {listener.endpoint!r} is not an endpoint to listen on: {errorText(wrong)}"
    return ""


def _users(route: Route) -> str:
    try:
        usersOf(route)
    except ConfigurationError as wrong:
        return f"route {route.host}: {wrong}"
    return ""


def _target(reactor: IReactor, service: ServiceConfig) -> str:
    try:
        if service.kind in ("http", "tcp"):
            Target(service.target).endpoint(reactor)
    except ConfigurationError as wrong:
        return f"service {service.name}: {wrong}"
    return ""
