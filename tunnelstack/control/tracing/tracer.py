"""
Trace contexts of requests: each request belongs to a trace, which came with it or begins here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import SystemRandom

from attrs import frozen

from tunnelstack.wire.http1.head import Fields
from tunnelstack.wire.http1.trace_context import TraceContext, read_trace_context, with_trace_context

_random = SystemRandom()


def newIdentifier(bits: int) -> str:
    """
    @return: a random identifier in hexadecimal digits, never zero.
    """
    return f"{_random.getrandbits(bits) or 1:0{bits // 4}x}"


@frozen
class RequestSpan:
    """
    The span of one request in this program.

    @ivar context: is sent on with the request.
    @ivar parent: the identifier of the span that sent the request; C{""} if the trace begins here.
    """

    context: TraceContext
    parent: str = ""

    def written(self, fields: Fields) -> Fields:
        """
        @return: the fields of a request with this context.
        """
        return with_trace_context(fields, self.context, keep_state=self.parent != "")


class Tracer:
    """
    Gives each request its span.
    """

    def __init__(self, ratio: float, *, random: Callable[[], float] = _random.random) -> None:
        """
        @param ratio: the share of requests that are sampled.
        @param random: gives a number from 0 to 1.
        """
        self._ratio = ratio
        self._random = random

    def begin(self, fields: Iterable[tuple[bytes, bytes]], trusted: bool) -> RequestSpan:
        """
        @param fields: of the request.
        @param trusted: whether the sender of the request may decide that it is sampled.  Otherwise a visitor could have all of
            its requests recorded.
        @return: the span of the request.
        """
        came = read_trace_context(fields)
        if came is None:
            return RequestSpan(TraceContext(newIdentifier(128), newIdentifier(64), self._isSampled()))
        sampled = came.sampled if trusted else self._isSampled()
        return RequestSpan(TraceContext(came.trace_id, newIdentifier(64), sampled), came.span_id)

    def _isSampled(self) -> bool:
        return self._random() < self._ratio
