"""
What both ends of a negotiation have in common on a stream: they feed the pure half, write what it sends, and keep its time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from tunnelstack.errors import PeerError
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.shared_timer import SharedTimer
from tunnelstack.transport.websocket.transport import WebSocketTransport
from tunnelstack.wire.negotiation.base import Negotiation, NegotiationEvent, Parameters

NegotiatedStream = StreamTransport | WebSocketTransport
"""Streams of any session: they are handed over to their applications, and have a timer."""


class NegotiationProtocol(ABC):
    """
    The protocol of a stream until it is known what the stream is for.

    @ivar transport: the L{StreamTransport<tunnelstack.stream.transport.StreamTransport>}.
    """

    __slots__ = ("_deadline", "_negotiation", "_sharedTimer", "_timeout", "transport")

    def __init__(self, negotiation: Negotiation, timeout: float) -> None:
        """
        @param timeout: seconds for all of it.
        """
        self._negotiation = negotiation
        self._timeout = timeout
        self._deadline = 0.0
        self._sharedTimer: SharedTimer
        self.transport: NegotiatedStream

    def _start(self, transport: NegotiatedStream, negotiation: Negotiation | None) -> None:
        """
        @param negotiation: this stream's; C{None} if it needs none so far.
        """
        self.transport = transport
        self._sharedTimer = deadlines = transport.sharedTimer
        now = deadlines.seconds()
        self._deadline = ends = now + self._timeout
        if negotiation is not None:
            deadline = negotiation.begin(now)
            if deadline is not None and deadline < ends:
                ends = deadline
        deadlines.add(self, ends)

    def _updateDeadline(self) -> None:
        deadline = self._negotiation.next_deadline()
        self._sharedTimer.add(self, self._deadline if deadline is None else min(deadline, self._deadline))

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the peer's half.
        """
        negotiation = self._negotiation       # L{_advance}, written out: this is every stream's way
        try:
            events = negotiation.receive_data(data)
        except PeerError as broken:
            self._negotiationFailed(broken)
            return
        pieces = negotiation.data_to_send()
        if pieces:
            (self.transport.writeRecord if negotiation.own_frame else self.transport.write)(b"".join(pieces))
        if events:
            self._eventReceived(events[0])

    def readConnectionLost(self) -> None:
        """
        The peer's half has ended.
        """
        self._advance(self._negotiation.receive_eof)

    def timedOut(self, now: float) -> None:
        """
        It is late: for the negotiation as a whole, or for what it was waiting for.
        """
        if now >= self._deadline:
            self._negotiationTimedOut()
        elif self._advance(self._negotiation.expire, now):
            self._updateDeadline()

    def _advance(self, call: Callable[..., list[NegotiationEvent]], *arguments: object) -> bool:
        """
        Call the negotiation, write what it sends, and handle its events.

        @return: whether it continues.
        """
        try:
            events = call(*arguments)
        except PeerError as broken:
            self._negotiationFailed(broken)
            return False
        self._sendPending()
        if events:
            self._eventReceived(events[0])
        return not events

    def _sendPending(self) -> bool:
        """
        @return: whether there was anything to send.
        """
        pieces = self._negotiation.data_to_send()
        if not pieces:
            return False
        (self.transport.writeRecord if self._negotiation.own_frame else self.transport.write)(b"".join(pieces))
        return True

    @abstractmethod
    def _eventReceived(self, event: NegotiationEvent) -> None:
        """
        The negotiation has come to a result, or the peer has proposed something.
        """

    @abstractmethod
    def _negotiationFailed(self, broken: PeerError) -> None:
        """
        The peer broke a rule: reset the stream.
        """

    @abstractmethod
    def _negotiationTimedOut(self) -> None:
        """
        The time for all of it is over.
        """

    @abstractmethod
    def makeConnection(self, transport: Any) -> None:
        """
        The stream is open: call L{_start}, and send what is to be sent first.
        """

    @abstractmethod
    def writeConnectionLost(self) -> None:
        """
        Our direction was ended, by an application that was connected before the answer.
        """

    @abstractmethod
    def connectionLost(self, reason: Failure) -> None:
        """
        The stream was lost before its application had it.
        """


def withProtocolName(stream: NegotiatedStream, name: bytes, parameters: Parameters) -> StreamAddress:
    """
    Put on a stream's address what the stream is for.

    @return: the address (by positions: with their names it takes twice as long, and this is done for every stream).
    """
    old = stream.address
    stream.address = address = StreamAddress(
        old.key, old.principal, old.dialect, name, parameters, old.visitor, old.peer, stream.streamId
    )
    return address
