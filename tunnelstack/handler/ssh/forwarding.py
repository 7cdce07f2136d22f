"""
An SSH channel as the transport of a protocol, for forwarded connections.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.handler.ssh.channel import ORDINARY_DATA, FlowControlledChannel


@implementer(ITCPTransport)
class StreamChannel(FlowControlledChannel):
    """
    A channel as the transport of a protocol, with half-close.

    @ivar protocol: the receiver of the channel's events.
    """

    _failures = Logger()

    def __init__(self, protocol: IProtocol | None = None, **windows: int) -> None:
        super().__init__(**windows)
        self.protocol: IProtocol = protocol or Protocol()

    @property
    def connected(self) -> bool:
        """
        Whether the channel is not closed yet.
        """
        return not self.localClosed

    @property
    def disconnecting(self) -> bool:
        """
        Whether the channel closes when its queued data is sent.
        """
        return bool(self.closing)

    def channelOpen(self, specificData: bytes) -> None:
        self._call(self.protocol.makeConnection, self)

    def received(self, kind: int, data: bytes) -> None:
        # A forwarded connection has no extended data.
        if kind == ORDINARY_DATA and not self.closing:
            self._call(self.protocol.dataReceived, data)

    def receivedEnd(self) -> None:
        # As with TCP, a protocol without half-close is closed.
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self._call(self.protocol.readConnectionLost)
        else:
            self.loseConnection()

    def receivedClose(self, reason: Failure) -> None:
        if self.producer is not None:
            self.producer.stopProducing()
        protocol, self.protocol = self.protocol, Protocol()
        protocol.connectionLost(reason)

    def _call(self, method: Callable[..., object], *arguments: object) -> None:
        try:
            method(*arguments)
        except Exception:
            self._failures.failure("the protocol {protocol} of an SSH channel failed", protocol=type(self.protocol).__name__)
            self._closeReason = Failure(ConnectionLost("the application failed"))
            self.abortConnection()

    def abortConnection(self) -> None:
        """
        Close immediately; queued data is discarded.
        """
        self._queue.clear()
        self.unsent = 0
        if self._closeReason is connectionDone:
            self._closeReason = Failure(ConnectionAborted())
        self.loseConnection()

    def getTcpNoDelay(self) -> bool:
        """
        Always true: a channel does not delay small writes.
        """
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Do nothing; protocols that are written for TCP call this.
        """

    def getTcpKeepAlive(self) -> bool:
        """
        Always true: the connection has keepalives of its own.
        """
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """
        Do nothing; see L{setTcpNoDelay}.
        """
