"""
The tracing of one program: the trace contexts of requests, and the spans that are sent to a collector.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from tunnelstack.control.access_record import AccessRecord
from tunnelstack.control.config.records import TracingConfig
from tunnelstack.control.tracing.tracer import Tracer
from tunnelstack.errors import ConfigurationError
from tunnelstack.interfaces import IReactor
from tunnelstack.wire.printable_text import LINE, printable, quoted

if TYPE_CHECKING:
    from tunnelstack.control.tracing.otlp import SpanWriter

MISSING = (
    "spans need the package opentelemetry-exporter-otlp-proto-http, which is not installed: pip install "
    "'tunnelstack[otel]', or remove endpoint from [tracing]"
)

LAST_SECONDS = 5.0
"""Seconds that a program that stops waits for its last spans to be sent."""

REPORT_SECONDS = 60.0
"""Seconds for which a failure to send spans is not reported again."""


def checkTracing(config: TracingConfig) -> None:
    """
    @raise ConfigurationError: spans cannot be sent: the extra C{otel} is not installed, or the file of headers is wrong.
    """
    if config.enabled and config.endpoint:
        if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter.otlp.proto.http") is None:
            raise ConfigurationError(MISSING)
        readHeaders(config.headersFile)


def readHeaders(path: str) -> dict[str, str]:
    """
    @param path: of a file with lines such as C{Authorization: Bearer ...}; C{""} for no file.
    @raise ConfigurationError: it cannot be used.  The message has nothing of its content.
    """
    if not path:
        return {}
    try:
        lines = Path(path).read_text("ascii").splitlines()
    except OSError as unreadable:
        raise ConfigurationError(f"headers_file {quoted(path)} cannot be read: {unreadable.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"headers_file {quoted(path)} is not ASCII text") from None
    headers = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            name, colon, value = line.partition(":")
            if not (colon and name and name == name.strip() and value.strip() and line.isprintable()):
                raise ConfigurationError(f"{path}:{number}: a line must be Name: value")
            headers[name] = value.strip()
    return headers


class TracingService(Service):
    """
    Gives requests their spans, and sends them while it runs.

    @ivar tracer: gives each request its span.
    """

    log = Logger()

    def __init__(self, reactor: IReactor, config: TracingConfig, role: str) -> None:
        """
        @param role: C{"edge"} or C{"agent"}.
        @raise ConfigurationError: as from L{checkTracing}.
        """
        checkTracing(config)
        self.tracer = Tracer(config.sampleRatio)
        self._reactor = reactor
        self._config = config
        self._role = role
        self._writer: SpanWriter | None = None
        self._reported = -REPORT_SECONDS

    def requestEnded(self, access: AccessRecord) -> None:
        """
        Send the spans of a request, if it is sampled.
        """
        if self._writer is not None:
            self._writer(access)

    def startService(self) -> None:
        """
        Start the thread that sends, and not before: C{twistd} forks.
        """
        super().startService()
        if self._config.endpoint:
            self._writer = self._makeWriter(readHeaders(self._config.headersFile))

    def _makeWriter(self, headers: Mapping[str, str]) -> SpanWriter:
        from tunnelstack.control.tracing.otlp import makeWriter  # of the extra

        return makeWriter(self._role, self._config.endpoint, headers, time.time, self._failedInThread)

    def _failedInThread(self, sentence: str) -> None:
        self._reactor.callFromThread(self._failed, sentence)

    def _failed(self, sentence: str) -> None:
        """
        Report that spans could not be sent, once a minute.
        """
        now = self._reactor.seconds()
        if now - self._reported >= REPORT_SECONDS:
            self._reported = now
            self.log.warn(
                "spans could not be sent to {endpoint}: {reason}", endpoint=self._config.endpoint,
                reason=printable(sentence, LINE),
            )

    def stopService(self) -> Deferred[None] | None:
        """
        Send what is queued, within a bound of time.
        """
        super().stopService()
        writer, self._writer = self._writer, None
        if writer is None:
            return None
        closed: Deferred[None] = Deferred()
        Thread(target=self._close, args=(writer, closed), daemon=True).start()
        return closed.addTimeout(LAST_SECONDS, self._reactor, onTimeoutCancel=lambda late, seconds: None)

    def _close(self, writer: SpanWriter, closed: Deferred[None]) -> None:
        """
        Send what is queued, in a thread of its own: those of a pool must end before the process can.
        """
        try:
            writer.close()
        finally:
            self._reactor.callFromThread(self._closed, closed)

    def _closed(self, closed: Deferred[None]) -> None:
        if not closed.called:
            closed.callback(None)
