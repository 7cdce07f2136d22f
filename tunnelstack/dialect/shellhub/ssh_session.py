"""
An SSH session on a device: the edge keeps it by an identifier, from the opening of its stream to the stream's end.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer

from tunnelstack.stream.transport import StreamTransport
from tunnelstack.transport.websocket.transport import WebSocketTransport

Stream = StreamTransport | WebSocketTransport
"""A stream of version 2, or of version 1."""


@frozen
class DeviceSSHSession:
    """
    An open session.

    @ivar uid: its identifier, which the edge has chosen.
    @ivar opened: when its stream was opened, in seconds since 1970.
    """

    uid: str
    opened: float


@implementer(IProtocol)
class SessionProtocol:
    """
    The protocol of a session's stream: that of the application, with a call when the stream is lost.

    Its C{dataReceived} is the application's own method, so that a delivery costs nothing more.
    """

    def __init__(self, stream: Stream, ended: Callable[[], object]) -> None:
        """
        @param stream: has its application already.
        @param ended: called when the stream is lost, after the application.
        """
        self._ended = ended
        self.replaceProtocol(stream.protocol)
        stream.protocol = self

    def replaceProtocol(self, application: IProtocol) -> None:
        """
        Called by the stream: the application has handed it over to another.
        """
        self._application = application
        self.dataReceived = application.dataReceived
        if IHalfCloseableProtocol.providedBy(application):
            self.readConnectionLost = application.readConnectionLost
            self.writeConnectionLost = application.writeConnectionLost
            directlyProvides(self, IHalfCloseableProtocol)
        else:
            directlyProvides(self)

    def makeConnection(self, transport: ITransport) -> None:
        """
        Nothing to do: the application was connected before.
        """

    def connectionMade(self) -> None:
        """
        Nothing to do: the application was connected before.
        """

    def connectionLost(self, reason: Failure) -> None:
        try:
            self._application.connectionLost(reason)
        finally:
            self._ended()
