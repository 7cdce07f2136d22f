"""
Which agents an edge accepts, whatever carries them.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.dialect.jetty.support import Place
from tunnelstack.dialect.jetty.registrar import MOST_AGENTS
from tunnelstack.dialect.jetty.registration import Acceptance, Registration, RegistrationRefused
from tunnelstack.dialect.jetty.settings import GRPC, REPLACE, EdgeSettings
from tunnelstack.interfaces import ITunnel
from tunnelstack.waiters import Waiters
from tunnelstack.wire.grpc import Status
from tunnelstack.wire.http1.head import RequestHead


@implementer(ITunnel)
class CarrierTunnel:
    """
    A tunnel as a carrier makes it.

    @ivar ended: why it was closed; C{None} while it is open.
    """

    dialect = "jetty"
    healthy = True
    inFlight = 0

    def __init__(self, acceptance: Acceptance) -> None:
        self.principal = acceptance.principal
        self.key = acceptance.principal.agent
        self.instance = acceptance.instance
        self.ended: Any = None
        self.answersPings = True
        self._lost: Waiters[Any] = Waiters()

    def endpointFor(self, purpose: Any, visitor: Any = None, *, wait: bool = False) -> Any:
        raise NotImplementedError

    datagramEndpointFor = exchange = endpointFor

    def ping(self) -> Deferred[float]:
        return succeed(0.1) if self.answersPings else Deferred()

    def drain(self) -> Deferred[Any]:
        self.healthy = False
        self.abort("drained")
        return succeed(None)

    def abort(self, reason: Any) -> None:
        if self.ended is None:
            self.ended = reason
            self._lost.fire(reason)

    def whenLost(self) -> Deferred[Any]:
        return self._lost.wait() if self.ended is None else succeed(self.ended)


class RegistrarCase(SynchronousTestCase):
    settings: EdgeSettings | None = None
    share: tuple[str, ...] = ("laptop",)

    def setUp(self) -> None:
        self.place = Place(self.settings, share=self.share)
        self.addCleanup(self.place.stop)
        self.tunnel = self.place.create(subdomain="demo")

    def register(
        self, tunnel: Any = None, transport: str = "websocket", instance: str = "", stock: bool = False,
        token: str | None = None,
    ) -> Any:
        """
        @return: the tunnel that arrived, or the code of the refusal.
        """
        tunnel = tunnel or self.tunnel
        registration = Registration(
            tunnelId=tunnel["id"], agentToken=tunnel["agent_token"] if token is None else token, transport=transport,
            capabilities=None if stock else (), instance=instance,
        )
        registrar = self.place.dialect.registrar
        result: list[Any] = []
        registrar.verify(registration).addBoth(result.append)
        if not isinstance(result[0], Acceptance):
            return self.codeOf(result[0])
        arrived = CarrierTunnel(result[0])
        self.acceptance = result[0]
        published: list[Any] = []
        registrar.arrived(arrived, result[0]).addBoth(published.append)
        self.place.network.settle()
        if not published:
            self.place.network.passTime(6)
        return self.codeOf(published[0]) if published[0] is not None else arrived

    def codeOf(self, failure: Any) -> str:
        failure.trap(RegistrationRefused)
        self.refusal = failure.value
        code: str = failure.value.code
        return code

    @property
    def held(self) -> list[Any]:
        registry = self.place.edge.registry
        return [each for each in registry if ("http", "demo") in registry.names(each)]


class VerificationTests(RegistrarCase):
    def test_theTokenOfTheTunnelIsNeeded(self) -> None:
        self.assertEqual(self.register(token="wrong"), "verify_rejected")
        self.assertEqual(self.refusal.sentence, 'verify rejected: {"valid":false}')
        self.assertEqual(self.register(token=""), "verify_rejected")
        self.assertEqual(self.register({"id": "NONE", "agent_token": "x"}), "no_such_tunnel")
        self.assertEqual((self.refusal.grpcStatus, self.held), (Status.NOT_FOUND, []))

    def test_aPortThatAnotherProgramHasIsNamed(self) -> None:
        logged: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        tunnel = self.place.create(subdomain="db", protocol="tcp")
        other = self.place.network.listenTCP(tunnel["assigned_port"], Factory.forProtocol(Protocol))
        self.assertEqual(self.register(tunnel), "forbidden")
        said = f"port {tunnel['assigned_port']} is taken by another program on the edge's machine"
        self.assertIn(said, self.refusal.sentence)
        (line,) = [each for each in logged if each.get("log_format") == "a tunnel is refused: {reason}"]
        self.assertIn(said, line["reason"])
        other.stopListening()
        self.assertIsInstance(self.register(tunnel), CarrierTunnel)

    def test_attachingRotatesTheToken(self) -> None:
        body = {"local_host": "127.0.0.1", "local_port": 3000}
        attached = self.place.send("POST", f"/api/tunnels/{self.tunnel['id']}/attach", body).data
        self.assertEqual(self.register(), "verify_rejected")
        self.assertEqual([self.register(attached)], self.held)

    def test_theRulesAreThoseOfNow(self) -> None:
        self.register()
        upstreamOf = self.acceptance.upstreamOf
        head = RequestHead(b"GET", b"/api/x", [])
        self.assertIsNone(upstreamOf(head))
        rule = {"path_prefix": "/api", "local_host": "127.0.0.1", "local_port": 8000}
        body = {"local_host": "127.0.0.1", "local_port": 3000, "routing_rules": [rule]}
        self.place.send("POST", f"/api/tunnels/{self.tunnel['id']}/attach", body)
        self.assertEqual(upstreamOf(head), ("127.0.0.1", 8000))
        self.assertIsNone(upstreamOf(RequestHead(b"GET", b"/", [])))
        self.place.send("DELETE", f"/api/tunnels/{self.tunnel['id']}")
        self.assertIsNone(upstreamOf(head))

    def test_anAgentIsAnAgentOfTheEdge(self) -> None:
        tunnel = self.register()
        self.assertEqual((tunnel.key, tunnel.principal.token), ("laptop", self.place.tokens["laptop"].id))
        self.assertEqual(self.place.edge.registry.pick("demo"), tunnel)
        acceptance = self.acceptance
        self.assertRegex(acceptance.sessionId, "^[0-9a-f]{32}$")
        self.assertEqual(
            (acceptance.subdomain, acceptance.publicURL, acceptance.edgeId, acceptance.protocol, acceptance.grpc),
            ("demo", "http://demo.localhost:8080", "localhost", "http", None),
        )
        self.assertNotIn(acceptance.sessionId, repr(acceptance))
        self.assertEqual(self.place.send("GET", "/api/tunnels").data[0]["status"], "connected")
        tunnel.abort("")
        self.assertEqual(self.place.send("GET", "/api/tunnels").data[0]["status"], "awaiting_connection")

    def test_aNameThatIsServedIsNotGivenAway(self) -> None:
        self.register()
        asked = {"local_host": "127.0.0.1", "local_port": 4000, "subdomain": "demo"}
        answer = self.place.send("POST", "/api/tunnels", asked)
        self.assertEqual((answer.status, answer.json["hint"]), (422, "choose another subdomain"))
        self.assertIn("in use by your tunnel to 127.0.0.1:3000", answer.json["message"])

    def test_aRevokedCredentialEndsItsAgents(self) -> None:
        tunnel = self.register()
        self.place.edge.reload(self.place.config.__class__(listen=self.place.config.listen))
        self.assertEqual((tunnel.ended.code, self.held), ("revoked", []))
        self.assertEqual(self.register(), "verify_rejected")

    def test_changedRightsNeedANewToken(self) -> None:
        records = tuple(evolve(each, allow=("http:demo",)) for each in self.place.records)
        self.place.edge.reload(evolve(self.place.config, tokens=records))
        self.assertEqual(self.register(), "verify_rejected")
        body = {"local_host": "127.0.0.1", "local_port": 3000}
        attached = self.place.send("POST", f"/api/tunnels/{self.tunnel['id']}/attach", body).data
        self.assertEqual([self.register(attached)], self.held)

    def test_aTunnelThatIsDeletedEndsItsAgents(self) -> None:
        tunnel = self.register()
        self.place.send("DELETE", f"/api/tunnels/{self.tunnel['id']}")
        self.assertEqual((tunnel.ended.code, self.held), ("no_such_tunnel", []))

    def test_anEdgeThatStopsAcceptsNobody(self) -> None:
        self.place.edge.agents.stopping = True
        self.assertEqual(self.register(), "draining")
        self.place.edge.agents.stopping = False


class PoolTests(RegistrarCase):
    def test_agentsShareATunnel(self) -> None:
        agents = [self.register(stock=True) for _ in range(3)]
        self.assertEqual(self.held, agents)
        registry = self.place.edge.registry
        self.assertEqual([registry.pick("demo") for _ in range(3)], agents)
        agents[0].abort("")
        self.assertEqual(self.held, agents[1:])

    def test_aProcessThatComesAgainReplacesItself(self) -> None:
        first, other = self.register(instance="i-1"), self.register(instance="i-2")
        again = self.register(instance="i-1")
        self.assertEqual((first.ended.code, self.held), ("replaced", [other, again]))
        self.assertEqual(self.place.dialect.registrar.agentsOf(self.tunnel["id"]), 2)

    def test_theirNumberIsBounded(self) -> None:
        for _ in range(MOST_AGENTS):
            self.register()
        self.assertEqual(self.register(), "too_many_agents")

    def test_anotherCarrierOfTheSameProcessTakesOver(self) -> None:
        first = self.register(instance="i-1")
        self.assertEqual(self.place.dialect.registrar.transportsOf(self.tunnel["id"]), ["websocket"])
        second = self.register(instance="i-1", transport="grpc")
        self.assertEqual((first.ended, self.held), ("drained", [second]))
        self.assertEqual(self.place.dialect.registrar.transportsOf(self.tunnel["id"]), ["grpc"])


class ExclusiveTests(RegistrarCase):
    """
    The credential has no C{share}.
    """

    share = ()

    def test_oneAgentServesATunnel(self) -> None:
        first = self.register()
        self.assertEqual(self.register(), "too_many_agents")
        self.assertEqual((self.held, self.refusal.grpcStatus), ([first], Status.RESOURCE_EXHAUSTED))

    def test_anAgentThatIsDeadMakesRoom(self) -> None:
        first = self.register(stock=True)
        first.answersPings = False
        second = self.register(stock=True)
        self.assertEqual((first.ended.code, self.held), ("replaced", [second]))

    def test_anotherCarrierOfTheSameProcessTakesOver(self) -> None:
        first = self.register(instance="i-1", transport="grpc")
        second = self.register(instance="i-1")
        self.assertEqual((first.ended, self.held), ("drained", [second]))


class ReplaceTests(RegistrarCase):
    settings = EdgeSettings(agents=REPLACE)

    def test_aNewAgentTakesThePlaceOfTheFormer(self) -> None:
        first, second = self.register(stock=True), self.register(stock=True)
        self.assertEqual((first.ended.code, self.held), ("replaced", [second]))


class RolloutTests(RegistrarCase):
    settings = EdgeSettings(transportMode=GRPC)

    def test_agentsOnWebSocketAreOfferedGRPC(self) -> None:
        self.register()
        self.assertEqual(self.acceptance.grpc.url, "grpc://localhost:8091")
        for others in ({"stock": True}, {"transport": "grpc"}):
            self.register(**others)
            self.assertIsNone(self.acceptance.grpc)


class PortTests(RegistrarCase):
    def test_aTunnelForTCPHasItsPortOpen(self) -> None:
        raw = self.place.create(5432, subdomain="db", protocol="tcp")
        tunnel = self.register(raw)
        self.assertIn(raw["assigned_port"], self.place.network.ports)
        tunnel.abort("")
        self.place.network.settle()
        self.assertNotIn(raw["assigned_port"], self.place.network.ports)
