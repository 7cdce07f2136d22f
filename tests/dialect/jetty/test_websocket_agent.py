"""
The agent with edges whose frames are chosen: registration, requests and responses, and what edges may do wrong.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.dialect.jetty.websocket_support import CAPABLE, REGISTRATION, URL, Host, StrangeEdge
from tests.exchange.doubles import Producer, reply
from tunnelstack.dialect.jetty.registration import (
    EdgeDrains,
    RegistrationRefused,
    TransportUnavailable,
    Upstream,
    UpstreamRefused,
)
from tunnelstack.dialect.jetty.websocket_link import connectWebSocket
from tunnelstack.errors import UsageError
from tunnelstack.exchange.errors import FailureKind
from tunnelstack.interfaces import ILink, IServerExchange, ISession
from tunnelstack.transport.websocket.errors import UpgradeRefused
from tunnelstack.wire.http1.head import ResponseHead
from tunnelstack.wire.records.jetty import STREAM_REQUEST

STOCK = evolve(REGISTRATION, capabilities=None)


def request(identifier: str = "a", method: str = "GET", body: bytes = b"", **members: Any) -> dict[str, Any]:
    return {
        "type": "http_request", "request_id": identifier, "method": method, "path": "/p", "query": "q=1",
        "headers": {"Host": "demo.tunnels.example"}, "body_b64": b64encode(body).decode(), **members,
    }


class RegistrationTests(SynchronousTestCase):
    """
    What the agent sends first, and the answers (section 3.4).
    """

    def test_weAnnounceWhatWeCan(self) -> None:
        self.assertEqual(
            StrangeEdge().register,
            b'{"type":"register","tunnel_id":"t1","agent_token":"k1","protocol_version":1,"agent_version":"test/1",'
            b'"capabilities":["stream-resp/1","stream-req/1","cancel/1","mv-headers/1","upgrade/1","raw/1","drain/1","flow/1","half-close/1"],'
            b'"transports":["websocket","grpc"],"instance_id":"i-1"}',
        )

    def test_aStockAgentSaysNoMoreThanItsToken(self) -> None:
        edge = StrangeEdge(registration=evolve(STOCK, agentVersion="", instance=""))
        self.assertEqual(edge.register, b'{"type":"register","tunnel_id":"t1","agent_token":"k1"}')

    def test_theAnswerIsKept(self) -> None:
        edge = StrangeEdge(registered={
            "capabilities": ["cancel/1", "new/1"], "session_id": "5e55", "edge_id": "a", "subdomain": "demo",
            "limits": {"x": 1}, "public_url": "https://demo.example",
            "grpc": {"url": "grpcs://edge:8091", "session_ticket": "x"}, "extra": [1],
        })  # fmt: skip
        link = edge.link
        self.assertTrue(verifyObject(ILink, link) and verifyObject(ISession, link.session))
        answer = link.registered
        self.assertEqual((answer.capabilities, answer.sessionId, answer.subdomain), (("cancel/1",), "5e55", "demo"))
        self.assertEqual((answer.publicURL, answer.edgeId, answer.limits), ("https://demo.example", "a", {"x": 1}))
        self.assertEqual(answer.grpc.url, "grpcs://edge:8091")
        self.assertNotIn("5e55", repr(answer))

    def test_aStockEdgeAnswersNothingMore(self) -> None:
        edge = StrangeEdge(registered={})
        self.assertIsNone(edge.link.registered.capabilities)
        self.assertEqual(edge.link.session.channel.capabilities, frozenset())

    def refusal(self, *messages: bytes) -> Any:
        edge = StrangeEdge()
        edge.send(*messages)
        edge.passTime(4)
        self.assertIsNone(edge.link)
        self.assertIsNotNone(edge.lost)
        self.assertEqual(edge.clock.getDelayedCalls(), [])
        return edge.refused

    def test_aRefusalHasTheCodeOfTheEdge(self) -> None:
        refused = self.refusal(b'{"type":"error","message":"verify rejected: {\\"valid\\":false}","code":"verify_rejected"}')
        self.assertIsInstance(refused, RegistrationRefused)
        self.assertEqual((refused.code, refused.sentence), ("verify_rejected", 'verify rejected: {"valid":false}'))
        refused = self.refusal(b'{"type":"error","message":"no\\nway","code":"forbidden"}')
        self.assertEqual((refused.code, refused.sentence), ("forbidden", "no\\nway"))

    def test_aMessageWithoutACodeIsRecognized(self) -> None:
        for message in ("Laravel verify: 500", "Invalid tunnel credentials", "VERIFY REJECTED"):
            refused = self.refusal(b'{"type":"error","message":"' + message.encode() + b'"}')
            self.assertEqual(refused.code, "verify_rejected", message)
        refused = self.refusal(b'{"type":"error","message":"something else"}')
        self.assertEqual((refused.code, refused.sentence), ("", "something else"))

    def test_anyOtherAnswerIsNone(self) -> None:
        for message in (b'{"type":"tcp_connect","connection_id":"c"}', b'{"type":"http_request","request_id":"a"}'):
            self.assertIsInstance(self.refusal(message), TransportUnavailable)

    def test_whatIsNoFrameIsSkipped(self) -> None:
        edge = StrangeEdge()
        edge.send(b"not json", b"[]", b"{", b'{"type":"wat"}', b"1", b'{"type":"registered"}')
        self.assertIsNotNone(edge.link)

    def test_aSilentEdgeIsUnavailableAfterTenSeconds(self) -> None:
        edge = StrangeEdge()
        edge.passTime(9)
        self.assertIsNone(edge.refused)
        edge.passTime(2)
        self.assertIsInstance(edge.refused, TransportUnavailable)

    def test_aCloseWithoutAnAnswerIsUnavailable(self) -> None:
        edge = StrangeEdge()
        edge.transport.loseConnection(1008, "no")
        edge.settle()
        self.assertIsInstance(edge.refused, TransportUnavailable)
        self.assertIn("1008", str(edge.refused))

    def test_anAttemptCanBeCancelled(self) -> None:
        edge = StrangeEdge()
        found: list[Any] = []
        upstream = Upstream(serverFor=lambda where: edge.server)
        connecting = connectWebSocket(Host(edge.clock), URL, Never(), REGISTRATION, upstream)     # type: ignore[arg-type]
        connecting.addErrback(found.append)
        connecting.cancel()
        self.assertTrue(found[0].check(CancelledError))

    def test_anHTTPErrorIsUnavailable(self) -> None:
        edge = StrangeEdge()
        found: list[Any] = []
        upstream = Upstream(serverFor=lambda where: edge.server)
        refusing = Failing(UpgradeRefused(502, "Bad Gateway", {}, ""))
        connectWebSocket(Host(edge.clock), URL, refusing, REGISTRATION, upstream).addErrback(found.append)     # type: ignore[arg-type]
        self.assertTrue(found[0].check(TransportUnavailable))
        self.assertEqual(found[0].value.__cause__.status, 502)


class Never:
    def connect(self, factory: Any) -> Deferred[Any]:
        return Deferred()


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def connect(self, factory: Any) -> Deferred[Any]:
        failing: Deferred[Any] = Deferred()
        failing.errback(self.error)
        return failing


class RequestTests(SynchronousTestCase):
    """
    Requests of an edge that agreed to everything.
    """

    def setUp(self) -> None:
        self.edge = StrangeEdge(registered=CAPABLE)
        self.requests = self.edge.link.requests

    def serve(self, frame: dict[str, Any]) -> tuple[Any, Any, Any]:
        self.edge.send(frame)
        return self.edge.server.asked[-1]

    def only(self) -> dict[str, Any]:
        frame, = self.edge.take()
        return frame

    def test_theHeadIsServed(self) -> None:
        head, exchange, body = self.serve(request(method="post", body=b"hi", headers={
            "Host": "demo.tunnels.example", "Content-Length": "99", "Connection": "X-Gone", "X-Gone": "1",
            "Cookie": ["a=1", "b=2"],
        }))  # fmt: skip
        self.assertTrue(verifyObject(IServerExchange, exchange))
        self.assertEqual((head.method, head.target, body.body, body.trailers), (b"POST", b"/p?q=1", b"hi", []))
        self.assertEqual(head.fields, [
            (b"Host", b"demo.tunnels.example"), (b"Cookie", b"a=1"), (b"Cookie", b"b=2"), (b"Content-Length", b"2"),
        ])  # fmt: skip
        self.assertEqual((exchange.host, head.framing.body), (b"demo.tunnels.example", 2))
        self.assertEqual(exchange.peer, exchange.transport.getPeer())

    def test_theFirstVectorIsServed(self) -> None:
        head, _, body = self.serve({"type": "http_request", "request_id": "a", "method": "get", "path": "", "headers": {}})
        self.assertEqual((head.method, head.target, body.body, body.trailers), (b"GET", b"/", b"", []))
        self.assertEqual(head.fields, [(b"Host", b"demo.tunnels.example")])

    def test_badBase64IsAnsweredAndTheSessionStays(self) -> None:
        self.edge.send(request(body_b64="!!!"))
        frame = self.only()
        self.assertEqual((frame["status"], b64decode(frame["body_b64"])), (502, b"invalid body_b64"))
        self.assertEqual(frame["headers"], {"Content-Type": "text/plain; charset=utf-8"})
        self.assertEqual(self.edge.server.asked, [])
        self.serve(request("b"))

    def test_otherWrongRequestsAreAnswered(self) -> None:
        bad = (
            {"method": "G T"}, {"path": "no"}, {"query": "a b"}, {"headers": {"a": "\n"}}, {"upstream_port": 70_000},
            {"headers": {"Host": "a b"}}, {"headers": {"Host": ["a", "b"]}}, {"streamed": "yes"},
            {"headers": {"Content-Length": ["1", "2"]}, "streamed": True},
        )
        for members in bad:
            self.edge.send(request(**members))
            self.assertEqual(self.only()["status"], 502, members)
        self.assertEqual(self.edge.server.asked, [])
        self.edge.send({"type": "http_request", "request_id": "x" * 200, "method": "GET"}, {"type": "http_request"})
        self.assertEqual((self.edge.take(), self.edge.lost), ([], None))

    def test_anotherServerMayBeNamed(self) -> None:
        for host, port in (("127.0.0.1", 9000), ("127.0.0.1", 0), ("", 9000)):
            self.edge.send(request(f"{host}{port}", upstream_host=host, upstream_port=port))
        self.assertEqual(self.edge.where, [("127.0.0.1", 9000), None, None])

    def test_aServerThatIsNotAllowedIsAnswered(self) -> None:
        def refuse(where: Any) -> Any:
            raise UpstreamRefused("this agent does not allow 10.0.0.1", port=1)

        self.edge.link.requests._upstream = Upstream(serverFor=refuse)
        self.edge.send(request(upstream_host="10.0.0.1", upstream_port=1))
        frame = self.only()
        self.assertEqual((frame["status"], b64decode(frame["body_b64"])), (502, b"this agent does not allow 10.0.0.1"))
        self.assertEqual(self.edge.link.session.streams, 0)

    def test_theTraceIsPassedOnAndReturned(self) -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        head, exchange, _ = self.serve(request(trace_parent=trace))
        self.assertEqual(head.field(b"traceparent"), trace.encode())
        exchange.respond(ResponseHead(200, b"OK", [(b"Content-Length", b"0")]), b"")
        self.edge.settle()
        self.assertEqual(self.only()["trace_parent"], trace)
        head, _, _ = self.serve(request("b", trace_parent=trace, headers={"Host": "a", "traceparent": "own"}))
        self.assertEqual(head.field(b"traceparent"), b"own")

    def test_noFieldCanBeSmuggledIn(self) -> None:
        head, _, _ = self.serve(request(trace_parent="00\r\nX-Evil: 1"))
        self.assertIsNone(head.field(b"traceparent"))
        for upgrade in ("websocket\r\nX-Evil: 1", "\u20ac", " "):
            self.edge.send(request("b", upgrade=upgrade))
            self.assertEqual(self.only()["status"], 502)
        self.assertEqual(len(self.edge.server.asked), 1)

    def test_anEdgeThatTakesNoAnswersIsGivenUp(self) -> None:
        self.edge.transport.pauseProducing()
        requests = self.edge.link.requests
        for _ in range(800):
            requests._refuse("a", 502, "x" * 65_536)      # as for bad requests, of which the edge sends as many as it likes
        self.edge.settle()
        self.assertTrue(self.edge.link.whenLost().called)

    def test_aShortResponseIsOneFrame(self) -> None:
        self.edge.server.answer = lambda head, exchange: exchange.respond(
            ResponseHead(200, b"OK", [
                (b"Content-Length", b"2"), (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"Keep-Alive", b"x"),
            ]), b"ok"
        )  # fmt: skip
        self.edge.send(request())
        self.assertEqual(self.only(), {
            "type": "http_response", "request_id": "a", "status": 200, "body_b64": "b2s=",
            "headers": {"Content-Length": "2", "Set-Cookie": ["a=1", "b=2"]},
        })  # fmt: skip

    def test_otherResponsesAreSentInParts(self) -> None:
        _, exchange, _ = self.serve(request())
        fields = [(b"Content-Type", b"text/event-stream"), (b"Transfer-Encoding", b"chunked")]
        exchange.sendHead(ResponseHead(200, b"OK", fields))
        exchange.write(bytes(40_000))
        self.edge.settle()
        first, *parts = self.edge.take()
        self.assertEqual(first, {
            "type": "http_response_start", "request_id": "a", "status": 200, "headers": {"Content-Type": "text/event-stream"},
        })  # fmt: skip
        self.assertEqual([len(b64decode(part["data_b64"])) for part in parts], [32_768, 7232])
        exchange.end()
        self.edge.settle()
        self.assertEqual(self.only(), {"type": "http_response_end", "request_id": "a"})
        self.assertEqual((exchange.octets, exchange.finished), (40_000, True))

    def test_aLongResponseThatIsThereIsSentInParts(self) -> None:
        self.edge.server.answer = lambda head, exchange: exchange.respond(
            ResponseHead(200, b"OK", [(b"Content-Length", b"300000")]), bytes(300_000)
        )
        self.edge.send(request())
        types = [frame["type"] for frame in self.edge.take()]
        self.assertEqual((types[0], types[-1], len(types)), ("http_response_start", "http_response_end", 12))

    def test_aResponseWithoutABodyIsOneFrame(self) -> None:
        for number, (method, status) in enumerate((("HEAD", 200), ("GET", 304), ("GET", 204))):
            self.edge.server.answer = reply(status, None, (b"Content-Length", b"5"))
            self.edge.send(request(f"r{number}", method))
            frame = self.only()
            self.assertEqual((frame["type"], frame["body_b64"]), ("http_response", ""))
            self.assertEqual(frame["headers"], {"Content-Length": "5"})

    def test_anErrorIsText(self) -> None:
        for number, (kind, status) in enumerate((
            (FailureKind.UNREACHABLE, 503), (FailureKind.GATEWAY_TIMEOUT, 504), (FailureKind.BROKEN, 502),
        )):  # fmt: skip
            _, exchange, _ = self.serve(request(f"r{number}"))
            exchange.cancel(kind)
            self.edge.settle()
            frame = self.only()
            self.assertEqual((frame["status"], b64decode(frame["body_b64"])), (status, kind.sentence.encode()))

    def test_aBrokenResponseIsReported(self) -> None:
        _, exchange, _ = self.serve(request())
        exchange.sendHead(ResponseHead(200, b"OK", []))
        exchange.write(b"some")
        exchange.cancel(FailureKind.BROKEN)
        self.edge.settle()
        self.assertEqual(self.edge.take()[-1], {"type": "http_cancel", "request_id": "a", "reason": "broken"})

    def test_aBodyIsReceivedInParts(self) -> None:
        head, exchange, body = self.serve(request(method="POST", streamed=True))
        self.assertEqual((head.field(b"transfer-encoding"), head.framing.body, body.trailers), (b"chunked", -1, None))
        self.edge.send({"type": "http_request_chunk", "request_id": "a", "data_b64": "aGk="})
        self.assertEqual(body.body, b"hi")
        self.edge.send({"type": "http_request_end", "request_id": "a"}, {"type": "http_request_end", "request_id": "a"})
        self.assertEqual(body.trailers, [])
        self.edge.send({"type": "http_request_chunk", "request_id": "a", "data_b64": "aGk="})
        self.assertEqual(body.body, b"hi")
        exchange.respond(ResponseHead(204, b"", []), b"")

    def test_aWrongPartFailsItsRequestAlone(self) -> None:
        _, exchange, body = self.serve(request(method="POST", streamed=True))
        _, other, _ = self.serve(request("b"))
        self.edge.send({"type": "http_request_chunk", "request_id": "a", "data_b64": "!"})
        self.assertEqual((body.failure.kind, exchange.finished, other.finished), (FailureKind.BROKEN, True, False))
        self.assertEqual(self.only()["status"], 502)

    def test_framesForUnknownRequestsAreCounted(self) -> None:
        for kind in ("http_request_chunk", "http_request_end", "http_cancel"):
            self.edge.send({"type": kind, "request_id": "nothing"})
        self.edge.send(request(), request())
        self.assertEqual((self.requests.unknown, len(self.edge.server.asked), self.edge.lost), (4, 1, None))

    def test_framesOfAgentsAreIgnored(self) -> None:
        ignored = self.edge.link.session.channel.ignored
        self.edge.send({"type": "http_response", "request_id": "a", "status": 200}, {"type": "registered"}, b"x", b"y")
        self.edge.send(b"z", b"[")
        self.assertEqual((self.edge.link.session.channel.ignored - ignored, self.edge.lost), (6, None))

    def test_aVisitorWhoLeavesEndsTheRequest(self) -> None:
        _, exchange, body = self.serve(request(method="POST", streamed=True))
        self.edge.send({"type": "http_cancel", "request_id": "a", "reason": "client_closed"})
        self.assertEqual((body.failure.kind, exchange.finished), (FailureKind.CLIENT_CLOSED, True))
        exchange.write(b"late")
        exchange.end()
        self.edge.settle()
        self.assertEqual(self.edge.take(), [])

    def test_atMostSixtyFourAreServed(self) -> None:
        self.edge.send(*(request(f"r{number}") for number in range(65)))
        self.assertEqual(len(self.edge.server.asked), 64)
        frame = self.only()
        self.assertEqual(
            (frame["request_id"], frame["status"], b64decode(frame["body_b64"])), ("r64", 503, b"agent busy")
        )
        self.edge.server.asked[0][1].respond(ResponseHead(204, b"", []), b"")
        self.edge.send(request("r65"))
        self.assertEqual(len(self.edge.server.asked), 65)

    def test_aLostEdgeEndsAllWork(self) -> None:
        _, exchange, body = self.serve(request(method="POST", streamed=True))
        _, streaming, _ = self.serve(request("b"))
        streaming.sendHead(ResponseHead(200, b"OK", []))
        producer = Producer()
        streaming.registerProducer(producer, True)
        self.edge.wire.drop()
        self.edge.settle()
        self.assertEqual((exchange.finished, streaming.finished, body.failure.kind), (True, True, FailureKind.CLIENT_CLOSED))
        self.assertTrue(self.edge.link.whenLost().called)
        self.assertEqual((self.edge.link.session.streams, self.edge.clock.getDelayedCalls()), (0, []))
        late = Producer()
        streaming.registerProducer(late, True)
        self.assertEqual(late.said, ["stop"])

    def test_aDefectOfTheServerIsAnErrorResponse(self) -> None:
        def fail(head: Any, exchange: Any) -> None:
            raise RuntimeError("a defect")

        self.edge.server.answer = fail
        self.edge.send(request())
        self.assertEqual(self.only()["status"], 502)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_theRulesOfAResponseHold(self) -> None:
        _, exchange, _ = self.serve(request())
        self.assertRaises(UsageError, exchange.write, b"x")
        self.assertRaises(UsageError, exchange.end)
        self.assertRaises(UsageError, exchange.onRequest)
        self.assertRaises(UsageError, exchange.sendHead, ResponseHead(103, b"", []))
        self.assertRaises(UsageError, exchange.sendHead, ResponseHead(101, b"", []))
        exchange.informational(ResponseHead(103, b"", []))
        self.assertEqual(self.edge.take(), [])

    def test_aPullProducerIsServed(self) -> None:
        _, exchange, _ = self.serve(request())
        exchange.sendHead(ResponseHead(200, b"OK", []))
        pieces = [b"one", b"two"]

        class Pull:
            def resumeProducing(self) -> None:
                if pieces:
                    exchange.write(pieces.pop(0))
                else:
                    exchange.unregisterProducer()
                    exchange.end()

            def stopProducing(self) -> None:
                pass

        exchange.registerProducer(Pull(), False)
        for _ in range(6):
            self.edge.clock.advance(0)
            self.edge.settle()
        self.assertEqual([frame["type"] for frame in self.edge.take()], [
            "http_response_start", "http_response_chunk", "http_response_chunk", "http_response_end",
        ])  # fmt: skip

    def test_anEdgeThatDoesNotReadPausesTheServers(self) -> None:
        _, exchange, _ = self.serve(request())
        producer = Producer()
        exchange.registerProducer(producer, True)
        exchange.sendHead(ResponseHead(200, b"OK", []))
        self.edge.transport.pauseProducing()
        while not producer.said:
            exchange.write(bytes(32 * 1024))
            self.edge.settle()
        exchange.write(b"waits")
        self.assertGreater(self.edge.link.session.channel.queued, 0)
        self.edge.transport.resumeProducing()
        self.edge.settle()
        self.assertEqual((producer.said, self.edge.link.session.channel.queued), (["pause", "resume"], 0))

    def test_anEdgeMayStopTheServer(self) -> None:
        _, exchange, _ = self.serve(request())
        producer = Producer()
        exchange.registerProducer(producer, True)
        exchange.sendHead(ResponseHead(200, b"OK", []))
        self.edge.send({"type": "flow", "id": "a", "paused": True})
        self.assertEqual(producer.said, ["pause"])
        self.edge.link.session.writesResumed()
        self.assertEqual(producer.said, ["pause"])
        exchange.unregisterProducer()
        exchange.registerProducer(other := Producer(), True)
        self.assertEqual(other.said, ["pause"])
        self.edge.send({"type": "flow", "id": "a", "paused": False})
        self.assertEqual(other.said, ["pause", "resume"])

    def test_aServerThatDoesNotReadStopsTheEdgeAlone(self) -> None:
        _, slow, body = self.serve(request(method="POST", streamed=True))
        slow.pauseProducing()
        piece = b64encode(bytes(1024 * 1024)).decode()
        self.edge.send({"type": "http_request_chunk", "request_id": "a", "data_b64": piece})
        self.assertEqual(self.only(), {"type": "flow", "id": "a", "paused": True})
        self.assertFalse(self.edge.link.session.channel.transport.readPaused)
        slow.resumeProducing()
        self.edge.clock.advance(0)
        self.edge.settle()
        self.assertEqual((self.only()["paused"], len(body.body)), (False, 1024 * 1024))

    def test_aServerThatDoesNotReadAmongOthersIsBounded(self) -> None:
        self.edge = StrangeEdge(registered={**CAPABLE, "capabilities": [STREAM_REQUEST]})
        _, slow, body = self.serve(request(method="POST", streamed=True))
        self.serve(request("b"))
        slow.pauseProducing()
        piece = b64encode(bytes(1024 * 1024)).decode()
        for _ in range(9):
            self.edge.send({"type": "http_request_chunk", "request_id": "a", "data_b64": piece})
        self.assertEqual((body.failure.kind, slow.finished), (FailureKind.BUSY, True))
        self.assertEqual((self.only()["status"], self.edge.link.session.held), (503, 0))


class UpgradeTests(SynchronousTestCase):
    """
    A visitor's WebSocket (section 3.10).
    """

    def setUp(self) -> None:
        self.edge = StrangeEdge(registered=CAPABLE)
        self.edge.send(request(upgrade="websocket", headers={
            "Host": "a", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "abc",
        }))  # fmt: skip
        self.head, self.exchange, self.body = self.edge.server.asked[0]

    def test_bothDirectionsAreRaw(self) -> None:
        self.assertEqual((self.head.framing.upgrade, self.body.trailers), (b"websocket", []))
        self.assertEqual(
            self.head.fields, [(b"Host", b"a"), (b"Sec-WebSocket-Key", b"abc"), (b"Upgrade", b"websocket")]
        )
        self.body.trailers = None             # from here on the receiver is that of the raw direction
        self.exchange.sendHead(ResponseHead(101, b"", [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", b"xyz")]))
        self.exchange.write(b"hi")
        self.edge.settle()
        self.assertEqual(self.edge.take(), [
            {"type": "http_response_start", "request_id": "a", "status": 101, "headers": {
                "Sec-WebSocket-Accept": "xyz", "Connection": "Upgrade", "Upgrade": "websocket",
            }},
            {"type": "http_response_chunk", "request_id": "a", "data_b64": "aGk="},
        ])  # fmt: skip
        self.edge.send({"type": "http_request_chunk", "request_id": "a", "data_b64": "AP8="})
        self.assertEqual(self.body.body, b"\x00\xff")
        self.edge.send({"type": "http_request_end", "request_id": "a"})
        self.assertEqual((self.body.trailers, self.exchange.finished), ([], False))
        self.exchange.end()
        self.edge.settle()
        self.assertEqual((self.edge.take()[-1]["type"], self.exchange.finished), ("http_response_end", True))

    def test_anAnswerMayComeAtOnce(self) -> None:
        self.edge.server.answer = lambda head, exchange: exchange.sendHead(
            ResponseHead(101, b"", [(b"Upgrade", b"websocket")])
        )
        self.edge.send(request("b", upgrade="websocket"))
        _, exchange, body = self.edge.server.asked[1]
        exchange.end()
        self.assertEqual((body.trailers, exchange.finished), ([], False))
        body.trailers = None
        self.edge.send({"type": "http_request_end", "request_id": "b"})
        self.assertTrue(exchange.finished)

    def test_aRefusalIsAnOrdinaryResponse(self) -> None:
        self.exchange.respond(ResponseHead(403, b"", [(b"Content-Length", b"2")]), b"no")
        self.edge.settle()
        self.assertEqual(self.edge.take()[0]["status"], 403)


class StockEdgeTests(SynchronousTestCase):
    """
    An edge that announced nothing.
    """

    def setUp(self) -> None:
        self.edge = StrangeEdge(registered={})

    def serve(self, frame: dict[str, Any]) -> Any:
        self.edge.send(frame)
        return self.edge.server.asked[-1][1]

    def test_aResponseOfKnownLengthIsOneFrame(self) -> None:
        exchange = self.serve(request())
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Length", b"6")]))
        exchange.write(b"one")
        exchange.write(b"two")
        self.edge.settle()
        self.assertEqual(self.edge.take(), [])
        exchange.end()
        self.edge.settle()
        frame, = self.edge.take()
        self.assertEqual((frame["type"], b64decode(frame["body_b64"])), ("http_response", b"onetwo"))

    def test_aResponseOfUnknownLengthIsSentInParts(self) -> None:
        exchange = self.serve(request())
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Type", b"text/event-stream")]))
        exchange.write(b"data: 1\n\n")
        exchange.end()
        self.edge.settle()
        self.assertEqual(
            [frame["type"] for frame in self.edge.take()], ["http_response_start", "http_response_chunk", "http_response_end"]
        )

    def test_aResponseThatBreaksBeforeItIsSentIsAnError(self) -> None:
        exchange = self.serve(request())
        exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Length", b"6")]))
        exchange.write(b"one")
        exchange.end()
        self.edge.settle()
        self.assertEqual([frame["status"] for frame in self.edge.take()], [502])

    def test_aStreamedResponseThatBreaksIsNotEnded(self) -> None:
        exchange = self.serve(request())
        exchange.sendHead(ResponseHead(200, b"OK", []))
        exchange.write(b"one")
        exchange.cancel(FailureKind.BROKEN)
        self.edge.settle()
        self.assertEqual([frame["type"] for frame in self.edge.take()], ["http_response_start", "http_response_chunk"])

    def test_whatIsHeldForAllHasABound(self) -> None:
        exchanges = [self.serve(request(f"r{number}")) for number in range(4)]
        for exchange in exchanges:
            exchange.sendHead(ResponseHead(200, b"OK", [(b"Content-Length", b"5242880")]))
            exchange.write(bytes(5 * 1024 * 1024 - 1))
        self.edge.settle()
        frames = self.edge.take()
        self.assertEqual({frame["request_id"] for frame in frames}, {"r3"})
        self.assertEqual(frames[0]["type"], "http_response_start")
        self.assertLess(self.edge.link.requests.bodies.octets, 16 * 1024 * 1024)
        for exchange in exchanges:
            exchange.write(b"x")
            exchange.end()
        self.edge.settle()
        self.assertEqual((self.edge.take()[-1]["type"], self.edge.link.requests.bodies.octets), ("http_response_end", 0))

    def test_onlyTheLastCookieRemains(self) -> None:
        exchange = self.serve(request())
        fields = [(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"Vary", b"a"), (b"Vary", b"b")]
        exchange.respond(ResponseHead(204, b"", fields), b"")
        self.edge.settle()
        self.assertEqual(self.edge.take()[0]["headers"], {"Set-Cookie": "b=2", "Vary": "a, b"})

    def test_framesThatWereNotAgreedAreIgnored(self) -> None:
        self.serve(request(streamed=True, upgrade="websocket"))
        self.assertEqual(self.edge.server.asked[0][2].trailers, [])
        self.edge.send({"type": "http_cancel", "request_id": "a"}, {"type": "drain"})
        self.assertFalse(self.edge.server.asked[0][1].finished)


class LivenessTests(SynchronousTestCase):
    """
    Pings, and the end (sections 3.9 and 3.12).
    """

    def test_aPingFollowsTheRegistrationAndThenEveryEightSeconds(self) -> None:
        edge = StrangeEdge()
        pings: list[bytes] = []
        edge.transport._connection.pingReceived = pings.append
        edge.send(b'{"type":"registered"}')
        self.assertEqual(len(pings), 1)
        edge.passTime(7)
        self.assertEqual(len(pings), 1)
        edge.passTime(17)
        self.assertEqual(len(pings), 4)

    def test_aSilentEdgeIsLost(self) -> None:
        edge = StrangeEdge(registered=CAPABLE)
        edge.passTime(100)
        self.assertFalse(edge.link.whenLost().called)
        edge.transport._connection.pingReceived = lambda payload: None
        edge.passTime(55)
        self.assertTrue(edge.link.whenLost().called)

    def test_aRoundTripIsMeasured(self) -> None:
        edge = StrangeEdge(registered=CAPABLE)
        trips: list[float] = []
        edge.link.session.ping().addCallback(trips.append)
        edge.clock.advance(0.25)
        edge.settle()
        self.assertEqual(trips, [0.25])

    def test_aDrainIsAnnouncedAndTheEdgeCloses(self) -> None:
        edge = StrangeEdge(registered=CAPABLE)
        edge.send(request())
        done: list[Any] = []
        edge.link.drain().addCallback(done.append)
        edge.settle()
        self.assertEqual(edge.take(), [{"type": "drain", "grace_ms": 30_000, "reason": "", "reconnect": False}])
        edge.send(request("late"))
        for _, exchange, _ in edge.server.asked:
            exchange.respond(ResponseHead(204, b"", []), b"")
        edge.settle()
        self.assertEqual([frame["request_id"] for frame in edge.take()], ["a", "late"])
        self.assertEqual((done, edge.lost), ([None], None))
        edge.transport.loseConnection(1001)
        edge.settle()
        self.assertTrue(edge.link.whenLost().called)
        self.assertEqual(edge.clock.getDelayedCalls(), [])

    def test_anEdgeThatDoesNotCloseIsClosed(self) -> None:
        edge = StrangeEdge(registered=CAPABLE)
        edge.link.drain()
        edge.passTime(4)
        edge.send(request())
        edge.passTime(3)
        self.assertIsNone(edge.lost)
        edge.server.asked[0][1].respond(ResponseHead(204, b"", []), b"")
        edge.settle()
        edge.passTime(7)
        self.assertIsNotNone(edge.lost)

    def test_aStockEdgeIsClosedWhenWorkIsDone(self) -> None:
        edge = StrangeEdge(registered={})
        edge.send(request())
        edge.link.drain()
        edge.settle()
        self.assertEqual((edge.take(), edge.lost), ([], None))
        edge.server.asked[0][1].respond(ResponseHead(204, b"", []), b"")
        edge.settle()
        self.assertEqual(len(edge.take()), 1)
        self.assertIsNotNone(edge.lost)

    def test_anEdgeThatDrainsIsNoticed(self) -> None:
        edge = StrangeEdge(registered=CAPABLE)
        edge.send(request())
        lost: list[Any] = []
        edge.link.whenLost().addCallback(lost.append)
        for _ in range(2):
            edge.send({"type": "drain", "grace_ms": 1000, "reason": "deploy\n", "reconnect": True})
        self.assertEqual([(type(each), str(each)) for each in lost], [(EdgeDrains, "deploy\\n")])
        edge.link.whenLost().addCallback(lost.append)
        self.assertEqual((len(lost), edge.link.session.peerDraining, edge.lost), (2, True, None))
        edge.server.asked[0][1].respond(ResponseHead(204, b"", []), b"")
        edge.settle()
        self.assertEqual([frame["type"] for frame in edge.take()], ["http_response"])

    def test_anEdgeThatEndsForGoodIsNotLostBefore(self) -> None:
        edge = StrangeEdge(registered=CAPABLE)
        edge.send({"type": "drain", "grace_ms": 1000, "reason": "", "reconnect": False})
        self.assertNoResult(edge.link.whenLost())

    def test_anErrorEndsTheSessionWithItsCode(self) -> None:
        edge = StrangeEdge(registered=CAPABLE)
        edge.send(request())
        edge.send({"type": "error", "message": "this agent has connected again", "code": "replaced"})
        lost = self.successResultOf(edge.link.whenLost())
        cause = lost.__cause__
        self.assertIsInstance(cause, RegistrationRefused)
        self.assertEqual((cause.code, cause.sentence), ("replaced", "this agent has connected again"))
        self.assertTrue(edge.server.asked[0][1].finished)
        self.assertIsNotNone(edge.lost)

    def test_anAbortEndsTheSessionAtOnce(self) -> None:
        edge = StrangeEdge(registered=CAPABLE)
        edge.link.abort("the drain took too long")
        edge.settle()
        self.assertTrue(edge.link.whenLost().called)
