"""
Subcommands that dialects add to C{tunnelstack}.  Each sends requests to a running edge through its administration socket.
"""

from __future__ import annotations

import sys

from tunnelstack.commands.admin_client import adminAddress, adminRequest, asJSON, formatTable
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED
from tunnelstack.control.subcommands import edgeCommands, optionsClass
from tunnelstack.interfaces import ICommand


class EdgeCommandOptions(BaseOptions):
    """
    The command line of one subcommand, read into C{parsed}.
    """

    optFlags = [["json", "j", "print one JSON object"]]
    optParameters = [["admin", None, None, "the Unix socket, or a URL"]]

    subcommand: ICommand

    def __str__(self) -> str:
        return self.subcommand.helpText.strip("\n")

    def parseArgs(self, *arguments: str) -> None:
        """
        Let the subcommand read its options and arguments.
        """
        self.parsed = self.subcommand.parse(self, arguments)


def makeOptions(name: str) -> EdgeCommandOptions:
    """
    @return: the command line of the subcommand C{name}.
    """
    subcommand = edgeCommands()[name]
    options = optionsClass(EdgeCommandOptions, subcommand)()
    options.subcommand = subcommand
    return options


def main(options: EdgeCommandOptions) -> int:
    """
    @return: the exit code.
    """
    at = adminAddress(options["admin"])

    def admin(method: str, path: str, body: object = None) -> object:
        return adminRequest(method, path, at, body)

    answer, output = options.subcommand.run(options.parsed, admin)
    text = output if isinstance(output, str) else formatTable(*output)
    sys.stdout.write(asJSON(answer) if options["json"] else text)
    return STOPPED
