"""
Why a stream was not to be had for what it was opened for, as Twisted errors.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionLost

from tunnelstack.errors import Refused, Unavailable


class NegotiationRefused(Refused, ConnectionLost):
    """
    The peer knows nothing of what the stream was opened for, or said no to it.
    """


class NegotiationTimeout(Unavailable, ConnectionLost):
    """
    The peer did not say in time whether it agrees (or, where the application waits for that, did not speak in time).
    """
