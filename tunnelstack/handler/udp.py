"""
Streams of datagrams joined to UDP sockets, such as an agent's socket toward a local server.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
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

    def __init__(self, endpoint: IDatagramClientEndpoint) -> None:
        """
        @param endpoint: connected for each stream.
        """
        self._endpoint = endpoint

    def connect(self, address: StreamAddress) -> Deferred[IProtocol]:
        splice = DatagramSplice()
        connected = self._endpoint.connect(DatagramSpliceFactory(splice.far))
        return connected.addCallback(lambda _: DatagramStream(splice.near))
