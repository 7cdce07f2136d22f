"""
Validators of values in configuration files that depend on rights, passwords or routes.
"""

from __future__ import annotations

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
checkServiceKind = oneOf("http", "tcp", "udp", "serve", "stream", "ssh")


def checkVisitorRule(value: object) -> None:
    """
    A rule such as C{"allow 10.0.0.0/8"} or C{"deny all"}.
    """
    checkAddressRule(value)
    which = str(value).partition(" ")[2]
    if which != "all":
        checkNetwork(which)


def checkVouchRule(value: object) -> None:
    """
    A L{VouchRule<tunnelstack.control.auth.key_vouching.VouchRule>} such as C{"alice@desk root@lab.*"}.
    """
    parseVouchRule(str(value))


def checkUser(value: object) -> None:
    """
    A line that C{tunnelstack password} prints.
    """
    parsePasswordEntry(str(value))


def checkPermission(value: object) -> None:
    """
    A right, see L{tunnelstack.control.auth.permissions}.
    """
    parsePermissions((str(value),))


