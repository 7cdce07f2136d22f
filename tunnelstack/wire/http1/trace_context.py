"""
The header fields C{traceparent} and C{tracestate}, by which the spans of one request in several programs are joined.

Source: W3C Trace Context, level 1 (https://www.w3.org/TR/trace-context-1/).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from attrs import frozen

from tunnelstack.wire.http1.head import Fields

PARENT, STATE = b"traceparent", b"tracestate"

VERSION_0 = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})\Z")
LATER = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-|\Z)")
"""Later versions may have more members after the first four."""

LONGEST = 512
"""Octets of the longest C{traceparent} that is read."""

SAMPLED = 0x01


@frozen
class TraceContext:
    """
    The trace that a request belongs to.

    @ivar trace_id: of the trace, 32 hexadecimal digits.
    @ivar span_id: of the span that sent the request, 16 hexadecimal digits.
    @ivar sampled: the sender records the trace.
    """

    trace_id: str
    span_id: str
    sampled: bool

    def encode(self) -> bytes:
        """
        @return: the value of C{traceparent}.
        """
        return b"00-%b-%b-%02x" % (self.trace_id.encode(), self.span_id.encode(), SAMPLED if self.sampled else 0)


def read_trace_context(fields: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """
    @return: the context in the fields of a request; C{None} if there is none, more than one, or it is malformed.
    """
    found = [value for name, value in fields if name.lower() == PARENT]
    return _parse(found[0].strip()) if len(found) == 1 else None


def _parse(value: bytes) -> TraceContext | None:
    if len(value) > LONGEST:
        return None
    match = VERSION_0.match(value) if value.startswith(b"00") else LATER.match(value)
    if match is None or not (match[1].strip(b"0") and match[2].strip(b"0")):
        return None
    return TraceContext(match[1].decode(), match[2].decode(), bool(int(match[3], 16) & SAMPLED))


def with_trace_context(fields: Fields, context: TraceContext, *, keep_state: bool) -> Fields:
    """
    @param keep_state: whether C{tracestate} stays: it belongs to the trace that the request came with.
    @return: the fields with this context instead of another.
    """
    dropped = (PARENT,) if keep_state else (PARENT, STATE)
    return [*(field for field in fields if field[0].lower() not in dropped), (b"traceparent", context.encode())]
