"""
What the agent changes in requests to local web servers, and in their responses.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from tests.changed_settings import changes
from tests.exchange.doubles import Server
from tunnelstack.dialect.jetty.registration import UpstreamRefused
from tunnelstack.dialect.jetty.settings import AgentSettings
from tunnelstack.dialect.jetty.upstream import MOST_SERVERS, AllowedTargets, LocalServers
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.testing import Caller, Network
from tunnelstack.wire.http1.head import ResponseHead
from tunnelstack.wire.records.jetty_bridge import Heartbeat

WEB, OTHER, FRONT = 3000, 4000, 8000

REQUEST = (
    b"GET /x?y HTTP/1.1\r\nHost: demo.t.example\r\nAccept-Encoding: gzip\r\nX-Forwarded-Host: demo.t.example\r\n"
    b"Connection: close\r\n\r\n"
)


class UpstreamCase(SynchronousTestCase):
    """
    Local web servers, and a connection on which requests come as from the edge.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.ended: list[tuple[int, float]] = []
        self.web, self.other = self.listen(WEB), self.listen(OTHER)

    def listen(self, port: int) -> Server:
        server = Server()
        factory = Factory.forProtocol(lambda: HTTPServerProtocol(server, clock=self.network))
        factory.noisy = False
        self.network.listenTCP(port, factory)
        return server

    def use(self, **settings: Any) -> LocalServers:
        record = AgentSettings(**{"url": "https://t.example", "tokenFile": "t", "target": str(WEB), **settings})
        self.servers = LocalServers(
            self.network, record, lambda served: self.ended.append((served.exchange.status, served.seconds))
        )
        return self.servers

    def send(self, octets: bytes = REQUEST, target: tuple[str, int] | None = None) -> Caller:
        server = self.servers.serverFor(target)
        factory = Factory.forProtocol(lambda: HTTPServerProtocol(server, clock=self.network))
        factory.noisy = False
        caller = Caller()
        self.network.join(caller, factory, IPv4Address("TCP", "127.0.0.1", FRONT))
        caller.transport.write(octets)
        self.network.settle()
        return caller

    def respond(self, *fields: tuple[bytes, bytes], status: int = 200, body: bytes = b"") -> None:
        exchange = self.web.asked[-1][1]
        exchange.respond(ResponseHead(status, b"", [(b"Content-Length", b"%d" % len(body)), *fields]), body)
        self.network.settle()


class RequestTests(UpstreamCase):
    def test_theServerGetsItsOwnHost(self) -> None:
        self.use()
        self.send()
        head = self.web.asked[0][0]
        self.assertEqual(head.target, b"/x?y")
        self.assertEqual(head.fields, [
            (b"Host", b"localhost:3000"), (b"Accept-Encoding", b"gzip"), (b"X-Forwarded-Host", b"demo.t.example"),
            (b"X-Forwarded-Proto", b"https"),
        ])

    def test_codingsAreDroppedForRewriting(self) -> None:
        self.use(rewriteBody=True)
        self.send()
        self.assertIsNone(self.web.asked[0][0].field(b"accept-encoding"))

    def test_bodiesAndUpgradesPass(self) -> None:
        self.use()
        self.send(b"POST / HTTP/1.1\r\nHost: d.t.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        _, exchange, received = self.web.asked[0]
        self.assertEqual((received.body, received.trailers), (b"abc", []))
        self.send(b"GET /ws HTTP/1.1\r\nHost: d.t.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        head, exchange, received = self.web.asked[1]
        self.assertEqual(head.field(b"upgrade"), b"websocket")
        caller = self.send(b"GET /ws HTTP/1.1\r\nHost: d.t.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        head, exchange, received = self.web.asked[2]
        exchange.sendHead(ResponseHead(101, b"Switching Protocols", [(b"Upgrade", b"websocket")]))
        exchange.write(b"raw")
        self.network.settle()
        self.assertTrue(caller.got.endswith(b"\r\n\r\nraw"), caller.got)

    def test_aRouteChoosesTheServer(self) -> None:
        self.use(routes=(f"/api={OTHER}",))
        self.send(b"GET /api/v1 HTTP/1.1\r\nHost: d.t.example\r\n\r\n")
        self.send(b"GET /other HTTP/1.1\r\nHost: d.t.example\r\n\r\n")
        self.assertEqual([server.asked[0][0].target for server in (self.other, self.web)], [b"/api/v1", b"/other"])

    def test_theEdgeMayNameAnAllowedServer(self) -> None:
        self.use(routes=(f"/api={OTHER}",), allowHosts=("*.app.test", "127.9.9.9"))
        self.send(target=("localhost", OTHER))
        self.assertEqual(len(self.other.asked), 1)
        for host, port in (("10.0.0.1", OTHER), ("localhost", 22), ("app.test", 80), ("evilapp.test", 80)):
            self.assertRaises(UpstreamRefused, self.servers.serverFor, (host, port))
        for host in ("A.app.test", "127.9.9.9"):
            self.servers.serverFor((host, 1))

    def test_onlySomeServersAreKept(self) -> None:
        servers = self.use(allowHosts=("localhost",))
        first = servers.find(("localhost", 1))
        for port in range(2, MOST_SERVERS + 2):
            servers.find(("localhost", port))
        self.assertIsNot(servers.find(("localhost", 1)), first)

    def test_aHostMayBeAnyOfSeveral(self) -> None:
        allowed = AllowedTargets([("::1", 80), ("App.test", 8080)], ())
        self.assertTrue(allowed.has("::1", 80) and allowed.has("app.TEST", 8080))
        self.assertFalse(allowed.has("app.test", 80))


class ResponseTests(UpstreamCase):
    def test_redirectsBecomePublic(self) -> None:
        self.use(rewriteHosts=("app.test",))
        caller = self.send()
        self.respond(
            (b"Location", b"http://localhost:3000/a?b"), (b"Refresh", b"5; url=//app.test/c"), (b"Set-Cookie", b"a=1"),
            (b"Set-Cookie", b"b=2"), (b"Content-Encoding", b"gzip"), status=302, body=b"x",
        )
        for line in (
            b"Location: https://demo.t.example/a?b", b"Refresh: 5; url=https://demo.t.example/c", b"Set-Cookie: a=1",
            b"Set-Cookie: b=2", b"Content-Encoding: gzip", b"Content-Length: 1",
        ):
            self.assertIn(b"\r\n" + line + b"\r\n", caller.got)

    def test_thePublicHostMayComeFromTheTunnel(self) -> None:
        self.use().publicHost = "demo.t.example"
        caller = self.send(b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual(self.web.asked[0][0].field(b"x-forwarded-host"), b"demo.t.example")
        self.respond((b"Location", b"http://localhost/"), status=302)
        self.assertIn(b"Location: https://demo.t.example/\r\n", caller.got)

    def test_redirectsMayBeKept(self) -> None:
        self.use(rewriteLocation=False)
        caller = self.send()
        self.respond((b"Location", b"http://localhost:3000/"), status=302)
        self.assertIn(b"Location: http://localhost:3000/\r\n", caller.got)

    def test_failuresAreTexts(self) -> None:
        self.use(target="3999")
        caller = self.send()
        self.assertTrue(caller.got.startswith(b"HTTP/1.1 502 "), caller.got)
        self.assertIn(b"Content-Type: text/plain; charset=utf-8\r\n", caller.got)
        self.assertTrue(caller.got.endswith(b"Nothing listens on localhost:3999 yet."), caller.got)
        self.flushLoggedErrors()

    def test_aServerThatDoesNotAnswerIsATimeout(self) -> None:
        self.use()
        caller = self.send()
        self.network.passTime(61)
        self.assertTrue(caller.got.startswith(b"HTTP/1.1 504 "), caller.got)

    def test_whatIsServedIsCounted(self) -> None:
        servers = self.use()
        self.send(b"POST / HTTP/1.1\r\nHost: d\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
        self.network.passTime(2)
        self.respond(body=b"12345")
        caller = self.send()
        caller.transport.abortConnection()
        self.network.settle()
        first = len(b"HostdContent-Length3") + 2 * 4
        second = len(b"Hostdemo.t.exampleAccept-EncodinggzipX-Forwarded-Hostdemo.t.example") + 3 * 4
        self.assertEqual(servers.counts.take(), Heartbeat(requests=2, bytes_in=3 + first + second, bytes_out=5))
        self.assertEqual(servers.counts.take(), Heartbeat())
        self.assertEqual(self.ended, [(200, 2.0), (0, 0.0)])

    @changes("agent [[jetty]] connect_seconds")
    def test_aConnectionHasItsTime(self) -> None:
        self.use(connectSeconds=2.0, target="192.0.2.1:80")
        self.network.connectTCP = Unreachable  # type: ignore[method-assign,assignment,misc]
        caller = self.send()
        self.network.passTime(1.9)
        self.assertEqual(caller.got, b"")
        self.network.passTime(0.2)
        self.assertTrue(caller.got.startswith(b"HTTP/1.1 502 "), caller.got)


class Unreachable:
    """
    A connector that never connects.
    """

    def __init__(self, host: str, port: int, factory: Any, *rest: Any, **named: Any) -> None:
        self.destination = IPv4Address("TCP", host, port)
        factory.startedConnecting(self)

    def getDestination(self) -> IPv4Address:
        return self.destination

    def stopConnecting(self) -> None:
        pass

    disconnect = stopConnecting


class BodyTests(UpstreamCase):
    """
    Bodies that are rewritten.
    """

    PAGE = b'<a href="http://localhost:3000/x">x</a>'
    PUBLIC = b'<a href="https://demo.t.example/x">x</a>'

    def setUp(self) -> None:
        super().setUp()
        self.use(rewriteBody=True, rewriteBodyOctets=1000)

    def test_pagesAreRewritten(self) -> None:
        caller = self.send()
        self.respond((b"Content-Type", b"Text/HTML; charset=utf-8"), (b"ETag", b'"1"'), body=self.PAGE)
        self.assertTrue(caller.got.endswith(self.PUBLIC), caller.got)
        self.assertIn(b"Content-Length: %d\r\n" % len(self.PUBLIC), caller.got)
        self.assertNotIn(b"ETag", caller.got)

    def test_pagesInPiecesAreRewritten(self) -> None:
        caller = self.send()
        exchange = self.web.asked[0][1]
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Type", b"text/html"), (b"Transfer-Encoding", b"chunked")]))
        for each in (self.PAGE[:20], self.PAGE[20:]):
            exchange.write(each)
            self.network.settle()
        self.assertEqual(caller.got, b"")
        exchange.end()
        self.network.settle()
        self.assertTrue(caller.got.endswith(b"\r\n\r\n" + self.PUBLIC), caller.got)

    def test_otherBodiesPass(self) -> None:
        html = (b"Content-Type", b"text/html")
        for fields, status in (
            ([(b"Content-Type", b"application/json")], 200), ([html, (b"Content-Encoding", b"gzip")], 200), ([html], 206),
            ([], 200),
        ):
            caller = self.send()
            self.respond(*fields, status=status, body=self.PAGE)
            self.assertTrue(caller.got.endswith(self.PAGE), caller.got)

    @changes("agent [[jetty]] rewrite_body_octets")
    def test_longBodiesPass(self) -> None:
        page = self.PAGE + b" " * 1000
        caller = self.send()
        self.respond((b"Content-Type", b"text/html"), body=page)
        self.assertTrue(caller.got.endswith(page), caller.got)
        caller = self.send()
        exchange = self.web.asked[-1][1]
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Type", b"text/html"), (b"Transfer-Encoding", b"chunked")]))
        exchange.write(self.PAGE)
        self.network.settle()
        self.assertEqual(caller.got, b"")
        exchange.write(b" " * 1000)
        self.network.settle()
        self.assertIn(self.PAGE, caller.got)
        exchange.end()
        self.network.settle()
        self.assertTrue(caller.got.endswith(b"0\r\n\r\n"), caller.got)

    def test_aBodyThatBreaksOffIsAFailure(self) -> None:
        caller = self.send()
        exchange = self.web.asked[0][1]
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Type", b"text/html"), (b"Content-Length", b"100")]))
        exchange.write(b"part")
        self.network.settle()
        exchange.transport.abortConnection()
        self.network.settle()
        self.assertTrue(caller.got.startswith(b"HTTP/1.1 502 "), caller.got)
