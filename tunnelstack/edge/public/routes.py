"""
Which service a visitor's host and path belong to.

A service I{name} is at C{name.domain}; routes of the configuration come before that, exact hosts before wildcards, and longer
paths before shorter ones.  Whom a route keeps out of a service is kept out on the service's own host, too.  What a host leads
to is worked out once and remembered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote_to_bytes

from attrs import frozen

from tunnelstack.records import HTTPPurpose

NEEDS_NORMALIZING = re.compile(rb"[%\\]|//|/\.")

REMEMBERED = 4096
"""Hosts whose routes are remembered; strangers may ask for more, and all are forgotten then."""


@frozen
class Destination:
    """
    Where a request goes.

    @ivar key: what the registry knows it by: C{service}, C{agent/service}, or C{agent:port}.
    @ivar path: only requests whose path is this or lies below it.
    @ivar configured: an operator wrote it down, so it exists even while nobody serves it.
    @ivar purpose: what is asked of the tunnel.
    @ivar policy: whom it lets in (a L{AccessPolicy<tunnelstack.edge.public.access_policy.AccessPolicy>}), or C{None} for
        everybody.
    """

    key: str
    path: bytes
    configured: bool
    purpose: HTTPPurpose
    policy: Any = None


def normalizedHost(field: bytes) -> str:
    """
    A C{Host} as it is compared: in lower case, without port, final dot and brackets.
    """
    host = field.decode("latin-1").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


class RouteTable:
    """
    All routes of an edge.
    """

    def __init__(
        self,
        domain: str,
        routes: Iterable[Any] = (),
        agentHosts: Iterable[str] = (),
        policy: Callable[[Any], Any] = lambda route: None,
    ) -> None:
        """
        @param routes: records with C{host}, C{to} and C{path}
            (L{Route<tunnelstack.control.config.records.Route>}).
        @param agentHosts: hosts on which agents come in, and visitors never.
        @param policy: given a route, what it asks of its visitors.
        """
        self.domain = domain.lower()
        self._domainSuffix = "." + self.domain
        self._agentHosts = frozenset(host.lower() for host in agentHosts)
        self._exact: dict[str, list[Destination]] = {}
        self._wild: dict[str, list[Destination]] = {}         # C{.example.net} for C{*.example.net}
        for route in routes:
            host = route.host.lower()
            table, host = (self._wild, host[1:]) if host.startswith("*.") else (self._exact, host)
            table.setdefault(host, []).append(_destination(route.to, route.path.encode(), True, policy(route)))
        self._restricted: dict[str, list[Destination]] = {}      # by service: what restricts it wherever else it is found
        for destinations in (*self._exact.values(), *self._wild.values()):
            for each in destinations:
                if each.policy is not None and each.policy.restricts:
                    self._restricted.setdefault(each.purpose.service, []).append(each)
        for table in (self._exact, self._wild, self._restricted):
            for destinations in table.values():
                destinations.sort(key=lambda each: len(each.path), reverse=True)
        self._cache: dict[bytes, list[Destination]] = {}

    def find(self, host: bytes, target: bytes) -> Destination | None:
        """
        @param host: the C{Host} as received.
        @param target: the request target, which begins with its path.
        @return: C{None} if nothing is there.
        """
        destinations = self._cache.get(host)
        if destinations is None:
            destinations = self._resolve(host)
        found = _first(destinations, target)
        if (
            len(destinations) > 1
            and NEEDS_NORMALIZING.search(target)
            and _first(destinations, normalizedPath(target)) is not found
        ):
            return None                       # whoever reads the path in another way than we do is led past nobody's policy
        return found

    def hasRoute(self, host: bytes) -> bool:
        """
        Whether visitors have something to look for on a host, so that no door opens there.
        """
        return bool(self._cache.get(host) or self._resolve(host))

    def url(self, service: str, scheme: str, port: int) -> str:
        """
        The public URL of a service.
        """
        implied = port == (443 if scheme == "https" else 80)
        return f"{scheme}://{service}.{self.domain}" + ("" if implied else f":{port}")

    def _resolve(self, field: bytes) -> list[Destination]:
        if len(self._cache) >= REMEMBERED:
            self._cache.clear()
        found = self._cache[field] = self._routesFor(normalizedHost(field))
        return found

    def _routesFor(self, host: str) -> list[Destination]:
        """
        Everything on a host, in the order in which it is asked.
        """
        if host in self._agentHosts or (host == self.domain and host not in self._exact) or _isAddress(host):
            return []
        found = list(self._exact.get(host, ()))
        dot = host.find(".")
        while dot >= 0:
            found += self._wild.get(host[dot:], ())
            dot = host.find(".", dot + 1)
        label = host.removesuffix(self._domainSuffix)
        if label != host and label and "." not in label:
            found += self._restricted.get(label, ())
            found.append(_destination(label, b"/", False))
        return found


def _destination(to: str, path: bytes, configured: bool, policy: Any = None) -> Destination:
    agent, _, port = to.rpartition(":")
    purpose = HTTPPurpose(host="127.0.0.1", port=int(port)) if agent else HTTPPurpose(service=to.rpartition("/")[2])
    return Destination(to, path, configured, purpose, policy)


def _first(destinations: Iterable[Destination], target: bytes) -> Destination | None:
    for destination in destinations:
        path = destination.path
        if path == b"/" or _isBelow(path, target):
            return destination
    return None


def normalizedPath(target: bytes) -> bytes:
    """
    The path of a request target as a web server may understand it: C{/a/../admin} and C{/%61dmin} are C{/admin}, and no way
    around what a route asks of those who go there.
    """
    path = target.partition(b"?")[0]
    pieces: list[bytes] = []
    for piece in unquote_to_bytes(path).replace(b"\\", b"/").split(b"/"):
        if piece == b"..":
            del pieces[-1:]
        elif piece not in (b"", b"."):
            pieces.append(piece)
    return b"/" + b"/".join(pieces)


def _isBelow(path: bytes, target: bytes) -> bool:
    """
    Whether a target's path is C{path}, or lies below it.
    """
    if not target.startswith(path):
        return False
    return path.endswith(b"/") or target[len(path):len(path) + 1] in (b"", b"/", b"?")


def _isAddress(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
