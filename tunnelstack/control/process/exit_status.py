"""
Exit codes, for scripts, and the errors that end a process, each with one sentence for people.

A service never stops the reactor.  It has C{whenFailed()}, a Deferred that fires with a L{FatalError} when the service cannot
continue.  The program that has started the service decides what to do.
"""

from __future__ import annotations

from typing import ClassVar

from twisted.python import usage

from tunnelstack.errors import ConfigurationError, TunnelError

STOPPED = 0
"""The process stopped on request."""

USAGE = 64
"""The command line is wrong: an option or an argument is missing, unknown or of the wrong form."""

INTERNAL_ERROR = 70
"""A defect of tunnelstack."""

CONFIGURATION = 78
"""The configuration is wrong: a file, or a variable of the environment."""


class FatalError(TunnelError):
    """
    A service cannot continue.  The message is one sentence.

    @cvar code: the process's exit code.
    """

    code: ClassVar[int] = INTERNAL_ERROR


class GaveUp(FatalError):
    """
    The edge could not be reached within C{give_up_after_seconds}.
    """

    code = 69


class TemporaryFailure(FatalError):
    """
    The same may succeed later: for example, a port is in use.
    """

    code = 75


class CannotListen(FatalError):
    """
    The address on which the process is to listen cannot be used.
    """

    code = CONFIGURATION


class WrongProtocol(FatalError):
    """
    The server is not an edge, or an edge of an incompatible version.
    """

    code = 76


class CredentialRefused(FatalError):
    """
    The edge rejects the credential.
    """

    code = 77


class CommandLineError(ConfigurationError, usage.UsageError):
    """
    An option or an argument has a value that cannot be used.  A value of a file or of the environment is a plain
    L{ConfigurationError}, even if the same function finds it.
    """


def exitCode(error: BaseException) -> int:
    """
    @return: the exit code of a process that ends with this error.
    """
    if isinstance(error, FatalError):
        return error.code
    if isinstance(error, CommandLineError):
        return USAGE
    return CONFIGURATION if isinstance(error, ConfigurationError) else INTERNAL_ERROR
