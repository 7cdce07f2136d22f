"""
What all command lines have in common, on top of Twisted's C{usage.Options}.

Options may follow arguments (C{http 3000 --name myapp}).  A credential is never an argument.  A mistake is reported in one
sentence.  C{--help} is one screen that begins with examples.
"""

from __future__ import annotations

import getopt
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import ClassVar

from twisted.python import usage

from tunnelstack.control.process.exit_status import CommandLineError
from tunnelstack.control.process.status_log import FORMATS
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.setting import Check
from tunnelstack.settings.suggestion import closest
from tunnelstack.version import VERSION
from tunnelstack.wire.printable_text import quoted

CREDENTIAL = (
    "a credential must not be an argument, because every user of this machine can read the arguments of its programs: "
    "set TUNNELSTACK_TOKEN, or name a file with --token-file"
)
LOG_FORMAT = "TUNNELSTACK_LOG_FORMAT"
TOKEN_FORM = re.compile(r"ts_[0-9A-Za-z]{4,32}_[0-9A-Za-z_-]+")


class Misconfigured(ConfigurationError, usage.UsageError):
    """
    A mistake in a file or in the environment, found while a command line is parsed.  C{twistd} reports it like a wrong option.
    """


class BaseOptions(usage.Options):
    """
    The base of all command lines.

    @cvar helpText: the text of C{--help}.
    @cvar takesText: whether the first argument can be any text, such as a name.  Otherwise C{help} stands for C{--help}.
    @ivar command: the name of the command that was given, if the program has several.
    """

    command = ""

    helpText: ClassVar[str] = ""
    takesText: ClassVar[bool] = False

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        @param options: the arguments; those of the process by default.
        @raise UsageError: the command line is wrong.
        @raise Misconfigured: the configuration that it names is wrong.
        """
        given = list(sys.argv[1:] if options is None else options)
        refuseCredentials(given)
        try:
            super().parseOptions(self._optionsFirst(given))
        except usage.UsageError:
            raise
        except ConfigurationError as mistake:
            raise Misconfigured(str(mistake)) from mistake

    def logFormat(self, environ: Mapping[str, str] | None = None) -> str:
        """
        @return: the format of the log, from C{--log-format} or the environment.
        @raise ConfigurationError: there is no such format.
        """
        environ = os.environ if environ is None else environ
        source = "--log-format" if self["log-format"] else LOG_FORMAT
        given = str(self["log-format"] or environ.get(LOG_FORMAT) or "auto")
        if given not in FORMATS:
            raise wrongValue(source, f"must be one of {', '.join(FORMATS)}, not {quoted(given)}")
        return given

    def opt_token(self, value: str) -> None:
        raise usage.UsageError(CREDENTIAL)

    def opt_help(self) -> None:
        """
        Print the options and exit.
        """
        print(self)  # noqa: T201
        raise SystemExit(0)

    opt_h = opt_help

    def opt_version(self) -> None:
        """
        Print the version and exit.
        """
        print("tunnelstack", VERSION)  # noqa: T201
        raise SystemExit(0)

    def __str__(self) -> str:
        return self.helpText.strip("\n")

    def _optionsFirst(self, given: list[str]) -> list[str]:
        """
        @return: the arguments with all options first, as C{usage.Options} expects them.
        """
        try:
            found, arguments = getopt.gnu_getopt(given, self.shortOpt, self.longOpt)
        except getopt.GetoptError as wrong:
            raise self._unknownOption(wrong) from None
        if arguments[:1] == ["help"] and not self.takesText:
            return ["--help"]
        takes = {f"--{name[:-1]}" for name in self.longOpt if name.endswith("=")}
        options = [f"{name}={value}" if name in takes else name + value for name, value in found]
        return [*options, "--", *arguments]

    def _unknownOption(self, wrong: getopt.GetoptError) -> usage.UsageError:
        """
        @return: the error, which offers the most similar option in place of an unknown one.
        """
        known = [name.rstrip("=") for name in self.longOpt if name != "token="]
        found = closest(wrong.opt, known) if len(wrong.opt) > 1 and wrong.opt not in known else ""
        return usage.UsageError(f"{wrong}; did you mean --{found}?" if found else str(wrong))


def refuseCredentials(arguments: Iterable[str]) -> None:
    """
    @raise UsageError: one of the arguments contains a token.
    """
    if any(TOKEN_FORM.search(argument) for argument in arguments):
        raise usage.UsageError(CREDENTIAL)


def refuseMistakes(path: str, mistakes: Iterable[str]) -> None:
    """
    @param path: the configuration file; C{""} if there is none.
    @param mistakes: a sentence for each mistake.
    @raise ConfigurationError: there is a mistake; the message has a line for each.
    """
    lines = [f"{path}: {mistake}" if path else mistake for mistake in mistakes]
    if lines:
        raise ConfigurationError("\n".join(lines))


def wrongValue(source: str, sentence: str) -> ConfigurationError:
    """
    @param source: the option (C{"--port"}) or the variable that the value comes from.
    @param sentence: what is wrong, beginning with a verb ("must be ...").
    @return: an error whose exit code depends on the source.
    """
    kind = CommandLineError if source.startswith("--") else ConfigurationError
    return kind(f"{source} {sentence}")


def checkValue(source: str, check: Check, value: object) -> None:
    """
    @param source: as in L{wrongValue}.
    @raise ConfigurationError: the check rejects the value.
    """
    try:
        check(value)
    except ConfigurationError as wrong:
        raise wrongValue(source, str(wrong)) from None


@contextmanager
def fromCommandLine(*kinds: type[ConfigurationError]) -> Iterator[None]:
    """
    For code that reads only what options and arguments have given: its errors are those of the command line.

    @param kinds: the errors; all by default.
    @raise CommandLineError: instead of them.
    """
    caught = kinds or (ConfigurationError,)
    try:
        yield
    except caught as wrong:
        raise CommandLineError(str(wrong)) from wrong


def parsePort(text: str | int, source: str) -> int:
    """
    @param source: as in L{wrongValue}.
    @raise ConfigurationError: C{text} is not a port number.
    """
    if not (str(text).isascii() and str(text).isdecimal() and int(text) <= 65_535):
        raise wrongValue(source, f"must be a port from 0 to 65535, not {quoted(str(text))}")
    return int(text)


def parseSeconds(text: str, source: str) -> float:
    """
    @param source: as in L{wrongValue}.
    @raise ConfigurationError: C{text} is not a finite number of at least 0.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not (isfinite(seconds) and seconds >= 0):
        raise wrongValue(source, f"must be a number of seconds, not {quoted(text)}")
    return seconds
