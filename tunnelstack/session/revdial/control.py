"""
What both sides of a session do whose streams are connections of their own: keep the time of the control connection, drop it
when its lines pile up, and keep the table of the streams, which outlive it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import PeerError
from tunnelstack.interfaces import ISession
from tunnelstack.session.lifecycle import SessionLifecycle, connectionReason
from tunnelstack.session.stream_connections import StreamConnections
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionClosed, SessionLost, UnsupportedPurpose
from tunnelstack.transport.deadline_timer import DeadlineTimer
from tunnelstack.transport.websocket.transport import WebSocketTransport
from tunnelstack.waiters import Waiters
from tunnelstack.wire.revdial import RevdialEvent

WRITE_SECONDS = 10.0
"""Seconds that the control connection may take no more lines."""

Probe = Callable[[], Deferred[float]]
"""Measures a round trip, in seconds."""


class ControlLines(TypingProtocol):
    """
    A pure half of the control lines.
    """

    def receive_data(self, octets: bytes) -> Sequence[RevdialEvent]:
        """
        @raise PeerError: the connection is to be closed.
        """

    def data_to_send(self) -> list[bytes]:
        """
        @return: lines, each to be one message.
        """

    def next_deadline(self) -> float | None:
        """
        @return: when to call C{expire}, in seconds of the clock.
        """

    def expire(self, now: float) -> Sequence[RevdialEvent]:
        """
        Time has passed.
        """


@implementer(ISession, IProtocol, IPushProducer)
class ControlSession(Protocol):
    """
    The protocol of the control connection.

    @ivar address: what the L{StreamAddress}es of its streams contain of the peer.
    @ivar memory: the streams, which are connections of their own.
    """

    transport: Any                            # a L{Carrier<tunnelstack.session.lifecycle.Carrier>}
    log = Logger()

    def __init__(
        self,
        lines: ControlLines,
        clock: IReactorTime,
        address: StreamAddress | None,
        probe: Probe | None,
        *,
        connector: IStreamClientEndpoint,
        listener: IStreamServerEndpoint,
        onEvent: Callable[[RevdialEvent], object],
        onLost: Callable[[SessionLost], object],
    ) -> None:
        """
        @param probe: how to measure the round trip.
        @param connector: as in L{ISession}.
        @param listener: as in L{ISession}.
        @param onEvent: called with each event of C{lines}.
        @param onLost: called when the control connection is gone: those that wait for a stream will not get one.
        """
        self.address = address or StreamAddress()
        self.connector = connector
        self.listener = listener
        self._lines = lines
        self._clock = clock
        self._probe = probe
        self._onEvent = onEvent
        self._onLost = onLost
        self._lifecycle = SessionLifecycle(self, clock, self._isIdle, self._closeIdle)
        self._timer = DeadlineTimer(clock, self._expire)
        self.memory: StreamConnections[WebSocketTransport] = StreamConnections(clock, self._streamDone)
        self._waitingLeft: Waiters[None] = Waiters()
        self._goingAway = False
        self._writeTimer: IDelayedCall | None = None

    # ISession

    @property
    def streams(self) -> int:
        """
        How many streams are open.
        """
        return len(self.memory)

    @property
    def streamsOpened(self) -> int:
        """
        How many streams have been opened.
        """
        return self.memory.opened

    @property
    def octetsIn(self) -> int:
        """
        Octets of payload received.
        """
        return self.memory.octetsIn

    @property
    def octetsOut(self) -> int:
        """
        Octets of payload sent.
        """
        return self.memory.octetsOut

    @property
    def held(self) -> int:
        """
        Octets held for paused applications.
        """
        return self.memory.held

    def transports(self) -> list[WebSocketTransport]:
        """
        @return: the streams that are open now.
        """
        return self.memory.all()

    def ping(self) -> Deferred[float]:
        """
        As in L{ISession}, by the probe that was given.
        """
        if (gone := self.lostReason()) is not None:
            return fail(gone)
        if self._probe is None:
            return fail(UnsupportedPurpose("there is no way to measure the round trip of this session"))
        return self._probe()

    def goAway(self, reason: int = 0) -> None:
        """
        As in L{ISession}; the peer is not notified, as the protocol has no message for it.
        """
        self._goingAway = True

    def drain(self) -> Deferred[None]:
        """
        As in L{ISession}.
        """
        self.goAway()
        idle = self._lifecycle.whenIdle()
        self._lifecycle.checkIdle()
        return idle

    def close(self, reason: str) -> None:
        """
        Close the control connection; streams continue.
        """
        self._lifecycle.fail(SessionClosed(reason))
        self._lifecycle.close()

    def abort(self) -> None:
        """
        As in L{ISession}: every stream goes too.
        """
        self._lifecycle.abort()
        for stream in self.transports():
            stream.abortConnection()

    def whenUp(self) -> Deferred[ISession]:
        """
        As in L{ISession}.
        """
        return self._lifecycle.whenUp()

    def whenGoingAway(self) -> Deferred[None]:
        """
        As in L{ISession}; the protocol has no message for it, so it fires when the session is lost.
        """
        return self._lifecycle.whenGoingAway()

    def whenLost(self) -> Deferred[SessionLost]:
        """
        As in L{ISession}.
        """
        return self._lifecycle.whenLost()

    def whenNoStreamIsLeft(self) -> Deferred[None]:
        """
        @return: fires when the session is lost and the last of its streams, which survive it, is done.
        """
        return succeed(None) if self._nothingIsLeft() else self._waitingLeft.wait()

    def _nothingIsLeft(self) -> bool:
        return self._lifecycle.isLost and self._isIdle()

    def _streamDone(self) -> None:
        self._lifecycle.checkIdle()
        if self._nothingIsLeft():
            self._waitingLeft.fire(None)

    def lostReason(self) -> SessionLost | None:
        """
        As in L{ISession}.
        """
        if self._lifecycle.reason is not None:
            return self._lifecycle.reason
        if self._goingAway:
            return SessionClosed("this side opens no more streams")
        return None if self._lifecycle.up else SessionLost("the session is not connected")

    # IProtocol

    def connectionMade(self) -> None:
        """
        The control connection is there: give the first sign of life.
        """
        self.transport.registerProducer(self, True)
        self._lifecycle.connected(self.transport)
        self._expire(self._clock.seconds())

    def dataReceived(self, data: bytes) -> None:
        """
        Lines, cut anywhere.
        """
        if self._lifecycle.reason is not None:
            return
        try:
            events = self._lines.receive_data(data)
        except PeerError as broken:
            self._lifecycle.drop(self._lifecycle.broken(broken, self.address))
            return
        for event in events:
            self._onEvent(event)
        self._expire(self._clock.seconds())   # what was received, was received now

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The control connection is gone.  Streams survive it.
        """
        lost = self._lifecycle.lost(connectionReason(reason))
        self._timer.stop()
        self.resumeProducing()
        self._onLost(lost)
        self._lifecycle.reportLost()
        self.memory.sessionLost()
        if self._nothingIsLeft():
            self._waitingLeft.fire(None)

    def _isIdle(self) -> bool:
        return not self.memory

    def _closeIdle(self) -> None:
        self.close("the session was drained by this side")

    # Lines and their time

    def _flush(self) -> None:
        """
        Write the lines that are due, a message each, and look at the time again when the next is due.
        """
        if self._lifecycle.reason is not None:
            return
        for line in self._lines.data_to_send():
            self.transport.write(line)
        deadline = self._lines.next_deadline()
        if deadline is not None:
            self._timer.schedule(deadline)

    def _expire(self, now: float) -> None:
        if self._lifecycle.reason is not None:
            return
        for event in self._lines.expire(now):
            self._onEvent(event)
        self._flush()

    def pauseProducing(self) -> None:
        """
        The control connection takes no more; a peer that does not read its few lines is gone.
        """
        if self._writeTimer is None:
            late = SessionLost("the peer does not read")
            self._writeTimer = self._clock.callLater(WRITE_SECONDS, self._lifecycle.drop, late)

    def resumeProducing(self) -> None:
        """
        It takes more again.
        """
        timer, self._writeTimer = self._writeTimer, None
        if timer is not None and timer.active():
            timer.cancel()

    def stopProducing(self) -> None:
        """
        It is gone, as C{connectionLost} reports.
        """


class ArrivalFactory(Factory):
    """
    Builds the first protocol of a connection that is to be a stream, which calls its session at once.
    """

    noisy = False

    def __init__(self, arrived: Callable[[WebSocketTransport], object]) -> None:
        """
        @param arrived: called with the connection's transport.
        """
        self._arrived = arrived

    def buildProtocol(self, address: object) -> Protocol:
        return _ArrivalProtocol(self._arrived)


class _ArrivalProtocol(Protocol):
    transport: WebSocketTransport

    def __init__(self, arrived: Callable[[WebSocketTransport], object]) -> None:
        self._arrived = arrived

    def connectionMade(self) -> None:
        """
        The session hands the transport over to an application.
        """
        self._arrived(self.transport)
