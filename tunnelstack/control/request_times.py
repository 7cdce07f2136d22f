"""
When the steps of one request were done, for the access log, metrics and spans.
"""

from __future__ import annotations

from collections.abc import Callable

from tunnelstack.control.tracing.tracer import RequestSpan

NEVER = -1.0
"""Stands for the time of a step that has not been done, or took no time of its own."""


class RequestTimes:
    """
    The steps of one request, on the edge or on the agent.  Each is in seconds from the receipt of the request's head, and
    L{NEVER} until it is done.

    @ivar began: when the head was received, in seconds of the reactor's clock.
    @ivar routed: the edge has found the agent, and its policy allows the request.
    @ivar opened: there is a new connection for the request: a stream to the agent, or the agent's connection to the local
        server.  It stays L{NEVER} if a connection was used again, or was there at once.
    @ivar whole: the body of the request has been received; L{NEVER} for a request without a body.
    @ivar first: the head of the response has been received.
    @ivar answeredAtOnce: the whole response was received at once, just before the request ended; C{first} is not set then.
    @ivar failed: why there is no complete response, or C{None}.
    @ivar span: the span of the request, or C{None} if requests are not traced.
    """

    # There is one for each request, most of which have few of these values: defaults in the class cost nothing.
    routed = opened = whole = first = NEVER
    answeredAtOnce = False
    failed: Exception | None = None
    span: RequestSpan | None = None

    def __init__(self, now: Callable[[], float], span: RequestSpan | None = None) -> None:
        """
        @param now: gives the seconds of the reactor's clock.
        """
        self._now = now
        self.began = now()
        if span is not None:
            self.span = span

    @property
    def seconds(self) -> float:
        """
        Seconds since the head was received.
        """
        return self._now() - self.began

    def requestRouted(self) -> None:
        """
        The edge is about to forward the request.
        """
        self.routed = self._now() - self.began

    def connectionOpened(self) -> None:
        """
        There is a new connection for the request.
        """
        self.opened = self._now() - self.began

    def requestEnded(self) -> None:
        """
        The body of the request has been received.
        """
        self.whole = self._now() - self.began

    def responseBegun(self) -> None:
        """
        The head of the response has been received.
        """
        self.first = self._now() - self.began
