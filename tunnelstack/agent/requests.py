"""
The access records of requests that an agent serves.
"""

from __future__ import annotations

from tunnelstack.control.access_log import CLIENT_CLOSED, AccessRecord, protocolText
from tunnelstack.control.request_times import RequestTimes
from tunnelstack.interfaces import IServerExchange
from tunnelstack.wire.http1.target import percent_encoded


def recordFromExchange(
    service: str, exchange: IServerExchange, seconds: float, times: RequestTimes | None = None
) -> AccessRecord:
    """
    The record of an exchange.

    @param seconds: from the request's head to the end of the response, or until now.
    @param times: when its steps were done, if that is known.
    """
    head = exchange.head
    visitor = (head.field(b"x-forwarded-for") or b"").partition(b",")[0].strip()
    return AccessRecord(
        method=head.method.decode("latin-1"), host=exchange.host.decode("latin-1"),
        target=percent_encoded(head.target).decode(), visitor=visitor.decode("latin-1"), service=service, trace=exchange.trace,
        status=exchange.status or CLIENT_CLOSED, octets=exchange.octets, seconds=seconds,
        times=times, role="agent", failed=None if times is None else times.failed,
        protocol=protocolText(head.version),
    )

