"""
The limits of a WebSocket.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt

from tunnelstack.settings.record import Record


@frozen(kw_only=True, eq=False, repr=False)
class WebSocketLimits(Record):
    """
    The limits of one WebSocket, and how it closes.

    @ivar message: octets of the largest message that is sent; longer writes are split.
    @ivar maxMessage: octets of the largest message that is accepted, in any number of fragments.
    @ivar keepalive: seconds between pings; C{0} sends none.
    @ivar keepaliveTimeout: seconds after a ping within which something must be received.
    @ivar pongOnly: only a pong counts: for peers that may still send after they have stopped reading.
    @ivar closeFrame: whether C{loseConnection} sends Close 1000; some peers only use the end of the connection.
    @ivar closeTimeout: seconds that the peer has to complete a close.
    @ivar flushTimeout: seconds that octets written before a close have to leave.
    @ivar handshakeTimeout: seconds that a client has to send its request (server only).
    """

    message: int = field(default=64 * 1024, validator=gt(0))     # larger ones delay the credit of streams: measured
    maxMessage: int = field(default=16 * 1024 * 1024, validator=gt(0))
    keepalive: float = field(default=0.0, validator=ge(0))
    keepaliveTimeout: float = field(default=5.0, validator=gt(0))
    pongOnly: bool = False
    closeFrame: bool = True
    closeTimeout: float = field(default=5.0, validator=gt(0))
    flushTimeout: float = field(default=30.0, validator=gt(0))
    handshakeTimeout: float = field(default=10.0, validator=gt(0))


DEFAULT_LIMITS = WebSocketLimits()
