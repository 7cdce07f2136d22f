"""
The console scripts: C{tunnel-edge}, C{tunnel-agent} and C{tunnelstack}, each with an exit code that says why it ended.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from twisted.logger import globalLogBeginner
from twisted.python import usage

from tunnelstack.commands.dialect_command import dialectCommands
from tunnelstack.control.log_writer import LogWriter, finishAll, standardWriters
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED, USAGE, exitCode
from tunnelstack.control.process.status_log import makeObservers
from tunnelstack.errors import ConfigurationError, TunnelError
from tunnelstack.reactor import choice
from tunnelstack.wire.printable_text import LINE, printable, printable_lines

HELP = """
Usage: tunnelstack COMMAND ...

What goes with tunnel-edge and tunnel-agent.

  tunnelstack demo
        an edge, an agent and a small site behind it, at http://demo.localhost:8080/, until Ctrl-C
  tunnelstack token new laptop --allow 'http:laptop-*' --out laptop.token
        a credential that allows an agent this and nothing else
  tunnelstack status
        what the edge that runs here is doing

  demo [--port N]                    the port is DEMO_PORT, or 8080
  connect NAME [--purpose PURPOSE]   standard input and output become a stream to what is published as NAME
  status, agents, routes, streams    what a running edge is doing; --json for programs
  token new|list|revoke              the credentials of agents
  password USER                      the line that lets a visitor in with a password
{dialects}  check FILE                         every mistake of a configuration file, with its line and the nearest known key
  doctor                             what stands between this machine and the edge; a remedy for what is wrong
      --version, --help              of a command, too
"""

COMMANDS = {
    "demo": "tunnelstack.demo.command", "connect": "tunnelstack.commands.connect", "check": "tunnelstack.commands.check",
    "token": "tunnelstack.commands.token", "password": "tunnelstack.commands.password", "doctor": "tunnelstack.doctor.command",
    **dict.fromkeys(("status", "agents", "routes", "streams"), "tunnelstack.commands.admin_client"),
}  # fmt: skip
"""Where each command's C{Options} and C{main} are; loaded when it is used."""


def commands() -> dict[str, str]:
    """
    All commands, those of dialects among them, and adminAddress each one's C{Options} and C{main} are.
    """
    return {**COMMANDS, **dict.fromkeys(dialectCommands(), "tunnelstack.commands.dialect_command")}


def tunnelEdge() -> int:
    """
    C{tunnel-edge}.
    """
    return _reportErrors("tunnel-edge", lambda: _service("tunnelstack.edge.options", sys.argv[1:]))


def tunnelAgent() -> int:
    """
    C{tunnel-agent}.
    """
    return _reportErrors("tunnel-agent", lambda: _service("tunnelstack.agent.options", sys.argv[1:]))


def main() -> int:
    """
    C{tunnelstack}.
    """
    return _reportErrors("tunnelstack", lambda: _command(sys.argv[1:]))


def _service(module: str, arguments: Sequence[str]) -> int:
    optionsModule = import_module(module)
    options = optionsModule.Options()
    options.parseOptions(arguments)
    choice.install(os.environ)
    from twisted.internet import reactor

    form = options.logFormat()
    out, err = standardWriters(sys.stdout, sys.stderr, form)
    return runReactor(reactor, optionsModule.makeLifecycle(reactor, options, out, err), out, err, form)


def runReactor(reactor: Any, lifecycle: Any, out: LogWriter, err: LogWriter, form: str = "auto") -> int:
    """
    Run the reactor around a L{ProcessLifecycle<tunnelstack.control.process.lifecycle.ProcessLifecycle>}.

    @param out: standard output, for status lines.
    @param err: standard error, for the log.
    @param form: of the log, one of C{FORMATS<tunnelstack.control.process.status_log.FORMATS>}.
    @return: the exit code.
    """
    shown = makeObservers(out, err, form, getattr(lifecycle, "panel", None))
    globalLogBeginner.beginLoggingTo(shown, redirectStandardIO=False, discardBuffer=True)
    lifecycle.privilegedStartService()
    reactor.callWhenRunning(lifecycle.startService)     # not earlier: a signal that comes while it starts is to be heard
    reactor.addSystemEventTrigger("before", "shutdown", lifecycle.stopService)
    reactor.run()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)      # there is nothing left to stop, and the code is settled
    finishAll()
    code: int = lifecycle.code
    return code


class Commands(BaseOptions):
    """
    C{tunnelstack} itself: finds the command, which reads the rest.
    """

    helpText = HELP

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Only what comes before the command is read here.
        """
        usage.Options.parseOptions(self, options)

    def parseArgs(self, *arguments: str) -> None:
        """
        The command, and what is for it.
        """
        if not arguments:
            raise usage.UsageError(f"no command is given; there are {', '.join(commands())}")
        if arguments[0] not in commands():
            raise usage.UsageError(f"there is no command {arguments[0]!r}; there are {', '.join(commands())}")
        self.command, self.rest = arguments[0], arguments[1:]

    def __str__(self) -> str:
        lines = [f"  {command.usage:<34} {command.summary}\n" for command in dialectCommands().values()]
        return HELP.strip("\n").format(dialects="".join(lines))


def _command(arguments: Sequence[str]) -> int:
    found = Commands()
    found.parseOptions(arguments)
    module = import_module(commands()[found.command])
    options = module.Options()
    options.command = found.command

    def run() -> int:
        options.parseOptions(found.rest)
        code: int = module.main(options)
        return code

    return _reportErrors("tunnelstack", run, f"tunnelstack {found.command}")


def _reportErrors(program: str, run: Callable[[], int], asked: str = "") -> int:
    """
    What went wrong is one sentence and a code.

    @param asked: whose C{--help} is named when it was the command line; the program's unless given.
    """
    try:
        return run()
    except TunnelError as wrong:
        sentence, code = _formatError(wrong), exitCode(wrong)
    except usage.UsageError as wrong:
        sentence, code = _formatError(wrong), USAGE
    except KeyboardInterrupt:
        return STOPPED
    more = f"\n{asked or program} --help says how it is used." if code == USAGE else ""
    print(f"{program}: {sentence}{more}", file=sys.stderr)  # noqa: T201
    return code


def _formatError(wrong: Exception) -> str:
    """
    The message of an error.  A peer may have a part in all of them but those of files and command lines, which alone may need
    several lines.
    """
    if isinstance(wrong, (ConfigurationError, usage.UsageError)):
        return printable_lines(str(wrong))
    return printable(str(wrong), LINE)
