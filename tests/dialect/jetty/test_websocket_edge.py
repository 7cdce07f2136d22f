"""
The edge with agents whose frames are chosen: registration, stock agents, responses, and what agents may do wrong.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.dialect.jetty.websocket_support import ACCEPTANCE, HOST, Both, Door, Stranger
from tests.exchange.doubles import Producer, Recorder
from tunnelstack.dialect.jetty.registration import RegistrationRefused
from tunnelstack.dialect.jetty.websocket_exchange import EdgeExchange
from tunnelstack.errors import Denied
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.exchange.errors import Busy, FailureKind
from tunnelstack.interfaces import IExchange, ISession, ITunnel
from tunnelstack.records import HTTPPurpose, SSHPurpose, TCPPurpose, UDPPurpose
from tunnelstack.stream.errors import UnsupportedPurpose
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.records.jetty import (
    CANCEL,
    CAPABILITIES,
    DRAIN,
    FLOW,
    MULTIPLE_VALUES,
    STREAM_REQUEST,
    TOO_MANY_AGENTS,
    UPGRADE,
)
from tunnelstack.wire.records.jetty_rules import RoutingRule, upstream_of

TUNNEL = "01J8ZC4T5Q6R7S8T9V0WXYZABC"
REGISTER = b'{"type":"register","tunnel_id":"t1","agent_token":"k1"}'


def base64(octets: bytes) -> str:
    return b64encode(octets).decode()


def response(identifier: str = "r1", status: Any = 200, body: bytes = b"", **headers: Any) -> dict[str, Any]:
    return {
        "type": "http_response", "request_id": identifier, "status": status, "body_b64": base64(body),
        "headers": {name.replace("_", "-"): value for name, value in headers.items()},
    }


def start(identifier: str = "r1", status: int = 200, **headers: Any) -> dict[str, Any]:
    return {
        "type": "http_response_start", "request_id": identifier, "status": status,
        "headers": {name.replace("_", "-"): value for name, value in headers.items()},
    }


def chunk(data: bytes, identifier: str = "r1") -> dict[str, Any]:
    return {"type": "http_response_chunk", "request_id": identifier, "data_b64": base64(data)}


def end(identifier: str = "r1") -> dict[str, Any]:
    return {"type": "http_response_end", "request_id": identifier}


class RegistrationTests(SynchronousTestCase):
    """
    The first frames (section 3.4), and the answers.
    """

    def setUp(self) -> None:
        self.door = Door()

    def test_aStockAgentIsAnsweredAsItExpects(self) -> None:
        agent = Stranger(self.door, register=False)
        agent.send(b'{"type":"register","tunnel_id":"' + TUNNEL.encode() + b'","agent_token":"k1"}')
        self.assertEqual(agent.messages, [b'{"type":"registered"}'])
        asked, = self.door.registrar.asked
        self.assertEqual((asked.tunnelId, asked.agentToken, asked.capabilities), (TUNNEL, "k1", None))
        self.assertEqual(asked.transport, "websocket")
        self.assertIsNotNone(asked.peer)
        self.assertTrue(self.door.tunnel.healthy)
        self.assertEqual(self.door.agents.registered, 1)

    def test_anotherIsAnsweredWithWhatBothCan(self) -> None:
        agent = Stranger(self.door, capabilities=("cancel/1", "future/9", "raw/1"))
        answer, = agent.registered
        self.assertEqual(answer["capabilities"], ["cancel/1", "raw/1"])
        self.assertEqual(
            (answer["session_id"], answer["subdomain"], answer["public_url"], answer["edge_id"]),
            (ACCEPTANCE.sessionId, "demo", "https://demo.tunnels.example", "edge-a"),
        )
        self.assertEqual(answer["limits"]["max_requests"], 64)

    def test_noTokenOrSessionIsShownInARecord(self) -> None:
        Stranger(self.door)
        self.assertNotIn("k1", repr(self.door.registrar.asked[0]))
        self.assertNotIn("5e55", repr(ACCEPTANCE))

    def test_aBadTokenIsAnsweredWithTheTextOfTheStock(self) -> None:
        agent = Stranger(self.door, register=False)
        agent.send(b'{"type":"register","tunnel_id":"t","agent_token":"old"}')
        self.assertEqual(
            agent.messages, [b'{"type":"error","message":"verify rejected: {\\"valid\\":false}","code":"verify_rejected"}']
        )
        self.assertEqual(agent.closeCode, 1008)
        self.assertEqual((self.door.agents.registered, self.door.agents.refused), (0, 1))

    def test_anythingElseFirstIsAPolicyViolation(self) -> None:
        agent = Stranger(self.door, register=False)
        agent.send(response())
        self.assertEqual((agent.take()[0]["code"], agent.closeCode), ("bad_register", 1008))
        agent = Stranger(self.door, register=False)
        agent.send(b'{"type":"register","tunnel_id":"","agent_token":"k1"}')
        self.assertEqual((agent.take()[0]["message"], agent.closeCode), ("invalid tunnel_id", 1008))

    def test_aSilentAgentIsClosedAfterTenSeconds(self) -> None:
        agent = Stranger(self.door, register=False)
        self.door.passTime(9)
        self.assertIsNone(agent.lost)
        self.door.passTime(2)
        self.assertEqual((agent.take()[0]["code"], agent.closeCode), ("bad_register", 1008))

    def test_threeMessagesThatAreNoJSONCloseTheWebSocket(self) -> None:
        agent = Stranger(self.door)
        agent.send(b"not json", b"[]", b'{"type":"wat"}', b"{")
        self.assertIsNone(agent.lost)
        agent.send(b"nor this")
        self.assertEqual(agent.closeCode, 1003)
        self.assertFalse(self.door.tunnel.healthy)

    def test_aBinaryMessageIsNoJSON(self) -> None:
        agent = Stranger(self.door, register=False)
        for _ in range(3):
            agent.say(REGISTER, text=False)
        self.door.settle()
        self.assertEqual((agent.closeCode, self.door.registrar.asked), (1003, []))

    def test_aVerificationThatTakesTooLongIsUnavailable(self) -> None:
        self.door.registrar.verifying = []
        agent = Stranger(self.door, register=False)
        agent.send(REGISTER, REGISTER)
        self.assertEqual(len(self.door.registrar.verifying), 1)
        self.door.passTime(6)
        self.assertEqual(
            agent.take(), [{"type": "error", "message": "laravel verify: unavailable", "code": "verify_unavailable"}]
        )
        self.assertEqual(agent.closeCode, 1008)

    def test_anAgentThatLeavesIsVerifiedNoFurther(self) -> None:
        self.door.registrar.verifying = []
        agent = Stranger(self.door, register=False)
        agent.send(REGISTER)
        agent.transport.abortConnection()
        self.door.settle()
        self.assertTrue(self.door.registrar.verifying[0].called)
        self.assertEqual(self.door.agents.refused, 0)

    def test_aDefectOfTheRegistrarIsUnavailable(self) -> None:
        self.door.registrar.verifying = []
        agent = Stranger(self.door, register=False)
        agent.send(REGISTER)
        self.door.registrar.verifying[0].errback(RuntimeError("a defect"))
        self.door.settle()
        self.assertEqual((agent.take()[0]["code"], agent.closeCode), ("verify_unavailable", 1008))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_anAgentThatCannotBePublishedIsRefused(self) -> None:
        self.door.registrar.refusal = RegistrationRefused(TOO_MANY_AGENTS)
        agent = Stranger(self.door)
        self.assertEqual((agent.registered[0]["type"], agent.registered[0]["code"]), ("error", "too_many_agents"))
        self.assertEqual(agent.closeCode, 1008)
        self.assertFalse(self.door.tunnel.healthy)

    def test_requestsWaitUntilTheAgentIsRegistered(self) -> None:
        self.door.registrar.arriving = []
        agent = Stranger(self.door)
        self.assertEqual(agent.registered, [])
        self.door.ask()
        self.assertEqual(agent.take(), [])
        self.door.registrar.arriving[0].callback(None)
        self.door.settle()
        self.assertEqual([frame["type"] for frame in agent.take()], ["registered", "http_request"])

    def test_anEdgeThatStopsAcceptsNoAgent(self) -> None:
        self.door.edge.stopping = True
        agent = Stranger(self.door)
        self.assertEqual((agent.registered[0]["code"], agent.closeCode), ("draining", 1008))

    def test_aLongFirstMessageIsRefused(self) -> None:
        agent = Stranger(self.door, register=False)
        agent.send(json.dumps({"type": "register", "tunnel_id": "t1", "agent_token": "k" * 70_000}).encode())
        self.assertEqual((agent.closeCode, self.door.registrar.asked), (1009, []))

    def test_theSubprotocolIsSelectedAndNoExtension(self) -> None:
        both = Both()
        self.assertEqual(both.link.session.channel.transport.subprotocol, "jetty.v0.json")
        self.assertIsNone(Stranger(self.door).transport.subprotocol)


class StockTests(SynchronousTestCase):
    """
    Agents that announce nothing (sections 3.5 and 3.6).
    """

    def setUp(self) -> None:
        self.door = Door()
        self.agent = Stranger(self.door)

    def test_theFirstTranscriptIsReplayed(self) -> None:
        self.door.ids = ["6f1c0d0e5b7a4c1f9e2d3c4b5a697887"]
        receiver = Recorder()
        exchange = self.door.open(receiver)
        exchange.sendHead(RequestHead(b"POST", b"/hook?v=1", [
            HOST_DEMO, (b"Content-Type", b"application/json"), (b"Content-Length", b"7"), (b"Connection", b"keep-alive"),
        ]))
        exchange.write(b'{"a":1}')
        exchange.end()
        self.door.settle()
        self.assertEqual(self.agent.messages, [
            (b'{"type":"http_request","request_id":"6f1c0d0e5b7a4c1f9e2d3c4b5a697887","method":"POST","path":"/hook",'
            b'"query":"v=1","headers":{"Host":"demo.tunnels.example","Content-Type":"application/json"},'
            b'"body_b64":"eyJhIjoxfQ=="}'),
        ])  # fmt: skip
        self.agent.send(
            b'{"type":"http_response","request_id":"6f1c0d0e5b7a4c1f9e2d3c4b5a697887","status":200,'
            b'"headers":{"Content-Type":"text/plain"},"body_b64":"b2s="}'
        )
        self.assertEqual((receiver.heads[0].status, receiver.body, receiver.trailers), (200, b"ok", []))
        self.assertEqual(receiver.heads[0].field(b"content-length"), b"2")

    def test_theTranscriptOfEventsIsReplayed(self) -> None:
        self.door.ids = ["r2"]
        asked = self.door.ask(b"GET", b"/events", (b"Accept", b"text/event-stream"))
        self.assertEqual(self.agent.messages, [
            (b'{"type":"http_request","request_id":"r2","method":"GET","path":"/events","query":"",'
            b'"headers":{"Host":"demo.tunnels.example","Accept":"text/event-stream"},"body_b64":""}')
        ])  # fmt: skip
        self.agent.send(
            b'{"type":"http_response_start","request_id":"r2","status":200,"headers":{"Content-Type":"text/event-stream"}}'
        )
        self.assertEqual(asked.status, 200)
        self.agent.send(b'{"type":"http_response_chunk","request_id":"r2","data_b64":"ZGF0YTogMQoK"}')
        self.assertEqual(asked.receiver.body, b"data: 1\n\n")
        self.door.passTime(400)
        self.assertIsNone(asked.receiver.trailers)
        self.agent.send(b'{"type":"http_response_end","request_id":"r2"}')
        self.assertEqual((asked.receiver.trailers, asked.receiver.failure), ([], None))

    def test_theTranscriptOfAStaleTokenIsReplayed(self) -> None:
        old = Stranger(self.door, register=False)
        old.send(b'{"type":"register","tunnel_id":"t","agent_token":"old"}')
        self.assertEqual(
            old.messages, [b'{"type":"error","message":"verify rejected: {\\"valid\\":false}","code":"verify_rejected"}']
        )
        self.assertEqual(old.closeCode, 1008)
        new = Stranger(self.door, register=False)
        new.send(b'{"type":"register","tunnel_id":"t","agent_token":"k1"}')
        self.assertEqual(new.messages, [b'{"type":"registered"}'])

    def test_requestsAreSentOneAtATime(self) -> None:
        first, second = self.door.ask(), self.door.ask()
        self.assertEqual([frame["request_id"] for frame in self.agent.take()], ["r1"])
        self.agent.send(response("r1", body=b"one"))
        self.assertEqual(first.receiver.body, b"one")
        self.assertEqual([frame["request_id"] for frame in self.agent.take()], ["r2"])
        self.agent.send(response("r2", body=b"two"))
        self.assertEqual(second.receiver.body, b"two")

    def test_aStreamedResponseLetsTheNextRequestGo(self) -> None:
        self.door.ask()
        self.door.ask()
        self.agent.take()
        self.agent.send(start("r1"))
        self.assertEqual([frame["request_id"] for frame in self.agent.take()], ["r2"])

    def test_aVisitorWhoLeavesKeepsTheSlot(self) -> None:
        first, second = self.door.ask(), self.door.ask()
        self.agent.take()
        first.exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.door.settle()
        self.assertEqual(self.agent.take(), [])
        self.agent.send(response("r1", body=b"late"))
        self.assertEqual(([frame["request_id"] for frame in self.agent.take()], first.receiver.body), (["r2"], b""))
        self.assertEqual(second.receiver.heads, [])
        self.assertEqual((self.door.tunnel.requests.table.unknown, self.door.tunnel.requests.table.late), (0, 1))

    def test_theSlotIsGivenBackInTime(self) -> None:
        first = self.door.ask()
        first.exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.door.passTime(10)
        second = self.door.ask()
        self.agent.take()
        self.door.passTime(50)
        self.assertEqual(self.agent.take(), [])
        self.door.passTime(12)
        self.assertEqual([frame["request_id"] for frame in self.agent.take()], ["r2"])
        self.assertIsNone(second.receiver.failure)

    def test_aRequestThatWaitsTooLongIsBusy(self) -> None:
        self.door.ask()
        self.agent.send({"type": "wat"})
        waiting = self.door.ask()
        self.door.passTime(66)
        self.assertEqual(waiting.kind, FailureKind.BUSY)

    def test_anAgentThatDoesNotAnswerHasFiveSecondsMore(self) -> None:
        asked = self.door.ask()
        self.door.passTime(64)
        self.assertIsNone(asked.receiver.failure)
        self.door.passTime(2)
        self.assertEqual((asked.kind, asked.receiver.failure.status), (FailureKind.GATEWAY_TIMEOUT, 504))  # type: ignore[union-attr]

    def test_HEADIsSentAsGET(self) -> None:
        asked = self.door.ask(b"HEAD", b"/page")
        self.assertEqual(self.agent.take()[0]["method"], "GET")
        self.agent.send(response(body=b"hello", Content_Type="text/plain"))
        self.assertEqual((asked.status, asked.receiver.body, asked.receiver.trailers), (200, b"", []))
        self.assertEqual(asked.receiver.heads[0].field(b"content-length"), b"5")

    def test_repeatedHeadersAreJoined(self) -> None:
        self.door.ask(b"GET", b"/", (b"Accept", b"a"), (b"accept", b"b"), (b"Cookie", b"x=1"), (b"Cookie", b"y=2"))
        headers = self.agent.take()[0]["headers"]
        self.assertEqual((headers["Accept"], headers["Cookie"]), ("a, b", "x=1; y=2"))

    def test_octetsOfValuesSurviveAsLatin1(self) -> None:
        asked = self.door.ask(b"GET", b"/", (b"X-Name", b"caf\xc3\xa9"))
        self.assertEqual(self.agent.take()[0]["headers"]["X-Name"].encode("latin-1"), b"caf\xc3\xa9")
        self.agent.send(response(X_Name="caf\xe9"))
        self.assertEqual(asked.receiver.heads[0].field(b"x-name"), b"caf\xe9")

    def test_whatIsForOneConnectionOrReservedIsNotSent(self) -> None:
        self.door.ask(
            b"GET", b"/", (b"TE", b"trailers"), (b"Trailer", b"x"), (b"Keep-Alive", b"1"), (b"Expect", b"100-continue"),
            (b"X-Jetty-Subdomain", b"other"), (b"Proxy-Authorization", b"secret"), (b"X-Kept", b"1"),
        )
        self.assertEqual(list(self.agent.take()[0]["headers"]), ["Host", "X-Kept"])

    def test_aTargetIsSentAsItCame(self) -> None:
        self.door.ask(b"GET", b"/a%2Fb/%e9?q=%20&q")
        frame, = self.agent.take()
        self.assertEqual((frame["path"], frame["query"]), ("/a%2Fb/%e9", "q=%20&q"))
        asked = self.door.ask(b"OPTIONS", b"*")
        self.assertEqual(asked.kind, FailureKind.UNSUPPORTED)

    def test_theTraceIsCarried(self) -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        self.door.ask(b"GET", b"/", (b"traceparent", trace.encode()))
        self.assertEqual(self.agent.take()[0]["trace_parent"], trace)

    def test_anotherServerCanBeNamed(self) -> None:
        receiver = Recorder()
        exchange = self.door.open(receiver, HTTPPurpose(host="127.0.0.1", port=9000))
        exchange.sendHead(RequestHead(b"GET", b"/", [HOST]))
        exchange.end()
        self.door.settle()
        frame, = self.agent.take()
        self.assertEqual((frame["upstream_host"], frame["upstream_port"]), ("127.0.0.1", 9000))
        self.assertRaises(UnsupportedPurpose, self.door.open, receiver, HTTPPurpose(port=9000))

    def test_rulesNameAnotherServer(self) -> None:
        rules: list[RoutingRule] = []
        door = Door(acceptance=evolve(ACCEPTANCE, upstreamOf=lambda head: upstream_of(rules, head.target, head.fields)))
        agent = Stranger(door)
        first, second = (
            RoutingRule(match_type="path_prefix", path_prefix=path, local_host="127.0.0.1", local_port=port)
            for path, port in (("/api/v2", 9002), ("/api", 9001))
        )
        for present, target, port in (
            ([], b"/api", None), ([first, second], b"/api/v2?x", 9002), ([second, first], b"/api/v2", 9001),
            ([first, second], b"/", None),
        ):
            rules[:] = present
            asked = door.ask(b"GET", target)
            frame, = agent.take()
            self.assertEqual(frame.get("upstream_port"), port)
            self.assertEqual(frame.get("upstream_host"), port and "127.0.0.1")
            agent.send({"type": "http_response", "request_id": frame["request_id"], "status": 204, "headers": {}})
            self.assertEqual(asked.status, 204)
        rules[:] = [second]
        door.open(Recorder(), HTTPPurpose(host="127.0.0.1", port=9000)).sendHead(RequestHead(b"GET", b"/api", [HOST]))
        door.settle()
        self.assertEqual(agent.take()[0]["upstream_port"], 9000, "which the edge's own routes name")

    def test_aBodyOfUnknownLengthIsCollected(self) -> None:
        receiver = Recorder()
        exchange = self.door.open(receiver)
        self.assertFalse(exchange.traits.streamed)
        exchange.sendHead(RequestHead(b"POST", b"/", [HOST, (b"Transfer-Encoding", b"chunked")]))
        exchange.write(b"one")
        exchange.write(b"two")
        self.door.settle()
        self.assertEqual(self.agent.take(), [])
        exchange.end()
        self.door.settle()
        frame, = self.agent.take()
        self.assertEqual((frame["body_b64"], frame["headers"]), (base64(b"onetwo"), {"Host": "demo.tunnels.example"}))

    def test_aBodyOfMoreThanSevenMiBIsTooLarge(self) -> None:
        limit = 7 * 1024 * 1024
        receiver = Recorder()
        exchange = self.door.open(receiver)
        exchange.sendHead(RequestHead(b"POST", b"/", [HOST, (b"Content-Length", b"%d" % (limit + 1))]))
        assert receiver.failure is not None
        self.assertEqual(receiver.failure.status, 413)
        receiver = Recorder()
        exchange = self.door.open(receiver)
        exchange.sendHead(RequestHead(b"POST", b"/", [HOST, (b"Transfer-Encoding", b"chunked")]))
        exchange.write(bytes(limit))
        self.assertIsNone(receiver.failure)
        exchange.write(b"x")
        assert receiver.failure is not None
        self.assertEqual((receiver.failure.status, self.door.tunnel.requests.bodies.octets), (413, 0))
        self.assertEqual(self.door.tunnel.inFlight, 0)

    def test_aBodyOfSevenMiBFitsIntoTheMessageOfTheStock(self) -> None:
        self.door.ask(b"POST", body=bytes(7 * 1024 * 1024))
        message, = self.agent.messages
        self.assertLess(len(message), 10 * 1024 * 1024)

    def test_allBodiesTogetherHaveABound(self) -> None:
        receivers = [Recorder() for _ in range(4)]
        for receiver in receivers:
            exchange = self.door.open(receiver)
            exchange.sendHead(RequestHead(b"POST", b"/", [HOST, (b"Transfer-Encoding", b"chunked")]))
            exchange.write(bytes(5 * 1024 * 1024))
        failures = [receiver.failure for receiver in receivers]
        self.assertEqual(failures[:3], [None] * 3)
        self.assertIsInstance(failures[3], Busy)

    def test_theLimitsOfRequestsHold(self) -> None:
        for _ in range(128):
            self.door.ask()
        self.assertRaises(Busy, self.door.open, Recorder())
        self.assertEqual(len(self.agent.take()), 1)
        self.assertEqual(self.door.tunnel.inFlight, 128)

    def test_anUpgradeCannotBeCarried(self) -> None:
        self.assertFalse(self.door.open(Recorder()).traits.upgrade)
        asked = self.door.ask(b"GET", b"/", (b"Upgrade", b"websocket"))
        self.assertEqual((asked.kind, asked.receiver.failure.status), (FailureKind.UNSUPPORTED, 501))  # type: ignore[union-attr]

    def test_aSilentAgentHasNinetySeconds(self) -> None:
        self.door.passTime(90)
        self.assertTrue(self.door.tunnel.healthy)
        self.agent.transport._connection.transport.pauseProducing()     # it blocks: no pong is sent
        self.door.passTime(76)
        self.assertTrue(self.door.tunnel.healthy)
        self.door.passTime(14)
        self.assertFalse(self.door.tunnel.healthy)


HOST_DEMO = (b"Host", b"demo.tunnels.example")


class ResponseTests(SynchronousTestCase):
    """
    What agents answer, and what is wrong with it (sections 3.6, 3.7, 11.1).
    """

    capabilities: tuple[str, ...] = CAPABILITIES

    def setUp(self) -> None:
        self.door = Door()
        self.agent = Stranger(self.door, capabilities=self.capabilities)
        self.table = self.door.tunnel.requests.table

    def get(self) -> Any:
        asked = self.door.ask()
        self.agent.take()
        return asked

    def wrong(self, asked: Any) -> None:
        """
        The response was not valid, and the session is.
        """
        self.assertEqual(asked.kind, FailureKind.INVALID_RESPONSE)
        self.assertIsNone(self.agent.lost)
        self.assertEqual((len(self.table), self.door.tunnel.inFlight), (0, 0))

    def test_theInterfacesAreProvided(self) -> None:
        self.assertTrue(verifyObject(ITunnel, self.door.tunnel))
        self.assertTrue(verifyObject(ISession, self.door.tunnel.session))
        self.assertTrue(verifyObject(IExchange, self.door.open(Recorder())))

    def test_aResponseForAnUnknownRequestIsDropped(self) -> None:
        self.agent.send(response("nothing"), start("nothing"), chunk(b"x", "nothing"), end("nothing"))
        self.assertEqual(self.table.unknown, 4)
        self.assertIsNone(self.agent.lost)

    def test_aSecondResponseIsDropped(self) -> None:
        asked = self.get()
        self.agent.send(response(body=b"one"), response(body=b"two"))
        self.assertEqual((asked.receiver.body, self.table.unknown), (b"one", 1))

    def test_aWholeResponseAfterAStreamedOneIsDropped(self) -> None:
        asked = self.get()
        self.agent.send(start(), chunk(b"a"), chunk(b"b"), end(), response(body=b"again"))
        self.assertEqual((asked.receiver.body, asked.receiver.trailers), (b"ab", []))
        self.assertEqual(self.table.unknown, 1)

    def test_aWholeResponseWithinAStreamedOneIsDropped(self) -> None:
        asked = self.get()
        self.agent.send(start(), chunk(b"a"), response(body=b"whole"), start(), chunk(b"b"), end())
        self.assertEqual((asked.receiver.body, len(asked.receiver.heads), asked.receiver.trailers), (b"ab", 1, []))

    def test_aPartBeforeTheHeadFailsTheExchange(self) -> None:
        asked = self.get()
        self.agent.send(chunk(b"x"))
        self.wrong(asked)
        self.assertEqual(asked.receiver.failure.status, 502)
        self.agent.send(start(), response())
        self.assertEqual(asked.receiver.heads, [])
        asked = self.get()
        self.agent.send(end("r2"))
        self.wrong(asked)

    def test_anEmptyPartIsLegal(self) -> None:
        asked = self.get()
        self.agent.send(start(), chunk(b""), chunk(b"x"), end())
        self.assertEqual(asked.receiver.body, b"x")

    def test_aStatusMayBeText(self) -> None:
        asked = self.get()
        self.agent.send(response(status="201"))
        self.assertEqual(asked.status, 201)

    def test_aStatusThatIsNoneFailsTheExchange(self) -> None:
        for number, status in enumerate((0, 99, 600, None, "two", True, 2.5), 1):
            asked = self.get()
            self.agent.send(response(f"r{number}", status=status))
            self.wrong(asked)

    def test_otherFramesFailTheExchangeAlone(self) -> None:
        bad = (
            {"body_b64": "!!!"}, {"body_b64": "YQ"}, {"body_b64": 1}, {"headers": {"a b": "x"}}, {"headers": "none"},
            {"headers": {"a": "x\r\ny: z"}}, {"headers": {"a": 1}}, {"headers": {"a": [["b"]]}},
        )
        for number, members in enumerate(bad, 1):
            asked = self.get()
            self.agent.send({**response(f"r{number}"), **members})
            self.wrong(asked)

    def test_aWrongPartFailsTheExchangeAlone(self) -> None:
        asked, other = self.get(), self.get()
        self.agent.send(start(), {**chunk(b""), "data_b64": "="})
        self.assertEqual(asked.kind, FailureKind.INVALID_RESPONSE)
        self.agent.send(response("r2", body=b"fine"))
        self.assertEqual(other.receiver.body, b"fine")

    def test_contradictoryLengthsFailTheExchange(self) -> None:
        asked = self.get()
        self.agent.send(start(Content_Length="x"))
        self.wrong(asked)
        asked = self.get()
        self.agent.send(start("r2", Content_Length="3"), chunk(b"four", "r2"))
        self.wrong(asked)
        asked = self.get()
        self.agent.send(start("r3", Content_Length="3"), chunk(b"2", "r3"), end("r3"))
        self.wrong(asked)

    def test_theLengthOfAWholeResponseIsThatOfItsBody(self) -> None:
        asked = self.get()
        self.agent.send(response(body=b"four", Content_Length="99", Transfer_Encoding="chunked", Connection="close"))
        self.assertEqual(asked.receiver.heads[0].fields, [(b"Content-Length", b"4")])

    def test_whatConcernsTheConnectionOfTheAgentIsDropped(self) -> None:
        asked = self.get()
        self.agent.send(response(Connection="X-Gone, close", X_Gone="1", Upgrade="h2c", Keep_Alive="5", X_Kept="1"))
        self.assertEqual(asked.receiver.heads[0].fields, [(b"X-Kept", b"1"), (b"Content-Length", b"0")])

    def test_interimResponsesAreDropped(self) -> None:
        asked = self.get()
        self.agent.send(response(status=103), start(status=100), response(status=204, body=b"none"))
        self.assertEqual((asked.status, asked.receiver.body, asked.receiver.interim), (204, b"", []))

    def test_aBodyWhereNoneIsAllowedIsDropped(self) -> None:
        for number, (method, status) in enumerate(((b"GET", 204), (b"GET", 304), (b"HEAD", 200)), 1):
            asked = self.door.ask(method)
            self.agent.send(start(f"r{number}", status), chunk(b"x", f"r{number}"), end(f"r{number}"))
            self.assertEqual((asked.receiver.body, asked.receiver.trailers), (b"", []))

    def test_aHeadThatIsTooLargeFailsTheExchange(self) -> None:
        asked = self.get()
        self.agent.send(response(X_Long="x" * 60_000))
        self.assertEqual(asked.kind, FailureKind.RESPONSE_TOO_LARGE)
        asked = self.get()
        self.agent.send({**start("r2"), "headers": {f"X-{number}": "" for number in range(150)}})
        self.assertEqual(asked.kind, FailureKind.RESPONSE_TOO_LARGE)

    def test_repeatedHeadersOfAResponseStaySeparate(self) -> None:
        asked = self.get()
        self.agent.send(response(Set_Cookie=["a=1", "b=2"]))
        cookies = [value for name, value in asked.receiver.heads[0].fields if name == b"Set-Cookie"]
        self.assertEqual(cookies, [b"a=1", b"b=2"])

    def test_aSilentResponseIsGivenUp(self) -> None:
        asked = self.get()
        self.agent.send(start(Content_Type="text/html"), chunk(b"x"))
        self.door.passTime(299)
        self.assertIsNone(asked.receiver.failure)
        self.door.passTime(2)
        self.assertEqual(asked.kind, FailureKind.GATEWAY_TIMEOUT)
        self.assertEqual(self.agent.take()[-1], {"type": "http_cancel", "request_id": "r1", "reason": "gateway_timeout"})

    def test_anAgentThatDoesNotAnswerIsATimeout(self) -> None:
        asked = self.get()
        self.door.passTime(61)
        self.assertEqual(asked.kind, FailureKind.GATEWAY_TIMEOUT)
        self.agent.send(response(body=b"late"))
        self.assertEqual((asked.receiver.heads, self.table.late, self.table.unknown), ([], 1, 0))

    def test_aVisitorWhoLeavesIsReported(self) -> None:
        asked = self.get()
        asked.exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.door.settle()
        self.assertEqual(self.agent.take(), [{"type": "http_cancel", "request_id": "r1", "reason": "client_closed"}])
        self.agent.send(start(), chunk(b"late"), end())
        self.assertEqual((asked.receiver.heads, self.table.late, self.table.unknown), ([], 3, 0))

    def test_anAgentMayGiveUp(self) -> None:
        for number, (reason, kind) in enumerate((
            ("broken", FailureKind.BROKEN), ("busy", FailureKind.BUSY), ("upstream_timeout", FailureKind.GATEWAY_TIMEOUT),
        ), 1):  # fmt: skip
            asked = self.get()
            self.agent.send({"type": "http_cancel", "request_id": f"r{number}", "reason": reason})
            self.assertEqual(asked.kind, kind)
        self.assertEqual(self.agent.take(), [])

    def test_aLostAgentFailsItsExchanges(self) -> None:
        waiting, streaming = self.get(), self.get()
        self.agent.send(start("r2"), chunk(b"some", "r2"))
        self.agent.transport.abortConnection()
        self.door.settle()
        self.assertEqual((waiting.kind, waiting.receiver.failure.status), (FailureKind.BROKEN, 502))
        self.assertEqual((streaming.kind, streaming.receiver.trailers), (FailureKind.BROKEN, None))
        self.assertRaises(Busy, self.door.open, Recorder())
        self.assertEqual(self.door.tunnel.inFlight, 0)

    def test_aMessageThatIsTooLongClosesTheSession(self) -> None:
        asked = self.get()
        self.agent.send(b'{"type":"http_response","request_id":"r1","body_b64":"' + b"A" * 16 * 1024 * 1024 + b'"}')
        self.assertEqual((self.agent.closeCode, asked.kind), (1009, FailureKind.BROKEN))

    def test_fragmentsAreJoined(self) -> None:
        asked = self.get()
        message = json.dumps(response(body=b"in pieces" * 40)).encode()
        connection = self.agent.transport._connection
        half = len(message) // 2
        for opcode, piece in ((1, message[:half]), (0x80, message[half:])):
            head = bytes((opcode, 0x80 | 126)) + len(piece).to_bytes(2, "big") + bytes(4)
            connection.transport.write(head + piece)
        self.door.settle()
        self.assertEqual(asked.receiver.body, b"in pieces" * 40)

    def test_aDefectClosesTheSession(self) -> None:
        self.get()

        def fail(self: Any, frame: Any) -> None:
            raise RuntimeError("a defect")

        self.patch(EdgeExchange, "responseReceived", fail)
        self.agent.send(response())
        self.assertEqual(self.agent.closeCode, 1011)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_anUpgradeNobodyAskedForFailsTheExchange(self) -> None:
        for number, frame in enumerate((start(status=101, Upgrade="websocket"), response(status=101)), 1):
            asked = self.get()
            self.agent.send({**frame, "request_id": f"r{number}"})
            self.assertEqual(asked.kind, FailureKind.INVALID_RESPONSE)


class StreamedRequestTests(SynchronousTestCase):
    """
    The bodies of requests in parts, and pressure.
    """

    def setUp(self) -> None:
        self.door = Door()
        self.agent = Stranger(self.door, capabilities=CAPABILITIES)

    def test_aBodyIsSentInParts(self) -> None:
        exchange = self.door.open(Recorder())
        self.assertTrue(exchange.traits.streamed)
        exchange.sendHead(RequestHead(b"POST", b"/", [HOST, (b"Content-Length", b"70000")]))
        exchange.write(bytes(70_000))
        exchange.end()
        self.door.settle()
        first, *parts, last = self.agent.take()
        self.assertEqual((first["streamed"], first["body_b64"], first["headers"]["Content-Length"]), (True, "", "70000"))
        self.assertEqual([len(part["data_b64"]) * 3 // 4 // 1024 for part in parts], [32, 32, 4])
        self.assertEqual(last, {"type": "http_request_end", "request_id": "r1"})

    def test_anAgentThatDoesNotReadPausesTheVisitors(self) -> None:
        exchange, producer = self.door.open(Recorder()), Producer()
        exchange.registerProducer(producer, True)
        exchange.sendHead(RequestHead(b"POST", b"/", [HOST, (b"Transfer-Encoding", b"chunked")]))
        self.agent.transport.pauseProducing()
        while producer.said[-1] != "pause":
            exchange.write(bytes(65_536))
            self.door.settle()
        for _ in range(200):
            exchange.write(bytes(65_536))
        self.assertFalse(self.door.tunnel.healthy)
        self.assertRaises(Busy, self.door.open, Recorder())
        self.agent.transport.resumeProducing()
        self.door.settle()
        self.assertEqual(producer.said[-1], "resume")
        self.assertTrue(self.door.tunnel.healthy)

    def test_wholeBodiesAreNotQueuedForAnAgentThatDoesNotRead(self) -> None:
        agent = Stranger(self.door, capabilities=(CANCEL,))
        agent.transport.pauseProducing()
        receivers = [Recorder() for _ in range(5)]
        exchanges = [self.door.open(receiver) for receiver in receivers]
        for exchange in exchanges:
            exchange.sendHead(RequestHead(b"POST", b"/", [HOST, (b"Transfer-Encoding", b"chunked")]))
            exchange.write(bytes(9 * 1024 * 1024))
            exchange.end()
        self.assertLess(self.door.tunnel.session.channel.queued, 26 * 1024 * 1024)
        self.assertLessEqual(self.door.tunnel.requests.bodies.octets, 16 * 1024 * 1024)
        self.assertIsInstance(receivers[4].failure, Busy)
        self.assertIsNone(receivers[3].failure)
        agent.transport.resumeProducing()
        self.door.settle()
        self.assertEqual([frame["request_id"] for frame in agent.take()], ["r1", "r2", "r3", "r4"])

    def test_aRequestToAnAgentThatDoesNotReadIsGivenUp(self) -> None:
        receiver = Recorder()
        exchange, producer = self.door.open(receiver), Producer()
        exchange.registerProducer(producer, True)
        exchange.sendHead(RequestHead(b"POST", b"/", [HOST, (b"Transfer-Encoding", b"chunked")]))
        self.agent.transport.pauseProducing()
        while producer.said[-1] != "pause":
            exchange.write(bytes(65_536))
            self.door.settle()
        self.door.passTime(40)
        self.assertIsNone(receiver.failure)
        self.door.passTime(14)      # the agent is silent, too
        self.assertIsNotNone(receiver.failure)
        self.assertEqual(producer.said[-1], "stop")


WITHOUT_FLOW = tuple(each for each in CAPABILITIES if each != FLOW)


class FlowTests(SynchronousTestCase):
    """
    Visitors who do not read, with an agent that can be requested to send no more.
    """

    def setUp(self) -> None:
        self.door = Door()
        self.agent = Stranger(self.door, capabilities=CAPABILITIES)
        self.slow = self.door.ask()
        self.agent.send(start("r1"))
        self.slow.exchange.pauseProducing()
        self.agent.take()

    def test_theAgentIsRequestedToStopAndToGoOn(self) -> None:
        for _ in range(31):
            self.agent.send(chunk(bytes(32 * 1024)))
        self.assertEqual(self.agent.take(), [])
        self.agent.send(chunk(bytes(32 * 1024)), chunk(bytes(32 * 1024)))
        self.assertEqual(self.agent.take(), [{"type": "flow", "id": "r1", "paused": True}])
        self.assertFalse(self.door.tunnel.session.channel.transport.readPaused)
        self.slow.exchange.resumeProducing()
        self.door.settle()
        self.assertEqual(self.agent.take(), [{"type": "flow", "id": "r1", "paused": False}])
        self.assertEqual(len(self.slow.receiver.body), 33 * 32 * 1024)

    def test_anAgentThatGoesOnIsBounded(self) -> None:
        for _ in range(33):
            self.agent.send(chunk(bytes(1024 * 1024)))
        self.assertEqual(self.slow.kind, FailureKind.BROKEN)
        self.assertEqual([frame["type"] for frame in self.agent.take()], ["flow", "http_cancel"])
        self.assertEqual(self.door.tunnel.session.held, 0)

    def test_aVisitorWhoLeavesLeavesNothing(self) -> None:
        self.agent.send(chunk(bytes(1024 * 1024)))
        self.slow.exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.door.settle()
        self.assertEqual([frame["type"] for frame in self.agent.take()], ["flow", "http_cancel"])
        self.assertEqual(self.door.tunnel.session._stopped, set())

    def test_anAgentMayStopTheVisitor(self) -> None:
        exchange, producer = self.door.open(Recorder()), Producer()
        exchange.registerProducer(producer, True)
        exchange.sendHead(RequestHead(b"POST", b"/", [HOST, (b"Transfer-Encoding", b"chunked")]))
        self.agent.send({"type": "flow", "id": "r2", "paused": True}, {"type": "flow", "id": "nothing", "paused": True})
        self.assertEqual(producer.said, ["pause", "resume", "pause"])
        self.door.tunnel.session.writesResumed()
        self.assertEqual(producer.said, ["pause", "resume", "pause"])
        self.agent.send({"type": "flow", "id": "r2", "paused": False})
        self.assertEqual(producer.said[-1], "resume")

    def test_aLocalServerThatReadsNothingForLongIsGivenUp(self) -> None:
        receiver = Recorder()
        exchange = self.door.open(receiver)
        exchange.registerProducer(Producer(), True)
        exchange.sendHead(RequestHead(b"POST", b"/", [HOST, (b"Transfer-Encoding", b"chunked")]))
        self.agent.send({"type": "flow", "id": "r2", "paused": True})
        self.door.passTime(299)
        self.assertIsNone(receiver.failure)
        self.door.passTime(2)
        self.assertIsNotNone(receiver.failure)

    def test_aPeerThatHasNotAgreedGetsNone(self) -> None:
        agent = Stranger(self.door, capabilities=WITHOUT_FLOW)
        asked = self.door.ask()
        self.door.ask()
        agent.send(start("r2"))
        asked.exchange.pauseProducing()
        agent.take()
        agent.send(chunk(bytes(1024 * 1024), "r2"), {"type": "flow", "id": "r2", "paused": True})
        self.assertEqual(agent.take(), [])


class ReadingTests(SynchronousTestCase):
    """
    Visitors who do not read, with an agent that has no such frames (section 3.7).
    """

    def setUp(self) -> None:
        self.door = Door()
        self.agent = Stranger(self.door, capabilities=WITHOUT_FLOW)
        self.slow = self.door.ask()
        self.agent.send(start("r1"), chunk(b"x", "r1"))

    @property
    def paused(self) -> bool:
        return bool(self.door.tunnel.session.channel.transport.readPaused)

    def test_aReaderAloneStopsTheAgent(self) -> None:
        self.slow.exchange.pauseProducing()
        self.assertFalse(self.paused)
        for _ in range(100):
            self.agent.send(chunk(bytes(32 * 1024)))
        self.assertTrue(self.paused)
        self.assertEqual(len(self.slow.receiver.body), 1)
        self.assertLess(self.door.tunnel.session.held, 1100 * 1024)
        self.slow.exchange.resumeProducing()
        self.door.settle()
        self.assertEqual(len(self.slow.receiver.body), 1 + 100 * 32 * 1024)

    def test_aReaderAmongOthersHoldsNobodyElse(self) -> None:
        other = self.door.ask()
        self.slow.exchange.pauseProducing()
        self.assertFalse(self.paused)
        self.agent.send(*(chunk(bytes(32 * 1024)) for _ in range(100)), response("r2", body=b"fast"))
        self.assertEqual(other.receiver.body, b"fast")
        self.assertEqual(self.door.tunnel.session.held, 100 * 32 * 1024)
        self.assertTrue(self.paused)          # it is alone now
        self.slow.exchange.resumeProducing()
        self.door.settle()
        self.assertEqual(len(self.slow.receiver.body), 1 + 100 * 32 * 1024)

    def test_aFurtherRequestResumesReading(self) -> None:
        self.stop()
        other = self.door.ask()
        self.assertFalse(self.paused)
        self.agent.send(response("r2", body=b"fast"))
        self.assertEqual(other.receiver.body, b"fast")

    def test_aReaderForWhomTooMuchIsHeldIsGivenUp(self) -> None:
        self.door.ask()
        self.slow.exchange.pauseProducing()
        for _ in range(257):
            self.agent.send(chunk(bytes(32 * 1024)))
        self.assertEqual(self.slow.kind, FailureKind.BROKEN)
        self.assertEqual(self.agent.take()[-1], {"type": "http_cancel", "request_id": "r1", "reason": "broken"})
        self.assertEqual((self.door.tunnel.session.held, self.agent.lost), (0, None))

    def test_allTogetherHaveABound(self) -> None:
        readers = [self.slow, *(self.door.ask() for _ in range(12))]
        self.agent.send(*(start(f"r{number}") for number in range(2, 14)))
        for reader in readers:
            reader.exchange.pauseProducing()
        large = 1024 * 1024
        for _ in range(6):
            self.agent.send(*(chunk(bytes(large), f"r{number}") for number in range(1, 14)))
        self.assertLessEqual(self.door.tunnel.session.held, 64 * 1024 * 1024)
        self.assertTrue(any(reader.receiver.failure for reader in readers))
        self.assertFalse(all(reader.receiver.failure for reader in readers))

    def stop(self) -> None:
        """
        Let the session be read no more.
        """
        self.slow.exchange.pauseProducing()
        self.agent.send(chunk(bytes(1024 * 1024)))
        self.assertTrue(self.paused)

    def test_aPausedSessionIsNotSilent(self) -> None:
        self.stop()
        self.door.passTime(200)
        self.assertIsNone(self.slow.receiver.failure)
        self.assertTrue(self.door.tunnel.healthy)

    def test_aPingIsMeasuredNevertheless(self) -> None:
        self.stop()
        trips: list[float] = []
        self.door.tunnel.ping().addCallback(trips.append)
        self.door.tunnel.ping().addCallback(trips.append)
        self.assertFalse(self.paused)
        self.door.passTime(1)
        self.assertEqual(len(trips), 2)
        self.assertTrue(self.paused)

    def test_aCompleteResponseOutlivesTheAgent(self) -> None:
        self.slow.exchange.pauseProducing()
        self.door.ask()
        self.agent.send(chunk(b"yz"), end())
        self.agent.transport.abortConnection()
        self.door.settle()
        self.slow.exchange.resumeProducing()
        self.door.settle()
        self.assertEqual((self.slow.receiver.body, self.slow.receiver.trailers), (b"xyz", []))

    def test_aReceiverIsNotCalledWhileItIsPaused(self) -> None:
        asked = self.door.ask()
        asked.exchange.pauseProducing()
        self.agent.send(response("r2", body=b"whole"))
        self.assertEqual(asked.receiver.heads, [])
        asked.exchange.resumeProducing()
        self.door.settle()
        self.assertEqual((asked.status, asked.receiver.body, asked.receiver.trailers), (200, b"whole", []))


class EndTests(SynchronousTestCase):
    """
    Drains, aborts, pings and their deadlines.
    """

    def setUp(self) -> None:
        self.door = Door()

    def test_anIdleTunnelDrainsAtOnce(self) -> None:
        agent = Stranger(self.door)
        done: list[Any] = []
        self.door.tunnel.drain().addCallback(done.append)
        self.door.settle()
        self.assertEqual((agent.take(), agent.closeCode, done), ([], 1000, [None]))
        self.assertTrue(self.door.tunnel.whenLost().called)

    def test_aDrainWaitsForWhatIsUnderWay(self) -> None:
        agent = Stranger(self.door, capabilities=(DRAIN,))
        asked = self.door.ask()
        agent.take()
        done: list[Any] = []
        self.door.edge.stopping = True
        self.door.tunnel.drain().addCallback(done.append)
        self.door.settle()
        self.assertEqual(agent.take(), [{"type": "drain", "grace_ms": 30_000, "reason": "", "reconnect": True}])
        self.assertEqual((done, self.door.tunnel.healthy), ([], False))
        self.assertRaises(Busy, self.door.open, Recorder())
        agent.send(response(body=b"ok"))
        self.assertEqual((asked.receiver.body, done), (b"ok", [None]))
        self.assertIsNotNone(agent.lost)

    def test_aTunnelThatIsReplacedDoesNotSendItsAgentAway(self) -> None:
        agent = Stranger(self.door, capabilities=(DRAIN,))
        self.door.ask()
        agent.take()
        self.door.tunnel.drain()
        self.door.settle()
        self.assertEqual(agent.take(), [{"type": "drain", "grace_ms": 30_000, "reason": "", "reconnect": False}])

    def test_anAgentMayDrain(self) -> None:
        agent = Stranger(self.door, capabilities=(DRAIN,))
        asked = self.door.ask()
        agent.take()
        agent.send({"type": "drain", "grace_ms": 1000, "reason": "deploy", "reconnect": False})
        self.assertFalse(self.door.tunnel.healthy)
        self.assertRaises(Busy, self.door.open, Recorder())
        self.assertIsNone(agent.lost)
        agent.send(response(body=b"ok"))
        self.assertEqual((asked.receiver.body, agent.take()), (b"ok", []))
        self.assertIsNotNone(agent.lost)

    def test_anAgentIsAbortedWithAReason(self) -> None:
        agent = Stranger(self.door)
        asked = self.door.ask()
        agent.take()
        self.door.tunnel.abort(Denied("replaced", "this agent has connected again"))
        self.door.settle()
        self.assertEqual(agent.take(), [{"type": "error", "message": "this agent has connected again", "code": "replaced"}])
        self.assertEqual((agent.closeCode, asked.kind), (1008, FailureKind.BROKEN))
        agent = Stranger(self.door)
        self.door.tunnel.abort("the edge has stopped")
        self.door.settle()
        self.assertIsNotNone(agent.lost)
        self.assertTrue(self.door.tunnel.whenLost().called)

    def test_anAgentThatDoesNotReadIsAbortedAtOnce(self) -> None:
        agent = Stranger(self.door, capabilities=CAPABILITIES)
        agent.transport.pauseProducing()
        exchange = self.door.open(Recorder())
        exchange.sendHead(RequestHead(b"POST", b"/", [HOST, (b"Transfer-Encoding", b"chunked")]))
        exchange.write(bytes(1024 * 1024))
        self.door.tunnel.abort("the edge has stopped")
        self.door.settle()
        self.assertTrue(self.door.tunnel.whenLost().called)

    def test_theEdgeSendsPingsAndFindsADeadAgent(self) -> None:
        agent = Stranger(self.door, capabilities=CAPABILITIES)
        pings: list[bytes] = []
        agent.transport._connection.pingReceived = pings.append       # which answers none
        self.door.passTime(41)
        self.assertEqual(len(pings), 2)
        self.assertTrue(self.door.tunnel.healthy)
        self.door.passTime(12)
        self.assertFalse(self.door.tunnel.healthy)
        failures: list[Any] = []
        self.door.tunnel.ping().addErrback(failures.append)
        self.assertEqual(len(failures), 1)

    def test_nothingIsLeftBehind(self) -> None:
        for capabilities in (None, CAPABILITIES):
            agent = Stranger(self.door, capabilities=capabilities)
            self.door.ask()
            self.door.ask(b"POST", body=b"x")
            agent.transport.abortConnection()
            self.door.settle()
        self.assertEqual(self.door.clock.getDelayedCalls(), [])


class UpgradeTests(SynchronousTestCase):
    """
    A visitor's WebSocket through an agent (section 3.10).
    """

    def setUp(self) -> None:
        self.door = Door()
        self.agent = Stranger(self.door, capabilities=(UPGRADE, CANCEL))
        self.asked = self.door.ask(b"GET", b"/chat", (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Key", b"abc"))

    def test_bothDirectionsAreRaw(self) -> None:
        frame, = self.agent.take()
        self.assertEqual(frame["upgrade"], "websocket")
        self.assertEqual(
            frame["headers"],
            {"Host": "demo.tunnels.example", "Sec-WebSocket-Key": "abc", "Connection": "Upgrade", "Upgrade": "websocket"},
        )
        self.agent.send(start(status=101, Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Accept="xyz"), chunk(b"hi"))
        head = self.asked.receiver.heads[0]
        self.assertEqual((head.status, head.fields), (101, [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", b"xyz")]))
        self.assertEqual(self.asked.receiver.body, b"hi")
        self.asked.exchange.write(b"\x00\xff")
        self.door.settle()
        self.assertEqual(self.agent.take(), [{"type": "http_request_chunk", "request_id": "r1", "data_b64": "AP8="}])
        self.door.passTime(10_000)
        self.agent.send(end())
        self.assertEqual((self.asked.receiver.trailers, self.door.tunnel.inFlight), ([], 1))
        self.asked.exchange.end()
        self.door.settle()
        self.assertEqual((self.agent.take()[-1]["type"], self.door.tunnel.inFlight), ("http_request_end", 0))
        self.agent.send(chunk(b"late"))
        self.assertEqual(self.door.tunnel.requests.table.unknown, 1)

    def test_aRefusalIsAnOrdinaryResponse(self) -> None:
        self.agent.send(response(status=403, body=b"no"))
        self.assertEqual((self.asked.status, self.asked.receiver.body), (403, b"no"))

    def test_octetsAfterTheEndAreDropped(self) -> None:
        self.agent.send(start(status=101, Upgrade="websocket"), end(), chunk(b"late"), end())
        self.assertEqual((self.asked.receiver.body, self.asked.receiver.trailers), (b"", []))

    def test_eitherEndMayBreakIt(self) -> None:
        self.agent.send(start(status=101, Upgrade="websocket"))
        self.asked.exchange.cancel(FailureKind.CLIENT_CLOSED)
        self.door.settle()
        self.assertEqual(self.agent.take()[-1]["type"], "http_cancel")
        self.assertEqual(self.door.tunnel.inFlight, 0)


class PurposeTests(SynchronousTestCase):
    """
    What a tunnel carries.
    """

    def tunnel(self, protocol: str, capabilities: tuple[str, ...] | None = CAPABILITIES) -> Any:
        door = Door(acceptance=evolve(ACCEPTANCE, protocol=protocol))
        Stranger(door, capabilities=capabilities)
        return door.tunnel

    def test_aTunnelCarriesItsProtocolOnly(self) -> None:
        http, tcp, udp = (self.tunnel(protocol) for protocol in ("http", "tcp", "udp"))
        for tunnel in (http, udp):
            self.assertRaises(UnsupportedPurpose, tunnel.endpointFor, TCPPurpose("demo"))
        for tunnel in (http, tcp):
            self.assertRaises(UnsupportedPurpose, tunnel.datagramEndpointFor, UDPPurpose("demo"))
        for tunnel in (tcp, udp):
            self.assertRaises(UnsupportedPurpose, tunnel.exchange, HTTPPurpose("demo"), Recorder())
        self.assertRaises(UnsupportedPurpose, tcp.endpointFor, TCPPurpose(host="a", port=1))
        self.assertRaises(UnsupportedPurpose, tcp.endpointFor, SSHPurpose())
        self.assertRaises(UnsupportedPurpose, udp.datagramEndpointFor, UDPPurpose(port=53))

    def test_anAgentThatCannotIsNotSentConnections(self) -> None:
        self.assertRaises(
            UnsupportedPurpose, self.tunnel("tcp", (CANCEL, MULTIPLE_VALUES, STREAM_REQUEST)).endpointFor, TCPPurpose("demo")
        )
        self.tunnel("tcp", None).endpointFor(TCPPurpose("demo"))


class BoundsTests(SynchronousTestCase):
    def test_theBoundsOfTheEdgeCount(self) -> None:
        door = Door(bounds=ExchangeBounds(firstOctetSeconds=5.0))
        Stranger(door, capabilities=CAPABILITIES)
        asked = door.ask()
        door.passTime(4)
        self.assertIsNone(asked.receiver.failure)
        door.passTime(2)
        self.assertEqual(asked.kind, FailureKind.GATEWAY_TIMEOUT)
