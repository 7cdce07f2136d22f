"""
What both ends of a negotiation do alike on a stream: feed the pure half, write what it says, keep its time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import PeerError
from tunnelstack.stream.address import StreamAddress
from tunnelstack.wire.negotiation.base import Event


@implementer(IProtocol, IHalfCloseableProtocol)
class Party:
    """
    The protocol of a stream until it is known what the stream is for.

    @ivar transport: the L{StreamTransport<tunnelstack.stream.transport.StreamTransport>}.
    """

    __slots__ = ("_deadlines", "_ends", "_negotiation", "transport")

    succeededBy: Any = None                   # nothing is taken off for whoever has the stream next

    transport: Any
    _negotiation: Any
    _deadlines: Any

    def _start(self, transport: Any, timeout: float) -> None:
        """
        @param timeout: seconds for all of it.
        """
        self.transport = transport
        self._deadlines = deadlines = transport.deadlines
        now = deadlines.seconds()
        self._ends = ends = now + timeout
        deadline = self._negotiation.begin(now)
        deadlines.add(self, ends if deadline is None or deadline > ends else deadline)

    def _watch(self) -> None:
        deadline = self._negotiation.next_deadline()
        self._deadlines.add(self, self._ends if deadline is None else min(deadline, self._ends))

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the peer's half.
        """
        negotiation = self._negotiation       # L{_hear}, written out: this is every stream's way
        try:
            events = negotiation.receive_data(data)
        except PeerError as broken:
            self._broken(broken)
            return
        pieces = negotiation.data_to_send()
        if pieces:
            (self.transport.writeRecord if negotiation.alone else self.transport.write)(b"".join(pieces))
        if events:
            self._happened(events[0])

    def readConnectionLost(self) -> None:
        """
        The peer's half has ended.
        """
        self._hear(self._negotiation.receive_eof)

    def writeConnectionLost(self) -> None:
        """
        Our direction was ended, by an application that was connected before the answer.
        """

    def expired(self, now: float) -> None:
        """
        It is late: for the negotiation as a whole, or for what it was waiting for.
        """
        if now >= self._ends:
            self._late()
        elif self._hear(self._negotiation.expire, now):
            self._watch()

    def _hear(self, call: Callable[..., list[Event]], *arguments: Any) -> bool:
        """
        Call the negotiation, write what it has to say, and do what it says has happened.

        @return: whether it goes on.
        """
        try:
            events = call(*arguments)
        except PeerError as broken:
            self._broken(broken)
            return False
        self._say()
        if events:
            self._happened(events[0])
        return not events

    def _say(self) -> bool:
        """
        @return: whether there was anything to say.
        """
        pieces = self._negotiation.data_to_send()
        if not pieces:
            return False
        (self.transport.writeRecord if self._negotiation.alone else self.transport.write)(b"".join(pieces))
        return True

    def _happened(self, event: Event) -> None:
        raise NotImplementedError

    def _broken(self, broken: PeerError) -> None:
        """
        The peer broke a rule: the stream is to be reset.
        """
        raise NotImplementedError

    def _late(self) -> None:
        """
        The time for all of it is over.
        """
        raise NotImplementedError

    def connectionMade(self) -> None:
        """
        Nothing to do: L{makeConnection} does it.
        """

    def makeConnection(self, transport: Any) -> None:
        """
        As in L{IProtocol}.
        """
        raise NotImplementedError

    def connectionLost(self, reason: Failure) -> None:
        """
        As in L{IProtocol}.
        """
        raise NotImplementedError


def named(stream: Any, name: bytes, parameters: Mapping[str, Any]) -> StreamAddress:
    """
    Put on a stream's address what the stream is for.

    @return: the address (by positions: with their names it takes twice as long, and this is done for every stream).
    """
    old = stream.address
    stream.address = address = StreamAddress(
        old.key, old.principal, old.dialect, name, parameters, old.visitor, old.peer, stream.streamId
    )
    return address
