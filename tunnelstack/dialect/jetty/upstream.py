"""
What the agent serves requests with: local web servers, among which the beginning of the path, or the edge, chooses; with the
headers that they expect, and with redirects to the public host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from attrs import define, frozen
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from zope.interface import implementer

from tunnelstack.dialect.jetty.failure_page import failurePage
from tunnelstack.dialect.jetty.registration import UpstreamRefused
from tunnelstack.dialect.jetty.settings import AgentSettings, parseRoute, parseTarget
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.forward import forward
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.handler.http import LocalSite
from tunnelstack.handler.target_allowlist import TargetAllowlist
from tunnelstack.interfaces import (
    IExchange,
    IExchangeReceiver,
    IExchangeServer,
    IServerExchange,
    IWholeResponseReceiver,
)
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.secure import SecureEndpoint
from tunnelstack.transport.tls import unverifiedContext
from tunnelstack.wire.http1.framing import outgoing_framing, without
from tunnelstack.wire.http1.head import RequestHead, ResponseHead
from tunnelstack.wire.http1.target import path_of
from tunnelstack.wire.records.jetty_bodies import HTML_TYPES, SCRIPT_TYPES, public_body
from tunnelstack.wire.records.jetty_bridge import Heartbeat
from tunnelstack.wire.records.jetty_headers import (
    lookup_hosts,
    public_headers,
    request_to_upstream,
    response_from_upstream,
)

MOST_SERVERS = 64
"""Local servers to which connections are kept."""

MARKS = frozenset((b"transfer-encoding", b"upgrade", b"te", b"trailer"))
"""Fields that say how a body or a connection goes on; connections write them, so they are not dropped here."""

RESPONSE_SECONDS = 60.0
"""Seconds to the head of a local server's response."""

HTTPS = 443


@frozen
class Rewriting:
    """
    What is changed in responses.

    @ivar hosts: names of the local servers.
    @ivar bodyOctets: of the longest body that is changed; 0 changes none.
    """

    location: bool
    hosts: frozenset[str]
    bodyOctets: int


@define
class Counts:
    """
    What was served since the last heartbeat.
    """

    requests: int = 0
    octetsIn: int = 0
    octetsOut: int = 0

    def take(self) -> Heartbeat:
        """
        @return: the counts, which begin at 0 again.
        """
        taken = Heartbeat(requests=self.requests, bytes_in=self.octetsIn, bytes_out=self.octetsOut)
        self.requests = self.octetsIn = self.octetsOut = 0
        return taken


class AllowedTargets:
    """
    The targets that an edge may name.
    """

    def __init__(self, targets: Iterable[tuple[str, int]], hosts: Iterable[str]) -> None:
        """
        @param targets: hosts and ports.
        @param hosts: hosts all of whose ports are allowed, and C{*.SUFFIX} for all hosts below one.
        """
        whole = [f"{each}:*" for each in hosts if not each.startswith("*.")]
        self._targets = TargetAllowlist([*(f"{host}:{port}" for host, port in targets), *whole])
        self._suffixes = tuple(each.removeprefix("*") for each in hosts if each.startswith("*."))

    def has(self, host: str, port: int) -> bool:
        return self._targets.has(host, port) or host.lower().endswith(self._suffixes)


class LocalServers:
    """
    All local web servers of one tunnel.

    @ivar counts: of what they serve.
    @ivar publicHost: of requests that name none; C{""} until it is known.
    """

    def __init__(
        self, clock: IReactorTime, settings: AgentSettings, ended: Callable[[ServedExchange], object]
    ) -> None:
        """
        @param ended: called with each request that is over.
        @raise ConfigurationError: the target cannot be used.
        """
        self.clock = clock
        self.counts = Counts()
        self.publicHost = ""
        self.ended = ended
        self._connectSeconds = settings.connectSeconds
        self._target = parseTarget(settings.target)
        self._routes = [parseRoute(each) for each in settings.routes]
        routed = [(host, port) for _, host, port in self._routes]
        self._allowed = AllowedTargets([self._target, *routed], settings.allowHosts)
        names = [self._target[0], *settings.rewriteHosts]
        self.rewriting = Rewriting(
            settings.rewriteLocation, lookup_hosts(names), settings.rewriteBodyOctets if settings.rewriteBody else 0
        )
        self._servers: dict[tuple[str, int], LocalServer] = {}

    def serverFor(self, target: tuple[str, int] | None) -> IExchangeServer:
        """
        As C{serverFor} of L{Upstream<tunnelstack.dialect.jetty.registration.Upstream>}.

        @raise UpstreamRefused: the target is not allowed.
        """
        if target is None:
            return RoutedServer(self) if self._routes else self.find(self._target)
        host, port = target
        if not self._allowed.has(host, port):
            raise UpstreamRefused(f"the target {host}:{port} is not allowed by this agent")
        return self.find(target)

    def choose(self, path: str) -> LocalServer:
        """
        @return: the server of the first route that a path begins with; else the configured target.
        """
        found = ((host, port) for prefix, host, port in self._routes if path.startswith(prefix))
        return self.find(next(found, self._target))

    def find(self, target: tuple[str, int]) -> LocalServer:
        """
        @return: the server of a target that is allowed.
        """
        server = self._servers.pop(target, None) or LocalServer(self, *target, self._connectSeconds)
        self._servers[target] = server
        if len(self._servers) > MOST_SERVERS:
            self._servers.pop(next(iter(self._servers))).pool.drain()
        return server

    def endpoint(self) -> IStreamClientEndpoint:
        """
        @return: an endpoint to the configured target, for TCP.
        """
        return hostEndpoint(self.clock, *self._target)

    def close(self) -> None:
        """
        Close the connections that are not in use, and the others after their exchanges.
        """
        for server in self._servers.values():
            server.pool.drain()
        self._servers.clear()


@implementer(IExchangeServer)
class RoutedServer:
    """
    Chooses a local server by the path.
    """

    def __init__(self, servers: LocalServers) -> None:
        self._servers = servers

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        server = self._servers.choose(path_of(head.target).decode("latin-1"))
        return server.exchangeReceived(head, exchange)


@implementer(IExchangeServer)
class LocalServer:
    """
    One local web server.

    @ivar pool: its connections.
    @ivar endpoint: connects to it.
    @ivar authority: its host and port, as C{Host} has them.
    """

    def __init__(self, servers: LocalServers, host: str, port: int, connectSeconds: float) -> None:
        self._servers = servers
        self._host = host
        self._port = port
        self._site = LocalSite(f"{host}:{port}")
        self.authority = host if port in (80, HTTPS) else f"{host}:{port}"
        endpoint = hostEndpoint(servers.clock, host, port)
        if port == HTTPS:
            endpoint = SecureEndpoint(servers.clock, host, endpoint, unverifiedContext(host))
        self.endpoint: IStreamClientEndpoint = endpoint
        timeouts = Timeouts(connect=connectSeconds, first=RESPONSE_SECONDS)
        self.pool = ExchangePool(self.endpoint, clock=servers.clock, timeouts=timeouts, explain=self._site.explain)

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        served = ServedExchange(self._servers, head, exchange)
        public = publicHostOf(head) or self._servers.publicHost
        open: Callable[[IWholeResponseReceiver], IExchange] = partial(self._open, served, public)
        body = forward(
            exchange, self._site.prepareRequest(self._toServer(head, public), exchange), open, pages=localFailurePage,
            onFailure=partial(self._site.failed, exchange),
        )
        return CountedRequest(body, served)

    def _toServer(self, head: RequestHead, public: str) -> RequestHead:
        keep = not self._servers.rewriting.bodyOctets
        marks = [field for field in head.fields if field[0].lower() in MARKS]
        fields = request_to_upstream(tuple(head.fields), self._host, self._port, public, keep_coding=keep)
        return RequestHead(head.method, head.target, [*fields, *marks], head.version, head.framing)

    def _open(self, served: ServedExchange, public: str, receiver: IWholeResponseReceiver) -> IExchange:
        return self.pool.exchange(LocalResponse(receiver, served, self._servers.rewriting, self._host, public))


class ServedExchange:
    """
    One request, until it is over.  What is counted of it is also counted for the next heartbeat.

    @ivar head: of the request, as the edge has sent it.
    @ivar octetsIn: of the body, and of the fields with 4 for each.
    @ivar octetsOut: of the response's body.
    @ivar seconds: that it took; C{0.0} until it is over.
    """

    def __init__(self, servers: LocalServers, head: RequestHead, exchange: IServerExchange) -> None:
        self.head = head
        self.exchange = exchange
        self.octetsIn = self.octetsOut = 0
        self.seconds = 0.0
        self._servers = servers
        self._began = servers.clock.seconds()
        self._isOver = False
        servers.counts.requests += 1
        self.received(sum(len(name) + len(value) + 4 for name, value in head.fields))

    def received(self, octets: int) -> None:
        """
        Count a part of the request.  What comes after the response is not counted: nobody reads it.
        """
        if not self._isOver:
            self.octetsIn += octets
            self._servers.counts.octetsIn += octets

    def sent(self, octets: int) -> None:
        """
        Count a part of the response.
        """
        self.octetsOut += octets
        self._servers.counts.octetsOut += octets

    def over(self) -> None:
        """
        Report the end, once.
        """
        if not self._isOver:
            self._isOver = True
            self.seconds = self._servers.clock.seconds() - self._began
            self._servers.ended(self)


@implementer(IExchangeReceiver)
class CountedRequest:
    """
    The body of a request, on its way to the local server.
    """

    def __init__(self, receiver: IExchangeReceiver, served: ServedExchange) -> None:
        self._receiver = receiver
        self._served = served
        self.ended = receiver.ended

    def headReceived(self, head: object) -> None:
        """
        Do nothing: the head was forwarded.
        """

    informational = headReceived

    def bodyReceived(self, octets: bytes) -> None:
        self._served.received(len(octets))
        self._receiver.bodyReceived(octets)

    def failed(self, reason: ExchangeFailed) -> None:
        self._receiver.failed(reason)
        self._served.over()


@implementer(IWholeResponseReceiver)
class LocalResponse:
    """
    A response of a local server, on its way to the edge.
    """

    def __init__(
        self, receiver: IWholeResponseReceiver, served: ServedExchange, rewriting: Rewriting, host: str, public: str
    ) -> None:
        """
        @param host: of the local server.
        @param public: the public host; C{""} if it is not known.
        """
        self._receiver = receiver
        self._served = served
        self._rewriting = rewriting
        self._host = host
        self._public = public
        self._held: list[bytes] | None = None       # a body that is rewritten once it is complete
        self._heldOctets = 0
        self._head: ResponseHead
        self.informational = receiver.informational

    def headReceived(self, head: ResponseHead) -> None:
        if self._isRewritten(head):
            self._head, self._held = head, []
        else:
            self._receiver.headReceived(self._fromServer(head))

    def responseReceived(self, head: ResponseHead, octets: bytes) -> None:
        self._served.sent(len(octets))
        if self._isRewritten(head):
            self._respond(head, octets)
        else:
            self._receiver.responseReceived(self._fromServer(head), octets)
        self._served.over()

    def bodyReceived(self, octets: bytes) -> None:
        self._served.sent(len(octets))
        if self._held is None:
            self._receiver.bodyReceived(octets)
            return
        self._held.append(octets)
        self._heldOctets += len(octets)
        if self._heldOctets > self._rewriting.bodyOctets:
            self._release()

    def ended(self, trailers: Iterable[tuple[bytes, bytes]]) -> None:
        if self._held is not None and not tuple(trailers):
            self._respond(self._head, b"".join(self._held))
        else:
            self._release()
            self._receiver.ended(trailers)
        self._served.over()

    def failed(self, reason: ExchangeFailed) -> None:
        self._held = None
        self._receiver.failed(reason)
        self._served.over()

    def _release(self) -> None:
        """
        The body is not rewritten after all.
        """
        held, self._held = self._held, None
        if held is not None:
            self._receiver.headReceived(self._fromServer(self._head))
            for each in held:
                self._receiver.bodyReceived(each)

    def _respond(self, head: ResponseHead, body: bytes) -> None:
        changed = public_body(_kindOf(head), body, self._rewriting.hosts, self._public)
        fields = [*without(self._fromServer(head).fields, b"content-length", b"transfer-encoding", b"etag", b"content-md5")]
        fields.append((b"Content-Length", b"%d" % len(changed)))
        self._receiver.responseReceived(ResponseHead(head.status, head.reason, fields), changed)

    def _isRewritten(self, head: ResponseHead) -> bool:
        if not (self._rewriting.bodyOctets and self._public) or head.status in (204, 206, 304) or head.status < 200:
            return False
        coding = head.field(b"content-encoding")
        if coding is not None and coding.strip().lower() != b"identity":
            return False
        body = outgoing_framing(head).body
        return body != 0 and body <= self._rewriting.bodyOctets and _kindOf(head) in HTML_TYPES | SCRIPT_TYPES

    def _fromServer(self, head: ResponseHead) -> ResponseHead:
        marks = [field for field in head.fields if field[0].lower() in MARKS]
        fields = response_from_upstream(tuple(head.fields), keep_body=True)
        if self._rewriting.location and self._public:
            fields = public_headers(fields, self._rewriting.hosts, self._public, self._host)
        return ResponseHead(head.status, head.reason, [*fields, *marks], head.version, head.framing)


def localFailurePage(failed: ExchangeFailed, trace: str) -> tuple[ResponseHead, bytes]:
    """
    As L{ErrorPages<tunnelstack.exchange.error_page.ErrorPages>}: a text, with the status of the public agent.
    """
    if failed.kind is FailureKind.UNREACHABLE:
        failed = ExchangeFailed(failed.kind, failed.sentence, status=502)
    return failurePage(failed, trace)


def _kindOf(head: ResponseHead) -> str:
    value = head.field(b"content-type") or b""
    return value.partition(b";")[0].strip().lower().decode("latin-1")


def publicHostOf(head: RequestHead) -> str:
    """
    @return: the host of a request, without its port if that is implied; C{""} if it names none.
    """
    return (head.field(b"host") or b"").decode("latin-1").removesuffix(":443").removesuffix(":80")
