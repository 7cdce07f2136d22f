"""
The failures of a connection to an edge, with a remedy for each.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError, DNSLookupError, TimeoutError

from tunnelstack.dialect.native.dialler import EdgeBusy, NotAnEdge, TokenRefused
from tunnelstack.errors import Denied
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.proxy import ProxyFailed, ProxyRefused, ProxyRejected

UNREACHABLE, NO_EDGE, REFUSED = 69, 76, 77     # exit codes

REMEDIES: tuple[tuple[type[Exception], str, int], ...] = (
    (TokenRefused, "ask the operator of the edge for a new token (tunnelstack token new)", REFUSED),
    (
        ProxyRefused,
        "check the user and the password in the proxy's URL, http://user:password@host:port, or ask its operator", UNREACHABLE,
    ),
    (ProxyFailed, "check whether the proxy allows connections to the edge, or list the edge in NO_PROXY", UNREACHABLE),
    (
        NotAnEdge,
        "check that the URL is that of the edge itself; a reverse proxy in front of it must forward WebSocket upgrades",
        NO_EDGE,
    ),
    (EdgeBusy, "wait a moment: the edge is stopping, or the reverse proxy in front of it cannot reach it", UNREACHABLE),
    (Denied, "ask the operator of the edge", REFUSED),
    (ConnectionRefusedError, "check whether the edge runs, and on which port", UNREACHABLE),
    (DNSLookupError, "check the host name in the URL", UNREACHABLE),
    (
        TimeoutError,
        "check whether a firewall blocks this port, or whether a proxy is needed (HTTPS_PROXY)", UNREACHABLE,
    ),
)  # fmt: skip
"""For each class of errors, a remedy and the exit code.  The first that matches is used."""


def explain(error: Exception) -> tuple[str, str, int]:
    """
    @return: the cause, the remedy, and the exit code.
    """
    if isinstance(error, ProxyRejected):
        return error.cause, error.remedy, UNREACHABLE
    cause = errorText(error)
    for kind, remedy, code in REMEDIES:
        if isinstance(error, kind):
            return cause, remedy, code
    return cause, "try again; if it fails again, report it to the operator of the edge", UNREACHABLE
