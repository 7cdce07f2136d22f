"""
Why a process of ours ends by itself: an exit code that scripts can rely on, and one sentence for people.

A service never stops the reactor.  It has C{whenFailed()}, a Deferred that fires with an L{FatalError} once the service will
do no more, and whoever started the service decides.
"""

from __future__ import annotations

from typing import ClassVar

from tunnelstack.errors import ConfigurationError, TunnelError

STOPPED = 0
"""As asked."""

USAGE = 64
"""The command line is wrong."""

INTERNAL_ERROR = 70
"""A defect of tunnelstack."""

CONFIGURATION = 78
"""The configuration is wrong."""


class FatalError(TunnelError):
    """
    A service cannot go on.  The message is one sentence.

    @cvar code: the process's exit code.
    """

    code: ClassVar[int] = INTERNAL_ERROR


class GaveUp(FatalError):
    """
    The edge could not be reached, for as long as the agent was told to try.
    """

    code = 69


class TemporaryFailure(FatalError):
    """
    The same may succeed later: a port is taken.
    """

    code = 75


class WrongProtocol(FatalError):
    """
    What answers is no edge, or none that we understand.
    """

    code = 76


class CredentialRefused(FatalError):
    """
    The edge does not take the credential.
    """

    code = 77


def exitCode(error: BaseException) -> int:
    """
    @return: what a process that ends with this error says to its parent.
    """
    if isinstance(error, FatalError):
        return error.code
    return CONFIGURATION if isinstance(error, ConfigurationError) else INTERNAL_ERROR
