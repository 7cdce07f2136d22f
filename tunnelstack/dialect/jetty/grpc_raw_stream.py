"""
A TCP connection on a lane of its own, as a stream, at both ends::

    connecting   RAW_CONNECT of the edge, and of the agent when it is connected, or RAW_CLOSE with the reason
    open         RAW_DATA both ways; C{end} is the end of one direction
    over         RAW_CLOSE: the sender has closed both
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IStreamOwner
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import StreamResetError
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.grpc_call import GRPCCall
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.transport.stream_scheduler import HIGH
from tunnelstack.wire.protobuf import encode_message
from tunnelstack.wire.records.jetty_grpc import RAW_CLOSE, RAW_DATA, RawChunk


class RawLaneOwner(Protocol):
    """
    The session of a lane.

    @ivar timer: ends with the session.
    @ivar chunkOctets: octets in one chunk.
    """

    timer: SharedTimer
    chunkOctets: int


@implementer(IStreamOwner, IPushProducer)
class RawStream:
    """
    The owner of one stream.

    @ivar stream: the transport of the application.
    """

    high = HIGH
    eager = True                              # whatever is written is all that is to come

    def __init__(
        self, call: GRPCCall, clock: IReactorTime, owner: RawLaneOwner, connectionId: str, address: StreamAddress,
        onOver: Callable[[], object],
    ) -> None:
        """
        @param onOver: called when both directions have ended in good order: the lane is to be ended.
        """
        self.full = False
        self.sharedTimer = owner.timer
        self._call = call
        self._clock = clock
        self._chunkOctets = owner.chunkOctets
        self._id = connectionId
        self._onOver = onOver
        self._paused = 0
        self._waiting = False                 # the producer waits for room in the call
        self.stream = StreamTransport(self, 0, address, TwistedProtocol())
        call.registerProducer(self, True)

    # From the call

    def pauseProducing(self) -> None:
        """
        The call takes no more for now.
        """
        self.full = True

    def resumeProducing(self) -> None:
        """
        The call takes more again.
        """
        self.full = False
        waiting, self._waiting = self._waiting, False
        if waiting:
            self.stream.resumeProducer()
        if self.stream.scheduled:
            self._flush()

    def stopProducing(self) -> None:
        """
        The call is over; L{lost} is called as well.
        """

    def chunkReceived(self, chunk: RawChunk) -> None:
        """
        A chunk of the peer's.
        """
        stream = self.stream
        if chunk.data and chunk.type == RAW_DATA and stream.connected and not stream.disconnecting:
            stream.deliverData(chunk.data)
        closed = chunk.type == RAW_CLOSE
        if (chunk.end or closed) and stream.connected and not stream.readEnded:
            stream.deliverEnd()
        if closed:
            self._end()

    def _end(self) -> None:
        """
        The peer has closed both directions.
        """
        if self.stream.connected:
            self.stream.lost(connectionDone)

    def lost(self, reason: Exception | None) -> None:
        """
        The lane has ended.

        @param reason: C{None} in good order.
        """
        if self.stream.connected:
            why = None if reason is None else StreamResetError(str(reason))
            self.stream.lost(connectionDone if why is None else Failure(why))

    # IStreamOwner

    @property
    def paused(self) -> int:
        """
        How many of the one stream are paused.
        """
        return self._paused

    @paused.setter
    def paused(self, streams: int) -> None:
        self._paused = streams
        if not self._call.over:
            (self._call.pauseProducing if streams else self._call.resumeProducing)()

    def streamReady(self, stream: StreamTransport) -> None:
        if not stream.scheduled:
            stream.scheduled = True
            self.callNextTurn(self._flush)

    def flushEarly(self) -> None:
        if self.stream.scheduled:
            self._flush()

    def acknowledge(self, streamId: int, octets: int) -> None:
        """
        The call gives the credit.
        """

    def reset(self, streamId: int) -> None:
        self._call.reset()

    def stopReading(self, stream: StreamTransport, discarded: int) -> None:
        """
        The peer is told when what is queued was sent; what arrives until then is dropped.
        """

    def streamLost(self, stream: StreamTransport, reason: Failure) -> None:
        self.callNextTurn(stream.reportLost, reason)
        self._call.unregisterProducer()
        self._onOver()

    def callNextTurn(self, call: Callable[..., object], *arguments: object) -> None:
        self._clock.callLater(0, call, *arguments)

    def waitForCapacity(self, stream: StreamTransport) -> None:
        self._waiting = True

    def _flush(self) -> None:
        stream = self.stream
        while stream.queued and stream.connected and not self.full:
            self._send(RawChunk(type=RAW_DATA, data=stream.take(self._chunkOctets)))
        if stream.queued or not stream.scheduled:
            return
        stream.scheduled = False
        if stream.finishing and stream.connected and not stream.writeEnded:
            closed = stream.disconnecting
            self._send(RawChunk(connection_id=self._id, type=RAW_CLOSE if closed else RAW_DATA, end=True))
            stream.endSent()
            if closed:
                self._end()

    def _send(self, chunk: RawChunk) -> None:
        self._call.send(encode_message(chunk))
