"""
Datagrams over streams, and two transports of datagrams joined.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost, NoProtocol
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.transport.datagrams import Collector, CollectorFactory
from tunnelstack.interfaces import IDatagramClientEndpoint, IDatagramTransport
from tunnelstack.stream.datagrams import DatagramStream, DatagramStreamEndpoint
from tunnelstack.transport.datagram_splice import DatagramSplice, DatagramSpliceFactory
from tunnelstack.wire.datagrams import LONGEST, encode_datagram


class StreamTests(SynchronousTestCase):
    """
    A stream as a transport of datagrams.
    """

    def setUp(self) -> None:
        self.application = Collector()
        self.stream = DatagramStream(self.application)
        self.below = StringTransport()
        self.stream.makeConnection(self.below)

    def test_itProvidesTheInterface(self) -> None:
        verifyObject(IDatagramTransport, self.application.transport)

    def test_datagramsKeepTheirBoundaries(self) -> None:
        for datagram in (b"ab", b"", b"c"):
            self.application.transport.write(datagram)
        self.assertEqual(self.below.value(), b"\0\2ab\0\0\0\1c")
        for octet in self.below.value():
            self.stream.dataReceived(bytes([octet]))
        self.assertEqual(self.application.received, [b"ab", b"", b"c"])

    def test_whatAFullStreamCannotTakeIsDroppedAndCounted(self) -> None:
        self.below.producer.pauseProducing()
        self.application.transport.write(b"lost")
        self.below.producer.resumeProducing()
        self.application.transport.write(bytes(LONGEST + 1))
        self.application.transport.write(b"sent")
        self.assertEqual(self.below.value(), b"\0\4sent")
        self.assertEqual(self.application.transport.dropped, 2)

    def test_closingClosesTheStream(self) -> None:
        self.application.transport.loseConnection()
        self.assertTrue(self.below.disconnecting)
        self.assertIsNone(self.below.producer)
        self.stream.dataReceived(encode_datagram(b"late"))
        self.application.transport.write(b"late")
        self.assertEqual((self.application.received, self.below.value()), ([], b""))

    def test_thePeersEndClosesTheStream(self) -> None:
        self.stream.readConnectionLost()
        self.assertTrue(self.below.disconnecting)

    def test_aLostStreamIsReported(self) -> None:
        self.stream.connectionLost(Failure(ConnectionLost()))
        self.assertIsInstance(self.application.reason and self.application.reason.value, ConnectionLost)

    def test_anApplicationThatClosesGetsNoMore(self) -> None:
        def close(datagram: bytes) -> None:
            self.application.received.append(datagram)
            self.application.transport.abortConnection()

        self.application.datagramReceived = close    # type: ignore[method-assign]
        self.stream.dataReceived(b"\0\1a\0\1b")
        self.assertEqual(self.application.received, [b"a"])


class EndpointTests(SynchronousTestCase):
    """
    An endpoint over an endpoint of streams.
    """

    def connect(self, factory: Any) -> Deferred[Any]:
        class Streams:
            def connect(self, streams: Factory) -> Deferred[Any]:
                protocol = streams.buildProtocol(None)    # type: ignore[arg-type]
                if protocol is None:
                    raise NoProtocol()
                protocol.makeConnection(StringTransport())
                return succeed(protocol)

        endpoint = DatagramStreamEndpoint(Streams())    # type: ignore[arg-type]
        verifyObject(IDatagramClientEndpoint, endpoint)
        return endpoint.connect(factory)

    def test_itGivesTheApplication(self) -> None:
        factory = CollectorFactory()
        self.assertIs(self.successResultOf(self.connect(factory)), factory.built[0])

    def test_aFactoryMayRefuse(self) -> None:
        class Refusing(CollectorFactory):
            def buildProtocol(self, address: Any) -> Any:
                return None

        self.assertRaises(NoProtocol, self.connect, Refusing())


class Link:
    """
    A transport that keeps what is written.
    """

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, datagram: bytes) -> None:
        self.written.append(datagram)

    def loseConnection(self) -> None:
        self.closed = True


class SpliceTests(SynchronousTestCase):
    """
    Two transports joined.
    """

    def setUp(self) -> None:
        self.reasons: list[Failure] = []
        self.splice = DatagramSplice(self.reasons.append, held=2)
        self.near, self.far = Link(), Link()
        self.splice.near.makeConnection(self.near)    # type: ignore[arg-type]

    def connectFar(self) -> None:
        DatagramSpliceFactory(self.splice.far).buildProtocol(None).makeConnection(self.far)    # type: ignore[arg-type]

    def test_whatArrivesOnOneIsWrittenToTheOther(self) -> None:
        self.connectFar()
        self.splice.near.datagramReceived(b"there")
        self.splice.far.datagramReceived(b"back again")
        self.assertEqual((self.far.written, self.near.written), ([b"there"], [b"back again"]))
        self.assertEqual((self.splice.near.octets, self.splice.far.octets), (5, 10))
        self.assertEqual((self.splice.near.datagrams, self.splice.far.datagrams), (1, 1))

    def test_aFewWaitForTheFarEnd(self) -> None:
        for datagram in (b"1", b"2", b"3"):
            self.splice.near.datagramReceived(datagram)
        self.connectFar()
        self.splice.near.datagramReceived(b"4")
        self.assertEqual(self.far.written, [b"1", b"2", b"4"])

    def test_theEndOfOneClosesTheOther(self) -> None:
        self.connectFar()
        reason = Failure(ConnectionDone())
        self.splice.near.connectionLost(reason)
        self.splice.far.connectionLost(Failure(ConnectionLost()))
        self.assertTrue(self.far.closed)
        self.assertEqual(self.reasons, [reason])

    def test_anEndThatIsConnectedTooLateIsClosed(self) -> None:
        self.splice.close(Failure(ConnectionDone()))
        self.splice.near.datagramReceived(b"late")
        self.connectFar()
        self.assertTrue(self.near.closed and self.far.closed)
        self.assertEqual(self.far.written, [])
