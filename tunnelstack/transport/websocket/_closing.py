"""
How a WebSocket ends: who says Close first, how long the other is waited for, and the one reason that its protocol is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.transport.websocket._keepalive import WebSocketKeepalive
from tunnelstack.transport.websocket.settings import (
    ClosedByPeer,
    KeepaliveTimeout,
    WebSocketLimits,
    WebSocketProtocolError,
)

NORMAL, GOING_AWAY = 1000, 1001     # the close codes of good order


class CloseHandshake:
    """
    The half of a L{WebSocketTransport<tunnelstack.transport.websocket.transport.WebSocketTransport>} that knows when it is
    over, and why.
    """

    protocol: Any
    connected: bool
    disconnecting: bool
    readPaused: bool
    onEnded: Callable[[], object] | None
    _clock: Any
    _engine: Any
    _limits: WebSocketLimits
    _producer: Any
    _keepalive: WebSocketKeepalive | None
    _sharedTimer: SharedTimer | None

    def __init__(self) -> None:
        self._writable = False
        self._lostReason: Failure | None = None
        self._closeSent = False
        self._timer: Any = None         # of a close

    def resumeProducing(self) -> None:
        """
        As in C{IPushProducer}.
        """
        raise NotImplementedError

    # What the engine tells

    def closeReceived(self, code: int | None, reason: str) -> None:
        if not self._closeSent:
            self._engine.close(code)
            good = code is None or code in (NORMAL, GOING_AWAY)
            self._setReason(ConnectionDone() if good else ClosedByPeer(code or 0, reason))
        else:
            self._setReason(ConnectionDone())
        self._startCloseTimer()
        self._engine.flushAndClose()

    def protocolViolated(self, code: int, reason: str) -> None:
        self._setReason(WebSocketProtocolError(code, reason))
        self._startCloseTimer()

    def lost(self, reason: Failure) -> None:
        """
        The connection below is gone.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._keepalive is not None:
            self._keepalive.stop()
        if self._sharedTimer is not None:
            self._sharedTimer.stop()
        if not self.connected:
            return
        self._setReason(self._endReason(reason))
        self.connected = False
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        assert self._lostReason is not None
        self.protocol.connectionLost(self._lostReason)
        if self.onEnded is not None:
            self.onEnded()

    # What comes of it

    def _endReason(self, below: Failure) -> Exception | Failure:
        """
        An end without any Close frame is no good order, unless it answers ours or there are none between these two; and never
        inside a message.
        """
        if not below.check(ConnectionDone) or self._closeSent or not self._writable:
            return below
        if self._limits.closeFrame:
            return ConnectionLost("the connection ended without a Close frame (code 1006)")
        return ConnectionLost("the connection ended inside a message") if self._engine.messagePending else below

    def _setReason(self, reason: Exception | Failure) -> None:
        """
        Remember why it ends, unless that is known already; from here on writes vanish.
        """
        self._writable = False
        self.disconnecting = True
        if self._lostReason is None:
            self._lostReason = reason if isinstance(reason, Failure) else Failure(reason)

    def _close(self) -> None:
        self._writable = False
        self._startCloseTimer()
        if not self._limits.closeFrame:
            self._engine.flushAndClose()
            return
        self._closeSent = True
        self._engine.close(NORMAL)
        if self.readPaused:                  # the peer's Close is behind what was not read
            self.resumeProducing()

    def _startCloseTimer(self) -> None:
        """
        Give the peer so many seconds, after what was written has left, and no more.
        """
        seconds = self._limits.flushTimeout if self._engine.full else self._limits.closeTimeout
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._closeTimedOut)
        else:
            self._timer.reset(seconds)

    def _closeTimedOut(self) -> None:
        self._timer = None
        self._setReason(ConnectionLost("the peer did not close its side in time"))
        self._engine.abort()

    def _keepaliveTimedOut(self) -> None:
        self._setReason(KeepaliveTimeout("no answer to a ping", seconds=self._limits.keepaliveTimeout))
        self._engine.abort()
