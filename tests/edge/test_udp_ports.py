"""
UDP services on a whole edge and agent, over real sockets.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.changed_settings import changes
from tests.ports import freePort
from tests.transport.test_dtls import asynchronous
from tunnelstack.agent.service import AgentService
from tunnelstack.control.auth.tokens import newToken
from tunnelstack.control.config.records import (
    AgentConfig,
    EdgeAddress,
    EdgeConfig,
    Limits,
    ServiceConfig,
    TokenRecord,
)
from tunnelstack.edge.service import EdgeService
from tunnelstack.errors import Denied
from tunnelstack.records import Service

reactor: Any = installed


class EchoPort(DatagramProtocol):
    """
    A local server: sends each datagram back, but for one.
    """

    noisy = False

    def __init__(self) -> None:
        self.peers: set[tuple[str, int]] = set()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.peers.add(addr)
        if datagram != b"silence":
            self.transport.write(datagram, addr)    # type: ignore[union-attr]


class Client(DatagramProtocol):
    """
    A visitor.
    """

    noisy = False

    def __init__(self, port: int) -> None:
        self.received: list[bytes] = []
        self._port = port
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def send(self, datagram: bytes) -> None:
        self.transport.write(datagram, ("127.0.0.1", self._port))    # type: ignore[union-attr]

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.received.append(datagram)
        for pair in [pair for pair in self._waiting if len(self.received) >= pair[0]]:
            self._waiting.remove(pair)
            pair[1].callback(None)

    def whenReceived(self, number: int) -> Deferred[None]:
        fires: Deferred[None] = Deferred()
        if len(self.received) >= number:
            fires.callback(None)
        else:
            self._waiting.append((number, fires))
        return fires


class UDPTests(TestCase):
    """
    An edge, an agent with a UDP service, a local server and visitors.
    """

    timeout = 60

    async def begin(self, allow: tuple[str, ...] = ("udp:*",), **limits: Any) -> None:
        self.server = EchoPort()
        local = reactor.listenUDP(0, self.server, "127.0.0.1", maxPacketSize=65536)
        self.addCleanup(local.stopListening)
        new = newToken()
        record = TokenRecord(name="laptop", tokenSha256=new.tokenSha256, allow=allow, id=new.id)
        self.edge = EdgeService(reactor, EdgeConfig(
            listen=("tcp:0:interface=127.0.0.1",), portsInterface="127.0.0.1", tokens=(record,), drainSeconds=0,
            limits=Limits(**limits),
        ))  # fmt: skip
        ready = self.edge.whenReady()
        self.edge.startService()
        self.addCleanup(self.edge.stopService)
        await ready
        url = f"http://127.0.0.1:{self.edge.addresses[0].port}"
        service = ServiceConfig(name="dns", kind="udp", target=f"127.0.0.1:{local.getHost().port}")
        self.agent = AgentService(
            reactor, AgentConfig(edges=(EdgeAddress(url=url, token=new.token),), services=(service,), drainSeconds=0),
            plugins=False,
        )
        self.agent.startService()
        self.addCleanup(self.agent.stopService)
        self.publication = self.agent.publications[0]

    async def granted(self, **limits: Any) -> int:
        """
        @return: the public port.
        """
        await self.begin(**limits)
        grant = await self.publication.whenGranted()
        port: int = grant.port
        return port

    def client(self, port: int) -> Client:
        client = Client(port)
        listening = reactor.listenUDP(0, client, "127.0.0.1", maxPacketSize=65536)
        self.addCleanup(listening.stopListening)
        return client

    @asynchronous
    async def test_datagramsArriveAndAreAnswered(self) -> None:
        client = self.client(await self.granted())
        sent = [b"x" * size for size in (1, 0, 512, 1200, 9000, 60_000)]
        for number, datagram in enumerate(sent, 1):
            client.send(datagram)
            await client.whenReceived(number)
        self.assertEqual(client.received, sent)
        self.assertEqual(self.edge.agents.udpPorts.flows, 1)

    @asynchronous
    async def test_eachVisitorHasASocketOfItsOwn(self) -> None:
        port = await self.granted()
        clients = [self.client(port) for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(str(number).encode())
        for number, client in enumerate(clients):
            await client.whenReceived(1)
            self.assertEqual(client.received, [str(number).encode()])
        self.assertEqual(len(self.server.peers), 20)

    @changes("edge [limits] udp_idle_seconds")
    @asynchronous
    async def test_anIdleFlowIsClosedAndTheNextDatagramOpensAnother(self) -> None:
        client = self.client(await self.granted(udpIdleSeconds=1.0))
        client.send(b"one")
        await client.whenReceived(1)
        await self.closed()
        client.send(b"two")
        await client.whenReceived(2)
        self.assertEqual(len(self.server.peers), 2)

    async def closed(self) -> None:
        """
        Wait until no flow is left, at the edge and at the agent.
        """
        for _ in range(200):
            if not self.edge.agents.udpPorts.flows and not self.agent.streams:
                return
            await deferLater(reactor, 0.02)
        self.fail(f"{self.edge.agents.udpPorts.flows} flows, {self.agent.streams} streams")

    @changes("edge [limits] udp_flows")
    @asynchronous
    async def test_beyondTheBoundDatagramsAreDropped(self) -> None:
        port = await self.granted(udpFlows=2)
        clients = [self.client(port) for _ in range(3)]
        for client in clients[:2]:
            client.send(b"x")
            await client.whenReceived(1)
        clients[2].send(b"y")
        clients[0].send(b"z")
        await clients[0].whenReceived(2)
        self.assertEqual((clients[2].received, self.edge.agents.udpPorts.dropped), ([], 1))

    @asynchronous
    async def test_withoutItsAgentNothingIsSentAndThePortIsClosed(self) -> None:
        port = await self.granted()
        client = self.client(port)
        client.send(b"one")
        await client.whenReceived(1)
        await self.agent.stopService()
        await self.closed()
        self.assertEqual(self.edge.agents.portOf("udp", "dns"), 0)

    @asynchronous
    async def test_theTokenMustAllowThePort(self) -> None:
        await self.begin(("tcp:*", "http:*"))
        granted = self.publication.whenGranted()
        with self.assertRaises(Denied) as raised:
            await granted
        self.assertEqual(raised.exception.code, "not-allowed")
        self.assertIn("udp:PORTS", raised.exception.sentence)

    @asynchronous
    async def test_onlyGrantedPortsAreOpened(self) -> None:
        free = freePort()
        await self.begin((f"udp:{free}",))
        self.assertEqual((await self.publication.whenGranted()).port, free)
        other = self.agent.publish(Service(name="other", kind="udp", port=free + 1), self.publication.handler)
        with self.assertRaises(Denied):
            await other.whenGranted()

    @asynchronous
    async def test_datagramsBeyondTheAgentsLimitAreDropped(self) -> None:
        port = await self.granted(agentOctetsPerSecond=1000)
        client = self.client(port)
        for _ in range(20):
            client.send(bytes(9000))
            await deferLater(reactor, 0)
        await client.whenReceived(1)
        await deferLater(reactor, 0.1)
        self.assertGreater(self.edge.agents.udpPorts.dropped, 5)
        self.assertLess(len(client.received), 10)

    @asynchronous
    async def test_limitsApplyFromAReloadOn(self) -> None:
        port = await self.granted()
        self.edge.reload(evolve(self.edge.config, limits=Limits(udpFlows=1, udpIdleSeconds=5)))
        ports = self.edge.agents.udpPorts
        self.assertEqual((ports.maxFlows, ports.idleSeconds), (1, 5))
        first, second = self.client(port), self.client(port)
        first.send(b"x")
        await first.whenReceived(1)
        second.send(b"y")
        first.send(b"z")
        await first.whenReceived(2)
        self.assertEqual(second.received, [])

    @asynchronous
    async def test_aServerThatIsNotThereCostsItsFlow(self) -> None:
        await self.begin()
        nobody = freePort()
        config = self.agent.config
        self.agent.reload(evolve(config, services=(evolve(config.services[0], target=f"127.0.0.1:{nobody}"),)))
        port = (await self.agent.publications[0].whenGranted()).port
        client = self.client(port)
        client.send(b"x")
        await deferLater(reactor, 0.1)
        await self.closed()
