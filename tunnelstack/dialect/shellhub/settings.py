"""
The tables of ShellHub in configuration files.
"""

from __future__ import annotations

from attrs import frozen

from tunnelstack.records import EMBEDDED
from tunnelstack.settings.record import Record
from tunnelstack.settings.setting import atLeast, each, matching, oneOf, setting
from tunnelstack.settings.tables import DialectSettings, Table, Tables
from tunnelstack.settings.validators import checkLabel, checkTarget, isHTTPURL, isUUID, optional
from tunnelstack.wire.records.shellhub_settings import LOWEST_WINDOW, Settings
from tunnelstack.wire.yamux.limits import LARGEST_WINDOW


@frozen(kw_only=True, eq=False, repr=False)
class EdgeSettings(Record):
    """
    C{[shellhub]}: accept agents of ShellHub, of both versions of its transport, as devices.
    """

    policy: str = setting(
        "pending", "the devices that are accepted: 'pending' those that an operator accepts (tunnelstack devices accept NAME), "
        "'install-key' also those that send an install key of their tenant, 'automatic' all devices of every tenant",
        check=oneOf("automatic", "install-key", "pending"),
    )
    keyFile: str = setting(
        "", "a PEM file with the RSA key that signs the tokens of devices; empty is one in the state folder, created when it "
        "is first needed",
        secretFile=True,
    )


@frozen(kw_only=True, eq=False, repr=False)
class SessionSettings(Record):
    """
    C{[shellhub.session]}: settings of the yamux sessions of version 2, which devices are sent when they register.  Agents of
    tunnelstack use all of them; those of ShellHub use C{keepalive} only.
    """

    keepalive: bool = setting(True, "whether the device sends pings")
    keepaliveSeconds: float = setting(35.0, "seconds between the pings of the device", check=atLeast(1, 86_400))
    pingTimeoutSeconds: float = setting(
        15.0, "seconds within which a ping of the device must be answered", check=atLeast(1, 3600)
    )
    backlog: int = setting(256, "streams that may wait to be accepted by the device", check=atLeast(1, 65_536))
    windowOctets: int = setting(
        LOWEST_WINDOW, "octets that a stream may have in flight to the device; yamux begins with 256 KiB",
        check=atLeast(LOWEST_WINDOW, LARGEST_WINDOW),
    )
    openTimeoutSeconds: float = setting(
        75.0, "seconds within which a new stream must be acknowledged, on both sides; 0 is no limit",
        check=atLeast(0, 86_400),
    )
    closeTimeoutSeconds: float = setting(
        300.0, "seconds after which a stream that was closed on one side is reset if the other does not close it, on both "
        "sides; 0 is no limit", check=atLeast(0, 86_400),
    )

    def encoded(self) -> Settings:
        """
        @return: the settings as devices are sent them.
        """
        return Settings(
            backlog=self.backlog, keep_alive=self.keepalive, interval=self.keepaliveSeconds,
            write_timeout=self.pingTimeoutSeconds, window=self.windowOctets, open_timeout=self.openTimeoutSeconds,
            close_timeout=self.closeTimeoutSeconds,
        )


@frozen(kw_only=True, eq=False, repr=False)
class TenantSettings(Record):
    """
    C{[[tenant]]}: a tenant whose ShellHub devices may register.
    """

    id: str = setting(says="the UUID that is configured in the devices as their tenant", check=isUUID)
    namespace: str = setting(says="the part before the dot in the names of the devices", check=checkLabel)
    installKeysFile: str = setting(
        "", "policy install-key: a file with one key per line; a device that sends one of them is accepted", secretFile=True
    )


@frozen(kw_only=True, eq=False, repr=False)
class DeviceSettings(Record):
    """
    C{[[shellhub]]} of an agent: a ShellHub server, or an edge with C{[shellhub]}, that this machine registers with as a device.
    """

    url: str = setting(says="http(s)://host[:port][/base] of the server", check=isHTTPURL)
    tenant: str = setting(says="the UUID of the tenant of the device", check=isUUID)
    version: int = setting(2, "of the transport, 1 or 2", check=oneOf(1, 2))
    hostname: str = setting("", "the requested name of the device; empty is the machine's host name")
    mac: str = setting(
        "", "the address of a network card, which some servers require; it is a part of the device's identity",
        check=optional(matching(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", "six pairs of hexadecimal digits such as 02:42:ac:11:00:02")),
    )
    deviceKeyFile: str = setting(
        "", "a PEM file with the device's own RSA key; empty is one in the state folder, created at the first start",
        secretFile=True, created=True,
    )
    installKeyFile: str = setting(
        "", "a file that contains an install key of the tenant and nothing else", secretFile=True
    )
    ssh: str = setting(
        EMBEDDED, "the SSH server: 'embedded' is a server in this process, with the rights of its user; otherwise a port, "
        "host:port or an endpoint string such as tcp:127.0.0.1:22; empty is no SSH"
    )
    authorizedKeysFile: str = setting("", "embedded: a file of public keys in OpenSSH's format that may log in")
    passwordsFile: str = setting("", "embedded: a file of lines that 'tunnelstack password USER' prints")
    users: tuple[str, ...] = setting(
        (), "embedded: user names with which keys may log in; empty is the user that the agent runs as"
    )
    hostKeysFile: str = setting(
        "", "embedded: the file with the server's host keys, created if it does not exist; empty is one in the state folder",
        secretFile=True, created=True,
    )
    targets: tuple[str, ...] = setting(
        (), "targets that the server may connect to through this machine: host:port, or host:* for every port; nothing else "
        "is allowed", check=each(checkTarget),
    )
    caFile: str = setting("", "a PEM file with the only trusted roots; empty trusts those of the system")
    proxy: str = setting("", "as in [[edge]]", secret=True)
    insecure: bool = setting(
        False, "true allows the install key and the device's token to be sent to a server at http: on another machine"
    )


def checkEdge(tables: Tables) -> None:
    """
    Report C{[[tenant]]} without C{[shellhub]}, and install keys without the policy for them.
    """
    shellhub, tenants = tables.one("shellhub", EdgeSettings), tables.many("tenant", TenantSettings)
    if tenants and not tables.has("shellhub"):
        tables.wrong(("tenant", 0), "[[tenant]] needs [shellhub]")
    for index, tenant in enumerate(tenants):
        if tenant and tenant.installKeysFile and shellhub and shellhub.policy != "install-key":
            tables.wrong(("tenant", index), "install_keys_file needs policy = \"install-key\" in [shellhub]")


def checkAgent(tables: Tables) -> None:
    """
    Report keys, passwords and users without the embedded SSH server.
    """
    for index, device in enumerate(tables.many("shellhub", DeviceSettings)):
        if device and device.ssh != EMBEDDED and (device.authorizedKeysFile or device.passwordsFile or device.users):
            tables.wrong(("shellhub", index), "[[shellhub]] may have keys, passwords and users only with ssh = \"embedded\"")


SETTINGS = DialectSettings(
    edge={
        "shellhub": Table(EdgeSettings),
        "shellhub.session": Table(SessionSettings),
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
)
