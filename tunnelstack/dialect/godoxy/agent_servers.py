"""
The web servers that an agent forwards requests to: endpoints to them, and the pools of connections that are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Union

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from tunnelstack.dialect.godoxy.agent_destinations import Destinations
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import DEFAULT_TIMEOUTS
from tunnelstack.interfaces import IReactor
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.tls import clientContext, unverifiedContext
from tunnelstack.wire.records.godoxy import DIAL_SECONDS
from tunnelstack.wire.records.godoxy_proxy import ProxiedServer

if TYPE_CHECKING:
    from tunnelstack.exchange.http2_pool import HTTP2ExchangePool

Pool = Union[ExchangePool, "HTTP2ExchangePool"]

POOLS = 64
"""How many servers have connections that are kept, as at a genuine agent."""

CONNECTIONS = 1024
"""Connections to one server, unless the edge asks for fewer."""

UNREACHABLE = "Origin server is not reachable."


def serverEndpoint(
    reactor: IReactor, destinations: Destinations, server: ProxiedServer, seconds: float = DIAL_SECONDS
) -> IStreamClientEndpoint:
    """
    @param seconds: for the connection, and for the handshake of TLS.
    @return: an endpoint to a web server.
    @raise Denied: it was not granted.
    """
    below = destinations.endpoint(server.host, server.port, seconds)
    if server.scheme != "https":
        return below
    name = server.server_name or server.host
    return SecureEndpoint(reactor, name, below, unverifiedContext(name) if server.insecure else clientContext(name), seconds)


class ServerPools:
    """
    Connections to web servers, for those that were used last.
    """

    def __init__(self, reactor: IReactor, destinations: Destinations) -> None:
        self._reactor = reactor
        self._destinations = destinations
        self._pools: OrderedDict[ProxiedServer, Pool] = OrderedDict()

    def __len__(self) -> int:
        return len(self._pools)

    def poolFor(self, server: ProxiedServer) -> Pool:
        """
        @return: the connections to a server.
        @raise Denied: it was not granted.
        """
        pool = self._pools.get(server)
        if pool is None:
            pool = self._pools[server] = self._makePool(server)
            if len(self._pools) > POOLS:
                self._pools.popitem(last=False)[1].drain()
        self._pools.move_to_end(server)
        return pool

    def _makePool(self, server: ProxiedServer) -> Pool:
        endpoint = serverEndpoint(self._reactor, self._destinations, server)
        timeouts = evolve(DEFAULT_TIMEOUTS, first=server.response_seconds)
        if server.scheme == "h2c":
            from tunnelstack.exchange.http2_pool import HTTP2ExchangePool  # loads h2, which is slow

            return HTTP2ExchangePool(endpoint, clock=self._reactor, explain=_explain, timeouts=timeouts)
        return ExchangePool(
            endpoint, clock=self._reactor, explain=_explain, timeouts=timeouts,
            maxConnections=min(server.connections or CONNECTIONS, CONNECTIONS),
        )

    def drain(self) -> Deferred[list[None]]:
        """
        @return: fires when the exchanges under way have ended.
        """
        return gatherResults([pool.drain() for pool in self._pools.values()])

    def close(self) -> None:
        """
        Close all connections at once.
        """
        for pool in self._pools.values():
            pool.close()


def _explain(failure: Failure) -> str:
    return UNREACHABLE
