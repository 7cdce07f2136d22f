"""
Tunnels of TCP and UDP by gRPC.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.dialect.jetty.grpc_support import Pair, Registrar
from tests.exchange.doubles import Server, Talker
from tests.promises.streams import Producer
from tunnelstack.dialect.jetty.datagram_flows import FLOW_SECONDS
from tunnelstack.dialect.jetty.grpc_raw_edge import CONNECT_SECONDS
from tunnelstack.dialect.jetty.registration import Upstream
from tunnelstack.exchange.errors import Busy
from tunnelstack.interfaces import IDatagramFactory, IDatagramProtocol, IDatagramTransport, IStreamOwner
from tunnelstack.records import HTTPPurpose, TCPPurpose, TerminalPurpose, UDPPurpose, Visitor
from tunnelstack.stream.errors import OpenTimeout, SessionLost, StreamResetError, UnsupportedPurpose
from tunnelstack.testing import Network

LOCAL = 5432


class Tunnels(SynchronousTestCase):
    """
    A tunnel whose agent has a local server.
    """

    protocol = "tcp"
    cut: int | None = None
    udp: tuple[str, int] | None = None

    def setUp(self) -> None:
        self.network = Network(self.cut)
        self.pair = Pair(self.network, registrar=Registrar(self.protocol))
        self.accepted: list[Any] = []
        self.listen()
        tcp: Any = TCP4ClientEndpoint(self.network, "127.0.0.1", LOCAL)       # type: ignore[arg-type]
        upstream = Upstream(
            serverFor=lambda target: Server(), tcp=tcp if self.protocol == "tcp" else None,
            udp=("127.0.0.1", LOCAL) if self.protocol == "udp" else None,
        )
        link = self.pair.connect(Server(), upstream)
        self.network.settle()
        self.link = self.successResultOf(link)
        self.addCleanup(self.network.settle)
        self.addCleanup(self.link.abort, "the test is over")
        self.tunnel = self.pair.tunnel

    def listen(self) -> None:
        test = self

        class Accepting(Factory):
            noisy = False

            def buildProtocol(self, address: Any) -> Any:
                test.accepted.append(Talker())
                return test.accepted[-1]

        self.port = self.network.listenTCP(LOCAL, Accepting())


class TCPTests(Tunnels):
    """
    Each connection has a lane.
    """

    def dial(self) -> Deferred[Any]:
        connecting = self.tunnel.endpointFor(TCPPurpose("demo")).connect(Factory.forProtocol(Talker))
        self.network.settle()
        return connecting

    def connect(self) -> tuple[Any, Any]:
        near = self.successResultOf(self.dial())
        return near, self.accepted[-1]

    def test_octetsPassBothWays(self) -> None:
        near, far = self.connect()
        verifyObject(IStreamOwner, near.transport._owner)
        near.transport.write(b"HELO")
        far.transport.write(b"220 ok")
        self.network.settle()
        self.assertEqual((far.heard, near.heard), (b"HELO", b"220 ok"))
        self.assertEqual(self.tunnel.inFlight, 1)
        near.transport.write(bytes(300_000))
        far.transport.write(bytes(300_000))
        self.network.settle()
        self.assertEqual((len(far.heard), len(near.heard)), (300_004, 300_006))

    def test_aDirectionMayEndFirst(self) -> None:
        near, far = self.connect()
        near.transport.write(b"question")
        near.transport.loseWriteConnection()
        self.network.settle()
        self.assertEqual((far.heard, far.readEnded, near.lost), (b"question", True, None))
        far.transport.write(b"answer")
        far.transport.loseConnection()
        self.network.settle()
        self.assertEqual((near.heard, near.readEnded), (b"answer", True))
        near.transport.loseConnection()
        self.network.settle()
        self.assertIsNotNone(near.lost)
        self.assertIsNotNone(far.lost)
        self.assertEqual(self.tunnel.inFlight, 0)

    def test_aCloseEndsBothSides(self) -> None:
        for closes in (0, 1):
            ends = self.connect()
            ends[closes].transport.write(b"last")
            ends[closes].transport.loseConnection()
            self.network.settle()
            self.assertEqual(ends[1 - closes].heard, b"last")
            ends[1 - closes].transport.loseConnection()
            self.network.settle()
            for end in ends:
                self.assertIsNotNone(end.lost)
        self.assertEqual(self.tunnel.inFlight, 0)

    def test_anAbortEndsBothSides(self) -> None:
        near, far = self.connect()
        near.transport.abortConnection()
        self.network.settle()
        for end in (near, far):
            self.assertIsNotNone(end.lost)
        near, far = self.connect()
        far.transport.abortConnection()
        self.network.settle()
        for end in (near, far):
            self.assertIsNotNone(end.lost)
        self.assertEqual(self.tunnel.inFlight, 0)

    def test_aReaderThatStopsHoldsItsWriterAndNobodyElse(self) -> None:
        near, far = self.connect()
        far.transport.pauseProducing()
        producer = Producer()
        near.transport.registerProducer(producer, True)
        written = 0
        while "pause" not in producer.asked and written < 1 << 25:
            near.transport.write(bytes(65_536))
            written += 65_536
            self.network.settle()
        self.assertEqual(producer.asked, ["pause"])
        other, another = self.connect()
        other.transport.write(b"passes")
        self.network.settle()
        self.assertEqual(another.heard, b"passes")
        far.transport.resumeProducing()
        self.network.settle()
        self.assertEqual((producer.asked, len(far.heard)), (["pause", "resume"], written))

    def test_aConnectionThatCannotBeMadeIsReported(self) -> None:
        self.port.stopListening()
        reason = self.failureResultOf(self.dial(), StreamResetError)
        self.assertIn("cannot connect", str(reason.value))
        self.assertEqual(self.tunnel.inFlight, 0)
        self.listen()
        self.connect()

    def test_anAgentThatDoesNotAnswerIsGivenUp(self) -> None:
        self.link.tcp.connect = lambda factory: Deferred()
        connecting = self.dial()
        self.network.passTime(CONNECT_SECONDS + 1)
        self.failureResultOf(connecting, OpenTimeout, StreamResetError)
        self.assertEqual(self.tunnel.inFlight, 0)

    def test_aConnectionThatIsBeingMadeCanBeCancelled(self) -> None:
        self.link.tcp.connect = lambda factory: Deferred()
        connecting = self.dial()
        connecting.cancel()
        self.failureResultOf(connecting)
        self.network.settle()
        self.assertEqual(self.tunnel.inFlight, 0)

    def test_manyConnectionsAreMadeAtOnce(self) -> None:
        connecting = [
            self.tunnel.endpointFor(TCPPurpose("demo")).connect(Factory.forProtocol(Talker)) for _ in range(50)
        ]  # fmt: skip
        self.network.settle()
        for number, each in enumerate(connecting):
            self.successResultOf(each).transport.write(b"%d" % number)
        self.network.settle()
        self.assertEqual(sorted(int(far.heard) for far in self.accepted), list(range(50)))

    def test_aDrainWaitsForConnections(self) -> None:
        near, _ = self.connect()
        drained = self.tunnel.drain()
        self.network.settle()
        self.assertNoResult(drained)
        near.transport.abortConnection()
        self.network.settle()
        self.successResultOf(drained)

    def test_aLostSessionEndsConnections(self) -> None:
        near, far = self.connect()
        self.tunnel.abort("a test")
        self.network.settle()
        for end in (near, far):
            self.assertIsNotNone(end.lost)
        self.assertRaises(Busy, self.tunnel.endpointFor, TCPPurpose("demo"))

    def test_onlyTheTunnelsOwnProtocolIsCarried(self) -> None:
        for purpose in (TerminalPurpose(), TCPPurpose("demo", "10.0.0.1", 22)):
            self.assertRaises(UnsupportedPurpose, self.tunnel.endpointFor, purpose)
        self.assertRaises(UnsupportedPurpose, self.tunnel.datagramEndpointFor, UDPPurpose("demo"))
        self.assertRaises(UnsupportedPurpose, self.tunnel.exchange, HTTPPurpose(), None)


class CutTCPTests(TCPTests):
    cut = 1000


@implementer(IDatagramProtocol, IDatagramFactory)
class Hearer:
    """
    An application of datagrams.
    """

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.transport: Any = None
        self.lost: Any = None

    def buildProtocol(self, address: Any) -> Any:
        return self

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def datagramReceived(self, datagram: bytes) -> None:
        self.heard.append(datagram)

    def connectionLost(self, reason: Any) -> None:
        assert self.lost is None
        self.lost = reason.value


class LocalSockets:
    """
    In place of an endpoint of UDP.
    """

    def __init__(self) -> None:
        self.sockets: list[LocalSocket] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        connected: Deferred[Any] = Deferred()
        self.sockets.append(LocalSocket(factory, connected))
        return connected


class LocalSocket:
    """
    A socket to the local server, which opens when the test wants it.
    """

    def __init__(self, factory: Any, connected: Deferred[Any]) -> None:
        self.sent: list[bytes] = []
        self.closed = False
        self.write = self.sent.append
        self._factory = factory
        self._connected = connected

    def open(self) -> None:
        self.application = self._factory.buildProtocol(None)
        if self.application is not None:
            self.application.makeConnection(self)
        self._connected.callback(self.application)

    def loseConnection(self) -> None:
        self.closed = True


class UDPTests(Tunnels):
    """
    One lane carries the datagrams of all visitors.
    """

    protocol = "udp"

    def setUp(self) -> None:
        super().setUp()
        self.local = LocalSockets()
        self.link.udp = self.local     # type: ignore[assignment]

    def connect(self, visitor: Visitor | None = None) -> Hearer:
        hearer = Hearer()
        connecting = self.tunnel.datagramEndpointFor(UDPPurpose("demo"), visitor).connect(hearer)
        self.network.settle()
        self.assertIs(self.successResultOf(connecting), hearer)
        return hearer

    def test_datagramsPassBothWaysAndStayApart(self) -> None:
        hearers = [self.connect() for _ in range(3)]
        verifyObject(IDatagramTransport, hearers[0].transport)
        for number, hearer in enumerate(hearers):
            hearer.transport.write(b"%d" % number)
            hearer.transport.write(b"")
        self.network.settle()
        self.assertEqual(len(self.local.sockets), 3)
        for number, socket in enumerate(self.local.sockets):
            self.assertEqual(socket.sent, [])          # its address is being looked up
            socket.open()
            self.assertEqual(socket.sent, [b"%d" % number, b""])
            socket.application.datagramReceived(b"<%d>" % number)
            socket.application.datagramReceived(b"again")
        self.network.settle()
        self.assertEqual([hearer.heard for hearer in hearers], [[b"<%d>" % number, b"again"] for number in range(3)])
        self.assertEqual((self.tunnel.inFlight, len(self.tunnel.raw)), (3, 8))

    def test_aSocketClosesWhenItIsIdle(self) -> None:
        hearer = self.connect()
        hearer.transport.write(b"a")
        self.network.settle()
        self.local.sockets[0].open()
        self.network.passTime(FLOW_SECONDS - 5)
        self.assertFalse(self.local.sockets[0].closed)
        self.network.passTime(6)
        self.assertTrue(self.local.sockets[0].closed)
        hearer.transport.write(b"b")
        self.network.settle()
        self.assertEqual(len(self.local.sockets), 2)

    def test_datagramsAreDroppedWhenTooManyWait(self) -> None:
        hearer = self.connect()
        self.assertEqual(hearer.transport.dropped, 0)
        for _ in range(20):
            hearer.transport.write(bytes(60_000))
        self.assertGreater(hearer.transport.dropped, 10)
        hearer.transport.write(bytes(70_000))
        self.network.settle()

    def test_aFlowEndsByItsApplicationOrWithTheLane(self) -> None:
        first, second = self.connect(), self.connect()
        first.transport.loseConnection()
        self.assertIsNotNone(first.lost)
        first.transport.write(b"never")
        self.assertEqual(self.tunnel.inFlight, 1)
        self.tunnel.abort("a test")
        self.network.settle()
        self.assertIsNotNone(second.lost)
        self.assertEqual(self.tunnel.inFlight, 0)

    def test_aSessionWithoutLanesIsNotWaitedForForEver(self) -> None:
        self.link._lanes.stop()
        for lane in self.link._lanes.idleLanes():
            lane.retire()
        self.network.settle()
        connecting = self.tunnel.datagramEndpointFor(UDPPurpose("demo")).connect(Hearer())
        self.network.passTime(3)
        self.failureResultOf(connecting, OpenTimeout)
        waiting = self.tunnel.datagramEndpointFor(UDPPurpose("demo")).connect(Hearer())
        self.tunnel.abort("a test")
        self.failureResultOf(waiting, SessionLost)

    def test_onlyDatagramsAreCarried(self) -> None:
        self.assertRaises(UnsupportedPurpose, self.tunnel.endpointFor, TCPPurpose("demo"))
        self.assertRaises(UnsupportedPurpose, self.tunnel.datagramEndpointFor, UDPPurpose("demo", "10.0.0.1", 53))
