"""
The agent's part of the control plane: requests, the tunnel, its heartbeats and tokens, and the waits.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.dialect.jetty.support import PORT, Place
from tests.exchange.doubles import Server, reply
from tunnelstack.dialect.jetty.agent_edges import LocalServerUnavailable, probeLocalServer
from tunnelstack.dialect.jetty.agent_tunnel import AgentTunnel, TokensUsedUp
from tunnelstack.dialect.jetty.backoff import Backoff
from tunnelstack.dialect.jetty.bridge_client import (
    BridgeClient,
    BridgeUnavailable,
    NoSuchTunnel,
    NotABridge,
    TokenRefused,
    TunnelRefused,
)
from tunnelstack.dialect.jetty.settings import AgentSettings
from tunnelstack.exchange.fetch import NoResponse
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.interfaces import IBackoff
from tunnelstack.testing import Network
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.wire.http1.head import ResponseHead
from tunnelstack.wire.records.jetty import MOST_TOKENS
from tunnelstack.wire.records.jetty_bridge import BEAT_SECONDS, CreateTunnel, Heartbeat


def clientOf(network: Network, token: str, url: str = f"http://localhost:{PORT}") -> BridgeClient:
    return BridgeClient(network, url, hostEndpoint(network, "localhost", PORT), lambda: token)


def listen(network: Network, port: int, answer: Any) -> Server:
    """
    @return: a web server.
    """
    server = Server(answer)
    factory = Factory.forProtocol(lambda: HTTPServerProtocol(server, clock=network))
    factory.noisy = False
    network.listenTCP(port, factory)
    return server


class TunnelCase(SynchronousTestCase):
    """
    An edge, and the agent's tunnel there.
    """

    def setUp(self) -> None:
        self.place = Place()
        self.addCleanup(self.place.stop)
        self.network = self.place.network
        self.bridge = clientOf(self.network, self.place.tokens["laptop"].token)
        self.counts = Heartbeat()

    def tunnel(self, **settings: Any) -> AgentTunnel:
        record = AgentSettings(**{"url": f"http://localhost:{PORT}", "tokenFile": "t", "target": "3000", **settings})
        tunnel = AgentTunnel(self.network, self.bridge, record, lambda: self.counts)
        self.addCleanup(tunnel.close)
        return tunnel

    def result(self, awaited: Any) -> Any:
        """
        @return: what a coroutine or a C{Deferred} results in.
        """
        deferred: Deferred[Any] = awaited if isinstance(awaited, Deferred) else Deferred.fromCoroutine(awaited)
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.network.settle()
        assert results, "there is no result yet"
        if isinstance(results[0], BaseException) or hasattr(results[0], "value"):
            return results[0].value
        return results[0]


class AgentTunnelTests(TunnelCase):
    def test_aTunnelIsCreatedOnceAndFoundAgain(self) -> None:
        first = self.result(self.tunnel(subdomain="demo").ensure())
        self.assertEqual((first.subdomain, first.local_target), ("demo", "localhost:3000"))
        again = self.result(self.tunnel().ensure())
        self.assertEqual(again.id, first.id)
        self.assertNotEqual(again.agent_token, first.agent_token)
        self.assertEqual(len(self.place.store.tunnels), 1)

    def test_onlyATunnelLikeOursIsFound(self) -> None:
        first = self.result(self.tunnel(subdomain="demo", server="a").ensure())
        for settings in (
            {"server": "b"}, {"target": "4000", "server": "a"}, {"subdomain": "more", "server": "a"},
            {"resume": False, "server": "a"}, {"protocol": "tcp", "server": "a"},
        ):
            self.assertNotEqual(self.result(self.tunnel(**settings).ensure()).id, first.id, settings)
        self.assertEqual(len(self.place.store.tunnels), 6)

    def test_theNewestOfSeveralIsUsed(self) -> None:
        ids = []
        for number in range(3):
            self.place.time += 1
            ids.append(self.result(self.tunnel(subdomain=f"t{number}").ensure()).id)
        self.assertEqual(self.result(self.tunnel().ensure()).id, ids[2])

    def test_portsOfTheWebAreTheSameSite(self) -> None:
        first = self.result(self.tunnel(target="app.test:80").ensure())
        self.assertEqual(self.result(self.tunnel(target="app.test:443").ensure()).id, first.id)
        self.assertNotEqual(self.result(self.tunnel(target="app.test:8080").ensure()).id, first.id)

    def test_aTunnelThatCannotBeAttachedIsCreated(self) -> None:
        first = self.result(self.tunnel().ensure())
        store = self.place.store
        find = store.find
        self.patch(store, "find", lambda identifier: None if identifier == first.id else find(identifier))
        self.assertNotEqual(self.result(self.tunnel().ensure()).id, first.id)

    def test_routesAreReported(self) -> None:
        tunnel = self.result(self.tunnel(routes=("/api=8000",)).ensure())
        stored = self.place.store.find(tunnel.id)
        assert stored is not None
        self.assertEqual((stored.rules[0].path_prefix, stored.rules[0].local_port), ("/api", 8000))
        for routes, ports in ((("/api=9000", "/x=1"), [9000, 1]), ((), [])):
            self.assertEqual(self.result(self.tunnel(routes=routes).ensure()).id, tunnel.id)
            self.assertEqual([each.local_port for each in self.place.store.rulesOf(tunnel.id)], ports, "of this run")

    def test_heartbeatsBeginAtOnce(self) -> None:
        tunnel = self.tunnel()
        self.counts = Heartbeat(requests=2)
        identifier = self.result(tunnel.ensure()).id
        self.network.settle()
        activity = self.place.bridge.activity
        self.assertEqual(activity[identifier].requests, 2)
        for beats in (2, 3):
            self.network.passTime(BEAT_SECONDS)
            self.assertEqual(activity[identifier].requests, 2 * beats)
        tunnel.close()
        self.network.passTime(2 * BEAT_SECONDS)
        self.assertEqual(activity[identifier].requests, 6)

    def test_aTunnelMayBeDeletedAtTheEnd(self) -> None:
        tunnel = self.tunnel(deleteOnExit=True)
        self.result(tunnel.ensure())
        self.assertIsNone(self.result(tunnel.close()))
        self.assertEqual(self.place.store.tunnels, [])

    def test_tokensAreFetchedAFewTimes(self) -> None:
        tunnel = self.tunnel()
        tokens = {self.result(tunnel.ensure()).agent_token}
        for _ in range(MOST_TOKENS):
            self.assertIsNone(self.result(tunnel.renew()))
            tokens.add(self.result(tunnel.ensure()).agent_token)
        self.assertEqual(len(tokens), MOST_TOKENS + 1)
        self.assertIsInstance(self.result(tunnel.renew()), TokensUsedUp)

    def test_aTunnelThatWasDeletedIsCreatedAgain(self) -> None:
        tunnel = self.tunnel()
        first = self.result(tunnel.ensure()).id
        self.place.store.remove(first)
        self.assertIsNone(self.result(tunnel.renew()))
        self.assertNotEqual(self.result(tunnel.ensure()).id, first)


class ClientTests(TunnelCase):
    """
    Refusals of services.
    """

    ASKED = CreateTunnel(local_host="localhost", local_port=3000)

    def test_aWrongTokenIsRefused(self) -> None:
        client = clientOf(self.network, "ts_abcd_" + "x" * 43)
        reason = self.result(client.create(self.ASKED))
        self.assertIsInstance(reason, TokenRefused)
        self.assertIn("localhost:8080 does not accept the token: the token is not accepted", str(reason))

    def test_aNameThatIsNotAllowedIsRefused(self) -> None:
        client = clientOf(self.network, self.place.tokens["desk"].token)
        reason = self.result(client.create(CreateTunnel(local_host="a", local_port=1, subdomain="other")))
        self.assertIsInstance(reason, TunnelRefused)
        self.assertIn("does not allow http:other (ask the operator", str(reason))

    def test_otherStatusesAreUnderstood(self) -> None:
        network = Network()
        body = b'{"message":"no \\u001b[2J","hint":"pay"}'
        for status, kind in (
            (401, TokenRefused), (419, TokenRefused), (402, TunnelRefused), (422, TunnelRefused), (403, TunnelRefused),
            (404, NoSuchTunnel), (405, NoSuchTunnel), (429, BridgeUnavailable), (500, BridgeUnavailable),
            (503, BridgeUnavailable), (302, NotABridge), (400, NotABridge),
        ):
            server = listen(network, PORT, reply(status, body))
            self.network = network
            reason = self.result(clientOf(network, "token").create(self.ASKED))
            self.assertIsInstance(reason, kind)
            if kind is TunnelRefused:
                self.assertEqual(str(reason), f"no \\x1b[2J (pay) (status={status})")
            self.assertEqual(server.asked[0][0].field(b"authorization"), b"Bearer token")
            network.ports.pop(PORT)

    def test_anotherServiceIsNotABridge(self) -> None:
        self.network = network = Network()
        for body in (b"<html>", b"{}", b'{"data":{"id":5}}', b'{"data":[]}'):
            listen(network, PORT, reply(200, body))
            self.assertIsInstance(self.result(clientOf(network, "t").create(self.ASKED)), NotABridge)
            network.ports.pop(PORT)
        self.assertIsInstance(self.result(clientOf(network, "t").tunnels()), NoResponse)

    def test_theBaseOfTheURLIsKept(self) -> None:
        self.network = network = Network()
        server = listen(network, PORT, reply(204, None))
        client = clientOf(network, "t", f"http://localhost:{PORT}/base/")
        self.assertIsNone(self.result(client.delete("a/b")))
        self.assertEqual(server.asked[0][0].target, b"/base/api/tunnels/a%2Fb")

    def test_reportsNeverFail(self) -> None:
        self.network = network = Network()
        self.assertIsNone(self.result(clientOf(network, "t").reportFailure(502, "x" * 300)))
        server = listen(network, PORT, None)
        done = clientOf(network, "t").reportFailure(502, "x" * 300)
        network.settle()
        head, _, received = server.asked[0]
        self.assertIsNone(head.field(b"authorization"))
        self.assertEqual(received.body.count(b"x"), 200)
        network.passTime(4)
        self.successResultOf(done)


class BackoffTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.share = 1.0
        self.backoff = Backoff(self.clock, lambda: self.share)

    def test_itProvidesItsInterface(self) -> None:
        self.assertTrue(verifyObject(IBackoff, self.backoff))

    def test_theWaitsAreThoseOfTheStockAgent(self) -> None:
        self.assertEqual([self.backoff.nextWait() for _ in range(9)], [1, 2, 4, 8, 16, 32, 60, 60, 60])

    def test_theyAreVaried(self) -> None:
        self.share = 0.25
        self.assertEqual([self.backoff.nextWait() for _ in range(3)], [0.25, 0.5, 1.0])

    def test_aLastingSessionBeginsAgain(self) -> None:
        for seconds, wait in ((59, 2), (60, 1), (0, 2)):
            self.backoff.nextWait() if seconds == 59 else None
            self.backoff.connected()
            self.clock.advance(seconds)
            self.assertEqual(self.backoff.nextWait(), wait)

    def test_aCrowdedEdgeIsLeftAlone(self) -> None:
        self.share = 0.0
        self.backoff.crowded()
        self.assertEqual([self.backoff.nextWait(), self.backoff.nextWait()], [30, 0])
        self.share = 1.0
        self.backoff.crowded()
        self.assertEqual(self.backoff.nextWait(), 60)

    def test_sometimesThereIsNothingToWaitFor(self) -> None:
        self.backoff.atOnce()
        self.assertEqual([self.backoff.nextWait(), self.backoff.nextWait()], [0, 2])


class ProbeTests(SynchronousTestCase):
    """
    The local web server before the start.
    """

    def setUp(self) -> None:
        self.network = Network()

    def probe(self, answer: Any, path: str = "/health") -> Any:
        self.server = listen(self.network, 3000, answer)
        probed = Deferred.fromCoroutine(
            probeLocalServer(self.network, hostEndpoint(self.network, "localhost", 3000), "localhost:3000", path, 10.0)
        )
        results: list[Any] = []
        probed.addBoth(results.append)
        self.network.passTime(16)
        self.network.ports.pop(3000)
        return results[0]

    def refused(self, result: Any) -> str:
        result.trap(LocalServerUnavailable)
        return str(result.value)

    def test_everyStatusBelow500IsAnAnswer(self) -> None:
        for status in (200, 204, 401, 404):
            self.assertIsNone(self.probe(reply(status, b"")))
        self.assertEqual(self.server.asked[0][0].target, b"/health")
        self.assertIn("answers 503 for /health", self.refused(self.probe(reply(503))))

    def test_anAnswerIsNeeded(self) -> None:
        self.assertIn("does not answer", self.refused(self.probe(None)))
        probed = probeLocalServer(self.network, hostEndpoint(self.network, "localhost", 1), "localhost:1", "/", 10.0)
        refused = Deferred.fromCoroutine(probed)
        self.network.settle()
        self.assertIn("does not answer", self.refused(self.failureResultOf(refused)))

    def test_redirectsAreFollowedWithinTheServer(self) -> None:
        def answer(head: Any, exchange: Any) -> None:
            if head.target == b"/login?next=1":
                exchange.respond(ResponseHead(500, b"", [(b"Content-Length", b"0")]), b"")
            else:
                exchange.respond(ResponseHead(302, b"", [(b"Location", b"login?next=1"), (b"Content-Length", b"0")]), b"")

        self.assertIn("answers 500 for /login?next=1", self.refused(self.probe(answer)))

    def test_otherRedirectsAreAnAnswer(self) -> None:
        for location in (b"https://other.example/", b"//other.example/", b"http://localhost:1/", b"a b"):
            self.assertIsNone(self.probe(reply(302, b"", (b"Location", location))))
        self.assertIsNone(self.probe(reply(302, b"", (b"Location", b"/again"))))
        self.assertEqual(len(self.server.asked), 4)
