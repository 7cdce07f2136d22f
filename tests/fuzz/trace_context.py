"""
Bent octets for C{traceparent}: an input is the values of that field, one a line.
"""

from __future__ import annotations

from collections.abc import Hashable

from tunnelstack.wire.http1.trace_context import PARENT, read_trace_context, with_trace_context

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"

SEEDS = [
    b"00-%b-%b-01" % (TRACE, SPAN), b"00-%b-%b-00" % (TRACE, SPAN), b"cc-%b-%b-03-more" % (TRACE, SPAN),
    b" 00-%b-%b-01\t" % (TRACE, SPAN),
    b"ff-%b-%b-01" % (TRACE, SPAN), b"00-%b-%b-01" % (b"0" * 32, SPAN), b"00-%b-%b-01-x" % (TRACE, SPAN), b"\n", b"00",
]  # fmt: skip


def target(data: bytes) -> Hashable:
    """
    @return: what was read; it is the same when it is sent on.
    """
    fields = [(b"TraceParent", value) for value in data.split(b"\n")] + [(b"tracestate", b"a=1"), (b"X", data[:8])]
    context = read_trace_context(fields)
    if context is None:
        return None
    assert data.count(b"\n") == 0, data
    assert len(context.trace_id) == 32 and len(context.span_id) == 16 and int(context.trace_id, 16) and int(context.span_id, 16)
    for keep in (True, False):
        sent = with_trace_context(fields, context, keep_state=keep)
        assert read_trace_context(sent) == context and [name.lower() for name, _ in sent].count(PARENT) == 1
        assert ((b"tracestate", b"a=1") in sent) == keep
    return context.sampled, data[:2] == b"00"
