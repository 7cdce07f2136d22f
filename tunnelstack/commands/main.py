"""
The console scripts C{tunnel-edge}, C{tunnel-agent} and C{tunnelstack}.
"""

from __future__ import annotations

import gc
import getopt
import linecache
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from twisted.logger import globalLogBeginner
from twisted.python import usage

from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED, USAGE, exitCode
from tunnelstack.control.process.lifecycle import ProcessLifecycle
from tunnelstack.control.process.log_writer import LogWriter, finishAll, standardWriters
from tunnelstack.control.process.reactor import runningReactor
from tunnelstack.control.process.status_log import makeObservers
from tunnelstack.control.subcommands import edgeCommands, formatSubcommands
from tunnelstack.errors import ConfigurationError, TunnelError
from tunnelstack.interfaces import IReactor
from tunnelstack.reactor import choice
from tunnelstack.settings.setting import formatValue
from tunnelstack.settings.suggestion import didYouMean
from tunnelstack.wire.printable_text import LINE, printable, printable_lines

RUNNING = 3500, 1, 24
"""The thresholds of the garbage collector while a service runs.  Those of Python 3.11 are 700, 10 and 10.  There may be a
thousand records of requests whose lines of the access log are not written yet: they are not looked at.  The middle generation
is collected about as often as with Python's thresholds: a collection is due when a count is above its threshold.  All objects
are looked at for each 175 000 that were made and not freed, instead of 70 000; an agent has 120 at an edge."""

USUAL = gc.get_threshold()
LOADING = 2000, 10, 1000
"""The thresholds until a service runs.  Nearly all that is made until then stays, and with Python's own thresholds a fifth of
the time went to looking at it.  Higher ones than these gain little, and garbage takes more memory."""

HELP = """
Usage: tunnelstack COMMAND ...

Commands for operators of tunnel-edge and tunnel-agent.

  tunnelstack demo
        runs an edge, an agent and a small site, at http://demo.localhost:8080/, until Ctrl-C
  tunnelstack token new laptop --allow 'http:laptop-*' --out laptop.token
        makes a token with which an agent may publish these names and nothing else
  tunnelstack status
        shows what the edge on this machine is doing

  demo [--port N]                           run a demonstration on one machine; the port is DEMO_PORT, or 8080
  connect NAME [--purpose PURPOSE]          connect standard input and output to the service NAME
  terminal NAME                             open a terminal on the agent NAME
  status, agents, routes, streams, samples  show what a running edge is doing; --json for programs
  reload                                    make a running edge read its configuration again
  token new|list|revoke                     manage the credentials of agents
  password USER                             make the entry by which a visitor logs in with a password
  certs ca|server|client                    make an authority of your own, and certificates that it issues
{dialects}  check FILE                                report every mistake in a configuration file
  requests, replay ID                       list the last requests of an agent, send one again (tunnel-agent --inspect)
  trace REQUEST_ID [LOG ...]                show where the time of a request went, from access logs
  doctor                                    test the connection to the edge, and suggest remedies
  completions bash|zsh|fish                 print the completions for a shell
  help COMMAND                              show the options of a command
      --version, -h, --help                 also after a command
"""

COMMANDS = {
    "demo": "tunnelstack.demo.command", "connect": "tunnelstack.commands.connect",
    "terminal": "tunnelstack.commands.terminal", "check": "tunnelstack.commands.check",
    "token": "tunnelstack.commands.token", "password": "tunnelstack.commands.password",
    "certs": "tunnelstack.commands.certs", "doctor": "tunnelstack.doctor.command", "trace": "tunnelstack.commands.trace",
    "completions": "tunnelstack.commands.completions",
    **dict.fromkeys(("requests", "replay"), "tunnelstack.commands.inspector_client"),
    **dict.fromkeys(("status", "agents", "routes", "streams", "samples", "reload"), "tunnelstack.commands.admin_client"),
}  # fmt: skip
"""The module of each command, which has C{Options} and C{main}.  It is imported when the command is used."""


PROGRAMS = {
    "edge": "tunnel-edge", "agent": "tunnel-agent",
    **{name: f"tunnel-agent {name}" for name in ("http", "tcp", "udp", "serve", "ssh", "start")},
}  # fmt: skip
"""What is no command of C{tunnelstack} but a program of its own, or the first argument of one."""


def commands() -> list[str]:
    """
    @return: the names of all commands, those of dialects included.
    """
    return [*COMMANDS, *edgeCommands()]


def tunnelEdge() -> int:
    """
    The console script C{tunnel-edge}.

    @return: the exit code.
    """
    return _service("tunnel-edge", "tunnelstack.edge.options", sys.argv[1:])


def tunnelAgent() -> int:
    """
    The console script C{tunnel-agent}.

    @return: the exit code.
    """
    return _service("tunnel-agent", "tunnelstack.agent.options", sys.argv[1:])


def main() -> int:
    """
    The console script C{tunnelstack}.

    @return: the exit code.
    """
    return _reportErrors("tunnelstack", lambda: _command(sys.argv[1:]))


def _service(program: str, module: str, arguments: Sequence[str]) -> int:
    gc.set_threshold(*LOADING)
    try:
        return _serve(program, module, arguments)
    finally:
        gc.set_threshold(*USUAL)


def _serve(program: str, module: str, arguments: Sequence[str]) -> int:
    linecache.clearcache()      # attrs leaves the source of what it compiles there: 0.3 MiB, for tracebacks alone
    optionsModule = import_module(module)
    linecache.clearcache()      # now, so that what is made next takes its place
    options = optionsModule.Options()

    def run() -> int:
        options.parseOptions(arguments)
        choice.install(os.environ)
        reactor = runningReactor()
        form = options.logFormat()
        out, err = standardWriters(sys.stdout, sys.stderr, form)
        return runReactor(reactor, optionsModule.makeLifecycle(reactor, options, out, err), out, err, form)

    return _reportErrors(program, run, options)


def runReactor(reactor: IReactor, lifecycle: ProcessLifecycle, out: LogWriter, err: LogWriter, form: str = "auto") -> int:
    """
    Run the reactor until the service of C{lifecycle} has stopped.

    @param out: standard output, for status lines.
    @param err: standard error, for the log.
    @param form: of the log, one of C{FORMATS<tunnelstack.control.process.status_log.FORMATS>}.
    @return: the exit code.
    """
    shown = makeObservers(out, err, form, lifecycle.lines)
    globalLogBeginner.beginLoggingTo(shown, redirectStandardIO=False, discardBuffer=True)
    lifecycle.privilegedStartService()
    reactor.callWhenRunning(lifecycle.startService)     # not earlier: signals must be handled while the service starts
    reactor.callWhenRunning(_spareLoaded)
    reactor.addSystemEventTrigger("before", "shutdown", lifecycle.stopService)
    reactor.run()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)      # everything has stopped, and the exit code must not change any more
    finishAll()
    return lifecycle.code


def _spareLoaded() -> None:
    """
    Let the garbage collector look no more at what is there now, such as modules, which stays; and less often at all objects.
    While many agents connect, both together take a tenth of the processor time from an edge.
    """
    gc.freeze()
    gc.set_threshold(*RUNNING)


class Commands(BaseOptions):
    """
    The command line of C{tunnelstack} up to the name of the command, which reads the rest itself.
    """

    helpText = HELP

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read the options before the command, not those after it.
        """
        given = list(sys.argv[1:] if options is None else options)
        try:
            getopt.getopt(given, self.shortOpt, self.longOpt)
        except getopt.GetoptError as wrong:
            raise self._unknownOption(wrong) from None
        usage.Options.parseOptions(self, given)

    def parseArgs(self, *arguments: str) -> None:
        """
        Find the command, and keep its arguments.
        """
        if not arguments:
            raise usage.UsageError(f"no command given; the commands are {', '.join(commands())}")
        if arguments[0] == "help":
            arguments = (*arguments[1:2], "--help")
        if arguments[0] == "--help":
            self.opt_help()
        if arguments[0] not in commands():
            raise usage.UsageError(f"unknown command {formatValue(arguments[0])}{_suggestion(arguments[0])}")
        self.command, self.rest = arguments[0], arguments[1:]

    def __str__(self) -> str:
        return HELP.strip("\n").format(dialects=formatSubcommands(edgeCommands(), 41))


def _suggestion(word: str) -> str:
    """
    @return: the end of the sentence about an unknown command: the most similar command, also one of the other programs, or all.
    """
    if word in PROGRAMS:
        return f"; did you mean {PROGRAMS[word]}?"
    return didYouMean(word, commands()) or f"; the commands are {', '.join(commands())}"


def _command(arguments: Sequence[str]) -> int:
    found = Commands()
    found.parseOptions(arguments)
    if found.command in COMMANDS:
        module: Any = import_module(COMMANDS[found.command])
        options = module.Options()
    else:
        from tunnelstack.commands import dialect_command

        module, options = dialect_command, dialect_command.makeOptions(found.command)
    options.command = found.command

    def run() -> int:
        options.parseOptions(found.rest)
        code: int = module.main(options)
        return code

    return _reportErrors("tunnelstack", run, options)


def _reportErrors(program: str, run: Callable[[], int], options: BaseOptions | None = None) -> int:
    """
    Call a function, and print an error as one sentence.

    @param options: the command line: its command is the one whose C{--help} is named after a mistake.
    @return: the exit code.
    """
    try:
        return run()
    except TunnelError as wrong:
        sentence, code = _formatError(wrong), exitCode(wrong)
    except usage.UsageError as wrong:
        sentence, code = _formatError(wrong), USAGE
    except KeyboardInterrupt:
        return STOPPED
    command = "" if options is None else options.command
    more = f"\nSee {f'{program} {command}'.strip()} --help." if code == USAGE else ""
    print(f"{program}: {sentence}{more}", file=sys.stderr)  # noqa: T201
    return code


def _formatError(wrong: Exception) -> str:
    """
    The message of an error, made printable.  Errors of files and command lines may have several lines; all others may contain
    text of a peer, and are kept to one line.
    """
    if isinstance(wrong, (ConfigurationError, usage.UsageError)):
        return printable_lines(str(wrong))
    return printable(str(wrong), LINE)
