"""
Flows of datagrams at an agent of GoDoxy: their header, their destination, and their end.  Real sockets are in
C{tests/peers/test_godoxy_agent.py}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tunnelstack.dialect.godoxy.agent_datagrams import EdgeDatagrams
from tunnelstack.dialect.godoxy.agent_destinations import DestinationFailed, Destinations
from tunnelstack.interfaces import IDatagramTransport
from tunnelstack.wire.records.godoxy import HEADER_SECONDS, PROBE, StreamHeader, encode_header

EDGE = IPv4Address("UDP", "192.0.2.1", 4444)
HEADER = encode_header(StreamHeader("127.0.0.1", "5353"))


@implementer(IDatagramTransport)
class Transport:
    """
    Keeps what is written; tells its protocol that it was closed, as every transport of datagrams does.
    """

    longest = 8155

    def __init__(self, protocol: Any = None) -> None:
        self.protocol = protocol
        self.written: list[bytes] = []
        self.dropped = 0
        self.closed = False

    def write(self, datagram: bytes) -> None:
        self.written.append(datagram)

    def loseConnection(self) -> None:
        self.lose(ConnectionDone())

    abortConnection = loseConnection

    def lose(self, reason: Exception) -> None:
        if not self.closed:
            self.closed = True
            self.protocol.connectionLost(Failure(reason))

    def getHost(self) -> IPv4Address:
        return EDGE

    getPeer = getHost


class Reached(Destinations):
    """
    Destinations that are reached when the test has it.
    """

    def __init__(self, clock: Any) -> None:
        super().__init__(clock, ("localhost:5353",))
        self.calls: list[tuple[Deferred[Any], Any]] = []
        self.cancelled = 0

    def connectDatagrams(self, host: str, port: int, factory: Any) -> Deferred[Any]:
        self.check(host, port)
        opened: Deferred[Any] = Deferred(lambda _: setattr(self, "cancelled", self.cancelled + 1))
        self.calls.append((opened, factory))
        return opened

    def reach(self) -> Transport:
        opened, factory = self.calls[-1]
        protocol = factory.buildProtocol(None)
        transport = Transport(protocol)
        protocol.makeConnection(transport)
        opened.callback(protocol)
        return transport


class FlowTests(SynchronousTestCase):
    """
    One flow.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.destinations = Reached(self.clock)
        self.owner = EdgeDatagrams(self.clock, self.destinations)
        self.flow: Any = self.owner.buildProtocol(EDGE)
        self.edge = Transport(self.flow)
        self.flow.makeConnection(self.edge)
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._logged)
        self.addCleanup(globalLogPublisher.removeObserver, self._logged)

    def _logged(self, event: Any) -> None:
        if event["log_namespace"].startswith("tunnelstack"):
            self.lines.append(formatEvent(event))

    def tearDown(self) -> None:
        self.edge.loseConnection()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.owner.flows, 0)

    def test_datagramsPassBothWays(self) -> None:
        self.flow.datagramReceived(HEADER)
        self.flow.datagramReceived(b"early")
        server = self.destinations.reach()
        self.flow.datagramReceived(b"late")
        self.assertEqual(server.written, [b"early", b"late"])
        server.protocol.datagramReceived(b"answer")
        self.assertEqual(self.edge.written, [b"answer"])
        self.assertEqual(self.owner.flows, 1)

    def test_theHeaderMayArriveInSeveralRecords(self) -> None:
        for octet in range(len(HEADER)):
            self.flow.datagramReceived(HEADER[octet : octet + 1])
        self.flow.datagramReceived(b"question")
        self.assertEqual(self.destinations.reach().written, [b"question"])

    def test_aRecordBeyondTheHeaderIsAMistake(self) -> None:
        self.flow.datagramReceived(HEADER + b"payload")
        self.assertTrue(self.edge.closed)
        self.assertEqual(
            self.lines, ["a flow of datagrams from 192.0.2.1:4444 is closed: a record continues after the end of the header"]
        )
        self.flow.datagramReceived(HEADER)
        self.assertEqual(self.destinations.calls, [])

    def test_aLostHeaderEndsTheFlow(self) -> None:
        for _ in range(3):
            self.flow.datagramReceived(b"payload" * 15)
        self.assertTrue(self.edge.closed)
        self.assertEqual(len(self.lines), 1)

    def test_everyBadHeaderIsRefused(self) -> None:
        for header in (
            HEADER[:-1] + b"\0", HEADER.replace(b"0.1.0", b"0.2.0"), encode_header(StreamHeader("127.0.0.1", "abc")),
            encode_header(StreamHeader("127.0.0.1", "5354")), encode_header(StreamHeader("192.0.2.9", "5353")),
        ):
            flow: Any = self.owner.buildProtocol(EDGE)
            edge = Transport(flow)
            flow.makeConnection(edge)
            flow.datagramReceived(header)
            self.assertTrue(edge.closed)
            self.assertEqual(len(self.lines), 1, self.lines)
            self.lines.clear()
        self.assertEqual(self.destinations.calls, [])

    def test_probesAreClosedInSilence(self) -> None:
        self.flow.datagramReceived(encode_header(PROBE))
        self.assertTrue(self.edge.closed)
        self.assertEqual(self.lines, [])

    def test_aHeaderThatDoesNotArrive(self) -> None:
        self.flow.datagramReceived(HEADER[:274])
        self.clock.advance(HEADER_SECONDS - 1)
        self.assertFalse(self.edge.closed)
        self.clock.advance(1)
        self.assertTrue(self.edge.closed)
        self.assertIn("did not arrive within 10 seconds", self.lines[0])

    def test_aHostThatDoesNotResolve(self) -> None:
        self.flow.datagramReceived(HEADER)
        failed = DestinationFailed("127.0.0.1:5353 cannot be reached: no address")
        failed.__cause__ = DNSLookupError()
        self.destinations.calls[0][0].errback(failed)
        self.assertTrue(self.edge.closed)
        self.assertIn("cannot be reached: no address", self.lines[0])
        self.assertEqual(len(self.lines), 1)

    def test_aDestinationThatRefusesEndsTheFlow(self) -> None:
        self.flow.datagramReceived(HEADER)
        self.destinations.reach().lose(ConnectionRefusedError())
        self.assertTrue(self.edge.closed)
        self.assertRegex(self.lines[0], r"from 192\.0\.2\.1:4444 to 127\.0\.0\.1:5353 is closed: the connection was refused")

    def test_anEdgeThatClosesClosesTheSocket(self) -> None:
        self.flow.datagramReceived(HEADER)
        server = self.destinations.reach()
        self.edge.dropped = 3
        self.edge.loseConnection()
        self.assertTrue(server.closed)
        self.assertEqual((self.lines, self.owner.dropped), ([], 3))

    def test_anIdleFlowEndsInSilence(self) -> None:
        self.flow.datagramReceived(HEADER)
        server = self.destinations.reach()
        self.edge.lose(TimeoutError())
        self.assertTrue(server.closed)
        self.assertEqual(self.lines, [])

    def test_anEdgeThatClosesEarlyStopsTheLookup(self) -> None:
        self.flow.datagramReceived(HEADER)
        self.edge.loseConnection()
        self.assertEqual(self.destinations.cancelled, 1)
        self.assertEqual(self.lines, [])

    def test_aDrainAcceptsNoMoreFlows(self) -> None:
        self.flow.datagramReceived(HEADER)
        server = self.destinations.reach()
        self.owner.drain()
        self.assertIsNone(self.owner.buildProtocol(EDGE))
        self.flow.datagramReceived(b"question")
        self.assertEqual(server.written, [b"question"])

    def test_aSocketThatComesTooLateIsClosed(self) -> None:
        self.flow.datagramReceived(HEADER)
        opened, factory = self.destinations.calls[0]
        self.edge.loseConnection()
        protocol = factory.buildProtocol(None)
        late = Transport(protocol)
        protocol.makeConnection(late)
        self.assertTrue(late.closed)
