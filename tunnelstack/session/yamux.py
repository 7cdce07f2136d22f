"""
A yamux session over one transport: the pure machine of L{tunnelstack.wire.yamux} fed, its events told to streams, and
everything that a reactor turn produced written at once.

Which side calls itself client says only which stream identifiers it uses; it has nothing to do with who dialled.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, NoProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import ISession
from tunnelstack.session._accepts import Accepts
from tunnelstack.session._opens import NoSlot, Opens
from tunnelstack.session._owner import StreamOwner
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.lost import SessionClosed, SessionLost, StreamReset
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.push import prompt, undelayed
from tunnelstack.wire.yamux import events
from tunnelstack.wire.yamux.errors import GoneAway, SessionBroken, StreamsExhausted, TooManyStreams
from tunnelstack.wire.yamux.limits import SessionLimits
from tunnelstack.wire.yamux.session import YamuxConnection

TURN = 64
"""Events that are told in one turn of the reactor."""

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
        super().__init__(clock)
        self._limits = limits or SessionLimits()
        self._wire = YamuxConnection(client, self._limits)
        self._core = self._wire
        self.acknowledge = self._wire.acknowledge  # type: ignore[method-assign,assignment]
        self.address = address or StreamAddress()
        self.connector = Opens(self)
        self.listener = Accepts(self)
        self._events: list[events.Event] = []   # from the core, yet to be told
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
            events.StreamOpened: lambda event: self.listener.opened(event.stream_id),
            events.StreamEnded: self._streamEnded,
            events.StreamReset: self._streamReset,
            events.CreditArrived: self._credit,
            events.SlotsFreed: lambda event: self.connector.slotsFreed(),
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

    @property
    def held(self) -> int:
        """
        Octets held for paused applications.
        """
        return 0 if self._core is None else self._core.held

    def relieve(self) -> int:
        """
        Reset the stream for which most is held.

        @return: how many octets are held no more.
        """
        before = self.held
        self._relieve("what may be held is spent")
        self.flush()
        return before - self.held

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
        self._out = prompt(self.transport)
        undelayed(self.transport)
        self._watchCore()
        waiting, self._whenUp = self._whenUp, []
        for up in waiting:
            up.callback(self)
        self._wake()

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the carrier, cut anywhere.
        """
        if self._events:                      # the core counts on all it told so far being known
            self._tell(len(self._events))
        core = self._core
        if core is None or self._failing is not None:
            return
        try:
            self._events = core.receive_data(data)
        except SessionBroken as broken:
            self._events = list(broken.events)
            self._breakOff(broken)
            self.flush()
        else:
            self._tellSome(2)

    def _tellSome(self, turns: int = 1) -> None:
        """
        Tell what a turn should tell, and leave the rest to a later one: what the first of very many events led to is then
        on its way while the last are told.

        @param turns: after how many turns to go on; a reactor that has just read makes its calls before it writes.
        """
        self._tell(TURN)
        core = self._core
        if core is not None and core.held > self._limits.session_octets:
            self._relieve("the session's budget is spent")
        self.flush()
        if self._events:
            self._clock.callLater(0, self._tellRest, turns - 1)

    def _tellRest(self, turns: int) -> None:
        if turns:
            self._clock.callLater(0, self._tellRest, turns - 1)
        elif self._events:
            self._tellSome()

    def _tell(self, most: int) -> None:
        """
        Tell the streams of what has happened.
        """
        events = self._events
        if len(events) > most:
            events, self._events = events[:most], events[most:]
        else:
            self._events = []
        deliver = self._deliver
        self._feeding = True
        try:
            for event in events:
                deliver[event.__class__](event)
        finally:
            self._feeding = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The carrier is gone, and with it every stream.
        """
        self._tell(len(self._events))
        lost = self._failing or self._whyLost(reason)
        self._lost = lost
        for call in (self._timer, self._goodbye):
            if call is not None and call.active():
                call.cancel()
        self._loseStreams(lost)
        pings, self._pings = self._pings, {}
        self.connector.fail(lost)
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

    # Opening, for Opens

    def gone(self) -> SessionLost | None:
        """
        @return: why no stream can be opened any more, or C{None}.
        """
        return self._goneError() if self._core is None or self._failing is not None else None

    def openFor(self, factory: IProtocolFactory) -> IProtocol:
        """
        Open a stream for a protocol of C{factory}'s.

        @raise NoSlot: not at this moment.
        @raise SessionClosed: never again.
        @raise NoProtocol: the factory declined.
        """
        try:
            streamId = self._wire.open_stream(self._clock.seconds())
        except TooManyStreams as later:
            raise NoSlot from later
        except (GoneAway, StreamsExhausted) as never:
            raise SessionClosed(str(never)) from never
        try:
            protocol = factory.buildProtocol(self.address)
            if protocol is None:
                raise NoProtocol
        except Exception:
            self.reset(streamId)
            raise
        stream = self._streams[streamId] = StreamTransport(self, streamId, self.address, protocol)
        if self._timer is None:
            self._watchCore()
        self._wake()
        protocol.makeConnection(stream)
        return protocol

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
            self.listener.gone(event.stream_id)
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
        self.connector.fail(SessionClosed("the peer takes no more streams"))

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
        if self.connector.waiting:
            self.soon(self.connector.slotsFreed)

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
        self._tell(len(self._events))
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

    def _relieve(self, why: str) -> None:
        """
        More is held for paused applications than may be: the stream that holds most is reset.
        """
        largest = max(self._streams.values(), key=lambda stream: stream.held, default=None)
        if largest is not None and largest.held:
            self._log.warn(
                "stream {stream} of {key} reset: {held} octets are held for it and {reason}",
                stream=largest.streamId, key=self.address.key, held=largest.held, reason=why,
            )
            self._core.reset_stream(largest.streamId)
            largest.lost(Failure(StreamReset(f"too much is held for it: {why}", held=largest.held)))

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
        self.connector.expire(now)
        self._expireClosing(now)
        self._watchCore()
        self.flush()


class _Unclaimed(Protocol):
    """
    What a stream is connected to until a factory takes it: it is paused, so nothing arrives here.
    """


_UNCLAIMED = _Unclaimed()
