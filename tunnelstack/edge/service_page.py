"""
What the page at the apex of a development edge says: the services that are up, with links.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.utils import formatdate
from html import escape
from urllib.parse import urlsplit

from attrs import asdict, frozen

from tunnelstack.control.config.records import Route
from tunnelstack.edge.public.port_leases import PORT_KINDS
from tunnelstack.edge.running_edge import RunningEdge
from tunnelstack.exchange.error_page import respondWithPage
from tunnelstack.exchange.errors import ExchangeFailed, FailureKind
from tunnelstack.exchange.html_page import HTML, htmlPage
from tunnelstack.exchange.whole_message import JSON
from tunnelstack.interfaces import IServerExchange
from tunnelstack.settings.record import Record
from tunnelstack.wire.http1.head import RequestHead, ResponseHead, values

READ_ONLY = "This page can only be read: use GET."

NOTHING = """\
<p>No service is up. Publish one from a second terminal:</p>
<p><code>tunnel-agent --dev http 3000 --name myapp</code></p>
"""

SECURITY = (
    (b"Cache-Control", b"no-store"),
    (b"Vary", b"Accept"),
    (b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
)


@frozen(eq=False, repr=False)
class UpService(Record):
    """
    A service that has a connected agent.

    @ivar kind: one of L{KINDS<tunnelstack.records.KINDS>}.
    @ivar name: of the service; of a route, its host and path.
    @ivar address: where it is reached.
    @ivar url: the same, if a browser can open it; otherwise C{None}.
    @ivar agents: the agents that serve it.
    """

    kind: str
    name: str
    address: str
    url: str | None
    agents: tuple[str, ...]


def upServices(edge: RunningEdge) -> list[UpService]:
    """
    @return: the routes of the configuration and the hosts of dialects whose agents are connected, and the services of agents.
    """
    found = [*_routes(edge), *_hosts(edge), *_services(edge)]
    return [service for service in found if service.agents]


def _routes(edge: RunningEdge) -> Iterator[UpService]:
    for route in edge.config.routes:
        shown = route.host + (route.path if route.path != "/" else "")
        url = _url(edge, route)
        yield UpService("http", shown, url or shown, url, _agents(edge, "http", route.to))


def _url(edge: RunningEdge, route: Route) -> str | None:
    """
    @return: the URL of a route; C{None} if it is for many hosts.
    """
    return None if route.host.startswith("*.") else _atHost(edge, route.host) + route.path


def _atHost(edge: RunningEdge, host: str) -> str:
    parts = urlsplit(edge.url)
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def _hosts(edge: RunningEdge) -> Iterator[UpService]:
    for host, agent in edge.hosts:
        url = _atHost(edge, host) + "/"
        yield UpService("http", host, url, url, (agent,) if edge.registry.agent(agent) is not None else ())


def _services(edge: RunningEdge) -> Iterator[UpService]:
    for kind, name in sorted(edge.registry.held(), key=lambda pair: (pair[0] != "http", pair)):
        agents = _agents(edge, kind, name)
        if kind == "http":
            url = edge.grantFor(name).url + "/"
            yield UpService(kind, name, url, url, agents)
        elif kind in PORT_KINDS:
            yield UpService(kind, name, f"{kind}:{edge.config.domain}:{edge.agents.portOf(kind, name)}", None, agents)
        else:
            yield UpService(kind, name, f"tunnel:{name}", None, agents)


def _agents(edge: RunningEdge, kind: str, key: str) -> tuple[str, ...]:
    """
    @param key: as of a route: C{service}, C{agent/service}, or C{agent:port}.
    @return: the agents that serve it at the moment.
    """
    return tuple(sorted({tunnel.principal.agent for tunnel in edge.registry.holders(kind, key) if tunnel.healthy}))


def respondWithServices(edge: RunningEdge, head: RequestHead, exchange: IServerExchange) -> None:
    """
    Respond to a request for the page.
    """
    if head.method not in (b"GET", b"HEAD"):
        refused = ExchangeFailed(FailureKind.UNSUPPORTED, READ_ONLY, status=405, fields=[(b"Allow", b"GET, HEAD")])
        respondWithPage(exchange, edge.public.site.pages, refused, exchange.trace)
        return
    asJSON = prefersJSON(head)
    body = (_json if asJSON else _html)(edge, upServices(edge))
    exchange.respond(ResponseHead(200, b"OK", [
        (b"Date", formatdate(usegmt=True).encode()), (b"Content-Type", JSON if asJSON else HTML),
        (b"Content-Length", b"%d" % len(body)), *SECURITY,
    ]), body)  # fmt: skip


def _json(edge: RunningEdge, services: list[UpService]) -> bytes:
    return json.dumps({"edge": edge.url, "services": [asdict(each) for each in services]}).encode() + b"\n"


def _html(edge: RunningEdge, services: list[UpService]) -> bytes:
    items = "".join(f"<li>{_item(service)}</li>\n" for service in services)
    listed = f"<ul>\n{items}</ul>\n" if items else NOTHING
    where = f"<p><small>The edge at {escape(edge.url)}. Reload for the present state.</small></p>\n"
    return htmlPage("Services", listed + where)


def _item(service: UpService) -> str:
    name, address = escape(service.name), escape(service.address)
    if service.url is None:
        return f"{name}<br><small>{escape(service.kind)}, at {address}</small>"
    return f'<a href="{escape(service.url)}">{name}</a><br><small>{address}</small>'


def prefersJSON(head: RequestHead) -> bool:
    """
    @return: whether a request accepts JSON by name, and HTML less or later in its list (RFC 9110 section 12.5.1).
    """
    weights: dict[bytes, float] = {}
    for each in (each for value in values(head.fields, b"accept") for each in value.split(b",")):
        kind, *parameters = (part.strip(b" \t").lower() for part in each.split(b";"))
        weights.setdefault(kind, _weight(parameters))
    asJSON, asHTML = weights.get(JSON, 0.0), weights.get(b"text/html", 0.0)
    return asJSON > asHTML or (0 < asJSON == asHTML and list(weights).index(JSON) < list(weights).index(b"text/html"))


def _weight(parameters: list[bytes]) -> float:
    given = next((each[2:] for each in parameters if each.startswith(b"q=")), b"1")
    try:
        return float(given)
    except ValueError:
        return 0.0
