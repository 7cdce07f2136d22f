"""
An edge and an agent over a WebSocket in memory, and peers whose every frame a test chooses.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.exchange.doubles import Recorder, Server, Wires
from tests.transport.test_websocket import OverWire
from tunnelstack.dialect.http_entry import OneProtocol
from tunnelstack.dialect.jetty.registration import Acceptance, Registration, RegistrationRefused, Upstream
from tunnelstack.dialect.jetty.websocket_agents import Arrival, WebSocketAgents
from tunnelstack.dialect.jetty.websocket_channel import LIMITS
from tunnelstack.dialect.jetty.websocket_link import WebSocketLink, connectWebSocket
from tunnelstack.dialect.jetty.websocket_tunnel import TunnelSettings, WebSocketTunnel
from tunnelstack.exchange.bounds import DEFAULT_BOUNDS, ExchangeBounds
from tunnelstack.records import HTTPPurpose, Principal
from tunnelstack.testing import Wire
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.server import WebSocketServerFactory
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.records.jetty import CAPABILITIES, SUBPROTOCOL, VERIFY_REJECTED

URL = "ws://demo.example/agent"
PRINCIPAL = Principal(agent="demo", allow=("http:demo", "tcp:20000-20010", "udp:20000-20010"), share=True, realm="jetty")
ACCEPTANCE = Acceptance(
    tunnelId="t1", subdomain="demo", publicURL="https://demo.tunnels.example", edgeId="edge-a", sessionId="5e55" * 8,
    protocol="http", principal=PRINCIPAL, instance="i-1",
)
REGISTRATION = Registration(
    tunnelId="t1", agentToken="k1", transport="websocket", capabilities=CAPABILITIES, agentVersion="test/1", instance="i-1",
)
SERVICE = HTTPPurpose("demo")
HOST = (b"Host", b"demo.tunnels.example")


class Registrar:
    """
    Accepts the token C{"k1"}.

    @ivar verifying: held verifications, if it is a list.
    """

    def __init__(self, acceptance: Acceptance = ACCEPTANCE) -> None:
        self.acceptance = acceptance
        self.asked: list[Registration] = []
        self.tunnels: list[WebSocketTunnel] = []
        self.verifying: list[Deferred[Acceptance]] | None = None
        self.arriving: list[Deferred[object]] | None = None
        self.refusal: Exception | None = None

    def verify(self, registration: Registration) -> Deferred[Acceptance]:
        self.asked.append(registration)
        if self.verifying is not None:
            self.verifying.append(Deferred())
            return self.verifying[-1]
        if registration.agentToken != "k1":
            return fail(RegistrationRefused(VERIFY_REJECTED))
        return succeed(self.acceptance)

    def arrived(self, tunnel: Any, acceptance: Acceptance) -> Deferred[object]:
        self.tunnels.append(tunnel)
        if self.refusal is not None:
            return fail(self.refusal)
        if self.arriving is not None:
            self.arriving.append(Deferred())
            return self.arriving[-1]
        return succeed(None)


class FakeEdge:
    def __init__(self, clock: Clock, bounds: ExchangeBounds) -> None:
        self.clock = clock
        self.bounds = bounds
        self.stopping = False


@frozen
class Host:
    clock: Any


class UDPPort:
    """
    A UDP port of a L{UDPClock}.
    """

    def __init__(self, clock: UDPClock, protocol: Any) -> None:
        self.clock = clock
        self.protocol = protocol
        self.sent: list[bytes] = []
        self.peer: Any = None
        self.closed = False

    def connect(self, host: str, port: int) -> None:
        self.peer = host, port

    def write(self, datagram: bytes, address: Any = None) -> None:
        self.sent.append(datagram)

    def stopListening(self) -> None:
        self.closed = True

    def getHost(self) -> Any:
        return None

    def answer(self, datagram: bytes) -> None:
        self.protocol.datagramReceived(datagram, self.peer)


class UDPClock(Clock):
    """
    Virtual time, and UDP ports, for addresses only.
    """

    nameResolver = None

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[UDPPort] = []

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> UDPPort:
        opened = UDPPort(self, protocol)
        self.ports.append(opened)
        protocol.transport = opened
        protocol.startProtocol()
        return opened


class Door:
    """
    The door of an edge, and wires to it.

    @ivar ids: the identifiers of the next requests, before others.
    """

    def __init__(
        self, *, cut: int | None = None, acceptance: Acceptance = ACCEPTANCE, bounds: ExchangeBounds = DEFAULT_BOUNDS
    ) -> None:
        self.clock = UDPClock()
        self.cut = cut
        self.edge = FakeEdge(self.clock, bounds)
        self.registrar = Registrar(acceptance)
        self.ids: list[str] = []
        self._numbers = count(1)
        tunnels = TunnelSettings(
            clock=self.clock, bounds=lambda: self.edge.bounds, stopping=lambda: self.edge.stopping, identifier=self._identifier
        )
        self.agents = WebSocketAgents(self.edge, self.registrar, tunnels)  # type: ignore[arg-type]
        self.wires: list[Wire] = []

    def _identifier(self) -> str:
        return self.ids.pop(0) if self.ids else f"r{next(self._numbers)}"

    def endpoint(self) -> OverWire:
        """
        Reaches the door once.
        """
        wire = Wire(self.clock, self.cut)
        self.wires.append(wire)
        arrival = Arrival(self.agents, wire.far.getPeer())
        server = WebSocketServerFactory(
            OneProtocol(arrival.channel), "/agent", clock=self.clock, subprotocols=(SUBPROTOCOL,), limits=LIMITS, records=True,
        )
        return OverWire(wire, server.buildProtocol(None))

    @property
    def tunnel(self) -> WebSocketTunnel:
        return self.registrar.tunnels[-1]

    def settle(self) -> None:
        moved = True
        while moved:
            moved = False
            for wire in list(self.wires):
                while wire.turn():
                    moved = True

    def passTime(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.clock.advance(1)
            self.settle()

    def open(self, receiver: Any, purpose: HTTPPurpose = SERVICE) -> Any:
        return self.tunnel.exchange(purpose, receiver)

    def ask(self, method: bytes = b"GET", target: bytes = b"/", *fields: tuple[bytes, bytes], body: bytes = b"") -> Asked:
        """
        A visitor's request.
        """
        receiver = Recorder()
        exchange = self.open(receiver)
        length = [(b"Content-Length", b"%d" % len(body))] if body else []
        exchange.sendHead(RequestHead(method, target, [HOST, *fields, *length]))
        if body:
            exchange.write(body)
        exchange.end()
        self.settle()
        return Asked(exchange, receiver)


@frozen
class Asked:
    exchange: Any
    receiver: Recorder

    @property
    def status(self) -> int:
        return int(self.receiver.heads[0].status)

    @property
    def kind(self) -> Any:
        assert self.receiver.failure is not None
        return self.receiver.failure.kind


class Both(Door):
    """
    An edge and an agent of ours.

    @ivar server: serves the requests.
    @ivar link: the agent's.
    """

    def __init__(
        self, *, registration: Registration = REGISTRATION, udp: tuple[str, int] | None = None,
        tcp: Callable[[], Any] | None = None, **door: Any,
    ) -> None:
        super().__init__(**door)
        self.server = Server()
        self.local = None if tcp is None else Wires(self.clock, tcp)
        self.upstream = Upstream(serverFor=lambda where: self.server, tcp=self.local, udp=udp)
        self.link: WebSocketLink
        connectWebSocket(Host(self.clock), URL, self.endpoint(), registration, self.upstream).addCallback(  # type: ignore[arg-type]
            lambda link: setattr(self, "link", link)
        )
        self.settle()

    def settle(self) -> None:
        if getattr(self, "local", None) is None:
            super().settle()
            return
        moved = True
        while moved:
            super().settle()
            moved = sum(wire.turn() for wire in self.local.wires) > 0  # type: ignore[union-attr]


class Peer(Protocol):
    """
    The protocol of a WebSocket whose messages a test chooses.
    """

    transport: Any

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.lost: Failure | None = None

    def recordReceived(self, octets: bytes, text: bool) -> None:
        assert text
        self.messages.append(octets)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    def say(self, message: bytes | dict[str, Any], text: bool = True) -> None:
        octets = message if isinstance(message, bytes) else json.dumps(message, separators=(",", ":")).encode()
        self.transport.writeRecord(octets, text)

    def take(self) -> list[dict[str, Any]]:
        """
        The frames since the last call.
        """
        messages, self.messages = self.messages, []
        return [json.loads(each) for each in messages]

    @property
    def closeCode(self) -> int | None:
        """
        The code of the Close frame that the other side has sent.
        """
        return getattr(self.lost.value, "code", 1000) if self.lost is not None else None


class Stranger(Peer):
    """
    An agent whose frames a test chooses.
    """

    def __init__(self, door: Door, *, register: bool = True, capabilities: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.door = door
        websocket = WebSocketClientEndpoint(
            door.clock, URL, endpoint=door.endpoint(), limits=evolve(LIMITS, message=1 << 30), records=True  # type: ignore[arg-type]
        )
        websocket.connect(OneProtocol(self))
        door.settle()
        if register:
            more = {} if capabilities is None else {"protocol_version": 1, "capabilities": list(capabilities)}
            self.send({"type": "register", "tunnel_id": "t1", "agent_token": "k1", **more})
            self.registered = self.take()

    def send(self, *messages: bytes | dict[str, Any]) -> None:
        for message in messages:
            self.say(message)
        self.door.settle()


class StrangeEdge(Peer):
    """
    An edge whose frames a test chooses, with an agent of ours.

    @ivar link: the agent's, once it is registered; C{refused}, why it is not.
    """

    def __init__(
        self, *, registered: dict[str, Any] | None = None, registration: Registration = REGISTRATION, cut: int | None = None,
        tcp: Callable[[], Any] | None = None, udp: tuple[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.clock = UDPClock()
        self.wire = Wire(self.clock, cut)
        self.server = Server()
        self.local = None if tcp is None else Wires(self.clock, tcp)
        self.where: list[Any] = []
        self.upstream = Upstream(serverFor=self._serverFor, tcp=self.local, udp=udp)
        self.link: Any = None
        self.refused: Any = None
        factory = WebSocketServerFactory(
            OneProtocol(self), clock=self.clock, limits=evolve(LIMITS, message=1 << 30), records=True
        )
        endpoint = OverWire(self.wire, factory.buildProtocol(None))
        connecting = connectWebSocket(Host(self.clock), URL, endpoint, registration, self.upstream)  # type: ignore[arg-type]
        connecting.addCallbacks(lambda link: setattr(self, "link", link), lambda why: setattr(self, "refused", why.value))
        self.settle()
        self.register = self.messages[0]
        self.take()
        if registered is not None:
            self.send({"type": "registered", **registered})

    def _serverFor(self, where: Any) -> Server:
        self.where.append(where)
        return self.server

    def settle(self) -> None:
        wires = [self.wire, *(self.local.wires if self.local is not None else ())]
        while sum(wire.turn() for wire in wires):
            wires = [self.wire, *(self.local.wires if self.local is not None else ())]

    def send(self, *messages: bytes | dict[str, Any]) -> None:
        for message in messages:
            self.say(message)
        self.settle()

    def passTime(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.clock.advance(1)
            self.settle()


CAPABLE = {"capabilities": list(CAPABILITIES), "public_url": "https://demo.tunnels.example"}
"""The members of a C{registered} that agrees to everything."""


class QuietFactory(Factory):
    """
    Builds with a function, and logs nothing.
    """

    noisy = False

    def __init__(self, build: Callable[[], Any]) -> None:
        self.build = build

    def buildProtocol(self, address: Any) -> Any:
        return self.build()
