"""
What may stand between an agreement and the application's first octet, and belongs to neither.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.negotiation._base import NegotiatedStream
from tunnelstack.wire.negotiation.base import Agreed


@implementer(IProtocol, IHalfCloseableProtocol)
class LeftoverFilter:
    """
    The protocol of a stream until the next octets of the peer: it takes off them what is not the application's, and is out of
    the path then.
    """

    __slots__ = ("_application", "_strip", "transport")

    def __init__(self, stream: NegotiatedStream, leftover_filter: Callable[[bytes], bytes]) -> None:
        """
        @param stream: has its application already.
        """
        self.transport = stream
        self._application: IProtocol = stream.protocol
        self._strip = leftover_filter

    def replaceProtocol(self, application: IProtocol) -> None:
        """
        From the stream: the application has handed it to another.
        """
        self._application = application

    def dataReceived(self, data: bytes) -> None:
        """
        The next octets.
        """
        self.transport.protocol = self._application
        rest = self._strip(data)
        if rest:
            self._application.dataReceived(rest)

    def readConnectionLost(self) -> None:
        """
        There are none.
        """
        self.transport.protocol = self._application
        if IHalfCloseableProtocol.providedBy(self._application):
            self._application.readConnectionLost()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        The application ended its direction.
        """
        if IHalfCloseableProtocol.providedBy(self._application):
            self._application.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        """
        The stream is lost.
        """
        self._application.connectionLost(reason)

    def makeConnection(self, transport: ITransport) -> None:
        """
        The application was connected.
        """

    def connectionMade(self) -> None:
        """
        The application was connected.
        """


def filterLeftover(stream: NegotiatedStream, agreed: Agreed) -> None:
    """
    Look at what comes next, where that is needed.

    @param stream: has its application, which was given what was read too far.
    """
    if agreed.leftover_filter is not None and stream.connected:
        stream.protocol = LeftoverFilter(stream, agreed.leftover_filter)
