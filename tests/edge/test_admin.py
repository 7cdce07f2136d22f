"""
The administration of an edge: what is answered, to whom, and what is refused.
"""

from __future__ import annotations

import json
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tunnelstack.commands.admin_client import FORMATTERS
from tunnelstack.control.config.records import EdgeConfig, ServiceConfig
from tunnelstack.doors import ListenerDoor, OutboundDoor
from tunnelstack.edge.admin_access import AdminAccess
from tunnelstack.edge.admin_answers import MAX_BODY_OCTETS, MAX_CONNECTIONS, AdminFactory
from tunnelstack.edge.list_query import ALL
from tunnelstack.edge.service import EdgeService
from tunnelstack.edge.slices import toEnd
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IDialect, IEdge, IOutboundAgents, IReactor
from tunnelstack.testing import Caller, EdgeAndAgent, Network

PORT = 9000


@implementer(IOutboundAgents)
class Dialled(Service):
    """
    One agent that the edge dials.
    """

    def report(self) -> list[dict[str, object]]:
        return [{"agent": "shed", "address": "10.0.0.9:8890", "state": "down", "reason": "nothing listens"}]


@implementer(IDialect)
class Dialling:
    """
    A dialect with an outbound door.
    """

    name = "dialling"

    def doors(self, edge: IEdge) -> list[OutboundDoor]:
        self.dialled = Dialled()
        return [OutboundDoor(service=self.dialled, description="agents at 10.0.0.0/24")]

    def close(self) -> None:
        pass


@implementer(IDialect)
class Listening:
    """
    A dialect with a port of its own.
    """

    name = "listening"
    url = ""

    def doors(self, edge: IEdge) -> list[ListenerDoor]:
        network = cast(Network, edge.clock)
        self.factory = ServerFactory.forProtocol(Protocol)
        door = ListenerDoor(
            endpoint=TCP4ServerEndpoint(network, 9000), factory=self.factory, description="agents at port 9000"
        )
        self.factory.doStart = lambda: setattr(self, "url", edge.addressOf("x").url)  # type: ignore[method-assign]
        return [door]

    def close(self) -> None:
        pass


class ListenerTests(SynchronousTestCase):
    """
    A port of a dialect's own.
    """

    def test_itIsOpenBesideThePublicPort(self) -> None:
        dialect, network = Listening(), Network()
        edge = EdgeService(cast(IReactor, network), EdgeConfig(listen=("tcp:8080",)), dialects=[dialect])
        ready = edge.whenReady()
        edge.startService()
        self.assertEqual(self.successResultOf(ready), "http://localhost:8080")
        self.assertEqual((sorted(network.ports), edge.state), ([8080, 9000], "ready"))
        self.assertEqual(dialect.url, "http://x.localhost:8080", "a dialect can tell its agents the public address")
        edge.stopService()


class OutboundTests(SynchronousTestCase):
    """
    Agents that the edge dials.
    """

    def test_theyAreStartedShownAndStoppedWithTheEdge(self) -> None:
        dialect = Dialling()
        edge = EdgeService(cast(IReactor, Network()), EdgeConfig(listen=()), dialects=[dialect])
        self.assertFalse(dialect.dialled.running)
        edge.startService()
        self.assertTrue(dialect.dialled.running)
        said = toEnd(edge.admin.administration.listHandlers[b"/agents"](ALL))
        shown = {"door": "agents at 10.0.0.0/24", "agent": "shed", "address": "10.0.0.9:8890", "state": "down"}
        self.assertEqual((said["agents"], said["outbound"]), ([], [shown | {"reason": "nothing listens"}]))
        self.assertIn(
            "\n\nDIALLED  ADDRESS        STATE\nshed     10.0.0.9:8890  down   nothing listens\n", FORMATTERS["agents"](said)
        )
        edge.stopService()
        self.assertFalse(dialect.dialled.running)


class AdminTests(SynchronousTestCase):
    """
    An edge and an agent, asked over two listeners: one that may change things and one that may not.
    """

    def setUp(self) -> None:
        self.both = EdgeAndAgent(ServiceConfig(name="site", target="3000"))
        self.network = self.both.network
        self.both.start()
        self.admin = self.both.edge.admin
        for port, writable in ((PORT, True), (PORT + 1, False)):
            self.network.listenTCP(port, AdminFactory(self.network, self.admin.administration, AdminAccess(writable=writable)))
        self.addCleanup(self.end)

    def end(self) -> None:
        for service in (self.both.agent, self.both.edge):
            service.stopService()
            self.network.passTime(40)

    def ask(self, method: str, path: str, body: bytes = b"", port: int = PORT) -> tuple[int, Any]:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        got = self.both.visit(head.encode() + body, port).got
        head, _, said = got.decode().partition("\r\n\r\n")
        return int(head.split()[1]), json.loads(said) if said else None

    def test_bothListenersAnswerGET(self) -> None:
        for port in (PORT, PORT + 1):
            self.assertEqual(self.ask("GET", "/health", port=port), (200, {"healthy": True}))
            self.assertEqual(self.ask("GET", "/ready", port=port), (200, {"ready": True, "state": "ready"}))
            self.assertEqual(self.ask("GET", "/status?pretty", port=port)[1]["services"], 1)
            self.assertEqual(self.ask("GET", "/routes", port=port)[1]["routes"][0]["agents"], ["laptop"])
            self.assertEqual(self.ask("GET", "/streams", port=port)[1]["streams"][0]["agent"], "laptop")

    def test_theAgeOfASessionIsListed(self) -> None:
        self.network.passTime(12)
        [agent] = self.ask("GET", "/agents")[1]["agents"]
        self.assertEqual((agent["seconds"], agent["healthy"], agent["in_flight"]), (12.0, True, 0))
        self.assertEqual(agent["services"], ["http:site"])

    def test_anEdgeThatDrainsIsNotReady(self) -> None:
        self.both.edge.agents.stopping = True
        self.assertEqual(self.ask("GET", "/ready"), (503, {"ready": False, "state": "draining"}))
        self.assertEqual(self.ask("GET", "/health")[0], 200)

    def test_theReadOnlyListenerRefusesChanges(self) -> None:
        for path in self.admin.administration.postHandlers:
            status, said = self.ask("POST", path.decode(), b"{}", PORT + 1)
            self.assertEqual((status, "read-only" in said["error"]), (403, True), path)

    def test_otherPathsAndMethodsAreRejected(self) -> None:
        self.assertEqual(self.ask("GET", "/nothing")[0], 404)
        self.assertEqual(self.ask("POST", "/status")[0], 405)
        self.assertEqual(self.ask("GET", "/drain")[0], 405)
        self.assertEqual(self.ask("DELETE", "/agents")[0], 405)

    def test_actionsOfAProcessAreRefusedInAProgram(self) -> None:
        """
        An edge in a program of one's own has no process to stop, no file and no folder.
        """
        for path in ("/drain", "/reload"):
            self.assertEqual(self.ask("POST", path)[0], 409, path)
        self.assertEqual(self.ask("POST", "/tokens/revoke", b'{"token": "a"}')[0], 409)
        self.assertEqual(self.ask("POST", "/tokens/reload"), (200, {"reloaded": True}))

    def test_malformedBodiesAreRejected(self) -> None:
        for body in (b"{", b"[]", b"\xff", b"{}", b'{"token": 1}'):
            self.assertEqual(self.ask("POST", "/tokens/revoke", body)[0], 400, body)
        self.assertEqual(self.ask("POST", "/tokens/revoke", b'"' + b"x" * MAX_BODY_OCTETS)[0], 413)

    def test_reloadAnswersWithWhatChanged(self) -> None:
        self.admin.reload = lambda: ("[[route]]: 1 added",)
        self.assertEqual(self.ask("POST", "/reload"), (200, {"changed": ["[[route]]: 1 added"]}))

        def wrong() -> Any:
            raise ConfigurationError("line 3 is wrong")

        self.admin.reload = wrong
        self.assertEqual(self.ask("POST", "/reload"), (409, {"error": "line 3 is wrong"}))

    def test_drainIsAnsweredBeforeItBegins(self) -> None:
        order: list[str] = []
        self.admin.stop = lambda: order.append("stop")
        status, said = self.ask("POST", "/drain")
        self.assertEqual((status, said["draining"], order), (200, True, ["stop"]))

    def test_aDefectIsToldAsOne(self) -> None:
        self.admin.reload = lambda: 1 / 0
        self.assertEqual(self.ask("POST", "/reload")[0], 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_connectionsAreBounded(self) -> None:
        callers = [self.both.visit(b"", PORT) for _ in range(MAX_CONNECTIONS)]
        self.assertEqual(self.both.visit(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", PORT).got, b"")
        for caller in callers:
            self.drop(caller)
        self.assertEqual(self.ask("GET", "/health")[0], 200)

    def drop(self, caller: Caller) -> None:
        caller.transport.loseConnection()
        self.both.settle()

    def test_aRequestThatStaysAwayIsDropped(self) -> None:
        caller = self.both.visit(b"POST /drain HTTP/1.1\r\nHost: x\r\n", PORT)
        self.network.passTime(11)
        self.assertIsNotNone(caller.lost)
