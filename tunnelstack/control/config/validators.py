"""
Checks of values in configuration files that need to know rights, passwords or routes.
"""

from __future__ import annotations

from typing import Any

from tunnelstack.control.auth.key_vouching import parseVouchRule
from tunnelstack.control.auth.permissions import parsePermissions
from tunnelstack.settings.password_hash import parsePasswordEntry
from tunnelstack.settings.setting import matching, oneOf
from tunnelstack.settings.validators import HOST, LABEL, checkNetwork

checkHostPattern = matching(rf"(\*\.)?{HOST}", "a host name in lower case, or '*.' and a host name")
checkRouteTarget = matching(
    rf"({LABEL}/)?{LABEL}|{LABEL}(\.{LABEL})*:[1-9][0-9]{{0,4}}", "a service, agent/service, or device:port"
)
checkAddressRule = matching(
    r"(allow|deny) (all|[0-9A-Fa-f:.]+(/[0-9]+)?)", "'allow' or 'deny', and 'all' or an address or network"
)
checkIdentifier = matching(r"[0-9A-Za-z-]*", "letters, digits and hyphens")
checkServiceKind = oneOf("http", "tcp", "serve", "stream", "ssh")

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
    parsePasswordEntry(str(value))


def checkPermission(value: Any) -> None:
    """
    A right that L{tunnelstack.control.auth.permissions} can read.
    """
    parsePermissions((str(value),))


