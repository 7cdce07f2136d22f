"""
Keepalive of a WebSocket: a ping at intervals, after which something has to be received in time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from tunnelstack.transport.websocket._connection import WebSocketConnection
from tunnelstack.transport.websocket._frames import PING
from tunnelstack.transport.websocket.settings import WebSocketLimits


class KeepaliveListener(Protocol):
    """
    What is kept alive.

    @ivar readPaused: nothing is read at the moment.
    @ivar onPeerAlive: called each time that the peer has sent something after a ping.
    """

    readPaused: bool
    onPeerAlive: Callable[[], object] | None

    def keepaliveTimedOut(self) -> None: ...


class WebSocketKeepalive:
    """
    The keepalive of one WebSocket.  No ping is sent, and none is missed, while the answer could not be read or the ping not
    be sent.
    """

    def __init__(
        self, clock: IReactorTime, listener: KeepaliveListener, connection: WebSocketConnection, limits: WebSocketLimits
    ) -> None:
        self._clock = clock
        self._listener = listener
        self._connection = connection
        self._limits = limits
        self._pings = 0
        self._call: IDelayedCall | None = clock.callLater(limits.keepalive, self._ping)

    def stop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _ping(self) -> None:
        connection = self._connection
        if self._listener.readPaused or connection.full:
            self._call = self._clock.callLater(self._limits.keepalive, self._ping)
            return
        self._pings += 1
        connection.dataSeen = connection.pongSeen = False
        connection.sendFrame(PING, b"%d" % self._pings)
        self._call = self._clock.callLater(self._limits.keepaliveTimeout, self._check)

    def _check(self) -> None:
        heard = self._connection.pongSeen if self._limits.pongOnly else self._connection.dataSeen
        if heard or self._listener.readPaused:
            rest = max(0.0, self._limits.keepalive - self._limits.keepaliveTimeout)
            self._call = self._clock.callLater(rest, self._ping)
            if heard and self._listener.onPeerAlive is not None:
                self._listener.onPeerAlive()
            return
        self._call = None
        self._listener.keepaliveTimedOut()
