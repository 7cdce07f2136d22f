"""
SSH channels with pressure: a reader that stands still stops its writer by the channel's window, in both directions.

Conch gives credit when octets arrive; here credit goes back when the application has taken them, and what is written waits in
one queue, in order, with the end and the requests that belong behind it.
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
"""Octets that a peer may send on one channel before the application has taken any."""

PACKET = 32 * 1024
"""Octets of one packet's data; what every implementation takes."""

ORDINARY_DATA = 0
"""Where ordinary data goes beside extended data's kinds, which begin with 1 (stderr)."""


@implementer(IConsumer, IPushProducer)
class FlowControlledChannel(SSHChannel):
    """
    A channel that is a producer of what arrives and a consumer of what is sent.

    @ivar deliversAfterClose: what arrived before the peer closed the channel is still given to a reader that pauses; else the
        reader is told of the close at once.
    @ivar producer: makes what is sent here, or C{None}.
    """

    deliversAfterClose = True

    def __init__(self, *, remoteWindow: int = 0, remoteMaxPacket: int = 0) -> None:
        super().__init__(
            localWindow=WINDOW, localMaxPacket=PACKET, remoteWindow=remoteWindow, remoteMaxPacket=remoteMaxPacket,
        )
        self.conn: Any
        self._queue: deque[tuple[int, bytes] | Callable[[], object]] = deque()   # to be sent
        self._unsent = 0
        self._held: deque[tuple[int, bytes] | Callable[[], object]] = deque()    # arrived, for a paused application
        self._unread = 0
        self._paused = False
        self._deliveryScheduled = False                   # a delivery of what is held is on its way
        self._ending = False                  # our end is queued; writes vanish
        self.producer: Any = None
        self._producerPaused = False
        self._closeReason: Failure = connectionDone

    # What the application hears; subclasses override

    def received(self, kind: int, data: bytes) -> None:
        """
        Octets of the peer.

        @param kind: L{ORDINARY_DATA}, or a kind of extended data.
        """

    def receivedEnd(self) -> None:
        """
        The peer says no more on this channel; it may yet listen.
        """

    def receivedClose(self, reason: Failure) -> None:
        """
        The channel is over, in both directions; called once and last.
        """

    # Arriving

    def channelOpen(self, specificData: bytes) -> None:
        """
        The channel stands.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        From the connection, whose window was checked.
        """
        self._dataArrived(ORDINARY_DATA, data)

    def extReceived(self, dataType: int, data: bytes) -> None:
        """
        From the connection.
        """
        self._dataArrived(dataType, data)

    def _dataArrived(self, kind: int, data: bytes) -> None:
        if self.localClosed:
            return                            # nobody is left to take it; the peer's window runs out
        if self._paused or self._held:
            self._held.append((kind, data))
            self._unread += len(data)
        else:
            self.received(kind, data)
        self.conn.credit(self)

    @property
    def held(self) -> int:
        """
        Octets that arrived and wait for a paused application.
        """
        return self._unread

    def eofReceived(self) -> None:
        """
        The peer's end, behind what is held.
        """
        self._afterHeld(self.receivedEnd)

    def closeReceived(self) -> None:
        """
        The peer listens no more; what it was yet to be sent is dropped, and the channel closed from our side too.
        """
        self._queue.clear()
        self._unsent = 0
        self._ending = True
        self.conn.sendClose(self)

    def closed(self) -> None:
        """
        Over on the wire; the application hears of it behind what is held, or at once where nothing is left to wait for.
        """
        if self.conn.lost is not None:
            self._closeReason = self.conn.lost
        if self.conn.lost is not None or not self.deliversAfterClose:
            self._held.clear()
        self._queue.clear()
        self._unsent = 0
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
        Hold what arrives; at most one window, since no credit goes back.
        """
        self._paused = True

    def resumeProducing(self) -> None:
        """
        Go on; what was held follows on a later turn.
        """
        self._paused = False
        if self._held and not self._deliveryScheduled:
            self._deliveryScheduled = True
            self.conn.callNextTurn(self._deliver)

    def stopProducing(self) -> None:
        """
        Whoever took our octets is gone.
        """
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
        Queue octets; they leave as far as the peer's window and the carrier allow.
        """
        self._enqueue(ORDINARY_DATA, data)

    def writeExtended(self, dataType: int, data: bytes) -> None:
        """
        Queue extended data, in order with all else.
        """
        self._enqueue(dataType, data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """
        Queue several pieces.
        """
        self.write(b"".join(data))

    def _enqueue(self, kind: int, data: bytes) -> None:
        if data and not self._ending and not self.localClosed:
            self._queue.append((kind, data))
            self._unsent += len(data)
            self.sendQueued()

    def sendAfterQueued(self, call: Callable[[], object]) -> None:
        """
        Call C{call} once all that is queued was sent: a request that belongs behind the data.
        """
        if not self.localClosed:
            self._queue.append(call)
            self.sendQueued()

    def loseWriteConnection(self) -> None:
        """
        Say EOF behind what is queued.
        """
        if not self._ending and not self.localClosed:
            self._ending = True
            self.sendAfterQueued(lambda: self.conn.sendEOF(self))

    def loseConnection(self) -> None:
        """
        Close the channel behind what is queued.
        """
        if not self.closing and not self.localClosed:
            self.closing = 1
            self._ending = True
            self.sendAfterQueued(lambda: self.conn.sendClose(self))

    def addWindowBytes(self, data: int) -> None:
        """
        The peer takes more.
        """
        self.remoteWindowLeft += data
        self.sendQueued()

    def sendQueued(self) -> None:
        """
        Send what may be sent now, and tell the producer whether to go on.
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
            self._unsent -= len(data)
            if kind == ORDINARY_DATA:
                self.conn.sendData(self, data)
            else:
                self.conn.sendExtendedData(self, kind, data)
        self._updateProducer()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        As in L{IConsumer}; it is paused while anything waits here for the peer's window or the carrier.

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
        """
        As in L{IConsumer}.
        """
        self.producer = None

    def _updateProducer(self) -> None:
        full = self._unsent > 0 or self.conn.full
        if self.producer is not None and full != self._producerPaused:
            self._producerPaused = full
            if full:
                self.producer.pauseProducing()
            else:
                self.producer.resumeProducing()

    def openFailed(self, reason: Any) -> None:
        """
        The peer did not open it, or the connection ended first.
        """
