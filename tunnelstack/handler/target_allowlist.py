"""
The hosts and ports to which an agent connects when a dialler names them; all others are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import TypeVar

from tunnelstack.errors import ConfigurationError
from tunnelstack.wire.addresses import IPAddress, IPNetwork, read_network
from tunnelstack.wire.printable_text import quoted

Ports = set[int] | None
"""Ports of a host; C{None} for all."""

LOOPBACK = frozenset(("", "localhost", "127.0.0.1", "::1"))


class TargetAllowlist:
    """
    The permitted targets.
    """

    def __init__(self, targets: Iterable[str] = ()) -> None:
        """
        @param targets: C{host:port}, or C{host:*} for all ports of a host; C{[address]:port} for IPv6.  Instead of a host there
            may be a network, such as C{172.17.0.0/16}, for all addresses in it.
        @raise ConfigurationError: a target has another form.
        """
        self._ports: dict[str, Ports] = {}
        self._networks: dict[IPNetwork, Ports] = {}
        for target in targets:
            host, _, port = target.rpartition(":")
            host = host.removeprefix("[").removesuffix("]")
            if not host or not (port == "*" or (port.isdecimal() and 0 < int(port) < 65536)):
                raise ConfigurationError(f"{quoted(target)} is neither host:port nor host:*")
            if "/" in host:
                _permit(self._networks, _network(host, target), port)
            else:
                _permit(self._ports, _host(host), port)

    def has(self, host: str, port: int) -> bool:
        """
        Whether a target is permitted.  The names and addresses of loopback are one host.  Names are not resolved: one that is
        not permitted itself is not permitted for its address.
        """
        if _includes(self._ports.get(_host(host), set()), port):
            return True
        address = _address(host) if self._networks else None
        return address is not None and any(
            address in network and _includes(ports, port) for network, ports in self._networks.items()
        )


Place = TypeVar("Place", str, IPNetwork)


def _permit(permitted: dict[Place, Ports], place: Place, port: str) -> None:
    ports = permitted.setdefault(place, set())
    if port == "*":
        permitted[place] = None
    elif ports is not None:
        ports.add(int(port))


def _includes(ports: Ports, port: int) -> bool:
    return ports is None or port in ports


def _address(host: str) -> IPAddress | None:
    """
    @return: C{None} for a name.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if address.version == 6 else address


def _network(text: str, target: str) -> IPNetwork:
    try:
        return read_network(text)
    except ValueError as wrong:
        raise ConfigurationError(f"{quoted(target)} does not begin with a network: {wrong}") from None


def _host(host: str) -> str:
    return "localhost" if host.lower() in LOOPBACK else host.lower()
