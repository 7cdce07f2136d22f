"""
What ends a yamux session, and what keeps a stream from being opened.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunnelstack.errors import PeerError, Unavailable
from tunnelstack.wire.yamux.events import YamuxEvent
from tunnelstack.wire.yamux.frames import PROTOCOL_ERROR


class SessionError(PeerError):
    """
    The session cannot continue.  The Go Away for the peer is queued already where one is due.

    @ivar code: the reason as GOAWAY carries it.
    @ivar events: what happened before it in the same octets, oldest first: an owner may still deliver them.
    """

    code: int = PROTOCOL_ERROR
    events: Sequence[YamuxEvent] = ()


class UnknownFrame(SessionError):
    """
    A version or a kind of frame that yamux does not have: the session lost its place in the octets, or never spoke yamux.
    """


class ForbiddenStream(SessionError):
    """
    A frame for a stream that cannot be: number zero, or one opened under our own parity.
    """


class DuplicateStream(SessionError):
    """
    The peer opened a stream under an identifier that is in use.
    """


class WindowOverrun(SessionError):
    """
    The peer sent more than a whole window beyond its credit on one stream.
    """


class TooManyRefusals(SessionError):
    """
    The peer caused more resets than may wait for it to read them.
    """


class TruncatedFrame(SessionError):
    """
    The peer's octets ended inside a frame.
    """


class PeerFailed(SessionError):
    """
    The peer went away for a reason other than the normal one, which is in C{code}.
    """

    def __init__(self, code: int) -> None:
        super().__init__("the peer ended the session", code=code)
        self.code = code


class StreamLimitReached(Unavailable):
    """
    No stream can be opened now: too many are open, or too many await the peer's first frame.
    """


class GoneAway(Unavailable):
    """
    One side has announced the end of the session: no stream can be opened any more.
    """


class StreamsExhausted(Unavailable):
    """
    All identifiers of this session were used; a new session has new ones.
    """
