"""
Two transports of datagrams joined: what arrives on one is written to the other.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IDatagramFactory, IDatagramProtocol, IDatagramTransport


@implementer(IDatagramProtocol)
class DatagramSpliceEnd:
    """
    One end of a splice.

    @ivar other: the other end.
    @ivar transport: C{None} before it is connected and after it is lost.
    @ivar octets: how many were received on this end; C{datagrams}, in how many datagrams.
    """

    other: DatagramSpliceEnd

    def __init__(self, splice: DatagramSplice) -> None:
        self.transport: IDatagramTransport | None = None
        self.octets = 0
        self.datagrams = 0
        self._splice = splice

    def makeConnection(self, transport: IDatagramTransport) -> None:
        self.transport = transport
        self._splice._connected(self)

    def datagramReceived(self, datagram: bytes) -> None:
        self.octets += len(datagram)
        self.datagrams += 1
        if self.datagrams == 1:
            self._splice._first(self)
        transport = self.other.transport
        if transport is None:
            self._splice._keep(self.other, datagram)
        else:
            transport.write(datagram)

    def connectionLost(self, reason: Failure) -> None:
        self.transport = None
        self._splice._lost(reason)


class DatagramSplice:
    """
    Two protocols that pass on to each other what they receive.  The end of one closes the other.

    @ivar near: a L{DatagramSpliceEnd}.
    @ivar far: the other L{DatagramSpliceEnd}.
    """

    def __init__(
        self, ended: Callable[[Failure], object] | None = None, held: int = 16, answered: Callable[[], object] | None = None
    ) -> None:
        """
        @param ended: called once, with the reason, when the first end is lost or the splice is closed.
        @param held: how many datagrams wait for an end that is not connected yet; further ones are dropped.
        @param answered: called with the first datagram that C{far} receives.
        """
        self._ended = ended
        self._answered = answered
        self._mostHeld = held
        self._held: list[bytes] = []
        self._over = False
        self.near = DatagramSpliceEnd(self)
        self.far = DatagramSpliceEnd(self)
        self.near.other, self.far.other = self.far, self.near

    def close(self, reason: Failure) -> None:
        """
        Close both ends; one that is not connected yet is closed when it is.
        """
        self._lost(reason)

    def _connected(self, end: DatagramSpliceEnd) -> None:
        transport = end.transport
        if transport is None:
            return
        if self._over:
            transport.loseConnection()
            return
        held, self._held = self._held, []
        for datagram in held:
            transport.write(datagram)

    def _first(self, end: DatagramSpliceEnd) -> None:
        if end is self.far and self._answered is not None:
            self._answered()

    def _keep(self, end: DatagramSpliceEnd, datagram: bytes) -> None:
        if not self._over and len(self._held) < self._mostHeld:
            self._held.append(datagram)

    def _lost(self, reason: Failure) -> None:
        if self._over:
            return
        self._over = True
        self._held = []
        for end in (self.near, self.far):
            transport, end.transport = end.transport, None
            if transport is not None:
                transport.loseConnection()
        if self._ended is not None:
            self._ended(reason)


@implementer(IDatagramFactory)
class DatagramSpliceFactory:
    """
    A factory that gives an endpoint one end of a splice.
    """

    def __init__(self, end: DatagramSpliceEnd) -> None:
        self._end = end

    def buildProtocol(self, address: IAddress | None) -> DatagramSpliceEnd:
        return self._end
