"""
What agents of Jetty and its control plane, the Bridge, send one another: JSON objects by HTTP, under C{/api}.

Both roles read strictly: a member that is known and wrong is an error.  Members that are not known are ignored.

Source: shaferllc/jetty-client at e3a56e59 (C{ApiClient}); Jetty documentation, "API Reference", "TCP/UDP Tunnels", "Edge Region
Auto-Routing"; the bodies of C{verify} are our own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from attrs import field, frozen

from tunnelstack.errors import PeerError
from tunnelstack.wire.jsonline import decode_object, encode
from tunnelstack.wire.records.jetty_rules import (
    COUNTRY,
    FIELD_NAME,
    FIELD_VALUE,
    GEO_MATCH,
    HEADER,
    MATCH_TYPES,
    PATH,
    PATH_PREFIX,
    RoutingRule,
)

TUNNELS, SAMPLES, RESERVED = "/api/tunnels", "/api/tunnel-request-samples", "/api/reserved-subdomains"
REGIONS, BOOTSTRAP = "/api/cli/edge-regions", "/api/cli/bootstrap"
AUTH_SESSION, AUTH_POLL = "/api/cli/auth/session", "/api/cli/auth/poll"
TELEMETRY, VERIFY = "/api/telemetry/edge-ws-failure", "/api/edge/tunnel/verify"

EDGE_SECRET = b"x-jetty-edge-secret"
"""The field in which an edge shows its secret to a Bridge."""

BODY, ANSWER = 64 * 1024, 1024 * 1024
"""Octets of the longest body of a request, and of a response."""

BEAT_SECONDS = 25.0
"""Seconds between two heartbeats of an agent."""

AWAITING, CONNECTED = "awaiting_connection", "connected"
"""What C{status} of a tunnel is."""

MOST_RULES, MOST_COUNTRIES, MOST_HEADERS, MOST_TUNNELS, MOST_EDGES = 32, 250, 200, 1000, 64
"""Items of lists that are read."""

_HOST = re.compile(r"[0-9A-Za-z._:-]{1,253}")
_DIGITS = re.compile("[0-9]{1,15}")
_LARGEST = (1 << 53) - 1
_TEXT = 255
_LONG = 8192
_IDENTIFIER = 64


class BadBody(PeerError):
    """
    A body is no JSON object, or a member is missing or wrong.

    @ivar member: its name; C{""} for the whole body.
    """

    def __init__(self, message: str, member: str = "") -> None:
        super().__init__(message)
        self.member = member


@frozen(kw_only=True)
class CreateTunnel:
    """
    A request for a new tunnel.

    @ivar subdomain: C{""} for one that the Bridge chooses.
    @ivar protocol: C{"http"}, C{"tcp"} or C{"udp"}.
    @ivar expires_in: seconds; 0: it does not expire.
    """

    local_host: str
    local_port: int
    subdomain: str = ""
    server: str = ""
    protocol: str = "http"
    expires_in: int = 0
    routing_rules: tuple[RoutingRule, ...] = ()


@frozen(kw_only=True)
class AttachTunnel:
    """
    An agent begins to serve a tunnel that exists.

    @ivar routing_rules: our own; C{None} leaves the rules of the tunnel as they are.
    """

    local_host: str
    local_port: int
    server: str = ""
    routing_rules: tuple[RoutingRule, ...] | None = None


@frozen(kw_only=True)
class Heartbeat:
    """
    An agent is alive.  The numbers are since the last one.
    """

    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@frozen(kw_only=True)
class RequestSample:
    """
    A request that an agent has served, without its body.
    """

    method: str
    path: str
    query: str = ""
    status: int
    bytes_in: int = 0
    bytes_out: int = 0
    headers: tuple[tuple[str, str], ...] = ()


@frozen(kw_only=True)
class RequestLog:
    """
    A request that an agent has served, in one line.
    """

    method: str
    path: str
    status: int
    latency_ms: int = 0


@frozen(kw_only=True)
class EdgeFailure:
    """
    An agent could not connect to an edge.
    """

    http_status: int = 0
    reason: str = ""
    client: str = ""


@frozen(kw_only=True)
class VerifyTunnel:
    """
    An edge asks whether an agent has the token of a tunnel.
    """

    tunnel_id: str
    agent_token: str = field(repr=False)
    edge_id: str = ""


@frozen(kw_only=True)
class Tunnel:
    """
    A tunnel, as a Bridge answers it.

    @ivar agent_token: a secret; C{""} if it is left out.
    @ivar websocket_url: where its agent connects.
    @ivar grpc_url: the same by gRPC; C{""} if that is not offered.
    @ivar transports: in the order in which they are tried; empty if the Bridge names none.
    @ivar assigned_port: of the edge, for TCP and UDP.
    """

    id: str
    subdomain: str
    public_url: str = ""
    local_target: str = ""
    status: str = AWAITING
    server: str = ""
    agent_token: str = field(default="", repr=False)
    websocket_url: str = ""
    grpc_url: str = ""
    transports: tuple[str, ...] = ()
    protocol: str = "http"
    assigned_port: int = 0
    public_endpoint: str = ""


@frozen(kw_only=True)
class EdgeRegion:
    """
    An edge to which agents may connect.
    """

    url: str
    region: str = ""
    location: str = ""


class _Members:
    """
    The members of an object, read one by one.
    """

    def __init__(self, members: Mapping[str, object], within: str = "") -> None:
        self._members = members
        self._within = within

    def has(self, name: str) -> bool:
        return self._members.get(name) is not None

    def text(self, name: str, longest: int = _TEXT, *, required: bool = False) -> str:
        value = self._members.get(name)
        if value is None and not required:
            return ""
        if not isinstance(value, str) or len(value) > longest or (required and not value):
            raise self._wrong(name, f"a text of {'1' if required else '0'} to {longest} characters")
        return value

    def number(self, name: str, lowest: int = 0, highest: int = _LARGEST, *, required: bool = False) -> int:
        value = self._members.get(name)
        if value is None and not required:
            return 0
        if isinstance(value, str) and value.isascii() and _DIGITS.fullmatch(value):
            value = int(value)
        if type(value) is not int or not lowest <= value <= highest:
            raise self._wrong(name, f"a whole number from {lowest} to {highest}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._members.get(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def matching(self, name: str, pattern: re.Pattern[str], what: str) -> str:
        value = self.text(name)
        if not pattern.fullmatch(value):
            raise self._wrong(name, what)
        return value

    def host(self, name: str) -> str:
        value = self.text(name, required=True)
        if not _HOST.fullmatch(value):
            raise self._wrong(name, "a host name or an address")
        return value

    def word(self, name: str, *choices: str, default: str = "") -> str:
        value = self.text(name) or default
        if value not in choices:
            raise self._wrong(name, f"one of {', '.join(choices)}")
        return value

    def objects(self, name: str, most: int) -> list[_Members]:
        value = self._members.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > most or not all(isinstance(each, dict) for each in value):
            raise self._wrong(name, f"a list of at most {most} objects")
        return [_Members(each, f"{name}.") for each in value]

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        value = self._members.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > most or not all(isinstance(each, str) for each in value):
            raise self._wrong(name, f"a list of at most {most} texts")
        return tuple(each[:_TEXT] for each in value)

    def object(self, name: str) -> _Members:
        value = self._members.get(name)
        if value is None:
            return _Members({})
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return _Members(value, f"{name}.")

    def pairs(self, name: str, most: int) -> tuple[tuple[str, str], ...]:
        value = self._members.get(name)
        value = {} if value is None or value == [] else value            # PHP writes an empty object as a list
        if not isinstance(value, dict) or len(value) > most:
            raise self._wrong(name, f"an object with at most {most} members")
        found = [(each, text if isinstance(text, str) else ", ".join(_texts_of(text))) for each, text in value.items()]
        return tuple((each[:_TEXT], text[:_LONG]) for each, text in found)

    def _wrong(self, name: str, what: str) -> BadBody:
        return BadBody(f"{self._within}{name} must be {what}", self._within + name)


def _texts_of(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _read(body: bytes) -> _Members:
    """
    @raise BadBody: it is no JSON object.
    """
    try:
        return _Members(decode_object(body) if body.strip() else {})
    except PeerError:
        raise BadBody("the body must be a JSON object") from None


# Requests


def read_create_untrusted(body: bytes) -> CreateTunnel:
    """
    @raise BadBody: a member is missing or wrong, as of the other functions here.
    """
    members = _read(body)
    return CreateTunnel(
        local_host=members.host("local_host"),
        local_port=members.number("local_port", 1, 65_535, required=True),
        subdomain=members.text("subdomain", 63).lower(),
        server=members.text("server"),
        protocol=members.word("protocol", "http", "tcp", "udp", default="http"),
        expires_in=members.number("expires_in", 0, 366 * 86_400),
        routing_rules=_rules(members),
    )


def _rules(members: _Members) -> tuple[RoutingRule, ...]:
    return tuple(_rule(each) for each in members.objects("routing_rules", MOST_RULES))


def _rule(members: _Members) -> RoutingRule:
    """
    Only the members of the rule's type are read.
    """
    kind, path, name, value = members.word("match_type", *MATCH_TYPES, default=PATH_PREFIX), "", "", ""
    countries: tuple[str, ...] = ()
    if kind == PATH_PREFIX:
        path = members.matching("path_prefix", PATH, "a path of 1 to 255 printable ASCII characters that begins with /")
    elif kind == HEADER:
        name = members.matching("header_name", FIELD_NAME, "the name of a field")
        value = members.matching("header_value", FIELD_VALUE, "the value of a field")
    else:
        countries = members.texts("countries", MOST_COUNTRIES)
        if not all(COUNTRY.fullmatch(each) for each in countries):
            raise BadBody("routing_rules.countries must be codes of two letters", "routing_rules.countries")
    return RoutingRule(
        match_type=kind, path_prefix=path, header_name=name, header_value=value, countries=countries,
        geo_invert=kind == GEO_MATCH and members.flag("geo_invert", False), local_host=members.host("local_host"),
        local_port=members.number("local_port", 1, 65_535, required=True), enabled=members.flag("enabled", True),
    )  # fmt: skip


def rules_untrusted(rules: object) -> tuple[RoutingRule, ...]:
    """
    @param rules: a list of objects of JSON.
    @raise BadBody: a rule is not valid.
    """
    return _rules(_Members({"routing_rules": rules}))


def read_attach_untrusted(body: bytes) -> AttachTunnel:
    members = _read(body)
    return AttachTunnel(
        local_host=members.host("local_host"), local_port=members.number("local_port", 1, 65_535, required=True),
        server=members.text("server"), routing_rules=_rules(members) if members.has("routing_rules") else None,
    )  # fmt: skip


def read_heartbeat_untrusted(body: bytes) -> Heartbeat:
    members = _read(body)
    return Heartbeat(
        requests=members.number("requests"), bytes_in=members.number("bytes_in"), bytes_out=members.number("bytes_out"),
    )  # fmt: skip


def read_sample_untrusted(body: bytes) -> RequestSample:
    members = _read(body)
    return RequestSample(
        method=members.text("method", 64, required=True),
        path=members.text("path", _LONG, required=True),
        query=members.text("query", _LONG),
        status=members.number("status", 100, 599, required=True),
        bytes_in=members.number("bytes_in"),
        bytes_out=members.number("bytes_out"),
        headers=members.pairs("headers", MOST_HEADERS),
    )


def read_log_untrusted(body: bytes) -> RequestLog:
    members = _read(body)
    return RequestLog(
        method=members.text("method", 64, required=True), path=members.text("path", _LONG, required=True),
        status=members.number("status", 100, 599, required=True), latency_ms=members.number("latency_ms"),
    )  # fmt: skip


def read_failure_untrusted(body: bytes) -> EdgeFailure:
    members = _read(body)
    return EdgeFailure(
        http_status=members.number("http_status", 0, 599), reason=members.text("reason", 200), client=members.text("client"),
    )  # fmt: skip


def read_verify_untrusted(body: bytes) -> VerifyTunnel:
    members = _read(body)
    return VerifyTunnel(
        tunnel_id=members.text("tunnel_id", _IDENTIFIER, required=True),
        agent_token=members.text("agent_token", required=True), edge_id=members.text("edge_id"),
    )  # fmt: skip


def encode_create(request: CreateTunnel) -> bytes:
    """
    @return: the body, without members that have their default value.
    """
    members: dict[str, object] = {"local_host": request.local_host, "local_port": request.local_port}
    for name, value in (("subdomain", request.subdomain), ("server", request.server), ("expires_in", request.expires_in)):
        if value:
            members[name] = value
    if request.protocol != "http":
        members["protocol"] = request.protocol
    if request.routing_rules:
        members["routing_rules"] = [_rule_members(rule) for rule in request.routing_rules]
    return encode(members)


def _rule_members(rule: RoutingRule) -> dict[str, object]:
    matched: dict[str, dict[str, object]] = {
        PATH_PREFIX: {"path_prefix": rule.path_prefix},
        HEADER: {"header_name": rule.header_name, "header_value": rule.header_value},
        GEO_MATCH: {"countries": list(rule.countries), "geo_invert": rule.geo_invert},
    }
    return {
        "match_type": rule.match_type, **matched[rule.match_type], "local_host": rule.local_host,
        "local_port": rule.local_port, **({} if rule.enabled else {"enabled": False}),
    }  # fmt: skip


def encode_attach(request: AttachTunnel) -> bytes:
    rules = {} if request.routing_rules is None else {"routing_rules": [_rule_members(each) for each in request.routing_rules]}
    return encode(
        {"local_host": request.local_host, "local_port": request.local_port, "server": request.server or None, **rules}
    )


def encode_heartbeat(beat: Heartbeat) -> bytes:
    """
    @return: only numbers above 0; C{b""} if there are none.
    """
    numbers = {"requests": beat.requests, "bytes_in": beat.bytes_in, "bytes_out": beat.bytes_out}
    members = {name: number for name, number in numbers.items() if number > 0}
    return encode(members) if members else b""


def encode_sample(sample: RequestSample) -> bytes:
    """
    @return: the body; values of a field that comes more than once are joined, as a Bridge reads them.
    """
    headers: dict[str, str] = {}
    for name, value in sample.headers:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return encode({
        "method": sample.method, "path": sample.path, "query": sample.query or None, "status": sample.status,
        "bytes_in": sample.bytes_in, "bytes_out": sample.bytes_out, "headers": headers,
    })


def encode_log(line: RequestLog) -> bytes:
    return encode(
        {"method": line.method, "path": line.path, "status": line.status, "latency_ms": line.latency_ms}
    )


# Responses


def tunnel_members(tunnel: Tunnel) -> dict[str, object]:
    """
    @return: the members of a tunnel, for a response.
    """
    edge: dict[str, object] = {"websocket_url": tunnel.websocket_url}
    if tunnel.grpc_url:
        edge["grpc_url"] = tunnel.grpc_url
    if tunnel.transports:
        edge["transports"] = list(tunnel.transports)
    members: dict[str, object] = {
        "id": tunnel.id, "subdomain": tunnel.subdomain, "public_url": tunnel.public_url, "local_target": tunnel.local_target,
        "status": tunnel.status, "server": tunnel.server or None, "edge": edge, "protocol": tunnel.protocol,
    }  # fmt: skip
    if tunnel.agent_token:
        members["agent_token"] = tunnel.agent_token
    if tunnel.protocol != "http":
        members |= {"assigned_port": tunnel.assigned_port, "public_endpoint": tunnel.public_endpoint}
    return members


def read_tunnel_untrusted(body: bytes) -> Tunnel:
    return _tunnel(_read(body).object("data"))


def read_tunnels_untrusted(body: bytes) -> list[Tunnel]:
    return [_tunnel(each) for each in _read(body).objects("data", MOST_TUNNELS)]


def _tunnel(members: _Members) -> Tunnel:
    edge = members.object("edge")
    return Tunnel(
        id=members.text("id", _IDENTIFIER, required=True),
        subdomain=members.text("subdomain"),
        public_url=members.text("public_url", _LONG),
        local_target=members.text("local_target"),
        status=members.text("status"),
        server=members.text("server"),
        agent_token=members.text("agent_token", _LONG),
        websocket_url=edge.text("websocket_url", _LONG),
        grpc_url=edge.text("grpc_url", _LONG),
        transports=edge.texts("transports", MOST_EDGES),
        protocol=members.word("protocol", "http", "tcp", "udp", default="http"),
        assigned_port=members.number("assigned_port", 0, 65_535),
        public_endpoint=members.text("public_endpoint"),
    )


def read_regions_untrusted(body: bytes) -> list[EdgeRegion]:
    return [
        EdgeRegion(url=each.text("url", _LONG, required=True), region=each.text("region"), location=each.text("location"))
        for each in _read(body).objects("edges", MOST_EDGES)
    ]


def read_error_untrusted(body: bytes) -> str:
    """
    @return: the message of a response, with its hint; C{""} if there is none.  It never fails.
    """
    try:
        members = _read(body)
        message, hint = members.text("message", _LONG), members.text("hint", _LONG)
    except BadBody:
        return ""
    return f"{message} ({hint})" if message and hint else message or hint
