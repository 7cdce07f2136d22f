"""
How a WebSocket ends: who says Close first, how long the other is waited for, and the one reason that its protocol is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from tunnelstack.transport.shared_timer import Deadlines
from tunnelstack.transport.websocket._keepalive import Pulse
from tunnelstack.transport.websocket.settings import (
    ClosedByPeer,
    PeerSilent,
    WebSocketBroken,
    WebSocketLimits,
)

NORMAL, GOING_AWAY = 1000, 1001     # the close codes of good order


class Leaving:
    """
    The half of a L{WebSocketTransport<tunnelstack.transport.websocket.transport.WebSocketTransport>} that knows when it is
    over, and why.
    """

    protocol: Any
    connected: bool
    disconnecting: bool
    stalled: bool
    ended: Callable[[], object] | None
    _clock: Any
    _engine: Any
    _limits: WebSocketLimits
    _producer: Any
    _pulse: Pulse | None
    _deadlines: Deadlines | None

    def __init__(self) -> None:
        self._writable = False
        self._why: Failure | None = None
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
            self._give(ConnectionDone() if good else ClosedByPeer(code or 0, reason))
        else:
            self._give(ConnectionDone())
        self._wait()
        self._engine.leave()

    def violated(self, code: int, reason: str) -> None:
        self._give(WebSocketBroken(code, reason))
        self._wait()

    def lost(self, reason: Failure) -> None:
        """
        The connection below is gone.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pulse is not None:
            self._pulse.stop()
        if self._deadlines is not None:
            self._deadlines.stop()
        if not self.connected:
            return
        self._give(self._reason(reason))
        self.connected = False
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        assert self._why is not None
        self.protocol.connectionLost(self._why)
        if self.ended is not None:
            self.ended()

    # What comes of it

    def _reason(self, below: Failure) -> Exception | Failure:
        """
        An end without any Close frame is no good order, unless it answers ours or there are none between these two; and never
        inside a message.
        """
        if not below.check(ConnectionDone) or self._closeSent or not self._writable:
            return below
        if self._limits.closeFrame:
            return ConnectionLost("the connection ended without a Close frame (code 1006)")
        return ConnectionLost("the connection ended inside a message") if self._engine.underway else below

    def _give(self, reason: Exception | Failure) -> None:
        """
        Remember why it ends, unless that is known already; from here on writes vanish.
        """
        self._writable = False
        self.disconnecting = True
        if self._why is None:
            self._why = reason if isinstance(reason, Failure) else Failure(reason)

    def _close(self) -> None:
        self._writable = False
        self._wait()
        if not self._limits.closeFrame:
            self._engine.leave()
            return
        self._closeSent = True
        self._engine.close(NORMAL)
        if self.stalled:                  # the peer's Close is behind what was not read
            self.resumeProducing()

    def _wait(self) -> None:
        """
        Give the peer so many seconds, after what was written has left, and no more.
        """
        seconds = self._limits.flushTimeout if self._engine.full else self._limits.closeTimeout
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._late)
        else:
            self._timer.reset(seconds)

    def _late(self) -> None:
        self._timer = None
        self._give(ConnectionLost("the peer did not close its side in time"))
        self._engine.abort()

    def _silent(self) -> None:
        self._give(PeerSilent("no answer to a ping", seconds=self._limits.keepaliveTimeout))
        self._engine.abort()
