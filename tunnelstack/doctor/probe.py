"""
One request over one connection, and what is heard of the answer.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure


class ProbeProtocol(Protocol):
    """
    Asks, and hears the head of the answer; with nothing to ask, only whether somebody is there.

    @ivar answer: fires with the head.
    """

    transport: Any

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._buffer = b""
        self.responseHead: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        """
        Ask.
        """
        if self._request:
            self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        """
        The answer, of which no more than a head is kept.
        """
        self._buffer = (self._buffer + data)[: 64 * 1024]
        head, end, _ = self._buffer.partition(b"\r\n\r\n")
        if end and not self.responseHead.called:
            self.responseHead.callback(head)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Nothing more is heard.
        """
        if not self.responseHead.called:
            self.responseHead.errback(reason)
        self.responseHead.addErrback(lambda failure: None)      # who waits for it has heard; otherwise nobody minds
