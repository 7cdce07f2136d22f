"""
Examinations of the health of a server, which an edge asks an agent for.

Only what was granted is examined.  Files of this machine are not.
"""

from __future__ import annotations

from typing import Any, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.dialect.godoxy.agent_destinations import Destinations
from tunnelstack.dialect.godoxy.agent_servers import serverEndpoint
from tunnelstack.errors import Denied, PeerError, Unavailable
from tunnelstack.exchange.fetch import fetch
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS
from tunnelstack.exchange.whole_message import JSON, WholeRequest, WholeResponse, textResponse
from tunnelstack.interfaces import IReactor
from tunnelstack.transport.error_text import errorText
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.target import percent_encoded
from tunnelstack.wire.records.godoxy_proxy import (
    DEFAULT_PORTS,
    HealthQuery,
    ProxiedServer,
    decode_health_query_untrusted,
    encode_health,
    read_authority,
)

R = TypeVar("R")

STREAM_SCHEMES = ("tcp", "tcp4", "tcp6", "h2c")
"""Healthy is what accepts a connection."""

DATAGRAM_SCHEMES = ("udp", "udp4", "udp6")
"""Healthy is what has an address: nothing more can be known of a UDP port."""

BODY_OCTETS = 64 * 1024
UNHEALTHY_STATUS = 500


class NotHealthy(Unavailable):
    """
    A server is not healthy.
    """


class HealthExaminer:
    """
    Examines servers.
    """

    log = Logger()

    def __init__(self, reactor: IReactor, destinations: Destinations) -> None:
        self._reactor = reactor
        self._destinations = destinations

    def respond(self, request: WholeRequest) -> WholeResponse | Deferred[WholeResponse]:
        """
        Answer C{GET .../health}.
        """
        if request.head.method not in (b"GET", b"HEAD"):
            return textResponse(405, "method not allowed")
        query = decode_health_query_untrusted(request.head.target)
        if not query.scheme:
            return textResponse(400, "missing scheme")
        if not query.host and query.scheme != "fileserver":
            return textResponse(400, "missing host")
        return Deferred.fromCoroutine(self._answer(query))

    async def _answer(self, query: HealthQuery) -> WholeResponse:
        began = self._reactor.seconds()
        detail = ""
        try:
            await self._examine(query)
        except (Unavailable, PeerError) as wrong:
            detail = str(wrong)
            if isinstance(wrong, Denied):
                self.log.warn("the health of a server is not examined: {reason}", reason=detail)
        return WholeResponse(200, encode_health(not detail, detail, self._reactor.seconds() - began), JSON)

    async def _examine(self, query: HealthQuery) -> None:
        """
        @raise Unavailable: the server is not healthy, or may not be examined.
        @raise PeerError: the query cannot be read.
        """
        if query.scheme in ("http", "https"):
            await self._request(query)
        elif query.scheme in STREAM_SCHEMES:
            endpoint = self._destinations.endpoint(*_place(query), query.seconds)
            connected: Any = await endpoint.connect(Factory.forProtocol(Protocol))
            connected.transport.abortConnection()
        elif query.scheme in DATAGRAM_SCHEMES:
            await self._destinations.resolve(*_place(query))
        elif query.scheme == "fileserver":
            raise Denied("not-allowed", "this agent examines no files")
        else:
            raise NotHealthy("unsupported scheme")

    async def _request(self, query: HealthQuery) -> None:
        """
        Send C{HEAD}: a status below 500 is healthy, whatever certificate the server has.
        """
        host, port = _place(query)
        server = ProxiedServer(scheme=query.scheme, host=host, port=port, insecure=True, server_name=host)
        endpoint = serverEndpoint(self._reactor, self._destinations, server, query.seconds)
        timeouts = evolve(DEFAULT_TIMEOUTS, connect=query.seconds, first=query.seconds)
        pool = ExchangePool(endpoint, clock=self._reactor, timeouts=timeouts, explain=lambda failure: errorText(failure))
        path = percent_encoded(query.path.encode()) if query.path.startswith("/") else b"/"
        head = RequestHead(b"HEAD", path, [(b"Host", query.host.encode()), (b"User-Agent", b"tunnelstack")])
        try:
            response = await fetch(pool.exchange, head, bodyOctets=BODY_OCTETS).addTimeout(query.seconds, self._reactor, _late)
        finally:
            pool.close()
        if response.status >= UNHEALTHY_STATUS:
            raise NotHealthy(f"status {response.status}")


def _place(query: HealthQuery) -> tuple[str, int]:
    """
    @raise PeerError: there is no host, or no port.
    """
    text = f"{query.host}:{query.port}" if query.port and ":" not in query.host else query.host
    return read_authority(text, DEFAULT_PORTS.get(query.scheme, 0))


def _late(result: R | Failure, seconds: float) -> R:
    if isinstance(result, Failure):
        raise NotHealthy(f"no answer within {seconds:g} seconds")
    return result
