"""
One stream from this process to another agent, for the commands that have standard input and output at its near end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.control.config.sources import Sources
from tunnelstack.control.options import BaseOptions, parseSeconds
from tunnelstack.control.process.exit_status import (
    INTERNAL_ERROR,
    STOPPED,
    CommandLineError,
    CredentialRefused,
    FatalError,
    GaveUp,
    WrongProtocol,
    exitCode,
)
from tunnelstack.control.process.log_writer import finishAll, standardWriters
from tunnelstack.control.process.reactor import runningReactor
from tunnelstack.control.process.status_log import oneLine
from tunnelstack.errors import Refused, TunnelError
from tunnelstack.interfaces import IReactor
from tunnelstack.stream.errors import StreamResetError
from tunnelstack.transport.error_text import errorText
from tunnelstack.wire.printable_text import LINE, printable, printable_lines

EDGE_HELP = """\
      --dev                                                           use the edge started on this machine with --dev
  -e, --edge URL               TUNNELSTACK_EDGE          --dev        http(s)://host[:port]
      --token-file FILE        TUNNELSTACK_TOKEN_FILE                 a file with the token (or set TUNNELSTACK_TOKEN)
      --insecure                                                      send the token to another machine over plain http:
      --ca-file FILE           TUNNELSTACK_CA_FILE       system's     PEM file: the only authorities to trust
  -c, --config FILE            TUNNELSTACK_CONFIG                     the configuration file of an agent
      --give-up-after SECONDS                            30           exit with code 69 after SECONDS without a session
      --version, --help

Exit codes: 0 ended, 64 usage, 69 not reached, 76 not an edge or unknown purpose, 77 not allowed, 78 configuration.
"""

REFUSALS: Mapping[str, type[TunnelError]] = {
    "not-allowed": CredentialRefused, "unsupported": WrongProtocol, "malformed": CommandLineError,
}
"""For codes of L{Refused}, the errors with which the process ends; L{GaveUp} for all others."""

NO_SERVER = "its agent cannot connect to the server, or does not allow it"
"""Why a stream is reset before it has begun: an agent does not tell."""

GIVE_UP_SECONDS = 30.0
"""How long to try to reach the edge, unless the command line has another time."""


class EdgeOptions(BaseOptions):
    """
    The options that name an edge and a credential, read into C{config}.
    """

    takesText = True
    optFlags = [
        ["dev", None, "use the edge started on this machine with --dev"],
        ["insecure", None, "send the token to another machine over plain http:"],
    ]
    optParameters = [
        ["edge", "e", "", "URL of the edge"],
        ["token-file", None, "", "a file that holds the token"],
        ["ca-file", None, "", "a PEM file with the only authorities that are trusted for the edge"],
        ["config", "c", "", "the configuration file of an agent"],
        ["give-up-after", None, str(GIVE_UP_SECONDS), "exit with code 69 after so many seconds without a session"],
    ]

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._environ = os.environ if environ is None else environ

    def postOptions(self) -> None:
        """
        Find the edge.
        """
        sources = Sources(self._environ)
        agent = AgentConfig() if self["dev"] and not self["config"] else sources.readAgentFile(self["config"])
        self.config = AgentConfig(
            edges=sources.edges(
                self["edge"], self["token-file"], caFile=self["ca-file"], dev=bool(self["dev"]),
                insecure=bool(self["insecure"]), agent=agent,
            ),
            giveUpAfterSeconds=parseSeconds(self["give-up-after"], "--give-up-after"), drainSeconds=1.0,
        )


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


class OutgoingStream:
    """
    Starts an agent, opens one stream through it, and stops the reactor when the stream has ended.

    @ivar code: the exit code.
    """

    def __init__(
        self, reactor: IReactor, config: AgentConfig, name: str, purpose: str, write: Callable[[str], object]
    ) -> None:
        """
        @param name: of the service or agent.
        @param purpose: as of L{IEdge.reach<tunnelstack.interfaces.IEdge.reach>}.
        @param write: writes text to standard error.
        """
        self.code = STOPPED
        self._name = name
        self._purpose = purpose
        self._write = write
        self._reactor = reactor
        self._stopping = False
        self._agent = AgentService(reactor, config, plugins=False)

    def open(self, far: IProtocolFactory, opened: Callable[[], object]) -> None:
        """
        Start the agent, and dial.

        @param far: builds the protocol of the stream.
        @param opened: called when there is a stream.
        """
        self._agent.startService()
        self._agent.whenFailed().addCallback(self._fail)
        dialled = self._agent.dial(self._name, self._purpose).connect(far)
        joined = dialled.addCallbacks(lambda _: opened(), self._refused)
        joined.addErrback(self._unexpectedError)

    def _refused(self, failure: Failure) -> None:
        """
        There is no stream.
        """
        failure.trap(TunnelError)
        error = failure.value
        kind = REFUSALS.get(error.code) if isinstance(error, Refused) else None
        if kind is not None:
            error = kind(str(error))
        elif not isinstance(error, FatalError):
            error = GaveUp(f"{self._name} cannot be reached: {error}")
        self._fail(error)

    def ended(self, reason: Failure, begun: bool = True) -> None:
        """
        The stream is over: stop.

        @param begun: the other end has sent something.
        """
        if reason.check(ConnectionDone):
            self.stop(STOPPED)
        elif not reason.check(StreamResetError):
            self._fail(GaveUp(f"the connection to {self._name} was lost: {errorText(reason)}"))
        elif begun:
            self._fail(GaveUp(f"{self._name} reset the connection"))
        else:
            self._fail(GaveUp(f"{self._name} cannot be reached: {NO_SERVER}"))

    def _fail(self, error: BaseException) -> None:
        if not self._stopping:
            self._write(f"tunnelstack: {printable(str(error), LINE)}\n")
            self.stop(exitCode(error))

    def _unexpectedError(self, failure: Failure) -> None:
        self._write(printable_lines(failure.getTraceback()) + "\n")
        self.stop(INTERNAL_ERROR)

    def stop(self, code: int) -> None:
        """
        Stop the agent, and then the reactor.
        """
        if self._stopping:
            return
        self._stopping = True
        self.code = code
        stopped = maybeDeferred(self._agent.stopService)
        stopped.addBoth(lambda _: self._reactor.stop())


def runStream(
    options: EdgeOptions, name: str, purpose: str, start: Callable[[IReactor, OutgoingStream], object]
) -> int:
    """
    Run the reactor for one stream.

    @param start: called with the reactor and the stream when the reactor runs.
    @return: the exit code.
    """
    reactor = runningReactor()
    _, err = standardWriters(None, sys.stderr, "text")       # standard output belongs to the stream
    globalLogBeginner.beginLoggingTo([WarningObserver(err.write)], redirectStandardIO=False, discardBuffer=True)
    stream = OutgoingStream(reactor, options.config, name, purpose, err.write)
    reactor.callWhenRunning(start, reactor, stream)
    reactor.run()
    finishAll()
    return stream.code
