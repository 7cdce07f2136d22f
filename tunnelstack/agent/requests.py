"""
The access records of requests that an agent serves.
"""

from __future__ import annotations

from tunnelstack.control.access_log import CLIENT_CLOSED, AccessRecord, protocolText
from tunnelstack.interfaces import IServerExchange
from tunnelstack.wire.http1.target import percent_encoded, unprintable


class ServedRequest(AccessRecord):
    """
    A request on an agent.
    """

    role = "agent"


def recordFromExchange(service: str, exchange: IServerExchange, seconds: float) -> ServedRequest:
    """
    The record of an exchange whose steps are not known.

    @param seconds: from the request's head to the end of the response.
    """
    record = ServedRequest()
    complete(record, service, exchange, seconds)
    return record


def complete(record: AccessRecord, service: str, exchange: IServerExchange, seconds: float) -> None:
    """
    Write into a record what its exchange has.

    @param seconds: from the request's head to the end of the response, or until now.
    """
    head, target = exchange.head, exchange.head.target
    visitor = head.field(b"x-forwarded-for") or b""
    record.method = head.method.decode("latin-1")
    record.host = exchange.host.decode("latin-1")
    record.target = (percent_encoded(target) if unprintable(target) else target).decode()
    record.visitor = visitor.partition(b",")[0].strip().decode("latin-1")
    record.service = service
    record.trace = exchange.trace
    record.status = exchange.status or CLIENT_CLOSED
    record.octets = exchange.octets
    record.seconds = seconds
    record.protocol = protocolText(head.version)
