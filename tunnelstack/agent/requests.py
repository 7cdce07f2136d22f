"""
The access records of requests that an agent has served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunnelstack.control.access_log import CLIENT_CLOSED, AccessRecord
from tunnelstack.exchange.server import ServerExchange
from tunnelstack.wire.http1.target import percent_encoded

if TYPE_CHECKING:
    from twisted.web.server import Request  # slow to load, and not every agent serves files


def recordFromExchange(service: str, exchange: ServerExchange, seconds: float) -> AccessRecord:
    """
    The record of an exchange that has ended.

    @param seconds: from the request's head to the end of the response.
    """
    head = exchange.head
    visitor = (head.field(b"x-forwarded-for") or b"").partition(b",")[0].strip()
    return AccessRecord(
        method=head.method.decode("latin-1"), host=exchange.host.decode("latin-1"),
        target=percent_encoded(head.target).decode(), visitor=visitor.decode("latin-1"), service=service, trace=exchange.trace,
        status=exchange.status or CLIENT_CLOSED, octets=exchange.octets, seconds=seconds,
    )


def recordFromSite(service: str, request: Request, seconds: float) -> AccessRecord:
    """
    The record of a request that C{twisted.web} has served.

    @param seconds: as in L{recordFromExchange}.
    """
    trace = (request.requestHeaders.getRawHeaders(b"x-request-id") or [b""])[0]
    return AccessRecord(
        method=request.method.decode("latin-1"), host=request.getRequestHostname().decode("latin-1"),
        target=percent_encoded(request.uri).decode(), visitor=request.getClientAddress().host, service=service,
        trace=trace.decode("latin-1"), status=request.code, octets=request.sentLength, seconds=seconds,
    )
