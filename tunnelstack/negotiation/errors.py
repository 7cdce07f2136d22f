"""
Why a stream was not to be had for what it was opened for, as Twisted errors.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionLost

from tunnelstack.errors import Refused, Unavailable


class NegotiationRefused(Refused, ConnectionLost):
    """
    The peer does not support the purpose of the stream, or refused it.
    """

    def __init__(self, message: str = "", code: str = "", **details: object) -> None:
        super().__init__(message, **details)
        self.code = code


class NegotiationTimeout(Unavailable, ConnectionLost):
    """
    The peer did not answer in time (or, where the application waits for that, did not send anything in time).
    """
