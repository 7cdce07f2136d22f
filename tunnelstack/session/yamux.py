"""
A yamux session over one transport: the pure machine of L{tunnelstack.wire.yamux} fed, its events given to streams, and
everything that a reactor turn produced written at once.

The session has components, each with one concern::

    StreamScheduler    owner of the streams and producer of the carrier: the order of sending
    ClosingStreams     streams that their applications have closed
    SessionConnector   opens streams; calls that wait for a slot
    SessionListener    takes the peer's streams; streams that wait for a factory
    SessionMemory      what is held for slow readers, for the budget of the process
    SessionLifecycle   up, draining, lost, and why
    DeadlineTimer       the next deadline of all of these

Which side calls itself client decides only which stream numbers it uses; it has nothing to do with which side dialled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, NoProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import ISession
from tunnelstack.session._closing import ClosingStreams
from tunnelstack.session._connector import NoFreeSlot, SessionConnector
from tunnelstack.session._listener import UNCLAIMED, SessionListener
from tunnelstack.session._memory import SessionMemory
from tunnelstack.session.lifecycle import CLOSE_FLUSH_SECONDS, SessionLifecycle, connectionReason
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionClosed, SessionLost, StreamResetError
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.deadline_timer import DeadlineTimer
from tunnelstack.transport.direct_write import disableNagle, immediateWrite
from tunnelstack.transport.event_turns import TURN, EventTurns
from tunnelstack.transport.pending_pings import PendingPings
from tunnelstack.transport.send_buffer import sendBuffer
from tunnelstack.transport.stream_scheduler import StreamScheduler
from tunnelstack.wire.yamux import events
from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.errors import GoneAway, SessionError, StreamLimitReached, StreamsExhausted
from tunnelstack.wire.yamux.events import DataArrived
from tunnelstack.wire.yamux.limits import DEFAULT_LIMITS, SessionLimits


@implementer(ISession, IProtocol)
class YamuxSession(Protocol):
    """
    Many streams over the transport this protocol is connected to.

    @ivar connector: opens streams.
    @ivar listener: takes the peer's streams.
    @ivar address: what the L{StreamAddress}es of its streams contain of the peer; a dialect sets key, principal and its name
        before the session is connected.
    @ivar limits: the L{SessionLimits}.
    @ivar scheduler: the L{IStreamOwner<tunnelstack.interfaces.IStreamOwner>} of its streams.
    @ivar memory: what is held for slow readers.
    @ivar flush: of the scheduler: write what is due now.
    @ivar scheduleFlush: of the scheduler: write it once this turn of the reactor is over.
    @ivar acceptStream: of the core, for the listener.
    """

    transport: Any                            # a L{Carrier<tunnelstack.session.lifecycle.Carrier>}

    def __init__(
        self,
        client: bool,
        *,
        clock: IReactorTime,
        limits: SessionLimits | None = None,
        address: StreamAddress | None = None,
    ) -> None:
        self.limits = limits = limits or DEFAULT_LIMITS
        self.address = address or StreamAddress()
        self._clock = clock
        self._core = core = YamuxConnection(client, limits)
        self._streams: dict[int, StreamTransport] = {}
        self._pings = PendingPings()
        self._lifecycle = SessionLifecycle(self, clock, self._isIdle, self._closeIdle)
        self._timer = DeadlineTimer(clock, self._expire)
        self._closing = ClosingStreams(
            clock, core, self._streams, self._timer, limits.close_timeout, self._lifecycle.checkIdle
        )
        self.scheduler = StreamScheduler(
            clock, core, self._streams, self._closing,
            onStreamsLost=self._streamsLost, onPeerNotReading=self._peerNotReading, onPingSent=self._pingSent,
        )
        self.memory = SessionMemory(
            core, limits.session_octets, self._streams, self.scheduler, self._lifecycle, self.resetStream
        )
        self.connector = SessionConnector(clock, self._timer, self)
        self.listener = SessionListener(self)
        self.flush = self.scheduler.flush
        self.scheduleFlush = self.scheduler.scheduleFlush
        self._turns: EventTurns[events.YamuxEvent] = EventTurns(
            clock, self._dispatch, self.flush, events.StreamOpened
        )
        self.acceptStream = core.accept_stream

    # ISession

    @property
    def streams(self) -> int:
        """
        How many streams are open.
        """
        return self._core.streams

    @property
    def streamsOpened(self) -> int:
        """
        How many streams have been opened, by both sides.
        """
        return self._core.streams_opened

    @property
    def openSlots(self) -> int:
        """
        How many streams can be opened now.
        """
        return self._core.open_slots

    def limitStreams(self, most: int) -> None:
        """
        Let each side have so many streams open from now on, because the peer has sent how many it accepts.
        """
        self._core.limit_streams(most)

    @property
    def octetsIn(self) -> int:
        """
        Octets of payload received.
        """
        return self._core.octets_in

    @property
    def octetsOut(self) -> int:
        """
        Octets of payload sent.
        """
        return self._core.octets_out

    @property
    def held(self) -> int:
        """
        Octets held for applications that have not read them yet.
        """
        return self.memory.held

    def transports(self) -> list[StreamTransport]:
        """
        @return: the streams that are open now.
        """
        return list(self._streams.values())

    def ping(self) -> Deferred[float]:
        """
        As in L{ISession}.
        """
        if (gone := self.lostReason()) is not None:
            return fail(gone)
        self._core.now = self._clock.seconds()
        answer = self._pings.wait(self._core.ping, self._core.now)
        self.scheduleFlush()
        return answer

    def goAway(self, reason: int = 0) -> None:
        """
        As in L{ISession}.
        """
        if self.lostReason() is None:
            self._core.go_away(reason)
            self.scheduleFlush()

    def drain(self) -> Deferred[None]:
        """
        As in L{ISession}; the peer is sent a Go Away.
        """
        idle = self._lifecycle.whenIdle()
        self.goAway()
        self.scheduler.callNextTurn(self._lifecycle.checkIdle)
        return idle

    def abort(self) -> None:
        """
        As in L{ISession}.
        """
        self._lifecycle.abort()

    def whenUp(self) -> Deferred[ISession]:
        """
        As in L{ISession}.
        """
        return self._lifecycle.whenUp()

    def whenGoingAway(self) -> Deferred[None]:
        """
        As in L{ISession}.
        """
        return self._lifecycle.whenGoingAway()

    def whenLost(self) -> Deferred[SessionLost]:
        """
        As in L{ISession}.
        """
        return self._lifecycle.whenLost()

    def lostReason(self) -> SessionLost | None:
        """
        As in L{ISession}.
        """
        return self._lifecycle.reason

    # IProtocol

    def connectionMade(self) -> None:
        """
        The carrier is there.
        """
        self.transport.registerProducer(self.scheduler, True)
        self.scheduler.start(immediateWrite(self.transport), sendBuffer(self.transport))
        disableNagle(self.transport)
        self._expireCore()
        self._lifecycle.connected(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the carrier, cut anywhere.
        """
        if self._turns.waiting:               # the core counts on all its events being known
            self._turns.finish()
        if self._lifecycle.reason is not None:
            return
        core = self._core
        core.now = self._clock.seconds()
        try:
            happened = core.receive_data(data)
        except SessionError as broken:
            self._protocolFailed(broken)
            self.flush()
        else:
            self._dispatch(happened if len(happened) <= TURN else self._turns.first(happened))
            self.scheduler.flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The carrier is gone, and with it every stream.
        """
        self._turns.finish()
        lost = self._lifecycle.lost(self._lostFrom(reason))
        self._loseStreams(lost)
        self.connector.fail(lost)
        self._pings.fail(lost)
        self._lifecycle.reportLost()

    def _lostFrom(self, reason: Failure) -> SessionLost:
        if reason.check(ConnectionDone) and self._lifecycle.reason is None:
            try:
                self._core.receive_eof()
            except SessionError as cut:
                return SessionLost(str(cut))
        return connectionReason(reason)

    # For the connector and the listener

    def openStream(self, factory: IProtocolFactory) -> IProtocol:
        """
        Open a stream for a protocol of C{factory}'s.

        @raise NoFreeSlot: not at this moment.
        @raise SessionClosed: never again.
        @raise NoProtocol: the factory declined.
        """
        core = self._core
        try:
            streamId = core.open_stream(core.now if self.scheduler.inFlush else self._clock.seconds())
        except StreamLimitReached as later:
            raise NoFreeSlot from later
        except (GoneAway, StreamsExhausted) as never:
            raise SessionClosed(str(never)) from never
        try:
            protocol = factory.buildProtocol(self.address)
            if protocol is None:
                raise NoProtocol
        except Exception:
            self.scheduler.reset(streamId)
            raise
        stream = self._streams[streamId] = StreamTransport(self.scheduler, streamId, self.address, protocol)
        if not self._timer.armed:
            self._expireCore()
        self.scheduleFlush()
        protocol.makeConnection(stream)
        return protocol

    def resetStream(self, stream: StreamTransport, reason: StreamResetError) -> None:
        """
        Reset a stream, and report it to its protocol.
        """
        self.listener.streamGone(stream.streamId)
        self.scheduler.reset(stream.streamId)
        stream.lost(Failure(reason))

    # Events

    def _dispatch(self, happened: list[events.YamuxEvent]) -> None:
        """
        Give events to the streams.
        """
        scheduler, streams = self.scheduler, self._streams
        scheduler.inFlush = True
        try:
            for event in happened:
                if type(event) is DataArrived:
                    streamId, data = event
                    stream = streams.get(streamId)
                    if stream is not None and not stream.disconnecting:
                        stream.deliverData(data)
                    else:
                        self._closing.absorb(streamId, len(data))
                else:
                    _HANDLERS[event.__class__](self, event)
        finally:
            scheduler.inFlush = False

    def _streamOpened(self, event: events.StreamOpened) -> None:
        streamId = event.stream_id
        stream = self._streams[streamId] = StreamTransport(self.scheduler, streamId, self.address, UNCLAIMED)
        self.listener.opened(stream)

    def _streamEnded(self, event: events.StreamEnded) -> None:
        streamId = event.stream_id
        stream = self._streams.get(streamId)
        if stream is not None:
            stream.deliverEnd()
        else:
            self._closing.endReceived(streamId)
        if self._lifecycle.draining:
            self._lifecycle.checkIdle()

    def _streamReset(self, event: events.StreamReset) -> None:
        self._closing.forget(event.stream_id)
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self.listener.streamGone(event.stream_id)
            stream.lost(Failure(StreamResetError("the stream was reset", stream=event.stream_id, reason=event.reason)))
        self._lifecycle.checkIdle()

    def _credit(self, event: events.CreditArrived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None and stream.queued and not stream.scheduled:
            self.scheduler.streamReady(stream)

    def _slotsFreed(self, event: events.SlotsFreed) -> None:
        self.connector.slotsFreed()

    def _pong(self, event: events.PongArrived) -> None:
        self._pings.answered(event.opaque, self._clock.seconds())

    def _peerWentAway(self, event: events.PeerWentAway) -> None:
        self.connector.fail(SessionClosed("the peer accepts no more streams"))
        self._lifecycle.peerWentAway()

    def _keepaliveLost(self, event: events.KeepaliveLost) -> None:
        self._lifecycle.drop(SessionLost("the peer did not answer a ping in time"))

    # The clock

    def _expire(self, now: float) -> None:
        """
        A deadline of the session or of a component has passed.
        """
        self.connector.expire(now)
        self._closing.expire(now)
        self._expireCore()
        self.flush()

    def _expireCore(self) -> None:
        """
        Handle what is due, and schedule the next deadline of the core.
        """
        for event in self._core.expire(self._clock.seconds()):
            _HANDLERS[event.__class__](self, event)
        self._scheduleCore()

    def _scheduleCore(self) -> None:
        deadline = self._core.next_deadline()
        if deadline is not None:
            self._timer.schedule(deadline)

    def _pingSent(self) -> None:
        """
        From the scheduler: the time for the answer to a ping begins.
        """
        self._core.ping_sent(self._clock.seconds(), self.scheduler.secondsAhead())
        self._scheduleCore()

    # Ends

    def _streamsLost(self) -> None:
        """
        From the scheduler: there are fewer streams.
        """
        if self._lifecycle.draining:
            self.scheduler.callNextTurn(self._lifecycle.checkIdle)
        if self.connector.waiting:
            self.scheduler.callNextTurn(self.connector.slotsFreed)

    def _isIdle(self) -> bool:
        return not (self._streams or self._closing)

    def _closeIdle(self) -> None:
        self.scheduler.send()
        self._lifecycle.close()

    def _protocolFailed(self, broken: SessionError) -> None:
        """
        The peer broke a rule: events before it are handled, the core's last words are flushed, and the carrier is closed.
        """
        self._dispatch(list(broken.events))
        lost = self._lifecycle.broken(broken, self.address)
        self.transport.write(b"".join(self._core.data_to_send()))
        self._loseStreams(lost)
        self._lifecycle.close(within=CLOSE_FLUSH_SECONDS)

    def _loseStreams(self, lost: SessionLost) -> None:
        self._timer.stop()
        self.scheduler.close()
        self._closing.clear()
        failure = Failure(lost)
        for stream in self.transports():
            stream.lost(failure)
        self.memory.leave()

    def _peerNotReading(self) -> None:
        self._lifecycle.drop(SessionLost("the peer does not read"))


_HANDLERS: dict[type[events.YamuxEvent], Callable[[YamuxSession, Any], object]] = {
    events.StreamOpened: YamuxSession._streamOpened,
    events.StreamEnded: YamuxSession._streamEnded,
    events.StreamReset: YamuxSession._streamReset,
    events.CreditArrived: YamuxSession._credit,
    events.SlotsFreed: YamuxSession._slotsFreed,
    events.PongArrived: YamuxSession._pong,
    events.PeerWentAway: YamuxSession._peerWentAway,
    events.KeepaliveLost: YamuxSession._keepaliveLost,
}
"""What a session does with each event but L{DataArrived}: one table for all sessions, to spare each a dozen objects."""
