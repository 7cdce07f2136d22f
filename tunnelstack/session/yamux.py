"""
A yamux session over one transport: the pure machine of L{tunnelstack.wire.yamux} fed, its events told to streams, and
everything that a reactor turn produced written at once.

Which side calls itself client says only which stream identifiers it uses; it has nothing to do with who dialled.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, NoProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import ISession
from tunnelstack.session._connector import NoFreeSlot
from tunnelstack.session._events import EventDispatcher
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionClosed, SessionLost
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.direct_write import disableNagle, immediateWrite
from tunnelstack.wire.yamux.connection import YamuxConnection
from tunnelstack.wire.yamux.errors import GoneAway, SessionError, StreamLimitReached, StreamsExhausted
from tunnelstack.wire.yamux.limits import SessionLimits

CLOSE_FLUSH_SECONDS = 10.0
"""Seconds for the carrier to take the last octets of a session that broke."""


@implementer(ISession, IProtocol)
class YamuxSession(EventDispatcher, Protocol):
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
        chosen = limits or SessionLimits()
        super().__init__(clock, YamuxConnection(client, chosen), chosen, address or StreamAddress())
        self._whenUp: list[Deferred[YamuxSession]] = []
        self._whenLost: list[Deferred[SessionLost]] = []
        self._lost: SessionLost | None = None
        self._closeTimer: Any = None

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
            return fail(self._lostError())
        answer: Deferred[float] = Deferred()
        self._pings[self._core.ping()] = (answer, self._clock.seconds())
        self._scheduleFlush()
        return answer

    def goAway(self, reason: int = 0) -> None:
        """
        As in L{ISession}.
        """
        if self._core is not None:
            self._core.go_away(reason)
            self._scheduleFlush()

    def drain(self) -> Deferred[None]:
        """
        Say Go Away, let open streams finish, then close the carrier.

        @return: fires once the last stream is done (or the session is lost); there is no deadline in it.
        """
        idle: Deferred[None] = Deferred()
        self._whenIdle.append(idle)
        self.goAway()
        self.callNextTurn(self._checkIdle)
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
        self._write = immediateWrite(self.transport)
        disableNagle(self.transport)
        self._expireCore()
        waiting, self._whenUp = self._whenUp, []
        for up in waiting:
            up.callback(self)
        self._scheduleFlush()

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the carrier, cut anywhere.
        """
        if self._events:                      # the core counts on all it told so far being known
            self._dispatch(len(self._events))
        core = self._core
        if core is None or self._failing is not None:
            return
        core.now = self._clock.seconds()
        try:
            self._events = core.receive_data(data)
        except SessionError as broken:
            self._events = list(broken.events)
            self._protocolFailed(broken)
            self.flush()
        else:
            self._dispatchSome(2)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The carrier is gone, and with it every stream.
        """
        self._dispatch(len(self._events))
        lost = self._failing or self._lostFrom(reason)
        self._lost = lost
        for call in (self._timer, self._closeTimer):
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

    def _lostFrom(self, reason: Failure) -> SessionLost:
        if reason.check(ConnectionDone):
            try:
                self._wire.receive_eof()
            except SessionError as cut:
                return SessionLost(str(cut))
            return SessionClosed("the session's connection was closed")
        return SessionLost(f"the session's connection was lost: {reason.getErrorMessage()}")

    def _lostError(self) -> SessionLost:
        return self._lost or self._failing or SessionLost("the session is not connected")

    # Opening, for SessionConnector

    def lostReason(self) -> SessionLost | None:
        """
        @return: why no stream can be opened any more, or C{None}.
        """
        return self._lostError() if self._core is None or self._failing is not None else None

    def openStream(self, factory: IProtocolFactory) -> IProtocol:
        """
        Open a stream for a protocol of C{factory}'s.

        @raise NoFreeSlot: not at this moment.
        @raise SessionClosed: never again.
        @raise NoProtocol: the factory declined.
        """
        try:
            streamId = self._wire.open_stream(self._clock.seconds())
        except StreamLimitReached as later:
            raise NoFreeSlot from later
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
            self._expireCore()
        self._scheduleFlush()
        protocol.makeConnection(stream)
        return protocol

    # Ends and deadlines

    def streamLost(self, stream: StreamTransport, reason: Failure) -> None:
        """
        As in L{IStreamOwner}.
        """
        super().streamLost(stream, reason)
        if self._whenIdle:
            self.callNextTurn(self._checkIdle)
        if self.connector.waiting:
            self.callNextTurn(self.connector.slotsFreed)

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

    def _protocolFailed(self, broken: SessionError) -> None:
        """
        The peer broke a rule: what came before is delivered, what the core has to say about it is flushed, and the carrier
        closed.
        """
        self._dispatch(len(self._events))
        self._failing = SessionLost(f"the peer broke the protocol: {broken}")
        self._failing.__cause__ = broken
        self._log.warn(
            "session with {peer} of {key} broken off: {reason}",
            peer=self._peerName(), key=self.address.key, reason=str(broken),
        )
        self.transport.writeSequence(self._core.data_to_send())
        self._loseStreams(self._failing)
        self._closeTimer = self._clock.callLater(CLOSE_FLUSH_SECONDS, self.transport.abortConnection)
        self._close()

    def _close(self) -> None:
        """
        Close the carrier behind what is queued; we produce nothing more for it.
        """
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _peerName(self) -> str:
        return str(self.address.peer or self.transport.getPeer())

    def _peerNotReading(self) -> None:
        self._failing = SessionLost("the peer does not read")
        self.transport.abortConnection()
