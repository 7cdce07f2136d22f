"""
C{tunnelstack password}: what a route keeps of a visitor's password.
"""

from __future__ import annotations

import sys
from getpass import getpass

from twisted.python import usage

from tunnelstack.control.auth.passwords import hashPassword
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED

HELP = """
Usage: tunnelstack password [--ssh] USER

Asks for a password and prints the line that lets USER in: one of "users" of a [[route]], or of its "users_file"; with --ssh,
one of the "passwords_file" of an agent's embedded SSH server.

  tunnelstack password alice
  tunnelstack password alice >> /etc/tunnelstack/visitors
  tunnelstack password alice < password.txt

The password itself is never an argument, and is kept nowhere.
Exit codes: 0 printed, 64 usage, 78 such a user cannot be.
"""


class Options(BaseOptions):
    """
    The command line.
    """

    helpText = HELP
    optFlags = [["ssh", None, "for an SSH server of an agent"]]

    def parseArgs(self, *arguments: str) -> None:
        """
        The user.
        """
        if len(arguments) != 1:
            raise usage.UsageError("password takes one user, and asks for the password itself")
        self.user = arguments[0]


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    password = getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise usage.UsageError("an empty password is none")
    print((_forSSH if options["ssh"] else hashPassword)(options.user, password))  # noqa: T201
    return STOPPED


def _forSSH(user: str, password: str) -> str:
    # imported here: Conch is below it, which is slow to load
    from tunnelstack.handler.ssh.credentials import passwordEntry

    return passwordEntry(user, password)
