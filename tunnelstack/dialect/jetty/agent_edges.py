"""
What the agent looks for before it connects: the nearest of several edges, and whether the local web server answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit, urlunsplit

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ConnectError, TimeoutError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger

from tunnelstack.dialect.jetty.settings import AgentSettings
from tunnelstack.errors import TunnelError, Unavailable
from tunnelstack.exchange.fetch import FetchedResponse, fetch
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.traits import Timeouts
from tunnelstack.interfaces import IAgentHost
from tunnelstack.transport.host_endpoint import connectTimedOut
from tunnelstack.wire.http1.head import RequestHead
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.jetty_bridge import EdgeRegion

PROBE_CONNECT_SECONDS, PROBE_SECONDS = 3.0, 5.0
"""Seconds to connect to an edge whose latency is measured, and for its response."""

MOST_REDIRECTS = 3
ANSWER_OCTETS = 1024 * 1024
"""Octets of the local server's page that are read at most."""

LEAST_SECONDS = 15.0
"""Seconds for the local server's answer, if it has more than 10 s to accept a connection."""

SECURE = {"wss": "https", "ws": "http", "grpcs": "https", "grpc": "http"}


class LocalServerUnavailable(Unavailable):
    """
    The local web server does not answer, or answers with an error.
    """


@frozen(kw_only=True)
class EdgeAddress:
    """
    As the agent's L{edgeEndpoint<tunnelstack.interfaces.IAgentHost.edgeEndpoint>} takes it.
    """

    url: str
    caFile: str
    proxy: str
    insecure: bool


def addressOf(url: str, settings: AgentSettings) -> EdgeAddress:
    """
    @param url: with any of the schemes C{ws}, C{grpc} and C{http}, or these with an C{s}.
    @return: how it is reached: with the certificates and the proxy of the settings.
    """
    parts = urlsplit(url)
    scheme = SECURE.get(parts.scheme, parts.scheme)
    return EdgeAddress(
        url=urlunsplit((scheme, parts.netloc, "", "", "")), caFile=settings.caFile if scheme == "https" else "",
        proxy=settings.proxy, insecure=settings.insecure,
    )  # fmt: skip


def ask(
    clock: IReactorTime, endpoint: IStreamClientEndpoint, head: RequestHead, connectSeconds: float, seconds: float
) -> Deferred[FetchedResponse]:
    """
    Send one request without a body, on a connection of its own.
    """
    pool = ExchangePool(endpoint, clock=clock, timeouts=Timeouts(connect=connectSeconds, first=seconds))
    asked = fetch(pool.exchange, head, bodyOctets=ANSWER_OCTETS).addTimeout(seconds, clock, connectTimedOut)

    def close(result: FetchedResponse) -> FetchedResponse:
        pool.close()
        return result

    return asked.addBoth(close)


class NearestEdge:
    """
    Chooses one of several edges by the time that it needs to answer.
    """

    log = Logger()

    def __init__(self, host: IAgentHost, settings: AgentSettings) -> None:
        self._host = host
        self._settings = settings

    async def choose(self, regions: Sequence[EdgeRegion]) -> str:
        """
        @return: the URL of the edge that answered first; C{""} if none did.
        """
        began = self._host.clock.seconds()
        latencies: dict[str, float] = {}

        def answered(response: FetchedResponse, url: str) -> None:
            latencies[url] = self._host.clock.seconds() - began

        probes = [self._probe(region.url).addCallback(answered, region.url) for region in regions]
        await DeferredList(probes, consumeErrors=True)
        if not latencies:
            return ""
        nearest = min(latencies, key=latencies.__getitem__)
        self.log.info(
            "the nearest of {count} edges is {url}", count=len(regions), url=printable(nearest, 256), latencies=latencies,
        )
        return nearest

    def _probe(self, url: str) -> Deferred[FetchedResponse]:
        parts = urlsplit(url)
        head = RequestHead(b"HEAD", (parts.path or "/").encode("ascii", "replace"), [(b"Host", parts.netloc.encode("latin-1"))])
        endpoint = self._host.edgeEndpoint(addressOf(url, self._settings))
        return ask(self._host.clock, endpoint, head, PROBE_CONNECT_SECONDS, PROBE_SECONDS)


async def probeLocalServer(
    clock: IReactorTime, endpoint: IStreamClientEndpoint, authority: str, path: str, connectSeconds: float
) -> None:
    """
    Request a page of the local web server, and follow a few redirects.

    @param authority: for C{Host}.
    @raise LocalServerUnavailable: there is no answer, or one with a status from 500.
    """
    seconds = max(LEAST_SECONDS, connectSeconds + 5.0)
    for _ in range(MOST_REDIRECTS + 1):
        head = RequestHead(b"GET", path.encode("latin-1"), [(b"Host", authority.encode()), (b"User-Agent", b"tunnelstack")])
        try:
            response = await ask(clock, endpoint, head, connectSeconds, seconds)
        except (TunnelError, ConnectError, TimeoutError) as reason:
            raise LocalServerUnavailable(f"the local web server at {authority} does not answer: {reason}") from None
        if response.status >= 500:
            raise LocalServerUnavailable(f"the local web server at {authority} answers {response.status} for {path}")
        target = _redirect(response, authority, path)
        if not target:
            return
        path = target


def _redirect(response: FetchedResponse, authority: str, path: str) -> str:
    """
    @return: the path of a redirect within the same server; C{""} if there is none.
    """
    location = (response.head.field(b"location") or b"").decode("latin-1") if response.status // 100 == 3 else ""
    if not location or not location.isascii() or not location.isprintable() or " " in location:
        return ""
    parts = urlsplit(urljoin(f"http://{authority}{path}", location))
    if parts.netloc != authority:
        return ""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
