"""
What an agent remembers of a request that is over, for its log and its panel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define

Heard = Callable[["Request"], object]


@define
class Request:
    """
    A request that is over: an L{Access<tunnelstack.control.access_log.Access>}.
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


def fromExchange(service: str, exchange: Any, seconds: float) -> Request:
    """
    Of an exchange of ours.
    """
    head = exchange.head
    visitor = (head.field(b"x-forwarded-for") or b"").partition(b",")[0].strip()
    return Request(
        service, head.method.decode("latin-1"), exchange.framing.host.decode("latin-1"), head.target.decode("latin-1"),
        visitor.decode("latin-1"), exchange.trace, exchange.status or 499, exchange.octets, seconds,
    )


def fromSite(service: str, request: Any, seconds: float) -> Request:
    """
    Of a request that C{twisted.web} has served.
    """
    trace = request.requestHeaders.getRawHeaders(b"x-request-id", [b""])[0]
    return Request(
        service, request.method.decode("latin-1"), request.getRequestHostname().decode("latin-1"),
        request.uri.decode("latin-1"), request.getClientAddress().host, trace.decode("latin-1"), request.code,
        request.sentLength, seconds,
    )
