"""
What a value in a configuration file may be: each check says in a sentence what it wants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from tunnelstack.control.auth.key_vouching import parseVouchRule
from tunnelstack.control.auth.passwords import parsePasswordHash
from tunnelstack.control.auth.permissions import parsePermissions
from tunnelstack.control.config.setting import matching, oneOf
from tunnelstack.errors import ConfigurationError
from tunnelstack.wire.addresses import read_network

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOST = rf"{LABEL}(\.{LABEL})*"

checkLabel = matching(LABEL, "a name of up to 63 letters a-z, digits and inner hyphens")
"""What a service's name has to be: it becomes a part of a host name."""

checkHost = matching(HOST, "a host name in lower case, without a port")
checkHostPattern = matching(rf"(\*\.)?{HOST}", "a host name in lower case, or '*.' and a host name")
checkPath = matching(r"/[!\"$->@-~]*", "a path that begins with '/', without '?' and '#'")
checkRouteTarget = matching(
    rf"({LABEL}/)?{LABEL}|{LABEL}(\.{LABEL})*:[1-9][0-9]{{0,4}}", "a service, agent/service, or device:port"
)
checkAddressRule = matching(
    r"(allow|deny) (all|[0-9A-Fa-f:.]+(/[0-9]+)?)", "'allow' or 'deny', and 'all' or an address or network"
)
checkIdentifier = matching(r"[0-9A-Za-z-]*", "letters, digits and hyphens")
checkServiceKind = oneOf("http", "tcp", "serve", "stream", "ssh")
checkDigest = matching(r"[0-9a-fA-F]{64}", "a SHA-256 in 64 hexadecimal digits")

def checkNetwork(value: Any) -> None:
    """
    An IP address or network: C{"10.0.0.0/8"}.
    """
    try:
        read_network(value)
    except ValueError:
        raise ConfigurationError(f"must be an IP address or network such as 10.0.0.0/8, not {value!r}") from None


def checkVisitorRule(value: Any) -> None:
    """
    C{"allow 10.0.0.0/8"}, C{"deny all"}.
    """
    checkAddressRule(value)
    which = value.partition(" ")[2]
    if which != "all":
        checkNetwork(which)


def checkVouchRule(value: Any) -> None:
    """
    For whose keys is vouched to whom: C{"alice@desk root@lab.*"}.
    """
    parseVouchRule(str(value))


def checkUser(value: Any) -> None:
    """
    A visitor and his password, as C{tunnelstack password} prints them.
    """
    parsePasswordHash(str(value))


def checkPermission(value: Any) -> None:
    """
    A right that L{tunnelstack.control.auth.permissions} can read.
    """
    parsePermissions((str(value),))


def checkTime(value: Any) -> None:
    """
    A time that means the same everywhere.
    """
    if value.tzinfo is None:
        raise ConfigurationError(f"must say its offset, such as {value.isoformat()}Z")


def checkURL(value: Any) -> None:
    """
    C{http(s)://host[:port][/base]}.
    """
    try:
        url = urlsplit(value)
        sound = url.scheme in ("http", "https") and url.hostname and (url.port is None or url.port > 0)
    except (ValueError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise ConfigurationError(f"must be a URL such as https://tunnels.example.net, not {value!r}")
    if url.username or url.password or url.query or url.fragment:
        raise ConfigurationError("must be a URL without a user, a password, a query or a fragment")


def optional(check: Callable[[Any], None]) -> Callable[[Any], None]:
    """
    Nothing (C{""}), or what C{check} takes.
    """
    return lambda value: check(value) if value != "" else None


def checkTenant(value: Any) -> None:
    """
    A UUID, as devices are told it.
    """
    try:
        sound = str(UUID(value)) == value.lower()
    except (ValueError, AttributeError):
        sound = False
    if not sound:
        raise ConfigurationError(f"must be a UUID such as 00000000-0000-4000-0000-000000000000, not {value!r}")


def checkTarget(value: Any) -> None:
    """
    C{host:port}, C{[address]:port}, or C{*} instead of the port.
    """
    host, colon, port = str(value).rpartition(":")
    number = int(port) if port.isdecimal() and len(port) <= 5 else 0
    if not (host and colon and (port == "*" or 0 < number < 65_536)):
        raise ConfigurationError(f"must be host:port, or host:* for every port of a host, not {value!r}")
