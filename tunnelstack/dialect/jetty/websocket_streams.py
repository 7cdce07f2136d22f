"""
Raw TCP connections over a WebSocket, at both ends: each is a stream of the session.

An edge opens them, and there is no answer: an agent that cannot connect closes.  Stock peers have no half-close either.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_hex

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import IDelayedCall, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.dialect.jetty.websocket_session import QUEUED_OCTETS, JSONSession
from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.interfaces import IStreamOwner
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import SessionClosed, StreamResetError, TooManyStreams
from tunnelstack.stream.splice import Splice, SpliceEnd
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.stream_scheduler import HIGH
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.jetty import CHUNK_OCTETS, HALF_CLOSE, TCPClose, TCPConnect, TCPData, TCPEnd
from tunnelstack.wire.records.jetty_frames import BadFrame

MOST_CONNECTIONS = 1024
"""Connections and exchanges of one session."""

READ_SECONDS = 300.0
"""Seconds that a reader has for what was received before the peer closed."""

CONNECT_SECONDS = 5.0
"""Seconds that an agent has to connect to its local server."""

LOCAL_CLOSED, CONNECT_FAILED = "local connection closed", "local connect failed: "
"""Reasons of an agent: it has ended the connection, or could not make one."""

VISITOR_CLOSED = "connection closed"
"""The reason of an edge."""

_UNCLAIMED = Protocol()
"""What a stream is connected to until it is given to an application."""


@implementer(IStreamOwner)
class RawStream:
    """
    The owner of one stream, and a L{Member<tunnelstack.dialect.jetty.websocket_session.Member>} of its session.

    @ivar identifier: of the connection.
    @ivar stream: the transport of the application.
    @ivar reason: what the peer gets as the reason when this side closes.
    """

    onEnded: Callable[[], object] | None = None
    high = HIGH
    eager = True                              # whatever is written is all that is to come

    def __init__(self, streams: RawStreams, identifier: str, reason: str) -> None:
        self.streamId = 0
        self.address = StreamAddress()
        self.octetsIn = self.octetsOut = 0
        self.reason = reason
        self.sharedTimer = streams.session.sharedTimer
        self._streams = streams
        self._channel = streams.session.channel
        self.identifier = identifier
        self._paused = 0
        self._stopped = False                 # the other end does not read
        self._waiting = False                 # the producer waits for room in the session
        self._closed = False                  # by either side: the peer needs no notice
        self._readTimer: IDelayedCall | None = None
        streams.session.memberBegun(self)
        self.stream = StreamTransport(self, self.streamId, self.address, _UNCLAIMED)
        self.stream.endsBothDirections = not streams.halfClose

    # From the session

    @property
    def held(self) -> int:
        """
        Octets that arrived and that the application has not read yet.
        """
        return self.stream.held

    @property
    def readPaused(self) -> bool:
        """
        Whether the application does not read.
        """
        return self._paused > 0

    def abortConnection(self) -> None:
        """
        Reset the stream: too much is held for its reader.
        """
        self._fail(StreamResetError("too much is held for a reader that does not read", stream=self.streamId))

    def writesPaused(self) -> None:
        """
        Writes wait in the stream.
        """

    def writesResumed(self) -> None:
        """
        Send what waits.
        """
        waiting, self._waiting = self._waiting, False
        if waiting:
            self.stream.resumeProducer()
        if self.stream.scheduled:
            self._flush()

    def peerPaused(self, paused: bool) -> None:
        """
        From the session: the other end of the connection reads too slowly, or reads again.
        """
        self._stopped = paused
        if not paused:
            self.writesResumed()

    # From the peer

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the peer.
        """
        self.octetsIn += len(data)
        if data and self.stream.connected and not (self.stream.disconnecting or self.stream.readEnded):
            self.stream.deliverData(data)
            if self.stream.held:
                self._streams.session.checkHeld(self)

    def peerEnded(self) -> None:
        """
        The peer has ended its direction.
        """
        self._closed = self._closed or self.stream.writeEnded
        if not self.stream.readEnded:
            self.stream.deliverEnd()

    def peerClosed(self, reason: str) -> None:
        """
        The peer has closed the connection; what it has sent is delivered first.
        """
        self._closed = True
        if reason.startswith(CONNECT_FAILED):
            self._fail(StreamResetError(f"the agent cannot connect: {printable(reason.removeprefix(CONNECT_FAILED), 200)}"))
        elif self.stream.held:
            self._readTimer = self._streams.session.clock.callLater(READ_SECONDS, self._end)
        else:
            self._end()

    def _end(self) -> None:
        self._stopTimer()
        self.stream.lost(connectionDone)

    def _endIfRead(self) -> None:
        if not self.stream.held:
            self._end()

    def _fail(self, error: Exception) -> None:
        """
        The stream is over for a reason of this side.
        """
        self.reset(self.streamId)
        self.stream.lost(Failure(error))

    # IStreamOwner

    @property
    def full(self) -> bool:
        return self._channel.full

    @property
    def paused(self) -> int:
        """
        How many of the one stream are paused.
        """
        return self._paused

    @paused.setter
    def paused(self, streams: int) -> None:
        self._paused = streams
        self._streams.session.checkReading()

    def streamReady(self, stream: StreamTransport) -> None:
        if not stream.scheduled:
            stream.scheduled = True
            self.callNextTurn(self._flush)

    def flushEarly(self) -> None:
        if self.stream.scheduled:
            self._flush()

    def acknowledge(self, streamId: int, octets: int) -> None:
        self._streams.session.heldLess(self)
        if self._closed and not self.stream.held:
            self.callNextTurn(self._endIfRead)

    def reset(self, streamId: int) -> None:
        self._close()

    def stopReading(self, stream: StreamTransport, discarded: int) -> None:
        """
        The peer is notified when what is queued was sent; what arrives until then is dropped.
        """

    def streamLost(self, stream: StreamTransport, reason: Failure) -> None:
        self._stopTimer()
        self._streams.forget(self.identifier)
        self._streams.session.memberEnded(self.identifier)
        onEnded, self.onEnded = self.onEnded, None
        if onEnded is not None:
            onEnded()
        self.callNextTurn(stream.reportLost, reason)

    def callNextTurn(self, call: Callable[..., object], *arguments: object) -> None:
        self._streams.session.clock.callLater(0, call, *arguments)

    def waitForCapacity(self, stream: StreamTransport) -> None:
        self._waiting = True

    # Parts

    def _flush(self) -> None:
        stream, channel = self.stream, self._channel
        while stream.queued and stream.connected and not (channel.full or self._stopped):
            octets = stream.take(CHUNK_OCTETS)
            if not self._closed:
                self.octetsOut += len(octets)
                channel.send(TCPData(connection_id=self.identifier, data=octets))
        if not stream.queued:
            stream.scheduled = False
            if stream.finishing and stream.connected and not stream.writeEnded:
                self._endWriting()

    def _endWriting(self) -> None:
        """
        Everything was sent: end our direction, or both.
        """
        stream = self.stream
        if self._streams.halfClose and (stream.readEnded or not stream.disconnecting) and not self._closed:
            self._channel.send(TCPEnd(connection_id=self.identifier))
            self._closed = stream.readEnded   # by both sides
        else:
            self._close()
            stream.disconnecting = True
        stream.endSent()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._channel.send(TCPClose(connection_id=self.identifier, reason=self.reason))

    def _stopTimer(self) -> None:
        timer, self._readTimer = self._readTimer, None
        if timer is not None and timer.active():
            timer.cancel()


class ClosingEnd(SpliceEnd):
    """
    An end of a splice that is closed when the other end has nothing more to send.
    """

    def _endWriting(self) -> None:
        self.transport.loseConnection()


class LocalConnections(Factory):
    """
    Joins each stream of an edge to a connection to the local server of an agent.
    """

    noisy = False

    def __init__(self, streams: RawStreams, endpoint: IStreamClientEndpoint) -> None:
        """
        @param endpoint: connects to the local server.
        """
        self._streams = streams
        self._endpoint = endpoint

    def buildProtocol(self, address: object) -> SpliceEnd:
        clock = self._streams.session.clock
        splice = Splice(clock, end=SpliceEnd if self._streams.halfClose else ClosingEnd)
        dialled = self._endpoint.connect(SpliceFactory(splice.far))
        dialled.addTimeout(CONNECT_SECONDS, clock)
        dialled.addErrback(lambda failure: clock.callLater(0, self._failed, splice, failure))      # once near is connected
        return splice.near

    def _failed(self, splice: Splice, failure: Failure) -> None:
        self._streams.connectFailed(splice.near.transport, errorText(failure))


@implementer(IStreamClientEndpoint)
class RawStreams:
    """
    The connections of a session, and the endpoint that opens them.

    @ivar session: the session.
    @ivar halfClose: one direction of a connection can end before the other.
    @ivar unknown: frames for connections that there are not, or not any more.
    """

    def __init__(self, session: JSONSession, *, accepts: bool, reason: str) -> None:
        """
        @param accepts: the peer opens connections, for the session's listener.
        @param reason: what the peer gets as the reason when this side closes one.
        """
        self.session = session
        self.halfClose = HALF_CLOSE in session.channel.capabilities
        self.unknown = 0
        self._reason = reason
        self._streams: dict[str, RawStream] = {}
        session.connector = self
        if accepts:
            session.handle(TCPConnect, self._connectReceived)
        session.handle(TCPData, self._dataReceived)
        session.handle(TCPClose, self._closeReceived)
        session.handle(TCPEnd, self._endReceived)

    def forget(self, identifier: str) -> None:
        """
        From a stream: it is over.
        """
        self._streams.pop(identifier, None)

    # At an edge

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Open a connection.

        @return: fires at once: a connection that cannot be made is closed by the agent.
        """
        session = self.session
        if (gone := session.lostReason()) is not None:
            return fail(gone)
        if session.draining or session.peerDraining:
            return fail(SessionClosed("the agent is about to stop"))
        if session.streams >= MOST_CONNECTIONS or session.channel.queued > QUEUED_OCTETS:
            return fail(TooManyStreams("too many connections to the agent", connections=session.streams))
        try:
            protocol = protocolFactory.buildProtocol(session.address)
        except Exception:
            return fail()
        if protocol is None:
            return fail(NoProtocol())
        identifier = token_hex(16)
        session.channel.send(TCPConnect(connection_id=identifier))
        stream = self._streams[identifier] = RawStream(self, identifier, self._reason)
        stream.stream.handOver(protocol)
        return succeed(protocol)

    # At an agent

    def _connectReceived(self, frame: TCPConnect) -> None:
        if frame.connection_id in self._streams:
            self.unknown += 1
            return
        if self.session.streams >= MOST_CONNECTIONS:
            self.refuse(frame.connection_id, "too many connections")
            return
        stream = self._streams[frame.connection_id] = RawStream(self, frame.connection_id, self._reason)
        self.session.listener.streamArrived(stream.stream)

    def refuse(self, identifier: str, reason: str) -> None:
        """
        Notify the edge that a connection is not made.
        """
        self.session.channel.send(TCPClose(connection_id=identifier, reason=CONNECT_FAILED + reason))

    def connectFailed(self, transport: StreamTransport, reason: str) -> None:
        """
        A connection that the edge has opened cannot be made: notify it.
        """
        for stream in self._streams.values():
            if stream.stream is transport:
                stream.reason = CONNECT_FAILED + reason
        transport.abortConnection()

    # Both

    def _dataReceived(self, frame: TCPData) -> None:
        stream = self._streams.get(frame.connection_id)
        if stream is None:
            self.unknown += 1
        else:
            stream.dataReceived(frame.data)

    def _endReceived(self, frame: TCPEnd) -> None:
        stream = self._streams.get(frame.connection_id)
        if stream is None:
            self.unknown += 1
        else:
            stream.peerEnded()

    def _closeReceived(self, frame: TCPClose) -> None:
        stream = self._streams.pop(frame.connection_id, None)
        if stream is None:
            self.unknown += 1
        else:
            stream.peerClosed(frame.reason)

    def badFrameReceived(self, bad: BadFrame) -> None:
        """
        A frame for a connection is wrong: that connection is over.
        """
        stream = self._streams.get(bad.identifier)
        if stream is not None:
            stream.reason = f"{bad.type}: {bad.args[0]}"
            stream.stream.abortConnection()
