"""
What the requests of all connections to the public port have in common.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from secrets import token_hex
from typing import TYPE_CHECKING, Protocol

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from tunnelstack.control.access_record import Descriptions, RequestObserver
from tunnelstack.control.config.records import EdgeConfig
from tunnelstack.control.remembered_names import LATELY_SECONDS
from tunnelstack.doors import DoorTable
from tunnelstack.edge.public.admission import Admission
from tunnelstack.edge.public.agent_limits import AgentRateLimits
from tunnelstack.edge.public.gaps import ServiceGaps
from tunnelstack.edge.public.routes import RouteTable
from tunnelstack.edge.public.samples import RequestSamples
from tunnelstack.edge.public.traces import traceIdentifiers
from tunnelstack.exchange.error_page import ErrorPages, errorPage
from tunnelstack.exchange.errors import ExchangeFailed
from tunnelstack.interfaces import IExchangeReceiver, IServerExchange, ITunnel
from tunnelstack.wire.addresses import IPNetwork, read_address, read_network
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.http1.target import path_of

if TYPE_CHECKING:
    from tunnelstack.control.metrics.counts import ExchangeCounts
    from tunnelstack.control.tracing.tracer import Tracer


class TunnelTable(Protocol):
    """
    The tunnels by the keys that they hold, such as a L{Registry<tunnelstack.control.registry.Registry>}.
    """

    def pick(self, key: str, kind: str = "http") -> ITunnel | None:
        """
        @return: a healthy tunnel that holds C{key}; C{None} if there is none.
        """

    def isKnown(self, key: str, kind: str = "http", within: float = LATELY_SECONDS) -> bool:
        """
        @param within: seconds.
        @return: whether a tunnel holds C{key}, or held it that recently.
        """


class IndexPage(Protocol):
    """
    The page of a host of the edge's own, such as a L{ServiceIndex<tunnelstack.edge.service_index.ServiceIndex>}.
    """

    def serves(self, head: RequestHead, host: bytes, peer: str) -> bool:
        """
        @param head: of a request that has no route.
        @param host: the host that it is for.
        @param peer: the address of the client.
        @return: whether the page is the response.
        """

    def exchangeReceived(self, head: RequestHead, exchange: IServerExchange) -> IExchangeReceiver:
        """
        As of L{IExchangeServer<tunnelstack.interfaces.IExchangeServer>}.
        """


@define(eq=False, kw_only=True)
class PublicSite:
    """
    The public port, as its requests see it.

    There is one for all connections.  It changes with the configuration, so connections that are open follow a reload.

    @ivar registry: where the tunnels to agents are found.
    @ivar admission: counts the new connections of each address.
    @ivar rateLimits: the limits of each agent.
    @ivar routes: finds the service that a request is for.
    @ivar doors: the doors of agents.
    @ivar pages: makes error pages.
    @ivar accessLog: called with the record of each request that has ended, or C{None}.
    @ivar counts: counts the requests that have ended, or C{None}.
    @ivar descriptions: what the access log says of requests.
    @ivar tracer: gives each request its span; only with an C{accessLog}.
    @ivar securePort: the port at which visitors reach this edge by TLS.
    @ivar forwardedBy: which forwarding fields of trusted proxies are used, as C{forwarded_by} of the configuration.
    @ivar nextTrace: gives a new identifier for a request.
    @ivar outOfService: called with the key of a service for which there is no tunnel; returns what the visitor is answered if
        its agents are connected and left out, or C{None}.
    @ivar samples: the samples of requests.
    @ivar gaps: the requests that wait for an agent to come back.
    @ivar index: the page of the edge's own host; C{None} if it has none.
    @ivar loopIdentifier: of this edge, in C{CDN-Loop}.
    @ivar trustedProxies: the networks of proxies that the operator trusts.
    """

    clock: IReactorTime
    registry: TunnelTable
    admission: Admission
    rateLimits: AgentRateLimits
    routes: RouteTable
    doors: DoorTable = field(factory=DoorTable)
    pages: ErrorPages = errorPage
    accessLog: RequestObserver | None = None
    counts: ExchangeCounts | None = None
    descriptions: Descriptions = field(factory=lambda: Descriptions("edge"))
    tracer: Tracer | None = None
    securePort: int = 443
    forwardedBy: str = ""
    nextTrace: Callable[[], str] = field(factory=traceIdentifiers)
    outOfService: Callable[[str], ExchangeFailed | None] = lambda key: None
    samples: RequestSamples = field(factory=lambda: RequestSamples(time.time))
    gaps: ServiceGaps = field(init=False)
    index: IndexPage | None = None
    loopIdentifier: bytes = field(factory=lambda: b"tunnelstack-" + token_hex(4).encode())
    trustedProxies: tuple[IPNetwork, ...] = ()

    def __attrs_post_init__(self) -> None:
        self.gaps = ServiceGaps(self.clock)

    def configure(self, config: EdgeConfig, routes: RouteTable) -> None:
        """
        Use another configuration, for open connections as well.
        """
        self.routes = routes
        self.rateLimits.configure(config.limits)
        self.forwardedBy = config.forwardedBy
        self.samples.configure(config.samples)
        self.trustedProxies = tuple(read_network(network, strict=False) for network in config.trustedProxies)

    def loggedTarget(self, head: RequestHead) -> bytes:
        """
        @return: the target of a request for logs.  The query is left out at the path of a door, even on a host that has no
            doors: agents of some systems send their credentials there.
        """
        target = head.target
        if b"?" in target and self.doors.find(head.method, path_of(target)) is not None:
            return path_of(target)
        return target

    def isTrusted(self, address: str) -> bool:
        """
        Whether an address is that of a proxy that the operator trusts.
        """
        peer = read_address(address) if self.trustedProxies else None
        return peer is not None and any(peer in network for network in self.trustedProxies)
