"""
agentserver's server role: the door, exchanges, control streams, the registry of sandboxes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.changed_settings import changes
from tests.dialect.agentserver.support import HEARTBEAT, PORT, Agent, Proxy, digest, sandbox
from tests.exchange.doubles import Recorder
from tunnelstack.agent.service import AgentService
from tunnelstack.control.auth.tokens import newToken
from tunnelstack.control.config.records import AgentConfig, EdgeAddress, Route, TokenRecord
from tunnelstack.dialect.agentserver.settings import EdgeSettings
from tunnelstack.errors import Denied
from tunnelstack.exchange.errors import Busy, FailureKind
from tunnelstack.interfaces import IAdminResources, IReloadableDialect, ITunnel
from tunnelstack.records import HTTPPurpose, TCPPurpose
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.stream.errors import UnsupportedPurpose
from tunnelstack.wire.http1.chunked import ChunkedDecoder
from tunnelstack.wire.negotiation.typed_head import encode_typed_head
from tunnelstack.wire.records.agentserver import (
    CONTROL,
    HTTP,
    TERMINAL,
    MachineDocument,
    RequestMetadata,
)


class EdgeCase(SynchronousTestCase):
    """
    An edge, and an agent that is connected.
    """

    cut: int | None = None

    def setUp(self) -> None:
        self.logged: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        self.proxy = Proxy(cut=self.cut)
        self.agent = Agent(self.proxy).connect()

    def settle(self) -> None:
        self.proxy.settle()

    def stream(self) -> Any:
        return self.agent.streams[-1]

    def warnings(self) -> list[str]:
        return [str(event.get("reason", "")) for event in self.logged if event["log_level"].name == "warn"]


class DoorTests(EdgeCase):
    """
    C{GET /api/tunnel/ID?token=}.
    """

    def request(self, target: str, *fields: str, method: str = "GET", host: str = "localhost") -> bytes:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
        return self.proxy.visit(("\r\n".join(lines) + "\r\n\r\n").encode()).got

    def test_theDialectProvidesItsInterfaces(self) -> None:
        self.assertTrue(verifyObject(IReloadableDialect, self.proxy.dialect))
        self.assertTrue(verifyObject(IAdminResources, self.proxy.dialect))
        self.assertTrue(verifyObject(ITunnel, self.proxy.dialect.tunnels["sbx-1"]))

    def test_anAgentWithItsTokenHasASession(self) -> None:
        self.assertIsNone(self.agent.refused)
        self.assertEqual(list(self.proxy.dialect.tunnels), ["sbx-1"])

    def test_refusalsHaveTheStatusAndTextOfAGenuineServer(self) -> None:
        for target, status, text in (
            ("/api/tunnel/sbx-1", "400 Bad Request", "missing parameters\n"),
            ("/api/tunnel/sbx-1?token=", "400 Bad Request", "missing parameters\n"),
            ("/api/tunnel/?token=x", "400 Bad Request", "missing parameters\n"),
            ("/api/tunnel/sbx-1?token=wrong", "401 Unauthorized", "unauthorized\n"),
            ("/api/tunnel/sbx-2?token=tok-1", "401 Unauthorized", "unauthorized\n"),
            ("/api/tunnel/sbx-1/more?token=tok-1", "404 Not Found", "404 page not found\n"),
            ("/api/tunnel/sbx-1?" + "&".join("a=1" for _ in range(20)), "400 Bad Request", "missing parameters\n"),
        ):
            answer = self.request(target)
            self.assertTrue(answer.startswith(f"HTTP/1.1 {status}\r\n".encode()), answer)
            self.assertTrue(answer.endswith(text.encode()), answer)
            self.assertIn(b"Content-Type: text/plain; charset=utf-8\r\n", answer)
            self.assertIn(b"X-Content-Type-Options: nosniff\r\n", answer)

    def test_aRequestThatIsNoUpgradeIsRefusedAfterItsToken(self) -> None:
        target = "/api/tunnel/sbx-1?token=tok-1"
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        for answer, status in (
            (self.request(target), b"426"),
            (self.request(target, *upgrade), b"400"),
            (self.request(target, *upgrade[:2], "Sec-WebSocket-Version: 8"), b"426"),
            (self.request(target, *upgrade, method="POST"), b"405"),
        ):
            self.assertEqual(answer[9:12], status, answer)

    def test_theTokenMayBeEscaped(self) -> None:
        proxy = Proxy(sandbox(token="a b+c/d"))
        self.assertIsNone(Agent(proxy, token="a%20b%2Bc%2Fd").connect().refused)

    def test_anEdgeThatStopsTakesNoAgents(self) -> None:
        self.proxy.edge.agents.stopping = True
        self.assertTrue(self.request("/api/tunnel/sbx-1?token=tok-1").startswith(b"HTTP/1.1 503 "))

    def test_theTokenIsInNoLog(self) -> None:
        """
        Not in those of the door, not in the access log, not where the host of the request has a site.
        """
        lines: list[Any] = []
        self.proxy.edge.public.site.accessLog = lines.append
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x")
        for host in ("localhost", "demo.localhost", "gone.localhost", "elsewhere.example"):
            for method in ("GET", "POST", "CONNECT"):
                for rest in ("sbx-1?token=secret-1", "sbx-1?token=tok-1", "?token=secret-2"):
                    self.request(f"/api/tunnel/{rest}", *upgrade, method=method, host=host)
        self.agent.session.abort()
        self.settle()
        self.request("/api/tunnel/x?token=secret-3", host="demo.localhost")
        told = repr(self.logged) + repr(lines)
        for secret in ("secret-", "tok-1"):
            self.assertNotIn(secret, told)
        self.assertIn("/api/tunnel/sbx-1", told)

    def test_aSiteMayHaveThePathOfTheDoor(self) -> None:
        answer = self.proxy.get("/api/tunnel/sbx-1?token=x")
        self.assertEqual(self.stream().request.path, "/api/tunnel/sbx-1?token=x")
        self.stream().answer(b"mine")
        self.settle()
        self.assertTrue(answer.got.endswith(b"mine\r\n0\r\n\r\n"))


class ExchangeTests(EdgeCase):
    """
    Requests of visitors.
    """

    def test_aRequestHasAStreamOfItsOwn(self) -> None:
        visitor = self.proxy.get("/hello?x=1", "demo.localhost", "X-A: <&>", "Accept: */*")
        request = self.stream().request
        self.assertEqual((request.method, request.path, request.body_len), ("GET", "/hello?x=1", 0))
        self.assertEqual((request.headers["X-A"], request.headers["Accept"]), ("<&>", "*/*"))
        self.assertEqual(self.stream().body, b"")
        self.stream().answer(b"ok:", Content_Type="text/plain")
        self.settle()
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertIn(b"Content-Type: text/plain\r\n", visitor.got)
        self.assertTrue(visitor.got.endswith(b"3\r\nok:\r\n0\r\n\r\n"))

    def test_theHostIsNotAHeaderButForwarded(self) -> None:
        self.proxy.get("/")
        headers = self.stream().request.headers
        self.assertNotIn("Host", headers)
        self.assertEqual(headers["X-Forwarded-Host"], "demo.localhost")

    def test_whatIsAboutTheConnectionStaysHere(self) -> None:
        self.proxy.get("/", "demo.localhost", "Connection: X-Hop, keep-alive", "X-Hop: 1", "Keep-Alive: 5", "TE: trailers")
        names = {name.lower() for name in self.stream().request.headers}
        self.assertEqual(names & {"connection", "x-hop", "keep-alive", "te", "transfer-encoding", "upgrade"}, set())

    def test_fieldsThatOccurTwiceAreJoined(self) -> None:
        self.proxy.get("/", "demo.localhost", "Accept: a", "accept: b", "Cookie: c=1", "Cookie: d=2")
        headers = self.stream().request.headers
        self.assertEqual((headers["Accept"], headers["Cookie"]), ("a, b", "c=1; d=2"))

    def test_aBodyFollowsTheHead(self) -> None:
        visitor = self.proxy.post(b'{"a":1}')
        self.assertEqual((self.stream().request.body_len, self.stream().body), (7, b'{"a":1}'))
        self.stream().answer(b"", 201, Content_Length="0")
        self.settle()
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 201 Created\r\n"))

    def test_aBodyInChunksHasItsLengthFirst(self) -> None:
        self.proxy.visit(
            b"POST /up HTTP/1.1\r\nHost: demo.localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        )
        self.assertEqual((self.stream().request.body_len, self.stream().body), (6, b"onetwo"))

    def test_aBodyIsStreamedWhereItsLengthIsKnown(self) -> None:
        visitor = self.proxy.visit(b"POST /up HTTP/1.1\r\nHost: demo.localhost\r\nContent-Length: 6\r\n\r\none")
        self.assertEqual((self.stream().request.body_len, self.stream().body), (6, b"one"))
        visitor.transport.write(b"two")
        self.settle()
        self.assertEqual(self.stream().body, b"onetwo")

    def test_aClientThatExpectsContinueIsToldTo(self) -> None:
        visitor = self.proxy.visit(
            b"POST /up HTTP/1.1\r\nHost: demo.localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
        self.assertEqual(visitor.got, b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertNotIn("Expect", self.stream().request.headers)

    @changes("edge [agentserver] body_octets", "edge [agentserver] chunked_octets")
    def test_bodiesHaveBounds(self) -> None:
        self.proxy = Proxy(settings=EdgeSettings(bodyOctets=10, chunkedOctets=4))
        self.agent = Agent(self.proxy).connect()
        self.assertTrue(self.proxy.post(b"x" * 11).got.startswith(b"HTTP/1.1 413 "))
        chunked = b"POST / HTTP/1.1\r\nHost: demo.localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        self.assertTrue(self.proxy.visit(chunked).got.startswith(b"HTTP/1.1 413 "))
        self.assertEqual(self.agent.streams, [])
        self.proxy.post(b"x" * 10)
        self.assertEqual(len(self.agent.streams), 1)

    def test_eventsArriveAsTheyAreSent(self) -> None:
        visitor = self.proxy.get()
        self.stream().answer(b"data: 0\n\n", end=False, Content_Type="text/event-stream")
        self.settle()
        for number in range(1, 4):
            chunks = ChunkedDecoder()
            body = chunks.receive_data(visitor.got.partition(b"\r\n\r\n")[2])
            self.assertTrue(body.endswith(b"data: %d\n\n" % (number - 1)))
            self.stream().transport.write(b"data: %d\n\n" % number)
            self.settle()
        self.assertIsNone(visitor.lost)

    def test_everyResponseIsMarkedAgainstSniffing(self) -> None:
        visitor = self.proxy.get()
        self.stream().answer(b"ok", X_Content_Type_Options="other")
        self.settle()
        self.assertEqual(visitor.got.lower().count(b"x-content-type-options"), 1)
        self.assertIn(b"X-Content-Type-Options: nosniff\r\n", visitor.got)

    def test_aStatusOfZeroIsSentAs200(self) -> None:
        visitor = self.proxy.get()
        self.stream().answer(b"ok", 0)
        self.settle()
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 200 OK\r\n"))

    def test_theTypeOfTheReplyIsNotExamined(self) -> None:
        visitor = self.proxy.get()
        self.stream().answer(b"ok", kind=9)
        self.settle()
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 200 OK\r\n"))

    def test_aVisitorThatLeavesEndsTheStream(self) -> None:
        visitor = self.proxy.get()
        self.stream().answer(b"some", end=False)
        self.settle()
        visitor.transport.abortConnection()
        self.settle()
        self.assertIsNotNone(self.stream().reason)
        self.assertEqual(self.agent.session.streams, 0)

    def test_aSilentAgentIsGivenUp(self) -> None:
        """
        A genuine server would wait for ever.
        """
        visitor = self.proxy.get()
        self.proxy.network.passTime(61)
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 504 "), visitor.got)

    def test_anAgentThatAcceptsNoStreamIsLeft(self) -> None:
        visitor = self.proxy.get()
        self.agent.session.abort()
        self.settle()
        self.assertTrue(visitor.got.startswith(b"HTTP/1.1 503 "), visitor.got)

    def test_upgradesAreRefused(self) -> None:
        answer = self.proxy.get("/", "demo.localhost", "Connection: Upgrade", "Upgrade: websocket")
        self.assertTrue(answer.got.startswith(b"HTTP/1.1 501 "))
        self.assertEqual(self.agent.streams, [])

    def test_aHundredAtOnceEachHaveTheirOwn(self) -> None:
        visitors = [self.proxy.get(f"/{number}") for number in range(100)]
        for stream in reversed(self.agent.streams):
            stream.answer(stream.request.path.encode(), Content_Length=str(len(stream.request.path)))
        self.settle()
        for number, visitor in enumerate(visitors):
            self.assertTrue(visitor.got.endswith(b"\r\n\r\n/%d" % number), visitor.got)
        self.assertEqual(self.agent.session.streams, 0)

    def bad(self, octets: bytes, end: bool = False) -> bytes:
        visitor, bystander = self.proxy.get("/bad"), self.proxy.get("/good")
        bad, good = self.agent.streams[-2:]
        bad.transport.write(octets)
        if end:
            bad.transport.loseConnection()
        self.settle()
        good.answer(b"ok", Content_Length="2")
        self.settle()
        self.assertTrue(bystander.got.endswith(b"\r\n\r\nok"))
        self.assertEqual(self.agent.lost, [])
        return visitor.got

    def test_badAnswersCostTheirRequestOnly(self) -> None:
        for octets in (
            encode_typed_head(HTTP), encode_typed_head(HTTP, b"null"), encode_typed_head(HTTP, b"[200]"),
            encode_typed_head(HTTP, b"nonsense"), b"\x01\x00\x10\x00\x01", encode_typed_head(HTTP, b'{"status":"200"}'),
            encode_typed_head(HTTP, b'{"status":101}'), encode_typed_head(HTTP, b'{"status":1000}'),
            encode_typed_head(HTTP, b'{"status":-1}'), encode_typed_head(HTTP, b'{"status":200,"headers":{"a b":"c"}}'),
            encode_typed_head(HTTP, b'{"status":200,"headers":{"A":"b\\r\\nC: d"}}'),
            encode_typed_head(HTTP, b'{"status":200,"headers":{"Content-Length":"x"}}'),
        ):  # fmt: skip
            self.assertTrue(self.bad(octets).startswith(b"HTTP/1.1 502 "), octets)

    def test_anEndBeforeTheHeadIsABadGateway(self) -> None:
        self.assertTrue(self.bad(b"", end=True).startswith(b"HTTP/1.1 502 "))
        self.assertTrue(self.bad(b"\x01\x00", end=True).startswith(b"HTTP/1.1 502 "))

    def test_aSandboxThatIsNotConnectedIsSaid(self) -> None:
        self.agent.session.abort()
        self.settle()
        self.assertTrue(self.proxy.get().got.startswith(b"HTTP/1.1 503 "))

    def test_routesLeadToASandbox(self) -> None:
        self.proxy = Proxy(routes=(Route(host="app.example.net", to="demo"),))
        self.agent = Agent(self.proxy).connect()
        self.proxy.get("/x", "app.example.net")
        self.assertEqual(self.stream().request.path, "/x")


class TunnelTests(EdgeCase):
    """
    What developers call.
    """

    @property
    def tunnel(self) -> Any:
        return self.proxy.dialect.tunnels["sbx-1"]

    def test_openHTTPStreamSendsMetadataAndBody(self) -> None:
        receiver = Recorder()
        metadata = RequestMetadata("PUT", "/x", {"X-Own": "1"}, -1)
        self.tunnel.openHTTPStream(metadata, b"hello", receiver)
        self.settle()
        self.assertEqual(self.stream().request, RequestMetadata("PUT", "/x", {"X-Own": "1"}, 5))
        self.assertEqual(self.stream().body, b"hello")
        self.stream().answer(b"done", 202)
        self.settle()
        self.assertEqual((receiver.heads[0].status, receiver.body, receiver.trailers), (202, b"done", []))

    def test_otherPurposesAreNotCarried(self) -> None:
        self.assertRaises(UnsupportedPurpose, self.tunnel.endpointFor, TCPPurpose(service="demo"))
        self.assertRaises(UnsupportedPurpose, self.tunnel.exchange, HTTPPurpose(host="127.0.0.1", port=80), Recorder())

    def test_aTunnelThatDrainsTakesNothing(self) -> None:
        visitor = self.proxy.get()
        drained = self.tunnel.drain()
        self.settle()
        self.assertRaises(Busy, self.tunnel.openHTTPStream, RequestMetadata("GET", "/"), b"", Recorder())
        self.assertNoResult(drained)
        self.stream().answer(b"ok", Content_Length="2")
        self.settle()
        self.assertTrue(visitor.got.endswith(b"ok"))
        self.successResultOf(drained)
        self.assertEqual(self.proxy.dialect.tunnels, {})

    def test_whoCancelsResetsTheStream(self) -> None:
        receiver = Recorder()
        exchange = self.tunnel.openHTTPStream(RequestMetadata("GET", "/"), b"", receiver)
        self.settle()
        exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.settle()
        self.assertIsNotNone(self.stream().reason)

    def test_doneFiresWithTheSession(self) -> None:
        done = self.tunnel.whenLost()
        self.agent.session.abort()
        self.settle()
        self.successResultOf(done)

    def test_statusShowsTheVersion(self) -> None:
        self.agent.report()
        self.assertEqual(self.tunnel.version, "agentsdk/1.0")


class ControlTests(EdgeCase):
    """
    Streams that the agent opens.
    """

    def test_aDocumentIsReadAndTheStreamEnds(self) -> None:
        stream = self.agent.report()
        expected = MachineDocument(agent_version="agentsdk/1.0", hostname="h1", os="linux")
        self.assertEqual(self.proxy.documents, [("demo", expected)])
        self.assertEqual((stream.got, self.agent.session.streams), (b"", 0))

    def test_metadataOfAControlStreamAreIgnored(self) -> None:
        self.agent.open(encode_typed_head(CONTROL, b"anything") + HEARTBEAT, end=True)
        self.assertEqual(len(self.proxy.documents), 1)

    def test_manyHeartbeatsAreAccepted(self) -> None:
        """
        A server that does not accept control streams breaks the session of a Go agent after 75 seconds.
        """
        for _ in range(400):
            self.agent.report()
            self.proxy.network.passTime(20, step=20)
        self.assertEqual((len(self.proxy.documents), self.agent.lost), (400, []))

    def test_nonsenseIsLoggedOnceAndIgnored(self) -> None:
        for nonsense in (b"", b"nonsense", b"[]", b"\xff\xfe", b'{"hostname":1}', b'{"memory_total":"x"}'):
            self.agent.report(nonsense)
        self.assertEqual((self.proxy.documents, self.agent.lost, self.agent.session.streams), ([], [], 0))
        self.assertEqual(len(self.warnings()), 1)
        self.agent.report()
        self.assertEqual(len(self.proxy.documents), 1)

    def test_aDocumentWithoutEndIsGivenUp(self) -> None:
        endless = self.agent.open(encode_typed_head(CONTROL) + b"{")
        self.proxy.network.passTime(61)
        self.assertIsNotNone(endless.reason)
        self.assertEqual(self.agent.lost, [])

    def test_aDocumentHasABound(self) -> None:
        long = self.agent.open(encode_typed_head(CONTROL) + b" " * (1024 * 1024 + 1))
        self.assertIsNotNone(long.reason)
        self.assertEqual(self.agent.lost, [])

    def test_controlStreamsAreBounded(self) -> None:
        streams = [self.agent.open(encode_typed_head(CONTROL)) for _ in range(9)]
        self.assertEqual([stream.reason is None for stream in streams], [True] * 8 + [False])

    def test_otherTypesCostTheirStreamOnly(self) -> None:
        for octets in (encode_typed_head(HTTP), encode_typed_head(TERMINAL), encode_typed_head(9), b"\x03\x00\x10\x00\x01"):
            self.assertIsNotNone(self.agent.open(octets).reason, octets)
        self.assertEqual(self.agent.lost, [])
        self.agent.report()
        self.assertEqual(len(self.proxy.documents), 1)


class RegistryTests(EdgeCase):
    """
    One tunnel for each sandbox.
    """

    def test_theLastOneReplacesTheFormer(self) -> None:
        other = Agent(self.proxy).connect()
        self.assertEqual((len(self.agent.lost), other.lost), (1, []))
        self.proxy.get("/x")
        self.assertEqual((len(self.agent.streams), other.streams[-1].request.path), (0, "/x"))

    def test_theFormerDoesNotTakeTheNewOneAway(self) -> None:
        """
        Its end is noticed after the new one is there.
        """
        other = Agent(self.proxy).connect()
        self.proxy.network.passTime(30)
        self.assertEqual(list(self.proxy.dialect.tunnels), ["sbx-1"])
        self.proxy.get("/x")
        self.assertEqual(len(other.streams), 1)

    def test_twoSandboxesKeepApart(self) -> None:
        self.proxy = Proxy(sandbox(), sandbox("sbx-2", "other", "tok-2"))
        one, two = Agent(self.proxy).connect(), Agent(self.proxy, "sbx-2", "tok-2").connect()
        self.proxy.get("/one", "demo.localhost")
        self.proxy.get("/two", "other.localhost")
        self.assertEqual((one.streams[0].request.path, two.streams[0].request.path), ("/one", "/two"))

    def test_theNameOfAnAgentOfAnotherSystemIsNotTaken(self) -> None:
        """
        The agent comes again, as genuine ones do; nobody else notices.
        """
        new = newToken()
        record = TokenRecord(name="demo", tokenSha256=new.tokenSha256, allow=("http:demo",), id=new.id)
        proxy = Proxy(tokens=(record,))
        native = AgentService(
            proxy.network, AgentConfig(edges=(EdgeAddress(url=f"http://localhost:{PORT}", token=new.token),)), plugins=False,
        )
        native.startService()
        proxy.settle()
        agent = Agent(proxy).connect()
        self.assertIsNotNone(agent.refused or agent.lost)
        self.assertEqual(proxy.dialect.tunnels, {})
        native.stopService()
        proxy.network.passTime(5)

    def test_revokingEndsTheSession(self) -> None:
        apply = self.proxy.dialect.prepareReload({})
        self.assertEqual(self.agent.lost, [])
        apply()
        self.settle()
        self.assertEqual(len(self.agent.lost), 1)
        again = Agent(self.proxy).connect()
        self.assertEqual(again.refused.status, 401)

    def test_anotherTokenEndsTheSession(self) -> None:
        tables = {"agentserver": {"agentserver.sandbox": (sandbox(token="new"), sandbox("sbx-2", "two"))}}
        self.proxy.dialect.prepareReload(tables)()
        self.settle()
        self.assertEqual(len(self.agent.lost), 1)
        self.assertIsNone(Agent(self.proxy, token="new").connect().refused)
        self.assertIsNone(Agent(self.proxy, "sbx-2").connect().refused)

    def test_whatStaysTheSameStaysConnected(self) -> None:
        tables = {"agentserver": {"agentserver.sandbox": (sandbox(), sandbox("sbx-2", "two"))}}
        self.proxy.dialect.prepareReload(tables)()
        self.settle()
        self.assertEqual(self.agent.lost, [])

    def test_theEdgeStops(self) -> None:
        self.proxy.stop()
        self.assertEqual(len(self.agent.lost), 1)


class KeepaliveTests(EdgeCase):
    """
    WebSocket pings.
    """

    def test_anAgentThatAnswersStays(self) -> None:
        self.proxy.network.passTime(200)
        self.assertEqual(self.agent.lost, [])

    def test_anAgentThatDoesNotAnswerIsDropped(self) -> None:
        self.agent.session.transport.pauseProducing()
        self.proxy.network.passTime(19)
        self.assertEqual(list(self.proxy.dialect.tunnels), ["sbx-1"])
        self.proxy.network.passTime(7)
        self.assertEqual(self.proxy.dialect.tunnels, {})

    def test_noYamuxPingIsSent(self) -> None:
        """
        Genuine programs have them off on both sides.
        """
        self.assertEqual(self.proxy.dialect.tunnels["sbx-1"].session.limits.keepalive, 0.0)


class CutExchangeTests(ExchangeTests):
    cut = 7


class CutControlTests(ControlTests):
    cut = 1000


class AdminTests(EdgeCase):
    """
    What commands ask for.
    """

    def post(self, path: str, **asked: Any) -> Any:
        return self.proxy.dialect.postHandlers[path.encode()](asked)

    def list(self) -> Any:
        return self.proxy.dialect.getHandlers[b"/sandboxes"]()  # type: ignore[index]

    def setUp(self) -> None:
        super().setUp()
        self.state = StateDirectory(Path(self.mktemp()))
        self.proxy = Proxy(state=self.state)
        self.agent = Agent(self.proxy).connect()

    def test_whatIsConnectedIsListedWithWhatItReported(self) -> None:
        self.agent.report()
        self.assertEqual(self.list(), {"sandboxes": [{
            "id": "sbx-1", "name": "demo", "configured": True, "connected": True, "hostname": "h1", "os": "linux",
            "agent_version": "agentsdk/1.0",
        }]})

    def test_anAddedSandboxMayConnectAndARevokedOneMayNot(self) -> None:
        answer = self.post("/sandboxes/add", name="second")
        identifier, token = answer["sandbox"]["id"], answer["token"]
        agent = Agent(self.proxy, identifier, token).connect()
        self.assertIsNone(agent.refused)
        self.proxy.get("/x", "second.localhost")
        self.assertEqual(len(agent.streams), 1)
        self.post("/sandboxes/revoke", sandbox="second")
        self.proxy.settle()
        self.assertEqual(len(agent.lost), 1)
        self.assertEqual(Agent(self.proxy, identifier, token).connect().refused.status, 401)

    def test_anExistingSandboxKeepsItsIdAndToken(self) -> None:
        answer = self.post("/sandboxes/add", name="old", id="sbx-old", token_sha256=digest("old token"))
        self.assertEqual((answer["sandbox"]["id"], answer["token"]), ("sbx-old", ""))
        self.assertIsNone(Agent(self.proxy, "sbx-old", "old%20token").connect().refused)

    def test_whatWasAddedOutlivesTheEdge(self) -> None:
        token = self.post("/sandboxes/add", name="second", id="sbx-2")["token"]
        self.assertNotIn(token, (self.state.read("sandboxes.json") or ""))
        again = Proxy(state=self.state)
        self.assertIsNone(Agent(again, "sbx-2", token).connect().refused)

    def test_mistakesAreNamed(self) -> None:
        self.post("/sandboxes/add", name="second", id="sbx-2")
        for path, asked, code in (
            ("/sandboxes/add", {}, "malformed"),
            ("/sandboxes/add", {"name": 7}, "malformed"),
            ("/sandboxes/add", {"name": "Not A Label"}, "malformed"),
            ("/sandboxes/add", {"name": "x", "id": "a/b"}, "malformed"),
            ("/sandboxes/add", {"name": "x", "token_sha256": "short"}, "malformed"),
            ("/sandboxes/add", {"name": "demo"}, "taken"),
            ("/sandboxes/add", {"name": "x", "id": "sbx-2"}, "taken"),
            ("/sandboxes/revoke", {}, "malformed"),
            ("/sandboxes/revoke", {"sandbox": "nobody"}, "unknown"),
            ("/sandboxes/revoke", {"sandbox": "demo"}, "not-allowed"),
        ):
            denied = self.assertRaises(Denied, self.post, path, **asked)
            self.assertEqual(denied.code, code, denied)

    def test_withoutAStateFolderNoneCanBeAdded(self) -> None:
        self.proxy = Proxy()
        self.assertEqual(self.assertRaises(Denied, self.post, "/sandboxes/add", name="x").code, "unsupported")
