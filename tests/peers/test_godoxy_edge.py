"""
The edge of GoDoxy and agents on crypto/tls and pion/dtls with the settings of the genuine program.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.names import client, dns, server
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.changed_settings import changes
from tests.peers._go import GoPeer
from tests.transport.certificates import CLIENT, SERVER, Authority, authority, general
from tests.transport.datagrams import CollectorFactory
from tests.transport.test_dtls import asynchronous
from tunnelstack.commands.certs import Options, main
from tunnelstack.control.config.records import EdgeConfig
from tunnelstack.dialect.godoxy.certificates import Credentials, readArchive, writePair
from tunnelstack.dialect.godoxy.edge import GodoxyEdge
from tunnelstack.dialect.godoxy.edge_dialler import AgentDialler
from tunnelstack.dialect.godoxy.edge_settings import DialledAgentSettings, EdgeSettings, ServiceSettings
from tunnelstack.dialect.godoxy.edge_store import AgentStore, KnownAgent
from tunnelstack.edge.service import EdgeService
from tunnelstack.interfaces import IReactor
from tunnelstack.transport.dtls.client import DTLSClientEndpoint
from tunnelstack.transport.tls import TLSIdentity
from tunnelstack.wire.records.godoxy import LONGEST_DATAGRAM, SERVER_NAME

reactor: Any = installed

SOAK = os.environ.get("TUNNELSTACK_SOAK") == "1"
QUERIES = 200 if SOAK else 120
HANDSHAKES = 500 if SOAK else 120
SECONDS = 5.0 if SOAK else 1.0


def pem(identity: TLSIdentity) -> dict[str, str]:
    key = identity.key.to_cryptography_key().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    certificate = identity.certificate.to_cryptography().public_bytes(Encoding.PEM)
    return {"certificate": certificate.decode(), "key": key.decode()}


def agentCertificates(identity: TLSIdentity | None = None, root: Authority | None = None) -> dict[str, str]:
    """
    @param root: whose certificates the agent accepts.
    """
    identity = identity or authority().issue([general(SERVER_NAME)], purposes=[SERVER])
    accepted = (root or authority()).certificate.to_cryptography().public_bytes(Encoding.PEM)
    return {**pem(identity), "authority": accepted.decode()}


def edgeCredentials(root: Authority | None = None) -> Credentials:
    identity = (root or authority()).issue([general(SERVER_NAME)], subject="client", purposes=[CLIENT])
    return Credentials((authority().certificate,), identity)


class EchoServer(Protocol):
    """
    A destination by TCP: sends all back.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class EchoPort(DatagramProtocol):
    """
    A destination by UDP: sends each datagram back.
    """

    noisy = False
    transport: Any

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(datagram, addr)


class Page(Protocol):
    """
    A web server that answers each request with its head.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nServer: inner\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))


class Visitor(Protocol):
    """
    A connection to the edge.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Upgrading(Protocol):
    """
    A web server that changes the protocol, and echoes then.
    """

    transport: Any
    upgraded = False

    def dataReceived(self, data: bytes) -> None:
        if not self.upgraded:
            self.upgraded = True
            _, _, data = data.partition(b"\r\n\r\n")
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
        self.transport.write(data)


class UDPVisitor(DatagramProtocol):
    """
    A visitor of one public UDP port.
    """

    noisy = False
    transport: Any

    def __init__(self, port: int) -> None:
        self.port = port
        self.got: list[bytes] = []
        self.octets = 0

    def send(self, datagram: bytes) -> None:
        self.transport.write(datagram, ("127.0.0.1", self.port))

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.octets += len(datagram)
        self.got.append(datagram)


class EdgeCase(TestCase):
    """
    An edge, the Go program, and destinations on loopback.
    """

    timeout = 120

    def setUp(self) -> None:
        self.go = GoPeer.start(self, "godoxy", "cmd/agent")

    async def agent(self, **parameters: Any) -> dict[str, Any]:
        settings = {"name": "box", "version": "v0.31.0", "runtime": "docker", **agentCertificates()}
        return await self.go.call("start", **{**settings, **parameters})

    async def events(self, started: dict[str, Any]) -> list[str]:
        found: list[str] = (await self.go.call("events", agent=started["agent"]))["events"]
        return found

    async def begin(
        self, port: int, *services: ServiceSettings, credentials: Credentials | None = None, state: str = "up", **timing: Any
    ) -> None:
        """
        Start an edge, and wait until the agent is in a state.
        """
        settings = DialledAgentSettings(name="nas", address=f"127.0.0.1:{port}", archive="-")
        store = AgentStore()
        store.timing = EdgeSettings(**{"healthSeconds": 1.0, **timing})
        store.agents["nas"] = KnownAgent(settings=settings, credentials=credentials or edgeCredentials(), configured=True)
        store.services.update({each.name: each for each in services})
        self.dialect = GodoxyEdge(store)
        config = EdgeConfig(
            listen=("tcp:0:interface=127.0.0.1",), domain="edge.test", portsInterface="127.0.0.1", drainSeconds=1.0
        )
        self.edge = EdgeService(reactor, config, dialects=[self.dialect])
        ready = self.edge.whenReady()
        self.edge.startService()
        await ready
        self.addCleanup(self.edge.stopService)
        await self.until(lambda: self.report()["state"] == state and self.report()["examined_seconds"] is not None
                         if state == "up" else self.report()["state"] == state)  # fmt: skip

    def report(self) -> Any:
        return self.dialect.agents.agents["nas"].report()

    def service(self, name: str) -> Any:
        (found,) = [each for each in self.report()["services"] if each["name"] == name]
        return found

    async def published(self, name: str) -> int:
        """
        @return: the public port of a service, once it has one.
        """
        await self.until(lambda: self.service(name)["port"])
        port: int = self.service(name)["port"]
        return port

    async def until(self, condition: Any, seconds: float = 30.0) -> None:
        end = reactor.seconds() + seconds
        while not condition():
            self.assertLess(reactor.seconds(), end, f"it did not happen in time: {self.report()}")
            await deferLater(reactor, 0.01)

    async def tcp(self, protocol: Any) -> int:
        factory = Factory.forProtocol(protocol)
        factory.noisy = False
        listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        port: int = listening.getHost().port
        return port

    def udp(self, protocol: DatagramProtocol) -> int:
        listening = reactor.listenUDP(0, protocol, interface="127.0.0.1", maxPacketSize=65536)
        self.addCleanup(listening.stopListening)
        port: int = listening.getHost().port
        return port

    async def visit(self, port: int, octets: bytes = b"") -> Visitor:
        visitor = Visitor()
        factory = Factory.forProtocol(lambda: visitor)
        factory.noisy = False
        await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)
        self.addCleanup(self.leave, visitor)
        visitor.transport.write(octets)
        return visitor

    async def leave_(self, visitor: Visitor) -> None:
        visitor.transport.abortConnection()
        await deferLater(reactor, 0.01)

    def leave(self, visitor: Visitor) -> Deferred[None]:
        return Deferred.fromCoroutine(self.leave_(visitor))

    async def get(self, host: str, path: str = "/") -> bytes:
        port = cast(Any, self.edge.addresses[0]).port
        visitor = await self.visit(port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        await self.until(lambda: visitor.lost is not None)
        return visitor.got

    def visitUDP(self, port: int) -> UDPVisitor:
        visitor = UDPVisitor(port)
        self.udp(visitor)
        return visitor


class AgentTests(EdgeCase):
    """
    One agent in good order.
    """

    @asynchronous
    async def test_everyKindOfServiceWorks(self) -> None:
        started = await self.agent()
        echo, page, port = await self.tcp(EchoServer), await self.tcp(Page), self.udp(EchoPort())
        await self.begin(
            started["port"],
            ServiceSettings(name="echo", agent="nas", kind="tcp", target=f"127.0.0.1:{echo}"),
            ServiceSettings(name="wiki", agent="nas", target=f"127.0.0.1:{page}"),
            ServiceSettings(name="game", agent="nas", kind="udp", target=f"127.0.0.1:{port}"),
        )
        visitor = await self.visit(await self.published("echo"), b"x" * 100_000)
        await self.until(lambda: len(visitor.got) == 100_000)
        datagrams = self.visitUDP(await self.published("game"))
        for size in (1, 64, 1163, 1200, LONGEST_DATAGRAM):
            datagrams.send(bytes(size))
            await self.until(lambda size=size: bytes(size) in datagrams.got)
        got = await self.get("wiki.edge.test", "/a//b?c")
        self.assertTrue(got.startswith(b"HTTP/1.1 200 "), got)
        self.assertIn(b"GET /a//b?c HTTP/1.1\r\nHost: wiki.edge.test\r\n", got)
        self.assertNotIn(b"Server: inner", got)
        events = await self.events(started)
        self.assertIn("tcp: probe", events)
        self.assertIn("udp: probe", events)
        self.assertIn(f"http: modern http://127.0.0.1:{page} wiki.edge.test/a//b?c", events)
        await self.until(lambda: all(each["healthy"] for each in self.report()["services"]))
        self.assertEqual(self.report()["state"], "up")

    @asynchronous
    async def test_certificatesOfOurCommandAreAccepted(self) -> None:
        """
        As an agent has them in its environment, and the edge as an archive.
        """
        folder = Path(self.mktemp())
        for arguments in (("ca",), ("server", SERVER_NAME), ("client", "edge", "--archive", str(folder / "edge.zip"))):
            options = Options()
            options.parseOptions([*arguments, "--dir", str(folder)])
            main(options)
        pairs = {
            name: writePair((folder / f"{file}.pem").read_bytes(), (folder / f"{file}.key").read_bytes())
            for name, file in (("ca_pair", "ca"), ("pair", f"server-{SERVER_NAME}"))
        }
        started = await self.agent(**pairs)
        await self.begin(started["port"], credentials=readArchive(str(folder / "edge.zip")))
        await self.until(lambda: self.report()["tcp_streams"] and self.report()["udp_streams"])

    @asynchronous
    async def test_aWebSocketPassesThroughTheAgent(self) -> None:
        started = await self.agent()
        await self.begin(
            started["port"], ServiceSettings(name="chat", agent="nas", target=f"127.0.0.1:{await self.tcp(Upgrading)}")
        )
        visitor = await self.visit(
            cast(Any, self.edge.addresses[0]).port,
            b"GET / HTTP/1.1\r\nHost: chat.edge.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        await self.until(lambda: b"\r\n\r\n" in visitor.got)
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 101 "), visitor.got)
        visitor.transport.write(b"hello")
        await self.until(lambda: visitor.got.endswith(b"hello"))

    @asynchronous
    async def test_anAgentBeforeTheFieldsOfTodayIsServed(self) -> None:
        started = await self.agent(version="v0.18.6")
        page = await self.tcp(Page)
        await self.begin(started["port"], ServiceSettings(name="wiki", agent="nas", target=f"127.0.0.1:{page}"))
        self.assertIn(b"200 OK", await self.get("wiki.edge.test"))
        self.assertIn(f"http: legacy http://127.0.0.1:{page} wiki.edge.test/", await self.events(started))

    @asynchronous
    async def test_destinationsThatRefuseCostTheirVisitorsOnly(self) -> None:
        started = await self.agent()
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            echo = await self.tcp(EchoServer)
            await self.begin(
                started["port"],
                ServiceSettings(name="gone", agent="nas", kind="tcp", target=f"127.0.0.1:{port}"),
                ServiceSettings(name="void", agent="nas", kind="udp", target=f"127.0.0.1:{port}"),
                ServiceSettings(name="wiki", agent="nas", target=f"127.0.0.1:{port}"),
                ServiceSettings(name="nowhere", agent="nas", kind="tcp", target="no.such.host.invalid:1"),
                ServiceSettings(name="echo", agent="nas", kind="tcp", target=f"127.0.0.1:{echo}"),
            )
            for name in ("gone", "nowhere"):
                visitor = await self.visit(await self.published(name), b"x")
                await self.until(lambda visitor=visitor: visitor.lost is not None)
            self.assertIn(b"502 ", await self.get("wiki.edge.test"))
            datagrams = self.visitUDP(await self.published("void"))
            for _ in range(3):
                datagrams.send(b"x")
                await deferLater(reactor, 0.1)
            visitor = await self.visit(await self.published("echo"), b"still")
            await self.until(lambda: visitor.got == b"still")
            await self.until(lambda: self.service("gone")["healthy"] is False)
            self.assertIn("refused", self.service("gone")["reason"])
            self.assertTrue(self.service("echo")["healthy"])
            self.assertEqual(self.report()["state"], "up")

    @changes("edge [godoxy] ending_seconds")
    @asynchronous
    async def test_aVisitorThatLeavesFreesItsStream(self) -> None:
        """
        The agent keeps the connection, as the destination does.
        """
        started = await self.agent()
        echo = await self.tcp(EchoServer)
        await self.begin(
            started["port"], ServiceSettings(name="echo", agent="nas", kind="tcp", target=f"127.0.0.1:{echo}"),
            endingSeconds=0.5,
        )
        visitor = await self.visit(await self.published("echo"), b"x")
        await self.until(lambda: visitor.got == b"x")
        tunnel = self.dialect.agents.agents["nas"].tunnel
        assert tunnel is not None
        self.assertEqual(tunnel.session.streams, 1)
        visitor.transport.loseConnection()
        await self.until(lambda: not tunnel.session.streams)

    @asynchronous
    async def test_anAgentThatStartsAgainIsFoundAgain(self) -> None:
        started = await self.agent()
        echo = await self.tcp(EchoServer)
        await self.begin(started["port"], ServiceSettings(name="echo", agent="nas", kind="tcp", target=f"127.0.0.1:{echo}"))
        await self.published("echo")
        await self.go.call("stop", agent=started["agent"])
        await self.until(lambda: self.report()["state"] == "down")
        self.assertIn("refused", self.report()["reason"])
        await self.agent(port=started["port"])
        visitor = await self.visit(await self.published("echo"), b"back")
        await self.until(lambda: visitor.got == b"back")

    @asynchronous
    async def test_aHeaderThatIsLostCostsATime(self) -> None:
        """
        The agent takes the datagrams after it for a header, and closes; the session is replaced.
        """
        started = await self.agent(lose_headers=2)      # of the probe and of the first flow, in either order
        await self.begin(
            started["port"], ServiceSettings(name="game", agent="nas", kind="udp", target=f"127.0.0.1:{self.udp(EchoPort())}")
        )
        visitor = self.visitUDP(await self.published("game"))
        visitor.send(b"a" * 200)
        visitor.send(b"b" * 200)
        await self.until(lambda: len(visitor.got) >= 2)
        self.assertEqual(sorted(visitor.got)[:2], [b"a" * 200, b"b" * 200])


class LimitedAgentTests(EdgeCase):
    """
    Agents that lack something.
    """

    @asynchronous
    async def test_anAgentWithoutDTLS(self) -> None:
        started = await self.agent(no_udp=True)
        echo = await self.tcp(EchoServer)
        await self.begin(
            started["port"],
            ServiceSettings(name="echo", agent="nas", kind="tcp", target=f"127.0.0.1:{echo}"),
            ServiceSettings(name="game", agent="nas", kind="udp", target="127.0.0.1:1"), probeSeconds=1.0, state="limited",
        )
        self.assertIn("no udp streams", self.report()["reason"])
        self.assertFalse(self.service("game")["published"])
        visitor = await self.visit(await self.published("echo"), b"x")
        await self.until(lambda: visitor.got == b"x")

    @asynchronous
    async def test_anAgentWhoseTLSKnowsNoStreams(self) -> None:
        for how in ("no_streams", "no_alpn"):
            started = await self.agent(**{how: True})
            page = await self.tcp(Page)
            await self.begin(
                started["port"], ServiceSettings(name="echo", agent="nas", kind="tcp", target="127.0.0.1:1"),
                ServiceSettings(name="wiki", agent="nas", target=f"127.0.0.1:{page}"), state="limited",
            )
            self.assertIn("no tcp streams", self.report()["reason"])
            self.assertIn(b"200 OK", await self.get("wiki.edge.test"))

    @asynchronous
    async def test_anAgentBeforeStreamsServesRequestsOnly(self) -> None:
        started = await self.agent(old=True, version="v0.17.0", runtime="")
        page = await self.tcp(Page)
        await self.begin(
            started["port"], ServiceSettings(name="wiki", agent="nas", target=f"127.0.0.1:{page}"),
            ServiceSettings(name="echo", agent="nas", kind="tcp", target="127.0.0.1:1"), state="limited",
        )
        self.assertEqual((self.report()["version"], self.report()["runtime"]), ("v0.17.0", "docker"))
        self.assertIn(b"200 OK", await self.get("wiki.edge.test"))

    @asynchronous
    async def test_anAgentThatAnswersNonsense(self) -> None:
        started = await self.agent(info="<html>")
        await self.begin(started["port"], state="down")
        self.assertIn("no JSON object", self.report()["reason"])


class WrongCertificateTests(EdgeCase):
    """
    Neither side accepts the other one without its certificate.
    """

    async def refused(self, told: str, credentials: Credentials | None = None, **parameters: Any) -> None:
        started = await self.agent(**parameters)
        await self.begin(started["port"], credentials=credentials, state="down")
        self.assertIn(told, self.report()["reason"])
        self.assertEqual([each for each in await self.events(started) if "probe" in each], [])

    @asynchronous
    async def test_agentsThatTheEdgeDoesNotAccept(self) -> None:
        root = authority()
        for told, identity in (
            ("has expired", root.issue([general(SERVER_NAME)], days=(-2, -1), purposes=[SERVER])),
            ("is self-signed", root.issue([general(SERVER_NAME)], ownRoot=True, purposes=[SERVER])),
            ("is for other.agent, not for godoxy.agent", root.issue([general("other.agent")], purposes=[SERVER])),
            ("not issued for this purpose", root.issue([general(SERVER_NAME)], purposes=[CLIENT])),
            ("an authority that is not trusted here", Authority("stranger").identity(SERVER_NAME)),
        ):
            await self.refused(told, **agentCertificates(identity))

    @asynchronous
    async def test_edgesThatTheAgentDoesNotAccept(self) -> None:
        stranger = Authority("stranger")
        await self.refused("", edgeCredentials(stranger))
        self.assertNotEqual(self.report()["reason"], "")
        expired = authority().issue([general(SERVER_NAME)], subject="client", days=(-2, -1), purposes=[CLIENT])
        await self.refused("", Credentials((authority().certificate,), expired))
        self.assertNotEqual(self.report()["reason"], "")


class EndToEndTests(EdgeCase):
    """
    A real resolver through a public UDP port, and figures beside plain UDP.
    """

    @asynchronous
    async def test_queriesOfARealResolver(self) -> None:
        records = [dns.RRHeader(f"host{number}.example", dns.A, ttl=60, payload=dns.Record_A(f"192.0.2.{number}"))
                   for number in range(1, QUERIES + 1)]  # fmt: skip
        table = {bytes(record.name.name): record for record in records}

        class Authoritative:
            def query(self, query: Any, timeout: Any = None) -> Any:
                return succeed(([table[bytes(query.name.name).lower()]], [], []))

        factory = server.DNSServerFactory(clients=[Authoritative()])
        factory.noisy = False
        target = self.udp(dns.DNSDatagramProtocol(factory))
        started = await self.agent()
        await self.begin(
            started["port"], ServiceSettings(name="names", agent="nas", kind="udp", target=f"127.0.0.1:{target}")
        )
        port = await self.published("names")
        resolver = client.Resolver(servers=[("127.0.0.1", port)], timeout=(5, 10))
        answers = await gatherResults([
            resolver.lookupAddress(f"host{number}.example") for number in range(1, QUERIES + 1)
        ], consumeErrors=True)  # fmt: skip
        found = [answer[0][0].payload.dottedQuad() for answer in answers]
        self.assertEqual(found, [f"192.0.2.{number}" for number in range(1, QUERIES + 1)])
        self.assertGreater(len([each for each in await self.events(started) if each.startswith("udp: 127")]), 1)

    async def throughput(self, port: int) -> tuple[float, float]:
        """
        Keep 32 datagrams under way.

        @return: megabits a second that came back, and the share of the datagrams that came back.
        """
        visitor = self.visitUDP(port)
        payload = bytes(1100)
        sent = lost = 0
        began = progress = reactor.seconds()
        before = -1
        while reactor.seconds() < began + SECONDS:
            for _ in range(32 - (sent - lost - len(visitor.got))):
                visitor.send(payload)
                sent += 1
            await deferLater(reactor, 0)
            now = reactor.seconds()
            if len(visitor.got) > before:
                before, progress = len(visitor.got), now
            elif now > progress + 0.02:
                lost, progress = sent - len(visitor.got), now
        return visitor.octets * 8 / SECONDS / 1e6, len(visitor.got) / sent

    @asynchronous
    async def test_throughputIsReportedBesidePlainUDP(self) -> None:
        target = self.udp(EchoPort())
        started = await self.agent()
        await self.begin(
            started["port"], ServiceSettings(name="game", agent="nas", kind="udp", target=f"127.0.0.1:{target}")
        )
        port = await self.published("game")
        plain, _ = await self.throughput(target)
        tunnelled, share = await self.throughput(port)
        print(f"\nechoed through the tunnel {tunnelled:.1f} Mbit/s, by plain UDP {plain:.1f} Mbit/s, arrived {share:.0%}")  # noqa: T201
        self.assertGreater(tunnelled, 0.5)
        self.assertGreater(share, 0.5)

    @asynchronous
    async def test_handshakesAreCounted(self) -> None:
        started = await self.agent()
        await self.begin(started["port"])
        dialler = AgentDialler(cast(IReactor, reactor), self.dialect.store.agents["nas"].settings, edgeCredentials())
        assert isinstance(dialler.datagrams, DTLSClientEndpoint)
        began = reactor.seconds()
        done = 0
        while done < HANDSHAKES:
            connecting = [dialler.datagrams.connect(CollectorFactory()) for _ in range(20)]
            ends: Any = await gatherResults(connecting, consumeErrors=True)
            for end in ends:
                end.transport.loseConnection()
            done += len(ends)
        seconds = reactor.seconds() - began
        await deferLater(reactor, 0.05)
        print(f"\n{done / seconds:.0f} DTLS handshakes a second with a Go agent, both ends on this machine")  # noqa: T201
        self.assertGreater(done / seconds, 5)
