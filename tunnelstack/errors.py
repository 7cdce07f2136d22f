"""
The exceptions of tunnelstack, by whose fault they are.

L{PeerError} is the peer's, L{UsageError} is the caller's, L{Unavailable} is the world's.  Code asks the class (and, for a
peer's error, its C{code}); nobody reads a message to know an error.  This module imports nothing, so that the pure floor
can raise what it needs; the errors that are Twisted's as well live in L{tunnelstack.stream.errors}.
"""

from __future__ import annotations


class TunnelError(Exception):
    """
    The root of all errors of tunnelstack.

    @ivar details: what was details when it happened, by name, for logs (never a secret).
    """

    def __init__(self, message: str = "", **details: object) -> None:
        super().__init__(message)
        self.details = details

    def __str__(self) -> str:
        message = str(self.args[0]) if self.args else ""   # ConnectionLost would put its own sentence before it
        if not self.details:
            return message
        return f"{message} ({', '.join(f'{name}={value!r}' for name, value in self.details.items())})"


class PeerError(TunnelError):
    """
    The other side broke a rule of its protocol.  Whatever carried it (stream or session) ends.

    @cvar code: the wire's own number for it, or C{None} where the wire has none.
    """

    code: int | None = None


class UsageError(TunnelError):
    """
    The caller broke a rule of an interface: a defect of the program, not of the network.
    """


class Unavailable(TunnelError):
    """
    What was asked for is not to be had now; it may be later.
    """


class ConfigurationError(TunnelError):
    """
    What an operator wrote cannot be used.  The message is one sentence that names the mistake and the remedy.
    """


class Refused(Unavailable):
    """
    The other side said no, in its protocol's own way (a credential, a name or a right that was not granted).
    """


class Denied(Refused):
    """
    A name, a port or a right that was asked for and not granted.

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
