"""
C{tunnel-edge}: the command line of the edge, for C{twistd} and for the console script.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from attrs import evolve
from twisted.logger import Logger
from twisted.python import usage

from tunnelstack.control.access_log import Output, accessLog
from tunnelstack.control.auth.tokens import digestOf, identifierOf
from tunnelstack.control.config.dev_edge import keptDevToken
from tunnelstack.control.config.records import DEV_PORT, EdgeConfig, ListenerConfig, TokenRecord
from tunnelstack.control.config.shorthand import isPort
from tunnelstack.control.config.sources import CONFIG, Sources
from tunnelstack.control.options import (
    BaseOptions,
    checkValue,
    fromCommandLine,
    parsePort,
    parseSeconds,
    refuseMistakes,
)
from tunnelstack.control.process.lifecycle import ProcessLifecycle
from tunnelstack.control.process.log_writer import LogWriter
from tunnelstack.control.process.reactor import runningReactor
from tunnelstack.control.process.systemd import Notifier, activatedSockets
from tunnelstack.edge.dev_file import DevEdgeFile
from tunnelstack.edge.public.admission import raiseDescriptors
from tunnelstack.edge.service import EdgeService
from tunnelstack.edge.validation import listenMistakes, otherMistakes
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IReactor
from tunnelstack.settings.dialects import developmentTables
from tunnelstack.settings.files import readFile
from tunnelstack.settings.setting import formatValue
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.settings.validators import checkHost

HELP = """
Usage: tunnel-edge [options]

The public side of tunnels. Visitors and agents connect to the same port.

  tunnel-edge --dev
        for development: http://NAME.localhost:8080/; agents of the same user find this edge without --edge
  tunnel-edge --listen tcp:8080 --domain tunnels.example.net
        for the public: a service NAME is at NAME.tunnels.example.net
  tunnel-edge --config /etc/tunnelstack/edge.toml
        all settings from a file; "tunnelstack check FILE" reports mistakes in it

Options                  Environment             Default
      --dev                                                listen on loopback only, with a generated token that is kept
  -p, --port N           TUNNELSTACK_PORT        8080      the port for visitors and agents
  -l, --listen ENDPOINT  TUNNELSTACK_LISTEN      8080      where to listen, such as tls:certs:port=443; may be repeated
  -d, --domain NAME      TUNNELSTACK_DOMAIN      localhost the domain whose subdomains are the services
  -c, --config FILE      TUNNELSTACK_CONFIG                a configuration file (TOML)
      --h2c                                                accept HTTP/2 without TLS, if a client begins with it
      --no-http2                                           offer HTTP/1.1 only; by default TLS offers HTTP/2 too
      --dashboard PORT                                     show agents, services and streams at http://127.0.0.1:PORT/
      --drain SECONDS                            30        the time that work under way has when the edge stops
      --access-log FILE                          -         one line for each request; - is standard error, '' is none
      --log-format FORM  TUNNELSTACK_LOG_FORMAT  auto      text, json or auto; auto is text on a terminal
      --version, --help

Options override the environment, the environment overrides the file, the file overrides the defaults.
TUNNELSTACK_REACTOR selects another reactor than busypoll; twistd --help-reactors lists their names.
SIGTERM stops the edge when work under way has finished, a second SIGTERM stops it immediately.
SIGHUP, or "tunnelstack reload", reads the configuration again; sessions stay connected.
When the terminal is closed on which it was started, the edge stops as after SIGTERM.
Exit codes: 0 stopped, 64 usage, 70 bug, 75 port in use, 78 configuration.
"""

PORT, DOMAIN = "TUNNELSTACK_PORT", "TUNNELSTACK_DOMAIN"

UNMATCHED = (
    "the number of sockets from systemd (LISTEN_FDS: {sockets}) differs from the number of listeners in the configuration "
    "({listeners}): the sockets are assigned to the endpoints of listen, then to each [[listener]], in order"
)

OWN_DESCRIPTORS = 2048
"""File descriptors needed besides one for each visitor: for agents, ports, certificates and logs."""

DEV_ALLOW = ("http:*", "stream:*", "dial:*", "terminal:*", "tcp:*", "udp:*", "ssh")
"""The rights of the development token."""


class Options(BaseOptions):
    """
    The command line, read into C{config}, an L{EdgeConfig}.

    @ivar devToken: the token that an edge with C{--dev} accepts.
    """

    _log = Logger()
    helpText = HELP
    optFlags = [
        ["dev", None, "listen on loopback only, with a generated token"],
        ["h2c", None, "accept HTTP/2 without TLS"],
        ["no-http2", None, "offer visitors HTTP/1.1 only"],
    ]
    optParameters = [
        ["port", "p", None, "the port for visitors and agents"],
        ["domain", "d", None, "the domain whose subdomains are the services"],
        ["config", "c", None, "a configuration file (TOML)"],
        ["dashboard", None, None, "the port of the dashboard, on loopback"],
        ["drain", None, None, "seconds that work in progress may take when the edge stops"],
        ["access-log", None, None, "the file of the access log"],
        ["log-format", None, None, "the format of the log: text, json or auto"],
    ]

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self["listen"] = []
        self.devToken = ""
        self._environ = os.environ if environ is None else environ
        self._activated = activatedSockets()     # once: listening closes the descriptors

    def opt_listen(self, endpoint: str) -> None:
        """
        An endpoint to listen on; may be repeated.
        """
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            raise usage.UsageError(
                f"tunnel-edge accepts options only, not {formatValue(arguments[0])}; services are published by tunnel-agent"
            )

    def postOptions(self) -> None:
        """
        Build C{config}.
        """
        if self["port"] is not None and self["listen"]:
            raise usage.UsageError("--port and --listen cannot be used together")
        self.config = self.read()

    @property
    def file(self) -> str:
        """
        The path of the configuration file; C{""} if there is none.
        """
        return self["config"] or self._environ.get(CONFIG, "")

    def read(self) -> EdgeConfig:
        """
        Read the configuration.  Called once at the start, and again at each C{SIGHUP}.

        @raise ConfigurationError: a setting is invalid.
        """
        sources = Sources(self._environ)
        config = _readFrom(self.file) if self.file else EdgeConfig()
        listen = self._listen()
        config = evolve(config, listen=listen, listeners=()) if listen else self._handedOver(config)
        domain = self._domain()
        if domain:
            config = evolve(config, domain=domain)
        if self["h2c"] and self["no-http2"]:
            raise usage.UsageError("--h2c and --no-http2 cannot be used together")
        if self["h2c"]:
            config = evolve(config, h2c=True)
        if self["no-http2"]:
            config = evolve(config, http2=False)
        if self["drain"] is not None:
            with fromCommandLine():
                config = evolve(config, drainSeconds=parseSeconds(self["drain"], "--drain"))
        if self["dashboard"] is not None:
            place = f"tcp:{parsePort(self['dashboard'], '--dashboard')}:interface=127.0.0.1"
            config = evolve(config, admin=evolve(config.admin, listen=place))
        if self["access-log"] is not None:
            config = evolve(config, accessLog=self["access-log"])
        config = evolve(config, stateDirectory=str(sources.state.folder), dev=bool(self["dev"]))
        return self._forDevelopment(config, sources) if self["dev"] else config

    def checked(self, reactor: IReactor, config: EdgeConfig) -> EdgeConfig:
        """
        @param config: from L{read}.
        @return: the same.
        @raise ConfigurationError: the edge cannot be started with it; the message has a line for each mistake.
        """
        listen, others = listenMistakes(reactor, config), otherMistakes(reactor, config)
        if listen and self["listen"]:         # they are of the command line, and not of the file
            with fromCommandLine():
                refuseMistakes("", listen)
        refuseMistakes(self.file, listen + others)
        return config

    def _handedOver(self, config: EdgeConfig) -> EdgeConfig:
        """
        The configuration with the sockets that systemd passed.  Each socket replaces the port of one listener: first the
        endpoints of C{listen}, then each C{[[listener]]}, in the order of the file.  A file that uses C{systemd:} endpoints is
        left unchanged.  If the file names no listener, all sockets serve plain HTTP.

        @raise ConfigurationError: the numbers of sockets and listeners differ.
        """
        sockets = () if self["dev"] else self._unclaimed(config)
        listeners = [*(ListenerConfig(endpoint=text) for text in config.listen), *config.listeners]
        if not sockets or any("systemd:" in listener.endpoint for listener in listeners):
            return config
        if not config.listeners and config.listen == EdgeConfig().listen:
            return evolve(config, listen=sockets)
        if len(sockets) != len(listeners):
            raise ConfigurationError(UNMATCHED.format(sockets=len(sockets), listeners=len(listeners)))
        placed = tuple(evolve(each, socket=socket) for each, socket in zip(listeners, sockets, strict=True))
        return evolve(config, listen=(), listeners=placed)

    def _unclaimed(self, config: EdgeConfig) -> tuple[str, ...]:
        """
        The sockets that systemd passed, without those that the file uses for SSH or administration.
        """
        elsewhere = (*(config.ssh.listen if config.ssh is not None else ()), config.admin.listen)
        claimed = {word for text in elsewhere if text.startswith("systemd:") for word in text.split(":")}
        return tuple(text for text in self._activated if text.rpartition(":")[2] not in claimed)

    def _listen(self) -> tuple[str, ...]:
        """
        The endpoints given by options or environment; C{()} if there are none.
        """
        if self["listen"]:
            return tuple(each for text in self["listen"] for each in self._forListening(text))
        port = self["port"]
        if port is None and self._environ.get("TUNNELSTACK_LISTEN"):
            return tuple(self._environ["TUNNELSTACK_LISTEN"].split())
        source = "--port" if port is not None else PORT
        if port is None:
            port = self._environ.get(PORT) or (str(DEV_PORT) if self["dev"] else None)
        if port is None:
            return ()
        chosen = parsePort(port, source)
        return loopback(chosen) if self["dev"] else (f"tcp:{chosen}",)

    def _domain(self) -> str:
        """
        @return: the domain given by option or environment; C{""} if there is none.
        @raise ConfigurationError: it is not a host name.
        """
        source = "--domain" if self["domain"] else DOMAIN
        domain = str(self["domain"] or self._environ.get(DOMAIN, "")).lower().rstrip(".")
        if domain:
            checkValue(source, checkHost, domain)
        return domain

    def _forListening(self, text: str) -> tuple[str, ...]:
        """
        The endpoints of one C{--listen}.  With C{--dev} a port alone is one of loopback, as with C{--port}.
        """
        return loopback(parsePort(text.lstrip(":"), "--listen")) if self["dev"] and isPort(text) else (text,)

    def _forDevelopment(self, config: EdgeConfig, sources: Sources) -> EdgeConfig:
        """
        The configuration with the development tables of dialects and a token that agents of the same user find.  The token of
        the previous run is used again, so that agents can reconnect.
        """
        self.devToken = token = self.devToken or keptDevToken(sources.state)
        record = TokenRecord(name="dev", tokenSha256=digestOf(token), allow=DEV_ALLOW, id=identifierOf(token))
        return evolve(
            config, tokens=(*config.tokens, record), portsInterface=config.portsInterface or "127.0.0.1",
            dialects={**developmentTables(), **config.dialects},
        )


def loopback(port: int) -> tuple[str, ...]:
    """
    The endpoints of a development edge: 127.0.0.1, and ::1 if the machine has IPv6 and the port is fixed.  With port 0 the
    system would choose two different ports.
    """
    both = rf"tcp:{port}:interface=127.0.0.1", rf"tcp:{port}:interface=\:\:1"
    return both if port and _hasIPv6() else both[:1]


def _hasIPv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _readFrom(path: str) -> EdgeConfig:
    """
    @raise ConfigurationError: the file cannot be read, or has mistakes.
    """
    from tunnelstack.control.config.reader import parseEdge  # most edges for development have no file

    return parseEdge(readFile(path), path)


def makeService(options: Options) -> ProcessLifecycle:
    """
    Make the service of the process, for C{twistd} and the console script.
    """
    from tunnelstack.control.process.twistd import TwistdLog, exitWith  # for twistd

    reactor = runningReactor()
    log = TwistdLog(reactor, options.parent)
    try:
        lifecycle = makeLifecycle(reactor, options, None, log.access)
    except ConfigurationError as wrong:
        exitWith("tunnel-edge", wrong)
    return log.follow(lifecycle)


def makeLifecycle(reactor: IReactor, options: Options, out: LogWriter | None, err: Output) -> ProcessLifecycle:
    """
    Make an edge, and the lifecycle of the process that runs it.

    @param out: standard output, which has nothing of an edge, because its status lines are log events; C{None} under C{twistd}.
    @param err: standard error, for the access log.
    """
    raiseDescriptors(options.config.limits.visitors + OWN_DESCRIPTORS)
    patient = options.config.dev and out is not None      # twistd may take the modules out of reach: --chroot
    edge = EdgeService(reactor, options.checked(reactor, options.config), patient=patient)
    requests = accessLog(reactor, options.config.accessLog, options.logFormat(), err, time.time)
    edge.observeRequests(None if requests is None else requests.add)

    def reload() -> tuple[str, ...]:
        if requests is not None:              # log rotation needs this even if the configuration file is invalid
            requests.reopen()
        try:
            return edge.reload(options.checked(reactor, options.read()))
        except ConfigurationError as wrong:
            edge.reloadFailed(str(wrong))
            raise

    lifecycle = ProcessLifecycle(reactor, edge, reload=reload, report=edge.report, notifier=Notifier(os.environ))
    if options.config.dev:
        state = StateDirectory(Path(options.config.stateDirectory))
        DevEdgeFile(edge, state, options.devToken).setServiceParent(lifecycle)
    if requests is not None:
        reactor.addSystemEventTrigger("after", "shutdown", requests.flush)
    edge.admin.reload = lifecycle.reload
    edge.admin.stop = lifecycle.stop
    return lifecycle
