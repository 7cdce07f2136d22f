"""
Reserved names: names that belong to an agent even while no agent holds them.

The rights C{tcp:PORTS} and C{ssh} grant no names.  Such a credential may use any name that is not reserved for another agent.
Reserved are the names of agents, the names that credentials grant (C{http:} and C{stream:}, except globs that match every
name), and the names that routes lead to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from tunnelstack.control.auth.permissions import matches, parsePermissions, permissionsOf
from tunnelstack.records import Principal

ANY_NAME = re.compile(r"[*?]*")
"""A glob that matches every name, and so reserves none."""

WILDCARD = re.compile(r"[*?]")

NO_AGENT = ""
"""The owner of names that a credential of no particular agent (a checker) grants.  Only a right to the name allows its use."""


class Credential(Protocol):
    """
    A record of a configuration file that grants rights: a token, a certificate or a checker.  One that is for a single agent
    has C{name} as well.
    """

    @property
    def allow(self) -> tuple[str, ...]: ...


class ConfiguredRoute(Protocol):
    """
    A L{Route<tunnelstack.control.config.records.Route>}.
    """

    @property
    def host(self) -> str: ...

    @property
    def to(self) -> str: ...


class NameOwnership:
    """
    The reserved names of one edge.
    """

    def __init__(self) -> None:
        self._agents: frozenset[str] = frozenset()
        self._named: dict[str, set[str]] = {}                          # name -> agents
        self._wild: dict[str, list[tuple[str, str]]] = {}              # what a glob begins with -> agents and globs
        self._routed: dict[str, set[str]] = {}                         # name -> agents

    def setCredentials(self, records: Iterable[Credential]) -> None:
        """
        Replace the credentials.
        """
        agents: set[str] = set()
        self._named, self._wild = {}, {}
        for record in records:
            agent = getattr(record, "name", NO_AGENT)
            agents.add(agent)
            rights = parsePermissions(record.allow)
            for glob in (*rights.http, *rights.stream):
                self._grant(agent, glob)
        self._agents = frozenset(agents - {NO_AGENT})

    def _grant(self, agent: str, glob: str) -> None:
        if ANY_NAME.fullmatch(glob):
            return
        wild = WILDCARD.search(glob)
        if wild is None:
            self._named.setdefault(glob, set()).add(agent)
        else:
            self._wild.setdefault(glob[:wild.start()], []).append((agent, glob))

    def setRoutes(self, domain: str, routes: Iterable[ConfiguredRoute]) -> None:
        """
        Replace the routes.
        """
        self._routed = {}
        for route in routes:
            agent, _, service = route.to.rpartition("/")
            if ":" in route.to:
                agent, service = route.to.rpartition(":")[0], ""
            label = route.host.removesuffix(f".{domain}")
            for name in (service, label if label != route.host else ""):
                if name:
                    self._routed.setdefault(name, set()).add(agent)

    def mayUse(self, principal: Principal, name: str) -> bool:
        """
        @return: whether an agent with a right to ports or to SSH may offer them under this name.
        """
        agent = principal.agent
        if name in self._agents and name != agent:
            return False
        rights = permissionsOf(principal)
        if rights.mayServe(name) or rights.mayStream(name):
            return True
        owners = self._owners(name)
        return not owners or agent in owners

    def _owners(self, name: str) -> set[str]:
        owners = {*self._named.get(name, ()), *self._routed.get(name, ())}
        for end in range(len(name) + 1):
            owners.update(agent for agent, glob in self._wild.get(name[:end], ()) if matches(glob, name))
        return owners
