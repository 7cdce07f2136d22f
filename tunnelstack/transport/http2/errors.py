"""
Why a stream of HTTP/2 failed, or could not be opened.
"""

from __future__ import annotations

from tunnelstack.errors import Unavailable
from tunnelstack.wire.http2.codes import ErrorCode


class HTTP2StreamFailed(Unavailable):
    """
    The base of these errors.

    @ivar code: the L{ErrorCode}, or another number of the peer's.
    @ivar byPeer: the peer has reset the stream, or has closed the connection.
    @ivar unprocessed: the peer has not begun to process the stream, so it may be tried again on another connection.
    """

    def __init__(
        self, message: str, code: int = ErrorCode.CANCEL, *, byPeer: bool = False, unprocessed: bool = False, **details: object
    ) -> None:
        super().__init__(message, **details)
        self.code = code
        self.byPeer = byPeer
        self.unprocessed = unprocessed


class HTTP2StreamReset(HTTP2StreamFailed):
    """
    The stream was reset by either side.
    """


class HTTP2ConnectionLost(HTTP2StreamFailed):
    """
    The connection that carried the stream is lost.
    """


class NoFreeStream(HTTP2StreamFailed):
    """
    The peer accepts no more streams now.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, ErrorCode.REFUSED_STREAM, unprocessed=True)


class ConnectionClosing(HTTP2StreamFailed):
    """
    The connection is lost or about to be closed: no stream can be opened on it any more.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, ErrorCode.REFUSED_STREAM, unprocessed=True)
