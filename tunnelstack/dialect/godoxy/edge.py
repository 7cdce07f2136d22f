"""
GoDoxy at the edge: it dials agents that listen, and publishes the servers that they reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import random as randomNumber

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from tunnelstack.dialect.godoxy.certificates import Credentials
from tunnelstack.dialect.godoxy.edge_agent import DOWN, DialledAgent
from tunnelstack.dialect.godoxy.edge_dialler import AgentDialler
from tunnelstack.dialect.godoxy.edge_settings import DialledAgentSettings, ServiceSettings
from tunnelstack.dialect.godoxy.edge_store import AgentStore, KnownAgent
from tunnelstack.dialect.godoxy.edge_tunnel import NAME
from tunnelstack.doors import OutboundDoor
from tunnelstack.errors import Denied
from tunnelstack.exchange.bounds import ExchangeBounds
from tunnelstack.interfaces import IAdminResources, IEdge, IOutboundAgents, IReloadableDialect
from tunnelstack.settings.tables import DialectTables, Records

LEAVE_SECONDS = 10.0
"""Seconds that work under way may take at an agent that was removed or has changed."""

Record = dict[str, object]

MakeDialler = Callable[[DialledAgentSettings, Credentials], AgentDialler]


@implementer(IOutboundAgents)
class DialledAgents(Service):
    """
    The agents that one edge dials.

    @ivar agents: by name.
    """

    log = Logger()

    def __init__(
        self, edge: IEdge, store: AgentStore, makeDialler: MakeDialler, random: Callable[[], float] = randomNumber
    ) -> None:
        """
        @param store: which agents there are.
        @param makeDialler: gives what connects to an agent.
        """
        self.agents: dict[str, DialledAgent] = {}
        self._identities: dict[str, object] = {}
        self._removed: dict[DialledAgent, IDelayedCall] = {}
        self._edge = edge
        self._store = store
        self._makeDialler = makeDialler
        self._random = random
        edge.watchBounds(self._boundsChanged)

    def startService(self) -> None:
        super().startService()
        self.update()

    def stopService(self) -> Deferred[None]:
        """
        Dial no more.  The edge has drained the tunnels before.
        """
        super().stopService()
        agents, self.agents = list(self.agents.values()), {}
        self._identities = {}
        stopped = [agent.stop() for agent in agents]
        for agent, call in list(self._removed.items()):
            call.cancel()
            agent.abort("the edge has stopped")
        self._removed = {}
        return DeferredList(stopped, consumeErrors=True).addCallback(lambda _: None)

    def update(self) -> None:
        """
        The store has changed: dial new agents, and leave those that were removed.  The others notice nothing.
        """
        if not self.running:
            return
        known = self._store.agents
        for name in [name for name, agent in self.agents.items() if self._hasChanged(name, agent)]:
            del self._identities[name]
            self._leave(self.agents.pop(name))
        for name, agent in self.agents.items():
            agent.timing = self._store.timing
            agent.setServices(self._store.servicesOf(name))
        for name in known.keys() - self.agents.keys():
            credentials = known[name].credentials
            if credentials is not None:
                self._dial(known[name], credentials)

    def _hasChanged(self, name: str, agent: DialledAgent) -> bool:
        known = self._store.agents.get(name)
        return known is None or self._identities[name] != known.identity

    def _dial(self, known: KnownAgent, credentials: Credentials) -> None:
        settings = known.settings
        name = settings.name
        agent = DialledAgent(
            self._edge, settings, self._makeDialler(settings, credentials), self._store.servicesOf(name), self._store.timing,
            self._random,
        )
        self.agents[name] = agent
        self._identities[name] = known.identity
        agent.start()

    def _leave(self, agent: DialledAgent) -> None:
        """
        Let the work of an agent finish, within L{LEAVE_SECONDS}.
        """
        self._removed[agent] = self._edge.clock.callLater(LEAVE_SECONDS, self._left, None, agent)
        agent.stop().addBoth(self._left, agent)

    def _left(self, result: object, agent: DialledAgent) -> None:
        call = self._removed.pop(agent, None)
        if call is not None:
            if call.active():
                call.cancel()
            agent.abort("the agent was removed")

    def _boundsChanged(self, bounds: ExchangeBounds) -> None:
        for agent in self.agents.values():
            agent.configure(bounds)

    def report(self) -> list[Mapping[str, object]]:
        known = self._store.agents
        return [self.reportOf(known[name]) for name in sorted(known)]

    def reportOf(self, known: KnownAgent) -> Mapping[str, object]:
        """
        @return: the state of one agent.
        """
        settings = known.settings
        agent = self.agents.get(settings.name)
        if agent is not None:
            return agent.report()
        return {"agent": settings.name, "address": settings.address, "state": DOWN, "reason": known.reason, "services": []}


@implementer(IReloadableDialect, IAdminResources)
class GodoxyEdge:
    """
    The dialect of one edge.

    @ivar store: the agents and services, which may be changed while the edge runs.
    @ivar agents: dials them.
    """

    name = NAME
    agents: DialledAgents

    def __init__(
        self, store: AgentStore, makeDialler: MakeDialler | None = None, random: Callable[[], float] = randomNumber
    ) -> None:
        """
        @param makeDialler: gives what connects to an agent; by default an L{AgentDialler} on the edge's reactor.
        """
        self.store = store
        self._givenDialler = makeDialler
        self._random = random
        self.getHandlers: Mapping[bytes, Callable[[], Record]] = {b"/godoxy": self._list}
        self.postHandlers: Mapping[bytes, Callable[[Mapping[str, object]], Record]] = {
            b"/godoxy/agents/add": lambda asked: {"agent": self._agentRecord(store.addAgent(asked))},
            b"/godoxy/agents/remove": lambda asked: {"agent": self._agentRecord(store.removeAgent(_name(asked)))},
            b"/godoxy/services/add": lambda asked: {"service": self._serviceRecord(store.addService(asked))},
            b"/godoxy/services/remove": lambda asked: {"service": self._serviceRecord(store.removeService(_name(asked)))},
        }

    def doors(self, edge: IEdge) -> list[OutboundDoor]:
        def makeDialler(settings: DialledAgentSettings, credentials: Credentials) -> AgentDialler:
            return AgentDialler(edge.clock, settings, credentials)

        self.agents = DialledAgents(edge, self.store, self._givenDialler or makeDialler, self._random)
        self.store.watch(self.agents.update)
        return [OutboundDoor(service=self.agents, description="agents of GoDoxy")]

    def close(self) -> None:
        """
        Agents and services are kept at once when they change.
        """

    def prepareReload(self, tables: DialectTables) -> Callable[[], object]:
        return self.store.prepare(tables.get(NAME, {}))

    # Administration

    def _list(self) -> Record:
        services = self.store.services
        return {
            "agents": [self._agentRecord(self.store.agents[name]) for name in sorted(self.store.agents)],
            "services": [self._serviceRecord(services[name]) for name in sorted(services)],
        }

    def _agentRecord(self, known: KnownAgent) -> Record:
        return {**self.agents.reportOf(known), "configured": known.configured}

    def _serviceRecord(self, settings: ServiceSettings) -> Record:
        agent = self.agents.agents.get(settings.agent)
        record = None if agent is None else agent.serviceRecord(settings.name)
        found = record or {"name": settings.name, "kind": settings.kind, "target": settings.target, "port": 0}
        return {**found, "agent": settings.agent, "configured": self.store.isConfigured(settings.name)}


def _name(asked: Mapping[str, object]) -> str:
    value = asked.get("name")
    if not (isinstance(value, str) and value):
        raise Denied("malformed", 'the request must have "name" with a text')
    return value


def makeDialects(edge: IEdge, tables: Records) -> list[IReloadableDialect]:
    """
    Make the dialect from the tables of a configuration file.

    @raise ConfigurationError: certificates, or the file of added agents, cannot be used.
    """
    return [GodoxyEdge(AgentStore(edge.state, tables))]
