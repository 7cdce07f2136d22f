"""
Our edge with an agent in Go that was written from the page on the native dialect, on genuine yamux and WebSocket modules.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.wire import Echo
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.peers._go import GoError, GoPeer
from tests.peers._ours import pause
from tunnelstack.agent.service import AgentService
from tunnelstack.control.auth.tokens import newToken
from tunnelstack.control.config.records import AgentConfig, EdgeAddress, EdgeConfig, TokenRecord
from tunnelstack.edge.service import EdgeService
from tunnelstack.records import Service

BULK = 8 * 1024 * 1024


class Page(Protocol):
    """
    Answers each request with its path.
    """

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        path = data.split(b" ")[1]
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))


class Visitor(Protocol):
    """
    Collects what it hears, until the end.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.ended = False

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True


class NativeWithGo(TestCase):
    """
    A stranger's agent.
    """

    timeout = 120

    @inlineCallbacks
    def setUp(self) -> Any:
        self.go = GoPeer.start(self, "native")
        new = newToken()
        self.token = new.token
        record = TokenRecord(
            name="gopher", tokenSha256=new.tokenSha256, allow=("http:*", "tcp:*", "stream:*", "dial:*"), id=new.id
        )
        config = EdgeConfig(
            listen=("tcp:0:interface=127.0.0.1",), tokens=(record,), portsInterface="127.0.0.1", drainSeconds=1.0,
        )
        self.edge = EdgeService(reactor, config)
        ready = self.edge.whenReady()
        self.edge.startService()
        yield ready
        self.addCleanup(self.edge.stopService)
        self.url = f"http://127.0.0.1:{self.edge.addresses[0].port}"

    def connect(self) -> Any:
        return self.go.call("connect", edge=self.url, token=self.token, instance="one")

    @inlineCallbacks
    def local(self, protocol: type[Protocol]) -> Any:
        factory = Factory.forProtocol(protocol)
        factory.noisy = False
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        yield None
        return f"127.0.0.1:{port.getHost().port}"

    @inlineCallbacks
    def visit(self, octets: bytes, port: int, enough: Any) -> Any:
        visitor = yield connectProtocol(HostnameEndpoint(reactor, b"127.0.0.1", port), Visitor())
        self.addCleanup(visitor.transport.abortConnection)
        visitor.transport.write(octets)
        while not enough(visitor):
            yield pause(0.01)
        return visitor

    @inlineCallbacks
    def test_nativeAgentOfGoShowsPages(self) -> Any:
        welcome = (yield self.connect())["welcome"]
        self.assertEqual(welcome["agent"], "gopher")
        target = yield self.local(Page)
        service = {"name": "site", "kind": "http"}
        grant = (yield self.go.call("announce", service=service, target=target))["grant"]
        self.assertEqual(grant["host"], "site.localhost")
        port = self.edge.addresses[0].port
        for path in (b"/one", b"/two"):
            request = b"GET %b HTTP/1.1\r\nHost: site.localhost\r\nConnection: close\r\n\r\n" % path
            visitor = yield self.visit(request, port, lambda visitor: visitor.ended)
            self.assertTrue(visitor.got.endswith(b"\r\n\r\n" + path), visitor.got)
        yield self.go.call("withdraw", service=service)
        request = b"GET / HTTP/1.1\r\nHost: site.localhost\r\nConnection: close\r\n\r\n"
        visitor = yield self.visit(request, port, lambda visitor: visitor.ended)
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 503 "), visitor.got)

    @inlineCallbacks
    def test_nativeAgentOfGoServesAPort(self) -> Any:
        yield self.connect()
        target = yield self.local(Echo)
        grant = (yield self.go.call("announce", service={"name": "raw", "kind": "tcp"}, target=target))["grant"]
        octets = bytes(range(256)) * (BULK // 256)
        visitor = yield self.visit(octets, grant["port"], lambda visitor: len(visitor.got) >= BULK)
        self.assertEqual(visitor.got, octets)

    @inlineCallbacks
    def test_nativeAgentOfGoDialsAnotherAgent(self) -> Any:
        yield self.connect()
        agent = AgentService(
            reactor, AgentConfig(edges=(EdgeAddress(url=self.url, token=self.token),), drainSeconds=1.0), plugins=False
        )
        echoes = Factory.forProtocol(Echo)
        echoes.noisy = False
        publication = agent.publish(Service(name="echo", kind="stream"), echoes)
        agent.startService()
        self.addCleanup(agent.stopService)
        yield publication.whenGranted()
        answer = yield self.go.call("dial", to="echo", data=b"hello" * 1000)
        self.assertEqual(answer["data"], b"hello" * 1000)
        refused = yield self.assertFailure(self.go.call("dial", to="nobody", data=b""), GoError)
        self.assertIn("no service nobody can be dialled at this edge", str(refused))

    @inlineCallbacks
    def test_nativeAgentOfGoIsRefusedWithAReason(self) -> Any:
        refused = yield self.assertFailure(self.go.call("connect", edge=self.url, token="ts_wrong"), GoError)
        self.assertIn("401", str(refused))
        yield self.connect()
        denied = yield self.assertFailure(self.go.call("announce", service={"name": "NOT A NAME", "kind": "http"}), GoError)
        self.assertIn("malformed", str(denied))
        denied = yield self.assertFailure(self.go.call("announce", service={"name": "x", "kind": "smtp"}), GoError)
        self.assertIn("unsupported", str(denied))

    @inlineCallbacks
    def test_nativeAgentOfGoDrainsAndGoes(self) -> Any:
        yield self.connect()
        yield self.go.call("announce", service={"name": "site", "kind": "http"}, target="127.0.0.1:1")
        self.assertEqual(len(self.edge.registry), 1)
        yield self.go.call("drain")
        self.assertIsNone(self.edge.registry.pick("site"))
        yield self.go.call("close")
        while len(self.edge.registry):
            yield pause(0.01)

    @inlineCallbacks
    def test_nativeAgentOfGoHearsThatTheEdgeStops(self) -> Any:
        yield self.connect()
        heard = self.go.call("event")
        yield pause(0.05)
        yield self.edge.stopService()
        self.assertEqual((yield heard)["event"]["event"], "drain")
