"""
The public port: connections of visitors, as many as there may be, and doors for agents on the hosts of nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from itertools import count
from secrets import token_hex
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.edge.listeners import ANYWHERE, Listening
from tunnelstack.edge.public.access_policy import Paces
from tunnelstack.edge.public.admission import boundUnsent
from tunnelstack.edge.public.rate import plain
from tunnelstack.edge.public.requests import Access, Visits
from tunnelstack.exchange.error_page import Pages, errorPage
from tunnelstack.exchange.errors import ExchangeFailed, Kind
from tunnelstack.exchange.server import HTTPServerProtocol, ServerExchange
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.wire.http1.framing import Framing
from tunnelstack.wire.http1.head import HeadLimits, RequestHead

OVERSHOOT = 128
"""Visitors beyond the bound who are let in all the same: those who were accepted in the turn in which it was reached."""


class Connection(HTTPServerProtocol):
    """
    A visitor's connection, until it is an agent's.
    """

    house: PublicFactory

    def connectionMade(self) -> None:
        self.house.enter(self)
        super().connectionMade()

    def letGo(self, takeOver: Any, head: RequestHead, end: int) -> None:
        self.house.forget(self)
        super().letGo(takeOver, head, end)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.house.forget(self)


class PublicFactory(ServerFactory):
    """
    Builds the server side of visitors' connections.

    @ivar connections: those that are open.
    @ivar accept: counts them.
    @ivar securePort: where visitors find us by TLS.
    @ivar paces: how much may be asked of each agent.
    @ivar accessLog: called with the L{Access} of each request, or C{None}.
    """

    noisy = False
    log = Logger()

    def __init__(
        self, edge: Any, *, pages: Pages = errorPage, accessLog: Callable[[Access], object] | None = None
    ) -> None:
        """
        @param edge: has C{clock}, C{accept} (an L{Accept<tunnelstack.edge.public.admission.Accept>}), C{recordOf(token)},
            C{registry} (C{pick(key)}, C{knows(key)}), C{routes} (a
            L{RouteTable<tunnelstack.edge.public.routes.RouteTable>}), C{doors} (by path), and C{config}
            (an L{EdgeConfig<tunnelstack.control.config.records.EdgeConfig>}).
        """
        self.clock = edge.clock
        self.registry = edge.registry
        self.pages = pages
        self.accessLog = accessLog
        self.accept = edge.accept
        self.securePort = 443
        self.connections: set[Connection] = set()
        self.paces = Paces(edge.config.limits, edge.recordOf)
        self._doors = edge.doors
        self.configure(edge.config, edge.routes)
        self._traces = count(1)
        self._process = token_hex(5)
        self._drained: list[Deferred[None]] = []

    def configure(self, config: Any, routes: Any) -> None:
        """
        Serve whoever connects from now on by this configuration; routes count for those who are here, too.

        @param config: an L{EdgeConfig<tunnelstack.control.config.records.EdgeConfig>}.
        """
        limits = config.limits
        self.routes = routes
        self.paces.configure(limits)
        self._trusted = [ip_network(network, strict=False) for network in config.trustedProxies]
        self._limits = HeadLimits(octets=limits.headOctets, fields=limits.headFields)
        self._timeouts = Timeouts(head=limits.headSeconds, first=limits.firstOctetSeconds, idle=limits.idleSeconds)

    def buildProtocol(self, address: Any) -> Connection | None:
        """
        As in C{IProtocolFactory}.
        """
        return self.build(address, ANYWHERE)

    def build(self, address: Any, where: Listening) -> Connection | None:
        """
        Somebody connects.

        @param where: where he came in.
        @return: C{None} to close his connection at once.
        """
        if self.accept.here >= self.accept.most + OVERSHOOT:
            return None
        if not (where.proxied or self.accept.admits(getattr(address, "host", ""))):
            return None
        connection = Connection(
            Visits(self, where), clock=self.clock, pages=self._refusal, timeouts=self._timeouts, limits=self._limits,
            doors=None if where.redirect else self._door, done=self._done if self.accessLog is not None else None,
        )
        connection.factory = self
        connection.house = self
        return connection

    def nextTrace(self) -> str:
        """
        An identifier for a request, unique in this process and most likely anywhere.
        """
        return f"{self._process}-{next(self._traces):x}"

    def trusts(self, address: str) -> bool:
        """
        Whether a peer is a proxy that the operator trusts.
        """
        if not self._trusted or not address:
            return False
        try:
            peer = ip_address(plain(address))
        except ValueError:
            return False
        return any(peer in network for network in self._trusted)

    def enter(self, connection: Connection) -> None:
        """
        A connection is there.
        """
        self.connections.add(connection)
        boundUnsent(connection.transport)
        descriptor = getattr(connection.transport, "fileno", None)
        self.accept.entered(descriptor() if descriptor is not None else -1)

    def forget(self, connection: Connection) -> None:
        """
        A connection is gone, or somebody else's.
        """
        if connection in self.connections:
            self.connections.remove(connection)
            self.accept.left()
        if not self.connections:
            waiting, self._drained = self._drained, []
            for drained in waiting:
                drained.callback(None)

    def drain(self) -> Deferred[None]:
        """
        Let every exchange that is under way end, and begin no other.

        @return: fires when no connection is left.
        """
        for connection in list(self.connections):
            connection.drain()
        if not self.connections:
            return succeed(None)
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        return drained

    def abort(self) -> None:
        """
        Drop every connection at once.
        """
        for connection in list(self.connections):
            connection.transport.abortConnection()

    def _door(self, head: RequestHead, framing: Framing) -> Any:
        """
        @return: who takes the connection over, if this is a door and not a path of somebody's site.
        """
        door = self._doors.get(head.target.partition(b"?")[0])
        if door is None or self.routes.claims(framing.host):
            return None
        return door.takeOver

    def _refusal(self, failed: ExchangeFailed, trace: str) -> Any:
        return self.pages(failed, trace or self.nextTrace())

    def _done(self, exchange: ServerExchange) -> None:
        access = exchange.note
        if access is not None and self.accessLog is not None:
            access.status = exchange.status or Kind.GONE.status
            access.octets = exchange.octets
            access.seconds = self.clock.seconds() - access.began
            self.accessLog(access)
