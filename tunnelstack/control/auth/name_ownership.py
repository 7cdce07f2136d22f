"""
Whose a name is that nobody holds at the moment.

C{tcp:PORTS} and C{ssh} grant no names.  With them goes whatever is nobody's: not the name of another agent, not what a
credential of another was granted by name (C{http:} and C{stream:}, but for globs that mean every name), and nothing that a
route leads to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tunnelstack.control.auth.permissions import matches, parsePermissions, permissionsOf
from tunnelstack.records import Principal

ANY_NAME = re.compile(r"[*?]*")
"""A glob that says nothing of a name."""

WILDCARD = re.compile(r"[*?]")

NO_AGENT = ""
"""The owner of a name that belongs to no agent in particular; to be granted it by name is the only way to it."""


class NameOwnership:
    """
    The names of one edge that belong to somebody.
    """

    def __init__(self) -> None:
        self._agents: frozenset[str] = frozenset()
        self._named: dict[str, set[str]] = {}                          # name -> agents
        self._wild: dict[str, list[tuple[str, str]]] = {}              # what a glob begins with -> agents and globs
        self._routed: dict[str, set[str]] = {}                         # name -> agents

    def setCredentials(self, records: Iterable[Any]) -> None:
        """
        From now on these are all there are.

        @param records: with C{allow}, and with C{name} where they are for one agent
            (L{TokenRecord<tunnelstack.control.config.records.TokenRecord>} and its like).
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

    def setRoutes(self, domain: str, routes: Iterable[Any]) -> None:
        """
        From now on these are all there are.

        @param routes: L{Route<tunnelstack.control.config.records.Route>}s.
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
        Whether an agent that was granted ports, or SSH, may offer them under a name.
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
