"""
What an agent remembers of a request that is over, for its log and its panel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define

from tunnelstack.wire.http1.target import percent_encoded

RequestObserver = Callable[["AgentAccessRecord"], object]


@define
class AgentAccessRecord:
    """
    A request that is over: an L{AccessRecord<tunnelstack.control.access_log.AccessRecord>}.
    """

    service: str
    method: str
    host: str
    target: str
    visitor: str
    trace: str
    status: int
    octets: int
    seconds: float
    failed: Any = None


def recordFromExchange(service: str, exchange: Any, seconds: float) -> AgentAccessRecord:
    """
    Of an exchange of ours.
    """
    head = exchange.head
    visitor = (head.field(b"x-forwarded-for") or b"").partition(b",")[0].strip()
    return AgentAccessRecord(
        service, head.method.decode("latin-1"), exchange.framing.host.decode("latin-1"), percent_encoded(head.target).decode(),
        visitor.decode("latin-1"), exchange.trace, exchange.status or 499, exchange.octets, seconds,
    )


def recordFromSite(service: str, request: Any, seconds: float) -> AgentAccessRecord:
    """
    Of a request that C{twisted.web} has served.
    """
    trace = request.requestHeaders.getRawHeaders(b"x-request-id", [b""])[0]
    return AgentAccessRecord(
        service, request.method.decode("latin-1"), request.getRequestHostname().decode("latin-1"),
        percent_encoded(request.uri).decode(), request.getClientAddress().host, trace.decode("latin-1"), request.code,
        request.sentLength, seconds,
    )
