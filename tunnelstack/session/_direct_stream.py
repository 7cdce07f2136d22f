"""
A connection of its own that is a stream: a L{StreamTransport} whose octets are those of the connection.

The transport has what streams of all sessions have: a queue with records, half-close, hand-over, an orderly close.  This module
is the owner that such a transport has instead of a session: it writes once a turn, pauses the connection while the application
does not read, and bounds the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IStreamOwner
from tunnelstack.session._closing import ABSORB_OCTETS
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import StreamResetError
from tunnelstack.stream.splice import supportsHalfClose
from tunnelstack.stream.transport import LARGEST_RECORD, StreamTransport
from tunnelstack.transport.direct_write import unsent
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.transport.stream_scheduler import HIGH

_UNCLAIMED = Protocol()
"""What a stream is connected to until it is handed to an application."""


@implementer(IStreamOwner, IHalfCloseableProtocol, IPushProducer)
class DirectStream(Protocol):
    """
    The protocol of a connection that is a stream, which is a
    L{StreamConnection<tunnelstack.session.stream_connections.StreamConnection>}.

    The stream is over when its transport reports it; the connection may take longer: what was written is flushed, and what the
    peer still sends is absorbed, for C{closeTimeout} seconds without progress.

    @ivar stream: the transport of the application.
    """

    transport: Any                            # a L{Carrier<tunnelstack.session.lifecycle.Carrier>}
    stream: StreamTransport
    onEnded: Callable[[], object] | None = None
    high = HIGH

    def __init__(
        self, clock: IReactorTime, closeTimeout: float, register: Callable[[DirectStream], object],
        arrived: Callable[[DirectStream], object], endingTimeout: float = 0.0,
    ) -> None:
        """
        @param closeTimeout: seconds without progress, after the application has closed the stream, until it is reset.
        @param endingTimeout: as in L{DirectLimits<tunnelstack.session.direct.DirectLimits>}.
        @param register: called first: is to set C{streamId}, C{address} and C{onEnded}.
        @param arrived: called once there is a C{stream}, to hand it to an application.
        """
        self.streamId = 0
        self.address = StreamAddress()
        self.octetsIn = self.octetsOut = 0
        self.full = False
        self.sharedTimer = SharedTimer(clock)
        self._clock = clock
        self._closeTimeout = closeTimeout
        self._endingTimeout = endingTimeout
        self._endingTimer: IDelayedCall | None = None
        self._received = 0                    # octets, when that timer was started
        self._register = register
        self._arrived = arrived
        self._paused = 0
        self._waiting = False                 # the stream's producer waits for room
        self._gone = False                    # the connection is
        self._over = False                    # the stream is too
        self._absorbed = 0                    # octets that arrived after the close
        self._flushCall: IDelayedCall | None = None
        self._closeTimer: IDelayedCall | None = None
        self._progress = -1                   # octets that had left when the timer was started

    @property
    def held(self) -> int:
        """
        Octets that arrived and that the application has not read yet.
        """
        return self.stream.held

    def abortConnection(self) -> None:
        """
        Reset the stream, and the connection of one that is closed already.
        """
        self.stream.abortConnection()
        if not self._gone:
            self.transport.abortConnection()

    # The protocol of the connection

    def connectionMade(self) -> None:
        if getattr(self.transport, "setTcpNoDelay", None) is not None:      # not on a Unix socket
            self.transport.setTcpNoDelay(True)      # what is written is collected already
            self.transport.setTcpKeepAlive(True)    # nothing else notices that a silent peer is gone
        self._register(self)
        self.stream = StreamTransport(self, self.streamId, self.address, _UNCLAIMED)
        self.stream.endsBothDirections = not supportsHalfClose(self.transport)
        self.transport.registerProducer(self, True)
        self._arrived(self)

    def dataReceived(self, data: bytes) -> None:
        self.octetsIn += len(data)
        stream = self.stream
        if stream.connected and not stream.disconnecting:
            stream.deliverData(data)
            return
        self._absorbed += len(data)
        if self._absorbed > ABSORB_OCTETS:
            self._reset("the peer continued to send after the close")

    def readConnectionLost(self) -> None:
        self._stopEndingTimer()
        if not self.stream.readEnded:
            self.stream.deliverEnd()
            self._closeEnded()

    def writeConnectionLost(self) -> None:
        """
        The stream was called when its end was written.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stopEndingTimer()
        self._gone = True
        self.full = False
        self.sharedTimer.stop()
        stream = self.stream
        if not stream.connected:
            self._checkOver()
        elif reason.check(ConnectionDone) and (stream.held or stream.paused):
            self._startCloseTimer()           # for what is still to be read
            if not stream.readEnded:
                stream.deliverEnd()
        else:
            stream.lost(reason)

    # IPushProducer: the connection takes no more, or takes more again

    def pauseProducing(self) -> None:
        self.full = True

    def resumeProducing(self) -> None:
        self.full = False
        waiting, self._waiting = self._waiting, False
        if waiting:
            self.stream.resumeProducer()
        if self.stream.scheduled:
            self._flush()

    def stopProducing(self) -> None:
        """
        C{connectionLost} follows.
        """

    # IStreamOwner

    @property
    def paused(self) -> int:
        """
        Whether the application does not read: then the connection is not read either.
        """
        return self._paused

    @paused.setter
    def paused(self, streams: int) -> None:
        self._paused = streams
        if not self._gone:
            (self.transport.pauseProducing if streams else self.transport.resumeProducing)()
        elif not streams:
            self.callNextTurn(self._checkDelivered)

    def streamReady(self, stream: StreamTransport) -> None:
        if not stream.scheduled:
            stream.scheduled = True
            if not self.full and self._flushCall is None:
                self._flushCall = self._clock.callLater(0, self._flush)

    eager = True                              # whatever is written is all that is to come

    def flushEarly(self) -> None:
        if self.stream.scheduled and not self.full:
            self._flush()

    def acknowledge(self, streamId: int, octets: int) -> None:
        if self._gone and not self.stream.held:
            self.callNextTurn(self._checkDelivered)

    def reset(self, streamId: int) -> None:
        if not self._gone:
            self.transport.abortConnection()

    def stopReading(self, stream: StreamTransport, discarded: int) -> None:
        self._startCloseTimer()

    def streamLost(self, stream: StreamTransport, reason: Failure) -> None:
        self.callNextTurn(self._reportLost, reason)
        self._startCloseTimer()

    def callNextTurn(self, call: Callable[..., object], *arguments: object) -> None:
        self._clock.callLater(0, call, *arguments)

    def waitForCapacity(self, stream: StreamTransport) -> None:
        self._waiting = True

    # Sending

    def _flush(self) -> None:
        """
        Write what is queued, as far as the connection takes it, and then the end.
        """
        call, self._flushCall = self._flushCall, None
        if call is not None and call.active():
            call.cancel()
        stream = self.stream
        if self._gone:                        # it writes in vain
            self._checkDelivered()
            return
        write = self.transport.write
        while stream.queued and not self.full:
            octets = stream.take(LARGEST_RECORD)
            self.octetsOut += len(octets)
            write(octets)
        if not stream.queued:
            stream.scheduled = False
            if stream.finishing and stream.connected and not stream.writeEnded:
                self._endWriting()

    def _endWriting(self) -> None:
        stream = self.stream
        if stream.endsBothDirections:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()
            self._startEndingTimer()
        stream.endSent()
        self._closeEnded()

    # Ends

    def _closeEnded(self) -> None:
        """
        Close the connection if both directions have ended.
        """
        if self.stream.readEnded and self.stream.writeEnded and not self._gone:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
            self._startCloseTimer()

    def _startEndingTimer(self) -> None:
        if self._endingTimeout and not (self.stream.readEnded or self._gone):
            self._received = self.octetsIn
            self._endingTimer = self._clock.callLater(self._endingTimeout, self._endingTimedOut)

    def _stopEndingTimer(self) -> None:
        timer, self._endingTimer = self._endingTimer, None
        if timer is not None:
            timer.cancel()

    def _endingTimedOut(self) -> None:
        """
        The peer has sent nothing after our end: it is taken to have ended, too, unless it was not read.
        """
        self._endingTimer = None
        if self.octetsIn != self._received or self._paused:
            self._startEndingTimer()
        else:
            self.readConnectionLost()

    def _startCloseTimer(self) -> None:
        if self._closeTimer is None and not self._over:
            self._progress = self._left()
            self._closeTimer = self._clock.callLater(self._closeTimeout, self._closeTimedOut)

    def _left(self) -> int:
        """
        @return: octets that have gone to the network, or to the application of a connection that is gone.
        """
        return self.octetsIn - self.held if self._gone else self.octetsOut - unsent(self.transport)

    def _closeTimedOut(self) -> None:
        self._closeTimer = None
        if self._left() != self._progress:
            self._startCloseTimer()
        else:
            self._reset("the stream was not closed in time")

    def _reset(self, why: str) -> None:
        if not self._gone:
            self.transport.abortConnection()
        self.stream.lost(Failure(StreamResetError(why, stream=self.streamId)))

    def _checkDelivered(self) -> None:
        """
        After the connection was closed: if nothing is left to be read, the stream is over as well.
        """
        if not (self.stream.held or self.stream.paused):
            self.stream.lost(connectionDone)

    def _reportLost(self, reason: Failure) -> None:
        self.stream.reportLost(reason)
        self._over = True
        self._checkOver()

    def _checkOver(self) -> None:
        """
        Report the end once neither the stream nor its connection is left.
        """
        if not (self._gone and self._over):
            return
        timer, self._closeTimer = self._closeTimer, None
        if timer is not None:
            timer.cancel()
        onEnded, self.onEnded = self.onEnded, None
        if onEnded is not None:
            onEnded()
