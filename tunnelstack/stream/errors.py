"""
Why a stream or a session came to its end, as Twisted errors: an application that handles L{ConnectionLost} handles these.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionLost

from tunnelstack.errors import PeerError, Unavailable


class StreamResetError(PeerError, ConnectionLost):
    """
    The peer reset the stream, or a rule of the session did; what was not delivered is lost.
    """


class SessionLost(Unavailable, ConnectionLost):
    """
    The session that carried the stream is gone.
    """


class SessionClosed(SessionLost):
    """
    The session ended in good order (Go Away was said, or the carrier was closed); no further streams can be opened on it.
    """


class TooManyStreams(Unavailable):
    """
    No stream can be opened now: every slot is taken and enough others wait already.
    """


class OpenTimeout(Unavailable):
    """
    No slot to open a stream became free, or the peer did not answer, in time.
    """


class UnsupportedPurpose(Unavailable):
    """
    This tunnel's dialect has no way to carry what was asked for.
    """
