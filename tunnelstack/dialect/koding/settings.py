"""
The tables of koding/tunnel in configuration files.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from attrs import frozen

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.setting import atLeast, each, formatValue, setting
from tunnelstack.settings.tables import DialectSettings, Table, Tables
from tunnelstack.settings.validators import checkDigest, checkHost, isHTTPURL, optional


def checkPublicHost(value: object) -> None:
    """
    A host name that visitors use.  It is not an address: clients send the address of the server as the host of their own
    request.
    """
    checkHost(value)
    if isIPAddress(value):
        raise ConfigurationError(f"must be a name and not an address: {formatValue(value)}")


def isIPAddress(value: object) -> bool:
    """
    @return: whether a value is a text with an IP address.
    """
    try:
        ip_address(str(value))
    except ValueError:
        return False
    return True


def checkIPAddress(value: object) -> None:
    """
    An address of this machine.
    """
    if not isIPAddress(value):
        raise ConfigurationError(f"must be an IP address, not {formatValue(value)}")


def parseTarget(text: str) -> tuple[int, str]:
    """
    @param text: C{"TARGET"} for every port, or C{"PORT=TARGET"} for requests to one public port.
    @return: the port, C{0} for every port, and the target: a port, host:port or an endpoint string.
    @raise ConfigurationError: it has none of these forms.
    """
    port, equals, target = text.partition("=")
    if not (equals and port.isdecimal()):          # an endpoint string may have an equals sign, too
        port, target = "0", text
    if not target or len(port) > 5 or (equals and port != "0" and not 0 < int(port) < 65_536):
        raise ConfigurationError(f"must be TARGET, or PORT=TARGET with a port from 1 to 65535, not {formatValue(text)}")
    return int(port), target


def checkTargets(value: object) -> None:
    """
    A target as in L{parseTarget}.
    """
    parseTarget(str(value))


@frozen(kw_only=True)
class EdgeSettings:
    """
    C{[koding]}: accept clients of koding/tunnel.
    """

    openSeconds: float = setting(
        10.0, "seconds that a client has to open its control stream, and each stream for a visitor", check=atLeast(0.1, 300.0)
    )


@frozen(kw_only=True)
class HostSettings:
    """
    C{[[koding.host]]}: a host name, and the identifier of the client that serves it.  Several hosts may have the same
    identifier.
    """

    host: str = setting(says="the host name that visitors use, without a port", check=checkPublicHost)
    identifierFile: str = setting(
        "", "a file that contains the client's identifier and nothing else; every client that has it may serve the host",
        secretFile=True,
    )
    identifierSha256: str = setting("", "instead of a file: the SHA-256 of the identifier", check=optional(checkDigest))


@frozen(kw_only=True)
class PortSettings:
    """
    C{[[koding.port]]}: a TCP port of the edge for a client.
    """

    port: int = setting(says="the port, which is open while the client is connected", check=atLeast(1, 65_535))
    host: str = setting(says="a host of the client", check=checkPublicHost)
    address: str = setting(
        "", "the address of this machine on which the port is opened; empty is that of the ports of all agents",
        check=optional(checkIPAddress),
    )


@frozen(kw_only=True)
class AgentSettings:
    """
    C{[[koding]]} of an agent: a server of koding/tunnel, or an edge with C{[koding]}, that this machine serves hosts of.
    """

    url: str = setting(says="http(s)://host[:port] of the server", check=isHTTPURL)
    identifierFile: str = setting(says="a file that contains the identifier and nothing else", secretFile=True)
    http: tuple[str, ...] = setting(
        (), "web servers, also for WebSockets: TARGET for all requests, or PORT=TARGET for requests to one port of the server; "
        "TARGET is a port, host:port or an endpoint string", check=each(checkTargets),
    )
    tcp: tuple[str, ...] = setting(
        (), "TCP servers, in the same form: PORT=TARGET is for one port of the server", check=each(checkTargets)
    )
    idleSeconds: float = setting(
        3600.0, "seconds after which a TCP connection or WebSocket is closed on which nothing passes: servers of koding/tunnel "
        "do not report that a visitor has left; 0 is never", check=atLeast(0),
    )
    caFile: str = setting("", "a PEM file with the only trusted roots; empty trusts those of the system")
    proxy: str = setting("", "as in [[edge]]", secret=True)
    insecure: bool = setting(
        False, "true allows the identifier to be sent to a server at http: on another machine, as genuine clients do"
    )


def checkEdge(tables: Tables) -> None:
    """
    Report hosts without one identifier, and ports that would be opened twice.
    """
    for index, host in enumerate(tables.many("koding.host", HostSettings)):
        if host and bool(host.identifierFile) == bool(host.identifierSha256):
            tables.wrong(("koding.host", index), "[[koding.host]] needs either an identifier_file or an identifier_sha256")
    seen: dict[int, set[str]] = {}
    for index, port in enumerate(tables.many("koding.port", PortSettings)):
        if port:
            addresses = seen.setdefault(port.port, set())
            if port.address in addresses or (addresses and "" in (port.address, *addresses)):
                tables.wrong(("koding.port", index), f"[[koding.port]] has port {port.port} of the same address twice")
            addresses.add(port.address)


def checkAgent(tables: Tables) -> None:
    """
    Report a server that nothing is served to, two targets for one port, and a URL with a path.
    """
    for index, agent in enumerate(tables.many("koding", AgentSettings)):
        if not agent:
            continue
        if not (agent.http or agent.tcp):
            tables.wrong(("koding", index), "[[koding]] serves nothing: give targets in http or tcp")
        for targets in (agent.http, agent.tcp):
            ports = [parseTarget(target)[0] for target in targets]
            if len(set(ports)) < len(ports):
                tables.wrong(("koding", index), "[[koding]] has two targets for the same port")
        if urlsplit(agent.url).path.strip("/"):
            tables.wrong(("koding", index), "url must not have a path: the path of the protocol is fixed")


SETTINGS = DialectSettings(
    edge={
        "koding": Table(EdgeSettings),
        "koding.host": Table(HostSettings, many=True, live=True, unique={"host": lambda each: each.host}),
        "koding.port": Table(PortSettings, many=True, live=True),
    },
    agent={
        "koding": Table(AgentSettings, many=True, unique={"url and identifier": lambda each: (each.url, each.identifierFile)}),
    },
    checkEdge=checkEdge,
    checkAgent=checkAgent,
)
