"""
Hosts that dialects publish while the edge runs, each for one agent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address

from tunnelstack.errors import Denied


class PublishedHosts:
    """
    The published hosts of one edge.  They outlive the route table, which is made anew when the configuration changes.
    """

    def __init__(self, domain: str = "", agentHosts: Iterable[str] = ()) -> None:
        """
        @param domain: the edge's own host.
        @param agentHosts: hosts that are for agents only.
        """
        self._reserved = frozenset(host.lower() for host in (domain, *agentHosts))
        self._agents: dict[str, str] = {}
        self._watcher: Callable[[], object] | None = None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(sorted(self._agents.items()))

    def watch(self, watcher: Callable[[], object]) -> None:
        """
        Call C{watcher} after each change, instead of the one that was called before.
        """
        self._watcher = watcher

    def find(self, host: str) -> str | None:
        """
        @return: the agent of a host; C{None} if it is not published.
        """
        return self._agents.get(host)

    def publish(self, host: str, agent: str) -> None:
        """
        @raise Denied: the host is an address, or needed by the edge itself.
        """
        if isAddress(host):
            raise Denied("not-allowed", f"{host} is an address: agents connect there, so it cannot be published")
        if host in self._reserved:
            raise Denied("not-allowed", f"{host} is a host of the edge itself, so it cannot be published")
        self._agents[host] = agent
        self._changed()

    def withdraw(self, host: str) -> None:
        """
        Publish a host no more.
        """
        if self._agents.pop(host, None) is not None:
            self._changed()

    def _changed(self) -> None:
        if self._watcher is not None:
            self._watcher()


def isAddress(host: str) -> bool:
    """
    @return: whether a host is an IP address.
    """
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
