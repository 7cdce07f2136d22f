"""
The exceptions of tunnelstack, ordered by whose fault they are.

L{PeerError} is the peer's fault, L{UsageError} the caller's, L{ConfigurationError} the operator's; L{Unavailable} is no one's.
Code recognizes an error by its class and, for a peer's error, by its C{code}, never by its message.  This module imports no
other of tunnelstack and no Twisted, so that C{wire} can use it; errors that are Twisted's as well are in
L{tunnelstack.stream.errors}.
"""

from __future__ import annotations

from enum import Enum


class TunnelError(Exception):
    """
    The base of all errors of tunnelstack.

    @ivar details: the circumstances, by name, for logs; never a secret.
    """

    def __init__(self, message: str = "", **details: object) -> None:
        super().__init__(message)
        self.details = details

    def __str__(self) -> str:
        message = str(self.args[0]) if self.args else ""   # ConnectionLost would put its own sentence before it
        if not self.details:
            return message
        return f"{message} ({', '.join(f'{name}={_detailText(value)}' for name, value in self.details.items())})"


def _detailText(value: object) -> str:
    """
    @return: a detail for people, in one line: C{repr} would show them Python.
    """
    match value:
        case None:
            return "none"
        case bytes():
            text = value.decode("utf-8", "backslashreplace")
        case Enum():
            text = value.name.lower().replace("_", " ")
        case BaseException():
            text = str(value) or type(value).__name__
        case _:
            text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


class PeerError(TunnelError):
    """
    The peer broke a rule of its protocol.  The stream or session on which it happened ends.

    @cvar code: the number of the error in the protocol; C{None} if the protocol has none.
    """

    code: int | None = None


class UsageError(TunnelError):
    """
    The caller broke a rule of an interface.  This is a defect of the program.
    """


class Unavailable(TunnelError):
    """
    Something is not available now.  It may be later.
    """


class ConfigurationError(TunnelError):
    """
    A setting or an argument cannot be used.  The message is a sentence that names the mistake and the remedy.
    """


class Refused(Unavailable):
    """
    The peer refused a request, as its protocol provides: it did not accept a credential, or did not grant a name or a right.

    @ivar code: why, as a word for programs, see L{Denied}; C{""} if the protocol has none.
    """

    code: str = ""


class Denied(Refused):
    """
    A name, a port or a right was not granted.

    @ivar code: why, as a word for programs: C{"not-allowed"}, C{"taken"}, C{"port-taken"}, C{"unknown"}, C{"absent"},
        C{"unsupported"}, C{"malformed"}, C{"limit"}, C{"stopping"} or C{"expired"}.
    """

    def __init__(self, code: str, sentence: str, **details: object) -> None:
        super().__init__(sentence, **details)
        self.code = code

    @property
    def sentence(self) -> str:
        """
        The reason, for people.
        """
        return str(self.args[0])
