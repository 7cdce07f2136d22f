"""
An SSH channel as the transport of any protocol, with half-close.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.handler.ssh.channel import ORDINARY_DATA, FlowControlledChannel


@implementer(ITCPTransport)
class StreamChannel(FlowControlledChannel):
    """
    A channel as the transport of any protocol, with half-close.

    @ivar protocol: who is told what arrives.
    """

    _failures = Logger()

    def __init__(self, protocol: Any = None, **windows: int) -> None:
        super().__init__(**windows)
        self.protocol: Any = protocol or Protocol()

    @property
    def connected(self) -> bool:
        """
        Not closed yet.
        """
        return not self.localClosed

    @property
    def disconnecting(self) -> bool:
        """
        A close is on its way.
        """
        return bool(self.closing)

    def channelOpen(self, specificData: bytes) -> None:
        """
        Connect the protocol.
        """
        self._call(self.protocol.makeConnection, self)

    def received(self, kind: int, data: bytes) -> None:
        """
        Plain data is the stream's; there is no other in one.
        """
        if kind == ORDINARY_DATA and not self.closing:
            self._call(self.protocol.dataReceived, data)

    def receivedEnd(self) -> None:
        """
        As for TCP.
        """
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self._call(self.protocol.readConnectionLost)
        else:
            self.loseConnection()

    def receivedClose(self, reason: Failure) -> None:
        """
        Tell the producer and the protocol.
        """
        if self.producer is not None:
            self.producer.stopProducing()
        protocol, self.protocol = self.protocol, Protocol()
        protocol.connectionLost(reason)

    def _call(self, method: Callable[..., object], *arguments: object) -> None:
        try:
            method(*arguments)
        except Exception:
            self._failures.failure("{protocol} on an SSH channel failed", protocol=type(self.protocol).__name__)
            self._closeReason = Failure(ConnectionLost("the application failed"))
            self.abortConnection()

    def abortConnection(self) -> None:
        """
        Close at once; what is queued is lost.
        """
        self._queue.clear()
        self._unsent = 0
        if self._closeReason is connectionDone:
            self._closeReason = Failure(ConnectionAborted())
        self.loseConnection()

    def getTcpNoDelay(self) -> bool:
        """
        Always: a channel never waits for more octets.
        """
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Nothing to do; protocols made for TCP ask for it.
        """

    def getTcpKeepAlive(self) -> bool:
        """
        Always: it is the connection's business.
        """
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """
        Nothing to do.
        """
