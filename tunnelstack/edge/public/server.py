"""
The public port: the connections of visitors, and those of agents until a door takes them over.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import nsmallest
from operator import attrgetter
from typing import TYPE_CHECKING, TypedDict
from typing import Protocol as TypingProtocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IHandshakeListener, IReactorTime, ITCPTransport, ITransport
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.control.access_record import (
    CLIENT_CLOSED,
    NOT_DESCRIBED,
    ObservedRequest,
    RequestObserver,
    failureCode,
)
from tunnelstack.control.auth.tokens import IToken
from tunnelstack.control.config.records import EdgeConfig
from tunnelstack.doors import DoorTable
from tunnelstack.edge.listeners import UNKNOWN_LISTENER, EdgeListener
from tunnelstack.edge.public.admission import Admission, configureSocket
from tunnelstack.edge.public.agent_limits import AgentRateLimits
from tunnelstack.edge.public.requests import RequestRouter
from tunnelstack.edge.public.routes import RouteTable
from tunnelstack.edge.public.site import PublicSite, TunnelTable
from tunnelstack.exchange.error_page import ErrorPages, errorPage
from tunnelstack.exchange.errors import ExchangeFailed
from tunnelstack.exchange.moving_timeout import FirstTimeouts
from tunnelstack.exchange.server import ExchangeStep, FindDoor, HTTPServerProtocol
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.interfaces import IExchangeServer, IServerExchange
from tunnelstack.records import TakenOverRequest
from tunnelstack.transport.http2.alpn import ALPN_HTTP2
from tunnelstack.waiters import Waiters
from tunnelstack.wire.http1.framing import Framing
from tunnelstack.wire.http1.head import HeadLimits, RequestHead, ResponseHead
from tunnelstack.wire.http1.message import ReadRequest
from tunnelstack.wire.http2.preface import match_preface

if TYPE_CHECKING:
    from tunnelstack.control.metrics.counts import ExchangeCounts
    from tunnelstack.transport.http2.connection import HTTP2Connection

MAX_OVERSHOOT = 128
"""
Connections that are accepted beyond the configured number.  The listening ports pause when the number is reached, but the
reactor may have accepted more connections in the same turn.
"""


MIN_IDLE_SECONDS = 5.0
"""Seconds for which a connection must have been idle before it makes room for others."""

_idleSince = attrgetter("idleSince")


class ConnectionSettings(TypedDict):
    """
    What the connections of visitors have in common; see
    L{HTTPServerProtocol<tunnelstack.exchange.server.HTTPServerProtocol>}.
    """

    clock: IReactorTime
    pages: ErrorPages
    timeouts: Timeouts
    limits: HeadLimits
    doors: FindDoor | None
    begun: ExchangeStep | None
    done: ExchangeStep | None


class CountedConnection(TypingProtocol):
    """
    A connection of a visitor, by HTTP/1.1 or HTTP/2.
    """

    @property
    def transport(self) -> ITransport: ...

    @property
    def idleSince(self) -> float:
        """
        Since when it is of no use at the moment, in seconds of the clock; infinite while it is in use.
        """

    def timedOut(self) -> None:
        """
        Close it, because others wait for its place.
        """

    def drain(self) -> object:
        """
        Close it after the exchanges that are under way.
        """


@implementer(IHandshakeListener)
class VisitorConnection(HTTPServerProtocol):
    """
    A connection to the public port.  The factory counts it until it is lost or a door takes it over.

    @ivar listener: the listener that accepted it.
    """

    owner: PublicServerFactory
    listener: EdgeListener

    def handshakeCompleted(self) -> None:
        """
        From TLS: the protocol is negotiated.
        """
        if getattr(self.transport, "negotiatedProtocol", None) == ALPN_HTTP2:
            self.owner.useHTTP2(self)

    def connectionMade(self) -> None:
        self.owner.connectionOpened(self)
        super().connectionMade()

    def handOff(self) -> TakenOverRequest:
        self.owner.connectionClosed(self)
        return super().handOff()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.owner.connectionClosed(self)


class PriorKnowledgeConnection(VisitorConnection):
    """
    The same where HTTP/2 is accepted without TLS: the first octets show which protocol the visitor uses.
    """

    _first = b""

    def dataReceived(self, data: bytes) -> None:
        self._first += data
        isHTTP2 = match_preface(self._first)
        if isHTTP2:
            self.owner.useHTTP2(self, self._first)
        elif isHTTP2 is not None:
            self.dataReceived = super().dataReceived       # type: ignore[method-assign]
            self.dataReceived(self._first)


class PublicServerFactory(ServerFactory):
    """
    Builds the protocols of connections to the public port.

    @ivar site: what their requests share.
    @ivar connections: those that are open.
    @ivar onHTTP2: called with each connection that uses HTTP/2 from now on.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        config: EdgeConfig,
        *,
        registry: TunnelTable,
        routes: RouteTable,
        admission: Admission,
        doors: DoorTable,
        recordOf: Callable[[str], IToken | None],
        pages: ErrorPages = errorPage,
        accessLog: RequestObserver | None = None,
        counts: ExchangeCounts | None = None,
    ) -> None:
        """
        @param admission: counts the connections.
        @param doors: the doors of agents; they are found on hosts that no route claims.
        @param recordOf: gives the record of a credential by its identifier.
        @param accessLog: called with the record of each request that has ended.
        @param counts: counts the requests that have ended.
        """
        if counts is not None:
            counts.recordEnded = self._recordEnded
        self.site = PublicSite(
            clock=clock, registry=registry, admission=admission, rateLimits=AgentRateLimits(config.limits, recordOf),
            routes=routes, doors=doors, pages=pages, accessLog=accessLog, counts=counts,
        )
        self.connections: set[CountedConnection] = set()
        self.onHTTP2: Callable[[HTTP2Connection], object] = lambda connection: None
        self._admission = admission
        admission.makeRoom = self.closeIdle
        self._doors = doors
        self._notes = None if counts is None else counts.notes
        self._drained: Waiters[None] = Waiters()
        self._first = FirstTimeouts(clock, config.limits.headSeconds)
        self.configure(config, routes)

    def configure(self, config: EdgeConfig, routes: RouteTable) -> None:
        """
        Use another configuration.  Limits and timeouts apply to new connections, everything else to open ones as well.
        """
        limits, counts = config.limits, self.site.counts
        self._streams = limits.http2Streams
        self._settings: ConnectionSettings = {
            "clock": self.site.clock, "pages": self._errorPage, "doors": self._doorFor,
            "begun": None if counts is None else counts.exchangeBegun,
            "done": self._recordEnded if counts is None else counts.exchangeEnded,
            "limits": HeadLimits(octets=limits.headOctets, fields=limits.headFields),
            "timeouts": Timeouts(head=limits.headSeconds, first=limits.firstOctetSeconds, idle=limits.idleSeconds),
        }
        self._redirectSettings: ConnectionSettings = {**self._settings, "doors": None}
        self._firstHeads: dict[bytes, ReadRequest] = {}       # such as those limits allow
        if limits.headSeconds != self._first.seconds:
            self._first.stop()
            self._first = FirstTimeouts(self.site.clock, limits.headSeconds)
        self.site.configure(config, routes)

    def buildProtocol(self, address: IAddress | None) -> VisitorConnection | None:
        return self.buildConnection(address, UNKNOWN_LISTENER)

    def buildConnection(self, address: IAddress | None, listener: EdgeListener) -> VisitorConnection | None:
        """
        @param listener: the listener that accepted the connection.
        @return: C{None} to close the connection at once.
        """
        admission = self._admission
        if admission.connectionCount >= admission.maxConnections + MAX_OVERSHOOT:
            return None
        if not (listener.proxied or admission.admit(getattr(address, "host", ""))):
            return None
        kind = PriorKnowledgeConnection if listener.h2c else VisitorConnection
        connection = kind(
            RequestRouter(self.site, listener), first=self._first, firstHeads=self._firstHeads, notes=self._notes,
            **(self._redirectSettings if listener.redirect else self._settings),
        )
        connection.factory = self
        connection.owner = self
        connection.listener = listener
        return connection

    def useHTTP2(self, visitor: VisitorConnection, octets: bytes = b"") -> None:
        """
        Serve a connection by HTTP/2 from now on.

        @param visitor: its present protocol, to which nothing was delivered but C{octets}.
        """
        from tunnelstack.exchange.http2_server import HTTP2ServerConnection  # loads h2, which is slow

        listener = visitor.listener
        connection = HTTP2ServerConnection(
            RequestRouter(self.site, listener), streams=self._streams,
            **(self._redirectSettings if listener.redirect else self._settings),
        )
        self.connections.remove(visitor)
        self.connections.add(connection)
        connection.protocol.whenLost().addCallback(lambda reason: self.connectionClosed(connection))
        transport = visitor.leave()
        setattr(transport, "wrappedProtocol" if hasattr(transport, "wrappedProtocol") else "protocol", connection.protocol)
        connection.protocol.makeConnection(transport)
        self.onHTTP2(connection.protocol)
        if octets:
            connection.protocol.dataReceived(octets)

    def connectionOpened(self, connection: VisitorConnection) -> None:
        """
        Count a connection.
        """
        self.connections.add(connection)
        transport = connection.transport
        configureSocket(transport)
        descriptor = getattr(transport, "fileno", None)
        self._admission.connectionOpened(descriptor() if descriptor is not None else -1)

    def closeIdle(self) -> None:
        """
        Close connections that have been idle for longest, a hundredth of all, because others wait for their places.
        """
        before = self.site.clock.seconds() - MIN_IDLE_SECONDS
        idle = [connection for connection in self.connections if connection.idleSince <= before]
        for connection in nsmallest(len(self.connections) // 100 + 1, idle, key=_idleSince):
            connection.timedOut()

    def connectionClosed(self, connection: CountedConnection) -> None:
        """
        Count a connection no longer: it is lost, or a door has taken it over.
        """
        if connection in self.connections:
            self.connections.remove(connection)
            self._admission.connectionClosed()
        if not self.connections and self._drained:
            self._drained.fire(None)

    def drain(self) -> Deferred[None]:
        """
        Let the exchanges that are under way finish, and begin no others.

        @return: fires when no connection is left.
        """
        self._first.stop()
        for connection in list(self.connections):
            connection.drain()
        if not self.connections:
            return succeed(None)
        return self._drained.wait()

    def abort(self) -> None:
        """
        Close every connection at once.
        """
        self._first.stop()
        for connection in list(self.connections):
            ITCPTransport(connection.transport).abortConnection()

    def _doorFor(self, head: RequestHead, framing: Framing) -> IExchangeServer | None:
        """
        @return: the server of a request at a door; C{None} for other requests.
        """
        doors, path = self._doors, head.target.partition(b"?")[0]      # as path_of() does
        if path not in doors.paths and not path.startswith(doors.prefixes):      # of most requests, without a call
            return None
        door = doors.find(head.method, path)
        if door is None or self.site.routes.hasRoute(framing.host):
            return None
        server: IExchangeServer = door.server
        return server

    def _errorPage(self, failed: ExchangeFailed, trace: str) -> tuple[ResponseHead, bytes]:
        return self.site.pages(failed, trace or self.site.nextTrace())

    def _recordEnded(self, exchange: IServerExchange, now: float) -> None:
        request = exchange.context
        if type(request) is not ObservedRequest:
            return
        exchange.context = None               # what happens from now on is not recorded
        site, status, octets = self.site, exchange.status or CLIENT_CLOSED, exchange.octets
        request.ended = now
        request.seconds = seconds = now - request.began
        if request.answeredAtOnce:
            request.first = seconds
        if site.counts is not None:
            failure = "" if request.failed is None else failureCode(request.failed)
            site.counts.add(status, octets, seconds, request.first, failure, request.service)
        if request.sample is not None:
            request.sample.ended(status, octets, seconds)
        if site.accessLog is not None and request.description is not NOT_DESCRIBED:
            request.trace, request.status, request.octets = exchange.trace, status, octets
            site.accessLog(request)
