"""
The streams of one HTTP/2 connection as a session: each is a request whose body is the octets of one direction, and the body of
its response is those of the other.

The client opens streams, and the server accepts them.  The client may send before the server has answered, as in every session.
The end of a body is the end of a direction, and a reset is a reset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from attrs import frozen
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, ITransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import ISession
from tunnelstack.session._closing import ClosingStreams
from tunnelstack.session._connector import NoFreeSlot, SessionConnector
from tunnelstack.session._http2_stream import HTTP2StreamTransport
from tunnelstack.session._listener import UNCLAIMED, SessionListener
from tunnelstack.session._memory import SessionMemory
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionClosed, SessionLost, StreamResetError
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.deadline_timer import DeadlineTimer
from tunnelstack.transport.http2.connection import HTTP2Connection, ReceivingStream
from tunnelstack.transport.http2.errors import ConnectionClosing, HTTP2ConnectionLost, NoFreeStream
from tunnelstack.transport.stream_scheduler import ClosingTable
from tunnelstack.wire.http2 import events
from tunnelstack.wire.http2.codes import ErrorCode, code_text
from tunnelstack.wire.http2.events import Fields
from tunnelstack.wire.http2.limits import HTTP2Limits

Opening = Callable[[StreamAddress], Sequence[tuple[bytes, bytes]]]
"""Gives the head of the request that opens a stream."""

Acceptance = Callable[[Fields], Sequence[tuple[bytes, bytes]] | None]
"""Gives the head of the response to the head of a request; C{None} refuses the stream."""


DEFAULT_REQUEST = ((b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"localhost"), (b":path", b"/"))
OK = ((b":status", b"200"),)


@frozen(kw_only=True)
class StreamHeads:
    """
    What opens and accepts the streams of a session.

    @ivar request: of a client: gives the head of each request.
    @ivar response: of a server: gives the head of the response to a request.
    @ivar trailers: of a server: end each response.
    @ivar address: of a server: completes the address of a stream by the head of its request.
    """

    request: Opening = lambda address: DEFAULT_REQUEST
    response: Acceptance = lambda fields: OK
    trailers: Sequence[tuple[bytes, bytes]] = ()
    address: Callable[[StreamAddress, Fields], StreamAddress] = lambda address, fields: address


DEFAULT_HEADS = StreamHeads()


@implementer(ISession, IProtocol)
class HTTP2Session:
    """
    Many streams over the HTTP/2 connection on the transport that this is connected to.

    @ivar connection: the L{HTTP2Connection}.
    @ivar connector: opens streams, at a client.
    @ivar listener: accepts the client's streams, at a server.
    @ivar address: what the addresses of its streams contain of the peer; a dialect sets it before the session is connected.
    @ivar scheduler: the L{IStreamOwner<tunnelstack.interfaces.IStreamOwner>} of its streams.
    @ivar memory: what is held for slow readers.
    """

    def __init__(
        self,
        client: bool,
        *,
        clock: IReactorTime,
        limits: HTTP2Limits | None = None,
        address: StreamAddress | None = None,
        heads: StreamHeads = DEFAULT_HEADS,
    ) -> None:
        self.address = address or StreamAddress()
        self._clock = clock
        self._heads = heads
        self._requests: dict[int, Fields] = {}      # heads of streams that no factory has accepted yet
        self.connection = connection = HTTP2Connection(client, clock=clock, limits=limits)
        self._core = core = connection.core
        self.scheduler = scheduler = connection.scheduler
        self._streams = cast(dict[int, StreamTransport], connection.streamTable)      # there are no others
        self._timer = DeadlineTimer(clock, self._expire)
        self._closing = ClosingStreams(
            clock, core, self._streams, self._timer, connection.limits.stream_close_timeout, connection.checkIdle
        )
        scheduler.closing = cast(ClosingTable[ReceivingStream], self._closing)
        self.memory = SessionMemory(
            core, connection.limits.session_octets, self._streams, scheduler, self, self.resetStream
        )
        self.connector = SessionConnector(clock, self._timer, self)
        self.listener = SessionListener(self)
        self.scheduleFlush = scheduler.scheduleFlush
        connection.onSlotsChanged = self._slotsChanged
        connection.handlers.update({
            events.HeadArrived: self._headArrived,
            events.BodyArrived: self._bodyArrived,
            events.MessageEnded: self._messageEnded,
            events.StreamAborted: self._streamAborted,
        })
        connection.whenLost().addCallback(self._lost)

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
        return self.connection.ping().addErrback(self._translate)

    def goAway(self, reason: int = 0) -> None:
        """
        As in L{ISession}.
        """
        self.connection.goAway(reason)

    def drain(self) -> Deferred[None]:
        """
        As in L{ISession}.
        """
        return self.connection.drain()

    def abort(self) -> None:
        """
        As in L{ISession}.
        """
        self.connection.abort()

    def whenUp(self) -> Deferred[ISession]:
        """
        As in L{ISession}: fires when the peer's SETTINGS have arrived.
        """
        up: Deferred[ISession] = self.connection.whenUp().addCallback(lambda _: self)
        return up

    def whenGoingAway(self) -> Deferred[None]:
        """
        As in L{ISession}.
        """
        return self.connection.whenGoingAway()

    def whenLost(self) -> Deferred[SessionLost]:
        """
        As in L{ISession}.
        """
        return self.connection.whenLost().addCallback(_sessionLost)

    def lostReason(self) -> SessionLost | None:
        """
        As in L{ISession}.
        """
        reason = self.connection.lostReason
        return None if reason is None else _sessionLost(reason)

    # IProtocol

    def makeConnection(self, transport: ITransport) -> None:
        self.connection.makeConnection(transport)

    def connectionMade(self) -> None:
        """
        The connection was notified.
        """

    def dataReceived(self, data: bytes) -> None:
        self.connection.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.connection.connectionLost(reason)

    def logPrefix(self) -> str:
        """
        @return: what Twisted's log calls it.
        """
        return type(self).__name__

    @property
    def transport(self) -> Any:
        """
        The carrier.
        """
        return self.connection.transport

    # For the connector and the listener

    def openStream(self, factory: IProtocolFactory) -> IProtocol:
        """
        Open a stream for a protocol of C{factory}'s.

        @raise NoFreeSlot: not at this moment.
        @raise SessionClosed: never again.
        @raise NoProtocol: the factory declined.
        """
        try:
            streamId = self.connection.reserveStream()
        except NoFreeStream as later:
            raise NoFreeSlot from later
        except ConnectionClosing as never:
            raise SessionClosed(str(never)) from never
        try:
            protocol = factory.buildProtocol(self.address)
            if protocol is None:
                raise NoProtocol
        except Exception:
            self._core.reset_stream(streamId)
            raise
        stream = self.addStream(streamId, protocol)
        stream.queueHead(list(self._heads.request(self.address)))
        protocol.makeConnection(stream)
        return protocol

    def addStream(self, streamId: int, protocol: IProtocol) -> HTTP2StreamTransport:
        """
        @return: the transport of a stream of the core.
        """
        address = self.address
        if streamId in self._requests:
            address = self._heads.address(address, self._requests[streamId])
        stream = HTTP2StreamTransport(self.scheduler, self._core, streamId, address, protocol, self._translate)
        self.connection.addStream(stream)
        return stream

    def acceptStream(self, streamId: int) -> None:
        """
        Send the head of the response.
        """
        stream = self._streams.get(streamId)
        request = self._requests.pop(streamId)
        if isinstance(stream, HTTP2StreamTransport):
            stream.queueHead(list(self._heads.response(request) or OK))
            if self._heads.trailers:
                self._core.set_trailers(streamId, list(self._heads.trailers))

    def resetStream(self, stream: StreamTransport, reason: StreamResetError) -> None:
        """
        Reset a stream, and report it to its protocol.
        """
        self.listener.streamGone(stream.streamId)
        self._requests.pop(stream.streamId, None)
        self.scheduler.reset(stream.streamId)
        stream.lost(Failure(reason))

    # For the memory

    @property
    def isLost(self) -> bool:
        """
        Whether the carrier is gone.
        """
        return self.connection.isLost

    def pauseReading(self) -> None:
        """
        Do not read the carrier until L{resumeReading}.
        """
        if self.connection.transport is not None:
            self.connection.transport.pauseProducing()

    def resumeReading(self) -> None:
        """
        Read the carrier again.
        """
        if self.connection.transport is not None:
            self.connection.transport.resumeProducing()

    # Events

    def _headArrived(self, event: events.HeadArrived) -> None:
        if self.connection.client:
            self._answered(event)
            return
        self._requests[event.stream_id] = event.fields
        if self._heads.response(event.fields) is None:
            del self._requests[event.stream_id]
            self._core.reset_stream(event.stream_id, ErrorCode.REFUSED_STREAM)
        else:
            self.listener.opened(self.addStream(event.stream_id, UNCLAIMED))

    def _answered(self, event: events.HeadArrived) -> None:
        stream = self._streams.get(event.stream_id)
        status = dict(event.fields)[b":status"]
        if isinstance(stream, HTTP2StreamTransport):
            if status[:1] == b"2":
                stream.deliverHead(event.fields, event.ended)
            else:
                self.resetStream(stream, StreamResetError(
                    "the peer did not accept the stream", stream=event.stream_id, status=int(status)))

    def _bodyArrived(self, event: events.BodyArrived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None and not stream.disconnecting:
            stream.deliverData(event.data)
        else:
            self._closing.absorb(event.stream_id, len(event.data))

    def _messageEnded(self, event: events.MessageEnded) -> None:
        self._closing.endReceived(event.stream_id)
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            stream.deliverEnd()
        self.scheduler.callNextTurn(self.connection.checkIdle)

    def _streamAborted(self, event: events.StreamAborted) -> None:
        self._closing.forget(event.stream_id)
        self._requests.pop(event.stream_id, None)
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self.listener.streamGone(event.stream_id)
            why = event.why or f"the stream was reset with {code_text(event.code)}"
            stream.lost(Failure(StreamResetError(why, stream=event.stream_id)))
        self.scheduler.callNextTurn(self.connection.checkIdle)

    # The clock, and the end

    def _expire(self, now: float) -> None:
        self.connector.expire(now)
        self._closing.expire(now)
        self.scheduler.flush()

    def _slotsChanged(self) -> None:
        if self.connection.isGoingAway:
            self.connector.fail(SessionClosed("the session takes no more streams"))
        elif self.connector.waiting:
            self.connector.slotsFreed()

    def _lost(self, reason: HTTP2ConnectionLost) -> HTTP2ConnectionLost:
        self._timer.stop()
        self._closing.clear()
        self._requests.clear()
        self.connector.fail(_sessionLost(reason))
        self.memory.leave()
        return reason

    def _translate(self, failure: Failure) -> Failure:
        reason = failure.value
        return Failure(_sessionLost(reason)) if isinstance(reason, HTTP2ConnectionLost) else failure


def _sessionLost(reason: HTTP2ConnectionLost) -> SessionLost:
    """
    @return: the reason as sessions have it.
    """
    lost = SessionLost(str(reason))
    lost.__cause__ = reason
    return lost
