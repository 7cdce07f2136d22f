"""
The hosts and ports to which an agent connects when a dialler names them; all others are refused.
"""

from __future__ import annotations

from collections.abc import Iterable

from tunnelstack.errors import ConfigurationError
from tunnelstack.wire.printable_text import quoted

LOOPBACK = frozenset(("", "localhost", "127.0.0.1", "::1"))


class TargetAllowlist:
    """
    The permitted targets.
    """

    def __init__(self, targets: Iterable[str] = ()) -> None:
        """
        @param targets: C{host:port}, or C{host:*} for all ports of a host; C{[address]:port} for IPv6.
        @raise ConfigurationError: a target has another form.
        """
        self._ports: dict[str, set[int] | None] = {}
        for target in targets:
            host, _, port = target.rpartition(":")
            host = host.removeprefix("[").removesuffix("]")
            if not host or not (port == "*" or (port.isdecimal() and 0 < int(port) < 65536)):
                raise ConfigurationError(f"{quoted(target)} is neither host:port nor host:*")
            host = _host(host)
            ports = self._ports.setdefault(host, set())
            if port == "*":
                self._ports[host] = None
            elif ports is not None:
                ports.add(int(port))

    def has(self, host: str, port: int) -> bool:
        """
        Whether a target is permitted.  The names and addresses of loopback are one host.
        """
        ports: set[int] | None = self._ports.get(_host(host), set())
        return ports is None or port in ports


def _host(host: str) -> str:
    return "localhost" if host.lower() in LOOPBACK else host.lower()
