"""
The command C{tunnelstack password}, which hashes the password of a visitor or of an SSH user.
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

Ask for a password, and print the entry by which USER can log in: for "users" of a [[route]] or for its "users_file";
with --ssh, for the "passwords_file" of an agent's embedded SSH server.

  tunnelstack password alice
  tunnelstack password alice >> /etc/tunnelstack/visitors
  tunnelstack password alice < password.txt

The password itself is never an argument, and is not stored.
Exit codes: 0 printed, 64 usage, 78 USER is not a valid user name.
"""


class Options(BaseOptions):
    """
    The command line.
    """

    helpText = HELP
    optFlags = [["ssh", None, "for the embedded SSH server of an agent"]]

    def parseArgs(self, *arguments: str) -> None:
        """
        Read the user name.
        """
        if len(arguments) != 1:
            raise usage.UsageError("password takes one user name; it asks for the password")
        self.user = arguments[0]


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    password = getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise usage.UsageError("an empty password is not accepted")
    print((_forSSH if options["ssh"] else hashPassword)(options.user, password))  # noqa: T201
    return STOPPED


def _forSSH(user: str, password: str) -> str:
    # Imported here because it loads Conch, which is slow.
    from tunnelstack.handler.ssh.credentials import passwordEntry

    return passwordEntry(user, password)
