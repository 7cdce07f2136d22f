"""
agentserver in both roles with Go: genuine yamux v0.1.2 over genuine nhooyr.io/websocket v1.8.17 and github.com/coder/websocket
v1.8.14, in a program that was written from the description of the wire.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.peers._go import GoError, GoPeer
from tests.peers._ours import pause
from tests.promises.streams import Collect
from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.records import AgentConfig, EdgeConfig
from tunnelstack.dialect.agentserver import edge as edge_module
from tunnelstack.dialect.agentserver.edge import AgentserverEdge
from tunnelstack.dialect.agentserver.sandbox_store import SandboxStore
from tunnelstack.dialect.agentserver.settings import AgentSettings, EdgeSettings, SandboxSettings
from tunnelstack.edge.service import EdgeService
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.wire.http1.chunked import ChunkedDecoder
from tunnelstack.wire.http1.head import RequestHead, ResponseHead
from tunnelstack.wire.records.agentserver_terminal import HISTORY, encode_data, encode_resize
from tunnelstack.wire.terminal import (
    TerminalMessageReader,
    WindowSize,
    encode_terminal_data,
    encode_window_size,
)

TOKEN = "tok-1"
MODULES = ("nhooyr", "coder")
MIB = 1024 * 1024
LARGE_WINDOW = 4 * MIB


def inBothModules(test: Callable[..., Any]) -> Callable[..., Any]:
    """
    Run a test with each WebSocket module.
    """

    @inlineCallbacks
    def both(self: Any) -> Any:
        for module in MODULES:
            self.module = module
            yield test(self)

    both.__name__ = test.__name__
    both.__doc__ = test.__doc__
    return both


class Site:
    """
    A web server that answers with what it was asked: C{/events} sends events when it is told to, C{/octets/N} so many octets.
    """

    def __init__(self) -> None:
        self.heads: list[RequestHead] = []
        self.events: list[Any] = []

    def exchangeReceived(self, head: RequestHead, exchange: Any) -> Any:
        self.heads.append(head)
        return _Answering(self, head, exchange)


class _Answering:
    def __init__(self, site: Site, head: RequestHead, exchange: Any) -> None:
        self._site, self._head, self._exchange = site, head, exchange
        self._body: list[bytes] = []

    def bodyReceived(self, octets: bytes) -> None:
        self._body.append(octets)

    def ended(self, trailers: Any) -> None:
        path = self._head.target.partition(b"?")[0]
        body = b"".join(self._body)
        if path == b"/events":
            self._exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Type", b"text/event-stream")]))
            self._site.events.append(self._exchange)
            return
        if path.startswith(b"/octets/"):
            answer = b"y" * int(path.rpartition(b"/")[2])
        else:
            answer = body or self._head.method + b" " + self._head.target
        digest = sha256(body).hexdigest().encode()
        fields = [(b"Content-Length", b"%d" % len(answer)), (b"X-Sum", digest)]
        self._exchange.respond(ResponseHead(200, b"OK", fields), answer)

    def failed(self, reason: Any) -> None:
        pass

    informational = headReceived = failed


class Visitor(Protocol):
    """
    Collects a response.
    """

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True

    @property
    def body(self) -> bytes:
        head, _, rest = self.got.partition(b"\r\n\r\n")
        return ChunkedDecoder().receive_data(rest) if b"chunked" in head.lower() else rest


class AgentserverCase(TestCase):
    timeout = 120
    module = "nhooyr"

    @inlineCallbacks
    def until(self, condition: Callable[[], Any], seconds: float = 30) -> Any:
        end = reactor.seconds() + seconds
        while True:
            found = condition()
            if isinstance(found, Deferred):
                found = yield found
            if found:
                return found
            if reactor.seconds() > end:
                raise AssertionError("nothing of the kind happened")
            yield pause(0.01)

    def listen(self, factory: Any) -> int:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def web(self) -> tuple[Site, int]:
        site = Site()
        connections: list[Any] = []

        def build() -> HTTPServerProtocol:
            connections.append(HTTPServerProtocol(site, clock=reactor))  # type: ignore[arg-type]
            return connections[-1]

        factory = Factory.forProtocol(build)  # type: ignore[arg-type]
        factory.noisy = False
        port = self.listen(factory)
        self.addCleanup(lambda: [each.transport.abortConnection() for each in connections if each.transport.connected])
        return site, port


class EdgeWithGoAgentTests(AgentserverCase):
    """
    Our server role, with agents in Go.
    """

    @inlineCallbacks
    def setUp(self) -> Any:
        self.go = GoPeer.start(self, "agentserver")
        digest = sha256(TOKEN.encode()).hexdigest()
        sandboxes = [SandboxSettings(id=f"sbx-{n}", name=f"demo{n}", tokenSha256=digest) for n in (1, 2)]
        self.documents: list[Any] = []
        self.dialect = AgentserverEdge(
            SandboxStore(None, sandboxes), EdgeSettings(), lambda tunnel, document: self.documents.append(document)
        )
        self.edge = EdgeService(
            reactor, EdgeConfig(listen=("tcp:0:interface=127.0.0.1",), drainSeconds=1.0), dialects=[self.dialect]
        )
        ready = self.edge.whenReady()
        self.edge.startService()
        yield ready
        self.addCleanup(self.edge.stopService)
        self.port = self.edge.addresses[0].port
        self.site, web = self.web()
        self.target = f"http://127.0.0.1:{web}"

    @inlineCallbacks
    def connect(self, kind: str = "full", sandbox: str = "sbx-1", **options: Any) -> Any:
        """
        @return: the number of the agent.
        """
        before = self.dialect.tunnels.get(sandbox)
        settings = {
            "module": self.module, "kind": kind, "url": f"http://127.0.0.1:{self.port}", "sandbox": sandbox, "token": TOKEN,
            "target": self.target, "heartbeat": 20.0, **options,
        }
        said = yield self.go.call("connect", agent=settings)
        yield self.until(lambda: self.dialect.tunnels.get(sandbox) not in (None, before))
        return said["agent"]

    @inlineCallbacks
    def send(self, octets: bytes) -> Any:
        visitor = yield connectProtocol(HostnameEndpoint(reactor, b"127.0.0.1", self.port), Visitor())
        self.addCleanup(visitor.transport.abortConnection)
        visitor.transport.write(octets)
        return visitor

    @inlineCallbacks
    def ask(self, path: str = "/", host: str = "demo1", method: str = "GET", body: bytes = b"", *fields: str) -> Any:
        """
        @return: the whole response.
        """
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}.localhost", "Connection: close", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        visitor = yield self.send(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        yield self.until(lambda: visitor.lost, 60)
        return visitor

    @inBothModules
    @inlineCallbacks
    def test_requestsAndBodiesArrive(self) -> Any:
        yield self.connect()
        visitor = yield self.ask("/hello?x=%20y", "demo1", "GET", b"", "X-A: <&>", "Cookie: a=1", "Cookie: b=2")
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 200 OK\r\n"), visitor.got)
        self.assertEqual(visitor.body, b"GET /hello?x=%20y")
        head = self.site.heads[-1]
        self.assertEqual((head.field(b"x-a"), head.field(b"cookie")), (b"<&>", b"a=1; b=2"))
        self.assertEqual(head.field(b"x-forwarded-host"), b"demo1.localhost")
        for size in (7, 65_536, 300_000):
            body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            visitor = yield self.ask("/echo", "demo1", "POST", body)
            self.assertEqual(visitor.body, body)
        visitor = yield self.send(
            b"POST /echo HTTP/1.1\r\nHost: demo1.localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        )
        yield self.until(lambda: visitor.lost)
        self.assertEqual(visitor.body, b"onetwo")

    @inBothModules
    @inlineCallbacks
    def test_eventsAreStreamed(self) -> Any:
        yield self.connect()
        self.site.events.clear()
        visitor = yield self.send(b"GET /events HTTP/1.1\r\nHost: demo1.localhost\r\n\r\n")
        yield self.until(lambda: self.site.events)
        for number in range(3):
            self.site.events[0].write(b"data: %d\n\n" % number)
            yield self.until(lambda number=number: b"data: %d\n\n" % number in visitor.got)
        self.site.events[0].end()
        yield self.until(lambda: visitor.got.endswith(b"0\r\n\r\n"))

    @inBothModules
    @inlineCallbacks
    def test_heartbeatsDoNotExhaustTheBacklog(self) -> Any:
        """
        256 openings that are not acknowledged would block a Go agent.
        """
        del self.documents[:]
        number = yield self.connect(heartbeat=0.001)
        yield self.until(lambda: len(self.documents) > 600, 60)
        state = yield self.go.call("agent", number=number)
        self.assertFalse(state["closed"])
        self.assertLess(state["streams"], 10)
        self.assertEqual((self.documents[0].hostname, self.documents[0].agent_version), ("h1", "agentsdk/1.0"))
        yield self.go.call("leave", number=number)

    @inBothModules
    @inlineCallbacks
    def test_nonsenseOnControlStreamsIsIgnored(self) -> Any:
        number = yield self.connect()
        for nonsense in (b"", b"nonsense", b"[1]", b'{"memory_total":"x"}', b"\xff", b"x" * 300_000):
            yield self.go.call("report", number=number, data=nonsense)
        visitor = yield self.ask()
        self.assertEqual(visitor.body, b"GET /")
        state = yield self.go.call("agent", number=number)
        self.assertFalse(state["closed"])

    @inBothModules
    @inlineCallbacks
    def test_aHundredAtOnceEachHaveTheirOwn(self) -> Any:
        number = yield self.connect()
        found = yield DeferredList([self.ask(f"/{n}") for n in range(100)], consumeErrors=True)
        self.assertEqual([visitor.body for _, visitor in found], [b"GET /%d" % n for n in range(100)])
        yield self.until(lambda: self.go.call("agent", number=number).addCallback(lambda said: said["streams"] == 0))

    @inlineCallbacks
    def test_theSDKBuffersItsResponse(self) -> Any:
        yield self.connect("sdk")
        visitor = yield self.ask("/path?q", "demo1", "POST", b"hello")
        self.assertEqual(visitor.body, b"POST /path?q 5")
        self.assertIn(b"X-Content-Type-Options: nosniff\r\n", visitor.got)

    @inlineCallbacks
    def test_theHeadlessAgentHasNoWebServer(self) -> Any:
        yield self.connect("headless")
        visitor = yield self.ask()
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 502 "), visitor.got)

    @inlineCallbacks
    def test_aLocalServerThatIsNotThere(self) -> Any:
        yield self.connect(target="http://127.0.0.1:1")
        visitor = yield self.ask()
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 502 "), visitor.got)
        self.assertIn(b"local service error", visitor.body)

    @inBothModules
    @inlineCallbacks
    def test_largeBodiesArriveWithBothWindows(self) -> Any:
        for window in (0, LARGE_WINDOW):
            yield self.connect(window=window)
            visitor = yield self.ask(f"/octets/{8 * MIB}")
            self.assertEqual(visitor.body, b"y" * (8 * MIB))
            body = b"z" * (8 * MIB)
            visitor = yield self.ask("/echo", "demo1", "POST", body)
            self.assertEqual(sha256(visitor.body).hexdigest(), sha256(body).hexdigest())

    @inBothModules
    @inlineCallbacks
    def test_aVisitorThatLeavesFreesItsStream(self) -> Any:
        number = yield self.connect()
        self.site.events.clear()
        visitor = yield self.send(b"GET /events HTTP/1.1\r\nHost: demo1.localhost\r\n\r\n")
        yield self.until(lambda: self.site.events)
        self.site.events[0].write(b"data: 0\n\n")
        yield self.until(lambda: b"data" in visitor.got)
        visitor.transport.abortConnection()

        def freed() -> Any:
            self.site.events[0].write(b"x" * 100_000)
            return self.go.call("agent", number=number).addCallback(lambda said: said["streams"] == 0)

        yield self.until(freed)

    # Terminals

    @inlineCallbacks
    def open(self) -> Any:
        terminal: Any = yield self.dialect.tunnels["sbx-1"].openTerminal(Factory.forProtocol(Collect))
        return terminal

    def shown(self, terminal: Any) -> bytes:
        return b"".join(TerminalMessageReader().receive_data(terminal.got))  # type: ignore[arg-type]

    @inBothModules
    @inlineCallbacks
    def test_aTerminalIsOpenedAndResized(self) -> Any:
        number = yield self.connect()
        terminal = yield self.open()
        for message in (
            encode_window_size(WindowSize(100, 30)), encode_terminal_data(b"ls\r"), encode_window_size(WindowSize(80, 24)),
            encode_terminal_data(b"\x00\x01\x02"),
        ):  # fmt: skip
            terminal.transport.write(message)
        yield self.until(lambda: self.shown(terminal) == b"LS\r\x00\x01\x02")
        state = yield self.go.call("agent", number=number)
        self.assertEqual((state["typed"], state["sizes"]), ("ls\r\x00\x01\x02", ["100x30", "80x24"]))
        terminal.transport.write(encode_terminal_data(b"exit"))
        yield self.until(lambda: terminal.reason is not None)

    @inBothModules
    @inlineCallbacks
    def test_aLongPasteArrivesWhole(self) -> Any:
        """
        An agent that reads two messages at once would type the first octet of the second.
        """
        number = yield self.connect()
        terminal = yield self.open()
        paste = bytes(32 + n % 90 for n in range(50_000))
        terminal.transport.write(encode_terminal_data(paste) + encode_window_size(WindowSize(90, 20)))
        yield self.until(lambda: self.shown(terminal) == paste.upper())
        yield self.until(lambda: self.go.call("agent", number=number).addCallback(lambda said: said["sizes"] == ["90x20"]))
        state = yield self.go.call("agent", number=number)
        self.assertEqual(state["typed"].encode(), paste)

    @inlineCallbacks
    def test_aHistoryThatFillsTheWindow(self) -> Any:
        yield self.connect(replay=HISTORY)
        terminal = yield self.open()
        yield self.until(lambda: len(self.shown(terminal)) == HISTORY)
        self.assertEqual(set(self.shown(terminal)), {ord("h")})

    # Connections

    @inBothModules
    @inlineCallbacks
    def test_aNewAgentReplacesTheFormer(self) -> Any:
        first = yield self.connect()
        second = yield self.connect()
        yield self.until(lambda: self.go.call("agent", number=first).addCallback(lambda said: said["closed"]))
        yield self.ask()
        state = yield self.go.call("agent", number=second)
        self.assertEqual((state["requests"], state["closed"]), (1, False))

    @inBothModules
    @inlineCallbacks
    def test_wrongCredentialsAreRefused(self) -> Any:
        for token, sandbox, status in (("wrong", "sbx-1", 401), (TOKEN, "sbx-9", 401), ("", "sbx-1", 400)):
            settings = {
                "module": self.module, "url": f"http://127.0.0.1:{self.port}", "sandbox": sandbox, "token": token,
                "kind": "full", "heartbeat": 20.0,
            }  # fmt: skip
            error = yield self.assertFailure(self.go.call("connect", agent=settings), GoError)
            self.assertEqual(error.said["status"], status)

    @inlineCallbacks
    def test_anAgentThatIsKilledIsNoticed(self) -> Any:
        yield self.connect()
        yield self.go.kill()
        yield self.until(lambda: not self.dialect.tunnels)
        visitor = yield self.ask()
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 503 "))

    @inlineCallbacks
    def test_anAgentThatHangsMissesAPing(self) -> Any:
        self.patch(edge_module, "LIMITS", evolve(edge_module.LIMITS, keepalive=0.5, keepaliveTimeout=0.5))
        number = yield self.connect()
        yield pause(2)
        state = yield self.go.call("agent", number=number)
        self.assertFalse(state["closed"])
        self.go.freeze()
        self.addCleanup(self.go.thaw)
        yield self.until(lambda: not self.dialect.tunnels)


class AgentWithGoServerTests(AgentserverCase):
    """
    Our agent role, with a server in Go.
    """

    def setUp(self) -> None:
        self.go = GoPeer.start(self, "agentserver")
        self.site, self.webPort = self.web()
        self.tokenFile = Path(self.mktemp())
        self.tokenFile.write_text(TOKEN)
        self.tokenFile.chmod(0o600)
        self.agent: AgentService | None = None

    @inlineCallbacks
    def start(self, interval: float = 20.0, window: int = 0, mute: bool = False, **settings: Any) -> Any:
        if self.agent is not None:
            yield self.agent.stopService()
        said = yield self.go.call(
            "serve", module=self.module, token=TOKEN, window=window, interval=interval, mute=mute
        )
        record = AgentSettings(**{
            "url": said["url"], "sandbox": "sbx-1", "tokenFile": str(self.tokenFile), "target": str(self.webPort), **settings,
        })
        config = AgentConfig(dialects={"agentserver": {"agentserver": (record,)}}, drainSeconds=0.5, backoffSeconds=0.5)
        self.agent = AgentService(reactor, config, plugins=False)
        self.agent.startService()
        self.addCleanup(self.stop, self.agent)
        yield self.until(lambda: self.state().addCallback(lambda state: state["streams"] >= 0))

    def stop(self, agent: AgentService) -> Any:
        return agent.stopService() if agent.running else None

    def state(self) -> Deferred[dict[str, Any]]:
        return self.go.call("state", sandbox="sbx-1")

    @inlineCallbacks
    def ask(self, path: str = "/", method: str = "GET", **options: Any) -> Any:
        """
        @return: the answer with its whole body.
        """
        said = yield self.go.call("ask", sandbox="sbx-1", method=method, path=path, **{"headers": {}, **options}, timeout=60)
        read = yield self.go.call("read", number=said["stream"], all=True, timeout=60)
        return {**said, "body": read["data"]}

    @inBothModules
    @inlineCallbacks
    def test_requestsAndBodiesArrive(self) -> Any:
        yield self.start()
        said = yield self.ask("/hello?x=%20y", headers={"X-A": "<&>", "Connection": "keep-alive"})
        self.assertEqual((said["status"], said["type"], said["body"]), (200, 1, b"GET /hello?x=%20y"))
        self.assertEqual(said["headers"]["Content-Length"], "17")
        head = self.site.heads[-1]
        self.assertEqual((head.field(b"x-a"), head.field(b"host")), (b"<&>", f"localhost:{self.webPort}".encode()))
        for size in (7, 65_536, 300_000):
            said = yield self.ask("/echo", "POST", size=size)
            self.assertEqual(said["body"], b"x" * size)

    @inBothModules
    @inlineCallbacks
    def test_theDocumentDescribesTheMachine(self) -> Any:
        yield self.start(heartbeatSeconds=1.0)
        before = (yield self.state())["documents"]
        yield self.until(lambda: self.state().addCallback(lambda state: state["documents"] >= before + 3))
        state = yield self.state()
        document = json.loads(state["last"])
        self.assertTrue(document["agent_version"].startswith("tunnelstack/"))
        self.assertGreater(document["memory_total"], 0)
        yield self.until(lambda: self.state().addCallback(lambda state: state["streams"] == 0))

    @inBothModules
    @inlineCallbacks
    def test_eventsAreStreamed(self) -> Any:
        yield self.start()
        self.site.events.clear()
        said = yield self.go.call("ask", sandbox="sbx-1", method="GET", path="/events", headers={})
        self.assertEqual(said["headers"]["Content-Type"], "text/event-stream")
        for number in range(3):
            self.site.events[0].write(b"data: %d\n\n" % number)
            read = yield self.go.call("read", number=said["stream"])
            self.assertEqual((read["data"], read["ended"]), (b"data: %d\n\n" % number, False))
        self.site.events[0].end()
        read = yield self.go.call("read", number=said["stream"])
        self.assertTrue(read["ended"])

    @inBothModules
    @inlineCallbacks
    def test_errorsAreThoseOfAGenuineAgent(self) -> Any:
        yield self.start()
        for options, status, text in (
            ({"metadata": "[]"}, 400, b"invalid metadata"),
            ({"metadata": '{"method":7}'}, 400, b"invalid metadata"),
            ({"path": "//elsewhere/"}, 400, b"invalid request path"),
            ({"method": "POST", "data": b"hel", "bodyLen": 5, "close": True}, 502, b"failed to read request body"),
        ):
            said = yield self.ask(**{"path": "/", "method": "GET", **options})
            self.assertEqual((said["status"], said["body"]), (status, text))
            self.assertEqual(said["headers"], {"Content-Type": "text/plain"})
        said = yield self.ask(path="/still", bodyLen=-1)
        self.assertEqual(said["body"], b"GET /still")

    @inBothModules
    @inlineCallbacks
    def test_aHundredAtOnceEachHaveTheirOwn(self) -> Any:
        yield self.start()
        found = yield DeferredList([self.ask(f"/{n}") for n in range(100)], consumeErrors=True)
        self.assertEqual([said["body"] for _, said in found], [b"GET /%d" % n for n in range(100)])
        yield self.until(lambda: self.state().addCallback(lambda state: state["streams"] == 0))

    @inBothModules
    @inlineCallbacks
    def test_largeBodiesArriveWithBothWindows(self) -> Any:
        for window in (0, LARGE_WINDOW):
            yield self.start(window=window)
            said = yield self.ask(f"/octets/{8 * MIB}")
            self.assertEqual(said["body"], b"y" * (8 * MIB))
            said = yield self.ask("/up", "POST", size=8 * MIB)
            self.assertEqual(said["headers"]["X-Sum"], sha256(b"x" * (8 * MIB)).hexdigest())

    @inBothModules
    @inlineCallbacks
    def test_pingsAreAnswered(self) -> Any:
        yield self.start(interval=0.05)
        before = (yield self.state())["arrivals"]
        yield pause(0.5)
        state = yield self.state()
        self.assertEqual((state["arrivals"], state["streams"]), (before, 0))

    @inBothModules
    @inlineCallbacks
    def test_aServerThatDropsTheTunnelHasItAgain(self) -> Any:
        yield self.start()
        yield self.go.call("drop", sandbox="sbx-1")
        yield self.until(lambda: self.state().addCallback(lambda state: state["arrivals"] == 2 and state["streams"] >= 0))
        said = yield self.ask("/again")
        self.assertEqual(said["body"], b"GET /again")

    @inlineCallbacks
    def test_aServerThatTakesNoControlStreams(self) -> Any:
        """
        A server of others has this defect.  It answers pings, so the agent stays, and streams toward the agent work.
        """
        yield self.start(mute=True, heartbeatSeconds=1.0)
        yield pause(8)
        said = yield self.ask("/x")
        self.assertEqual(said["body"], b"GET /x")
        state = yield self.state()
        self.assertEqual(state["arrivals"], 1)
        self.assertLess(state["streams"], 8)

    # Terminals

    @inlineCallbacks
    def readUntil(self, stream: int, pattern: bytes) -> Any:
        """
        What the terminal shows up to a pattern; each read of the server is a message.
        """
        shown = b""
        while not re.search(pattern, shown):
            read = yield self.go.call("read", number=stream)
            if read["ended"]:
                raise AssertionError(f"{pattern!r} was not shown: {shown!r}")
            shown += read["data"].replace(b"\x00", b"")
        return shown

    @inBothModules
    @inlineCallbacks
    def test_aTerminalIsOpenedAndResized(self) -> Any:
        yield self.start(terminal=True, shell="/bin/sh")
        stream = (yield self.go.call("terminal", sandbox="sbx-1"))["stream"]
        yield self.go.call("write", number=stream, data=encode_data(b"stty size; echo by''e\r"))
        yield self.readUntil(stream, rb"40 120\r\n(.|\n)*bye\r\n")
        # Back to back: what a genuine agent takes for typed.
        yield self.go.call("write", number=stream, data=encode_resize(WindowSize(90, 25)))
        yield self.go.call("write", number=stream, data=encode_data(b"X=kept; stty size\r"))
        yield self.readUntil(stream, rb"25 90\r\n")
        yield self.go.call("end", number=stream)
        again = (yield self.go.call("terminal", sandbox="sbx-1"))["stream"]
        yield self.go.call("write", number=again, data=encode_data(b"echo $X$X; exit\r"))
        yield self.readUntil(again, rb"keptkept\r\n")
        yield self.until(lambda: self.go.call("read", number=again).addCallback(lambda read: read["ended"]))

    @inlineCallbacks
    def test_aShellEndsWithItsAgent(self) -> Any:
        yield self.start(terminal=True, shell="/bin/sh")
        stream = (yield self.go.call("terminal", sandbox="sbx-1"))["stream"]
        yield self.go.call("write", number=stream, data=encode_data(b"echo pid=$$.\r"))
        shown = yield self.readUntil(stream, rb"pid=[0-9]+\.")
        pid = int(re.search(rb"pid=([0-9]+)\.", shown)[1])  # type: ignore[index]
        yield self.go.call("end", number=stream)
        assert self.agent is not None
        yield self.agent.stopService()
        yield self.until(lambda: not Path(f"/proc/{pid}").exists())

    @inlineCallbacks
    def test_anAgentWithoutATerminalClosesTheStream(self) -> Any:
        yield self.start()
        stream = (yield self.go.call("terminal", sandbox="sbx-1"))["stream"]
        read = yield self.go.call("read", number=stream)
        self.assertTrue(read["ended"])
