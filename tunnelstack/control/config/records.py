"""
The configuration of an edge and of an agent: frozen records with a default, bounds and a reason for every number.

A service is made from such a record.  It never reads a file, the environment or a command line itself.
L{tunnelstack.control.config.reader} makes the records from files.
"""

from __future__ import annotations

from datetime import UTC, datetime
from secrets import token_hex
from urllib.parse import urlsplit

from attrs import frozen

from tunnelstack.control.config.shorthand import edgeURL, listenEndpoint, listenEndpoints, loopbackEndpoint
from tunnelstack.control.config.upkeep import DEFAULT_SAMPLES, HealthCheck, SamplesConfig
from tunnelstack.control.config.validators import (
    checkHostPattern,
    checkIdentifier,
    checkPermission,
    checkRouteTarget,
    checkServiceKind,
    checkUser,
    checkVisitorRule,
    checkVouchRule,
)
from tunnelstack.settings.record import Record
from tunnelstack.settings.setting import atLeast, each, matching, oneOf, setting
from tunnelstack.settings.tables import DialectTables
from tunnelstack.settings.validators import (
    checkAuthority,
    checkDigest,
    checkHost,
    checkLabel,
    checkNetwork,
    checkPath,
    checkTarget,
    checkTime,
    isHTTPURL,
    optional,
)

MEBIBYTE = 1024 * 1024

"""For each dialect with tables in the file: the records of each table."""

DEV_PORT = 8080
"""The default port of an edge that is started with C{--dev}."""

SESSION_OCTETS = (
    "octets that one session may hold above the first 256 KiB of each stream; the windows of its streams share them"
)
PROCESS_OCTETS = (
    "octets that all sessions together may hold; beyond, streams that were not read for at least 10 s are reset, the longest "
    "unread first"
)

NEVER = datetime.max.replace(tzinfo=UTC)
"""The expiry of a token that does not expire."""


@frozen(kw_only=True, eq=False, repr=False)
class Limits(Record):
    """
    C{[limits]}: bounds of what visitors and agents may use.
    """

    headOctets: int = setting(32 * 1024, "octets of a request's head", check=atLeast(1024, MEBIBYTE), live=True)
    headFields: int = setting(100, "header fields of a request", check=atLeast(8, 10_000), live=True)
    responseHeadOctets: int = setting(
        256 * 1024, "octets of a response's head that agents may send; what local servers may send is a setting of the agent",
        check=atLeast(1024, MEBIBYTE),
    )
    responseHeadFields: int = setting(1000, "header fields of a response, as above", check=atLeast(8, 10_000))
    headSeconds: float = setting(
        10.0, "seconds within which a request's head must be received", check=atLeast(0.1, 3600), live=True,
    )
    firstOctetSeconds: float = setting(
        60.0, "seconds within which the response must begin; otherwise the visitor receives 504",
        check=atLeast(0.1, 86_400),
    )
    interimSeconds: float = setting(
        600.0, "seconds within which the response must begin after an interim response (1xx); each of these starts "
        "first_octet_seconds again", check=atLeast(0.1, 86_400),
    )
    idleSeconds: float = setting(
        300.0, "seconds without traffic after which a connection is closed; not applied to upgraded connections and "
        "streaming bodies", check=atLeast(1, 86_400),
    )
    udpFlows: int = setting(
        10_000, "simultaneous flows of visitors to UDP services; a flow is the datagrams of one address and port; those of "
        "further ones are dropped", check=atLeast(1), live=True,
    )
    udpIdleSeconds: float = setting(
        60.0, "seconds without a datagram after which a flow is closed; one that was never answered is closed after 10 s",
        check=atLeast(1, 86_400), live=True,
    )
    sessionStreams: int = setting(1024, "streams that each side of a session may have open", check=atLeast(1, 1_000_000))
    http2Streams: int = setting(
        100, "simultaneous requests on one HTTP/2 connection of a visitor; further ones wait at the visitor",
        check=atLeast(1, 10_000), live=True,
    )
    visitors: int = setting(10_000, "simultaneous connections of visitors", check=atLeast(1), live=True)
    connectionsPerSecond: float = setting(
        50.0, "new connections per second from one address (IPv6: one /64), and as many in a burst; further ones are closed; "
        "this machine itself and trusted proxies are exempt; 0 is no limit", check=atLeast(0), live=True,
    )
    agentRequestsPerSecond: float = setting(
        0.0, "visitors' requests and TCP connections per second to one agent, unless its [[agent]] has its own limit; "
        "beyond, requests receive 429 and connections are closed; 0 is no limit", check=atLeast(0), live=True,
    )
    agentOctetsPerSecond: int = setting(
        0, "octets per second of visitors' bodies and TCP connections to and from one agent, unless its [[agent]] has its "
        "own limit; faster traffic is delayed; 0 is no limit", check=atLeast(0), live=True,
    )
    sessionOctets: int = setting(8 * MEBIBYTE, SESSION_OCTETS, check=atLeast(0))
    processOctets: int = setting(1024 * MEBIBYTE, PROCESS_OCTETS, check=atLeast(MEBIBYTE), live=True)


DEFAULT_LIMITS = Limits()


@frozen(kw_only=True, eq=False, repr=False)
class AgentLimits(Record):
    """
    C{[limits]} of an agent: bounds of what visitors, edges and local servers may use.  An edge announces its own bounds of
    requests; the agent takes them up to these.
    """

    headOctets: int = setting(
        256 * 1024, "octets of a request's head, if the edge allows as many", check=atLeast(1024, MEBIBYTE), live=True
    )
    headFields: int = setting(
        1000, "header fields of a request, if the edge allows as many", check=atLeast(8, 10_000), live=True
    )
    responseHeadOctets: int = setting(
        64 * 1024, "octets of the head of a local server's response, if the edge allows as many; beyond, the visitor receives "
        "502",
        check=atLeast(1024, MEBIBYTE), live=True,
    )
    responseHeadFields: int = setting(
        500, "header fields of such a response, if the edge allows as many; beyond, the visitor receives 502",
        check=atLeast(8, 10_000), live=True,
    )
    idleSeconds: float = setting(
        3600.0, "seconds without traffic after which the connection of a request is closed, if the edge waits as long; not "
        "applied to upgraded connections and streaming bodies", check=atLeast(1, 86_400), live=True,
    )
    sessionStreams: int = setting(
        16_384, "streams that each side of a session may have open, if the edge allows as many", check=atLeast(1, 1_000_000),
    )

    sessionOctets: int = setting(8 * MEBIBYTE, SESSION_OCTETS, check=atLeast(0))
    processOctets: int = setting(1024 * MEBIBYTE, PROCESS_OCTETS, check=atLeast(MEBIBYTE), live=True)


DEFAULT_AGENT_LIMITS = AgentLimits()


@frozen(kw_only=True, eq=False, repr=False)
class TokenRecord(Record):
    """
    C{[[agent]]}: a credential and its rights.
    """

    name: str = setting(says="the agent's name", check=checkLabel)
    tokenSha256: str = setting(
        says="SHA-256 of the whole token, without white space around it, in hexadecimal digits", check=checkDigest
    )
    allow: tuple[str, ...] = setting((), "the rights; nothing else is allowed", check=each(checkPermission))
    share: bool = setting(False, "several processes may hold the same name; requests go to them in turns")
    id: str = setting("", "the public part of the token, which logs show", check=checkIdentifier)
    requestsPerSecond: float = setting(
        0.0, "visitors' requests and TCP connections per second; beyond, requests receive 429 and connections are closed; 0 "
        "uses the limit in [limits]", check=atLeast(0),
    )
    octetsPerSecond: int = setting(
        0, "octets per second of visitors' bodies and TCP connections in both directions; faster traffic is delayed; 0 uses "
        "the limit in [limits]", check=atLeast(0),
    )
    expires: datetime = setting(NEVER, "time of expiry, such as 2027-01-31T12:00:00Z", check=checkTime)


@frozen(kw_only=True, eq=False, repr=False)
class CertificateRecord(Record):
    """
    C{[[certificate]]}: an agent that authenticates by its certificate, on listeners that verify clients.
    """

    name: str = setting(says="the agent's name", check=checkLabel)
    sha256: str = setting("", "SHA-256 of the certificate (DER), in hexadecimal digits; instead of subject",
        check=optional(checkDigest))
    subject: str = setting("", "subject in the notation of RFC 4514, such as CN=laptop,O=Example; instead of sha256")
    allow: tuple[str, ...] = setting((), "the rights; nothing else is allowed", check=each(checkPermission))
    share: bool = setting(False, "several processes may hold the same name; requests go to them in turns")


@frozen(kw_only=True, eq=False, repr=False)
class CheckerRecord(Record):
    """
    C{[[checker]]}: agents that one of Twisted's credentials checkers accepts by name and password.  The token of such an agent
    is C{name:password}.
    """

    auth: str = setting(
        says="the checker, as the argument of twistd's --auth: file:/etc/tunnelstack/agents, or one of a plugin"
    )
    allow: tuple[str, ...] = setting((), "the rights of all its agents; nothing else is allowed", check=each(checkPermission))
    share: bool = setting(False, "several processes may hold the same name; requests go to them in turns")


@frozen(kw_only=True, eq=False, repr=False)
class AdminConfig(Record):
    """
    C{[admin]}: administration of the edge, and its dashboard, in addition to the socket in the state folder, which only the
    edge's own user can use.
    """

    listen: str = setting(
        "", "an endpoint string for the dashboard and the administration, which are readable without authentication there; a "
        "port alone is one of 127.0.0.1", convert=loopbackEndpoint,
    )
    tokenFile: str = setting(
        "", "a file with a token, with which listen allows as much as the socket: to drain and disconnect agents, to reload, "
        "to stop; empty is read-only", secretFile=True,
    )
    hosts: tuple[str, ...] = setting(
        (), "names with dots that URLs of listen may have, such as admin.example.net; addresses, localhost and names without "
        "dots need no entry", check=each(checkHost),
    )


DEFAULT_ADMIN = AdminConfig()

PER_SERVICE = (
    "adds metrics with the names of agents and services as labels; the size of a scrape then grows with their number"
)


@frozen(kw_only=True, eq=False, repr=False)
class MetricsConfig(Record):
    """
    C{[metrics]}: metrics for Prometheus, at C{/metrics} of the administration.  They need the extra C{metrics}.
    """

    enabled: bool = setting(False, "true counts requests and answers GET /metrics where [admin] listens")
    perService: bool = setting(False, PER_SERVICE)


@frozen(kw_only=True, eq=False, repr=False)
class AgentMetricsConfig(Record):
    """
    C{[metrics]} of an agent: metrics for Prometheus.  They need the extra C{metrics}.
    """

    listen: str = setting(
        "", "an endpoint string for GET /metrics, which is not authenticated; a port alone is one of 127.0.0.1; empty is no "
        "metrics", convert=loopbackEndpoint,
    )
    perService: bool = setting(False, PER_SERVICE)


@frozen(kw_only=True, eq=False, repr=False)
class InspectConfig(Record):
    """
    C{[inspect]} of an agent: the inspector, a web page with the last requests of http services and folders.
    """

    enabled: bool = setting(False, "true keeps the last requests, and serves the inspector")
    listen: str = setting(
        "tcp:4747:interface=127.0.0.1", "an endpoint string for the inspector; a port alone is one of 127.0.0.1; anywhere else "
        "than on loopback it needs a token", convert=loopbackEndpoint,
    )
    requests: int = setting(500, "requests that are kept; the oldest that have ended are forgotten first",
        check=atLeast(1, 10_000))
    octets: int = setting(
        32 * MEBIBYTE, "octets of heads, bodies and messages that are kept together", check=atLeast(MEBIBYTE, 4096 * MEBIBYTE),
    )
    bodyOctets: int = setting(
        256 * 1024, "octets that are kept of each body and of each WebSocket message, so that a long one does not displace all "
        "others", check=atLeast(1, 64 * MEBIBYTE),
    )
    bodies: bool = setting(True, "false keeps no bodies and no content of messages")
    reveal: bool = setting(
        False, "true shows the values of Authorization, Cookie and other fields with credentials, which are hidden otherwise"
    )
    tokenFile: str = setting(
        "", "a file with the token of the inspector, which is then needed on loopback as well; elsewhere, empty is the file "
        "inspector.token in the state folder, created if it does not exist"
    )


DEFAULT_INSPECT = InspectConfig()


@frozen(kw_only=True, eq=False, repr=False)
class TracingConfig(Record):
    """
    C{[tracing]}: traces by W3C Trace Context.
    """

    enabled: bool = setting(
        False, "true gives each request a trace: that of its traceparent field, or a new one; access logs show it, and the "
        "next server receives it; otherwise the field is passed on as it is",
    )
    sampleRatio: float = setting(
        0.01, "the share of requests that are sampled, from 0 to 1, of those whose trace begins here or comes from a visitor; "
        "trusted proxies, and the edge of an agent, decide for their requests themselves", check=atLeast(0, 1),
    )
    endpoint: str = setting(
        "", "the URL to which spans of sampled requests are sent by OTLP over HTTP, such as http://localhost:4318/v1/traces; "
        "empty sends none; this needs the extra otel", check=optional(isHTTPURL),
    )
    headersFile: str = setting(
        "", "a file of header fields for these requests, such as credentials: lines of 'Name: value'"
    )


DEFAULT_TRACING = TracingConfig()
DEFAULT_METRICS = MetricsConfig()
DEFAULT_AGENT_METRICS = AgentMetricsConfig()


@frozen(kw_only=True, eq=False, repr=False)
class Route(Record):
    """
    C{[[route]]}: a public host that is not simply a service's name and the domain, or that has rules.
    """

    host: str = setting(says="the visitor's host, or '*.' and a domain", check=checkHostPattern)
    to: str = setting(
        says="the service, agent/service, or device:port for a web server that a device can reach", check=checkRouteTarget,
    )
    path: str = setting("/", "only requests for this path and the paths below it", check=checkPath)
    redirect: bool = setting(False, "redirect plain HTTP to https with 308")
    visitors: tuple[str, ...] = setting(
        (), "rules for visitors' addresses: 'allow 10.0.0.0/8', 'deny all'; the first rule that matches decides; if none "
        "does, the visitor is allowed, unless there is an 'allow' rule", check=each(checkVisitorRule),
    )
    users: tuple[str, ...] = setting(
        (), "users who must authenticate with name and password: lines that 'tunnelstack password USER' prints",
        check=each(checkUser),
    )
    usersFile: str = setting("", "a file of such lines")
    keepAuthorization: bool = setting(
        False, "with users or users_file: true passes an Authorization field that has no password of these users on to the "
        "application; a visitor is recognized by a cookie once it has authenticated, a program by the field "
        "Tunnel-Authorization"
    )
    realm: str = setting("", "the name of the site in the browser's request for the password; empty is the host")
    requestsPerSecond: float = setting(
        0.0, "requests per second; beyond, visitors receive 429; 0 is no limit", check=atLeast(0),
    )
    burst: float = setting(0.0, "requests in a burst; 0 is as many as in one second", check=atLeast(0))
    octetsPerSecond: int = setting(
        0, "octets per second of bodies in both directions; faster traffic is delayed; 0 is no limit", check=atLeast(0)
    )


@frozen(kw_only=True, eq=False, repr=False)
class ListenerConfig(Record):
    """
    C{[[listener]]}: a listening port with options that an endpoint string does not have.

    @ivar socket: the endpoint string of a socket that is open already (systemd's), used instead of the port in C{endpoint};
        C{""} opens that port.
    """

    endpoint: str = setting(says="an endpoint string or a port, as in listen of [edge]", convert=listenEndpoint)
    clientCa: str = setting(
        "", "with tls:FOLDER: a PEM file with the certificates of the authorities that sign clients' certificates"
    )
    clientAuth: str = setting(
        "", "with tls:FOLDER: 'require' a certificate of every client, or 'request' one and accept clients without one",
        check=oneOf("", "request", "require"),
    )
    redirect: bool = setting(False, "redirect every visitor to https with 308; agents cannot connect here")
    h2c: bool = setting(
        False, "for plain HTTP: accept HTTP/2 without TLS as well, from clients that know of it beforehand, such as a proxy in "
        "front"
    )
    socket: str = setting("", inFile=False)


@frozen(kw_only=True, eq=False, repr=False)
class SSHConfig(Record):
    """
    C{[ssh]}: the SSH gateway to the SSH servers of agents and devices, C{ssh USER@NAMESPACE.DEVICE@EDGE}.
    """

    listen: tuple[str, ...] = setting(
        (), 'endpoint strings or ports, such as "tcp:2222"; empty is no gateway', convert=listenEndpoints
    )
    hostKeysFile: str = setting(
        "", "the file with the gateway's host keys, created if it does not exist; empty is one in the state folder",
        created=True,
    )
    authorizedKeysFile: str = setting(
        "", "a file of public keys in OpenSSH's format; without it, users can log in only with passwords of the devices"
    )
    vouch: tuple[str, ...] = setting(
        (), "the devices, and their users, that these keys may log in to: 'USER@DEVICE', or 'KEY USER@DEVICE' for one key by "
        "its comment or SHA256 fingerprint, each with * and ?; '*@*' is every key for every user of every device; if empty, "
        "the keys are only good for jumps", check=each(checkVouchRule),
    )
    jumpUsers: tuple[str, ...] = setting(
        (), "user names with which these keys may jump to a device's own server (ssh -J NAME@EDGE DEVICE)"
    )


DEFAULT_SSH = SSHConfig()


@frozen(kw_only=True, eq=False, repr=False)
class EdgeConfig(Record):
    """
    C{[edge]}: the public side.

    @ivar stateDirectory: the state folder; C{""} for none.
    @ivar dev: the edge serves one developer on one machine: loopback only, with a token that the developer's agents find.
    """

    listen: tuple[str, ...] = setting(
        (f"tcp:{DEV_PORT}",), "endpoint strings for visitors and agents, or ports; "
        "[[listener]] may be used as well, or instead", convert=listenEndpoints,
    )
    http2: bool = setting(
        True, "offer HTTP/2 to visitors beside HTTP/1.1, at tls:FOLDER; false offers HTTP/1.1 only"
    )
    h2c: bool = setting(
        False, "accept HTTP/2 without TLS at the endpoints of listen that have none, as h2c of [[listener]] does for one"
    )
    domain: str = setting("localhost", "a service NAME is published at NAME.domain", check=checkHost)
    publicUrl: str = setting(
        "", "the scheme and port of this URL are used in the URLs that agents are sent, if those of the first listener are "
        "not the public ones (behind a proxy)", check=optional(isHTTPURL),
    )
    agentHosts: tuple[str, ...] = setting(
        (), "further hosts on which agents may connect, in addition to the domain itself and IP addresses",
        check=each(checkHost), live=True,
    )
    trustedProxies: tuple[str, ...] = setting(
        (), "networks of proxies whose X-Forwarded-* and Forwarded fields are trusted", check=each(checkNetwork), live=True,
    )
    forwardedBy: str = setting(
        "", "the fields that the trusted proxies write: 'x-forwarded' (X-Forwarded-For, -Proto, -Host), 'forwarded' (RFC "
        "7239) or 'both', which must agree (otherwise 400); empty uses the X-Forwarded fields if a request has any of them, "
        "and Forwarded otherwise; the other fields are replaced",
        check=optional(oneOf("x-forwarded", "forwarded", "both")), live=True,
    )
    portsInterface: str = setting("", "the address on which TCP ports of services are opened; empty is all addresses")
    accessLog: str = setting(
        "-", "the file with a line for each request: '-' is standard error, '' is no access log; a file is reopened at SIGHUP"
    )
    drainSeconds: float = setting(
        30.0, "seconds that work in progress may take when the edge stops", check=atLeast(0, 86_400), live=True,
    )
    limits: Limits = setting(DEFAULT_LIMITS, inFile=False)
    tokens: tuple[TokenRecord, ...] = setting((), inFile=False)
    certificates: tuple[CertificateRecord, ...] = setting((), inFile=False)
    checkers: tuple[CheckerRecord, ...] = setting((), inFile=False)
    routes: tuple[Route, ...] = setting((), inFile=False)
    health: tuple[HealthCheck, ...] = setting((), inFile=False)
    samples: SamplesConfig = setting(DEFAULT_SAMPLES, inFile=False)
    listeners: tuple[ListenerConfig, ...] = setting((), inFile=False)
    admin: AdminConfig = setting(DEFAULT_ADMIN, inFile=False)
    metrics: MetricsConfig = setting(DEFAULT_METRICS, inFile=False)
    tracing: TracingConfig = setting(DEFAULT_TRACING, inFile=False)
    dialects: DialectTables = setting(factory=dict, inFile=False)
    ssh: SSHConfig = setting(DEFAULT_SSH, inFile=False)
    stateDirectory: str = setting("", inFile=False)
    dev: bool = setting(False, inFile=False)


@frozen(kw_only=True, eq=False, repr=False)
class EdgeAddress(Record):
    """
    C{[[edge]]} of an agent: the URL of an edge, and the agent's credentials.
    """

    url: str = setting(says="http(s)://host[:port][/base]", check=isHTTPURL, convert=edgeURL)
    tokenFile: str = setting("", "a file that contains the token and nothing else")
    certificateFile: str = setting(
        "", "a PEM file with the agent's certificate, if the edge authenticates it by one; no token is needed then"
    )
    keyFile: str = setting("", "a PEM file with the key of the certificate; empty if it is in the same file")
    caFile: str = setting("", "a PEM file with the only trusted roots; empty trusts those of the system")
    proxy: str = setting(
        "", "URL of the HTTP proxy to dial through, http(s)://[user:password@]host:port; 'direct' for none; empty uses "
        "HTTPS_PROXY, HTTP_PROXY and NO_PROXY", secret=True,
    )
    insecure: bool = setting(
        False, "true allows the token to be sent to an edge at http: on another machine, readable for all machines on the way"
    )
    token: str = setting("", inFile=False, secret=True)

    @property
    def shown(self) -> str:
        """
        The edge in a status line: host and port, the port left out where the scheme implies it.
        """
        return urlsplit(self.url).netloc


@frozen(kw_only=True, eq=False, repr=False)
class ServiceConfig(Record):
    """
    C{[[service]]}: a service that an agent publishes.
    """

    name: str = setting(says="the service's name, unique on the edge", check=checkLabel)
    kind: str = setting("http", "http, tcp, serve (the files of a folder), stream or ssh", check=checkServiceKind)
    target: str = setting(
        says="a port, host:port, a URL such as http://localhost:3000 (https: for kind http connects by TLS) or an endpoint "
        "string; a folder for 'serve'; a stream protocol's name for 'stream'; for 'ssh' also 'embedded', a server in this "
        "process, which works as its user",
        check=matching(r".+", "something to connect to"),
    )
    remotePort: int = setting(
        0, "kinds tcp and udp: the requested port of the edge; 0 is any port", check=atLeast(0, 65_535)
    )
    firstOctetSeconds: float = setting(
        0.0, "kind http: seconds within which the local server's response must begin; 0 is 3 s less than the edge waits, so "
        "that the visitor receives the agent's explanation", check=atLeast(0, 86_400),
    )
    interimSeconds: float = setting(
        0.0, "kind http: seconds within which the local server's response must begin after an interim response (1xx); each "
        "of these starts first_octet_seconds again; 0 is 3 s less than the edge waits", check=atLeast(0, 86_400),
    )
    http2: str = setting(
        "auto", "kind http: 'always' sends HTTP/2 to the local server, as servers of gRPC need it, and so does a target at "
        "h2c:; 'never' sends HTTP/1.1; 'auto' sends HTTP/1.1, and to a target at https: what the server selects by ALPN",
        check=oneOf("auto", "always", "never"),
    )
    rewriteHost: str = setting(
        "", "kind http: the Host field for the local server, instead of the visitor's", check=optional(checkAuthority)
    )
    rewriteOrigin: bool = setting(
        False, "kind http, with rewrite_host: true puts that host into Origin and Referer as well, where they have the host of "
        "the visitor's URL; requests of other sites keep theirs"
    )
    insecureOrigin: bool = setting(
        False, "kind http, target at https: true accepts any certificate of the local server; whatever answers at its address "
        "then receives the requests of visitors"
    )
    authorizedKeysFile: str = setting("", "kind ssh, embedded: a file of public keys in OpenSSH's format that may log in")
    passwordsFile: str = setting("", "kind ssh, embedded: a file of lines that 'tunnelstack password USER' prints")
    users: tuple[str, ...] = setting(
        (), "kind ssh, embedded: user names with which keys may log in; empty is the user that the agent runs as"
    )
    hostKeysFile: str = setting(
        "", "kind ssh, embedded: the file with the server's host keys, created if it does not exist; empty is one in the "
        "state folder", created=True,
    )


@frozen(kw_only=True, eq=False, repr=False)
class AgentConfig(Record):
    """
    C{[agent]}: the private side.

    @ivar instance: a random name of this process.  The edge recognizes by it an agent that connects again.
    """

    edges: tuple[EdgeAddress, ...] = setting((), inFile=False)
    services: tuple[ServiceConfig, ...] = setting((), inFile=False)
    dialects: DialectTables = setting(factory=dict, inFile=False)
    limits: AgentLimits = setting(DEFAULT_AGENT_LIMITS, inFile=False)
    metrics: AgentMetricsConfig = setting(DEFAULT_AGENT_METRICS, inFile=False)
    inspect: InspectConfig = setting(DEFAULT_INSPECT, inFile=False)
    tracing: TracingConfig = setting(DEFAULT_TRACING, inFile=False)
    giveUpAfterSeconds: float = setting(
        0.0, "seconds without a connection to an edge after which the agent exits with code 69; 0 is no limit",
        check=atLeast(0), live=True,
    )
    backoffSeconds: float = setting(
        30.0, "seconds of the longest wait between two attempts to connect; the actual wait is random below it",
        check=atLeast(0.1, 3600), live=True,
    )
    pingSeconds: float = setting(30.0, "seconds between pings on a session", check=atLeast(1, 3600))
    pingTimeoutSeconds: float = setting(10.0, "seconds within which a ping must be answered", check=atLeast(0.1, 3600))
    drainSeconds: float = setting(
        30.0, "seconds that work in progress may take when the agent stops", check=atLeast(0, 86_400), live=True,
    )
    accessLog: str = setting(
        "-", "the file with a line for each request: '-' is standard error, '' is no access log; a file is reopened at SIGHUP"
    )
    targets: tuple[str, ...] = setting(
        (), "targets that clients with the right to dial this agent may connect to (tunnelstack connect NAME --purpose "
        "tcp:HOST:PORT): host:port, or host:* for every port; nothing else is allowed", check=each(checkTarget), live=True,
    )
    instance: str = setting(factory=lambda: token_hex(8), inFile=False)
