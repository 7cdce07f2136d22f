"""
C{tunnelstack password}: the line that stands for a user and a password in the files of routes and of SSH servers.
"""

from __future__ import annotations

import sys
from getpass import getpass

from twisted.python import usage

from tunnelstack.control.options import BaseOptions, fromCommandLine
from tunnelstack.control.process.exit_status import STOPPED
from tunnelstack.settings.password_hash import makePasswordEntry

HELP = """
Usage: tunnelstack password USER

Asks for a password and prints a line with its hash, for "users" or the "users_file" of a [[route]], or for the "passwords_file"
of an agent's embedded SSH server.

  tunnelstack password alice
  tunnelstack password alice >> /etc/tunnelstack/visitors
  tunnelstack password alice < password.txt

The password itself is never an argument and is not stored.
Exit codes: 0 printed, 64 usage.
"""


class Options(BaseOptions):
    """
    The command line.

    @ivar user: the user's name.
    """

    helpText = HELP
    takesText = True

    def parseArgs(self, *arguments: str) -> None:
        if len(arguments) != 1:
            raise usage.UsageError("password takes one argument, USER; it asks for the password itself")
        self.user = arguments[0]


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    password = getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise usage.UsageError("the password is empty")
    with fromCommandLine():
        entry = makePasswordEntry(options.user, password)
    print(entry)  # noqa: T201
    return STOPPED
