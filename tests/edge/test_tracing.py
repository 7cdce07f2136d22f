"""
Traces through an edge and an agent.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.changed_settings import changes
from tunnelstack.control.access_record import AccessRecord
from tunnelstack.control.config.records import ServiceConfig, TracingConfig
from tunnelstack.testing import EdgeAndAgent
from tunnelstack.wire.http1.trace_context import TraceContext, read_trace_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CAME = f"traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=1\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PORT = 3000


class Server(Protocol):
    """
    A web server that keeps the fields of requests.
    """

    def dataReceived(self, data: bytes) -> None:
        head = data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        self.factory.requests.append([(name, value.strip()) for name, _, value in (line.partition(b":") for line in head)])  # type: ignore[union-attr]
        self.transport.write(RESPONSE)        # type: ignore[union-attr]


class TracingTests(SynchronousTestCase):
    """
    One visitor, and a web server that answers at once.
    """

    def start(self, edge: TracingConfig | None = None, agent: TracingConfig | None = None, **settings: Any) -> None:
        self.server: Any = Factory.forProtocol(Server)
        self.server.requests = []
        self.records: dict[str, list[AccessRecord]] = {"edge": [], "agent": []}
        self.both = both = EdgeAndAgent(
            ServiceConfig(name="site", target=str(PORT)), edge={"tracing": edge or TracingConfig(), **settings},
            agent={"tracing": agent or TracingConfig()},
        )
        both.network.listenTCP(PORT, self.server)
        both.edge.observeRequests(self.records["edge"].append)
        both.agent.observeRequests(self.records["agent"].append)
        both.start()
        self.addCleanup(self.end, both)

    def end(self, both: EdgeAndAgent) -> None:
        for service in (both.agent, both.edge):
            service.stopService()
            both.network.passTime(40)

    def visit(self, fields: str = "") -> TraceContext | None:
        """
        @return: the trace context that the web server received.
        """
        head = f"GET / HTTP/1.1\r\nHost: site.localhost\r\nConnection: close\r\n{fields}\r\n"
        self.assertIn(b" 200 OK\r\n", self.both.visit(head.encode()).got)
        return read_trace_context(self.server.requests[-1])

    def traceOf(self, side: str) -> Any:
        return self.records[side][-1].span

    def test_withoutConfigurationTheFieldsPass(self) -> None:
        self.start()
        self.assertEqual(self.visit(CAME), TraceContext(TRACE, SPAN, True))
        self.assertIn((b"tracestate", b"a=1"), self.server.requests[-1])
        self.assertIsNone(self.visit())
        self.assertIsNone(self.traceOf("edge"))

    @changes("agent [tracing] sample_ratio")
    def test_anAgentAloneSamplesItsShare(self) -> None:
        sampled = []
        for ratio in (0.0, 1.0):
            self.start(None, TracingConfig(enabled=True, sampleRatio=ratio))
            sent = self.visit()
            assert sent is not None
            sampled.append(sent.sampled)
        self.assertEqual(sampled, [False, True])

    @changes("edge [tracing] sample_ratio")
    def test_bothSidesAreInOneTrace(self) -> None:
        every = TracingConfig(enabled=True, sampleRatio=1.0)
        self.start(every, TracingConfig(enabled=True, sampleRatio=0.0))
        sent = self.visit()
        edge, agent = self.traceOf("edge"), self.traceOf("agent")
        self.assertEqual(edge.parent, "")
        self.assertEqual((agent.context.trace_id, agent.parent), (edge.context.trace_id, edge.context.span_id))
        self.assertEqual(sent, agent.context)
        self.assertTrue(agent.context.sampled, "the agent samples what its edge samples")

    def test_aTraceThatCameGoesOnButItsFlagDoesNot(self) -> None:
        self.start(TracingConfig(enabled=True, sampleRatio=0.0))
        sent = self.visit(CAME)
        assert sent is not None
        self.assertEqual((sent.trace_id, sent.sampled), (TRACE, False))
        self.assertEqual((sent.span_id, SPAN), (self.traceOf("edge").context.span_id, self.traceOf("edge").parent))
        self.assertIn((b"tracestate", b"a=1"), self.server.requests[-1])

    def test_aTrustedProxyDecidesWhatIsSampled(self) -> None:
        self.start(TracingConfig(enabled=True, sampleRatio=0.0), trustedProxies=("127.0.0.0/8",))
        sent = self.visit(CAME)
        assert sent is not None
        self.assertTrue(sent.sampled)

    def test_aMalformedTraceIsReplacedWithItsState(self) -> None:
        self.start(TracingConfig(enabled=True))
        sent = self.visit(CAME.replace("00-", "xx-"))
        assert sent is not None
        self.assertNotEqual(sent.trace_id, TRACE)
        self.assertNotIn((b"tracestate", b"a=1"), self.server.requests[-1])

    def test_anAgentAloneTracesToo(self) -> None:
        self.start(None, TracingConfig(enabled=True))
        self.assertEqual(self.visit(), self.traceOf("agent").context)

    def test_aRequestThatIsRefusedHasATrace(self) -> None:
        self.start(TracingConfig(enabled=True))
        self.both.visit(b"GET / HTTP/1.0\r\nHost: nothing.localhost\r\n\r\n")
        self.assertEqual((self.records["edge"][-1].status, self.traceOf("edge").parent), (404, ""))

    def test_theStepsAreMeasured(self) -> None:
        self.start()
        self.visit()
        edge, agent = self.records["edge"][-1], self.records["agent"][-1]
        self.assertEqual((edge.routed, edge.first, edge.whole), (-1.0, 0.0, -1.0), "the route is found without waiting")
        self.assertEqual((edge.opened, agent.opened), (-1.0, 0.0), "a stream is opened without waiting")
        self.visit()
        again = self.records["edge"][-1]
        self.assertEqual((again.opened, again.first), (-1.0, 0.0))
        self.assertEqual((edge.description.role, agent.description.role, edge.trace), ("edge", "agent", agent.trace))

    def test_theRouteOfATracedRequestIsMeasured(self) -> None:
        self.start(TracingConfig(enabled=True))
        self.visit()
        self.assertEqual(self.records["edge"][-1].routed, 0.0)

    def test_theEndOfABodyIsMeasured(self) -> None:
        self.start()
        self.both.visit(b"POST / HTTP/1.0\r\nHost: site.localhost\r\nContent-Length: 2\r\n\r\nab")
        for side in ("edge", "agent"):
            self.assertEqual(self.records[side][-1].whole, 0.0)
