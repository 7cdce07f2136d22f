"""
Lanes: streams that the peer opens in advance, so that this side can use them as if it had opened them.

Some sessions let only one side open streams: those of HTTP/2, whose client does.  There that side opens idle streams, lanes,
and keeps a number of them open.  L{LaneSession} is the side that uses lanes, and its connector looks like that of any session.
L{LaneKeepingSession} is the side that opens them, and its listener looks like that of any session: a lane belongs to it from
the first octet that arrives.

Of the idle lanes the one that was used last is used next, so that those that are not needed grow old and can be closed.  A lane
that is lost while it is idle means nothing: proxies close idle streams.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, NoProtocol
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import ISession
from tunnelstack.session._connector import WAITING_CONNECTS, fireConnected
from tunnelstack.session.lane_pool import LANE_SECONDS, IdleLanes, LaneCounts, LaneKeeper
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionClosed, SessionLost
from tunnelstack.stream.transport import StreamTransport

IDLE_LANES = 4
"""Lanes that are kept idle."""

MOST_LANES = 256
"""Streams of a session that are open at most, idle lanes or not."""

@implementer(IHalfCloseableProtocol)
class _IdleLane(Protocol):
    """
    A lane that is not used.
    """

    transport: StreamTransport

    def __init__(self, session: LaneSession) -> None:
        self._session = session

    def connectionMade(self) -> None:
        self._session.laneIdle(self)

    def dataReceived(self, data: bytes) -> None:
        """
        The peer must not send first.
        """
        self.transport.abortConnection()

    def readConnectionLost(self) -> None:
        """
        The peer closes the lane because it does not need it any more.
        """
        self._session.laneLost(self)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._session.laneLost(self)


class LaneSession(proxyForInterface(ISession, "session")):  # type: ignore[misc]
    """
    The side of a session that uses lanes.

    @ivar session: the session below.
    @ivar onDemand: called with the number of lanes that calls wait for, where the peer can be sent a request for more.
    """

    def __init__(
        self, session: Any, clock: IReactorTime, *, seconds: float = LANE_SECONDS,
        isLane: Callable[[StreamAddress], bool] = lambda address: True,
    ) -> None:
        """
        @param session: an L{ISession} whose listener has no factory.
        @param seconds: how long a call waits for an idle lane.
        @param isLane: distinguishes lanes from other streams that the peer opens.
        """
        super().__init__(session)
        self._isLane = isLane
        self._lanes: IdleLanes[_IdleLane] = IdleLanes(clock, seconds=seconds, most=WAITING_CONNECTS)
        self._lanes.onDemand = self._demand
        self._others = _FactoryListener(session.address)
        self._connector = _LaneConnector(self._connect)
        self._goingAway = False
        self.onDemand: Callable[[int], object] | None = None
        session.listener.listen(_BuildingFactory(self._arrived))
        session.whenGoingAway().addCallback(lambda _: self._stop("the peer opens no more lanes"))
        session.whenLost().addCallback(self._sessionLost)

    @property
    def connector(self) -> IStreamClientEndpoint:
        """
        As in L{ISession}: C{connect()} fires when there is a lane, and fails with L{OpenTimeout}, L{TooManyStreams} or
        L{SessionLost}.
        """
        return self._connector

    @property
    def listener(self) -> IStreamServerEndpoint:
        """
        Takes the streams that are no lanes; without a factory they are reset.
        """
        return self._others

    @property
    def streams(self) -> int:
        """
        As in L{ISession}; lanes that are idle do not count.
        """
        return int(self.session.streams) - self.idle

    @property
    def idle(self) -> int:
        """
        How many lanes are idle.
        """
        return len(self._lanes)

    @property
    def waiting(self) -> int:
        """
        How many calls wait for a lane.
        """
        return self._lanes.waiting

    def _demand(self, waiting: int) -> None:
        if self.onDemand is not None:
            self.onDemand(waiting)

    def goAway(self, reason: int = 0) -> None:
        """
        As in L{ISession}; lanes that are idle are closed.
        """
        self._stop("this side uses no more lanes")
        self.session.goAway(reason)

    def drain(self) -> Deferred[None]:
        """
        As in L{ISession}; lanes that are idle are closed.
        """
        self._stop("this side uses no more lanes")
        drained: Deferred[None] = self.session.drain()
        return drained

    def _stop(self, why: str) -> None:
        """
        Neither side is to wait for lanes that nobody uses.
        """
        self._goingAway = True
        self._lanes.fail(SessionClosed(why))
        for lane in self._lanes.lanes():
            self._lanes.discard(lane)
            lane.transport.loseConnection()

    def release(self, transport: StreamTransport) -> None:
        """
        The user of a lane needs it no more, and has left nothing on it: it is idle again.
        """
        if transport.connected and not transport.disconnecting:
            transport.handOver(_IdleLane(self))

    def _arrived(self, address: StreamAddress) -> IProtocol | None:
        return _IdleLane(self) if self._isLane(address) else self._others.buildProtocol(address)

    def laneIdle(self, lane: _IdleLane) -> None:
        """
        From a lane: it can be used.
        """
        if self._goingAway:
            lane.transport.loseConnection()
        else:
            self._lanes.add(lane)

    def laneLost(self, lane: _IdleLane) -> None:
        """
        From a lane: it cannot be used any more.
        """
        self._lanes.discard(lane)

    def _connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        if (gone := self.session.lostReason()) is not None:
            return fail(gone)
        if self._goingAway:
            return fail(SessionClosed("the session takes no more streams"))
        taking: Deferred[_IdleLane] = self._lanes.take()
        connected: Deferred[IProtocol] = Deferred(lambda _: taking.cancel())
        taking.addCallbacks(self._use, connected.errback, (factory, connected))
        return connected

    def _use(self, lane: _IdleLane, factory: IProtocolFactory, connected: Deferred[IProtocol]) -> None:
        """
        Give a lane to a protocol of a factory's.
        """
        try:
            protocol = factory.buildProtocol(lane.transport.address)
            if protocol is None:
                raise NoProtocol
        except Exception:
            self._lanes.add(lane)
            connected.errback()
            return
        lane.transport.handOver(protocol)
        fireConnected(connected, protocol)

    def _sessionLost(self, reason: SessionLost) -> SessionLost:
        self._lanes.fail(reason)
        return reason


@implementer(IHalfCloseableProtocol)
class _KeptLane(Protocol):
    """
    A lane that waits for its first octet.
    """

    transport: StreamTransport

    def __init__(self, keeper: LaneKeepingSession) -> None:
        self._keeper = keeper

    def dataReceived(self, data: bytes) -> None:
        self._keeper.laneUsed(self, data)

    def readConnectionLost(self) -> None:
        """
        The peer does not need the lane any more.
        """
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._keeper.idleLost(self)


class LaneKeepingSession(proxyForInterface(ISession, "session")):  # type: ignore[misc]
    """
    The side of a session that opens lanes, and keeps some of them idle.

    @ivar session: the session below.
    """

    _log = Logger()

    def __init__(
        self, session: Any, clock: IReactorTime, *, idle: int = IDLE_LANES, most: int = MOST_LANES
    ) -> None:
        """
        @param session: an L{ISession}.
        @param idle: lanes that are kept idle.
        @param most: streams of the session above which no lane is opened.
        """
        super().__init__(session)
        self._lanes: LaneKeeper[_KeptLane] = LaneKeeper(
            clock, LaneCounts(initial=idle, idle=idle, most=most), self._openLane,
            lambda lane: lane.transport.loseWriteConnection(), lambda: int(session.streams),
        )  # fmt: skip
        self._goingAway = False
        self._listener = _FactoryListener(session.address, self._start, self._lanes.stop)
        session.whenGoingAway().addCallback(lambda _: self._stop())
        session.whenLost().addCallback(self._sessionLost)

    @property
    def listener(self) -> IStreamServerEndpoint:
        """
        As in L{ISession}: takes the lanes that the peer begins to use.  Lanes are opened while there is a factory.
        """
        return self._listener

    @property
    def streams(self) -> int:
        """
        As in L{ISession}; lanes that are idle do not count.
        """
        return int(self.session.streams) - self.idle

    @property
    def idle(self) -> int:
        """
        How many lanes are idle.
        """
        return self._lanes.idle

    def goAway(self, reason: int = 0) -> None:
        """
        As in L{ISession}; no more lanes are opened, and the peer closes those that are idle.
        """
        self._stop()
        self.session.goAway(reason)

    def drain(self) -> Deferred[None]:
        """
        As in L{ISession}; no more lanes are opened, and the peer closes those that are idle.
        """
        self._stop()
        drained: Deferred[None] = self.session.drain()
        return drained

    def _stop(self) -> None:
        self._goingAway = True
        self._lanes.stop()

    def _start(self) -> None:
        if not self._goingAway:
            self._lanes.start()

    def demand(self, count: int) -> None:
        """
        The peer waits for so many lanes: open them, even if that is more than are kept idle.
        """
        self._lanes.demand(count - self._lanes.opening)

    def _openLane(self) -> bool:
        lane = _KeptLane(self)
        opening: Deferred[IProtocol] = self.session.connector.connect(_BuildingFactory(lambda address: lane))
        opening.addCallbacks(lambda _: self._lanes.opened(lane), lambda _: self._lanes.notOpened())
        return True

    def laneUsed(self, lane: _KeptLane, data: bytes) -> None:
        """
        From a lane: the peer uses it.
        """
        transport, protocol = lane.transport, None
        try:
            protocol = self._listener.buildProtocol(transport.address)
        except Exception:
            self._log.failure("a factory failed to build a protocol for a lane of {key}", key=transport.address.key)
        if protocol is None:
            transport.protocol = Protocol()   # it is not idle any more
            transport.abortConnection()
        else:
            transport.handOver(protocol, data)
        self._lanes.used(lane)

    def idleLost(self, lane: _KeptLane) -> None:
        """
        From a lane that was idle: it is lost.
        """
        self._lanes.lost(lane)

    def _sessionLost(self, reason: SessionLost) -> SessionLost:
        self._stop()
        return reason


@implementer(IStreamClientEndpoint)
class _LaneConnector:
    """
    Uses a lane for each connection.
    """

    def __init__(self, connect: Callable[[IProtocolFactory], Deferred[IProtocol]]) -> None:
        self.connect = connect


class _BuildingFactory(Factory):
    """
    Builds protocols by a function.
    """

    noisy = False

    def __init__(self, build: Callable[[StreamAddress], IProtocol | None]) -> None:
        self._build = build

    def buildProtocol(self, address: Any) -> Any:
        return self._build(address)


@implementer(IStreamServerEndpoint)
class _FactoryListener:
    """
    Has one factory at a time.
    """

    def __init__(
        self, address: StreamAddress, onListen: Callable[[], object] = lambda: None,
        onUnlisten: Callable[[], object] = lambda: None,
    ) -> None:
        """
        @param onListen: called when there is a factory.
        @param onUnlisten: called when there is none any more.
        """
        self.address = address
        self._onListen = onListen
        self._onUnlisten = onUnlisten
        self._factory: IProtocolFactory | None = None

    @property
    def listening(self) -> bool:
        """
        Whether there is a factory.
        """
        return self._factory is not None

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        if self._factory is not None:
            return fail(CannotListenError("session", self.address, "its streams have a factory already"))
        self._factory = protocolFactory
        self._onListen()
        return succeed(_FactoryPort(self))

    def unlisten(self) -> None:
        """
        Streams that arrive from now on are reset.
        """
        self._factory = None
        self._onUnlisten()

    def buildProtocol(self, address: StreamAddress) -> IProtocol | None:
        """
        @return: the protocol of a stream; C{None} resets it.
        """
        return None if self._factory is None else self._factory.buildProtocol(address)


@implementer(IListeningPort)
class _FactoryPort:
    """
    What the C{listen} of a listener gives.
    """

    def __init__(self, listener: _FactoryListener) -> None:
        self._listener = listener

    def startListening(self) -> None:
        """
        It does already.
        """

    def stopListening(self) -> Deferred[None]:
        self._listener.unlisten()
        return succeed(None)

    def getHost(self) -> StreamAddress:
        return self._listener.address
