"""
What an edge and an agent are told: frozen records with a default, a bound and a reason for every number.

A service is made from such a record and never reads a file, the environment or a command line itself;
L{tunnelstack.control.config.reader} makes records of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen

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
from tunnelstack.settings.setting import atLeast, each, matching, oneOf, setting
from tunnelstack.settings.validators import (
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

DialectTables = Mapping[str, Mapping[str, tuple[Any, ...]]]
"""Of each dialect that has tables in the file: the records of each of its tables."""

DEV_PORT = 8080
"""The port of an edge that was started with C{--dev} and told no other."""

SESSION_OCTETS = (
    "octets that one session may hold above the first 256 KiB of each stream; the windows of its streams share them"
)
PROCESS_OCTETS = (
    "octets held by all sessions together; beyond, the streams are reset that were not read for longest, and for at least 10 s"
)

NEVER = datetime.max.replace(tzinfo=UTC)
"""When a token expires that does not."""


@frozen(kw_only=True)
class Limits:
    """
    C{[limits]}: what strangers may cost the edge.
    """

    headOctets: int = setting(32 * 1024, "octets of a request's head", check=atLeast(1024, MEBIBYTE), live=True)
    headFields: int = setting(100, "header fields of a request", check=atLeast(8, 10_000), live=True)
    headSeconds: float = setting(
        10.0, "seconds within which a request's head must be there", check=atLeast(0.1, 3600), live=True,
    )
    firstOctetSeconds: float = setting(
        60.0, "seconds within which the answer must begin; then the visitor gets 504",
        check=atLeast(0.1, 86_400),
    )
    interimSeconds: float = setting(
        600.0, "seconds within which the answer must begin after an interim response (1xx); each of these starts "
        "first_octet_seconds again", check=atLeast(0.1, 86_400),
    )
    idleSeconds: float = setting(
        300.0, "seconds without an octet after which a connection is closed; never applied to upgraded or streaming bodies",
        check=atLeast(1, 86_400),
    )
    sessionStreams: int = setting(1024, "streams that each side of a session may have open", check=atLeast(1, 1_000_000))
    visitors: int = setting(10_000, "visitors' connections at a time", check=atLeast(1), live=True)
    connectionsPerSecond: float = setting(
        50.0, "new connections a second from one address (of IPv6: one /64), as many at once; further ones are closed; this "
        "machine itself and trusted proxies are not counted; 0 counts nobody", check=atLeast(0), live=True,
    )
    agentRequestsPerSecond: float = setting(
        0.0, "visitors' requests a second to one agent, and connections to its TCP ports, unless its [[agent]] says otherwise; "
        "beyond, 429, or closed at once; 0 counts nothing",
        check=atLeast(0), live=True,
    )
    agentOctetsPerSecond: int = setting(
        0, "octets a second of visitors' bodies, and of connections to its TCP ports, to and from one agent, unless its "
        "[[agent]] says otherwise; faster ones wait; 0 lets everything through", check=atLeast(0), live=True,
    )
    bufferedBodyOctets: int = setting(
        10 * MEBIBYTE, "octets of a body where an agent's protocol cannot stream it; beyond, 413", check=atLeast(0)
    )
    sessionOctets: int = setting(8 * MEBIBYTE, SESSION_OCTETS, check=atLeast(0))
    processOctets: int = setting(1024 * MEBIBYTE, PROCESS_OCTETS, check=atLeast(MEBIBYTE), live=True)


DEFAULT_LIMITS = Limits()


@frozen(kw_only=True)
class AgentLimits:
    """
    C{[limits]} of an agent: what visitors and slow local servers may cost it.
    """

    sessionOctets: int = setting(8 * MEBIBYTE, SESSION_OCTETS, check=atLeast(0))
    processOctets: int = setting(1024 * MEBIBYTE, PROCESS_OCTETS, check=atLeast(MEBIBYTE), live=True)


DEFAULT_AGENT_LIMITS = AgentLimits()


@frozen(kw_only=True)
class TokenRecord:
    """
    C{[[agent]]}: one credential, and what its holder may do.
    """

    name: str = setting(says="the agent's name", check=checkLabel)
    tokenSha256: str = setting(
        says="SHA-256 of the whole token (as sent, without white space around it), in hexadecimal digits", check=checkDigest
    )
    allow: tuple[str, ...] = setting((), "what was granted; nothing else is allowed", check=each(checkPermission))
    share: bool = setting(False, "several processes may hold the same name, in turns")
    id: str = setting("", "the public part of the token, by which it is named in logs", check=checkIdentifier)
    requestsPerSecond: float = setting(
        0.0, "visitors' requests and TCP connections a second; beyond, 429, or closed at once; 0 is what [limits] says",
        check=atLeast(0),
    )
    octetsPerSecond: int = setting(
        0, "octets a second of visitors' bodies and TCP connections in both directions; what comes faster waits; 0 is what "
        "[limits] says",
        check=atLeast(0),
    )
    expires: datetime = setting(NEVER, "when it stops being good, such as 2027-01-31T12:00:00Z", check=checkTime)


@frozen(kw_only=True)
class CertificateRecord:
    """
    C{[[certificate]]}: an agent that is known by its certificate, on listeners that verify clients.
    """

    name: str = setting(says="the agent's name", check=checkLabel)
    sha256: str = setting("", "SHA-256 of the certificate (DER), in hexadecimal digits; or else",
        check=optional(checkDigest))
    subject: str = setting("", "its subject as RFC 4514 writes it, such as CN=laptop,O=Example")
    allow: tuple[str, ...] = setting((), "what was granted; nothing else is allowed", check=each(checkPermission))
    share: bool = setting(False, "several processes may hold the same name, in turns")


@frozen(kw_only=True)
class CheckerRecord:
    """
    C{[[checker]]}: whoever one of Twisted's credentials checkers knows by name and password.  The token such an agent shows is
    C{name:password}.
    """

    auth: str = setting(says="the checker, as twistd's --auth takes it: file:/etc/tunnelstack/agents, or a plugin's")
    allow: tuple[str, ...] = setting((), "what all of them may do; nothing else is allowed", check=each(checkPermission))
    share: bool = setting(False, "several processes may hold the same name, in turns")


@frozen(kw_only=True)
class AdminConfig:
    """
    C{[admin]}: who may ask what the edge is doing, beside its own user through the socket in the state folder.
    """

    listen: str = setting(
        "", "an endpoint string on which everybody who reaches it may read (health, status, agents, routes, streams) and "
        "nobody may change anything"
    )


DEFAULT_ADMIN = AdminConfig()


@frozen(kw_only=True)
class Route:
    """
    C{[[route]]}: a host of visitors that is not simply a service's name below the domain.
    """

    host: str = setting(says="the visitor's host, or '*.' and a domain", check=checkHostPattern)
    to: str = setting(says="the service, agent/service, or device:port for a web server on a device", check=checkRouteTarget)
    path: str = setting("/", "only requests whose path is this or lies below it", check=checkPath)
    redirect: bool = setting(False, "send visitors who come by plain HTTP to https with 308")
    visitors: tuple[str, ...] = setting(
        (), "who may come, by address: 'allow 10.0.0.0/8', 'deny all'; the first that fits decides; where none does, everybody "
        "may, unless somebody is allowed by name", check=each(checkVisitorRule),
    )
    users: tuple[str, ...] = setting(
        (), "who may come, by name and password: lines that 'tunnelstack password USER' prints", check=each(checkUser)
    )
    usersFile: str = setting("", "a file of such lines")
    realm: str = setting("", "what the browser calls the site when it asks for the password; empty is the host")
    requestsPerSecond: float = setting(0.0, "requests a second; beyond, 429; 0 does not count them", check=atLeast(0))
    burst: float = setting(0.0, "requests that may come at once; 0 is one second's worth", check=atLeast(0))
    octetsPerSecond: int = setting(
        0, "octets a second of bodies in both directions; what comes faster waits; 0 lets everything through", check=atLeast(0)
    )


@frozen(kw_only=True)
class ListenerConfig:
    """
    C{[[listener]]}: a place to listen with more to say than an endpoint string can.

    @ivar socket: the endpoint string of a socket that listens already (systemd's), used instead of the port that C{endpoint}
        names; C{""} opens that port.
    """

    endpoint: str = setting(says="an endpoint string, as in listen of [edge]")
    clientCa: str = setting("", "with tls:FOLDER: a PEM file with the certificates of those who sign clients' certificates")
    clientAuth: str = setting(
        "", "with tls:FOLDER: 'require' a certificate of every client, or 'request' one and let in those without",
        check=oneOf("", "request", "require"),
    )
    redirect: bool = setting(False, "send every visitor to https with 308; no agent comes in here")
    socket: str = setting("", inFile=False)


@frozen(kw_only=True)
class SSHConfig:
    """
    C{[ssh]}: the front door for C{ssh USER@NAMESPACE.DEVICE@EDGE}, which leads to the SSH servers of agents and devices.
    """

    listen: tuple[str, ...] = setting((), 'endpoint strings, such as "tcp:2222"; with none of them there is no such door')
    hostKeysFile: str = setting(
        "", "the file with the door's own keys, made if it is not there; empty is one in the state folder"
    )
    authorizedKeysFile: str = setting(
        "", "a file of public keys, as OpenSSH has them; without it, people log in with passwords of the devices alone"
    )
    vouch: tuple[str, ...] = setting(
        (), "which devices are told that these keys are good, and for which of their users: 'USER@DEVICE', or "
        "'KEY USER@DEVICE' for one key by its comment or SHA256 fingerprint, all three with * and ?; '*@*' is every key for "
        "every user of every device; where none is given, the keys are for jumps alone", check=each(checkVouchRule),
    )
    jumpUsers: tuple[str, ...] = setting(
        (), "names by which the holders of these keys may pass to a device's own server (ssh -J NAME@EDGE DEVICE)"
    )


DEFAULT_SSH = SSHConfig()


@frozen(kw_only=True)
class EdgeConfig:
    """
    C{[edge]}: the public side.

    @ivar stateDirectory: where it keeps what must outlive the process; C{""} keeps nothing.
    @ivar dev: it serves one developer on one machine: loopback only, and a token that its own agents find by themselves.
    """

    listen: tuple[str, ...] = setting(
        (f"tcp:{DEV_PORT}",), "endpoint strings on which visitors and agents come in; "
        "there may be [[listener]] as well, or instead"
    )
    domain: str = setting("localhost", "a service NAME is at NAME.domain", check=checkHost)
    publicUrl: str = setting(
        "", "what comes before the host in the URLs that agents are told, where it cannot be seen from the first listener "
        "(behind a proxy): the scheme and port of this URL", check=optional(isHTTPURL),
    )
    agentHosts: tuple[str, ...] = setting(
        (), "further hosts on which agents come in, beside the domain itself and plain IP addresses",
        check=each(checkHost), live=True,
    )
    trustedProxies: tuple[str, ...] = setting(
        (), "networks whose X-Forwarded-* and Forwarded are believed", check=each(checkNetwork), live=True,
    )
    forwardedBy: str = setting(
        "", "which fields the trusted proxies write: 'x-forwarded' (X-Forwarded-For, -Proto, -Host), 'forwarded' (RFC 7239) or "
        "'both', which may not contradict each other (400); empty believes the X-Forwarded fields where a request has any of "
        "them, and Forwarded otherwise; the others are replaced",
        check=optional(oneOf("x-forwarded", "forwarded", "both")), live=True,
    )
    portsInterface: str = setting("", "the address on which TCP ports of services are opened; empty is every address")
    accessLog: str = setting(
        "-", "where a line is written for each request: '-' is standard error, '' is nowhere, else a file, which is opened "
        "again at SIGHUP"
    )
    drainSeconds: float = setting(
        30.0, "seconds that work under way has when the edge stops", check=atLeast(0, 86_400), live=True,
    )
    limits: Limits = setting(DEFAULT_LIMITS, inFile=False)
    tokens: tuple[TokenRecord, ...] = setting((), inFile=False)
    certificates: tuple[CertificateRecord, ...] = setting((), inFile=False)
    checkers: tuple[CheckerRecord, ...] = setting((), inFile=False)
    routes: tuple[Route, ...] = setting((), inFile=False)
    listeners: tuple[ListenerConfig, ...] = setting((), inFile=False)
    admin: AdminConfig = setting(DEFAULT_ADMIN, inFile=False)
    dialects: DialectTables = setting(factory=dict, inFile=False)
    ssh: SSHConfig = setting(DEFAULT_SSH, inFile=False)
    stateDirectory: str = setting("", inFile=False)
    dev: bool = setting(False, inFile=False)


@frozen(kw_only=True)
class EdgeAddress:
    """
    C{[[edge]]} of an agent: where an edge is, and who the agent is there.
    """

    url: str = setting(says="http(s)://host[:port][/base]", check=isHTTPURL)
    tokenFile: str = setting("", "a file that holds the token, and nothing else")
    certificateFile: str = setting(
        "", "a PEM file with our certificate, where the edge knows us by one; no token is needed then"
    )
    keyFile: str = setting("", "a PEM file with its key; empty where that stands in the same file")
    caFile: str = setting("", "a PEM file with the only roots that are trusted; empty trusts the system's")
    proxy: str = setting(
        "", "URL of the HTTP proxy to dial through, http(s)://[user:password@]host:port; 'direct' for none; empty asks "
        "HTTPS_PROXY, HTTP_PROXY and NO_PROXY", secret=True,
    )
    insecure: bool = setting(
        False, "true lets the token go to an edge at http: on another machine, where all machines on the way can read it"
    )
    token: str = setting("", inFile=False, secret=True)

    @property
    def shown(self) -> str:
        """
        The edge in a status line: host and port, the port left out where the scheme implies it.
        """
        return urlsplit(self.url).netloc


@frozen(kw_only=True)
class ServiceConfig:
    """
    C{[[service]]}: one thing that an agent publishes.
    """

    name: str = setting(says="the service's name, unique on the edge", check=checkLabel)
    kind: str = setting("http", "http, tcp, serve (the files of a folder), stream or ssh", check=checkServiceKind)
    target: str = setting(
        says="a port, host:port or an endpoint string; a folder for 'serve'; a stream protocol's name for 'stream'; for 'ssh' "
        "also 'embedded', a server in this process, which works as its user",
        check=matching(r".+", "something to connect to"),
    )
    remotePort: int = setting(
        0, "kind tcp: the port of the edge that is asked for; 0 takes what the edge gives", check=atLeast(0, 65_535)
    )
    firstOctetSeconds: float = setting(
        57.0, "kind http: seconds within which the local server's answer must begin; a little less than the 60 for which an "
        "edge waits unless told otherwise, so that the visitor reads the agent's explanation", check=atLeast(0.1, 86_400),
    )
    interimSeconds: float = setting(
        597.0, "kind http: seconds within which the local server's answer must begin after an interim response (1xx); each of "
        "these starts first_octet_seconds again", check=atLeast(0.1, 86_400),
    )
    rewriteHost: str = setting("", "kind http: the Host that the local server sees, instead of the visitor's")
    authorizedKeysFile: str = setting("", "kind ssh, embedded: a file of public keys, as OpenSSH has them, that open it")
    passwordsFile: str = setting("", "kind ssh, embedded: a file of names and hashed passwords that open it")
    users: tuple[str, ...] = setting(
        (), "kind ssh, embedded: names by which keys open it; empty is the name of the user that the agent runs as"
    )
    hostKeysFile: str = setting(
        "", "kind ssh, embedded: the file with the server's own keys, made if it is not there; empty is one in the state folder"
    )


@frozen(kw_only=True)
class AgentConfig:
    """
    C{[agent]}: the private side.

    @ivar instance: a random name of this process, kept for its life: the edge knows by it who comes back.
    """

    edges: tuple[EdgeAddress, ...] = setting((), inFile=False)
    services: tuple[ServiceConfig, ...] = setting((), inFile=False)
    dialects: DialectTables = setting(factory=dict, inFile=False)
    limits: AgentLimits = setting(DEFAULT_AGENT_LIMITS, inFile=False)
    giveUpAfterSeconds: float = setting(
        0.0, "seconds without an edge after which the agent ends with code 69; 0 tries for ever", check=atLeast(0), live=True,
    )
    backoffSeconds: float = setting(
        30.0, "the longest wait between two attempts; the actual one is random below it", check=atLeast(0.1, 3600), live=True,
    )
    pingSeconds: float = setting(30.0, "seconds between pings on a session", check=atLeast(1, 3600))
    pingTimeoutSeconds: float = setting(10.0, "seconds within which a ping must be answered", check=atLeast(0.1, 3600))
    drainSeconds: float = setting(
        30.0, "seconds that work under way has when the agent stops", check=atLeast(0, 86_400), live=True,
    )
    accessLog: str = setting(
        "-", "where a line is written for each request: '-' is standard error, '' is nowhere, else a file, which is opened "
        "again at SIGHUP"
    )
    targets: tuple[str, ...] = setting(
        (), "where those who may dial this agent are connected to (tunnelstack connect NAME --purpose tcp:HOST:PORT): "
        "host:port, or host:* for every port; nowhere else", check=each(checkTarget), live=True,
    )
    instance: str = setting(factory=lambda: token_hex(8), inFile=False)
