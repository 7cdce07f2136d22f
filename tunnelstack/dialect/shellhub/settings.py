"""
The tables of ShellHub in configuration files.
"""

from __future__ import annotations

from attrs import frozen

from tunnelstack.records import EMBEDDED
from tunnelstack.settings.setting import each, matching, oneOf, setting
from tunnelstack.settings.tables import DialectSettings, Table, Tables
from tunnelstack.settings.validators import checkLabel, checkTarget, isHTTPURL, isUUID, optional


@frozen(kw_only=True)
class EdgeSettings:
    """
    C{[shellhub]}: agents of ShellHub, of both versions of its transport, come in beside our own.
    """

    policy: str = setting(
        "pending", "which devices are let in: 'pending' those that an operator accepts (tunnelstack devices accept NAME), "
        "'install-key' also those that show an install key of their tenant, 'automatic' all of every tenant",
        check=oneOf("automatic", "install-key", "pending"),
    )
    keyFile: str = setting(
        "", "a PEM file with the RSA key that signs what devices are given; empty is one in the state folder, made when the "
        "edge is first started",
        secretFile=True,
    )


@frozen(kw_only=True)
class TenantSettings:
    """
    C{[[tenant]]}: somebody whose ShellHub devices may ask to be let in.
    """

    id: str = setting(says="the UUID that the devices are told as their tenant", check=isUUID)
    namespace: str = setting(says="what stands before the dot in the names of the devices", check=checkLabel)
    installKeysFile: str = setting(
        "", "policy install-key: a file with a key on each line, each of which lets devices in", secretFile=True
    )


@frozen(kw_only=True)
class DeviceSettings:
    """
    C{[[shellhub]]} of an agent: a ShellHub server, or an edge with C{[shellhub]}, where this machine is a device.
    """

    url: str = setting(says="http(s)://host[:port][/base] of the server", check=isHTTPURL)
    tenant: str = setting(says="the UUID of the tenant whose device this is", check=isUUID)
    version: int = setting(2, "of the transport, 1 or 2", check=oneOf(1, 2))
    hostname: str = setting("", "what the device would like to be called; empty is the machine's name")
    mac: str = setting(
        "", "an address of its network card, which some servers want to see; it is a part of the device's identity",
        check=optional(matching(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", "six pairs of hexadecimal digits such as 02:42:ac:11:00:02")),
    )
    deviceKeyFile: str = setting(
        "", "a PEM file with the device's own RSA key; empty is one in the state folder, made at the first start",
        secretFile=True,
    )
    installKeyFile: str = setting(
        "", "a file that holds an install key of the tenant, and nothing else", secretFile=True
    )
    ssh: str = setting(
        EMBEDDED, "who serves SSH: 'embedded' is a server in this process, which works as its user; or where a server "
        "listens, as a port, host:port or an endpoint string such as tcp:127.0.0.1:22; empty serves none"
    )
    authorizedKeysFile: str = setting("", "embedded: a file of public keys, as OpenSSH has them, that open it")
    passwordsFile: str = setting("", "embedded: a file of names and hashed passwords that open it")
    users: tuple[str, ...] = setting(
        (), "embedded: names by which keys open it; empty is the name of the user that the agent runs as"
    )
    hostKeysFile: str = setting(
        "", "embedded: the file with the server's own keys, made if it is not there; empty is one in the state folder",
        secretFile=True,
    )
    targets: tuple[str, ...] = setting(
        (), "where the server may connect to through this machine: host:port, or host:* for every port; nowhere else",
        check=each(checkTarget),
    )
    caFile: str = setting("", "a PEM file with the only roots that are trusted; empty trusts the system's")
    proxy: str = setting("", "as in [[edge]]", secret=True)
    insecure: bool = setting(
        False, "true lets the install key and the device's own token go to a server at http: on another machine"
    )


def checkEdge(tables: Tables) -> None:
    """
    What C{[shellhub]} and C{[[tenant]]} have to do with each other.
    """
    shellhub, tenants = tables.one("shellhub"), tables.many("tenant")
    if tenants and not tables.has("shellhub"):
        tables.wrong(("tenant", 0), "[[tenant]] needs [shellhub]")
    for index, tenant in enumerate(tenants):
        if tenant and tenant.installKeysFile and shellhub and shellhub.policy != "install-key":
            tables.wrong(("tenant", index), "install_keys_file needs policy = \"install-key\" in [shellhub]")


def checkAgent(tables: Tables) -> None:
    """
    Keys, passwords and users are for the agent's own SSH server.
    """
    for index, device in enumerate(tables.many("shellhub")):
        if device and device.ssh != EMBEDDED and (device.authorizedKeysFile or device.passwordsFile or device.users):
            tables.wrong(("shellhub", index), "[[shellhub]] has keys, passwords and users for ssh = \"embedded\" alone")


SETTINGS = DialectSettings(
    edge={
        "shellhub": Table(EdgeSettings),
        "tenant": Table(
            TenantSettings, many=True,
            unique={"id": lambda each: each.id.lower(), "namespace": lambda each: each.namespace},
        ),
    },
    agent={
        "shellhub": Table(DeviceSettings, many=True, unique={"url and tenant": lambda each: (each.url, each.tenant)}),
    },
    checkEdge=checkEdge,
    checkAgent=checkAgent,
    development={"shellhub": (EdgeSettings(policy="automatic"),)},
)
