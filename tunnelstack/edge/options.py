"""
C{tunnel-edge}: the command line of the public side, for C{twistd} and for our own console script alike.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from attrs import evolve
from twisted.logger import Logger
from twisted.python import usage

from tunnelstack.control.access_log import Output, accessLog
from tunnelstack.control.auth.tokens import digestOf, identifierOf, newToken
from tunnelstack.control.config.dev_edge import readDevEdge, writeDevEdge
from tunnelstack.control.config.reader import parseEdge
from tunnelstack.control.config.records import DEV_PORT, EdgeAddress, EdgeConfig, ListenerConfig, TokenRecord
from tunnelstack.control.config.sources import CONFIG, Sources
from tunnelstack.control.log_writer import LogWriter
from tunnelstack.control.options import BaseOptions, parsePort, parseSeconds
from tunnelstack.control.process.lifecycle import ProcessLifecycle
from tunnelstack.control.process.systemd import Notifier, activatedSockets
from tunnelstack.control.twistd import TwistdLog
from tunnelstack.edge.public.admission import raiseDescriptors
from tunnelstack.edge.service import EdgeService
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.dialects import developmentTables
from tunnelstack.settings.files import readFile

HELP = """
Usage: tunnel-edge [options]

The public side of tunnels: visitors and agents come in here, on the same port.

  tunnel-edge --dev
        for this machine alone: http://NAME.localhost:8080/; your agents find it by themselves
  tunnel-edge --listen tcp:8080 --domain tunnels.example.net
        for everybody: a service NAME is at NAME.tunnels.example.net
  tunnel-edge --config /etc/tunnelstack/edge.toml
        everything from a file; "tunnelstack check FILE" reads it first

Options                  Environment             Default
      --dev                                                loopback only, with a token made and kept for you
  -p, --port N           TUNNELSTACK_PORT        8080      the port of visitors and agents
  -l, --listen ENDPOINT  TUNNELSTACK_LISTEN      tcp:8080  where to listen, such as tls:certs:port=443; repeat it
  -d, --domain NAME      TUNNELSTACK_DOMAIN      localhost services are below it
  -c, --config FILE      TUNNELSTACK_CONFIG                a TOML file
      --drain SECONDS                            30        what is under way has so long when the edge stops
      --access-log FILE                          -         a line a request; - is standard error, '' is nowhere
      --log-format FORM  TUNNELSTACK_LOG_FORMAT  auto      text, json; auto is text on a terminal
      --version, --help

A flag wins over the environment, the environment over the file, the file over the default.
TUNNELSTACK_REACTOR names the reactor, as twistd --help-reactors does, where it is not to be busypoll.
SIGTERM stops without cutting anybody off, a second one at once; SIGHUP reads the file again, and sessions stay.
Exit codes: 0 stopped, 64 usage, 70 bug, 75 port taken, 78 configuration.
"""

UNMATCHED = (
    "the number of sockets from systemd (LISTEN_FDS: {sockets}) differs from that of listeners in the configuration "
    "({listeners}): the sockets take the settings of listen, then of each [[listener]], in their order"
)

OWN_DESCRIPTORS = 2048
"""What is asked of the system beside one for each visitor: agents, ports, certificates, logs."""

DEV_ALLOW = ("http:*", "stream:*", "dial:*", "tcp:*", "udp:*", "ssh")
"""What a developer may do on his own machine."""


class Options(BaseOptions):
    """
    The command line, read into C{config}, an L{EdgeConfig}.
    """

    _log = Logger()
    helpText = HELP
    optFlags = [["dev", None, "for this machine alone"]]
    optParameters = [
        ["port", "p", None, "the port of visitors and agents"],
        ["domain", "d", None, "services are below it"],
        ["config", "c", None, "a TOML file"],
        ["drain", None, None, "seconds"],
        ["access-log", None, None, "where requests are written down"],
        ["log-format", None, None, "auto, text or json"],
    ]

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self["listen"] = []
        self._environ = os.environ if environ is None else environ
        self._activated = activatedSockets()     # once: listening closes the descriptors

    def opt_listen(self, endpoint: str) -> None:
        """
        Where to listen.
        """
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def parseArgs(self, *arguments: str) -> None:
        """
        There are none.
        """
        if arguments:
            raise usage.UsageError(f"tunnel-edge takes options only, not {arguments[0]!r}")

    def postOptions(self) -> None:
        """
        Make C{config}.
        """
        if self["port"] is not None and self["listen"]:
            raise usage.UsageError("--port and --listen say the same: use one of them")
        self.config = self.read()

    def read(self) -> EdgeConfig:
        """
        The configuration as it is now: C{SIGHUP} asks again.

        @raise ConfigurationError: it is wrong.
        """
        sources = Sources(self._environ)
        path = self["config"] or self._environ.get(CONFIG, "")
        config = parseEdge(readFile(path), path) if path else EdgeConfig()
        listen = self._listen()
        config = evolve(config, listen=listen, listeners=()) if listen else self._handedOver(config)
        domain = self["domain"] or self._environ.get("TUNNELSTACK_DOMAIN", "")
        if domain:
            config = evolve(config, domain=domain.lower().rstrip("."))
        if self["drain"] is not None:
            config = evolve(config, drainSeconds=parseSeconds(self["drain"], "drain"))
        if self["access-log"] is not None:
            config = evolve(config, accessLog=self["access-log"])
        config = evolve(config, stateDirectory=str(sources.state.folder), dev=bool(self["dev"]))
        return self._forDevelopment(config, sources) if self["dev"] else config

    def _handedOver(self, config: EdgeConfig) -> EdgeConfig:
        """
        The same with the sockets that systemd hands over, each in place of the port of one listener: those of C{listen}, then
        those of C{[[listener]]}, in the order of the file.  A file that names such sockets itself is left as it is; where it
        names no place to listen, all sockets are plain HTTP.

        @raise ConfigurationError: there are more or fewer sockets than listeners.
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
        The sockets that systemd hands over, without those that the file names for SSH or for questions to the edge.
        """
        elsewhere = (*(config.ssh.listen if config.ssh is not None else ()), config.admin.listen)
        claimed = {word for text in elsewhere if text.startswith("systemd:") for word in text.split(":")}
        return tuple(text for text in self._activated if text.rpartition(":")[2] not in claimed)

    def _listen(self) -> tuple[str, ...]:
        """
        Where to listen, as far as flags and environment say; C{()} if they do not.
        """
        if self["listen"]:
            return tuple(self["listen"])
        port = self["port"]
        if port is None and self._environ.get("TUNNELSTACK_LISTEN"):
            return tuple(self._environ["TUNNELSTACK_LISTEN"].split())
        if port is None:
            port = self._environ.get("TUNNELSTACK_PORT") or (str(DEV_PORT) if self["dev"] else None)
        if port is None:
            return ()
        chosen = parsePort(port, "port")
        return loopback(chosen) if self["dev"] else (f"tcp:{chosen}",)

    def _forDevelopment(self, config: EdgeConfig, sources: Sources) -> EdgeConfig:
        """
        The same with what dialects add for development, and with a token that this user's agents find: the one of the last
        time, so that agents may come back.
        """
        left = readDevEdge(sources.state)
        self._devToken = token = left.token if left is not None else newToken().token
        record = TokenRecord(name="dev", tokenSha256=digestOf(token), allow=DEV_ALLOW, id=identifierOf(token))
        return evolve(
            config, tokens=(*config.tokens, record), portsInterface=config.portsInterface or "127.0.0.1",
            dialects={**developmentTables(), **config.dialects},
        )

    def saveDevEdge(self, url: str) -> None:
        """
        Let this user's agents find the edge, now that it is there.
        """
        try:
            writeDevEdge(Sources(self._environ).state, EdgeAddress(url=url, token=self._devToken))
        except ConfigurationError as unwritable:
            self._log.warn("agents cannot find this edge by themselves: {reason}", reason=str(unwritable))


def loopback(port: int) -> tuple[str, ...]:
    """
    Where an edge for one machine listens: 127.0.0.1, and ::1 where the machine has it and the port is a chosen one.
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


def makeService(options: Options) -> ProcessLifecycle:
    """
    The process's service.
    """
    from twisted.internet import reactor

    log = TwistdLog(reactor, options.parent)
    return log.follow(makeLifecycle(reactor, options, None, log.access))


def makeLifecycle(reactor: Any, options: Options, out: LogWriter | None, err: Output) -> ProcessLifecycle:
    """
    An edge, and the lifecycle of the process around it.

    @param out: standard output, of which an edge has no use; its status lines are log events.
    @param err: standard error, for the access log.
    """
    raiseDescriptors(options.config.limits.visitors + OWN_DESCRIPTORS)
    edge = EdgeService(reactor, options.config)
    if options.config.dev:
        edge.whenReady().addCallback(options.saveDevEdge)
    requests = accessLog(reactor, options.config.accessLog, options.logFormat(), err, time.time)
    edge.public.site.accessLog = requests

    def reload() -> Any:
        if requests is not None:              # logs are moved away, whether or not the file is in order
            requests.reopen()
        return edge.reload(options.read())

    lifecycle = ProcessLifecycle(reactor, edge, reload=reload, report=edge.report, notifier=Notifier(os.environ))
    if requests is not None:
        reactor.addSystemEventTrigger("after", "shutdown", requests.flush)
    edge.admin.reload = lifecycle.reload
    edge.admin.stop = lifecycle.stop
    return lifecycle
