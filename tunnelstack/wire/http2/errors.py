"""
What ends an HTTP/2 connection, and what keeps a stream from being opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunnelstack.errors import PeerError, Unavailable
from tunnelstack.wire.http2.codes import ErrorCode

if TYPE_CHECKING:
    from tunnelstack.wire.http2.events import HTTP2Event


class HTTP2Error(PeerError):
    """
    The connection cannot go on.  The GOAWAY that tells the peer is queued already.

    @ivar code: the L{ErrorCode} that it carries.
    @ivar events: what happened before it in the same octets, oldest first: an owner may still deliver them.
    """

    code: int = ErrorCode.PROTOCOL_ERROR
    events: Sequence[HTTP2Event] = ()

    def __init__(self, message: str, code: int = ErrorCode.PROTOCOL_ERROR, **details: object) -> None:
        super().__init__(message, **details)
        self.code = code


class NotHTTP2(HTTP2Error):
    """
    The peer's first octets are not those of HTTP/2, or ALPN has selected another protocol.
    """


class HTTP2Flood(HTTP2Error):
    """
    The peer sends more frames of a kind than its traffic needs.
    """

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"the peer sends too many {what}", ErrorCode.ENHANCE_YOUR_CALM, limit=limit)


class StreamLimitUsedUp(Unavailable):
    """
    The peer accepts no more streams now; it may when one of those that are open has ended.
    """


class NoMoreStreams(Unavailable):
    """
    No stream can be opened any more: the connection ends, or has used all numbers.
    """
