"""
The tables of Jetty in configuration files.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from attrs import frozen

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.setting import atLeast, each, formatValue, matching, oneOf, setting
from tunnelstack.settings.tables import DialectSettings, Table, Tables
from tunnelstack.settings.validators import LABEL, checkLabel, checkPath, isHTTPURL, optional

WEBSOCKET, GRPC, AUTO = "websocket", "grpc", "auto"

POOL, REPLACE = "pool", "replace"

BOUND, SHARED = "bound", "shared"

GRPC_PORT = 8091
"""Where an edge listens for gRPC unless its configuration has another port."""

GRPC_LISTEN = f"tcp:{GRPC_PORT}:interface=127.0.0.1"

checkAllowed = matching(rf"(\*\.)?{LABEL}(\.{LABEL})*|[0-9a-f:.]+", "a host, an address, or *.SUFFIX")
"""An entry of the hosts that an edge may name as targets."""

ROUTE = re.compile(r"(/[!-<>-~]*)=(?:([^=\s]+):)?([0-9]{1,5})")


def isGRPCURL(value: object) -> None:
    """
    A URL of the form C{grpc(s)://host:port}.
    """
    try:
        url = urlsplit(str(value))
        sound = url.scheme in ("grpc", "grpcs") and url.hostname and url.port and not (url.path or url.query or url.username)
    except ValueError:
        sound = False
    if not sound:
        raise ConfigurationError(f"must be a URL such as grpcs://tunnels.example.net:{GRPC_PORT}, not {formatValue(value)}")


def parseRoute(text: str) -> tuple[str, str, int]:
    """
    @param text: C{"PATH=PORT"} or C{"PATH=HOST:PORT"}.
    @return: the beginning of paths, the host and the port.
    @raise ConfigurationError: it has neither form.
    """
    found = ROUTE.fullmatch(text)
    if found is None or not 0 < int(found[3]) < 65_536:
        raise ConfigurationError(f"must be PATH=PORT or PATH=HOST:PORT, such as /api=8080, not {formatValue(text)}")
    return found[1], found[2] or "127.0.0.1", int(found[3])


def checkRoute(value: object) -> None:
    """
    A route as in L{parseRoute}.
    """
    parseRoute(str(value))


TARGET = re.compile(r"(?:([0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\]):)?([0-9]{1,5})")


def parseTarget(text: str) -> tuple[str, int]:
    """
    @param text: C{"PORT"} or C{"HOST:PORT"}.
    @return: the host and the port.
    @raise ConfigurationError: it has neither form.
    """
    found = TARGET.fullmatch(text.removeprefix(":"))
    if found is None or not 0 < int(found[2]) < 65_536:
        raise ConfigurationError(f"must be a port or HOST:PORT, not {formatValue(text)}")
    return (found[1] or "localhost").strip("[]"), int(found[2])


def checkTarget(value: object) -> None:
    """
    A target as in L{parseTarget}.
    """
    parseTarget(str(value))


@frozen(kw_only=True)
class EdgeSettings:
    """
    C{[jetty]}: accept the agents of Jetty, and answer their requests to a Bridge under C{/api}.
    """

    transportMode: str = setting(
        WEBSOCKET, "websocket, or grpc: listen for gRPC as well", check=oneOf(WEBSOCKET, GRPC)
    )
    noWebsocket: bool = setting(False, "true refuses agents that come by WebSocket")
    grpcListen: str = setting(
        "", f"the endpoint string to listen on for gRPC, without TLS; empty is {GRPC_LISTEN} if transport_mode is grpc, "
        "and else none",
    )
    grpcCertificates: str = setting(
        "", "a folder of certificates as in tls:FOLDER, with which that endpoint uses TLS; without one it needs a proxy"
    )
    grpcUrl: str = setting(
        "", "grpc(s)://host:port under which agents reach it; empty is made of public_url and grpc_listen",
        check=optional(isGRPCURL),
    )
    grpcSessions: str = setting(
        AUTO, "bound: the calls of an agent must come by the connection on which it has registered; shared: by any, as a proxy "
        "sends them; auto: bound with grpc_certificates", check=oneOf(AUTO, BOUND, SHARED),
    )
    edgeSecretFile: str = setting(
        "", "a file with the secret of other edges that verify tokens of agents here; without one they cannot", secretFile=True
    )
    edgeId: str = setting("", "the name of this edge in its answers; empty is the host of public_url")
    agents: str = setting(
        POOL, "pool: agents of one tunnel share it, as far as their token allows that (share); replace: a new one takes the "
        "place of the former", check=oneOf(POOL, REPLACE),
    )
    region: str = setting("", "the region of this edge, which agents show")


@frozen(kw_only=True)
class RolloutSettings:
    """
    C{[jetty.rollout]}: for how many tunnels gRPC is offered, if the edge listens for it.
    """

    grpcPercent: int = setting(
        100, "percentage of tunnels, chosen by a hash of their identifiers, so always the same ones; 0 is none",
        check=atLeast(0, 100),
    )


@frozen(kw_only=True)
class AgentSettings:
    """
    C{[[jetty]]} of an agent: a Jetty service, or an edge with C{[jetty]}, and what is published there.
    """

    url: str = setting(says="http(s)://host[:port] of the service, below which its API is", check=isHTTPURL)
    tokenFile: str = setting(says="a file that contains the token and nothing else", secretFile=True)
    target: str = setting(says="the local server: a port or host:port", check=checkTarget)
    subdomain: str = setting("", "the name of the tunnel; empty is one that the service chooses", check=optional(checkLabel))
    protocol: str = setting("http", "http, tcp or udp", check=oneOf("http", "tcp", "udp"))
    transport: str = setting(
        AUTO, "auto (gRPC if the service offers it, else WebSocket), grpc or websocket", check=oneOf(AUTO, GRPC, WEBSOCKET)
    )
    server: str = setting("", "the name of the server in the service's account, if it has several")
    resume: bool = setting(True, "false creates a new tunnel although there is one for the same target")
    deleteOnExit: bool = setting(False, "true deletes the tunnel when the agent ends")
    healthPath: str = setting("/", "a path of the local web server that is requested before the start", check=checkPath)
    healthCheck: bool = setting(True, "false starts without that request")
    connectSeconds: float = setting(
        10.0, "seconds within which a local server must accept a connection", check=atLeast(1, 120)
    )
    routes: tuple[str, ...] = setting(
        (), "other local servers by the beginning of the path: PATH=PORT or PATH=HOST:PORT", check=each(checkRoute)
    )
    allowHosts: tuple[str, ...] = setting(
        (), "hosts that the service may name as targets, beside that of target and of routes: names, addresses, *.SUFFIX",
        check=each(checkAllowed),
    )
    rewriteLocation: bool = setting(True, "redirects to the local server become redirects to the public host")
    rewriteHosts: tuple[str, ...] = setting((), "further names of the local server that are rewritten")
    rewriteBody: bool = setting(False, "true rewrites URLs of the local server in HTML and scripts as well")
    rewriteBodyOctets: int = setting(
        4 * 1024 * 1024, "rewrite_body: octets of the longest body, which the agent holds; longer ones are sent unchanged",
        check=atLeast(0),
    )
    samples: bool = setting(
        False, "true reports each request to the service: method, path, query, status, sizes, and header fields without "
        "credentials; no bodies",
    )
    caFile: str = setting("", "a PEM file with the only trusted roots; empty trusts those of the system")
    proxy: str = setting("", "as in [[edge]]", secret=True)
    insecure: bool = setting(False, "true allows the token to be sent to a service at http: on another machine")


def checkEdge(tables: Tables) -> None:
    """
    Report an edge that no agent could reach, and settings of a listener that there is not.
    """
    settings = tables.one("jetty", EdgeSettings)
    if settings is None:
        return
    listens = settings.transportMode == GRPC or settings.grpcListen
    if settings.noWebsocket and not listens:
        tables.wrong(("jetty",), '[jetty] refuses every agent: no_websocket needs transport_mode = "grpc"')
    if (settings.grpcCertificates or settings.grpcUrl) and not listens:
        tables.wrong(("jetty",), 'grpc_certificates and grpc_url need transport_mode = "grpc"')


def _place(agent: AgentSettings) -> tuple[str, ...]:
    return agent.url, agent.target, agent.protocol, agent.subdomain


SETTINGS = DialectSettings(
    edge={"jetty": Table(EdgeSettings), "jetty.rollout": Table(RolloutSettings, live=True)},
    agent={"jetty": Table(AgentSettings, many=True, unique={"url, target, protocol and subdomain": _place})},
    checkEdge=checkEdge,
)
