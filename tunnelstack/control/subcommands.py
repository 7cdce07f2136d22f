"""
The subcommands that dialects add to C{tunnelstack} and to C{tunnel-agent}.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from zope.interface.interface import InterfaceClass

from tunnelstack.control.options import BaseOptions
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IAgentCommand, ICommand, ISubcommand
from tunnelstack.settings.dialects import dialectPackages

BASE = TypeVar("BASE", bound=BaseOptions)


@cache
def edgeCommands() -> Mapping[str, ICommand]:
    """
    @return: the subcommands of C{tunnelstack}, by name.
    @raise ConfigurationError: two dialects have one of the same name.
    """
    return {name: command for name, (_, command) in _subcommands(ICommand).items()}


@cache
def agentCommands() -> Mapping[str, tuple[str, IAgentCommand]]:
    """
    @return: the subcommands of C{tunnel-agent} by name, each with the name of its dialect.
    @raise ConfigurationError: two dialects have one of the same name.
    """
    return _subcommands(IAgentCommand)


def _subcommands(kind: InterfaceClass) -> dict[str, tuple[str, Any]]:
    found: dict[str, tuple[str, Any]] = {}
    for package in dialectPackages():
        module = package.module("commands")
        for command in filter(kind.providedBy, () if module is None else module.COMMANDS):
            first, _ = found.setdefault(command.name, (package.name, command))
            if first != package.name:
                raise ConfigurationError(f"the dialects {first} and {package.name} define the same subcommand {command.name}")
    return found


def optionsClass(base: type[BASE], command: ISubcommand) -> type[BASE]:
    """
    @return: C{base} with the options of a subcommand.
    """
    rows = {"optFlags": [list(row) for row in command.optFlags], "optParameters": [list(row) for row in command.optParameters]}
    return type(base.__name__, (base,), rows)


def formatSubcommands(commands: Mapping[str, ISubcommand], width: int) -> str:
    """
    @param width: columns of the usages in the text around them; the summary of a longer usage has a line of its own.
    @return: a line for each subcommand, for C{--help} of the program.
    """
    return "".join(
        f"  {command.usage:<{width}}{chr(10) + ' ' * (width + 2) if len(command.usage) > width else ''} {command.summary}\n"
        for command in commands.values()
    )
