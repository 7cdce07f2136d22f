"""
The command C{tunnelstack connect}, which connects standard input and output to a stream, for scripts and for
C{ssh -o ProxyCommand}.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.stdio import StandardIO
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogBeginner
from twisted.python import usage
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.control.config.sources import Sources
from tunnelstack.control.options import BaseOptions, parseSeconds
from tunnelstack.control.process.exit_status import INTERNAL_ERROR, STOPPED, FatalError, GaveUp, exitCode
from tunnelstack.control.process.log_writer import finishAll, standardWriters
from tunnelstack.control.process.reactor import runningReactor
from tunnelstack.control.process.status_log import oneLine
from tunnelstack.errors import TunnelError
from tunnelstack.interfaces import IReactor
from tunnelstack.stream.splice import Splice
from tunnelstack.wire.printable_text import LINE, printable, printable_lines

HELP = """
Usage: tunnelstack connect NAME [options]

Connect standard input and output to a service of another agent.

  tunnelstack connect db
        the service "db"; write "agent/db" if several agents may publish one
  ssh -o ProxyCommand='tunnelstack connect %h --purpose ssh' me@laptop
        the SSH server of an agent (tunnel-agent ... ssh), or of a device
  tunnelstack connect lab.bench --purpose tcp:10.0.0.5:5432
        a host and port that a device can reach and allows

Options                        Environment               Default
      --purpose PURPOSE                                  the service  ssh, tcp:HOST:PORT, or a stream protocol of the
                                                                      agent, such as /demo/shout/1.0.0
      --dev                                                           use the edge started on this machine with --dev
  -e, --edge URL               TUNNELSTACK_EDGE          --dev        http(s)://host[:port]
      --token-file FILE        TUNNELSTACK_TOKEN_FILE                 a file with the token (or set TUNNELSTACK_TOKEN)
      --insecure                                                      send the token to another machine over plain http:
      --ca-file FILE           TUNNELSTACK_CA_FILE       system's     PEM file: the only authorities to trust
  -c, --config FILE            TUNNELSTACK_CONFIG                     the configuration file of an agent
      --give-up-after SECONDS                            30           exit with code 69 after SECONDS without a session
      --version, --help

Exit codes: 0 the stream ended, 64 usage, 69 not reached, 76 not an edge, 77 credential refused, 78 configuration.
"""

GIVE_UP_SECONDS = 30.0
"""How long to try to reach the edge, unless the command line has another time."""


class Options(BaseOptions):
    """
    The command line, read into C{config}, C{name} and C{purpose}.
    """

    helpText = HELP
    takesText = True
    optFlags = [
        ["dev", None, "use the edge started on this machine with --dev"],
        ["insecure", None, "send the token to another machine over plain http:"],
    ]
    optParameters = [
        ["purpose", None, "", "ssh, tcp:HOST:PORT, or a stream protocol's name"],
        ["edge", "e", "", "URL of the edge"],
        ["token-file", None, "", "a file that holds the token"],
        ["ca-file", None, "", "a PEM file with the only authorities that are trusted for the edge"],
        ["config", "c", "", "the configuration file of an agent"],
        ["give-up-after", None, str(GIVE_UP_SECONDS), "seconds"],
    ]

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._environ = os.environ if environ is None else environ

    def parseArgs(self, *arguments: str) -> None:
        """
        Read the name of the service.
        """
        if len(arguments) != 1:
            raise usage.UsageError("connect takes one name")
        self.name = arguments[0]

    def postOptions(self) -> None:
        """
        Check the purpose, and find the edge.
        """
        self.purpose = self["purpose"]
        if self.purpose not in ("", "ssh") and not self.purpose.startswith(("/", "tcp:")):
            raise usage.UsageError(
                "--purpose must be ssh, tcp:HOST:PORT, or the name of a stream protocol, such as /demo/shout/1.0.0, "
                f"not {self.purpose!r}"
            )
        sources = Sources(self._environ)
        agent = AgentConfig() if self["dev"] and not self["config"] else sources.readAgentFile(self["config"])
        self.config = AgentConfig(
            edges=sources.edges(
                self["edge"], self["token-file"], caFile=self["ca-file"], dev=bool(self["dev"]),
                insecure=bool(self["insecure"]), agent=agent,
            ),
            giveUpAfterSeconds=parseSeconds(self["give-up-after"], "give-up-after"), drainSeconds=1.0,
        )


class StdioTransport(StandardIO):
    """
    Standard input and output as a transport that a splice can join.
    """

    _writer: Any
    connectionLost: Any

    def childConnectionLost(self, fd: str, reason: Failure) -> None:
        """
        One direction is closed.  C{StandardIO} leaves the descriptor of the output open; without an end its reader, such as an
        SSH client, would wait until this program exits.
        """
        if fd == "write" and self._writer is not None:
            _redirectToNull(self._writer.fd)
        super().childConnectionLost(fd, reason)         # type: ignore[misc]

    def loseConnection(self) -> None:
        """
        Close after the output is flushed.  C{StandardIO} does nothing here once its writing side is closed.
        """
        if self._writer is None and not self.disconnected:
            self.connectionLost(Failure(ConnectionDone()))
        else:
            super().loseConnection()

    def abortConnection(self) -> None:
        """
        Close as well: a pipe has no reset.
        """
        self.loseConnection()


def _redirectToNull(descriptor: int) -> None:
    """
    Close what a descriptor refers to, and keep the number in use.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


@implementer(ILogObserver)
class WarningObserver:
    """
    Writes warnings and errors to standard error, because standard output belongs to the stream.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def __call__(self, event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.warn:
            self._write(f"tunnelstack: {oneLine(event)}\n")


class StreamConnection:
    """
    One stream between standard input and output and a remote service, after which the reactor stops.

    @ivar code: the exit code.
    """

    def __init__(self, reactor: IReactor, options: Options, write: Callable[[str], object]) -> None:
        """
        @param write: writes text to standard error.
        """
        self.code = STOPPED
        self._write = write
        self._reactor = reactor
        self._options = options
        self._stopping = False
        self._agent = AgentService(reactor, options.config, plugins=False)
        self._splice = Splice(reactor, self._ended)

    def start(self) -> None:
        """
        Start an agent, and dial through it.
        """
        self._agent.startService()
        self._agent.whenFailed().addCallback(self._fail)
        far = Factory.forProtocol(lambda: self._splice.far)
        far.noisy = False
        dialled = self._agent.dial(self._options.name, self._options.purpose).connect(far)
        joined = dialled.addCallbacks(lambda _: StdioTransport(self._splice.near, reactor=self._reactor), self._refused)
        joined.addErrback(self._unexpectedError)

    def _refused(self, failure: Failure) -> None:
        failure.trap(TunnelError)
        error = failure.value
        if not isinstance(error, FatalError):
            error = GaveUp(f"{self._options.name} cannot be reached: {error}")
        self._fail(error)

    def _ended(self, reason: Failure) -> None:
        if reason.check(ConnectionDone):
            self._stop(STOPPED)
        else:
            self._fail(GaveUp(f"the stream was lost: {reason.getErrorMessage()}"))

    def _fail(self, error: BaseException) -> None:
        if not self._stopping:
            self._write(f"tunnelstack: {printable(str(error), LINE)}\n")
            self._stop(exitCode(error))

    def _unexpectedError(self, failure: Failure) -> None:
        self._write(printable_lines(failure.getTraceback()) + "\n")
        self._stop(INTERNAL_ERROR)

    def _stop(self, code: int) -> None:
        if self._stopping:
            return
        self._stopping = True
        self.code = code
        stopped = maybeDeferred(self._agent.stopService)
        stopped.addBoth(lambda _: self._reactor.stop())


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    reactor = runningReactor()
    _, err = standardWriters(None, sys.stderr, "text")       # standard output belongs to the stream
    globalLogBeginner.beginLoggingTo([WarningObserver(err.write)], redirectStandardIO=False, discardBuffer=True)
    connection = StreamConnection(reactor, options, err.write)
    reactor.callWhenRunning(connection.start)
    reactor.run()
    finishAll()
    return connection.code
