"""
Commands that dialects add.  Each sends requests to a running edge through its administration socket.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from tunnelstack.commands.admin_client import adminAddress, adminRequest, asJSON, formatTable
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED
from tunnelstack.interfaces import ICommand
from tunnelstack.settings.dialects import dialectPackages


@cache
def dialectCommands() -> dict[str, ICommand]:
    """
    @return: the commands of all installed dialects, by name.
    """
    modules = [package.module("commands") for package in dialectPackages()]
    return {command.name: command for module in modules if module is not None for command in module.COMMANDS}


class Options(BaseOptions):
    """
    The command line, read into C{parsed}.
    """

    optFlags = [["json", "j", "one JSON object"]]
    optParameters = [["admin", None, None, "the Unix socket, or a URL"]]

    def __str__(self) -> str:
        return str(dialectCommands()[self.command].helpText).strip("\n")

    def parseArgs(self, *arguments: str) -> None:
        """
        Let the command read its arguments.
        """
        self.parsed = dialectCommands()[self.command].parse(arguments)


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    at = adminAddress(options["admin"])

    def admin(method: str, path: str, body: Any = None) -> Any:
        return adminRequest(method, path, at, body)

    answer, output = dialectCommands()[options.command].run(options.parsed, admin)
    text = output if isinstance(output, str) else formatTable(*output)
    sys.stdout.write(asJSON(answer) if options["json"] else text)
    return STOPPED
