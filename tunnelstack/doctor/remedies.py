"""
What goes wrong between an agent and its edge, and what is to be done about it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionRefusedError, DNSLookupError, TimeoutError

from tunnelstack.dialect.native.dialler import EdgeBusy, NotAnEdge, TokenRefused
from tunnelstack.errors import Denied
from tunnelstack.transport.proxy import ProxyFailed, ProxyRefused, ProxyRejected

UNREACHABLE, NO_EDGE, REFUSED = 69, 76, 77     # exit codes

REMEDIES: tuple[tuple[Any, str, int], ...] = (
    (TokenRefused, "ask whoever runs the edge for a new token (tunnelstack token new)", REFUSED),
    (
        ProxyRefused,
        "ask whoever runs the proxy; a user and a password stand in its URL, http://user:password@host:port", UNREACHABLE,
    ),
    (ProxyFailed, "see whether the proxy may reach the edge, or name the edge in NO_PROXY", UNREACHABLE),
    (
        NotAnEdge,
        "see whether the URL is that of the edge itself; a proxy before it has to pass WebSocket upgrades on", NO_EDGE,
    ),
    (EdgeBusy, "wait a moment: the edge is about to stop, or what is before it has lost it", UNREACHABLE),
    (Denied, "ask whoever runs the edge", REFUSED),
    (ConnectionRefusedError, "see whether the edge runs, and on which port", UNREACHABLE),
    (DNSLookupError, "look for a typing error in the URL", UNREACHABLE),
    (
        TimeoutError,
        "see whether a firewall on the way lets this port through, or whether a proxy is needed (HTTPS_PROXY)", UNREACHABLE,
    ),
)  # fmt: skip
"""For each kind of error, a remedy and the exit code; the first that fits counts."""


def explain(error: Exception) -> tuple[str, str, int]:
    """
    @return: what went wrong, what to do, and the exit code.
    """
    if isinstance(error, ProxyRejected):
        return error.cause, error.remedy, UNREACHABLE
    says = str(error) or type(error).__name__
    for kinds, remedy, code in REMEDIES:
        if isinstance(error, kinds):
            return says, remedy, code
    return says, "run it again, and tell whoever runs the edge", UNREACHABLE
