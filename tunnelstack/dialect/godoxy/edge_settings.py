"""
The tables of GoDoxy in configuration files of edges.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from attrs import frozen

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.setting import atLeast, formatValue, oneOf, setting
from tunnelstack.settings.tables import Table, Tables
from tunnelstack.settings.validators import checkHost, checkLabel, optional
from tunnelstack.wire.records.godoxy import HOST_OCTETS, SERVER_NAME

KINDS = ("http", "tcp", "udp")
"""What a service of an agent may be."""

_HTTP_TARGET = re.compile(r"(?:(https?|h2c)://)?([^/\s?#@]+)", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "h2c": 80, "https": 443}


def parseAddress(text: str) -> tuple[str, int]:
    """
    @param text: C{host:port}, with brackets around an IPv6 address.
    @return: the host, without brackets, and the port.
    @raise ConfigurationError: it has another form.
    """
    host, colon, port = text.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (bare and colon and 0 < number < 65_536) or (":" in bare) != (bare != host) or not re.fullmatch(r"[!-~]+", bare):
        raise ConfigurationError(f"must be host:port, with brackets around an IPv6 address, not {formatValue(text)}")
    if len(bare) > HOST_OCTETS:
        raise ConfigurationError(f"must have a host of at most {HOST_OCTETS} characters")
    return bare, number


def checkAddress(value: object) -> None:
    """
    Where an agent listens.
    """
    parseAddress(value if isinstance(value, str) else "")


def parseHTTPTarget(text: str) -> tuple[str, str]:
    """
    @param text: C{host:port}, or C{http://}, C{https://} or C{h2c://} and a host with or without a port.
    @return: the scheme, and the host with its port.
    @raise ConfigurationError: it has another form.
    """
    found = _HTTP_TARGET.fullmatch(text)
    if found is None:
        raise ConfigurationError(
            f"must be host:port or a URL such as https://wiki:8443, without a path, not {formatValue(text)}"
        )
    scheme, authority = found[1] or "http", found[2]
    bare = ":" not in authority or authority.endswith("]")
    host, port = parseAddress(f"{authority}:{_DEFAULT_PORTS[scheme]}" if bare and found[1] else authority)
    return scheme, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def checkIPAddress(value: object) -> None:
    """
    An address of this machine.
    """
    try:
        ip_address(str(value))
    except ValueError:
        raise ConfigurationError(f"must be an IP address, not {formatValue(value)}") from None


@frozen(kw_only=True)
class EdgeSettings:
    """
    C{[godoxy]}: dial agents of GoDoxy, and publish what they reach.
    """

    archives: str = setting(
        "", "a folder of archives named ADDRESS.zip, as the genuine program keeps them in certs/: the certificates for agents "
        "that name none of their own", live=True,
    )
    healthSeconds: float = setting(
        30.0, "seconds between two examinations of an agent: its API, its streams, and the health of its services",
        check=atLeast(1, 3600), live=True,
    )
    probeSeconds: float = setting(
        5.0, "seconds for each step of an examination; genuine programs give 5 to all of them", check=atLeast(0.5, 60),
        live=True,
    )


    endingSeconds: float = setting(
        10.0, "kind tcp: seconds without an octet of the server, after a visitor has ended its direction, until the connection "
        "is closed; genuine agents do not pass on the end of a direction; 0 waits for the server",
        check=atLeast(0, 3600), live=True,
    )


@frozen(kw_only=True)
class DialledAgentSettings:
    """
    C{[[godoxy.agent]]}: an agent, which listens.
    """

    name: str = setting(says="the name of the agent on the edge", check=checkLabel)
    address: str = setting(says="host:port where it listens, by TCP and by UDP", check=checkAddress)
    archive: str = setting(
        "", "a zip archive with ca.pem, cert.pem and key.pem, as the genuine program and tunnelstack certs make it",
        secretFile=True,
    )
    caFile: str = setting("", "instead of an archive: a PEM file with the authority that has issued the agent's certificate")
    certificateFile: str = setting("", "instead of an archive: a PEM file with the certificate of the edge, for clients")
    keyFile: str = setting("", "instead of an archive: a PEM file with its key", secretFile=True)
    serverName: str = setting(
        SERVER_NAME, "what the agent's certificate must be for; those of genuine agents are for this name", check=checkHost
    )


@frozen(kw_only=True)
class ServiceSettings:
    """
    C{[[godoxy.service]]}: a server that an agent reaches, and that the edge publishes.
    """

    name: str = setting(
        says="the name of the service; a web service is published at this name below the domain", check=checkLabel
    )
    agent: str = setting(says="the name of the agent", check=checkLabel)
    kind: str = setting("http", f"one of {', '.join(KINDS)}", check=oneOf(*KINDS))
    target: str = setting(
        says="what the agent connects to: host:port; for kind http also a URL with http, https or h2c, without a path"
    )
    port: int = setting(0, "kinds tcp and udp: the port of the edge; 0 is any port", check=atLeast(0, 65_535))
    address: str = setting(
        "", "kinds tcp and udp: the address of the edge on which the port is opened; empty is that of the ports of all agents",
        check=optional(checkIPAddress),
    )
    insecure: bool = setting(False, "kind http: true lets the agent accept any certificate of an https server")
    serverName: str = setting(
        "", "kind http: what the certificate of an https server must be for; empty is the host of the target",
        check=optional(checkHost),
    )
    responseSeconds: float = setting(
        0.0, "kind http: seconds within which the server must begin to respond; 0 is the agent's own bound of 60",
        check=atLeast(0, 3600),
    )


def checkService(service: ServiceSettings) -> None:
    """
    @raise ConfigurationError: the target or another setting does not fit the kind of the service.
    """
    web = service.kind == "http"
    try:
        (parseHTTPTarget if web else parseAddress)(service.target)
    except ConfigurationError as wrong:
        raise ConfigurationError(f"target {wrong}") from None
    if web and (service.port or service.address):
        raise ConfigurationError("port and address are for services of kind tcp and udp")
    if not web and (service.insecure or service.serverName or service.responseSeconds):
        raise ConfigurationError("insecure, server_name and response_seconds are for services of kind http")


def checkEdge(tables: Tables) -> None:
    """
    Report agents without certificates, and services without an agent, with a target of another kind, or with a taken port.
    """
    one = tables.one("godoxy", EdgeSettings)
    archives = one is not None and bool(one.archives)
    given = tables.many("godoxy.agent", DialledAgentSettings)
    agents = {agent.name for agent in given if agent}
    for index, agent in enumerate(given):
        if agent:
            _checkAgent(tables, index, agent, archives)
    taken: set[tuple[str, int, str]] = set()
    for index, service in enumerate(tables.many("godoxy.service", ServiceSettings)):
        if not service:
            continue
        place = ("godoxy.service", index)
        try:
            checkService(service)
        except ConfigurationError as wrong:
            tables.wrong(place, str(wrong))
        if service.agent not in agents and None not in given:
            tables.wrong(place, f"[[godoxy.service]] is of the agent {formatValue(service.agent)}, not a [[godoxy.agent]]")
        port = (service.kind, service.port, service.address)
        if service.port and port in taken:
            tables.wrong(place, f"[[godoxy.service]] has {service.kind} port {service.port} twice")
        taken.add(port)


def _checkAgent(tables: Tables, index: int, agent: DialledAgentSettings, archives: bool) -> None:
    place = ("godoxy.agent", index)
    files = (agent.caFile, agent.certificateFile, agent.keyFile)
    if agent.archive and any(files):
        tables.wrong(place, "[[godoxy.agent]] has an archive and files of its own: give one of them")
    elif any(files) and not (agent.caFile and agent.certificateFile):
        tables.wrong(place, "[[godoxy.agent]] needs ca_file and certificate_file together, and key_file for a key elsewhere")
    elif not (agent.archive or any(files) or archives):
        tables.wrong(place, "[[godoxy.agent]] needs an archive, or ca_file and certificate_file, or archives in [godoxy]")


TABLES = {
    "godoxy": Table(EdgeSettings, live=True),
    "godoxy.agent": Table(
        DialledAgentSettings, many=True, live=True,
        unique={"name": lambda each: each.name, "address": lambda each: each.address},
    ),
    "godoxy.service": Table(ServiceSettings, many=True, live=True, unique={"name": lambda each: each.name}),
}
"""The tables of an edge's file."""
