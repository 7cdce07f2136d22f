"""
The command line of C{tunnel-agent}, for C{twistd} and for the console script.
"""

from __future__ import annotations

import getopt
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

from attrs import evolve
from twisted.logger import Logger
from twisted.python import usage

from tunnelstack.agent.dialect_command import NAME, AgentCommandOptions, AgentOptions, makeOptions
from tunnelstack.agent.dialects import HOST_KEYS
from tunnelstack.agent.service import AgentService
from tunnelstack.agent.target import NotATarget, Target
from tunnelstack.agent.validation import agentMistakes, otherMistakes, serviceMistakes
from tunnelstack.control.access_log import Output, accessLog
from tunnelstack.control.access_record import together
from tunnelstack.control.config.records import AgentConfig, ServiceConfig
from tunnelstack.control.config.sources import Sources, Unencrypted
from tunnelstack.control.options import (
    checkValue,
    fromCommandLine,
    parsePort,
    parseSeconds,
    refuseCredentials,
    refuseMistakes,
)
from tunnelstack.control.process.lifecycle import ProcessLifecycle
from tunnelstack.control.process.log_writer import LogWriter
from tunnelstack.control.process.reactor import runningReactor
from tunnelstack.control.process.systemd import Notifier
from tunnelstack.control.subcommands import agentCommands, formatSubcommands
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IReactor
from tunnelstack.records import EMBEDDED
from tunnelstack.settings.setting import formatValue
from tunnelstack.settings.suggestion import didYouMean
from tunnelstack.settings.validators import checkLabel

if TYPE_CHECKING:
    from tunnelstack.agent.panel import Panel

HELP = """
Usage: tunnel-agent [options] http|tcp|udp|serve|ssh|start [TARGET] [options]

The private side of tunnels: publishes local servers through an edge.

  tunnel-agent --dev http 3000 --name myapp
        the web server on port 3000 of this machine, at http://myapp.localhost:8080/ (see tunnel-edge --dev)
  tunnel-agent --edge https://tunnels.example.net serve ./public --name docs
        the files of a folder, at https://docs.tunnels.example.net/
  tunnel-agent --config agent.toml start
        several services at several edges

  http TARGET          a web server, at a host name             TARGET is a port, host:port, a URL (https://host:8443),
  tcp|udp TARGET       any other server, at a port of the edge  or an endpoint string (unix:/run/app.sock).
  serve DIR            the files of a folder, as a web site
  ssh [TARGET]         an SSH server: the one on port 22 by default, or one in this process (see --authorized-keys)
  start                the services of the configuration file
{dialects}
Options                        Environment               Default
      --dev                                                           use the edge started on this machine with --dev
  -e, --edge URL               TUNNELSTACK_EDGE          --dev        http(s)://host[:port]
      --token-file FILE        TUNNELSTACK_TOKEN_FILE                 a file with the token (or set TUNNELSTACK_TOKEN)
      --ca-file FILE           TUNNELSTACK_CA_FILE       system's     PEM file: the only authorities to trust
  -n, --name NAME              TUNNELSTACK_NAME          host name    the name to publish under
      --remote-port N                                    any free     tcp, udp: the port of the edge
      --rewrite-host HOST, --rewrite-origin              unchanged    http: Host, and Origin too, for the local server
      --first-octet SECONDS                              see docs     http: time for the local server to respond
      --http2, --insecure-origin                                      http: send HTTP/2 (gRPC); accept any certificate
      --authorized-keys FILE, --passwords FILE                        ssh: run a server in this process, for these users
      --give-up-after SECONDS  TUNNELSTACK_GIVE_UP_AFTER never        exit with code 69 after SECONDS without a session
  -c, --config FILE            TUNNELSTACK_CONFIG                     a TOML file
      --access-log FILE                                  -            one line for each request; - is standard error
      --log-format FORM        TUNNELSTACK_LOG_FORMAT    auto         text or json; auto is text on a terminal
      --metrics PORT, --inspect                                       Prometheus at 127.0.0.1:PORT; inspector at :4747
      --insecure, --version, --help                                   --insecure: send the token over plain http:

Options override the environment, which overrides the file.  TUNNELSTACK_REACTOR selects another reactor than busypoll.
SIGTERM, or closing the terminal, drains and stops, a second SIGTERM stops at once; SIGHUP reads the file again.
Exit codes: 0 stopped, 64 usage, 69 gave up, 70 bug, 76 not an edge, 77 credential or service refused, 78 configuration.
"""

log = Logger()

LAST_DRAWING_SECONDS = 0.2
"""How long a stopping agent waits until the terminal has taken the previous drawing."""

FALLBACK_SIZE = (24, 80)
"""Rows and columns of a terminal that does not report them."""

SERVICES = ("http", "tcp", "udp", "serve", "ssh")
TAKES = {"start": ("no target", (0,)), "serve": ("one folder", (1,)), "ssh": ("at most one target", (0, 1))}
SSHD = "22"
"""The port of a machine's own SSH server."""


class Options(AgentOptions):
    """
    The command line, read into C{config}, an L{AgentConfig}.
    """

    optFlags = [
        ["inspect", None, "show the last requests at http://127.0.0.1:4747/"],
        ["dev", None, "use the edge started on this machine with --dev"],
        ["insecure", None, "send the token to another machine over plain http:"],
        ["insecure-origin", None, "accept any certificate of a target at https:"],
        ["http2", None, "send HTTP/2 to the local server"],
        ["rewrite-origin", None, "put the host of --rewrite-host into Origin and Referer as well"],
    ]
    optParameters = [
        ["edge", "e", None, "URL of the edge"],
        ["token-file", None, None, "a file that holds the token"],
        ["ca-file", None, None, "a PEM file with the only authorities that are trusted for the edge"],
        ["name", "n", None, "the name to publish under"],
        ["remote-port", None, None, "the port of the edge"],
        ["rewrite-host", None, None, "the Host field sent to the local server"],
        ["first-octet", None, None, "seconds within which the local server's response must begin"],
        ["authorized-keys", None, None, "a file of public keys"],
        ["passwords", None, None, "a file of names and hashed passwords"],
    ]

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__(os.environ if environ is None else environ)
        self._service: tuple[str, str] | None = None
        self._subcommand: AgentCommandOptions | None = None

    def __str__(self) -> str:
        commands = {name: command for name, (_, command) in agentCommands().items()}
        return HELP.strip("\n").format(dialects=formatSubcommands(commands, 20))

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Let the subcommand of a dialect read the whole command line, if the first argument is one.
        """
        given = list(sys.argv[1:] if options is None else options)
        refuseCredentials(given)
        name, rest = self._split(given)
        if name == "help":
            return self.parseOptions([*rest[:1], "--help"])
        if name in (*SERVICES, "start") or name not in agentCommands():
            return super().parseOptions(given)
        self.command = name
        self._subcommand = makeOptions(name, self._environ)
        self._subcommand.parseOptions(rest)
        self["log-format"] = self._subcommand["log-format"]
        self.config = self._subcommand.config

    def _split(self, given: list[str]) -> tuple[str, list[str]]:
        """
        @return: the first argument, if only known options precede it, and the command line without it.
        """
        try:
            rest = getopt.getopt(given, self.shortOpt, self.longOpt)[1]
        except getopt.GetoptError:
            return "", given
        at = len(given) - len(rest)
        return (rest[0], given[:at] + rest[1:]) if rest else ("", given)

    def parseArgs(self, *arguments: str) -> None:
        """
        Read what to publish: a kind, and for most kinds a target.
        """
        kind = arguments[0] if arguments else ""
        if kind not in (*SERVICES, "start"):
            *known, last = words = (*SERVICES, "start", *agentCommands())
            given = f"not {formatValue(kind)}{_suggestion(arguments, words)}" if kind else "but it is missing"
            raise usage.UsageError(f"the first argument must be {', '.join(known)} or {last}, {given}")
        takes, counts = TAKES.get(kind, ("one target: a port, host:port, a URL or an endpoint string", (1,)))
        if len(arguments) - 1 not in counts:
            raise usage.UsageError(f"{kind} takes {takes}")
        if kind != "start":
            self._service = kind, arguments[1] if len(arguments) > 1 else ""

    def postOptions(self) -> None:
        """
        Check the combination of options, and read C{config}.
        """
        kind = self._kind
        for option, wanted in (
            ("remote-port", ("tcp", "udp")), ("rewrite-host", ("http",)), ("first-octet", ("http",)),
            ("name", SERVICES),
            ("authorized-keys", ("ssh",)), ("passwords", ("ssh",)),
            ("insecure-origin", ("http",)), ("rewrite-origin", ("http",)), ("http2", ("http",)),
        ):  # fmt: skip
            if self[option] not in (None, 0) and kind not in wanted:
                raise usage.UsageError(f"--{option} is for {' and '.join(wanted)}, not for {kind}")
        if self["rewrite-origin"] and not self["rewrite-host"]:
            raise usage.UsageError("--rewrite-origin needs --rewrite-host HOST, the host that Origin and Referer get")
        self.config = self.read()

    @property
    def _kind(self) -> str:
        return self._service[0] if self._service else "start"

    @property
    def file(self) -> str:
        """
        The path of the configuration file; C{""} if there is none.
        """
        if self._subcommand is not None:
            return self._subcommand.file
        return "" if self["dev"] and not self["config"] else super().file

    def read(self) -> AgentConfig:
        """
        Read the configuration; C{SIGHUP} calls this again.

        @raise ConfigurationError: the configuration cannot be used.
        """
        if self._subcommand is not None:
            return self._subcommand.read()
        sources = Sources(self._environ)
        agent = self.readFile()
        if self["inspect"]:
            agent = evolve(agent, inspect=evolve(agent.inspect, enabled=True))
        services = (self._fromArguments(*self._service),) if self._service else agent.services
        if not (services or agent.dialects):
            raise ConfigurationError("nothing to publish: the configuration file has no [[service]]")
        edges = () if not services else sources.edges(
            self["edge"] or "", self["token-file"] or "", caFile=self["ca-file"] or "", dev=bool(self["dev"]),
            insecure=bool(self["insecure"]), agent=agent,
        )
        services = tuple(map(self._withKeys, services))
        return evolve(agent, services=services, edges=edges, dialects={} if self._service else agent.dialects)

    def checked(self, reactor: IReactor, config: AgentConfig) -> AgentConfig:
        """
        @param config: from L{read}.
        @return: the same.
        @raise ConfigurationError: the agent cannot be started with it; the message has a line for each mistake.
        """
        if self._service is None:
            refuseMistakes(self.file, agentMistakes(reactor, config))
            return config
        services, others = serviceMistakes(reactor, config.services, False), otherMistakes(reactor, config, False)
        with fromCommandLine() if services else nullcontext():
            refuseMistakes("", services + others)
        return config

    def agent(self, reactor: IReactor) -> AgentService:
        """
        @return: the agent of this command line.
        @raise ConfigurationError: as from L{checked}, and if the table of a dialect cannot be used.
        """
        config = self.checked(reactor, self.config)
        with nullcontext() if self._subcommand is None else fromCommandLine(NotATarget, Unencrypted):
            return AgentService(reactor, config)

    def _stateFile(self, path: str, name: str) -> str:
        """
        The path that was given, or else a file in the state folder.
        """
        return path or str(Sources(self._environ).state.path(name))

    def _withKeys(self, service: ServiceConfig) -> ServiceConfig:
        """
        Add the file of host keys to a service that has an embedded SSH server.
        """
        if service.target != EMBEDDED:
            return service
        return evolve(service, hostKeysFile=self._stateFile(service.hostKeysFile, HOST_KEYS))

    def _fromArguments(self, kind: str, target: str) -> ServiceConfig:
        keys, passwords = self["authorized-keys"] or "", self["passwords"] or ""
        if kind == "ssh":
            if target and (keys or passwords):
                raise usage.UsageError("--authorized-keys and --passwords start a server in this process: give no target")
            target = target or (EMBEDDED if keys or passwords else SSHD)
        name = self._name()
        with fromCommandLine():
            return ServiceConfig(
                name=name, kind=kind, target=target, rewriteHost=self["rewrite-host"] or "",
                firstOctetSeconds=parseSeconds(self["first-octet"] or "0", "--first-octet"),
                insecureOrigin=bool(self["insecure-origin"]), rewriteOrigin=bool(self["rewrite-origin"]),
                http2="always" if self["http2"] else "auto",
                remotePort=parsePort(self["remote-port"] or 0, "--remote-port"),
                authorizedKeysFile=keys, passwordsFile=passwords,
            )

    def _name(self) -> str:
        """
        @return: the name to publish under.
        @raise ConfigurationError: the one that is given is not a name.
        """
        for source, name in (("--name", self["name"]), (NAME, self._environ.get(NAME))):
            if name:
                checkValue(source, checkLabel, name)
                return str(name)
        return hostLabel(socket.gethostname())


def _suggestion(arguments: Sequence[str], known: Sequence[str]) -> str:
    """
    @return: the end of the sentence about an unknown first argument: what was probably meant, or C{""}.
    """
    if len(arguments) == 1:
        with suppress(ConfigurationError):
            if Target(arguments[0], "http").authority:
                return f"; did you mean http {arguments[0]}?"
    return didYouMean(arguments[0], known)


def hostLabel(host: str) -> str:
    """
    Make a service's name of a host's: C{"Anna's Laptop.local"} gives C{"anna-s-laptop"}.
    """
    return re.sub(r"[^a-z0-9]+", "-", host.partition(".")[0].lower()).strip("-")[:63].strip("-") or "agent"


def makeService(options: Options) -> ProcessLifecycle:
    """
    Make the service that C{twistd} runs.
    """
    from tunnelstack.control.process.twistd import TwistdLog, exitWith  # for twistd

    reactor = runningReactor()
    log = TwistdLog(reactor, options.parent)
    try:
        lifecycle = makeLifecycle(reactor, options, None, log.access)
    except ConfigurationError as wrong:
        exitWith("tunnel-agent", wrong)
    return log.follow(lifecycle)


def makeLifecycle(reactor: IReactor, options: Options, out: LogWriter | None, err: Output) -> ProcessLifecycle:
    """
    Make an agent, and the lifecycle of the process around it.

    @param out: standard output, for the panel if it is a terminal; C{None} under C{twistd}, which owns it.
    @param err: standard error, for the access log.
    """
    agent = options.agent(reactor)
    form, where = options.logFormat(), options.config.accessLog
    panel = _panel(reactor, agent, out) if out is not None and form == "auto" and canRedraw(out, os.environ) else None
    if panel is not None and where == "-" and err.isatty():
        where = ""                            # the panel shows the requests
    requests = accessLog(reactor, where, form, err, time.time)
    agent.observeRequests(together(None if requests is None else requests.add, None if panel is None else panel.requestDone))

    def reload() -> tuple[str, ...]:
        if requests is not None:
            requests.reopen()
        if options.file or agent.listeners:
            return agent.reload(options.checked(reactor, options.read()))
        log.info("no configuration file to read again", status="reload")
        return ()

    lifecycle = ProcessLifecycle(
        reactor, agent, reload=reload, report=agent.report, notifier=Notifier(os.environ), lines=panel,
    )
    if requests is not None:
        reactor.addSystemEventTrigger("after", "shutdown", requests.flush)
    if panel is not None:
        reactor.addSystemEventTrigger("after", "shutdown", _drawLast, panel, out)
    return lifecycle


def _drawLast(panel: Panel, out: LogWriter) -> None:
    """
    Draw the last state, unless the terminal has been stopped and takes no text.
    """
    if out.drain(LAST_DRAWING_SECONDS):
        panel.draw()


def canRedraw(out: Output, environ: Mapping[str, str]) -> bool:
    """
    @return: whether lines on this output can be redrawn in place.
    """
    return out.isatty() and environ.get("TERM", "dumb") not in ("", "dumb")


def _panel(reactor: IReactor, agent: AgentService, out: LogWriter) -> Panel:
    """
    Make the panel, which is drawn anew when the terminal has another size.
    """
    from tunnelstack.agent.panel import Panel  # for an agent on a terminal
    from tunnelstack.agent.panel_state import AgentState

    panel = Panel(
        reactor, out.write, terminalSize, colours=not os.environ.get("NO_COLOR"), pending=lambda: out.pending,
        state=AgentState(agent), encoding=out.encoding,
    )
    resized = partial(reactor.callFromThread, panel.resized)
    reactor.callWhenRunning(lambda: signal.signal(signal.SIGWINCH, lambda number, frame: resized()))
    return panel


def terminalSize() -> tuple[int, int]:
    """
    @return: rows and columns of the terminal that is standard output.
    """
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return FALLBACK_SIZE
    return size.lines or FALLBACK_SIZE[0], size.columns or FALLBACK_SIZE[1]
