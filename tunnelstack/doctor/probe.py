"""
A connection to an edge that tests one thing: that it is accepted, or how one request is answered.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure


class ProbeProtocol(Protocol):
    """
    Sends one request, if there is one, and receives the head of the response.

    @ivar responseHead: fires with the head, without the empty line after it; fails if the connection is lost before.
    """

    transport: ISSLTransport       # getPeerCertificate is used after TLS only

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._buffer = b""
        self.responseHead: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        if self._request:
            self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self._buffer = (self._buffer + data)[: 64 * 1024]
        head, end, _ = self._buffer.partition(b"\r\n\r\n")
        if end and not self.responseHead.called:
            self.responseHead.callback(head)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.responseHead.called:
            self.responseHead.errback(reason)
        # A caller that waits has been informed; otherwise the failure is expected, and must not be logged.
        self.responseHead.addErrback(lambda failure: None)
