"""
The agent with our own edge, and with services whose answers a test chooses, in virtual time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.dialect.jetty.support import PORT, Place
from tests.exchange.doubles import Recorder, Server, reply
from tunnelstack.agent.service import AgentService
from tunnelstack.control.config.records import AgentConfig
from tunnelstack.control.process.exit_status import FatalError
from tunnelstack.dialect.jetty.settings import GRPC, AgentSettings, EdgeSettings
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.interfaces import IAgentDialect, IBackoff, IClosableDialect, IReactor
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.testing import Caller, Network

WEB = 3000
BOTH = EdgeSettings(transportMode=GRPC)


class WholeRecorder(Recorder):
    """
    A request that is answered when it is complete.
    """

    answer: Any = None

    def ended(self, trailers: Any) -> None:
        super().ended(trailers)
        self.answer()


class WholeServer(Server):
    """
    A web server that answers requests when they are complete.
    """

    def exchangeReceived(self, head: Any, exchange: Any) -> Recorder:
        recorder = WholeRecorder()
        self.asked.append((head, exchange, recorder))
        recorder.answer = lambda: self.answer(head, exchange) if self.answer is not None else None
        return recorder


class AgentCase(SynchronousTestCase):
    """
    An edge, a local web server, and agents.
    """

    settings = BOTH

    def setUp(self) -> None:
        self.logged: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        self.network = Network()
        self.place = self.open(self.settings)
        self.web = self.listen(WEB, reply(200, b"local"))

    def open(self, settings: EdgeSettings, **others: Any) -> Place:
        place = Place(settings, network=self.network, **others)
        self.addCleanup(lambda: place.stop() if place.edge.running else None)
        return place

    def listen(self, port: int, answer: Any) -> Server:
        server = WholeServer(answer)
        factory = Factory.forProtocol(lambda: HTTPServerProtocol(server, clock=self.network))
        factory.noisy = False
        self.network.listenTCP(port, factory)
        return server

    def start(self, *, token: str = "", give: float = 0.0, **settings: Any) -> Any:
        """
        @return: the agent's side of the dialect.
        """
        self.tokenFile = Path(self.mktemp())
        self.tokenFile.write_text((token or self.place.tokens["laptop"].token) + "\n")
        self.tokenFile.chmod(0o600)
        record = AgentSettings(**{
            "url": f"http://localhost:{PORT}", "tokenFile": str(self.tokenFile), "target": str(WEB), "subdomain": "demo",
            **settings,
        })
        config = AgentConfig(dialects={"jetty": {"jetty": (record,)}}, drainSeconds=1.0, giveUpAfterSeconds=give)
        self.service = service = AgentService(cast(IReactor, self.network), config, plugins=False, random=lambda: 0.5)
        self.fatal: list[FatalError] = []
        service.whenFailed().addCallback(self.fatal.append)
        service.startService()
        self.addCleanup(self.end, service)
        self.network.passTime(1)
        return service.links[0].dialect

    def end(self, service: AgentService) -> None:
        if service.running:
            stopped = service.stopService()
            self.network.passTime(12)
            self.successResultOf(stopped)

    @property
    def transports(self) -> list[str]:
        """
        The carriers of the agents that the edge has.
        """
        (tunnel,) = self.place.store.tunnels
        return self.place.dialect.registrar.transportsOf(tunnel.id)

    def visit(self, path: str = "/", host: str = "demo.localhost") -> bytes:
        caller: Caller = self.place.visit(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        self.network.passTime(1)
        return caller.got

    def served(self) -> None:
        """
        The local web server is reached.
        """
        got = self.visit()
        self.assertTrue(got.startswith(b"HTTP/1.1 200 ") and got.endswith(b"local"), got)

    def silent(self, port: int) -> None:
        """
        Accept connections, and answer nothing.
        """
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        self.network.listenTCP(port, factory)


class CarrierTests(AgentCase):
    """
    Which carrier is used.
    """

    def test_theAgentProvidesItsInterfaces(self) -> None:
        dialect = self.start()
        for interface in (IAgentDialect, IBackoff, IClosableDialect):
            self.assertTrue(verifyObject(interface, dialect))

    def test_gRPCIsUsedWhereItIsOffered(self) -> None:
        dialect = self.start()
        self.assertEqual(self.transports, ["grpc"])
        self.served()
        report = dialect.report()
        self.assertEqual((report["up"], report["transport"], report["tunnel"]), (True, "grpc", "demo"))

    def test_webSocketCanBeAskedFor(self) -> None:
        self.start(transport="websocket")
        self.assertEqual(self.transports, ["websocket"])
        self.served()

    def test_theLogShowsTheURL(self) -> None:
        self.start(transport="websocket")
        (line,) = [each for each in self.logged if each.get("status") == "session"]
        self.assertEqual((line["transport"], line["url"]), ("websocket", "http://demo.localhost:8080"))
        self.assertNotIn(self.place.tokens["laptop"].token, repr(self.logged))

    def test_onlyGRPCMayBeAskedFor(self) -> None:
        dialect = self.start(transport="grpc")
        self.assertEqual(self.transports, ["grpc"])
        self.assertTrue(dialect.report()["up"])


class FallBackTests(AgentCase):
    """
    gRPC is offered, and cannot be used.
    """

    settings = EdgeSettings(transportMode=GRPC, grpcUrl="grpc://localhost:9999")

    def grpcAttempts(self) -> int:
        return len([each for each in self.logged if "gRPC is not available" in str(each.get("log_format"))])

    def lose(self) -> None:
        """
        Cut all connections between the agent and the edge.
        """
        for wire in list(self.network.wires):
            if PORT in (wire.near.getPeer().port, wire.far.getPeer().port):
                wire.drop()
        self.network.settle()

    def test_aPortThatIsClosedMeansWebSocket(self) -> None:
        self.start()
        self.assertEqual((self.transports, self.grpcAttempts()), (["websocket"], 1))
        self.served()

    def test_aSilentPortHasFiveSeconds(self) -> None:
        self.silent(9999)
        self.start()
        self.assertEqual(self.transports, [])
        self.network.passTime(4.5)
        self.assertEqual((self.transports, self.grpcAttempts()), (["websocket"], 1))

    def test_anotherProtocolThereMeansWebSocket(self) -> None:
        self.listen(9999, reply(404))
        self.start()
        self.network.passTime(5)
        self.assertEqual((self.transports, self.grpcAttempts()), (["websocket"], 1))

    def test_gRPCIsTriedAgainAfterTenMinutes(self) -> None:
        self.start()
        self.lose()
        self.network.passTime(10)
        self.assertEqual((self.transports, self.grpcAttempts()), (["websocket"], 1))
        self.network.passTime(640)
        self.lose()
        self.network.passTime(10)
        self.assertEqual((self.transports, self.grpcAttempts()), (["websocket"], 2))

    def test_whoAsksForGRPCGetsNothingElse(self) -> None:
        self.start(transport="grpc")
        self.network.passTime(30)
        self.assertEqual(self.transports, [])


class UpgradeTests(AgentCase):
    """
    The edge offers gRPC to an agent that has come by WebSocket.
    """

    def setUp(self) -> None:
        super().setUp()
        self.place.dialect._addresses.percent = 0

    def reconnect(self, dialect: Any) -> None:
        """
        Let the agent connect again, now that gRPC is offered.
        """
        self.assertEqual(self.transports, ["websocket"])
        self.place.dialect._addresses.percent = 100
        dialect.link.abort("a test")
        self.network.passTime(5)

    def test_theAgentChangesToGRPC(self) -> None:
        dialect = self.start()
        self.reconnect(dialect)
        self.assertEqual((self.transports, dialect.report()["transport"]), (["grpc"], "grpc"))
        self.served()

    def test_whatRunsOnWebSocketIsFinished(self) -> None:
        dialect = self.start()
        offers: list[Any] = []
        upgrade = dialect._upgrade
        self.patch(dialect, "_upgrade", lambda *offer: offers.append(offer))
        self.reconnect(dialect)
        self.web.answer = None
        caller = self.place.visit(b"GET /slow HTTP/1.1\r\nHost: demo.localhost\r\nConnection: close\r\n\r\n")
        slow = self.web.asked[-1][1]
        upgrade(*offers[0])
        self.network.passTime(5)
        self.assertEqual(self.transports, ["grpc", "websocket"])
        self.web.answer = reply(200, b"local")
        for _ in range(3):
            self.served()
        reply(200, b"late")(None, slow)
        self.network.passTime(5)
        self.assertTrue(caller.got.endswith(b"late"), caller.got)
        self.assertEqual((self.transports, dialect.report()["transport"]), (["grpc"], "grpc"))

    def test_anAgentThatStopsAtOnceLeavesNothing(self) -> None:
        dialect = self.start()
        offers: list[Any] = []
        upgrade = dialect._upgrade
        self.patch(dialect, "_upgrade", lambda *offer: offers.append(offer))
        self.reconnect(dialect)
        upgrade(*offers[0])
        self.end(self.service)
        self.network.passTime(5)
        self.assertEqual(self.transports, [])

    def test_whatRunsTooLongIsBrokenOff(self) -> None:
        dialect = self.start()
        offers: list[Any] = []
        upgrade = dialect._upgrade
        self.patch(dialect, "_upgrade", lambda *offer: offers.append(offer))
        self.reconnect(dialect)
        self.web.answer = None
        self.place.visit(b"GET /slow HTTP/1.1\r\nHost: demo.localhost\r\nConnection: close\r\n\r\n")
        upgrade(*offers[0])
        self.network.passTime(35)
        self.assertEqual(self.transports, ["grpc"])

    def test_anAgentThatStopsMeanwhileLeavesNothing(self) -> None:
        dialect = self.start()
        offers: list[Any] = []
        upgrade = dialect._upgrade
        self.patch(dialect, "_upgrade", lambda *offer: offers.append(offer))
        self.reconnect(dialect)
        self.web.answer = None
        self.place.visit(b"GET /slow HTTP/1.1\r\nHost: demo.localhost\r\nConnection: close\r\n\r\n")
        upgrade(*offers[0])
        self.network.passTime(3)
        self.assertEqual(self.transports, ["grpc", "websocket"])
        self.end(self.service)
        self.network.passTime(5)
        self.assertEqual(self.transports, [])


class RefusalTests(AgentCase):
    """
    What the agent does when it is refused.
    """

    settings = EdgeSettings()

    def test_aWrongTokenEndsTheAgent(self) -> None:
        self.start(token="ts_abcd_" + "x" * 43)
        self.assertEqual(self.fatal[0].code, 77)
        self.assertIn("localhost:8080 does not accept the token", str(self.fatal[0]))

    def test_aNameThatIsNotAllowedEndsTheAgent(self) -> None:
        self.start(token=self.place.tokens["desk"].token)
        self.assertEqual(self.fatal[0].code, 77)
        self.assertIn("does not allow http:demo", str(self.fatal[0]))

    def test_anotherServiceEndsTheAgent(self) -> None:
        self.listen(8888, reply(404, b"not here"))
        self.start(url="http://localhost:8888")
        self.assertEqual(self.fatal[0].code, 76)

    def test_aRotatedTokenIsFetchedAgain(self) -> None:
        dialect = self.start()
        body = {"local_host": "localhost", "local_port": WEB}
        self.place.send("POST", f"/api/tunnels/{dialect.report()['id']}/attach", body)
        self.service.links[0].uplink.link.abort("a test")  # type: ignore[union-attr]
        self.network.passTime(5)
        self.served()

    def test_aTunnelThatIsRemovedIsCreatedAgain(self) -> None:
        dialect = self.start()
        first = dialect.report()["id"]
        self.place.dialect.postHandlers[b"/jetty/tunnels/remove"]({"tunnel": "demo"})
        self.network.passTime(5)
        self.served()
        self.assertNotEqual(dialect.report()["id"], first)

    def test_aSecondAgentWaits(self) -> None:
        self.start()
        first = self.service
        self.start()
        self.network.passTime(10)
        self.assertEqual(self.place.dialect.registrar.agentsOf(self.place.store.tunnels[0].id), 1)
        (failed,) = [each for each in self.logged if "no session with" in str(each.get("log_format"))]
        self.assertEqual((failed["seconds"], "held by another process" in failed["reason"]), (45.0, True))
        self.end(first)
        self.network.passTime(60)
        self.served()

    def test_agentsWithShareTakeTurns(self) -> None:
        self.place.stop()
        self.place = self.open(EdgeSettings(), share=("laptop",))
        self.start()
        self.start()
        self.network.passTime(2)
        self.assertEqual(self.place.dialect.registrar.agentsOf(self.place.store.tunnels[0].id), 2)


class LocalServerTests(AgentCase):
    settings = EdgeSettings()

    def setUp(self) -> None:
        super().setUp()
        self.network.ports.pop(WEB)

    def test_theAgentWaitsForTheLocalServer(self) -> None:
        self.start()
        self.assertEqual(self.place.store.tunnels, [])
        self.assertIn("does not answer", str([each.get("reason") for each in self.logged]))
        self.web = self.listen(WEB, reply(200, b"local"))
        self.network.passTime(5)
        self.served()
        self.assertEqual(self.web.asked[0][0].target, b"/")

    def test_itMayStartWithoutOne(self) -> None:
        self.start(healthCheck=False)
        self.assertTrue(self.visit().startswith(b"HTTP/1.1 502 "))

    def test_aTunnelIsDeletedAtTheEnd(self) -> None:
        self.start(healthCheck=False, deleteOnExit=True)
        self.assertEqual(len(self.place.store.tunnels), 1)
        self.end(self.service)
        self.assertEqual(self.place.store.tunnels, [])


class RestartTests(AgentCase):
    """
    The edge is restarted.
    """

    def setUp(self) -> None:
        super().setUp()
        self.place.stop()
        self.state = StateDirectory(Path(self.mktemp()))
        self.place = self.open(BOTH, state=self.state)

    def restart(self) -> None:
        tokens = self.place.tokens
        self.place.stop()
        self.assertEqual(self.place.dialect.tunnels.tunnels, self.place.store.tunnels)
        self.place = self.open(BOTH, state=self.state, tokens=tokens)
        self.network.passTime(40)

    def test_agentsOnBothCarriersComeBack(self) -> None:
        self.start(transport="grpc")
        self.start(transport="websocket", subdomain="other", resume=False)
        ids = [each.id for each in self.place.store.tunnels]
        self.restart()
        self.assertEqual([each.id for each in self.place.store.tunnels], ids)
        self.served()
        self.assertTrue(self.visit(host="other.localhost").startswith(b"HTTP/1.1 200 "))
        self.assertEqual(self.place.bridge.samples.find("x"), None)


class RegionTests(AgentCase):
    """
    A service with several edges.
    """

    settings = EdgeSettings()

    def serve(self, edges: list[str], websocket: str) -> Server:
        """
        A service whose edges are these.
        """

        def answer(head: Any, exchange: Any) -> None:
            if head.target == b"/api/telemetry/edge-ws-failure":
                return
            tunnel = {"id": "T1", "subdomain": "demo", "agent_token": "a", "edge": {"websocket_url": websocket}}
            body: dict[str, Any] = {"data": [] if head.method == b"GET" else tunnel}
            if head.target == b"/api/cli/edge-regions":
                body = {"edges": [{"url": each} for each in edges]}
            reply(200, json.dumps(body).encode())(head, exchange)

        return self.listen(7000, answer)

    def test_theNearestIsUsed(self) -> None:
        self.serve(["ws://localhost:7001/agent", "ws://localhost:7002/agent"], "ws://localhost:7001/agent")
        self.silent(7001)
        near = self.listen(7002, reply(200, b""))
        self.start(url="http://localhost:7000", transport="websocket")
        self.network.passTime(6)
        self.assertEqual([each[0].method for each in near.asked][:2], [b"HEAD", b"GET"])

    def test_anotherIsChosenIfItIsDown(self) -> None:
        self.serve(["ws://localhost:7001/agent", "ws://localhost:7002/agent"], "ws://localhost:7001/agent")
        near = self.listen(7002, reply(200, b""))
        self.start(url="http://localhost:7000", transport="websocket")
        self.network.passTime(1)
        self.assertIn(b"GET", [each[0].method for each in near.asked])
        self.network.ports.pop(7002)
        other = self.listen(7001, reply(200, b""))
        self.network.passTime(30)
        self.assertIn(b"GET", [each[0].method for each in other.asked])

    def test_withOneEdgeNoneIsProbed(self) -> None:
        self.serve(["ws://localhost:7002/agent"], "ws://localhost:7001/agent")
        edge = self.listen(7001, reply(502, b""))
        self.start(url="http://localhost:7000", transport="websocket")
        self.assertEqual({each[0].method for each in edge.asked}, {b"GET"})

    def test_anEdgeThatIsDownIsReported(self) -> None:
        service = self.serve([], "ws://localhost:7001/agent")
        self.listen(7001, reply(502, b""))
        self.start(url="http://localhost:7000", transport="websocket")
        reports = [each for each in service.asked if each[0].target == b"/api/telemetry/edge-ws-failure"]
        self.assertEqual(json.loads(reports[0][2].body)["http_status"], 502)
