"""
Streams that are announced: one side requests a stream, in octets of its own on another stream, and the peer
opens it.  The streams carry nothing that would match them to announcements, so the order in which they arrive does.

L{AnnouncingSession} is the side that requests, and its connector looks like that of any session.  L{OpeningSession} is the side
that opens, and its listener looks like that of any session.

Announcements and streams are paired first come, first served, in one queue::

    waiting --stream arrives--> connected
       |
       | its time is over, or the caller has cancelled it
       v
      late --stream arrives--> the stream is reset, or connects a call that requested the same
       |
       | LATE_SECONDS are over: the stream will never come
       v
    forgotten

An announcement that is late keeps its place.  Otherwise its stream would be taken for that of the next one, and every later
call would get the stream of another.  If a stream for it never comes at all, the next stream stands in its place, and that
stream's own call would fail; so a call that requested the same takes the stream, and the two change places.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, NoProtocol
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.components import proxyForInterface
from zope.interface import implementer

from tunnelstack.interfaces import ISession
from tunnelstack.session._connector import fireConnected
from tunnelstack.session._listening_port import SessionPort
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import OpenTimeout, SessionLost, TooManyStreams
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.waiters import Waiters

MAX_ANNOUNCED = 1024
"""Announcements that may wait for streams, with those that are late; more fail at once."""

OPEN_SECONDS = 10.0
"""Seconds that a call waits for its stream, unless the session has another limit."""

LATE_SECONDS = 60.0
"""Seconds after which a stream that is late is not expected any more."""


@define(eq=False)
class _Announced:
    """
    A stream that was announced and has not arrived.

    @ivar connected: the result of the call; C{None} if it is late.
    @ivar deadline: when it becomes late, or is forgotten.
    """

    announcement: object
    factory: IProtocolFactory
    connected: Deferred[IProtocol] | None
    deadline: float


class AnnouncingSession(proxyForInterface(ISession, "session")):  # type: ignore[misc]
    """
    The side of a session that announces streams.

    @ivar session: the session below.
    """

    def __init__(
        self, session: Any, announce: Callable[[Any], object], clock: IReactorTime, *, seconds: float = OPEN_SECONDS
    ) -> None:
        """
        @param session: an L{ISession} whose listener has no factory.
        @param announce: sends an announcement; what it raises fails the call.
        @param seconds: how long a call waits for its stream.
        """
        super().__init__(session)
        self._announce = announce
        self._clock = clock
        self._seconds = seconds
        self._queue: deque[_Announced] = deque()
        self._timer: IDelayedCall | None = None
        self._paired: Waiters[None] = Waiters()
        self._unannounced = _UnannouncedListener(session.address)
        session.listener.listen(_StreamFactory(self._arrived))
        session.whenLost().addCallback(self._sessionLost)

    @property
    def connector(self) -> IStreamClientEndpoint:
        """
        As in L{ISession}: announces only that a stream is requested.
        """
        return self.connectorFor(None)

    @property
    def listener(self) -> _UnannouncedListener:
        """
        Takes streams that were not announced; without a factory they are reset.
        """
        return self._unannounced

    @property
    def waiting(self) -> int:
        """
        Calls that wait for a stream.
        """
        return sum(each.connected is not None for each in self._queue)

    def whenPaired(self) -> Deferred[None]:
        """
        @return: fires when no call waits for a stream.
        """
        return self._paired.wait() if self.waiting else succeed(None)

    def _checkPaired(self) -> None:
        if self._paired and not self.waiting:
            self._paired.fire(None)

    def connectorFor(self, announcement: object) -> IStreamClientEndpoint:
        """
        @param announcement: what is sent for each stream.  Streams with equal announcements are interchangeable.
        @return: an endpoint.  C{connect()} fires when the stream has arrived, and fails with L{OpenTimeout}, L{TooManyStreams}
            or L{SessionLost}.
        """
        return _AnnouncedConnector(self._connect, announcement)

    def _connect(self, announcement: object, factory: IProtocolFactory) -> Deferred[IProtocol]:
        if (gone := self.session.lostReason()) is not None:
            return fail(gone)
        if len(self._queue) >= MAX_ANNOUNCED:
            return fail(TooManyStreams("too many streams were announced and have not arrived", announced=len(self._queue)))
        entry = _Announced(
            announcement, factory, Deferred(lambda _: self._becomeLate(entry)), self._clock.seconds() + self._seconds
        )
        connected = entry.connected
        assert connected is not None
        self._queue.append(entry)
        try:
            self._announce(announcement)
        except Exception:
            if entry in self._queue:
                self._queue.remove(entry)
            return fail()
        self._schedule(entry.deadline)
        return connected

    # Streams that arrive

    def _arrived(self, address: StreamAddress) -> IProtocol | None:
        """
        @return: the protocol of a stream; C{None} resets it.
        """
        if not self._queue:
            return self._unannounced.buildProtocol(address)
        first = self._queue.popleft()
        entry = first if first.connected is not None else self._exchangeLate(first)
        if entry is None:
            return None
        connected, entry.connected = entry.connected, None
        assert connected is not None
        if self._paired:
            self._clock.callLater(0, self._checkPaired)       # when the stream is connected
        try:
            protocol = entry.factory.buildProtocol(address)
        except Exception:
            connected.errback()
            return None
        if protocol is None:
            connected.errback(NoProtocol())
            return None
        return _PairedStream(protocol, connected)

    def _exchangeLate(self, late: _Announced) -> _Announced | None:
        """
        A stream has arrived in the place of one that is late.

        @return: the first call that requested the same, in whose place the late one now waits; C{None} if there is none.
        """
        for position, entry in enumerate(self._queue):
            if entry.connected is not None and entry.announcement == late.announcement:
                self._queue[position] = late
                return entry
        return None

    # Time

    def _schedule(self, deadline: float) -> None:
        """
        Let L{_expire} be called by then.  The timer may wait for a stream that is late, which takes longer than any call.
        """
        now = self._clock.seconds()
        if self._timer is None:
            self._timer = self._clock.callLater(max(0.0, deadline - now), self._expire)
        elif self._timer.getTime() > deadline:
            self._timer.reset(max(0.0, deadline - now))

    def _becomeLate(self, entry: _Announced) -> None:
        entry.connected = None
        entry.deadline = self._clock.seconds() + LATE_SECONDS
        self._checkPaired()

    def _expire(self) -> None:
        """
        Fail the calls whose time is over, and forget the streams that will never come.
        """
        self._timer = None
        now = self._clock.seconds()
        self._queue = deque(each for each in self._queue if each.connected is not None or each.deadline > now)
        for entry in list(self._queue):
            if entry.connected is not None and entry.deadline <= now:
                connected = entry.connected
                self._becomeLate(entry)
                connected.errback(OpenTimeout("the peer did not open a stream in time"))
        self._checkPaired()
        if self._queue:
            self._schedule(min(each.deadline for each in self._queue))

    def _sessionLost(self, reason: SessionLost) -> SessionLost:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        queue, self._queue = self._queue, deque()
        for entry in queue:
            connected, entry.connected = entry.connected, None
            if connected is not None:
                connected.errback(reason)
        self._checkPaired()
        return reason


@implementer(IStreamClientEndpoint)
class _AnnouncedConnector:
    """
    Announces a stream for each connection.
    """

    def __init__(
        self, connect: Callable[[object, IProtocolFactory], Deferred[IProtocol]], announcement: object
    ) -> None:
        self._connect = connect
        self._announcement = announcement

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return self._connect(self._announcement, protocolFactory)


class _StreamFactory(Factory):
    """
    Takes the streams that the peer opens.
    """

    noisy = False

    def __init__(self, arrived: Callable[[StreamAddress], IProtocol | None]) -> None:
        self._arrived = arrived

    def buildProtocol(self, address: Any) -> Any:
        return self._arrived(address)


class _PairedStream(Protocol):
    """
    Gives a stream that has arrived to the protocol of its call.  The result of the call is fired before octets that came with
    the stream are delivered, since a peer may answer before the request.
    """

    transport: StreamTransport

    def __init__(self, protocol: IProtocol, connected: Deferred[IProtocol]) -> None:
        self._protocol = protocol
        self._connected = connected

    def connectionMade(self) -> None:
        self.transport.handOver(self._protocol)
        fireConnected(self._connected, self._protocol)


@implementer(IStreamServerEndpoint)
class _UnannouncedListener:
    """
    Takes the streams that were not announced, for one factory at a time.
    """

    def __init__(self, address: StreamAddress) -> None:
        self.address = address
        self._factory: IProtocolFactory | None = None

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        if self._factory is not None:
            return fail(CannotListenError("session", self.address, "its streams have a factory already"))
        self._factory = protocolFactory
        return succeed(SessionPort(self))

    def unlisten(self) -> None:
        """
        Streams that arrive from now on are reset.
        """
        self._factory = None

    def buildProtocol(self, address: StreamAddress) -> IProtocol | None:
        """
        @return: the protocol of a stream; C{None} resets it.
        """
        return None if self._factory is None else self._factory.buildProtocol(address)


class OpeningSession(proxyForInterface(ISession, "session")):  # type: ignore[misc]
    """
    The side of a session that opens a stream for each announcement.

    @ivar session: the session below.
    """

    def __init__(self, session: Any) -> None:
        """
        @param session: an L{ISession}.
        """
        super().__init__(session)
        self._listener = _OpeningListener(session)

    @property
    def listener(self) -> _OpeningListener:
        """
        As in L{ISession}: accepts the streams that C{answer} opens.
        """
        return self._listener

    def openStream(self, parameters: Mapping[str, Any] | None = None) -> Deferred[IProtocol]:
        """
        Open the stream that was announced.

        @param parameters: of the announcement, for the C{parameters} of the stream's address.
        @return: fires with the stream's protocol; fails as C{connect} of a session's connector does, or if the factory of the
            listener declined: then the stream was opened and reset.
        """
        return self._listener.open(parameters or {})


@implementer(IStreamServerEndpoint)
class _OpeningListener:
    """
    Opens streams for one factory at a time.  Announcements that arrive before there is one wait, within a bound.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self.address: StreamAddress = session.address
        self._factory: IProtocolFactory | None = None
        self._waiting: deque[tuple[Mapping[str, Any], Deferred[IProtocol]]] = deque()

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        if self._factory is not None:
            return fail(CannotListenError("session", self.address, "its streams have a factory already"))
        self._factory = protocolFactory
        waiting, self._waiting = self._waiting, deque()
        for parameters, opened in waiting:
            self.open(parameters).chainDeferred(opened)
        return succeed(SessionPort(self))

    def unlisten(self) -> None:
        """
        Announcements that arrive from now on wait for the next factory.
        """
        self._factory = None

    def open(self, parameters: Mapping[str, Any]) -> Deferred[IProtocol]:
        """
        @return: as from L{OpeningSession.openStream}.
        """
        if self._factory is not None:
            opened: Deferred[IProtocol] = self._session.connector.connect(_AddressedFactory(self._factory, parameters))
            return opened
        if len(self._waiting) >= MAX_ANNOUNCED:
            return fail(TooManyStreams("too many announced streams wait for a factory", waiting=len(self._waiting)))
        later: Deferred[IProtocol] = Deferred()
        self._waiting.append((parameters, later))
        return later


class _AddressedFactory(Factory):
    """
    Adds the parameters of an announcement to the address of its stream.
    """

    noisy = False

    def __init__(self, factory: IProtocolFactory, parameters: Mapping[str, Any]) -> None:
        self._factory = factory
        self._parameters = parameters

    def buildProtocol(self, address: Any) -> Any:
        return self._factory.buildProtocol(evolve(address, parameters=self._parameters))
