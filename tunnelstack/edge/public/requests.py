"""
The requests of one connection: each is routed, checked against the policy of its route, and forwarded to an agent.

A request costs two look-ups here, and the header fields that describe its visitor; L{tunnelstack.exchange.forward} does the
rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from itertools import product
from typing import TYPE_CHECKING

from attrs import evolve
from twisted.internet.interfaces import ISSLTransport, ITransport
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.control.access_record import ObservedRequest, RequestDescription, visibleTarget
from tunnelstack.control.request_times import NEVER
from tunnelstack.edge.listeners import EdgeListener
from tunnelstack.edge.public.bandwidth import MeteredExchange, backlogExceeded
from tunnelstack.edge.public.gaps import RECENT_SECONDS, acceptsOnlyEvents
from tunnelstack.edge.public.pending_request import PendingRequest
from tunnelstack.edge.public.rate import Bucket, rateLimitExceeded
from tunnelstack.edge.public.routes import Destination, normalizedHost
from tunnelstack.edge.public.site import PublicSite
from tunnelstack.exchange.bounds import OWN_OCTETS
from tunnelstack.exchange.error_page import respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.forward import NULL_RECEIVER, OpenExchange, forward
from tunnelstack.interfaces import (
    IExchange,
    IExchangeReceiver,
    IExchangeServer,
    IServerExchange,
    ITunnel,
    IWholeResponseReceiver,
)
from tunnelstack.records import Visitor
from tunnelstack.transport.peers import canonical
from tunnelstack.wire.addresses import address_text
from tunnelstack.wire.http1 import cdn_loop
from tunnelstack.wire.http1.forwarded import FORWARDING_NAMES, SECURE, Hop, forwarding_fields, read_hops
from tunnelstack.wire.http1.framing import HOST, without
from tunnelstack.wire.http1.head import BadMessage, Fields, RequestHead, ResponseHead, request_prefix, values
from tunnelstack.wire.http1.target import percent_encoded, split_absolute
from tunnelstack.wire.printable_text import printable

if TYPE_CHECKING:
    from tunnelstack.edge.public.access_policy import AccessPolicy

LOOP = b"cdn-loop"
REQUEST_ID = b"X-Request-Id"

LONGEST_NAME = 253
"""Octets of the longest name in the DNS."""

REMEMBERED = 1024
"""Visitors with their hosts whose forwarding fields are remembered."""

MAX_HOPS = 8
"""Edges that a request may pass, this one included."""

WRITTEN = FORWARDING_NAMES | {b"x-request-id", LOOP}
"""Fields of a request that the edge writes."""

FRAMING = frozenset((
    b"content-length", b"transfer-encoding", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"http2-settings",
))  # fmt: skip
"""Fields that connections write."""


def underscoreTwins(names: Iterable[bytes]) -> frozenset[bytes]:
    """
    @return: the names that many programs (those with a CGI environment) cannot distinguish from these.
    """
    spelt = [product(*([b"-", b"_"] if octet == HYPHEN else [bytes([octet])] for octet in name)) for name in names]
    return frozenset(b"".join(octets) for each in spelt for octets in each) - frozenset(names)


HYPHEN = ord("-")

REPLACED = WRITTEN | underscoreTwins(WRITTEN | FRAMING)
"""Fields of a request that do not go to the agent as they came."""

TRACE = re.compile(rb"[0-9A-Za-z._:-]{1,64}\Z")
"""Identifiers that are accepted from trusted proxies: they appear in logs and header fields."""

HTTPS = 443
SLASH = 47
QUERY = 63                                # a search for an octet is cheaper than one for octets
CONTRADICTION = "The Forwarded and X-Forwarded fields of the request contradict each other."
NOT_A_PROXY = "This server is not a proxy."
TOO_MANY_PROXIES = "The request has passed too many proxies: its forwarding fields are too long."

MAX_OWN_OCTETS = OWN_OCTETS - 1024
"""Octets of the fields that the edge adds, besides the identifier of the request and what a connection adds."""

BAD_TARGET = "The request target is neither a path nor a URL."


@implementer(IExchangeServer)
class RequestRouter:
    """
    Serves the requests of one connection.
    """

    log = Logger()

    __slots__ = (
        "_address", "_described", "_destination", "_forwardedFields", "_host", "_last", "_listener", "_rateLimited", "_site",
        "_trusted", "_visitor",
    )  # fmt: skip

    def __init__(self, site: PublicSite, listener: EdgeListener) -> None:
        """
        @param listener: the listener that accepted the connection.
        """
        self._site = site
        self._listener = listener
        self._address = ""                    # the peer's
        self._trusted = False                 # the peer is a trusted proxy
        self._rateLimited = False             # too many connections came from the address
        self._visitor: Visitor | None = None
        self._host = b""                      # the host and the destination that C{_forwardedFields} are for
        self._destination: Destination | None = None
        self._forwardedFields: Fields = []
        # The head of the last request, for what it was, and what the agent was sent for it.
        self._last: tuple[RequestHead, Destination, RequestHead] | None = None
        self._described: tuple[RequestHead, Destination | None, RequestDescription] | None = None    # the same for the log

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        site = self._site
        visitor = self._visitor or self._identifyVisitor(exchange.transport)
        exchange.trace = self._trace(head) if self._trusted else site.nextTrace()
        host = exchange.framing.host
        hops: Sequence[Hop] = ()
        try:
            if self._trusted:
                hops = _hops(head, site)
            if head.target[0] != SLASH:
                head, host = _originForm(head, host)
        except ExchangeFailed as failed:
            return self._fail(exchange, failed)
        address = hops[0].address if hops else self._address
        destination = site.routes.find(host, head.target)
        counts = site.counts
        if counts is not None and counts.services is None and site.accessLog is None and not site.samples.enabled:
            exchange.context = site.clock.seconds()
        elif counts is not None or site.accessLog is not None or site.samples.enabled:
            exchange.context = request = ObservedRequest()
            request.now = now = site.clock.seconds
            request.began = now()
            if destination is not None:
                request.service = destination.key
                if site.samples.enabled:
                    site.samples.begin(request, head, destination.key, exchange.trace)
            if site.accessLog is not None:
                last = self._described
                if last is not None and last[0] is head and last[1] is destination:
                    request.description = last[2]
                else:
                    request.description = self._describe(head, host, address, destination)
                request.routed = request.opened = request.whole = NEVER      # all are read, and defaults are slow to read
                request.failed = request.span = None
                if site.tracer is not None:
                    request.span = site.tracer.begin(head.fields, self._trusted)
        if self._rateLimited:
            return self._fail(exchange, ExchangeFailed(FailureKind.RATE_LIMITED, retryAfter=1))
        policy = None if destination is None else destination.policy
        if (self._listener.redirect or (policy is not None and policy.redirect)) and not _isSecure(visitor, hops):
            return self._redirect(exchange, host, head.target)
        if destination is None:
            if site.index is not None and site.index.serves(head, host, self._address):
                self._answered(exchange)
                return site.index.exchangeReceived(head, exchange)
            return self._fail(exchange, ExchangeFailed(FailureKind.UNKNOWN))
        if policy is not None:
            return self._forwardIfAllowed(exchange, head, host, destination, hops, policy, address)
        return self._forward(exchange, head, host, destination, hops)

    def _describe(
        self, head: RequestHead, host: bytes, address: str, destination: Destination | None
    ) -> RequestDescription:
        """
        What the log says of a request and of those with the same head.
        """
        site, service = self._site, "" if destination is None else destination.key
        if QUERY in head.target:
            return site.descriptions[head.method, host, site.loggedTarget(head), head.version, address, service]
        description = site.descriptions[head.method, host, head.target, head.version, address, service]
        if not self._trusted:                 # what a proxy sends may be from any address
            self._described = head, destination, description
        return description

    def _forwardIfAllowed(
        self, exchange: IServerExchange, head: RequestHead, host: bytes, destination: Destination, hops: Sequence[Hop],
        policy: AccessPolicy, address: str,
    ) -> IExchangeReceiver:
        decision = policy.check(head, address, self._site.clock.seconds())
        if isinstance(decision, ExchangeFailed):
            return self._fail(exchange, decision)

        def allow() -> IExchangeReceiver:
            _routed(exchange)
            if not policy.authenticates:
                return self._forward(exchange, head, host, destination, hops)
            assert self._visitor is not None
            admitted = policy.admit(head, _isSecure(self._visitor, hops))
            rest = evolve(head, fields=admitted.fields)
            return self._forward(exchange, rest, host, destination, hops, admitted.cookie)

        if decision is None:
            return allow()
        return PendingRequest(exchange, decision, allow, lambda failed: self._fail(exchange, failed))

    def _forward(
        self, exchange: IServerExchange, head: RequestHead, host: bytes, destination: Destination, hops: Sequence[Hop],
        cookie: bytes = b"",
    ) -> IExchangeReceiver:
        """
        Forward a request that its route allows, if the agent is connected and within its limits.

        @param cookie: the value of C{Set-Cookie} that the response gets; C{b""} for none.
        """
        site, key, policy = self._site, destination.key, destination.policy
        tunnel = site.registry.pick(key)
        if tunnel is None:
            out = site.outOfService(key)
            if out is not None:
                return self._fail(exchange, out)
            if acceptsOnlyEvents(head) and site.registry.isKnown(key, within=RECENT_SECONDS):

                def forwardNow() -> IExchangeReceiver:
                    _routed(exchange)
                    return self._forward(exchange, head, host, destination, hops, cookie)

                return PendingRequest(
                    exchange, site.gaps.wait(key), forwardNow, lambda failed: self._fail(exchange, failed)
                )
            known = destination.configured or site.registry.isKnown(key)
            return self._fail(exchange, ExchangeFailed(FailureKind.ABSENT if known else FailureKind.UNKNOWN, service=key))
        rateLimit = site.rateLimits.find(tunnel.principal)
        buckets: tuple[Bucket, ...] = policy.buckets if policy is not None else ()
        if rateLimit is not None:
            late = rateLimitExceeded(rateLimit.rate, site.clock.seconds())
            if late is not None:
                return self._fail(exchange, late)
            buckets += rateLimit.buckets
        late = backlogExceeded(buckets, site.clock.seconds()) if buckets else None
        if late is not None:
            return self._fail(exchange, late)
        last = self._last
        if last is not None and last[0] is head and last[1] is destination and site.tracer is None:
            sent = _repeated(last[2], exchange.trace)
            self._last = head, destination, sent
            return self._join(exchange, sent, tunnel, destination, buckets, cookie)
        try:
            fields = self._fields(exchange, head, host, destination, hops)
        except ExchangeFailed as loop:
            return self._fail(exchange, loop)
        if site.tracer is not None and isinstance(exchange.context, ObservedRequest) and exchange.context.span is not None:
            _routed(exchange)
            fields = exchange.context.span.written(fields)
        sent = RequestHead(head.method, head.target, fields, framing=head.framing)
        if site.tracer is None and not self._trusted:         # otherwise more than the identifier may differ
            self._last = head, destination, sent
        return self._join(exchange, sent, tunnel, destination, buckets, cookie)

    def _join(
        self, exchange: IServerExchange, head: RequestHead, tunnel: ITunnel, destination: Destination,
        buckets: tuple[Bucket, ...], cookie: bytes,
    ) -> IExchangeReceiver:
        """
        Join the exchange with one toward the agent, through C{buckets} if there are any.
        """
        site, visitor = self._site, self._visitor

        open: OpenExchange = partial(tunnel.exchange, destination.purpose, visitor=visitor)
        if cookie:
            open = partial(_openWithCookie, open, cookie)
        onFailure = partial(self._reportFailure, exchange)
        request: ObservedRequest | None = exchange.context if type(exchange.context) is ObservedRequest else None
        joined: IExchangeReceiver
        if not buckets:
            joined = forward(exchange, head, open, pages=site.pages, onFailure=onFailure, observer=request)
        else:
            metered = MeteredExchange(exchange, buckets, site.clock)
            joined = metered.meter(forward(
                metered, head, open, pages=site.pages, onFailure=onFailure, throttled=True, observer=request,
            ))
        return joined if request is None or request.sample is None else request.sample.counting(joined)

    def _fields(
        self, exchange: IServerExchange, head: RequestHead, host: bytes, destination: Destination, hops: Sequence[Hop]
    ) -> Fields:
        """
        The fields for the agent: those of the request, with forwarding fields and an identifier of the edge's own.

        @raise ExchangeFailed: the request has been here before, or the fields are too long.
        """
        if host != self._host or destination is not self._destination:
            self._host, self._destination = host, destination
            self._forwardedFields = self._forwarding(host, destination, (), ())
        fields = head.fields
        for name, _ in fields:
            if name.lower() in REPLACED:
                fields = [field for field in fields if field[0].lower() not in REPLACED]
                break
        if hops or fields is not head.fields:
            fields = fields + self._forwarding(host, destination, hops, values(head.fields, LOOP))
        else:
            fields = fields + self._forwardedFields
        fields.append((REQUEST_ID, exchange.trace.encode()))
        return fields

    def _forwarding(
        self, host: bytes, destination: Destination, hops: Sequence[Hop], passed: Sequence[bytes]
    ) -> Fields:
        """
        @param passed: the values of C{CDN-Loop}: the edges that the request has passed.
        """
        assert self._visitor is not None
        identifier, service = self._site.loopIdentifier, destination.key.encode()
        if not hops and not passed and len(host) <= LONGEST_NAME:
            return [*_ownFields(self._address.encode(), self._visitor.scheme.encode(), host, identifier, service)]
        edges = cdn_loop.read_hops(passed)
        if (identifier, service) in edges or len(edges) + 1 >= MAX_HOPS:
            raise ExchangeFailed(FailureKind.LOOP, service=destination.key)
        fields = forwarding_fields(self._address.encode(), self._visitor.scheme.encode(), host, hops)
        fields.append((cdn_loop.NAME, cdn_loop.extended(passed, identifier, service)))
        if sum(len(name) + len(value) + 4 for name, value in fields) > MAX_OWN_OCTETS:
            raise ExchangeFailed(FailureKind.MALFORMED, TOO_MANY_PROXIES, status=431)
        return fields

    def _redirect(self, exchange: IServerExchange, host: bytes, target: bytes) -> IExchangeReceiver:
        """
        Redirect to the same URL with C{https}.
        """
        name = normalizedHost(host)
        port = "" if self._site.securePort == HTTPS else f":{self._site.securePort}"
        secure = f"https://{f'[{name}]' if ':' in name else name}{port}".encode("latin-1")
        location = secure + (percent_encoded(target) if target != b"*" else b"/")
        self._answered(exchange)
        exchange.sendHead(
            ResponseHead(308, b"Permanent Redirect", [(b"Location", location), (b"Content-Length", b"0")])
        )
        exchange.end()
        return NULL_RECEIVER

    def _trace(self, head: RequestHead) -> str:
        """
        The identifier of a request from a trusted proxy: that of the proxy if it sends one, or else a new one.
        """
        given = head.field(b"x-request-id")
        if given is not None and TRACE.match(given):
            return given.decode()
        return self._site.nextTrace()

    def _identifyVisitor(self, transport: ITransport) -> Visitor:
        """
        Done at the first request and not before, because a proxy in front may send the visitor's address (the PROXY protocol)
        after the connection was made.
        """
        site, peer = self._site, canonical(transport.getPeer())
        self._address = address_text(getattr(peer, "host", ""))
        self._trusted = bool(site.trustedProxies) and site.isTrusted(self._address)
        self._rateLimited = self._listener.proxied and not site.admission.admit(self._address)
        scheme = "https" if ISSLTransport.providedBy(transport) else "http"
        self._visitor = visitor = Visitor(address=peer, scheme=scheme, trace=site.nextTrace())
        return visitor

    def _answered(self, exchange: IServerExchange) -> None:
        """
        The edge itself answers a request.
        """
        if self._site.counts is not None:
            self._site.counts.exchangeFailed(exchange)

    def _fail(self, exchange: IServerExchange, failed: ExchangeFailed) -> IExchangeReceiver:
        self._reportFailure(exchange, failed)
        respondWithPage(exchange, self._site.pages, failed, exchange.trace)
        return NULL_RECEIVER

    def _reportFailure(self, exchange: IServerExchange, failed: ExchangeFailed) -> None:
        """
        Record why there is no response, and log failures that are not the visitor's own.  The error page shows the request's
        identifier, by which an operator finds the line.
        """
        if isinstance(exchange.context, ObservedRequest):
            exchange.context.failed = failed
        elif self._site.counts is not None:
            self._site.counts.exchangeFailed(exchange, failed)
        if failed.status >= 500:
            self.log.warn(
                "{status} for {method} {host}{target} (request {trace}): {failed}", status=failed.status,
                kind=failed.kind.name, method=exchange.head.method.decode(),
                host=printable(exchange.framing.host.decode("latin-1")),
                target=visibleTarget(self._site.loggedTarget(exchange.head)), trace=exchange.trace,
                visitor=self._address, failed=failed,
            )


def _repeated(sent: RequestHead, trace: str) -> RequestHead:
    """
    The head for the agent of a request whose head is the same as that of the last one.  Many clients send the same head for
    request after request.

    @param sent: for the last one.
    @param trace: the identifier of the request, in which alone it differs.
    """
    head = RequestHead(sent.method, sent.target, [*sent.fields[:-1], (REQUEST_ID, trace.encode())], framing=sent.framing)
    head.prefix = sent.prefix or request_prefix(sent)
    return head


def _routed(exchange: IServerExchange) -> None:
    """
    The route of a request is found, and took time.  Where it takes none, the clock is not read.
    """
    if isinstance(exchange.context, ObservedRequest):
        exchange.context.requestRouted()


def _openWithCookie(open: OpenExchange, cookie: bytes, receiver: IWholeResponseReceiver) -> IExchange:
    from tunnelstack.edge.public.visitor_cookies import CookieSetter  # as the policies that set cookies

    return open(CookieSetter(receiver, cookie))


@lru_cache(REMEMBERED)
def _ownFields(address: bytes, scheme: bytes, host: bytes, identifier: bytes, service: bytes) -> Fields:
    """
    The forwarding fields of a request that passed no proxy before.  Visitors come back on new connections.
    """
    return [*forwarding_fields(address, scheme, host), (cdn_loop.NAME, cdn_loop.encode_hop(identifier, service))]


def _hops(head: RequestHead, site: PublicSite) -> Sequence[Hop]:
    """
    The proxies that a request passed on its way to the trusted proxy that sent it, beginning at the visitor.

    @raise ExchangeFailed: its forwarding fields contradict each other.
    """
    try:
        return read_hops(head.fields, site.forwardedBy, site.isTrusted)
    except BadMessage:
        raise ExchangeFailed(FailureKind.MALFORMED, CONTRADICTION) from None


def _isSecure(visitor: Visitor, hops: Sequence[Hop]) -> bool:
    """
    Whether the visitor uses TLS, to this edge or to a trusted proxy.
    """
    return visitor.scheme == "https" or (bool(hops) and hops[0].scheme in SECURE)


def _originForm(head: RequestHead, host: bytes) -> tuple[RequestHead, bytes]:
    """
    Convert a request whose target is not a path (RFC 9112 section 3.2).

    @return: the request with a path as its target, and the host that it is for.
    @raise ExchangeFailed: the target has no path.
    """
    if head.target == b"*" and head.method == b"OPTIONS":
        return head, host
    if head.method == b"CONNECT":
        raise ExchangeFailed(FailureKind.UNSUPPORTED, NOT_A_PROXY)
    absolute = split_absolute(head.target)
    if absolute is None or not absolute[0] or not HOST.match(absolute[0]):
        raise ExchangeFailed(FailureKind.MALFORMED, BAD_TARGET)
    host, target = absolute
    fields = [(b"Host", host), *without(head.fields, b"host")]
    return RequestHead(head.method, target, fields, head.version, head.framing), host
