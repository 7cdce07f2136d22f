"""
An agent of GoDoxy that does what a test says, for an edge in virtual time.  TLS is real; DTLS is replaced by what a test
connects.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.transport.certificates import CLIENT, SERVER, authority, general
from tunnelstack.control.config.records import EdgeConfig
from tunnelstack.dialect.godoxy.certificates import Credentials
from tunnelstack.dialect.godoxy.edge import GodoxyEdge
from tunnelstack.dialect.godoxy.edge_agent import DialledAgent
from tunnelstack.dialect.godoxy.edge_dialler import AgentDialler
from tunnelstack.dialect.godoxy.edge_settings import DialledAgentSettings, EdgeSettings, ServiceSettings
from tunnelstack.dialect.godoxy.edge_store import AgentStore
from tunnelstack.edge.service import EdgeService
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.exchange.whole_message import JSON, WholeMessageServer, WholeRequest, WholeResponse
from tunnelstack.interfaces import IDatagramClientEndpoint, IDatagramFactory, IDatagramTransport, IReactor
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.testing import Caller, Network
from tunnelstack.transport.tls import ALPNFactory, TLSIdentity, serverContext
from tunnelstack.wire.records.godoxy import (
    ALPN,
    HEADER_OCTETS,
    PROBE,
    SERVER_NAME,
    decode_header_untrusted,
    encode_header,
)

HTTP = b"http/1.1"
AGENT = IPv4Address("UDP", "127.0.0.1", 8890)
PROBE_HEADER = encode_header(PROBE)


def serverIdentity(name: str = SERVER_NAME, **parameters: Any) -> TLSIdentity:
    return authority().issue([general(name)], **{"purposes": [SERVER], **parameters})


def credentials() -> Credentials:
    """
    Those of the edge.
    """
    identity = authority().issue([general(SERVER_NAME)], subject="client", purposes=[CLIENT])
    return Credentials((authority().certificate,), identity)


@implementer(IHalfCloseableProtocol)
class StreamEnd(Protocol):
    """
    The agent's end of a stream.  As with a genuine agent, the end of the edge's direction has no effect.

    @ivar got: what arrived after the header.
    """

    transport: Any

    def __init__(self, agent: AgentDouble) -> None:
        self.agent = agent
        self.header: Any = None
        self.got = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if self.header is None and len(self.got) >= HEADER_OCTETS:
            self.header = decode_header_untrusted(self.got[:HEADER_OCTETS])
            self.got = self.got[HEADER_OCTETS:]
            if self.header.isProbe:
                self.agent.probes += 1
                if self.agent.closesProbes:
                    self.transport.loseConnection()
            else:
                self.agent.streams.append(self)

    def readConnectionLost(self) -> None:
        pass

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class AgentDouble:
    """
    An agent on a L{Network}.

    @ivar requests: what came to its API, as target and fields.
    @ivar answers: what it answers at each path; a function of the request, or a response.
    @ivar streams: the streams that were opened, without probes.
    @ivar probes: how many probes came.
    """

    def __init__(
        self, network: Network, port: int = 8890, *, identity: TLSIdentity | None = None,
        alpn: tuple[bytes, ...] = (HTTP, ALPN), version: str = "v0.31.0",
    ) -> None:  # fmt: skip
        self.network = network
        self.requests: list[WholeRequest] = []
        self.streams: list[StreamEnd] = []
        self.probes = 0
        self.closesProbes = True
        self.answers: dict[str, WholeResponse | Callable[[WholeRequest], Any]] = {
            "/info": WholeResponse(200, json.dumps({"version": version, "name": "box", "runtime": "docker"}).encode(), JSON),
            "/health": WholeResponse(200, b'{"healthy":true,"detail":"","latency":1}', JSON),
        }
        server = WholeMessageServer(self.respond, clock=network, bodyOctets=1 << 20)
        web = Factory.forProtocol(lambda: HTTPServerProtocol(server, clock=network))
        streams = Factory.forProtocol(lambda: StreamEnd(self))
        web.noisy = streams.noisy = False
        factory = ALPNFactory({ALPN: streams, HTTP: web, None: web}, network)
        self.context = serverContext(
            identity or serverIdentity(), alpn=list(alpn), clientCA=[authority().certificate], clientAuth="require"
        )
        self.listening = network.listenTCP(port, factory.wrap(self.context, halfClose=True))

    def respond(self, request: WholeRequest) -> Any:
        self.requests.append(request)
        path = request.path.decode().removeprefix("/godoxy/agent")
        if path.startswith("/proxy/http"):
            path = "/proxy/http"
        answer = self.answers.get(path, WholeResponse(404, b"404 page not found\n"))
        return answer(request) if callable(answer) else answer

    def asked(self, path: str) -> list[WholeRequest]:
        return [each for each in self.requests if each.path.decode().startswith("/godoxy/agent" + path)]

    def stop(self) -> None:
        """
        Listen no more, and break all connections.
        """
        self.listening.stopListening()
        for wire in list(self.network.wires):
            for end in (wire.near, wire.far):
                if end.getHost().port == 8890 or end.getPeer().port == 8890:
                    end.abortConnection()
        self.network.settle()

    def resume(self) -> None:
        self.listening.startListening()


@implementer(IDatagramTransport)
class Session:
    """
    A DTLS session, as the edge writes to it.
    """

    longest = 16384

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.sent: list[bytes] = []
        self.dropped = 0
        self.closed = False

    def write(self, datagram: bytes) -> None:
        self.sent.append(datagram)

    def loseConnection(self) -> None:
        if not self.closed:
            self.end()

    abortConnection = loseConnection

    def end(self, reason: Exception | None = None) -> None:
        """
        The agent closes the session.
        """
        self.closed = True
        self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    def getHost(self) -> Any:
        return IPv4Address("UDP", "127.0.0.1", 40000)

    def getPeer(self) -> Any:
        return AGENT


@implementer(IDatagramClientEndpoint)
class Sessions:
    """
    Connects DTLS sessions at once; the agent closes probes.

    @ivar failure: why none can be connected.
    @ivar opened: those of flows.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.opened: list[Session] = []
        self.probes = 0
        self.hanging = False
        self.cancelled = 0
        self.connecting: list[Deferred[Any]] = []

    def connect(self, factory: IDatagramFactory) -> Deferred[Any]:
        if self.hanging:
            self.connecting.append(Deferred(self._cancelled))
            return self.connecting[-1]
        if self.failure is not None:
            return fail(self.failure)
        protocol = factory.buildProtocol(AGENT)
        assert protocol is not None
        session = Session(protocol)
        protocol.makeConnection(session)
        if session.sent[0] == PROBE_HEADER:
            self.probes += 1
            session.end()
        else:
            self.opened.append(session)
        return succeed(protocol)

    def _cancelled(self, connecting: Deferred[Any]) -> None:
        self.cancelled += 1


class UDPNetwork(Network):
    """
    A L{Network} with UDP ports, whose datagrams a test delivers itself.

    @ivar udp: the protocols of the ports, by number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.udp: dict[int, Any] = {}

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> Any:
        number = port or self._another()
        listening = _UDPPort(self, number, protocol)
        self.udp[number] = protocol
        protocol.makeConnection(listening)
        return listening


class _UDPPort:
    def __init__(self, network: UDPNetwork, number: int, protocol: Any) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self._network = network
        self._number = number
        self._protocol = protocol

    def write(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.sent.append((datagram, addr))

    def getHost(self) -> Any:
        return IPv4Address("UDP", "127.0.0.1", self._number)

    def stopListening(self) -> Deferred[None]:
        if self._network.udp.pop(self._number, None) is not None:
            self._protocol.doStop()
        return succeed(None)


class GodoxyEdgeCase(SynchronousTestCase):
    """
    An edge that dials.

    @ivar sessions: the DTLS of each agent, by its name.
    """

    def setUp(self) -> None:
        self.network = UDPNetwork()
        self.sessions: dict[str, Sessions] = {}
        self.own = credentials()
        self.state = StateDirectory(Path(self.mktemp()))
        self.archive = self.mktemp()
        self.patchCredentials()

    def patchCredentials(self) -> None:
        """
        Archives are not read: every agent has the same certificates.
        """
        import tunnelstack.dialect.godoxy.edge_store as store

        self.patch(store, "credentialsOf", lambda agent, archives: self.own)

    def tables(
        self, *services: ServiceSettings, agents: tuple[str, ...] = ("nas",), archive: str = "x.zip", **timing: Any
    ) -> dict[str, tuple[Any, ...]]:
        return {
            "godoxy": (EdgeSettings(**timing),),
            "godoxy.agent": tuple(
                DialledAgentSettings(name=name, address=f"127.0.0.1:{8890 + number}", archive=archive)
                for number, name in enumerate(agents)
            ),
            "godoxy.service": services,
        }

    def begin(self, *services: ServiceSettings, **options: Any) -> None:
        """
        Start an edge with these services of the agent C{nas}.
        """
        self.dialect = GodoxyEdge(AgentStore(self.state, self.tables(*services, **options)), self.dialler, lambda: 0.5)
        config = EdgeConfig(listen=("tcp:8080",), domain="edge.test", drainSeconds=5.0)
        self.edge = EdgeService(cast(IReactor, self.network), config, dialects=[self.dialect])
        self.edge.startService()
        self.network.settle()
        self.addCleanup(self.end)

    def dialler(self, settings: DialledAgentSettings, own: Credentials) -> AgentDialler:
        made = AgentDialler(cast(IReactor, self.network), settings, own)
        made.datagrams = self.sessions.setdefault(settings.name, Sessions())
        return made

    def end(self) -> None:
        if not self.edge.running:
            return
        stopped = self.edge.stopService()
        for _ in range(60):
            if stopped.called:
                break
            self.network.passTime(1)
        self.successResultOf(stopped)
        self.network.passTime(400, 50)                    # until the doubles have closed their connections
        self.assertEqual(self.network.getDelayedCalls(), [])

    def agent(self, name: str = "nas") -> DialledAgent:
        return self.dialect.agents.agents[name]

    def report(self, name: str = "nas") -> Any:
        return self.agent(name).report()

    def service(self, name: str) -> Any:
        (found,) = [each for each in self.report()["services"] if each["name"] == name]
        return found

    def visit(self, octets: bytes = b"", port: int = 8080) -> Caller:
        caller = Caller()
        self.network.join(caller, self.network.ports[port].factory, IPv4Address("TCP", "127.0.0.1", port))
        caller.transport.write(octets)
        self.network.settle()
        return caller

    def get(self, host: str, path: str = "/", fields: str = "") -> bytes:
        return self.visit(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n".encode()).got


def web(**settings: Any) -> ServiceSettings:
    return ServiceSettings(**{"name": "wiki", "agent": "nas", "kind": "http", "target": "127.0.0.1:3000", **settings})


def tcp(**settings: Any) -> ServiceSettings:
    return ServiceSettings(
        **{"name": "game", "agent": "nas", "kind": "tcp", "target": "192.168.1.5:25565", "port": 25565, **settings}
    )


def udp(**settings: Any) -> ServiceSettings:
    return ServiceSettings(**{"name": "names", "agent": "nas", "kind": "udp", "target": "[::1]:53", "port": 5353, **settings})
