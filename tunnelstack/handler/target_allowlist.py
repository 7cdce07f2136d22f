"""
Where an agent connects to for those who say a host and a port; nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable

from tunnelstack.errors import ConfigurationError

LOOPBACK = frozenset(("", "localhost", "127.0.0.1", "::1"))


class TargetAllowlist:
    """
    A list of them.
    """

    def __init__(self, targets: Iterable[str] = ()) -> None:
        """
        @param targets: C{host:port}, or C{host:*} for all ports of a host; C{[address]:port} for IPv6.
        @raise ConfigurationError: it is none of these.
        """
        self._ports: dict[str, set[int] | None] = {}
        for target in targets:
            host, _, port = target.rpartition(":")
            host = host.removeprefix("[").removesuffix("]")
            if not host or not (port == "*" or (port.isdecimal() and 0 < int(port) < 65536)):
                raise ConfigurationError(f"{target!r} is no host:port or host:*")
            host = _host(host)
            ports = self._ports.setdefault(host, set())
            if port == "*":
                self._ports[host] = None
            elif ports is not None:
                ports.add(int(port))

    def has(self, host: str, port: int) -> bool:
        """
        Whether a target is one of them.
        """
        ports: set[int] | None = self._ports.get(_host(host), set())
        return ports is None or port in ports


def _host(host: str) -> str:
    return "localhost" if host.lower() in LOOPBACK else host.lower()
