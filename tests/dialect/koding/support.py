"""
A client of koding/tunnel that does what a test says, on an edge in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.promises.streams import HalfCollect
from tests.wire.vectors_koding import ANSWER, HOST, IDENTIFIER
from tunnelstack.dialect.koding.edge import KodingEdge
from tunnelstack.dialect.koding.host_store import digestOf
from tunnelstack.dialect.koding.settings import EdgeSettings, HostSettings, PortSettings
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.testing import Caller, EdgeAndAgent
from tunnelstack.wire.records.koding import (
    HANDSHAKE_REQUEST,
    HANDSHAKE_RESPONSE,
    ControlMessage,
    ControlReader,
    encode_connect,
)


def host(name: str = HOST, identifier: str = IDENTIFIER) -> HostSettings:
    """
    A virtual host.
    """
    return HostSettings(host=name, identifierSha256=digestOf(identifier.encode()))


def edgeTables(
    *hosts: HostSettings, ports: Iterable[PortSettings] = (), openSeconds: float = 10.0
) -> dict[str, dict[str, tuple[Any, ...]]]:
    """
    The tables of an edge.
    """
    return {"koding": {
        "koding": (EdgeSettings(openSeconds=openSeconds),), "koding.host": hosts or (host(),), "koding.port": tuple(ports),
    }}


class Control(Protocol):
    """
    A client's control stream.

    @ivar messages: what the server has asked for.
    """

    transport: Any

    def __init__(self, asked: Callable[[ControlMessage], object], handshake: bytes) -> None:
        self._asked = asked
        self._handshake = handshake
        self._reader = ControlReader()
        self.answer = b""
        self.messages: list[ControlMessage] = []
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        if self._handshake:
            self.transport.writeRecord(self._handshake)

    def dataReceived(self, data: bytes) -> None:
        size = len(HANDSHAKE_RESPONSE) - len(self.answer)
        self.answer += data[:size]
        for message in self._reader.receive_data(data[size:]):
            self.messages.append(message)
            self._asked(message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Client(Caller):
    """
    A connection that becomes a session.

    @ivar session: the yamux session, once the server has answered.
    @ivar streams: those that were opened for announcements, in order.
    @ivar skip: announcements that are answered with no stream.
    """

    def __init__(self, both: EdgeAndAgent, identifier: str = IDENTIFIER, handshake: bytes = HANDSHAKE_REQUEST) -> None:
        super().__init__()
        self.both = both
        self.streams: list[HalfCollect] = []
        self.skip = 0
        self.held: list[ControlMessage] | None = None
        self.control = Control(self._asked, handshake)
        self.session: Any = None
        both.network.join(self, both.network.ports[both.PORT].factory, IPv4Address("TCP", "127.0.0.1", both.PORT))
        self.transport.write(encode_connect(f"127.0.0.1:{both.PORT}", identifier))
        both.settle()

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self.got == ANSWER:
            self.session = session = YamuxSession(True, clock=self.both.network)
            self.transport.protocol = session
            session.makeConnection(self.transport)
            self.open(lambda: self.control)

    def open(self, build: Callable[[], Any]) -> Any:
        """
        Open a stream.
        """
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda address: build()  # type: ignore[method-assign]
        opened: list[Any] = []
        self.session.connector.connect(factory).addCallback(opened.append)
        return opened[0]

    def _asked(self, message: ControlMessage) -> None:
        if self.held is not None:
            self.held.append(message)
        elif self.skip:
            self.skip -= 1
        else:
            self.answer()

    def answer(self) -> HalfCollect:
        """
        Open the stream that was announced.
        """
        stream: HalfCollect = self.open(HalfCollect)
        self.streams.append(stream)
        return stream

    @property
    def messages(self) -> list[ControlMessage]:
        return self.control.messages

    @property
    def gone(self) -> bool:
        """
        The session is lost.
        """
        return self.session is None or self.session.lostReason() is not None


class KodingEdgeCase(SynchronousTestCase):
    """
    An edge with this dialect.
    """

    def begin(self, *hosts: HostSettings, cut: int | None = None, **tables: Any) -> EdgeAndAgent:
        settings = {"domain": "edge.test", "dialects": edgeTables(*hosts, **tables)}
        self.both = both = EdgeAndAgent(edge=settings, cut=cut)
        both.edge.startService()
        both.settle()
        self.addCleanup(self.end)
        return both

    def end(self) -> None:
        if self.both.edge.running:
            stopped: Any = self.both.edge.stopService()
            self.both.network.passTime(40)
            self.successResultOf(stopped)

    @property
    def dialect(self) -> KodingEdge:
        (found,) = (each for each in self.both.edge.dialects if isinstance(each, KodingEdge))
        return found

    def connect(self, identifier: str = IDENTIFIER) -> Client:
        client = Client(self.both, identifier)
        self.assertEqual(client.control.answer, HANDSHAKE_RESPONSE)
        return client

    def visit(self, octets: bytes, port: int = EdgeAndAgent.PORT) -> Caller:
        return self.both.visit(octets, port)

    def get(self, name: str = HOST, path: str = "/") -> Caller:
        return self.visit(f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())

    def respond(self, stream: HalfCollect, octets: bytes) -> None:
        stream.transport.write(octets)  # type: ignore[union-attr]
        self.both.settle()
