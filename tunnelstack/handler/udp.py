"""
Streams of datagrams joined to UDP sockets, such as an agent's socket toward a local server.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import IDatagramClientEndpoint, IDiallingHandler
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.datagrams import DatagramStream
from tunnelstack.transport.datagram_splice import DatagramSplice, DatagramSpliceFactory


@implementer(IDiallingHandler)
class UDPHandler:
    """
    Opens a socket for each stream.  The stream is refused if the server's name has no address.
    """

    def __init__(
        self, endpoint: IDatagramClientEndpoint, *, failed: Callable[[Failure], object] | None = None,
        answered: Callable[[], object] | None = None,
    ) -> None:
        """
        @param endpoint: connected for each stream.
        @param failed: called with each failure to connect, and when a server is not there.
        @param answered: called with the first datagram that a server sends on a stream.
        """
        self._endpoint = endpoint
        self._failed = failed
        self._answered = answered

    def connect(self, address: StreamAddress) -> Deferred[IProtocol]:
        splice = DatagramSplice(self._ended, answered=self._answered)
        connected = self._endpoint.connect(DatagramSpliceFactory(splice.far))
        return connected.addCallbacks(lambda _: DatagramStream(splice.near), self._unreachable)

    def _ended(self, reason: Failure) -> None:
        if self._failed is not None and reason.check(ConnectionRefusedError):
            self._failed(reason)

    def _unreachable(self, failure: Failure) -> Failure:
        if self._failed is not None:
            self._failed(failure)
        return failure
