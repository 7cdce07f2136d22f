"""
The public port: a visitor's request finds its tunnel, an agent finds its door.

A request costs two look-ups here, and five fields that say for whom it is passed on; everything else is the join's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from itertools import count
from secrets import token_hex
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tunnelstack.exchange.failed import ExchangeFailed, Kind
from tunnelstack.exchange.join import IGNORED, join
from tunnelstack.exchange.page import Pages, answer, errorPage
from tunnelstack.exchange.server import HTTPServerProtocol, ServerExchange
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.interfaces import IExchangeServer
from tunnelstack.terms import Visitor
from tunnelstack.wire.http1 import Fields, HeadLimits, RequestHead
from tunnelstack.wire.http1_forwarded import NAMES, believed, introduce
from tunnelstack.wire.http1_framing import Framing, without

ABSOLUTE = re.compile(rb"https?://(?:[^/?#@]*@)?([^/?#@]+)(/?[^#]*)\Z", re.IGNORECASE)
REPLACED = NAMES | {b"x-request-id"}
TRACE = re.compile(rb"[0-9A-Za-z._:-]{1,64}\Z")


@define
class Access:
    """
    One line of the access log.

    @ivar status: of the response; C{0} if there was none, C{499} if the visitor went away first.
    @ivar octets: of the response's body.
    @ivar seconds: from the request's head to the end of the response.
    @ivar trace: the request's identifier.
    @ivar failed: why there was no whole response, or C{None}.
    """

    method: str
    host: str
    target: str
    visitor: str
    service: str
    trace: str
    began: float
    status: int = 0
    octets: int = 0
    seconds: float = 0.0
    failed: ExchangeFailed | None = None


class Connection(HTTPServerProtocol):
    """
    A visitor's connection, until it is an agent's.
    """

    house: PublicFactory

    def connectionMade(self) -> None:
        self.house.connections.add(self)
        super().connectionMade()

    def letGo(self, takeOver: Any, head: RequestHead, end: int) -> None:
        self.house.forget(self)
        super().letGo(takeOver, head, end)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.house.forget(self)


@implementer(IExchangeServer)
class Visits:
    """
    Serves the requests of one connection.
    """

    __slots__ = ("_address", "_host", "_house", "_introduction", "_trusted", "_visitor")

    def __init__(self, house: PublicFactory) -> None:
        self._house = house
        self._address = ""
        self._trusted = False
        self._visitor: Visitor | None = None
        self._host = b""
        self._introduction: Fields = []

    def exchangeReceived(self, head: RequestHead, exchange: ServerExchange) -> Any:
        """
        Find the tunnel, and ask there.
        """
        house = self._house
        visitor = self._visitor or self._meet(exchange.transport)
        exchange.trace = trace = self._trace(head)
        host, target = exchange.framing.host, head.target
        if target[0] != 47:
            try:
                head, host = _originForm(head, host)
            except ExchangeFailed as failed:
                return self._fail(exchange, failed)
            target = head.target
        destination = house.routes.find(host, target)
        if house.accessLog is not None:
            self._open(exchange, head, host, destination)
        if destination is None:
            return self._fail(exchange, ExchangeFailed(Kind.UNKNOWN))
        key = destination.key
        tunnel = house.registry.pick(key)
        if tunnel is None:
            known = destination.configured or house.registry.knows(key)
            return self._fail(exchange, ExchangeFailed(Kind.ABSENT if known else Kind.UNKNOWN, service=key))
        if host != self._host or not self._introduction:
            self._host = host
            self._introduction = introduce(self._address.encode(), visitor.scheme.encode(), host)
        fields = [field for field in head.fields if field[0].lower() not in REPLACED]
        fields += self._introduction if not self._trusted else believed(head.fields, self._introduction)
        fields.append((b"X-Request-Id", trace.encode()))
        return join(
            exchange,
            RequestHead(head.method, target, fields),
            lambda receiver: tunnel.exchange(destination.purpose, receiver, visitor),
            pages=house.pages,
            told=self._told,
        )

    def _trace(self, head: RequestHead) -> str:
        """
        The request's identifier: ours, unless a trusted proxy has given it one.
        """
        if self._trusted:
            given = head.field(b"x-request-id")
            if given is not None and TRACE.match(given):
                return given.decode()
        return self._house.nextTrace()

    def _meet(self, transport: Any) -> Visitor:
        """
        Who is it?  Asked with the first request, because a proxy in front may tell only after the connection was made.
        """
        peer = transport.getPeer()
        self._address = getattr(peer, "host", "")
        self._trusted = self._house.trusts(self._address)
        scheme = "https" if ISSLTransport.providedBy(transport) else "http"
        self._visitor = visitor = Visitor(address=peer, scheme=scheme, trace=self._house.nextTrace())
        return visitor

    def _open(self, exchange: ServerExchange, head: RequestHead, host: bytes, destination: Any) -> None:
        exchange.note = Access(
            head.method.decode(), host.decode("latin-1"), head.target.decode(), self._address,
            destination.key if destination is not None else "", exchange.trace, self._house.clock.seconds(),
        )

    def _fail(self, exchange: ServerExchange, failed: ExchangeFailed) -> Any:
        self._told(exchange, failed)
        answer(exchange, self._house.pages, failed, exchange.trace)
        return IGNORED

    def _told(self, exchange: ServerExchange, failed: ExchangeFailed) -> None:
        """
        Somebody may ask why he saw that page.
        """
        if exchange.note is not None:
            exchange.note.failed = failed
        if failed.status >= 500:
            self._house.log.warn(
                "{status} for {method} {host}{target} (request {trace}): {failed}", status=failed.status,
                kind=failed.kind.name, method=exchange.head.method.decode(),
                host=exchange.framing.host.decode("latin-1"), target=exchange.head.target.decode(),
                trace=exchange.trace, visitor=self._address, failed=failed,
            )


class PublicFactory(ServerFactory):
    """
    Builds the server side of visitors' connections.

    @ivar connections: those that are open.
    @ivar mostVisitors: how many may be; more are closed at once.
    @ivar accessLog: called with the L{Access} of each request, or C{None}.
    """

    noisy = False
    log = Logger()

    def __init__(
        self, edge: Any, *, pages: Pages = errorPage, accessLog: Callable[[Access], object] | None = None
    ) -> None:
        """
        @param edge: has C{clock}, C{registry} (C{pick(key)}, C{knows(key)}), C{routes} (a
            L{RouteTable<tunnelstack.edge.route.RouteTable>}), C{doors} (by path), and C{config}
            (an L{EdgeConfig<tunnelstack.control.config.EdgeConfig>}).
        """
        self.clock = edge.clock
        self.registry = edge.registry
        self.pages = pages
        self.accessLog = accessLog
        self.connections: set[Connection] = set()
        self._doors = edge.doors
        self.configure(edge.config, edge.routes)
        self._traces = count(1)
        self._process = token_hex(5)
        self._drained: list[Deferred[None]] = []
        self._full = False

    def configure(self, config: Any, routes: Any) -> None:
        """
        Serve whoever connects from now on by this configuration; routes count for those who are here, too.

        @param config: an L{EdgeConfig<tunnelstack.control.config.EdgeConfig>}.
        """
        limits = config.limits
        self.routes = routes
        self.mostVisitors = limits.visitors
        self._trusted = [ip_network(network, strict=False) for network in config.trustedProxies]
        self._limits = HeadLimits(octets=limits.headOctets, fields=limits.headFields)
        self._timeouts = Timeouts(head=limits.headSeconds, first=limits.firstOctetSeconds, idle=limits.idleSeconds)

    def buildProtocol(self, address: Any) -> Connection | None:
        if len(self.connections) >= self.mostVisitors:
            if not self._full:
                self._full = True
                self.log.warn("{visitors} visitors are here, more are turned away", visitors=self.mostVisitors)
            return None
        connection = Connection(
            Visits(self), clock=self.clock, pages=self._refusal, timeouts=self._timeouts,
            limits=self._limits, doors=self._door, done=self._done if self.accessLog is not None else None,
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
            peer = ip_address(address)
        except ValueError:
            return False
        return any(peer in network for network in self._trusted)

    def forget(self, connection: Connection) -> None:
        """
        A connection is gone, or somebody else's.
        """
        self.connections.discard(connection)
        self._full = False
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


def _originForm(head: RequestHead, host: bytes) -> tuple[RequestHead, bytes]:
    """
    A request whose target is not a path.

    @return: the same with a path, and the host it is for.
    @raise ExchangeFailed: it is for a proxy, or for nobody.
    """
    if head.target == b"*" and head.method == b"OPTIONS":
        return head, host
    if head.method == b"CONNECT":
        raise ExchangeFailed(Kind.UNSUPPORTED, "This server is no proxy.")
    absolute = ABSOLUTE.match(head.target)
    if absolute is None:
        raise ExchangeFailed(Kind.MALFORMED, "The request target is neither a path nor a URL.")
    host, path = absolute.groups()
    fields = [(b"Host", host), *without(head.fields, b"host")]
    return RequestHead(head.method, path if path.startswith(b"/") else b"/" + path, fields, head.version), host
