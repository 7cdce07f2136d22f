"""
C{tunnelstack connect}: standard input and output as one end of a stream, for scripts and for C{ssh -o ProxyCommand}.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.stdio import StandardIO
from twisted.logger import ILogObserver, LogLevel, globalLogBeginner
from twisted.python import usage
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.control.config.sources import Sources
from tunnelstack.control.log_writer import finishAll, standardWriters
from tunnelstack.control.options import BaseOptions, parseSeconds
from tunnelstack.control.process.exit_status import INTERNAL_ERROR, STOPPED, FatalError, GaveUp, exitCode
from tunnelstack.control.process.status_log import oneLine
from tunnelstack.errors import TunnelError
from tunnelstack.stream.splice import Splice
from tunnelstack.wire.printable_text import LINE, printable, printable_lines

HELP = """
Usage: tunnelstack connect NAME [options]

Standard input and output become a stream to what somebody has published.

  tunnelstack connect db
        the service "db"; "agent/db" if several agents might have one
  ssh -o ProxyCommand='tunnelstack connect %h --purpose ssh' me@laptop
        the SSH server of an agent (tunnel-agent ... ssh), or of a device
  tunnelstack connect lab.bench --purpose tcp:10.0.0.5:5432
        what a device reaches there, if it allows that; or /demo/shout/1.0.0, a stream protocol that an agent serves

Options                        Environment               Default
      --purpose NAME                                     what was published
      --dev                                              the edge that was started here with --dev
  -e, --edge URL               TUNNELSTACK_EDGE          that one
      --token-file FILE        TUNNELSTACK_TOKEN_FILE    (or the token itself in TUNNELSTACK_TOKEN)
      --insecure                                         let the token go to another machine by http:
      --ca-file FILE           TUNNELSTACK_CA_FILE       the only authorities trusted for the edge, as PEM
  -c, --config FILE            TUNNELSTACK_CONFIG        an agent's file
      --give-up-after SECONDS                            30
      --version, --help

Exit codes: 0 the stream ended, 64 usage, 69 not there, 76 no edge there, 77 credential refused, 78 configuration.
"""

GIVE_UP_SECONDS = 30.0


class Options(BaseOptions):
    """
    The command line, read into C{config}, C{name} and C{purpose}.
    """

    helpText = HELP
    optFlags = [
        ["dev", None, "the edge that was started here with --dev"],
        ["insecure", None, "let the token go to another machine by http:"],
    ]
    optParameters = [
        ["purpose", None, "", "ssh, tcp:HOST:PORT, or a stream protocol's name"],
        ["edge", "e", "", "URL of the edge"],
        ["token-file", None, "", "a file that holds the token"],
        ["ca-file", None, "", "a PEM file with the only authorities that are trusted for the edge"],
        ["config", "c", "", "an agent's file"],
        ["give-up-after", None, str(GIVE_UP_SECONDS), "seconds"],
    ]

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._environ = os.environ if environ is None else environ

    def parseArgs(self, *arguments: str) -> None:
        """
        Whom to reach.
        """
        if len(arguments) != 1:
            raise usage.UsageError("connect takes one name")
        self.name = arguments[0]

    def postOptions(self) -> None:
        """
        Find the edge.
        """
        self.purpose = self["purpose"]
        if self.purpose not in ("", "ssh") and not self.purpose.startswith(("/", "tcp:")):
            raise usage.UsageError(
                f"--purpose is ssh, tcp:HOST:PORT, or a stream protocol's name such as /demo/shout/1.0.0, not {self.purpose!r}"
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

    def loseConnection(self) -> None:
        """
        Flush and close; with nothing left to flush, at once.
        """
        if self._writer is None and not self.disconnected:
            self.connectionLost(Failure(ConnectionDone()))
        else:
            super().loseConnection()

    def abortConnection(self) -> None:
        """
        There is nobody to tell but by closing.
        """
        self.loseConnection()


@implementer(ILogObserver)
class WarningObserver:
    """
    What somebody has to know of, on standard error; standard output is the stream's.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def __call__(self, event: Any) -> None:
        """
        As in C{ILogObserver}.
        """
        if event["log_level"] >= LogLevel.warn:
            self._write(f"tunnelstack: {oneLine(event)}\n")


class StreamConnection:
    """
    The one stream of this process.

    @ivar code: the exit code.
    """

    def __init__(self, reactor: Any, options: Options, write: Callable[[str], object]) -> None:
        """
        @param write: takes text for standard error.
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
        Dial.
        """
        self._agent.startService()
        self._agent.whenFailed().addCallback(self._fail)
        far = Factory.forProtocol(lambda: self._splice.far)
        far.noisy = False
        dialled: Deferred[Any] = self._agent.dial(self._options.name, self._options.purpose).connect(far)
        dialled.addCallbacks(lambda _: StdioTransport(self._splice.near, reactor=self._reactor), self._refused)
        dialled.addErrback(self._unexpectedError)

    def _refused(self, failure: Failure) -> None:
        failure.trap(TunnelError)
        error: Any = failure.value
        if not isinstance(error, FatalError):
            error = GaveUp(f"{self._options.name} cannot be reached: {error}")
        self._fail(error)

    def _ended(self, reason: Failure) -> None:
        if reason.check(ConnectionDone):
            self._stop(STOPPED)
        else:
            self._fail(GaveUp(f"the stream was cut off: {reason.getErrorMessage()}"))

    def _fail(self, error: Any) -> None:
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
    from twisted.internet import reactor as running

    reactor: Any = running
    _, err = standardWriters(None, sys.stderr, "text")       # standard output is the stream's
    globalLogBeginner.beginLoggingTo([WarningObserver(err.write)], redirectStandardIO=False, discardBuffer=True)
    connection = StreamConnection(reactor, options, err.write)
    reactor.callWhenRunning(connection.start)
    reactor.run()
    finishAll()
    return connection.code
