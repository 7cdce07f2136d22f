"""
A session over a WebSocket: what its exchanges and its connections have in common, in both roles.

What arrives for a reader that does not read is held, and the peer is requested to send no more of it, if both have agreed to
such frames.  Stock peers have none, so nothing but TCP holds them back: if there is nothing else, the WebSocket is not read;
otherwise what arrives is held, within a bound, beyond which the reader is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.jetty.websocket_channel import GOING_AWAY, NORMAL, FrameChannel, Liveness
from tunnelstack.errors import TunnelError
from tunnelstack.interfaces import ISession
from tunnelstack.session.arrival_listener import ArrivalListener
from tunnelstack.session.lifecycle import SessionLifecycle, connectionReason
from tunnelstack.session.stream_connections import StreamConnections
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionLost
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.wire.records.jetty import DRAIN, FLOW, STOCK_IDLE_SECONDS, DrainNotice, Flow, Frame
from tunnelstack.wire.records.jetty_frames import BadFrame

UNREAD_OCTETS, READ_OCTETS = 1024 * 1024, 256 * 1024
"""Octets that are held for a reader when the peer is requested to send no more, and to go on; the former are held for the only
reader of a session with a stock peer as well, before the WebSocket is not read."""

HELD_OCTETS, SENT_OCTETS = 8 * 1024 * 1024, 32 * 1024 * 1024
"""Octets that are held for one reader that does not read, while there are others; the latter if the peer was requested to stop,
since what it had sent is on its way in the buffers of the network."""

ALL_HELD_OCTETS = 64 * 1024 * 1024
"""Octets that are held for all readers of a session."""

QUEUED_OCTETS = 16 * 1024 * 1024
"""Octets that may wait to be sent to a peer before it gets no more requests."""

DRAIN_MILLISECONDS = 30_000
"""What a notice of the end says that the work under way may take."""


class Member(Protocol):
    """
    An exchange or a connection of a session; a L{StreamConnection<tunnelstack.session.stream_connections.StreamConnection>}.
    """

    streamId: int
    address: StreamAddress
    octetsIn: int
    octetsOut: int
    onEnded: Callable[[], object] | None

    @property
    def identifier(self) -> str:
        """
        That of the request or of the connection.
        """

    @property
    def readPaused(self) -> bool:
        """
        Whether its reader does not read.
        """

    @property
    def stream(self) -> StreamTransport | None:
        """
        The transport of a connection; C{None} for an exchange.
        """

    @property
    def held(self) -> int:
        """
        Octets that arrived and that were not read yet.
        """

    def abortConnection(self) -> None:
        """
        Give it up because too much is held.
        """

    def writesPaused(self) -> None:
        """
        The WebSocket takes no more for now.
        """

    def writesResumed(self) -> None:
        """
        It takes more again.
        """

    def peerPaused(self, paused: bool) -> None:
        """
        The reader at the peer takes no more for now, or takes more again.
        """


class Role(Protocol):
    """
    What is done with frames at an edge, or at an agent.
    """

    def frameReceived(self, frame: Frame) -> None:
        """
        A frame has arrived that is neither a drain notice nor for a connection or a flow.
        """

    def badFrameReceived(self, bad: BadFrame) -> None:
        """
        A frame of which a member is wrong.
        """

    def writesResumed(self) -> None:
        """
        The WebSocket takes more again, before the members can send.
        """

    def expire(self, now: float) -> None:
        """
        Called every few seconds.
        """

    def lost(self, reason: SessionLost) -> None:
        """
        The session is lost.
        """


@implementer(ISession)
class JSONSession:
    """
    The session of one WebSocket that is registered.  It is the listener of its channel.

    @ivar connector: opens connections, at an edge.
    @ivar listener: gives the connections of the edge to a factory, at an agent.
    @ivar channel: the L{FrameChannel}.
    @ivar members: the exchanges and the connections; the memory of the session.
    @ivar flows: how many flows of datagrams there are.
    @ivar draining: no more work is begun.
    @ivar peerDraining: the peer has announced its end, by C{peerNotice}.
    """

    connector: IStreamClientEndpoint

    def __init__(
        self, clock: IReactorTime, channel: FrameChannel, address: StreamAddress, role: Role, *, pingSeconds: float,
        silentSeconds: float = STOCK_IDLE_SECONDS, lingerSeconds: float = 0.0, reconnect: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        @param channel: is open.
        @param pingSeconds: between pings.
        @param silentSeconds: as C{silent} of L{Liveness}.
        @param reconnect: whether a notice of the end requests of the peer that it connects elsewhere.
        @param lingerSeconds: how long the peer, which was notified, has to close an idle session that drains.
        """
        self.clock = clock
        self.channel = channel
        self.address = address
        self.flows = 0
        self.draining = self.peerDraining = False
        self.peerNotice = DrainNotice()
        self._role = role
        self._handlers: dict[type[Frame], Callable[[Any], object]] = {
            DrainNotice: self._drainReceived, Flow: self._flowReceived,
        }
        self._flowing = FLOW in channel.capabilities
        self._stopped: set[str] = set()       # identifiers of what the peer was requested to send no more of
        self._paused = False                  # the WebSocket is not read
        self._turn = 0                        # of members that send
        self.members: StreamConnections[Member] = StreamConnections(clock, self._memberDone)
        self.memory = self.members
        self.listener = ArrivalListener(self)
        self.sharedTimer = SharedTimer(clock)
        self._lifecycle = SessionLifecycle(self, clock, self._isIdle, self._closeIdle)
        self._lingerSeconds = lingerSeconds
        self._reconnect = reconnect
        self._linger: IDelayedCall | None = None
        self._liveness = Liveness(
            clock, channel.transport, interval=pingSeconds, silent=silentSeconds, lost=self._silent, expire=role.expire,
        )
        channel.listener = self
        self._lifecycle.connected(channel.transport)

    def handle(self, kind: type[Frame], handler: Callable[[Any], object]) -> None:
        """
        Give all frames of a kind to a function.
        """
        self._handlers[kind] = handler

    @property
    def isLost(self) -> bool:
        """
        Whether nothing can be sent any more.
        """
        return self._lifecycle.reason is not None

    def sendPing(self) -> None:
        """
        Send a ping now, whatever the interval is.
        """
        self._liveness.ping()

    # The channel's side

    def channelOpened(self) -> None:
        """
        It was open before.
        """

    def frameReceived(self, frame: Frame) -> None:
        if self.isLost:
            return
        handler = self._handlers.get(type(frame))
        if handler is None:
            self._role.frameReceived(frame)
        else:
            handler(frame)

    def badFrameReceived(self, bad: BadFrame) -> None:
        if not self.isLost:
            self._role.badFrameReceived(bad)

    def writesPaused(self) -> None:
        for member in self.members.all():
            member.writesPaused()

    def writesResumed(self) -> None:
        """
        In turns: the first is the one after the last that could send.
        """
        self._role.writesResumed()
        members = self.members.all()
        start = self._turn % len(members) if members else 0
        for member in members[start:] + members[:start]:
            if self.channel.full:
                break
            self._turn += 1
            member.writesResumed()

    def channelLost(self, reason: Failure) -> None:
        self._lose(self._lifecycle.lost(connectionReason(reason)))
        self._lifecycle.reportLost()

    def _lose(self, reason: SessionLost) -> None:
        """
        Nothing is sent or received any more.
        """
        self._liveness.stop()
        self.sharedTimer.stop()
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        self._role.lost(reason)
        for member in self.members.all():
            if member.stream is not None:
                member.stream.lost(Failure(reason))
        self.members.sessionLost()

    def _silent(self) -> None:
        self._lifecycle.drop(SessionLost("the peer is silent"))

    # Reading

    def checkReading(self) -> None:
        """
        Stop to read the WebSocket, or begin again, after something has changed.
        """
        if self._flowing or self.isLost or self._lifecycle.isLost:
            return
        pause = len(self.members) == 1 and not (self.flows or self._liveness.measuring) and self._isBlocked()
        if pause != self._paused:
            self._paused = pause
            (self.channel.transport.pauseProducing if pause else self.channel.transport.resumeProducing)()

    def _isBlocked(self) -> bool:
        """
        Whether so much is held for the only member that no more shall come.
        """
        member, = self.members.all()
        return member.readPaused and member.held >= UNREAD_OCTETS

    def checkHeld(self, member: Member) -> None:
        """
        More is held for a member than before: read no more, or give one up if it is too much.
        """
        self.checkReading()
        if self._flowing and member.held >= UNREAD_OCTETS and member.identifier not in self._stopped:
            self._stopped.add(member.identifier)
            self.channel.send(Flow(identifier=member.identifier, paused=True))
        if member.held > (SENT_OCTETS if self._flowing else HELD_OCTETS):
            member.abortConnection()
        elif self.held > ALL_HELD_OCTETS:
            max(self.members.all(), key=lambda each: each.held).abortConnection()

    def heldLess(self, member: Member) -> None:
        """
        Less is held for a member than before: let the peer go on.
        """
        self.checkReading()
        if member.held <= READ_OCTETS and member.identifier in self._stopped:
            self._stopped.remove(member.identifier)
            self.channel.send(Flow(identifier=member.identifier))

    def _flowReceived(self, frame: Flow) -> None:
        """
        What is not known any more may have ended while the frame was on its way.
        """
        for member in self.members.all():
            if member.identifier == frame.identifier:
                member.peerPaused(frame.paused)

    def memberEnded(self, identifier: str) -> None:
        """
        An exchange or a connection is over.
        """
        self._stopped.discard(identifier)

    def memberBegun(self, member: Member) -> None:
        """
        An exchange or a connection has begun.
        """
        self.members.add(member, self.address)
        self.checkReading()

    def flowsChanged(self, change: int) -> None:
        """
        A flow of datagrams has begun, or is over.
        """
        self.flows += change
        self.checkReading()

    def _memberDone(self) -> None:
        self.checkReading()
        self._lifecycle.checkIdle()

    # ISession

    @property
    def streams(self) -> int:
        return len(self.members) + self.flows

    @property
    def streamsOpened(self) -> int:
        return self.members.opened

    @property
    def octetsIn(self) -> int:
        return self.members.octetsIn

    @property
    def octetsOut(self) -> int:
        return self.members.octetsOut

    @property
    def held(self) -> int:
        return self.members.held

    def transports(self) -> Sequence[StreamTransport]:
        return [member.stream for member in self.members.all() if member.stream is not None]

    def ping(self) -> Deferred[float]:
        """
        As in L{ISession}.  The WebSocket is read meanwhile, even if a reader does not read.
        """
        if (gone := self.lostReason()) is not None:
            return fail(gone)
        measured = self._liveness.measure()
        self.checkReading()
        return measured.addBoth(self._measured)

    def _measured(self, result: Any) -> Any:
        self.checkReading()
        return result

    def goAway(self, reason: int = 0) -> None:
        if not self.draining:
            self.draining = True
            self.announceEnd()

    def announceEnd(self) -> None:
        """
        Send a notice to the peer, if it has agreed to that.
        """
        if DRAIN in self.channel.capabilities and not self.peerDraining:
            self.channel.send(DrainNotice(grace_ms=DRAIN_MILLISECONDS, reason="", reconnect=self._reconnect()))

    def _drainReceived(self, notice: DrainNotice) -> None:
        if not self.peerDraining:
            self.peerDraining = True
            self.peerNotice = notice
            self._lifecycle.peerWentAway()

    def drain(self) -> Deferred[None]:
        idle = self._lifecycle.whenIdle()
        self.goAway()
        self._lifecycle.checkIdle()
        return idle

    def _isIdle(self) -> bool:
        return not self.members

    def _closeIdle(self) -> None:
        if self._lingerSeconds and DRAIN in self.channel.capabilities:
            self._linger = self.clock.callLater(self._lingerSeconds, self._closeIfIdle)
        else:
            self.close(GOING_AWAY, "drained")

    def _closeIfIdle(self) -> None:
        """
        The peer has not closed, and may have begun more before the notice arrived.
        """
        if self._isIdle():
            self.close(GOING_AWAY, "drained")
        else:
            self._lifecycle.whenIdle()

    def close(self, code: int, reason: str) -> None:
        """
        Close after what waits to be sent.
        """
        self._end(SessionLost(f"the session was closed by this side: {reason}"))
        self.channel.close(code, reason)

    def refused(self, reason: str) -> None:
        """
        The peer is not accepted: nothing is sent or received any more.  The channel is still to be closed.
        """
        self._end(SessionLost(f"the peer was refused: {reason}"))

    def endedByPeer(self, error: TunnelError) -> None:
        """
        The peer has sent why it ends the session, and closes.
        """
        lost = SessionLost(f"the peer has ended the session: {error}")
        lost.__cause__ = error
        self._end(lost)
        self.channel.close(NORMAL)

    def _end(self, reason: SessionLost) -> None:
        self._lifecycle.fail(reason)
        self._lose(reason)

    def abort(self) -> None:
        self._lifecycle.abort()

    def whenUp(self) -> Deferred[ISession]:
        return self._lifecycle.whenUp()

    def whenGoingAway(self) -> Deferred[None]:
        return self._lifecycle.whenGoingAway()

    def whenLost(self) -> Deferred[SessionLost]:
        return self._lifecycle.whenLost()

    def lostReason(self) -> SessionLost | None:
        return self._lifecycle.reason
