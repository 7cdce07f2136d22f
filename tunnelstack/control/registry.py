"""
The tunnels of an edge, and the names that each of them holds.

A name belongs to one agent, for all kinds of services.  Of each kind it has one holder.  Other processes of the same agent may
hold it as well if their tokens have C{share}; then the healthy holders are used in turns.  A process that connects again
replaces its earlier tunnel.

A tunnel may be left out for one web service, although it is healthy: its web server does not answer as it should.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tunnelstack.control.remembered_names import LATELY_SECONDS, RememberedNames
from tunnelstack.errors import Denied
from tunnelstack.interfaces import ITunnel
from tunnelstack.records import KINDS

Watcher = Callable[[str, str, bool], object]
"""Called with a kind, a name, and whether it is held, at each change."""


class Registry:
    """
    The tunnels of one edge.

    A key is a service's name, or C{agent/service}.

    @ivar remembered: the names that are held, or were held lately.
    """

    def __init__(self, remembered: RememberedNames | None = None) -> None:
        self.remembered = remembered or RememberedNames()
        self._tunnels: dict[str, list[ITunnel]] = {}                       # agent's name -> its tunnels, the oldest first
        self._holders: dict[tuple[str, str], list[ITunnel]] = {}           # (kind, key) -> tunnels, the next one first
        self._names: dict[int, tuple[tuple[str, str], ...]] = {}       # id of a tunnel -> the names it holds; most hold one
        self._leftOut: set[tuple[int, str]] = set()                        # the id of a tunnel, and a name or C{agent:port}
        self._watchers: list[Watcher] = []

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[ITunnel]:
        return (tunnel for tunnels in list(self._tunnels.values()) for tunnel in list(tunnels))

    def watch(self, watcher: Watcher) -> None:
        """
        Call C{watcher} when a name gets its first holder, and when it loses its last one.
        """
        self._watchers.append(watcher)

    # Tunnels

    def add(self, tunnel: ITunnel) -> list[ITunnel]:
        """
        Add a tunnel.

        @return: the tunnels that it replaces.  They were removed; the caller aborts them.
        """
        agent = tunnel.principal.agent
        replaced = [
            old for old in self._tunnels.get(agent, ()) if tunnel.instance and old.instance == tunnel.instance
        ]
        for old in replaced:
            self.remove(old)
        self._tunnels.setdefault(agent, []).append(tunnel)
        self._names[id(tunnel)] = ()
        return replaced

    def remove(self, tunnel: ITunnel) -> list[tuple[str, str]]:
        """
        Remove a tunnel and withdraw its names.

        @return: the (kind, name) pairs that have no holder any more.
        """
        names = self._names.get(id(tunnel))
        if names is None:
            return []
        free = [pair for pair in sorted(names) if self.withdraw(*pair, tunnel)]
        del self._names[id(tunnel)]
        agent = tunnel.principal.agent
        self._tunnels[agent].remove(tunnel)
        if not self._tunnels[agent]:
            del self._tunnels[agent]
        if self._leftOut:
            self._leftOut = {pair for pair in self._leftOut if pair[0] != id(tunnel)}
        return free

    def agent(self, name: str, key: str = "") -> ITunnel | None:
        """
        @param key: C{agent:port} if it is for a request; a tunnel that is left out for that is not returned.
        @return: the newest healthy tunnel of an agent, or C{None}.  One that holds names is preferred: other processes may only
            dial.
        """
        healthy = [
            tunnel for tunnel in reversed(self._tunnels.get(name, ()))
            if tunnel.healthy and (id(tunnel), key) not in self._leftOut
        ]
        return next((tunnel for tunnel in healthy if self._names[id(tunnel)]), healthy[0] if healthy else None)

    def hasAgent(self, name: str) -> bool:
        """
        @return: whether an agent has a tunnel, healthy or not.
        """
        return name in self._tunnels

    def hasTunnel(self, tunnel: ITunnel) -> bool:
        """
        @return: whether a tunnel was added and not removed.
        """
        return id(tunnel) in self._names

    # Names

    def claim(self, kind: str, name: str, tunnel: ITunnel) -> bool:
        """
        Let a tunnel hold a name.

        @return: whether the tunnel did not hold it before.
        @raise Denied: C{taken}: another tunnel holds it; C{absent}: the tunnel is lost.
        """
        if not self.hasTunnel(tunnel):
            raise Denied("absent", "the session is lost")
        other = self.conflictingHolder(kind, name, tunnel)
        if other is not None:
            raise Denied("taken", f"{name} is held by another {_holderDescription(other, tunnel)}", name=name)
        pair = (kind, name)
        if pair in self._names[id(tunnel)]:
            return False
        holders = self._holders.get(pair)
        if holders is None:
            holders = self._holders[pair] = self._holders[kind, f"{tunnel.principal.agent}/{name}"] = []
        holders.append(tunnel)
        self._names[id(tunnel)] += (pair,)
        self.remembered.claimed(pair, tunnel.principal)
        if len(holders) == 1:
            self._notify(kind, name, True)
        return True

    def conflictingHolder(self, kind: str, name: str, tunnel: ITunnel) -> ITunnel | None:
        """
        @return: a holder with which a tunnel must not share a name, or C{None}.
        """
        mine = tunnel.principal
        foreign = self.foreignHolder(name, mine.agent)
        if foreign is not None:
            return foreign
        for other in self._holders.get((kind, name), ()):
            # A tunnel that drains gets no more requests, so it does not keep others from the name.
            compatible = (other.principal.share and mine.share) or not other.healthy
            if other is not tunnel and not compatible:
                return other
        return None

    def foreignHolder(self, name: str, agent: str) -> ITunnel | None:
        """
        @return: a holder of a name, of any kind, that is not the agent C{agent}; or C{None}.
        """
        for kind in KINDS:
            for holder in self._holders.get((kind, name), ()):
                if holder.principal.agent != agent:
                    return holder
        return None

    def withdraw(self, kind: str, name: str, tunnel: ITunnel) -> bool:
        """
        Let a tunnel hold a name no longer.

        @return: whether the name has no holder any more.
        """
        pair = (kind, name)
        names = self._names.get(id(tunnel))
        if names is None or pair not in names:
            return False
        self._names[id(tunnel)] = tuple(held for held in names if held != pair)
        holders = self._holders[pair]
        holders.remove(tunnel)
        if holders:
            return False
        del self._holders[pair], self._holders[kind, f"{tunnel.principal.agent}/{name}"]
        self.remembered.released(pair)
        self._notify(kind, name, False)
        return True

    def pick(self, key: str, kind: str = "http") -> ITunnel | None:
        """
        Choose a tunnel that holds a name: each healthy holder in turn.

        @param key: C{service}, C{agent/service}, or C{agent:port} for a port that an agent can reach.
        @return: C{None} if there is no healthy holder.
        """
        holders = self._holders.get((kind, key))
        if holders is None:
            agent, colon, _ = key.rpartition(":")
            return self.agent(agent, key) if colon else None
        if self._leftOut and kind == "http":
            return self._pickOthers(key, holders)
        if len(holders) == 1:
            return holders[0] if holders[0].healthy else None
        for position, tunnel in enumerate(holders):
            if tunnel.healthy:
                holders.append(holders.pop(position))
                return tunnel
        return None

    def _pickOthers(self, key: str, holders: list[ITunnel]) -> ITunnel | None:
        """
        As L{pick}, without those that are left out.
        """
        name = key.rpartition("/")[2]
        for position, tunnel in enumerate(holders):
            if tunnel.healthy and (id(tunnel), name) not in self._leftOut:
                holders.append(holders.pop(position))
                return tunnel
        return None

    def leaveOut(self, key: str, tunnel: ITunnel) -> None:
        """
        Pick a tunnel no more for a web service, until L{useAgain}.

        @param key: the service's name, or C{agent:port}.
        """
        if self.hasTunnel(tunnel):
            self._leftOut.add((id(tunnel), key))

    def useAgain(self, key: str, tunnel: ITunnel) -> None:
        """
        The opposite of L{leaveOut}.
        """
        self._leftOut.discard((id(tunnel), key))

    def holds(self, tunnel: ITunnel, key: str) -> bool:
        """
        @param key: as in L{pick}.
        @return: whether requests for a web service can go to a tunnel, healthy or not.
        """
        holders = self._holders.get(("http", key))
        if holders is None:
            agent, colon, _ = key.rpartition(":")
            return bool(colon) and tunnel.principal.agent == agent
        return tunnel in holders

    def isHeld(self, key: str, kind: str = "http") -> bool:
        """
        @return: whether a name has a holder, healthy or not.
        """
        return (kind, key) in self._holders

    def isKnown(self, key: str, kind: str = "http", within: float = LATELY_SECONDS) -> bool:
        """
        @param within: seconds.
        @return: whether a name is held, or was held that recently, so that its agent may connect again.
        """
        if (kind, key) in self._holders:
            return True
        agent, _, name = key.rpartition("/")
        return self.remembered.wasHeld((kind, name), agent, within)

    def holders(self, kind: str, key: str) -> tuple[ITunnel, ...]:
        """
        @param key: as of L{pick}.
        @return: the tunnels that it can mean, healthy or not.
        """
        holders = self._holders.get((kind, key))
        if holders is None:
            agent, colon, _ = key.rpartition(":")
            holders = self._tunnels.get(agent, []) if colon else []
        return tuple(holders)

    def tunnels(self, agent: str) -> tuple[ITunnel, ...]:
        """
        @return: the tunnels of an agent, the oldest first.
        """
        return tuple(self._tunnels.get(agent, ()))

    def names(self, tunnel: ITunnel) -> list[tuple[str, str]]:
        """
        @return: the (kind, name) pairs that a tunnel holds, in order.
        """
        return sorted(self._names.get(id(tunnel), ()))

    def held(self) -> set[tuple[str, str]]:
        """
        @return: the (kind, name) pairs that have a holder.
        """
        return {pair for names in self._names.values() for pair in names}

    def byAgent(self) -> dict[str, list[ITunnel]]:
        """
        @return: the tunnels of each agent.
        """
        return {agent: list(tunnels) for agent, tunnels in self._tunnels.items()}

    def _notify(self, kind: str, name: str, held: bool) -> None:
        for watcher in list(self._watchers):
            watcher(kind, name, held)


def _holderDescription(other: ITunnel, tunnel: ITunnel) -> str:
    # The name of another agent is not disclosed.
    return "process of this agent" if other.principal.agent == tunnel.principal.agent else "agent"
