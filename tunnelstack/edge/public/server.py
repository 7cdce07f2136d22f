"""
The public port: connections of visitors, as many as there may be, and doors for agents on the hosts of nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from secrets import token_hex
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.doors import TakenOverRequest
from tunnelstack.edge.listeners import UNKNOWN_LISTENER, EdgeListener
from tunnelstack.edge.public.access_policy import AgentRateLimits
from tunnelstack.edge.public.admission import limitUnsent
from tunnelstack.edge.public.requests import EdgeAccessRecord, RequestRouter
from tunnelstack.exchange.error_page import ErrorPages, errorPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.server import HTTPServerProtocol, ServerExchange
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.wire.addresses import read_address, read_network
from tunnelstack.wire.http1.framing import Framing
from tunnelstack.wire.http1.head import HeadLimits, RequestHead
from tunnelstack.wire.http1.target import path_of

MAX_OVERSHOOT = 128
"""Visitors beyond the bound who are let in all the same: those who were accepted in the turn in which it was reached."""


class VisitorConnection(HTTPServerProtocol):
    """
    A visitor's connection, until it is an agent's.
    """

    site: PublicServerFactory

    def connectionMade(self) -> None:
        self.site.connectionOpened(self)
        super().connectionMade()

    def handOff(self) -> TakenOverRequest:
        self.site.connectionClosed(self)
        return super().handOff()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.site.connectionClosed(self)


class PublicServerFactory(ServerFactory):
    """
    Builds the server side of visitors' connections.

    @ivar connections: those that are open.
    @ivar accept: counts them.
    @ivar securePort: where visitors find us by TLS.
    @ivar rateLimits: how much may be asked of each agent.
    @ivar forwardedBy: which fields of trusted proxies are believed, as C{forwarded_by} of the configuration.
    @ivar accessLog: called with the L{EdgeAccessRecord} of each request, or C{None}.
    """

    noisy = False
    log = Logger()

    def __init__(
        self, edge: Any, *, pages: ErrorPages = errorPage, accessLog: Callable[[EdgeAccessRecord], object] | None = None
    ) -> None:
        """
        @param edge: has C{clock}, C{accept} (an L{Admission<tunnelstack.edge.public.admission.Admission>}), C{recordOf(token)},
            C{registry} (C{pick(key)}, C{knows(key)}), C{routes} (a
            L{RouteTable<tunnelstack.edge.public.routes.RouteTable>}), C{doors} (a
            L{DoorTable<tunnelstack.doors.DoorTable>}), and C{config} (an
            L{EdgeConfig<tunnelstack.control.config.records.EdgeConfig>}).
        """
        self.clock = edge.clock
        self.registry = edge.registry
        self.pages = pages
        self.accessLog = accessLog
        self.admission = edge.admission
        self.securePort = 443
        self.connections: set[VisitorConnection] = set()
        self.rateLimits = AgentRateLimits(edge.config.limits, edge.recordOf)
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
        self.rateLimits.configure(limits)
        self._trusted = [read_network(network, strict=False) for network in config.trustedProxies]
        self.forwardedBy = config.forwardedBy
        self._limits = HeadLimits(octets=limits.headOctets, fields=limits.headFields)
        self._timeouts = Timeouts(head=limits.headSeconds, first=limits.firstOctetSeconds, idle=limits.idleSeconds)

    def buildProtocol(self, address: Any) -> VisitorConnection | None:
        """
        As in C{IProtocolFactory}.
        """
        return self.buildConnection(address, UNKNOWN_LISTENER)

    def buildConnection(self, address: Any, listener: EdgeListener) -> VisitorConnection | None:
        """
        Somebody connects.

        @param listener: where he came in.
        @return: C{None} to close his connection at once.
        """
        if self.admission.connectionCount >= self.admission.maxConnections + MAX_OVERSHOOT:
            return None
        if not (listener.proxied or self.admission.admit(getattr(address, "host", ""))):
            return None
        connection = VisitorConnection(
            RequestRouter(self, listener), clock=self.clock, pages=self._errorPage, timeouts=self._timeouts,
            limits=self._limits,
            doors=None if listener.redirect else self._doorFor, done=self._exchangeDone if self.accessLog is not None else None,
        )
        connection.factory = self
        connection.site = self
        return connection

    def nextTrace(self) -> str:
        """
        An identifier for a request, unique in this process and most likely anywhere.
        """
        return f"{self._process}-{next(self._traces):x}"

    def isTrusted(self, address: str) -> bool:
        """
        Whether a peer is a proxy that the operator trusts.
        """
        peer = read_address(address) if self._trusted else None
        return peer is not None and any(peer in network for network in self._trusted)

    def connectionOpened(self, connection: VisitorConnection) -> None:
        """
        A connection is there.
        """
        self.connections.add(connection)
        limitUnsent(connection.transport)
        descriptor = getattr(connection.transport, "fileno", None)
        self.admission.connectionOpened(descriptor() if descriptor is not None else -1)

    def connectionClosed(self, connection: VisitorConnection) -> None:
        """
        A connection is gone, or somebody else's.
        """
        if connection in self.connections:
            self.connections.remove(connection)
            self.admission.connectionClosed()
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

    def _doorFor(self, head: RequestHead, framing: Framing) -> Any:
        """
        @return: the server of a request at a door; C{None} for a path of a published site.
        """
        door = self._doors.find(head.method, path_of(head.target))
        if door is None or self.routes.hasRoute(framing.host):
            return None
        return door.server

    def _errorPage(self, failed: ExchangeFailed, trace: str) -> Any:
        return self.pages(failed, trace or self.nextTrace())

    def _exchangeDone(self, exchange: ServerExchange) -> None:
        access = exchange.context
        if access is not None and self.accessLog is not None:
            access.status = exchange.status or FailureKind.CLIENT_CLOSED.status
            access.octets = exchange.octets
            access.seconds = self.clock.seconds() - access.began
            self.accessLog(access)
