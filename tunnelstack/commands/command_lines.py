"""
The command lines of all programs as data, read from their option tables: for the completions of shells and for man pages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from attrs import field, frozen

from tunnelstack.agent import options as agent
from tunnelstack.agent.dialect_command import makeOptions as makeAgentOptions
from tunnelstack.commands import dialect_command
from tunnelstack.commands.main import COMMANDS, Commands
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.status_log import FORMATS
from tunnelstack.control.subcommands import agentCommands, edgeCommands
from tunnelstack.edge import options as edge
from tunnelstack.interfaces import ISubcommand

HIDDEN = frozenset(("token",))
"""Options that exist only to be refused."""

FILES = frozenset((
    "access-log", "admin", "archive", "authorized-keys", "ca-file", "config", "identifier-file", "out", "passwords",
    "token-file",
))  # fmt: skip
"""Options whose value is the path of a file."""

FOLDERS = frozenset(("dir",))
"""Options whose value is the path of a folder."""

CHOICES: Mapping[str, tuple[str, ...]] = {"log-format": tuple(FORMATS)}
"""The values of other options."""

NO_ARGUMENT, FILE, FOLDER = "", "file", "folder"

ARGUMENTS = {"check": FILE, "trace": FILE, "serve": FOLDER}
"""The commands whose arguments are paths."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "token": ("new", "list", "revoke"), "certs": ("ca", "server", "client"), "completions": ("bash", "zsh", "fish"),
}
"""The first arguments of commands, apart from those that dialects add."""

SUMMARIES = {
    "http": "publish a web server", "tcp": "publish a TCP server", "udp": "publish a UDP server",
    "serve": "publish the files of a folder", "ssh": "publish an SSH server", "start": "publish the services of a file",
    "demo": "run a demonstration on one machine", "connect": "connect standard input and output to a service",
    "terminal": "open a terminal on an agent", "status": "show the state of a running edge",
    "agents": "list the agents of a running edge", "routes": "list the public addresses of a running edge",
    "streams": "list the streams of a running edge", "samples": "list the last requests of a running edge",
    "reload": "make a running edge read its configuration again",
    "token": "manage the credentials of agents", "password": "make the entry of a user with a password",
    "certs": "make an authority and certificates", "check": "report every mistake in a configuration file",
    "requests": "list the last requests of an agent", "replay": "send a request to the local server again",
    "trace": "show where the time of a request went", "doctor": "test the connection to the edge",
    "completions": "print the completions for a shell",
}  # fmt: skip
"""What the commands and the services of agents do, in a few words."""


@frozen
class Option:
    """
    One option.

    @ivar long: the name without its hyphens.
    @ivar short: a letter, or C{""}.
    @ivar takesValue: a value follows.
    @ivar says: the description.
    """

    long: str
    short: str
    takesValue: bool
    says: str

    @property
    def spellings(self) -> tuple[str, ...]:
        """
        The ways to write it.
        """
        return (f"--{self.long}", *((f"-{self.short}",) if self.short else ()))


@frozen(kw_only=True)
class CommandLine:
    """
    The command line of a program or of one of its commands.

    @ivar name: of the program, or of the command.
    @ivar says: what it does, in a few words.
    @ivar helpText: what C{--help} prints.
    @ivar options: in alphabetical order.
    @ivar words: what the first argument can be.
    @ivar argument: what its arguments are: L{FILE}, L{FOLDER} or L{NO_ARGUMENT}.
    @ivar commands: its commands.
    """

    name: str
    says: str
    helpText: str
    options: tuple[Option, ...]
    words: tuple[str, ...] = ()
    argument: str = NO_ARGUMENT
    commands: tuple[CommandLine, ...] = field(default=())


def optionsOf(options: BaseOptions) -> tuple[Option, ...]:
    """
    @return: the options of a command line.
    """
    letters = {long: short for short, long in options.synonyms.items() if len(short) == 1}
    names = [(name.rstrip("="), name.endswith("=")) for name in options.longOpt]
    return tuple(
        Option(name, letters.get(name, ""), takesValue, _sentence(options.docs.get(name) or ""))
        for name, takesValue in sorted(set(names)) if name not in HIDDEN and options.synonyms.get(name, name) == name
    )  # fmt: skip


def _sentence(text: str) -> str:
    """
    @return: a description in one line, without a full stop at its end.
    """
    return " ".join(text.split()).rstrip(".")


def programs() -> tuple[CommandLine, ...]:
    """
    @return: all programs.
    """
    return tunnelstack(), tunnelEdge(), tunnelAgent()


def tunnelEdge() -> CommandLine:
    """
    @return: the command line of C{tunnel-edge}.
    """
    options = edge.Options({})
    return CommandLine(
        name="tunnel-edge", says="the public side of tunnels", helpText=str(options), options=optionsOf(options)
    )


def tunnelAgent() -> CommandLine:
    """
    @return: the command line of C{tunnel-agent}.  Its services have the same options as itself.
    """
    options = agent.Options({})
    own = optionsOf(options)
    services = [
        CommandLine(name=name, says=SUMMARIES[name], helpText=str(options), options=own, argument=ARGUMENTS.get(name, ""))
        for name in (*agent.SERVICES, "start")
    ]
    others = [_ofDialect(command, makeAgentOptions(name, {})) for name, (_, command) in agentCommands().items()]
    return CommandLine(
        name="tunnel-agent", says="the private side of tunnels", helpText=str(options), options=own,
        commands=(*services, *others),
    )


def tunnelstack() -> CommandLine:
    """
    @return: the command line of C{tunnelstack}.
    """
    options = Commands()
    own = [_ofCommand(name, module) for name, module in COMMANDS.items()]
    others = [_ofDialect(command, dialect_command.makeOptions(name)) for name, command in edgeCommands().items()]
    return CommandLine(
        name="tunnelstack", says="commands for operators of tunnels", helpText=str(options), options=optionsOf(options),
        commands=(*own, *others),
    )


def _ofCommand(name: str, module: str) -> CommandLine:
    makeOptions: Callable[[], BaseOptions] = import_module(module).Options
    options = makeOptions()
    return CommandLine(
        name=name, says=SUMMARIES[name], helpText=str(options), options=optionsOf(options), words=WORDS.get(name, ()),
        argument=ARGUMENTS.get(name, ""),
    )


def _ofDialect(command: ISubcommand, options: BaseOptions) -> CommandLine:
    verbs = command.usage.rpartition(" ")[2].split("|")
    words = tuple(verbs) if len(verbs) > 1 and all(verb.islower() for verb in verbs) else ()
    return CommandLine(
        name=command.name, says=command.summary, helpText=str(options), options=optionsOf(options), words=words
    )
