"""
Signs of life within the call C{Register}, of either side.  Those of HTTP/2 end at the next proxy, which answers them itself.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

from tunnelstack.stream.errors import SessionLost
from tunnelstack.transport.deadline_timer import DeadlineTimer

PING_SECONDS = 20.0
"""Between two pings."""

MOST_QUEUED = 64 * 1024
"""Octets that wait to be sent in the call, above which the peer is lost: it asks without reading the answers."""

SILENT_SECONDS = 45.0
"""Without a message of the peer, after which it is lost."""


class RegisterPings:
    """
    Sends pings, and waits for messages of the peer.
    """

    def __init__(
        self, clock: IReactorTime, send: Callable[[int], object], silent: Callable[[SessionLost], object]
    ) -> None:
        """
        @param send: sends a ping with this number.
        @param silent: called when the peer is lost.
        """
        self._clock = clock
        self._send = send
        self._silent = silent
        self._nonce = 0
        self._heardAt = self._pingAt = 0.0
        self._pings: dict[int, tuple[Deferred[float], float]] = {}
        self._timer = DeadlineTimer(clock, self._expired)
        self._stopped: SessionLost | None = None

    def start(self) -> None:
        """
        Send pings from now on.
        """
        self._heardAt = now = self._clock.seconds()
        self._pingAt = now + PING_SECONDS
        self._timer.schedule(self._pingAt)

    def stop(self, reason: SessionLost) -> None:
        """
        The call is over.
        """
        if self._stopped is None:
            self._stopped = reason
            self._timer.stop()
            pings, self._pings = self._pings, {}
            for answer, _ in pings.values():
                answer.errback(reason)

    def heard(self) -> None:
        """
        A message has arrived.
        """
        self._heardAt = self._clock.seconds()

    def ping(self) -> Deferred[float]:
        """
        @return: a C{Deferred} of the round trip in seconds; it fails with L{SessionLost}.
        """
        if self._stopped is not None:
            return fail(self._stopped)
        answer: Deferred[float] = Deferred()
        self._nonce += 1
        self._pings[self._nonce] = (answer, self._clock.seconds())
        self._send(self._nonce)
        return answer

    def answered(self, nonce: int) -> None:
        """
        The peer has answered a ping.
        """
        answer, sent = self._pings.pop(nonce, (None, 0.0))
        if answer is not None:
            answer.callback(self._clock.seconds() - sent)

    def _expired(self, now: float) -> None:
        if now >= self._heardAt + SILENT_SECONDS:
            self._silent(SessionLost("the peer was silent for too long"))
            return
        if now >= self._pingAt:
            self._nonce += 1
            self._send(self._nonce)
            self._pingAt = now + PING_SECONDS
        self._timer.schedule(min(self._pingAt, self._heardAt + SILENT_SECONDS))
