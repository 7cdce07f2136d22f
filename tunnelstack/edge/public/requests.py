"""
One connection's requests: who asks, whom it is for, whether he may, and on with it.

A request costs two look-ups here, and five fields that say for whom it is passed on; everything else is the join's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import define
from twisted.internet.interfaces import ISSLTransport
from zope.interface import implementer

from tunnelstack.edge.listeners import EdgeListener
from tunnelstack.edge.public.access_policy import AccessPolicy, PendingRequest, rateLimitExceeded
from tunnelstack.edge.public.bandwidth import MeteredExchange, backlogExceeded
from tunnelstack.edge.public.routes import Destination, normalizedHost
from tunnelstack.exchange.error_page import respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.forward import NULL_RECEIVER, forward
from tunnelstack.interfaces import IExchangeServer, IServerExchange
from tunnelstack.records import Visitor
from tunnelstack.transport.peers import peerOf
from tunnelstack.wire.addresses import address_text
from tunnelstack.wire.http1.forwarded import FORWARDING_NAMES, SECURE, Hop, forwarding_fields, read_hops
from tunnelstack.wire.http1.framing import without
from tunnelstack.wire.http1.head import BadMessage, Fields, RequestHead, ResponseHead
from tunnelstack.wire.http1.target import percent_encoded, split_absolute
from tunnelstack.wire.printable_text import printable

if TYPE_CHECKING:
    from tunnelstack.edge.public.server import PublicServerFactory

REPLACED = FORWARDING_NAMES | {b"x-request-id"}
REPLACED_WITH_NAME = REPLACED | {b"authorization"}
TRACE = re.compile(rb"[0-9A-Za-z._:-]{1,64}\Z")
HTTPS = 443
CONTRADICTION = "The request came with Forwarded and X-Forwarded fields that contradict each other."


@define
class EdgeAccessRecord:
    """
    One line of the access log.

    @ivar visitor: its IP address; C{""} if that is not known.
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


@implementer(IExchangeServer)
class RequestRouter:
    """
    Serves the requests of one connection.
    """

    __slots__ = ("_address", "_forwardedFields", "_host", "_listener", "_rateLimited", "_site", "_trusted", "_visitor")

    def __init__(self, site: PublicServerFactory, listener: EdgeListener) -> None:
        """
        @param listener: where the connection came in.
        """
        self._site = site
        self._listener = listener
        self._address = ""
        self._trusted = False
        self._rateLimited = False
        self._visitor: Visitor | None = None
        self._host = b""
        self._forwardedFields: Fields = []

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> Any:
        """
        Find out where it goes, and whether it may.
        """
        site = self._site
        visitor = self._visitor or self._identifyVisitor(exchange.transport)
        exchange.trace = self._trace(head)
        host = exchange.framing.host
        hops: Sequence[Hop] = ()
        try:
            if self._trusted:
                hops = _hops(head, site)
            if head.target[0] != 47:
                head, host = _originForm(head, host)
        except ExchangeFailed as failed:
            return self._fail(exchange, failed)
        address = hops[0].address if hops else self._address
        destination = site.routes.find(host, head.target)
        if site.accessLog is not None:
            self._startAccessRecord(exchange, head, host, destination, address)
        if self._rateLimited:
            return self._fail(exchange, ExchangeFailed(FailureKind.RATE_LIMITED, retryAfter=1))
        policy = None if destination is None else destination.policy
        if (self._listener.redirect or (policy is not None and policy.redirect)) and not _isSecure(visitor, hops):
            return self._redirect(exchange, host, head.target)
        if destination is None:
            return self._fail(exchange, ExchangeFailed(FailureKind.UNKNOWN))
        if policy is None:
            return self._forward(exchange, head, host, destination, hops)
        decision = policy.check(head, address, site.clock.seconds())
        if decision is None:
            return self._forward(exchange, head, host, destination, hops)
        if isinstance(decision, ExchangeFailed):
            return self._fail(exchange, decision)
        return PendingRequest(
            exchange, decision, lambda: self._forward(exchange, head, host, destination, hops),
            lambda failed: self._fail(exchange, failed),
        )

    def _forward(
        self, exchange: IServerExchange, head: RequestHead, host: bytes, destination: Destination, hops: Sequence[Hop]
    ) -> Any:
        """
        Ask the agent.
        """
        site, key, policy = self._site, destination.key, destination.policy
        tunnel = site.registry.pick(key)
        if tunnel is None:
            known = destination.configured or site.registry.isKnown(key)
            return self._fail(exchange, ExchangeFailed(FailureKind.ABSENT if known else FailureKind.UNKNOWN, service=key))
        rateLimit = site.rateLimits.find(tunnel.principal)
        buckets = policy.buckets if policy is not None else ()
        if rateLimit is not None:
            late = rateLimitExceeded(rateLimit.rate, site.clock.seconds())
            if late is not None:
                return self._fail(exchange, late)
            buckets += rateLimit.buckets
        late = backlogExceeded(buckets, site.clock.seconds()) if buckets else None
        if late is not None:
            return self._fail(exchange, late)
        head = RequestHead(head.method, head.target, self._fields(exchange, head, host, policy, hops), framing=head.framing)
        visitor = self._visitor

        def open(receiver: Any) -> Any:
            return tunnel.exchange(destination.purpose, receiver, visitor)

        if not buckets:
            return forward(exchange, head, open, pages=site.pages, onFailure=self._reportFailure)
        metered = MeteredExchange(exchange, buckets, site.clock)
        receiver = forward(
            metered,
            head,
            open,
            pages=site.pages,
            onFailure=lambda _, failed: self._reportFailure(exchange, failed),
        )
        return metered.meter(receiver)

    def _fields(
        self, exchange: IServerExchange, head: RequestHead, host: bytes, policy: AccessPolicy | None, hops: Sequence[Hop]
    ) -> Fields:
        """
        The fields for the agent: those of the request, and for whom it is passed on instead of what the request says of that.
        """
        if host != self._host or not self._forwardedFields:
            assert self._visitor is not None
            self._host = host
            self._forwardedFields = forwarding_fields(self._address.encode(), self._visitor.scheme.encode(), host)
        replaced = REPLACED if policy is None or not policy.authenticates else REPLACED_WITH_NAME
        fields = [field for field in head.fields if field[0].lower() not in replaced]
        fields += self._forwardedFields if not hops else self._introduced(host, hops)
        fields.append((b"X-Request-Id", exchange.trace.encode()))
        return fields

    def _introduced(self, host: bytes, hops: Sequence[Hop]) -> Fields:
        """
        For whom a trusted proxy passed the request on.
        """
        assert self._visitor is not None
        return forwarding_fields(self._address.encode(), self._visitor.scheme.encode(), host, hops)

    def _redirect(self, exchange: IServerExchange, host: bytes, target: bytes) -> Any:
        """
        The same, please, but secure.
        """
        name = normalizedHost(host)
        port = "" if self._site.securePort == HTTPS else f":{self._site.securePort}"
        secure = f"https://{f'[{name}]' if ':' in name else name}{port}".encode("latin-1")
        location = secure + (percent_encoded(target) if target != b"*" else b"/")
        exchange.sendHead(
            ResponseHead(308, b"Permanent Redirect", [(b"Location", location), (b"Content-Length", b"0")])
        )
        exchange.end()
        return NULL_RECEIVER

    def _trace(self, head: RequestHead) -> str:
        """
        The request's identifier: ours, unless a trusted proxy has given it one.
        """
        if self._trusted:
            given = head.field(b"x-request-id")
            if given is not None and TRACE.match(given):
                return given.decode()
        return self._site.nextTrace()

    def _identifyVisitor(self, transport: Any) -> Visitor:
        """
        Who is it?  Asked with the first request, because a proxy in front may tell only after the connection was made.
        """
        peer = peerOf(transport)
        self._address = address_text(getattr(peer, "host", ""))
        self._trusted = self._site.isTrusted(self._address)
        self._rateLimited = self._listener.proxied and not self._site.admission.admit(self._address)
        scheme = "https" if ISSLTransport.providedBy(transport) else "http"
        self._visitor = visitor = Visitor(address=peer, scheme=scheme, trace=self._site.nextTrace())
        return visitor

    def _startAccessRecord(
        self, exchange: IServerExchange, head: RequestHead, host: bytes, destination: Any, address: str
    ) -> None:
        exchange.context = EdgeAccessRecord(
            head.method.decode(), host.decode("latin-1"), percent_encoded(head.target).decode(), address,
            destination.key if destination is not None else "", exchange.trace, self._site.clock.seconds(),
        )

    def _fail(self, exchange: IServerExchange, failed: ExchangeFailed) -> Any:
        self._reportFailure(exchange, failed)
        respondWithPage(exchange, self._site.pages, failed, exchange.trace)
        return NULL_RECEIVER

    def _reportFailure(self, exchange: IServerExchange, failed: ExchangeFailed) -> None:
        """
        Somebody may ask why he saw that page.
        """
        if exchange.context is not None:
            exchange.context.failed = failed
        if failed.status >= 500:
            self._site.log.warn(
                "{status} for {method} {host}{target} (request {trace}): {failed}", status=failed.status,
                kind=failed.kind.name, method=exchange.head.method.decode(),
                host=printable(exchange.framing.host.decode("latin-1")), target=percent_encoded(exchange.head.target).decode(),
                trace=exchange.trace, visitor=self._address, failed=failed,
            )


def _hops(head: RequestHead, site: PublicServerFactory) -> Sequence[Hop]:
    """
    How a request came to the trusted proxy that sent it, from the visitor on.

    @raise ExchangeFailed: its fields contradict each other.
    """
    try:
        return read_hops(head.fields, site.forwardedBy, site.isTrusted)
    except BadMessage:
        raise ExchangeFailed(FailureKind.MALFORMED, CONTRADICTION) from None


def _isSecure(visitor: Visitor, hops: Sequence[Hop]) -> bool:
    """
    Whether nobody on the way could read the request, as far as a trusted proxy in front says.
    """
    return visitor.scheme == "https" or (bool(hops) and hops[0].scheme in SECURE)


def _originForm(head: RequestHead, host: bytes) -> tuple[RequestHead, bytes]:
    """
    A request whose target is not a path.

    @return: the same with a path, and the host it is for.
    @raise ExchangeFailed: it is for a proxy, or for nobody.
    """
    if head.target == b"*" and head.method == b"OPTIONS":
        return head, host
    if head.method == b"CONNECT":
        raise ExchangeFailed(FailureKind.UNSUPPORTED, "This server is no proxy.")
    absolute = split_absolute(head.target)
    if absolute is None:
        raise ExchangeFailed(FailureKind.MALFORMED, "The request target is neither a path nor a URL.")
    host, target = absolute
    fields = [(b"Host", host), *without(head.fields, b"host")]
    return RequestHead(head.method, target, fields, head.version, head.framing), host
