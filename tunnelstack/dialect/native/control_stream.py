"""
What both sides of the control stream do alike: one JSON object a line, over one stream, for as long as the session lives.

The agent asks, and each request and its answer carry the same C{id}; the edge tells events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.errors import PeerError
from tunnelstack.wire.jsonline import LineReader, decode_object, encode

MAX_LINE_OCTETS = 16 * 1024
"""Octets of the longest line."""


@implementer(IHalfCloseableProtocol)
class JSONLineProtocol(Protocol):
    """
    Says objects and hears them.
    """

    transport: Any

    def __init__(self) -> None:
        self._lines = LineReader(MAX_LINE_OCTETS)
        self._paused = False                   # what arrives is left lying for now
        self._reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Octets of the peer.
        """
        self._lines.feed(data)
        self._processLines()

    def _processLines(self) -> None:
        try:
            while not self._paused and self._reason is None and (line := self._lines.next_line()) is not None:
                self.messageReceived(decode_object(line))
        except PeerError:
            self.abort(Failure())

    def messageReceived(self, message: dict[str, Any]) -> None:
        """
        The peer said something.

        @raise PeerError: that nobody understands.
        """
        raise NotImplementedError

    def sendMessage(self, message: Mapping[str, Any]) -> None:
        """
        Tell the peer.
        """
        if self._reason is None:
            self.transport.write(encode(message))

    def readConnectionLost(self) -> None:
        """
        The peer talks no more.
        """
        self.close()

    def writeConnectionLost(self) -> None:
        """
        Nor do we.
        """

    def close(self) -> None:
        """
        Talk no more, in good order.
        """
        if self._reason is None:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self, reason: Failure) -> None:
        """
        Talk no more; C{reason} is why.
        """
        if self._reason is None:
            self._reason = reason
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The conversation is over.
        """
        self._reason = self._reason or reason
        self.messagesEnded(self._reason)

    def messagesEnded(self, reason: Failure) -> None:
        """
        The conversation is over.
        """
        raise NotImplementedError
