"""
SSH channels with flow control: a reader that does not read stops its writer by the channel's window, in both directions.

Conch returns credit when data arrives.  Here credit is returned when the application has consumed the data.  Written data waits
in one queue, in order with the end and the requests that must follow it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.conch.ssh.channel import SSHChannel
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.transport.pull_producer import PullProducerAdapter

WINDOW = 512 * 1024
"""Octets that a peer may send on one channel before the application has consumed any."""

PACKET = 32 * 1024
"""Octets of data in one packet; every implementation accepts this many (RFC 4253, section 6.1)."""

ORDINARY_DATA = 0
"""The kind of ordinary data; the kinds of extended data begin with 1 (stderr)."""


@implementer(IConsumer, IPushProducer)
class FlowControlledChannel(SSHChannel):
    """
    A channel that is a producer of what arrives and a consumer of what is sent.

    A subclass overrides L{received}, L{receivedEnd} and L{receivedClose}.

    @ivar deliversAfterClose: when the peer closes the channel, deliver data that is held for a paused reader before
        L{receivedClose}; otherwise the data is discarded and L{receivedClose} is called immediately.
    @ivar producer: the registered producer of data to send, or C{None}.
    @ivar unsent: octets that were written and have not been sent, because the peer's window or the connection is full.
    """

    deliversAfterClose = True

    def __init__(self, *, remoteWindow: int = 0, remoteMaxPacket: int = 0) -> None:
        super().__init__(
            localWindow=WINDOW, localMaxPacket=PACKET, remoteWindow=remoteWindow, remoteMaxPacket=remoteMaxPacket,
        )
        self.conn: Any
        self._queue: deque[tuple[int, bytes] | Callable[[], object]] = deque()   # to be sent
        self.unsent = 0
        self._held: deque[tuple[int, bytes] | Callable[[], object]] = deque()    # received while the application is paused
        self._unread = 0
        self._paused = False
        self._deliveryScheduled = False
        self._ending = False                  # our end is queued; further writes are discarded
        self.producer: Any = None
        self._producerPaused = False
        self._closeReason: Failure = connectionDone

    # Events for the application; subclasses override

    def received(self, kind: int, data: bytes) -> None:
        """
        The peer has sent data.

        @param kind: L{ORDINARY_DATA}, or a kind of extended data.
        """

    def receivedEnd(self) -> None:
        """
        The peer sends no more data on this channel; it may still receive.
        """

    def receivedClose(self, reason: Failure) -> None:
        """
        The channel is closed in both directions.  Called once, after all other events.
        """

    # Receiving

    def channelOpen(self, specificData: bytes) -> None:
        """
        The channel is open.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        Called by the connection, which has checked the window.
        """
        self._dataArrived(ORDINARY_DATA, data)

    def extReceived(self, dataType: int, data: bytes) -> None:
        self._dataArrived(dataType, data)

    def _dataArrived(self, kind: int, data: bytes) -> None:
        if self.localClosed:
            return                            # no credit is returned, so that the peer's window runs out
        if self._paused or self._held:
            self._held.append((kind, data))
            self._unread += len(data)
        else:
            self.received(kind, data)
        self.conn.credit(self)

    @property
    def held(self) -> int:
        """
        Octets received that wait for a paused application.
        """
        return self._unread

    def eofReceived(self) -> None:
        self._afterHeld(self.receivedEnd)

    def closeReceived(self) -> None:
        """
        The peer receives no more: discard queued data, and close the channel from this side too.
        """
        self._queue.clear()
        self.unsent = 0
        self._ending = True
        self.conn.sendClose(self)

    def closed(self) -> None:
        """
        The channel is closed in both directions, or the connection is lost.  L{receivedClose} follows the data that is held; if
        the connection is lost or the channel does not deliver after a close, that data is discarded.
        """
        if self.conn.lost is not None:
            self._closeReason = self.conn.lost
        if self.conn.lost is not None or not self.deliversAfterClose:
            self._held.clear()
        self._queue.clear()
        self.unsent = 0
        self._afterHeld(self._reportClose)

    def _reportClose(self) -> None:
        self.receivedClose(self._closeReason)
        self.producer = None

    def _afterHeld(self, call: Callable[[], object]) -> None:
        if self._held:
            self._held.append(call)
        else:
            call()

    def pauseProducing(self) -> None:
        """
        Hold received data; at most one window, because no credit is returned.
        """
        self._paused = True

    def resumeProducing(self) -> None:
        """
        Deliver again.  Held data is delivered on a later turn of the reactor.
        """
        self._paused = False
        if self._held and not self._deliveryScheduled:
            self._deliveryScheduled = True
            self.conn.callNextTurn(self._deliver)

    def stopProducing(self) -> None:
        self.loseConnection()

    def _deliver(self) -> None:
        self._deliveryScheduled = False
        while self._held and not self._paused:
            item = self._held.popleft()
            if isinstance(item, tuple):
                self._unread -= len(item[1])
                self.received(*item)
            else:
                item()
        self.conn.credit(self)

    # Sending

    def write(self, data: bytes) -> None:
        """
        Queue data.  It is sent as the peer's window and the transport permit.
        """
        self._enqueue(ORDINARY_DATA, data)

    def writeExtended(self, dataType: int, data: bytes) -> None:
        """
        Queue extended data, in order with ordinary data.
        """
        self._enqueue(dataType, data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def _enqueue(self, kind: int, data: bytes) -> None:
        if data and not self._ending and not self.localClosed:
            self._queue.append((kind, data))
            self.unsent += len(data)
            self.sendQueued()

    def sendAfterQueued(self, call: Callable[[], object]) -> None:
        """
        Call C{call} when all queued data was sent, such as for a request that must follow the data.
        """
        if not self.localClosed:
            self._queue.append(call)
            self.sendQueued()

    def loseWriteConnection(self) -> None:
        """
        Send EOF after the queued data.
        """
        if not self._ending and not self.localClosed:
            self._ending = True
            self.sendAfterQueued(lambda: self.conn.sendEOF(self))

    def loseConnection(self) -> None:
        """
        Close the channel after the queued data was sent.
        """
        if not self.closing and not self.localClosed:
            self.closing = 1
            self._ending = True
            self.sendAfterQueued(lambda: self.conn.sendClose(self))

    def addWindowBytes(self, data: int) -> None:
        """
        The peer has returned credit.
        """
        self.remoteWindowLeft += data
        self.sendQueued()

    def sendQueued(self) -> None:
        """
        Send what the window and the transport permit, and pause or resume the producer.  Called by the connection when the
        transport has room again.
        """
        queue = self._queue
        while queue and not self.localClosed:
            item = queue[0]
            if not isinstance(item, tuple):
                queue.popleft()
                item()
                continue
            room = min(self.remoteWindowLeft, self.remoteMaxPacket)
            if room <= 0 or self.conn.full:
                break
            kind, data = item
            if len(data) > room:
                queue[0] = (kind, data[room:])
                data = data[:room]
            else:
                queue.popleft()
            self.remoteWindowLeft -= len(data)
            self.unsent -= len(data)
            if kind == ORDINARY_DATA:
                self.conn.sendData(self, data)
            else:
                self.conn.sendExtendedData(self, kind, data)
        self._updateProducer()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        As in L{IConsumer}.  The producer is paused while data waits for the peer's window or the transport.

        @raise RuntimeError: there is a producer already.
        """
        if self.producer is not None:
            raise RuntimeError(f"cannot register {producer!r}: {self.producer!r} was never unregistered")
        if self.localClosed or self.closing:
            producer.stopProducing()
            return
        self.producer = producer if streaming else PullProducerAdapter(producer, self.conn.clock)
        self._producerPaused = False
        if not streaming:
            self.producer.resumeProducing()
        self._updateProducer()

    def unregisterProducer(self) -> None:
        self.producer = None

    def _updateProducer(self) -> None:
        full = self.unsent > 0 or self.conn.full
        if self.producer is not None and full != self._producerPaused:
            self._producerPaused = full
            if full:
                self.producer.pauseProducing()
            else:
                self.producer.resumeProducing()

    def openFailed(self, reason: object) -> None:
        """
        The peer has refused to open the channel, or the connection was lost first.
        """
