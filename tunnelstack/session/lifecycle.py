"""
The life of a session, whatever carries its streams: when it is up, when its last stream is done, when it is lost, and why.

A session goes through these states, and may skip any of them but the last::

    connecting --connected()--> up --drain()--> draining --+
                                 |                         | no stream is left: close()
                                 | drop(), close()         v
                                 +--------------------> leaving --lost()--> lost
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.errors import PeerError
from tunnelstack.interfaces import ISession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionClosed, SessionLost
from tunnelstack.transport.error_text import detailText, errorText
from tunnelstack.transport.peers import addressText
from tunnelstack.waiters import Waiters

CLOSE_FLUSH_SECONDS = 10.0
"""Seconds for the carrier to take the last octets of a session that broke."""


class Carrier(Protocol):
    """
    What sessions need of the transport below them.
    """

    def write(self, data: bytes) -> None:
        """
        Queue octets.
        """

    def loseConnection(self) -> None:
        """
        Close after what is queued.
        """

    def abortConnection(self) -> None:
        """
        Close at once.
        """

    def pauseProducing(self) -> None:
        """
        Do not read.
        """

    def resumeProducing(self) -> None:
        """
        Read again.
        """

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """
        Report pressure to C{producer}.
        """

    def unregisterProducer(self) -> None:
        """
        Report it no more.
        """

    def getPeer(self) -> IAddress:
        """
        @return: the address of the other end.
        """


class SessionLifecycle:
    """
    The life of one session.

    @ivar up: the session was connected; it stays true.
    @ivar reason: why no stream can be opened any more: the session is being dropped, or is lost.  C{None} before that.
    @ivar isLost: the carrier is gone.
    @ivar draining: the session is to be closed when its last stream is done.
    """

    __slots__ = (
        "_carrier", "_clock", "_closeIdle", "_closeTimer", "_closed", "_isIdle", "_peerWentAway", "_session", "_waitingAway",
        "_waitingIdle", "_waitingLost", "_waitingUp", "draining", "isLost", "reason", "up",
    )  # fmt: skip

    _log = Logger()

    def __init__(
        self, session: ISession, clock: IReactorTime, isIdle: Callable[[], bool], closeIdle: Callable[[], object],
    ) -> None:
        """
        @param session: the result of L{whenUp}.
        @param isIdle: whether the session has no streams.
        @param closeIdle: called when a session that drains has become idle: is to call L{close}.
        """
        self._session = session
        self._clock = clock
        self._isIdle = isIdle
        self._closeIdle = closeIdle
        self._carrier: Carrier | None = None
        self._closeTimer: IDelayedCall | None = None
        self._closed = False
        self._waitingUp: Waiters[ISession] = Waiters()
        self._waitingIdle: Waiters[None] = Waiters()
        self._waitingAway: Waiters[None] = Waiters()
        self._waitingLost: Waiters[SessionLost] = Waiters()
        self.up = self.isLost = self.draining = self._peerWentAway = False
        self.reason: SessionLost | None = None

    # To wait for

    def whenUp(self) -> Deferred[ISession]:
        """
        @return: fires with the session once it is connected.
        """
        return succeed(self._session) if self.up else self._waitingUp.wait()

    def whenGoingAway(self) -> Deferred[None]:
        """
        @return: fires once the peer accepts no more streams, or the session is lost.
        """
        return succeed(None) if self._peerWentAway or self.isLost else self._waitingAway.wait()

    def whenLost(self) -> Deferred[SessionLost]:
        """
        @return: fires once the session is lost, with the reason as a result and not as an error.
        """
        if self.isLost and self.reason is not None:
            return succeed(self.reason)
        return self._waitingLost.wait()

    def whenIdle(self) -> Deferred[None]:
        """
        From now on the session drains: it is closed when its last stream is done.

        @return: fires then, or when the session is lost.
        """
        self.draining = True
        return self._waitingIdle.wait()

    # From the session

    def connected(self, carrier: Carrier) -> None:
        """
        The session's connection is there.
        """
        self._carrier = carrier
        self.up = True
        self._waitingUp.fire(self._session)

    def peerWentAway(self) -> None:
        """
        The peer has announced that it accepts no more streams.
        """
        self._peerWentAway = True
        self._waitingAway.fire(None)

    def checkIdle(self) -> None:
        """
        Called when a stream is done: it may have been the last of a session that drains.
        """
        if self.draining and (self.isLost or self._isIdle()):
            self.draining = False
            if not self.isLost:
                self._closeIdle()
            self._waitingIdle.fire(None)

    def fail(self, reason: SessionLost) -> None:
        """
        The session is lost, or will be at once.  Only the first reason counts.
        """
        if self.reason is None:
            self.reason = reason

    def broken(self, error: PeerError, address: StreamAddress) -> SessionLost:
        """
        The peer broke the protocol: as L{fail}, and log it.

        @return: the reason.
        """
        reason = SessionLost(f"the peer broke the protocol: {error}")
        reason.__cause__ = error
        self.fail(reason)
        if self._carrier is not None:
            self._log.warn(
                "session with {peer} of {key} broken off: {reason}",
                peer=addressText(address.peer or self._carrier.getPeer()), key=address.key, reason=str(error),
            )
        return reason

    def drop(self, reason: SessionLost) -> None:
        """
        Drop the session and its carrier at once.
        """
        self.fail(reason)
        if self._carrier is not None and not self.isLost:
            self._carrier.abortConnection()

    def abort(self) -> None:
        """
        L{drop} the session on a request of this side.
        """
        self.drop(SessionLost("the session was aborted by this side"))

    def close(self, within: float | None = None) -> None:
        """
        Close the carrier after what is queued; the session produces nothing more for it.

        @param within: seconds after which the carrier is aborted if it has not taken what is queued.
        """
        if self._carrier is None or self._closed or self.isLost:
            return
        self._closed = True
        if within is not None:
            self._closeTimer = self._clock.callLater(within, self._carrier.abortConnection)
        self._carrier.unregisterProducer()
        self._carrier.loseConnection()

    def pauseReading(self) -> None:
        """
        Do not read the carrier until L{resumeReading}.
        """
        if self._carrier is not None:
            self._carrier.pauseProducing()

    def resumeReading(self) -> None:
        """
        Read the carrier again.
        """
        if self._carrier is not None:
            self._carrier.resumeProducing()

    def lost(self, reason: SessionLost) -> SessionLost:
        """
        The carrier is gone.  L{reportLost} is to follow, once nothing of the session is left.

        @param reason: why it was lost.
        @return: the reason that counts.
        """
        self.fail(reason)
        self.isLost = True
        timer, self._closeTimer = self._closeTimer, None
        if timer is not None and timer.active():
            timer.cancel()
        return self.reason or reason

    def reportLost(self) -> None:
        """
        Report the loss to all that wait: first for the last stream, then for the loss.
        """
        self.checkIdle()
        if self.reason is not None:
            self._waitingLost.fire(self.reason)
        self._waitingAway.fire(None)


def connectionReason(reason: Failure) -> SessionLost:
    """
    @return: why a session is lost whose connection ended for C{reason}.
    """
    if reason.check(ConnectionDone):
        return SessionClosed("the session's connection was closed")
    detail = detailText(reason.value) if type(reason.value) is ConnectionLost else errorText(reason)
    return SessionLost("the session's connection was lost" + (f": {detail}" if detail else ""))
