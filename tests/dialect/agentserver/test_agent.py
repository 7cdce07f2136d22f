"""
agentserver's agent role, with our own edge and with servers whose octets a test chooses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.changed_settings import changes
from tests.dialect.agentserver.support import PORT, TOKEN, Proxy, Stream, sandbox
from tests.exchange.doubles import Server, Talker
from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.control.process.exit_status import FatalError
from tunnelstack.dialect.agentserver.agent import authorityOf
from tunnelstack.dialect.agentserver.settings import AgentSettings
from tunnelstack.dialect.agentserver.terminal_streams import TerminalStreams
from tunnelstack.dialect.http_entry import OneProtocol
from tunnelstack.errors import ConfigurationError
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.interfaces import IAgentDialect
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.testing import Network
from tunnelstack.transport.websocket.server import WebSocketServerFactory
from tunnelstack.transport.websocket.settings import WebSocketLimits
from tunnelstack.wire.http1.head import ResponseHead
from tunnelstack.wire.negotiation.typed_head import TypedHeadReader, encode_typed_head
from tunnelstack.wire.records.agentserver import (
    CONTROL,
    HTTP,
    RequestMetadata,
    decode_document_untrusted,
    decode_response_metadata_untrusted,
    encode_request_metadata,
)

WEB = 3000


class Collecting(Factory):
    """
    Accepts the control streams of an agent, and ends each, or none.
    """

    noisy = False

    def __init__(self, ending: bool = True) -> None:
        self.streams: list[Any] = []
        self.ending = ending

    def buildProtocol(self, address: object) -> Any:
        factory = self

        class Reading(Stream):
            def readConnectionLost(self) -> None:
                super().readConnectionLost()
                if factory.ending:
                    self.transport.loseConnection()

        self.streams.append(Reading())
        return self.streams[-1]


class RawServer:
    """
    A server that opens streams as a test says.
    """

    def __init__(self, case: SynchronousTestCase, network: Network | None = None, ending: bool = True) -> None:
        self.network = network or Network()
        self.sessions: list[YamuxSession] = []
        self.documents = Collecting(ending)
        self.requests: list[str] = []
        server = self

        class Sessions(Factory):
            noisy = False

            def buildProtocol(self, address: object) -> Any:
                session = YamuxSession(False, clock=server.network)
                session.listener.listen(server.documents)
                server.sessions.append(session)
                return session

        self.web = WebSocketServerFactory(Sessions(), clock=self.network, limits=WebSocketLimits(keepalive=20, pongOnly=True))
        self.network.listenTCP(PORT, self.web)
        self.local = Server()
        factory = Factory.forProtocol(lambda: HTTPServerProtocol(self.local, clock=self.network))
        factory.noisy = False
        self.network.listenTCP(WEB, factory)

    def settle(self) -> None:
        self.network.settle()

    @property
    def session(self) -> YamuxSession:
        return self.sessions[-1]

    def open(self, *pieces: bytes, end: bool = False) -> Stream:
        """
        Open a stream, and send these octets, each piece in a frame.
        """
        opened: list[Any] = []
        factory = Factory.forProtocol(Stream)
        factory.noisy = False
        self.session.connector.connect(factory).addCallback(opened.append)
        stream: Stream = opened[0]
        for piece in pieces:
            (stream.transport.writeRecord if len(piece) < 4096 else stream.transport.write)(piece)
        if end:
            stream.transport.loseWriteConnection()
        self.settle()
        return stream

    def ask(self, metadata: bytes, body: bytes = b"", end: bool = False) -> Stream:
        return self.open(encode_typed_head(HTTP, metadata) + body, end=end)


def answerOf(stream: Stream) -> tuple[int, dict[str, str], bytes]:
    """
    The response that a stream has received.
    """
    reader = TypedHeadReader()
    reader.feed(stream.got)
    head = reader.next_head()
    assert head is not None, stream.got
    metadata = decode_response_metadata_untrusted(head.metadata)
    return metadata.status, dict(metadata.headers), reader.take_leftover()


class AgentCase(SynchronousTestCase):
    def startAgent(self, network: Network, token: str = TOKEN, **settings: Any) -> AgentService:
        self.tokenFile = Path(self.mktemp())
        self.tokenFile.write_text(token + "\n")
        self.tokenFile.chmod(0o600)
        record = AgentSettings(**{
            "url": f"http://localhost:{PORT}", "sandbox": "sbx-1", "tokenFile": str(self.tokenFile), "target": str(WEB),
            **settings,
        })
        config = AgentConfig(dialects={"agentserver": {"agentserver": (record,)}}, drainSeconds=1.0)
        service = AgentService(network, config, plugins=False, random=lambda: 0.5)
        service.startService()
        network.settle()
        self.addCleanup(self.stopAgent, service, network)
        return service

    def stopAgent(self, service: AgentService, network: Network) -> None:
        if service.running:
            service.stopService()
            network.passTime(5)

    def setUp(self) -> None:
        self.logged: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)


class HeartbeatTests(AgentCase):
    """
    Documents that an edge of ours receives.
    """

    @changes("agent [[agentserver]] heartbeat_seconds")
    def test_heartbeatSecondsApply(self) -> None:
        for seconds, documents in ((20.0, 6), (5.0, 21)):
            proxy = Proxy()
            self.addCleanup(proxy.stop)
            self.startAgent(proxy.network, heartbeatSeconds=seconds)
            proxy.network.passTime(100)
            self.assertIn(len(proxy.documents), (documents, documents + 1))


class RequestTests(AgentCase):
    """
    HTTP streams.
    """

    def setUp(self) -> None:
        super().setUp()
        self.server = RawServer(self)
        self.agent = self.startAgent(self.server.network)

    def settle(self) -> None:
        self.server.settle()

    def ask(self, body: bytes = b"", end: bool = False, **metadata: Any) -> Stream:
        request = RequestMetadata(**{"method": "GET", "path": "/", "body_len": len(body), **metadata})
        return self.server.ask(encode_request_metadata(request), body, end)

    def asked(self) -> tuple[Any, Any, Any]:
        return self.server.local.asked[-1]

    def test_theDialectProvidesItsInterface(self) -> None:
        self.assertTrue(verifyObject(IAgentDialect, self.agent.links[0].dialect))

    def test_aRequestReachesTheWebServer(self) -> None:
        stream = self.ask(path="/hello?x=1", headers={"Accept": "*/*", "X-A": "<&>"})
        head, exchange, body = self.asked()
        self.assertEqual((head.method, head.target), (b"GET", b"/hello?x=1"))
        self.assertEqual((head.field(b"host"), head.field(b"x-a")), (b"localhost:3000", b"<&>"))
        self.assertEqual((body.body, body.trailers), (b"", []))
        exchange.respond(ResponseHead(200, b"OK", [(b"Content-Type", b"text/plain"), (b"Content-Length", b"3")]), b"ok:")
        self.settle()
        self.assertEqual(answerOf(stream), (200, {"Content-Type": "text/plain", "Content-Length": "3"}, b"ok:"))
        self.assertIn("read ended", stream.told)

    def test_theStreamEndsWithTheResponse(self) -> None:
        """
        The server ends its own direction after it has read everything.
        """
        stream = self.ask()
        self.asked()[1].respond(ResponseHead(204, b"No Content", []), b"")
        self.settle()
        stream.transport.loseConnection()
        self.settle()
        self.assertEqual(self.server.session.streams, 0)

    def test_aBodyIsForwardedAsItArrives(self) -> None:
        stream = self.ask(b"hel", method="POST", body_len=5)
        head, _, body = self.asked()
        self.assertEqual((head.field(b"content-length"), body.body, body.trailers), (b"5", b"hel", None))
        stream.transport.write(b"lo, and what is too much")
        self.settle()
        self.assertEqual((body.body, body.trailers), (b"hello", []))

    def test_aNegativeLengthIsNoBody(self) -> None:
        self.ask(body_len=-1)
        self.assertEqual(self.asked()[2].trailers, [])

    def test_requestsAreInTheAccessLog(self) -> None:
        records: list[Any] = []
        self.agent.requestObserver = records.append
        self.ask(path="/x?y", headers={"X-Forwarded-For": "192.0.2.7, 10.0.0.1", "X-Request-Id": "r1"})
        self.server.network.passTime(2)
        self.asked()[1].respond(ResponseHead(201, b"Created", []), b"hello")
        self.settle()
        (record,) = records
        self.assertEqual((record.method, record.target, record.status, record.octets), ("GET", "/x?y", 201, 5))
        self.assertEqual((record.service, record.visitor, record.trace), ("sbx-1", "192.0.2.7", "r1"))
        self.assertEqual((record.host, record.seconds), ("localhost:3000", 2.0))
        stream = self.ask()
        stream.transport.abortConnection()
        self.settle()
        self.assertEqual([record.status for record in records], [201, 499])

    def test_eventsAreSentAsTheyCome(self) -> None:
        stream = self.ask()
        _, exchange, _ = self.asked()
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Type", b"text/event-stream")]))
        for number in range(3):
            exchange.write(b"data: %d\n\n" % number)
            self.settle()
            self.assertTrue(stream.got.endswith(b"data: %d\n\n" % number))
        exchange.end()
        self.settle()
        self.assertIn("read ended", stream.told)

    def test_fieldsThatOccurTwiceAreJoinedButCookiesCannotBe(self) -> None:
        stream = self.ask()
        fields = [(b"Vary", b"a"), (b"vary", b"b"), (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2")]
        self.asked()[1].respond(ResponseHead(200, b"OK", fields), b"")
        self.settle()
        headers = answerOf(stream)[1]
        self.assertEqual((headers["Vary"], headers["Set-Cookie"]), ("a, b", "a=1"))

    def test_redirectsAreForTheVisitor(self) -> None:
        stream = self.ask()
        self.asked()[1].respond(ResponseHead(302, b"Found", [(b"Location", b"/there")]), b"")
        self.settle()
        self.assertEqual((answerOf(stream)[0], answerOf(stream)[1]["Location"]), (302, "/there"))
        self.assertEqual(len(self.server.local.asked), 1)

    def test_fieldsOfOneConnectionAreNotForwarded(self) -> None:
        """
        A genuine server sends them along.
        """
        self.ask(headers={
            "Connection": "keep-alive, X-Hop", "X-Hop": "1", "Upgrade": "websocket", "Transfer-Encoding": "chunked",
            "Te": "trailers", "Expect": "100-continue", "Host": "elsewhere", "X-Kept": "1",
        })
        names = {name.lower() for name, _ in self.asked()[0].fields}
        self.assertEqual(names, {b"host", b"x-kept"})

    def test_aServerThatResetsTheStreamStopsTheRequest(self) -> None:
        stream = self.ask()
        _, exchange, _ = self.asked()
        exchange.sendHead(ResponseHead(200, b"OK", []))
        self.settle()
        stream.transport.abortConnection()
        self.settle()
        self.assertTrue(exchange.finished)

    def test_aWebServerThatBreaksOffResetsTheStream(self) -> None:
        stream = self.ask()
        _, exchange, _ = self.asked()
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Length", b"10")]))
        exchange.write(b"half")
        self.settle()
        exchange.transport.abortConnection()
        self.settle()
        self.assertNotIn("read ended", stream.told)
        self.assertIsNotNone(stream.reason)

    def assertError(self, stream: Stream, status: int, text: bytes) -> None:
        answer, headers, body = answerOf(stream)
        self.assertEqual((answer, headers), (status, {"Content-Type": "text/plain"}))
        self.assertTrue(body.startswith(text), body)
        self.assertIn("read ended", stream.told)

    def test_errorsAreThoseOfAGenuineAgent(self) -> None:
        for metadata in (b"", b"null", b"[]", b"nonsense", b'{"method":1}', b'{"method":"G T","path":"/"}', b'{"path":"/"}'):
            self.assertError(self.server.ask(metadata), 400, b"invalid metadata")
        for path in ("//elsewhere/x", "/a b", "/a#b", "/\x00", "/\r\nX: y"):
            self.assertError(self.ask(path=path), 400, b"invalid request path")
        self.assertError(self.ask(headers={"A": "b\r\nC: d"}), 400, b"invalid metadata")
        self.assertError(self.ask(headers={"a b": "c"}), 400, b"invalid metadata")
        self.assertEqual(self.server.local.asked, [])

    def test_aPathWithoutASlashGetsOne(self) -> None:
        self.ask(path="x?y")
        self.assertEqual(self.asked()[0].target, b"/x?y")

    def test_aPathBeyondASCIIIsEscaped(self) -> None:
        self.ask(path="/\u00e4")
        self.assertEqual(self.asked()[0].target, b"/%C3%A4")

    def test_aBodyThatIsTooShortIsAnError(self) -> None:
        stream = self.ask(b"hel", method="POST", body_len=5, end=True)
        self.assertError(stream, 502, b"failed to read request body")

    def test_aWebServerThatIsNotThereIsAnError(self) -> None:
        self.server.network.ports.pop(WEB)
        self.assertError(self.ask(), 502, b"local service error: Nothing listens on 3000 yet.")

    def test_otherStreamsCostThemselvesOnly(self) -> None:
        for octets in (encode_typed_head(9), encode_typed_head(CONTROL), b"\x01\x00\x10\x00\x01"):
            self.assertIsNotNone(self.server.open(octets).reason)
        self.ask(path="/still")
        self.assertEqual(self.asked()[0].target, b"/still")

    def test_withoutATerminalItsStreamsAreClosed(self) -> None:
        stream = self.server.open(b"\x02\x00\x00\x00\x00")
        self.assertIn("read ended", stream.told)

    def test_requestDataMayComeBeforeTheACK(self) -> None:
        self.ask(b"x" * 200_000, method="POST")
        self.assertEqual(len(self.asked()[2].body), 200_000)


class AuthorityTests(SynchronousTestCase):
    def test_theHostIsThatOfTheTarget(self) -> None:
        for target, host in (
            ("3000", "localhost:3000"), (":3000", "localhost:3000"), ("web.lan:80", "web.lan:80"), ("[::1]:80", "[::1]:80"),
            ("http://web.lan:8080/", "web.lan:8080"), ("https://web.lan", "web.lan"), ("unix:/run/app.sock", "localhost"),
        ):  # fmt: skip
            self.assertEqual(authorityOf(target), host)


class WithoutTargetTests(AgentCase):
    def test_anAgentWithoutAWebServerSaysSo(self) -> None:
        server = RawServer(self)
        self.startAgent(server.network, target="", terminal=True)
        status, _, body = answerOf(server.ask(b'{"method":"GET","path":"/"}'))
        self.assertEqual((status, body), (502, b"local service error: this agent has no web server"))


class ConnectionTests(AgentCase):
    """
    The session with a server, and the documents on it.
    """

    def test_theTerminalIsClosedWithTheAgentAndNotWithASession(self) -> None:
        server = RawServer(self)
        closed: list[Any] = []
        self.patch(TerminalStreams, "close", lambda terminal: closed.append(terminal))
        agent = self.startAgent(server.network, terminal=True)
        server.session.abort()
        server.network.passTime(30)
        self.assertEqual(closed, [])                    # the shell outlives a session
        self.stopAgent(agent, server.network)
        self.assertEqual(len(closed), 1)

    def test_documentsComeAtOnceAndAtIntervals(self) -> None:
        server = RawServer(self)
        self.startAgent(server.network)
        self.assertEqual(len(server.documents.streams), 1)
        server.network.passTime(1.5)
        self.assertEqual(len(server.documents.streams), 2)          # a server may not have listened for the first one
        server.network.passTime(40)
        self.assertEqual(len(server.documents.streams), 4)
        stream = server.documents.streams[0]
        self.assertEqual((stream.head.kind, stream.head.metadata), (CONTROL, b""))
        document = decode_document_untrusted(stream.body)
        self.assertTrue(document.agent_version.startswith("tunnelstack/"))
        self.assertGreater(document.cpu_count_logical, 0)
        self.assertIn("read ended", stream.told)

    def test_aServerThatEndsNoControlStreamButAnswersPingsIsKept(self) -> None:
        server = RawServer(self, ending=False)
        self.startAgent(server.network)
        server.network.passTime(600)
        self.assertEqual(len(server.sessions), 1)
        self.assertLess(server.session.streams, 8)

    def test_aServerThatAnswersNothingIsLeft(self) -> None:
        server = RawServer(self, ending=False)
        self.startAgent(server.network)
        server.session.transport.pauseProducing()
        server.network.passTime(100)
        self.assertGreater(len(server.sessions), 1)

    def test_aServerThatRestartsIsFoundAgain(self) -> None:
        server = RawServer(self)
        self.startAgent(server.network)
        for number in range(2, 5):
            server.session.abort()
            server.network.passTime(60)
            self.assertEqual(len(server.sessions), number)
        stream = server.ask(b'{"method":"GET","path":"/x"}')
        server.local.asked[-1][1].respond(ResponseHead(200, b"OK", []), b"ok")
        server.settle()
        self.assertEqual(answerOf(stream)[2], b"ok")

    def test_theTokenIsReadForEachAttempt(self) -> None:
        proxy = Proxy()
        self.startAgent(proxy.network)
        self.tokenFile.write_text("tok-2")
        proxy.dialect.prepareReload({"agentserver": {"agentserver.sandbox": (sandbox(token="tok-2"),)}})()
        proxy.settle()
        self.assertEqual(proxy.dialect.tunnels, {})
        proxy.network.passTime(30)
        self.assertEqual(list(proxy.dialect.tunnels), ["sbx-1"])

    def test_aRefusedTokenEndsAnAgentThatHasNothingElse(self) -> None:
        proxy = Proxy()
        service = self.startAgent(proxy.network, token="wrong")
        failed = self.successResultOf(service.whenFailed())
        self.assertEqual((failed.code, isinstance(failed, FatalError)), (77, True))
        self.assertNotIn("wrong", str(failed) + repr(self.logged))

    def test_whatIsNoAgentserverIsNamed(self) -> None:
        network = Network()
        talker = Talker()
        network.listenTCP(PORT, OneProtocol(talker))
        service = self.startAgent(network)
        talker.say(b"SSH-2.0-OpenSSH\r\n\r\n")
        network.settle()
        self.assertEqual(self.successResultOf(service.whenFailed()).code, 76)
        self.assertIn(b"GET /api/tunnel/sbx-1?token=tok-1 HTTP/1.1\r\n", talker.heard)
        self.assertNotIn("tok-1", repr(self.logged))

    def test_tokensAreEscapedAsFarAsNeeded(self) -> None:
        network = Network()
        talker = Talker()
        network.listenTCP(PORT, OneProtocol(talker))
        self.startAgent(network, token="a+b/c&d", sandbox="sbx%1")
        self.assertIn(b"GET /api/tunnel/sbx%251?token=a%2Bb%2Fc%26d HTTP/1.1\r\n", talker.heard)

    def test_mistakesInTheConfigurationStopTheStart(self) -> None:
        for settings in ({"tokenFile": "/nowhere/token"}, {"target": "no such target"}, {"url": "http://example.net:1"}):
            self.assertRaises(ConfigurationError, self.startAgent, Network(), **settings)


class BothRolesTests(AgentCase):
    """
    Our agent at our edge.
    """

    cut: int | None = None

    def setUp(self) -> None:
        super().setUp()
        self.proxy = Proxy(cut=self.cut)
        self.local = Server()
        factory = Factory.forProtocol(lambda: HTTPServerProtocol(self.local, clock=self.proxy.network))
        factory.noisy = False
        self.proxy.network.listenTCP(WEB, factory)
        self.agent = self.startAgent(self.proxy.network)

    def test_aVisitorIsAnswered(self) -> None:
        visitor = self.proxy.post(b"hello", path="/x?y=%20z")
        head, exchange, body = self.local.asked[-1]
        self.assertEqual((head.target, body.body), (b"/x?y=%20z", b"hello"))
        self.assertEqual(head.field(b"x-forwarded-host"), b"demo.localhost")
        exchange.respond(ResponseHead(200, b"OK", [(b"Content-Length", b"2")]), b"ok")
        self.proxy.settle()
        self.assertTrue(visitor.got.endswith(b"\r\n\r\nok"), visitor.got)

    def test_theEdgeKnowsTheMachine(self) -> None:
        tunnel = self.proxy.dialect.tunnels["sbx-1"]
        self.assertTrue(tunnel.version.startswith("tunnelstack/"))

    def test_noTokenIsLogged(self) -> None:
        self.proxy.network.passTime(100)
        self.agent.report()
        self.proxy.edge.report()
        self.assertNotIn(TOKEN, repr(self.logged))


class CutBothRolesTests(BothRolesTests):
    cut = 5
