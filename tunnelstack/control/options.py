"""
What all our command lines do alike, on Twisted's own C{usage.Options}.

Options may stand behind arguments (C{http 3000 --name myapp}); a credential is never an argument; a mistake is one sentence;
C{--help} is one screen that begins with examples.
"""

from __future__ import annotations

import getopt
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar

from twisted.python import usage

from tunnelstack.control.process.status_log import FORMATS
from tunnelstack.errors import ConfigurationError

CREDENTIAL = (
    "a credential is never an argument, because every user of a machine can read the arguments of its programs: "
    "set TUNNELSTACK_TOKEN, or name a file with --token-file"
)
TOKEN_FORM = re.compile(r"ts_[0-9A-Za-z]{4,32}_[0-9A-Za-z_-]+")


class Misconfigured(ConfigurationError, usage.UsageError):
    """
    A mistake of configuration, found while a command line was read: C{twistd} shows it as it shows a wrong option.
    """


class BaseOptions(usage.Options):
    """
    A command line of ours.

    @cvar screen: all that C{--help} shows.
    @ivar command: the name by which it was called, where several commands are one.
    """

    command = ""

    helpText: ClassVar[str] = ""

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        @param options: the arguments; unless given, the process's own.
        @raise UsageError: the command line is wrong.
        @raise Misconfigured: what it leads to is wrong.
        """
        given = list(sys.argv[1:] if options is None else options)
        refuseCredentials(given)
        try:
            super().parseOptions(self._optionsFirst(given))
        except usage.UsageError:
            raise
        except ConfigurationError as mistake:
            raise Misconfigured(str(mistake)) from None

    def logFormat(self, environ: Mapping[str, str] | None = None) -> str:
        """
        How the log is to be written.

        @raise UsageError: it cannot be written so.
        """
        environ = os.environ if environ is None else environ
        given = str(self["log-format"] or environ.get("TUNNELSTACK_LOG_FORMAT") or "auto")
        if given not in FORMATS:
            raise usage.UsageError(f"--log-format must be one of {', '.join(FORMATS)}, not {given!r}")
        return given

    def opt_token(self, value: str) -> None:
        """
        Refused.
        """
        raise usage.UsageError(CREDENTIAL)

    def opt_version(self) -> None:
        """
        Show the version and stop.
        """
        print("tunnelstack", version("tunnelstack"))  # noqa: T201
        raise SystemExit(0)

    def __str__(self) -> str:
        return self.helpText.strip("\n")

    def _optionsFirst(self, given: list[str]) -> list[str]:
        """
        Options first, which is how Twisted wants them.
        """
        try:
            found, arguments = getopt.gnu_getopt(given, self.shortOpt, self.longOpt)
        except getopt.GetoptError as wrong:
            raise usage.UsageError(str(wrong)) from None
        takes = {f"--{name[:-1]}" for name in self.longOpt if name.endswith("=")}
        options = [f"{name}={value}" if name in takes else name + value for name, value in found]
        return [*options, "--", *arguments]


def refuseCredentials(arguments: Iterable[str]) -> None:
    """
    @raise UsageError: a token of ours stands among them.
    """
    if any(TOKEN_FORM.search(argument) for argument in arguments):
        raise usage.UsageError(CREDENTIAL)


def parsePort(text: Any, option: str) -> int:
    """
    @raise UsageError: it is no port number.
    """
    if not (str(text).isascii() and str(text).isdecimal() and int(text) <= 65_535):
        raise usage.UsageError(f"--{option} must be a port from 0 to 65535, not {text!r}")
    return int(text)

def parseSeconds(text: str, option: str) -> float:
    """
    @raise UsageError: not a number of seconds.
    """
    try:
        return float(text)
    except ValueError:
        raise usage.UsageError(f"--{option} must be a number of seconds, not {text!r}") from None
