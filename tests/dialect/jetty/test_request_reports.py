"""
What the agent reports of requests: with our own edge, and with models of the control plane, in virtual time.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.dialect.jetty.support import PORT
from tests.dialect.jetty.test_agent import AgentCase, WholeServer
from tests.dialect.jetty.test_bridge_client import clientOf
from tests.exchange.doubles import reply
from tunnelstack.dialect.jetty.bridge import refusal
from tunnelstack.dialect.jetty.request_reports import LEFT, MOST_WAITING, RequestReports, sampleOf
from tunnelstack.dialect.jetty.upstream import ServedExchange
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.testing import Network
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.records.jetty_bridge import BEAT_SECONDS, BODY, MOST_HEADERS, Tunnel, encode_sample


class Exchange:
    """
    A request that was answered.
    """

    status = 200


class Servers:
    """
    Counts, and a clock.
    """

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.counts: Any = type("Counts", (), {"requests": 0, "octetsIn": 0, "octetsOut": 0})()

    def ended(self, served: Any) -> None:
        """
        Nobody waits for it.
        """


def served(clock: Any, target: bytes = b"/x?a=1", fields: Any = (), status: int = 200) -> ServedExchange:
    exchange: Any = Exchange()
    exchange.status = status
    servers: Any = Servers(clock)
    return ServedExchange(servers, RequestHead(b"GET", target, list(fields)), exchange)


class ModelCase(SynchronousTestCase):
    """
    A control plane that records the calls.
    """

    def setUp(self) -> None:
        self.network = Network()
        self.tunnel: Tunnel | None = Tunnel(id="T1", subdomain="demo")
        self.model = WholeServer(reply(201, b"{}"))
        factory = Factory.forProtocol(lambda: HTTPServerProtocol(self.model, clock=self.network))
        factory.noisy = False
        self.network.listenTCP(PORT, factory)
        self.reports = RequestReports(clientOf(self.network, "token"), lambda: self.tunnel)
        self.logged: list[Any] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def add(self, times: int = 1, **members: Any) -> None:
        for _ in range(times):
            self.reports.add(served(self.network, **members))
        self.network.settle()

    @property
    def calls(self) -> list[str]:
        return [head.target.decode() for head, _, _ in self.model.asked]

    @property
    def warnings(self) -> list[str]:
        return [each["log_format"] for each in self.logged if each["log_namespace"].endswith("RequestReports")]


class PostTests(ModelCase):
    def test_aLineAndASampleArePosted(self) -> None:
        one = served(self.network, fields=[(b"A", b"bc"), (b"Cookie", b"s3cret")])
        one.received(5)
        one.sent(7)
        self.network.advance(0.25)
        one.over()
        one.received(100)
        self.reports.add(one)
        self.network.settle()
        self.assertEqual(self.calls, ["/api/tunnels/T1/request-log", "/api/tunnels/T1/request-samples"])
        line, sample = (json.loads(received.body) for _, _, received in self.model.asked)
        self.assertEqual(line, {"method": "GET", "path": "/x", "status": 200, "latency_ms": 250})
        self.assertEqual(sample, {
            "method": "GET", "path": "/x", "query": "a=1", "status": 200, "bytes_in": 5 + 7 + 16, "bytes_out": 7,
            "headers": {"A": "bc", "Cookie": "\N{BULLET}" * 4},
        })

    def test_aVisitorWhoLeavesIsReported(self) -> None:
        self.add(status=0, target=b"/")
        line, sample = (json.loads(received.body) for _, _, received in self.model.asked)
        self.assertEqual((line["status"], sample["status"], sample["query"]), (LEFT, LEFT, None))

    def test_aServiceThatIsSlowHoldsABoundedNumber(self) -> None:
        self.model.answer = None
        self.add(1 + MOST_WAITING)
        self.assertEqual(len(self.calls), 1)
        waiting = 1 + (MOST_WAITING - 1) // 2 * 2
        self.assertEqual(self.reports.dropped, 2 * (1 + MOST_WAITING) - 1 - waiting)
        self.assertEqual(len(self.warnings), 1)
        self.model.answer = reply(201, b"{}")
        reply(201, b"{}")(*self.model.asked[0][:2])
        self.network.settle()
        self.assertEqual(len(self.calls), 1 + waiting)

    def test_aPostThatIsNotAnsweredIsGivenUp(self) -> None:
        self.model.answer = None
        self.add()
        self.network.passTime(61)
        self.assertEqual((self.calls[1:], self.reports.failed), (["/api/tunnels/T1/request-samples"], 1))

    def test_failuresAreLoggedOnce(self) -> None:
        self.model.answer = reply(500)
        self.add(10)
        self.assertEqual((len(self.calls), self.reports.failed, len(self.warnings)), (20, 20, 1))
        self.network.ports.pop(PORT)
        self.network.passTime(10)
        self.add(10)
        self.assertEqual((self.reports.failed, len(self.warnings)), (40, 1))

    def test_aTokenThatCannotBeReadIsAFailure(self) -> None:
        def token() -> str:
            raise OSError("no file")

        self.reports._bridge._token = token
        self.add(MOST_WAITING)
        self.assertEqual((self.calls, self.reports.failed, len(self.warnings)), ([], 2 * MOST_WAITING, 1))

    def test_whatTheServiceDoesNotKnowIsNotRepeated(self) -> None:
        self.model.answer = reply(404)
        self.add(3)
        self.assertEqual(len(self.calls), 2)
        self.tunnel = Tunnel(id="T2", subdomain="demo")
        self.add(3)
        self.assertEqual(self.calls[2:], ["/api/tunnels/T2/request-log", "/api/tunnels/T2/request-samples"])

    def test_nothingIsPostedAfterTheTunnel(self) -> None:
        self.model.answer = None
        for calls, other in ((1, None), (2, Tunnel(id="T2", subdomain="demo"))):
            self.tunnel = Tunnel(id="T1", subdomain="demo")
            self.add(3)
            self.tunnel = other
            reply(201, b"{}")(*self.model.asked[-1][:2])
            self.network.passTime(120)
            self.assertEqual(len(self.calls), calls)
        self.tunnel = None
        self.add()
        self.assertEqual(len(self.calls), 2)

    def test_nothingIsPostedAfterTheEnd(self) -> None:
        self.model.answer = None
        self.add(3)
        self.reports.close()
        self.add()
        self.network.passTime(120)
        self.assertEqual((len(self.calls), self.reports.failed, self.warnings), (1, 0, []))

    def test_aSampleHasABoundedLength(self) -> None:
        fields = [(b"X-%d" % number, b"\xff\x00" * 400) for number in range(MOST_HEADERS + 50)]
        sample = sampleOf(served(self.network, b"/" + b"\x01" * 9000 + b"?" + b"key=&" * 4000, fields))
        self.assertLess(len(encode_sample(sample)), BODY)
        sample = sampleOf(served(self.network, fields=[(b"X-%d" % number, b"") for number in range(MOST_HEADERS + 50)]))
        self.assertEqual(len(sample.headers), MOST_HEADERS)


class AgentTests(AgentCase):
    """
    The whole agent with our own edge.
    """

    def samples(self) -> list[Any]:
        bridge = self.place.bridge
        (tunnel,) = self.place.store.tunnels
        return [each.sample for each in bridge.samples.of(tunnel.id)]

    def test_heartbeatsAgreeWithTheSamples(self) -> None:
        for rounds, transport in enumerate(("grpc", "websocket"), 1):
            self.start(samples=True, transport=transport)
            for path in ("/a", "/b?token=s3cret"):
                self.visit(path)
            self.network.passTime(BEAT_SECONDS)
            (activity,) = self.place.bridge.activity.values()
            samples = self.samples()
            self.assertEqual(sorted(each.path for each in samples), sorted(["/a", "/b"] * rounds))
            self.assertNotIn("s3cret", repr(samples))
            self.assertEqual(
                (activity.requests, activity.octetsIn, activity.octetsOut),
                (len(samples), sum(each.bytes_in for each in samples), sum(each.bytes_out for each in samples)),
            )
            self.end(self.service)

    def test_nothingIsReportedUnasked(self) -> None:
        dialect = self.start()
        self.served()
        self.assertEqual(self.samples(), [])
        self.assertNotIn("samples", dialect.report())

    def test_aServiceThatFailsDelaysNoVisitor(self) -> None:
        dialect = self.start(samples=True)
        actions = self.place.bridge._actions
        for _ in range(2):
            self.patch(self.place.bridge, "_actions", {
                **actions, **dict.fromkeys(("request-log", "request-samples"), lambda *asked: refusal(500, "broken")),
            })
            self.served()
        self.assertEqual((dialect.report()["samples"], self.samples()), ({"dropped": 0, "failed": 4}, []))
        self.patch(self.place.bridge, "_actions", {"heartbeat": actions["heartbeat"]})
        self.served()
        self.assertEqual(dialect._reports.failed, 6)
        self.patch(dialect._reports, "_bridge", NoAnswer())
        dialect._reports._unknown = frozenset()
        for _ in range(MOST_WAITING):
            self.served()
        self.assertGreater(dialect._reports.dropped, MOST_WAITING / 2)


class NoAnswer:
    """
    A control plane that never answers.
    """

    def logRequest(self, identifier: str, line: Any) -> Deferred[None]:
        return Deferred()

    sampleRequest = logRequest
