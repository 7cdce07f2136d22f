"""
TCP connections and datagrams over a WebSocket, at both ends (section 3.8).
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from attrs import evolve
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.dialect.jetty.websocket_support import (
    ACCEPTANCE,
    CAPABLE,
    Both,
    Door,
    QuietFactory,
    StrangeEdge,
    Stranger,
)
from tests.exchange.doubles import Producer, Talker
from tests.transport.datagrams import Collector
from tunnelstack.errors import Unavailable
from tunnelstack.handler.tcp import SpliceFactory
from tunnelstack.interfaces import IDatagramTransport, IStreamOwner
from tunnelstack.records import TCPPurpose, UDPPurpose, Visitor
from tunnelstack.stream.errors import SessionClosed, SessionLost, StreamResetError
from tunnelstack.stream.splice import Splice
from tunnelstack.testing import Wire
from tunnelstack.wire.records.jetty import CAPABILITIES

TCP = evolve(ACCEPTANCE, protocol="tcp")
UDP = evolve(ACCEPTANCE, protocol="udp")
VISITOR = Visitor(address=IPv4Address("UDP", "203.0.113.9", 5000), scheme="udp")


def data(octets: bytes, identifier: str = "c1") -> dict[str, Any]:
    return {"type": "tcp_data", "connection_id": identifier, "data_b64": b64encode(octets).decode()}


def connect(identifier: str = "c1") -> dict[str, Any]:
    return {"type": "tcp_connect", "connection_id": identifier}


def close(reason: str = "", identifier: str = "c1") -> dict[str, Any]:
    return {"type": "tcp_close", "connection_id": identifier, **({"reason": reason} if reason else {})}


class Closing(Talker):
    """
    Has no half-close, as visitors behind a splice.
    """


class EdgeConnectionTests(SynchronousTestCase):
    """
    The edge with an agent whose frames are chosen.
    """

    def setUp(self) -> None:
        self.door = Door(acceptance=TCP)
        self.agent = Stranger(self.door)

    def connect(self) -> Talker:
        talker = Talker()
        endpoint = self.door.tunnel.endpointFor(TCPPurpose("demo"))
        connected: list[Any] = []
        endpoint.connect(QuietFactory(lambda: talker)).addCallback(connected.append)
        self.assertEqual(connected, [talker])
        self.door.settle()
        self.identifier = self.agent.take()[-1]["connection_id"]
        return talker

    def test_octetsAreCarriedBothWays(self) -> None:
        visitor = self.connect()
        self.assertRegex(self.identifier, "^[0-9a-f]{32}$")
        self.assertEqual((self.door.tunnel.inFlight, len(self.door.tunnel.session.transports())), (1, 1))
        visitor.say(b"HELO")
        self.door.settle()
        self.assertEqual(self.agent.take(), [data(b"HELO", self.identifier)])
        self.agent.send(data(b"220 ok", self.identifier))
        self.assertEqual(visitor.heard, b"220 ok")
        self.agent.send(close("local connection closed", self.identifier))
        assert visitor.lost is not None
        self.assertTrue(visitor.lost.check(ConnectionDone))
        self.assertEqual((self.door.tunnel.inFlight, self.agent.take()), (0, []))

    def test_longDataIsCutIntoParts(self) -> None:
        self.connect().say(bytes(70_000))
        self.door.settle()
        self.assertEqual([len(frame["data_b64"]) * 3 // 4 // 1024 for frame in self.agent.take()], [32, 32, 4])

    def test_aVisitorWhoClosesClosesTheConnection(self) -> None:
        visitor = self.connect()
        visitor.say(b"bye")
        visitor.transport.loseConnection()
        self.door.settle()
        self.assertEqual(self.agent.take(), [data(b"bye", self.identifier), close("connection closed", self.identifier)])
        self.agent.send(data(b"late", self.identifier), close("", self.identifier))
        self.assertEqual((visitor.heard, self.door.tunnel.requests.streams.unknown), (b"", 2))

    def test_aConnectionThatCannotBeMadeIsReset(self) -> None:
        visitor = self.connect()
        self.agent.send(close("local connect failed: refused\n", self.identifier))
        assert visitor.lost is not None
        self.assertTrue(visitor.lost.check(StreamResetError))
        self.assertIn("refused", str(visitor.lost.value))

    def test_whatWasReceivedIsDeliveredBeforeTheEnd(self) -> None:
        visitor = self.connect()
        self.connect()                        # so that the session is read
        first = self.door.tunnel.session.transports()[0]
        first.pauseProducing()
        identifier = next(iter(self.door.tunnel.requests.streams._streams))
        self.agent.send(data(b"one", identifier), data(b"two", identifier), close("local connection closed", identifier))
        self.assertIsNone(visitor.lost)
        first.resumeProducing()
        self.door.settle()
        self.assertEqual(visitor.heard, b"onetwo")
        self.assertIsNotNone(visitor.lost)

    def test_aReaderThatNeverReadsIsGivenUp(self) -> None:
        visitor = self.connect()
        self.connect()
        self.door.tunnel.session.transports()[0].pauseProducing()
        identifier = next(iter(self.door.tunnel.requests.streams._streams))
        self.agent.send(data(b"one", identifier), close("", identifier))
        self.door.passTime(301)
        self.assertIsNotNone(visitor.lost)

    def test_tooMuchForAReaderIsReset(self) -> None:
        visitor = self.connect()
        other = self.connect()
        identifiers = list(self.door.tunnel.requests.streams._streams)
        self.door.tunnel.session.transports()[0].pauseProducing()
        for _ in range(9):
            self.agent.send(data(bytes(1024 * 1024), identifiers[0]))
        assert visitor.lost is not None
        self.assertTrue(visitor.lost.check(StreamResetError))
        self.assertEqual(self.agent.take()[0]["type"], "tcp_close")
        self.agent.send(data(b"fine", identifiers[1]))
        self.assertEqual(other.heard, b"fine")

    def test_aReaderAloneStopsTheAgent(self) -> None:
        self.connect()
        stream, = self.door.tunnel.session.transports()
        stream.pauseProducing()
        self.agent.send(data(bytes(1024 * 1024), self.identifier))
        self.assertTrue(self.door.tunnel.session.channel.transport.readPaused)
        stream.resumeProducing()
        self.door.settle()
        self.assertFalse(self.door.tunnel.session.channel.transport.readPaused)

    def test_anAgentThatDoesNotReadPausesTheVisitors(self) -> None:
        visitor, producer = self.connect(), Producer()
        visitor.transport.registerProducer(producer, True)
        self.agent.transport.pauseProducing()
        while "pause" not in producer.said:
            visitor.say(bytes(32 * 1024))
            self.door.settle()
        self.agent.transport.resumeProducing()
        self.door.settle()
        self.assertEqual(producer.said[-1], "resume")

    def test_framesForUnknownConnectionsAreIgnored(self) -> None:
        self.agent.send(data(b"x"), close(), connect())
        self.assertEqual((self.door.tunnel.requests.streams.unknown, self.agent.take(), self.agent.lost), (2, [], None))

    def test_aWrongFrameClosesItsConnection(self) -> None:
        visitor, other = self.connect(), self.connect()
        first = next(iter(self.door.tunnel.requests.streams._streams))
        self.agent.send({"type": "tcp_data", "connection_id": first, "data_b64": "!"})
        self.assertEqual(self.agent.take(), [close("tcp_data: invalid data_b64", first)])
        self.assertEqual((visitor.lost is not None, other.lost), (True, None))

    def test_aLostAgentLosesTheConnections(self) -> None:
        visitor = self.connect()
        self.agent.transport.abortConnection()
        self.door.settle()
        assert visitor.lost is not None
        self.assertTrue(visitor.lost.check(SessionLost))
        self.assertEqual(self.door.clock.getDelayedCalls(), [])
        failures: list[Any] = []
        self.door.tunnel.session.connector.connect(QuietFactory(Talker)).addErrback(failures.append)
        self.assertTrue(failures[0].check(SessionLost))

    def test_aTunnelThatDrainsOpensNone(self) -> None:
        self.connect()
        self.door.tunnel.drain()
        self.assertRaises(Unavailable, self.door.tunnel.endpointFor, TCPPurpose("demo"))
        failures: list[Any] = []
        self.door.tunnel.session.connector.connect(QuietFactory(Talker)).addErrback(failures.append)
        self.assertTrue(failures[0].check(SessionClosed))

    def test_aFactoryMayDecline(self) -> None:
        failures: list[Any] = []
        self.door.tunnel.session.connector.connect(QuietFactory(lambda: None)).addErrback(failures.append)
        self.assertEqual((len(failures), self.agent.take(), self.door.tunnel.inFlight), (1, [], 0))

    def test_theOwnerProvidesItsInterface(self) -> None:
        self.connect()
        owner, = self.door.tunnel.requests.streams._streams.values()
        self.assertTrue(verifyObject(IStreamOwner, owner))


class AgentConnectionTests(SynchronousTestCase):
    """
    The agent with an edge whose frames are chosen.
    """

    def setUp(self) -> None:
        self.connectEdge(CAPABLE)

    def connectEdge(self, registered: dict[str, Any]) -> None:
        self.edge = StrangeEdge(registered=registered, tcp=Talker)
        assert self.edge.local is not None
        self.local = self.edge.local

    def test_oneDirectionCanEndBeforeTheOther(self) -> None:
        end = {"type": "tcp_end", "connection_id": "c1"}
        self.edge.send(connect(), data(b"ask"), end)
        local, = self.local.far
        self.assertEqual((local.heard, local.readEnded, local.lost), (b"ask", True, None))
        self.edge.send(data(b"late"), end)
        self.assertEqual((local.heard, local.readEnded), (b"ask", True))
        local.say(b"answer")
        local.transport.loseConnection()
        self.edge.settle()
        self.assertEqual(self.edge.take(), [data(b"answer"), end])
        self.assertEqual(self.edge.link.session.streams, 0)
        self.edge.send(connect("c2"), data(b"ask", "c2"))
        local = self.local.far[1]
        local.say(b"answer")
        local.transport.loseWriteConnection()
        self.edge.settle()
        self.assertEqual(self.edge.take(), [data(b"answer", "c2"), {**end, "connection_id": "c2"}])
        self.edge.send(data(b"more", "c2"), {**end, "connection_id": "c2"}, end)
        self.assertEqual((local.heard, local.readEnded), (b"askmore", True))
        self.assertEqual((self.edge.link.session.streams, self.edge.link.requests.streams.unknown), (0, 1))
        self.assertEqual(self.edge.take(), [])

    def test_theTranscriptIsReplayed(self) -> None:
        self.connectEdge({})
        self.edge.send(
            b'{"type":"tcp_connect","connection_id":"c1"}', b'{"type":"tcp_data","connection_id":"c1","data_b64":"SEVMTw=="}'
        )
        local, = self.local.far
        self.assertEqual(local.heard, b"HELO")
        local.say(b"220 ok")
        self.edge.settle()
        local.transport.loseConnection()
        self.edge.settle()
        self.assertEqual(self.edge.messages, [
            b'{"type":"tcp_data","connection_id":"c1","data_b64":"MjIwIG9r"}',
            b'{"type":"tcp_close","connection_id":"c1","reason":"local connection closed"}',
        ])  # fmt: skip
        self.assertEqual(self.edge.link.session.streams, 0)

    def test_dataThatArrivesBeforeTheConnectionWaits(self) -> None:
        self.local.waiting = []
        self.edge.send(connect(), data(b"HE"), data(b"LO"))
        self.local.let()
        self.edge.settle()
        self.assertEqual(self.local.far[0].heard, b"HELO")

    def test_aConnectionThatFailsIsReported(self) -> None:
        self.local.refuse = True
        self.edge.send(connect())
        frame, = self.edge.take()
        self.assertTrue(frame["reason"].startswith("local connect failed: "), frame)
        self.assertEqual(self.edge.link.session.streams, 0)

    def test_aConnectionThatTakesTooLongIsReported(self) -> None:
        self.local.waiting = []
        self.edge.send(connect())
        self.edge.passTime(4)
        self.assertEqual(self.edge.take(), [])
        self.edge.passTime(2)
        self.assertTrue(self.edge.take()[0]["reason"].startswith("local connect failed: "))

    def test_theEdgeClosesTheLocalConnection(self) -> None:
        self.edge.send(connect(), data(b"x"), close("gone"))
        local, = self.local.far
        self.assertEqual((local.heard, local.lost is not None or local.readEnded), (b"x", True))
        self.assertEqual((self.edge.take(), self.edge.link.session.streams), ([], 0))
        self.edge.send(data(b"late"))
        self.assertEqual(self.edge.link.requests.streams.unknown, 1)

    def test_anAgentWithoutATargetRefuses(self) -> None:
        edge = StrangeEdge(registered=CAPABLE)
        edge.send(connect(), data(b"x"))
        self.assertEqual(edge.take(), [close("local connect failed: this agent has no TCP server")])
        self.assertEqual(edge.link.session.streams, 0)

    def test_anIdentifierIsUsedOnce(self) -> None:
        self.edge.send(connect(), connect())
        self.assertEqual((len(self.local.far), self.edge.link.requests.streams.unknown), (1, 1))

    def test_eitherEndMayStopTheOther(self) -> None:
        self.edge.send(connect())
        local, = self.local.far
        stream, = self.edge.link.session.transports()
        self.edge.send({"type": "flow", "id": "c1", "paused": True})
        local.say(bytes(300_000))
        self.edge.settle()
        self.assertEqual(self.edge.take(), [])
        self.assertTrue(self.local.wires[0].near.readPaused)
        self.edge.send({"type": "flow", "id": "c1", "paused": False})
        self.assertEqual(sum(len(frame["data_b64"]) * 3 // 4 for frame in self.edge.take()) // 1000, 300)
        self.assertFalse(self.local.wires[0].near.readPaused)
        stream.pauseProducing()
        self.edge.send(data(bytes(1024 * 1024)))
        self.assertEqual(self.edge.take(), [{"type": "flow", "id": "c1", "paused": True}])
        stream.resumeProducing()
        self.edge.clock.advance(0)
        self.edge.settle()
        self.assertEqual(self.edge.take(), [{"type": "flow", "id": "c1", "paused": False}])

    def test_aLocalServerThatDoesNotReadStopsAStockEdge(self) -> None:
        self.connectEdge({})
        self.edge.send(connect())
        self.local.wires[0].far.pauseProducing()
        for _ in range(50):
            self.edge.send(data(bytes(32 * 1024)))
        self.assertTrue(self.edge.link.session.channel.transport.readPaused)
        self.local.wires[0].far.resumeProducing()
        self.edge.settle()
        self.assertEqual(len(self.local.far[0].heard), 50 * 32 * 1024)

    def test_nothingIsLeftBehind(self) -> None:
        self.edge.send(connect())
        self.edge.wire.drop()
        self.edge.settle()
        self.edge.passTime(1)
        self.assertIsNotNone(self.local.far[0].lost)
        self.assertEqual(self.edge.clock.getDelayedCalls(), [])


class BothConnectionTests(SynchronousTestCase):
    def test_aVisitorWhoClosesEndsAllAtOnce(self) -> None:
        for whole in (True, False):
            both = Both(acceptance=TCP, tcp=Talker)
            visitor, splice, wire = Talker(), Splice(both.clock), Wire(both.clock)
            both.wires.append(wire)
            both.tunnel.endpointFor(TCPPurpose("demo")).connect(SpliceFactory(splice.far))
            wire.connect(visitor, splice.near)
            visitor.say(b"ask")
            both.settle()
            assert both.local is not None
            local, = both.local.far
            (visitor.transport.loseConnection if whole else visitor.transport.loseWriteConnection)()
            both.settle()
            self.assertEqual((local.heard, local.readEnded), (b"ask", True))
            local.say(b"answer")
            local.transport.loseConnection()
            both.settle()
            self.assertEqual(visitor.heard, b"" if whole else b"answer")
            self.assertEqual((both.tunnel.inFlight, both.link.session.streams), (0, 0))

    def test_octetsPassThroughBoth(self) -> None:
        both = Both(acceptance=TCP, tcp=Talker)
        visitor = Talker()
        both.tunnel.endpointFor(TCPPurpose("demo")).connect(QuietFactory(lambda: visitor))
        octets = bytes(range(256)) * 4096
        visitor.say(octets)
        both.settle()
        assert both.local is not None
        local, = both.local.far
        self.assertEqual(local.heard, octets)
        local.say(octets)
        both.settle()
        local.transport.loseConnection()
        both.settle()
        self.assertEqual((visitor.heard, visitor.readEnded), (octets, True))
        visitor.transport.loseConnection()
        both.settle()
        self.assertEqual((both.tunnel.inFlight, both.link.session.streams), (0, 0))


class EdgeFlowTests(SynchronousTestCase):
    """
    Datagrams at an edge.
    """

    def setUp(self) -> None:
        self.door = Door(acceptance=UDP)
        self.agent = Stranger(self.door, capabilities=CAPABILITIES)
        self.application = Collector()
        self.door.tunnel.datagramEndpointFor(UDPPurpose("demo"), VISITOR).connect(QuietFactory(lambda: self.application))

    def test_datagramsAreCarriedBothWays(self) -> None:
        transport: Any = self.application.transport
        self.assertTrue(verifyObject(IDatagramTransport, transport))
        self.assertEqual((transport.getPeer(), self.door.tunnel.inFlight), (VISITOR.address, 1))
        transport.write(b"ask")
        transport.write(b"")
        self.door.settle()
        first, second = self.agent.take()
        self.assertEqual((first["remote_addr"], first["data_b64"], second["data_b64"]), ("203.0.113.9:5000", "YXNr", ""))
        self.agent.send({**first, "data_b64": "YW5zd2Vy"}, {**first, "connection_id": "other"}, {**first, "data_b64": "!"})
        self.assertEqual(self.application.received, [b"answer"])
        self.assertEqual((self.door.tunnel.requests.datagrams.unknown, self.agent.lost), (1, None))
        transport.loseConnection()
        transport.write(b"late")
        self.door.settle()
        self.assertEqual((self.agent.take(), self.door.tunnel.inFlight), ([], 0))

    def test_whatCannotBeSentIsDropped(self) -> None:
        transport: Any = self.application.transport
        transport.write(bytes(65_508))
        self.assertEqual(transport.dropped, 1)
        self.agent.transport.pauseProducing()
        for _ in range(30):
            transport.write(bytes(60_000))
            self.door.settle()
        self.assertGreater(transport.dropped, 1)
        self.assertLess(self.door.tunnel.session.channel.queued, 512 * 1024)

    def test_aLostAgentEndsTheFlows(self) -> None:
        self.agent.transport.abortConnection()
        self.door.settle()
        assert self.application.reason is not None
        self.assertTrue(self.application.reason.check(SessionLost))
        failures: list[Any] = []
        self.door.tunnel.requests.datagrams.open(QuietFactory(Collector), None).addErrback(failures.append)    # type: ignore[arg-type]
        self.assertEqual(len(failures), 1)


class AgentFlowTests(SynchronousTestCase):
    """
    Datagrams at an agent.
    """

    def setUp(self) -> None:
        self.edge = StrangeEdge(registered=CAPABLE, udp=("127.0.0.1", 53))

    def datagram(self, octets: bytes, identifier: str = "c1") -> dict[str, Any]:
        return {
            "type": "udp_data", "connection_id": identifier, "remote_addr": "203.0.113.9:5000",
            "data_b64": b64encode(octets).decode(),
        }

    def test_everyAnswerIsRelayed(self) -> None:
        self.edge.send(self.datagram(b"one"), self.datagram(b"two"))
        port, = self.edge.clock.ports
        self.assertEqual((port.peer, port.sent), (("127.0.0.1", 53), [b"one", b"two"]))
        port.answer(b"1")
        port.answer(b"2")
        self.edge.settle()
        self.assertEqual(
            [json.loads(each) for each in self.edge.messages], [self.datagram(b"1"), self.datagram(b"2")]
        )

    def test_aFlowThatIsIdleForAMinuteIsClosed(self) -> None:
        self.edge.send(self.datagram(b"one"))
        port, = self.edge.clock.ports
        self.edge.passTime(50)
        port.answer(b"1")
        self.edge.passTime(50)
        self.assertFalse(port.closed)
        self.edge.passTime(11)
        self.assertEqual((port.closed, self.edge.link.session.streams), (True, 0))
        self.edge.send(self.datagram(b"again"))
        self.assertEqual(len(self.edge.clock.ports), 2)

    def test_theNumberOfFlowsHasABound(self) -> None:
        self.edge.send(*(self.datagram(b"x", f"c{number}") for number in range(1030)))
        self.assertEqual((len(self.edge.clock.ports), self.edge.link.requests.datagrams.dropped), (1024, 6))

    def test_anAgentWithoutATargetDropsThem(self) -> None:
        edge = StrangeEdge(registered=CAPABLE)
        edge.send(self.datagram(b"x"))
        self.assertEqual((edge.take(), edge.link.requests.datagrams.dropped), ([], 1))

    def test_aTargetThatRefusesEndsItsFlow(self) -> None:
        self.edge.send(self.datagram(b"x"))
        self.edge.clock.ports[0].protocol.connectionRefused()
        self.assertEqual(self.edge.link.session.streams, 0)

    def test_nothingIsLeftBehind(self) -> None:
        self.edge.send(self.datagram(b"x"))
        self.edge.wire.drop()
        self.edge.settle()
        self.assertEqual((self.edge.clock.ports[0].closed, self.edge.clock.getDelayedCalls()), (True, []))
