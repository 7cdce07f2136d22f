"""
The HTTPS API of an agent of GoDoxy: the agent itself, the health of servers, forwarded requests, and the socket of Docker.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from tests.changed_settings import changes
from tests.dialect.godoxy.agent_support import AgentCase
from tunnelstack.exchange.http2_server import HTTP2ServerConnection
from tunnelstack.exchange.whole_message import WholeMessageServer, WholeRequest, WholeResponse
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.records.godoxy import ALPN

CONFIG = b64encode(b"{}").decode()


class Origin(Protocol):
    """
    A web server that keeps what it was asked.
    """

    def dataReceived(self, data: bytes) -> None:
        factory: Any = self.factory
        factory.asked.append(data)
        if factory.answer is not None:
            self.transport.write(factory.answer)  # type: ignore[union-attr]


class OriginFactory(Factory):
    protocol = Origin
    noisy = False

    def __init__(self) -> None:
        self.answer: bytes | None = (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: nginx\r\nX-Powered-By: PHP\r\n\r\nhi"
        )
        self.asked: list[bytes] = []


class APICase(AgentCase):
    """
    Requests, each on a connection of its own.
    """

    def setUp(self) -> None:
        super().setUp()
        self.origin = OriginFactory()
        self.network.listenTCP(8000, self.origin)

    def ask(
        self, path: str, *fields: str, method: str = "GET", host: str = "godoxy.agent", alpn: tuple[bytes, ...] = ()
    ) -> tuple[int, dict[str, str], bytes]:
        end = self.successResultOf(self.connect(alpn))
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]
        end.transport.write("\r\n".join(lines).encode("latin-1"))
        self.network.settle()
        end.transport.loseConnection()
        self.network.settle()
        head, _, body = end.got.partition(b"\r\n\r\n")
        status, *rest = head.decode("latin-1").split("\r\n")
        return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in rest), body


class InfoTests(APICase):
    """
    What it reports of itself.
    """

    def test_theMembersOfTheGenuineAgentComeFirst(self) -> None:
        self.start(name="rack", runtime="podman")
        for alpn in ((), (b"http/1.1",), (ALPN, b"http/1.1"), (b"h2", b"http/1.1")):
            status, fields, body = self.ask("/godoxy/agent/info", alpn=alpn)
            self.assertEqual((status, fields["content-type"]), (200, "application/json"))
            self.assertTrue(body.startswith(b'{"version":"v0.31.0","name":"rack","runtime":"podman",'), body)
            self.assertTrue(body.endswith(b"}\n"))
        answer = json.loads(body)
        self.assertEqual((answer["supports_tcp_stream"], answer["supports_udp_stream"]), (True, False))

    def test_otherPathsAreUnknown(self) -> None:
        self.start()
        for path in ("/", "/godoxy/agent/version", "/v1.47/containers/json", "/godoxy/agent/proxy/httpx"):
            self.assertEqual(self.ask(path)[0], 404, path)

    def test_thereAreNoStatistics(self) -> None:
        self.start()
        self.assertEqual(self.ask("/godoxy/agent/system_info?period=5m")[0], 204)

    def test_requestsAreInTheAccessLog(self) -> None:
        self.start()
        self.ask("/godoxy/agent/info")
        self.assertEqual(self.host.requests, [("godoxy", 200)])

    def test_anUnknownProtocolIsRefused(self) -> None:
        self.start()
        self.failureResultOf(self.connect((b"h2",)))
        self.assertIn("the client offers only", self.lines[0])

    @changes("agent [[godoxy]] requests")
    def test_connectionsAreBounded(self) -> None:
        self.start(requests=1)
        first = self.successResultOf(self.connect(()))
        second = self.successResultOf(self.connect(()))
        self.network.settle()
        self.assertIsNone(first.reason)
        self.assertIsNotNone(second.reason)


class HealthTests(APICase):
    """
    The health of servers.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start(targets=("localhost:8000", "localhost:8001", "localhost:3000"))

    def health(self, query: str) -> dict[str, Any]:
        status, fields, body = self.ask(f"/godoxy/agent/health?{query}")
        self.assertEqual((status, fields["content-type"]), (200, "application/json"), body)
        found: dict[str, Any] = json.loads(body)
        self.assertEqual(list(found), ["healthy", "detail", "latency"])
        self.assertIsInstance(found["latency"], int)
        return found

    def test_webServersAreChecked(self) -> None:
        for status, healthy in ((200, True), (404, True), (401, True), (500, False), (503, False)):
            self.origin.answer = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status
            found = self.health("scheme=http&host=127.0.0.1:8000&path=/status%3Fx%3D1%20%0d%0aX:y&timeout=2000")
            self.assertEqual(found["healthy"], healthy, status)
            self.assertEqual(found["detail"], "" if healthy else f"status {status}")
        self.assertTrue(self.origin.asked[0].startswith(b"HEAD /status?x=1%20%0D%0AX:y HTTP/1.1\r\n"), self.origin.asked[0])

    def test_whatAcceptsConnectionsIsHealthy(self) -> None:
        for query in ("tcp&host=127.0.0.1:3000", "tcp4&host=127.0.0.1&port=3000", "h2c&host=127.0.0.1:3000"):
            query = f"scheme={query}"
            self.assertTrue(self.health(query)["healthy"], query)
        self.assertIn("cannot be reached", self.health("scheme=tcp&host=127.0.0.1:8001")["detail"])
        self.assertIn("cannot be reached", self.health("scheme=tcp&host=127.0.0.1&port=8001&timeout=1")["detail"])

    def test_datagramsAreHealthyIfTheirHostHasAnAddress(self) -> None:
        self.network.nameResolver = None           # type: ignore[attr-defined]
        self.assertTrue(self.health("scheme=udp&host=127.0.0.1:3000")["healthy"])

    def test_aServerThatDoesNotAnswer(self) -> None:
        self.origin.answer = None
        end = self.successResultOf(self.connect(()))
        target = b"/godoxy/agent/health?scheme=http&host=127.0.0.1:8000&timeout=3000"
        end.transport.write(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        self.network.passTime(2)
        self.assertEqual(end.got, b"")
        self.network.passTime(1)
        self.assertIn(b'"healthy":false', end.got)

    def test_whatWasNotGrantedIsNotExamined(self) -> None:
        for query in ("scheme=tcp&host=127.0.0.1:22", "scheme=http&host=10.0.0.1", "scheme=udp&host=127.0.0.1:53"):
            self.assertIn("is not among the targets", self.health(query)["detail"])
        self.assertIn("examines no files", self.health("scheme=fileserver&path=/etc/shadow")["detail"])
        self.assertEqual(len(self.lines), 4)

    def test_wrongQueries(self) -> None:
        self.assertEqual(self.ask("/godoxy/agent/health")[0], 400)
        self.assertEqual(self.ask("/godoxy/agent/health?scheme=http")[0], 400)
        self.assertEqual(self.ask("/godoxy/agent/health?scheme=http&host=a", method="POST")[0], 405)
        self.assertEqual(self.health("scheme=tcp&host=127.0.0.1")["detail"], "no port specified")
        self.assertEqual(self.health("scheme=gopher&host=127.0.0.1:70")["detail"], "unsupported scheme")
        self.assertEqual(self.health("scheme=tcp&host=a%0d%0ab:80")["detail"], "the host is malformed")


class ProxyTests(APICase):
    """
    Requests that are forwarded.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start(targets=("localhost:8000", "localhost:8001"))

    def forward(self, path: str, *fields: str, **options: Any) -> tuple[int, dict[str, str], bytes]:
        return self.ask(f"/godoxy/agent/proxy/http{path}", *fields, **options)

    def newer(self, scheme: str = "http", host: str = "127.0.0.1:8000", config: str = CONFIG) -> tuple[str, ...]:
        return f"X-Proxy-Scheme: {scheme}", f"X-Proxy-Host: {host}", f"X-Proxy-Config: {config}"

    def test_aRequestReachesTheServerThatItNames(self) -> None:
        status, fields, body = self.forward("//a/b?c=d", *self.newer(), "X_Proxy_Scheme: x", host="app.example.net")
        self.assertEqual((status, body), (200, b"hi"))
        head, *lines = self.origin.asked[0].decode().split("\r\n")
        self.assertEqual(head, "GET //a/b?c=d HTTP/1.1")
        self.assertIn("Host: app.example.net", lines)
        self.assertIn("X-Forwarded-For: 127.0.0.1", lines)
        self.assertIn("X-Forwarded-Proto: https", lines)
        self.assertIn("X-Forwarded-Host: app.example.net", lines)
        self.assertFalse([line for line in lines if "proxy" in line.lower()])
        self.assertFalse({"server", "x-powered-by"} & fields.keys())

    def test_whatAnEdgeReportsOfTheVisitorStays(self) -> None:
        self.forward(
            "/", *self.newer(), "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: http", "X-Forwarded-Host: a.example"
        )
        asked = self.origin.asked[0].decode()
        self.assertIn("X-Forwarded-For: 203.0.113.9, 127.0.0.1\r\n", asked)
        self.assertIn("X-Forwarded-Proto: http\r\n", asked)
        self.assertEqual(asked.lower().count("x-forwarded-"), 3)

    def test_theWholeConfigurationAndTheOlderFieldsAreRead(self) -> None:
        whole = {"no_tls_verify": False, "response_header_timeout": 0, "max_conns_per_host": 0, "disable_compression": False}
        self.assertEqual(self.forward("/", *self.newer(config=b64encode(json.dumps(whole).encode()).decode()))[0], 200)
        older = ("X-Proxy-Host: 127.0.0.1:8000", "X-Proxy-Https: false", "X-Proxy-Skip-Tls-Verify: x")
        self.assertEqual(self.forward("", *older, "X-Proxy-Response-Header-Timeout: soon")[0], 200)
        self.assertTrue(self.origin.asked[1].startswith(b"GET / HTTP/1.1\r\n"))

    def test_wrongFieldsAreRejected(self) -> None:
        for fields in (
            self.newer(config="%%%"), self.newer(config=""), self.newer(config=b64encode(b"[]").decode()), self.newer(host=""),
            self.newer(scheme="ftp"), self.newer(host="a b"), self.newer(config=b64encode(b'{"no_tls_verify":1}').decode()),
            self.newer(config=b64encode(b'{"response_header_timeout":"1s"}').decode()), ("X-Proxy-Https: true",),
            self.newer(host="a:99999"),
        ):
            status, _, body = self.forward("/", *fields)
            self.assertEqual(status, 400, fields)
            self.assertTrue(body.startswith(b"failed to parse agent proxy config"), body)
        self.assertEqual(self.origin.asked, [])

    def test_whatThisAgentDoesNotDo(self) -> None:
        for status, fields in (
            (500, self.newer(config=b64encode(b'{"ssl_certificate":"/etc/key.pem"}').decode())),
            (500, self.newer(config=b64encode(b'{"ssl_protocols":["tlsv1.0"]}').decode())),
        ):
            self.assertEqual(self.forward("/", *fields)[0], status)

    def test_requestsAreForwardedByHTTP2(self) -> None:
        heads: list[RequestHead] = []

        def respond(request: WholeRequest) -> WholeResponse:
            heads.append(request.head)
            return WholeResponse(200, b"over HTTP/2", fields=((b"Server", b"nginx"),))

        server = WholeMessageServer(respond, clock=self.network, bodyOctets=100)
        factory = Factory()
        factory.buildProtocol = lambda address: (  # type: ignore[method-assign, assignment]
            HTTP2ServerConnection(server, clock=self.network).protocol
        )
        self.network.listenTCP(8001, factory)
        status, fields, body = self.forward("/a?b", *self.newer("h2c", "127.0.0.1:8001"), host="app.example.net")
        self.assertEqual((status, body), (200, b"over HTTP/2"))
        self.assertNotIn("server", fields)
        (head,) = heads
        self.assertEqual((head.target, head.field(b"host")), (b"/a?b", b"app.example.net"))

    def test_otherTargetsAreRefused(self) -> None:
        status, _, body = self.forward("/", *self.newer(host="127.0.0.1:9000"))
        self.assertEqual((status, body), (403, b"127.0.0.1:9000 is not among the targets of this agent\n"))
        self.assertIn("is not among the targets", self.lines[0])

    def test_aServerThatRefuses(self) -> None:
        status, _, body = self.forward("/secret?token=1", *self.newer(host="127.0.0.1:8001"))
        self.assertEqual((status, body), (502, b"Origin server is not reachable.\n"))
        self.assertIn("127.0.0.1:8001 cannot be reached", self.lines[0])
        self.assertNotIn("token", self.lines[0])

    def test_aServerThatDoesNotAnswer(self) -> None:
        self.origin.answer = None
        config = b64encode(b'{"response_header_timeout":3000000000}').decode()
        end = self.successResultOf(self.connect(()))
        lines = ["GET /godoxy/agent/proxy/http/ HTTP/1.1", "Host: a", *self.newer(config=config), "", ""]
        end.transport.write("\r\n".join(lines).encode())
        self.network.passTime(2)
        self.assertEqual(end.got, b"")
        self.network.passTime(2)
        self.assertIn(b"504", end.got.split(b"\r\n")[0])

    def test_connectionsAreKept(self) -> None:
        for _ in range(3):
            self.assertEqual(self.forward("/", *self.newer())[0], 200)
        pools = self.agent._api.proxy.pools
        self.assertEqual((len(pools), next(iter(pools._pools.values())).idle), (1, 1))

    def test_onlySoManyServersAreRemembered(self) -> None:
        pools = self.agent._api.proxy.pools
        for seconds in range(1, 80):
            config = b64encode(b'{"response_header_timeout":%d}' % (seconds * 10**9)).decode()
            self.forward("/", *self.newer(config=config))
        self.assertEqual(len(pools), 64)

    def test_upgradesPass(self) -> None:
        self.origin.answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        end = self.successResultOf(self.connect(()))
        upgrade = ("Connection: Upgrade", "Upgrade: echo")
        lines = ["GET /godoxy/agent/proxy/http/ws HTTP/1.1", "Host: a", *upgrade, *self.newer(), "", ""]
        end.transport.write("\r\n".join(lines).encode())
        self.network.settle()
        self.assertTrue(end.got.startswith(b"HTTP/1.1 101 "), end.got)
        self.origin.answer = None
        end.transport.write(b"raw octets")
        self.network.settle()
        self.assertEqual(self.origin.asked[-1], b"raw octets")


class DockerTests(APICase):
    """
    The socket of containers.
    """

    def start(self, **settings: Any) -> Any:
        agent = super().start(dockerSocket="/run/docker.sock", **settings)
        assert agent._api.docker is not None
        agent._api.docker.pool._endpoint = TCP4ClientEndpoint(self.network, "127.0.0.1", 8000)  # type: ignore[arg-type]
        return agent

    def test_onlyGETIsAccepted(self) -> None:
        self.start()
        self.assertEqual(self.ask("/v1.47/containers/json?all=1")[0], 200)
        self.assertTrue(self.origin.asked[0].startswith(b"GET /v1.47/containers/json?all=1 HTTP/1.1\r\nHost: docker\r\n"))
        for method in ("POST", "DELETE", "HEAD", "PUT"):
            self.assertEqual(self.ask("/v1.47/containers/a/stop", method=method)[0], 403)
        upgrade = ("Connection: Upgrade", "Upgrade: websocket")
        self.assertEqual(self.ask("/v1.47/containers/a/attach/ws", *upgrade)[0], 403)
        self.assertEqual(len(self.origin.asked), 1)
        self.assertEqual(len(self.lines), 5)

    def test_otherMethodsCanBeGranted(self) -> None:
        self.start(dockerMethods=("GET", "POST"))
        self.assertEqual(self.ask("/v1.47/containers/a/stop", "Content-Length: 0", method="POST")[0], 200)

    def test_itsOwnPathsAreNotForwarded(self) -> None:
        self.start()
        self.assertEqual(self.ask("/godoxy/agent/info")[0], 200)
        self.assertEqual(self.ask("/godoxy/agent/other")[0], 404)
        self.assertEqual(self.origin.asked, [])
