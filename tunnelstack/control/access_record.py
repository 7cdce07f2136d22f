"""
The record of a request, for the access log and for everything else that observes requests.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Protocol

from tunnelstack.control.request_times import RequestTimes
from tunnelstack.interfaces import IExchangeReceiver
from tunnelstack.wire.http1.target import percent_encoded, unprintable

CLIENT_CLOSED = 499
"""The status in the log of a request whose visitor closed the connection before the response began."""

MOST_DESCRIPTIONS = 512
"""Descriptions that are kept for later requests."""

LONGEST_DESCRIPTION = 512
"""Octets of host, target and visitor of a description that is kept, together."""


class RequestDescription:
    """
    What a record says of a request that is the same for each request like it.

    @ivar host: from the request's C{Host} field, as received.
    @ivar target: the request target in visible ASCII.
    @ivar protocol: with which the request arrived, C{HTTP/1.1}, C{HTTP/1.0} or C{HTTP/2.0}.
    @ivar visitor: the visitor's IP address; C{""} if it is not known.
    @ivar service: the service that the request was routed to; C{""} if there is none.
    @ivar role: the program that served it: C{"edge"} or C{"agent"}.
    @ivar json: the parts of a line in JSON, once L{jsonLines<tunnelstack.control.access_lines.jsonLines>} has made them.
    """

    __slots__ = ("host", "json", "method", "protocol", "role", "service", "target", "visitor")

    def __init__(
        self, *, method: str = "", host: str = "", target: str = "", protocol: str = "HTTP/1.1", visitor: str = "",
        service: str = "", role: str = "edge",
    ) -> None:
        self.method = method
        self.host = host
        self.target = target
        self.protocol = protocol
        self.visitor = visitor
        self.service = service
        self.role = role
        self.json: tuple[str, str, str] | None = None


DescriptionKey = tuple[bytes, bytes, bytes, tuple[int, int], str, str]
"""Method, host, target, version, visitor and service of a request."""


class Descriptions(dict[DescriptionKey, RequestDescription]):
    """
    The descriptions of requests, made as they are asked for.  Those of the last requests are kept, because most requests are
    like one before.
    """

    def __init__(self, role: str) -> None:
        """
        @param role: C{"edge"} or C{"agent"}.
        """
        super().__init__()
        self._role = role

    def __missing__(self, key: DescriptionKey) -> RequestDescription:
        method, host, target, version, visitor, service = key
        made = RequestDescription(
            method=method.decode("latin-1"), host=host.decode("latin-1"), target=visibleTarget(target),
            protocol=protocolText(version), visitor=visitor, service=service, role=self._role,
        )
        if len(host) + len(target) + len(visitor) <= LONGEST_DESCRIPTION:
            if len(self) >= MOST_DESCRIPTIONS:
                self.clear()
            self[key] = made
        return made


NOT_DESCRIBED = RequestDescription()
"""Of a request of which nothing is to be logged."""


class AccessRecord(RequestTimes):
    """
    One request, on the edge or on the agent: its steps, and what is logged of it.  It does not change once the request has
    ended, except that a step may still be done.

    @ivar description: what it shares with other requests.
    @ivar service: the service that the request was routed to; C{""} if there is none.
    @ivar trace: the request's identifier, the same on both sides.
    @ivar status: of the response; C{0} if there was none, L{CLIENT_CLOSED} if the visitor closed the connection first.
    @ivar octets: of the response's body.
    @ivar seconds: from the request's head to the end of the response.
    @ivar ended: when the response ended, in seconds of the reactor's clock.
    """

    description = NOT_DESCRIBED
    service = trace = ""
    status = octets = 0
    seconds = ended = 0.0

    @property
    def method(self) -> str:
        """
        The request's method.
        """
        return self.description.method

    @property
    def host(self) -> str:
        """
        From the request's C{Host} field, as received.
        """
        return self.description.host

    @property
    def target(self) -> str:
        """
        The request target in visible ASCII.
        """
        return self.description.target

    @property
    def visitor(self) -> str:
        """
        The visitor's IP address; C{""} if it is not known.
        """
        return self.description.visitor


class SampledRequest(Protocol):
    """
    A request of which a sample is kept when it has ended.
    """

    def ended(self, status: int, octets: int, seconds: float) -> None:
        """
        @param status: of the response.
        @param octets: of its body.
        @param seconds: from the head of the request to the end of the response.
        """

    def counting(self, receiver: IExchangeReceiver) -> IExchangeReceiver:
        """
        @return: a receiver of the request's body that counts it.
        """


class ObservedRequest(AccessRecord):
    """
    A request on an edge.

    @ivar sample: of the request; C{None} if none is kept.
    """

    sample: SampledRequest | None = None


RequestObserver = Callable[[AccessRecord], object]
"""Called with the record of each request that has ended."""


def together(*observers: RequestObserver | None) -> RequestObserver | None:
    """
    @return: an observer that calls all that are not C{None}; C{None} if there are none.
    """
    present = [observer for observer in observers if observer is not None]
    if len(present) < 2:
        return present[0] if present else None

    def observe(access: AccessRecord) -> None:
        for observer in present:
            observer(access)

    return observe


def visibleTarget(target: bytes) -> str:
    """
    @return: the target of a request in visible ASCII.
    """
    return (percent_encoded(target) if unprintable(target) else target).decode("ascii")


@lru_cache(maxsize=8)
def protocolText(version: tuple[int, int]) -> str:
    """
    @param version: of the head of a request.
    @return: the protocol as a description has it.
    """
    return f"HTTP/{version[0]}.{version[1]}"


def failureCode(failed: Exception | None) -> str:
    """
    @return: the reason for which an exchange failed, as in C{failures}; C{""} if it did not, or for another reason.
    """
    kind = getattr(failed, "kind", None)
    return kind.name.lower() if isinstance(kind, Enum) else ""
