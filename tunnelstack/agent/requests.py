"""
The access records of requests that an agent serves.
"""

from __future__ import annotations

from functools import lru_cache

from tunnelstack.control.access_record import CLIENT_CLOSED, AccessRecord, Descriptions, RequestDescription
from tunnelstack.interfaces import IServerExchange


def recordFromExchange(
    descriptions: Descriptions, service: str, exchange: IServerExchange, seconds: float, ended: float
) -> AccessRecord:
    """
    The record of an exchange whose steps are not known.

    @param seconds: from the request's head to the end of the response.
    @param ended: when the response ended, in seconds of the reactor's clock.
    """
    record = AccessRecord()
    record.seconds, record.ended = seconds, ended
    complete(record, describe(descriptions, service, exchange), service, exchange)
    return record


def complete(record: AccessRecord, description: RequestDescription, service: str, exchange: IServerExchange) -> None:
    """
    Write into a record what its exchange has.
    """
    record.description = description
    record.service = service
    record.trace = exchange.trace
    record.status = exchange.status or CLIENT_CLOSED
    record.octets = exchange.octets


def describe(descriptions: Descriptions, service: str, exchange: IServerExchange) -> RequestDescription:
    """
    @return: what the log says of a request and of those like it.
    """
    head = exchange.head
    visitor = _firstAddress(head.field(b"x-forwarded-for") or b"")
    return descriptions[head.method, exchange.host, head.target, head.version, visitor, service]


@lru_cache(maxsize=256)
def _firstAddress(value: bytes) -> str:
    """
    @param value: of C{X-Forwarded-For}.
    @return: the address of the visitor.
    """
    return value.partition(b",")[0].strip().decode("latin-1")
