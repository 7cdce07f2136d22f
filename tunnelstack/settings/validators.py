"""
Validators of values in configuration files, for every part of the program.  Each raises L{ConfigurationError} with a message
that begins with a verb ("must be ...").
"""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit
from uuid import UUID

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.setting import Check, formatValue, matching
from tunnelstack.wire.addresses import read_network

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOST = rf"{LABEL}(\.{LABEL})*"

checkLabel = matching(LABEL, "a name of up to 63 letters a-z, digits and inner hyphens")
"""The form of a service's name, which becomes a label of a host name."""

checkHost = matching(HOST, "a host name in lower case, without a port")
checkAuthority = matching(r"[0-9A-Za-z._:\[\]-]+", "a host, with its port if need be")
"""The form of a C{Host} field."""

checkPath = matching(r"/[!\"$->@-~]*", "a path that begins with '/', without '?' and '#'")
checkDigest = matching(r"[0-9a-fA-F]{64}", "a SHA-256 in 64 hexadecimal digits")


def checkNetwork(value: object) -> None:
    """
    An IP address or network, such as C{"10.0.0.0/8"}.
    """
    try:
        read_network(str(value))
    except ValueError:
        raise ConfigurationError(f"must be an IP address or network such as 10.0.0.0/8, not {formatValue(value)}") from None


def checkTime(value: object) -> None:
    """
    A time with an offset from UTC.
    """
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ConfigurationError(f"must have an offset, such as {value.isoformat()}Z")


def isHTTPURL(value: object) -> None:
    """
    A URL of the form C{http(s)://host[:port][/base]}.
    """
    try:
        url = urlsplit(str(value))
        sound = url.scheme in ("http", "https") and url.hostname and (url.port is None or url.port > 0)
    except ValueError:
        sound = False
    if not sound:
        raise ConfigurationError(f"must be a URL such as https://tunnels.example.net, not {formatValue(value)}")
    if url.username or url.password or url.query or url.fragment:
        raise ConfigurationError("must be a URL without a user, a password, a query or a fragment")


def optional(check: Check) -> Check:
    """
    @return: a check that accepts C{""} and everything that C{check} accepts.
    """
    return lambda value: check(value) if value != "" else None


def isUUID(value: object) -> None:
    """
    A UUID.
    """
    try:
        sound = str(UUID(str(value))) == str(value).lower()
    except ValueError:
        sound = False
    if not sound:
        raise ConfigurationError(f"must be a UUID such as 00000000-0000-4000-0000-000000000000, not {formatValue(value)}")


def checkTarget(value: object) -> None:
    """
    C{host:port}, C{[address]:port}, or C{*} instead of the port.
    """
    host, colon, port = str(value).rpartition(":")
    number = int(port) if port.isdecimal() and len(port) <= 5 else 0
    if not (host and colon and (port == "*" or 0 < number < 65_536)):
        raise ConfigurationError(f"must be host:port, or host:* for every port of a host, not {formatValue(value)}")
