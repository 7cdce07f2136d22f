"""
The table of GoDoxy in configuration files of agents.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from attrs import frozen

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.setting import atLeast, each, formatValue, oneOf, setting
from tunnelstack.settings.tables import Table, Tables
from tunnelstack.settings.validators import checkNetwork, checkTarget, optional
from tunnelstack.wire.records.godoxy_api import RUNTIMES

DEFAULT_PORT = 8890
"""Where genuine agents listen."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def checkInterface(value: Any) -> None:
    """
    An address of this machine.
    """
    try:
        ip_address(value)
    except ValueError:
        raise ConfigurationError(f"must be an IP address, not {formatValue(value)}") from None


def checkDestination(value: Any) -> None:
    """
    C{host:port}, where the host may be a network, or C{host:*}.
    """
    checkTarget(value)
    host = value.rpartition(":")[0].removeprefix("[").removesuffix("]")
    if "/" in host:
        checkNetwork(host)


@frozen(kw_only=True)
class AgentSettings:
    """
    C{[[godoxy]]} of an agent: listen for a main program of GoDoxy, or for an edge with C{[[godoxy.agent]]}.
    """

    port: int = setting(
        DEFAULT_PORT, "the port: over TCP for streams and the HTTPS API, and over UDP for datagrams", check=atLeast(1, 65_535)
    )
    address: str = setting(
        "", "the address of this machine on which it listens; empty is every IPv4 address, and \"::\" is every address",
        check=optional(checkInterface),
    )
    name: str = setting("", "what the agent reports as its name; empty is the name of this machine")
    caFile: str = setting(
        says="a PEM file with the authority that issues the certificates of edges: every edge with one of these may "
        "use what is granted here"
    )
    certificateFile: str = setting(
        says="a PEM file with the certificate of this agent, for servers and for the name godoxy.agent"
    )
    keyFile: str = setting("", "a PEM file with its key; empty if it is in certificate_file", secretFile=True)
    targets: tuple[str, ...] = setting(
        (), "what streams, datagrams, forwarded requests and examinations of health may reach: host:port, or host:* for every "
        "port; the host may be a network such as 172.17.0.0/16; nothing else is allowed", check=each(checkDestination),
    )
    datagrams: bool = setting(True, "false does not listen on UDP")
    dockerSocket: str = setting(
        "", "the Unix socket of Docker or Podman, such as /var/run/docker.sock, that the API gives access to; empty is none"
    )
    dockerMethods: tuple[str, ...] = setting(
        ("GET",), "the methods of HTTP that are accepted for docker_socket; with others than GET an edge controls the "
        "containers, and by them this machine", check=each(oneOf(*METHODS)),
    )
    runtime: str = setting("docker", f"what the agent reports as its runtime: {' or '.join(RUNTIMES)}", check=oneOf(*RUNTIMES))
    streams: int = setting(
        1024, "streams that may be open at once; further connections are closed", check=atLeast(1, 65_536)
    )
    requests: int = setting(
        1024, "connections for the API and for forwarded requests that may be open at once; further ones are closed",
        check=atLeast(1, 65_536),
    )
    flows: int = setting(
        1024, "flows of datagrams that may be open at once, each with a UDP socket; further ones are refused",
        check=atLeast(1, 65_536),
    )
    flowIdleSeconds: float = setting(
        300.0, "seconds without a datagram in either direction after which a flow is closed; genuine agents keep it for ever; "
        "0 does, too", check=atLeast(0, 86_400),
    )


def checkAgent(tables: Tables) -> None:
    """
    Report methods of a socket that is not given.
    """
    for index, agent in enumerate(tables.many("godoxy", AgentSettings)):
        if agent and not agent.dockerSocket and agent.dockerMethods != ("GET",):
            tables.wrong(("godoxy", index), "docker_methods is for docker_socket, which is not set")


TABLES = {
    "godoxy": Table(AgentSettings, many=True, unique={"address and port": lambda each: (each.address, each.port)}),
}
"""The tables of an agent's file."""
