"""
Why a stream or a session ended, as Twisted errors: an application that handles C{ConnectionLost} handles these.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionLost

from tunnelstack.errors import PeerError, Unavailable


class StreamResetError(PeerError, ConnectionLost):
    """
    The peer or the session reset the stream; what was not delivered is lost.
    """


class SessionLost(Unavailable, ConnectionLost):
    """
    The session that carried the stream is gone.
    """


class SessionClosed(SessionLost):
    """
    The session was closed by Go Away or with its carrier; no further streams can be opened on it.
    """


class TooManyStreams(Unavailable):
    """
    No stream can be opened now: all are in use, and as many openings wait as may.
    """


class OpenTimeout(Unavailable):
    """
    No stream became free, or the peer did not answer, in time.
    """


class UnsupportedPurpose(Unavailable):
    """
    The dialect of this tunnel does not support the purpose.
    """
