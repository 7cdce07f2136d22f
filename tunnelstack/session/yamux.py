"""
A yamux session over one transport: the pure machine of L{tunnelstack.wire.yamux} fed, its events told to streams, and
everything that a reactor turn produced written at once.

Which side calls itself client says only which stream identifiers it uses; it has nothing to do with who dialled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError, ConnectionDone, NoProtocol
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import ISession
from tunnelstack.session._owner import StreamOwner
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.lost import OpenTimeout, SessionClosed, SessionLost, StreamReset, TooManyStreams
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.wire.yamux import events
from tunnelstack.wire.yamux.errors import GoneAway, SessionBroken, StreamsExhausted
from tunnelstack.wire.yamux.errors import TooManyStreams as AllTaken
from tunnelstack.wire.yamux.limits import SessionLimits
from tunnelstack.wire.yamux.session import YamuxConnection

WAITING_OPENS = 1024
"""Calls of C{connect} that may wait for a slot; more fail at once."""

OPEN_SECONDS = 30.0
"""Seconds that one of them waits."""

GOODBYE_SECONDS = 10.0
"""Seconds for the carrier to take the last octets of a session that broke."""


@implementer(ISession, IProtocol)
class YamuxSession(StreamOwner, Protocol):
    """
    Many streams over the transport this protocol is connected to.

    @ivar connector: opens streams.
    @ivar listener: takes the peer's streams.
    @ivar address: what the L{StreamAddress}es of its streams say of the peer; a dialect puts key, principal and its name here
        before the session is connected.
    """

    def __init__(
        self,
        client: bool,
        *,
        clock: Any,
        limits: SessionLimits | None = None,
        address: StreamAddress | None = None,
    ) -> None:
        super().__init__()
        self._clock = clock
        self._limits = limits or SessionLimits()
        self._wire = YamuxConnection(client, self._limits)
        self._core = self._wire
        self.acknowledge = self._wire.acknowledge  # type: ignore[method-assign,assignment]
        self.address = address or StreamAddress()
        self.connector = _Connector(self)
        self.listener = _Listener(self)
        self._factory: IProtocolFactory | None = None
        self._unclaimed: dict[int, StreamTransport] = {}
        self._opens: deque[tuple[Deferred[IProtocol], IProtocolFactory, float]] = deque()
        self._pings: dict[int, tuple[Deferred[float], float]] = {}
        self._whenUp: list[Deferred[YamuxSession]] = []
        self._whenLost: list[Deferred[SessionLost]] = []
        self._whenIdle: list[Deferred[None]] = []
        self._lost: SessionLost | None = None
        self._failing: SessionLost | None = None
        self._goodbye: Any = None
        self._timer: Any = None
        self._deliver: dict[type[events.Event], Callable[[Any], None]] = {
            events.DataArrived: self._data,
            events.StreamOpened: self._opened,
            events.StreamEnded: self._streamEnded,
            events.StreamReset: self._streamReset,
            events.CreditArrived: self._credit,
            events.SlotsFreed: self._slotsFreed,
            events.PongArrived: self._pong,
            events.PeerWentAway: self._wentAway,
            events.KeepaliveLost: self._keepaliveLost,
        }

    # ISession

    @property
    def streams(self) -> int:
        """
        How many streams are open.
        """
        return self._wire.streams

    @property
    def octetsIn(self) -> int:
        """
        Octets of payload received.
        """
        return self._wire.octets_in

    @property
    def octetsOut(self) -> int:
        """
        Octets of payload sent.
        """
        return self._wire.octets_out

    def ping(self) -> Deferred[float]:
        """
        As in L{ISession}.
        """
        if self._core is None:
            return fail(self._goneError())
        answer: Deferred[float] = Deferred()
        self._pings[self._core.ping()] = (answer, self._clock.seconds())
        self._wake()
        return answer

    def goAway(self, reason: int = 0) -> None:
        """
        As in L{ISession}.
        """
        if self._core is not None:
            self._core.go_away(reason)
            self._wake()

    def drain(self) -> Deferred[None]:
        """
        Say Go Away, let open streams finish, then close the carrier.

        @return: fires once the last stream is done (or the session is lost); there is no deadline in it.
        """
        idle: Deferred[None] = Deferred()
        self._whenIdle.append(idle)
        self.goAway()
        self.soon(self._checkIdle)
        return idle

    def abort(self) -> None:
        """
        As in L{ISession}.
        """
        self._failing = self._failing or SessionLost("the session was aborted by this side")
        if self.transport is not None:
            self.transport.abortConnection()

    def whenUp(self) -> Deferred[YamuxSession]:
        """
        @return: fires with this session once it is connected.
        """
        up: Deferred[YamuxSession] = Deferred()
        if self.connected:
            up.callback(self)
        else:
            self._whenUp.append(up)
        return up

    def whenLost(self) -> Deferred[SessionLost]:
        """
        As in L{ISession}.
        """
        lost: Deferred[SessionLost] = Deferred()
        if self._lost is not None:
            lost.callback(self._lost)
        else:
            self._whenLost.append(lost)
        return lost

    # IProtocol

    def connectionMade(self) -> None:
        """
        The carrier is there.
        """
        self.transport.registerProducer(self, True)
        self._watchCore()
        waiting, self._whenUp = self._whenUp, []
        for up in waiting:
            up.callback(self)
        self._wake()

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the carrier, cut anywhere.
        """
        core = self._core
        if core is None or self._failing is not None:
            return
        deliver = self._deliver
        self._feeding = True
        try:
            for event in core.receive_data(data):
                deliver[event.__class__](event)
        except SessionBroken as broken:
            self._breakOff(broken)
        finally:
            self._feeding = False
        if self._core is not None and core.held > self._limits.session_octets:
            self._relieve()
        self.flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The carrier is gone, and with it every stream.
        """
        lost = self._failing or self._whyLost(reason)
        self._lost = lost
        for call in (self._timer, self._goodbye):
            if call is not None and call.active():
                call.cancel()
        self._loseStreams(lost)
        opens, self._opens = self._opens, deque()
        pings, self._pings = self._pings, {}
        for connected, *_ in opens:
            connected.errback(lost)
        for answer, _ in pings.values():
            answer.errback(lost)
        self._checkIdle()
        waiting, self._whenLost = self._whenLost, []
        for told in waiting:
            told.callback(lost)

    def _whyLost(self, reason: Failure) -> SessionLost:
        if reason.check(ConnectionDone):
            try:
                self._wire.receive_eof()
            except SessionBroken as cut:
                return SessionLost(str(cut))
            return SessionClosed("the session's connection was closed")
        return SessionLost(f"the session's connection was lost: {reason.getErrorMessage()}")

    def _goneError(self) -> SessionLost:
        return self._lost or self._failing or SessionLost("the session is not connected")

    # Opening

    def openStream(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a stream for a protocol of C{factory}'s; what C{connector.connect} does.
        """
        if self._core is None or self._failing is not None:
            return fail(self._goneError())
        if self._opens:
            return self._waitForSlot(factory)
        try:
            return succeed(self._open(factory))
        except AllTaken:
            return self._waitForSlot(factory)
        except (GoneAway, StreamsExhausted) as never:
            return fail(SessionClosed(str(never)))
        except Exception:
            return fail()

    def _open(self, factory: IProtocolFactory) -> IProtocol:
        streamId = self._core.open_stream(self._clock.seconds())
        try:
            protocol = factory.buildProtocol(self.address)
            if protocol is None:
                raise NoProtocol
        except Exception:
            self.reset(streamId)
            raise
        stream = StreamTransport(self, streamId, self.address, protocol)
        self._streams[streamId] = stream
        if self._timer is None:
            self._watchCore()
        self._wake()
        protocol.makeConnection(stream)
        return protocol

    def _waitForSlot(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        if len(self._opens) >= WAITING_OPENS:
            return fail(TooManyStreams("no stream can be opened now", waiting=len(self._opens)))
        connected: Deferred[IProtocol] = Deferred(self._abandonOpen)
        deadline = self._clock.seconds() + OPEN_SECONDS
        self._opens.append((connected, factory, deadline))
        self._watch(deadline)
        return connected

    def _abandonOpen(self, connected: Deferred[IProtocol]) -> None:
        self._opens = deque(waiting for waiting in self._opens if waiting[0] is not connected)

    def _slotsFreed(self, event: Any = None) -> None:
        while self._opens and self._core is not None and self._core.open_slots:
            connected, factory, _ = self._opens.popleft()
            try:
                protocol = self._open(factory)
            except Exception:
                connected.errback(Failure())
            else:
                connected.callback(protocol)

    # Being opened

    def listen(self, factory: IProtocolFactory) -> None:
        """
        Give the peer's streams, those that wait first, to C{factory}; what C{listener.listen} does.

        @raise CannotListenError: there is a factory already.
        """
        if self._factory is not None:
            raise CannotListenError(None, None, "the session's streams have a factory already")
        self._factory = factory
        waiting, self._unclaimed = self._unclaimed, {}
        for stream in waiting.values():
            if stream.connected:
                self._claim(stream)
        self._wake()

    def unlisten(self) -> None:
        """
        Streams that the peer opens from now on wait for the next factory.
        """
        self._factory = None

    def _opened(self, event: events.StreamOpened) -> None:
        streamId = event.stream_id
        stream = StreamTransport(self, streamId, self.address, _UNCLAIMED)
        self._streams[streamId] = stream
        if self._factory is None:
            stream.pauseProducing()
            self._unclaimed[streamId] = stream
        else:
            self._claim(stream)

    def _claim(self, stream: StreamTransport) -> None:
        assert self._factory is not None
        try:
            protocol = self._factory.buildProtocol(self.address)
        except Exception:
            self._log.failure("a factory failed to build a protocol for a stream of {key}", key=self.address.key)
            protocol = None
        if protocol is None:
            self._core.reset_stream(stream.streamId)
            stream.lost(Failure(StreamReset("nobody takes it")))
            return
        self._core.accept_stream(stream.streamId)
        try:
            stream.handOver(protocol)
        except Exception:
            self._log.failure("a protocol failed when connected to a stream of {key}", key=self.address.key)
            stream.abortConnection()
            return
        stream.resumeProducing()

    # Events of the core

    def _data(self, event: events.DataArrived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None and not stream.disconnecting:
            stream.dataArrived(event.data)
        else:
            self._absorb(event.stream_id, len(event.data))

    def _streamEnded(self, event: events.StreamEnded) -> None:
        streamId = event.stream_id
        closing = self._closing.get(streamId)
        if closing is not None and closing.ended:
            del self._closing[streamId]
        stream = self._streams.get(streamId)
        if stream is not None:
            stream.endArrived()
        if self._whenIdle:
            self._checkIdle()

    def _streamReset(self, event: events.StreamReset) -> None:
        self._closing.pop(event.stream_id, None)
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._unclaimed.pop(event.stream_id, None)
            stream.lost(Failure(StreamReset("the stream was reset", stream=event.stream_id, reason=event.reason)))
        if self._whenIdle:
            self._checkIdle()

    def _credit(self, event: events.CreditArrived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None and stream.queued and not stream.ringed:
            self.ready(stream)

    def _pong(self, event: events.PongArrived) -> None:
        answer, sent = self._pings.pop(event.opaque, (None, 0.0))
        if answer is not None:
            answer.callback(self._clock.seconds() - sent)

    def _wentAway(self, event: events.PeerWentAway) -> None:
        opens, self._opens = self._opens, deque()
        for connected, *_ in opens:
            connected.errback(SessionClosed("the peer takes no more streams"))

    def _keepaliveLost(self, event: events.KeepaliveLost) -> None:
        self._failing = SessionLost("the peer did not answer a ping in time")
        self.transport.abortConnection()

    # Ends and deadlines

    def departed(self, stream: StreamTransport, reason: Failure) -> None:
        """
        As in L{IStreamOwner}.
        """
        super().departed(stream, reason)
        if self._whenIdle:
            self.soon(self._checkIdle)
        if self._opens:
            self.soon(self._slotsFreed)

    def _checkIdle(self) -> None:
        """
        When the session is draining and nothing is left of its streams, the carrier is closed behind what is queued.
        """
        if not self._whenIdle or (self._core is not None and (self._streams or self._closing)):
            return
        waiting, self._whenIdle = self._whenIdle, []
        if self._core is not None:
            self._send()
            self._close()
        for idle in waiting:
            idle.callback(None)

    def _breakOff(self, broken: SessionBroken) -> None:
        """
        The peer broke a rule: what came before is delivered, what the core has to say about it is flushed, and the carrier
        closed.
        """
        for event in broken.events:
            self._deliver[event.__class__](event)
        self._failing = SessionLost(f"the peer broke the protocol: {broken}")
        self._failing.__cause__ = broken
        self._log.warn(
            "session with {peer} of {key} broken off: {reason}",
            peer=self._peerName(), key=self.address.key, reason=str(broken),
        )
        self.transport.writeSequence(self._core.data_to_send())
        self._loseStreams(self._failing)
        self._goodbye = self._clock.callLater(GOODBYE_SECONDS, self.transport.abortConnection)
        self._close()

    def _close(self) -> None:
        """
        Close the carrier behind what is queued; we produce nothing more for it.
        """
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _peerName(self) -> str:
        return str(self.address.peer or self.transport.getPeer())

    def _stuck(self) -> None:
        self._failing = SessionLost("the peer does not read")
        self.transport.abortConnection()

    def _relieve(self) -> None:
        """
        More is held for paused applications than the session may hold: the stream that holds most is reset.
        """
        largest = max(self._streams.values(), key=lambda stream: stream.held, default=None)
        if largest is not None and largest.held:
            self._log.warn(
                "stream {stream} of {key} reset: {held} octets are held for it and the session's budget is spent",
                stream=largest.streamId, key=self.address.key, held=largest.held,
            )
            self._core.reset_stream(largest.streamId)
            largest.lost(Failure(StreamReset("the session's budget of held octets is spent", held=largest.held)))

    def _watchCore(self) -> None:
        """
        Ask the core for its next deadline.
        """
        now = self._clock.seconds()
        for event in self._core.expire(now):
            self._deliver[event.__class__](event)
        if self._core is not None:
            deadline = self._core.next_deadline()
            if deadline is not None:
                self._watch(deadline)

    def _watch(self, at: float) -> None:
        if at >= self._wakeAt or self._core is None:
            return
        self._wakeAt = at
        delay = max(0.0, at - self._clock.seconds())
        if self._timer is not None and self._timer.active():
            self._timer.reset(delay)
        else:
            self._timer = self._clock.callLater(delay, self._onTimer)

    def _onTimer(self) -> None:
        self._timer = None
        self._wakeAt = inf
        if self._core is None:
            return
        now = self._clock.seconds()
        while self._opens and self._opens[0][2] <= now:
            connected, *_ = self._opens.popleft()
            connected.errback(OpenTimeout("no stream could be opened in time"))
        if self._opens:
            self._watch(self._opens[0][2])
        self._expireClosing(now)
        self._watchCore()
        self.flush()


class _Unclaimed(Protocol):
    """
    What a stream is connected to until a factory takes it: it is paused, so nothing arrives here.
    """


_UNCLAIMED = _Unclaimed()


@implementer(IStreamClientEndpoint)
class _Connector:
    """
    Opens streams of a session.
    """

    def __init__(self, session: YamuxSession) -> None:
        self._session = session

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return self._session.openStream(protocolFactory)


@implementer(IStreamServerEndpoint)
class _Listener:
    """
    Takes streams of a session's peer.
    """

    def __init__(self, session: YamuxSession) -> None:
        self._session = session

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        try:
            self._session.listen(protocolFactory)
        except CannotListenError:
            return fail()
        return succeed(_ListeningStreams(self._session))


@implementer(IListeningPort)
class _ListeningStreams:
    """
    What C{listener.listen} gives.
    """

    def __init__(self, session: YamuxSession) -> None:
        self._session = session

    def startListening(self) -> None:
        """
        It does already.
        """

    def stopListening(self) -> Deferred[None]:
        self._session.unlisten()
        return succeed(None)

    def getHost(self) -> StreamAddress:
        return self._session.address
