"""
Traces: which span a request gets, and the spans that are sent to a collector.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.control.test_access_log import request
from tunnelstack.control.config.records import TracingConfig
from tunnelstack.control.tracing.layers import (
    AGENT,
    CONNECT,
    EDGE,
    OPEN,
    READ,
    ROUTE,
    SEND,
    WAIT,
    Steps,
    layersOf,
)
from tunnelstack.control.tracing.otlp import SpanWriter
from tunnelstack.control.tracing.service import REPORT_SECONDS, TracingService, checkTracing, readHeaders
from tunnelstack.control.tracing.tracer import RequestSpan, Tracer
from tunnelstack.errors import ConfigurationError
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.wire.http1.trace_context import TraceContext, read_trace_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CAME = [(b"traceparent", f"00-{TRACE}-{SPAN}-01".encode()), (b"tracestate", b"a=1")]


class TracerTests(SynchronousTestCase):
    """
    The span of a request.
    """

    def test_aTraceBeginsWhereThereIsNone(self) -> None:
        one, other = (Tracer(1.0).begin([], trusted=False) for _ in range(2))
        self.assertRegex(one.context.trace_id, r"\A[0-9a-f]{32}\Z")
        self.assertRegex(one.context.span_id, r"\A[0-9a-f]{16}\Z")
        self.assertNotEqual((one.context.trace_id, one.context.span_id), (other.context.trace_id, other.context.span_id))
        self.assertEqual((one.parent, one.context.sampled), ("", True))

    def test_aTraceThatCameGoesOn(self) -> None:
        span = Tracer(0.0).begin(CAME, trusted=True)
        self.assertEqual((span.context.trace_id, span.parent, span.context.sampled), (TRACE, SPAN, True))
        self.assertNotEqual(span.context.span_id, SPAN)

    def test_aVisitorDoesNotDecideWhatIsSampled(self) -> None:
        self.assertFalse(Tracer(0.0).begin(CAME, trusted=False).context.sampled)

    def test_theShareIsThatOfTheConfiguration(self) -> None:
        numbers = iter([0.0, 0.24, 0.25, 0.9])
        tracer = Tracer(0.25, random=lambda: next(numbers))
        self.assertEqual([tracer.begin([], False).context.sampled for _ in range(4)], [True, True, False, False])

    def test_theNextServerReceivesTheSpan(self) -> None:
        span = Tracer(1.0).begin(CAME, trusted=False)
        fields = span.written([(b"Host", b"a"), *CAME])
        self.assertEqual(read_trace_context(fields), span.context)
        self.assertIn((b"tracestate", b"a=1"), fields)
        self.assertNotIn((b"tracestate", b"a=1"), Tracer(1.0).begin([], False).written([*CAME]))


class LayerTests(SynchronousTestCase):
    """
    Where the time went.
    """

    def layers(self, role: str, **steps: float) -> dict[str, tuple[float, float]]:
        return {layer.name: (layer.begin, layer.end) for layer in layersOf(role, Steps(**steps))}

    def test_aRequestOnANewStream(self) -> None:
        self.assertEqual(
            self.layers(EDGE, routed=0.1, opened=0.3, whole=0.5, first=0.6, seconds=0.9),
            {ROUTE: (0, 0.1), READ: (0, 0.5), OPEN: (0.1, 0.3), WAIT: (0.3, 0.6), SEND: (0.6, 0.9)},
        )

    def test_aConnectionThatIsUsedAgain(self) -> None:
        self.assertEqual(
            self.layers(EDGE, routed=0.1, first=0.6, seconds=0.9), {ROUTE: (0, 0.1), WAIT: (0.1, 0.6), SEND: (0.6, 0.9)}
        )

    def test_theAgentConnects(self) -> None:
        self.assertEqual(
            self.layers(AGENT, opened=0.2, first=0.5, seconds=0.5), {CONNECT: (0, 0.2), WAIT: (0.2, 0.5), SEND: (0.5, 0.5)}
        )

    def test_aRequestWithoutAResponse(self) -> None:
        self.assertEqual(self.layers(EDGE, seconds=3), {})
        self.assertEqual(self.layers(EDGE, routed=1, seconds=3), {ROUTE: (0, 1)})


class Processor:
    """
    Keeps spans.
    """

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.calls: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)

    def shutdown(self) -> None:
        self.calls.append("shutdown")


def traced(sampled: bool = True, parent: str = SPAN, **other: Any) -> Any:
    """
    A request of half a second that has ended.
    """
    clock = Clock()
    span = RequestSpan(TraceContext(TRACE, "1" * 16, sampled), parent)
    record = request(seconds=0.5, now=clock.seconds, span=span, **other)
    clock.advance(0.125)
    record.requestRouted()
    clock.advance(0.125)
    record.responseBegun()
    return record


class WriterTests(SynchronousTestCase):
    """
    The spans of a request.
    """

    def write(self, access: Any) -> dict[str, ReadableSpan]:
        self.processor = Processor()
        SpanWriter(self.processor, EDGE, lambda: 1000.5)(access)
        return {span.name: span for span in self.processor.spans}

    def test_eachLayerIsASpanInThatOfTheRequest(self) -> None:
        spans = self.write(traced())
        self.assertEqual(list(spans), [ROUTE, WAIT, SEND, "GET"])
        whole = spans["GET"]
        assert whole.context is not None and whole.parent is not None
        self.assertEqual((f"{whole.context.trace_id:032x}", f"{whole.context.span_id:016x}"), (TRACE, "1" * 16))
        self.assertEqual((f"{whole.parent.span_id:016x}", whole.parent.is_remote), (SPAN, True))
        self.assertEqual((whole.start_time, whole.end_time), (1_000_000_000_000, 1_000_500_000_000))
        for name in (ROUTE, WAIT, SEND):
            self.assertEqual(spans[name].parent, whole.context)
        self.assertEqual((spans[WAIT].start_time, spans[WAIT].end_time), (1_000_125_000_000, 1_000_250_000_000))

    def test_attributesAreTheConventionalOnes(self) -> None:
        whole = self.write(traced(target="/a?password=1"))["GET"]
        attributes = dict(whole.attributes or {})
        self.assertEqual(attributes["url.path"], "/a")
        self.assertEqual((attributes["http.response.status_code"], attributes["tunnelstack.request"]), (200, "t-1"))
        self.assertNotIn("password", str(attributes))
        self.assertEqual(whole.resource.attributes["service.name"], "tunnel-edge")

    def test_aFailureIsAnError(self) -> None:
        whole = self.write(traced(status=503, failed=ExchangeFailed(FailureKind.UNREACHABLE)))["GET"]
        self.assertFalse(whole.status.is_ok)
        self.assertEqual(whole.status.description, "The web server of this site does not answer.")
        self.assertTrue(self.write(traced(status=404))["GET"].status.is_unset)

    def test_aTraceThatBeginsHereHasNoParent(self) -> None:
        self.assertIsNone(self.write(traced(parent=""))["GET"].parent)

    def test_whatIsNotSampledIsNotWritten(self) -> None:
        self.assertEqual(self.write(traced(sampled=False)), {})
        self.assertEqual(self.write(request()), {})

    def test_theLastSpansAreSentBeforeTheEnd(self) -> None:
        processor = Processor()
        SpanWriter(processor, EDGE, lambda: 0.0).close()
        self.assertEqual(processor.calls, ["shutdown"])


class Collector(HTTPServer):
    """
    A collector on loopback.

    @ivar received: the requests, with their header fields.
    """

    def __init__(self, status: int = 200) -> None:
        self.received: list[tuple[ExportTraceServiceRequest, str | None]] = []
        self.status = status
        super().__init__(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/traces"

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(30)


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        self.server.received.append((ExportTraceServiceRequest.FromString(body), self.headers.get("Authorization")))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Reactor(Clock):
    """
    A clock that can be called from threads.
    """

    def callFromThread(self, call: Callable[..., object], *arguments: object) -> None:
        from twisted.internet import reactor

        reactor.callFromThread(call, *arguments)  # type: ignore[attr-defined]


class SendingTests(TestCase):
    """
    The whole way to a collector.
    """

    def setUp(self) -> None:
        self.said: list[str] = []
        self.patch(TracingService, "log", _Log(self.said))
        self.reactor = Reactor()
        log = logging.getLogger("opentelemetry")
        self.addCleanup(setattr, log, "handlers", log.handlers)

    def service(self, **settings: Any) -> TracingService:
        made = TracingService(self.reactor, TracingConfig(enabled=True, **settings), EDGE)  # type: ignore[arg-type]
        made.startService()
        return made

    @inlineCallbacks
    def test_spansArriveAtTheCollector(self) -> Any:
        collector = Collector()
        self.addCleanup(collector.end)
        secret = Path(self.mktemp())
        secret.write_text("Authorization: Bearer x\n")
        service = self.service(endpoint=collector.url, headersFile=str(secret))
        service.requestEnded(traced())
        yield service.stopService()
        [(sent, authorization)] = collector.received
        spans = sent.resource_spans[0].scope_spans[0].spans
        self.assertEqual([span.name for span in spans], [ROUTE, WAIT, SEND, "GET"])
        self.assertEqual((spans[-1].trace_id.hex(), authorization), (TRACE, "Bearer x"))

    def test_withoutACollectorNothingIsSent(self) -> None:
        service = self.service()
        service.requestEnded(traced())
        self.assertIsNone(service.stopService())

    @inlineCallbacks
    def test_aCollectorThatIsAwayDelaysNothing(self) -> Any:
        collector = Collector(status=400)
        service = self.service(endpoint=collector.url)
        for _ in range(3000):                 # more than the queue holds
            service.requestEnded(traced())
        yield service.stopService()
        collector.end()
        yield Deferred.fromCoroutine(self.turn())
        self.assertEqual(len(self.said), 1, "once a minute")
        self.assertIn(f"spans could not be sent to {collector.url}: ", self.said[0])

    async def turn(self) -> None:
        """
        Let the calls of other threads be made.
        """
        from twisted.internet import reactor, task

        await task.deferLater(reactor, 0, lambda: None)  # type: ignore[arg-type]


class _Log:
    """
    Keeps the warnings.
    """

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def warn(self, format: str, **fields: object) -> None:
        self._said.append(format.format(**fields))


class ReportTests(SynchronousTestCase):
    """
    Failures to send.
    """

    def test_aFailureIsLoggedOnceAMinuteAndPrintable(self) -> None:
        said: list[str] = []
        self.patch(TracingService, "log", _Log(said))
        clock = Clock()
        service = TracingService(clock, TracingConfig(enabled=True), EDGE)  # type: ignore[arg-type]
        service._failed("no\nroute \x1b[31m")
        service._failed("again")
        clock.advance(REPORT_SECONDS)
        service._failed("later")
        self.assertEqual(len(said), 2)
        self.assertTrue(said[0].isprintable(), said[0])


class ConfigurationTests(SynchronousTestCase):
    """
    What is refused when a program starts.
    """

    config = TracingConfig(enabled=True, endpoint="http://localhost:4318/v1/traces")

    def test_theExtraIsNeededForSpansOnly(self) -> None:
        with patch("tunnelstack.control.tracing.service.find_spec", lambda name: None):
            error = self.assertRaises(ConfigurationError, checkTracing, self.config)
            checkTracing(TracingConfig(enabled=True))
            checkTracing(TracingConfig(endpoint=self.config.endpoint))
        self.assertIn("pip install 'tunnelstack[otel]'", str(error))
        checkTracing(self.config)

    def headers(self, text: str) -> dict[str, str]:
        path = Path(self.mktemp())
        path.write_text(text)
        return readHeaders(str(path))

    def test_headersAreReadFromAFile(self) -> None:
        self.assertEqual(readHeaders(""), {})
        self.assertEqual(self.headers("# ours\n\nX-Key:  a:b \nOther: 1\n"), {"X-Key": "a:b", "Other": "1"})

    def test_aFileThatIsWrongIsRefusedWithoutItsContent(self) -> None:
        for text in ("secret", ": secret", "A : secret", "A:", "A: sec\x1bret", "Ä: secret"):
            error = self.assertRaises(ConfigurationError, self.headers, text)
            self.assertNotIn("sec", str(error).replace("seconds", ""))
        self.assertRaises(ConfigurationError, readHeaders, "/nowhere")

    def test_theShareIsBetween0And1(self) -> None:
        for wrong in (-0.1, 1.1):
            self.assertRaises(ConfigurationError, TracingConfig, sampleRatio=wrong)
