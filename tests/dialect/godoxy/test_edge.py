"""
GoDoxy at the edge, in virtual time: how agents are dialled and examined, and what is published of them.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.protocol import Factory
from zope.interface.verify import verifyObject

from tests.dialect.godoxy.edge_support import (
    HTTP,
    AgentDouble,
    GodoxyEdgeCase,
    Sessions,
    credentials,
    serverIdentity,
    tcp,
    udp,
    web,
)
from tests.transport.certificates import Authority
from tests.transport.datagrams import Collector, CollectorFactory
from tunnelstack.dialect.godoxy import edge_store
from tunnelstack.dialect.godoxy.certificates import Credentials
from tunnelstack.dialect.godoxy.edge_agent import DOWN, LIMITED, UP
from tunnelstack.dialect.godoxy.edge_flows import KEPT_DATAGRAMS, KEPT_OCTETS, SessionFailed
from tunnelstack.dialect.godoxy.edge_tunnel import HANDSHAKES
from tunnelstack.edge.list_query import ALL
from tunnelstack.edge.slices import toEnd
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.exchange.whole_message import JSON, WholeRequest, WholeResponse
from tunnelstack.interfaces import IAdminResources, IOutboundAgents, IReloadableDialect, ITunnel
from tunnelstack.records import HTTPPurpose, SSHPurpose, TCPPurpose, UDPPurpose
from tunnelstack.stream.errors import UnsupportedPurpose
from tunnelstack.testing import Caller
from tunnelstack.wire.records.godoxy import LONGEST_DATAGRAM, StreamHeader, encode_header


class ConnectionTests(GodoxyEdgeCase):
    """
    From the first attempt to the loss of an agent.
    """

    def test_objectsProvideTheirInterfaces(self) -> None:
        AgentDouble(self.network)
        self.begin()
        verifyObject(IReloadableDialect, self.dialect)
        verifyObject(IAdminResources, self.dialect)
        verifyObject(IOutboundAgents, self.dialect.agents)
        verifyObject(ITunnel, self.agent().tunnel)

    def test_anAgentIsExaminedAndPublished(self) -> None:
        agent = AgentDouble(self.network)
        self.begin(web(), tcp(), udp())
        report = self.report()
        self.assertEqual(
            {key: report[key] for key in ("agent", "address", "state", "reason", "reported_name", "version", "runtime")},
            {"agent": "nas", "address": "127.0.0.1:8890", "state": UP, "reason": "", "reported_name": "box",
             "version": "v0.31.0", "runtime": "docker"},
        )  # fmt: skip
        self.assertEqual((report["tcp_streams"], report["udp_streams"]), (True, True))
        self.assertEqual((agent.probes, self.sessions["nas"].probes), (1, 1))
        self.assertEqual([each["published"] for each in report["services"]], [True] * 3)
        self.assertEqual([each["port"] for each in report["services"]], [25565, 5353, 0])
        self.assertEqual([each["healthy"] for each in report["services"]], [True] * 3)
        asked = sorted(each.head.target.partition(b"?")[2] for each in agent.asked("/health"))
        self.assertEqual(asked, [
            b"scheme=http&host=127.0.0.1%3A3000&path=%2F&timeout=5000", b"scheme=tcp&host=192.168.1.5%3A25565&timeout=5000",
            b"scheme=udp&host=%5B%3A%3A1%5D%3A53&timeout=5000",
        ])  # fmt: skip
        self.assertEqual(agent.asked("/info")[0].head.field(b"host"), b"godoxy.agent")
        (shown,) = toEnd(self.edge.admin.administration.listHandlers[b"/agents"](ALL))["outbound"]
        self.assertEqual(shown["state"], UP)

    def test_anAgentThatDoesNotListenIsDialledAgain(self) -> None:
        self.begin(web())
        self.assertEqual(self.report()["state"], DOWN)
        self.assertIn("the connection was refused", self.report()["reason"])
        self.assertIn(b" 503 ", self.get("wiki.edge.test"))
        self.assertIn(b" 404 ", self.get("other.edge.test"))
        AgentDouble(self.network)
        self.network.passTime(2)
        self.assertEqual(self.report()["state"], UP)

    def test_waitsGrow(self) -> None:
        self.begin()
        tries: list[float] = []

        async def info() -> Any:
            tries.append(self.network.seconds())
            raise ValueError("no")

        self.patch(self.agent()._api, "info", info)
        self.network.passTime(120)
        waits = [round(later - earlier) for earlier, later in pairwise(tries)]
        self.assertEqual(waits, sorted(waits))
        self.assertGreater(waits[-1], 10)

    def test_anAgentThatDoesNotAnswerOnceIsKept(self) -> None:
        agent = AgentDouble(self.network)
        self.begin(web())
        answer = agent.answers["/info"]
        agent.answers["/info"] = WholeResponse(500, b"busy")
        self.network.passTime(31)
        self.assertEqual(self.report()["state"], UP)
        self.assertIn("answers 500", self.report()["reason"])
        agent.answers["/info"] = answer
        self.network.passTime(6)
        self.assertEqual((self.report()["state"], self.report()["reason"]), (UP, ""))

    def test_anAgentThatIsGoneIsLostAndComesBack(self) -> None:
        agent = AgentDouble(self.network)
        self.begin(web(), tcp())
        agent.stop()
        self.network.passTime(40)
        self.assertEqual(self.report()["state"], DOWN)
        self.assertFalse(self.edge.registry.hasAgent("nas"))
        self.assertNotIn(25565, self.network.ports)
        self.assertIn(b"503", self.get("wiki.edge.test"))
        agent.resume()
        self.network.passTime(60)
        self.assertEqual(self.report()["state"], UP)
        self.assertIn(25565, self.network.ports)

    def test_anAgentThatIsSilentIsLost(self) -> None:
        agent = AgentDouble(self.network)
        self.begin(web())
        agent.answers["/info"] = lambda request: Deferred()
        self.network.passTime(50)
        self.assertEqual(self.report()["state"], DOWN)
        self.assertIn("5 seconds", self.report()["reason"])

    def test_nonsenseIsAReason(self) -> None:
        agent = AgentDouble(self.network)
        for body, told in ((b"<html>", "no JSON object"), (b"x" * 70_000, "too long"), (b'{"name":3}', "not text")):
            agent.answers["/info"] = WholeResponse(200, body, JSON)
            self.begin(web())
            self.assertEqual(self.report()["state"], DOWN)
            self.assertIn(told, self.report()["reason"])
            self.end()


class CertificateTests(GodoxyEdgeCase):
    """
    Agents whose certificates, or which themselves, do not accept the other side.
    """

    def stateWith(self, identity: Any) -> tuple[str, str]:
        AgentDouble(self.network, identity=identity)
        self.begin(web())
        report = self.report()
        return report["state"], report["reason"]

    def test_anExpiredCertificateIsRejected(self) -> None:
        state, reason = self.stateWith(serverIdentity(days=(-2, -1)))
        self.assertEqual(state, DOWN)
        self.assertIn("its certificate has expired", reason)

    def test_aSelfSignedCertificateIsRejected(self) -> None:
        state, reason = self.stateWith(serverIdentity(ownRoot=True))
        self.assertEqual(state, DOWN)
        self.assertIn("its certificate is self-signed", reason)
        self.assertIn("[[godoxy.agent]]", reason)

    def test_aCertificateOfAnotherAuthorityIsRejected(self) -> None:
        state, reason = self.stateWith(Authority("stranger").identity("godoxy.agent"))
        self.assertEqual(state, DOWN)
        self.assertIn("an authority that is not trusted here", reason)

    def test_aCertificateForAnotherNameIsRejected(self) -> None:
        state, reason = self.stateWith(serverIdentity("other.agent"))
        self.assertEqual(state, DOWN)
        self.assertIn("its certificate is for other.agent, not for godoxy.agent", reason)

    def test_anEdgeThatTheAgentDoesNotAccept(self) -> None:
        stranger = Authority("stranger")
        self.own = Credentials(self.own.authorities, stranger.identity("godoxy.agent"))
        state, reason = self.stateWith(None)
        self.assertEqual(state, DOWN)
        self.assertNotEqual(reason, "")


class CapabilityTests(GodoxyEdgeCase):
    """
    Agents without streams of one kind.
    """

    def test_anAgentThatDoesNotKnowStreams(self) -> None:
        AgentDouble(self.network, alpn=(HTTP,))
        self.begin(web(), tcp())
        self.assertEqual(self.report()["state"], LIMITED)
        self.assertIn("no tcp streams", self.report()["reason"])
        self.assertFalse(self.service("game")["published"])
        self.assertNotIn(25565, self.network.ports)
        self.assertTrue(self.service("wiki")["published"])

    def test_anAgentThatKeepsProbesOpen(self) -> None:
        AgentDouble(self.network).closesProbes = False
        self.begin(tcp())
        self.assertEqual(self.report()["state"], UP)
        self.network.passTime(3)
        self.assertIn("does not close a probe", self.report()["reason"])

    def test_anAgentWithoutDTLSServesTheRest(self) -> None:
        AgentDouble(self.network)
        sessions = self.sessions["nas"] = Sessions()
        sessions.hanging = True
        self.begin(web(), udp())
        self.assertIn(b"404", self.get("wiki.edge.test"))       # what the agent answers
        self.network.passTime(6)
        self.assertEqual(self.report()["state"], LIMITED)
        self.assertIn("no udp streams: no connection within 5 seconds", self.report()["reason"])
        self.assertNotIn(5353, self.network.udp)
        sessions.hanging = False
        self.network.passTime(31)
        self.assertEqual((self.report()["state"], self.report()["reason"]), (UP, ""))
        self.assertIn(5353, self.network.udp)

    def test_streamsThatFailOnceAreKept(self) -> None:
        AgentDouble(self.network)
        self.begin(udp())
        self.sessions["nas"].failure = ConnectionAborted()
        self.network.passTime(31)
        self.assertTrue(self.report()["udp_streams"])
        self.network.passTime(31)
        self.assertFalse(self.report()["udp_streams"])
        self.assertNotIn(5353, self.network.udp)

    def test_anOldAgentServesRequestsOnly(self) -> None:
        agent = AgentDouble(self.network)
        agent.answers = {"/name": WholeResponse(200, b"box\n"), "/version": WholeResponse(200, b"v0.18.0")}
        self.begin(web(), tcp())
        report = self.report()
        self.assertEqual((report["state"], report["version"], report["runtime"]), (LIMITED, "v0.18.0", "docker"))
        self.assertEqual(agent.probes, 0)
        agent.answers["/proxy/http"] = WholeResponse(200, b"hello")
        self.assertIn(b"hello", self.get("wiki.edge.test"))
        head = agent.asked("/proxy/http")[0].head
        self.assertEqual(head.field(b"x-proxy-https"), b"false")
        self.assertIsNone(head.field(b"x-proxy-config"))

    def test_anOldAgentOfAnUnknownRuntimeIsRejected(self) -> None:
        agent = AgentDouble(self.network)
        agent.answers = {
            "/name": WholeResponse(200, b"box"), "/version": WholeResponse(200, b"v1"), "/runtime": WholeResponse(200, b"jail"),
        }
        self.begin()
        self.assertIn("a runtime that is not known", self.report()["reason"])
        del agent.answers["/name"]
        self.network.passTime(5)
        self.assertIn("answers 404 to a request for its name", self.report()["reason"])

    def test_theHealthOfServicesIsReported(self) -> None:
        agent = AgentDouble(self.network)
        agent.answers["/health"] = WholeResponse(200, b'{"healthy":false,"detail":"refused","latency":0}', JSON)
        self.begin(web())
        self.assertEqual((self.service("wiki")["healthy"], self.service("wiki")["reason"]), (False, "refused"))
        agent.answers["/health"] = WholeResponse(502, b"broken")
        self.network.passTime(31)
        self.assertEqual(self.service("wiki")["reason"], "HTTP 502 broken")
        agent.answers["/health"] = WholeResponse(200, b"nonsense")
        self.network.passTime(31)
        self.assertIn("no JSON object", self.service("wiki")["reason"])
        agent.answers["/health"] = WholeResponse(200, b'{"healthy":true}', JSON)
        self.network.passTime(31)
        self.assertEqual((self.service("wiki")["healthy"], self.service("wiki")["reason"]), (True, ""))


class ExchangeTests(GodoxyEdgeCase):
    """
    Requests through the agent's API.
    """

    def setUp(self) -> None:
        super().setUp()
        self.double = AgentDouble(self.network)
        self.double.answers["/proxy/http"] = lambda request: WholeResponse(200, request.head.target)

    def asked(self) -> WholeRequest:
        return self.double.asked("/proxy/http")[-1]

    def test_theAgentIsToldTheTarget(self) -> None:
        self.begin(web(target="https://wiki:8443", insecure=True, serverName="inner", responseSeconds=3.0))
        got = self.get("wiki.edge.test", "/a/b?c=d", "X-Proxy-Host: evil\r\nX-Proxy-Config: e30=\r\nX-Other: 1\r\n")
        self.assertTrue(got.endswith(b"/godoxy/agent/proxy/http/a/b?c=d"), got)
        head = self.asked().head
        self.assertEqual([value for name, value in head.fields if name.lower() == b"x-proxy-host"], [b"wiki:8443"])
        self.assertEqual(head.field(b"x-proxy-scheme"), b"https")
        self.assertEqual(len([name for name, _ in head.fields if name.lower() == b"x-proxy-config"]), 1)
        self.assertEqual((head.field(b"host"), head.field(b"x-other")), (b"wiki.edge.test", b"1"))
        self.assertIsNotNone(head.field(b"x-forwarded-for"))

    def test_connectionsAreKept(self) -> None:
        self.begin(web())
        before = len(self.network.wires)
        for _ in range(3):
            self.get("wiki.edge.test")
        self.assertLessEqual(len(self.network.wires), before + 1)

    def test_pathsThatLeadElsewhereAreRejected(self) -> None:
        self.begin(web())
        for path in ("/../../health", "/%2e%2e/info", "/a/../../../../v1/containers", "/..%2f..%2finfo", "/\\..\\..\\info"):
            self.assertIn(b" 400 ", self.get("wiki.edge.test", path).partition(b"\r\n")[0], path)
        self.assertEqual(self.double.asked("/proxy/http"), [])
        for path in ("/a/../b", "//x", "/a%2Fb", "/.hidden", "/..."):
            self.assertIn(b" 200 ", self.get("wiki.edge.test", path).partition(b"\r\n")[0], path)

    def test_optionsOfTheServerAreNotCarried(self) -> None:
        self.begin(web())
        got = self.visit(b"OPTIONS * HTTP/1.1\r\nHost: wiki.edge.test\r\nConnection: close\r\n\r\n").got
        self.assertIn(b" 501 ", got.partition(b"\r\n")[0])

    def test_aRouteMayLeadToAPortOfTheAgent(self) -> None:
        self.begin()
        tunnel = self.agent().tunnel
        assert tunnel is not None
        self.assertEqual(tunnel._target(HTTPPurpose(host="127.0.0.1", port=81)).host, "127.0.0.1:81")
        self.assertEqual(tunnel._target(HTTPPurpose(host="::1", port=81)).host, "[::1]:81")
        for purpose in (HTTPPurpose(), HTTPPurpose(service="nothing")):
            self.assertRaises(UnsupportedPurpose, tunnel.exchange, purpose, None)

    def test_aBodyIsPassedOn(self) -> None:
        self.begin(web())
        self.double.answers["/proxy/http"] = lambda request: WholeResponse(200, request.body[::-1])
        got = self.visit(
            b"POST / HTTP/1.1\r\nHost: wiki.edge.test\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
        ).got
        self.assertTrue(got.endswith(b"cba"), got)


class StreamTests(GodoxyEdgeCase):
    """
    Public TCP ports.
    """

    def test_octetsPassInBothDirections(self) -> None:
        agent = AgentDouble(self.network)
        self.begin(tcp())
        visitor = self.visit(b"hello", 25565)
        (stream,) = agent.streams
        self.assertEqual(stream.header, StreamHeader("192.168.1.5", "25565"))
        self.assertEqual(stream.got, b"hello")
        stream.transport.write(b"world")
        self.network.settle()
        self.assertEqual(visitor.got, b"world")
        self.assertEqual(self.agent().tunnel.inFlight, 1)  # type: ignore[union-attr]
        visitor.transport.loseConnection()
        self.network.passTime(1)
        stream.transport.loseConnection()
        self.network.passTime(2)
        self.assertEqual(self.agent().tunnel.inFlight, 0)  # type: ignore[union-attr]

    def test_aDestinationThatRefusesClosesTheVisitorAlone(self) -> None:
        agent = AgentDouble(self.network)
        self.begin(tcp())
        first, second = self.visit(b"a", 25565), self.visit(b"b", 25565)
        agent.streams[0].transport.loseConnection()
        self.network.passTime(1)
        self.assertIsNotNone(first.lost)
        self.assertIsNone(second.lost)
        second.transport.loseConnection()
        agent.streams[1].transport.loseConnection()

    def test_diallersReachWhatTheAgentReaches(self) -> None:
        agent = AgentDouble(self.network)
        self.begin(udp())
        tunnel = self.agent().tunnel
        assert tunnel is not None
        caller = Caller()
        tunnel.endpointFor(TCPPurpose(host="db.internal", port=5432)).connect(Factory.forProtocol(lambda: caller))
        self.network.settle()
        self.assertEqual(agent.streams[0].header, StreamHeader("db.internal", "5432"))
        for purpose in (TCPPurpose(service="names"), SSHPurpose(), TCPPurpose(service="nothing")):
            self.assertRaises(UnsupportedPurpose, tunnel.endpointFor, purpose)
        caller.transport.abortConnection()
        self.network.passTime(1)


class FlowTests(GodoxyEdgeCase):
    """
    Public UDP ports, and flows.
    """

    visitor = ("192.0.2.1", 5000)

    def begin(self, *services: Any, **options: Any) -> None:
        AgentDouble(self.network)
        super().begin(*(services or (udp(),)), **options)
        self.dtls = self.sessions["nas"]

    def send(self, datagram: bytes, visitor: tuple[str, int] = visitor) -> None:
        self.network.udp[5353].datagramReceived(datagram, visitor)
        self.network.settle()

    def answered(self) -> list[Any]:
        return list(self.network.udp[5353].transport.sent)

    def test_aVisitorIsAFlow(self) -> None:
        self.begin()
        self.send(b"query")
        (session,) = self.dtls.opened
        self.assertEqual(session.sent, [encode_header(StreamHeader("::1", "53")), b"query"])
        session.protocol.datagramReceived(b"answer")
        self.assertEqual(self.answered(), [(b"answer", self.visitor)])
        self.send(b"more")
        self.assertEqual(session.sent[2:], [b"more"])
        self.send(b"x", ("192.0.2.2", 5000))
        self.assertEqual(len(self.dtls.opened), 2)
        self.assertEqual(self.report()["flows"], 2)

    def test_aFlowThatIsNotUsedIsClosed(self) -> None:
        self.begin()
        self.send(b"query")
        (session,) = self.dtls.opened
        self.network.passTime(20)
        self.assertTrue(session.closed)
        self.assertEqual(self.report()["flows"], 0)

    def test_aSessionThatIsClosedBeforeAnyAnswerIsReplacedOnce(self) -> None:
        self.begin()
        self.send(b"one")
        self.send(b"two")
        first = self.dtls.opened[0]
        first.end()
        second = self.dtls.opened[1]
        self.assertEqual(second.sent, first.sent)
        second.end()
        self.assertEqual(len(self.dtls.opened), 2)
        self.assertEqual(self.report()["flows"], 0)

    def test_aSessionThatHasAnsweredIsNotReplaced(self) -> None:
        self.begin()
        self.send(b"one")
        self.dtls.opened[0].protocol.datagramReceived(b"answer")
        self.dtls.opened[0].end()
        self.assertEqual(len(self.dtls.opened), 1)
        self.send(b"two")
        self.assertEqual(len(self.dtls.opened), 2)

    def test_aSessionThatBreaksIsNotReplaced(self) -> None:
        self.begin()
        self.send(b"one")
        self.dtls.opened[0].end(ConnectionAborted())
        self.assertEqual(len(self.dtls.opened), 1)

    def connect(self) -> Collector:
        tunnel = self.agent().tunnel
        assert tunnel is not None
        endpoint = tunnel.datagramEndpointFor(UDPPurpose(service="names"))
        found = self.successResultOf(endpoint.connect(CollectorFactory()))
        assert isinstance(found, Collector)
        return found

    def test_whatIsKeptIsBounded(self) -> None:
        self.begin()
        client = self.connect()
        for number in range(2 * KEPT_DATAGRAMS):
            client.transport.write(b"%d" % number)
        self.dtls.opened[0].end()
        self.assertEqual(len(self.dtls.opened[1].sent), 1 + KEPT_DATAGRAMS)
        self.dtls.opened[1].end()
        assert client.reason is not None
        self.assertIn("before any answer: it does not reach ::1:53", client.reason.getErrorMessage())
        client = self.connect()
        client.transport.write(bytes(LONGEST_DATAGRAM))
        client.transport.write(bytes(LONGEST_DATAGRAM))
        client.transport.write(bytes(LONGEST_DATAGRAM))
        self.dtls.opened[2].end()
        self.assertLessEqual(sum(map(len, self.dtls.opened[3].sent[1:])), KEPT_OCTETS)
        client.transport.loseConnection()
        self.assertTrue(self.dtls.opened[3].closed)

    def test_handshakesAreBounded(self) -> None:
        self.begin()
        self.dtls.hanging = True
        for number in range(2 * HANDSHAKES):
            self.send(b"x", (f"192.0.2.{number}", 5000))
        self.assertEqual(len(self.dtls.connecting), HANDSHAKES)
        for connecting in self.dtls.connecting:
            connecting.errback(ConnectionAborted())
        self.dtls.hanging = False
        self.send(b"x")
        self.assertEqual((len(self.dtls.opened), self.report()["flows"]), (1, 1))

    def test_datagramsOfTheWrongSizeAreDropped(self) -> None:
        self.begin()
        client = self.connect()
        for size in (0, LONGEST_DATAGRAM + 1):
            client.transport.write(bytes(size))
        self.assertEqual((client.transport.dropped, len(self.dtls.opened[0].sent)), (2, 1))
        client.transport.write(bytes(LONGEST_DATAGRAM))
        self.assertEqual(len(self.dtls.opened[0].sent), 2)
        client.transport.abortConnection()
        assert client.reason is not None
        client.reason.trap(ConnectionAborted)
        client.transport.write(b"late")
        client.transport.loseConnection()
        self.assertEqual(self.report()["datagrams_dropped"], 2)

    def test_aFlowThatIsClosedWhileItsSessionIsReplaced(self) -> None:
        self.begin()
        client = self.connect()
        client.transport.write(b"x")
        self.dtls.hanging = True
        self.dtls.opened[0].end()
        client.transport.write(b"y")
        client.transport.loseConnection()
        self.assertEqual(self.dtls.cancelled, 1)
        assert client.reason is not None
        client.reason.trap(ConnectionDone)

    def test_aReplacementThatFailsEndsTheFlow(self) -> None:
        self.begin()
        client = self.connect()
        client.transport.write(b"x")
        self.dtls.failure = ConnectionAborted()
        self.dtls.opened[0].end()
        assert client.reason is not None
        client.reason.trap(SessionFailed)

    def test_whatIsNotPublishedIsNotReached(self) -> None:
        self.begin()
        tunnel = self.agent().tunnel
        assert tunnel is not None
        self.assertRaises(UnsupportedPurpose, tunnel.datagramEndpointFor, UDPPurpose(service="nothing"))


class ChangeTests(GodoxyEdgeCase):
    """
    Another configuration, commands, and the end.
    """

    def reload(self, *services: Any, **options: Any) -> None:
        self.dialect.prepareReload({"godoxy": self.tables(*services, **options)})()
        self.network.settle()

    def test_agentsComeAndGoWithoutTheOthers(self) -> None:
        first, second = AgentDouble(self.network), AgentDouble(self.network, 8891)
        self.begin(tcp())
        visitor = self.visit(b"x", 25565)
        tunnel = self.agent().tunnel
        self.reload(tcp(), agents=("nas", "shed"))
        self.assertEqual(self.report("shed")["state"], UP)
        self.assertIs(self.agent().tunnel, tunnel)
        self.assertEqual(first.probes, 1)
        self.reload(tcp())
        self.assertNotIn("shed", self.dialect.agents.agents)
        self.network.passTime(1)
        self.assertFalse(self.edge.registry.hasAgent("shed"))
        self.assertIsNone(visitor.lost)
        self.assertEqual(second.probes, 1)
        visitor.transport.abortConnection()

    def test_aServiceIsExpectedUntilItIsRemoved(self) -> None:
        self.begin(web(), web(name="blog"))
        self.reload(web())
        for name, status in (("wiki", b" 503 "), ("blog", b" 404 ")):
            self.assertIn(status, self.get(f"{name}.edge.test"), name)
        self.reload(web(name="blog"), agents=("nas", "shed"))
        for name, status in (("wiki", b" 404 "), ("blog", b" 503 ")):
            self.assertIn(status, self.get(f"{name}.edge.test"), name)
        AgentDouble(self.network)
        self.network.passTime(30)
        self.assertEqual(self.report()["state"], UP)
        self.reload(agents=())
        self.assertIn(b" 404 ", self.get("blog.edge.test"))

    def test_servicesComeAndGo(self) -> None:
        AgentDouble(self.network)
        self.begin(web(), tcp())
        tunnel = self.agent().tunnel
        self.reload(web(target="127.0.0.1:3001"), udp())
        self.assertNotIn(25565, self.network.ports)
        self.assertIn(5353, self.network.udp)
        self.assertEqual(tunnel.services["wiki"].target, "127.0.0.1:3001")  # type: ignore[union-attr]
        self.assertIs(self.agent().tunnel, tunnel)

    def test_anAgentWithOtherCertificatesIsDialledAnew(self) -> None:
        agent = AgentDouble(self.network)
        self.begin(web())
        tunnel = self.agent().tunnel
        self.own = credentials()
        self.reload(web())
        self.network.passTime(2)
        self.assertIsNot(self.agent().tunnel, tunnel)
        self.assertEqual(self.report()["state"], UP)
        self.assertEqual(agent.probes, 2)

    def test_workUnderWayFinishesAtAnAgentThatIsRemoved(self) -> None:
        agent = AgentDouble(self.network)
        self.begin(tcp())
        visitor = self.visit(b"x", 25565)
        self.reload(agents=())
        self.assertNotIn(25565, self.network.ports)
        agent.streams[0].transport.write(b"still here")
        self.network.settle()
        self.assertEqual(visitor.got, b"still here")
        self.network.passTime(11)
        self.assertIsNotNone(visitor.lost)

    def test_aPortThatIsTakenIsReportedAndTriedAgain(self) -> None:
        AgentDouble(self.network)
        taken = self.network.listenTCP(25565, AgentDouble(self.network, 9999).listening.factory)
        self.begin(tcp())
        self.assertEqual(self.service("game")["published"], False)
        self.assertIn("port 25565 is taken", self.service("game")["reason"])
        taken.stopListening()
        self.network.passTime(31)
        self.assertEqual((self.service("game")["published"], self.service("game")["reason"]), (True, ""))

    def test_theEdgeDrains(self) -> None:
        agent = AgentDouble(self.network)
        self.begin(tcp(), udp())
        visitor = self.visit(b"x", 25565)
        stopping = self.edge.stopService()
        self.network.passTime(2)
        self.assertNoResult(stopping)
        self.assertIsNone(visitor.lost)
        agent.streams[0].transport.loseConnection()
        visitor.transport.loseConnection()
        self.network.passTime(3)
        self.successResultOf(stopping)
        self.assertEqual(self.network.udp, {})

    def test_certificatesThatCannotBeUsedChangeNothing(self) -> None:
        AgentDouble(self.network)
        self.begin(web())
        tunnel = self.agent().tunnel

        def unusable(agent: Any, archives: str) -> Any:
            raise ConfigurationError("it cannot be read")

        self.patch(edge_store, "credentialsOf", unusable)
        self.assertRaises(ConfigurationError, self.reload, web(), tcp())
        self.assertIs(self.agent().tunnel, tunnel)
        self.assertEqual([each["name"] for each in self.report()["services"]], ["wiki"])

    def test_anAgentWhoseNameIsTaken(self) -> None:
        AgentDouble(self.network)
        AgentDouble(self.network, 8891)
        self.begin(agents=("nas", "shed"))
        taken, other = self.agent().tunnel, self.agent("shed").tunnel
        assert taken is not None and other is not None
        other.abort("gone")
        other.principal = evolve(other.principal, agent="nas", realm="another")
        self.network.settle()
        self.assertRaises(Denied, self.edge.agents.arrived, other)
        self.network.passTime(40)
        self.assertEqual(self.report("shed")["state"], UP)

    def test_theAdministrationShowsAgentsAndServices(self) -> None:
        AgentDouble(self.network)
        self.begin(tcp())
        listed = self.dialect.getHandlers[b"/godoxy"]()
        json.dumps(listed)
        (agent,), (service,) = listed["agents"], listed["services"]
        self.assertEqual((agent["agent"], agent["state"], agent["configured"]), ("nas", UP, True))
        self.assertEqual((service["name"], service["agent"], service["configured"]), ("game", "nas", True))
        self.assertEqual(service["port"], 25565)
