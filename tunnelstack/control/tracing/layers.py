"""
Where the time of one request went: its layers on the edge and on the agent.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from tunnelstack.control.request_times import NEVER

EDGE, AGENT = "edge", "agent"

ROUTE, READ, OPEN, CONNECT, WAIT, SEND = (
    "route", "read the request", "open a stream", "connect to the local server", "wait for the response", "send the response",
)


@frozen
class Layer:
    """
    A part of the time of a request, in seconds from its head.
    """

    name: str
    begin: float
    end: float


@frozen(kw_only=True)
class Steps:
    """
    The steps of a request, as L{RequestTimes<tunnelstack.control.request_times.RequestTimes>} has them and access logs show
    them.

    @ivar seconds: when the response had ended.
    """

    routed: float = NEVER
    opened: float = NEVER
    whole: float = NEVER
    first: float = NEVER
    seconds: float = 0.0


def layersOf(role: str, steps: Steps) -> Iterator[Layer]:
    """
    @param role: L{EDGE} or L{AGENT}.
    @return: the layers, in the order in which they begin.  A request may be read during other layers.
    """
    routed, opened = max(steps.routed, 0.0), max(steps.opened, steps.routed, 0.0)
    if steps.routed >= 0:
        yield Layer(ROUTE, 0.0, routed)
    if steps.whole >= 0:
        yield Layer(READ, 0.0, steps.whole)
    if steps.opened >= 0:
        yield Layer(OPEN if role == EDGE else CONNECT, routed, opened)
    if steps.first >= 0:
        yield Layer(WAIT, opened, max(opened, steps.first))
        yield Layer(SEND, steps.first, max(steps.first, steps.seconds))
