"""
How a WebSocket fails: before it is open, and when it ends.
"""

from __future__ import annotations

from http import HTTPStatus

from twisted.internet.error import ConnectionLost

from tunnelstack.errors import PeerError, Refused, Unavailable
from tunnelstack.wire.printable_text import printable


class UpgradeRefused(Refused):
    """
    The server answered the request for a WebSocket with another status than 101.

    @ivar status: the HTTP status, such as C{401}.
    @ivar reason: the reason phrase; may be empty.
    @ivar headers: the fields of the response, names in lower case; of a repeated one, the last.
    @ivar body: at most 4 KiB of the body, as text.
    """

    def __init__(self, status: int, reason: str, headers: dict[str, str], body: str) -> None:
        super().__init__("the server refused the upgrade", status=status, reason=printable(reason))
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body


class UpgradeFailed(PeerError):
    """
    The peer is not a WebSocket server, or its response does not fit the request.
    """


class HandshakeRejected(Exception):
    """
    A server answers a request for a WebSocket with an HTTP error.

    @ivar status: the HTTP status of the response.
    @ivar reason: the text of its body.
    """

    def __init__(self, status: HTTPStatus | int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class ClosedByPeer(ConnectionLost):
    """
    The peer sent a Close frame with another code than 1000 (normal) or 1001 (going away).

    @ivar code: the code of its Close frame.
    @ivar reason: the text of its Close frame; may be empty.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"close code {code}: {printable(reason)}" if reason else f"close code {code}")
        self.code = code
        self.reason = reason


class WebSocketProtocolError(PeerError, ConnectionLost):
    """
    The peer violated RFC 6455 or a limit of this side, which sent a Close frame.

    @ivar code: the code of that Close frame: 1002, 1003, 1007 or 1009.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason, code=code)
        self.code = code


class KeepaliveTimeout(Unavailable, ConnectionLost):
    """
    Nothing was received from the peer in time after a ping.
    """
