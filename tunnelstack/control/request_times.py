"""
When the steps of one request were done, for the access log, metrics and spans.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunnelstack.control.tracing.tracer import RequestSpan


NEVER = -1.0
"""Stands for the time of a step that has not been done, or took no time of its own."""


class RequestTimes:
    """
    The steps of one request, on the edge or on the agent.  Each is in seconds from the receipt of the request's head, and
    L{NEVER} until it is done.

    There is one for each request, most of which have few of these values, so defaults in the class cost least.  For the same
    reason there is no constructor: whoever makes one sets C{now}, C{began}, and C{span} if there is one.

    @ivar now: gives the seconds of the reactor's clock.
    @ivar began: when the head was received, in these seconds.
    @ivar routed: the edge has found the agent, and its policy allows the request.  It stays L{NEVER} if nothing was waited for
        and the request is not traced.
    @ivar opened: there is a new connection for the request: a stream to the agent, or the agent's connection to the local
        server.  It stays L{NEVER} if a connection was used again, or was there at once.
    @ivar whole: the body of the request has been received; L{NEVER} for a request without a body.
    @ivar first: the head of the response has been received.
    @ivar answeredAtOnce: the whole response was received at once, just before the request ended; C{first} is not set then.
    @ivar failed: why there is no complete response, or C{None}.
    @ivar span: the span of the request, or C{None} if requests are not traced.
    """

    now: Callable[[], float]
    began = 0.0
    routed = opened = whole = first = NEVER
    answeredAtOnce = False
    failed: Exception | None = None
    span: RequestSpan | None = None

    @property
    def elapsed(self) -> float:
        """
        Seconds since the head was received.
        """
        return self.now() - self.began

    def requestRouted(self) -> None:
        """
        The edge is about to forward the request.
        """
        self.routed = self.now() - self.began

    def connectionOpened(self) -> None:
        """
        There is a new connection for the request.
        """
        self.opened = self.now() - self.began

    def requestEnded(self) -> None:
        """
        The body of the request has been received.
        """
        self.whole = self.now() - self.began

    def responseBegun(self) -> None:
        """
        The head of the response has been received.
        """
        self.first = self.now() - self.began
