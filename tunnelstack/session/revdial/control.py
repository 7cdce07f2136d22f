"""
What both sides of a session do whose streams are connections of their own: keep the time of the control connection, drop it
when its lines pile up, and count the streams, which outlive it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, NoProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import PeerError
from tunnelstack.interfaces import ISession
from tunnelstack.session.budget import CONNECTION, SMALLEST, Stalled
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionClosed, SessionLost, UnsupportedPurpose

WRITE_SECONDS = 10.0
"""Seconds that the control connection may take no more lines."""


@implementer(ISession, IProtocol, IPushProducer)
class ControlSession(Protocol):
    """
    The protocol of the control connection.

    @ivar address: what the L{StreamAddress}es of its streams say of the peer.
    """

    transport: Any
    connector: Any
    listener: Any
    log = Logger()

    def __init__(
        self, wire: Any, clock: Any, address: StreamAddress | None, probe: Callable[[], Deferred[float]] | None,
    ) -> None:
        """
        @param wire: a pure half of the control lines.
        @param probe: how to measure the round trip, in seconds.
        """
        self.address = address or StreamAddress()
        self._wire = wire
        self._clock = clock
        self._probe = probe
        self._open: dict[int, Any] = {}
        self._taken: dict[int, tuple[int, float]] = {}  # octets read of a stream when it was last looked at, and since when
        self.budget: Any = None               # what all sessions of the process may hold, once there is one
        self._opened = 0
        self._octetsIn = self._octetsOut = 0  # of the streams that are over
        self._goingAway = False
        self._failing: SessionLost | None = None
        self._lost: SessionLost | None = None
        self._whenUp: list[Deferred[Any]] = []
        self._whenLost: list[Deferred[SessionLost]] = []
        self._whenIdle: list[Deferred[None]] = []
        self._timer: Any = None
        self._writeTimer: Any = None

    # ISession

    @property
    def streams(self) -> int:
        """
        How many streams are open.
        """
        return len(self._open)

    @property
    def octetsIn(self) -> int:
        """
        Octets of payload received.
        """
        return self._octetsIn + sum(stream.octetsIn for stream in self._open.values())

    @property
    def octetsOut(self) -> int:
        """
        Octets of payload sent.
        """
        return self._octetsOut + sum(stream.octetsOut for stream in self._open.values())

    @property
    def held(self) -> int:
        """
        Octets held for paused applications.
        """
        return sum(stream.held for stream in self._open.values())

    def count(self) -> None:
        """
        Nothing to report at once: TCP holds the streams' peers back, so little is held, which L{waiting} counts.
        """

    def waiting(self) -> int:
        """
        @return: octets that are held, and those that connections of readers have taken that do not go on.
        """
        now, octets = self._clock.seconds(), 0
        for streamId, stream in self._open.items():
            held = stream.held
            octets += held + CONNECTION * (held > 0)
            taken = stream.octetsIn - held
            if self._taken.get(streamId, (-1, 0.0))[0] != taken:
                self._taken[streamId] = taken, now
        return octets

    def stalled(self, before: float) -> list[Stalled]:
        """
        @param before: seconds of the clock.
        @return: streams for which something is held and of which nothing was read after that moment.
        """
        return [
            Stalled(since, held + CONNECTION, self, streamId)
            for streamId, (_, since) in self._taken.items()
            if since <= before and (held := self._open[streamId].held) >= SMALLEST
        ]

    def cut(self, streamId: int, why: str) -> None:
        """
        Reset a stream because too much is held.
        """
        self._open[streamId].abortConnection()

    def grow(self, allowed: bool) -> None:
        """
        There are no windows that grow.
        """

    def rest(self) -> None:
        """
        Streams that hold something are not read already.
        """

    def goOn(self) -> None:
        """
        See L{rest}.
        """

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
        As in L{ISession}; the peer is not told, as there is no word for it.
        """
        self._goingAway = True

    def drain(self) -> Deferred[None]:
        """
        Open no more streams, and close the control connection once the last one is done.

        @return: fires then; there is no deadline in it.
        """
        self.goAway()
        idle: Deferred[None] = Deferred()
        self._whenIdle.append(idle)
        self._checkIdle()
        return idle

    def close(self, reason: str) -> None:
        """
        Close the control connection; streams go on.
        """
        self._failing = self._failing or SessionClosed(reason)
        if self.connected and self._lost is None:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self) -> None:
        """
        As in L{ISession}: every stream goes too.
        """
        self._fail("the session was aborted by this side")
        for stream in list(self._open.values()):
            stream.abortConnection()

    def whenUp(self) -> Deferred[Any]:
        """
        @return: fires with this session once it is connected.
        """
        if self.connected:
            return succeed(self)
        up: Deferred[Any] = Deferred()
        self._whenUp.append(up)
        return up

    def whenLost(self) -> Deferred[SessionLost]:
        """
        As in L{ISession}.
        """
        if self._lost is not None:
            return succeed(self._lost)
        lost: Deferred[SessionLost] = Deferred()
        self._whenLost.append(lost)
        return lost

    def lostReason(self) -> SessionLost | None:
        """
        @return: why no stream can be opened any more, or C{None}.
        """
        if self._goingAway and self._failing is None:
            return SessionClosed("this side opens no more streams")
        return self._failing or self._lost or (None if self.connected else SessionLost("the session is not connected"))

    # IProtocol

    def connectionMade(self) -> None:
        """
        The control connection is there: give the first sign of life.
        """
        self.transport.registerProducer(self, True)
        waiting, self._whenUp = self._whenUp, []
        for up in waiting:
            up.callback(self)
        self._expire()

    def dataReceived(self, data: bytes) -> None:
        """
        Lines, cut anywhere.
        """
        if self._failing is not None:
            return
        try:
            events = self._wire.receive_data(data)
        except PeerError as broken:
            self._fail(f"the peer broke the protocol: {broken}", broken)
            return
        for event in events:
            self._eventReceived(event)
        self._expire()                        # what was heard, was heard now

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The control connection is gone.  Streams survive it.
        """
        self._lost = lost = self._failing or _lostFrom(reason)
        for call in (self._timer, self._writeTimer):
            if call is not None and call.active():
                call.cancel()
        self._controlLost(lost)
        waiting, self._whenLost = self._whenLost, []
        for told in waiting:
            told.callback(lost)
        self._checkIdle()
        self._leaveBudget()

    def _fail(self, reason: str, cause: BaseException | None = None) -> None:
        """
        Drop the control connection.
        """
        if self._failing is None and self._lost is None:
            self._failing = SessionLost(reason)
            self._failing.__cause__ = cause
            if cause is not None:
                self.log.warn("session with {peer} of {key} broken off: {reason}", peer=self._peer(), key=self.address.key,
                              reason=reason)
        if self.connected and self._lost is None:
            self.transport.abortConnection()

    def _peer(self) -> str:
        return str(self.address.peer or self.transport.getPeer())

    # Lines and their time

    def _flush(self) -> None:
        """
        Write what there is to say, a message each, and look at the time again when something is due.
        """
        if self._failing is not None or self._lost is not None:
            return
        for line in self._wire.data_to_send():
            self.transport.write(line)
        deadline = self._wire.next_deadline()
        if deadline is not None:
            delay = max(0.0, deadline - self._clock.seconds())
            if self._timer is not None and self._timer.active():
                self._timer.reset(delay)
            else:
                self._timer = self._clock.callLater(delay, self._expire)

    def _expire(self) -> None:
        if self._failing is not None or self._lost is not None:
            return
        for event in self._wire.expire(self._clock.seconds()):
            self._eventReceived(event)
        self._flush()

    def pauseProducing(self) -> None:
        """
        The control connection takes no more; a peer that does not read its few lines is not there.
        """
        if self._writeTimer is None:
            self._writeTimer = self._clock.callLater(WRITE_SECONDS, self._fail, "the peer does not read")

    def resumeProducing(self) -> None:
        """
        It takes more again.
        """
        timer, self._writeTimer = self._writeTimer, None
        if timer is not None and timer.active():
            timer.cancel()

    def stopProducing(self) -> None:
        """
        It is gone; C{connectionLost} says so as well.
        """

    # Streams

    def _addStream(self, transport: Any) -> StreamAddress:
        """
        A connection has become a stream of this session.
        """
        self._opened += 1
        transport.streamId = self._opened
        transport.address = address = evolve(self.address, streamId=self._opened)
        transport.onEnded = partial(self._ended, self._opened)
        self._open[self._opened] = transport
        return address

    def _ended(self, streamId: int) -> None:
        stream = self._open.pop(streamId)
        self._taken.pop(streamId, None)
        self._octetsIn += stream.octetsIn
        self._octetsOut += stream.octetsOut
        self._checkIdle()
        self._leaveBudget()

    def _leaveBudget(self) -> None:
        if self._lost is not None and not self._open and self.budget is not None:
            budget, self.budget = self.budget, None
            budget.leave(self, 0)

    def _checkIdle(self) -> None:
        if not self._whenIdle or (self._open and self._lost is None):
            return
        waiting, self._whenIdle = self._whenIdle, []
        self.close("the session was drained by this side")
        for idle in waiting:
            idle.callback(None)

    # For the subclass

    def _eventReceived(self, event: Any) -> None:
        """
        Do what an event of the wire says.
        """
        raise NotImplementedError

    def _controlLost(self, lost: SessionLost) -> None:
        """
        The control connection is gone: whoever waits will not get a stream.
        """
        raise NotImplementedError


class ArrivalFactory(Factory):
    """
    Builds the first protocol of a connection that is to be a stream, which lets its session know at once.
    """

    noisy = False

    def __init__(self, arrived: Callable[[Any], object]) -> None:
        """
        @param arrived: called with the connection's transport.
        """
        self._arrived = arrived

    def buildProtocol(self, address: object) -> Protocol:
        """
        As in L{IProtocolFactory}.
        """
        return _ArrivalProtocol(self._arrived)


class _ArrivalProtocol(Protocol):
    def __init__(self, arrived: Callable[[Any], object]) -> None:
        self._arrived = arrived

    def connectionMade(self) -> None:
        """
        The session hands the transport over to an application.
        """
        self._arrived(self.transport)


def buildProtocolOrRaise(factory: IProtocolFactory, address: StreamAddress) -> Any:
    """
    @raise NoProtocol: the factory declined.
    """
    protocol = factory.buildProtocol(address)
    if protocol is None:
        raise NoProtocol
    return protocol


def _lostFrom(reason: Failure) -> SessionLost:
    if reason.check(ConnectionDone):
        return SessionClosed("the session's connection was closed")
    return SessionLost(f"the session's connection was lost: {reason.getErrorMessage()}")
