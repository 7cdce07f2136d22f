"""
Whether the peer is still there: a ping now and then, and something that must be heard after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunnelstack.transport.websocket._frames import PING
from tunnelstack.transport.websocket.settings import WebSocketLimits


class WebSocketKeepalive:
    """
    The keepalive of one WebSocket; it asks nothing while the answer could not be heard, or the question not be sent.
    """

    def __init__(self, clock: Any, carrier: Any, engine: Any, limits: WebSocketLimits, timedOut: Callable[[], object]) -> None:
        """
        @param carrier: says with C{readPaused} whether anything is read, and has C{onPeerAlive} to be called.
        @param timedOut: called when nothing was heard.
        """
        self._clock = clock
        self._carrier = carrier
        self._engine = engine
        self._limits = limits
        self._timedOut = timedOut
        self._pings = 0
        self._call: Any = clock.callLater(limits.keepalive, self._ask)

    def stop(self) -> None:
        """
        The WebSocket is over.
        """
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _ask(self) -> None:
        engine = self._engine
        if self._carrier.readPaused or engine.full:
            self._call = self._clock.callLater(self._limits.keepalive, self._ask)
            return
        self._pings += 1
        engine.dataSeen = engine.pongSeen = False
        engine.sendFrame(PING, b"%d" % self._pings)
        self._call = self._clock.callLater(self._limits.keepaliveTimeout, self._check)

    def _check(self) -> None:
        heard = self._engine.pongSeen if self._limits.pongOnly else self._engine.dataSeen
        if heard or self._carrier.readPaused:
            rest = max(0.0, self._limits.keepalive - self._limits.keepaliveTimeout)
            self._call = self._clock.callLater(rest, self._ask)
            if heard and self._carrier.onPeerAlive is not None:
                self._carrier.onPeerAlive()
            return
        self._call = None
        self._timedOut()
