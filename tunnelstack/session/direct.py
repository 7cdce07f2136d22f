"""
A session each of whose streams is a connection of its own, made by either side without a request: a TLS connection for each
stream, for example.

There is nothing between the streams: no control connection, no session on the wire.  So the session is up at once, is lost only
when this side ends it, and a connection that is lost is one stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import evolve, frozen
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import TunnelError, Unavailable
from tunnelstack.interfaces import ISession
from tunnelstack.session._connector import SLOT_SECONDS, WAITING_CONNECTS
from tunnelstack.session._direct_stream import DirectStream
from tunnelstack.session.arrival_listener import ArrivalListener, buildProtocolOrRaise
from tunnelstack.session.lifecycle import SessionLifecycle
from tunnelstack.session.stream_connections import StreamConnections
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import (
    OpenTimeout,
    SessionClosed,
    SessionLost,
    TooManyStreams,
    UnsupportedPurpose,
)
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.deadline_timer import DeadlineTimer
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText, peerOf

REPORT_SECONDS = 60.0
"""Seconds within which it is reported once that connections are not accepted."""


class ConnectFailed(Unavailable):
    """
    No connection to the peer could be made.  The cause is in C{__cause__}.
    """


@frozen(kw_only=True)
class DirectLimits:
    """
    The bounds of a session.

    @ivar streams: how many streams there may be, with the connections that are being made or closed.
    @ivar waiting: calls of C{connect} that may wait for another stream to end; more fail at once.
    @ivar waitSeconds: how long one of them waits.
    @ivar dialSeconds: seconds in which a connection must be made, handshake included.
    @ivar closeTimeout: seconds without progress, after a stream was closed, until its connection is reset.
    @ivar endingTimeout: seconds without an octet of the peer, after our direction of a stream has ended, until the direction
        of the peer counts as ended; 0 waits for its end.  It is for peers that do not notice the end of one direction.
    """

    streams: int = 1024
    waiting: int = WAITING_CONNECTS
    waitSeconds: float = SLOT_SECONDS
    dialSeconds: float = 10.0
    closeTimeout: float = 30.0
    endingTimeout: float = 0.0


DEFAULT_LIMITS = DirectLimits()


@implementer(ISession)
class DirectSession:
    """
    The streams to one peer, or from all peers that connect to one port.

    A carrier below should have half-close: TCP, or TLS by
    L{HalfCloseTLS<tunnelstack.transport.half_close_tls.HalfCloseTLS>}.  Records (C{writeRecord}) arrive alone over TLS, up to
    16 384 octets.

    @ivar connector: connects the endpoint for each stream, if there is one.  C{connect()} fires when the connection is there,
        and fails with L{ConnectFailed}, L{OpenTimeout}, L{TooManyStreams} or L{SessionLost}.
    @ivar listener: takes the streams of peers.
    @ivar acceptor: an C{IProtocolFactory}: the connections that it builds protocols for are the streams of peers.  Of TLS it is
        given connections whose handshake is complete, by L{ALPNFactory<tunnelstack.transport.tls.ALPNFactory>}.
    @ivar address: what the L{StreamAddress}es of its streams contain; C{peer} is that of the connection, if it came in.
    @ivar memory: the streams.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint | None = None,
        *,
        address: StreamAddress | None = None,
        limits: DirectLimits = DEFAULT_LIMITS,
        probe: Callable[[], Deferred[float]] | None = None,
    ) -> None:
        """
        @param endpoint: connects to the peer, TLS included; C{None} if only peers open streams.
        @param probe: measures the round trip, for L{ping}.
        """
        self.address = address or StreamAddress()
        self.limits = limits
        self._probe = probe
        self._goingAway = False
        self._lifecycle = SessionLifecycle(self, clock, self._isIdle, self._closeIdle)
        self._lifecycle.up = True
        self._slots = _Slots(clock, limits)
        self.memory: StreamConnections[DirectStream] = StreamConnections(clock, self._streamDone)
        self.connector = _DirectConnector(self, clock, endpoint, self._slots)
        self.listener = ArrivalListener(self)
        self.acceptor = _Acceptor(self, clock, self._slots)

    # ISession

    @property
    def streams(self) -> int:
        return len(self.memory)

    @property
    def streamsOpened(self) -> int:
        return self.memory.opened

    @property
    def octetsIn(self) -> int:
        return self.memory.octetsIn

    @property
    def octetsOut(self) -> int:
        return self.memory.octetsOut

    @property
    def held(self) -> int:
        return self.memory.held

    def transports(self) -> list[StreamTransport]:
        return [each.stream for each in self.memory.all()]

    def ping(self) -> Deferred[float]:
        if (gone := self.lostReason()) is not None:
            return fail(gone)
        if self._probe is None:
            return fail(UnsupportedPurpose("there is no way to measure the round trip of this session"))
        return self._probe()

    def goAway(self, reason: int = 0) -> None:
        """
        As in L{ISession}; peers notice it when they open a stream.
        """
        self._goingAway = True

    def drain(self) -> Deferred[None]:
        self.goAway()
        idle = self._lifecycle.whenIdle()
        self._lifecycle.checkIdle()
        return idle

    def close(self, reason: str) -> None:
        """
        Open and accept no more streams; those that are open continue.
        """
        self._end(SessionClosed(reason))

    def abort(self) -> None:
        self._end(SessionLost("the session was aborted by this side"))
        for each in self.memory.all():
            each.abortConnection()

    def whenUp(self) -> Deferred[ISession]:
        return self._lifecycle.whenUp()

    def whenGoingAway(self) -> Deferred[None]:
        """
        As in L{ISession}; connections cannot carry an announcement, so it fires when the session is lost.
        """
        return self._lifecycle.whenGoingAway()

    def whenLost(self) -> Deferred[SessionLost]:
        return self._lifecycle.whenLost()

    def lostReason(self) -> SessionLost | None:
        if self._lifecycle.reason is not None:
            return self._lifecycle.reason
        return SessionClosed("this side opens no more streams") if self._goingAway else None

    # Its end

    def _isIdle(self) -> bool:
        return not self.memory

    def _closeIdle(self) -> None:
        self.close("the session was drained by this side")

    def _end(self, reason: SessionLost) -> None:
        if self._lifecycle.isLost:
            return
        self._goingAway = True
        lost = self._lifecycle.lost(reason)
        self.connector.fail(lost)
        self._lifecycle.reportLost()
        self.memory.sessionLost()

    def _streamDone(self) -> None:
        self._slots.release()
        self._lifecycle.checkIdle()


class _Slots:
    """
    How many connections there are, and the calls that wait until there are fewer.
    """

    def __init__(self, clock: IReactorTime, limits: DirectLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._used = 0
        self._waiting: deque[tuple[Deferred[None], float]] = deque()
        self._timer = DeadlineTimer(clock, self._expire)

    def tryTake(self) -> bool:
        """
        Take a slot, unless all are in use or calls wait.
        """
        if self._waiting or self._used >= self._limits.streams:
            return False
        self._used += 1
        return True

    def take(self) -> Deferred[None]:
        """
        @return: fires once a slot was taken; fails with L{TooManyStreams} or L{OpenTimeout}.
        """
        if self.tryTake():
            return succeed(None)
        if len(self._waiting) >= self._limits.waiting:
            return fail(TooManyStreams("no stream can be opened now", waiting=len(self._waiting)))
        taken: Deferred[None] = Deferred(self._cancelled)
        deadline = self._clock.seconds() + self._limits.waitSeconds
        self._waiting.append((taken, deadline))
        self._timer.schedule(deadline)
        return taken

    def release(self) -> None:
        """
        Give a slot back; the call that has waited longest has it now.
        """
        if self._waiting:
            taken, _ = self._waiting.popleft()
            taken.callback(None)
        else:
            self._used -= 1

    def fail(self, reason: SessionLost) -> None:
        """
        Fail all calls that wait.
        """
        self._timer.stop()
        waiting, self._waiting = self._waiting, deque()
        for taken, _ in waiting:
            taken.errback(reason)

    def _cancelled(self, taken: Deferred[None]) -> None:
        self._waiting = deque(each for each in self._waiting if each[0] is not taken)

    def _expire(self, now: float) -> None:
        while self._waiting and self._waiting[0][1] <= now:
            taken, _ = self._waiting.popleft()
            taken.errback(OpenTimeout("no stream could be opened in time"))
        if self._waiting:
            self._timer.schedule(self._waiting[0][1])


@implementer(IStreamClientEndpoint)
class _DirectConnector:
    """
    The connector of a session.
    """

    def __init__(
        self, session: DirectSession, clock: IReactorTime, endpoint: IStreamClientEndpoint | None, slots: _Slots
    ) -> None:
        self._session = session
        self._clock = clock
        self._endpoint = endpoint
        self._slots = slots
        self._dialling: set[Deferred[IProtocol]] = set()

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect the endpoint.

        @return: fires with the protocol once the connection is there.
        """
        if (gone := self._session.lostReason()) is not None:
            return fail(gone)
        if self._endpoint is None:
            return fail(UnsupportedPurpose("only the other side of this session opens streams"))
        return self._slots.take().addCallback(lambda _: self._dial(protocolFactory))

    def fail(self, reason: SessionLost) -> None:
        """
        No more connections are made.
        """
        self._slots.fail(reason)
        for dialled in list(self._dialling):
            dialled.cancel()

    def _dial(self, application: IProtocolFactory) -> Deferred[IProtocol]:
        assert self._endpoint is not None
        opening = _Opening(self._session, self._clock, application)
        dialled: Deferred[IProtocol] = self._endpoint.connect(opening)
        self._dialling.add(dialled)
        dialled.addTimeout(self._session.limits.dialSeconds, self._clock, _dialTimedOut)
        dialled.addBoth(self._dialled, dialled, opening)
        return dialled

    def _dialled(self, result: IProtocol | Failure, dialled: Deferred[IProtocol], opening: _Opening) -> IProtocol | Failure:
        """
        @return: the application's protocol, or why there is none.
        """
        self._dialling.discard(dialled)
        if not opening.registered:
            self._slots.release()
        if opening.result is not None:
            return opening.result
        assert isinstance(result, Failure)
        lost = self._session.lostReason()
        return _connectFailure(result) if lost is None or not result.check(CancelledError) else Failure(lost)


def _dialTimedOut(result: object, seconds: float) -> object:
    if isinstance(result, Failure) and result.check(CancelledError):
        return Failure(OpenTimeout("no connection could be made in time", seconds=seconds))
    return result


def _connectFailure(failure: Failure) -> Failure:
    """
    @return: the failure as one of L{DirectSession.connector}.
    """
    cause = failure.value
    if isinstance(cause, (CancelledError, TunnelError)) or not isinstance(cause, Exception):
        return failure
    failed = ConnectFailed(f"no connection to the peer: {errorText(cause)}")
    failed.__cause__ = cause
    return Failure(failed)


class _Opening(Factory):
    """
    One connection that is made here.

    @ivar registered: it has become a stream, which gives its slot back itself.
    @ivar result: the application's protocol, or a failure; C{None} before the connection is there.
    """

    noisy = False

    def __init__(self, session: DirectSession, clock: IReactorTime, application: IProtocolFactory) -> None:
        self.registered = False
        self.result: IProtocol | Failure | None = None
        self._session = session
        self._clock = clock
        self._application = application

    def buildProtocol(self, address: IAddress | None) -> DirectStream:
        limits = self._session.limits
        return DirectStream(self._clock, limits.closeTimeout, self._register, self._connected, limits.endingTimeout)

    def _register(self, direct: DirectStream) -> None:
        self.registered = True
        session = self._session
        session.memory.add(direct, evolve(session.address, peer=session.address.peer or peerOf(direct.transport)))

    def _connected(self, direct: DirectStream) -> None:
        try:
            self.result = buildProtocolOrRaise(self._application, direct.address)
            direct.stream.handOver(self.result)
        except Exception:
            self.result = Failure()
            direct.stream.abortConnection()


class _Acceptor(Factory):
    """
    The connections that come in.
    """

    noisy = False

    def __init__(self, session: DirectSession, clock: IReactorTime, slots: _Slots) -> None:
        self._session = session
        self._clock = clock
        self._slots = slots
        self._reported = -REPORT_SECONDS

    def buildProtocol(self, address: IAddress | None) -> DirectStream | None:
        """
        @return: C{None} closes the connection: there are too many, or the session goes away.
        """
        session = self._session
        if session.lostReason() is not None:
            return None
        if not session.listener.hasRoom(0) or not self._slots.tryTake():
            self._report(address)
            return None
        limits = session.limits
        return DirectStream(self._clock, limits.closeTimeout, self._register, self._arrived, limits.endingTimeout)

    def _register(self, direct: DirectStream) -> None:
        session = self._session
        session.memory.add(direct, evolve(session.address, peer=peerOf(direct.transport)))

    def _arrived(self, direct: DirectStream) -> None:
        self._session.listener.streamArrived(direct.stream)

    def _report(self, address: IAddress | None) -> None:
        now = self._clock.seconds()
        if now - self._reported >= REPORT_SECONDS:
            self._reported = now
            self._session.log.warn(
                "{streams} streams of {key} are open, which is the limit: a connection of {peer} is not accepted",
                streams=self._session.streams, key=self._session.address.key, peer=addressText(address), status="limit",
                why="streams",
            )
