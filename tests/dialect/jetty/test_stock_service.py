"""
Our agent with a service that answers as the genuine one does, as far as that is known: a control plane whose answers are plain,
and an edge that knows no capabilities.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from twisted.internet.protocol import Factory

from tests.dialect.jetty.test_agent import AgentCase
from tests.dialect.jetty.websocket_support import Peer
from tests.exchange.doubles import reply
from tunnelstack.dialect.jetty.settings import EdgeSettings
from tunnelstack.dialect.jetty.websocket_channel import LIMITS
from tunnelstack.transport.websocket.server import WebSocketServerFactory
from tunnelstack.wire.http1.head import ResponseHead

API, EDGE = 7000, 7001


class StockService:
    """
    The control plane on one port, and the edge on another.

    @ivar calls: the requests that the control plane has received.
    @ivar refusals: statuses with which the next requests of a kind are answered, by method and path.
    @ivar agents: the WebSockets of agents.
    """

    def __init__(self, case: AgentCase) -> None:
        self.network = case.network
        self.calls: list[str] = []
        self.tokens = 0
        self.tunnels: list[dict[str, Any]] = []
        self.refusals: dict[str, int] = {}
        self.agents: list[Peer] = []
        self.api = case.listen(API, self.answer)
        factory = Factory.forProtocol(self.accept)
        factory.noisy = False
        websocket = WebSocketServerFactory(factory, path="/agent", clock=self.network, limits=LIMITS, records=True)
        self.network.listenTCP(EDGE, websocket)

    def accept(self) -> Peer:
        self.agents.append(Peer())
        return self.agents[-1]

    def answer(self, head: Any, exchange: Any) -> None:
        call = f"{head.method.decode()} {head.target.decode()}"
        self.calls.append(call)
        assert head.field(b"authorization") or "telemetry" in call
        status = self.refusals.pop(call, 0)
        if status:
            body: dict[str, Any] = {"message": "not now", "hint": "see the plans"}
        elif call == "GET /api/tunnels":
            status, body = 200, {"data": self.tunnels, "meta": {"page": 1}}
        elif call == "GET /api/cli/edge-regions":
            status, body = 200, {"edges": [{"url": f"ws://localhost:{EDGE}/agent", "region": "eu", "location": "x"}]}
        elif call.endswith(("/heartbeat", "/request-log")):
            status, body = 200, {}
        else:
            status, body = (201 if call == "POST /api/tunnels" else 200), {"data": self.tunnel()}
        reply(status, json.dumps(body).encode())(head, exchange)

    def tunnel(self) -> dict[str, Any]:
        """
        @return: the tunnel with a new token, and with members that nobody knows.
        """
        self.tokens += 1
        return {
            "id": "01J8ZC4T5Q6R7S8T9V0WXYZABC", "subdomain": "demo", "public_url": "https://demo.tunnels.example",
            "local_target": "localhost:3000", "status": "awaiting_connection", "server": None, "limits": {"a": [1]},
            "agent_token": f"at_{self.tokens}", "edge": {"websocket_url": f"ws://localhost:{EDGE}/agent"},
        }

    @property
    def agent(self) -> Peer:
        return self.agents[-1]

    def send(self, *frames: bytes | dict[str, Any]) -> list[dict[str, Any]]:
        """
        @return: the frames with which the agent answers.
        """
        for frame in frames:
            self.agent.say(frame)
        self.network.settle()
        return self.agent.take()


def request(identifier: str, method: str = "GET", path: str = "/", body: bytes = b"", **headers: str) -> dict[str, Any]:
    return {
        "type": "http_request", "request_id": identifier, "method": method, "path": path, "query": "",
        "headers": {"Host": "demo.tunnels.example", **headers}, "body_b64": base64.b64encode(body).decode(),
    }


class StockServiceTests(AgentCase):
    settings = EdgeSettings()

    def setUp(self) -> None:
        super().setUp()
        self.stock = StockService(self)

    def begin(self, registered: bool = True, **settings: Any) -> Any:
        dialect = self.start(url=f"http://localhost:{API}", token="personal", **settings)
        if registered and self.stock.agents:
            self.stock.agent.take()
            self.stock.send({"type": "registered"})
        return dialect

    def test_theOrderOfTheStartIsThatOfTheStockAgent(self) -> None:
        self.begin(registered=False)
        self.assertEqual(self.web.asked[0][0].target, b"/")
        beat = "POST /api/tunnels/01J8ZC4T5Q6R7S8T9V0WXYZABC/heartbeat"
        self.assertEqual(sorted(self.stock.calls[2:]), sorted([beat, "GET /api/cli/edge-regions"]))
        self.assertEqual(self.stock.calls[:2], ["GET /api/tunnels", "POST /api/tunnels"])
        created = json.loads(self.stock.api.asked[1][2].body)
        self.assertEqual(created, {"local_host": "localhost", "local_port": 3000, "subdomain": "demo"})
        (frame,) = self.stock.agent.take()
        self.assertEqual(
            (frame["type"], frame["tunnel_id"], frame["agent_token"]), ("register", "01J8ZC4T5Q6R7S8T9V0WXYZABC", "at_1")
        )
        self.network.passTime(50)
        self.assertEqual(self.stock.calls.count(beat), 3)

    def test_aTunnelIsAttached(self) -> None:
        self.stock.tunnels = [{**self.stock.tunnel(), "agent_token": None}]
        self.begin(registered=False)
        self.assertEqual(self.stock.calls[1], "POST /api/tunnels/01J8ZC4T5Q6R7S8T9V0WXYZABC/attach")
        (frame,) = self.stock.agent.take()
        self.assertEqual(frame["agent_token"], "at_2")

    def test_aTunnelThatCannotBeAttachedIsCreated(self) -> None:
        for status in (404, 405):
            self.stock.calls.clear()
            self.stock.tunnels = [self.stock.tunnel()]
            attach = "POST /api/tunnels/01J8ZC4T5Q6R7S8T9V0WXYZABC/attach"
            self.stock.refusals[attach] = status
            self.begin(registered=False)
            self.assertEqual(self.stock.calls[:3], ["GET /api/tunnels", attach, "POST /api/tunnels"])
            self.end(self.service)

    def test_aPlanThatIsTooSmallEndsTheAgent(self) -> None:
        for status in (402, 422):
            self.stock.refusals["POST /api/tunnels"] = status
            self.begin()
            self.assertEqual((self.fatal[0].code, "not now (see the plans)" in str(self.fatal[0])), (77, True))

    def test_requestsAreAnsweredWithWholeResponses(self) -> None:
        dialect = self.begin()
        self.assertEqual(dialect.report()["transport"], "websocket")
        self.web.answer = reply(200, b"ok", (b"Content-Type", b"text/plain"), (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"))
        (frame,) = self.stock.send(request("6f1c", "POST", "/hook", b'{"a":1}', **{"Content-Type": "application/json"}))
        self.assertEqual((frame["type"], frame["request_id"], frame["status"]), ("http_response", "6f1c", 200))
        self.assertEqual(base64.b64decode(frame["body_b64"]), b"ok")
        self.assertEqual({type(value) for value in frame["headers"].values()}, {str})
        head, _, received = self.web.asked[-1]
        self.assertEqual((head.target, received.body, head.field(b"host")), (b"/hook", b'{"a":1}', b"localhost:3000"))
        self.assertEqual(head.field(b"x-forwarded-host"), b"demo.tunnels.example")

    def test_aRequestMayHaveNoHost(self) -> None:
        self.begin()
        frame = request("r1")
        del frame["headers"]["Host"]
        (answer,) = self.stock.send(frame)
        self.assertEqual(answer["status"], 200)
        self.assertEqual(self.web.asked[-1][0].field(b"x-forwarded-host"), b"demo.tunnels.example")

    def test_eventsAreStreamed(self) -> None:
        self.begin()
        self.web.answer = None
        self.assertEqual(self.stock.send(request("r2", path="/events", Accept="text/event-stream")), [])
        exchange = self.web.asked[-1][1]
        events = [(b"Content-Type", b"text/event-stream"), (b"Transfer-Encoding", b"chunked")]
        exchange.sendHead(ResponseHead(200, b"OK", events))
        exchange.write(b"data: 1\n\n")
        self.network.settle()
        start, chunk = self.stock.agent.take()
        self.assertEqual((start["type"], start["headers"]["Content-Type"]), ("http_response_start", "text/event-stream"))
        self.assertEqual(chunk, {"type": "http_response_chunk", "request_id": "r2", "data_b64": "ZGF0YTogMQoK"})
        exchange.end()
        self.network.settle()
        self.assertEqual(self.stock.agent.take(), [{"type": "http_response_end", "request_id": "r2"}])

    def test_theEdgeMayNameAnAllowedTarget(self) -> None:
        self.listen(4000, reply(200, b"other"))
        self.begin(allowHosts=("127.0.0.1",))
        named = {"upstream_host": "127.0.0.1", "upstream_port": 4000}
        (answer,) = self.stock.send({**request("r1"), **named})
        self.assertEqual(base64.b64decode(answer["body_b64"]), b"other")
        (answer,) = self.stock.send({**request("r2"), **named, "upstream_host": "10.0.0.1"})
        self.assertEqual((answer["status"], answer["headers"]["Content-Type"]), (502, "text/plain; charset=utf-8"))
        self.assertIn(b"10.0.0.1:4000 is not allowed", base64.b64decode(answer["body_b64"]))

    def test_unknownFramesAreIgnored(self) -> None:
        self.begin()
        self.assertEqual(self.stock.send({"type": "wat"}, b"[]", b"not json", b'{"type":"tcp_data","connection_id":"x"}'), [])
        (answer,) = self.stock.send(request("r1"))
        self.assertEqual(answer["status"], 200)

    def test_aStaleTokenIsAttachedAgain(self) -> None:
        for message in ('verify rejected: {"valid":false}', "Invalid tunnel credentials", "Laravel verify: 500"):
            self.begin(registered=False)
            attached = self.stock.calls.count("POST /api/tunnels/01J8ZC4T5Q6R7S8T9V0WXYZABC/attach")
            token = self.stock.agent.take()[0]["agent_token"]
            self.stock.send({"type": "error", "message": message})
            self.stock.agent.transport.loseConnection()
            self.network.passTime(5)
            self.assertEqual(
                self.stock.calls.count("POST /api/tunnels/01J8ZC4T5Q6R7S8T9V0WXYZABC/attach"), attached + 1, message
            )
            self.assertNotEqual(self.stock.agent.take()[0]["agent_token"], token)
            self.stock.send({"type": "registered"})
            self.assertTrue(self.service.links[0].dialect.report()["up"])
            self.end(self.service)

    def test_aRejectionEachTimeEndsAfterEightTokens(self) -> None:
        self.begin(registered=False)
        for _ in range(40):
            for agent in self.stock.agents:
                if agent.lost is None and agent.take():
                    agent.say({"type": "error", "message": "verify rejected"})
                    agent.transport.loseConnection()
            self.network.passTime(10)
        attached = self.stock.calls.count("POST /api/tunnels/01J8ZC4T5Q6R7S8T9V0WXYZABC/attach")
        self.assertEqual((attached, self.fatal[0].code), (8, 77))
        self.assertIn("rejected 8 tokens", str(self.fatal[0]))

    def test_aLostSessionIsRegisteredAgainWithTheSameToken(self) -> None:
        self.begin()
        self.stock.agent.transport.loseConnection()
        self.network.passTime(3)
        self.assertEqual(self.stock.agent.take()[0]["agent_token"], "at_1")
        self.assertEqual(len(self.stock.agents), 2)

    def test_anIdleSessionLasts(self) -> None:
        self.begin()
        self.network.passTime(300)
        self.assertEqual(len(self.stock.agents), 1)
        (answer,) = self.stock.send(request("r1"))
        self.assertEqual(answer["status"], 200)
