"""
Spans in the form of OpenTelemetry, and their way to a collector: OTLP over HTTP, by C{opentelemetry-sdk}.

Spans are queued, within a bound, and sent by a thread of the SDK, so that a collector that is slow or away delays nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from tunnelstack.control.access_record import AccessRecord
from tunnelstack.control.tracing.layers import Steps, layersOf
from tunnelstack.control.tracing.tracer import RequestSpan, newIdentifier
from tunnelstack.version import VERSION

NANOSECONDS = 1_000_000_000

SEND_SECONDS = 10
"""Seconds that one request to the collector may take."""

SCOPE = InstrumentationScope("tunnelstack", VERSION)


class SpanProcessor(Protocol):
    """
    What takes spans, as C{BatchSpanProcessor} does.
    """

    def on_end(self, span: ReadableSpan) -> None: ...

    def shutdown(self) -> None: ...


class SpanWriter:
    """
    Makes the spans of each sampled request when it has ended.
    """

    def __init__(self, processor: SpanProcessor, role: str, now: Callable[[], float]) -> None:
        """
        @param role: C{"edge"} or C{"agent"}.
        @param now: gives the current time, in seconds since 1970.
        """
        self._processor = processor
        self._role = role
        self._now = now
        self._resource = Resource.create({"service.name": f"tunnel-{role}", "service.version": VERSION})

    def __call__(self, access: AccessRecord) -> None:
        """
        Write the spans of a request that has ended, if it is sampled.
        """
        span = access.span
        if span is not None and span.context.sampled:
            self._write(access, span)

    def _write(self, access: AccessRecord, span: RequestSpan) -> None:
        began = self._now() - access.seconds
        context = _context(span.context.trace_id, span.context.span_id, remote=False)
        parent = _context(span.context.trace_id, span.parent, remote=True) if span.parent else None
        steps = Steps(
            routed=access.routed, opened=access.opened, whole=access.whole, first=access.first, seconds=access.seconds
        )
        for layer in layersOf(self._role, steps):
            inner = _context(span.context.trace_id, newIdentifier(64), remote=False)
            self._end(layer.name, inner, context, SpanKind.INTERNAL, began + layer.begin, began + layer.end)
        status = Status(StatusCode.ERROR, str(access.failed or "")) if access.status >= 500 else Status()
        self._end(
            access.method, context, parent, SpanKind.SERVER, began, began + access.seconds, attributesOf(access), status
        )

    def _end(
        self, name: str, context: SpanContext, parent: SpanContext | None, kind: SpanKind, begin: float, end: float,
        attributes: Mapping[str, AttributeValue] | None = None, status: Status | None = None,
    ) -> None:
        self._processor.on_end(ReadableSpan(
            name, context, parent, self._resource, attributes, kind=kind, instrumentation_scope=SCOPE,
            status=Status() if status is None else status,
            start_time=int(begin * NANOSECONDS), end_time=int(end * NANOSECONDS),
        ))  # fmt: skip

    def close(self) -> None:
        """
        Send what is queued, and stop the thread.  This blocks.
        """
        self._processor.shutdown()


def _context(traceId: str, spanId: str, *, remote: bool) -> SpanContext:
    return SpanContext(int(traceId, 16), int(spanId, 16), remote, TraceFlags(TraceFlags.SAMPLED))


def attributesOf(access: AccessRecord) -> dict[str, AttributeValue]:
    """
    @return: the attributes of a request, by OpenTelemetry's semantic conventions for HTTP.  The query is left out, because it
        may have a credential.
    """
    attributes: dict[str, AttributeValue] = {
        "http.request.method": access.method, "url.path": access.target.partition("?")[0], "server.address": access.host,
        "http.response.status_code": access.status, "http.response.body.size": access.octets,
        "client.address": access.visitor, "tunnelstack.service": access.service, "tunnelstack.request": access.trace,
    }  # fmt: skip
    if access.failed is not None:
        attributes["error.type"] = type(access.failed).__name__
    return {name: value for name, value in attributes.items() if value != ""}


def makeWriter(
    role: str, endpoint: str, headers: Mapping[str, str], now: Callable[[], float], failed: Callable[[str], object]
) -> SpanWriter:
    """
    @param endpoint: the URL to which spans are sent.
    @param headers: header fields of these requests.
    @param failed: called, in any thread, with a sentence when spans could not be sent.
    @return: a writer, with a thread that sends.
    """
    _reportTo(failed)
    exporter = OTLPSpanExporter(endpoint=endpoint, headers=dict(headers), timeout=SEND_SECONDS)
    return SpanWriter(BatchSpanProcessor(exporter), role, now)


def _reportTo(failed: Callable[[str], object]) -> None:
    """
    Take what the SDK logs: its threads must not write to standard error.
    """
    log = logging.getLogger("opentelemetry")
    log.handlers = [_Reporter(failed)]
    log.propagate = False


class _Reporter(logging.Handler):
    """
    Passes warnings and errors on as sentences.
    """

    def __init__(self, report: Callable[[str], object]) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        self._report(record.getMessage())
