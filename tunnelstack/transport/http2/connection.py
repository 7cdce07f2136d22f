"""
An HTTP/2 connection over one transport, in either role: the pure machine of L{tunnelstack.wire.http2} fed, its events given to
streams, and everything that a reactor turn produced written at once.

The client opens streams with L{HTTP2Connection.openStream}; the server is given an C{accept} that makes a receiver for each.
Which of the two sides dialled does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import UsageError
from tunnelstack.interfaces import IHTTP2Receiver
from tunnelstack.transport.deadline_timer import DeadlineTimer
from tunnelstack.transport.direct_write import disableNagle, immediateWrite
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.event_turns import TURN, EventTurns
from tunnelstack.transport.http2.errors import (
    ConnectionClosing,
    HTTP2ConnectionLost,
    HTTP2StreamReset,
    NoFreeStream,
)
from tunnelstack.transport.http2.stream import HTTP2Stream
from tunnelstack.transport.peers import addressText
from tunnelstack.transport.pending_pings import PendingPings
from tunnelstack.transport.send_buffer import sendBuffer
from tunnelstack.transport.stream_scheduler import ScheduledStream, StreamScheduler
from tunnelstack.waiters import Waiters
from tunnelstack.wire.http2 import events
from tunnelstack.wire.http2.codes import ErrorCode, code_text
from tunnelstack.wire.http2.connection import HTTP2Machine
from tunnelstack.wire.http2.errors import HTTP2Error, NoMoreStreams, StreamLimitUsedUp
from tunnelstack.wire.http2.limits import CLIENT_LIMITS, SERVER_LIMITS, HTTP2Limits

ReceiverFactory = Callable[[HTTP2Stream], IHTTP2Receiver | None]
"""Makes the receiver of a stream that the peer has opened; C{None} refuses the stream."""


class ReceivingStream(ScheduledStream, TypingProtocol):
    """
    A stream, as its connection sees it.
    """

    def deliverInformational(self, fields: events.Fields) -> None:
        """
        The head of an interim response.
        """

    def deliverHead(self, fields: events.Fields, ended: bool) -> None:
        """
        The peer's head.
        """

    def deliverData(self, data: bytes) -> None:
        """
        A piece of the peer's body.
        """

    def deliverTrailers(self, trailers: events.Fields) -> None:
        """
        The end of the peer's direction.
        """

    def stopReading(self) -> None:
        """
        Drop what was not delivered.
        """

    def lost(self, reason: Failure) -> None:
        """
        The stream is over.
        """


class _NothingCloses:
    """
    In place of streams that their applications have closed: those of HTTP/2 are ended or reset.
    """

    def add(self, streamId: int, ended: bool) -> None:
        pass

    def endSent(self, stream: ReceivingStream) -> None:
        pass

    def forget(self, streamId: int) -> None:
        pass


@implementer(IProtocol)
class HTTP2Connection(Protocol):
    """
    One side of a connection.

    @ivar client: this side opens the streams.
    @ivar limits: the L{HTTP2Limits}.
    @ivar lostReason: why no stream can be opened any more: the connection is being dropped, or is lost.  C{None} before.
    @ivar isLost: the transport is gone.
    @ivar awayCode: why the peer has announced the end of the connection; C{None} before.
    @ivar onSlotsChanged: called when more or fewer streams can be opened than before, but not from inside C{openStream}.
    @ivar scheduler: the L{IStreamOwner<tunnelstack.interfaces.IStreamOwner>} of its streams.
    @ivar core: the pure machine.
    @ivar streamTable: the streams that are open, by number.
    @ivar handlers: what is called with each event of the machine.  A user that has streams of its own kind replaces some.
    """

    _log = Logger()
    transport: Any                            # an C{ITransport}, and what its kind has beside that

    def __init__(
        self, client: bool, *, clock: IReactorTime, limits: HTTP2Limits | None = None, accept: ReceiverFactory | None = None
    ) -> None:
        """
        @param accept: of a server: called with each stream that the client opens.
        """
        self.client = client
        self.limits = limits = limits or (CLIENT_LIMITS if client else SERVER_LIMITS)
        self.lostReason: HTTP2ConnectionLost | None = None
        self.onSlotsChanged: Callable[[], object] | None = None
        self._accept = accept
        self._clock = clock
        self.core = core = HTTP2Machine(client, limits)
        self.streamTable: dict[int, ReceivingStream] = {}
        self._pings = PendingPings()
        self._timer = DeadlineTimer(clock, self._expire)
        self._up = self.isLost = self._closed = self._slotsReported = False
        self._closeTimer: IDelayedCall | None = None
        self._waitingUp: Waiters[HTTP2Connection] = Waiters()
        self.awayCode: int | None = None
        self._waitingAway: Waiters[None] = Waiters()
        self._waitingLost: Waiters[HTTP2ConnectionLost] = Waiters()
        self._waitingDrained: Waiters[None] = Waiters()
        self._draining = False
        self.scheduler: StreamScheduler[ReceivingStream] = StreamScheduler(
            clock, core, self.streamTable, _NothingCloses(),
            onStreamsLost=self._streamsLost, onPeerNotReading=self._peerNotReading, onPingSent=self._pingSent,
            heads=True,
        )
        self._turns: EventTurns[events.HTTP2Event] = EventTurns(clock, self._dispatch, self.scheduler.flush)
        self.handlers: dict[type[events.HTTP2Event], Callable[[Any], object]] = {
            events.BodyArrived: self._bodyArrived,
            events.HeadArrived: self._headArrived,
            events.InformationalArrived: self._informationalArrived,
            events.MessageEnded: self._messageEnded,
            events.StreamAborted: self._streamAborted,
            events.WindowOpened: self._windowOpened,
            events.StreamSlotsChanged: lambda event: self._reportSlots(),
            events.SettingsArrived: self._settingsArrived,
            events.PingAnswered: self._pingAnswered,
            events.GoAwayArrived: self._goAwayArrived,
            events.ConnectionExpired: self._connectionExpired,
            events.ConnectionIdle: lambda event: self.drain(),
        }

    # Streams

    def openStream(
        self, fields: Iterable[tuple[bytes, bytes]], receiver: IHTTP2Receiver, endStream: bool = False
    ) -> HTTP2Stream:
        """
        Send a request.

        @param fields: its head, with C{:method}, C{:scheme}, C{:authority} and C{:path} first.
        @param receiver: receives the response.
        @param endStream: there is neither a body nor trailers.
        @raise NoFreeStream: not at this moment; C{onSlotsChanged} is called when it may be possible.
        @raise ConnectionClosing: never again.
        @raise UsageError: this is a server.
        """
        stream = self._newStream(self.reserveStream())
        stream.receiver = receiver
        stream.sendHeaders(fields, endStream)
        return stream

    def reserveStream(self) -> int:
        """
        For streams of another kind: the first step of L{openStream}.  L{addStream} is to follow.

        @return: the number of the stream.
        """
        if not self.client:
            raise UsageError("a server opens no streams")
        if self.lostReason is not None:
            raise ConnectionClosing("the connection is lost") from self.lostReason
        try:
            return self.core.open_stream(self._clock.seconds())
        except StreamLimitUsedUp as later:
            raise NoFreeStream(str(later)) from later
        except NoMoreStreams as never:
            raise ConnectionClosing(str(never)) from never

    def addStream(self, stream: ReceivingStream) -> None:
        """
        Deliver to a stream what arrives for its number.
        """
        self.streamTable[stream.streamId] = stream

    def _newStream(self, streamId: int) -> HTTP2Stream:
        stream = HTTP2Stream(self.scheduler, self.core, streamId, self.getPeer, self.getHost)
        self.streamTable[streamId] = stream
        return stream

    def transports(self) -> list[ReceivingStream]:
        """
        @return: the streams that are open now.
        """
        return list(self.streamTable.values())

    @property
    def streams(self) -> int:
        """
        How many streams are open.
        """
        return len(self.streamTable)

    @property
    def openSlots(self) -> int:
        """
        How many streams can be opened now.
        """
        return 0 if self.lostReason is not None else self.core.open_slots

    @property
    def isGoingAway(self) -> bool:
        """
        Whether either side has announced the end of the connection.
        """
        return self.core.peer_went_away or self.core.went_away or self.core.draining

    @property
    def peerAllowsConnectProtocol(self) -> bool:
        """
        Whether the server accepts the extended CONNECT of RFC 8441; known when L{whenUp} has fired.
        """
        return self.core.peer_allows_connect_protocol

    @property
    def octetsIn(self) -> int:
        """
        Octets of bodies received.
        """
        return self.core.octets_in

    @property
    def octetsOut(self) -> int:
        """
        Octets of bodies sent.
        """
        return self.core.octets_out

    @property
    def held(self) -> int:
        """
        Octets of bodies held for receivers that have paused.
        """
        return self.core.held

    def getPeer(self) -> IAddress:
        """
        @return: the address of the other end.
        """
        address: IAddress = self.transport.getPeer()
        return address

    def getHost(self) -> IAddress:
        """
        @return: the address of this end.
        """
        address: IAddress = self.transport.getHost()
        return address

    # The life of the connection

    def whenUp(self) -> Deferred[HTTP2Connection]:
        """
        @return: fires with the connection once the peer's SETTINGS have arrived; never if it is lost before.
        """
        return succeed(self) if self._up else self._waitingUp.wait()

    def whenGoingAway(self) -> Deferred[None]:
        """
        @return: fires once the peer has announced the end of the connection, or the connection is lost.
        """
        return succeed(None) if self.core.peer_went_away or self.isLost else self._waitingAway.wait()

    def whenLost(self) -> Deferred[HTTP2ConnectionLost]:
        """
        @return: fires once the connection is lost, with the reason as a result and not as an error.
        """
        if self.isLost and self.lostReason is not None:
            return succeed(self.lostReason)
        return self._waitingLost.wait()

    def ping(self) -> Deferred[float]:
        """
        @return: fires with the round trip in seconds; fails with L{HTTP2ConnectionLost}.
        """
        if self.lostReason is not None:
            return fail(self.lostReason)
        self.core.now = self._clock.seconds()
        answer = self._pings.wait(self.core.ping, self.core.now)
        self.scheduler.scheduleFlush()
        return answer

    def goAway(self, code: int = ErrorCode.NO_ERROR) -> None:
        """
        Accept no more streams, and open none.  The connection is closed after the last stream.
        """
        if self.lostReason is None:
            self.core.go_away(code)
            self._closeWhenDone()

    def drain(self) -> Deferred[None]:
        """
        As L{goAway}, in two steps, so that no stream is refused that the peer opens before it knows.

        @return: fires when the connection is lost.  There is no time-out.
        """
        if self.isLost:
            return succeed(None)
        self.core.now = self._clock.seconds()
        if self.lostReason is None:
            self.core.drain()
            self._scheduleCore()
            self._closeWhenDone()
        return self._waitingDrained.wait()

    def _closeWhenDone(self) -> None:
        self._draining = True
        self._reportSlots()
        self.scheduler.callNextTurn(self.checkIdle)

    def abort(self) -> None:
        """
        Drop the connection at once.
        """
        self._drop(HTTP2ConnectionLost("the connection was aborted by this side"))

    def _drop(self, reason: HTTP2ConnectionLost) -> None:
        if self.lostReason is None:
            self.lostReason = reason
        if self.transport is not None and not self.isLost:
            self.transport.abortConnection()

    def checkIdle(self) -> None:
        """
        Close a connection that drains when it has no stream left and none can come.
        """
        idle = not self.streamTable and not self.core.open_streams
        if self._draining and idle and self.core.went_away and not self.isLost:
            self.scheduler.send()
            self._close(HTTP2ConnectionLost("the connection was closed"))

    def _close(self, reason: HTTP2ConnectionLost) -> None:
        """
        Close after what is queued, within a time.
        """
        if self.lostReason is None:
            self.lostReason = reason
        if not self._closed and self.transport is not None:
            self._closed = True
            self._closeTimer = self._clock.callLater(self.limits.close_timeout, self.transport.abortConnection)
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    # IProtocol

    def connectionMade(self) -> None:
        """
        The transport is there.
        """
        self.transport.registerProducer(self.scheduler, True)
        self.scheduler.start(immediateWrite(self.transport), sendBuffer(self.transport))
        disableNagle(self.transport)
        self._expireCore()

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the transport, cut anywhere.
        """
        if self._turns.waiting:               # the core counts on all its events being known
            self._turns.finish()
        if self.lostReason is not None:
            return
        core = self.core
        core.now = self._clock.seconds()
        try:
            happened = core.receive_data(data)
        except HTTP2Error as broken:
            self._protocolFailed(broken)
            self.scheduler.flush()
        else:
            self._dispatch(happened if len(happened) <= TURN else self._turns.first(happened))
            self.scheduler.flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The transport is gone, and with it every stream.
        """
        self._turns.finish()
        if self.lostReason is None:
            self.lostReason = self._lostFrom(reason)
        self.isLost = True
        timer, self._closeTimer = self._closeTimer, None
        if timer is not None and timer.active():
            timer.cancel()
        self._loseStreams(self.lostReason)
        self._pings.fail(self.lostReason)
        self._reportSlots()
        self._waitingDrained.fire(None)
        self._waitingLost.fire(self.lostReason)
        self._waitingAway.fire(None)

    def _lostFrom(self, reason: Failure) -> HTTP2ConnectionLost:
        if reason.check(ConnectionDone):
            try:
                self.core.receive_eof()
            except HTTP2Error as cut:
                return HTTP2ConnectionLost(str(cut), ErrorCode.PROTOCOL_ERROR, byPeer=True)
            return HTTP2ConnectionLost("the connection was closed by the peer", byPeer=True)
        return HTTP2ConnectionLost(f"the HTTP/2 connection was lost: {errorText(reason)}", byPeer=True)

    def _protocolFailed(self, broken: HTTP2Error) -> None:
        """
        The peer broke a rule: events before it are handled, GOAWAY is sent, and the connection is closed.
        """
        self._dispatch(list(broken.events))
        lost = HTTP2ConnectionLost(f"the peer broke the protocol: {broken}", broken.code, byPeer=True)
        lost.__cause__ = broken
        self._log.warn(
            "HTTP/2 connection with {peer} broken off: {reason}", peer=addressText(self.getPeer()), reason=str(broken),
        )
        self._sendLast(lost)

    def _sendLast(self, lost: HTTP2ConnectionLost) -> None:
        self.transport.write(b"".join(self.core.data_to_send()))
        if self.lostReason is None:
            self.lostReason = lost
        self._loseStreams(lost)
        self._close(lost)

    def _loseStreams(self, lost: HTTP2ConnectionLost) -> None:
        self._timer.stop()
        self.scheduler.close()
        failure = Failure(lost)
        for stream in self.transports():
            stream.lost(failure)

    # Events

    def _dispatch(self, happened: list[events.HTTP2Event]) -> None:
        """
        Give events to the streams.
        """
        deliver, scheduler = self.handlers, self.scheduler
        scheduler.inFlush = True
        try:
            for event in happened:
                deliver[event.__class__](event)
        finally:
            scheduler.inFlush = False

    def _headArrived(self, event: events.HeadArrived) -> None:
        stream = self.streamTable.get(event.stream_id)
        if stream is None and not self.client:
            stream = self._acceptStream(event.stream_id)
        if stream is not None and stream.connected:
            stream.deliverHead(event.fields, event.ended)

    def _acceptStream(self, streamId: int) -> HTTP2Stream | None:
        stream = self._newStream(streamId)
        code = ErrorCode.REFUSED_STREAM
        receiver: IHTTP2Receiver | None = None
        try:
            if self._accept is not None:
                receiver = self._accept(stream)
        except Exception:
            self._log.failure("no receiver could be made for a stream of HTTP/2")
            code = ErrorCode.INTERNAL_ERROR
        if receiver is None:
            stream.reset(code)
            return None
        stream.receiver = receiver
        return stream

    def _informationalArrived(self, event: events.InformationalArrived) -> None:
        stream = self.streamTable.get(event.stream_id)
        if stream is not None and stream.connected:
            stream.deliverInformational(event.fields)

    def _bodyArrived(self, event: events.BodyArrived) -> None:
        stream = self.streamTable.get(event.stream_id)
        if stream is not None and stream.connected:
            stream.deliverData(event.data)

    def _messageEnded(self, event: events.MessageEnded) -> None:
        stream = self.streamTable.get(event.stream_id)
        if stream is not None and stream.connected:
            stream.deliverTrailers(event.trailers)

    def _streamAborted(self, event: events.StreamAborted) -> None:
        stream = self.streamTable.get(event.stream_id)
        if stream is None:
            return
        if event.by_peer and event.code == ErrorCode.NO_ERROR and stream.readEnded:
            stream.stopReading()
            stream.lost(connectionDone)       # the response is complete, and the rest of the request is not needed
            return
        why = event.why or f"the peer has reset the stream with {code_text(event.code)}"
        stream.lost(Failure(HTTP2StreamReset(
            why, event.code, byPeer=event.by_peer, unprocessed=event.unprocessed, stream=event.stream_id
        )))

    def _windowOpened(self, event: events.WindowOpened) -> None:
        stream = self.streamTable.get(event.stream_id)
        if stream is not None and stream.queued and not stream.scheduled:
            self.scheduler.streamReady(stream)

    def _settingsArrived(self, event: events.SettingsArrived) -> None:
        self._up = True
        self._waitingUp.fire(self)

    def _pingAnswered(self, event: events.PingAnswered) -> None:
        self._pings.answered(event.opaque, self._clock.seconds())

    def _goAwayArrived(self, event: events.GoAwayArrived) -> None:
        self.awayCode = event.code
        if event.code != ErrorCode.NO_ERROR:
            self._log.warn(
                "HTTP/2 connection with {peer} is ended by the peer with {code}: {debug}", peer=addressText(self.getPeer()),
                code=code_text(event.code), debug=event.debug.decode("ascii", "backslashreplace"),
            )
        if self.client:
            self.goAway()
        self._reportSlots()
        self._waitingAway.fire(None)

    def _connectionExpired(self, event: events.ConnectionExpired) -> None:
        self._sendLast(HTTP2ConnectionLost(event.why, event.code, byPeer=True))

    # The clock

    def _expire(self, now: float) -> None:
        self._expireCore()
        self.checkIdle()
        self.scheduler.flush()

    def _expireCore(self) -> None:
        """
        Handle what the core has to do by now, and ask it for its next deadline.
        """
        for event in self.core.expire(self._clock.seconds()):
            self.handlers[event.__class__](event)
        self._scheduleCore()

    def _scheduleCore(self) -> None:
        deadline = self.core.next_deadline()
        if deadline is not None and self.lostReason is None:
            self._timer.schedule(deadline)

    def _pingSent(self) -> None:
        """
        From the scheduler: the time for the answer to a ping begins.
        """
        self.core.ping_sent(self._clock.seconds(), self.scheduler.secondsAhead())
        self._scheduleCore()

    # From the scheduler

    def _streamsLost(self) -> None:
        """
        There are fewer streams.
        """
        if self._draining:
            self.scheduler.callNextTurn(self.checkIdle)
        if self.onSlotsChanged is not None and not self._slotsReported:
            self._slotsReported = True
            self.scheduler.callNextTurn(self._reportSlotsOnce)

    def _reportSlotsOnce(self) -> None:
        self._slotsReported = False
        self._reportSlots()

    def _reportSlots(self) -> None:
        if self.onSlotsChanged is not None:
            try:
                self.onSlotsChanged()
            except Exception:
                self._log.failure("a handler of free streams failed")

    def _peerNotReading(self) -> None:
        self._drop(HTTP2ConnectionLost("the peer does not read", ErrorCode.ENHANCE_YOUR_CALM, byPeer=True))
