"""
How one WebSocket behaves, and the errors of its end that are not Twisted's own.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt
from twisted.internet.error import ConnectionLost

from tunnelstack.errors import PeerError, Unavailable
from tunnelstack.wire.printable_text import printable


class ClosedByPeer(ConnectionLost):
    """
    The peer closed the WebSocket and gave a reason that is not good order.

    @ivar code: from its Close frame.
    @ivar reason: the words with it; may be empty.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"close code {code}: {printable(reason)}" if reason else f"close code {code}")
        self.code = code
        self.reason = reason


class WebSocketProtocolError(PeerError, ConnectionLost):
    """
    The peer broke a rule of RFC 6455, or one of ours; it was told with a Close frame.

    @ivar code: of that Close frame: 1002, 1003, 1007 or 1009.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason, code=code)
        self.code = code


class KeepaliveTimeout(Unavailable, ConnectionLost):
    """
    Nothing was heard from the peer in the time that it had to answer a ping.
    """


@frozen(kw_only=True)
class WebSocketLimits:
    """
    How one WebSocket behaves.

    @ivar message: octets that one of our messages may have; longer writes are split.
    @ivar maxMessage: octets that one of the peer's messages may have, however fragmented.
    @ivar keepalive: seconds between pings of ours; C{0} sends none.
    @ivar keepaliveTimeout: seconds in which something must be heard after a ping.
    @ivar pongOnly: it must be a pong: for peers that may go on to speak when they have ceased to listen.
    @ivar closeFrame: whether C{loseConnection} says Close 1000; some peers only know a bare end of the connection.
    @ivar closeTimeout: seconds that the peer has for its part of a close.
    @ivar flushTimeout: seconds that octets written before a close have to leave.
    @ivar handshakeTimeout: seconds that a client has to send its request (server only).
    """

    message: int = field(default=64 * 1024, validator=gt(0))     # larger ones hold back credit: measured
    maxMessage: int = field(default=16 * 1024 * 1024, validator=gt(0))
    keepalive: float = field(default=0.0, validator=ge(0))
    keepaliveTimeout: float = field(default=5.0, validator=gt(0))
    pongOnly: bool = False
    closeFrame: bool = True
    closeTimeout: float = field(default=5.0, validator=gt(0))
    flushTimeout: float = field(default=30.0, validator=gt(0))
    handshakeTimeout: float = field(default=10.0, validator=gt(0))


DEFAULT_LIMITS = WebSocketLimits()
