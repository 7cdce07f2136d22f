"""
Datagrams over a stream, which keeps their boundaries and their order.  A datagram that the stream cannot take at once is
dropped.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.interfaces import (
    IDatagramClientEndpoint,
    IDatagramFactory,
    IDatagramProtocol,
    IDatagramTransport,
)
from tunnelstack.stream.transport import StreamTransport
from tunnelstack.wire.datagrams import LONGEST, DatagramDecoder, encode_datagram


@implementer(IDatagramTransport, IPushProducer, IHalfCloseableProtocol)
class DatagramStream(Protocol):
    """
    A stream as the transport of an application of datagrams.

    @ivar application: the L{IDatagramProtocol}.
    """

    longest = LONGEST
    transport: StreamTransport

    def __init__(self, application: IDatagramProtocol) -> None:
        self.application = application
        self.dropped = 0
        self._full = False
        self._over = False
        self._decoder = DatagramDecoder()

    # What the stream calls

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)
        self.application.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        for datagram in self._decoder.receive_data(data):
            if self._over:
                return
            self.application.datagramReceived(datagram)

    def readConnectionLost(self) -> None:
        """
        The peer sends no more datagrams, which ends both directions.
        """
        self.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._over = True
        self.application.connectionLost(reason)

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False

    def stopProducing(self) -> None:
        self.loseConnection()

    # What the application calls

    def write(self, datagram: bytes) -> None:
        if self._over:
            return
        if self._full or len(datagram) > LONGEST:
            self.dropped += 1
        else:
            self.transport.write(encode_datagram(datagram))

    def loseConnection(self) -> None:
        if not self._over:
            self._over = True
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abortConnection(self) -> None:
        self._over = True
        self.transport.abortConnection()

    def getHost(self) -> IAddress:
        return self.transport.getHost()

    def getPeer(self) -> IAddress:
        return self.transport.getPeer()


@implementer(IDatagramClientEndpoint)
class DatagramStreamEndpoint:
    """
    Connects applications of datagrams over streams.
    """

    def __init__(self, streams: IStreamClientEndpoint) -> None:
        """
        @param streams: opens a stream for each.
        """
        self._streams = streams

    def connect(self, factory: IDatagramFactory) -> Deferred[IDatagramProtocol]:
        """
        @return: as in L{IDatagramClientEndpoint}; it fails as the endpoint of the streams does.
        """
        streams = _DatagramStreamFactory(factory)
        return self._streams.connect(streams).addCallback(streams.applicationOf)


class _DatagramStreamFactory(Factory):
    noisy = False

    def __init__(self, factory: IDatagramFactory) -> None:
        self._factory = factory
        self._built: DatagramStream

    def buildProtocol(self, address: IAddress | None) -> DatagramStream | None:
        application = self._factory.buildProtocol(address)
        if application is None:
            return None
        self._built = DatagramStream(application)
        return self._built

    def applicationOf(self, stream: IProtocol) -> IDatagramProtocol:
        """
        The application of the stream that was connected.
        """
        return self._built.application
