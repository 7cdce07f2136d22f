"""
Routes: the service that a request is for, by its host and path.

A service I{name} is at C{name.domain}.  Routes of the configuration precede that; among them exact hosts precede wildcards, and
longer paths precede shorter ones.  A host that a dialect has published follows the routes of that exact host.  A policy that
restricts a service on a route restricts it on the service's own host as well.  The routes of a host are computed once and
cached.

The server that receives a request may read its path in another way than the routes do.  So a path is found only if all its
L{readings<tunnelstack.wire.http1.target.readings>} lead to the same service under the same policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING

from attrs import frozen

from tunnelstack.control.config.records import Route
from tunnelstack.edge.public.hosts import PublishedHosts, isAddress
from tunnelstack.records import HTTPPurpose
from tunnelstack.settings.record import Record
from tunnelstack.wire.http1.target import PLAIN, folded, path_of, readings

if TYPE_CHECKING:
    from tunnelstack.edge.public.access_policy import AccessPolicy

REMEMBERED = 4096
"""Hosts whose routes are cached, and as many paths.  Strangers may send more; the cache is cleared then."""

LONGEST_HOST = 512
"""Octets of a C{Host} field that is looked up: a DNS name has at most 253."""

LONGEST_REMEMBERED = 512
"""Octets of a path that is cached."""

_ENDS = (b"", b"/", b"?")
_SLASH = 47


@frozen
class Destination:
    """
    What a request is for.

    @ivar key: the key of its tunnel in the registry: C{service}, C{agent/service}, or C{agent:port}.
    @ivar path: only requests whose path is this or lies below it.
    @ivar configured: it is a route of the configuration, so it exists even while no agent serves it.
    @ivar purpose: of the stream that the tunnel opens.
    @ivar policy: the policy of the route; C{None} if every request is allowed.
    """

    key: str
    path: bytes
    configured: bool
    purpose: HTTPPurpose
    policy: AccessPolicy | None = None


PathRule = tuple[bytes, Destination]


@frozen(eq=False, repr=False)
class HostRoutes(Record):
    """
    The routes of a host, as pairs of a path and a destination in the order in which they are tried.

    @ivar given: with the paths as they are configured.
    @ivar read: with every reading of these paths.
    @ivar folded: the same, in lower case.
    @ivar only: the destination of every path, if there is a single one; or C{None}.
    @ivar sole: every path of the host leads to the same service under the same policy.
    @ivar plain: every configured path has a single reading.
    """

    given: tuple[PathRule, ...] = ()
    read: tuple[PathRule, ...] = ()
    folded: tuple[PathRule, ...] = ()
    only: Destination | None = None
    sole: bool = True
    plain: bool = True

    @classmethod
    def of(cls, groups: Iterable[Iterable[Destination]]) -> HostRoutes:
        """
        @param groups: earlier groups precede later ones; within a group, longer paths precede shorter ones.
        """
        groups = [list(group) for group in groups]
        given = _ordered(groups, lambda path: (path,))
        if not given:
            return NOWHERE
        first = given[0][1]
        return cls(
            given,
            _ordered(groups, _readings),
            _ordered(groups, lambda path: {folded(read) for read in _readings(path)}),
            first if len(given) == 1 and first.path == b"/" else None,
            all(_same(each, first) for _, each in given) and any(path == b"/" for path, _ in given),
            all(PLAIN.fullmatch(path) for path, _ in given),
        )

    def agree(self, path: bytes, found: Destination) -> bool:
        """
        Whether every reading of C{path} leads to the same service under the same policy as C{found}.
        """
        read = readings(path)
        return read is not None and all(
            _same(_first(self.read, each), found) and _same(_first(self.folded, folded(each)), found) for each in read
        )


NOWHERE = HostRoutes()


def normalizedHost(field: bytes) -> str:
    """
    A C{Host} field in the form in which hosts are compared: lower case, without port, final dot and brackets.
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
        routes: Iterable[Route] = (),
        agentHosts: Iterable[str] = (),
        policy: Callable[[Route], AccessPolicy | None] = lambda route: None,
        hosts: PublishedHosts | None = None,
    ) -> None:
        """
        @param agentHosts: hosts that are for agents only.
        @param policy: gives the policy of a route.
        @param hosts: those that dialects have published.
        """
        self._hosts = hosts or PublishedHosts()
        self._hosts.watch(self._hostsChanged)
        self.domain = domain.lower()
        self._domainSuffix = "." + self.domain
        self._agentHosts = frozenset(host.lower() for host in agentHosts)
        self._exact: dict[str, list[Destination]] = {}
        self._wild: dict[str, list[Destination]] = {}          # the key of C{*.example.net} is C{.example.net}
        for route in routes:
            host = route.host.lower()
            table, host = (self._wild, host[1:]) if host.startswith("*.") else (self._exact, host)
            table.setdefault(host, []).append(_destination(route.to, route.path.encode(), True, policy(route)))
        self._restricted: dict[str, list[Destination]] = {}    # by service: routes that restrict it on its own host as well
        for each in chain(*self._exact.values(), *self._wild.values()):
            if each.policy is not None and each.policy.restricts:
                self._restricted.setdefault(each.purpose.service, []).append(each)
        self._cache: dict[bytes, HostRoutes] = {}
        self._decided: dict[tuple[bytes, bytes], Destination | None] = {}      # by host and path: readings were compared

    def find(self, host: bytes, target: bytes) -> Destination | None:
        """
        @param host: the C{Host} as received.
        @param target: the request target in origin form, or C{*}.
        @return: C{None} if there is no route, or if a reading of the path leads to another service or is under another policy.
        """
        routes = self._cache.get(host)
        if routes is None:
            routes = self._resolve(host)
        if routes.only is not None:
            return routes.only
        if routes.sole or (routes.plain and PLAIN.match(target)):
            return _first(routes.given, target)
        key = host, path_of(target)
        try:
            return self._decided[key]
        except KeyError:
            return self._decide(routes, key)

    def hasRoute(self, host: bytes) -> bool:
        """
        Whether a host has routes.  Doors are not found on such a host, so that they hide no path of a published site.
        """
        return bool((self._cache.get(host) or self._resolve(host)).given)

    @property
    def remembered(self) -> tuple[int, int]:
        """
        The numbers of hosts and of paths whose routes are remembered.
        """
        return len(self._cache), len(self._decided)

    def url(self, service: str, scheme: str, port: int) -> str:
        """
        The public URL of a service.
        """
        implied = port == (443 if scheme == "https" else 80)
        return f"{scheme}://{service}.{self.domain}" + ("" if implied else f":{port}")

    def _hostsChanged(self) -> None:
        self._cache.clear()
        self._decided.clear()

    def _resolve(self, field: bytes) -> HostRoutes:
        if len(field) > LONGEST_HOST:
            return NOWHERE
        if len(self._cache) >= REMEMBERED:
            self._cache.clear()
        found = self._cache[field] = HostRoutes.of(self._routesFor(normalizedHost(field)))
        return found

    def _decide(self, routes: HostRoutes, key: tuple[bytes, bytes]) -> Destination | None:
        path = key[1]
        found = _first(routes.given, path)
        if found is not None and not routes.agree(path, found):
            found = None
        if len(path) <= LONGEST_REMEMBERED:
            if len(self._decided) >= REMEMBERED:
                self._decided.clear()
            self._decided[key] = found
        return found

    def _routesFor(self, host: str) -> list[list[Destination]]:
        """
        The destinations on a host, in groups of descending precedence.
        """
        if host in self._agentHosts or (host == self.domain and host not in self._exact) or isAddress(host):
            return []
        found = [self._exact.get(host, [])]
        agent = self._hosts.find(host)
        if agent is not None:
            found.append([_destination(f"{agent}:0", b"/", True)])
        dot = host.find(".")
        while dot >= 0:
            found.append(self._wild.get(host[dot:], []))
            dot = host.find(".", dot + 1)
        label = host.removesuffix(self._domainSuffix)
        if label != host and label and "." not in label:
            found += [self._restricted.get(label, []), [_destination(label, b"/", False)]]
        return found


def purposeOf(key: str) -> HTTPPurpose:
    """
    @param key: of a tunnel in the registry, as in L{Destination}.
    @return: the purpose of the exchanges that are for it.
    """
    agent, _, port = key.rpartition(":")
    if not agent:
        return HTTPPurpose(service=key.rpartition("/")[2])
    return HTTPPurpose(host="127.0.0.1", port=int(port)) if int(port) else HTTPPurpose()


def _destination(to: str, path: bytes, configured: bool, policy: AccessPolicy | None = None) -> Destination:
    return Destination(to, path, configured, purposeOf(to), policy)


def _first(rules: Iterable[PathRule], target: bytes) -> Destination | None:
    """
    The first destination whose path is that of the target, or above it.  The target C{*} stands for the whole host.
    """
    for path, destination in rules:
        if target.startswith(path) and (path[-1] == _SLASH or target[len(path):len(path) + 1] in _ENDS):
            return destination
    return _first(rules, b"/") if target == b"*" else None


def _same(one: Destination | None, other: Destination | None) -> bool:
    """
    Whether two destinations are the same service under the same policy.
    """
    return one is other or (
        one is not None and other is not None and one.key == other.key and one.policy is other.policy
    )


def _ordered(groups: Iterable[Iterable[Destination]], spellings: Callable[[bytes], Iterable[bytes]]) -> tuple[PathRule, ...]:
    """
    @param spellings: gives the paths under which a destination is found, of its configured path.
    @return: the rules of all groups, longer paths first within each.
    """
    rules: list[PathRule] = []
    for group in groups:
        spelt = [(path, each) for each in group for path in spellings(each.path)]
        rules += sorted(spelt, key=lambda rule: len(rule[0]), reverse=True)
    return tuple(rules)


def _readings(path: bytes) -> Iterable[bytes]:
    return readings(path) or (path,)
